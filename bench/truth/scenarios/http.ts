// Requests: failing, slow, denied; and many events at once.
import { anyTenant, elevatedErrorRate, highErrorRate, lowCallSuccess } from '../call-labels.ts';
import { accessDeniedSpike, elevatedHttpErrorRate, highHttpErrorRate, slowResponses } from '../labels.ts';
import { createStage, during, type Scenario } from '../scenario.ts';

const START = '2026-03-12T14:00:00Z';

const failing: Scenario = {
  name: 'requests-fail',
  about: 'one of three hosts answers every second request with 5xx for eight minutes',
  stage(random) {
    const sick = during(START, 12, 20, true, false);
    const requestFails = (ms: number, host: string) => (sick(ms) && host === 'app-2' ? 0.5 : 0.003);
    const stage = createStage({ random, start: START, minutes: 36, behaviour: { requestFails } });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [elevatedHttpErrorRate(occurrences, stage), highHttpErrorRate(occurrences, stage)],
      incidents: [{ group: 'http', escalations: 1 }],
    };
  },
};

const slow: Scenario = {
  name: 'p95-slow',
  about: 'a slow database: every request takes four to five times as long for ten minutes',
  stage(random) {
    const behaviour = { requestMillis: during(START, 12, 22, 320, 70) };
    const stage = createStage({ random, start: START, minutes: 36, behaviour });
    return { ...stage, must: [slowResponses(stage.occurrences, stage)], incidents: [{ group: 'http' }] };
  },
};

const denied: Scenario = {
  name: 'denied-spike',
  about: 'somebody tries passwords: five requests a second are answered 401 or 403',
  stage(random) {
    const behaviour = { deniedPerSecond: during(START, 45, 51, 5, 0.03) };
    const stage = createStage({ random, start: START, minutes: 62, behaviour });
    return { ...stage, must: [accessDeniedSpike(stage.occurrences, stage)], incidents: [{ group: 'security' }] };
  },
};

const busy: Scenario = {
  name: 'five-thousand-a-second',
  about: '5,000 events a second for 45 s, and half of the calls fail after 18 s',
  stage(random) {
    const behaviour = {
      callsPerSecond: () => 300,
      callFails: during(START, 0.3, 5, 0.5, 0.02),
      requestsPerSecond: () => 4_000,
      linesPerSecond: () => 650,
      jobsPerSecond: () => 25,
      jobsDonePerSecond: () => 40,
      deniedPerSecond: () => 0.3,
    };
    const stage = createStage({ random, start: START, minutes: 0.75, behaviour });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [elevatedErrorRate(occurrences, stage), highErrorRate(occurrences, stage)],
      may: [lowCallSuccess(occurrences, stage), ...anyTenant(occurrences, stage)],
      incidents: [{ group: 'calls', escalations: 1 }],
    };
  },
};

export const HTTP: readonly Scenario[] = [failing, slow, denied, busy];
