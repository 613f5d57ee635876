// logpipe on a cluster whose members a test kills and freezes: an application logs numbered events through the transport, all of
// logpipe runs as a process, and at the end everything is judged from outside. Each number must be in Elasticsearch once, and counted
// once, and people must have been called, and told the end, once per incident.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, onTestFailed, onTestFinished } from 'vitest';
import winston from 'winston';
import { parseConfig } from '../../src/config.ts';
import { sleep } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import type { CountsMessage } from '../../src/measure/totals.ts';
import { decodeCounts } from '../../src/measure/totals.ts';
import { KafkaTransport, type KafkaTransportOptions, type TransportStats } from '../../src/ship/index.ts';
import { createKafka } from '../../src/source/kafka/client.ts';
import { readTopic } from '../../src/source/kafka/topic-reader.ts';
import { ensureTopics } from '../../src/source/kafka/topics.ts';
import { type Cluster, processStart } from '../../stack/index.ts';
import { call, QUICK_RULES } from './alerting.ts';
import { sumOfMessages } from './counts.ts';
import { type Fronts, planFronts } from './fronts.ts';
import { readDocuments } from './ledger.ts';
import type { LogpipeProcess } from './process.ts';
import { startReceiver } from './receiver.ts';
import { spawnLogpipe, startTestCluster, uniqueName, waitFor } from './servers.ts';

const SHIFTED_CLOCK = pathToFileURL(join(packageRoot(), 'dist', 'test', 'kit', 'shifted-clock.js')).href;
const PER_SECOND = 100;
const TICK_MS = 50;
/** A short cooldown, because incidents follow each other at once here, and one that begins within the cooldown is the same one. */
const RULES = QUICK_RULES.replace('cooldown: 5s', 'cooldown: 1s');
/** How many of ten calls fail in an incident; the rule calls people at two. */
const FAILING = 10;
/** Failures go on for this long after the page, so that the share is far above the bound and passes it only once on its way down. */
const GOES_ON_MS = 8_000;
/** With a broker away a case lasts minutes, and the machine may be busy. */
const TOLD_MS = 180_000;

export interface ClusterRun {
  readonly topic: string;
  readonly admin: ReturnType<ReturnType<typeof createKafka>['admin']>;
  /** All topics that logpipe uses. */
  readonly topics: readonly string[];
  /** Another process of logpipe, by default in all roles; resolves when it works or stands by. */
  start(brokers?: readonly string[], roles?: readonly string[]): Promise<ClusterProcess>;
  /** Resolves at the next record that Kafka takes, with the time it took, ms. */
  nextDelivery(): Promise<number>;
  /** Calls fail until people have been called, then they succeed until people were told that it is over. */
  incident(): Promise<void>;
  /** The longest time in which Kafka took nothing while `work` ran, ms. */
  longestPause(work: () => Promise<void>): Promise<number>;
  /** Ends the load and waits until all of it, and so many events of others, were indexed and counted. */
  finish(others?: number): Promise<void>;
  /** What is wrong, in words; empty when everything is where it belongs. */
  problems(others?: Partial<OtherEvents>): Promise<string[]>;
  stats(): TransportStats;
}

export interface ClusterProcess extends LogpipeProcess {
  /** Sets its wall clock this many ms ahead of the machine's. */
  setClock(aheadMs: number): void;
}

/** `requestId` of events that other applications logged. */
export interface OtherEvents {
  /** In Elasticsearch once. */
  readonly once: ReadonlySet<string>;
  /** In Elasticsearch once or not at all: their application was killed before they were written. */
  readonly perhaps: ReadonlySet<string>;
}

export interface JudgeOptions {
  /** The broker addresses each process uses. Default: one process with the cluster's own addresses. */
  readonly processes?: readonly (readonly string[])[];
  /** The broker addresses the application uses. */
  readonly application?: readonly string[];
}

export interface SharedCluster {
  readonly cluster: Cluster;
  /** The connections to the brokers that can be cut. */
  readonly fronts: Readonly<Record<'APPLICATION' | 'PROCESS', Fronts>>;
}

let shared: Promise<SharedCluster> | undefined;

/**
 * Three brokers and one node, the same for all files of a run, which share this worker; they end with it. A member that a failed test
 * has left frozen or dead goes on, so that one file's failure is not the next one's. Call it in a hook: nothing ends it with a file.
 */
export async function sharedCluster(): Promise<SharedCluster> {
  shared ??= startShared();
  const { cluster } = await shared;
  // All at once: a broker is ready when there is a majority.
  await Promise.all(
    [...cluster.kafka, ...cluster.elasticsearch].map((member) =>
      processStart(member.pid) === undefined ? member.restart() : member.kill('SIGCONT'),
    ),
  );
  return shared;
}

