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

export interface Backtested {
  readonly from: string;
  readonly to: string;
  readonly records: number;
  readonly gaps?: readonly string[];
  readonly timeline: {
    readonly alerts: readonly TimelineAlert[];
    readonly incidents: readonly TimelineIncident[];
    readonly pages: { readonly total: number };
  };
}

export function backtestOf(result: unknown): Backtested | undefined {
  const { from, to, timeline } = (result ?? {}) as Partial<Backtested>;
  const { alerts, incidents, pages } = (timeline ?? {}) as Partial<Backtested['timeline']>;
  const isOne =
    typeof from === 'string' &&
    typeof to === 'string' &&
    Array.isArray(alerts) &&
    Array.isArray(incidents) &&
    typeof pages?.total === 'number';
  return isOne ? (result as Backtested) : undefined;
}

/** Of a result with `now` and `then`. */
export function whatIfOf(result: unknown): { readonly before: Backtested; readonly after: Backtested } | undefined {
  const given = result as { readonly now?: unknown; readonly then?: unknown } | null | undefined;
  const before = backtestOf(given?.now);
  const after = backtestOf(given?.then);
  return before === undefined || after === undefined ? undefined : { before, after };
}

/** What was too long to keep, as the server names it. */
export function cutOf(result: unknown): string | undefined {
  const cut = (result as { readonly cut?: unknown } | null | undefined)?.cut;
  return typeof cut === 'string' ? cut : undefined;
}

/** "would have paged 3 times instead of 2" */
export function pagesText(then: number, now: number): string {
  const times = then === 1 ? 'once' : `${count(then)} times`;
  if (then === now)
    return then === 0 ? 'would have paged nobody, as it is now' : `would have paged ${times}, as it is now`;
  return then === 0
    ? `would have paged nobody, instead of ${plural(now, 'time')}`
    : `would have paged ${times} instead of ${count(now)}`;
}

// ---- replays ----

/** Conditions with spaces between; those inside of quotes belong to the value. */
export function conditionsOf(text: string): string[] {
  return [...text.matchAll(/(?:[^\s"]|"[^"]*")+/g)].map(([part]) => part.replaceAll('"', ''));
}

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
