// Several Kafka brokers and Elasticsearch nodes on this machine as one cluster each. In: how many. Out: their members,
// each a process of its own with ports and data of its own, that can be killed, frozen and started again, on its data
// or on an empty folder. Guarantee: nothing outlives `stop()`, and nothing a failed start.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep } from '../src/core/clock.ts';
import { LogpipeError } from '../src/core/errors.ts';
import { type ElasticsearchOptions, startElasticsearch } from './elasticsearch.ts';
import type { LocalServer, ServerOptions } from './jvm.ts';
import { type KafkaOptions, newClusterId, startKafka } from './kafka.ts';
import { processStart } from './pids.ts';
import { freePorts } from './ports.ts';
import type { EsChoice, ServerKind } from './versions.ts';

/** More do not fit beside anything else on one machine. */
export const MOST_MEMBERS = 5;

/** Six JVMs on two busy cores take minutes; what is waited for is readiness. */
const READY_TIMEOUT_MS = 400_000;

export interface MemberPorts {
  /** Of clients. */
  readonly port: number;
  /** Of the other members: Kafka's controller, Elasticsearch's transport. */
  readonly innerPort: number;
}

/** What every member has to know of the others before the first one starts, and again at every later start. */
export interface ClusterLayout {
  readonly kafka: readonly MemberPorts[];
  readonly elasticsearch: readonly MemberPorts[];
  /** Kafka's. */
  readonly clusterId: string;
}

/** `kafka`, `kafka-2`, `kafka-3`, `elasticsearch`, …: names of folders and of entries in the state file. */
export type MemberName = ServerKind | `${ServerKind}-${number}`;

/** @param number from 1 */
export function memberName(kind: ServerKind, number: number): MemberName {
  return number === 1 ? kind : `${kind}-${number}`;
}

/** The names of all members of one kind, in order. */
export function memberNames(layout: ClusterLayout, kind: ServerKind): MemberName[] {
  return layout[kind].map((_, i) => memberName(kind, i + 1));
}

export interface MemberOptions extends ServerOptions {
  es?: EsChoice;
  /** Broker settings over ours. */
  properties?: Readonly<Record<string, string>>;
  /** Elasticsearch node settings over ours. */
  settings?: Readonly<Record<string, string>>;
  /** True at the first start of all. Nodes that were a cluster before must not found another one. */
  bootstrap: boolean;
}

/**
 * Starts member `number` (from 1) of the cluster; resolves when it is ready, which takes the others as well: start all
 * of a new cluster at once. Errors: LOGPIPE_STACK_MISSING, LOGPIPE_STACK_FAILED.
 */
export function startMember(
  layout: ClusterLayout,
  kind: ServerKind,
  number: number,
  options: MemberOptions,
): Promise<LocalServer> {
  const { es, properties, settings, bootstrap, ...common } = options;
  const members = layout[kind];
  const { port } = members[number - 1]!;
  const several = members.length > 1;
  // Six JVMs that start at once would spend most of their time on compiling what soon ends again.
  const patience = { shortLived: true, readyTimeoutMs: common.readyTimeoutMs ?? READY_TIMEOUT_MS };
  const shared = { ...common, port, ...(several ? patience : {}) };
  const innerPorts = members.map(({ innerPort }) => innerPort);
  if (kind === 'kafka') {
    const kafka: KafkaOptions = { ...shared };
    if (properties !== undefined) kafka.properties = properties;
    if (several) kafka.cluster = { node: number, controllerPorts: innerPorts, clusterId: layout.clusterId };
    return startKafka(kafka);
  }
  const elasticsearch: ElasticsearchOptions = { ...shared, version: es ?? 'auto' };
  if (settings !== undefined) elasticsearch.settings = settings;
  if (several) elasticsearch.cluster = { node: number, transportPorts: innerPorts, bootstrap };
  return startElasticsearch(elasticsearch);
}

/** A new layout: the members' own ports are given, those between them are free ones. */
export async function planLayout(ports: { kafka: readonly number[]; elasticsearch: readonly number[] }) {
  const inner = await freePorts(ports.kafka.length + ports.elasticsearch.length);
  const withInner = (port: number): MemberPorts => ({ port, innerPort: inner.pop()! });
  const layout: ClusterLayout = {
    kafka: ports.kafka.map(withInner),
    elasticsearch: ports.elasticsearch.map(withInner),
    clusterId: newClusterId(),
  };
  return layout;
}

