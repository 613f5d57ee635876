// A ready-made logger. In: the transport's options. Out: a Winston logger that writes to the console, a log file and Kafka.
// Guarantee: the line in the file is the record in Kafka, with the same `eventId`; no call of its methods throws, and what it was
// given is in the record; a slow, full or unwritable disk holds up neither the application nor Kafka.

import fs from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import winston, { type Logger } from 'winston';
import { endsWithin } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import { AttachedTransport, FORMAT_FAILED, isOfHandler } from './attached.ts';
import { type Info, LEVEL, MESSAGE } from './call.ts';
import { createRecordBuilder, RECORD, type RecordBuilder, readableText, type ShipRecord } from './log-record.ts';
import {
  checkLevels,
  defaultLevel,
  fileMode,
  type KafkaTransportOptions,
  type Levels,
  levelNamed,
  mostSevere,
  transportSettings,
  unknownLevel,
} from './options.ts';
import { createNormaliser } from './serialise.ts';
import { HANDED, KafkaTransport, LOST, SAY } from './transport.ts';

export interface CreateLoggerOptions extends Omit<KafkaTransportOptions, 'format'> {
  /** Path of the JSON lines file; `false` for none. Default `logs/app.log`. */
  readonly file?: string | false;
  /** Permissions of a log file that is created here, `0o640` or `'640'`. Default: 666 less the umask. */
  readonly fileMode?: number | string;
  /** Short readable lines on standard output. Default true. */
  readonly console?: boolean;
  /**
   * Names of levels and their numbers, as in Winston. Default: Winston's own. Without a `level` the logger begins at `info`; if
   * that does not exist, at the least severe level that is not called debug, trace, verbose or silly.
   */
  readonly levels?: Levels;
}

/** A call of one of the logger's methods, on its way to the format. */
const CALL = Symbol('logpipe.call');

interface Call {
  readonly level: string;
  readonly args: readonly unknown[];
  /** Is it `logger.log({ level, … })`? */
  readonly levelInFirst: boolean;
}

type Format = winston.Logform.Format;

const DRAIN_POLL_MS = 5;
const MAX_COPY_CHARS = 1_000_000;

/**
 * Console, file and Kafka. The Kafka transport is the last of `logger.transports`. All of them follow `logger.level`.
 * `logger.end()` delivers what is queued and then emits `finish`.
 * @throws LogpipeError LOGPIPE_TRANSPORT_OPTIONS
 */
export function createLogger(options: CreateLoggerOptions): Logger {
  const { file = 'logs/app.log', fileMode: mode, console: toConsole = true, levels: given, level, ...rest } = options;
  const levels = given === undefined ? winston.config.npm.levels : checkLevels(given);
  const atFirst = level === undefined ? defaultLevel(levels) : levelNamed(level, levels);
  if (atFirst === undefined) throw unknownLevel(level, levels);
  const settings = transportSettings(rest);
  const permissions = mode === undefined ? undefined : fileMode(mode);
  const kafka = new KafkaTransport(rest);
  const { handleExceptions, handleRejections } = rest;
  const transports: winston.transport[] = [];
  if (toConsole) transports.push(new winston.transports.Console({ format: readable() }));
  const warn = (message: string) => {
    try {
      kafka.emit('warn', { source: 'transport', message });
    } catch {
      // A listener's mistake stays the listener's.
    }
  };
  if (file !== false) {
    const { closeTimeoutMs } = settings;
    const handles = { handleExceptions, handleRejections };
    const say = (message: string) => kafka[SAY](message);
    transports.push(new LogFile({ filename: file, mode: permissions, closeTimeoutMs, warn: say, ...handles }));
  }
  transports.push(kafka);
  const build = createRecordBuilder(settings);
  const logger = winston.createLogger({
    levels: { ...levels },
    level: atFirst,
    format: recordFormat(build),
    transports,
  });
  // Another transport's failure must not end the application: without a listener Winston's 'error' event would.
  logger.on('error', (error: unknown) => warn(`A transport failed: ${errorText(error)}`));
  watchLevel(logger, warn);
  const isOurs = guardFormat(logger, build, warn);
  return withMethods(endsEmpty(logger, kafka, settings.closeTimeoutMs), kafka, isOurs);
}

/** Builds the record once, for both the file and Kafka. */
function recordFormat(build: RecordBuilder): Format {
  return {
    transform(info) {
      const call = (info as Info)[CALL] as Call | undefined;
      if (call === undefined) return passedOn(info as Info, build(info as Info));
      const record = build.fromCall(call.level, call.args, info, call.levelInFirst);
      return passedOn(info as Info, record, call.levelInFirst ? (call.args[0] as Info) : undefined);
    },
  };
}

