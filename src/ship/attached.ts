// What both transports share: how they live with Winston's loggers. In: info objects from any number of loggers, which come and
// go. Out: calls of `take`. Guarantee: leaving one logger ends nothing; no record is lost to a level that the logger does not
// know, a format that throws or an `exception` field that is not Winston's; nothing throws into the caller.
import TransportStream from 'winston-transport';
import { errorText } from '../core/errors.ts';
import { type Info, LEVEL } from './call.ts';
import { RECORD } from './log-record.ts';
import { defaultLevel, type Levels, levelNamed, unknownLevel } from './options.ts';

/** Tag of a record whose format threw: the record is what the format was given. */
export const FORMAT_FAILED = '_format_failed';

/** As much of a Winston logger as is needed here. */
interface Source {
  readonly levels: Levels;
  readonly level: string;
  readonly transports: readonly { readonly name?: string; readonly handleExceptions?: boolean }[];
  readonly _writableState: { readonly ending: boolean };
  listenerCount(event: string): number;
}

export interface AttachedOptions extends TransportStream.TransportStreamOptions {
  /** Called when a logger has a level that its own levels do not have, and when `format` begins to throw. */
  warn(message: string): void;
}

export abstract class AttachedTransport extends TransportStream {
  /** The logger that was attached last; null when the last one has removed it. Winston's own name. */
  declare parent: Source | null | undefined;
  readonly #sources = new Set<Source>();
  readonly #warn: (message: string) => void;
  /** The level asked for; undefined follows the logger's. */
  #wanted: string | undefined;
  /** What `#wanted` and the logger's level resolved to, and among which levels. */
  #resolved: { wanted: string; levels: Levels; level: string; severity: number } | undefined;
  #formatFails = false;

