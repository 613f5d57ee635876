// Options of the transport. In: what the application passed. Out: frozen settings with every default filled in. Guarantee:
// whatever is accepted here can be used; what cannot is refused at once, with the option, its value and what is permitted.
import { createRequire } from 'node:module';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { type ConnectionOptions, createSecureContext } from 'node:tls';
import type { SASLOptions } from 'kafkajs';
import type { TransportStreamOptions } from 'winston-transport';
import { errorText, LogpipeError } from '../core/errors.ts';
import { exponentialReason } from '../core/regex-ambiguity.ts';
import { PERSONAL_SWITCHES } from '../core/secrets/personal.ts';

/** `snappy` is the fast one: about a third of the bytes for a fraction of gzip's CPU time. */
export const COMPRESSIONS = ['none', 'gzip', 'snappy', 'lz4'] as const;
/** Packages that are loaded for a compression alone. `logpipe` brings them along, `logpipe-transport` does not. */
const PACKAGE_OF: Readonly<Partial<Record<Compression, string>>> = { snappy: 'snappy', lz4: 'lz4-napi' };
export type Compression = (typeof COMPRESSIONS)[number];

export interface BatchOptions {
  /** Most records per request. Default 500. */
  readonly maxRecords?: number;
  /** Most bytes per request (a single longer record goes alone). Default 500,000. */
  readonly maxBytes?: number;
  /** Longest wait for a batch to fill, in ms. Default 100. */
  readonly maxDelayMs?: number;
}

export interface QueueOptions {
  /** Most records waiting or being sent; further ones are dropped and counted. Default 100,000. */
  readonly maxRecords?: number;
  /** The same in UTF-8 bytes. Default 64 MiB. */
  readonly maxBytes?: number;
}

/** Files that keep records while Kafka is away. */
export interface SpoolOptions {
  /** A folder on a local disk. Several processes may share it: each has folders of its own in it. */
  readonly dir: string;
  /** Most bytes for each transport; beyond that its oldest records are dropped and counted. Default 512 MiB. */
  readonly maxBytes?: number;
  /** Length of one file: what is delivered is deleted file by file. Default 8 MiB. */
  readonly segmentBytes?: number;
}

export interface MaskingOptions {
  /** Further key names whose values are secret. */
  readonly keys?: readonly string[];
  /** Further regular expressions (source text) whose matches are secret. */
  readonly patterns?: readonly string[];
  /** Mask phone numbers as `[phone]`. Default false, as are the next two; set them in logpipe's configuration too. */
  readonly phoneNumbers?: boolean;
  /** Mask e-mail addresses as `[email]`. */
  readonly emailAddresses?: boolean;
  /** Mask IP addresses as `[ip]`; ports stay. */
  readonly ipAddresses?: boolean;
}

export interface KafkaTransportOptions
  extends Pick<TransportStreamOptions, 'format' | 'silent' | 'handleExceptions' | 'handleRejections'> {
  /** Addresses asked first for the cluster: `['kafka-1:9092', …]`. */
  readonly brokers: readonly string[];
  /** Default `calling-platform-logs`. */
  readonly topic?: string;
  /** Name of the application. Records that have a `service` of their own keep it; the same goes for the next three. */
  readonly service: string;
  /** Default: NODE_ENV, else `development`. */
  readonly environment?: string;
  /** Release of the application. */
  readonly version?: string;
  readonly tenantId?: string;
  /** Least severe level that is sent; capitals do not matter. Default: follows the logger's own level. */
  readonly level?: string;
  /** Name shown in the brokers' logs. Default: `service`. */
  readonly clientId?: string;
  /** TLS; `true` for the system's certificate authorities. */
  readonly ssl?: boolean | ConnectionOptions;
  readonly sasl?: SASLOptions;
  /** Default `none`. `snappy` and `lz4` take the packages `snappy` and `lz4-napi`. */
  readonly compression?: Compression;
  readonly batch?: BatchOptions;
  readonly queue?: QueueOptions;
  /** Keeps records on disk while Kafka is away. Default: none, they wait in memory. */
  readonly spool?: SpoolOptions;
  /** Longer records are cut and tagged `_truncated`. UTF-8 bytes; default and maximum 1,000,000. */
  readonly maxRecordBytes?: number;
  /** How long `close()` waits for delivery at most, in ms. Default 10,000. */
  readonly closeTimeoutMs?: number;
  readonly mask?: MaskingOptions;
}

