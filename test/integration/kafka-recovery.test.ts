// The Kafka source when things break: crashes, a topic that goes away, records deleted before they were read, brokers
// that do not answer, a process that was stopped for longer than its session.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Admin, Consumer, Kafka } from 'kafkajs';
import kafkajs from 'kafkajs';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { LogpipeError } from '../../src/core/errors.ts';
import { registerCodecs } from '../../src/core/kafka/codecs.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import { createKafka } from '../../src/source/kafka/client.ts';
import { createKafkaSource } from '../../src/source/kafka/intake.ts';
import { createTopic, startKafka, testBrokers, uniqueName, waitFor } from '../kit/servers.ts';
import {
  committedOffsets,
  kafkaConfig,
  numbered,
  openSource,
  produce,
  quickIntake,
  testAdmin,
  untilCommitted,
} from './intake-kit.ts';

async function newTopic(partitions = 1, config: Record<string, string> = {}) {
  const topic = uniqueName('recovery');
  await createTopic(testBrokers(), topic, { partitions, config });
  return kafkaConfig({ topic });
}

const until = (what: string, condition: () => unknown) => waitFor(condition, { what });

/** What retention does, at a moment of the test's choice. */
async function deleteBefore(admin: Admin, topic: string, offset: number) {
  await admin.fetchTopicOffsets(topic);
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: String(offset) }] });
}

