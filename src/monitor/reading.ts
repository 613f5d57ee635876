// What a probe finds out: readings of internal gauges, named as in measures.yml.

export interface Reading {
  readonly measure: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Asks one dependency. Rejects when it cannot tell; absent readings are no data, never 0. */
export interface Probe {
  /** For the log and the summary. */
  readonly name: string;
  run(signal: AbortSignal): Promise<readonly Reading[]>;
  close(): Promise<void>;
}
