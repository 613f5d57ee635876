// What happens to the cluster and to logpipe's processes (test/cluster does it to real ones): brokers freeze or are gone, a process is
// stopped. When it is soon over, none of it is an alert by itself, and none of it hides one.
import { anyTenant, elevatedErrorRate, highErrorRate, lowCallSuccess } from '../call-labels.ts';
import { truth } from '../label.ts';
import { createStage, during, MINUTE, type Scenario, SECOND } from '../scenario.ts';

const START = '2026-03-24T10:00:00Z';
const FROM = Date.parse(START);

/** All partitions, or some, stand still from one moment to the other, and are then read sixty times as fast. */
function standing(fromMs: number, toMs: number, lanes: (lane: number) => boolean = () => true) {
  return (lane: number, nowMs: number): number => {
    if (!lanes(lane) || nowMs < fromMs) return nowMs;
    return nowMs < toMs ? fromMs : Math.min(nowMs, fromMs + (nowMs - toMs) * 60);
  };
}

/** The longest time from a broker's last answer to the first record that its partitions' new leaders take. */
const BROKER_MS = 20 * SECOND;

const frozen: Scenario = {
  name: 'broker-frozen-in-an-outage',
  about: 'two of four partitions stand still for 20 s each time one of three brokers freezes, while calls fail',
  quick: true,
  stage(random) {
    const behaviour = { callFails: during(START, 12, 20, 0.6, 0.02) };
    const stage = createStage({ random, start: START, minutes: 34, behaviour });
    const { occurrences } = stage;
    const early = standing(FROM + 6 * MINUTE, FROM + 6 * MINUTE + BROKER_MS, (lane) => lane < 2);
    const amid = standing(FROM + 14 * MINUTE, FROM + 14 * MINUTE + BROKER_MS, (lane) => lane > 1);
    return {
      ...stage,
      readableTo: (lane, nowMs) => Math.min(early(lane, nowMs), amid(lane, nowMs)),
      must: [elevatedErrorRate(occurrences, stage), highErrorRate(occurrences, stage)],
      may: [lowCallSuccess(occurrences, stage), ...anyTenant(occurrences, stage)],
      incidents: [{ group: 'calls', escalations: 1 }],
    };
  },
};

const gone: Scenario = {
  name: 'two-of-three-brokers-gone',
  about: 'nothing can be written for 75 s, twice; applications keep their records, and all of them come then',
  stage(random) {
    const stage = createStage({ random, start: START, minutes: 30 });
    const first = standing(FROM + 8 * MINUTE, FROM + 8 * MINUTE + 75 * SECOND);
    const second = standing(FROM + 18 * MINUTE, FROM + 18 * MINUTE + 75 * SECOND);
    return {
      ...stage,
      readableTo: (lane, nowMs) => Math.min(first(lane, nowMs), second(lane, nowMs)),
      must: [],
      incidents: [],
    };
  },
};

const stopped: Scenario = {
  name: 'process-stopped-in-an-outage',
  about: 'counting is stopped for 150 s in the middle of an outage, and taken up again: told once, ended once',
  stage(random) {
    const behaviour = { callFails: during(START, 12, 24, 0.6, 0.02) };
    const stage = createStage({ random, start: START, minutes: 40, behaviour });
    const { occurrences } = stage;
    const [fromMs, toMs] = [FROM + 16 * MINUTE, FROM + 16 * MINUTE + 150 * SECOND];
    return {
      ...stage,
      readableTo: standing(fromMs, toMs),
      must: [elevatedErrorRate(occurrences, stage), highErrorRate(occurrences, stage)],
      may: [
        lowCallSuccess(occurrences, stage),
        ...anyTenant(occurrences, stage),
        truth('log-processing-behind', [{ fromMs: fromMs + 120 * SECOND, toMs: toMs + 30 * SECOND }]),
      ],
      incidents: [{ group: 'calls', escalations: 1 }],
    };
  },
};

export const CLUSTERS: readonly Scenario[] = [frozen, gone, stopped];