  constructor(options: AttachedOptions) {
    const { warn, level, ...rest } = options;
    super(rest);
    this.#warn = warn;
    this.#wanted = level;
    // A transport in many loggers has many listeners; that is not a leak.
    this.setMaxListeners(0);
    if (options.handleExceptions || options.handleRejections) makeRoomForHandlers();
    // Winston's own listeners work only once, and end the transport with the first logger that removes it.
    const itsOwn = ['pipe', 'unpipe'].map((event) => [event, this.rawListeners(event)] as const);
    this.on('pipe', (source: unknown) => this.#attach(source as Source));
    this.on('unpipe', (source: unknown) => this.#detach(source as Source));
    for (const [event, listeners] of itsOwn) {
      for (const listener of listeners) this.removeListener(event, listener as () => void);
    }
  }

  /** `level`, as Winston calls it. */
  static leastOf(transport: AttachedTransport): string | undefined {
    return transport.#least()?.level ?? transport.#wanted;
  }

  static setLeast(transport: AttachedTransport, level: string | undefined): void {
    // Winston's constructor sets the level before there is a field to hold it.
    if (!(#wanted in transport)) return;
    transport.#wanted = level;
    transport.#resolved = undefined;
  }

  /** Takes one record; `tag` is added to its tags. Must not throw. */
  protected abstract take(info: Info, tag?: string): void;

  /** No logger has this transport any more; one may add it again. */
  protected abstract alone(): void;

  override log(info: Info, next: () => void): void {
    this.take(info);
    next();
  }

  override _write(info: unknown, _encoding: string, callback: () => void): void {
    this.#accept(info);
    callback();
  }

  override _writev(chunks: readonly { chunk: unknown }[], callback: () => void): void {
    for (const { chunk } of chunks) this.#accept(chunk);
    callback();
  }

  /** While another logger writes here, one that ends must neither end this transport nor wait for its end. */
  get finished(): boolean {
    return this.#isShared();
  }

  override end(...args: unknown[]): this {
    if (!this.#isShared()) (super.end as (...args: unknown[]) => void)(...args);
    return this;
  }

  /** Would a record of this level be taken? True for a level that the logger does not know. */
  protected wants(level: unknown): boolean {
    const severity = typeof level === 'string' ? this.#levels()?.[level] : undefined;
    return severity === undefined || severity <= (this.#least()?.severity ?? severity);
  }

  #accept(info: unknown): void {
    // A format returns `false` to leave a record out.
    if (typeof info !== 'object' || info === null || this.silent) return;
    const given = info as Info;
    if (given.exception === true && isCrash(given) && !this.handleExceptions) return;
    if (!this.wants(given[LEVEL])) return;
    let formatted: unknown = given;
    let tag: string | undefined;
    try {
      if (this.format !== undefined) {
        formatted = this.format.transform(Object.assign({}, given) as never, this.format.options);
        this.#formatFails = false;
      }
    } catch (error) {
      if (!this.#formatFails)
        this.#warn(`The transport's format throws (${errorText(error)}); records are sent without it.`);
      this.#formatFails = true;
      tag = FORMAT_FAILED;
    }
    if (typeof formatted === 'object' && formatted !== null) this.take(formatted as Info, tag);
  }

  #attach(source: Source): void {
    this.#sources.add(source);
    this.#follow(source);
    if (this.#wanted === undefined || levelNamed(this.#wanted, source.levels) !== undefined) return;
    const wanted = this.#wanted;
    this.#wanted = undefined;
    throw unknownLevel(wanted, source.levels);
  }

  #detach(source: Source): void {
    this.#sources.delete(source);
    if (this.parent !== source) return;
    const next = [...this.#sources].at(-1);
    if (next !== undefined) this.#follow(next);
    else {
      this.parent = null;
      this.alone();
    }
  }

  #follow(source: Source): void {
    // Winston's own names: its loggers and formats look for them.
    Object.assign(this, { parent: source, levels: source.levels });
    this.#resolved = undefined;
  }

  #levels(): Levels | undefined {
    return (this as unknown as { levels?: Levels }).levels;
  }

  /** The least severe level that is taken; undefined takes all. Called for every record. */
  #least(): { level: string; severity: number } | undefined {
    const levels = this.#levels();
    const wanted = this.#wanted ?? this.parent?.level;
    const before = this.#resolved;
    if (before !== undefined && before.wanted === wanted && before.levels === levels) return before;
    if (levels === undefined || wanted === undefined) return undefined;
    const named = levelNamed(wanted, levels);
    const level = named ?? defaultLevel(levels);
    this.#resolved = { wanted, levels, level, severity: levels[level]! };
    if (named === undefined) this.#warn(`${unknownLevel(wanted, levels).message} ${level} is used.`);
    return this.#resolved;
  }

  #isShared(): boolean {
    const ending = [...this.#sources].filter((source) => source._writableState.ending).length;
    return ending > 0 && ending < this.#sources.size;
  }
}

// On the prototype: an own property with a getter would slow down every access to a transport.
Object.defineProperty(AttachedTransport.prototype, 'level', {
  get(this: AttachedTransport) {
    return AttachedTransport.leastOf(this);
  },
  set(this: AttachedTransport, level: string | undefined) {
    AttachedTransport.setLeast(this, level);
  },
  configurable: true,
});

/** Is this what Winston makes of an uncaught error? An application's own field `exception: true` is not. */
export function isCrash(info: Info): boolean {
  return (info.exception === true || info.rejection === true) && (info[RECORD] !== undefined || isOfHandler(info));
}

/** Does it have the fields that Winston's handlers add to an uncaught error? */
export function isOfHandler(info: Info): boolean {
  return (info.exception === true || info.rejection === true) && info.trace !== undefined && info.os !== undefined;
}

/** Each logger that handles exceptions listens to the process; Node warns of a leak at more than ten. */
function makeRoomForHandlers(): void {
  const most = process.getMaxListeners();
  const used = Math.max(process.listenerCount('uncaughtException'), process.listenerCount('unhandledRejection'));
  if (most !== 0 && used + 2 > most) process.setMaxListeners(used + 10);
}
