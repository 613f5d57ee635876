// An incident of long ago on the shared servers: its records in a topic of its own with the times they had, and indexed by the
// pipeline itself. For tests of what is done after an incident.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { LoggedEvent } from '../kit/incident-log.ts';
import { createTopic, spawnLogpipe, testBrokers, testEsUrl, uniqueName, waitFor } from '../kit/servers.ts';
import { testKafka } from './intake-kit.ts';

export interface StoredIncident {
  readonly topic: string;
  /** The live indexer's. */
  readonly group: string;
  readonly configYaml: string;
  readonly index: string;
  /** Documents, and the highest sequence number: it changes with any write to any document. */
  versions(): Promise<{ readonly count: number; readonly highest: number }>;
  remove(): Promise<void>;
}

/** @param log of one UTC day that no other test logs on */
export async function storeIncident(log: readonly LoggedEvent[]): Promise<StoredIncident> {
  const topic = uniqueName('incident');
  const index = `calling-platform-${new Date(log[0]!.timeMs).toISOString().slice(0, 10).replaceAll('-', '.')}`;
  // Record times as given: as if the events had just been logged then.
  const config = { 'message.timestamp.type': 'CreateTime', 'retention.ms': '-1' };
  await createTopic(testBrokers(), topic, { config });
  // A request that is sent again on a busy machine must not be written twice: the log is counted.
  const producer = testKafka().producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  for (let i = 0; i < log.length; i += 2_000) {
    const messages = log.slice(i, i + 2_000).map(({ line, eventId, partition, timeMs }) => {
      return { value: line, headers: { eventId }, partition, timestamp: String(timeMs) };
    });
    await producer.send({ topic, messages });
  }
  await producer.disconnect();
  const brokers = testBrokers().map((broker) => `'${broker}'`);
  const configYaml = `kafka:
  brokers: [${brokers.join(', ')}]
  group: ${topic}-indexer
  counterGroup: ${topic}-counter
  alerterGroup: ${topic}-alerter
  topics: { logs: ${topic}, dlq: ${topic}.dlq, counts: ${topic}-counts, alerts: ${topic}-alerts }
elasticsearch: { nodes: ['${testEsUrl()}'] }
http: { enabled: false }
`;
  const request = async <T>(path: string, method = 'GET', body?: object): Promise<T> => {
    const headers = { 'content-type': 'application/json' };
    const reply = await fetch(`${testEsUrl()}/${index}${path}`, {
      method,
      ...(body === undefined ? {} : { headers, body: JSON.stringify(body) }),
    });
    return (await reply.json()) as T;
  };
  await indexAll(configYaml, async () => {
    await request('/_refresh', 'POST');
    return (await request<{ count?: number }>('/_count')).count === log.length;
  });
  return {
    topic,
    group: `${topic}-indexer`,
    configYaml,
    index,
    async versions() {
      await request('/_refresh', 'POST');
      const { count } = await request<{ count: number }>('/_count');
      const sort = [{ '@timestamp': 'asc' }];
      const reply = await request<{ hits: { hits: { _seq_no: number }[] } }>('/_search', 'POST', {
        size: 10_000,
        seq_no_primary_term: true,
        _source: false,
        sort,
      });
      return { count, highest: Math.max(...reply.hits.hits.map(({ _seq_no }) => _seq_no)) };
    },
    async remove() {
      await fetch(`${testEsUrl()}/${index}`, { method: 'DELETE' });
    },
  };
}

/** As the pipeline does it. */
async function indexAll(configYaml: string, isDone: () => Promise<boolean>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-incident-'));
  writeFileSync(join(folder, 'logpipe.yml'), configYaml);
  const child = spawnLogpipe(['run', '--roles', 'indexer', '--config', join(folder, 'logpipe.yml')]);
  try {
    await waitFor(isDone, { what: 'all events to be indexed', timeoutMs: 60_000, intervalMs: 200 });
  } finally {
    child.kill('SIGTERM');
    await child.exit;
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A folder with the configuration, and `logpipe` run with it. */
export function workspace(configYaml: string) {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-incident-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const config = join(folder, 'logpipe.yml');
  writeFileSync(config, configYaml);
  return {
    folder,
    async run(...args: string[]) {
      const child = spawnLogpipe([...args, '--config', config]);
      const { status } = await child.exit;
      return { status, out: child.stdout(), err: child.stderr() };
    },
  };
}
