// One real Kafka (KRaft, broker and controller in one JVM) on 127.0.0.1, ready for producers and consumer groups.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { calmRequestQueues } from '../src/core/kafkajs-timer.ts';
import { findJdks, jdkFor } from './java.ts';
import { type LocalServer, type ServerOptions, serverFolder, startJvm } from './jvm.ts';
import { fetchLibs, launcherClasses, resource } from './libs.ts';
import { freePorts } from './ports.ts';
import { KAFKA } from './versions.ts';

export interface KafkaOptions extends ServerOptions {
  /** Broker settings over ours; a second listener needs `listeners`, `advertised.listeners` and the protocol map. */
  properties?: Readonly<Record<string, string>>;
}

export interface KafkaServer extends LocalServer {
  /** For client configurations: `['127.0.0.1:<port>']`. */
  brokers: string[];
}

/** Starts Kafka and resolves when a group coordinator answers. Errors: LOGPIPE_STACK_MISSING, LOGPIPE_STACK_FAILED. */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaServer> {
  const jdk = jdkFor(KAFKA, await findJdks());
  const libs = await fetchLibs(KAFKA, options.onProgress);
  const classes = await launcherClasses(libs, jdk, 'KafkaNode');
  const [controllerPort, freePort] = (await freePorts(2)) as [number, number];
  const port = options.port ?? freePort;
  const folder = serverFolder('kafka', options);
  const properties = {
    ...kafkaProperties({ port, controllerPort, logDir: join(folder.path, 'data') }),
    ...options.properties,
  };
  const file = join(folder.path, 'server.properties');
  const lines = Object.entries(properties).map(([key, value]) => `${key}=${value}\n`);
  writeFileSync(file, lines.join(''), { mode: 0o600 });
  const brokers = [`127.0.0.1:${port}`];
  const heap = options.heap ?? '512m';
  const server = await startJvm(
    {
      name: `Kafka ${KAFKA.version}`,
      version: KAFKA.version,
      jdk,
      classPath: [classes, join(libs, 'jars', '*')],
      jvmFlags: [`-Xmx${heap}`, `-Dlog4j2.configurationFile=${resource('log4j2.properties')}`],
      main: 'KafkaNode',
      args: [file, clusterId(folder.path)],
      port,
      folder,
      ready: () => coordinatorAnswers(brokers),
    },
    options,
  );
  return { ...server, brokers };
}

/** The broker settings both ways of starting Kafka share: one node, quick rebalances, short sessions allowed. */
export function kafkaProperties(at: { port: number; controllerPort: number; logDir: string }): Record<string, string> {
  return {
    'process.roles': 'broker,controller',
    'node.id': '1',
    'controller.quorum.voters': `1@127.0.0.1:${at.controllerPort}`,
    'controller.listener.names': 'CONTROLLER',
    listeners: `PLAINTEXT://127.0.0.1:${at.port},CONTROLLER://127.0.0.1:${at.controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${at.port}`,
    'listener.security.protocol.map':
      'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': at.logDir,
    'auto.create.topics.enable': 'false',
    'offsets.topic.replication.factor': '1',
    'transaction.state.log.replication.factor': '1',
    'transaction.state.log.min.isr': '1',
    'share.coordinator.state.topic.replication.factor': '1',
    'share.coordinator.state.topic.min.isr': '1',
    // The defaults of 50 partitions each only cost start-up time on a single node.
    'offsets.topic.num.partitions': '4',
    'transaction.state.log.num.partitions': '4',
    'group.initial.rebalance.delay.ms': '0',
    // A broker killed and started again is refused until its former self has timed out, 9 s by default.
    'broker.session.timeout.ms': '3000',
    'broker.heartbeat.interval.ms': '500',
    // A consumer killed in a test is replaced after its session timeout; the default minimum of 6 s is too long to wait.
    'group.min.session.timeout.ms': '500',
    'transaction.abort.timed.out.transaction.cleanup.interval.ms': '1000',
  };
}

/** True when metadata and the group coordinator answer; right after start the latter says "loading" for a second. */
export async function coordinatorAnswers(brokers: string[]): Promise<boolean> {
  calmRequestQueues();
  const kafka = new kafkajs.Kafka({
    clientId: 'logpipe-stack',
    brokers,
    logLevel: kafkajs.logLevel.NOTHING,
    connectionTimeout: 1000,
    requestTimeout: 5000,
    retry: { retries: 0 },
  });
  const admin = kafka.admin();
  try {
    await admin.connect();
    const { controller } = await admin.describeCluster();
    await admin.fetchOffsets({ groupId: 'logpipe-stack-ready' });
    return controller !== null;
  } finally {
    await admin.disconnect();
  }
}

/** Kept beside the data: a folder formatted for one cluster refuses another id. */
function clusterId(folder: string): string {
  const file = join(folder, 'cluster.id');
  if (!existsSync(file)) {
    const id = randomBytes(16);
    // One in 64 would begin with a hyphen, which the formatting tool takes for an option.
    id[0]! &= 0x7f;
    writeFileSync(file, id.toString('base64url'));
  }
  return readFileSync(file, 'utf8').trim();
}
