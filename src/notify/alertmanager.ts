// Prometheus' Alertmanager, for teams that route there already. In: messages about incidents, and how the alerts stand. Out: its alerts
// (`POST /api/v2/alerts`), sent again before they expire for as long as they fire, and ended when they end. Guarantee: an alert has the same
// labels whenever it is sent; what logpipe can no longer vouch for ends by itself, after `LIFETIME` rounds without a word; every Alertmanager
// of the list is told, because they do not tell each other.
// https://prometheus.io/docs/alerting/latest/alerts_api/
import { createHash } from 'node:crypto';
import type { Log } from '../core/log.ts';
import { type AlertRecord, type IncidentRecord, informedChannels, notified } from '../incidents/incident.ts';
import {
  type Channel,
  type ChannelName,
  clean,
  cut,
  isoTime,
  type LinkOptions,
  maskNotification,
  type Notification,
  type NotifiedAlert,
  oneLine,
  type SendResult,
} from '../incidents/notification.ts';
import { severityOf } from '../incidents/records.ts';
import { createHttpSend, type HttpSend, type HttpSendDeps } from './http-send.ts';

export const ALERTMANAGER: ChannelName = 'alertmanager';

/** Rounds that an alert lives without being sent again, as Prometheus has it. */
const LIFETIME = 4;
/** What has ended is said again for so long, as Prometheus does: one answer may have been lost. */
const SAY_ENDED_MS = 15 * 60_000;
/** Of labels that logpipe's own alerts have as well. */
const OURS: ReadonlySet<string> = new Set(['alertname', 'severity', 'priority', 'environment', 'service', 'team']);
const MAX_LABEL = 200;
const MAX_TEXT = 2_000;
/** Incidents that the alert state does not know of, as that the pipeline is blind: so many at most, each for so long. */
const MAX_REMEMBERED = 100;
const REMEMBER_MS = 24 * 3_600_000;

export interface AlertmanagerOptions {
  readonly urls: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly resendMs: number;
  readonly ratePerSecond: number;
  readonly timeoutMs: number;
  readonly links: LinkOptions;
}

/** What stays the same of all alerts of an incident. */
interface About {
  readonly incidentId: string;
  readonly team: string | undefined;
  readonly environment: string;
}

/** As the API has it. */
interface PostedAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly startsAt: string;
  readonly endsAt: string;
}

/** How alerts stand, in the process that decides them. */
export interface Standing {
  readonly alerts: readonly AlertRecord[];
  readonly incidents: readonly IncidentRecord[];
}

interface AlertmanagerDeps extends HttpSendDeps {
  readonly log: Log;
  readonly environment: string;
  /** Undefined where alerts are not decided, or not yet. */
  readonly standing: () => Standing | undefined;
}