/** Options with every default filled in. */
export interface TransportSettings {
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly service: string;
  readonly environment: string;
  readonly version: string | undefined;
  readonly tenantId: string | undefined;
  readonly host: string;
  readonly pid: number;
  readonly level: string;
  readonly clientId: string;
  readonly ssl: boolean | ConnectionOptions;
  readonly sasl: SASLOptions | undefined;
  readonly compression: Compression;
  readonly batch: Required<BatchOptions>;
  readonly queue: Required<QueueOptions>;
  readonly spool: Required<SpoolOptions> | undefined;
  readonly maxRecordBytes: number;
  readonly closeTimeoutMs: number;
  readonly mask: MaskingOptions;
}

const KNOWN = new Set([
  ...['brokers', 'topic', 'service', 'environment', 'version', 'tenantId', 'level', 'clientId', 'ssl', 'sasl'],
  ...['compression', 'batch', 'queue', 'spool', 'maxRecordBytes', 'closeTimeoutMs', 'mask'],
  ...['format', 'silent', 'handleExceptions', 'handleRejections'],
]);
const MAX_RECORD_BYTES = 1_000_000;
const MIB = 1024 * 1024;
/** What is read at once after a crash is some of it, and it is deleted as a whole. */
const MAX_SEGMENT_BYTES = 256 * MIB;
/** Leaves room for the tags and the count that a cut record is given. */
const MIN_RECORD_BYTES = 1_000;
const SASL_MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512', 'aws', 'oauthbearer'];

/** @throws LogpipeError LOGPIPE_TRANSPORT_OPTIONS naming the option, its value and what is permitted. */
export function transportSettings(options: KafkaTransportOptions): TransportSettings {
  if (typeof options !== 'object' || options === null) throw refuse('options', options, 'an object');
  for (const name of Object.keys(options)) {
    if (!KNOWN.has(name)) throw refuse(name, undefined, `one of ${[...KNOWN].join(', ')}`, 'is not an option');
  }
  const { brokers, batch = {}, queue = {}, mask = {} } = options;
  if (!Array.isArray(brokers) || brokers.length === 0) throw refuse('brokers', brokers, "a list like ['kafka:9092']");
  for (const broker of brokers) {
    if (typeof broker !== 'string' || !/^(?:[^\s:/]+|\[[0-9a-fA-F:]+\]):\d{1,5}$/.test(broker)) {
      throw refuse('brokers', broker, 'host:port');
    }
  }
  const service = text('service', options.service);
  const ssl = options.ssl ?? false;
  if (typeof ssl !== 'boolean' && (typeof ssl !== 'object' || ssl === null)) {
    throw refuse('ssl', typeof ssl, 'true, false or the options of tls.connect');
  }
  if (typeof ssl === 'object') checkTls(ssl);
  checkSasl(options.sasl);
  const compression = options.compression ?? 'none';
  if (!COMPRESSIONS.includes(compression)) throw refuse('compression', compression, COMPRESSIONS.join(', '));
  checkInstalled(compression);
  checkKeys('batch', batch, ['maxRecords', 'maxBytes', 'maxDelayMs']);
  checkKeys('queue', queue, ['maxRecords', 'maxBytes']);
  checkKeys('mask', mask, ['keys', 'patterns', ...PERSONAL_SWITCHES]);
  checkMask(mask);
  return Object.freeze({
    brokers: [...brokers],
    topic: topicName(options.topic ?? 'calling-platform-logs'),
    service,
    environment: text('environment', options.environment ?? (process.env.NODE_ENV || 'development')),
    version: options.version === undefined ? undefined : text('version', options.version),
    tenantId: options.tenantId === undefined ? undefined : text('tenantId', options.tenantId),
    host: hostname(),
    pid: process.pid,
    level: text('level', options.level ?? 'info'),
    clientId: text('clientId', options.clientId ?? service),
    ssl,
    sasl: options.sasl,
    compression,
    batch: Object.freeze({
      maxRecords: whole('batch.maxRecords', batch.maxRecords ?? 500, 1, 10_000),
      maxBytes: whole('batch.maxBytes', batch.maxBytes ?? 500_000, 1_000, MAX_RECORD_BYTES),
      maxDelayMs: whole('batch.maxDelayMs', batch.maxDelayMs ?? 100, 0, 60_000),
    }),
    queue: Object.freeze({
      maxRecords: whole('queue.maxRecords', queue.maxRecords ?? 100_000, 1, 10_000_000),
      maxBytes: whole('queue.maxBytes', queue.maxBytes ?? 64 * 1024 * 1024, 1_000, 4_294_967_296),
    }),
    spool: spoolOptions(options.spool),
    maxRecordBytes: whole(
      'maxRecordBytes',
      options.maxRecordBytes ?? MAX_RECORD_BYTES,
      MIN_RECORD_BYTES,
      MAX_RECORD_BYTES,
    ),
    closeTimeoutMs: whole('closeTimeoutMs', options.closeTimeoutMs ?? 10_000, 0, 600_000),
    mask,
  });
}

