// The two ways to take batches from a source. In: a source that hands over. Out: the same as an async iterable.
// Guarantee: a source is held back while its batch has not been taken; ending the loop ends the reading.
import type { Feed, Positions, ReplayBatch, ReplaySource } from './sources.ts';

/** Gives a source that hands over its `read`. */
export function readable(source: Omit<ReplaySource, 'read'>): ReplaySource {
  return { ...source, read: (from, signal) => iterate(source.feed, from, signal) };
}

async function* iterate(feed: Feed, from: Positions, signal: AbortSignal): AsyncGenerator<ReplayBatch> {
  const waiting: { batch: ReplayBatch; taken: (more: boolean) => void }[] = [];
  let wake = () => {};
  let over = false;
  let failure: unknown;
  let current: { taken: (more: boolean) => void } | undefined;
  const finished = feed(from, signal, (batch) => {
    if (over) return Promise.resolve(false);
    return new Promise((taken) => {
      waiting.push({ batch, taken });
      wake();
    });
  }).then(
    () => {
      over = true;
      wake();
    },
    (error: unknown) => {
      over = true;
      failure = error;
      wake();
    },
  );
  try {
    for (;;) {
      const next = waiting.shift();
      if (next !== undefined) {
        current = next;
        yield next.batch;
        current = undefined;
        next.taken(true);
        continue;
      }
      if (over) break;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    if (failure !== undefined) throw failure;
  } finally {
    over = true;
    // The loop was left with this batch in hand.
    current?.taken(false);
    for (const { taken } of waiting.splice(0)) taken(false);
    await finished;
  }
}