/** A message about what the alert state does not know. */
interface Remembered {
  readonly sinceMs: number;
  readonly notification: Notification;
}

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID */
export function createAlertmanager(options: AlertmanagerOptions, deps: AlertmanagerDeps): Channel {
  const { urls, resendMs, ratePerSecond, links } = options;
  const { clock, log, masker } = deps;
  const senders = sendersOf(options, deps);
  const remembered = new Map<string, Remembered>();
  const end = new AbortController();
  let cancel = () => {};
  let round: Promise<void> = Promise.resolve();
  let failing: string | undefined;

  async function post(body: readonly PostedAlert[], to: readonly number[], signal: AbortSignal): Promise<SendResult> {
    return together(await Promise.all(to.map(async (i) => ({ i, result: await senders[i]!(body, signal) }))));
  }
  const everybody = [...urls.keys()];

  function bodyFor(notification: Notification): PostedAlert[] {
    const { incidentId, action, alerts, team, atMs } = maskNotification(notification, masker);
    const endsMs = action === 'resolve' ? atMs : clock.now() + LIFETIME * resendMs;
    return alerts.map((alert) =>
      postedAlert(alert, { incidentId, team, environment: deps.environment }, endsMs, links),
    );
  }

  /** What another instance may decide tomorrow is in the alert state, and not repeated from memory. */
  function remember(notification: Notification): void {
    const { incidentId, action } = notification;
    if (action === 'resolve') remembered.delete(incidentId);
    else if (deps.standing()?.incidents.some(({ id }) => id === incidentId) !== true) {
      remembered.set(incidentId, { sinceMs: clock.monotonicMs(), notification });
      const [oldest] = remembered.keys();
      if (remembered.size > MAX_REMEMBERED && oldest !== undefined) remembered.delete(oldest);
    }
  }

  async function resend(): Promise<void> {
    const standing = deps.standing();
    for (const [id, { sinceMs }] of remembered) {
      if (clock.monotonicMs() - sinceMs > REMEMBER_MS) remembered.delete(id);
    }
    const body = [
      ...(standing === undefined ? [] : standingBody(standing, options, deps)),
      ...[...remembered.values()].flatMap(({ notification }) => bodyFor(notification)),
    ];
    if (body.length === 0) return;
    const result = await post(body, everybody, end.signal);
    if (end.signal.aborted) return;
    const reason = result.ok ? undefined : result.reason;
    if (reason !== failing) {
      if (reason === undefined) log.info('Alertmanager takes alerts again');
      else log.warn('Alerts could not be sent to Alertmanager again; they end there if that lasts', { reason });
    }
    failing = reason;
  }

  const plan = () => {
    cancel = clock.after(resendMs, () => {
      round = resend().finally(() => {
        if (!end.signal.aborted) plan();
      });
    });
  };
  plan();

  return {
    name: ALERTMANAGER,
    ratePerSecond,
    async send(notification, signal, left) {
      // The daily mail is about no alert.
      if (notification.action === 'inform') return { ok: true };
      const to = left === undefined ? everybody : left.map(Number).filter((i) => senders[i] !== undefined);
      const result = await post(bodyFor(notification), to, signal);
      if (result.ok) remember(notification);
      return result;
    },
    async close() {
      end.abort();
      cancel();
      await round;
    },
  };
}

function sendersOf({ urls, headers, timeoutMs }: AlertmanagerOptions, deps: HttpSendDeps): HttpSend[] {
  return urls.map((url, i) =>
    createHttpSend(
      {
        url: `${url.replace(/\/+$/, '')}/api/v2/alerts`,
        ...{ place: `notify.alertmanager.urls.${i}`, timeoutMs, quote: true, confirm: sayNothing },
        ...(headers === undefined ? {} : { headers }),
      },
      deps,
    ),
  );
}

/** It answers without a body; anything else is somebody else's answer. */
function sayNothing(words: string): string | undefined {
  return words.trim() === '' ? undefined : 'a body, which Alertmanager’s answer does not have';
}

/** One result of several: those that may still take it are asked again, and nobody else. */
function together(results: readonly { readonly i: number; readonly result: SendResult }[]): SendResult {
  const failed = results.flatMap(({ i, result }) => (result.ok ? [] : [{ i, result }]));
  const [first] = failed;
  if (first === undefined) return { ok: true };
  const again = failed.filter(({ result }) => result.retryable);
  const of = failed.length === results.length ? '' : `${failed.length} of ${results.length}: `;
  const reason = `${of}${first.result.reason}`;
  if (again.length === 0) return { ok: false, retryable: false, reason };
  const waits = again.flatMap(({ result }) => result.retryAfterMs ?? []);
  return {
    ...{ ok: false, retryable: true, reason, left: again.map(({ i }) => String(i)) },
    ...(waits.length === 0 ? {} : { retryAfterMs: Math.max(...waits) }),
    ...(again.every(({ result }) => result.doubtful === true) ? { doubtful: true } : {}),
  };
}

// ---- one alert ----

