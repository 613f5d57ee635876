// docs/alerting.md: the bodies it shows are those that the channels make.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../../../src/core/package-root.ts';
import { NOTIFY_REASONS, type Notification } from '../../../src/incidents/notification.ts';
import { pagerDutyEvent, slackMessage } from '../../../src/notify/http-channels.ts';
import { channelsFor } from '../../../src/notify/notify-config.ts';
import { PRIORITIES } from '../../../src/rules/rule-types.ts';

const text = readFileSync(join(packageRoot(), 'docs/alerting.md'), 'utf8');
const [slack, pagerDuty] = [...text.matchAll(/```json\n([\s\S]*?)```/g)].map(([, json]) => JSON.parse(json!) as object);

const at = (time: string) => Date.parse(`2026-01-05T${time}Z`);
const said = {
  title: 'High Error Rate Detected',
  message: 'Error rate is 20.11 % (threshold 20 %): 37 of 184 calls failed in 5 min',
  metadata: { totalCalls: 184, failedCalls: 37, errorRate: 20.11 },
  priority: 'P1',
} as const;
const NOTIFICATION: Notification = {
  ...said,
  incidentId: '01KE70Q0VG0000000000000000',
  dedupKey: 'logpipe/01KE70Q0VG0000000000000000',
  action: 'trigger',
  reason: 'first',
  severity: 'critical',
  atMs: at('10:11:13'),
  environment: 'production',
  alerts: [
    {
      ...said,
      ruleId: 'high-error-rate',
      labels: {},
      state: 'firing',
      startedMs: at('10:11:13'),
      runbook: 'docs/runbooks/high-error-rate.md',
      why: {
        measure: 'call.failure_ratio',
        windowMs: 300_000,
        fromMs: at('10:06:20'),
        toMs: at('10:11:20'),
        value: 0.2011,
        valueText: '20.11 %',
        threshold: 0.2,
        thresholdText: '20 %',
        volume: 184,
        topTemplates: [],
        examples: ['01KE70Q0VG0000000000000001', '01KE70Q0VG0000000000000002'],
        release: '1.4.2',
      },
    },
  ],
  joined: [],
};

it('shows Slack’s body', () => {
  const links = { kibanaUrl: 'https://kibana.example.org', runbookBaseUrl: 'https://example.org/logpipe' };
  expect(slackMessage(NOTIFICATION, links)).toEqual(slack);
});

it('shows PagerDuty’s body', () => {
  expect(pagerDutyEvent(NOTIFICATION, '…')).toEqual(pagerDuty);
});

it('names every reason that a message can have, and the channels of each priority', () => {
  const told = NOTIFY_REASONS.filter((reason) => reason !== 'none' && reason !== 'acknowledged');
  const section = text.split('## Incidents')[1]!.split('\n## ')[0]!;
  expect([...section.matchAll(/^\| `([\w-]+)` \|/gm)].map(([, name]) => name).sort()).toEqual([...told].sort());
  const names = { slack: 'Slack', pagerduty: 'PagerDuty', email: 'e-mail' } as const;
  for (const priority of PRIORITIES) {
    const [, row] = new RegExp(`^\\| ${priority} \\| (.*?) \\|`, 'm').exec(text)!;
    const channels = channelsFor(priority).flatMap((name) =>
      name in names ? [names[name as keyof typeof names]] : [],
    );
    expect(row).toBe(
      channels.join(', ') ||
        'nobody at once; it is in the state, the history and the [daily mail](on-call.md#6-the-daily-mail)',
    );
  }
});
