// `logpipe replay`: a stretch of logs once more, from where they still are to where they are wanted; and `logpipe incident export`. In:
// the command line. Out: the plan, how far it is, and what became of everything; for people and as JSON. Guarantee: ended by a signal,
// it goes on from where it was when it has a name.

import type { Config } from '../config.ts';
import { durationMs, durationSchema, systemClock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { createElasticsearchClient } from '../indexing/elasticsearch.ts';
import { loadMeasures } from '../measure/measure-config.ts';
import { type ExportSummary, exportIncident, LATENESS_MS, readHistory } from '../replay/export.ts';
import { maskedText } from '../replay/record-document.ts';
import { createYielding, DEFAULT_YIELD_LAG, parseSpeed, type ReplayDeps, replay } from '../replay/replay.ts';
import {
  openState,
  type ReplayConfig,
  type ReplayOptions,
  type ReplayRequest,
  type ReplaySummary,
  type Tally,
  type TargetOptions,
} from '../replay/request.ts';
import {
  parseTimeRange,
  parseWhere,
  type SourceKind,
  type SourcePlan,
  type StoredSource,
  type TimeRange,
} from '../replay/sources.ts';
import { openByArrival, openSource } from '../replay/stored.ts';
import { loadRules, reachOf } from '../rules/rule-config.ts';
import { type Io, jsonLine, say, wantsJson } from './io.ts';
import { type ProgressForm, progressLine, sourceOf, withProgress } from './rules.ts';

export interface ReplayCommandOptions {
  readonly source?: SourceKind;
  readonly from?: string;
  readonly to?: string;
  readonly timeZone?: string;
  readonly lateness?: string;
  readonly indexPattern?: string;
  readonly where?: readonly string[];
  readonly reparse?: boolean;
  readonly toIndex?: string;
  readonly toTopic?: string;
  readonly toDir?: string;
  readonly toConsole?: boolean;
  readonly speed?: string;
  readonly throttle?: number;
  readonly limit?: number;
  readonly name?: string;
  readonly yield?: boolean;
  readonly yieldLag?: number;
  readonly deadLetters?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
  /** `json`: for programs, see `progressLine`. */
  readonly progress?: ProgressForm;
  /** Ends it; otherwise SIGINT and SIGTERM do. */
  readonly signal?: AbortSignal;
}

export interface ReplayCommandDeps {
  readonly log: Log;
  readonly stdout?: NodeJS.WritableStream;
  readonly now?: () => number;
  readonly stateFolder?: string;
  readonly onEvent?: ReplayDeps['onEvent'];
}

/**
 * Exit status 0 when the stretch was replayed to its end, 1 when it was ended early.
 * @throws LogpipeError LOGPIPE_USAGE and what source and target report
 */
export async function runReplay(
  files: readonly string[],
  config: ReplayConfig,
  options: ReplayCommandOptions,
  io: Io,
  deps: ReplayCommandDeps,
): Promise<number> {
  const { log } = deps;
  const request = checked(files, options);
  const target = targetOf(options);
  const name = options.name;
  const state =
    name === undefined || options.dryRun
      ? undefined
      : openState({ name, request, ...(deps.stateFolder === undefined ? {} : { folder: deps.stateFolder }) });
  const signals = listenForSignals(options.signal, io);
  try {
    if (state?.found?.complete) {
      io.err(`replay ${name} is complete; remove ${state.path} or choose another --name to replay it again`);
      return 0;
    }
    if (state?.found) io.err(`replay ${name} resumes where it stopped`);
    const range = state?.found ? state.found.range : rangeOf(options, deps.now ?? Date.now);
    const run: ReplayOptions = {
      name,
      request,
      range,
      matches: parseWhere(options.where),
      target,
      limit: options.limit,
      speed: parseSpeed(options.speed ?? 'max'),
      throttle: options.throttle,
      deadLetters: options.deadLetters ?? false,
      dryRun: options.dryRun ?? false,
    };
    const yields =
      config.source === 'kafka' &&
      options.yield !== false &&
      !run.dryRun &&
      target.kind !== 'console' &&
      target.kind !== 'dir';
    const progress = createProgressLine(io, options.progress);
    const source = chosenSource(files, config, options, range, log);
    const summary = await replay(
      config,
      run,
      {
        source,
        state,
        yielding: yields
          ? createYielding(config.kafka, { bound: options.yieldLag ?? DEFAULT_YIELD_LAG }, { log, clock: systemClock })
          : undefined,
        stdout: deps.stdout ?? process.stdout,
        log,
        clock: systemClock,
        ...(deps.onEvent === undefined ? {} : { onEvent: deps.onEvent }),
        onPlan: (plan) => {
          progress.expect(plan);
          if ((!options.json || run.dryRun) && options.progress !== 'json')
            for (const line of planLines(plan, range)) io.err(line);
        },
        onProgress: progress.tell,
      },
      signals.signal,
    );
    const about = { source: source.kind, target, range, dryRun: run.dryRun, name };
    // Standard output belongs to the documents where they go there.
    const tell = target.kind === 'console' && !run.dryRun ? io.err : io.out;
    const masker = createMasker(config.mask);
    if (options.json) tell(jsonLine(summaryJson(summary, about), masker));
    else for (const line of summaryLines(summary, about)) io.err(maskedText(line, masker));
    return summary.complete ? 0 : 1;
  } finally {
    signals.dispose();
    state?.close();
  }
}

/** What has to be the same when a named replay goes on. @throws LogpipeError LOGPIPE_USAGE */
function checked(files: readonly string[], options: ReplayCommandOptions): ReplayRequest {
  const { source = 'kafka' } = options;
  for (const [name, value] of [
    ['--limit', options.limit],
    ['--yield-lag', options.yieldLag],
  ] as const) {
    if (value !== undefined && !(Number.isInteger(value) && value > 0)) {
      throw new LogpipeError('LOGPIPE_USAGE', `${name}: found ${value}; permitted: a whole number above 0`);
    }
  }
  if (options.throttle !== undefined && !(options.throttle > 0)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--throttle: found ${options.throttle}; permitted: events per second above 0`,
    );
  }
  if (source === 'file' && files.length === 0) {
    throw new LogpipeError('LOGPIPE_USAGE', '--source file: names no file; write the paths after the options');
  }
  if (source !== 'file' && files.length > 0) {
    throw new LogpipeError('LOGPIPE_USAGE', `files: found ${files.join(' ')}; they are read with --source file only`);
  }
  const { from, to, timeZone, where, toIndex, toTopic, toDir, toConsole, reparse, limit, indexPattern } = options;
  return {
    source,
    ...(files.length === 0 ? {} : { files }),
    from,
    to,
    timeZone,
    where: where ?? [],
    toIndex,
    toTopic,
    toDir,
    toConsole: toConsole ?? false,
    reparse: reparse ?? false,
    limit,
    indexPattern,
    lateness: options.lateness ?? '10m',
  };
}

/** @throws LogpipeError LOGPIPE_USAGE */
function targetOf(options: ReplayCommandOptions): TargetOptions {
  const { toIndex, toTopic, toDir, toConsole, reparse = false } = options;
  const chosen = Object.entries({ toIndex, toTopic, toDir, toConsole: toConsole || undefined }).filter(
    ([, value]) => value !== undefined,
  );
  if (chosen.length > 1) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      '--to-index, --to-topic, --to-dir, --to-console: found more than one; choose one, or none to write in place',
    );
  }
  if (reparse && chosen.length > 0) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      '--reparse: overwrites documents in place; any other target gets what today’s parser makes anyway',
    );
  }
  if (toIndex !== undefined) return { kind: 'index', name: toIndex };
  if (toTopic !== undefined) return { kind: 'topic', topic: toTopic };
  if (toDir !== undefined) return { kind: 'dir', dir: toDir };
  if (toConsole) return { kind: 'console', format: options.json ? 'ndjson' : 'pretty' };
  return { kind: 'in-place', reparse };
}

function rangeOf(options: ReplayCommandOptions, now: () => number): TimeRange | undefined {
  const { source = 'kafka', from, to } = options;
  // Dead letters and files have an end of their own; the log and the indices would be read as a whole by mistake.
  if (from === undefined && to === undefined && (source === 'dlq' || source === 'file')) return undefined;
  return parseTimeRange(options, now());
}

function chosenSource(
  files: readonly string[],
  config: ReplayConfig,
  options: ReplayCommandOptions,
  range: TimeRange | undefined,
  log: Log,
): StoredSource {
  // With a pace the order of time matters more than reading side by side.
  const paced = options.speed !== undefined && options.speed !== 'max';
  return openSource(
    options.source ?? 'kafka',
    config,
    {
      files,
      range,
      latenessMs: latenessOf(options.lateness ?? '10m'),
      aheadMs: config.parse.maxAheadMs,
      purpose: 'replay',
      indexPattern: options.indexPattern,
      freshTags: options.reparse ?? false,
      order: paced ? 'time' : 'any',
    },
    log,
  );
}

function latenessOf(text: string): number {
  if (text === '0' || new RegExp(durationSchema.pattern).test(text)) return text === '0' ? 0 : durationMs(text);
  throw new LogpipeError('LOGPIPE_USAGE', `--lateness: found ${JSON.stringify(text)}; write 30s, 10m, 2h or 0`);
}

/** The first signal ends a command at a position it can go on from, the second at once. */
export function listenForSignals(given: AbortSignal | undefined, io: Io): { signal: AbortSignal; dispose(): void } {
  if (given !== undefined) return { signal: given, dispose() {} };
  const ending = new AbortController();
  const onSignal = () => {
    if (ending.signal.aborted) process.exit(1);
    io.err('ending; a second signal ends it at once');
    ending.abort();
  };
  const names = ['SIGINT', 'SIGTERM'] as const;
  for (const name of names) process.on(name, onSignal);
  return {
    signal: ending.signal,
    dispose() {
      for (const name of names) process.off(name, onSignal);
    },
  };
}

// --- What it says ---

/** A line on a terminal is overwritten; in a file it is said less often. */
const TELL_MS = 5_000;
const DETAIL_CHARACTERS = 200;

interface About {
  readonly source: string;
  readonly target: TargetOptions;
  readonly range: TimeRange | undefined;
  readonly dryRun: boolean;
  readonly name: string | undefined;
}

function planLines(plan: SourcePlan, range: TimeRange | undefined): string[] {
  const stretch = range === undefined ? 'everything' : `${iso(range.fromMs)} to ${iso(range.toMs)} by event time`;
  const size = plan.records === undefined ? `${plan.bytes ?? 0} bytes` : `at most ${plan.records} records`;
  return [
    `${stretch}: ${size} to read`,
    ...plan.parts.map(({ part, from, to }) => `  ${part}${place(from, to)}`),
    ...plan.gaps.map((gap) => `missing: ${gap}`),
  ];
}

function place(from: unknown, to: unknown): string {
  return typeof from === 'number' && typeof to === 'number' ? ` from offset ${from} to ${to}` : '';
}

function createProgressLine(
  io: Io,
  form: ProgressForm = 'text',
): {
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
      if (form === 'text' && at - last < TELL_MS) return;
      last = at;
      const rate = ((tally.read - first.read) * 1_000) / Math.max(1, at - first.at);
      const left = total === undefined || rate < 1 ? undefined : Math.max(0, total - tally.read) / rate;
      const of = total === undefined ? '' : ` of at most ${total}`;
      const text =
        `read ${tally.read}${of}, to write ${tally.matched}; ${Math.round(rate)} per second` +
        (left === undefined ? '' : `, ${Math.ceil(left)} s left`) +
        (held ? '; waiting for live indexing' : '');
      const share = total === undefined ? null : Math.min(1, tally.read / Math.max(1, total));
      io.err(form === 'text' ? text : progressLine({ share, read: tally.read, matched: tally.matched, text }));
    },
  };
}

function summaryJson(summary: ReplaySummary, about: About): object {
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
    ...(about.dryRun ? { lanes: plan.parts.map(({ part, ...rest }) => ({ lane: part, ...rest })), indices } : {}),
  };
}

function summaryLines(summary: ReplaySummary, about: About): string[] {
  const { tally, written, refusals, seconds } = summary;
  const lines = [
    `${summary.complete ? 'done' : 'ended early'} in ${seconds.toFixed(1)} s: ${tally.read} records read, ` +
      `${tally.outside} outside the stretch, ${tally.unmatched} that --where does not match, ${tally.matched} ` +
      `${about.dryRun ? 'would be written' : 'to write'}`,
  ];
  if (about.dryRun) {
    for (const [index, { documents, bytes }] of Object.entries(summary.indices).sort()) {
      lines.push(`  ${index}: ${documents} documents, ${bytes} bytes`);
    }
  } else {
    const names: Record<string, string> = { new: 'written', present: 'already there', moved: 'old copies deleted' };
    lines.push(
      `  ${Object.entries(written)
        .filter(([name, count]) => count > 0 && name !== 'dropped')
        .map(([name, count]) => `${count} ${names[name] ?? name}`)
        .join(', ')}`,
    );
  }
  if (written.dropped) lines.push(`dropped: ${written.dropped}, as transforms of the configuration say`);
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
      about.name === undefined ? 'without --name it cannot resume here' : 'the same command line resumes here',
    );
  }
  return lines;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

// `logpipe incident export`: a folder with everything about a stretch of time. Reads only, and writes into that folder alone.

// ---- `logpipe incident export` ----

// `logpipe incident export`: a folder with everything about a stretch of time. Reads only, and writes into that folder alone.

interface IncidentExportCommand {
  readonly from?: string;
  readonly to?: string;
  readonly timeZone?: string;
  readonly out: string;
  readonly source: string;
  readonly where: readonly string[];
  readonly rules?: string;
  readonly measures?: string;
  readonly force: boolean;
  /** Default: readable lines on a terminal, JSON elsewhere. */
  readonly json?: boolean | undefined;
}

const TICK_MS = 5_000;

/** Exit status 0, or 1 when part of the range could not be read. @throws LogpipeError */
export async function runIncidentExport(
  config: Config,
  options: IncidentExportCommand,
  io: Io,
  deps: { readonly log: Log; readonly now?: () => number },
): Promise<number> {
  const { fromMs, toMs } = parseTimeRange(options, (deps.now ?? Date.now)());
  const source = sourceOf(options.source);
  const matches = parseWhere(options.where);
  const masker = createMasker(config.mask);
  const measures = loadMeasures({ file: options.measures ?? config.alerts.measuresFile, env: process.env });
  const rules = loadRules({ file: options.rules ?? config.alerts.rulesFile, env: process.env, measures });
  const warmUpMs = reachOf(rules);
  const client = createElasticsearchClient(config.elasticsearch);
  const history = await readHistory(client, { fromMs, toMs }, masker).finally(() => client.close());

  // An index knows only event times: what is later than the stretch is no part of it.
  const lateMs = source === 'kafka' ? LATENESS_MS : 0;
  const range = { fromMs: fromMs - warmUpMs, toMs: toMs + lateMs };
  const arrivals = await openByArrival(source, config, { files: [], range, purpose: 'incident-export' }, deps.log);
  let summary: ExportSummary;
  try {
    summary = await exportIncident(
      withProgress(arrivals.batches, io),
      {
        dir: options.out,
        force: options.force,
        fromMs,
        toMs,
        warmUpMs,
        tickMs: TICK_MS,
        source,
        where: options.where,
        matches,
        measures,
        rules,
        parse: config.parse,
        transforms: config.transforms,
        topic: config.kafka.topics.logs,
      },
      { masker, history, gaps: arrivals.gaps },
    );
  } finally {
    await arrivals.close();
  }
  if (wantsJson(io, options.json)) io.out(jsonLine(summary, masker));
  else print(summary, io);
  for (const gap of summary.gaps) io.err(maskedText(gap, masker));
  return summary.gaps.some((gap) => gap.includes('not reached')) ? 1 : 0;
}

function print({ dir, files, events, errors, rateRows, errorTemplates, alerts }: ExportSummary, io: Io): void {
  say(io, `${events} events, ${errors} errors of ${errorTemplates} kinds, ${rateRows} rows of rates`);
  const from =
    alerts.source === 'history' ? 'from the alert history' : `from a backtest: ${visible(alerts.reason ?? '')}`;
  say(io, `${alerts.fired} alerts (${from})`);
  say(io, `written to ${dir}: ${files.join(', ')}`);
}
