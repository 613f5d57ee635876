// Winston to Kafka. In: info objects from a Winston logger. Out: records in a Kafka topic, and events about them.
// Guarantee: nothing here throws into the application, makes it wait or grows beyond the queue's limits.
import { writeSync } from 'node:fs';
import { endsWithin } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import { explainConnection } from '../core/kafka/broker-connections.ts';
import { createMasker, type Masker } from '../core/secrets/mask.ts';
import { AttachedTransport, isCrash } from './attached.ts';
import { createBrokers } from './brokers.ts';
import type { Info } from './call.ts';
import { createRecordBuilder, RECORD, type RecordBuilder, readableText, type ShipRecord } from './log-record.ts';
import { type KafkaTransportOptions, type TransportSettings, transportSettings } from './options.ts';
import { createOutageReport, type Holder, type Left } from './outage.ts';
import {
  createDrops,
  createQueue,
  type DropCounts,
  type DropNotice,
  type DropReason,
  type Drops,
  type Overflow,
  type ShipQueue,
} from './queue.ts';
import { createSender, type Sender } from './sender.ts';

export interface CloseResult {
  /** Records that Kafka has taken since the start. */
  delivered: number;
  /** Records dropped since the start; by reason in `stats()`. */
  dropped: number;
  /** Records left when the deadline passed. They may or may not be in Kafka. */
  undelivered: number;
}

export interface TransportStats {
  delivered: number;
  dropped: DropCounts;
  queuedRecords: number;
  queuedBytes: number;
}

/** What listeners receive: `transport.on('dropped', (notice) => …)`. */
export interface KafkaTransportEvents {
  /** The first drop of an episode; `stats()` has the current numbers. */
  dropped: DropNotice;
  /** One batch is in Kafka. */
  delivered: { records: number; bytes: number };
  /** Kafka cannot be reached, or refuses; once per outage. Sending is retried by itself. Without a listener: a line on stderr. */
  'send-failed': { message: string };
  /**
   * Anything else worth a line in a log: the end of an outage or an episode, records left at the end of the process (without a
   * listener: a line on stderr), kafkajs's own warnings.
   */
  warn: { source: 'transport' | 'kafkajs'; message: string };
}

/** Replaceable parts, for tests and for a spool on disk. */
export interface KafkaTransportDeps {
  readonly overflow?: Overflow;
  /** When to give up on a broker's answer and send again. Default 15,000. */
  readonly sendTimeoutMs?: number;
  /** Wall clock in ms. */
  readonly now?: () => number;
}

/**
 * Transports that have something to deliver, with one listener for them all, so that a script that simply ends has its records
 * delivered too.
 */
const waiting = new Set<KafkaTransport>();
const closeAll = () => {
  for (const transport of waiting) void transport.close();
};

function waitForExit(transport: KafkaTransport, wait: boolean): void {
  if (wait && waiting.size === 0) process.on('beforeExit', closeAll);
  if (wait) waiting.add(transport);
  else if (waiting.delete(transport) && waiting.size === 0) process.removeListener('beforeExit', closeAll);
}

/** One for all transports of the process: they may share what they cannot reach, and a process ends once. */
const outages = createOutageReport();

/** For createLogger: how many records have reached this transport, whether delivered, queued or dropped. */
export const HANDED = Symbol('logpipe.handed');
/** For createLogger: warns by `warn`, or on standard error when nobody listens. */
export const SAY = Symbol('logpipe.say');
/** For createLogger: a record of this level did not reach this transport. */
export const LOST = Symbol('logpipe.lost');

/**
 * A Winston transport that writes to Kafka: `createLogger({ format: format.json(), transports: [new KafkaTransport(…)] })`.
 * Connects when the first record is logged; an unreachable Kafka causes an event, not an error.
 * @throws LogpipeError LOGPIPE_TRANSPORT_OPTIONS
 */
