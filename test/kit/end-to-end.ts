// The smallest run that is real, on other Nodes than this one: `end-to-end.js <path of node> …`. On each, an application logs through
// the transport, which it loads by `require`, to a Kafka, `logpipe run` indexes into an Elasticsearch, and every record must be one
// document. The servers are started once. Exit status 1 when records are missing, or when either program fails.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NODE_FLAGS, packageRoot } from '../../src/core/package-root.ts';
import { dockerAvailable } from '../../stack/index.ts';
import { startTestElasticsearch, startTestKafka } from './backend.ts';

const RECORDS = 1_000;
const PATIENCE_MS = 120_000;
const APPLICATION = `
const { createLogger } = require('logpipe/transport');
const [broker, service] = process.argv.slice(1);
const logger = createLogger({ brokers: [broker], service, compression: 'snappy', file: false, console: false });
for (let n = 0; n < ${RECORDS}; n++) logger.info('event ' + n, { callId: 'CA' + (n % 50) });
logger.end();
`;

process.exitCode = await endToEnd(process.argv.slice(2));

async function endToEnd(nodes: readonly string[]): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-end-to-end-'));
  const backend = (await dockerAvailable()) ? 'docker' : 'stack';
  const [kafka, elasticsearch] = await Promise.all([
    startTestKafka(backend),
    startTestElasticsearch(backend, { heap: '512m' }),
  ]);
  try {
    const config = join(folder, 'logpipe.yml');
    const servers = { kafka: { brokers: kafka.brokers }, elasticsearch: { nodes: [elasticsearch.url] } };
    // JSON is YAML too.
    const quiet = { log: { level: 'warn' }, monitor: { enabled: false } };
    writeFileSync(config, JSON.stringify({ ...servers, ...quiet, http: { port: 0 } }));
    let failures = 0;
    for (const node of nodes) {
      const documents = await runOn(node, kafka.brokers[0]!, elasticsearch.url, config);
      console.log(`${node}: ${RECORDS} records logged, ${documents} documents`);
      if (documents !== RECORDS) failures += 1;
    }
    return failures === 0 ? 0 : 1;
  } finally {
    await Promise.all([kafka.stop(), elasticsearch.stop()]);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Documents of a run of its own. @throws Error when a program ends with another exit status than 0 */
async function runOn(node: string, broker: string, esUrl: string, config: string): Promise<number> {
  const service = `end-to-end-${process.hrtime.bigint()}`;
  const main = [...NODE_FLAGS, join(packageRoot(), 'dist/src/main.js')];
  await ended(start(node, [...main, 'setup', '--config', config]));
  const pipeline = start(node, [...main, 'run', '--config', config, '--exit-with-parent', '--roles', 'indexer']);
  try {
    await ended(start(node, ['-e', APPLICATION, broker, service]));
    await settled(() => count(esUrl, service));
  } finally {
    pipeline.kill('SIGTERM');
  }
  await ended(pipeline);
  return count(esUrl, service);
}

function start(node: string, args: readonly string[]): ChildProcess {
  // What goes wrong is on standard error.
  return spawn(node, [...args], { cwd: packageRoot(), stdio: ['pipe', 'ignore', 'inherit'] });
}

async function ended(child: ChildProcess): Promise<void> {
  const { exitCode, spawnfile, spawnargs } = child;
  const status: unknown = exitCode ?? (await once(child, 'exit'))[0];
  if (status !== 0) throw new Error(`${spawnfile} ${spawnargs.at(-1)}: exit status ${status}`);
}

/** Until all are there, or for as long as is reasonable. */
async function settled(read: () => Promise<number>): Promise<void> {
  const start = performance.now();
  while ((await read()) < RECORDS && performance.now() - start < PATIENCE_MS) {
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

async function count(esUrl: string, service: string): Promise<number> {
  const index = `${esUrl}/calling-platform-*`;
  await fetch(`${index}/_refresh`, { method: 'POST' });
  const response = await fetch(`${index}/_count?q=service:"${service}"&allow_no_indices=true`);
  return ((await response.json()) as { count: number }).count;
}
