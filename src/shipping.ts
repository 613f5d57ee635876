// The third flow: the lines of hosts and programs that have no transport of their own, to the log topic.
//
//   files, standard input, syslog, OpenTelemetry ─▶ line ─▶ record ─▶ queue ─▶ brokers ─▶ acknowledge ─▶ source commits
//                                                        └─── spool (what cannot be read again)
//
// In: `ship.inputs`. Out: records in `kafka.topics.logs`, each with the input's fields that it lacks. Guarantee: a file's position is
// saved only for lines that Kafka has, so the file itself is the spool; OpenTelemetry's exporters are answered only when Kafka has all of
// their request; a line has the same id whenever it is read, so what is sent
// again after a crash is indexed and counted once. What comes from standard input and syslog is read once and cannot be asked for
// again: while Kafka is away it goes to the spool if there is one, else its sender has to wait. Memory is bounded by
// `ship.maxInFlightBytes`; nothing is dropped to keep within it.

import { isUtf8 } from 'node:buffer';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { nameOf, type ShipConfig, type ShipInput } from './config.ts';
import { type Clock, endsWithin, systemClock } from './core/clock.ts';
import { errorText } from './core/errors.ts';
import { explainConnection } from './core/kafka/broker-connections.ts';
import type { Log } from './core/log.ts';
import { createMetrics, type Metrics } from './core/metrics.ts';
import { type Chunk, createLineIds, eventIdIn, type LineIds, type RawRecord, type Source } from './core/record.ts';
import { createMasker, type Masker, type MaskOptions } from './core/secrets/mask.ts';
import type { Readiness } from './ops/http.ts';
import { isObject, readObject, writeJson } from './parse/json.ts';
import { looksLikeObject } from './parse/normalise.ts';
import { SHAPE_KEYS } from './parse/shapes.ts';
import { createBrokers } from './ship/brokers.ts';
import {
  blockKey,
  createLineReader,
  type HeldRead,
  isInPlace,
  type LineInPlace,
  type LineReader,
  type LineRecord,
} from './ship/lines-in-place.ts';
import { keyOf } from './ship/log-record.ts';
import { transportSettings } from './ship/options.ts';
import { createDrops, createQueue } from './ship/queue.ts';
import { createSender } from './ship/sender.ts';
import { createSpool, openLeftSpool, type SpoolDeps } from './ship/spool.ts';
import { type SpoolFolders, spoolFolders } from './ship/spool-folder.ts';
import { createFileSource } from './source/files/files.ts';
import { addressesOf, type KafkaConfig } from './source/kafka/client.ts';
import { createStdinSource, endOfCharacter } from './source/lines.ts';
import type { createOtlpSource } from './source/otlp.ts';
import { createSyslogSource } from './source/syslog.ts';

interface ShippingConfig {
  readonly kafka: KafkaConfig;
  readonly mask?: MaskOptions;
  readonly ship: ShipConfig;
  readonly shutdownTimeoutMs: number;
}

export interface ShippingDeps {
  readonly log: Log;
  readonly metrics?: Metrics;
  readonly clock?: Clock;
  readonly stdin?: NodeJS.ReadableStream;
}

export interface Shipping {
  /** Resolves when every input that can end has ended and all of it is with Kafka; rejects when an input fails. */
  readonly ended: Promise<void>;
  readonly metrics: Metrics;
  readiness(): readonly Readiness[];
  summary(): ShippedSummary;
  /** Takes nothing new, then waits for what is under way; true when Kafka, or the spool, has all that was taken. */
  stop(): Promise<boolean>;
}

export interface ShippedSummary {
  /** Records that Kafka has taken. */
  readonly sent: number;
  /** Records that Kafka refused for good, or that the spool had no room for. */
  readonly dropped: number;
  /** Read and not delivered; lines of files are sent by the next run. */
  readonly waiting: number;
  /** In the spool, for the next run. */
  readonly spooled: number;
}