function postedAlert(alert: NotifiedAlert, about: About, endsMs: number, links: LinkOptions): PostedAlert {
  const { title, message, priority, startedMs, resolvedMs, runbook } = alert;
  const { runbookBaseUrl } = links;
  return {
    labels: labelsOf(alert, about),
    annotations: {
      summary: cut(oneLine(title), MAX_TEXT),
      description: cut(clean(message), MAX_TEXT),
      incident: about.incidentId,
      priority,
      runbook,
      ...(runbookBaseUrl === undefined ? {} : { runbook_url: `${runbookBaseUrl.replace(/\/+$/, '')}/${runbook}` }),
    },
    startsAt: isoTime(startedMs),
    endsAt: isoTime(Math.max(startedMs, resolvedMs ?? endsMs)),
  };
}

/** What makes an alert this one: it must be the same whenever it is sent, in messages that are sent again too. */
function labelsOf({ ruleId, priority, labels }: NotifiedAlert, { team, environment }: About): Record<string, string> {
  const out: Record<string, string> = {
    ...{ alertname: ruleId, severity: severityOf(priority), priority, service: 'calling-platform' },
    ...{ environment: labelValue(environment) },
    ...(team === undefined ? {} : { team: labelValue(team) }),
  };
  for (const name of Object.keys(labels).sort()) {
    const value = labelValue(labels[name]!);
    // Prometheus' names have no dots, and an empty value is as good as none.
    let free = name.replace(/[^a-zA-Z0-9_]/g, '_').replace(/^(?=\d)/, '_');
    while (OURS.has(free) || free in out) free = `label_${free}`;
    if (value !== '') out[free] = value;
  }
  return out;
}

/** The same long value always becomes the same short one. */
function labelValue(text: string): string {
  const line = oneLine(text);
  if (line.length <= MAX_LABEL) return line;
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 16);
  return `${cut(line, MAX_LABEL - hash.length - 1)}-${hash}`;
}

// ---- how alerts stand ----

/** Everything that Alertmanager was told of, as it stands. */
function standingBody(
  { alerts, incidents }: Standing,
  { resendMs, links }: AlertmanagerOptions,
  { clock, masker, environment }: AlertmanagerDeps,
): PostedAlert[] {
  const nowMs = clock.now();
  const endsMs = nowMs + LIFETIME * resendMs;
  const told = new Map(
    incidents
      .filter((incident) => incident.state === 'open' && incident.quiet === undefined)
      .filter((incident) => informedChannels(incident).includes(ALERTMANAGER))
      .map((incident) => [incident.id, incident]),
  );
  const post = (alert: NotifiedAlert, { id: incidentId, team }: IncidentRecord) =>
    postedAlert(masker.value(alert) as NotifiedAlert, { incidentId, team, environment }, endsMs, links);
  const firing = alerts.flatMap((alert) => {
    const incident = told.get(alert.incidentId ?? '');
    // What no message has named yet, because it joined within the cooldown, is named by the next one.
    return incident === undefined || alert.phase !== 'firing' || alert.announced !== true
      ? []
      : [post(notified(alert), incident)];
  });
  const ended = [...told.values()].flatMap((incident) =>
    incident.ended
      .filter(({ untold, resolvedMs = 0 }) => untold !== true && nowMs - resolvedMs < SAY_ENDED_MS)
      // It may have begun again.
      .filter(({ ruleId, labels }) => !alerts.some((alert) => isSame(alert, ruleId, labels)))
      .map((alert) => post(alert, incident)),
  );
  return [...firing, ...ended];
}

function isSame({ ruleId, labels, phase }: AlertRecord, id: string, others: Readonly<Record<string, string>>): boolean {
  const names = Object.keys(labels);
  return (
    phase === 'firing' &&
    ruleId === id &&
    names.length === Object.keys(others).length &&
    names.every((name) => labels[name] === others[name])
  );
}
