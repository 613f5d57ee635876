// What is sent, and what came of it: the contract between the outbox and the channels, and the texts that channels share. It is plain
// data, kept in the outbox as JSON; secrets are masked before it gets there. Guarantee: cutting a text never splits a character or an
// escape sequence, and a cut text shows that it was cut.
import type { Masker } from '../core/secrets/mask.ts';
import type { Priority, Severity, Why } from '../rules/rule-types.ts';

/** A destination (oncall/routing.ts): `slack`, or `slack:payments`. Decisions do not depend on which channels there are. */
export type ChannelName = string;

/**
 * `trigger` opens or updates, `resolve` ends; `acknowledge` is sent when a person has taken the incident. `inform` is about no incident
 * (the daily mail): it opens nothing, and nothing follows it.
 */
export type NotifyAction = 'trigger' | 'acknowledge' | 'resolve' | 'inform';

/** Why a message goes out, or that none does. A closed list: it is a metric label and is written to the history. */
export const NOTIFY_REASONS = [
  'first',
  'new-alerts',
  'some-resolved',
  'all-resolved',
  'repeat',
  'acknowledged',
  'escalated',
  'reopened',
  'daily',
  'none',
] as const;

export type NotifyReason = (typeof NOTIFY_REASONS)[number];

export interface Notification {
  readonly incidentId: string;
  /** Same for every message about one incident; at most 255 characters. */
  readonly dedupKey: string;
  readonly action: NotifyAction;
  readonly reason: NotifyReason;
  readonly severity: Severity;
  readonly priority: Priority;
  /** The leading alert's title, message and metadata: what Slack's first attachment and PagerDuty's body carry. */
  readonly title: string;
  readonly message: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** When the decision was taken, ms. */
  readonly atMs: number;
  readonly environment: string;
  /** All alerts of the incident, leading one first. */
  readonly alerts: readonly NotifiedAlert[];
  /** How many alerts of the incident did not fit into `alerts`. */
  readonly unnamed?: number;
  /** Names of alerts that joined since the last message. */
  readonly joined: readonly string[];
  /** Id of the team it is for; absent where there is no routing. */
  readonly team?: string;
  /** Whom the message calls by name. */
  readonly people?: readonly NamedPerson[];
  /** Until when somebody is to acknowledge or resolve it, ms; absent when that is done, or nobody is asked to. */
  readonly answerBy?: number;
  /** `daily`: what there is to report. */
  readonly report?: readonly ReportPart[];
  /** `escalated`: for how long nobody has acknowledged it; `reopened`: for how long it was quiet. */
  readonly waitedMs?: number;
  /** Who acknowledged it, or resolved it by hand. */
  readonly by?: string;
}

/** Somebody on call, as a message names them. */
export interface NamedPerson {
  readonly role: 'primary' | 'secondary';
  readonly id: string;
  readonly name: string;
  /** Slack mentions it. */
  readonly slackId?: string;
}

/** One part of the daily mail. */
export interface ReportPart {
  readonly heading: string;
  /** Plain text, masked, bounded. */
  readonly lines: readonly string[];
}

/** One alert within a message. */
export interface NotifiedAlert {
  readonly ruleId: string;
  readonly title: string;
  readonly priority: Priority;
  readonly labels: Readonly<Record<string, string>>;
  readonly state: 'firing' | 'resolved';
  readonly startedMs: number;
  readonly resolvedMs?: number;
  readonly message: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly why?: Why;
  readonly runbook: string;
}

/** Sends messages one way. Never throws; makes one attempt per call, retries are up to the dispatcher. */
export interface Channel {
  readonly name: ChannelName;
  /** At most this many sends per second, on average; the dispatcher keeps to it. */
  readonly ratePerSecond: number;
  /** @param left the recipients that an earlier attempt left over: nobody else gets the message again */
  send(notification: Notification, signal: AbortSignal, left?: readonly string[]): Promise<SendResult>;
  close(): Promise<void>;
}

/** What a channel says about one attempt. `reason` is for logs and metrics: it never holds an address or a secret. */
export type SendResult =
  | { readonly ok: true }
  | {
      readonly ok: false;
      readonly retryable: boolean;
      readonly retryAfterMs?: number;
      readonly reason: string;
      /** The answer does not prove delivery, such as a log-in page with 200. Only tried again a few times. */
      readonly doubtful?: true;
      /** Recipients that may still take it; all others have it, or have refused it for good. */
      readonly left?: readonly string[];
    };