/** @throws LogpipeError when an input cannot be opened */
export async function startShipping(config: ShippingConfig, deps: ShippingDeps): Promise<Shipping> {
  const { ship } = config;
  const { log, clock = systemClock, metrics = createMetrics(), stdin = process.stdin } = deps;
  const masker = createMasker(config.mask);
  const shared = { log, clock, metrics, masker };
  const outlets = new Map<Kind, Outlet>();
  const outletOf = (kind: Kind): Outlet => {
    const known = outlets.get(kind);
    if (known !== undefined) return known;
    const outlet = createOutlet(config, kind === 'stream' ? ship.spool : undefined, shared);
    outlets.set(kind, outlet);
    return outlet;
  };
  // Loaded only where it is wanted, with what reads protobuf.
  const otlp = ship.inputs.some((input) => input.otlp !== undefined) ? await import('./source/otlp.ts') : undefined;
  const inputs = ship.inputs.map((input) => {
    const name = nameOf(input);
    const outlet = outletOf(kindOf(input));
    const build = createLineBuilder(input, masker);
    const reader = createReader(input, masker);
    const source = createInput(input, join(ship.dataDir, name), ship, { log, clock, metrics, stdin, ...otlp });
    return { name, source, deliver: (chunk: Chunk) => outlet.accept(chunk, build, reader) };
  });

  const started: Source[] = [];
  try {
    for (const { source, deliver } of inputs) {
      await source.start(deliver);
      started.push(source);
    }
  } catch (error) {
    for (const source of started) await source.stop();
    for (const outlet of outlets.values()) await outlet.close();
    for (const source of started) await source.close();
    throw error;
  }
  const all = [...outlets.values()];
  const drain = async (deadlineMs: number): Promise<boolean> =>
    (await Promise.all(all.map((outlet) => outlet.drain(deadlineMs)))).every(Boolean);
  let stopping = false;
  const ended = Promise.all(inputs.map(({ source }) => source.ended)).then(async () => {
    if (!stopping) await drain(Number.POSITIVE_INFINITY);
  });
  ended.catch(() => {});

  async function stop(): Promise<boolean> {
    stopping = true;
    await Promise.all(inputs.map(({ source }) => source.stop()));
    await drain(config.shutdownTimeoutMs);
    const kept = await Promise.all(all.map((outlet) => outlet.close()));
    for (const { source } of inputs) await source.close();
    return kept.every(Boolean);
  }
  let stopped: Promise<boolean> | undefined;

  return {
    ended,
    metrics,
    readiness: () => [
      ...inputs.map(({ name, source }) => ({ name, ...source.status() })),
      { name: 'kafka', ...outletsReady(all) },
    ],
    summary() {
      const sum = (key: keyof ShippedSummary) => all.reduce((total, outlet) => total + outlet.summary()[key], 0);
      return { sent: sum('sent'), dropped: sum('dropped'), waiting: sum('waiting'), spooled: sum('spooled') };
    },
    stop() {
      stopped ??= stop();
      return stopped;
    },
  };
}

function outletsReady(outlets: readonly Outlet[]): { readonly ready: boolean; readonly detail: string } {
  const trouble = outlets.map((outlet) => outlet.trouble()).find((text) => text !== undefined);
  return { ready: trouble === undefined, detail: trouble ?? 'taking records' };
}

// ---- inputs ----

/**
 * A file keeps what was not sent, and so does whoever waits for an answer; a stream does not. Each has a queue of its own: a long file
 * holds up nobody who waits.
 */
type Kind = 'file' | 'request' | 'stream';

function kindOf({ files, otlp }: ShipInput): Kind {
  return files !== undefined ? 'file' : otlp !== undefined ? 'request' : 'stream';
}

function createInput(
  input: ShipInput,
  dataDir: string,
  ship: ShipConfig,
  deps: {
    readonly log: Log;
    readonly clock: Clock;
    readonly metrics: Metrics;
    readonly stdin: NodeJS.ReadableStream;
    readonly createOtlpSource?: typeof createOtlpSource;
  },
): Source {
  const { follow, pollIntervalMs, commitIntervalMs, maxLineBytes } = ship;
  const rule = input.multiline === undefined ? {} : { multiline: input.multiline };
  if (input.files !== undefined) {
    const options = { paths: input.files, follow, dataDir, pollIntervalMs, commitIntervalMs, maxLineBytes, ...rule };
    return createFileSource(options, deps);
  }
  if (input.syslog !== undefined) {
    const { syslog: address, tls, maxConnections } = input;
    const more = { ...(tls === undefined ? {} : { tls }), ...(maxConnections === undefined ? {} : { maxConnections }) };
    return createSyslogSource({ address, maxLineBytes, ...more }, deps);
  }
  if (input.otlp !== undefined) {
    const { otlp: address, tokens } = input;
    return deps.createOtlpSource!({ address, maxLineBytes, ...(tokens === undefined ? {} : { tokens }) }, deps);
  }
  return createStdinSource({ input: deps.stdin, maxLineBytes, ...rule }, deps);
}

// ---- a line as a record ----

