// Starts one Kafka and one Elasticsearch for each worker that runs tests on real servers, and a second Elasticsearch line
// when a test first asks for it. A worker runs its files one after the other, so a file has its servers to itself and the
// waiting of one file is the working time of another. A failure here fails the run: such tests are never skipped.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestProject } from 'vitest/node';
import { errorText } from '../../src/core/errors.ts';
import { dockerAvailable, type EsMajor } from '../../stack/index.ts';
import { type Backend, elasticsearchMajors, startTestElasticsearch, startTestKafka } from './backend.ts';
import type { WorkerServers } from './servers.ts';

/** As many as vitest.config.ts has workers for these tests. */
export const WORKERS = 3;

type Shared = Awaited<ReturnType<typeof startShared>>;

// Two projects load this file separately but belong to one run, which therefore carries what they share.
const SHARED = Symbol.for('logpipe.test-servers');

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const run = project.vitest as unknown as { [SHARED]?: Promise<Shared> };
  run[SHARED] ??= startShared();
  const shared = await run[SHARED];
  project.provide('servers', shared.servers);
  project.provide('esVersion', shared.esVersion);
  project.provide('esMajors', shared.esMajors);
  project.provide('backend', shared.backend);
  return shared.stop;
}

async function startShared() {
  const backend: Backend = (await dockerAvailable()) ? 'docker' : 'stack';
  const esMajors = await elasticsearchMajors(backend);
  // When one fails the others must not stay behind, so all are waited for before any result is looked at.
  const settled = await Promise.allSettled(Array.from({ length: WORKERS }, () => startPair(backend, esMajors)));
  const pairs = settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const stop = async () => void (await Promise.all(pairs.map((pair) => pair.stop())));
  const failed = settled.find((result) => result.status === 'rejected');
  if (failed) {
    await stop();
    throw failed.reason;
  }
  let stopping: Promise<void> | undefined;
  return {
    backend,
    esMajors,
    servers: pairs.map(({ brokers, esUrl, controlUrl }): WorkerServers => ({ brokers, esUrl, controlUrl })),
    esVersion: pairs[0]!.esVersion,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}

/** The servers of one worker. */
async function startPair(backend: Backend, esMajors: EsMajor[]) {
  const [main] = esMajors as [EsMajor];
  const starting = [startTestKafka(backend), startTestElasticsearch(backend, { version: main })] as const;
  const settled = await Promise.allSettled(starting);
  const failed = settled.find((result) => result.status === 'rejected');
  if (failed) {
    for (const result of settled) if (result.status === 'fulfilled') await result.value.stop();
    throw failed.reason;
  }
  const [kafka, elasticsearch] = await Promise.all(starting);
  const second = secondElasticsearch(backend, esMajors);
  return {
    brokers: kafka.brokers,
    esUrl: elasticsearch.url,
    esVersion: elasticsearch.version,
    controlUrl: await second.listen(),
    stop: () => Promise.all([kafka.stop(), elasticsearch.stop(), second.stop()]),
  };
}

/** `POST /elasticsearch/8` starts that line once and answers with its address; tests run in other processes. */
function secondElasticsearch(backend: Backend, majors: EsMajor[]) {
  const started = new Map<string, ReturnType<typeof startTestElasticsearch>>();
  const server = createServer((request, response) => {
    const major = majors.find((candidate) => request.url === `/elasticsearch/${candidate}`);
    if (!major) return response.writeHead(404).end(`no such server; there are: ${majors.join(', ')}`);
    const starting = started.get(major) ?? startTestElasticsearch(backend, { version: major, heap: '512m' });
    started.set(major, starting);
    starting.then(
      ({ url }) => response.end(url),
      (error) => response.writeHead(500).end(errorText(error)),
    );
    return undefined;
  });
  return {
    listen: () =>
      new Promise<string>((resolve) => {
        server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
      }),
    async stop() {
      server.close();
      server.closeAllConnections();
      for (const starting of started.values()) await (await starting.catch(() => undefined))?.stop();
    },
  };
}
