// The alerts over HTTP (docs/api.md): who is alerted and on call, acknowledging, resolving and silencing, the links in messages, and what
// PagerDuty says. In: requests of strangers. Out: answers from the alert desk, and commands to it. Guarantee: nothing changes without a
// token that may act, a link that we signed, or a webhook that PagerDuty signed; a GET changes nothing; whoever is refused learns why, and
// nothing else; bodies are bounded, and read only after all that can be refused without them was.
//
// A command is given once: links and webhooks carry its id, so that whatever is sent again changes nothing.
import { createHash } from 'node:crypto';
import type { AlertDesk } from '../alerter/alert-desk.ts';
import type { Command } from '../alerter/commands-given.ts';
import type { Clock } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createEventIds } from '../core/record.ts';
import { oneLine } from '../core/safe-json.ts';
import type { Masker } from '../core/secrets/mask.ts';
import {
  type AlertRecord,
  byUrgency,
  type IncidentRecord,
  previewSilence,
  type SilencePreview,
  type SilenceRecord,
  type Via,
} from '../incidents/incident.ts';
import { isoTime } from '../incidents/notification.ts';
import { scheduleOf } from '../oncall/routes.ts';
import type { Routing } from '../oncall/routing.ts';
import {
  createLinkReader,
  isSignedByPagerDuty,
  type Link,
  type LinkAction,
  pagerDutyEvent,
  valuesOf,
} from './access.ts';
import type { AlertingView } from './explain.ts';
import { type ApiApp, type ApiPart, type Ask, byWhom, type Guard, reply } from './guard.ts';
import {
  byBody,
  FORM_TYPE,
  JSON_TYPE,
  NOT_KEPT,
  parsed,
  Refusal,
  refusalOf,
  shown,
  silenceBody,
  silenceOf,
} from './requests.ts';

/** A command's caller waits no longer. */
const ANSWER_MS = 2_000;
const MAX_INCIDENTS = 200;
const MAX_NEXT = 20;
const MAX_AWAY_MS = 10 * 366 * 86_400_000;

interface AlertRoutesOptions {
  /** Any of them may have signed a link. */
  readonly linkSecrets: readonly string[];
  readonly webhookSecrets: readonly string[];
  readonly environment: string;
}

interface AlertRoutesDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly masker: Masker;
  readonly desk: AlertDesk;
  /** Undefined where alerts are not evaluated. */
  readonly alerting: () => AlertingView | undefined;
  /** In force; undefined without one. */
  readonly routing: () => Routing | undefined;
}

interface Given {
  readonly id: string;
  readonly done: boolean;
  readonly noChange: boolean;
}

/** An incident as every answer shows it, masked. */
export function incidentShown(
  incident: IncidentRecord,
  alerts: readonly AlertRecord[],
  { masker, nowMs }: { readonly masker: Masker; readonly nowMs: number },
): Readonly<Record<string, unknown>> {
  // Ids are not masked: somebody has to name them.
  return { ...(masker.value(viewOf(incident, alerts, nowMs)) as object), id: incident.id };
}

/** @throws Refusal 404 */
export function incidentOf(id: string, incidents: readonly IncidentRecord[]): IncidentRecord {
  const incident = incidents.find((one) => one.id === id);
  if (incident === undefined) throw new Refusal(404, `there is no incident ${shown(id)}; it may be older than 30 days`);
  return incident;
}

export function alertRoutes(options: AlertRoutesOptions, deps: AlertRoutesDeps): ApiPart {
  return (app, guard) => addAlertRoutes(app, guard, options, deps);
}

