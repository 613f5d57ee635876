// The words of "Log pipeline blind". In: who was told since when. Out: a notification. Pure. Whoever tells, begins or ends it, it has
// the same key, so that a service that knows such keys shows one incident.
import type { Notification } from '../notify/notification.ts';

export const BLIND_TITLE = 'Log pipeline blind';
export const BLIND_ENDED = 'Kafka answers again; alerts are evaluated.';

/** @param atMs wall clock, as `sinceMs` */
export function blindNotice(
  action: 'trigger' | 'resolve',
  about: {
    readonly incidentId: string;
    readonly environment: string;
    readonly sinceMs: number;
    readonly atMs: number;
    readonly message: string;
    readonly metadata?: Readonly<Record<string, unknown>>;
  },
): Notification {
  const { incidentId, environment, sinceMs, atMs, message } = about;
  const metadata = about.metadata === undefined ? {} : { metadata: about.metadata };
  const alert = {
    ruleId: 'log-pipeline-blind',
    title: BLIND_TITLE,
    priority: 'P1' as const,
    labels: {},
    state: action === 'trigger' ? ('firing' as const) : ('resolved' as const),
    startedMs: sinceMs,
    ...(action === 'resolve' ? { resolvedMs: atMs } : {}),
    message,
    ...metadata,
    runbook: 'docs/runbooks/log-pipeline-blind.md',
  };
  return {
    incidentId,
    dedupKey: `logpipe/${incidentId}`,
    action,
    reason: action === 'trigger' ? 'first' : 'all-resolved',
    severity: 'critical',
    priority: 'P1',
    title: BLIND_TITLE,
    message,
    ...metadata,
    atMs,
    environment,
    alerts: [alert],
    joined: [],
  };
}
