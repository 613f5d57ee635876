// The log file beside Kafka. In: records. Out: their lines, appended to a file. Guarantee: a slow, full or unwritable disk
// holds up neither the application nor Kafka: lines wait in a bounded buffer, writing is tried again and again, and what
// had to be left out is told.
import fs from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { errorText } from '../core/errors.ts';
import { AttachedTransport } from './attached.ts';
import { type Info, MESSAGE } from './call.ts';

export interface LogFileOptions {
  readonly filename: string;
  /** Longest that ending waits for the disk. */
  readonly closeTimeoutMs: number;
  /** Told once per episode. */
  warn(message: string): void;
  /** Characters that wait at most. Default 16 Mi. */
  readonly maxWaiting?: number;
  /** Default 1,000. */
  readonly retryMs?: number;
  /** Permissions of a file that is made here. Default: what the process's umask leaves of 666. */
  readonly mode?: number | undefined;
  /** How often at most to look whether the file is still the one of that name, in ms. Default 1,000. */
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

/** An open file, and which one it is, whatever its name may be by now. */
interface OpenFile {
  readonly fd: number;
  readonly ino: number;
  readonly dev: number;
}

/**
 * Not Winston's own File transport: that one never writes again after an error and says nothing about it, and while it cannot
 * write, its logger hands nothing to the other transports and grows.
 */
export class LogFile extends AttachedTransport {
  readonly name = 'file';
  readonly filename: string;
  readonly #options: LogFileOptions & { maxWaiting: number; retryMs: number; lookMs: number; now(): number };
  #lines: string[] = [];
  /** Characters, also of what is being written. */
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
      if (this.#missing++ === 0) this.#warn('is behind: lines are left out until it can be written');
    } else {
      this.#lines.push(line);
      this.#unwritten++;
      this.#waiting += line.length;
      this.#writing ??= this.#writeAll();
    }
  }

  /** The file is let go; the next line opens it again. */
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
        this.#warn(`is written again; ${this.#missing} lines are missing in it`);
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
        // A line is not torn between two files.
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

  /** A file that was renamed or deleted gets no more lines: one of the name is opened. */
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
      // The umask has taken its bits from it.
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
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#options.closeTimeoutMs);
    });
    await Promise.race([this.#writing, deadline]);
    clearTimeout(timer);
    this.#over = true;
    this.#wake();
    const lost = this.#unwritten + this.#missing;
    if (lost > 0) this.#warn(`was closed; ${lost} lines are missing in it`);
    // A write that hangs still has the file, and closes it when it comes back.
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