function addAlertRoutes(app: ApiApp, guard: Guard, options: AlertRoutesOptions, deps: AlertRoutesDeps): void {
  const { linkSecrets, webhookSecrets } = options;
  const { clock, log, masker, desk } = deps;
  const { permit, mustWait, fail, body, json } = guard;
  const linkOf = createLinkReader(linkSecrets, clock);
  const nextId = createEventIds(clock.now);

  // ---- commands ----

  /** `done`: it was carried out; otherwise it will be. @throws Refusal 409 when the leader refuses, DeskClosedError */
  async function give(command: Command, sinceMs: number): Promise<Given> {
    const { commandId: id } = command;
    const answer = await desk.give(command, sinceMs + ANSWER_MS);
    const { kind } = command;
    const by = command.kind === 'silence' ? command.silence.by : command.by;
    log.info('A command about alerts was given over HTTP', { kind, id, by });
    if (answer?.refused !== undefined) throw new Refusal(409, `refused: ${masker.text(answer.refused)}`);
    return { id, done: answer !== undefined, noChange: answer?.noChange === true };
  }

  /** 200 with what is so now, or 202 with where to look. */
  async function afterwards(c: Ask, given: Given, now: () => Promise<object>): Promise<Response> {
    const { id, done, noChange } = given;
    const location = `/api/v1/commands/${id}`;
    if (!done) return reply(c, { commandId: id, done: false, location }, 202, { location });
    // It was carried out, even if nothing more can be read.
    const state = await now().catch(() => ({}));
    return reply(c, { commandId: id, done: true, changed: !noChange, ...state });
  }

  const findIncident = async (id: string) => {
    const state = await desk.state();
    return { incident: incidentOf(id, state.incidents), state };
  };
  const incidentNow = async (id: string) => {
    const { incident, state } = await findIncident(id);
    return { incident: incidentView(incident, state.alerts) };
  };

  async function changeIncident(c: Ask, kind: LinkAction): Promise<Response> {
    const holder = permit(c.env.incoming, 'act');
    const sinceMs = clock.monotonicMs();
    const { by } = await json(c, byBody);
    const { incident, state } = await findIncident(c.req.param('id') ?? '');
    if (isSoAlready(incident, kind)) {
      return reply(c, { done: true, changed: false, incident: incidentView(incident, state.alerts) });
    }
    if (incident.state === 'resolved') throw new Refusal(409, `incident ${incident.id} is resolved`);
    const command = commandOf(kind, incident.id, { commandId: nextId(), by: byWhom(holder, by), via: 'api' });
    const given = await give(command, sinceMs);
    return afterwards(c, given, () => incidentNow(incident.id));
  }

  const incidentView = (incident: IncidentRecord, alerts: readonly AlertRecord[]) =>
    incidentShown(incident, alerts, { masker, nowMs: clock.now() });

  // ---- reading ----

  app.get('/api/v1/alerts', async (c) => {
    permit(c.env.incoming, 'read');
    const wanted = c.req.query('state') ?? 'open';
    if (!(STATES as readonly string[]).includes(wanted)) {
      throw new Refusal(400, `state: found "${shown(wanted)}"; permitted: ${STATES.join(', ')}`);
    }
    const { incidents, alerts } = await desk.state();
    const nowMs = clock.now();
    const chosen = incidents.filter((incident) => {
      const status = statusOf(incident, nowMs);
      return wanted === 'all' || status === wanted || (wanted === 'open' && status !== 'resolved');
    });
    const newest = chosen.slice(-MAX_INCIDENTS).reverse();
    return reply(c, {
      timestamp: isoTime(nowMs),
      incidents: newest.map((incident) => incidentView(incident, alerts)),
      more: chosen.length - newest.length,
      pending: alerts.filter(({ phase }) => phase === 'pending').map((alert) => masker.value(alertView(alert))),
    });
  });

  app.get('/api/v1/silences', async (c) => {
    permit(c.env.incoming, 'read');
    const { silences } = await desk.state();
    return reply(c, { timestamp: isoTime(clock.now()), silences: silences.map(silenceShown) });
  });
  const silenceShown = (silence: SilenceRecord) => ({
    ...(masker.value(silenceView(silence)) as object),
    id: silence.id,
  });

  app.get('/api/v1/oncall', (c) => {
    permit(c.env.incoming, 'read');
    const at = c.req.query('at');
    const atMs = at === undefined ? clock.now() : Date.parse(at);
    if (!(Math.abs(atMs - clock.now()) < MAX_AWAY_MS)) {
      const permitted = 'a time, like 2026-11-30T09:00:00Z, within 10 years from now';
      throw new Refusal(400, `at: found "${shown(at ?? '')}"; permitted: ${permitted}`);
    }
    const next = Number(c.req.query('next') ?? 0);
    if (!Number.isInteger(next) || next < 0 || next > MAX_NEXT) {
      throw new Refusal(400, `next: found "${shown(c.req.query('next') ?? '')}"; permitted: 0 to ${MAX_NEXT}`);
    }
    const routing = deps.routing();
    if (routing === undefined) throw new Refusal(404, 'there are no teams: no routing.yml is in force here');
    return reply(c, { at: isoTime(atMs), teams: scheduleOf(routing, atMs, next) });
  });

  app.get('/api/v1/rates', (c) => {
    permit(c.env.incoming, 'read');
    const view = deps.alerting();
    if (view === undefined) throw new Refusal(503, 'the alerts are not evaluated here; ask the instance that does');
    return reply(c, view.rates());
  });

  app.get('/api/v1/commands/:id', async (c) => {
    permit(c.env.incoming, 'read');
    const id = c.req.param('id');
    if (!/^[\w-]{1,64}$/.test(id)) throw new Refusal(404, 'there is no command of that id');
    const answer = await desk.answer(id);
    if (answer === undefined) {
      return reply(c, { commandId: id, done: false, detail: 'not answered yet, or there is no such command' });
    }
    const { atMs, refused } = answer;
    return reply(c, {
      commandId: id,
      done: true,
      at: isoTime(atMs),
      changed: refused === undefined && answer.noChange !== true,
      ...(refused === undefined ? {} : { refused: masker.text(refused) }),
    });
  });

  // ---- acting, with a token ----

  app.post('/api/v1/incidents/:id/acknowledge', (c) => changeIncident(c, 'acknowledge'));
  app.post('/api/v1/incidents/:id/resolve', (c) => changeIncident(c, 'resolve'));

  app.post('/api/v1/silences', async (c) => {
    const holder = permit(c.env.incoming, 'act');
    const sinceMs = clock.monotonicMs();
    const preview = c.req.query('preview') ?? 'false';
    if (preview !== 'true' && preview !== 'false') {
      throw new Refusal(400, `preview: found "${shown(preview)}"; permitted: true, false`);
    }
    const asked = await json(c, silenceBody);
    const silence = silenceOf(asked, { id: nextId(), by: byWhom(holder, asked.by), nowMs: clock.now() });
    if (preview === 'true') {
      const { alerts, incidents } = await desk.state();
      const { environment } = options;
      const { now, lastDay } = previewSilence(silence, alerts, incidents, { nowMs: clock.now(), environment });
      const preview = { now: now.map(alertView), lastDay: lastDay.map(endedView) };
      return reply(c, { preview: masker.value(preview) as object });
    }
    const given = await give({ kind: 'silence', commandId: nextId(), silence, via: 'api' }, sinceMs);
    return afterwards(c, given, async () => ({ silence: silenceShown(silence) }));
  });

  app.delete('/api/v1/silences/:id', async (c) => {
    const holder = permit(c.env.incoming, 'act');
    const sinceMs = clock.monotonicMs();
    const id = c.req.param('id');
    const { silences } = await desk.state();
    if (!silences.some((silence) => silence.id === id)) throw new Refusal(404, `there is no silence ${shown(id)}`);
    const command: Command = { kind: 'unsilence', commandId: nextId(), id, by: byWhom(holder, undefined), via: 'api' };
    return afterwards(c, await give(command, sinceMs), async () => ({}));
  });

  // ---- what PagerDuty says ----
  // https://developer.pagerduty.com/docs/webhooks-overview. Everything that was signed gets a 2xx: after three refusals in a row
  // PagerDuty sends nothing more for a day.

  app.post('/api/v1/webhooks/pagerduty', async (c) => {
    const { incoming } = c.env;
    if (webhookSecrets.length === 0)
      throw new Refusal(404, 'no webhook is set up: notify.pagerduty.webhookSecrets is empty');
    const raw = await body(c, JSON_TYPE, 'application/json');
    const signatures = valuesOf(incoming, 'x-pagerduty-signature');
    if (signatures.length !== 1 || !isSignedByPagerDuty(raw, signatures[0]!, webhookSecrets)) {
      const wait = mustWait(incoming);
      if (wait !== undefined) throw wait;
      fail(incoming, 'webhook');
      throw new Refusal(
        403,
        'X-PagerDuty-Signature: none was made of this body with one of notify.pagerduty.webhookSecrets',
      );
    }
    const ignored = (why: string) => reply(c, { ignored: why }, 202);
    const event = pagerDutyEvent(parsed(raw));
    if (typeof event === 'string') return ignored(event);
    const { kind, incidentId, by, occurredMs } = event;
    const commandId = `pagerduty-${event.id}`;
    if ((await desk.answer(commandId)) !== undefined) return ignored('this event was dealt with before');
    const { incidents, alerts } = await desk.state();
    const incident = incidents.find(({ id }) => id === incidentId);
    if (incident === undefined) return ignored('there is no such incident');
    if (incident.state === 'resolved' || isSoAlready(incident, kind)) return ignored('that is so already');
    // It was delivered late, and speaks of what was before the incident began again.
    const firing = alertsOf(incident, alerts);
    if (firing.length > 0 && firing.every(({ startedMs }) => startedMs > occurredMs)) {
      return ignored('it is about what was before the present alerts began');
    }
    // Not waited for: PagerDuty gives an answer five seconds, and asks for 202.
    await desk.give(commandOf(kind, incidentId, { commandId, by, via: 'pagerduty' }), clock.monotonicMs());
    log.info('A command about alerts came from PagerDuty', { kind, id: commandId, by });
    return reply(c, { commandId }, 202);
  });

  // ---- links in messages ----

  /** @throws Refusal 429 */
  function linkFor(c: Ask): Link | Page {
    const link = linkOf(c.req.param('token') ?? '');
    if (link === 'expired') return deadEnd('expired');
    if (link !== 'altered') return link;
    const wait = mustWait(c.env.incoming);
    if (wait !== undefined) throw wait;
    fail(c.env.incoming, 'link');
    return deadEnd('altered');
  }

  async function aboutLink(
    link: Link,
  ): Promise<{ readonly used: boolean; readonly incident: IncidentRecord | undefined }> {
    const used = (await desk.answer(`link-${link.id}`)) !== undefined;
    const { incidents } = await desk.state();
    return { used, incident: incidents.find(({ id }) => id === link.incidentId) };
  }

  function pageOf(incident: IncidentRecord, { action }: Link, what: LinkState): Page {
    const { id, told, acknowledged, openedMs } = incident;
    const { title = 'An incident that nobody was told of yet', priority = '' } = told ?? {};
    const [what_, by] = masker.value([title, acknowledged?.by]) as [string, string | undefined];
    const state = statusOf(incident, clock.now());
    return incidentPage(what, action, { id, title: what_, priority, state, opened: isoTime(openedMs), by });
  }

  /** What a link leads to is read by people, refusals too. */
  const asPage = (answer: (c: Ask) => Promise<Page>) => async (c: Ask) => {
    const page = await answer(c).catch((error) => {
      const refusal = refusalOf(error);
      if (refusal.status === 500) log.error('A link could not be answered', { error: errorText(error) });
      return refusedPage(refusal);
    });
    return c.body(page.html, page.status as 200, { ...NOT_KEPT, ...page.headers });
  };

  /** Shows what the link would do; nothing else, because whoever previews a message opens its links. */
  app.get(
    '/a/:token',
    asPage(async (c) => {
      const link = linkFor(c);
      if ('html' in link) return link;
      const { used, incident } = await aboutLink(link);
      if (incident === undefined) return deadEnd('foreign');
      const isOver = used || incident.state === 'resolved' || isSoAlready(incident, link.action);
      return pageOf(incident, link, isOver ? 'over' : 'ask');
    }),
  );

  app.post(
    '/a/:token',
    asPage(async (c) => {
      const sinceMs = clock.monotonicMs();
      const link = linkFor(c);
      if ('html' in link) return link;
      // The form has no fields: the link says it all.
      if (valuesOf(c.env.incoming, 'content-type').length > 0) {
        await body(c, FORM_TYPE, 'application/x-www-form-urlencoded');
      }
      const { used, incident } = await aboutLink(link);
      if (incident === undefined) return deadEnd('foreign');
      if (used || incident.state === 'resolved' || isSoAlready(incident, link.action)) {
        return pageOf(incident, link, 'over');
      }
      const who = { commandId: `link-${link.id}`, by: `link from ${link.channel}`, via: 'link' } as const;
      const { done } = await give(commandOf(link.action, incident.id, who), sinceMs);
      const { incident: now = incident } = await aboutLink(link).catch(() => ({ incident }));
      return pageOf(now, link, done ? 'done' : 'taken');
    }),
  );
}

