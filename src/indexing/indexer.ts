// Chunks of raw records -> batches in every sink -> acknowledgements. Owns the in-flight limit and the batch limits. Guarantee: a
// record is acknowledged once, and only when all sinks or the dead letters have it; whatever it contains, the records after it go
// on. What a sink sets aside leaves its batch and waits by itself, within bounds.

import { TAGS } from '../core/catalogue.ts';
import { type Clock, endsWithin, sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import {
  type Chunk,
  type DeadLetter,
  type DeadLetterReason,
  type DeadLetterSink,
  lengthOf,
  type RawRecord,
} from '../core/record.ts';
import { keepsAll } from '../parse/json.ts';
import type { ParsedEvent } from '../parse/parse.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import type { TransformingParser } from '../transform/transform.ts';
import { apart, Batch, type BatchItem, type DocumentWriter, RECORD_OVERHEAD, weightOf } from './batch.ts';
import type { BulkConfig } from './bulk-writer.ts';
import { identityOf } from './dead-letters.ts';
import type { FieldBudget } from './field-budget.ts';
import type { SetAside, Sink } from './sinks.ts';

const KNOWN_TAGS: ReadonlySet<string> = new Set(TAGS);
const FIRST_CAPACITY = 1 << 20;
const RETRY_MS = 1_000;
/** What is set aside may take up this share of the bytes in flight, ... */
const SET_ASIDE_SHARE = 1 / 4;
/** ... and hold back the committed offset by this much log, which is what a restart reads again. */
const SET_ASIDE_SPAN_MS = 15 * 60_000;

export interface IndexerDeps {
  readonly parser: TransformingParser;
  readonly tag: (event: ParsedEvent) => TaggedEvent;
  /** How many fields an index may have; absent where nothing limits them. */
  readonly fields?: Pick<FieldBudget, 'admits' | 'move'>;
  readonly documents: DocumentWriter;
  readonly sinks: readonly Sink[];
  readonly deadLetters: DeadLetterSink;
  readonly toDeadLetter: (record: RawRecord, chunk: Chunk, reason: DeadLetterReason, detail: string) => DeadLetter;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
}

export interface Indexer {
  /** The pipeline's `Deliver`: resolves when the limits allow the next chunk. Never rejects. */
  accept(chunk: Chunk): Promise<void>;
  /** One record to the dead letters; resolves when it is durable, rejects only when `signal` aborts. */
  bury(record: RawRecord, chunk: Chunk, reason: DeadLetterReason, detail: string, signal: AbortSignal): Promise<void>;
  /**
   * Sends what is buffered and waits for everything under way. True when every record taken is acknowledged; false when
   * `deadlineMs` ran out first, or when one was given up.
   */
  drain(deadlineMs: number): Promise<boolean>;
  inFlightBytes(): number;
  /** Shows each batch once the sinks are done with it; undefined: to nobody. What is shown may be read during the call alone. */
  showTo(watcher: ((batch: Batch) => void) | undefined): void;
  /** What it waits for, in words, as far as the sinks do not report it; undefined while all is well. */
  trouble(): string | undefined;
}

/** A record that waits outside of any batch. */
interface Waiting {
  readonly origin: string;
  readonly timeMs: number;
  readonly weight: number;
}

export function createIndexer(config: BulkConfig, deps: IndexerDeps): Indexer {
  const { metrics, log, clock } = deps;
  const stop = new AbortController();
  const queue: Batch[] = [];
  const pool: Batch[] = [];
  const idle: (() => void)[] = [];
  const capacity: (() => void)[] = [];
  const setAside = new Set<Waiting>();
  /** The newest record time seen, by origin; kept while something is set aside. */
  const newest = new Map<string, number>();
  let current: Batch | undefined;
  let cancelTimer: (() => void) | undefined;
  let active = 0;
  let failingSinks = 0;
  let sinkTrouble: string | undefined;
  let inFlight = 0;
  let setAsideBytes = 0;
  let unsettled = 0;
  /** What steps of the configuration keep from the index, of the chunk that is being accepted. */
  let dropped = 0;
  let droppedBytes = 0;
  /** Logged only once until nothing is set aside any more: the limit may be reached again with every chunk. */
  let saidSetAside = false;
  let paused: 'in_flight' | 'set_aside' | undefined;
  let watcher: ((batch: Batch) => void) | undefined;

  async function accept(chunk: Chunk): Promise<void> {
    const { records } = chunk;
    metrics.consumed.inc(records.length);
    metrics.consumedBytes.inc(chunk.bytes);
    // Counted all together first: a record may be settled before the next one is processed.
    inFlight += chunk.bytes + records.length * RECORD_OVERHEAD;
    unsettled += records.length;
    for (let i = 0; i < records.length; i++) process(records.at(i)!, chunk, i);
    if (dropped > 0) settleDropped(chunk);
    metrics.inFlightBytes.set(inFlight);
    if (setAside.size > 0 && records.length > 0) {
      const origin = originKey(chunk);
      newest.set(origin, Math.max(newest.get(origin) ?? 0, records.at(records.length - 1)!.timeMs));
    }
    if (limitReached() !== undefined) await untilBelowLimits();
  }

  function limitReached(): typeof paused {
    if (inFlight > config.maxInFlightBytes) return 'in_flight';
    if (setAsideBytes > config.maxInFlightBytes * SET_ASIDE_SHARE) return 'set_aside';
    for (const { origin, timeMs } of setAside) {
      if ((newest.get(origin) ?? timeMs) - timeMs > SET_ASIDE_SPAN_MS) return 'set_aside';
    }
    return undefined;
  }

  async function untilBelowLimits(): Promise<void> {
    // A batch that is still filling would keep the limit reached.
    flush();
    const alive = keepAlive();
    for (let reason = limitReached(); reason !== undefined && !stop.signal.aborted; reason = limitReached()) {
      if (paused !== reason) {
        showPaused(reason);
        if (reason === 'set_aside' && !saidSetAside) {
          saidSetAside = true;
          log.warn('The intake pauses: too much waits for indices that take no documents, or for dead letters', {
            records: setAside.size,
            bytes: setAsideBytes,
          });
        }
      }
      await new Promise<void>((resolve) => capacity.push(resolve));
    }
    showPaused(undefined);
    alive();
  }

  function showPaused(reason: typeof paused): void {
    if (paused !== undefined) metrics.paused.set({ reason: paused }, 0);
    if (reason !== undefined) metrics.paused.set({ reason }, 1);
    paused = reason;
  }

  /** A document that is written anew may be less than the record's bytes held: large numbers, keys given twice. */
  function complete(event: TaggedEvent, record: RawRecord, chunk: Chunk): TaggedEvent {
    if (!event.verbatim || keepsAll(record.value!.toString(), event.doc)) return event;
    const again = deps.parser.reparse(record, chunk);
    return again.ok ? deps.tag(again.event) : event;
  }

  function process(record: RawRecord, chunk: Chunk, position: number): void {
    let event: TaggedEvent;
    try {
      const result = deps.parser.parse(record, chunk);
      if (!result.ok) {
        if (result.reason === 'configured') {
          dropped += 1;
          droppedBytes += weightOf(record);
          return;
        }
        startBurying(record, chunk, result.reason, result.detail);
        return;
      }
      const tagged = deps.tag(result.event);
      event = deps.fields?.admits(tagged) === false ? deps.fields.move(complete(tagged, record, chunk)) : tagged;
      current ??= pool.pop() ?? new Batch(FIRST_CAPACITY);
      append(current, event, record, chunk, position);
    } catch (error) {
      startBurying(record, chunk, 'processing_failed', wordsOf(error));
      return;
    }
    const batch = current;
    batch.consumedBytes += lengthOf(record);
    // The timer starts with the first item: an empty batch is never late.
    if (batch.count === 1) cancelTimer = clock.after(config.maxDelayMs, flush);
    if (event.tags.length > 0) for (const tag of event.tags) countTag(tag);
    if (batch.length >= config.maxBytes || batch.count >= config.maxDocuments) flush();
  }

  function append(batch: Batch, event: TaggedEvent, record: RawRecord, chunk: Chunk, position: number): void {
    try {
      deps.documents.append(batch, event, record, chunk, position);
    } catch {
      // Nested deeper than can be serialised: only fields of the catalogue can stay in place.
      const doc = deps.parser.degrade(event.doc);
      const tags = [...event.tags, '_mapping_degraded'];
      deps.documents.append(batch, { ...event, doc, tags, verbatim: false }, record, chunk, position);
    }
  }

  /** They are accounted for, and nobody waits for them. */
  function settleDropped(chunk: Chunk): void {
    metrics.dropped.inc({ reason: 'configured' }, dropped);
    acknowledge(chunk, dropped);
    release(droppedBytes);
    dropped = 0;
    droppedBytes = 0;
  }

  function countTag(tag: string): void {
    // Producers' own tags are free text, not a label.
    if (tag === 'error' || tag.charCodeAt(0) === 95) metrics.tagged.inc({ tag: KNOWN_TAGS.has(tag) ? tag : 'other' });
  }

  function flush(): void {
    cancelTimer?.();
    cancelTimer = undefined;
    if (current === undefined || current.count === 0) return;
    queue.push(current);
    current = undefined;
    next();
  }

  function next(): void {
    while (active < config.concurrency && queue.length > 0) {
      active += 1;
      void write(queue.shift()!);
    }
    if (isIdle()) for (const resolve of idle.splice(0)) resolve();
  }

  function isIdle(): boolean {
    return active === 0 && queue.length === 0 && setAside.size === 0;
  }

  async function write(batch: Batch): Promise<void> {
    try {
      const parts = await Promise.all(deps.sinks.map((sink) => writeTo(sink, batch)));
      settle(
        batch,
        parts.flatMap((part) => part ?? []),
      );
      if (watcher !== undefined) show(batch, watcher);
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

  function show(batch: Batch, to: (batch: Batch) => void): void {
    try {
      to(batch);
    } catch (error) {
      if (watcher !== to) return;
      watcher = undefined;
      log.error('Who watches what is indexed has failed, and is shown no more', { reason: wordsOf(error) });
    }
  }

  async function writeTo(sink: Sink, batch: Batch): Promise<readonly SetAside[] | undefined> {
    let said: string | undefined;
    const failing = (change: 1 | -1) => {
      failingSinks += change;
      metrics.paused.set({ reason: 'sink' }, failingSinks > 0 ? 1 : 0);
    };
    for (;;) {
      try {
        const setAside = await sink.write(batch, stop.signal);
        if (said !== undefined) failing(-1);
        return setAside;
      } catch (error) {
        if (stop.signal.aborted) throw error;
        const reason = wordsOf(error);
        if (said === undefined) failing(1);
        sinkTrouble = `sink ${sink.name}: ${reason}`;
        if (said !== reason) log.error(`Sink ${sink.name}: writing failed, trying until it succeeds`, { reason });
        said = reason;
        await sleep(RETRY_MS, stop.signal);
      }
    }
  }

  /** The batch is written, except for what was set aside. */
  function settle(batch: Batch, waiting: readonly SetAside[]): void {
    const { count } = batch;
    let bytes = batch.consumedBytes + count * RECORD_OVERHEAD;
    if (waiting.length === 0) {
      for (let start = 0; start < count; ) {
        const chunk = batch.chunk(start);
        let end = start + 1;
        while (end < count && batch.chunk(end) === chunk) end += 1;
        acknowledge(chunk, end - start);
        start = end;
      }
      release(bytes);
      return;
    }
    const byPosition = new Map<number, SetAside[]>();
    for (const one of waiting) byPosition.set(one.position, [...(byPosition.get(one.position) ?? []), one]);
    for (let position = 0; position < count; position++) {
      const entries = byPosition.get(position);
      if (entries === undefined) acknowledge(batch.chunk(position), 1);
      else {
        bytes -= weightOf(entries[0]!.item.record);
        keep(entries[0]!.item, Promise.all(entries.map(({ settled }) => settled)));
      }
    }
    release(bytes);
  }

  /** Accounts for a record that waits outside of any batch; `item` has its own copy of the bytes. */
  function keep(item: BatchItem, settled: Promise<unknown>): void {
    const { record, chunk } = item;
    const waiting: Waiting = { origin: originKey(chunk), timeMs: record.timeMs, weight: weightOf(record) };
    setAside.add(waiting);
    setAsideBytes += waiting.weight;
    const leave = () => {
      setAside.delete(waiting);
      setAsideBytes -= waiting.weight;
      if (setAside.size > 0) return;
      newest.clear();
      saidSetAside = false;
    };
    settled
      .catch((error) => {
        if (stop.signal.aborted) throw error;
        return bury(record, chunk, 'processing_failed', wordsOf(error), stop.signal);
      })
      .then(
        () => {
          leave();
          acknowledge(chunk, 1);
          release(waiting.weight);
        },
        (error) => {
          leave();
          log.warn('A record was given up at shutdown; it will be delivered again', { reason: wordsOf(error) });
        },
      )
      .finally(next);
  }

  function acknowledge(chunk: Chunk, count: number): void {
    unsettled -= count;
    try {
      chunk.done(count);
    } catch (error) {
      log.error('The source refused an acknowledgement; the records will be delivered again', {
        reason: errorText(error),
      });
    }
  }

  function release(bytes: number): void {
    inFlight -= bytes;
    metrics.inFlightBytes.set(inFlight);
    for (const resolve of capacity.splice(0)) resolve();
  }

  function startBurying(record: RawRecord, chunk: Chunk, reason: DeadLetterReason, detail: string): void {
    const item = apart({ record, chunk });
    keep(item, bury(item.record, item.chunk, reason, detail, stop.signal));
  }

  async function bury(
    record: RawRecord,
    chunk: Chunk,
    reason: DeadLetterReason,
    detail: string,
    signal: AbortSignal,
  ): Promise<void> {
    let letter = letterOf(record, chunk, reason, detail);
    for (let attempt = 0; ; attempt++) {
      try {
        await deps.deadLetters.put([letter], signal);
        break;
      } catch (error) {
        signal.throwIfAborted();
        // The sink waits by itself for as long as it takes, so it is this letter that cannot be written as it is.
        const words = wordsOf(error);
        if (attempt === 0)
          log.error('A dead letter could not be written; it goes without its value', { reason, error: words });
        else await sleep(RETRY_MS, signal);
        letter = bareLetter(record, chunk, reason);
      }
    }
    // Whoever redrives is told; a repair that did not help must wake nobody.
    (record.redriven === undefined ? metrics.deadLettered : metrics.diedAgain).inc({ reason });
  }

  function letterOf(record: RawRecord, chunk: Chunk, reason: DeadLetterReason, detail: string): DeadLetter {
    try {
      return deps.toDeadLetter(record, chunk, reason, detail);
    } catch (error) {
      log.error('A dead letter could not be made; it goes without its value', { reason, error: wordsOf(error) });
      return bareLetter(record, chunk, reason);
    }
  }

  return {
    accept,
    bury,
    inFlightBytes: () => inFlight,
    showTo(next) {
      watcher = next;
    },
    trouble() {
      if (failingSinks > 0) return sinkTrouble;
      return paused === 'set_aside' ? 'the intake pauses: too much waits to be indexed or buried' : undefined;
    },
    async drain(deadlineMs) {
      flush();
      if (isIdle()) return unsettled === 0;
      const alive = keepAlive();
      const finished = new Promise<void>((resolve) => idle.push(resolve));
      // After a source that has ended, this waits without a deadline.
      const done = await endsWithin(finished, deadlineMs);
      alive();
      if (!done) {
        queue.length = 0;
        stop.abort(new Error('the shutdown deadline has passed'));
        for (const resolve of capacity.splice(0)) resolve();
      }
      return done && unsettled === 0;
    },
  };
}

function originKey({ origin }: Pick<Chunk, 'origin'>): string {
  return origin.kind === 'kafka' ? `${origin.topic}/${origin.partition}` : origin.path;
}

/** A letter without its value and without anybody else's words, since either may be what failed. */
function bareLetter(record: RawRecord, chunk: Chunk, reason: DeadLetterReason): DeadLetter {
  const bytes = record.value?.length ?? 0;
  return {
    reason,
    detail: `left out, because it could not be masked or written: the value (${bytes} bytes) and the text of the refusal`,
    value: null,
    ...identityOf(record, chunk),
  };
}

/** The text of whatever was thrown. */
function wordsOf(error: unknown): string {
  try {
    return errorText(error);
  } catch {
    return 'an error that cannot be read';
  }
}

/** Timers of the stages do not keep the process alive; what waits here must. */
function keepAlive(): () => void {
  const timer = setInterval(() => {}, 2 ** 30);
  return () => clearInterval(timer);
}
