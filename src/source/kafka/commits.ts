// Commits what the tracker calls finished. In: the tracker and the present consumer's way to commit. Out: committed offsets.
//
// The broker does not protect a group here: it accepts a commit for a partition the member no longer owns, as long as
// the member belongs to the present generation. So an offset of a former assignment must never travel with a newer
// generation. kafkajs has two public ways to commit:
// - `consumer.commitOffsets` retries, and a retry after a rejoin goes out with the *newer* generation. Not used.
// - `commitOffsetsIfNecessary(offsets)` of an eachBatch payload takes generation and member id synchronously, when it is
//   called, from the assignment kafkajs then has, and never retries. If the group moves on meanwhile, the broker refuses
//   the commit (ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID).
// What is left is to call it only while kafkajs's assignment and the tracker's epoch are the same one. kafkajs replaces
// its assignment and emits GROUP_JOIN (our new epoch) within one run of the microtask queue. A commit is therefore begun
// from a timer or immediate callback, where no microtask is pending, with the epoch's offsets read in the same
// synchronous stretch. The other allowed moment is the REBALANCING event, which kafkajs emits right before it asks to
// rejoin: its assignment is still the old one then, and the broker takes commits of the old generation until all
// members have rejoined. From that event to GROUP_JOIN nothing is committed.
import type { Clock } from '../../core/clock.ts';
import { errorText } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Metrics } from '../../core/metrics.ts';
import type { DueOffset, OffsetTracker } from './offset-tracker.ts';

/** Sends a commit with the consumer's present generation; `partition` and `offset` as kafkajs wants them. */
type SendCommit = (offsets: {
  topics: { topic: string; partitions: { partition: number; offset: string }[] }[];
}) => Promise<void>;

interface Committer {
  /** From now on commits go through this consumer. */
  use(send: SendCommit): void;
  /** The consumer is gone, or does not own anything: nothing is committed until `use`. */
  drop(): void;
  /** REBALANCING: one last commit for the old assignment, then none until `resume`. Call it from the event itself. */
  hold(): void;
  /** GROUP_JOIN: the tracker has been reset to the new epoch. */
  resume(): void;
  /** Commits everything finished so far; resolves when the broker has answered, whatever it said. */
  flush(): Promise<void>;
  /** Ends the timer. */
  stop(): void;
}

interface CommitterDeps {
  readonly tracker: OffsetTracker;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
  readonly onCommitted: (committed: DueOffset) => void;
}

/** Commits every `intervalMs` when something is due. */
export function createCommitter(options: { topic: string; intervalMs: number }, deps: CommitterDeps): Committer {
  const { topic, intervalMs } = options;
  const { tracker, metrics, log, clock, onCommitted } = deps;
  let send: SendCommit | undefined;
  let held = false;
  let stopped = false;
  let inFlight: Promise<void> | undefined;

  const begin = () => {
    if (send === undefined || held || inFlight !== undefined) return;
    const due = tracker.due();
    if (due.length === 0) return;
    const epoch = tracker.epoch;
    const partitions = due.map(({ partition, offset }) => ({ partition, offset: String(offset) }));
    inFlight = send({ topics: [{ topic, partitions }] })
      .then(
        () => {
          metrics.commits.inc({ result: 'ok' });
          for (const committed of due) {
            if (tracker.epoch === epoch) tracker.committed(committed.partition, committed.offset);
            onCommitted(committed);
          }
        },
        (error: unknown) => {
          const refused = isFenced(error);
          metrics.commits.inc({ result: refused ? 'refused' : 'failed' });
          // Nothing is lost: the records come again, and their ids make the second writing harmless.
          log[refused ? 'info' : 'warn']('offsets were not committed', { topic, error: errorText(error), due });
        },
      )
      .finally(() => {
        inFlight = undefined;
      });
  };

  let cancelTimer = () => {};
  const tick = () => {
    if (stopped) return;
    begin();
    cancelTimer = clock.after(intervalMs, tick);
  };
  cancelTimer = clock.after(intervalMs, tick);

  return {
    use(next) {
      send = next;
    },
    drop() {
      send = undefined;
    },
    hold() {
      begin();
      held = true;
    },
    resume() {
      held = false;
    },
    async flush() {
      await inFlight;
      await new Promise<void>((resolve) => {
        setImmediate(() => {
          begin();
          resolve();
        });
      });
      await inFlight;
    },
    stop() {
      stopped = true;
      cancelTimer();
    },
  };
}

/** The group has moved on without this member's generation: the expected answer to a late commit. */
function isFenced(error: unknown): boolean {
  const { type } = (error ?? {}) as { type?: unknown };
  return type === 'ILLEGAL_GENERATION' || type === 'UNKNOWN_MEMBER_ID' || type === 'REBALANCE_IN_PROGRESS';
}
