// One real Elasticsearch node on 127.0.0.1, ready to index. It lacks what only the full distribution has: GET /,
// scripts, data streams, index lifecycle management, security.
import { join } from 'node:path';
import { elasticsearchFor, findJdks, jdkFor } from './java.ts';
import { type LocalServer, type ServerOptions, serverFolder, startJvm } from './jvm.ts';
import { fetchLibs, launcherClasses } from './libs.ts';
import { freePorts } from './ports.ts';
import type { EsChoice } from './versions.ts';

export interface ElasticsearchOptions extends ServerOptions {
  /** `auto` (the default): 9 with a JDK 21+, else 8. */
  version?: EsChoice;
}

export interface ElasticsearchServer extends LocalServer {
  /** `http://127.0.0.1:<port>` */
  url: string;
}

/** Starts Elasticsearch and resolves when its health is yellow. Errors: LOGPIPE_STACK_MISSING, LOGPIPE_STACK_FAILED. */
export async function startElasticsearch(options: ElasticsearchOptions = {}): Promise<ElasticsearchServer> {
  const jdks = await findJdks();
  const release = elasticsearchFor(options.version ?? 'auto', jdks);
  const jdk = jdkFor(release, jdks);
  const libs = await fetchLibs(release, options.onProgress);
  const classes = await launcherClasses(libs, jdk, 'EsNode');
  const [transportPort, freePort] = (await freePorts(2)) as [number, number];
  const port = options.port ?? freePort;
  const folder = serverFolder('elasticsearch', options);
  const heap = options.heap ?? '1g';
  const home = join(libs, 'home');
  const url = `http://127.0.0.1:${port}`;
  const server = await startJvm(
    {
      name: `Elasticsearch ${release.version}`,
      version: release.version,
      jdk,
      classPath: [classes, join(libs, 'jars', '*')],
      jvmFlags: [
        `-Xms${heap}`,
        `-Xmx${heap}`,
        ...(jdk.major >= 21 ? ['--add-modules', 'jdk.incubator.vector', '--enable-native-access=ALL-UNNAMED'] : []),
      ],
      main: 'EsNode',
      args: [home, join(folder.path, 'data'), join(folder.path, 'logs'), String(port), String(transportPort)],
      port,
      folder,
      ready: () => healthYellow(url),
    },
    options,
  );
  return { ...server, url };
}

/** True when the cluster serves its indices. */
export async function healthYellow(url: string): Promise<boolean> {
  const response = await fetch(`${url}/_cluster/health?wait_for_status=yellow&timeout=1s`, {
    signal: AbortSignal.timeout(5000),
  });
  const body = (await response.json()) as { status?: string; timed_out?: boolean };
  return response.ok && body.timed_out === false && (body.status === 'yellow' || body.status === 'green');
}
