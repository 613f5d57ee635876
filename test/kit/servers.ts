// What tests on real servers use: their worker's Kafka and Elasticsearch, servers and topics of their own,
// logpipe as a child process, and waiting for a condition. What a test starts ends with the test.
import { randomUUID } from 'node:crypto';
import kafkajs from 'kafkajs';
import { inject } from 'vitest';
import { sleep } from '../../src/core/clock.ts';
import { errorText } from '../../src/core/errors.ts';
import { type Cluster, type ClusterOptions, type EsMajor, recordClasses, startCluster } from '../../stack/index.ts';
import { atEnd } from './at-end.ts';
import {
  type Backend,
  startTestElasticsearch,
  startTestKafka,
  type TestElasticsearch,
  type TestElasticsearchOptions,
  type TestKafka,
  type TestKafkaOptions,
} from './backend.ts';
import { type LogpipeProcess, type SpawnOptions, startProcess } from './process.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** One entry for each worker. */
    servers: WorkerServers[];
    /** For example 9.5.3. */
    esVersion: string;
    /** The Elasticsearch lines to test on, the shared server's first. */
    esMajors: EsMajor[];
    backend: Backend;
  }
}

/** Used by one test file at a time. */
export interface WorkerServers {
  readonly brokers: string[];
  readonly esUrl: string;
  /** Where global-setup.ts starts the second Elasticsearch on request. */
  readonly controlUrl: string;
}

function mine(): WorkerServers {
  // Vitest numbers the active workers from 1.
  const server = inject('servers')[Number(process.env.VITEST_POOL_ID) - 1];
  if (server === undefined) throw new Error(`no servers for worker ${process.env.VITEST_POOL_ID}; see global-setup.ts`);
  return server;
}

/** The worker's Kafka: `['127.0.0.1:<port>']`. Topics and groups of a test need names of their own (`uniqueName`). */
export function testBrokers(): string[] {
  return mine().brokers;
}

/** The worker's Elasticsearch, newest line that the machine can run: `http://127.0.0.1:<port>`. */
export function testEsUrl(): string {
  return mine().esUrl;
}

/** The lines a test that touches Elasticsearch runs on: `describe.each(testEsMajors())`. */
export function testEsMajors(): EsMajor[] {
  return inject('esMajors');
}

/** The worker's Elasticsearch of one line; the second line's server starts when first asked for (about 5 s). */
export async function testEsUrlOf(major: EsMajor): Promise<string> {
  if (inject('esVersion').startsWith(`${major}.`)) return testEsUrl();
  const response = await fetch(`${mine().controlUrl}/elasticsearch/${major}`, { method: 'POST' });
  const text = await response.text();
  if (!response.ok) throw new Error(`Elasticsearch ${major} did not start: ${text}`);
  return text;
}

/** A Kafka that this test may kill. Ends with the test, or with the file when started outside of a test. */
export async function startKafka(options: TestKafkaOptions = {}): Promise<TestKafka> {
  return owned(await startTestKafka(inject('backend'), options));
}

/** An Elasticsearch that this test may kill. Ends with the test, or with the file when started outside of a test. */
export async function startEs(options: TestElasticsearchOptions = {}): Promise<TestElasticsearch> {
  return owned(await startTestElasticsearch(inject('backend'), { heap: '512m', ...options }));
}

/** Several brokers and nodes that this test, or file, may kill and freeze; without Docker everywhere. */
export async function startTestCluster(options: ClusterOptions = {}): Promise<Cluster> {
  await recordClasses('kafka');
  await recordClasses(options.es ?? 'auto');
  return owned(await startCluster(options));
}

/** A name nobody else uses: topic, group, index prefix. */
export function uniqueName(prefix: string): string {
  return `${prefix}-${randomUUID().slice(0, 13)}`;
}

/** Creates a topic with the time-stamp setting of `logpipe setup`, and waits for its leaders. */
export async function createTopic(
  brokers: string[],
  topic: string,
  options: { partitions?: number; config?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  const config = { 'message.timestamp.type': 'LogAppendTime', ...options.config };
  const kafka = new kafkajs.Kafka({ clientId: 'logpipe-test', brokers, logLevel: kafkajs.logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  try {
    await admin.createTopics({
      // kafkajs waits for leaders too, but gives up when the broker it asks has not heard of the topic yet.
      waitForLeaders: false,
      topics: [
        {
          topic,
          numPartitions: options.partitions ?? 4,
          replicationFactor: 1,
          configEntries: Object.entries(config).map(([name, value]) => ({ name, value })),
        },
      ],
    });
    await waitFor(
      async () => {
        const [metadata] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics;
        return metadata?.partitions.every(({ leader, partitionErrorCode }) => leader >= 0 && partitionErrorCode === 0);
      },
      { what: `the partitions of ${topic} have leaders`, timeoutMs: 60_000 },
    );
  } finally {
    await admin.disconnect();
  }
}

/**
 * Polls until `condition` gives something truthy, and returns that. An exception counts as "not yet".
 * After `timeoutMs` (default 60,000) fails with `what` and the last exception or value.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: { what: string; timeoutMs?: number; intervalMs?: number },
): Promise<NonNullable<T>> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const deadline = Date.now() + timeoutMs;
  let last = 'nothing yet';
  for (;;) {
    try {
      const value = await condition();
      if (value) return value as NonNullable<T>;
      last = String(value);
    } catch (error) {
      last = errorText(error);
    }
    if (Date.now() > deadline) throw new Error(`Not within ${timeoutMs} ms: ${options.what} (last: ${last})`);
    await sleep(options.intervalMs ?? 50);
  }
}

/**
 * Runs `logpipe <args>` from the compiled files, with none of this process's own settings in its environment.
 * Killed at the end of the test, or of the file when started outside of a test.
 */
export function spawnLogpipe(args: string[], options: SpawnOptions = {}): LogpipeProcess {
  return spawnScript('src/main.js', args, options);
}

/** The same for another compiled program, given as its path below dist/. */
export function spawnScript(script: string, args: string[], options: SpawnOptions = {}): LogpipeProcess {
  const child = startProcess(script, args, options);
  atEnd(async () => {
    child.kill('SIGKILL');
    await child.exit;
  });
  return child;
}

function owned<T extends { stop(): Promise<void> }>(server: T): T {
  atEnd(() => server.stop());
  return server;
}