export class KafkaTransport extends AttachedTransport {
  readonly #build: RecordBuilder;
  readonly #queue: ShipQueue;
  readonly #sender: Sender;
  readonly #drops: Drops;
  readonly #settings: TransportSettings;
  readonly #masker: Masker;
  /** Asked at the end of the process. */
  readonly #holder: Holder = { left: () => this.#left() };
  #droppedBefore = 0;
  #accountedFor = { waiting: 0, dropped: 0 };
  #waitsForExit = false;
  #isClosed = false;
  #handed = 0;
  #closing: Promise<CloseResult> | undefined;

  constructor(options: KafkaTransportOptions, deps: KafkaTransportDeps = {}) {
    const settings = transportSettings(options);
    const { level, format, silent, handleExceptions, handleRejections } = options;
    super({
      warn: (message) => this.#tell('warn', { source: 'transport', message }),
      ...(level === undefined ? {} : { level }),
      ...(format === undefined ? {} : { format }),
      ...(silent === undefined ? {} : { silent }),
      ...(handleExceptions === undefined ? {} : { handleExceptions }),
      ...(handleRejections === undefined ? {} : { handleRejections }),
    });
    const masker = createMasker(settings.mask);
    this.#masker = masker;
    this.#settings = settings;
    const warn = (source: 'transport' | 'kafkajs', message: string) =>
      this.#tell('warn', { source, message: masker.text(message) });
    this.#build = createRecordBuilder(settings, deps.now);
    this.#queue = createQueue(settings.queue, deps.overflow);
    this.#drops = createDrops({
      onStart: (notice) => this.#tell('dropped', notice),
      onEnd: (reason, dropped) => warn('transport', `${dropped} records were dropped (${reason}); that is over.`),
    });
    this.#sender = createSender(settings, {
      queue: this.#queue,
      brokers: createBrokers(settings, {
        warn,
        warnLoudly: (message) => this.#warnLoudly(message),
        now: deps.now,
      }),
      drops: this.#drops,
      sendTimeoutMs: deps.sendTimeoutMs,
      onDelivered: (batch) => {
        if (this.parent === null) this.alone();
        this.#tell('delivered', batch);
      },
      onFailed: (error) => this.#outageBegan(masker.text(explainConnection(error))),
      onResumed: (lastedMs) => {
        const counts = { waiting: this.#queue.records, dropped: this.#drops.total() - this.#droppedBefore };
        outages.ended(this.#holder, lastedMs, counts);
        warn('transport', `Records reach Kafka again; ${counts.waiting} wait, ${counts.dropped} were dropped.`);
      },
    });
  }

  protected override take(info: Info, tag?: string): void {
    this.#handed++;
    try {
      if (this.#closing !== undefined) {
        this.#drops.count('closed', 1);
        outages.watch(this.#holder);
        return;
      }
      if (!this.#waitsForExit) {
        this.#waitsForExit = true;
        waitForExit(this, true);
        outages.watch(this.#holder);
      }
      const record = (info[RECORD] as ShipRecord | undefined) ?? this.#build(info, tag);
      if ((this.handleExceptions || this.handleRejections) && isCrash(info)) this.#showCrash(record);
      if (this.#queue.push(record)) this.#sender.nudge();
      else this.#drops.count('queue-full', 1);
    } catch (error) {
      this.#drops.count('failed', 1);
      this.#tell('warn', { source: 'transport', message: errorText(error) });
    }
  }

  protected override alone(): void {
    if (this.#queue.records > 0) return;
    this.#waitsForExit = false;
    waitForExit(this, false);
    outages.release(this.#holder);
  }

  get [HANDED](): number {
    return this.#handed;
  }

  [SAY](message: string): void {
    if (this.#hasWarnListener()) this.#tell('warn', { source: 'transport', message });
    else outages.say(message);
  }

  /** A record that this transport would not have sent is not lost. */
  [LOST](reason: DropReason, level: unknown): void {
    if (this.silent || !this.wants(level)) return;
    this.#drops.count(reason, 1);
    outages.watch(this.#holder);
  }

  /**
   * Delivers what is queued and disconnects. Resolves, never rejects, at the latest after `closeTimeoutMs`; calling it
   * again gives the same promise. `logger.end()` does the same and then emits `finish`.
   */
  override close(): Promise<CloseResult> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  override _final(callback: (error?: Error | null) => void): void {
    void this.close().then(() => callback());
  }

  /** Counts since the start, and what waits now. */
  stats(): TransportStats {
    return {
      delivered: this.#sender.delivered,
      dropped: this.#drops.counts(),
      queuedRecords: this.#queue.records,
      queuedBytes: this.#queue.bytes,
    };
  }

  async #finish(): Promise<CloseResult> {
    waitForExit(this, false);
    // This wait alone keeps the process alive, so that delivery has its chance.
    const { closeTimeoutMs } = this.#settings;
    await endsWithin(this.#sender.drain(), closeTimeoutMs);
    const undelivered = this.#queue.records;
    this.#isClosed = true;
    outages.release(this.#holder);
    this.#sender.abort();
    return { delivered: this.#sender.delivered, dropped: this.#drops.total(), undelivered };
  }

  #outageBegan(message: string): void {
    this.#droppedBefore = this.#drops.total();
    if (this.listenerCount('send-failed') === 0) {
      outages.began(this.#holder, this.#settings, message, this.#settings.queue.maxRecords);
    }
    this.#tell('send-failed', { message });
  }

  /** What a listener is told of, here or by `dropped`, needs no line of its own. */
  #left(): Left {
    const { brokers, topic } = this.#settings;
    const waiting = this.#queue.records - this.#accountedFor.waiting;
    const dropped = this.#drops.total() - this.#accountedFor.dropped;
    this.#accountedFor = { waiting: this.#queue.records, dropped: this.#drops.total() };
    const isHeard = this.#hasWarnListener();
    if (isHeard && waiting > 0) {
      const when = this.#isClosed
        ? `within ${this.#settings.closeTimeoutMs} ms (closeTimeoutMs).`
        : 'when the process ended.';
      this.#tell('warn', { source: 'transport', message: `${waiting} records were not delivered ${when}` });
    }
    const { trouble } = this.#sender;
    return {
      destination: { brokers, topic },
      waiting: isHeard ? 0 : waiting,
      dropped: isHeard || this.listenerCount('dropped') > 0 ? 0 : dropped,
      reason: trouble === undefined ? undefined : this.#masker.text(explainConnection(trouble)),
    };
  }

  /** A crashed process has only a few seconds, in which Kafka may be away; standard error is not. */
  #showCrash(record: ShipRecord): void {
    if (this.parent?.transports.some(({ name, handleExceptions }) => name === 'console' && handleExceptions)) return;
    try {
      writeSync(process.stderr.fd, `${readableText(record.line)}\n`);
    } catch {
      // There is no standard error; the file and Kafka remain.
    }
  }

  /** Warns whoever listens, or through Node's own warnings when nobody does. */
  #warnLoudly(message: string): void {
    if (this.#hasWarnListener()) this.#tell('warn', { source: 'transport', message });
    else process.emitWarning(message, { type: 'LogpipeWarning' });
  }

  /** Winston's own listener passes a warning on to the logger, where somebody may listen. */
  #hasWarnListener(): boolean {
    const passedOn = Object.hasOwn(this, '__winstonwarn') ? 1 : 0;
    return this.listenerCount('warn') - passedOn + (this.parent?.listenerCount('warn') ?? 0) > 0;
  }

  /** A listener's mistake stays the listener's. */
  #tell<E extends keyof KafkaTransportEvents>(event: E, payload: KafkaTransportEvents[E]): void {
    try {
      this.emit(event, payload);
    } catch {
      // There is nobody to tell: logging must not make the application see an error.
    }
  }
}