async function startShared(): Promise<SharedCluster> {
  const { fronts, properties } = await planFronts(3, ['APPLICATION', 'PROCESS']);
  return { fronts, cluster: await startTestCluster({ brokers: 3, esNodes: 1, properties }) };
}

/**
 * Lets `fault` happen while the load runs and incidents follow each other, with one incident before it and one after it. Then
 * ends everything and judges it.
 */
export async function judge(
  cluster: Cluster,
  fault: (run: ClusterRun, processes: ClusterProcess[]) => Promise<void>,
  options: JudgeOptions = {},
): Promise<void> {
  const run = await startClusterRun(cluster, options.application);
  const processes: ClusterProcess[] = [];
  for (const brokers of options.processes ?? [cluster.brokers]) processes.push(await run.start(brokers));
  await run.incident();
  let over = false;
  const incidents = async () => {
    do await run.incident();
    while (!over);
  };
  const faults = async () => {
    await fault(run, processes);
    over = true;
  };
  await Promise.all([faults(), incidents()]);
  await run.incident();
  await run.finish();
  for (const one of processes) {
    one.kill('SIGTERM');
    expect(await one.exit).toEqual({ status: 0, signal: null });
  }
  expect(await run.problems()).toEqual([]);
}

/** Keeps its output in a file: the last lines do not explain a failure of minutes ago. */
function keepOutput(of: LogpipeProcess): void {
  const file = join(tmpdir(), `${uniqueName('logpipe-failed')}.log`);
  writeFileSync(file, `${of.stdout()}\n${of.stderr()}`);
  console.log(`what process ${of.pid} said: ${file}`);
}