/**
 * The info object for the transports is a new one: an error or an object that is logged twice must not carry the first
 * record's id into the second.
 */
function passedOn(info: Info, record: ShipRecord, handlers: Info = info): winston.Logform.TransformableInfo {
  const passed: Info = { level: info[LEVEL], [LEVEL]: info[LEVEL], [MESSAGE]: record.line, [RECORD]: record };
  if (isOfHandler(handlers)) {
    if (handlers.exception === true) passed.exception = true;
    else passed.rejection = true;
  }
  return passed as unknown as winston.Logform.TransformableInfo;
}

/**
 * A format that the application sets comes before the record is built, and may throw. The returned function says whether there is
 * no such format.
 */
function guardFormat(logger: Logger, build: RecordBuilder, warn: (message: string) => void): () => boolean {
  const ours = logger.format;
  const guarded = new WeakSet<Format>([ours]);
  let current = ours;
  let fails = false;

  function guard(format: Format): Format {
    const transform: Format['transform'] = (info) => {
      let formatted: unknown;
      try {
        formatted = format.transform(info, format.options);
        fails = false;
      } catch (error) {
        if (!fails) warn(`The logger's format throws (${errorText(error)}); records are sent without it.`);
        fails = true;
        return passedOn(info as Info, build(info as Info, FORMAT_FAILED));
      }
      if (typeof formatted !== 'object' || formatted === null) return false;
      return passedOn(info as Info, build(formatted as Info));
    };
    const wrapped = { transform };
    guarded.add(wrapped);
    return wrapped;
  }

  Object.defineProperty(logger, 'format', {
    get: () => current,
    set: (format: Format | undefined) => {
      if (format === undefined || format === null) current = ours;
      else current = guarded.has(format) ? format : guard(format);
    },
    enumerable: true,
    configurable: true,
  });
  return () => current === ours;
}

/** `logger.level = 'WARN'` means `warn`; a name that is not a level changes nothing and causes a warning. */
function watchLevel(logger: Logger, warn: (message: string) => void): void {
  let current = logger.level;
  Object.defineProperty(logger, 'level', {
    get: () => current,
    set(this: unknown, level: unknown) {
      // A level set on a child applies to the child alone, as in Winston.
      if (this !== logger) Object.defineProperty(this, 'level', { value: level, writable: true, configurable: true });
      else {
        const named = levelNamed(level, logger.levels);
        if (named === undefined) warn(`${unknownLevel(level, logger.levels).message} It stays ${current}.`);
        else current = named;
      }
    },
    enumerable: true,
    configurable: true,
  });
}

/** Leaves out uncaught errors: standard error has them already. */
function readable(): Format {
  const lines = winston.format.printf((info) => readableText((info as Info)[MESSAGE] as string));
  return { transform: (info) => info.rejection !== true && lines.transform(info) };
}

/**
 * What is logged before the transports run, and what another transport holds back, is still in the logger when it ends; Winston's
 * `end()` would end the transports before that reaches them. Waits for it, but no longer than for Kafka.
 */
function endsEmpty(logger: Logger, kafka: KafkaTransport, timeoutMs: number): Logger {
  const end = logger.end.bind(logger) as (...args: unknown[]) => unknown;
  const write = logger.write.bind(logger) as (info: Info, ...rest: unknown[]) => boolean;
  let ended = false;
  logger.end = ((...args: unknown[]) => {
    const deadline = performance.now() + timeoutMs;
    const attempt = () => {
      if (logger.writableLength + logger.readableLength > 0 && performance.now() < deadline) {
        setTimeout(attempt, DRAIN_POLL_MS);
        return;
      }
      ended = true;
      end(...args);
    };
    attempt();
    return logger;
  }) as typeof logger.end;
  logger.write = ((info: Info, ...rest: unknown[]) => {
    if (!ended) return write(info, ...rest);
    kafka[LOST]('closed', info?.[LEVEL]);
    return true;
  }) as typeof logger.write;
  return logger;
}

/**
 * The logger's methods hand the arguments on as they are. Winston's own merge them, lose some, write into the objects that they
 * are given and throw on a frozen one; they are used only where the application has set a format, which needs to see Winston's
 * info objects. A record that is lost nevertheless is counted.
 */
