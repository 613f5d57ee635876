// GET /api/v1/status: how this instance stands, for `logpipe top` and `logpipe rules explain`: what /metrics cannot hold. In: readiness, and
// what is said of the alerts where they are evaluated (explain.ts, which the indexer alone does not load). Out: plain data, masked.
// Guarantee: read-only.
import type { Clock } from '../core/clock.ts';
import type { AlertingStatus, AlertingView, RuleExplanation } from './explain.ts';

/** One dependency's state, as /ready shows it. */
export interface Readiness {
  readonly name: string;
  readonly ready: boolean;
  readonly detail: string;
}

export interface Status {
  readonly version: string;
  /** ISO 8601, by this host's clock. */
  readonly timestamp: string;
  readonly uptimeSeconds: number;
  readonly roles: readonly string[];
  readonly source: string;
  /** The consumer group of the indexer, by which its lag is found in /metrics; null without Kafka. */
  readonly group: string | null;
  readonly ready: boolean;
  readonly dependencies: readonly Readiness[];
  /** Null where alerts are not evaluated. */
  readonly alerting: AlertingStatus | null;
}

export interface StatusView {
  status(): Status;
  /** `elsewhere`: alerts are not evaluated here. Undefined: there is no such rule. */
  rule(id: string): RuleExplanation | 'elsewhere' | undefined;
}

export interface StatusDeps {
  readonly clock: Clock;
  readonly readiness: () => readonly Readiness[];
  /** Undefined where alerts are not evaluated, or not yet. */
  readonly alerting: () => AlertingView | undefined;
}

export function createStatusView(
  about: Pick<Status, 'version' | 'roles' | 'source' | 'group'>,
  { clock, readiness, alerting }: StatusDeps,
): StatusView {
  const startedMs = clock.monotonicMs();
  return {
    status() {
      const dependencies = readiness();
      return {
        ...about,
        timestamp: new Date(clock.now()).toISOString(),
        uptimeSeconds: Math.round((clock.monotonicMs() - startedMs) / 1_000),
        ready: dependencies.every(({ ready }) => ready),
        dependencies,
        alerting: alerting()?.status() ?? null,
      };
    },
    rule(id) {
      const view = alerting();
      return view === undefined ? 'elsewhere' : view.rule(id);
    },
  };
}
