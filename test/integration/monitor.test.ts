// The health monitor's probes at a real Redis with real BullMQ queues, a real Kafka and a real Elasticsearch.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Queue, Worker } from 'bullmq';
import { expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { createElasticsearchClient } from '../../src/indexing/elasticsearch.ts';
import {
  createBullProbe,
  createElasticsearchProbe,
  createHealthMonitor,
  createKafkaProbe,
  createSpoolProbe,
  type Probe,
  type ProbeReading,
} from '../../src/monitor/health-monitor.ts';
import { createLedger } from '../kit/ledger.ts';
import { startRedis } from '../kit/redis.ts';
import { startEs, testEsUrl } from '../kit/servers.ts';

const ELASTICSEARCH = { requestTimeoutMs: 5_000, installTemplate: false };

it('counts the jobs that wait in BullMQ queues, paused and prioritized ones too, and no others', async () => {
  const { port, url } = await startRedis();
  const connection = { host: '127.0.0.1', port };
  const scheduled = new Queue('scheduled-calls', { connection });
  const callbacks = new Queue('callbacks', { connection });
  const empty = new Queue('empty', { connection });
  onTestFinished(async () => {
    for (const queue of [scheduled, callbacks, empty]) await queue.close();
  });
  await scheduled.addBulk(Array.from({ length: 620 }, (_, i) => ({ name: 'call', data: { i } })));
  await scheduled.addBulk(Array.from({ length: 5 }, () => ({ name: 'urgent', data: {}, opts: { priority: 1 } })));
  await scheduled.addBulk(Array.from({ length: 7 }, () => ({ name: 'later', data: {}, opts: { delay: 60_000 } })));
  await callbacks.pause();
  await callbacks.addBulk(Array.from({ length: 3 }, () => ({ name: 'callback', data: {} })));
  await empty.waitUntilReady();
  const probe = createBullProbe({ redisUrl: url, prefix: 'bull', timeoutMs: 5_000 });
  onTestFinished(() => probe.close());

  const waiting = async () =>
    Object.fromEntries((await run(probe)).map(({ labels, value }) => [labels['queue.name'], value]));
  expect(await waiting()).toEqual({ 'scheduled-calls': 625, callbacks: 3, empty: 0 });

  const worker = new Worker('scheduled-calls', async () => {}, { connection, concurrency: 50 });
  await new Promise<void>((resolve) => worker.once('drained', () => resolve()));
  await worker.close();
  expect(await waiting()).toMatchObject({ 'scheduled-calls': 0 });
});

it('a Redis that is gone and comes back costs the readings of the runs in between, and no password shows', async () => {
  const first = await startRedis();
  const logged: string[] = [];
  const recorded: ProbeReading[] = [];
  const probe = createBullProbe({
    redisUrl: `redis://:s3cr3t@127.0.0.1:${first.port}`,
    prefix: 'bull',
    timeoutMs: 2_000,
  });
  const note = (message: string, meta?: object) => void logged.push(`${message} ${JSON.stringify(meta)}`);
  const monitor = createHealthMonitor(
    { schedule: '*/5 * * * *', timeoutMs: 2_000 },
    {
      probes: [probe, { name: 'hanging', run: () => new Promise(() => {}), close: async () => {} }],
      record: (reading) => recorded.push(reading),
      summary: () => ({ failedCalls: 3 }),
      mask: createMasker().text,
      log: { error: note, warn: note, info: note, debug: note },
      clock: systemClock,
    },
  );
  await first.stop();
  expect(await monitor.run()).toEqual([]);
  expect(logged.join('\n')).toMatch(/health check: redis gave no answer/);
  expect(logged.join('\n')).toMatch(/health check: hanging gave no answer .*no answer within 2000 ms/);
  expect(logged.at(-1)).toBe('health check {"failedCalls":3}');
  expect(logged.join('\n')).not.toContain('s3cr3t');
  await monitor.stop();
});

it('reads the lag and the share of dead letters from the brokers', async () => {
  const ledger = await createLedger();
  const { topic, group, kafka } = ledger;
  // Three of the ten letters of the second look are receipts, or died again after a redrive.
  const asked: unknown[] = [];
  const noNews = async (ranges: unknown) => {
    asked.push(ranges);
    return 3;
  };
  const probe = createKafkaProbe({ topic, dlq: `${topic}.dlq`, group }, { kafka, noNews });
  onTestFinished(() => probe.close());
  await ledger.produce(970);
  const nothingLost = { measure: 'logpipe.dropped', labels: { reason: 'retention' }, value: 0 };
  expect(await run(probe)).toEqual([{ measure: 'kafka.lag', labels: { group }, value: 970 }, nothingLost]);
  const pipeline = ledger.start();
  await ledger.settled();
  pipeline.kill();
  await pipeline.exit;
  await ledger.produce(30);
  expect(await run(probe)).toEqual([
    { measure: 'kafka.lag', labels: { group }, value: 30 },
    nothingLost,
    // Ten of the first 970 were tombstones; 30 more records have been written since.
    { measure: 'logpipe.dead_letter_ratio', labels: {}, value: 7 / 30 },
  ]);
  expect(asked).toEqual([new Map([[0, { from: 0, to: 10 }]])]);
});

it('tells a healthy Elasticsearch from one that is gone', async () => {
  const healthy = createElasticsearchProbe(createElasticsearchClient({ ...ELASTICSEARCH, nodes: [testEsUrl()] }));
  onTestFinished(() => healthy.close());
  const [reading] = await run(healthy);
  expect(reading).toMatchObject({ measure: 'elasticsearch.status', labels: {} });
  expect(reading!.value).toBeLessThanOrEqual(1);

  const es = await startEs({});
  const probe = createElasticsearchProbe(createElasticsearchClient({ ...ELASTICSEARCH, nodes: [es.url] }));
  onTestFinished(() => probe.close());
  expect((await run(probe))[0]!.value).toBeLessThanOrEqual(1);
  es.kill();
  expect(await run(probe)).toEqual([{ measure: 'elasticsearch.status', labels: {}, value: 3 }]);
});

it('measures a spool by the files in it, nested ones too', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'logpipe-spool-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  mkdirSync(join(dir, 'segments'));
  writeFileSync(join(dir, 'index'), Buffer.alloc(100));
  writeFileSync(join(dir, 'segments', '1'), Buffer.alloc(700));
  const probe = createSpoolProbe({ dir, maxBytes: 1_000 });
  expect(await run(probe)).toEqual([{ measure: 'logpipe.spool_used', labels: { host: hostname() }, value: 0.8 }]);
});

function run(probe: Probe): Promise<readonly ProbeReading[]> {
  return probe.run(new AbortController().signal);
}
