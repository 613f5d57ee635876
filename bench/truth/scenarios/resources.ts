// What runs short: memory, disks, pools, processors, queues; and two things at once.
import { anyTenant, elevatedErrorRate, highErrorRate, lowCallSuccess } from '../call-labels.ts';
import {
  criticalDisk,
  criticalMemory,
  highCpu,
  highDisk,
  highMemory,
  poolExhausted,
  queueBacklog,
  queueSlow,
  queueWait,
} from '../labels.ts';
import { createStage, during, ramp, type Scenario } from '../scenario.ts';

const START = '2026-03-16T10:00:00Z';

const heap: Scenario = {
  name: 'heap-growing',
  about:
    'one of six processes leaks up to 95 % of its limit and is restarted; the others use 97 % of what V8 took, in health',
  stage(random) {
    const leak = ramp(START, 6, 36, 0.3, 0.96);
    const behaviour = {
      heap: (ms: number, { pid }: { pid: number }) =>
        pid === 4_111 && ms < Date.parse(START) + 40 * 60_000 ? leak(ms) : 0.3,
    };
    const stage = createStage({ random, start: START, minutes: 50, behaviour });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [highMemory(occurrences, stage), criticalMemory(occurrences, stage)],
      incidents: [{ group: 'memory', escalations: 1 }],
    };
  },
};

const disk: Scenario = {
  name: 'disk-filling',
  about: 'the disk of one host fills from 80 to 93 % within 40 minutes and is cleaned up',
  stage(random) {
    const filling = ramp(START, 5, 45, 80, 93);
    const diskPercent = (ms: number, host: string) =>
      host === 'app-2' && ms < Date.parse(START) + 48 * 60_000 ? filling(ms) : 55;
    const stage = createStage({ random, start: START, minutes: 58, behaviour: { diskPercent } });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [highDisk('app-2')(occurrences, stage), criticalDisk('app-2')(occurrences, stage)],
      incidents: [{ group: 'disks', escalations: 1 }],
    };
  },
};

const grazing: Scenario = {
  name: 'reading-grazes-threshold',
  about: 'a disk reads 84.8 and 85.3 % in turn: never above the threshold for as long as the rule asks',
  stage(random) {
    const diskPercent = (ms: number, host: string) =>
      host === 'app-1' ? (Math.floor(ms / 15_000) % 2 === 0 ? 84.8 : 85.3) : 55;
    const stage = createStage({ random, start: START, minutes: 30, behaviour: { diskPercent } });
    return { ...stage, must: [highDisk('app-1')(stage.occurrences, stage)], incidents: [] };
  },
};

const pool: Scenario = {
  name: 'pool-exhausted',
  about: 'one process holds on to its database connections: 48 of 50 for six minutes',
  stage(random) {
    const busy = during(START, 12, 18, 49, 12);
    const poolInUse = (ms: number, { pid }: { pid: number }) => (pid === 4_120 ? busy(ms) : 12);
    const stage = createStage({ random, start: START, minutes: 28, behaviour: { poolInUse } });
    return { ...stage, must: [poolExhausted(stage.occurrences, stage)], incidents: [{ group: 'databases' }] };
  },
};

const cpu: Scenario = {
  name: 'cpu-peaks-then-load',
  about: 'three peaks of 75 s, as of a backup, and later seven minutes at 95 %',
  stage(random) {
    const [one, two, three] = [5, 10, 15].map((at) => during(START, at, at + 1.25, true, false));
    const load = during(START, 22, 29, true, false);
    const cpuPercent = (ms: number, host: string) =>
      host === 'app-3' && (one!(ms) || two!(ms) || three!(ms) || load(ms)) ? 95 : 35;
    const stage = createStage({ random, start: START, minutes: 38, behaviour: { cpuPercent } });
    return { ...stage, must: [highCpu('app-3')(stage.occurrences, stage)], incidents: [{ group: 'hosts' }] };
  },
};

const queue: Scenario = {
  name: 'queue-stuck',
  about: 'nothing is taken from one queue for 14 minutes while jobs go on coming; then it is worked off',
  stage(random) {
    const stuck = during(START, 10, 24, true, false);
    const behaviour = {
      jobsPerSecond: () => 0.8,
      jobsDonePerSecond: (ms: number, name: string) => (name === 'scheduled-calls' && stuck(ms) ? 0 : 4),
    };
    const stage = createStage({ random, start: START, minutes: 46, behaviour });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [queueSlow('scheduled-calls')(occurrences, stage), queueBacklog('scheduled-calls')(occurrences, stage)],
      may: [queueWait('scheduled-calls')(occurrences, stage)],
      incidents: [{ group: 'queues' }],
    };
  },
};

const two: Scenario = {
  name: 'two-incidents',
  about: 'calls fail, and two minutes later, for another reason, a database pool is exhausted',
  stage(random) {
    const busy = during(START, 14, 22, 50, 12);
    const poolInUse = (ms: number, { pid }: { pid: number }) => (pid === 4_100 ? busy(ms) : 12);
    const behaviour = { callFails: during(START, 12, 20, 0.6, 0.02), poolInUse };
    const stage = createStage({ random, start: START, minutes: 36, behaviour });
    const { occurrences } = stage;
    return {
      ...stage,
      must: [
        elevatedErrorRate(occurrences, stage),
        highErrorRate(occurrences, stage),
        poolExhausted(occurrences, stage),
      ],
      may: [lowCallSuccess(occurrences, stage), ...anyTenant(occurrences, stage)],
      incidents: [{ group: 'calls', escalations: 1 }, { group: 'databases' }],
    };
  },
};

export const RESOURCES: readonly Scenario[] = [heap, disk, grazing, pool, cpu, queue, two];