type LineBuilder = (record: RawRecord, chunk: Chunk, idOf: LineIds) => LineRecord;

/** The topic takes no longer record with its headers. */
const MAX_RECORD_BYTES = 1_000_000;
const FOREIGN_KEYS: ReadonlySet<string> = new Set(SHAPE_KEYS);

/**
 * A JSON line becomes the record, with the input's fields in front that it lacks; its own bytes stay as they are. Any other line, and
 * a foreign logger's, is wrapped, and the parser reads it as it would without (`shippedLine` in parse/shapes.ts).
 */
export function createLineBuilder(input: ShipInput, masker: Masker): LineBuilder {
  const fields = fieldsOf(input);
  const names = Object.keys(fields);
  const parts = names.map((name) => `${JSON.stringify(name)}:${JSON.stringify(fields[name])},`);
  const prefixes = Array.from({ length: 1 << names.length }, (_, missing) =>
    parts.filter((_part, i) => missing & (1 << i)).join(''),
  );

  /** The line with what it lacks, if its own bytes can stay. */
  function spliced(text: string, doc: Record<string, unknown>): string | undefined {
    let isEmpty = true;
    for (const key in doc) {
      if (FOREIGN_KEYS.has(key)) return undefined;
      isEmpty = false;
    }
    if (isEmpty) return JSON.stringify(fields);
    let missing = 0;
    for (let i = 0; i < names.length; i++) if (doc[names[i]!] === undefined) missing |= 1 << i;
    return missing === 0 ? text : `{${prefixes[missing]}${text.slice(text.indexOf('{') + 1)}`;
  }

  function wrapped(text: string, tags: readonly string[]): string {
    const all = { shippedLine: text, ...fields, ...(tags.length === 0 ? {} : { tags }) };
    const line = JSON.stringify(all);
    const bytes = Buffer.byteLength(line);
    if (bytes <= MAX_RECORD_BYTES) return line;
    // Six bytes of JSON for one of the line at worst.
    const whole = Buffer.from(text);
    const kept = whole.toString('utf8', 0, endOfCharacter(whole, Math.floor(MAX_RECORD_BYTES / 7)));
    return JSON.stringify({ ...all, shippedLine: kept, tags: [...tags, '_truncated'], originalBytes: bytes });
  }

  /** Without its secrets. */
  function masked(text: string, doc: Record<string, unknown> | undefined, tags: readonly string[]): string {
    const all = [...tags, '_masked'];
    try {
      // Numbers beside the secret keep their digits.
      const read = doc === undefined ? undefined : readObject(text);
      if (read !== undefined && read.repeated.length === 0) return wrapped(writeJson(masker.value(read.value)), all);
    } catch {
      // Nested too deep for the stack.
    }
    return wrapped(masker.text(text), all);
  }

  function lineOf(text: string, isWhole: boolean, doc: Record<string, unknown> | undefined): string {
    const tags = isWhole && (doc !== undefined || !BEGINS_LIKE_JSON.test(text)) ? [] : ['_parse_failed'];
    if (masker.holdsSecret(text)) return masked(text, doc, tags);
    const line = doc === undefined || !isWhole ? undefined : spliced(text, doc);
    return line ?? wrapped(text, tags);
  }

  return (record, { origin, done, refused }, idOf) => {
    const value = record.value!;
    const text = value.toString('utf8', startOf(value)).trimEnd();
    const isWhole = !text.includes('\uFFFD') || isUtf8(value);
    const doc = objectIn(text);
    const own = typeof doc?.eventId === 'string' ? eventIdIn(doc.eventId) : undefined;
    const line = lineOf(text, isWhole, doc);
    const { identity = '', knownBelow = 0 } = origin.kind === 'file' ? origin : {};
    return {
      line,
      eventId: own ?? record.documentId ?? idOf(record.offset, value),
      // What is named by what it is, and not by where it was, goes to the same partition when it comes again.
      key: keyOf(doc?.callId) ?? record.documentId?.slice(0, 10) ?? blockKey(identity, record.offset),
      bytes: Buffer.byteLength(line),
      resent: record.offset < knownBelow,
      done,
      ...(refused === undefined ? {} : { refused }),
    };
  };
}

/** The same for lines that can stay where they were read. */
export function createReader(input: ShipInput, masker: Masker): LineReader {
  return createLineReader({
    fields: fieldsOf(input),
    foreignKeys: SHAPE_KEYS,
    masker,
    maxBytes: MAX_RECORD_BYTES,
  });
}

