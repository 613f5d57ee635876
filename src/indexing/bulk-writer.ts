// Batches -> Elasticsearch. In: a batch; resolves when every item of it is indexed, a duplicate, or in the dead letters.
// Guarantee: an item is never given up for a fault that is not its own; nothing is acknowledged on a doubtful reply.
import type { Clock } from '../core/clock.ts';
import { sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { DeadLetterReason } from '../core/record.ts';
import type { Batch, BatchItem } from './batch.ts';
import { type BulkReply, isTimeout, type SendBulk } from './elasticsearch.ts';
import { classifyItem, classifyStatus, errorWords, type FailureReason, type Verdict } from './outcome.ts';

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
      description: 'A bulk request is sent when it holds this many bytes.',
    },
    maxDocuments: {
      type: 'integer',
      minimum: 1,
      maximum: 50_000,
      default: 2_000,
      description: 'A bulk request is sent when it holds this many documents.',
    },
    maxDelayMs: {
      type: 'integer',
      minimum: 1,
      maximum: 60_000,
      default: 1_000,
      description: 'A bulk request is sent at the latest this long after its first document arrived.',
    },
    concurrency: {
      type: 'integer',
      minimum: 1,
      maximum: 32,
      default: 3,
      description: 'Bulk requests on their way at the same time.',
    },
    maxInFlightBytes: {
      type: 'integer',
      minimum: 100_000,
      default: 6_000_000,
      description: 'The intake pauses while this many bytes of records are not yet accounted for.',
    },
    backoffMs: { type: 'integer', minimum: 1, default: 200, description: 'First wait before sending again; doubles.' },
    maxBackoffMs: { type: 'integer', minimum: 1, default: 30_000, description: 'Longest wait before sending again.' },
    maxRejectionsPerMinute: {
      type: 'integer',
      minimum: 1,
      default: 1_000,
      description: 'More refused documents than this in a minute pause the intake and raise an alarm.',
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

export interface BulkWriter {
  /** Resolves when every item is accounted for. Rejects only when `signal` aborts: nothing is acknowledged then. */
  write(batch: Batch, signal: AbortSignal): Promise<void>;
  /** What the writer waits for, or undefined while all is well. */
  trouble(): FailureReason | undefined;
}

/** An item still to be settled. */
interface Open {
  readonly item: BatchItem;
  bytes: Buffer;
  degraded: boolean;
}

/** What a request left open; `wait` says why the next one has to wait. */
interface Round {
  readonly open: Open[];
  readonly wait?: Wait;
}

export function createBulkWriter(config: BulkConfig, deps: BulkWriterDeps): BulkWriter {
  const { metrics, log, clock } = deps;
  let trouble: { reason: FailureReason; detail: string; alarm: boolean; since: number } | undefined;
  let rejections = { windowStart: Number.NEGATIVE_INFINITY, count: 0 };

  async function write(batch: Batch, signal: AbortSignal): Promise<void> {
    // The first round sends the batch's buffer as it is, and a clean answer ends it without a look at single items.
    const whole = () => batch.items.map((item, i) => ({ item, bytes: batch.item(i), degraded: false }));
    let round = await sendRound(batch.count, batch.body(), whole, signal);
    for (let attempt = 0; round.open.length > 0; attempt++) {
      if (round.wait !== undefined) await backoff(attempt, round.wait, signal);
      round = await sendOpen(round.open, signal);
    }
  }

  function sendOpen(open: Open[], signal: AbortSignal): Promise<Round> {
    return sendRound(open.length, Buffer.concat(open.map((o) => o.bytes)), () => open, signal);
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
    const answered = reply.status === 200;
    metrics.bulkSeconds.observe({ result: answered ? 'answered' : 'refused' }, (performance.now() - started) / 1000);
    metrics.bulkDocuments.observe(count);

    if (reply.status === 400 || reply.status === 413) return bisect(list(), reply, signal);
    if (!answered) return retryAll(list(), toWait(classifyStatus(reply.status), reply.detail));
    if (reply.items.length !== count) {
      const detail = `${count} items were sent, the reply speaks of ${reply.items.length}`;
      return retryAll(list(), { reason: 'count_mismatch', detail, alarm: true });
    }
    if (reply.items.every((item) => item.status === 201)) {
      metrics.indexed.inc({ sink: 'elasticsearch' }, count);
      recovered();
      return { open: [] };
    }
    return settle(list(), reply, signal);
  }

  async function settle(open: Open[], reply: BulkReply, signal: AbortSignal): Promise<Round> {
    let indexed = 0;
    let duplicates = 0;
    let wait: Wait | undefined;
    const still: Open[] = [];
    for (let i = 0; i < open.length; i++) {
      const entry = open[i]!;
      const item = reply.items[i]!;
      const verdict = classifyItem(item);
      if (verdict.outcome === 'indexed') indexed += 1;
      else if (verdict.outcome === 'duplicate') duplicates += 1;
      else if (verdict.outcome === 'rejected') {
        const held = await reject(entry, 'document_refused', errorWords(item.error), signal);
        if (held !== undefined) still.push(entry);
        if (held !== undefined && held !== 'again') wait = worse(wait, held);
      } else {
        still.push(entry);
        wait = worse(wait, toWait(verdict, errorWords(item.error)));
        metrics.retried.inc({ reason: verdict.reason });
      }
    }
    metrics.indexed.inc({ sink: 'elasticsearch' }, indexed);
    metrics.duplicates.inc(duplicates);
    if (wait === undefined) recovered();
    else report(wait);
    return wait === undefined ? { open: still } : { open: still, wait };
  }

  /**
   * A refused document: degraded and sent again, else to the dead letters. Returns undefined when it is settled,
   * 'again' when it goes into the next round at once, or what the round has to wait for.
   */
  async function reject(entry: Open, reason: DeadLetterReason, detail: string, signal: AbortSignal) {
    if (!entry.degraded && reason === 'document_refused') {
      entry.degraded = true;
      const bytes = deps.degrade(entry.item);
      if (bytes !== undefined) {
        entry.bytes = bytes;
        metrics.degraded.inc();
        return 'again';
      }
    }
    if (tooManyRejections()) {
      metrics.retried.inc({ reason: 'too_many_rejections' });
      return { reason: 'too_many_rejections', detail, alarm: true } satisfies Wait;
    }
    rejections.count += 1;
    await deps.deadLetter(entry.item, reason, detail, signal);
    return undefined;
  }

  /** A request refused as a whole: halves find the document that is to blame, if it is one. */
  async function bisect(open: Open[], reply: BulkReply, signal: AbortSignal): Promise<Round> {
    if (open.length > 1) {
      const middle = open.length >> 1;
      metrics.retried.inc({ reason: 'request_too_large' }, open.length);
      const still: Open[] = [];
      let wait: Wait | undefined;
      for (const half of [open.slice(0, middle), open.slice(middle)]) {
        const round = await sendOpen(half, signal);
        still.push(...round.open);
        if (round.wait !== undefined) wait = worse(wait, round.wait);
      }
      return wait === undefined ? { open: still } : { open: still, wait };
    }
    const reason = reply.status === 413 ? 'too_large' : 'document_refused';
    const held = await reject(open[0]!, reason, `HTTP ${reply.status}: ${reply.detail}`, signal);
    if (held === undefined) return { open: [] };
    if (held === 'again') return { open };
    report(held);
    return { open, wait: held };
  }

  function retryAll(open: Open[], wait: Wait): Round {
    metrics.retried.inc({ reason: wait.reason }, open.length);
    report(wait);
    return { open, wait };
  }

  function tooManyRejections(): boolean {
    const now = clock.now();
    if (now - rejections.windowStart > 60_000) rejections = { windowStart: now, count: 0 };
    return rejections.count >= config.maxRejectionsPerMinute;
  }

  /** Says a trouble once when it begins or changes, and counts it as a pause of the intake. */
  function report(wait: Wait): void {
    if (trouble?.reason === wait.reason) return;
    if (trouble !== undefined) metrics.paused.set({ reason: trouble.reason }, 0);
    trouble = { ...wait, since: clock.now() };
    metrics.paused.set({ reason: wait.reason }, 1);
    const say = wait.alarm ? log.error : log.warn;
    say.call(log, `Elasticsearch: ${wait.reason}; documents are kept and sent again`, { detail: wait.detail });
  }

  function recovered(): void {
    if (trouble === undefined) return;
    metrics.paused.set({ reason: trouble.reason }, 0);
    log.info(`Elasticsearch: recovered from ${trouble.reason}`, { afterMs: clock.now() - trouble.since });
    trouble = undefined;
  }

  /** Exponential with jitter, so that several instances do not come back in step. */
  function backoff(attempt: number, wait: Wait, signal: AbortSignal): Promise<void> {
    const most = Math.min(config.maxBackoffMs, config.backoffMs * 2 ** Math.min(attempt, 20));
    const ms = Math.max(1, most * (0.5 + deps.random() / 2));
    log.debug('Elasticsearch: waiting before the next attempt', { reason: wait.reason, ms: Math.round(ms) });
    return sleep(ms, signal);
  }

  return { write, trouble: () => trouble?.reason };
}

interface Wait {
  readonly reason: FailureReason;
  readonly detail: string;
  readonly alarm: boolean;
}

function toWait(verdict: Verdict, detail: string): Wait {
  return { reason: verdict.reason as FailureReason, detail, alarm: verdict.alarm };
}

function worse(one: Wait | undefined, other: Wait): Wait {
  return one === undefined || (other.alarm && !one.alarm) ? other : one;
}
