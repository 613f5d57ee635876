// A timer less in kafkajs. Its request queue re-arms a timer of 1 ms for as long as a connection lives, also when nothing
// waits (tulios/kafkajs#1704): 3 % of a CPU core per idle client, and on current Node a TimeoutNegativeWarning on the
// application's standard error. Guarantee: the timer is set whenever a request waits, exactly as before.
import { createRequire } from 'node:module';

interface RequestQueue {
  readonly pending: readonly unknown[];
  scheduleCheckPendingRequests?: () => void;
}

const CALM = Symbol.for('logpipe.calm-request-queue');

/** For all of the process's kafkajs clients; repeatable. Who has no waiting requests has nothing to check. */
export function calmRequestQueues(): void {
  const prototype = requestQueue();
  const original = prototype?.scheduleCheckPendingRequests;
  if (prototype === undefined || prototype[CALM] || typeof original !== 'function') return;
  prototype[CALM] = true;
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
    if (this.pending.length > 0) original.call(this);
  };
}

/** Undefined where kafkajs is not in files of its own, as in a bundle: then all stays as it is. */
function requestQueue(): (RequestQueue & { [CALM]?: true }) | undefined {
  try {
    const path = 'kafkajs/src/network/requestQueue';
    return (createRequire(import.meta.url)(path) as { prototype: RequestQueue }).prototype;
  } catch {
    return undefined;
  }
}