/** Collects what is logged, to count how often something is said. */
function recordingLog() {
  const lines: { level: string; message: string; meta: Record<string, unknown> }[] = [];
  const at =
    (level: string) =>
    (message: string, meta: Record<string, unknown> = {}) => {
      lines.push({ level, message, meta });
    };
  return { lines, log: { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') } };
}

describe('crashes', () => {
  afterEach(() => registerCodecs());

  const forgetLz4 = () => {
    kafkajs.CompressionCodecs[kafkajs.CompressionTypes.LZ4] = () => {
      throw Object.assign(new kafkajs.KafkaJSNonRetriableError('LZ4 compression not implemented'), {
        name: 'KafkaJSNotImplemented',
      });
    };
  };

  it('a consumer stopped by an unknown codec is rebuilt and reads on', async () => {
    const config = await newTopic(1, { 'compression.type': 'lz4' });
    const admin = await testAdmin();
    await produce(config.topics.logs, 0, numbered(0, 10));
    const taken = await openSource(config, { auto: true, wait: false, intake: { giveUpAfter: 100 } });
    forgetLz4();
    let restarted = 0;
    taken.source.events.on('restarted', () => {
      restarted += 1;
    });
    await new Promise((resolve) => taken.source.events.once('crash', resolve));
    expect(taken.source.status().ready).toBe(false);
    expect(taken.source.status().detail).toContain('LZ4');
    registerCodecs();
    await untilCommitted(admin, config, 0, 10);
    expect(restarted).toBeGreaterThan(0);
    expect(await taken.metric('sourceRestarts')).toBeGreaterThan(0);
    expect(taken.source.status().ready).toBe(true);
    expect(taken.records).toHaveLength(10);
  });

  it('a consumer that keeps failing ends the source with an error', async () => {
    const config = await newTopic(1, { 'compression.type': 'lz4' });
    await produce(config.topics.logs, 0, numbered(0, 10));
    const taken = await openSource(config, { auto: true, wait: false, intake: { giveUpAfter: 2 } });
    forgetLz4();
    const error = await taken.source.ended.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(LogpipeError);
    expect(error).toMatchObject({ code: 'LOGPIPE_KAFKA_FAILED' });
    expect(String(error)).toContain('2 times in a row');
    expect(taken.records).toEqual([]);
  });

  it('a pipeline that refuses a chunk gets it again from a new consumer', async () => {
    const config = await newTopic();
    const admin = await testAdmin();
    await produce(config.topics.logs, 0, numbered(0, 10));
    let refusals = 0;
    const source = createKafkaSource({
      config,
      intake: quickIntake,
      deps: {
        kafka: createKafka(config, recordingLog().log),
        log: recordingLog().log,
        metrics: createMetrics(),
        clock: systemClock,
      },
    });
    onTestFinished(async () => {
      await source.stop();
      await source.close();
    });
    await source.start(async (chunk) => {
      if (refusals++ === 0) throw new Error('refused');
      chunk.done(chunk.records.length);
    });
    await untilCommitted(admin, config, 0, 10);
    expect(refusals).toBe(2);
  });

  it('a topic deleted and created again is read from its new beginning', async () => {
    const config = await newTopic();
    const admin = await testAdmin();
    await produce(config.topics.logs, 0, numbered(0, 10));
    const taken = await openSource(config, { auto: true, intake: { giveUpAfter: 100 } });
    await untilCommitted(admin, config, 0, 10);
    await admin.deleteTopics({ topics: [config.topics.logs] });
    await until('the old assignment to end', () => !taken.source.status().ready || taken.joins.length > 1);
    await createTopic(testBrokers(), config.topics.logs, { partitions: 1 });
    await produce(config.topics.logs, 0, numbered(100, 3));
    await until('the new records', () => taken.records.length === 13);
    expect(taken.records.slice(10).map(({ offset }) => offset)).toEqual([0, 1, 2]);
    await untilCommitted(admin, config, 0, 3);
  });
});

describe('a kafkajs that reads on somewhere else', () => {
  it('is put back to where we are; nothing is skipped or counted as lost', async () => {
    const config = await newTopic();
    const admin = await testAdmin();
    await produce(config.topics.logs, 0, numbered(0, 10));
    const kafka = createKafka(config, recordingLog().log);
    let consumer: Consumer | undefined;
    // The same client; only that the test gets hold of the consumer, to move it behind the source's back.
    const watched: Kafka = {
      ...kafka,
      admin: (options) => kafka.admin(options),
      consumer(options) {
        consumer = kafka.consumer(options);
        return consumer;
      },
    } as Kafka;
    const taken = await openSource(config, { auto: true, kafka: watched });
    await untilCommitted(admin, config, 0, 10);
    consumer!.pause([{ topic: config.topics.logs }]);
    await produce(config.topics.logs, 0, numbered(10, 40), { batchOf: 10 });
    consumer!.seek({ topic: config.topics.logs, partition: 0, offset: '30' });
    consumer!.resume([{ topic: config.topics.logs }]);
    await untilCommitted(admin, config, 0, 50);
    expect(taken.records.map(({ offset }) => offset)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(await taken.metric('dropped')).toBe(0);
    expect(await taken.metric('sourceRestarts')).toBe(0);
  });
});

describe('retention', () => {
  it('records deleted between two runs are counted once, and reading goes on behind them', async () => {
    const config = await newTopic();
    const admin = await testAdmin();
    await produce(config.topics.logs, 0, numbered(0, 10));
    const before = await openSource(config, { auto: true });
    await untilCommitted(admin, config, 0, 10);
    await before.source.stop();
    await before.source.close();
    await produce(config.topics.logs, 0, numbered(10, 90));
    await deleteBefore(admin, config.topics.logs, 40);

    const { lines, log } = recordingLog();
    const after = await openSource(config, { log });
    await until('the rest', () => after.records.length === 60);
    expect(after.records[0]!.offset).toBe(40);
    expect(await after.metric('dropped')).toBe(30);
    // The new start is committed although nothing has been acknowledged: whoever reads next does not count it again.
    await untilCommitted(admin, config, 0, 40);
    const third = await openSource(config, { auto: true });
    await until('a second assignment', () => third.joins.length === 1 && after.joins.length === 2);
    await until('the rest again', () => after.records.length + third.records.length >= 120);
    expect((await after.metric('dropped')) + (await third.metric('dropped'))).toBe(30);
    expect(lines.filter(({ level, message }) => level === 'error' && message.includes('retention'))).toHaveLength(1);
  });

  it('records deleted while the intake was held back are counted', async () => {
    const config = await newTopic();
    const admin = await testAdmin();
    await produce(config.topics.logs, 0, numbered(0, 100), { batchOf: 10 });
    const taken = await openSource(config, { auto: true, hold: true, intake: { fetchMaxBytesPerPartition: 100 } });
    await until('a chunk and a waiting batch', async () => {
      return taken.chunks.length === 1 && (await taken.metric('lag')) === 90;
    });
    await deleteBefore(admin, config.topics.logs, 60);
    taken.release();
    await untilCommitted(admin, config, 0, 100);
    const offsets = taken.records.map(({ offset }) => offset);
    const kept = offsets.filter((offset) => offset < 60).length;
    expect(offsets.slice(kept)).toEqual(Array.from({ length: 40 }, (_, i) => 60 + i));
    await until('the loss to be counted', async () => (await taken.metric('dropped')) === 60 - kept);
  });
});

describe('brokers that do not answer', () => {
  it('are waited for at the start, logged once, and stop ends the waiting', async () => {
    const { lines, log } = recordingLog();
    const config = kafkaConfig({ topic: uniqueName('nowhere'), brokers: ['127.0.0.1:1'] });
    const taken = await openSource(config, { log, wait: false });
    const said = () => lines.filter(({ level, message }) => level === 'error' && message.includes('unreachable'));
    let tries = 0;
    taken.source.events.on('crash', () => {
      tries += 1;
    });
    await until('two tries', () => tries >= 2);
    expect(said()).toHaveLength(1);
    expect(taken.source.status()).toMatchObject({ ready: false });
    expect(taken.source.status().detail).toContain('waiting for Kafka');
    await taken.source.stop();
    await taken.starting;
    await taken.source.close();
  });

  it('that come back are read on from the committed offset', async () => {
    const kafka = await startKafka({ heap: '256m' });
    const topic = uniqueName('outage');
    const config = kafkaConfig({ topic, brokers: kafka.brokers });
    await createTopic(kafka.brokers, topic, { partitions: 2 });
    await produce(topic, 0, numbered(0, 10), { brokers: kafka.brokers });
    const { lines, log } = recordingLog();
    const taken = await openSource(config, { auto: true, log, intake: { sessionTimeoutMs: 2_000 } });
    await until(
      'the first records to be committed',
      async () => (await taken.metric('lag')) === 0 && taken.records.length === 10,
    );
    await kafka.kill();
    await waitFor(() => !taken.source.status().ready, { what: 'the outage to be noticed', timeoutMs: 40_000 });
    await kafka.start();
    await produce(topic, 0, numbered(10, 10), { brokers: kafka.brokers });
    await waitFor(() => taken.records.length >= 20, { what: 'the records after the outage', timeoutMs: 40_000 });
    expect(taken.records.map(({ offset }) => offset)).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(taken.source.status().ready).toBe(true);
    expect(lines.filter(({ message }) => message.startsWith('Kafka is unreachable'))).toHaveLength(1);
    expect(lines.filter(({ message }) => message === 'Kafka answers again')).toHaveLength(1);
  }, 120_000);
});

describe('a process stopped beyond its session timeout', () => {
  it('wakes up, discards its acknowledgements and commits nothing wrong', async () => {
    const config = await newTopic(1);
    const admin = await testAdmin();
    await produce(config.topics.logs, 0, numbered(0, 50));
    // Takes chunks and acknowledges them only when told to on stdin; prints what happens to it.
    const program = `
      const { config, intake, dist } = JSON.parse(process.argv[1]);
      const { createKafkaSource } = await import(dist + '/src/source/kafka/intake.js');
      const { createKafka } = await import(dist + '/src/source/kafka/client.js');
      const { createMetrics } = await import(dist + '/src/core/metrics.js');
      const { silentLog } = await import(dist + '/src/core/log.js');
      const { systemClock } = await import(dist + '/src/core/clock.js');
      const metrics = createMetrics();
      const source = createKafkaSource({ config, intake,
        deps: { kafka: createKafka(config, silentLog), log: silentLog, metrics, clock: systemClock } });
      const chunks = [];
      source.events.on('joined', ({ epoch }) => console.log('joined ' + epoch));
      await source.start(async (chunk) => { chunks.push(chunk); console.log('chunk ' + chunk.records.length); });
      process.stdin.once('data', async () => {
        for (const chunk of chunks.splice(0)) chunk.done(chunk.records.length);
        const { values } = await metrics.staleAcks.get();
        console.log('stale ' + (values[0]?.value ?? 0));
      });`;
    const dist = process.env.LOGPIPE_TEST_DIST ?? join(packageRoot(), 'dist');
    const intake = { ...quickIntake, sessionTimeoutMs: 1_000, heartbeatMs: 200, commitIntervalMs: 20 };
    const child = spawn(
      process.execPath,
      ['--input-type=module', '-e', program, JSON.stringify({ config, intake, dist })],
      {
        cwd: packageRoot(),
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    const lines: string[] = [];
    createInterface(child.stdout).on('line', (line) => lines.push(line));
    await until('the child to take the records', () => lines.includes('chunk 50'));

    child.kill('SIGSTOP');
    const other = await openSource(config, { auto: true, intake });
    await until('the other one to take over', () => other.records.length === 50);
    await produce(config.topics.logs, 0, numbered(50, 50));
    await untilCommitted(admin, config, 0, 100);
    await other.source.stop();
    await other.source.close();

    // Its acknowledgements wait in the pipe: they are taken before the child can learn that it has been expelled.
    child.stdin.write('now\n');
    child.kill('SIGCONT');
    await until('the child to join again', () => lines.filter((line) => line.startsWith('joined')).length >= 2);
    await until('the acknowledgements', () => lines.some((line) => line.startsWith('stale')));
    await produce(config.topics.logs, 0, numbered(100, 1));
    await until('a record of the new assignment', () => lines.includes('chunk 1'));
    expect((await committedOffsets(admin, config.group, config.topics.logs)).get(0)).toBe(100);
  });
});
