// Time as a dependency, so that nothing in the pipeline reads a clock directly and tests can drive it; and what needs time alone:
// waiting for a bounded time, waiting longer after each failure, saying the same thing at most once a minute. Two clocks, because
// each is wrong about something: the wall clock is set by people and NTP, the monotonic one stands still while the machine is
// suspended. Guarantee of the watch: a step of the wall clock and time that this process slept through are noticed within a
// second.
export interface Clock {
  /** Wall clock, milliseconds since the epoch: for what people read and for what other machines say. May jump. */
  now(): number;
  /** For durations: milliseconds since some fixed moment; never set, never goes back. */
  monotonicMs(): number;
  /** Runs `fn` once after `ms`; the returned function cancels it. Does not keep the process alive. */
  after(ms: number, fn: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** When the difference between the clocks changes by more than this, the wall clock was set or the machine was suspended. */
export const STEP_MS = 1_000;
/**
 * Record times of one partition go back a little when another broker takes over, and by hours when a broker's clock is set. If
 * they go back by more than this, time begins anew.
 */
export const SET_BACK_MS = 60_000;
/** Does this moment belong to a time that is over, because the clock was set back to `nowMs` or before? */
export function isOver(ms: number, nowMs: number): boolean {
  return ms - nowMs > SET_BACK_MS;
}
const LOOK_MS = 1_000;
/** A busy process is late by no more than this. Of a longer sleep, this much counts as awake. */
const AWAKE_MS = 3_000;

/** A moment, by both clocks. */
export interface Moment {
  readonly wallMs: number;
  readonly monotonicMs: number;
}

export function momentOf(clock: Clock): Moment {
  return { wallMs: clock.now(), monotonicMs: clock.monotonicMs() };
}

/**
 * How long ago that was, ms, for what must be certain: infinite when the clocks disagree by more than a second, since nobody knows
 * then which of the two is right about the time in between.
 */
export function certainAgeMs(clock: Clock, since: Moment): number {
  const lasted = clock.monotonicMs() - since.monotonicMs;
  return Math.abs(clock.now() - since.wallMs - lasted) > STEP_MS ? Number.POSITIVE_INFINITY : lasted;
}

export interface ClockWatch {
  /**
   * How long this process has been awake, ms: what it slept through (SIGSTOP, suspend) is left out, so that nobody seems to have
   * been silent meanwhile. Of each sleep, three seconds count at most.
   */
  awakeMs(): number;
  stop(): void;
}

interface ClockHooks {
  /** The wall clock was set forward (more than zero) or back by `byMs`; a suspended machine wakes up with a step forward. */
  onStep?(byMs: number): void;
  /** A look came late: nothing ran here for `ms`. */
  onSlept?(ms: number): void;
}

/** Looks once a second at both clocks. */
export function watchClock(clock: Clock, hooks: ClockHooks = {}): ClockWatch {
  let last = momentOf(clock);
  let awake = 0;
  const since = () => clock.monotonicMs() - last.monotonicMs;

  function look(): void {
    const lasted = since();
    const stepMs = clock.now() - last.wallMs - lasted;
    awake += Math.min(lasted, AWAKE_MS);
    last = momentOf(clock);
    cancel = clock.after(LOOK_MS, look);
    if (lasted > AWAKE_MS) hooks.onSlept?.(lasted - LOOK_MS);
    if (Math.abs(stepMs) > STEP_MS) hooks.onStep?.(stepMs);
  }
  let cancel = clock.after(LOOK_MS, look);

  return {
    // Whoever asks before the late look must not mistake the sleep for silence either.
    awakeMs: () => awake + Math.min(since(), AWAKE_MS),
    stop: () => cancel(),
  };
}

// ---- durations as people write them in YAML: `500ms`, `30s`, `5m`, `1h`, `7d` ----

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** JSON Schema of a duration. */
export const durationSchema = {
  type: 'string',
  pattern: '^[1-9]\\d{0,8}(ms|s|m|h|d)$',
  permitted: 'a duration, like 30s, 5m or 2h',
} as const;

/** @param text what `durationSchema` takes; anything else is a bug and gives NaN */
export function durationMs(text: string): number {
  const unit = /(?:ms|[smhd])$/.exec(text)?.[0] as keyof typeof UNIT_MS;
  return Number.parseInt(text, 10) * UNIT_MS[unit];
}

// ---- waiting, for a bounded time or until somebody ends it ----

/** Like `Clock.after`, but keeps the process alive until then. */
export const afterAlive: Clock['after'] = (ms, fn) => {
  const timer = setTimeout(fn, ms);
  return () => clearTimeout(timer);
};

/**
 * Resolves after `ms`, or at once when `signal` aborts (never rejects).
 * @param after the clock to wait by; default: real time that keeps the process alive
 */
export function sleep(ms: number, signal?: AbortSignal, after = afterAlive): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const cancel = after(ms, done);
    signal?.addEventListener('abort', done, { once: true });
  });
}

