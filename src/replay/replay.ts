// Composes a replay: source -> select -> indexing (the pipeline's own stages) -> target, with positions in a state file.
// In: a request. Out: a summary. Guarantee: each record of the stretch is written, refused with a reason, or still ahead of
// the saved position; no group's offsets move; nothing is counted, so no alert fires; it goes no faster than it is told, and waits
// while live indexing lags.

import type { Admin } from 'kafkajs';
import { type Clock, sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createMetrics, type Metrics } from '../core/metrics.ts';
import {
  type Chunk,
  type ChunkOrigin,
  type DeadLetter,
  type DeadLetterSink,
  documentId,
  type RawRecord,
} from '../core/record.ts';
import { createMasker } from '../core/secrets/mask.ts';
import type { DocumentWriter } from '../indexing/batch.ts';
import { createDegrade } from '../indexing/bulk-writer.ts';
import { createDeadLetter, createKafkaDeadLetters } from '../indexing/dead-letters.ts';
import { createIndexer, type Indexer } from '../indexing/indexer.ts';
import { createParser } from '../parse/parse.ts';
import { createKafka, type KafkaConfig } from '../source/kafka/client.ts';
import { createTagger, type TaggedEvent } from '../tag/tag.ts';
import { createTransformingParser, type TransformResult } from '../transform/transform.ts';
import {
  createReplayProgress,
  emptyTally,
  type Refusal,
  type ReplayConfig,
  type ReplayOptions,
  type ReplayState,
  type ReplaySummary,
  type StateFile,
  type Tally,
  type Target,
} from './request.ts';
import {
  byOrigin,
  createSelector,
  type Position,
  type SourcePlan,
  type StoredBatch,
  type StoredSource,
} from './sources.ts';
import { createDryTarget, createTarget } from './targets.ts';

const SAVE_MS = 1_000;
const SHUTDOWN_MS = 20_000;

export interface ReplayDeps {
  readonly source: StoredSource;
  /** Undefined: nothing is remembered. */
  readonly state: StateFile | undefined;
  /** Undefined: live indexing is ignored. */
  readonly yielding: Yielding | undefined;
  readonly stdout: NodeJS.WritableStream;
  readonly log: Log;
  readonly clock: Clock;
  /** Called with every wanted event, in the order of its part of the source: a shadow evaluation listens here. */
  readonly onEvent?: (event: TaggedEvent, record: RawRecord, origin: ChunkOrigin) => void;
  readonly onPlan?: (plan: SourcePlan) => void;
  /** Called about once a second. */
  readonly onProgress?: (tally: Tally, held: boolean) => void;
}

