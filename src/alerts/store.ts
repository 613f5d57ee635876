// Where alert state lives, as keyed records: a compacted Kafka topic, or the embedded mode's journal. Contract only.

/** `kind/id`, for example `incident/01J…`. Kinds: alert, incident, outbox, template, rollup, summary. */
export type StateKey = string;

export interface StateChange {
  readonly key: StateKey;
  /** null removes the record. */
  readonly value: object | null;
}

/** The store as its present holder sees it. Only the holder can write; a former one gets `LostHoldError`. */
export interface AlertStore {
  /** Every record at the moment the hold began, read to the end after the former holder was fenced off. */
  readonly initial: ReadonlyMap<StateKey, object>;
  /**
   * Makes all changes durable, together or not at all.
   * @throws LostHoldError when another instance has taken over; other errors may pass by themselves (Kafka away).
   */
  commit(changes: readonly StateChange[]): Promise<void>;
  /** Resolves when the hold was confirmed (by a commit, or by asking) within the last `maxAgeMs`. @throws as commit */
  confirm(maxAgeMs: number): Promise<void>;
  close(): Promise<void>;
}

export class LostHoldError extends Error {
  constructor(cause?: unknown) {
    super('another instance holds the alert state now', cause === undefined ? undefined : { cause });
    this.name = 'LostHoldError';
  }
}
