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
  type ShipQueue,
} from './queue.ts';
import { createSender, type Sender } from './sender.ts';
import { createSpool, openLeftSpool, type Spool, type SpoolDeps, type SpoolFiles } from './spool.ts';
import { type SpoolFolders, spoolFolders } from './spool-folder.ts';

export interface CloseResult {
  /** Records that Kafka has taken since the start. */
  delivered: number;
  /** Records dropped since the start; by reason in `stats()`. */
  dropped: number;
  /** Records left when the deadline passed, without those in the spool. They may or may not be in Kafka. */
  undelivered: number;
  /** Records in the files of the spool (on their way there when the disk is slow), which the next process sends. Only with a spool. */
  spooled?: number;
}

export interface TransportStats {
  delivered: number;
  dropped: DropCounts;
  /** In memory. */
  queuedRecords: number;
  queuedBytes: number;
  /** In the files of the spool, and their bytes on disk; 0 without a spool. */
  spooledRecords: number;
  spooledBytes: number;
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

/** Replaceable parts, for tests. */
export interface KafkaTransportDeps {
  /** The spool's file system. */
  readonly spoolFiles?: SpoolFiles;
  /** How often it is asked whether processes have died and left records. Default 30,000. */
  readonly adoptMs?: number;
  /** When to give up on a broker's answer and send again. Default 15,000. */
  readonly sendTimeoutMs?: number;
  /** Wall clock in ms. */
  readonly now?: () => number;
}

const ADOPT_MS = 30_000;
/** Of the time that `close()` has, for writing what is left; at most. */
const SAVE_MS = 1_000;

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
  readonly #holder: Holder = { left: (atExit) => this.#left(atExit) };
  readonly #spool: Spool | undefined;
  readonly #folders: SpoolFolders | undefined;
  readonly #adoptMs: number;
  readonly #spoolFiles: SpoolFiles | undefined;
  #adoptTimer: NodeJS.Timeout | undefined;
  /** Adopted folders that could not be opened; tried again. */
  readonly #unopened = new Set<string>();
  #droppedBefore = 0;
  #accountedFor = { waiting: 0, dropped: 0 };
  #waitsForExit = false;
  #isClosed = false;
  /** Records in the files of the spool, once that is closed. */
  #inFile: number | undefined;
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
    this.#adoptMs = deps.adoptMs ?? ADOPT_MS;
    this.#spoolFiles = deps.spoolFiles;
    const warn = (source: 'transport' | 'kafkajs', message: string) =>
      this.#tell('warn', { source, message: masker.text(message) });
    this.#build = createRecordBuilder(settings, deps.now);
    this.#queue = createQueue(settings.queue);
    this.#drops = createDrops({
      onStart: (notice) => this.#droppingBegan(notice),
      onEnd: (reason, dropped) => warn('transport', `${dropped} records were dropped (${reason}); that is over.`),
    });
    if (settings.spool !== undefined) {
      const { brokers, topic, service } = settings;
      const { dir, maxBytes, segmentBytes } = settings.spool;
      const folders = spoolFolders({ dir, brokers, topic, service }, { warn: (message) => this[SAY](message) });
      this.#folders = folders;
      this.#spool = createSpool({ folder: () => folders.own(), maxBytes, segmentBytes }, this.#spoolDeps(dir));
    }
    this.#sender = createSender(settings, {
      queue: this.#queue,
      spool: this.#spool,
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
        const counts = { waiting: this.#sender.undelivered, dropped: this.#drops.total() - this.#droppedBefore };
        outages.ended(this.#holder, lastedMs, counts);
        warn('transport', `Records reach Kafka again; ${counts.waiting} wait, ${counts.dropped} were dropped.`);
      },
    });
    this.#adoptLater(0);
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
      if (this.#sender.keep(record)) return;
      if (this.#queue.push(record)) this.#sender.nudge();
      else if (!this.#sender.keep(record, true)) this.#drops.count('queue-full', 1);
    } catch (error) {
      this.#drops.count('failed', 1);
      this.#tell('warn', { source: 'transport', message: errorText(error) });
    }
  }

  protected override alone(): void {
    if (this.#sender.undelivered > 0) return;
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
   * Delivers what is queued and disconnects; what is left then goes to the spool. Resolves, never rejects, at the latest after
   * `closeTimeoutMs`; calling it again gives the same promise. `logger.end()` does the same and then emits `finish`.
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
      spooledRecords: this.#spool?.records ?? 0,
      spooledBytes: this.#spool?.bytes ?? 0,
    };
  }

  async #finish(): Promise<CloseResult> {
    waitForExit(this, false);
    clearTimeout(this.#adoptTimer);
    // This wait alone keeps the process alive, so that delivery has its chance.
    const { closeTimeoutMs } = this.#settings;
    const saveMs = this.#spool === undefined ? 0 : Math.min(SAVE_MS, closeTimeoutMs / 2);
    await endsWithin(this.#sender.drain(), closeTimeoutMs - saveMs);
    this.#sender.abort();
    const closing = this.#closeSpool();
    const isInTime = await endsWithin(closing, saveMs);
    const { lost: undelivered, inFile } = this.#kept();
    const spooled = this.#spool === undefined ? {} : { spooled: inFile };
    this.#isClosed = true;
    const release = () => outages.release(this.#holder, this.#isSaved());
    if (isInTime) release();
    // A slow disk: should the process end before that, the rest is written then.
    else void closing.finally(release);
    return { delivered: this.#sender.delivered, dropped: this.#drops.total(), undelivered, ...spooled };
  }

  async #closeSpool(): Promise<void> {
    if (this.#spool === undefined) return;
    await this.#sender.save();
    this.#inFile = await this.#spool.close();
    this.#folders?.close();
  }

  /** What is in memory alone, and what the spool has; known for sure when it is closed. */
  #kept(): { readonly lost: number; readonly inFile: number } {
    const spooled = this.#spool?.records ?? 0;
    const inFile = this.#inFile ?? spooled;
    return { lost: this.#queue.records + spooled - inFile, inFile };
  }

  /** Nothing can be done any more for what is left. Otherwise the end of the process tries: the disk may have room by then. */
  #isSaved(): boolean {
    return this.#spool === undefined || (this.#inFile !== undefined && this.#kept().lost === 0);
  }

  #spoolDeps(dir: string): SpoolDeps {
    return {
      onDropped: (records, why) => this.#drops.count(why === 'cap' ? 'spool-full' : 'spool-lost', records),
      onTrouble: (error) =>
        this[SAY](
          `The spool in ${dir} cannot be used: ${errorText(error)}. Until it can, up to ` +
            `${this.#settings.queue.maxRecords.toLocaleString('en')} records wait in memory.`,
        ),
      onRecovered: () => this[SAY](`The spool in ${dir} is used again.`),
      fs: this.#spoolFiles,
    };
  }

  /** Looks for what dead processes have left, soon and then every now and then. */
  #adoptLater(ms: number): void {
    if (this.#folders === undefined || this.#closing !== undefined) return;
    this.#adoptTimer = setTimeout(() => {
      void this.#adopt().finally(() => this.#adoptLater(this.#adoptMs));
    }, ms);
    this.#adoptTimer.unref();
  }

  /** Never rejects. */
  async #adopt(): Promise<void> {
    const { spool } = this.#settings;
    if (spool === undefined || this.#sender.away) return;
    const adopted = (await this.#folders?.adopt()) ?? [];
    for (const folder of [...this.#unopened, ...adopted]) {
      try {
        this.#sender.adopt(await openLeftSpool(folder, this.#spoolDeps(spool.dir)));
        this.#unopened.delete(folder);
      } catch (error) {
        if (!this.#unopened.has(folder))
          this[SAY](`What another process has left in ${folder} cannot be sent: ${errorText(error)}`);
        if ((error as { code?: unknown }).code === 'LOGPIPE_FORMAT_NEWER') this.#unopened.delete(folder);
        else this.#unopened.add(folder);
      }
    }
  }

  #outageBegan(message: string): void {
    this.#droppedBefore = this.#drops.total();
    if (this.listenerCount('send-failed') === 0) {
      outages.began(this.#holder, this.#settings, message, this.#settings.spool ?? this.#settings.queue.maxRecords);
    }
    this.#tell('send-failed', { message });
  }

  /** A file that is full, or gone, is news: the line of the outage has promised that it keeps the records. */
  #droppingBegan(notice: DropNotice): void {
    const isOfSpool = notice.reason === 'spool-full' || notice.reason === 'spool-lost';
    if (isOfSpool && this.listenerCount('dropped') === 0) outages.say(notice.message);
    this.#tell('dropped', notice);
  }

  /** What a listener is told of, here or by `dropped`, needs no line of its own. */
  #left(atExit: boolean): Left {
    const { brokers, topic, spool } = this.#settings;
    const { lost, inFile } = atExit ? this.#atExit() : this.#kept();
    const waiting = lost - this.#accountedFor.waiting;
    const dropped = this.#drops.total() - this.#accountedFor.dropped;
    this.#accountedFor = { waiting: lost, dropped: this.#drops.total() };
    const isHeard = this.#hasWarnListener();
    if (isHeard && waiting > 0) {
      const when = this.#isClosed
        ? `within ${this.#settings.closeTimeoutMs} ms (closeTimeoutMs).`
        : 'when the process ended.';
      this.#tell('warn', { source: 'transport', message: `${waiting} records were not delivered ${when}` });
    }
    if (isHeard && inFile > 0 && spool !== undefined)
      this.#tell('warn', { source: 'transport', message: `${inFile} records are kept in ${spool.dir}` });
    const { trouble } = this.#sender;
    return {
      destination: { brokers, topic },
      waiting: isHeard ? 0 : waiting,
      dropped: isHeard || this.listenerCount('dropped') > 0 ? 0 : dropped,
      spooled: isHeard || spool === undefined ? undefined : { records: inFile, dir: spool.dir },
      reason: trouble === undefined ? undefined : this.#masker.text(explainConnection(trouble)),
    };
  }

  /** What is not delivered when the process ends. Saving takes the records from the sender, which could not go on after it. */
  #atExit(): { readonly lost: number; readonly inFile: number } {
    return this.#isSaved() ? this.#kept() : this.#sender.saveSync();
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