/** When the next attempt is made, and for whom; kept in the outbox. */
export interface Retry {
  /** Failed attempts so far. */
  readonly attempts: number;
  /** Not before this time, ms; 0 for at once. */
  readonly nextMs: number;
  /** Doubtful answers so far. */
  readonly doubts?: number;
  /** Recipients that an earlier attempt left over. */
  readonly left?: readonly string[];
}

/** Masks everything but the ids: two incidents must not become one because a pattern matches their ids. */
export function maskNotification(notification: Notification, masker: Masker): Notification {
  const masked = masker.value(notification) as Notification;
  return { ...masked, incidentId: notification.incidentId, dedupKey: notification.dedupKey };
}

// ---- what a message says: headline, severity, times ----

/** How many other alerts a headline names, and how many characters of each. */
const MAX_NAMES = 3;
const MAX_NAME = 120;

/**
 * For an incident of one alert only the title, as in the operators' guide; with more of them "High CPU (+2: Queue Is Long, High
 * CPU (host=web-2))". It counts those that fire, and in the resolve all of them.
 */
export function headline({ title, action, alerts, unnamed = 0 }: Notification): string {
  const others = alerts.slice(1).filter(({ state }) => action === 'resolve' || state === 'firing');
  const count = others.length + unnamed;
  if (count === 0) return title;
  const names = others.slice(0, MAX_NAMES).map((alert) => cut(oneLine(alertName(alert)), MAX_NAME));
  return `${title} (+${count}: ${names.join(', ')}${count > names.length ? ', …' : ''})`;
}

/** "High CPU (host=web-1)": labels tell alerts of one title apart. */
export function alertName({ title, labels }: Pick<NotifiedAlert, 'title' | 'labels'>): string {
  const text = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  return text.length === 0 ? title : `${title} (${text.join(', ')})`;
}

/** The headline behind its severity; the daily mail says in its title what it is. */
export function subject(notification: Notification): string {
  const { action, title } = notification;
  return oneLine(action === 'inform' ? title : `${severityWord(notification)}: ${headline(notification)}`);
}

/** CRITICAL, WARNING or INFO; or what became of the incident. */
function severityWord({ action, severity }: Pick<Notification, 'action' | 'severity'>): string {
  if (action === 'resolve') return 'RESOLVED';
  if (action === 'acknowledge') return 'ACKNOWLEDGED';
  if (action === 'inform') return 'DAILY';
  return (severity satisfies Severity).toUpperCase();
}

export function isoTime(ms: number): string {
  const time = new Date(ms);
  return Number.isNaN(time.getTime()) ? 'at an unknown time' : time.toISOString();
}

/** "45 s", "5 min", "1 h 10 min", "2 d 3 h": two units are enough for people. */
export function durationText(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  const units = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ] as const;
  const first = units.findIndex(([count]) => count > 0);
  if (first === -1) return '0 s';
  const shown = units.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(' ');
}

// ---- texts for channels: cleaned, escaped, cut with a marker ----

/**
 * Removes control characters, which move a reader's cursor or make a service refuse the message, and marks that reverse the
 * direction of what follows; line ends and tabs stay.
 */
export function clean(text: string): string {
  return text
    .toWellFormed()
    .replaceAll('\r\n', '\n')
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, ' ');
}

/** Puts a text on one line, for a header or a heading. */
export function oneLine(text: string): string {
  return clean(text).replace(/\s+/g, ' ').trim();
}