/** Runs until the end of the stretch, `--limit` or `signal`. @throws LogpipeError when source or target cannot be used */
export async function replay(
  config: ReplayConfig,
  options: ReplayOptions,
  deps: ReplayDeps,
  signal: AbortSignal,
): Promise<ReplaySummary> {
  const { source, state, yielding, log, clock } = deps;
  const { range, limit = Number.POSITIVE_INFINITY } = options;
  const started = performance.now();
  const found = state?.found;
  const metrics = createMetrics();
  const masker = createMasker(config.mask);
  const toElasticsearch = options.target.kind === 'in-place' || options.target.kind === 'index';
  const parsed = createParser(config.parse, { masker, duplicatesRefused: toElasticsearch });
  const selector = createSelector({
    parser: createTransformingParser(parsed, config.transforms, { masker }),
    tag: createTagger(),
    range,
    matches: options.matches,
  });
  const refusals = createRefusals(config, options, { metrics, log });
  let documents: DocumentWriter | undefined;
  let indexer: Indexer | undefined;
  const target: Target = (options.dryRun ? createDryTarget : createTarget)(options, config, {
    degrade: (item) => createDegrade({ ...selector, documents: documents! })(item),
    bury: ({ record, chunk }, reason, detail, abort) => indexer!.bury(record, chunk, reason, detail, abort),
    metrics,
    stdout: deps.stdout,
    log,
    clock,
  });
  documents = target.documents(selector.parser.time);
  const bulk = target.stepwise ? { ...config.bulk, concurrency: 1 } : config.bulk;
  indexer = createIndexer(bulk, {
    parser: selector.parser,
    tag: selector.tag,
    documents,
    sinks: [target.sink],
    deadLetters: refusals.sink,
    toDeadLetter: createDeadLetter(config.dlq, masker),
    metrics,
    log,
    clock,
  });
  const plan = await source.plan();
  deps.onPlan?.(plan);
  // The parts are fixed at the first start, including those that have not begun when it is interrupted.
  const positions = new Map<string, Position>(
    found ? Object.entries(found.positions) : plan.parts.map(({ part, from }) => [part, from]),
  );
  const progress = createReplayProgress(positions, found?.tally ?? emptyTally());
  const pace = createPace(options);
  const stop = new AbortController();
  const end = () => stop.abort();
  const onAbort = () => {
    end();
    // A server that takes nothing must not keep the replay from ending.
    void indexer.drain(SHUTDOWN_MS);
  };
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });

  let targetState: Record<string, number> = found?.target ?? {};
  const save = async (complete: boolean) => {
    if (state === undefined) return;
    // Read together, so that nothing is acknowledged between the two.
    const { positions, tally } = progress.finished();
    const written = await writtenSoFar();
    const next: ReplayState = {
      version: 1,
      name: options.name!,
      request: options.request,
      range,
      positions: Object.fromEntries(positions),
      tally,
      written,
      target: targetState,
      complete,
    };
    await state.save(next);
  };
  const writtenSoFar = async (): Promise<Record<string, number>> => {
    const values = async (name: 'indexed' | 'duplicates' | 'degraded' | 'dropped') =>
      (await metrics[name].get()).values.reduce((sum, { value }) => sum + value, 0);
    const now: Record<string, number> = {
      new: await values('indexed'),
      present: await values('duplicates'),
      degraded: await values('degraded'),
      refused: refusals.count(),
      ...(config.transforms.length === 0 ? {} : { dropped: await values('dropped') }),
      ...target.counts(),
    };
    for (const [name, count] of Object.entries(found?.written ?? {})) {
      // `files` already counts all files of the target.
      if (name !== 'files') now[name] = (now[name] ?? 0) + count;
    }
    return now;
  };

  let lastSaved = clock.monotonicMs();
  let saving: Promise<void> = Promise.resolve();
  let failure: unknown;
  const isWhole = () => progress.finished().tally.read === progress.begun.read;
  /** Stepwise: waits until everything taken is written, so that positions and the target's own state agree. */
  const finishStep = async () => {
    await indexer.drain(Number.POSITIVE_INFINITY);
    if (!isWhole() || clock.monotonicMs() - lastSaved < SAVE_MS) return;
    lastSaved = clock.monotonicMs();
    targetState = await target.checkpoint();
    await save(false);
  };
  const ticker = setInterval(() => {
    deps.onProgress?.(progress.begun, yielding?.seen().held ?? false);
    if (target.stepwise) return;
    saving = saving
      .then(() => save(false))
      .catch((error) => {
        failure ??= error;
        end();
      });
  }, SAVE_MS);

  let turn: Promise<unknown> = Promise.resolve();
  /** One batch at a time reaches a stepwise target; parts are still read side by side. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    if (!target.stepwise) return work();
    const mine = turn.then(work);
    turn = mine.catch(() => {});
    return mine;
  };

  async function take(batch: StoredBatch): Promise<boolean> {
    const { records, part, next } = batch;
    const tally = emptyTally();
    const wanted: Wanted[] = [];
    for (let i = 0; i < records.length && progress.begun.matched + tally.matched < limit; i++) {
      const record = records[i]!;
      tally.read += 1;
      tally.bytes += record.value?.length ?? 0;
      const origin = batch.origin(i);
      const selection = selector.select(record, { origin });
      if (selection === 'outside') tally.outside += 1;
      else if (selection === 'unmatched') tally.unmatched += 1;
      else {
        tally.matched += 1;
        const { result } = selection;
        if (isCounted(result)) deps.onEvent?.(result.event as TaggedEvent, record, origin);
        if (target.has?.(documentId(record, { origin })) !== true) wanted.push({ record, result, origin });
      }
    }
    const done = progress.begin(part, next, tally, wanted.length);
    await send(wanted, done);
    return !stop.signal.aborted && progress.begun.matched < limit;
  }

  async function send(wanted: readonly Wanted[], done: (count: number) => void): Promise<void> {
    const times = wanted.map(({ record, result }) => ('event' in result ? result.event.timeMs : record.timeMs));
    for (let from = 0; from < wanted.length; ) {
      const count = pace.fitting(times, from);
      await pace.wait(times[from]!, count, stop.signal);
      await yielding?.pass(stop.signal);
      // The saved position stays before this batch.
      if (stop.signal.aborted) return;
      for (const [origin, items] of byOrigin(wanted.slice(from, from + count), ({ origin }) => origin)) {
        await accept(origin, items, done);
      }
      from += count;
    }
  }

  function accept(origin: ChunkOrigin, items: readonly Wanted[], done: (count: number) => void): Promise<void> {
    const records = items.map(({ record }) => record);
    let bytes = 0;
    for (const { value } of records) bytes += value?.length ?? 0;
    const chunk: Chunk = { origin, records, bytes, done };
    selector.expect(
      items.map(({ result }) => result),
      records,
    );
    // Synchronous up to the in-flight limit, so that the selector's results belong to these records.
    return indexer!.accept(chunk);
  }

  /** Writes and remembers what was read before the failure is reported. */
  async function brokenOff(error: unknown): Promise<unknown> {
    // The other parts, which are read side by side, must end too.
    end();
    if (!(error instanceof LogpipeError)) return error;
    const drained = await indexer!.drain(SHUTDOWN_MS);
    clearInterval(ticker);
    await saving;
    if (target.stepwise && !isWhole()) return error;
    targetState = await target.checkpoint();
    await save(false);
    const { matched } = progress.finished().tally;
    const written = `${matched} of the stretch ${matched === 1 ? 'is' : 'are'} written${drained ? '' : ' (the last ones are not confirmed)'}`;
    const onward =
      state === undefined
        ? 'with --name, a replay can go on where it ended'
        : `the same command line goes on from here (${state.path})`;
    return new LogpipeError(error.code, `${error.message}. ${written}; ${onward}`, error);
  }

  try {
    await target.prepare(found?.target);
    targetState = await target.checkpoint();
    await save(false);
    try {
      await source.feed(progress.finished().positions, stop.signal, (batch) =>
        inTurn(async () => {
          if (stop.signal.aborted) return false;
          const more = await take(batch);
          if (target.stepwise) await finishStep();
          return more;
        }),
      );
    } catch (error) {
      throw await brokenOff(error);
    }
    const drained = await indexer.drain(Number.POSITIVE_INFINITY);
    clearInterval(ticker);
    await saving;
    if (failure !== undefined) throw failure;
    const complete = !signal.aborted && drained;
    // After an incomplete step, a target that keeps what is written twice stays at the last complete one.
    if (!target.stepwise || isWhole()) {
      targetState = await target.checkpoint();
      await save(complete);
    }
    const { tally } = progress.finished();
    return {
      complete,
      gaps: [...plan.gaps, ...source.missing()],
      tally,
      written: await writtenSoFar(),
      plan,
      indices: target.indices?.() ?? {},
      refusals: refusals.examples(),
      seconds: (performance.now() - started) / 1_000,
      live: yielding?.seen(),
    };
  } finally {
    clearInterval(ticker);
    signal.removeEventListener('abort', onAbort);
    await yielding?.close();
    await refusals.sink.close();
    await target.sink.close().catch((error) => log.warn('the target did not close', { reason: errorText(error) }));
  }
}