/** Three copies of everything, two of which must have it. The load runs until `finish`. */
export async function startClusterRun(
  cluster: Cluster,
  application: readonly string[] = cluster.brokers,
  transportOptions: Partial<KafkaTransportOptions> = {},
): Promise<ClusterRun> {
  const topic = uniqueName('cluster');
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-cluster-'));
  const pagerduty = await startReceiver(() => ({ status: 202, body: '{"status":"success"}' }));
  const rulesFile = join(folder, 'rules.yml');
  writeFileSync(rulesFile, RULES);
  const list = (addresses: readonly string[]) => addresses.map((address) => `'${address}'`).join(', ');
  const yaml = (
    brokers: readonly string[],
    roles?: readonly string[],
  ) => `${roles === undefined ? '' : `roles: [${roles.join()}]\n`}kafka:
  brokers: [${list(brokers)}]
  group: ${topic}-indexer
  counterGroup: ${topic}-counter
  alerterGroup: ${topic}-alerter
  topics:
    { logs: ${topic}, dlq: ${topic}.dlq, counts: ${topic}-counts, alerts: ${topic}-alerts, replicationFactor: 3, minInsyncReplicas: 2 }
elasticsearch: { nodes: [${list(cluster.esUrls)}] }
alerts: { rulesFile: ${rulesFile} }
notify:
  environment: test
  pagerduty: { url: '${pagerduty.url}/v2/enqueue', integrationKey: k3yk3yk3y, ratePerSecond: 100 }
http: { port: 0 }
`;
  const { kafka: config } = parseConfig(yaml(cluster.brokers), {}, join(folder, 'logpipe.yml'));
  const kafka = createKafka(config, silentLog);
  await ensureTopics(kafka, config, silentLog);
  const admin = kafka.admin();
  await admin.connect();

  const transport = new KafkaTransport({
    ...{ brokers: application, topic, service: topic, closeTimeoutMs: 120_000 },
    ...transportOptions,
  });
  const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] });
  let logged = 0;
  let failing = 0;
  let incidents = 0;
  const deliveries: number[] = [performance.now()];
  transport.on('delivered', () => deliveries.push(performance.now()));
  const ticking = setInterval(() => {
    for (let i = 0; i < (PER_SECOND * TICK_MS) / 1_000; i++) {
      const n = logged++;
      const { message = 'call ended', callId, ...fields } = call(n, failing) as { message?: string; callId: string };
      // Half of them have no key.
      logger.info(message, { ...fields, requestId: String(n), ...(n % 2 === 0 ? { callId } : {}) });
    }
  }, TICK_MS);
  onTestFinished(async () => {
    clearInterval(ticking);
    await transport.close();
    await admin.disconnect();
    await pagerduty.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const keysOf = (action: string) =>
    new Set(
      pagerduty.requests.filter(({ body }) => body.event_action === action).map(({ body }) => String(body.dedup_key)),
    );

  async function counted(): Promise<number> {
    const messages: CountsMessage[] = [];
    await readTopic(
      config,
      {
        ...{ topic: config.topics.counts, purpose: 'test', from: 'beginning', follow: false },
        onRecord({ value }) {
          const message = decodeCounts(value);
          if (message !== undefined) messages.push(message);
          return true;
        },
      },
      silentLog,
    );
    return sumOfMessages(messages).records;
  }

  return {
    topic,
    admin,
    topics: [config.topics.logs, config.topics.dlq, config.topics.counts, config.topics.alerts],
    async start(brokers = cluster.brokers, roles) {
      const file = join(folder, `${uniqueName('logpipe')}.yml`);
      writeFileSync(file, yaml(brokers, roles));
      const clock = join(folder, `${uniqueName('clock')}.txt`);
      const started = spawnLogpipe(['run', '--config', file, '--exit-with-parent'], {
        env: { LOGPIPE_TEST_CLOCK: clock, NODE_OPTIONS: `--import ${SHIFTED_CLOCK}` },
      });
      onTestFailed(() => keepOutput(started));
      const works = roles === undefined || roles.includes('alerter');
      await started.waitForLine(works ? /alerts are evaluated here|standing by/ : /running/, TOLD_MS);
      return Object.assign(started, { setClock: (aheadMs: number) => writeFileSync(clock, String(aheadMs)) });
    },
    async incident() {
      const before = incidents++;
      failing = FAILING;
      await waitFor(() => keysOf('trigger').size > before, {
        what: `incident ${before + 1} is told`,
        timeoutMs: TOLD_MS,
      });
      await sleep(GOES_ON_MS);
      failing = 0;
      await waitFor(() => keysOf('resolve').size > before, { what: `its end is told`, timeoutMs: TOLD_MS });
    },
    async nextDelivery() {
      const from = performance.now();
      const { length } = deliveries;
      await waitFor(() => deliveries.length > length, {
        what: 'Kafka takes records',
        timeoutMs: TOLD_MS,
        intervalMs: 10,
      });
      return deliveries[length]! - from;
    },
    async longestPause(work) {
      const from = performance.now();
      await work();
      const times = [from, ...deliveries.filter((at) => at > from), performance.now()];
      return Math.max(...times.slice(1).map((at, i) => at - times[i]!));
    },
    stats: () => transport.stats(),
    async finish(others = 0) {
      clearInterval(ticking);
      await waitFor(() => transport.stats().queuedRecords + transport.stats().spooledRecords === 0, {
        ...{ what: 'all is in Kafka', timeoutMs: TOLD_MS },
      });
      const all = logged + others;
      await waitFor(async () => (await readDocuments(cluster.esUrls[0]!, topic)).length >= all, {
        ...{ what: `${all} documents`, timeoutMs: TOLD_MS, intervalMs: 1_000 },
      });
      await waitFor(async () => (await counted()) >= all, {
        ...{ what: `${all} counted`, timeoutMs: TOLD_MS, intervalMs: 1_000 },
      });
    },
    async problems({ once = new Set(), perhaps = new Set() }: Partial<OtherEvents> = {}) {
      const found: string[] = [];
      const is = (what: string, value: unknown, expected: unknown) => {
        if (JSON.stringify(value) !== JSON.stringify(expected))
          found.push(`${what}: ${JSON.stringify(value)} instead of ${JSON.stringify(expected)}`);
      };
      const { delivered, dropped } = transport.stats();
      // It may have sent what another application had left.
      const isAlone = once.size + perhaps.size === 0;
      is('delivered', isAlone ? delivered : Math.min(delivered, logged), logged);
      is(
        'dropped',
        Object.values(dropped).reduce((sum, count) => sum + count, 0),
        0,
      );
      const times = new Map<string, number>();
      for (const { fields } of await readDocuments(cluster.esUrls[0]!, topic)) {
        const n = fields.requestId?.[0] ?? 'none';
        times.set(n, (times.get(n) ?? 0) + 1);
      }
      const expected = [...Array.from({ length: logged }, (_, n) => String(n)), ...once];
      const came = [...perhaps].filter((id) => times.has(id));
      const wrong = [...expected.filter((id) => times.get(id) !== 1), ...came.filter((id) => times.get(id) !== 1)];
      if (wrong.length > 0) {
        const some = wrong.slice(0, 5).map((id) => `${id} (${times.get(id) ?? 0} times)`);
        found.push(`${wrong.length} events are not in Elasticsearch once, such as ${some}`);
      }
      is('numbers', times.size, expected.length + came.length);
      is('counted', await counted(), expected.length + came.length);
      is('incidents told', keysOf('trigger').size, incidents);
      if (keysOf('trigger').size !== incidents) {
        const told = pagerduty.requests.map(({ body, atMs }) => {
          const { summary = '' } = (body.payload ?? {}) as { summary?: string };
          return `${new Date(atMs).toISOString()} ${body.event_action} ${body.dedup_key} ${summary}`;
        });
        found.push(`told: ${told.join('\n')}`);
      }
      is('incidents ended', [...keysOf('resolve')].sort(), [...keysOf('trigger')].sort());
      return found;
    },
  };
}