// ---- commands, and how an incident stands ----

const STATES = ['open', 'firing', 'acknowledged', 'quiet', 'resolved', 'all'] as const;
type Status = 'firing' | 'acknowledged' | 'quiet' | 'resolved';

export function statusOf({ state, acknowledged, quiet }: IncidentRecord, nowMs: number): Status {
  if (state === 'resolved') return 'resolved';
  if (quiet !== undefined && quiet.untilMs > nowMs) return 'quiet';
  return acknowledged === undefined ? 'firing' : 'acknowledged';
}

function isSoAlready({ state, acknowledged, quiet }: IncidentRecord, kind: LinkAction): boolean {
  if (kind === 'resolve') return state === 'resolved' || quiet !== undefined;
  return state === 'open' && (acknowledged !== undefined || quiet !== undefined);
}

interface Who {
  readonly commandId: string;
  readonly by: string;
  readonly via: Via;
}

function commandOf(kind: LinkAction, incidentId: string, who: Who): Command {
  return kind === 'acknowledge' ? { kind, incidentId, ...who } : { kind, incidentId, evenIfTrue: true, ...who };
}

export function alertsOf({ id }: IncidentRecord, alerts: readonly AlertRecord[]): AlertRecord[] {
  return alerts.filter(({ incidentId, phase }) => incidentId === id && phase === 'firing').sort(byUrgency);
}

