// Times that are not what they seem: clocks that are off, logs that come late.
import { anyTenant, elevatedErrorRate, highErrorRate, lowCallSuccess } from '../call-labels.ts';
import { type Truth, truth } from '../label.ts';
import { criticalDisk, highDisk } from '../labels.ts';
import type { Occurrence } from '../occurrence.ts';
import { createStage, during, MINUTE, type Scenario, SECOND, type Stage } from '../scenario.ts';
import { whileTrue } from '../truth.ts';

const START = '2026-03-19T13:00:00Z';
const OFF = 5 * MINUTE;

/** An outage that every host sees, with the clock of one of them off. */
function outage(name: string, about: string, aheadMs: number): Scenario {
  return {
    name,
    about,
    stage(random) {
      const stage = createStage({
        random,
        start: START,
        minutes: 38,
        behaviour: { callFails: during(START, 14, 22, 0.6, 0.02) },
        shipping: { clockAheadMs: (host) => (host === 'app-2' ? aheadMs : 0) },
      });
      const { occurrences } = stage;
      return {
        ...stage,
        must: [elevatedErrorRate(occurrences, stage), highErrorRate(occurrences, stage)],
        may: [
          lowCallSuccess(occurrences, stage),
          ...anyTenant(occurrences, stage),
          // Events more than two minutes late never page, so the share among the others may be high a little earlier.
          ...(aheadMs < -2 * MINUTE ? [elevatedErrorRate(without(stage, 'app-2'), stage)] : []),
          ...(aheadMs < -2 * MINUTE ? [highErrorRate(without(stage, 'app-2'), stage)] : []),
        ],
        incidents: [{ group: 'calls', escalations: 1 }],
      };
    },
  };
}

function without({ occurrences }: Stage, host: string): readonly Occurrence[] {
  return occurrences.filter((occurrence) => occurrence.host !== host);
}

/** The disk of a host whose clock is off fills up. */
function disk(name: string, about: string, aheadMs: number): Scenario {
  return {
    name,
    about,
    stage(random) {
      const full = during(START, 12, 24, 94, 60);
      const stage = createStage({
        random,
        start: START,
        minutes: 30,
        behaviour: { diskPercent: (ms, host) => (host === 'app-2' ? full(ms) : 55) },
        shipping: { clockAheadMs: (host) => (host === 'app-2' ? aheadMs : 0) },
      });
      const { occurrences } = stage;
      return {
        ...stage,
        must: [criticalDisk('app-2')(occurrences, stage)],
        may: [highDisk('app-2')(occurrences, stage)],
        incidents: [{ group: 'disks' }],
      };
    },
  };
}

const lateLogs: Scenario = {
  name: 'late-logs',
  about: 'one host is cut off for seven minutes and then sends what it kept: three minutes of failing calls long ago',
  stage(random) {
    const [cutMs, backMs] = [12, 19].map((minute) => Date.parse(START) + minute * MINUTE) as [number, number];
    const failing = during(START, 12, 15, true, false);
    const stage = createStage({
      random,
      start: START,
      minutes: 40,
      behaviour: { callFails: (ms, { host }) => (failing(ms) && host === 'app-3' ? 0.95 : 0.02) },
      shipping: {
        // Drained within ten seconds, in order.
        delayMs: ({ trueMs, host }) =>
          host !== 'app-3' || trueMs < cutMs || trueMs >= backMs
            ? 0
            : backMs + ((trueMs - cutMs) / (backMs - cutMs)) * 10_000 - trueMs,
      },
    });
    // Events more than two minutes late page nobody: one summary, a minute after the last of them came.
    const late = stage.records.filter(({ arrivalMs, of }) => arrivalMs - of.trueMs > 2 * MINUTE);
    const knownMs = late.at(-1)!.arrivalMs + MINUTE;
    return {
      ...stage,
      must: [truth('reported-late', [{ fromMs: knownMs, toMs: knownMs + 5 * MINUTE }])],
      incidents: [{ group: 'late' }],
    };
  },
};

/** Judges by what had arrived at each moment: nobody can know more. */
function known(stage: Stage, rule: string, share: number): Truth {
  const calls = stage.records.filter(({ of }) => of.doc.event === 'call.ended');
  const failed = (doc: Readonly<Record<string, unknown>>) => (doc.call as { status: string }).status === 'failed';
  const when = whileTrue(stage, (ms) => {
    const window = calls.filter(({ of, arrivalMs }) => arrivalMs <= ms && of.trueMs > ms - 5 * MINUTE);
    return window.length >= 20 && window.filter(({ of }) => failed(of.doc)).length / window.length > share;
  });
  return truth(rule, when);
}

const slowShipping: Scenario = {
  name: 'slow-shipping',
  about: 'every record comes 30 to 60 s late, out of order, and calls fail',
  stage(random) {
    const own = random.fork('slow');
    const stage = createStage({
      random,
      start: START,
      minutes: 38,
      behaviour: { callFails: during(START, 14, 22, 0.6, 0.02) },
      shipping: { delayMs: () => own.between(30, 60) * SECOND },
    });
    return {
      ...stage,
      must: [known(stage, 'elevated-error-rate', 0.1), known(stage, 'high-error-rate', 0.2)],
      may: [lowCallSuccess(stage.occurrences, stage), ...anyTenant(stage.occurrences, stage)],
      incidents: [{ group: 'calls', escalations: 1 }],
    };
  },
};

export const CLOCKS: readonly Scenario[] = [
  lateLogs,
  slowShipping,
  outage('clock-ahead', 'an outage, while the clock of one of three hosts is five minutes ahead', OFF),
  outage('clock-behind', 'an outage, while the clock of one of three hosts is five minutes behind', -OFF),
  disk('clock-ahead-disk-full', 'the disk of a host whose clock is five minutes ahead fills up', OFF),
  {
    ...disk('clock-behind-disk-full', 'the disk of a host whose clock is five minutes behind fills up', -OFF),
    quick: true,
  },
];
