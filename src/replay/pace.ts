// How fast a replay may go, and when it has to wait for live indexing. In: `--speed`, `--throttle`, and the lag of the live
// indexer's group, asked every few seconds. Out: waits. Guarantee: with a speed, no event comes before its distance from the first
// event, divided by the speed; with a throttle, never more than that many per second; it only reads offsets, and when nobody
// indexes there is nothing to yield to.
import type { Admin } from 'kafkajs';
import { type Clock, sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createKafka, type KafkaConfig } from '../source/kafka/client.ts';

/** Events that are due within this time go together: shorter waits cost more than they are worth. */
const TICK_MS = 50;

/** `10x`, `0.5x` or `max`. @throws LogpipeError LOGPIPE_USAGE */
export function parseSpeed(text: string): number {
  if (text === 'max') return Number.POSITIVE_INFINITY;
  const match = /^(\d{1,6}(?:\.\d{1,3})?)x$/.exec(text);
  const speed = Number(match?.[1] ?? 0);
  if (speed > 0) return speed;
  throw new LogpipeError('LOGPIPE_USAGE', `--speed: found ${JSON.stringify(text)}; write 1x, 10x, 0.5x or max`);
}

interface Pace {
  /** How many of the events with these times, in their order, may go at once. At least one. */
  fitting(times: readonly number[], from: number): number;
  /** Resolves when an event of this time is due, and `count` events are within the throttle. */
  wait(timeMs: number, count: number, signal: AbortSignal): Promise<void>;
}

export function createPace(
  options: { speed: number; throttle: number | undefined },
  now: () => number = () => performance.now(),
): Pace {
  const { speed, throttle } = options;
  const most = throttle === undefined ? Number.POSITIVE_INFINITY : Math.max(1, Math.ceil(throttle / 10));
  let first: { eventMs: number; wallMs: number } | undefined;
  let nextFree = Number.NEGATIVE_INFINITY;

  return {
    fitting(times, from) {
      let to = Math.min(times.length, from + most);
      if (speed !== Number.POSITIVE_INFINITY) {
        const horizon = times[from]! + TICK_MS * speed;
        let until = from + 1;
        while (until < to && times[until]! <= horizon) until += 1;
        to = until;
      }
      return to - from;
    },
    async wait(timeMs, count, signal) {
      if (speed !== Number.POSITIVE_INFINITY) {
        first ??= { eventMs: timeMs, wallMs: now() };
        const due = first.wallMs + (timeMs - first.eventMs) / speed;
        await until(due, now, signal);
      }
      if (throttle === undefined) return;
      // Reserved before waiting, because parts of the source that wait side by side share one rate.
      const start = Math.max(nextFree, now());
      nextFree = start + (count * 1_000) / throttle;
      await until(start, now, signal);
    },
  };
}

async function until(due: number, now: () => number, signal: AbortSignal): Promise<void> {
  for (let left = due - now(); left > 0 && !signal.aborted; left = due - now()) {
    await sleep(Math.min(left, 2 ** 31 - 1), signal);
  }
}

// ---- live indexing first ----

export const DEFAULT_YIELD_LAG = 5_000;
const LOOK_MS = 2_000;

export interface Yielding {
  /** Resolves when the live pipeline does not need the replay to wait. */
  pass(signal: AbortSignal): Promise<void>;
  /** The highest lag seen, and for how long the replay was held back. */
  seen(): { readonly maxLiveLag: number; readonly heldMs: number; readonly held: boolean };
  close(): Promise<void>;
}

/** A gate that is closed while the lag is above the bound and not shrinking from one look to the next. */
export function createGate(bound: number) {
  let previous: number | undefined;
  return {
    /** Is the gate closed after this look? */
    look(lag: number, alive: boolean): boolean {
      const grows = previous === undefined || lag >= previous;
      previous = lag;
      return alive && lag > bound && grows;
    },
  };
}

export function createYielding(
  config: KafkaConfig,
  options: { bound: number },
  deps: { log: Log; clock: Clock },
): Yielding {
  const { bound } = options;
  const { log, clock } = deps;
  const kafka = createKafka(config, log);
  const gate = createGate(bound);
  const stop = new AbortController();
  let admin: Admin | undefined;
  let closed = false;
  let since = 0;
  let heldMs = 0;
  let maxLiveLag = 0;
  let waiting: (() => void)[] = [];

  const set = (now: boolean) => {
    if (now === closed) return;
    closed = now;
    if (now) since = clock.monotonicMs();
    else {
      heldMs += clock.monotonicMs() - since;
      for (const resolve of waiting.splice(0)) resolve();
    }
  };

  async function look(): Promise<void> {
    if (admin === undefined) {
      const fresh = kafka.admin();
      await fresh.connect();
      admin = fresh;
    }
    const { group, topics } = config;
    const [ends, [committed], { groups }] = await Promise.all([
      admin.fetchTopicOffsets(topics.logs),
      admin.fetchOffsets({ groupId: group, topics: [topics.logs] }),
      admin.describeGroups([group]),
    ]);
    const at = new Map(committed?.partitions.map(({ partition, offset }) => [partition, Number(offset)]));
    let lag = 0;
    for (const { partition, low, high } of ends) lag += Number(high) - Math.max(at.get(partition) ?? 0, Number(low));
    const alive = (groups[0]?.members.length ?? 0) > 0;
    if (alive) maxLiveLag = Math.max(maxLiveLag, lag);
    set(gate.look(lag, alive));
  }

  const looking = (async () => {
    let said = false;
    while (!stop.signal.aborted) {
      try {
        await look();
        said = false;
      } catch (error) {
        // Without an answer it is unknown whether live indexing lags, so the replay goes on.
        set(false);
        await admin?.disconnect().catch(() => {});
        admin = undefined;
        if (!said && !stop.signal.aborted)
          log.warn('the lag of the live indexer is not known; not yielding', { error: errorText(error) });
        said = true;
      }
      await sleep(LOOK_MS, stop.signal);
    }
    await admin?.disconnect().catch(() => {});
  })();

  return {
    async pass(signal) {
      while (closed && !signal.aborted) {
        await new Promise<void>((resolve) => {
          const go = () => {
            signal.removeEventListener('abort', go);
            resolve();
          };
          waiting.push(go);
          signal.addEventListener('abort', go, { once: true });
        });
      }
    },
    seen: () => ({ maxLiveLag, heldMs: heldMs + (closed ? clock.monotonicMs() - since : 0), held: closed }),
    async close() {
      stop.abort();
      set(false);
      waiting = [];
      await looking;
    },
  };
}
