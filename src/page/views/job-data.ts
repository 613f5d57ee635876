// What a job's result holds, as the commands print it with --json, as far as the page shows it. In: unknown JSON. Out: the parts that are
// there, and words. Guarantee: pure; a result of another shape is undefined, and not a fault of the page.
import type { Job, Priority } from '../../ops/page-data.ts';
import { count, plural } from '../format.ts';
import { bytesText } from './measure-text.ts';

// ---- backtests ----

export interface TimelineAlert {
  readonly rule: string;
  readonly title: string;
  readonly priority: Priority;
  readonly labels: Readonly<Record<string, string>>;
  readonly fired: string;
  /** Absent: it still fires at the end. */
  readonly resolved?: string;
  readonly muted?: true;
}

export interface TimelineIncident {
  readonly group: string;
  readonly first: string;
  readonly over?: string;
  readonly priority: Priority;
  readonly title: string;
  readonly pages: number;
}

export interface TimelineOf {
  readonly alerts: readonly TimelineAlert[];
  readonly incidents: readonly TimelineIncident[];
  readonly pages: { readonly total: number };
}

/** What was read; the same for both timelines of a what-if. */
export interface Tested {
  readonly from: string;
  readonly to: string;
  readonly records: number;
  readonly gaps?: readonly string[];
}

export function testedOf(result: unknown): Tested | undefined {
  const given = result as Tested | null | undefined;
  return typeof given?.from === 'string' && typeof given.to === 'string' ? given : undefined;
}

function timelineOf(given: unknown): TimelineOf | undefined {
  const { alerts, incidents, pages } = (given ?? {}) as Partial<TimelineOf>;
  const isOne = Array.isArray(alerts) && Array.isArray(incidents) && typeof pages?.total === 'number';
  return isOne ? (given as TimelineOf) : undefined;
}

export function backtestOf(result: unknown): TimelineOf | undefined {
  return timelineOf((result as { readonly timeline?: unknown } | null | undefined)?.timeline);
}

/** Of a result with `now` and `then`. */
export function whatIfOf(result: unknown): { readonly before: TimelineOf; readonly after: TimelineOf } | undefined {
  const given = result as { readonly now?: unknown; readonly then?: unknown } | null | undefined;
  const before = timelineOf(given?.now);
  const after = timelineOf(given?.then);
  return before === undefined || after === undefined ? undefined : { before, after };
}

/** Lists that were too long to keep: `cut` names them. */
export function isCut(result: unknown): boolean {
  const cut = (result as { readonly cut?: unknown } | null | undefined)?.cut;
  return Array.isArray(cut) && cut.length > 0;
}

/** "would have paged 3 times instead of 2" */
export function pagesText(then: number, now: number): string {
  const times = (pages: number) => (pages === 1 ? 'once' : `${count(pages)} times`);
  if (then === now)
    return now === 0 ? 'would have paged nobody, as it is now' : `would have paged ${times(then)}, as it is now`;
  return then === 0
    ? `would have paged nobody, instead of ${times(now)}`
    : `would have paged ${times(then)} instead of ${now === 0 ? 'not at all' : times(now)}`;
}

// ---- replays ----

export interface ReplayResult {
  readonly dryRun: boolean;
  readonly complete: boolean;
  readonly read: number;
  readonly outside: number;
  readonly unmatched: number;
  readonly matched: number;
  readonly written?: Readonly<Record<string, number>>;
  readonly refused?: { readonly byReason?: Readonly<Record<string, number>> };
  readonly indices?: Readonly<Record<string, { readonly documents: number; readonly bytes: number }>>;
  readonly gaps?: readonly string[];
}

export function replayResult(result: unknown): ReplayResult | undefined {
  const given = result as ReplayResult | null | undefined;
  return typeof given?.matched === 'number' && typeof given.read === 'number' ? given : undefined;
}

const WRITTEN: Readonly<Record<string, string>> = {
  new: 'written',
  present: 'already there',
  moved: 'old copies deleted',
};

/** One line each. */
export function replayLines(result: ReplayResult): string[] {
  const { dryRun, complete, read, outside, unmatched, matched, written = {}, refused, indices = {} } = result;
  const found = `${plural(read, 'record')} read: ${count(outside)} outside of the time, ${count(unmatched)} that the conditions leave out, `;
  const lines = [`${found}${count(matched)} ${dryRun ? 'would be written' : 'to write'}`];
  for (const [index, { documents, bytes }] of Object.entries(indices).sort()) {
    lines.push(`${index}: ${plural(documents, 'document')}, ${bytesText(bytes)}`);
  }
  const became = Object.entries(written).filter(([, many]) => many > 0);
  if (!dryRun && became.length > 0) {
    lines.push(became.map(([name, many]) => `${count(many)} ${WRITTEN[name] ?? name}`).join(', '));
  }
  for (const [reason, many] of Object.entries(refused?.byReason ?? {})) lines.push(`${count(many)} refused: ${reason}`);
  if (!complete) lines.push('It ended early');
  return lines;
}

// ---- a job in words ----

/** "Replay in place", "Backtest of high-error-rate". */
export function jobTitle({ request }: Pick<Job, 'request'>): string {
  if (request.kind === 'replay') {
    const { target, dryRun } = request;
    const into = target.kind === 'in-place' ? 'in place' : `to ${target.kind} ${target.name ?? ''}`.trim();
    return `${dryRun ? 'Plan of a replay' : 'Replay'} ${into}`;
  }
  const of = request.rule === undefined ? 'all rules' : request.rule;
  return request.threshold === undefined
    ? `Backtest of ${of}`
    : `What if ${of} had ${request.threshold} as its threshold`;
}
