// Few calls: too few for a ratio, and subject to chance.

import { allCallsFailing, manyCallsFailing, mostCallsFailing } from '../call-labels.ts';
import { createFleet } from '../fleet.ts';
import { type Occurrence, occurrence } from '../occurrence.ts';
import { endOfCall } from '../platform.ts';
import type { Random } from '../random.ts';
import { createStage, MINUTE, type Scenario } from '../scenario.ts';

const NIGHT = '2026-03-11T02:00:00Z';
/** Nobody calls, but the machines still report about themselves. */
const ASLEEP = {
  callsPerSecond: () => 0,
  requestsPerSecond: () => 0.1,
  jobsPerSecond: () => 0.02,
  linesPerSecond: () => 0.05,
};

/** A call at each minute after the start of the night. */
function callsAt(random: Random, minutes: readonly number[], failed: (minute: number) => boolean): Occurrence[] {
  const own = random.fork('night');
  const [process] = createFleet().processes;
  return minutes.map((minute) => {
    const at = Math.floor(Date.parse(NIGHT) + minute * MINUTE + own.between(0, 20_000));
    return occurrence(at, process!, endOfCall(own, { tenantId: 'acme', attempt: 1, failed: failed(minute) }));
  });
}

const every = (minutes: number, from: number, to: number) =>
  Array.from({ length: Math.ceil((to - from) / minutes) }, (_, i) => from + i * minutes);

const oneFailure: Scenario = {
  name: 'night-one-failure',
  about: 'a call every five minutes, and one of them fails',
  stage(random) {
    const more = callsAt(random, every(5, 2, 70), (minute) => minute === 42);
    return { ...createStage({ random, start: NIGHT, minutes: 75, behaviour: ASLEEP, more }), must: [], incidents: [] };
  },
};

const eightFailing: Scenario = {
  name: 'night-all-of-eight',
  about: 'no call for hours, then eight within the hour, and all of them fail',
  stage(random) {
    const more = callsAt(random, every(5, 10, 50), () => true);
    const stage = createStage({ random, start: NIGHT, minutes: 58, behaviour: ASLEEP, more });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [mostCallsFailing(occurrences, stage), allCallsFailing(occurrences, stage)],
      incidents: [{ group: 'calls' }],
    };
  },
};

const tenFailing: Scenario = {
  name: 'night-all-of-ten',
  about: 'a call every four minutes; from one on all fail: ten in a row',
  stage(random) {
    const more = callsAt(random, every(4, 2, 72), (minute) => minute >= 30);
    const stage = createStage({ random, start: NIGHT, minutes: 78, behaviour: ASLEEP, more });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [mostCallsFailing(occurrences, stage), allCallsFailing(occurrences, stage)],
      incidents: [{ group: 'calls', escalations: 1 }],
    };
  },
};

const chance: Scenario = {
  name: 'quiet-evening',
  about: 'five calls a minute for four hours, of which 2 % fail as ever: chance alone must call nobody',
  stage(random) {
    const behaviour = { callsPerSecond: () => 1 / 12, requestsPerSecond: () => 0.3, jobsPerSecond: () => 0.1 };
    const stage = createStage({ random, start: '2026-03-11T18:00:00Z', minutes: 240, behaviour });
    return { ...stage, must: [], incidents: [] };
  },
};

const fewCalls: Scenario = {
  name: 'few-calls-some-fail',
  about: 'a call every nine seconds, of which from one moment on every sixth fails',
  stage(random) {
    const minutes = every(0.15, 1, 75);
    const failing = (minute: number) => minute >= 25 && minute < 60 && Math.round((minute - 1) / 0.15) % 6 === 0;
    const stage = createStage({
      random,
      start: NIGHT,
      minutes: 80,
      behaviour: { ...ASLEEP, requestsPerSecond: () => 0.4 },
      more: callsAt(random, minutes, failing),
    });
    return { ...stage, must: [manyCallsFailing(stage.occurrences, stage)], incidents: [{ group: 'calls' }] };
  },
};

export const QUIET: readonly Scenario[] = [oneFailure, eightFailing, tenFailing, chance, fewCalls];
