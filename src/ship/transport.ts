// Winston to Kafka. In: info objects from a Winston logger. Out: records in a Kafka topic, and events about them.
// Guarantee: nothing here throws into the application, makes it wait or grows beyond the queue's limits. What the application reads on its
// standard error about an outage, when it does not listen to those events, stands below the transport.
import { writeSync } from 'node:fs';
import { endsWithin } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import { explainConnection } from '../core/kafka/broker-connections.ts';
import { visible } from '../core/safe-json.ts';
import { createMasker, type Masker } from '../core/secrets/mask.ts';
import { AttachedTransport, isCrash } from './attached.ts';
import { createBrokers } from './brokers.ts';
import type { Info } from './call.ts';
import { createRecordBuilder, RECORD, type RecordBuilder, readableText, type ShipRecord } from './log-record.ts';
import { type KafkaTransportOptions, type TransportSettings, transportSettings } from './options.ts';
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

// ---- what is read on standard error about records that do not get through, unless somebody listens ----
// In: outages that begin and end, and what is left when the process ends. Out: one line when an outage begins, one when it is over, one
// when the process ends with records that Kafka does not have. However many transports share a cluster and a topic, an outage has one line;
// no line holds a secret; nothing throws, whatever has become of standard error; the exit status is the application's.

/** Where a transport sends; equal texts are one outage. */
export interface Destination {
  readonly brokers: readonly string[];
  readonly topic: string;
}

/** What a transport has at the end that Kafka does not. */
export interface Left {
  readonly destination: Destination;
  /** In the queue, or sent without an answer. */
  readonly waiting: number;
  readonly dropped: number;
  /** In the files of a spool, for the next process to send. */
  readonly spooled?: { readonly records: number; readonly dir: string } | undefined;
  /** Known when there is trouble. */
  readonly reason?: string | undefined;
}

/** The spool that keeps what waits. */
export interface KeptIn {
  readonly dir: string;
  readonly maxBytes: number;
}

/** A transport that may have records which Kafka does not have. */
export interface Holder {
  /**
   * What it has lost since it was last asked, without what a listener was told. Asked when it is closed or has nothing to deliver,
   * which changes nothing, and when the process ends: there is time for saving what can be saved, and for one line.
   */
  left(atExit: boolean): Left;
}

export interface OutageReport {
  /** One line of its own, for what nobody listens to. */
  say(line: string): void;
  /** @param reason in words, masked; @param kept how many records wait at most, or where */
  began(of: Holder, to: Destination, reason: string, kept: number | KeptIn): void;
  /** Of a transport that began one before; does nothing for another. @param lastedMs by the monotonic clock */
  ended(of: Holder, lastedMs: number, counts: { readonly waiting: number; readonly dropped: number }): void;
  /** From now on the holder is asked when the process ends. */
  watch(holder: Holder): void;
  /**
   * The holder is closed, or has nothing to deliver. Its outage ends without a line; what it has left now is what it will have at
   * the end, unless it is not `final`: then it is asked at the end.
   */
  release(holder: Holder, final?: boolean): void;
}

interface Outage {
  readonly name: string;
  readonly open: Set<Holder>;
  waiting: number;
  dropped: number;
}

