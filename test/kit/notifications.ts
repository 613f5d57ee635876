// One incident as the alerts' code would send it, for tests of the channels.
import type { Notification } from '../../src/incidents/notification.ts';

export const AT_MS = Date.parse('2026-11-25T10:05:00.000Z');

export function notification(changes: Partial<Notification> = {}): Notification {
  const metadata = { totalCalls: 130, failedCalls: 30, errorRate: 23.08 };
  const message = 'Error rate is 23.08%, above the threshold of 20%';
  return {
    incidentId: '01JDHX',
    dedupKey: 'logpipe/01JDHX',
    action: 'trigger',
    reason: 'first',
    severity: 'critical',
    priority: 'P1',
    title: 'High Error Rate Detected',
    message,
    metadata,
    atMs: AT_MS,
    environment: 'production',
    alerts: [
      {
        ruleId: 'high-error-rate',
        title: 'High Error Rate Detected',
        priority: 'P1',
        labels: {},
        state: 'firing',
        startedMs: AT_MS - 60_000,
        message,
        metadata,
        runbook: 'high-error-rate.md',
        why: {
          measure: 'call.failure_ratio',
          windowMs: 300_000,
          fromMs: AT_MS - 300_000,
          toMs: AT_MS,
          value: 0.2308,
          valueText: '23.08 %',
          threshold: 0.2,
          thresholdText: '20 %',
          volume: 130,
          topTemplates: [
            { template: 'Carrier refused call <id>', count: 17 },
            { template: 'Timeout after <n> ms', count: 9 },
          ],
          examples: ['ev-1', 'ev-2'],
          release: '2.4.1',
        },
      },
    ],
    joined: [],
    ...changes,
  };
}
