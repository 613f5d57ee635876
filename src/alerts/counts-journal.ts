// Counts of the embedded mode: in the journal of the alert state. In: the counter's messages. Out: durable totals, and the
// same messages to the evaluator of this process. Guarantee: totals and how far each file was counted are one record, so that
// no line counts twice after a crash.
import type { Clock } from '../core/clock.ts';
import type { BucketTotals, CountsMessage, CountsSink } from '../measure/totals.ts';
import type { AlertStore, StateChange, StateKey } from './store.ts';

const PREFIX = 'counts/';
/** As far back as a take-over with Kafka reads them. */
const KEPT_MS = 6 * 3_600_000;
const SWEEP_MS = 600_000;

export interface JournalCounts extends CountsSink {
  /** File identity -> offset of the last line that is counted. */
  readonly resume: ReadonlyMap<string, number>;
  /** What was counted before this start, oldest first. */
  readonly before: readonly BucketTotals[];
}

export function createJournalCounts(
  store: AlertStore,
  deps: { readonly clock: Clock; readonly onMessage: (message: CountsMessage, recordMs: number) => void },
): JournalCounts {
  const { clock } = deps;
  const before = [...store.initial]
    .flatMap(([key, value]) => (key.startsWith(PREFIX) ? [value as BucketTotals] : []))
    .sort((one, other) => one.arrivalMs - other.arrivalMs);
  const resume = new Map<string, number>();
  const kept = new Map<StateKey, number>();
  for (const { lane, arrivalMs, upToOffset } of before) {
    const identity = lane.slice(0, lane.lastIndexOf('#'));
    resume.set(identity, Math.max(resume.get(identity) ?? -1, upToOffset));
    kept.set(keyOf(lane, arrivalMs), arrivalMs);
  }
  let sweptMs = clock.monotonicMs();

  /** What no window reaches goes, but for each file's newest totals: they say how far it was counted. */
  function sweep(): StateChange[] {
    if (clock.monotonicMs() - sweptMs < SWEEP_MS) return [];
    sweptMs = clock.monotonicMs();
    const now = clock.now();
    const newest = new Map<string, number>();
    for (const [key, arrivalMs] of kept) {
      const identity = key.slice(0, key.lastIndexOf('#'));
      newest.set(identity, Math.max(newest.get(identity) ?? 0, arrivalMs));
    }
    const old = [...kept].filter(
      ([key, arrivalMs]) => now - arrivalMs > KEPT_MS && newest.get(key.slice(0, key.lastIndexOf('#'))) !== arrivalMs,
    );
    for (const [key] of old) kept.delete(key);
    return old.map(([key]) => ({ key, value: null }));
  }

  return {
    resume,
    before,
    async put(messages) {
      // What is said holds for now, however long it takes to write.
      const now = clock.now();
      const changes: StateChange[] = [];
      for (const message of messages) {
        if (message.kind !== 'totals') continue;
        const { lane, arrivalMs } = message.totals;
        const key = keyOf(lane, arrivalMs);
        kept.set(key, arrivalMs);
        changes.push({ key, value: message.totals });
      }
      await store.commit([...changes, ...sweep()]);
      for (const message of messages) deps.onMessage(message, now);
    },
    // The store is its owner's to close.
    async close() {},
  };
}

function keyOf(lane: string, arrivalMs: number): StateKey {
  return `${PREFIX}${lane}/${arrivalMs}`;
}
