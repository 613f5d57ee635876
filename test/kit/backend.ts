// The servers under test: Docker containers where a daemon answers, else the local servers of stack/.
// Uses no test framework, because the preflight and the global set-up need it too.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type EsMajor,
  elasticsearchFor,
  findJdks,
  type LocalServer,
  recordClasses,
  startElasticsearch,
  startKafka,
} from '../../stack/index.ts';
import type {
  Backend,
  TestElasticsearch,
  TestElasticsearchOptions,
  TestKafka,
  TestKafkaOptions,
  TestServer,
} from './test-server.ts';

export type {
  Backend,
  TestElasticsearch,
  TestElasticsearchOptions,
  TestKafka,
  TestKafkaOptions,
  TestServer,
} from './test-server.ts';

/** One Kafka of the test's own. `properties` may open more listeners on 127.0.0.1. */
export async function startTestKafka(backend: Backend, options: TestKafkaOptions = {}): Promise<TestKafka> {
  if (backend === 'docker') return (await import('./containers.ts')).startKafkaContainer(options);
  await recordClasses('kafka');
  const server = await restartable('kafka', (again) => startKafka({ shortLived: true, ...options, ...again }));
  return { ...server, brokers: [`127.0.0.1:${server.port}`] };
}

/** One Elasticsearch of the test's own. */
export async function startTestElasticsearch(
  backend: Backend,
  options: TestElasticsearchOptions = {},
): Promise<TestElasticsearch> {
  if (backend === 'docker') return (await import('./containers.ts')).startElasticsearchContainer(options);
  await recordClasses(options.version ?? 'auto');
  const server = await restartable('elasticsearch', (again) =>
    startElasticsearch({ shortLived: true, ...options, ...again }),
  );
  return { ...server, url: `http://127.0.0.1:${server.port}` };
}

/** The Elasticsearch lines the tests run on here, the main one first: both, unless only an older Java is there. */
export async function elasticsearchMajors(backend: Backend): Promise<EsMajor[]> {
  if (backend === 'docker') return ['9', '8'];
  return elasticsearchFor('auto', await findJdks()).version.startsWith('9') ? ['9', '8'] : ['8'];
}

async function restartable(
  kind: string,
  launch: (again: { dataDir: string; disposable: boolean; port?: number }) => Promise<LocalServer>,
): Promise<TestServer> {
  const dataDir = mkdtempSync(join(tmpdir(), `logpipe-test-${kind}-`));
  let server: LocalServer;
  try {
    server = await launch({ dataDir, disposable: true });
  } catch (error) {
    rmSync(dataDir, { recursive: true, force: true });
    throw error;
  }
  const { port, version } = server;
  return {
    version,
    port,
    stop: () => server.stop(),
    async kill() {
      server.signal('SIGKILL');
      await server.ended;
    },
    async start() {
      server = await launch({ dataDir, disposable: true, port });
    },
    async pause() {
      server.signal('SIGSTOP');
    },
    async resume() {
      server.signal('SIGCONT');
    },
  };
}