export function createOutageReport(
  deps: {
    readonly write?: (line: string) => void;
    /** Node's process, as far as it is needed. */
    readonly process?: Pick<NodeJS.Process, 'on' | 'removeListener'>;
  } = {},
): OutageReport {
  const { write = onStandardError, process: of = process } = deps;
  const outages = new Map<string, Outage>();
  const holders = new Set<Holder>();
  /** Of those that are closed. */
  const leftovers: Left[] = [];
  let listens = false;

  function say(line: string): void {
    try {
      write(`logpipe: ${visible(line)}`);
    } catch {
      // Nobody reads it; the application goes on.
    }
  }

  function listen(): void {
    const needed = holders.size > 0 || leftovers.length > 0;
    if (needed === listens) return;
    listens = needed;
    if (needed) of.on('exit', atExit);
    else of.removeListener('exit', atExit);
  }

  function atExit(): void {
    try {
      const line = lastLine([...leftovers, ...[...holders].map((holder) => holder.left(true))]);
      if (line !== undefined) say(line);
    } catch {
      // The last thing a process does must not fail because of a log.
    }
  }

  return {
    say,
    began(holder, to, reason, kept) {
      const name = nameOf(to);
      const outage = outages.get(name) ?? { name, open: new Set(), waiting: 0, dropped: 0 };
      outages.set(name, outage);
      outage.open.add(holder);
      if (outage.open.size > 1) return;
      say(
        `log records do not reach Kafka (${name}): ${reason}. ` +
          `${keptWhere(kept)} ` +
          `Check the option brokers, and that Kafka runs and can be reached from this machine.`,
      );
    },
    ended(holder, lastedMs, { waiting, dropped }) {
      const outage = [...outages.values()].find(({ open }) => open.has(holder));
      if (outage === undefined) return;
      outage.open.delete(holder);
      outage.waiting += waiting;
      outage.dropped += dropped;
      if (outage.open.size > 0) return;
      outages.delete(outage.name);
      const lost = outage.dropped === 0 ? 'nothing was lost' : `${outage.dropped} were dropped`;
      say(
        `log records reach Kafka again (${outage.name}), ${Math.max(1, Math.round(lastedMs / 1_000))} s after that was said; ` +
          `${outage.waiting} that waited are being sent, ${lost}.`,
      );
    },
    watch(holder) {
      holders.add(holder);
      listen();
    },
    release(holder, final = true) {
      if (final && holders.delete(holder)) {
        const left = holder.left(false);
        if (left.waiting + left.dropped + (left.spooled?.records ?? 0) > 0) leftovers.push(left);
      }
      for (const outage of outages.values()) {
        if (outage.open.delete(holder) && outage.open.size === 0) outages.delete(outage.name);
      }
      listen();
    },
  };
}

function keptWhere(kept: number | KeptIn): string {
  if (typeof kept === 'number') {
    return `Up to ${kept.toLocaleString('en')} are kept and sent as soon as it is reached, later ones are dropped.`;
  }
  const most = Math.round(kept.maxBytes / (1024 * 1024)).toLocaleString('en');
  return `They are kept in ${kept.dir} (up to ${most} MiB, beyond that the oldest are dropped) and sent as soon as it is reached.`;
}

function lastLine(all: readonly Left[]): string | undefined {
  const lost = all.filter(({ waiting, dropped }) => waiting + dropped > 0);
  const sum = (of: (left: Left) => number) => lost.reduce((total, left) => total + of(left), 0);
  const [waiting, dropped] = [sum((left) => left.waiting), sum((left) => left.dropped)];
  const kept = inFiles(all);
  if (waiting + dropped === 0) return kept;
  const places = placesOf(lost);
  const reason = lost.find((left) => left.reason !== undefined)?.reason;
  const parts = dropped === 0 ? '' : ` (${waiting} waited, ${dropped} had been dropped)`;
  const why =
    reason ??
    (waiting > 0
      ? 'the process ended before they were sent; wait for close() of the transport, or for finish after logger.end()'
      : 'see the counts by reason in stats() of the transport');
  const total = waiting + dropped;
  const line = `${total} log record${total === 1 ? '' : 's'} did not reach Kafka by the end of this process${parts} (${places}): ${why}.`;
  return kept === undefined ? line : `${line} ${kept}`;
}

/** What is not lost. */
function inFiles(all: readonly Left[]): string | undefined {
  const kept = all.filter(({ spooled }) => spooled !== undefined && spooled.records > 0);
  const total = kept.reduce((sum, { spooled }) => sum + spooled!.records, 0);
  if (total === 0) return undefined;
  const dirs = [...new Set(kept.map(({ spooled }) => spooled!.dir))];
  return (
    `${total} log record${total === 1 ? ' is' : 's are'} kept in ${dirs.join(', ')} (${placesOf(kept)}): the next process that logs ` +
    `there sends ${total === 1 ? 'it' : 'them'}, or logpipe ship --spool ${dirs[0]}.`
  );
}

function placesOf(all: readonly Left[]): string {
  return [...new Set(all.map(({ destination }) => nameOf(destination)))].join('; ');
}

const MAX_BROKERS = 5;

/** An address may come with a name and a password in front, which is a mistake that must not be repeated aloud. */
function nameOf({ brokers, topic }: Destination): string {
  const addresses = brokers.map((broker) => broker.slice(broker.lastIndexOf('@') + 1));
  const shown = addresses.length > MAX_BROKERS ? [...addresses.slice(0, MAX_BROKERS), '…'] : addresses;
  return `${shown.join(', ')}, topic ${topic}`;
}

/** Written at once and past Node's streams: the process may be ending, and a stream would tell of an error by an event. */
function onStandardError(line: string): void {
  writeSync(2, `${line}\n`);
}
