// The contract of the alert store: keyed records on a compacted Kafka topic, or in embedded mode in a journal; and their format's version.
import { refuseNewer } from '../core/errors.ts';
import type { StateChange, StateKey } from '../incidents/records.ts';

/** The store as its present leader sees it. Only the leader can write; a former one gets `LostTermError`. */
export interface AlertStore {
  /** Every record at the moment the term began, read to the end after the former leader was fenced off. */
  readonly initial: ReadonlyMap<StateKey, object>;
  /** The brokers' time at a moment of this process; undefined without brokers. */
  readonly dated?: { readonly brokersMs: number; readonly monotonicMs: number };
  /**
   * Makes all changes durable, together or not at all.
   * @throws LostTermError when another instance has taken over, or when it is unknown whether the changes were written: this store is
   * over, and the state has to be read by opening another one. After any other error nothing was written, and the next commit may
   * succeed.
   */
  commit(changes: readonly StateChange[]): Promise<void>;
  /** Resolves when the term was confirmed (by a commit, or by asking) within the last `maxAgeMs`. @throws as commit */
  confirm(maxAgeMs: number): Promise<void>;
  close(): Promise<void>;
}

const WHY = {
  taken: 'another instance holds the alert state now',
  unknown: 'it is not known whether the last change of the alert state was written: the state has to be read again',
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

/** A new key that may be missing needs no new version; anything that an older logpipe would misread does. */
const FORMAT = 1;
const FORMAT_KEY = 'meta/format';

/** To be written with the first commit of a term; empty when it is already there. Older states have none. */
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
