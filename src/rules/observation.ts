// What a rule says of one label set at one evaluation: the contract between rules and incidents; data only.

export const PRIORITIES = ['P1', 'P2', 'P3', 'P4'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** Severity as the operators' guide has it: P1 is critical, P2 and P3 warn, P4 informs. */
export type Severity = 'critical' | 'warning' | 'info';

/** What deciding and notifying need to know about a rule; frozen, from the rules file. */
export interface RuleInfo {
  readonly id: string;
  readonly title: string;
  readonly priority: Priority;
  /** Alerts of one group that fire together are one incident. */
  readonly group: string;
  /** How long the condition must hold before the alert fires. */
  readonly forMs: number;
  /** How long it keeps firing after the condition was last true (flap hold). */
  readonly keepFiringMs: number;
  /** At least this long between two messages about one incident; an alert that fires again later than this is a new incident. */
  readonly cooldownMs: number;
  /** Reminder while nobody has acknowledged; 0 = none. */
  readonly remindMs: number;
  /** Firing alerts of these rules mute this one (same labels where both have the label). */
  readonly inhibitedBy: readonly string[];
  /** Address or path of the runbook. */
  readonly runbook: string;
}

export interface TemplateCount {
  readonly template: string;
  readonly count: number;
}

/** Why an alert fired, for people. What is unknown is absent. */
export interface Why {
  readonly measure: string;
  readonly windowMs: number;
  /** Evaluated window, ms. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly value: number;
  /** `value` with its unit: "23.08 %", "812 ms". */
  readonly valueText: string;
  readonly threshold: number;
  readonly thresholdText: string;
  /** Events the value was made from. */
  readonly volume: number;
  readonly topTemplates: readonly TemplateCount[];
  /** Up to five event ids. */
  readonly examples: readonly string[];
  /** Set when errors stand out in one release. */
  readonly release?: string;
}

export interface Observation {
  readonly ruleId: string;
  /** Empty for a rule over everything. */
  readonly labels: Readonly<Record<string, string>>;
  /**
   * `breached` may rest on an unfinished bucket; `clear` only on complete ones; `unknown` (no data, too few events) does not
   * fire, and ends an alert only when it lasts; `held` (logpipe is behind, or more than `maxAlerts` are breached) changes
   * nothing; `forgotten` (silent for longer than the rule's `forgetAfter`) ends an alert at once, with a reason of its own.
   */
  readonly state: 'breached' | 'clear' | 'unknown' | 'held' | 'forgotten';
  /**
   * Set when it was judged by another clock than evaluation time, ms: what does not come from the log is judged by the wall
   * clock, even while nothing is counted.
   */
  readonly atMs?: number;
  /** Present when breached: one sentence with value and threshold, and what the operators' guide wants as metadata. */
  readonly message?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly why?: Why;
  /** Present when clear and the value is known, with its unit: "3.10 %". */
  readonly nowText?: string;
}
