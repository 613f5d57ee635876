// The dead man's switch. In: ticks of the evaluator. Out: a call of an address of yours every minute, as long as there are
// ticks. Whoever listens there (a monitoring service, a second logpipe's log) raises the alarm when the calls stop.
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { HttpSend } from '../notify/http-send.ts';

export interface Heartbeat {
  /** The evaluator has evaluated. */
  ticked(): void;
  stop(): void;
}

export function createHeartbeat(
  options: { readonly everyMs: number },
  deps: { readonly clock: Clock; readonly log: Log; readonly call: HttpSend },
): Heartbeat {
  const { clock, log } = deps;
  const ending = new AbortController();
  let ticks = 0;
  let started = false;
  let failing = false;
  let cancel = () => {};

  async function beat(): Promise<void> {
    const alive = ticks > 0;
    ticks = 0;
    if (!alive) return;
    const result = await deps.call({ status: 'ok', at: new Date(clock.now()).toISOString() }, ending.signal);
    if (ending.signal.aborted) return;
    if (!result.ok && !failing) log.warn('The heartbeat address does not answer', { reason: result.reason });
    if (result.ok && failing) log.info('The heartbeat address answers again');
    failing = !result.ok;
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
      // The first sign of life is worth a call at once: it tells whoever listens that we are back.
      if (ticks++ === 0 && !started) {
        started = true;
        void beat();
      }
    },
    stop() {
      cancel();
      ending.abort();
    },
  };
}