function withMethods(logger: Logger, kafka: KafkaTransport, isOurs: () => boolean): Logger {
  type Method = (...args: unknown[]) => unknown;
  const methods = logger as unknown as Record<string, Method>;
  const winstonLog = methods.log!;

  function say(self: Logger, name: unknown, args: readonly unknown[], levelInFirst: boolean): void {
    const { levels } = logger;
    const isNamed = typeof name === 'string' && name !== '';
    const known = isNamed ? levelNamed(name, levels) : defaultLevel(levels);
    // A level that the logger does not know may be a severe one.
    const level = known ?? mostSevere(levels);
    if (!logger.isLevelEnabled(level)) return;
    const handed = kafka[HANDED];
    try {
      if (isOurs()) {
        const call: Call = { level: known ?? (name as string), args, levelInFirst };
        (self.write as unknown as (info: Info) => void)({ [LEVEL]: level, [CALL]: call });
      } else throughWinston(self, level, args, levelInFirst);
    } catch {
      // If a transport after ours threw, the record is in Kafka's queue already.
      if (kafka[HANDED] === handed) kafka[LOST]('failed', level);
    }
  }

  /** Winston throws on a frozen error, a throwing getter and the like; then it gets plain copies. */
  function throughWinston(self: Logger, level: string, args: readonly unknown[], levelInFirst: boolean): void {
    const handed = kafka[HANDED];
    const log = (given: readonly unknown[]) => {
      if (levelInFirst) winstonLog.call(self, Object.assign(given[0] as object, { level }));
      else if (given.length === 0) winstonLog.call(self, level, '');
      else winstonLog.call(self, level, ...given);
    };
    try {
      log(args);
    } catch (error) {
      if (kafka[HANDED] !== handed) throw error;
      log(args.map(plainCopy));
    }
  }

  for (const name of Object.keys(logger.levels)) {
    if (name === 'log') continue;
    methods[name] = function (this: Logger | undefined, ...args: unknown[]) {
      say(this ?? logger, name, args, false);
      return this ?? logger;
    };
  }
  methods.log = function (this: Logger | undefined, ...args: unknown[]) {
    const [first, ...others] = args;
    const isObject = typeof first === 'object' && first !== null;
    if (args.length > 1) say(this ?? logger, first, others, false);
    else if (isObject) say(this ?? logger, levelOf(first), args, true);
    else kafka[LOST]('failed', first);
    return this ?? logger;
  };
  return logger;
}

function levelOf(first: object): unknown {
  try {
    return (first as { level?: unknown }).level;
  } catch {
    return undefined;
  }
}

function plainCopy(arg: unknown): unknown {
  const plain = createNormaliser(MAX_COPY_CHARS).value(arg);
  if (typeof plain !== 'object' || plain === null) return plain;
  const copy: Record<string, unknown> = { ...plain };
  // Winston appends it to the text, which fails for objects without a prototype.
  if (typeof copy.message === 'object' && copy.message !== null) copy.message = JSON.stringify(copy.message);
  return copy;
}

// ---- the log file ----

// Lines wait in a bounded buffer, failed writes are retried, and a warning says how much had to be left out.

interface LogFileOptions {
  readonly filename: string;
  /** How long ending waits for the disk at most, in ms. */
  readonly closeTimeoutMs: number;
  /** Called once per episode. */
  warn(message: string): void;
  /** How many characters may wait. Default 16 Mi. */
  readonly maxWaiting?: number;
  /** Default 1,000. */
  readonly retryMs?: number;
  /** Permissions of a file that is created here. Default: 666 less the process's umask. */
  readonly mode?: number | undefined;
  /** How often at most to check that the open file still has its name, in ms. Default 1,000. */
  readonly lookMs?: number;
  readonly handleExceptions?: boolean | undefined;
  readonly handleRejections?: boolean | undefined;
  /** Monotonic clock in ms. */
  readonly now?: () => number;
}

const MAX_WAITING = 16 * 1024 * 1024;
const RETRY_MS = 1_000;
const LOOK_MS = 1_000;
const open = promisify(fs.open);
const write = promisify(fs.write);
const fstat = promisify(fs.fstat);
const fchmod = promisify(fs.fchmod);
const { stat } = fs.promises;

/** An open file and its identity, whatever its name may be by now. */
interface OpenFile {
  readonly fd: number;
  readonly ino: number;
  readonly dev: number;
}

/**
 * Not Winston's own File transport: after an error, that one never writes again and says nothing about it; and while it cannot
 * write, its logger hands nothing to the other transports and grows.
 */
export class LogFile extends AttachedTransport {
  readonly name = 'file';
  readonly filename: string;
  readonly #options: LogFileOptions & { maxWaiting: number; retryMs: number; lookMs: number; now(): number };
  #lines: string[] = [];
  /** Characters, those being written included. */
  #waiting = 0;
  #unwritten = 0;
  #missing = 0;
  #failing = false;
  #over = false;
  #file: OpenFile | undefined;
  #lookedAt = 0;
  #writing: Promise<void> | undefined;
  #ending: Promise<void> | undefined;
  #wake = () => {};

