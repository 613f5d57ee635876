// Waiting for something to become true, with a deadline and a way out.
import { sleep } from '../../src/core/clock.ts';
import { errorText, LogpipeError } from '../../src/core/errors.ts';
import type { Child } from './child.ts';

/** Thrown where a wait was cut short by Ctrl-C; no failure. */
export class Interrupted extends Error {}

/** As `promise`, but rejects with Interrupted as soon as `signal` aborts. */
export function unlessInterrupted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new Interrupted());
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}

export interface UntilOptions {
  /** For the message: "the pipeline to be ready". */
  what: string;
  timeoutMs: number;
  intervalMs?: number;
  /** Not waited for any longer once it has ended. */
  child?: Child;
}

/** Polls until `look` gives something truthy. Throws LOGPIPE_STACK_FAILED at the deadline or when `child` has ended. */
export async function until<T>(look: () => Promise<T> | T, options: UntilOptions): Promise<NonNullable<T>> {
  const deadline = Date.now() + options.timeoutMs;
  let last = '';
  for (;;) {
    try {
      const value = await look();
      if (value) return value as NonNullable<T>;
    } catch (error) {
      last = ` (${errorText(error)})`;
    }
    const exit = options.child?.exited();
    if (exit) throw new LogpipeError('LOGPIPE_STACK_FAILED', endedMessage(options.child!));
    if (Date.now() > deadline) {
      const words = options.child ? `; ${options.child.name} last said:\n${options.child.lastWords()}` : '';
      const message = `gave up waiting for ${options.what} after ${options.timeoutMs / 1000} s${last}${words}`;
      throw new LogpipeError('LOGPIPE_STACK_FAILED', message);
    }
    await sleep(options.intervalMs ?? 50);
  }
}

export function endedMessage(child: Child): string {
  const { status, signal } = child.exited() ?? { status: null, signal: null };
  const how = signal ? `was ended by ${signal}` : `ended with status ${status}`;
  return `${child.name} (pid ${child.pid}) ${how}. It last said:\n${child.lastWords()}`;
}
