// For the tests of the replay: a topic whose record times the test chooses, the command as it is called, and what
// Elasticsearch holds afterwards.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { onTestFinished } from 'vitest';
import { type ReplayCommandDeps, type ReplayCommandOptions, runReplay } from '../../src/cli/replay.ts';
import { type Config, parseConfig } from '../../src/config.ts';
import { silentLog } from '../../src/core/log.ts';
import { createEventIds } from '../../src/core/record.ts';
import { createTopic, testBrokers, testEsUrl, uniqueName } from '../kit/servers.ts';
import { testKafka } from './intake-kit.ts';

export interface Sent {
  readonly id: string;
  readonly eventMs: number;
}

export interface ReplayBench {
  readonly topic: string;
  readonly config: Config;
  readonly folder: string;
  /** One record per event; `recordMs` is what the brokers are told. */
  send(
    events: readonly {
      eventMs: number;
      recordMs?: number;
      partition?: number;
      fields?: Record<string, unknown>;
    }[],
  ): Promise<Sent[]>;
  run(
    options: ReplayCommandOptions,
    files?: readonly string[],
    deps?: Partial<ReplayCommandDeps>,
  ): Promise<{ status: number; err: string[]; out: string[]; summary: Summary }>;
}

// biome-ignore lint/suspicious/noExplicitAny: the summary is compared as JSON
type Summary = any;

export async function createReplayBench(options: { bulk?: string } = {}): Promise<ReplayBench> {
  const topic = uniqueName('replay');
  await createTopic(testBrokers(), topic, { partitions: 4, config: { 'message.timestamp.type': 'CreateTime' } });
  await createTopic(testBrokers(), `${topic}.dlq`, { partitions: 1 });
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-replay-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const config = parseConfig(
    `kafka:
  brokers: ['${testBrokers().join("','")}']
  group: ${topic}-indexer
  topics: { logs: ${topic}, dlq: ${topic}.dlq, counts: ${topic}-counts, alerts: ${topic}-alerts }
elasticsearch: { nodes: ['${testEsUrl()}'] }
${options.bulk ?? ''}`,
    {},
    'test',
  );
  const producer = testKafka().producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
  await producer.connect();
  onTestFinished(() => producer.disconnect());
  const nextId = createEventIds();
  let n = 0;

  return {
    topic,
    config,
    folder,
    async send(events) {
      const sent: Sent[] = [];
      const messages = events.map(({ eventMs, recordMs = eventMs + 100, partition, fields }) => {
        const eventId = nextId();
        sent.push({ id: eventId, eventMs });
        const value = JSON.stringify({
          timestamp: new Date(eventMs).toISOString(),
          level: n % 10 === 0 ? 'error' : 'info',
          message: `event ${n}`,
          service: topic,
          eventId,
          requestId: String(n),
          ...fields,
        });
        n += 1;
        return { value, headers: { eventId }, partition: partition ?? n % 3, timestamp: String(recordMs) };
      });
      for (let at = 0; at < messages.length; at += 2_000) {
        await producer.send({ topic, messages: messages.slice(at, at + 2_000), acks: -1 });
      }
      return sent;
    },
    async run(run, files = [], deps = {}) {
      const out: string[] = [];
      const err: string[] = [];
      const io = { out: (line: string) => void out.push(line), err: (line: string) => void err.push(line) };
      const signal = new AbortController().signal;
      const status = await runReplay(files, config, { signal, json: true, ...run }, io, {
        log: silentLog,
        stateFolder: join(folder, 'state'),
        ...deps,
      });
      return { status, out, err, summary: out.length > 0 ? JSON.parse(out.at(-1)!) : undefined };
    },
  };
}

export interface Found {
  readonly _id: string;
  readonly _index: string;
  readonly _version: number;
  readonly _source: Record<string, unknown>;
}

export async function es(method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
  const response = await fetch(`${testEsUrl()}${path}`, {
    method,
    headers: { 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok && response.status !== 404) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return JSON.parse(text) as Record<string, unknown>;
}

/** Every document of a service in these indices, by id. At most 10,000. */
export async function documents(pattern: string, service: string): Promise<Found[]> {
  await es('POST', `/${pattern}/_refresh?allow_no_indices=true`);
  const reply = (await es('POST', `/${pattern}/_search?allow_no_indices=true`, {
    size: 10_000,
    version: true,
    query: { term: { service } },
  })) as { hits: { hits: Found[] } };
  return reply.hits.hits
    .map(({ _id, _index, _version, _source }) => ({ _id, _index, _version, _source }))
    .sort((a, b) => (a._id < b._id ? -1 : a._id > b._id ? 1 : a._index < b._index ? -1 : 1));
}
