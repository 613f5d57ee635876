// Batches -> Elasticsearch. In: a batch. Out: each of its items indexed, found to be a duplicate, in the dead letters, or set
// aside until it is one of these. Guarantee: an item is never given up for a fault that is not its own; nothing is acknowledged
// on a doubtful reply; an index that takes no documents holds up only its own.
//
// Two kinds of trouble. A fault of the *path* (no connection, a gateway's page, 401, 503) concerns the request: its batch waits
// and is sent again. A fault of an *index* concerns documents: those wait in its queue, and the batch is done. As long as the
// index will not recover by itself, further documents for it join the queue unsent, and one of them is tried now and then.

import type { Client } from '@elastic/elasticsearch';
import { backoffMs, type Clock, sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { DeadLetterReason } from '../core/record.ts';
import type { ParsedEvent } from '../parse/parse.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import type { TransformingParser } from '../transform/transform.ts';
import { apart, type Batch, type BatchItem, type DocumentWriter } from './batch.ts';
import { type BulkReply, isTimeout, type SendBulk } from './elasticsearch.ts';
import {
  type BulkItemError,
  classifyItem,
  classifyStatus,
  errorWords,
  type FailureReason,
  refusalKind,
  refusalOf,
} from './outcome.ts';
import type { SetAside, Sink } from './sinks.ts';

export const bulkSection = {
  type: 'object',
  description: 'How documents are sent.',
  additionalProperties: false,
  default: {},
  properties: {
    maxBytes: {
      type: 'integer',
      minimum: 10_000,
      maximum: 50_000_000,
      default: 5_000_000,
      description: 'A bulk request is sent once it holds this many bytes.',
    },
    maxDocuments: {
      type: 'integer',
      minimum: 1,
      maximum: 50_000,
      default: 2_000,
      description: 'A bulk request is sent once it holds this many documents.',
    },
    maxDelayMs: {
      type: 'integer',
      minimum: 1,
      maximum: 60_000,
      default: 1_000,
      description: 'A bulk request is sent no later than this after its first document arrived.',
    },
    concurrency: {
      type: 'integer',
      minimum: 1,
      maximum: 32,
      default: 3,
      description: 'Bulk requests under way at the same time. Each index with documents set aside may have one more.',
    },
    maxInFlightBytes: {
      type: 'integer',
      minimum: 100_000,
      default: 6_000_000,
      description:
        'The intake pauses while more bytes of records than this are not yet accounted for, or while more than a quarter of this is set aside for indices that take no documents.',
    },
    backoffMs: {
      type: 'integer',
      minimum: 1,
      default: 200,
      description: 'First wait before sending again; doubles each time.',
    },
    maxBackoffMs: { type: 'integer', minimum: 1, default: 30_000, description: 'Longest wait before sending again.' },
    maxRejectionsPerMinute: {
      type: 'integer',
      minimum: 1,
      default: 1_000,
      description:
        'If more documents than this are refused in a minute, over all indices, the rest wait and an error is logged.',
    },
  },
} as const;

export interface BulkConfig {
  readonly maxBytes: number;
  readonly maxDocuments: number;
  readonly maxDelayMs: number;
  readonly concurrency: number;
  readonly maxInFlightBytes: number;
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  readonly maxRejectionsPerMinute: number;
}

/** When this many documents in a row are refused for one index and one reason, the cause is not in the documents. */
const REFUSALS_IN_A_ROW = 50;
/** How often one document is tried while an index refuses all. */
const PROBE_MS = 30_000;
const MINUTE_MS = 60_000;
/** How many indices `trouble` names. */
const MAX_NAMED = 3;
/** Reasons that concern all documents for an index. Any other may concern single ones. */
const OF_THE_INDEX: ReadonlySet<FailureReason> = new Set([
  'read_only',
  'index_closed',
  'index_missing',
  'shard_limit',
  'forbidden',
  'refused_in_a_row',
]);
const NO_BYTES = Buffer.alloc(0);

export interface BulkWriterDeps {
  readonly send: SendBulk;
  /** The item with its unmappable values moved away, or undefined when there is nothing left to try. */
  readonly degrade: (item: BatchItem) => Buffer | undefined;
  /** Takes what the server refused for good; resolves when it is durable. */
  readonly deadLetter: (
    item: BatchItem,
    reason: DeadLetterReason,
    detail: string,
    signal: AbortSignal,
  ) => Promise<void>;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
  /** A number in [0, 1) for the jitter. */
  readonly random: () => number;
}

interface BulkWriter {
  /**
   * Resolves when every item is accounted for or set aside; after that the batch is no longer read. Rejects only when `signal`
   * aborts, and then nothing may be acknowledged.
   */
  write(batch: Batch, signal: AbortSignal): Promise<readonly SetAside[]>;
  /** What the writer waits for, and for which index; undefined while all is well. */
  trouble(): string | undefined;
}

/** Why a request or an item has to wait. */
interface Wait {
  readonly reason: FailureReason;
  readonly detail: string;
  /** True when it will not recover by itself soon. */
  readonly alarm: boolean;
}

/** What the items of one `write` share. */
interface Job {
  readonly signal: AbortSignal;
  readonly setAside: SetAside[];
}

/** An item still to be settled. */
interface Open {
  readonly job: Job;
  readonly position: number;
  item: BatchItem;
  bytes: Buffer;
  /** The bytes before degrading. */
  original?: Buffer;
  /** Present once the item is set aside. */
  promise?: { readonly resolve: () => void; readonly reject: (error: unknown) => void };
  /** Present once a request with it was refused for its size: true when a smaller request has been accepted since. */
  smallerTaken?: boolean;
  /** It was refused for good before: one document that is refused again and again must not count as many. */
  counted?: boolean;
}

/** What a request left open. */
interface Round {
  /** To be sent in the next round: at once, or as `wait` says. */
  readonly open: Open[];
  readonly wait?: Wait;
  /** Documents that were refused for their size when sent alone. */
  readonly tooLarge: Open[];
}

/** Documents that wait for one index. */
interface Queue {
  readonly key: string;
  readonly index: string;
  readonly signal: AbortSignal;
  entries: Open[];
  /** Further documents for the index are not sent at all. */
  holding: boolean;
  /** The index refuses one document after another: one is tried every 30 s. */
  probing: boolean;
  /** Something was put back since the last attempt. */
  again: boolean;
  /** The index took one of these since the last attempt. */
  moved: boolean;
}

interface Trouble {
  /** Undefined for the path. */
  readonly index: string | undefined;
  reason: FailureReason;
  readonly since: number;
  documents: number;
  /** Reasons already logged. */
  readonly said: Set<FailureReason>;
}

export function createBulkWriter(config: BulkConfig, deps: BulkWriterDeps): BulkWriter {
  const { metrics, log, clock } = deps;
  const queues = new Map<string, Queue>();
  /** By queue; the path's trouble has the empty key. */
  const troubles = new Map<string, Trouble>();
  const streaks = new Map<string, { kind: string; count: number }>();
  const large = new Set<Open>();
  /** Requests that wait for the path. */
  let waiting = 0;
  let rejected = 0;

  async function write(batch: Batch, signal: AbortSignal): Promise<readonly SetAside[]> {
    const job: Job = { signal, setAside: [] };
    const all = (): Open[] =>
      Array.from({ length: batch.count }, (_, position) => {
        return { job, position, item: batch.source(position), bytes: batch.item(position) };
      });
    if (isHolding()) {
      const open = all().filter((entry) => !hold(entry));
      if (open.length > 0) await deliver(open.length, bodyOf(open), () => open, signal);
    } else {
      // The batch's buffer is sent as it is, and after a clean answer no single item is looked at.
      await deliver(batch.count, batch.body(), all, signal);
    }
    return job.setAside;
  }

  /** Sends until every entry is settled or set aside. Faults of the path are waited out here. */
  async function deliver(count: number, body: Buffer, list: () => Open[], signal: AbortSignal): Promise<void> {
    let stuck = false;
    try {
      let round = await sendRound(count, body, list, signal);
      for (let attempt = 0; ; ) {
        const open = [...round.open, ...round.tooLarge.filter(judgeLarge)];
        if (round.wait === undefined) {
          if (stuck && --waiting === 0) end('');
          stuck = false;
          attempt = 0;
        } else {
          if (!stuck) waiting += 1;
          report('', round.wait, stuck ? 0 : open.length);
          stuck = true;
          await pause(backoff(++attempt), signal);
        }
        if (open.length === 0) return;
        round = await sendOpen(open, signal);
      }
    } finally {
      if (stuck) waiting -= 1;
    }
  }

  function sendOpen(open: Open[], signal: AbortSignal): Promise<Round> {
    return sendRound(open.length, bodyOf(open), () => open, signal);
  }

  /** One request of `count` items and what follows from it; `list` names the items and is called only on trouble. */
  async function sendRound(count: number, body: Buffer, list: () => Open[], signal: AbortSignal): Promise<Round> {
    signal.throwIfAborted();
    const started = performance.now();
    let reply: BulkReply;
    try {
      reply = await deps.send(body, signal);
    } catch (error) {
      signal.throwIfAborted();
      const reason = isTimeout(error) ? 'timeout' : 'unreachable';
      metrics.bulkSeconds.observe({ result: 'failed' }, (performance.now() - started) / 1000);
      return retryAll(list(), { reason, detail: errorText(error), alarm: true });
    }
    const answered = reply.status === 200 && reply.foreign !== true;
    metrics.bulkSeconds.observe({ result: answered ? 'answered' : 'refused' }, (performance.now() - started) / 1000);
    metrics.bulkDocuments.observe(count);

    if (!answered) {
      const refusal = refusalOf(reply);
      if (refusal !== 'path') return halve(list(), refusal, reply, signal);
      const { reason, alarm } = classifyStatus(reply.status, reply.foreign);
      return retryAll(list(), { reason: reason as FailureReason, detail: reply.detail, alarm });
    }
    if (reply.items.length !== count) {
      const detail = `${count} items were sent, the reply has ${reply.items.length}`;
      return retryAll(list(), { reason: 'count_mismatch', detail, alarm: true });
    }
    // That a document alone is too large is proven only when something smaller gets through.
    for (const entry of large) if (body.length < entry.bytes.length) entry.smallerTaken = true;
    if (reply.items.every((item) => item.status === 201)) {
      metrics.indexed.inc({ sink: 'elasticsearch' }, count);
      if (isWatching()) for (const entry of list()) accepted(entry);
      return NOTHING_LEFT;
    }
    return settle(list(), reply);
  }

  function settle(open: Open[], reply: BulkReply): Round {
    let indexed = 0;
    let duplicates = 0;
    const still: Open[] = [];
    open.forEach((entry, i) => {
      const item = reply.items[i]!;
      const verdict = classifyItem(item);
      switch (verdict.outcome) {
        case 'indexed':
          indexed += 1;
          accepted(entry);
          break;
        case 'duplicate':
          duplicates += 1;
          accepted(entry);
          break;
        case 'rejected':
          if (refuse(entry, 'document_refused', errorWords(item.error), item.error) === 'again') still.push(entry);
          break;
        case 'retry': {
          const reason = verdict.reason as FailureReason;
          metrics.retried.inc({ reason });
          // An unknown error may quote the document.
          const detail = reason === 'unknown_refusal' ? refusalKind(item.error) : errorWords(item.error);
          enqueue(entry, { reason, detail, alarm: verdict.alarm });
        }
      }
    });
    metrics.indexed.inc({ sink: 'elasticsearch' }, indexed);
    metrics.duplicates.inc(duplicates);
    return { open: still, tooLarge: [] };
  }

  /** The whole request was refused for what it holds: halving it finds the document that is to blame. */
  async function halve(open: Open[], about: 'body' | 'size', reply: BulkReply, signal: AbortSignal): Promise<Round> {
    if (about === 'size') {
      if (open.length === 1 && open[0]!.smallerTaken === true) {
        const { bytes } = open[0]!;
        refuse(open[0]!, 'too_large', `a request of ${bytes.length} bytes with this document alone was refused`);
        return NOTHING_LEFT;
      }
      for (const entry of open) {
        entry.smallerTaken ??= false;
        large.add(entry);
      }
    }
    if (open.length > 1) {
      const middle = open.length >> 1;
      metrics.retried.inc({ reason: 'request_too_large' }, open.length);
      const first = await sendOpen(open.slice(0, middle), signal);
      const second = await sendOpen(open.slice(middle), signal);
      const wait = first.wait ?? second.wait;
      const both = { open: [...first.open, ...second.open], tooLarge: [...first.tooLarge, ...second.tooLarge] };
      return wait === undefined ? both : { ...both, wait };
    }
    const [entry] = open as [Open];
    if (about === 'size') return { open: [], tooLarge: open };
    const detail = `HTTP ${reply.status}: ${reply.detail}`;
    const again = refuse(entry, 'document_refused', detail, reply.error) === 'again';
    return { open: again ? open : [], tooLarge: [] };
  }

  /**
   * A document refused for its size, alone: tried once more if something smaller got through meanwhile; else it is the path's
   * fault.
   */
  function judgeLarge(entry: Open): boolean {
    metrics.retried.inc({ reason: 'request_too_large' });
    if (entry.smallerTaken === true) return true;
    const detail = `a single document of ${entry.bytes.length} bytes is refused`;
    enqueue(entry, { reason: 'request_too_large', detail, alarm: true });
    return false;
  }

  /**
   * Handles a refused document: degrades it ('again': to be sent once more), or buries it, unless there are so many refusals that
   * the cause lies elsewhere. What came back from the dead letters is buried in any case and says nothing about the index: it was
   * refused before, and whoever redrives before the repair must not hold up live documents.
   */
  function refuse(entry: Open, reason: DeadLetterReason, detail: string, error?: BulkItemError): 'again' | undefined {
    if (entry.original === undefined && reason === 'document_refused') {
      entry.original = entry.bytes;
      const bytes = degraded(entry.item);
      if (bytes !== undefined) {
        entry.bytes = bytes;
        metrics.degraded.inc();
        return 'again';
      }
    }
    if (entry.item.record.mark === 'redriven') {
      forgetSize(entry);
      bury(entry, reason, detail);
      return undefined;
    }
    const index = indexOf(entry);
    const kind = reason === 'too_large' ? reason : refusalKind(error);
    const inARow = entry.counted === true ? 0 : countRefusal(index, kind);
    entry.counted = true;
    forgetSize(entry);
    if (inARow > REFUSALS_IN_A_ROW || queues.get(index)?.probing === true) {
      metrics.retried.inc({ reason: 'refused_in_a_row' });
      // Back to its original form: once the index takes documents again, nothing need have been moved.
      entry.bytes = entry.original ?? entry.bytes;
      delete entry.original;
      enqueue(entry, { reason: 'refused_in_a_row', detail: kind, alarm: true });
    } else if (rejected >= config.maxRejectionsPerMinute) {
      metrics.retried.inc({ reason: 'too_many_rejections' });
      enqueue(entry, { reason: 'too_many_rejections', detail: kind, alarm: true });
    } else {
      // A timer, because a minute by the wall clock may last an hour.
      if (rejected === 0) clock.after(MINUTE_MS, () => (rejected = 0));
      rejected += 1;
      bury(entry, reason, detail);
    }
    return undefined;
  }

  /** How many documents in a row the index has refused for this reason. */
  function countRefusal(index: string, kind: string): number {
    const streak = streaks.get(index);
    const count = streak?.kind === kind ? streak.count + 1 : 1;
    streaks.set(index, { kind, count });
    return count;
  }

  function degraded(item: BatchItem): Buffer | undefined {
    try {
      return deps.degrade(item);
    } catch {
      return undefined;
    }
  }

  /** Only the record itself waits for its letter. */
  function bury(entry: Open, reason: DeadLetterReason, detail: string): void {
    entry.bytes = NO_BYTES;
    delete entry.original;
    const { resolve, reject } = setAside(entry);
    const put = async () => deps.deadLetter(entry.item, reason, detail, entry.job.signal);
    put().then(resolve, reject);
  }

  /** Sets the entry aside with its own copy of the bytes, once. */
  function setAside(entry: Open): NonNullable<Open['promise']> {
    if (entry.promise !== undefined) return entry.promise;
    entry.bytes = Buffer.from(entry.bytes);
    if (entry.original !== undefined) entry.original = Buffer.from(entry.original);
    entry.item = apart(entry.item);
    let promise: Open['promise'];
    const settled = new Promise<void>((resolve, reject) => {
      promise = { resolve, reject };
    });
    // A rejection that nobody hears (the write was aborted) must not end the process.
    settled.catch(() => {});
    entry.promise = promise!;
    entry.job.setAside.push({ position: entry.position, item: entry.item, settled });
    return promise!;
  }

  /** True when the entry's index takes nothing at present, so that the entry waits unsent. */
  function hold(entry: Open): boolean {
    const queue = queues.get(indexOf(entry));
    if (queue?.holding !== true) return false;
    setAside(entry);
    queue.entries.push(entry);
    troubles.get(queue.key)!.documents += 1;
    return true;
  }

  function enqueue(entry: Open, wait: Wait): void {
    const index = indexOf(entry);
    const isLarge = wait.reason === 'request_too_large';
    const key = isLarge ? `${index} (large)` : index;
    if (!isLarge) forgetSize(entry);
    const fresh = entry.promise === undefined;
    setAside(entry);
    let queue = queues.get(key);
    if (queue === undefined) {
      const { signal } = entry.job;
      queue = { key, index, signal, entries: [], holding: false, probing: false, again: false, moved: false };
      queues.set(key, queue);
      void work(queue);
    }
    // At the front, so that the next attempt is made with another document.
    queue.entries.unshift(entry);
    queue.again = true;
    queue.probing = wait.reason === 'refused_in_a_row';
    queue.holding = OF_THE_INDEX.has(wait.reason);
    report(key, wait, fresh ? 1 : 0, index);
  }

  /** Tries what waits for an index until nothing is left of it. */
  async function work(queue: Queue): Promise<void> {
    const { key, signal } = queue;
    let sent: Open[] = [];
    try {
      // By then, whoever opened the queue has put something into it.
      await undefined;
      for (let attempt = 0; queue.entries.length > 0; ) {
        if (queue.again) await pause(queue.probing ? PROBE_MS : backoff(++attempt), signal);
        queue.again = false;
        queue.moved = false;
        sent = take(queue);
        const open = sent;
        await deliver(open.length, bodyOf(open), () => open, signal);
        if (queue.moved) attempt = 0;
      }
      queues.delete(key);
      end(key);
    } catch (error) {
      // Only an abort ends the waiting.
      queues.delete(key);
      for (const { promise } of [...sent, ...queue.entries]) promise?.reject(error);
    }
  }

  /** While nothing gets through, only the newest entry, so that a bad one does not stand for all; otherwise a bulk. */
  function take(queue: Queue): Open[] {
    if (queue.holding) return [queue.entries.pop()!];
    let count = 0;
    for (let bytes = 0; count < queue.entries.length && count < config.maxDocuments; count++) {
      bytes += queue.entries[count]!.bytes.length;
      if (count > 0 && bytes > config.maxBytes) break;
    }
    return queue.entries.splice(0, count);
  }

  function forgetSize(entry: Open): void {
    if (entry.smallerTaken === undefined) return;
    large.delete(entry);
    delete entry.smallerTaken;
  }

  function accepted(entry: Open): void {
    forgetSize(entry);
    entry.promise?.resolve();
    if (!isWatching()) return;
    const index = indexOf(entry);
    streaks.delete(index);
    const queue = queues.get(index);
    if (queue === undefined) return;
    queue.holding = false;
    queue.probing = false;
    if (entry.promise !== undefined) queue.moved = true;
  }

  /** Does it matter which index took a document? */
  function isWatching(): boolean {
    return queues.size > 0 || streaks.size > 0;
  }

  function isHolding(): boolean {
    for (const queue of queues.values()) if (queue.holding) return true;
    return false;
  }

  function retryAll(open: Open[], wait: Wait): Round {
    metrics.retried.inc({ reason: wait.reason }, open.length);
    return { open, wait, tooLarge: [] };
  }

  /** Logs a trouble once when it begins, and once more for each further reason that turns up. */
  function report(key: string, { reason, detail, alarm }: Wait, documents: number, index?: string): void {
    let trouble = troubles.get(key);
    if (trouble === undefined) {
      trouble = { index, reason, since: performance.now(), documents: 0, said: new Set() };
      troubles.set(key, trouble);
    }
    trouble.documents += documents;
    const former = trouble.reason;
    trouble.reason = reason;
    if (former !== reason) showPaused(former);
    showPaused(reason);
    if (trouble.said.has(reason)) return;
    trouble.said.add(reason);
    const say = alarm ? log.error : log.warn;
    if (index === undefined) {
      say.call(log, `Elasticsearch: ${reason}; documents are kept and sent again`, { detail });
    } else {
      const message = `Elasticsearch: ${reason} for ${index}; its documents wait, the others go on`;
      say.call(log, message, { index, reason, detail });
    }
  }

  function end(key: string): void {
    const trouble = troubles.get(key);
    if (trouble === undefined) return;
    troubles.delete(key);
    const { index, reason, since, documents } = trouble;
    showPaused(reason);
    const what = index === undefined ? `recovered from ${reason}` : `no document waits for ${index} any more`;
    log.info(`Elasticsearch: ${what}`, {
      ...(index === undefined ? {} : { index, reason }),
      afterMs: Math.round(performance.now() - since),
      documents,
    });
  }

  function showPaused(reason: FailureReason): void {
    const present = [...troubles.values()].some((trouble) => trouble.reason === reason);
    metrics.paused.set({ reason }, present ? 1 : 0);
  }

  function backoff(attempts: number): number {
    return Math.max(1, backoffMs(attempts, { firstMs: config.backoffMs, maxMs: config.maxBackoffMs }, deps.random));
  }

  /** @throws the signal's reason */
  async function pause(ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await sleep(ms, signal, clock.after);
    signal.throwIfAborted();
  }

  return {
    write,
    trouble() {
      if (troubles.size === 0) return undefined;
      const named = [...troubles.values()].map(({ index, reason }) =>
        index === undefined ? reason : `${reason} for ${index}`,
      );
      const more = named.length - MAX_NAMED;
      return named.slice(0, MAX_NAMED).join('; ') + (more > 0 ? `; and ${more} more` : '');
    },
  };
}

const NOTHING_LEFT: Round = { open: [], tooLarge: [] };

function bodyOf(open: readonly Open[]): Buffer {
  return Buffer.concat(open.map(({ bytes }) => bytes));
}

/** Read back from the action line. */
function indexOf({ bytes }: Open): string {
  const action = JSON.parse(bytes.toString('utf8', 0, bytes.indexOf(10))) as Record<string, { _index: string }>;
  return Object.values(action)[0]!._index;
}

// ---- the bulk writer as a sink, connected to the parser and to the dead letters ----

export function createElasticsearchSink(client: Client, writer: BulkWriter): Sink {
  return {
    name: 'elasticsearch',
    write: (batch, signal) => writer.write(batch, signal),
    trouble: () => writer.trouble(),
    close: () => client.close(),
  };
}

/**
 * Makes what is sent after the server refused a document: the catalogue's fields in place, everything else in `extra`. Parsed
 * again from the record's bytes, because refusals are rare and parsed documents are not kept.
 */
export function createDegrade(deps: {
  parser: Pick<TransformingParser, 'reparse' | 'degrade'>;
  tag: (event: ParsedEvent) => TaggedEvent;
  documents: DocumentWriter;
}): (item: BatchItem) => Buffer | undefined {
  return ({ record, chunk }) => {
    try {
      const result = deps.parser.reparse(record, chunk);
      if (!result.ok) return undefined;
      const event = deps.tag(result.event);
      return deps.documents.rewrite(event, deps.parser.degrade(event.doc), record, chunk);
    } catch {
      return undefined;
    }
  };
}
