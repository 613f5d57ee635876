// The log file beside Kafka. In: records. Out: their lines, appended to a file. Guarantee: a slow, full or unwritable disk
// holds up neither the application nor Kafka: lines wait in a bounded buffer, writing is tried again and again, and what
// had to be left out is told.
import fs from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import TransportStream from 'winston-transport';
import { errorText } from '../core/errors.ts';
import { type Info, MESSAGE } from './record.ts';

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
}

const MAX_WAITING = 16 * 1024 * 1024;
const RETRY_MS = 1_000;
const open = promisify(fs.open);
const write = promisify(fs.write);

/**
 * Not Winston's own File transport: that one never writes again after an error and says nothing about it, and while it cannot
 * write, its logger hands nothing to the other transports and grows.
 */
export class LogFile extends TransportStream {
  readonly name = 'file';
  readonly filename: string;
  readonly #options: Required<LogFileOptions>;
  #lines: string[] = [];
  /** Characters, also of what is being written. */
  #waiting = 0;
  #unwritten = 0;
  #missing = 0;
  #failing = false;
  #over = false;
  #fd: number | undefined;
  #writing: Promise<void> | undefined;
  #ending: Promise<void> | undefined;
  #wake = () => {};

  constructor(options: LogFileOptions) {
    super();
    this.filename = options.filename;
    this.#options = { maxWaiting: MAX_WAITING, retryMs: RETRY_MS, ...options };
  }

  override log(info: Info, next: () => void): void {
    const line = `${info[MESSAGE] as string}\n`;
    if (this.#over || this.#waiting + line.length > this.#options.maxWaiting) {
      if (this.#missing++ === 0) this.#warn('is behind: lines are left out until it can be written');
    } else {
      this.#lines.push(line);
      this.#unwritten++;
      this.#waiting += line.length;
      this.#writing ??= this.#writeAll();
    }
    next();
  }

  override _final(callback: (error?: Error | null) => void): void {
    void this.#end().then(() => callback());
  }

  /** Winston's word for "taken out of the logger". */
  override close(): void {
    void this.#end();
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
        this.#fd ??= await this.#open();
        at += (await write(this.#fd, data, at)).bytesWritten;
        this.#failing = false;
      } catch (error) {
        if (!this.#failing) this.#warn(`cannot be written: ${errorText(error)}`);
        this.#failing = true;
        this.#closeFile();
        await this.#pause();
      }
    }
  }

  async #open(): Promise<number> {
    await fs.promises.mkdir(dirname(this.filename), { recursive: true });
    return await open(this.filename, 'a');
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
    if (this.#fd !== undefined) fs.close(this.#fd, () => {});
    this.#fd = undefined;
  }

  #warn(what: string): void {
    this.#options.warn(`The log file ${this.filename} ${what}.`);
  }
}