  constructor(options: LogFileOptions) {
    const { warn, handleExceptions = false, handleRejections = false } = options;
    super({ warn, handleExceptions, handleRejections });
    this.filename = options.filename;
    this.#options = {
      ...{ maxWaiting: MAX_WAITING, retryMs: RETRY_MS, lookMs: LOOK_MS, now: () => performance.now() },
      ...options,
    };
  }

  protected override take(info: Info): void {
    const line = `${info[MESSAGE] as string}\n`;
    if (this.#over || this.#waiting + line.length > this.#options.maxWaiting) {
      if (this.#missing++ === 0) this.#warn('cannot keep up: lines are left out until it can be written');
    } else {
      this.#lines.push(line);
      this.#unwritten++;
      this.#waiting += line.length;
      this.#writing ??= this.#writeAll();
    }
  }

  /** Closes the file; the next line opens it again. */
  protected override alone(): void {
    void Promise.resolve(this.#writing).then(() => {
      if (this.parent === null && this.#writing === undefined) this.#closeFile();
    });
  }

  override _final(callback: (error?: Error | null) => void): void {
    void this.#end().then(() => callback());
  }

  async #writeAll(): Promise<void> {
    // What the application logs in this turn goes out together.
    await null;
    while (this.#lines.length > 0 && !this.#over) {
      const lines = this.#lines;
      const text = lines.join('');
      this.#lines = [];
      await this.#append(Buffer.from(text));
      if (this.#over) break;
      this.#unwritten -= lines.length;
      this.#waiting -= text.length;
      if (this.#missing > 0 && this.#waiting * 2 <= this.#options.maxWaiting) {
        this.#warn(`is written again; ${this.#missing} lines are missing from it`);
        this.#missing = 0;
      }
    }
    this.#writing = undefined;
    if (this.#over) this.#closeFile();
  }

  /** Every byte once, however often the disk refuses in between. */
  async #append(data: Buffer): Promise<void> {
    for (let at = 0; at < data.length && !this.#over; ) {
      try {
        // A line must not be torn between two files.
        if (at === 0) await this.#look();
        this.#file ??= await this.#open();
        at += (await write(this.#file.fd, data, at)).bytesWritten;
        this.#failing = false;
      } catch (error) {
        if (!this.#failing) this.#warn(`cannot be written: ${errorText(error)}`);
        this.#failing = true;
        this.#closeFile();
        await this.#pause();
      }
    }
  }

  /** A file that was renamed or deleted gets no more lines: a new one of that name is opened. */
  async #look(): Promise<void> {
    if (this.#file === undefined || this.#options.now() - this.#lookedAt < this.#options.lookMs) return;
    this.#lookedAt = this.#options.now();
    const there = await stat(this.filename).catch(() => undefined);
    if (there?.ino !== this.#file.ino || there.dev !== this.#file.dev) this.#closeFile();
  }

  async #open(): Promise<OpenFile> {
    await fs.promises.mkdir(dirname(this.filename), { recursive: true });
    const { mode } = this.#options;
    const isNew = (await stat(this.filename).catch(() => undefined)) === undefined;
    const fd = await open(this.filename, 'a', mode ?? 0o666);
    try {
      // The umask has removed bits from the mode.
      if (isNew && mode !== undefined) await fchmod(fd, mode);
      const { ino, dev } = await fstat(fd);
      this.#lookedAt = this.#options.now();
      return { fd, ino, dev };
    } catch (error) {
      fs.close(fd, () => {});
      throw error;
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#options.retryMs);
      timer.unref();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#over) this.#wake();
    });
  }

  #end(): Promise<void> {
    this.#ending ??= this.#finish();
    return this.#ending;
  }

  async #finish(): Promise<void> {
    if (this.#writing !== undefined) await endsWithin(this.#writing, this.#options.closeTimeoutMs);
    this.#over = true;
    this.#wake();
    const lost = this.#unwritten + this.#missing;
    if (lost > 0) this.#warn(`was closed; ${lost} lines are missing from it`);
    // A hanging write still needs the file, and closes it when it returns.
    if (this.#writing === undefined) this.#closeFile();
  }

  #closeFile(): void {
    if (this.#file !== undefined) fs.close(this.#file.fd, () => {});
    this.#file = undefined;
  }

  #warn(what: string): void {
    this.#options.warn(`The log file ${this.filename} ${what}.`);
  }
}
