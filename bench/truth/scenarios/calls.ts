// Calls fail: at once, slowly, now and then, for one tenant, in waves.
import {
  anyTenant,
  elevatedErrorRate,
  highErrorRate,
  lowCallSuccess,
  lowRetrySuccess,
  tenantErrorRate,
} from '../call-labels.ts';
import { createStage, during, MINUTE, ramp, type Scenario, SECOND } from '../scenario.ts';

const START = '2026-03-10T09:00:00Z';

const sharpOutage: Scenario = {
  name: 'sharp-outage',
  about: 'a provider goes down: from one second to the next 70 % of the calls fail, for ten minutes',
  stage(random) {
    const stage = createStage({
      random,
      start: START,
      minutes: 40,
      behaviour: { callFails: during(START, 12, 22, 0.7, 0.02) },
    });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [
        elevatedErrorRate(occurrences, stage),
        highErrorRate(occurrences, stage),
        lowCallSuccess(occurrences, stage),
      ],
      incidents: [{ group: 'calls', escalations: 1 }],
    };
  },
};

const slowBurn: Scenario = {
  name: 'slow-burn',
  about: 'failures rise from 1 % to 35 % within 70 minutes and fall again',
  stage(random) {
    const [rise, fall] = [ramp(START, 5, 75, 0.01, 0.35), ramp(START, 80, 84, 0, 0.34)];
    const stage = createStage({
      random,
      start: START,
      minutes: 100,
      behaviour: { callsPerSecond: () => 1, callFails: (ms) => rise(ms) - fall(ms) },
    });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [elevatedErrorRate(occurrences, stage), highErrorRate(occurrences, stage)],
      incidents: [{ group: 'calls', escalations: 1 }],
    };
  },
};

/** From minute 10 on, calls fail with this probability during `burstSeconds` of every `periodSeconds`. */
function waves(periodSeconds: number, burstSeconds: number, probability: number, minutes: number) {
  const fromMs = Date.parse(START) + 10 * MINUTE;
  return (ms: number) => {
    const sinceMs = ms - fromMs;
    const failing = sinceMs >= 0 && sinceMs < minutes * MINUTE && (sinceMs / SECOND) % periodSeconds < burstSeconds;
    return failing ? probability : 0.02;
  };
}

const flapping: Scenario = {
  name: 'flapping',
  about: 'calls fail in bursts: every six minutes the five-minute rate falls below 10 % for a minute or so',
  stage(random) {
    const behaviour = { callsPerSecond: () => 2, callFails: waves(345, 100, 0.36, 29) };
    const stage = createStage({ random, start: START, minutes: 54, behaviour });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [elevatedErrorRate(occurrences, stage)],
      may: [highErrorRate(occurrences, stage), ...anyTenant(occurrences, stage)],
      incidents: [{ group: 'calls' }],
    };
  },
};

const flappingSlowly: Scenario = {
  name: 'flapping-slowly',
  about: 'calls fail in bursts that are farther apart than the alert is held: told again, but not inside the cooldown',
  stage(random) {
    const behaviour = { callsPerSecond: () => 2, callFails: waves(480, 100, 0.4, 33) };
    const stage = createStage({ random, start: START, minutes: 58, behaviour });
    const { occurrences } = stage;
    const elevated = elevatedErrorRate(occurrences, stage);
    return {
      ...stage,
      must: [elevated],
      may: [highErrorRate(occurrences, stage), ...anyTenant(occurrences, stage)],
      // Its end was told each time; a second message within ten minutes would be one too many.
      incidents: [{ group: 'calls', reopenings: Math.min(elevated.when.length - 1, 3) }],
    };
  },
};

const oneTenant: Scenario = {
  name: 'one-tenant',
  about: 'one of five tenants has a wrong number prefix: 70 % of its calls fail, the platform is well',
  quick: true,
  stage(random) {
    const failing = during(START, 12, 27, true, false);
    const stage = createStage({
      random,
      start: START,
      minutes: 50,
      behaviour: { callFails: (ms, { tenantId }) => (failing(ms) && tenantId === 'hooli' ? 0.7 : 0.015) },
    });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [tenantErrorRate(occurrences, stage, 'hooli')],
      may: [elevatedErrorRate(occurrences, stage)],
      incidents: [{ group: 'calls' }],
    };
  },
};

const acrossMidnight: Scenario = {
  name: 'across-midnight',
  about: 'an outage from 23:54 to 00:09: another day, another index, the same incident',
  stage(random) {
    const start = '2026-03-10T23:42:00Z';
    const stage = createStage({
      random,
      start,
      minutes: 42,
      behaviour: { callFails: during(start, 12, 27, 0.5, 0.02) },
    });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [elevatedErrorRate(occurrences, stage), highErrorRate(occurrences, stage)],
      may: [lowCallSuccess(occurrences, stage), ...anyTenant(occurrences, stage)],
      incidents: [{ group: 'calls', escalations: 1 }],
    };
  },
};

const again: Scenario = {
  name: 'resolves-and-fires-again',
  about: 'an outage ends, is told to be over, and begins again inside the cooldown',
  stage(random) {
    const [one, other] = [during(START, 10, 12, true, false), during(START, 21, 25, true, false)];
    const stage = createStage({
      random,
      start: START,
      minutes: 42,
      behaviour: { callsPerSecond: () => 2, callFails: (ms) => (one(ms) ? 0.35 : other(ms) ? 0.45 : 0.01) },
    });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [elevatedErrorRate(occurrences, stage)],
      may: [highErrorRate(occurrences, stage), ...anyTenant(occurrences, stage)],
      incidents: [{ group: 'calls', reopenings: 1, escalations: 1 }],
    };
  },
};

const retryStorm: Scenario = {
  name: 'retry-storm',
  about: 'failed calls are tried again at once: three times as many calls, most of them fail',
  stage(random) {
    const storm = during(START, 12, 24, true, false);
    const stage = createStage({
      random,
      start: START,
      minutes: 62,
      behaviour: {
        callsPerSecond: during(START, 12, 24, 1.8, 0.6),
        callRetried: during(START, 12, 24, 0.8, 0.18),
        callFails: (ms, { attempt }) => (storm(ms) ? (attempt > 1 ? 0.92 : 0.5) : 0.02),
        jobsPerSecond: during(START, 12, 24, 1.2, 0.4),
      },
    });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [
        elevatedErrorRate(occurrences, stage),
        highErrorRate(occurrences, stage),
        lowCallSuccess(occurrences, stage),
        lowRetrySuccess(occurrences, stage),
      ],
      may: anyTenant(occurrences, stage),
      incidents: [{ group: 'calls', escalations: 1 }],
    };
  },
};

export const CALLS: readonly Scenario[] = [
  sharpOutage,
  slowBurn,
  flapping,
  flappingSlowly,
  oneTenant,
  acrossMidnight,
  again,
  retryStorm,
];
