// What `logpipe replay` says: the plan, how far it is, and what became of everything; for people and as JSON.

import { oneLine } from '../core/terminal-text.ts';
import type { Tally } from '../replay/progress.ts';
import type { ReplaySummary } from '../replay/request.ts';
import type { SourcePlan } from '../replay/sources.ts';
import type { TargetOptions } from '../replay/target.ts';
import type { TimeRange } from '../replay/time-range.ts';
import type { Io } from './io.ts';

/** A line on a terminal is overwritten; in a file it is said less often. */
const TELL_MS = 5_000;
const DETAIL_CHARACTERS = 200;

export interface About {
  readonly source: string;
  readonly target: TargetOptions;
  readonly range: TimeRange | undefined;
  readonly dryRun: boolean;
  readonly name: string | undefined;
}

export function planLines(plan: SourcePlan, range: TimeRange | undefined): string[] {
  const stretch = range === undefined ? 'everything' : `${iso(range.fromMs)} to ${iso(range.toMs)} by event time`;
  const size = plan.records === undefined ? `${plan.bytes ?? 0} bytes` : `at most ${plan.records} records`;
  return [
    `${stretch}: ${size} to read`,
    ...plan.lanes.map(({ lane, from, to }) => `  ${lane}${place(from, to)}`),
    ...plan.gaps.map((gap) => `missing: ${gap}`),
  ];
}

function place(from: unknown, to: unknown): string {
  return typeof from === 'number' && typeof to === 'number' ? ` from offset ${from} to ${to}` : '';
}

export function createProgressLine(io: Io): {
  expect(plan: SourcePlan): void;
  tell(tally: Tally, held: boolean): void;
} {
  let total: number | undefined;
  let first: { at: number; read: number } | undefined;
  let last = performance.now();
  return {
    expect(plan) {
      total = plan.records;
    },
    tell(tally, held) {
      const at = performance.now();
      first ??= { at, read: tally.read };
      if (at - last < TELL_MS) return;
      last = at;
      const rate = ((tally.read - first.read) * 1_000) / Math.max(1, at - first.at);
      const left = total === undefined || rate < 1 ? undefined : Math.max(0, total - tally.read) / rate;
      const of = total === undefined ? '' : ` of at most ${total}`;
      io.err(
        `read ${tally.read}${of}, to write ${tally.matched}; ${Math.round(rate)} per second` +
          (left === undefined ? '' : `, ${Math.ceil(left)} s left`) +
          (held ? '; waiting for live indexing' : ''),
      );
    },
  };
}

export function summaryJson(summary: ReplaySummary, about: About): object {
  const { complete, gaps, tally, written, plan, indices, refusals, seconds, live } = summary;
  const { range } = about;
  return {
    complete,
    dryRun: about.dryRun,
    ...(about.name === undefined ? {} : { name: about.name }),
    source: about.source,
    target: about.target,
    range: range === undefined ? null : { from: iso(range.fromMs), to: iso(range.toMs) },
    ...tally,
    written,
    refused: refusals,
    gaps,
    seconds: Math.round(seconds * 1_000) / 1_000,
    eventsPerSecond: Math.round(tally.matched / Math.max(seconds, 0.001)),
    liveLag: live === undefined ? null : { max: live.maxLiveLag, heldMs: Math.round(live.heldMs) },
    ...(about.dryRun ? { lanes: plan.lanes, indices } : {}),
  };
}

export function summaryLines(summary: ReplaySummary, about: About): string[] {
  const { tally, written, refusals, seconds } = summary;
  const lines = [
    `${summary.complete ? 'done' : 'ended early'} in ${seconds.toFixed(1)} s: ${tally.read} records read, ` +
      `${tally.outside} outside of the stretch, ${tally.unmatched} without what --where asks for, ${tally.matched} ` +
      `${about.dryRun ? 'would be written' : 'to write'}`,
  ];
  if (about.dryRun) {
    for (const [index, { documents, bytes }] of Object.entries(summary.indices).sort()) {
      lines.push(`  ${index}: ${documents} documents, ${bytes} bytes`);
    }
  } else {
    const names: Record<string, string> = { new: 'written', present: 'there already', moved: 'old copies deleted' };
    lines.push(
      `  ${Object.entries(written)
        .filter(([, count]) => count > 0)
        .map(([name, count]) => `${count} ${names[name] ?? name}`)
        .join(', ')}`,
    );
  }
  for (const [reason, count] of Object.entries(refusals.byReason)) lines.push(`refused: ${count} for ${reason}`);
  for (const { id, detail, origin } of refusals.examples.slice(0, 5)) {
    lines.push(`  ${oneLine(`${origin} ${id}: ${detail}`, DETAIL_CHARACTERS)}`);
  }
  for (const gap of summary.gaps) lines.push(`missing: ${gap}`);
  if (summary.live) {
    lines.push(
      `live indexing: lag at most ${summary.live.maxLiveLag} records, held back for ${(summary.live.heldMs / 1_000).toFixed(1)} s`,
    );
  }
  if (!summary.complete) {
    lines.push(
      about.name === undefined ? 'without --name it cannot go on from here' : 'the same command line goes on from here',
    );
  }
  return lines;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
