// `logpipe replay`: a stretch of logs once more, from where they still are to where they are wanted.

import { systemClock } from '../core/clock.ts';
import { durationMs, durationSchema } from '../core/duration.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createMasker } from '../core/mask.ts';
import { createDlqReplaySource } from '../replay/dlq-source.ts';
import { createFileReplaySource } from '../replay/file-source.ts';
import { createIndexReplaySource } from '../replay/index-source.ts';
import { createKafkaReplaySource } from '../replay/kafka-source.ts';
import { parseSpeed } from '../replay/pace.ts';
import { maskedText } from '../replay/record-document.ts';
import { type ReplayDeps, replay } from '../replay/replay.ts';
import type { ReplayConfig, ReplayOptions } from '../replay/request.ts';
import type { ReplaySource } from '../replay/sources.ts';
import { openState, type ReplayRequest } from '../replay/state.ts';
import type { TargetOptions } from '../replay/target.ts';
import { parseTimeRange, type TimeRange } from '../replay/time-range.ts';
import { parseWhere } from '../replay/where.ts';
import { createYielding, DEFAULT_YIELD_LAG } from '../replay/yielding.ts';
import { type Io, jsonLine } from './io.ts';
import { createProgressLine, planLines, summaryJson, summaryLines } from './replay-report.ts';

export const REPLAY_SOURCES = ['kafka', 'dlq', 'index', 'file'] as const;

export interface ReplayCommandOptions {
  readonly source?: (typeof REPLAY_SOURCES)[number];
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
    if (state?.found) io.err(`replay ${name} goes on where it was`);
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
    const progress = createProgressLine(io);
    const source = sourceOf(files, config, options, range, log);
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
          if (!options.json || run.dryRun) for (const line of planLines(plan, range)) io.err(line);
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
    throw new LogpipeError('LOGPIPE_USAGE', '--source file: names no file; write the paths behind the options');
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
      '--reparse: overwrites documents in place; every other target gets what the present parser makes in any case',
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

function sourceOf(
  files: readonly string[],
  config: ReplayConfig,
  options: ReplayCommandOptions,
  range: TimeRange | undefined,
  log: Log,
): ReplaySource {
  const stretch = {
    range,
    latenessMs: latenessOf(options.lateness ?? '10m'),
    aheadMs: config.parse.maxAheadMs,
    purpose: 'replay',
  };
  const freshTags = options.reparse ?? false;
  switch (options.source ?? 'kafka') {
    case 'kafka':
      return createKafkaReplaySource(config.kafka, stretch, log);
    case 'dlq':
      return createDlqReplaySource(config.kafka, stretch, log);
    case 'file':
      return createFileReplaySource(files, { freshTags }, log);
    case 'index': {
      const { indexPattern: pattern } = options;
      // With a pace the order of time matters more than reading side by side.
      const paced = options.speed !== undefined && options.speed !== 'max';
      return createIndexReplaySource(config.elasticsearch, {
        ...stretch,
        range: range!,
        freshTags,
        ...(pattern === undefined ? {} : { pattern }),
        ...(paced ? { slices: 1 } : {}),
      });
    }
  }
}

function latenessOf(text: string): number {
  if (text === '0' || new RegExp(durationSchema.pattern).test(text)) return text === '0' ? 0 : durationMs(text);
  throw new LogpipeError('LOGPIPE_USAGE', `--lateness: found ${JSON.stringify(text)}; write 30s, 10m, 2h or 0`);
}

/** The first signal ends it at a position it can go on from, the second at once. */
function listenForSignals(given: AbortSignal | undefined, io: Io): { signal: AbortSignal; dispose(): void } {
  if (given !== undefined) return { signal: given, dispose() {} };
  const ending = new AbortController();
  const onSignal = () => {
    if (ending.signal.aborted) process.exit(1);
    io.err('ending; once more ends at once');
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
