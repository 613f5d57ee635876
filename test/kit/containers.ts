// The same two servers as Docker containers, on ports of 127.0.0.1 chosen before the start: Kafka has to advertise its own.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers';
import { sleep } from '../../src/core/clock.ts';
import {
  coordinatorAnswers,
  ELASTICSEARCH,
  freePorts,
  healthYellow,
  KAFKA,
  kafkaProperties,
} from '../../stack/index.ts';
import type {
  TestElasticsearch,
  TestElasticsearchOptions,
  TestKafka,
  TestKafkaOptions,
  TestServer,
} from './test-server.ts';

const READY_TIMEOUT_MS = 120_000;

export async function startKafkaContainer(options: TestKafkaOptions): Promise<TestKafka> {
  const [controllerPort, freePort] = (await freePorts(2)) as [number, number];
  const port = options.port ?? freePort;
  const brokers = [`127.0.0.1:${port}`];
  const properties: Record<string, string> = {
    ...kafkaProperties({ port, controllerPorts: [controllerPort], node: 1, logDir: '/tmp/kraft-combined-logs' }),
    ...options.properties,
  };
  const listeners = properties.listeners ?? '';
  properties.listeners = listeners.replaceAll('127.0.0.1', '0.0.0.0');
  const ports = [...listeners.matchAll(/:(\d+)/g)].map((match) => Number(match[1]));
  const container = await new GenericContainer(`apache/kafka:${KAFKA.version}`)
    .withEnvironment({
      ...Object.fromEntries(Object.entries(properties).map(([key, value]) => [kafkaVariable(key), value])),
      KAFKA_HEAP_OPTS: `-Xmx${options.heap ?? '512m'}`,
    })
    .withExposedPorts(...ports.filter((own) => own !== controllerPort).map((own) => ({ container: own, host: own })))
    .withWaitStrategy(Wait.forListeningPorts())
    .start();
  const server = await started(container, KAFKA.version, port, () => coordinatorAnswers(brokers));
  return { ...server, brokers };
}

export async function startElasticsearchContainer(options: TestElasticsearchOptions): Promise<TestElasticsearch> {
  const { version } = ELASTICSEARCH[options.version === '8' ? '8' : '9'];
  const port = options.port ?? (await freePorts(1))[0]!;
  const heap = options.heap ?? '1g';
  const container = await new GenericContainer(`docker.elastic.co/elasticsearch/elasticsearch:${version}`)
    .withEnvironment({
      'discovery.type': 'single-node',
      'xpack.security.enabled': 'false',
      'cluster.routing.allocation.disk.threshold_enabled': 'false',
      ES_JAVA_OPTS: `-Xms${heap} -Xmx${heap}`,
    })
    .withExposedPorts({ container: 9200, host: port })
    .withWaitStrategy(Wait.forListeningPorts())
    .start();
  const url = `http://127.0.0.1:${port}`;
  return { ...(await started(container, version, port, () => healthYellow(url))), url };
}

/** The image's rule for variables: dots become one underscore, underscores two, dashes three. */
function kafkaVariable(property: string): string {
  const name = property
    .replaceAll('-', '___')
    .replaceAll(/(?<!_)_(?!_)/g, '__')
    .replaceAll('.', '_');
  return `KAFKA_${name.toUpperCase()}`;
}

async function started(
  container: StartedTestContainer,
  version: string,
  port: number,
  ready: () => Promise<boolean>,
): Promise<TestServer> {
  const id = container.getId();
  const untilReady = async () => {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    while (!(await ready().catch(() => false))) {
      if (Date.now() > deadline)
        throw new Error(`Container ${container.getName()} was not ready in ${READY_TIMEOUT_MS} ms.`);
      await sleep(100);
    }
  };
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= container.stop({ remove: true, removeVolumes: true }).then(() => undefined);
    return stopping;
  };
  try {
    await untilReady();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    version,
    port,
    stop,
    kill: () => docker('kill', '--signal', 'SIGKILL', id),
    async start() {
      await docker('start', id);
      await untilReady();
    },
    pause: () => docker('pause', id),
    resume: () => docker('unpause', id),
  };
}

async function docker(...args: string[]): Promise<void> {
  await promisify(execFile)('docker', args);
}