/** Escapes the three characters that mean something to Slack; with them a log line could mention a channel or hide an address. */
export function escapeSlack(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

export function escapeHtml(text: string): string {
  return escapeSlack(text).replaceAll('"', '&quot;').replaceAll("'", '&#39;');
}

export const CUT = '… (cut)';

/** The text in at most `max` UTF-16 units, the marker included. */
export function cut(text: string, max: number): string {
  if (text.length <= max) return text;
  return text.slice(0, max - CUT.length).replace(/[\ud800-\udbff]$/, '') + CUT;
}

/** The escaped text in at most `max` units of the escaped form; entities stay whole. */
export function cutEscaped(text: string, max: number, escaped: (text: string) => string): string {
  const whole = escaped(text);
  if (whole.length <= max) return whole;
  let result = '';
  for (const character of text) {
    const next = escaped(character);
    if (result.length + next.length > max - CUT.length) break;
    result += next;
  }
  return result + CUT;
}

// ---- "Log pipeline blind" ----
// It has the same key whoever begins or ends it, so that a service with dedup keys shows one incident.

export const BLIND_TITLE = 'Log pipeline blind';
/** It is no incident of the alert state. */
const BLIND_RULE = 'log-pipeline-blind';
export const BLIND_ENDED = 'Kafka answers again; alerts are evaluated.';

/** @param atMs wall clock, as `sinceMs` */
export function blindNotice(
  action: 'trigger' | 'resolve',
  about: {
    readonly incidentId: string;
    readonly environment: string;
    readonly sinceMs: number;
    readonly atMs: number;
    readonly message: string;
    readonly metadata?: Readonly<Record<string, unknown>>;
  },
): Notification {
  const { incidentId, environment, sinceMs, atMs, message } = about;
  const metadata = about.metadata === undefined ? {} : { metadata: about.metadata };
  const alert = {
    ruleId: BLIND_RULE,
    title: BLIND_TITLE,
    priority: 'P1' as const,
    labels: {},
    state: action === 'trigger' ? ('firing' as const) : ('resolved' as const),
    startedMs: sinceMs,
    ...(action === 'resolve' ? { resolvedMs: atMs } : {}),
    message,
    ...metadata,
    runbook: 'docs/runbooks/log-pipeline-blind.md',
  };
  return {
    incidentId,
    dedupKey: `logpipe/${incidentId}`,
    action,
    reason: action === 'trigger' ? 'first' : 'all-resolved',
    severity: 'critical',
    priority: 'P1',
    title: BLIND_TITLE,
    message,
    ...metadata,
    atMs,
    environment,
    alerts: [alert],
    joined: [],
  };
}

// ---- what people want to know besides title and message ----

// Facts and links as plain text, the same for every channel, which escapes them; bounded, whatever the incident; what is unknown is not
// mentioned.

const MAX_LIST = 10;
const MAX_LINE = 300;
const MAX_PEOPLE = 10;
/** Of the daily mail. */
const MAX_SECTIONS = 20;
const MAX_SECTION = 50;
const MAX_ADDRESS = 1_000;
/** How long before an alert without a window the search in Kibana begins. */
const LOOK_BACK_MS = 15 * 60_000;

/** Label of the fact that names people: Slack mentions them instead. */
export const ON_CALL = 'On call';

export interface Fact {
  readonly label: string;
  /** A fact of one line may be shown beside its label. */
  readonly lines: readonly string[];
}

interface Link {
  readonly label: string;
  readonly url: string;
}

export interface Story {
  readonly facts: readonly Fact[];
  readonly links: readonly Link[];
}

export interface LinkOptions {
  readonly kibanaUrl?: string;
  readonly runbookBaseUrl?: string;
  /** Addresses that act on an incident, made for one channel: whoever has one can use it until it expires. */
  readonly actionLinks?: (incidentId: string, channelName: ChannelName, atMs: number) => ActionLinks | undefined;
}

export interface ActionLinks {
  readonly acknowledge: string;
  readonly resolve?: string;
}

/** What a message links to that acts: nothing once the incident is over, and nothing for what the alert state does not know. */
export function actionLinks(notification: Notification, channel: ChannelName, { actionLinks }: LinkOptions): Link[] {
  const { action, incidentId, atMs, alerts } = notification;
  if (action === 'resolve' || action === 'inform' || alerts[0]?.ruleId === BLIND_RULE) return [];
  const links = actionLinks?.(incidentId, channel, atMs);
  if (links === undefined) return [];
  return [
    ...(action === 'trigger' ? [{ label: 'Acknowledge', url: links.acknowledge }] : []),
    ...(links.resolve === undefined ? [] : [{ label: 'Resolve', url: links.resolve }]),
  ];
}

/** "Ada (primary), Ben (secondary)". */
export function peopleText({ people = [] }: Notification, named: (person: NamedPerson) => string): string {
  return people
    .slice(0, MAX_PEOPLE)
    .map((person) => `${named(person)} (${person.role})`)
    .join(', ');
}

/** "answer within 15 min"; undefined where nobody is asked for an answer. */
export function answerText({ action, answerBy, atMs }: Notification): string | undefined {
  if (action !== 'trigger' || answerBy === undefined) return undefined;
  return answerBy > atMs ? `answer within ${durationText(answerBy - atMs)}` : 'answer now';
}

/** Why a message comes now that is neither the first nor news of alerts. */
function whyNow({
  reason,
  people = [],
  waitedMs,
  by,
}: Notification): readonly [label: string, text: string] | undefined {
  const whom = by === undefined ? '' : ` by ${by}`;
  const long = waitedMs === undefined ? '' : ` ${durationText(waitedMs)}`;
  switch (reason) {
    case 'repeat':
      return ['Reminder', 'still firing, and nobody has acknowledged it'];
    case 'escalated': {
      // Where the primary is called too, the secondary has been called before, or there is none.
      const whom = people.some(({ role }) => role === 'primary') ? 'again, to everybody on call' : 'to the secondary';
      return ['Escalated', `nobody has acknowledged${long && ` for${long}`}: ${whom}`];
    }
    case 'reopened':
      return ['Reopened', `resolved by hand${whom}, still true${long && ` after${long}`}`];
    case 'acknowledged':
      return by === undefined ? undefined : ['Acknowledged', `by ${by}`];
    default:
      return undefined;
  }
}

/** Who is meant and why now, why it fired, since when, what the log shows, what else fires, and where to look next. */
export function tellStory(notification: Notification, options: LinkOptions): Story {
  const facts: Fact[] = [];
  const add = (label: string, lines: readonly string[]) => {
    if (lines.length > 0) facts.push({ label, lines: list(lines) });
  };
  const [leading, ...others] = notification.alerts;
  const links: Link[] = [];
  for (const { heading, lines } of notification.report?.slice(0, MAX_SECTIONS) ?? []) {
    facts.push({
      label: cut(oneLine(heading), MAX_LINE),
      lines: list(lines.length === 0 ? ['none'] : lines, MAX_SECTION),
    });
  }
  const now = whyNow(notification);
  if (now !== undefined) add(now[0], [now[1]]);
  if (notification.action === 'trigger') {
    const told = [peopleText(notification, ({ name }) => oneLine(name)), answerText(notification) ?? ''];
    add(ON_CALL, told[0] === '' ? [] : [told.filter((text) => text !== '').join(': ')]);
  }
  if (leading === undefined) return { facts, links };

  const { why } = leading;
  if (why !== undefined) {
    const sum = `${why.measure} over ${durationText(why.windowMs)}: ${why.valueText}`;
    add('Why', [`${sum} (threshold ${why.thresholdText}), from ${why.volume} events`]);
  }
  add('First seen', [isoTime(leading.startedMs)]);
  if (notification.action === 'resolve') {
    add('Lasted', [durationText((leading.resolvedMs ?? notification.atMs) - leading.startedMs)]);
  }
  const labels = Object.entries(leading.labels).map(([name, value]) => `${name}=${value}`);
  if (labels.length > 0) add('Concerns', [labels.join(', ')]);
  add('Top errors', why?.topTemplates.map(({ template, count }) => `${count} × ${template}`) ?? []);
  if (why !== undefined && why.examples.length > 0) add('Example events', [why.examples.join(', ')]);
  if (why?.release !== undefined) add('Release', [`errors stand out in ${why.release}`]);
  add('Joined', notification.joined);
  if (others.length > 0) add('Alerts of this incident', alertLines(notification.alerts));

  if (options.kibanaUrl !== undefined) {
    links.push({ label: 'Events in Kibana', url: discoverUrl(options.kibanaUrl, notification, leading) });
  }
  const runbook = runbookUrl(leading.runbook, options.runbookBaseUrl);
  if (runbook !== undefined && runbook.length <= MAX_ADDRESS) links.push({ label: 'Runbook', url: runbook });
  else if (leading.runbook !== '') add('Runbook', [leading.runbook]);
  return { facts, links };
}

/** One line each, bounded. */
export function list(lines: readonly string[], most = MAX_LIST): string[] {
  const shown = lines.slice(0, most).map((line) => cut(oneLine(line), MAX_LINE));
  if (lines.length > most) shown.push(`and ${lines.length - most} more`);
  return shown;
}

/** All alerts of an incident, one line each; labels tell those of one title apart. */
export function alertLines(alerts: readonly NotifiedAlert[]): string[] {
  const titles = new Map<string, number>();
  for (const { title } of alerts) titles.set(title, (titles.get(title) ?? 0) + 1);
  return alerts.map((alert) => {
    const name = (titles.get(alert.title) ?? 0) > 1 ? alertName(alert) : alert.title;
    return `${alert.priority} ${alert.state}: ${name}: ${alert.message}`;
  });
}

/** Kibana's Discover, with the time range in the address in Kibana's own notation (rison); the data view is the space's default. */
function discoverUrl(kibanaUrl: string, { action, atMs }: Notification, { startedMs, why }: NotifiedAlert): string {
  const from = isoTime(why?.fromMs ?? startedMs - LOOK_BACK_MS);
  const to = isoTime(action === 'resolve' ? atMs : (why?.toMs ?? atMs));
  return `${kibanaUrl.replace(/\/+$/, '')}/app/discover#/?_g=(time:(from:'${from}',to:'${to}'))`;
}

function runbookUrl(runbook: string, base: string | undefined): string | undefined {
  if (/^https?:\/\/\S+$/.test(runbook)) return runbook;
  if (base === undefined || runbook === '' || /\s/.test(runbook)) return undefined;
  return `${base.replace(/\/+$/, '')}/${runbook.replace(/^\/+/, '')}`;
}
