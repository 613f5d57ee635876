// What roles cost. In: a filled topic. Out: CPU per event of the process, start subtracted, and its peak memory; for comparison, only
// reading. Rounds are interleaved. A counter is done when the counts topic says that everything was read; an indexer when Elasticsearch
// has every document. Code is compiled only under load, which starting an idle process does not show; so the second half of the events
// is measured too, as the cost of a process that keeps running.
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { sleep } from '../../src/core/clock.ts';
import type { KafkaConfig } from '../../src/source/kafka/client.ts';
import { startProcess } from '../../test/kit/process.ts';
import { followCounter } from '../counter-progress.ts';
import { createTopics, fill } from '../fill.ts';
import type { IntakeResult } from '../intake.ts';
import { deleteIndices, indexedCount } from '../measure.ts';
import type { CostReader } from '../process-cost.ts';
import { startAll } from './latency.ts';
import type { ReaderOptions } from './reader.ts';
import { createRig, type Servers, until } from './rig.ts';
import { median, round } from './statistics.ts';

export const COST_ROLES = ['counter', 'counter,alerter', 'indexer', 'indexer,counter,alerter'] as const;
export type CostRoles = (typeof COST_ROLES)[number];

export interface RoleCost {
  /** Median over the rounds, start subtracted. */
  readonly cpuMicrosPerEvent: number;
  /** Only the second half of the events; null when there were too few to tell. */
  readonly steadyMicrosPerEvent: number | null;
  readonly eventsPerSecond: number;
  readonly peakMb: number;
  readonly startCpuMs: number;
}

export interface CostBench {
  readonly events: number;
  readonly rounds: number;
  readonly bytesPerLine: number;
  /** kafkajs with the values untouched, and logpipe's intake with everything acknowledged at once. */
  readonly reading: Readonly<Record<ReaderOptions['reader'], IntakeResult>>;
  readonly roles: Readonly<Record<CostRoles, RoleCost>>;
  /** The counter less logpipe's intake, with which it reads. */
  readonly counterOnTopMicros: number;
  /** The same for the second halves. */
  readonly counterOnTopSteadyMicros: number | null;
}

export interface CostDeps {
  readonly servers: Servers;
  readonly cost: CostReader;
  readonly run: string;
  readonly say: (line: string) => void;
}

const TIMEOUT_MS = 180_000;

export async function measureCost(options: { events: number; rounds: number }, deps: CostDeps): Promise<CostBench> {
  const { events, rounds } = options;
  const { say, run, servers } = deps;
  const topic = `${run}-filled`;
  const home = await createRig({ name: `${run}-cost` }, servers);
  const { kafka } = home.config;
  try {
    say(`filling ${events} records …`);
    await createTopics(kafka, topic);
    const bodiesFile = join(servers.folder, 'bodies.ndjson');
    const { bytesPerLine } = await fill(kafka, { topic, events, bodiesFile });
    const starts = new Map<CostRoles, number>();
    for (const roles of COST_ROLES) starts.set(roles, await measureStart(roles, `${topic}-empty`, deps));
    const roleRounds = new Map<CostRoles, RoleRound[]>(COST_ROLES.map((roles) => [roles, []]));
    const reading: Record<ReaderOptions['reader'], IntakeResult[]> = { bareKafkajs: [], ownIntake: [] };
    for (let i = 1; i <= rounds; i++) {
      for (const reader of ['bareKafkajs', 'ownIntake'] as const) {
        const result = await read({ reader, kafka: { ...kafka, topics: { ...kafka.topics, logs: topic } }, events });
        say(`round ${i}: ${reader} ${result.cpuMicrosPerEvent.toFixed(2)} µs`);
        reading[reader].push(result);
      }
      for (const roles of COST_ROLES) {
        const result = await measureRound(roles, { topic, events, round: i }, deps);
        say(
          `round ${i}: ${roles} ${(result.cpuMicros / events).toFixed(2)} µs with start, ${Math.round(result.peakMb)} MB`,
        );
        roleRounds.get(roles)!.push(result);
      }
    }
    const roles = Object.fromEntries(
      COST_ROLES.map((its) => [its, toCost(roleRounds.get(its)!, starts.get(its)!, events)]),
    ) as Record<CostRoles, RoleCost>;
    const ownIntake = middle(reading.ownIntake);
    const { cpuMicrosPerEvent, steadyMicrosPerEvent: steady } = roles.counter;
    return {
      events,
      rounds,
      bytesPerLine: Math.round(bytesPerLine),
      reading: { bareKafkajs: middle(reading.bareKafkajs), ownIntake },
      roles,
      counterOnTopMicros: round(cpuMicrosPerEvent - ownIntake.cpuMicrosPerEvent, 2),
      counterOnTopSteadyMicros: steady === null ? null : round(steady - ownIntake.steadyMicrosPerEvent, 2),
    };
  } finally {
    await deleteTopics(kafka, [topic, `${topic}-empty`]);
    await home.end();
  }
}

