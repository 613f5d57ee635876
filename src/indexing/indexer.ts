// Chunks of raw records -> batches in every sink -> acknowledgements. Owns the in-flight limit and the batch limits.
// Guarantee: a record is acknowledged when all sinks or the dead letters have it, and only then.

import { TAGS } from '../core/catalogue.ts';
import type { Clock } from '../core/clock.ts';
import { sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { Chunk, DeadLetter, DeadLetterReason, DeadLetterSink, RawRecord } from '../core/record.ts';
import type { ParsedEvent, Parser } from '../parse/parse.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import { Batch } from './batch.ts';
import type { BulkConfig } from './bulk-writer.ts';
import type { DocumentWriter } from './document.ts';
import type { Sink } from './sinks.ts';

/** Bookkeeping per record that counts against the in-flight limit: tiny records cost memory too. */
const RECORD_OVERHEAD = 256;
const KNOWN_TAGS: ReadonlySet<string> = new Set(TAGS);
const FIRST_CAPACITY = 1 << 20;
const SINK_RETRY_MS = 1_000;

export interface IndexerDeps {
  readonly parser: Parser;
  readonly tag: (event: ParsedEvent) => TaggedEvent;
  /** The event, or one whose new fields are in `extra` (field-budget.ts). */
  readonly admit?: (event: TaggedEvent) => TaggedEvent;
  readonly documents: DocumentWriter;
  readonly sinks: readonly Sink[];
  readonly deadLetters: DeadLetterSink;
  readonly toDeadLetter: (record: RawRecord, chunk: Chunk, reason: DeadLetterReason, detail: string) => DeadLetter;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
}

export interface Indexer {
  /** The pipeline's `Deliver`: resolves when the in-flight limit allows the next chunk. */
  accept(chunk: Chunk): Promise<void>;
  /** One record to the dead letters; resolves when it is durable. */
  bury(record: RawRecord, chunk: Chunk, reason: DeadLetterReason, detail: string, signal: AbortSignal): Promise<void>;
  /** Sends what is buffered and waits for everything under way; false when `deadlineMs` ran out first. */
  drain(deadlineMs: number): Promise<boolean>;
  inFlightBytes(): number;
}

export function createIndexer(config: BulkConfig, deps: IndexerDeps): Indexer {
  const { metrics, log, clock } = deps;
  const stop = new AbortController();
  const waiting: Batch[] = [];
  const pool: Batch[] = [];
  const idle: (() => void)[] = [];
  const capacity: (() => void)[] = [];
  let current: Batch | undefined;
  let cancelTimer: (() => void) | undefined;
  let active = 0;
  let burying = 0;
  let inFlight = 0;

  async function accept(chunk: Chunk): Promise<void> {
    metrics.consumed.inc(chunk.records.length);
    metrics.consumedBytes.inc(chunk.bytes);
    inFlight += chunk.bytes + chunk.records.length * RECORD_OVERHEAD;
    for (const record of chunk.records) process(record, chunk);
    metrics.inFlightBytes.set(inFlight);
    if (inFlight > config.maxInFlightBytes) {
      // What waits for company would keep the limit reached.
      flush();
      metrics.paused.set({ reason: 'in_flight' }, 1);
      while (inFlight > config.maxInFlightBytes && !stop.signal.aborted) {
        await new Promise<void>((resolve) => capacity.push(resolve));
      }
      metrics.paused.set({ reason: 'in_flight' }, 0);
    }
  }

  function process(record: RawRecord, chunk: Chunk): void {
    const result = deps.parser.parse(record);
    if (!result.ok) {
      startBurying(record, chunk, result.reason, result.detail);
      return;
    }
    const tagged = deps.tag(result.event);
    const event = deps.admit === undefined ? tagged : deps.admit(tagged);
    if (current === undefined) open();
    const batch = current!;
    try {
      deps.documents.append(batch, event, record, chunk);
    } catch {
      // Nested deeper than can be serialised: only what the catalogue knows can be kept in place.
      try {
        const doc = deps.parser.degrade(event.doc);
        const tags = [...event.tags, '_mapping_degraded'];
        deps.documents.append(batch, { ...event, doc, tags, verbatim: false }, record, chunk);
      } catch (error) {
        startBurying(record, chunk, 'processing_failed', errorText(error));
        return;
      }
    }
    if (event.tags.length > 0) for (const tag of event.tags) countTag(tag);
    if (batch.length >= config.maxBytes || batch.count >= config.maxDocuments) flush();
  }

  function countTag(tag: string): void {
    // Producers' own tags are free text and no label.
    if (tag === 'error' || tag.charCodeAt(0) === 95) metrics.tagged.inc({ tag: KNOWN_TAGS.has(tag) ? tag : 'other' });
  }

  function open(): void {
    current = pool.pop() ?? new Batch(FIRST_CAPACITY);
    cancelTimer = clock.after(config.maxDelayMs, flush);
  }

  function flush(): void {
    cancelTimer?.();
    cancelTimer = undefined;
    if (current === undefined || current.count === 0) return;
    waiting.push(current);
    current = undefined;
    next();
  }

  function next(): void {
    while (active < config.concurrency && waiting.length > 0) {
      active += 1;
      void write(waiting.shift()!);
    }
    if (active === 0 && burying === 0 && waiting.length === 0) for (const resolve of idle.splice(0)) resolve();
  }

  async function write(batch: Batch): Promise<void> {
    try {
      await Promise.all(deps.sinks.map((sink) => writeTo(sink, batch)));
      acknowledge(batch);
      release(batch.consumedBytes + batch.count * RECORD_OVERHEAD);
      if (pool.length <= config.concurrency) {
        batch.clear();
        pool.push(batch);
      }
    } catch (error) {
      // Only an abort ends a sink's efforts: the records stay unacknowledged and are delivered again after a restart.
      log.warn('A batch was given up at shutdown; its records will be delivered again', { reason: errorText(error) });
    } finally {
      active -= 1;
      next();
    }
  }

  async function writeTo(sink: Sink, batch: Batch): Promise<void> {
    for (;;) {
      try {
        return await sink.write(batch, stop.signal);
      } catch (error) {
        if (stop.signal.aborted) throw error;
        metrics.paused.set({ reason: 'sink' }, 1);
        log.error(`Sink ${sink.name}: writing failed, trying again`, { reason: errorText(error) });
        await sleep(SINK_RETRY_MS, stop.signal);
        metrics.paused.set({ reason: 'sink' }, 0);
      }
    }
  }

  function acknowledge(batch: Batch): void {
    const { items } = batch;
    for (let start = 0; start < items.length; ) {
      const { chunk } = items[start]!;
      let end = start + 1;
      while (end < items.length && items[end]!.chunk === chunk) end += 1;
      chunk.done(end - start);
      start = end;
    }
  }

  function release(bytes: number): void {
    inFlight -= bytes;
    metrics.inFlightBytes.set(inFlight);
    if (inFlight <= config.maxInFlightBytes) for (const resolve of capacity.splice(0)) resolve();
  }

  function startBurying(record: RawRecord, chunk: Chunk, reason: DeadLetterReason, detail: string): void {
    burying += 1;
    bury(record, chunk, reason, detail, stop.signal)
      .then(
        () => {
          chunk.done(1);
          release((record.value?.length ?? 0) + RECORD_OVERHEAD);
        },
        (error) => log.warn('A dead letter was given up at shutdown', { reason: errorText(error) }),
      )
      .finally(() => {
        burying -= 1;
        next();
      });
  }

  async function bury(
    record: RawRecord,
    chunk: Chunk,
    reason: DeadLetterReason,
    detail: string,
    signal: AbortSignal,
  ): Promise<void> {
    await deps.deadLetters.put([deps.toDeadLetter(record, chunk, reason, detail)], signal);
    metrics.deadLettered.inc({ reason });
  }

  return {
    accept,
    bury,
    inFlightBytes: () => inFlight,
    async drain(deadlineMs) {
      flush();
      if (active === 0 && burying === 0 && waiting.length === 0) return true;
      const finished = new Promise<true>((resolve) => idle.push(() => resolve(true)));
      // A source that has ended is waited for without a deadline (timers know no infinity).
      if (deadlineMs === Number.POSITIVE_INFINITY) return finished;
      const expired = new AbortController();
      const late = sleep(deadlineMs, expired.signal).then(() => false);
      const done = await Promise.race([finished, late]);
      expired.abort();
      if (!done) {
        waiting.length = 0;
        stop.abort(new Error('the shutdown deadline has passed'));
        for (const resolve of capacity.splice(0)) resolve();
      }
      return done;
    },
  };
}
