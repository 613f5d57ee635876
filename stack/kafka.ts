// One real Kafka (KRaft, broker and controller in one JVM) on 127.0.0.1, ready for producers and consumer groups.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { repairKafkaJsTime } from '../src/core/kafka/kafkajs-timer.ts';
import { findJdks, jdkFor } from './java.ts';
import { type LocalServer, type ServerOptions, serverFolder, startJvm } from './jvm.ts';
import { fetchLibs, launcherJar, resource } from './libs.ts';
import { freePorts } from './ports.ts';
import { KAFKA } from './versions.ts';

export interface KafkaOptions extends ServerOptions {
  /** Broker settings over ours; a second listener needs `listeners`, `advertised.listeners` and the protocol map. */
  properties?: Readonly<Record<string, string>>;
  /** One broker of several; alone when not given. */
  cluster?: {
    /** 1 to the number of brokers. */
    node: number;
    /** The controller port of every broker, in order. */
    controllerPorts: readonly number[];
    /** The same for all; a wiped broker comes back under it. */
    clusterId: string;
  };
}

export interface KafkaServer extends LocalServer {
  /** For client configurations: `['127.0.0.1:<port>']`. */
  brokers: string[];
}

/** Starts Kafka and resolves when a group coordinator answers it. Errors: LOGPIPE_STACK_MISSING, LOGPIPE_STACK_FAILED. */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaServer> {
  const jdk = jdkFor(KAFKA, await findJdks());
  const libs = await fetchLibs(KAFKA, options.onProgress, options.signal);
  const launcher = await launcherJar(libs, jdk, 'KafkaNode');
  const [freeController, freePort] = (await freePorts(2)) as [number, number];
  const { cluster } = options;
  const port = options.port ?? freePort;
  const folder = serverFolder('kafka', options);
  const properties = {
    ...kafkaProperties({
      port,
      controllerPorts: cluster?.controllerPorts ?? [freeController],
      node: cluster?.node ?? 1,
      logDir: join(folder.path, 'data'),
    }),
    ...options.properties,
  };
  const file = join(folder.path, 'server.properties');
  const lines = Object.entries(properties).map(([key, value]) => `${key}=${value}\n`);
  writeFileSync(file, lines.join(''), { mode: 0o600 });
  const brokers = [`127.0.0.1:${port}`];
  const heap = options.heap ?? (cluster ? '384m' : '512m');
  const server = await startJvm(
    {
      name: `Kafka ${KAFKA.version}`,
      version: KAFKA.version,
      jdk,
      launcher,
      classPath: [join(libs, 'jars', '*')],
      jvmFlags: [`-Xmx${heap}`, `-Dlog4j2.configurationFile=${resource('log4j2.properties')}`],
      main: 'KafkaNode',
      args: [file, cluster?.clusterId ?? keptClusterId(folder.path)],
      port,
      folder,
      ready: () => coordinatorAnswers(brokers),
    },
    options,
  );
  return { ...server, brokers };
}

/**
 * The broker settings all ways of starting Kafka share: quick rebalances, short sessions allowed; with several brokers
 * everything is on up to three of them, and two have to have it.
 */
export function kafkaProperties(at: {
  port: number;
  /** One per broker. */
  controllerPorts: readonly number[];
  /** Which of them this is, from 1. */
  node: number;
  logDir: string;
}): Record<string, string> {
  const controllerPort = at.controllerPorts[at.node - 1];
  const copies = String(Math.min(3, at.controllerPorts.length));
  const leastInSync = copies === '3' ? '2' : '1';
  const several = at.controllerPorts.length > 1;
  return {
    'process.roles': 'broker,controller',
    'node.id': String(at.node),
    'controller.quorum.voters': at.controllerPorts.map((port, i) => `${i + 1}@127.0.0.1:${port}`).join(),
    'controller.listener.names': 'CONTROLLER',
    listeners: `PLAINTEXT://127.0.0.1:${at.port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${at.port}`,
    'listener.security.protocol.map':
      'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': at.logDir,
    'auto.create.topics.enable': 'false',
    // For topics created without a word of it; `logpipe setup` says what its configuration says.
    'default.replication.factor': copies,
    'min.insync.replicas': leastInSync,
    'offsets.topic.replication.factor': copies,
    'transaction.state.log.replication.factor': copies,
    'transaction.state.log.min.isr': leastInSync,
    'share.coordinator.state.topic.replication.factor': copies,
    'share.coordinator.state.topic.min.isr': leastInSync,
    // The defaults of 50 partitions each only cost start-up time on one machine.
    'offsets.topic.num.partitions': several ? '6' : '4',
    'transaction.state.log.num.partitions': several ? '6' : '4',
    'controlled.shutdown.enable': 'true',
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
  repairKafkaJsTime();
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

/** A random UUID in Kafka's own notation. */
export function newClusterId(): string {
  const id = randomBytes(16);
  // One in 64 would begin with a hyphen, which the formatting tool takes for an option.
  id[0]! &= 0x7f;
  return id.toString('base64url');
}

/** Kept beside the data: a folder formatted for one cluster refuses another id. */
function keptClusterId(folder: string): string {
  const file = join(folder, 'cluster.id');
  if (!existsSync(file)) writeFileSync(file, newClusterId());
  return readFileSync(file, 'utf8').trim();
}
