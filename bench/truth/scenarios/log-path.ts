// Faults on the log's way: counting stops, a partition stalls, records come twice or again, nothing comes at all.

import { anyTenant, elevatedErrorRate, highErrorRate, lowCallSuccess } from '../call-labels.ts';
import { createFleet } from '../fleet.ts';
import { truth } from '../label.ts';
import { silent } from '../labels.ts';
import { createStage, during, MINUTE, type Scenario, SECOND } from '../scenario.ts';
import { byArrival, type Shipped } from '../shipping.ts';

const START = '2026-03-20T15:00:00Z';
const FROM = Date.parse(START);

/** Counting stands still from minute 12 to minute 22, then reads a minute in a second. */
const STOPPED = FROM + 12 * MINUTE;
const RESUMED = FROM + 22 * MINUTE;
const CAUGHT_UP = RESUMED + 11 * SECOND;
const stopped = (_lane: number, nowMs: number) =>
  nowMs < STOPPED ? nowMs : nowMs < RESUMED ? STOPPED : STOPPED + (nowMs - RESUMED) * 60;
/** More than two minutes behind for half a minute, until it has caught up. */
const BEHIND = truth('log-processing-behind', [{ fromMs: STOPPED + 150 * SECOND, toMs: RESUMED + 10 * SECOND }]);

const lag: Scenario = {
  name: 'lag-healthy',
  about: 'counting stops for ten minutes and catches up; nothing else is wrong',
  stage(random) {
    const stage = createStage({ random, start: START, minutes: 34 });
    return { ...stage, readableTo: stopped, must: [BEHIND], incidents: [{ group: 'logpipe' }] };
  },
};

const lagOver: Scenario = {
  name: 'lag-outage-is-over',
  about: 'calls fail for three minutes while counting is stopped; when it is known it is long over: a summary, no page',
  quick: true,
  stage(random) {
    const behaviour = { callFails: during(START, 14, 17, 0.7, 0.02) };
    const stage = createStage({ random, start: START, minutes: 38, behaviour });
    return {
      ...stage,
      readableTo: stopped,
      must: [BEHIND, truth('reported-late', [{ fromMs: CAUGHT_UP, toMs: CAUGHT_UP + 5 * MINUTE }])],
      incidents: [{ group: 'logpipe' }, { group: 'late' }],
    };
  },
};

const lagOutage: Scenario = {
  name: 'lag-outage-goes-on',
  about: 'calls begin to fail while counting is stopped, and still fail when it has caught up',
  stage(random) {
    const behaviour = { callFails: during(START, 16, 28, 0.7, 0.02) };
    const stage = createStage({ random, start: START, minutes: 44, behaviour });
    const { toMs } = highErrorRate(stage.occurrences, stage).when[0]!;
    return {
      ...stage,
      readableTo: stopped,
      // It becomes known when counting has caught up.
      must: [BEHIND, truth('high-error-rate', [{ fromMs: CAUGHT_UP, toMs }])],
      may: [
        elevatedErrorRate(stage.occurrences, stage),
        lowCallSuccess(stage.occurrences, stage),
        ...anyTenant(stage.occurrences, stage),
        'reported-late',
      ],
      incidents: [{ group: 'logpipe' }, { group: 'calls' }],
    };
  },
};

const stalled: Scenario = {
  name: 'partition-stalled',
  about: 'one of four partitions is not read for five minutes, while calls fail',
  quick: true,
  stage(random) {
    const [fromMs, toMs] = [FROM + 12 * MINUTE, FROM + 17 * MINUTE];
    const behaviour = { callFails: during(START, 13, 21, 0.6, 0.02) };
    const stage = createStage({ random, start: START, minutes: 36, behaviour });
    const { occurrences } = stage;
    return {
      ...stage,
      readableTo: (lane, nowMs) => (lane === 2 && nowMs >= fromMs && nowMs < toMs ? fromMs : nowMs),
      must: [
        truth('partition-stalled', [{ fromMs: fromMs + MINUTE, toMs }], { lane: '2' }),
        elevatedErrorRate(occurrences, stage),
        highErrorRate(occurrences, stage),
      ],
      may: [lowCallSuccess(occurrences, stage), ...anyTenant(occurrences, stage)],
      incidents: [{ group: 'logpipe' }, { group: 'calls', escalations: 1 }],
    };
  },
};

const duplicates: Scenario = {
  name: 'duplicate-delivery',
  about:
    '7 % of the calls fail; their records are sent up to three times after unanswered sends, some only the second time',
  quick: true,
  stage(random) {
    const own = random.fork('duplicates');
    const behaviour = { callsPerSecond: () => 2, callFails: during(START, 12, 24, 0.065, 0.02) };
    const stage = createStage({ random, start: START, minutes: 36, behaviour });
    const records = stage.records.flatMap((record): Shipped[] => {
      const resent = (afterMs: number): Shipped => ({
        ...record,
        mark: 'resent',
        arrivalMs: record.arrivalMs + afterMs,
      });
      if (record.of.doc.level !== 'error') return own.chance(0.02) ? [record, resent(400)] : [record];
      // The first copy of one in twenty was lost.
      const first = own.chance(0.05) ? [] : [record];
      return [...first, resent(own.between(300, 900)), resent(own.between(1_000, 3_000))];
    });
    return { ...stage, records: byArrival(records), must: [], incidents: [] };
  },
};

const again: Scenario = {
  name: 'redriven-and-replayed',
  about: 'dead letters are driven again and an hour of an old outage is replayed: both were counted long ago',
  stage(random) {
    const own = random.fork('again');
    const stage = createStage({ random, start: START, minutes: 34 });
    const old = createStage({
      random: random.fork('old'),
      start: '2026-03-20T11:00:00Z',
      minutes: 60,
      behaviour: { callFails: () => 0.8, requestFails: () => 0.4 },
    });
    const replayed = old.records.map((record): Shipped => {
      const arrivalMs = FROM + 14 * MINUTE + Math.floor((record.arrivalMs - old.fromMs) / 20);
      return { ...record, mark: 'replayed', arrivalMs };
    });
    // Records that have just failed to be indexed, so their times are recent.
    const redriven = stage.records
      .filter(({ of, arrivalMs }) => of.doc.level === 'error' && arrivalMs > FROM + 12 * MINUTE)
      .flatMap((record) =>
        Array.from({ length: 12 }, (): Shipped => {
          return { ...record, mark: 'redriven', arrivalMs: record.arrivalMs + Math.floor(own.between(5_000, 60_000)) };
        }),
      );
    return {
      ...stage,
      records: byArrival(
        [...stage.records, ...replayed, ...redriven].filter(({ arrivalMs }) => arrivalMs < stage.toMs),
      ),
      must: [],
      incidents: [],
    };
  },
};

const silence: Scenario = {
  name: 'silence',
  about: 'all processes stop for five minutes and come back',
  quick: true,
  stage(random) {
    const [downMs, upMs] = [FROM + 12 * MINUTE, FROM + 17 * MINUTE];
    const generations = [
      { version: '1.4.2', fromMs: 0, toMs: downMs, firstPid: 4_100 },
      { version: '1.4.2', fromMs: upMs, toMs: Number.POSITIVE_INFINITY, firstPid: 5_200 },
    ];
    const stage = createStage({ random, start: START, minutes: 32, fleet: createFleet({ generations }) });
    return { ...stage, must: [silent(stage.occurrences, stage)], incidents: [{ group: 'platform' }] };
  },
};

export const LOG_PATH: readonly Scenario[] = [lag, lagOver, lagOutage, stalled, duplicates, again, silence];
