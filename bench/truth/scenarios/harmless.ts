// What looks like something and is nothing: nobody may be called.
import { createFleet } from '../fleet.ts';
import { createStage, during, MINUTE, type Scenario } from '../scenario.ts';

const START = '2026-03-17T11:00:00Z';

const health: Scenario = {
  name: 'healthy-hours',
  about: 'an hour and a half as any other',
  stage(random) {
    return { ...createStage({ random, start: START, minutes: 90 }), must: [], incidents: [] };
  },
};

const deploy: Scenario = {
  name: 'deploy-restart',
  about: 'a release: six seconds of silence, new process ids, all counters begin anew, the first requests fail',
  quick: true,
  stage(random) {
    const downMs = Date.parse(START) + 14 * MINUTE;
    const upMs = downMs + 6_000;
    const generations = [
      { version: '1.4.2', fromMs: 0, toMs: downMs, firstPid: 4_100 },
      { version: '1.5.0', fromMs: upMs, toMs: Number.POSITIVE_INFINITY, firstPid: 7_300 },
    ];
    const behaviour = {
      requestFails: (ms: number) => (ms >= upMs && ms < upMs + 8_000 ? 0.4 : 0.003),
      jobsPerSecond: () => 0.8,
      queueRestartMs: upMs,
    };
    const fleet = createFleet({ generations });
    return { ...createStage({ random, start: START, minutes: 34, fleet, behaviour }), must: [], incidents: [] };
  },
};

const doubling: Scenario = {
  name: 'traffic-doubles',
  about: 'a campaign begins: twice as many calls, requests and jobs, no more errors than before',
  stage(random) {
    const twice = during(START, 45, 70, 2, 1);
    const behaviour = {
      callsPerSecond: (ms: number) => 0.6 * twice(ms),
      requestsPerSecond: (ms: number) => 5 * twice(ms),
      deniedPerSecond: (ms: number) => 0.03 * twice(ms),
      jobsPerSecond: (ms: number) => 0.4 * twice(ms),
      networkBytes: (ms: number) => 2e6 * twice(ms),
      poolInUse: (ms: number) => 12 * twice(ms),
      connections: (ms: number) => 150 * twice(ms),
    };
    return { ...createStage({ random, start: START, minutes: 75, behaviour }), must: [], incidents: [] };
  },
};

const nightImport: Scenario = {
  name: 'night-import',
  about: 'a batch import at night: fifteen times the requests and jobs, four times the network, busy but healthy',
  stage(random) {
    const start = '2026-03-18T02:00:00Z';
    const busy = during(start, 45, 65, true, false);
    const behaviour = {
      callsPerSecond: () => 0.02,
      requestsPerSecond: (ms: number) => (busy(ms) ? 15 : 1),
      jobsPerSecond: (ms: number) => (busy(ms) ? 6 : 0.2),
      jobsDonePerSecond: () => 8,
      cpuPercent: (ms: number) => (busy(ms) ? 78 : 15),
      networkBytes: (ms: number) => (busy(ms) ? 8e6 : 2e6),
      poolInUse: (ms: number) => (busy(ms) ? 36 : 5),
      connections: (ms: number) => (busy(ms) ? 500 : 40),
    };
    return { ...createStage({ random, start, minutes: 75, behaviour }), must: [], incidents: [] };
  },
};

export const HARMLESS: readonly Scenario[] = [health, deploy, doubling, nightImport];
