// Where alert state lives, as keyed records: a compacted Kafka topic, or the embedded mode's journal. Contract only.
import { refuseNewer } from '../core/errors.ts';
import type { StateChange, StateKey } from '../incidents/records.ts';

/** The store as its present leader sees it. Only the leader can write; a former one gets `LostTermError`. */
export interface AlertStore {
  /** Every record at the moment the term began, read to the end after the former leader was fenced off. */
  readonly initial: ReadonlyMap<StateKey, object>;
  /** The brokers' time at a moment of this process; undefined where there are no brokers. */
  readonly dated?: { readonly brokersMs: number; readonly monotonicMs: number };
  /**
   * Makes all changes durable, together or not at all.
   * @throws LostTermError when another instance has taken over, or when it cannot be known what became of the changes:
   * this store is over, and what is true must be read by opening another one. Any other error: nothing was written, and
   * the next commit may succeed.
   */
  commit(changes: readonly StateChange[]): Promise<void>;
  /** Resolves when the term was confirmed (by a commit, or by asking) within the last `maxAgeMs`. @throws as commit */
  confirm(maxAgeMs: number): Promise<void>;
  close(): Promise<void>;
}

const WHY = {
  taken: 'another instance holds the alert state now',
  unknown: 'it is not known whether the last change of the alert state was written: it has to be read again',
} as const;

export class LostTermError extends Error {
  readonly why: keyof typeof WHY;

  constructor(cause?: unknown, why: keyof typeof WHY = 'taken') {
    super(WHY[why], cause === undefined ? undefined : { cause });
    this.name = 'LostTermError';
    this.why = why;
  }
}

// ---- the version of the records' format ----

/** Keys that may be missing are no new version; what an older logpipe would misread is. */
const FORMAT = 1;
const FORMAT_KEY = 'meta/format';

/** To be written with the first commit of a term; nothing when it is there. States of before 0.2 have none. */
export function formatChange(initial: AlertStore['initial']): readonly StateChange[] {
  return initial.has(FORMAT_KEY) ? [] : [{ key: FORMAT_KEY, value: { v: FORMAT } }];
}

/**
 * @param where the topic or the file, for people
 * @throws LogpipeError LOGPIPE_ALERT_STATE_NEWER
 */
export function assertKnownFormat(records: AlertStore['initial'], where: string): void {
  const { v = FORMAT } = (records.get(FORMAT_KEY) ?? {}) as { v?: number };
  refuseNewer(`${where}: the alert state`, v, FORMAT, 'LOGPIPE_ALERT_STATE_NEWER');
}