interface Wanted {
  readonly record: RawRecord;
  readonly result: TransformResult;
  readonly origin: ChunkOrigin;
}

/** As the counter has it. */
function isCounted(result: TransformResult): result is Extract<TransformResult, { readonly event: unknown }> {
  return result.ok || (result.reason === 'configured' && result.counted);
}

// ---- documents that could not be written ----

const MAX_EXAMPLES = 20;

interface Refusals {
  readonly sink: DeadLetterSink;
  count(): number;
  examples(): { byReason: Record<string, number>; examples: readonly Refusal[] };
}

/** Counts by reason, and examples for the summary; the dead-letter topic gets them only with `--dead-letters`. */
function createRefusals(
  config: ReplayConfig,
  options: Pick<ReplayOptions, 'deadLetters'>,
  deps: { metrics: Metrics; log: Log },
): Refusals {
  const topic = options.deadLetters
    ? createKafkaDeadLetters({ kafka: createKafka(config.kafka, deps.log), topic: config.kafka.topics.dlq, ...deps })
    : undefined;
  const byReason: Record<string, number> = {};
  const examples: Refusal[] = [];
  let count = 0;

  return {
    sink: {
      async put(letters, signal) {
        await topic?.put(letters, signal);
        for (const letter of letters) {
          count += 1;
          byReason[letter.reason] = (byReason[letter.reason] ?? 0) + 1;
          if (examples.length < MAX_EXAMPLES) examples.push(toRefusal(letter));
        }
      },
      async close() {
        await topic?.close();
      },
    },
    count: () => count,
    examples: () => ({ byReason, examples }),
  };
}

