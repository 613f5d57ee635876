// Time as a dependency, so that nothing in the pipeline reads a clock directly and tests can drive it. Two clocks, because each
// is wrong about something: the wall clock is set by people and NTP, the monotonic one stands still while the machine is
// suspended. Guarantee of the watch: a step of the wall clock and time that this process slept through are noticed within a second.
export interface Clock {
  /** Wall clock, milliseconds since the epoch: for what people read and for what other machines say. May jump. */
  now(): number;
  /** For how long something lasts: milliseconds since some moment, never set and never going back. */
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

/** Resolves after `ms`, or at once when `signal` aborts (never rejects). Keeps the process alive while waiting. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}

/** The clocks differ by more than this from what they did: the wall clock was set, or the machine was suspended. */
export const STEP_MS = 1_000;
/**
 * The brokers' times of one partition go back a little when another broker leads it, or hours when a broker's clock is set: by more
 * than this they begin anew.
 */
export const SET_BACK_MS = 60_000;
/** A moment of a time that the clock has left: it was set back to `nowMs` or before. */
export function isOver(ms: number, nowMs: number): boolean {
  return ms - nowMs > SET_BACK_MS;
}
const LOOK_MS = 1_000;
/** What a busy process is late at most, and what counts of a longer sleep. */
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
   * How long this process has been awake, ms: what it slept through (SIGSTOP, suspend) is left out, so that nobody is said to have
   * been silent meanwhile. Of one sleep three seconds count at most, of a busy spell all of it.
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
    // Who asks before the late look has come must not take the sleep for silence either.
    awakeMs: () => awake + Math.min(since(), AWAKE_MS),
    stop: () => cancel(),
  };
}

// Durations as people write them in YAML: `500ms`, `30s`, `5m`, `1h`, `7d`. Guarantee: what the pattern takes, durationMs reads.

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** JSON Schema of a duration. */
export const durationSchema = {
  type: 'string',
  pattern: '^[1-9]\\d{0,8}(ms|s|m|h|d)$',
} as const;

/** @param text what `durationSchema` takes; anything else is a bug and gives NaN */
export function durationMs(text: string): number {
  const unit = /(?:ms|[smhd])$/.exec(text)?.[0] as keyof typeof UNIT_MS;
  return Number.parseInt(text, 10) * UNIT_MS[unit];
}

// A promise settled from outside, for sources whose end is decided in several places.

export interface Settleable {
  readonly promise: Promise<void>;
  resolve(): void;
  reject(error: Error): void;
}

/** The first call counts. Nobody has to listen to the rejection. */
export function settleable(): Settleable {
  let resolve: () => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}
