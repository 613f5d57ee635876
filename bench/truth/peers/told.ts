// What each of the tools did in a scenario, in one form, so that one judge can compare them.

export interface ToldAlert {
  readonly rule: string;
  /** Under logpipe's names. */
  readonly labels: Readonly<Record<string, string>>;
  readonly firedMs: number;
}

/** One message to people. */
export interface ToldMessage {
  readonly atMs: number;
  /** Somebody is told that something is wrong, or that it is over. */
  readonly kind: 'call' | 'end';
  readonly alerts: readonly ToldAlert[];
}

export interface Told {
  readonly messages: readonly ToldMessage[];
}