/** What the input knows of its lines. */
function fieldsOf(input: ShipInput): Record<string, string> {
  // What comes over the network comes from other hosts, which mostly say who they are.
  const isFromHere = input.syslog === undefined && input.otlp === undefined;
  const { service, environment, host = isFromHere ? hostname() : undefined } = input;
  const given = Object.entries({ service, environment, host });
  return Object.fromEntries(given.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** Behind a byte order mark. */
function startOf(value: Buffer): number {
  return value[0] === 0xef && value[1] === 0xbb && value[2] === 0xbf ? 3 : 0;
}

const BEGINS_LIKE_JSON = /^\s*[{["]/;

function objectIn(text: string): Record<string, unknown> | undefined {
  if (!looksLikeObject(text)) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

// ---- the way to Kafka ----

interface Outlet {
  /** Resolves when there is room for more. */
  accept(chunk: Chunk, build: LineBuilder, reader: LineReader): Promise<void>;
  /** True when Kafka has everything that was accepted. */
  drain(deadlineMs: number): Promise<boolean>;
  /** Gives up what is under way; with a spool it goes there. True when nothing is left that nobody has. */
  close(): Promise<boolean>;
  summary(): ShippedSummary;
  trouble(): string | undefined;
}

/** How often it is asked whether a dead process has left a spool. */
const ADOPT_MS = 30_000;
const BATCH = { maxRecords: 5_000, maxBytes: 900_000, maxDelayMs: 50 };
const MAX_RECORDS = 20_000;

function createOutlet(
  config: ShippingConfig,
  spoolConfig: ShipConfig['spool'],
  deps: { readonly log: Log; readonly clock: Clock; readonly metrics: Metrics; readonly masker: Masker },
): Outlet {
  const { log, metrics, masker } = deps;
  const { ship, kafka } = config;
  const { brokers, ssl, sasl, clientId } = addressesOf(kafka);
  const settings = transportSettings({
    brokers,
    topic: kafka.topics.logs,
    service: 'logpipe-ship',
    clientId,
    compression: ship.compression,
    batch: BATCH,
    // Twice what is let in: a partition that takes nothing may fill half of a queue before records are dropped.
    queue: { maxRecords: 2 * MAX_RECORDS, maxBytes: 2 * ship.maxInFlightBytes },
    ...(ssl === false ? {} : { ssl }),
    ...(sasl === undefined ? {} : { sasl }),
    ...(spoolConfig === undefined ? {} : { spool: spoolConfig }),
  });
  const waiters: (() => void)[] = [];
  let isClosed = false;
  /** Reads of which lines are under way. */
  const reads = new Set<HeldRead>();
  let heldBytes = 0;
  /** What leaves the queue next was just dropped. */
  let areLost = false;
  const isFull = () => queue.records >= MAX_RECORDS || queue.bytes >= ship.maxInFlightBytes;
  /** Then no further read is let in. Lines of one that was let in are not held up by it: they alone make room again. */
  const holdsMuch = () => heldBytes >= ship.maxInFlightBytes;

  const queue = createQueue(settings.queue, (records) => {
    // Most of them came with one chunk.
    let count = 0;
    for (let i = 0; i < records.length; i++) {
      const record = records[i] as LineRecord;
      if (isInPlace(record)) letGo(record);
      else if (areLost) record.refused?.(1);
      const { done } = record;
      count += 1;
      if (done === (records[i + 1] as LineRecord | undefined)?.done) continue;
      done(count);
      count = 0;
    }
    areLost = false;
    metrics.inFlightBytes.set(queue.bytes);
    if (queue.relaxed) for (const wake of waiters.splice(0)) wake();
  });
  function letGo({ held, at }: LineInPlace): void {
    held.letGo(at);
    if (held.left === 0 && reads.delete(held)) heldBytes -= held.bytes.length;
  }
  /** Keeps of each read no more than what waits of it. @returns whether that made room */
  function compact(): boolean {
    const before = heldBytes;
    heldBytes = 0;
    for (const held of reads) {
      held.compact();
      heldBytes += held.bytes.length;
    }
    return heldBytes < before;
  }
  const drops = createDrops({
    onStart: ({ message }) => log.error(message),
    onEnd: (reason, dropped) => log.warn('records were dropped; that is over', { reason, dropped }),
  });
  const count: typeof drops.count = (reason, records) => {
    drops.count(reason, records);
    areLost ||= reason === 'refused' || reason === 'queue-full';
    metrics.dropped.inc({ reason: reason.replace('-', '_') }, records);
  };
  let folders: SpoolFolders | undefined;
  const spoolDeps: SpoolDeps = {
    onDropped: (records, why) => count(why === 'cap' ? 'spool-full' : 'spool-lost', records),
    onTrouble: (error) =>
      log.error('the spool cannot be used; until it can, the senders wait', { error: errorText(error) }),
    onRecovered: () => log.info('the spool is used again'),
    fs: undefined,
  };
  let spool: ReturnType<typeof createSpool> | undefined;
  if (settings.spool !== undefined) {
    const { dir, maxBytes, segmentBytes } = settings.spool;
    const own = spoolFolders(
      { dir, brokers, topic: settings.topic, service: settings.service },
      { warn: (text) => log.warn(text) },
    );
    folders = own;
    spool = createSpool({ folder: () => own.own(), maxBytes, segmentBytes }, spoolDeps);
  }
  const sender = createSender(settings, {
    queue,
    spool,
    brokers: createBrokers(settings, {
      warn: (source, message) => log.debug(masker.text(message), { source }),
      warnLoudly: (message) => log.warn(masker.text(message)),
    }),
    drops: { ...drops, count },
    onDelivered: ({ records }) => metrics.shipped.inc(records),
    onFailed: (error) =>
      log.error('Kafka takes no records; trying again', { reason: masker.text(explainConnection(error)) }),
    onResumed: (lastedMs) => log.info('Kafka takes records again', { afterMs: Math.round(lastedMs) }),
  });

  /** Never rejects. */
  async function adopt(): Promise<void> {
    for (const folder of (await folders?.adopt()) ?? []) {
      try {
        sender.adopt(await openLeftSpool(folder, spoolDeps));
      } catch (error) {
        log.error('what another process has left cannot be sent', { folder, error: errorText(error) });
      }
    }
  }
  let cancelAdopt = () => {};
  const adoptLater = (ms: number) => {
    if (folders === undefined || isClosed) return;
    cancelAdopt = deps.clock.after(ms, () => void adopt().finally(() => adoptLater(ADOPT_MS)));
  };
  adoptLater(0);
  let inFile: number | undefined;
  let ids = { identity: '', idOf: createLineIds('') };

  return {
    async accept(chunk, build, reader) {
      const { origin, lines, done } = chunk;
      const identity = origin.kind === 'file' ? origin.identity : '';
      // Chunks of one file mostly follow each other.
      if (ids.identity !== identity) ids = { identity, idOf: createLineIds(identity) };
      const { idOf } = ids;
      const long = (record: RawRecord) => build(record, chunk, idOf);
      let records: readonly LineRecord[];
      if (lines === undefined) records = Array.from(chunk.records, long);
      else {
        const knownBelow = origin.kind === 'file' ? (origin.knownBelow ?? 0) : 0;
        const read = reader({ lines, identity, ids: idOf, knownBelow, done }, long);
        ({ records } = read);
        if (read.held.left > 0) {
          while (holdsMuch()) {
            if (compact()) continue;
            if (isClosed) return;
            sender.nudge();
            await new Promise<void>((resolve) => waiters.push(resolve));
          }
          reads.add(read.held);
          heldBytes += read.held.bytes.length;
        }
      }
      for (const line of records) {
        if (sender.keep(line)) {
          chunk.done(1);
          continue;
        }
        while (isFull() || !queue.push(line)) {
          if (isClosed) return;
          sender.nudge();
          if (sender.keep(line, true)) {
            chunk.done(1);
            break;
          }
          await new Promise<void>((resolve) => waiters.push(resolve));
        }
      }
      metrics.inFlightBytes.set(queue.bytes);
      sender.nudge();
    },
    async drain(deadlineMs) {
      if (sender.undelivered === 0) return true;
      await (Number.isFinite(deadlineMs) ? endsWithin(sender.drain(), deadlineMs) : sender.drain());
      return sender.undelivered === 0;
    },
    async close() {
      isClosed = true;
      cancelAdopt();
      sender.abort();
      for (const wake of waiters.splice(0)) wake();
      await sender.save();
      inFile = await spool?.close();
      folders?.close();
      return queue.records === 0;
    },
    summary: () => ({
      sent: sender.delivered,
      dropped: drops.total(),
      waiting: queue.records,
      spooled: inFile ?? spool?.records ?? 0,
    }),
    trouble() {
      const { trouble } = sender;
      return trouble === undefined ? undefined : masker.text(explainConnection(trouble));
    },
  };
}