function spoolOptions(spool: SpoolOptions | undefined): Required<SpoolOptions> | undefined {
  if (spool === undefined) return undefined;
  checkKeys('spool', spool, ['dir', 'maxBytes', 'segmentBytes']);
  const maxBytes = whole('spool.maxBytes', spool.maxBytes ?? 512 * MIB, 4 * MIB, 2 ** 40);
  const segmentBytes = whole(
    'spool.segmentBytes',
    spool.segmentBytes ?? Math.min(8 * MIB, maxBytes / 4),
    64 * 1024,
    MAX_SEGMENT_BYTES,
  );
  return Object.freeze({ dir: resolve(text('spool.dir', spool.dir)), maxBytes, segmentBytes });
}

/** Found out now and not at the first batch, which would wait in the queue for good. */
function checkInstalled(compression: Compression): void {
  const name = PACKAGE_OF[compression];
  if (name === undefined) return;
  try {
    createRequire(import.meta.url).resolve(name);
  } catch (error) {
    // Anything else, as in a bundle, is no proof that it is missing.
    if ((error as { code?: unknown }).code !== 'MODULE_NOT_FOUND') return;
    const permitted = `none, gzip, and ${compression} after \`npm install ${name}\``;
    throw refuse(
      'compression',
      compression,
      permitted,
      `is ${show(compression)}, and the package ${name} is not installed`,
    );
  }
}

function checkSasl(sasl: SASLOptions | undefined): void {
  if (sasl === undefined) return;
  const mechanism: unknown = sasl?.mechanism;
  if (typeof mechanism !== 'string' || !SASL_MECHANISMS.includes(mechanism.toLowerCase())) {
    throw refuse('sasl.mechanism', mechanism, SASL_MECHANISMS.join(', '));
  }
  if (!/^(?:plain|scram)/i.test(mechanism)) return;
  const { username, password } = sasl as { username?: unknown; password?: unknown };
  if (typeof username !== 'string' || username === '') throw refuse('sasl.username', username, 'a non-empty text');
  // The value is not shown: it may be the password with a typo.
  if (typeof password !== 'string' || password === '') throw refuse('sasl.password', typeof password, 'a text');
}

function checkTls(ssl: ConnectionOptions): void {
  try {
    createSecureContext(ssl);
  } catch (error) {
    // Node may show what it received, and that may be a passphrase.
    const reason = errorText(error).replace(/ Received [\s\S]*/, '');
    throw refuse('ssl', undefined, 'certificates and keys in PEM that belong together', `fails (${reason})`);
  }
}

function checkMask(mask: MaskingOptions): void {
  for (const name of ['keys', 'patterns'] as const) {
    const list: unknown = mask[name] ?? [];
    if (!Array.isArray(list) || list.some((entry) => typeof entry !== 'string' || entry === '')) {
      throw refuse(`mask.${name}`, list, 'a list of non-empty texts');
    }
  }
  for (const name of PERSONAL_SWITCHES) {
    const given: unknown = mask[name] ?? false;
    if (typeof given !== 'boolean') throw refuse(`mask.${name}`, given, 'true or false');
  }
  for (const pattern of mask.patterns ?? []) {
    try {
      new RegExp(pattern);
    } catch {
      throw refuse('mask.patterns', pattern, 'the source of a regular expression');
    }
    const reason = exponentialReason(pattern);
    if (reason !== undefined) {
      const permitted = 'an expression whose repeated parts match a text in one way only';
      throw refuse(
        'mask.patterns',
        pattern,
        permitted,
        `is ${show(pattern)} and may take exponential time, since ${reason}`,
      );
    }
  }
}

