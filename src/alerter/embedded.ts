// Counting and alerting in one process without Kafka: the journal holds counts and alert state. In: files or standard input.
// Out: one term, from start to stop. Guarantee: after a crash everything goes on where the journal ends; totals, and how far each file
// was counted, are one record, so that no line counts twice.
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { StateChange, StateKey } from '../incidents/records.ts';
import type { CountingDeps, CountingSource } from '../measure/counter.ts';
import type { BucketTotals, CountsMessage, CountsSink } from '../measure/totals.ts';
import { HOUR_MS } from '../windows/series.ts';
import type { Term, TermParts } from './alerter.ts';
import { followFolder } from './commands-given.ts';
import { hoursOf } from './durable-evaluator.ts';
import { type AlertStore, openJournalStore } from './store.ts';

export interface EmbeddedAlerting {
  readonly term: Term;
  readonly counter: CountingSource;
  stop(timeoutMs: number): Promise<boolean>;
}

interface EmbeddedDeps extends TermParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly counting: (deps: Required<Pick<CountingDeps, 'sink' | 'embedded'>>) => CountingSource;
}

/** @throws LogpipeError LOGPIPE_SOURCE_FAILED when another process has the journal's folder, or it cannot be read */
export async function startEmbeddedAlerting(
  config: { readonly journalDir: string },
  deps: EmbeddedDeps,
): Promise<EmbeddedAlerting> {
  const { clock, log } = deps;
  const store = await openJournalStore({ folder: config.journalDir }, { log });
  let term: Term | undefined;
  const counts = createJournalCounts(store, {
    clock,
    onMessage: (message, recordMs) => term?.counts(message, recordMs, true),
  });
  const [oldest] = counts.before;
  const coveredFromMs = Math.ceil((oldest?.arrivalMs ?? clock.now()) / HOUR_MS) * HOUR_MS;
  const mine = deps.begin({
    windows: deps.createWindows(coveredFromMs, hoursOf(store.initial)),
    store,
    results: new Map(),
    onLost: (error) => log.error('the alert journal can no longer be written', { error: error.message }),
  });
  term = mine;
  for (const totals of counts.before) mine.counts({ kind: 'totals', totals }, totals.arrivalMs, false);
  const run = clock.now().toString(36);
  const counter = deps.counting({ sink: counts, embedded: { run, resume: counts.resume } });
  const endProbes = deps.startProbes(mine);
  mine.start();
  const commands = followFolder(config.journalDir, { clock, log, onCommand: mine.command });

  return {
    term: mine,
    counter,
    async stop(timeoutMs) {
      await endProbes();
      await commands.close();
      const drained = await mine.stop(timeoutMs);
      await store.close();
      return drained;
    },
  };
}

// ---- counts in the journal of the alert state ----

const PREFIX = 'counts/';
/** As far back as a take-over with Kafka reads the counts. */
const KEPT_MS = 6 * 3_600_000;
const SWEEP_MS = 600_000;

interface JournalCounts extends CountsSink {
  /** File identity -> offset of the last line that is counted. */
  readonly resume: ReadonlyMap<string, number>;
  /** What was counted before this start, oldest first. */
  readonly before: readonly BucketTotals[];
}

function createJournalCounts(
  store: AlertStore,
  deps: { readonly clock: Clock; readonly onMessage: (message: CountsMessage, recordMs: number) => void },
): JournalCounts {
  const { clock } = deps;
  const before = [...store.initial]
    .flatMap(([key, value]) => (key.startsWith(PREFIX) ? [value as BucketTotals] : []))
    .sort((one, other) => one.arrivalMs - other.arrivalMs);
  const resume = new Map<string, number>();
  const kept = new Map<StateKey, number>();
  for (const { lane: partition, arrivalMs, upToOffset } of before) {
    const identity = partition.slice(0, partition.lastIndexOf('#'));
    resume.set(identity, Math.max(resume.get(identity) ?? -1, upToOffset));
    kept.set(keyOf(partition, arrivalMs), arrivalMs);
  }
  let sweptMs = clock.monotonicMs();

  /** Removes what no window reaches, except each file's newest totals: they say how far it was counted. */
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
      // The messages are about this moment, however long they take to write.
      const now = clock.now();
      const changes: StateChange[] = [];
      for (const message of messages) {
        if (message.kind !== 'totals') continue;
        const { lane: partition, arrivalMs } = message.totals;
        const key = keyOf(partition, arrivalMs);
        kept.set(key, arrivalMs);
        changes.push({ key, value: message.totals });
      }
      await store.commit([...changes, ...sweep()]);
      for (const message of messages) deps.onMessage(message, now);
    },
    // The store is closed by its owner.
    async close() {},
  };
}

function keyOf(partition: string, arrivalMs: number): StateKey {
  return `${PREFIX}${partition}/${arrivalMs}`;
}