function toRefusal({ reason, detail, id, origin, offset }: DeadLetter): Refusal {
  const place = origin.kind === 'kafka' ? `${origin.topic}/${origin.partition}` : origin.path;
  return { reason, detail, id, origin: `${place}@${offset}` };
}

// ---- how fast it may go ----
// With a speed, no event comes before its distance from the first event, divided by the speed; with a throttle, never more than that
// many per second.

/** Events that are due within this time go together: shorter waits cost more than they are worth. */
const TICK_MS = 50;

/** `10x`, `0.5x` or `max`. @throws LogpipeError LOGPIPE_USAGE */
export function parseSpeed(text: string): number {
  if (text === 'max') return Number.POSITIVE_INFINITY;
  const match = /^(\d{1,6}(?:\.\d{1,3})?)x$/.exec(text);
  const speed = Number(match?.[1] ?? 0);
  if (speed > 0) return speed;
  throw new LogpipeError('LOGPIPE_USAGE', `--speed: found ${JSON.stringify(text)}; write 1x, 10x, 0.5x or max`);
}

interface Pace {
  /** How many of the events with these times, in their order, may go at once. At least one. */
  fitting(times: readonly number[], from: number): number;
  /** Resolves when an event of this time is due, and `count` events are within the throttle. */
  wait(timeMs: number, count: number, signal: AbortSignal): Promise<void>;
}

export function createPace(
  options: { speed: number; throttle: number | undefined },
  now: () => number = () => performance.now(),
): Pace {
  const { speed, throttle } = options;
  const most = throttle === undefined ? Number.POSITIVE_INFINITY : Math.max(1, Math.ceil(throttle / 10));
  let first: { eventMs: number; wallMs: number } | undefined;
  let nextFree = Number.NEGATIVE_INFINITY;

  return {
    fitting(times, from) {
      let to = Math.min(times.length, from + most);
      if (speed !== Number.POSITIVE_INFINITY) {
        const horizon = times[from]! + TICK_MS * speed;
        let until = from + 1;
        while (until < to && times[until]! <= horizon) until += 1;
        to = until;
      }
      return to - from;
    },
    async wait(timeMs, count, signal) {
      if (speed !== Number.POSITIVE_INFINITY) {
        first ??= { eventMs: timeMs, wallMs: now() };
        const due = first.wallMs + (timeMs - first.eventMs) / speed;
        await until(due, now, signal);
      }
      if (throttle === undefined) return;
      // Reserved before waiting, because parts of the source that wait side by side share one rate.
      const start = Math.max(nextFree, now());
      nextFree = start + (count * 1_000) / throttle;
      await until(start, now, signal);
    },
  };
}