const LATE = Symbol('late');

async function raced<T>(work: Promise<T>, ms: number, after: Clock['after']): Promise<T | typeof LATE> {
  // Timers cannot wait for ever.
  if (ms === Number.POSITIVE_INFINITY) return work;
  let cancel = () => {};
  const late = new Promise<typeof LATE>((resolve) => {
    cancel = after(ms, () => resolve(LATE));
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    cancel();
  }
}

/**
 * What `work` gives, if it does so within `ms`. Whatever comes later is ignored, errors included.
 * @param reason the error's text when it is late
 * @param after as for `sleep`
 * @throws Error when it is late, or what `work` throws
 */
export async function within<T>(work: Promise<T>, ms: number, reason: string, after = afterAlive): Promise<T> {
  const result = await raced(work, ms, after);
  if (result === LATE) throw new Error(reason);
  return result;
}

/** Whether `work` ends within `ms`; see `within`. @throws what `work` throws in time */
export async function endsWithin(work: Promise<unknown>, ms: number, after = afterAlive): Promise<boolean> {
  return (await raced(work, ms, after)) !== LATE;
}

/**
 * What `work` gives, unless the signal aborts first: work that ignores the signal holds nobody up. @throws the signal's reason
 */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let give = () => {};
  const aborted = new Promise<never>((_, reject) => {
    give = () => reject(signal.reason);
    if (signal.aborted) give();
    else signal.addEventListener('abort', give, { once: true });
  });
  try {
    return await Promise.race([aborted, work]);
  } finally {
    signal.removeEventListener('abort', give);
  }
}

// ---- failures in a row: how long to wait after each, and which to report ----

export interface Backoff {
  readonly firstMs: number;
  readonly maxMs: number;
}

const BACKOFF: Backoff = { firstMs: 200, maxMs: 5_000 };

/**
 * How long to wait after so many failures in a row, ms: `firstMs`, doubling up to `maxMs`.
 * @param failures from 1
 * @param random from 0 to 1: takes up to half of the wait away, so that several processes do not come back in step
 */
export function backoffMs(failures: number, { firstMs, maxMs } = BACKOFF, random?: () => number): number {
  const most = Math.min(maxMs, firstMs * 2 ** Math.min(failures - 1, 30));
  return random === undefined ? most : most * (0.5 + random() / 2);
}

/** Of failures in a row, the first is reported, then each one that doubles their number. */
export function isWorthSaying(failures: number): boolean {
  return (failures & (failures - 1)) === 0;
}

const REPEAT_MS = 60_000;
const MAX_REMEMBERED = 200;

/** Whether a text may be logged: the same one at most once a minute. Remembers 200 texts. @param now monotonic, ms */
export function createThrottle(now: () => number = () => performance.now()): (text: string) => boolean {
  const lastTime = new Map<string, number>();
  return (text) => {
    const time = now();
    if (time - (lastTime.get(text) ?? Number.NEGATIVE_INFINITY) < REPEAT_MS) return false;
    if (lastTime.size >= MAX_REMEMBERED) lastTime.clear();
    lastTime.set(text, time);
    return true;
  };
}

// ---- a promise whose end is decided elsewhere, by whoever comes first ----

export interface Deferred {
  readonly promise: Promise<void>;
  resolve(): void;
  reject(error: Error): void;
}

/** The first call counts. Nobody has to handle the rejection. */
export function deferred(): Deferred {
  let resolve: () => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}