export interface ClusterOptions {
  /** Default 3; 0 for none. */
  brokers?: number;
  /** Default 3; 0 for none. */
  esNodes?: number;
  es?: EsChoice;
  /** Broker settings over ours; given by broker (from 1) when they are to differ. */
  properties?: Readonly<Record<string, string>> | ((node: number, ports: MemberPorts) => Record<string, string>);
  settings?: Readonly<Record<string, string>>;
}

export interface ClusterMember {
  readonly name: MemberName;
  /** `127.0.0.1:<port>`, Elasticsearch's with `http://`. */
  readonly address: string;
  readonly port: number;
  /** Of the present process; another one after `restart()`. */
  readonly pid: number;
  readonly logFile: string;
  /** SIGKILL and SIGTERM resolve when the process is gone; others (SIGSTOP, SIGCONT) at once. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /**
   * Again on the same ports, after `kill()`; resolves when it is ready, which takes a majority of the others.
   * @param options.empty its data are thrown away first: what it had, it copies from the others
   */
  restart(options?: { empty?: boolean }): Promise<void>;
}

export interface Cluster {
  readonly brokers: readonly string[];
  readonly esUrls: readonly string[];
  readonly kafka: readonly ClusterMember[];
  readonly elasticsearch: readonly ClusterMember[];
  /** Ends all members and removes their data. Repeatable. */
  stop(): Promise<void>;
}

/**
 * Starts all members, bound to this process, with data in temporary folders; resolves when every one is ready. Three and
 * three take about 5 GB. Errors: LOGPIPE_STACK_MISSING, LOGPIPE_STACK_FAILED.
 */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const { brokers = 3, esNodes = 3, ...rest } = options;
  for (const [name, count] of Object.entries({ brokers, esNodes })) {
    if (count > MOST_MEMBERS) {
      throw new LogpipeError('LOGPIPE_STACK_FAILED', `${name}: ${count} is more than the ${MOST_MEMBERS} permitted.`);
    }
  }
  const ports = await freePorts(brokers + esNodes);
  const layout = await planLayout({ kafka: ports.slice(0, brokers), elasticsearch: ports.slice(brokers) });
  const members = (['kafka', 'elasticsearch'] as const).flatMap((kind) =>
    layout[kind].map((_, i) => createMember(layout, kind, i + 1, rest)),
  );
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= Promise.all(members.map((member) => member.stop())).then(() => undefined);
    return stopping;
  };
  const started = await Promise.allSettled(members.map((member) => member.start(true)));
  const failed = started.find((result) => result.status === 'rejected');
  if (failed) {
    await stop();
    throw failed.reason;
  }
  const kafka = members.slice(0, brokers);
  const elasticsearch = members.slice(brokers);
  const addresses = (of: readonly ClusterMember[]) => of.map(({ address }) => address);
  return { brokers: addresses(kafka), esUrls: addresses(elasticsearch), kafka, elasticsearch, stop };
}

function createMember(
  layout: ClusterLayout,
  kind: ServerKind,
  number: number,
  options: Pick<ClusterOptions, 'es' | 'properties' | 'settings'>,
) {
  const { properties, ...rest } = options;
  const name = memberName(kind, number);
  const { port } = layout[kind][number - 1]!;
  const dataDir = mkdtempSync(join(tmpdir(), `logpipe-${name}-`));
  let server: LocalServer | undefined;
  const own: MemberOptions = { ...rest, dataDir, disposable: true, shortLived: true, bootstrap: false };
  if (properties !== undefined) {
    own.properties = typeof properties === 'function' ? properties(number, layout[kind][number - 1]!) : properties;
  }

  async function start(bootstrap: boolean): Promise<void> {
    server = await startMember(layout, kind, number, { ...own, bootstrap });
  }

  function removeData(): void {
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  return {
    name,
    port,
    address: `${kind === 'kafka' ? '' : 'http://'}127.0.0.1:${port}`,
    get pid() {
      return server?.pid ?? -1;
    },
    get logFile() {
      return join(dataDir, 'server.log');
    },
    start,
    async kill(signal: NodeJS.Signals = 'SIGKILL') {
      if (server === undefined) return;
      server.signal(signal);
      if (signal !== 'SIGKILL' && signal !== 'SIGTERM') return;
      // Looked for by number: the child alone would not keep this process running until then.
      while (processStart(server.pid) !== undefined) await sleep(20);
      await server.ended;
    },
    async restart({ empty = false } = {}) {
      if (empty) removeData();
      await start(false);
    },
    async stop() {
      await server?.stop();
      removeData();
    },
  };
}