async function until(due: number, now: () => number, signal: AbortSignal): Promise<void> {
  for (let left = due - now(); left > 0 && !signal.aborted; left = due - now()) {
    await sleep(Math.min(left, 2 ** 31 - 1), signal);
  }
}

// ---- live indexing first ----
// In: the lag of the live indexer's group, asked every few seconds; only offsets are read. When nobody indexes there is nothing to
// yield to.

export const DEFAULT_YIELD_LAG = 5_000;
const LOOK_MS = 2_000;

export interface Yielding {
  /** Resolves when the live pipeline does not need the replay to wait. */
  pass(signal: AbortSignal): Promise<void>;
  /** The highest lag seen, and for how long the replay was held back. */
  seen(): { readonly maxLiveLag: number; readonly heldMs: number; readonly held: boolean };
  close(): Promise<void>;
}

/** A gate that is closed while the lag is above the bound and not shrinking from one look to the next. */
export function createGate(bound: number) {
  let previous: number | undefined;
  return {
    /** Is the gate closed after this look? */
    look(lag: number, alive: boolean): boolean {
      const grows = previous === undefined || lag >= previous;
      previous = lag;
      return alive && lag > bound && grows;
    },
  };
}

export function createYielding(
  config: KafkaConfig,
  options: { bound: number },
  deps: { log: Log; clock: Clock },
): Yielding {
  const { bound } = options;
  const { log, clock } = deps;
  const kafka = createKafka(config, log);
  const gate = createGate(bound);
  const stop = new AbortController();
  let admin: Admin | undefined;
  let closed = false;
  let since = 0;
  let heldMs = 0;
  let maxLiveLag = 0;
  let waiting: (() => void)[] = [];

  const set = (now: boolean) => {
    if (now === closed) return;
    closed = now;
    if (now) since = clock.monotonicMs();
    else {
      heldMs += clock.monotonicMs() - since;
      for (const resolve of waiting.splice(0)) resolve();
    }
  };

  async function look(): Promise<void> {
    if (admin === undefined) {
      const fresh = kafka.admin();
      await fresh.connect();
      admin = fresh;
    }
    const { group, topics } = config;
    const [ends, [committed], { groups }] = await Promise.all([
      admin.fetchTopicOffsets(topics.logs),
      admin.fetchOffsets({ groupId: group, topics: [topics.logs] }),
      admin.describeGroups([group]),
    ]);
    const at = new Map(committed?.partitions.map(({ partition, offset }) => [partition, Number(offset)]));
    let lag = 0;
    for (const { partition, low, high } of ends) lag += Number(high) - Math.max(at.get(partition) ?? 0, Number(low));
    const alive = (groups[0]?.members.length ?? 0) > 0;
    if (alive) maxLiveLag = Math.max(maxLiveLag, lag);
    set(gate.look(lag, alive));
  }

  const looking = (async () => {
    let said = false;
    while (!stop.signal.aborted) {
      try {
        await look();
        said = false;
      } catch (error) {
        // Without an answer it is unknown whether live indexing lags, so the replay goes on.
        set(false);
        await admin?.disconnect().catch(() => {});
        admin = undefined;
        if (!said && !stop.signal.aborted)
          log.warn('the lag of the live indexer is not known; not yielding', { error: errorText(error) });
        said = true;
      }
      await sleep(LOOK_MS, stop.signal);
    }
    await admin?.disconnect().catch(() => {});
  })();

  return {
    async pass(signal) {
      while (closed && !signal.aborted) {
        await new Promise<void>((resolve) => {
          const go = () => {
            signal.removeEventListener('abort', go);
            resolve();
          };
          waiting.push(go);
          signal.addEventListener('abort', go, { once: true });
        });
      }
    },
    seen: () => ({ maxLiveLag, heldMs: heldMs + (closed ? clock.monotonicMs() - since : 0), held: closed }),
    async close() {
      stop.abort();
      set(false);
      waiting = [];
      await looking;
    },
  };
}
