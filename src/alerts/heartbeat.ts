// The dead man's switch. In: ticks of the evaluator that saw recent counts of every partition. Out: a call of an address of yours
// every minute, as long as there are such ticks. Whoever listens there (a monitoring service, a second logpipe's log) raises the
// alarm when the calls stop. Guarantee: no call when the last such tick is older than half a minute, nor while
// this process is blind.
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { HttpSend } from '../notify/http-send.ts';

const YOUNG_MS = 30_000;

export interface Heartbeat {
  /** The evaluator has evaluated everything. */
  ticked(): void;
  stop(): void;
}

export function createHeartbeat(
  options: { readonly everyMs: number },
  deps: {
    readonly clock: Clock;
    readonly log: Log;
    readonly call: HttpSend;
    /** Somebody has been told, or is being told, that this process sees nothing. */
    readonly isBlind: () => boolean;
  },
): Heartbeat {
  const { clock, log } = deps;
  const ending = new AbortController();
  let tickedMs = Number.NEGATIVE_INFINITY;
  /** The last call was due while there was nothing to tell: the next sign of life is worth a call at once. */
  let missed = true;
  /** Calls in a row that nobody answered. */
  let failures = 0;
  let cancel = () => {};

  async function beat(): Promise<void> {
    missed = deps.isBlind() || clock.monotonicMs() - tickedMs > YOUNG_MS;
    if (missed) return;
    const result = await deps.call({ status: 'ok', at: new Date(clock.now()).toISOString() }, ending.signal);
    if (ending.signal.aborted) return;
    if (!result.ok && failures === 0) log.warn('The heartbeat address does not answer', { reason: result.reason });
    if (result.ok && failures > 0) log.info('The heartbeat address answers again', { failures });
    failures = result.ok ? 0 : failures + 1;
  }

  const schedule = () => {
    cancel = clock.after(options.everyMs, () => {
      void beat();
      schedule();
    });
  };
  schedule();

  return {
    ticked() {
      tickedMs = clock.monotonicMs();
      if (missed) void beat();
    },
    stop() {
      cancel();
      ending.abort();
    },
  };
}