function checkKeys(name: string, section: unknown, known: readonly string[]): void {
  if (typeof section !== 'object' || section === null) throw refuse(name, section, `an object of ${known.join(', ')}`);
  for (const key of Object.keys(section)) {
    if (!known.includes(key)) throw refuse(`${name}.${key}`, undefined, known.join(', '), 'is not an option');
  }
}

function text(name: string, value: unknown): string {
  if (typeof value !== 'string' || value.trim() === '') throw refuse(name, value, 'a non-empty text');
  return value;
}

function topicName(value: unknown): string {
  const valid = typeof value === 'string' && /^[a-zA-Z0-9._-]{1,249}$/.test(value) && value !== '.' && value !== '..';
  if (!valid) throw refuse('topic', value, 'up to 249 of the characters a-z A-Z 0-9 . _ -');
  return value;
}

function whole(name: string, value: unknown, min: number, max: number): number {
  if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) {
    throw refuse(name, value, `a whole number from ${min} to ${max}`);
  }
  return value as number;
}

/** @throws LogpipeError LOGPIPE_TRANSPORT_OPTIONS */
export function fileMode(value: unknown): number {
  const mode =
    typeof value === 'string' && /^(?:0o?)?[0-7]{3}$/.test(value) ? Number.parseInt(value.slice(-3), 8) : value;
  if (!Number.isInteger(mode) || (mode as number) < 0 || (mode as number) > 0o777 || ((mode as number) & 0o200) === 0) {
    throw refuse('fileMode', value, "octal permissions with which the owner can write, like 0o640 or '640'");
  }
  return mode as number;
}

/** @throws LogpipeError LOGPIPE_TRANSPORT_OPTIONS */
export function checkLevels(levels: unknown): Levels {
  const numbers = typeof levels === 'object' && levels !== null ? Object.values(levels) : [];
  if (numbers.length === 0 || numbers.some((number) => !Number.isFinite(number))) {
    throw refuse('levels', levels, 'an object of names and numbers, the most severe with the lowest, as in Winston');
  }
  return levels as Levels;
}

export function unknownLevel(level: unknown, levels: Levels): LogpipeError {
  return refuse('level', level, Object.keys(levels).join(', '));
}

function refuse(option: string, value: unknown, permitted: string, problem = `is ${show(value)}`): LogpipeError {
  return new LogpipeError(
    'LOGPIPE_TRANSPORT_OPTIONS',
    `KafkaTransport: ${option} ${problem}; permitted: ${permitted}.`,
  );
}

function show(value: unknown): string {
  try {
    return (JSON.stringify(value) ?? String(value)).slice(0, 100);
  } catch {
    return typeof value;
  }
}

// ---- names of levels: as somebody wrote them, and as the logger knows them ----

/** With their numbers: a lower one is more severe, as in Winston. */
export type Levels = Readonly<Record<string, number>>;

/** Levels for debugging, which are not sent by default even where a logger has no `info`. */
const FOR_DEBUGGING = /^(?:debug|trace|verbose|silly|all|fine|finer|finest)$/i;

/** The level of this name; failing that, the only one that differs in capitals alone; else undefined. */
export function levelNamed(name: unknown, levels: Levels): string | undefined {
  if (typeof name !== 'string') return undefined;
  if (Object.hasOwn(levels, name)) return name;
  const alike = Object.keys(levels).filter((level) => level.toLowerCase() === name.toLowerCase());
  return alike.length === 1 ? alike[0] : undefined;
}

/** `info`; failing that, the least severe level that is not for debugging; failing that, the least severe. */
export function defaultLevel(levels: Levels): string {
  const rising = Object.keys(levels).sort((a, b) => levels[b]! - levels[a]!);
  return levelNamed('info', levels) ?? rising.find((level) => !FOR_DEBUGGING.test(level)) ?? rising[0]!;
}

export function mostSevere(levels: Levels): string {
  return Object.keys(levels).reduce((most, level) => (levels[level]! < levels[most]! ? level : most));
}