interface RoleRound {
  readonly cpuMicros: number;
  readonly steadyMicrosPerEvent: number | null;
  readonly peakMb: number;
  readonly seconds: number;
}

async function measureRound(
  roles: CostRoles,
  { topic, events, round: number }: { topic: string; events: number; round: number },
  deps: CostDeps,
): Promise<RoleRound> {
  const { servers, cost, run } = deps;
  const rig = await createRig({ name: `${run}-cost-${roles.replaceAll(',', '-')}-${number}`, logs: topic }, servers);
  const counted = roles.includes('counter') ? await followCounter(rig.config.kafka) : undefined;
  const node = roles.includes('indexer') ? servers.elasticsearch!.url : undefined;
  try {
    if (node !== undefined) await deleteIndices(node);
    const child = rig.start(roles);
    await rig.stable(roles.includes('counter') ? 'counter' : 'indexer', 1);
    const began = performance.now();
    const seen: Seen[] = [];
    const done = async () => {
      const counts = counted?.progress() ?? { position: events, caughtUp: true };
      const documents = node === undefined ? events : await indexedCount(node);
      seen.push({ events: Math.min(counts.position, documents), cpuMicros: cost(child.pid).cpuMicros });
      return counts.caughtUp && counts.position >= events && documents >= events;
    };
    await until(done, `${roles} to have done its work`, TIMEOUT_MS, 20, () => child.stderr().slice(-2_000));
    const { cpuMicros, peakMb } = cost(child.pid);
    const steadyMicrosPerEvent = costOfSecondHalf(seen, events);
    return { cpuMicros, steadyMicrosPerEvent, peakMb, seconds: (performance.now() - began) / 1_000 };
  } finally {
    await counted?.end();
    await rig.end();
    if (node !== undefined) await deleteIndices(node);
  }
}

/** How far the work had come, and what it had cost by then. */
interface Seen {
  readonly events: number;
  readonly cpuMicros: number;
}

/** Progress is known late, so both ends are taken when news of it came: the delays cancel out. */
function costOfSecondHalf(seen: readonly Seen[], all: number): number | null {
  const news = seen.filter((one, i) => i > 0 && one.events > seen[i - 1]!.events && one.events < all);
  const from = news.find((one) => one.events * 2 >= all);
  const to = news.at(-1);
  if (from === undefined || to === undefined || to.events - from.events < all / 4) return null;
  return (to.cpuMicros - from.cpuMicros) / (to.events - from.events);
}

/** CPU of a start, microseconds: on an empty topic until the work could begin, and a second of idling. */
async function measureStart(roles: CostRoles, topic: string, deps: CostDeps): Promise<number> {
  const rig = await createRig({ name: `${deps.run}-start-${roles.replaceAll(',', '-')}`, logs: topic }, deps.servers);
  try {
    const [child] = await startAll(rig, [roles]);
    await sleep(1_000);
    const { cpuMicros } = deps.cost(child!.pid);
    deps.say(`${roles}: a start costs ${Math.round(cpuMicros / 1_000)} ms of CPU`);
    return cpuMicros;
  } finally {
    await rig.end();
  }
}

/** Reads in a process of its own, so that nothing else is compiled or collected in it. */
async function read(options: ReaderOptions): Promise<IntakeResult> {
  const child = startProcess('bench/alerting/reader.js', [JSON.stringify(options)]);
  const line = await child.waitForLine(/cpuMicrosPerEvent/, TIMEOUT_MS);
  child.kill('SIGKILL');
  await child.exit;
  return JSON.parse(line) as IntakeResult;
}

async function deleteTopics(kafka: KafkaConfig, topics: string[]): Promise<void> {
  const admin = new kafkajs.Kafka({ brokers: [...kafka.brokers], logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  await admin.deleteTopics({ topics }).catch(() => {});
  await admin.disconnect();
}

function toCost(rounds: readonly RoleRound[], startMicros: number, events: number): RoleCost {
  const steady = rounds.flatMap(({ steadyMicrosPerEvent: micros }) => (micros === null ? [] : [micros]));
  return {
    cpuMicrosPerEvent: round((median(rounds.map(({ cpuMicros }) => cpuMicros)) - startMicros) / events, 2),
    steadyMicrosPerEvent: steady.length === 0 ? null : round(median(steady), 2),
    eventsPerSecond: Math.round(events / median(rounds.map(({ seconds }) => seconds))),
    peakMb: Math.round(Math.max(...rounds.map(({ peakMb }) => peakMb))),
    startCpuMs: Math.round(startMicros / 1_000),
  };
}

function middle(results: readonly IntakeResult[]): IntakeResult {
  return {
    cpuMicrosPerEvent: round(median(results.map((one) => one.cpuMicrosPerEvent)), 2),
    steadyMicrosPerEvent: round(median(results.map((one) => one.steadyMicrosPerEvent)), 2),
    eventsPerSecond: Math.round(median(results.map((one) => one.eventsPerSecond))),
  };
}