function timeOrNull(ms: number | undefined): string | null {
  return ms === undefined ? null : isoTime(ms);
}

function viewOf(incident: IncidentRecord, all: readonly AlertRecord[], nowMs: number): object {
  const { group, team, told, openedMs, resolvedMs, reopened, acknowledged, quiet, onCall, escalation, answerBy } =
    incident;
  const alerts = alertsOf(incident, all);
  const [first] = alerts;
  return {
    id: incident.id,
    state: statusOf(incident, nowMs),
    priority: told?.priority ?? first?.priority ?? null,
    title: told?.title ?? first?.title ?? null,
    message: told?.message ?? first?.message ?? null,
    group,
    team: team ?? null,
    opened: isoTime(openedMs),
    resolved: timeOrNull(resolvedMs),
    reopened,
    acknowledged:
      acknowledged === undefined
        ? null
        : { by: acknowledged.by, via: acknowledged.via ?? null, at: isoTime(acknowledged.atMs) },
    quietUntil: timeOrNull(quiet?.untilMs),
    onCall: onCall ?? null,
    escalation: escalation?.level ?? null,
    answerBy: timeOrNull(answerBy?.atMs),
    alerts: alerts.map(alertView),
  };
}

function alertView({
  key,
  ruleId,
  title,
  priority,
  labels,
  phase,
  startedMs,
  muted,
  message,
  why,
  runbook,
}: AlertRecord): object {
  return {
    key,
    rule: ruleId,
    title,
    priority,
    labels,
    phase,
    since: isoTime(startedMs),
    muted: muted ?? null,
    message,
    value: why?.value ?? null,
    threshold: why?.threshold ?? null,
    runbook,
  };
}

