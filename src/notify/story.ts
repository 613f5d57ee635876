// What people want to know besides title and message. In: a masked notification. Out: facts and links as plain text, the
// same for every channel, which escapes them. Guarantee: bounded, whatever the incident; what is unknown is not mentioned.
import {
  alertName,
  cut,
  durationText,
  isoTime,
  type Notification,
  type NotifiedAlert,
  oneLine,
} from '../incidents/notification.ts';

const MAX_LIST = 10;
const MAX_LINE = 300;
const MAX_ADDRESS = 1_000;
/** How long before an alert without a window the search in Kibana begins. */
const LOOK_BACK_MS = 15 * 60_000;

export interface Fact {
  readonly label: string;
  /** A fact of one line may be shown beside its label. */
  readonly lines: readonly string[];
}

export interface Link {
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
}

/** Why it fired, since when, what the log shows, what else fires, and where to look next. */
export function tellStory(notification: Notification, options: LinkOptions): Story {
  const facts: Fact[] = [];
  const add = (label: string, lines: readonly string[]) => {
    if (lines.length > 0) facts.push({ label, lines: list(lines) });
  };
  const [leading, ...others] = notification.alerts;
  const links: Link[] = [];
  if (notification.reason === 'repeat') add('Reminder', ['still firing, and nobody has acknowledged it']);
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
export function list(lines: readonly string[]): string[] {
  const shown = lines.slice(0, MAX_LIST).map((line) => cut(oneLine(line), MAX_LINE));
  if (lines.length > MAX_LIST) shown.push(`and ${lines.length - MAX_LIST} more`);
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
