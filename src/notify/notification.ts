// What is sent, and what came of it: the contract between the outbox and the channels. Plain data, kept in the outbox as
// JSON; secrets in it are masked before it gets there.
import type { Priority, Severity, Why } from '../rules/observation.ts';

export const CHANNELS = ['slack', 'pagerduty', 'email', 'webhook', 'console', 'history'] as const;
export type ChannelName = (typeof CHANNELS)[number];

/** `trigger` opens or updates, `resolve` ends; `acknowledge` is sent when a person has taken the incident. */
export type NotifyAction = 'trigger' | 'acknowledge' | 'resolve';

/** Why a message goes out, or that none does. Closed: it is a metric label and stands in the history. */
export const NOTIFY_REASONS = [
  'first',
  'new-alerts',
  'some-resolved',
  'all-resolved',
  'repeat',
  'acknowledged',
  'none',
] as const;
export type NotifyReason = (typeof NOTIFY_REASONS)[number];

/** One alert within a message. */
export interface NotifiedAlert {
  readonly ruleId: string;
  readonly title: string;
  readonly priority: Priority;
  readonly labels: Readonly<Record<string, string>>;
  readonly state: 'firing' | 'resolved';
  readonly startedMs: number;
  readonly resolvedMs?: number;
  readonly message: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly why?: Why;
  readonly runbook: string;
}

export interface Notification {
  readonly incidentId: string;
  /** Same for every message about one incident; at most 255 characters. */
  readonly dedupKey: string;
  readonly action: NotifyAction;
  readonly reason: NotifyReason;
  readonly severity: Severity;
  readonly priority: Priority;
  /** The leading alert's title, message and metadata: what Slack's first attachment and PagerDuty's body carry. */
  readonly title: string;
  readonly message: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** When the decision was taken, ms. */
  readonly atMs: number;
  readonly environment: string;
  /** All alerts of the incident, leading one first. */
  readonly alerts: readonly NotifiedAlert[];
  /** Alerts of the incident that `alerts` has no room for. */
  readonly unnamed?: number;
  /** Names of alerts that joined since the last message. */
  readonly joined: readonly string[];
}

/** What a channel says of one attempt. `reason` is for logs and metrics: it never holds an address or a secret. */
export type SendResult =
  | { readonly ok: true }
  | {
      readonly ok: false;
      readonly retryable: boolean;
      readonly retryAfterMs?: number;
      readonly reason: string;
      /** There was an answer, but none that proves delivery: a log-in page with 200. Tried again a few times only. */
      readonly doubtful?: true;
      /** Recipients that may still take it; all others have it, or have refused it for good. */
      readonly left?: readonly string[];
    };

/** One way out. Never throws; one attempt per call, retries are the dispatcher's. */
export interface Channel {
  readonly name: ChannelName;
  /** At most this many sends per second, on average; the dispatcher keeps to it. */
  readonly ratePerSecond: number;
  /** @param left as an earlier attempt gave it: nobody else gets the message again */
  send(notification: Notification, signal: AbortSignal, left?: readonly string[]): Promise<SendResult>;
  close(): Promise<void>;
}