function endedView({ incidentId, alert }: SilencePreview['lastDay'][number]): object {
  const { ruleId, title, priority, labels, startedMs, resolvedMs } = alert;
  const times = { since: isoTime(startedMs), resolved: timeOrNull(resolvedMs) };
  return { incident: incidentId, rule: ruleId, title, priority, labels, ...times };
}

function silenceView({
  id,
  ruleId,
  group,
  labels,
  environment,
  priority,
  fromMs,
  untilMs,
  createdMs,
  by,
  reason,
}: SilenceRecord): object {
  return {
    id,
    rule: ruleId ?? null,
    group: group ?? null,
    labels: labels ?? {},
    environment: environment ?? null,
    priority: priority ?? null,
    from: timeOrNull(fromMs),
    until: isoTime(untilMs),
    created: timeOrNull(createdMs),
    by,
    reason,
  };
}

// ---- the pages of links: no script, nothing from elsewhere, readable by a screen reader and on a telephone ----
// In nobody's frame or cache, and without a referrer, because the address is the permission. What stands in an alert is shown as text.

interface Page {
  readonly html: string;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
}

const STYLE =
  'body{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}' +
  'button{font:inherit;padding:.7rem 1.4rem;border:2px solid #0b57d0;border-radius:.4rem;background:#0b57d0;color:#fff;cursor:pointer}' +
  'button:focus-visible{outline:3px solid #1a1a1a;outline-offset:2px}dt{font-weight:600}dd{margin:0 0 .6rem}';
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');
const PAGE_HEADERS = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`,
  'referrer-policy': 'no-referrer',
  'x-robots-tag': 'noindex',
};

function pageWith(status: number, heading: string, parts: readonly string[], headers = {}): Page {
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(heading)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${escaped(heading)}</h1>
${parts.join('\n')}
</main>
</body>
</html>
`;
  return { html, status, headers: { ...PAGE_HEADERS, ...headers } };
}

