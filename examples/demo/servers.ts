// Which Kafka and Elasticsearch the demo runs on: outside ones if named, else Docker, else Java and Maven, else none.
// Guarantee: what is started here ends with this process; what is downloaded is announced first, with its size.
import { errorText } from '../../src/core/errors.ts';
import { dockerAvailable, stackRequirements, startElasticsearch, startKafka } from '../../stack/index.ts';
import { startWithCompose } from './compose.ts';
import type { DemoOptions } from './options.ts';

export interface Servers {
  mode: 'outside' | 'docker' | 'stack' | 'embedded';
  /** One line for people. */
  description: string;
  /** Absent in the embedded mode. */
  addresses?: { kafka: string; elasticsearch: string };
  stop(): Promise<void>;
}

/** Chooses and starts. `say` is told what is about to happen before it happens. */
export async function startServers(options: DemoOptions, say: (line: string) => void): Promise<Servers> {
  if (options.outside) {
    const { kafka, elasticsearch } = options.outside;
    const description = `your own servers: Kafka ${kafka}, Elasticsearch ${withoutPassword(elasticsearch)}`;
    say(`Using ${description}`);
    return { mode: 'outside', description, addresses: options.outside, stop: async () => {} };
  }
  if (options.embedded) return embedded('as you asked', say);
  if (options.docker && (await localDocker(say))) return startWithCompose(say);
  const requirements = await stackRequirements(options.es);
  if (requirements.missing.length > 0) {
    const reason = options.docker
      ? 'no Docker daemon answers and Java or Maven is missing'
      : 'Java or Maven is missing';
    say('For the whole pipeline with Kafka and Elasticsearch, start Docker or install:');
    for (const line of requirements.missing) say(`  ${line}`);
    return embedded(reason, say);
  }
  if (options.docker) say('No Docker daemon answers: starting a real Kafka and Elasticsearch with Java instead');
  for (const plan of requirements.downloads) if (plan.needed) say(`To download once: ${plan.text}`);
  return startWithJava(options, say);
}

async function startWithJava(options: DemoOptions, say: (line: string) => void): Promise<Servers> {
  const onSpawn = (name: string) => (process: { pid: number; version: string }) =>
    say(`${name} ${process.version} is starting (pid ${process.pid})`);
  const settled = await Promise.allSettled([
    startKafka({ shortLived: true, onProgress: say, onSpawn: onSpawn('Kafka') }),
    startElasticsearch({ shortLived: true, version: options.es, onProgress: say, onSpawn: onSpawn('Elasticsearch') }),
  ] as const);
  const [kafka, elasticsearch] = settled;
  const stop = async () => {
    await Promise.all(settled.map((result) => (result.status === 'fulfilled' ? result.value.stop() : undefined)));
  };
  if (kafka.status === 'rejected' || elasticsearch.status === 'rejected') {
    await stop();
    throw kafka.status === 'rejected' ? kafka.reason : (elasticsearch as PromiseRejectedResult).reason;
  }
  const addresses = { kafka: `127.0.0.1:${kafka.value.port}`, elasticsearch: elasticsearch.value.url };
  const description = `Kafka ${kafka.value.version} and Elasticsearch ${elasticsearch.value.version}`;
  say(`${description} are ready on ${addresses.kafka} and ${addresses.elasticsearch}`);
  return { mode: 'stack', description, addresses, stop };
}

function embedded(reason: string, say: (line: string) => void): Servers {
  say(`Embedded mode (${reason}): the application's log file goes through logpipe into NDJSON files`);
  return { mode: 'embedded', description: 'no servers: log file in, NDJSON files out', stop: async () => {} };
}

/** Published ports of a daemon on another machine are not ours to reach. */
async function localDocker(say: (line: string) => void): Promise<boolean> {
  const host = process.env.DOCKER_HOST;
  if (host !== undefined && !host.startsWith('unix:') && !host.startsWith('npipe:')) {
    say('DOCKER_HOST names a daemon on another machine: Docker is not used');
    return false;
  }
  return dockerAvailable();
}

/** An address as it may be printed. */
export function withoutPassword(address: string): string {
  try {
    const url = new URL(address);
    url.username = '';
    url.password = '';
    return url.href.replace(/\/$/, '');
  } catch (error) {
    return errorText(error);
  }
}
