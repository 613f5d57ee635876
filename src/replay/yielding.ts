// Live indexing first. In: the lag of the live indexer's group, asked every few seconds. Out: a gate that is closed while
// that lag is beyond a bound and grows. Guarantee: reads offsets only; where nobody indexes there is nothing to yield to.
import type { Admin } from 'kafkajs';
import { type Clock, sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createKafka, type KafkaConfig } from '../source/kafka-client.ts';

export const DEFAULT_YIELD_LAG = 5_000;
const LOOK_MS = 2_000;

export interface Yielding {
  /** Resolves when the live pipeline has no need. */
  pass(signal: AbortSignal): Promise<void>;
  /** Highest lag seen, and for how long the replay was held back. */
  seen(): { readonly maxLiveLag: number; readonly heldMs: number; readonly held: boolean };
  close(): Promise<void>;
}

/** Decides from one look to the next. Pure. */
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
  options: { bound: number; lookMs?: number },
  deps: { log: Log; clock: Clock },
): Yielding {
  const { bound, lookMs = LOOK_MS } = options;
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
        // Without an answer nothing is known of a need.
        set(false);
        await admin?.disconnect().catch(() => {});
        admin = undefined;
        if (!said && !stop.signal.aborted)
          log.warn('the lag of the live indexer is not known; not yielding', { error: errorText(error) });
        said = true;
      }
      await sleep(lookMs, stop.signal);
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