const HTML: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function escaped(text: string): string {
  return oneLine(text, 500).replace(/[&<>"']/g, (character) => HTML[character]!);
}

const paragraph = (text: string) => `<p>${escaped(text)}</p>`;

/** Pages about a link that leads nowhere. */
const DEAD_ENDS = {
  expired: [
    410,
    'This link has expired',
    'Links in messages work for a day. The newest message about the incident has a new one.',
  ],
  altered: [
    404,
    'This link is not valid',
    'It was not made here, or it was changed on its way. Copy all of it from the message, to its last character.',
  ],
  foreign: [
    404,
    'This incident is not known here',
    'It may be older than 30 days, or belong to another installation of logpipe.',
  ],
} as const;

function deadEnd(what: keyof typeof DEAD_ENDS): Page {
  const [status, heading, text] = DEAD_ENDS[what];
  return pageWith(status, heading, [paragraph(text)]);
}

function refusedPage({ status, message, headers }: Refusal): Page {
  const heading = status === 409 ? 'Nothing was changed' : 'That did not work';
  return pageWith(status, heading, [paragraph(`${message.charAt(0).toUpperCase()}${message.slice(1)}.`)], headers);
}

/** What a page says of an incident; masked. */
interface Told {
  readonly id: string;
  readonly title: string;
  readonly priority: string;
  readonly state: 'firing' | 'acknowledged' | 'quiet' | 'resolved';
  readonly opened: string;
  readonly by: string | undefined;
}

/** `over`: there is nothing to do, or the link was used. `taken`: it will be carried out. */
type LinkState = 'ask' | 'over' | 'done' | 'taken';

const VERBS: Readonly<Record<LinkAction, readonly [now: string, past: string]>> = {
  acknowledge: ['Acknowledge', 'acknowledged'],
  resolve: ['Resolve', 'resolved'],
};

function incidentPage(what: LinkState, action: LinkAction, told: Told): Page {
  const [verb, past] = VERBS[action];
  const { id, title, priority, state, opened, by } = told;
  const rows = [
    ['Incident', id],
    ['What', `${priority} ${title}`.trim()],
    ['Since', opened],
    ['State', state === 'acknowledged' && by !== undefined ? `acknowledged by ${by}` : state],
  ];
  const facts = `<dl>\n${rows.map(([name, text]) => `<dt>${name}</dt><dd>${escaped(text!)}</dd>`).join('\n')}\n</dl>`;
  switch (what) {
    case 'ask':
      return pageWith(200, `${verb} this incident?`, [facts, `<form method="post"><button>${verb}</button></form>`]);
    case 'over':
      return pageWith(200, 'Nothing was changed', [
        paragraph('It is so already, or this link was used before. This is how things stand:'),
        facts,
      ]);
    case 'done':
      return pageWith(200, `The incident is ${past}`, [facts]);
    case 'taken':
      return pageWith(202, 'Taken, and not carried out yet', [
        paragraph(
          'It is carried out as soon as an instance that decides alerts runs, within a day. There is no need to do it again.',
        ),
        facts,
      ]);
  }
}
