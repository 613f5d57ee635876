// One real Elasticsearch node on 127.0.0.1, ready to index. It lacks what only the full distribution has: GET /,
// scripts, data streams, index lifecycle management, security.
import { join } from 'node:path';
import { elasticsearchFor, findJdks, jdkFor } from './java.ts';
import { type LocalServer, type ServerOptions, serverFolder, startJvm } from './jvm.ts';
import { fetchLibs, launcherJar } from './libs.ts';
import { freePorts } from './ports.ts';
import type { EsChoice } from './versions.ts';

export interface ElasticsearchOptions extends ServerOptions {
  /** `auto` (the default): 9 with a JDK 21+, else 8. */
  version?: EsChoice;
  /** Node settings over ours, for example `{ 'cluster.fault_detection.follower_check.timeout': '2s' }`. */
  settings?: Readonly<Record<string, string>>;
  /** One node of several; alone when not given. */
  cluster?: {
    /** 1 to the number of nodes. */
    node: number;
    /** The transport port of every node, in order. */
    transportPorts: readonly number[];
    /** True at the very first start: the nodes then elect their first master. Later it would found a second cluster. */
    bootstrap: boolean;
  };
}

export interface ElasticsearchServer extends LocalServer {
  /** `http://127.0.0.1:<port>` */
  url: string;
}

/**
 * Starts Elasticsearch and resolves when its health is yellow; one node of several at the first start when all have
 * joined and the health is green, later when it is in the cluster again.
 * Errors: LOGPIPE_STACK_MISSING, LOGPIPE_STACK_FAILED.
 */
export async function startElasticsearch(options: ElasticsearchOptions = {}): Promise<ElasticsearchServer> {
  const jdks = await findJdks();
  const release = elasticsearchFor(options.version ?? 'auto', jdks);
  const jdk = jdkFor(release, jdks);
  const libs = await fetchLibs(release, options.onProgress, options.signal);
  const launcher = await launcherJar(libs, jdk, 'EsNode');
  const [freeTransport, freePort] = (await freePorts(2)) as [number, number];
  const { cluster } = options;
  const transportPort = cluster?.transportPorts[cluster.node - 1] ?? freeTransport;
  const port = options.port ?? freePort;
  const folder = serverFolder('elasticsearch', options);
  const heap = options.heap ?? (cluster ? '768m' : '1g');
  const home = join(libs, 'home');
  const url = `http://127.0.0.1:${port}`;
  const settings = {
    ...nodeSettings(cluster),
    'http.port': String(port),
    'transport.port': String(transportPort),
    ...options.settings,
  };
  const server = await startJvm(
    {
      name: `Elasticsearch ${release.version}`,
      version: release.version,
      jdk,
      launcher,
      classPath: [join(libs, 'jars', '*')],
      jvmFlags: [
        `-Xms${heap}`,
        `-Xmx${heap}`,
        ...(jdk.major >= 21 ? ['--add-modules', 'jdk.incubator.vector', '--enable-native-access=ALL-UNNAMED'] : []),
      ],
      main: 'EsNode',
      args: [
        ...[home, join(folder.path, 'data'), join(folder.path, 'logs')],
        ...Object.entries(settings).map(([key, value]) => `${key}=${value}`),
      ],
      port,
      folder,
      ready: () => {
        if (cluster === undefined) return healthYellow(url);
        return cluster.bootstrap ? healthGreen(url, cluster.transportPorts.length) : inCluster(url);
      },
    },
    options,
  );
  return { ...server, url };
}

/** How the node finds the others, or that there are none. */
function nodeSettings(cluster: ElasticsearchOptions['cluster']): Record<string, string> {
  if (cluster === undefined) {
    return { 'cluster.name': 'logpipe-stack', 'node.name': 'logpipe-1', 'discovery.type': 'single-node' };
  }
  const { node, transportPorts, bootstrap } = cluster;
  return {
    // A port that another cluster of this machine had before must not bring the two together.
    'cluster.name': `logpipe-stack-${transportPorts[0]}`,
    'node.name': `logpipe-${node}`,
    'discovery.seed_hosts': transportPorts.map((port) => `127.0.0.1:${port}`).join(),
    ...(bootstrap ? { 'cluster.initial_master_nodes': transportPorts.map((_, i) => `logpipe-${i + 1}`).join() } : {}),
  };
}

/** True when the cluster serves its indices. */
export async function healthYellow(url: string): Promise<boolean> {
  const { ok, status, timedOut } = await health(url, 'wait_for_status=yellow');
  return ok && !timedOut && (status === 'yellow' || status === 'green');
}

/** True when `nodes` nodes are together and every copy of every index is where it should be. */
async function healthGreen(url: string, nodes: number): Promise<boolean> {
  const { ok, status, timedOut } = await health(url, `wait_for_status=green&wait_for_nodes=${nodes}`);
  return ok && !timedOut && status === 'green';
}

/** True when the node follows an elected master, whatever the state of the indices. */
async function inCluster(url: string): Promise<boolean> {
  return (await health(url, 'master_timeout=1s')).ok;
}

async function health(url: string, query: string) {
  const response = await fetch(`${url}/_cluster/health?${query}&timeout=1s`, { signal: AbortSignal.timeout(5000) });
  const body = (await response.json()) as { status?: string; timed_out?: boolean };
  return { ok: response.ok, status: body.status, timedOut: body.timed_out !== false };
}
