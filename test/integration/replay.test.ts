// `logpipe replay` on the real Kafka and Elasticsearch: every source, every target, and what it must never do.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it, onTestFinished } from 'vitest';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { documentId, type RawRecord } from '../../src/core/record.ts';
import { Batch, type BatchItem } from '../../src/indexing/batch.ts';
import { createKafkaDeadLetters } from '../../src/indexing/dead-letters.ts';
import { createTopicTarget } from '../../src/replay/targets.ts';
import { createKafka } from '../../src/source/kafka/client.ts';
import { createLedger } from '../kit/ledger.ts';
import { createTopic, testBrokers, uniqueName } from '../kit/servers.ts';
import { committedOffsets, testAdmin } from './intake-kit.ts';
import { createReplayBench, documents, es } from './replay-kit.ts';

const DAY_MS = 86_400_000;
/** The last midnight that lies more than an hour back. */
const MIDNIGHT = Math.floor((Date.now() - 3_600_000) / DAY_MS) * DAY_MS;
const at = (ms: number) => new Date(ms).toISOString();
const day = (ms: number) => at(ms).slice(0, 10).replaceAll('-', '.');

function dropIndices(pattern: string): void {
  onTestFinished(async () => {
    const rows = (await es('GET', `/_cat/indices/${pattern}?format=json&h=index`)) as unknown as { index: string }[];
    for (const { index } of rows) await es('DELETE', `/${index}`);
  });
}

it('in place, twice: no document changes, and neither the offsets nor the lag of the live groups', async () => {
  const ledger = await createLedger();
  await ledger.produce(3_000);
  const live = ledger.start();
  await ledger.settled();
  live.kill('SIGTERM');
  await live.exit;
  const before = await documents('calling-platform-*', ledger.service);
  const admin = await testAdmin();
  // What came meanwhile has not been indexed by the live pipeline: its lag is not zero.
  await ledger.produce(500);
  const offsets = await committedOffsets(admin, ledger.group, ledger.topic);

  const bench = await createReplayBench();
  const { kafka } = bench.config;
  const config = { ...kafka, group: ledger.group, topics: { ...kafka.topics, logs: ledger.topic } };
  const groups = async () => (await admin.listGroups()).groups.map(({ groupId }) => groupId);
  const others = await groups();
  const first = await ledgerReplay(bench, config);
  expect(first).toMatchObject({ complete: true, read: 3_500, matched: 3_500 });
  // Every 97th is a tombstone, which nothing can make a document of.
  const poison = Math.floor(3_500 / 97);
  expect(first.written).toMatchObject({ present: before.length, new: 3_500 - poison - before.length, refused: poison });
  expect(first.refused.byReason).toEqual({ null_value: poison });
  const after = await documents('calling-platform-*', ledger.service);
  const known = new Set(before.map(({ _id }) => _id));
  expect(after.filter(({ _id }) => known.has(_id))).toEqual(before);

  expect(await ledgerReplay(bench, config)).toMatchObject({ written: { new: 0, present: 3_500 - poison } });
  expect(await documents('calling-platform-*', ledger.service)).toEqual(after);
  expect(await committedOffsets(admin, ledger.group, ledger.topic)).toEqual(offsets);
  expect(await ledger.lag()).toBe(500);
  expect((await groups()).filter((group) => !others.includes(group))).toEqual([]);
  const [letters] = await admin.fetchTopicOffsets(`${ledger.topic}.dlq`);
  // Refusals of the replay are told, not written: the live pipeline has its letters already.
  expect(Number(letters!.high)).toBe(Math.floor(3_000 / 97));
});

async function ledgerReplay(bench: Awaited<ReturnType<typeof createReplayBench>>, kafka: object) {
  const { runReplay } = await import('../../src/cli/replay.ts');
  const out: string[] = [];
  const io = { out: (line: string) => void out.push(line), err() {} };
  const signal = new AbortController().signal;
  const options = { from: '-1h', json: true, signal };
  await runReplay([], { ...bench.config, kafka: kafka as typeof bench.config.kafka }, options, io, { log: silentLog });
  return JSON.parse(out[0]!);
}

describe('a stretch by event time', () => {
  it('crosses midnight, finds what was delivered late, and ends where a partition has nothing later', async () => {
    const bench = await createReplayBench();
    const inside = await bench.send([
      { eventMs: MIDNIGHT - 30_000, partition: 0 },
      { eventMs: MIDNIGHT - 1, partition: 1 },
      { eventMs: MIDNIGHT, partition: 0 },
      // The end of partition 2: nothing is ever written behind it. Partition 3 stays empty.
      { eventMs: MIDNIGHT + 29_999, partition: 2 },
      { eventMs: MIDNIGHT - 20_000, recordMs: MIDNIGHT + 540_000, partition: 0 },
      // A clock that is ahead: the event says later than its record.
      { eventMs: MIDNIGHT - 25_000, recordMs: MIDNIGHT - 300_000, partition: 1 },
    ]);
    const [tooLate] = await bench.send([
      { eventMs: MIDNIGHT - 10_000, recordMs: MIDNIGHT + 1_800_000, partition: 0 },
      { eventMs: MIDNIGHT - 30_001, partition: 1 },
      { eventMs: MIDNIGHT + 30_000, partition: 1 },
    ]);
    const name = uniqueName('midnight');
    dropIndices(`logpipe-replay-${name}-*`);
    const stretch = { from: at(MIDNIGHT - 30_000), to: at(MIDNIGHT + 30_000), toIndex: name };

    const { status, summary } = await bench.run(stretch);
    expect(status).toBe(0);
    expect(summary).toMatchObject({ complete: true, matched: 6, gaps: [] });
    const found = await documents(`logpipe-replay-${name}-*`, bench.topic);
    expect(found.map(({ _id, _index }) => [_id, _index])).toEqual(
      inside.map(({ id, eventMs }) => [id, `logpipe-replay-${name}-${day(eventMs)}`]),
    );
    // The same document as the live one would be, and mapped alike.
    expect(found[0]!._source).toMatchObject({
      '@timestamp': at(MIDNIGHT - 30_000),
      kafka: { topic: bench.topic, partition: 0 },
    });

    await bench.run({ ...stretch, lateness: '1h' });
    expect((await documents(`logpipe-replay-${name}-*`, bench.topic)).map(({ _id }) => _id)).toEqual(
      [...inside, tooLate!].map(({ id }) => id).sort(),
    );
  });

  it('says what retention has removed, and from when on there is something', async () => {
    const bench = await createReplayBench();
    const start = MIDNIGHT + 60_000;
    await bench.send(Array.from({ length: 100 }, (_, i) => ({ eventMs: start + i * 1_000, partition: 1 })));
    await bench.send([{ eventMs: start, partition: 0 }]);
    const admin = await testAdmin();
    await admin.fetchTopicOffsets(bench.topic);
    await admin.deleteTopicRecords({ topic: bench.topic, partitions: [{ partition: 1, offset: '40' }] });
    const run = { from: at(start), to: at(start + 100_000), dryRun: true };
    const { summary } = await bench.run(run);
    expect(summary).toMatchObject({ matched: 61, dryRun: true });
    expect(summary.gaps).toHaveLength(1);
    expect(summary.gaps[0]).toMatch(`${bench.topic}/1: 40 older records were removed by retention`);
    const told = Date.parse(/written at about (\S+),/.exec(summary.gaps[0])![1]!);
    expect(Math.abs(told - (start + 40_100))).toBeLessThan(1_500);
    // A stretch that lies wholly in what is left misses nothing; one wholly before it misses all.
    expect((await bench.run({ ...run, from: at(start + 60_000), lateness: '0' })).summary.gaps).toEqual([]);
    const lost = await bench.run({ ...run, to: at(start + 20_000), lateness: '0' });
    expect(lost.summary.gaps[0]).toContain('nothing of this stretch is left');
    // Offsets, counts, bytes and indices; and nothing was written.
    expect(summary.lanes).toContainEqual({ lane: `${bench.topic}/1`, from: 40, to: 100, records: 60 });
    const index = `calling-platform-${day(start)}`;
    expect(summary.indices[index]).toMatchObject({ documents: 61 });
    expect(summary.bytes).toBeGreaterThan(61 * 100);
    expect(await documents('calling-platform-*', bench.topic)).toEqual([]);
  });

  it('takes what --where asks for, at most --limit, and tells each event to who listens', async () => {
    const bench = await createReplayBench();
    const start = MIDNIGHT + 120_000;
    await bench.send(Array.from({ length: 200 }, (_, i) => ({ eventMs: start + i * 10 })));
    const run = { from: at(start), to: at(start + 10_000), dryRun: true };
    const heard: string[] = [];
    const { summary } = await bench.run({ ...run, where: ['level=error', 'tags=error', 'error.template~event'] }, [], {
      onEvent: (event, record, origin) =>
        heard.push(`${event.doc.message} ${record.eventId?.length} ${origin.kind === 'kafka' && origin.topic}`),
    });
    expect(summary).toMatchObject({ matched: 20, unmatched: 180 });
    expect(heard).toHaveLength(20);
    expect(heard).toContain(`event 0 26 ${bench.topic}`);
    expect((await bench.run({ ...run, limit: 7 })).summary).toMatchObject({ matched: 7, complete: true });
  });

  it('keeps the spacing of the events with --speed, and a rate with --throttle', async () => {
    const bench = await createReplayBench();
    const start = MIDNIGHT + 180_000;
    await bench.send(Array.from({ length: 40 }, (_, i) => ({ eventMs: start + i * 500, partition: 0 })));
    const run = { from: at(start), to: at(start + 60_000), toDir: join(bench.folder, 'paced') };
    // 19.5 s of events, ten times as fast.
    const paced = await bench.run({ ...run, speed: '10x' });
    expect(paced.summary.matched).toBe(40);
    expect(paced.summary.seconds).toBeGreaterThan(1.8);
    const throttled = await bench.run({ ...run, toDir: join(bench.folder, 'throttled'), throttle: 20 });
    expect(throttled.summary.seconds).toBeGreaterThan(1.8);
  });
});

describe('--reparse', () => {
  it('overwrites, moves a document to the day it belongs to, and goes on after an interruption', async () => {
    const bench = await createReplayBench({ bulk: 'bulk: { maxDocuments: 100 }\n' });
    const start = MIDNIGHT - 3 * DAY_MS + 40_000;
    const sent = await bench.send(Array.from({ length: 1_000 }, (_, i) => ({ eventMs: start + i * 10 })));
    // As an older parser had them: every second one on another day, all of them without what is known today.
    const wrong = `calling-platform-${day(start - 5 * DAY_MS)}`;
    const right = `calling-platform-${day(start)}`;
    dropIndices(wrong);
    const lines = sent.flatMap(({ id }, i) => [
      JSON.stringify({ create: { _index: i % 2 === 0 ? wrong : right, _id: id } }),
      JSON.stringify({ '@timestamp': at(start), service: bench.topic, message: 'old' }),
    ]);
    await es('POST', '/_bulk?refresh=true', `${lines.join('\n')}\n`);
    const stranger = `stranger-${bench.topic}`;
    await es('PUT', `/${wrong}/_doc/${stranger}`, { '@timestamp': at(start), service: bench.topic });

    const run = { from: at(start), to: at(start + 60_000), reparse: true, name: 'reparse', throttle: 400 };
    const ending = new AbortController();
    let seen = 0;
    const first = await bench.run({ ...run, signal: ending.signal }, [], {
      onEvent: () => {
        seen += 1;
        if (seen === 1) setTimeout(() => ending.abort(), 1_200);
      },
    });
    expect(first.status).toBe(1);
    expect(first.summary.complete).toBe(false);
    const half = await documents('calling-platform-*', bench.topic);
    // At no moment is there none.
    expect(new Set(half.map(({ _id }) => _id)).size).toBe(1_001);

    const { status, summary } = await bench.run({ ...run, throttle: 100_000 });
    expect(status).toBe(0);
    expect(summary).toMatchObject({ complete: true, matched: 1_000, written: { moved: 500 } });
    const after = await documents('calling-platform-*', bench.topic);
    expect(after.filter(({ _id }) => _id !== stranger).map(({ _id, _index }) => [_id, _index])).toEqual(
      sent.map(({ id }) => [id, right]).sort(),
    );
    expect(after.every(({ _id, _source }) => _id === stranger || /^event \d+$/.test(String(_source.message)))).toBe(
      true,
    );
    expect(after.some(({ _id }) => _id === stranger)).toBe(true);
    expect((await bench.run(run)).err[0]).toContain('is complete');
    await expect(bench.run({ ...run, where: ['level=error'] })).rejects.toThrow('began with another where');
  });
});

describe('--to-topic', () => {
  it('refuses the topics the pipeline lives on', async () => {
    const bench = await createReplayBench();
    const { commands } = bench.config.kafka.topics;
    for (const topic of [bench.topic, `${bench.topic}.dlq`, `${bench.topic}-counts`, commands!]) {
      await expect(bench.run({ from: '-1h', toTopic: topic })).rejects.toMatchObject({ code: 'LOGPIPE_USAGE' });
      await expect(bench.run({ from: '-1h', toTopic: topic, dryRun: true })).rejects.toThrow('live pipeline');
    }
  });

  it('marks what it sends as replayed, keeps ids, and masks', async () => {
    const bench = await createReplayBench();
    const start = MIDNIGHT + 240_000;
    const sent = await bench.send([
      { eventMs: start, partition: 0 },
      { eventMs: start + 1, partition: 2, fields: { password: 'hunter2hunter2', tags: ['mine'] } },
    ]);
    const topic = uniqueName('replayed');
    await createTopic(testBrokers(), topic, { partitions: 3 });
    const { summary } = await bench.run({ from: at(start), to: at(start + 1_000), toTopic: topic });
    expect(summary).toMatchObject({ matched: 2 });
    const { readTopic } = await import('../../src/source/kafka/topic-reader.ts');
    const got: { id: string; mark: string; value: Record<string, unknown>; partition: number }[] = [];
    await readTopic(
      bench.config.kafka,
      {
        topic,
        purpose: 'test',
        from: 'beginning',
        follow: false,
        onRecord({ headers, value }, partition) {
          const [id, mark] = [String(headers?.eventId), String(headers?.replayed)];
          got.push({ id, mark, value: JSON.parse(String(value)), partition });
          return true;
        },
      },
      silentLog,
    );
    got.sort((a, b) => a.partition - b.partition);
    expect(got.map(({ id, mark, partition }) => [id, mark, partition])).toEqual([
      [sent[0]!.id, 'unnamed', 0],
      [sent[1]!.id, 'unnamed', 2],
    ]);
    expect(got[1]!.value).toMatchObject({ password: '[masked]', tags: ['mine'], timestamp: at(start + 1) });
    expect(got[0]!.value).not.toHaveProperty('kafka');
  });

  it('killed twice in a row, it still knows what had arrived before the first kill', async () => {
    const bench = await createReplayBench();
    const topic = uniqueName('replayed');
    await createTopic(testBrokers(), topic, { partitions: 2 });
    const start = () =>
      createTopicTarget(topic, 'killed', bench.config.kafka, { log: silentLog, metrics: createMetrics() });
    const lanes = [0, 1].map((partition): BatchItem => {
      const record: RawRecord = { value: Buffer.from('{"a":1}'), offset: 7, timeMs: 1, eventId: undefined };
      const origin = { kind: 'kafka', topic: bench.topic, partition } as const;
      return { record, chunk: { origin, records: [record], bytes: 7, done() {} } };
    });
    const keys = lanes.map(({ record, chunk }) => documentId(record, chunk));
    const first = start();
    await first.prepare(undefined);
    const saved = await first.checkpoint();
    const batch = new Batch(1_000);
    for (const { record, chunk } of lanes) batch.add(chunk, 0, '{}', '{', record.value!);
    await first.sink.write(batch, new AbortController().signal);
    await first.sink.close();

    // It gets as far as a checkpoint, with the second lane not begun.
    const second = start();
    await second.prepare(saved);
    expect(second.has!(keys[0]!)).toBe(true);
    const savedAgain = await second.checkpoint();

    const third = start();
    await third.prepare(savedAgain);
    expect(keys.map((key) => third.has!(key))).toEqual([false, true]);
    expect(await third.checkpoint()).toEqual({ 0: 1, 1: 1 });
  });
});

it('dead letters come back under their ids once the fault is repaired; what is cut is told', async () => {
  const bench = await createReplayBench();
  const start = MIDNIGHT + 300_000;
  const deps = { metrics: createMetrics(), log: silentLog };
  const kafka = createKafka(bench.config.kafka, silentLog);
  const sink = createKafkaDeadLetters({ kafka, topic: bench.config.kafka.topics.dlq, ...deps });
  const value = (n: number) =>
    Buffer.from(JSON.stringify({ timestamp: at(start), level: 'info', message: `letter ${n}`, service: bench.topic }));
  const letter = (n: number, body = value(n)) => ({
    reason: 'document_refused' as const,
    detail: 'refused then',
    value: body,
    origin: { kind: 'kafka' as const, topic: bench.topic, partition: 2 },
    offset: 100 + n,
    timeMs: start + 50,
    id: n === 0 ? '01J00000000000000000000000' : `${bench.topic}-2-${100 + n}-abc`,
  });
  await sink.put(
    [letter(0), letter(1), letter(1), letter(2, Buffer.alloc(3_000_000, 'x'))],
    new AbortController().signal,
  );
  await sink.close();
  const name = uniqueName('letters');
  dropIndices(`logpipe-replay-${name}-*`);

  const { summary } = await bench.run({ source: 'dlq', toIndex: name });
  expect(summary).toMatchObject({ complete: true, matched: 2, written: { new: 2, refused: 0 } });
  expect(summary.gaps).toEqual([expect.stringContaining('1 letter holds only part')]);
  const found = await documents(`logpipe-replay-${name}-*`, bench.topic);
  expect(found.map(({ _id }) => _id)).toEqual(['01J00000000000000000000000', `${bench.topic}-2-101-abc`].sort());
  expect(found.map(({ _source }) => _source.kafka)).toContainEqual({ topic: bench.topic, partition: 2, offset: 101 });
});

it('more documents of an index than one search gives, side by side, with ids, and the same documents again', async () => {
  const bench = await createReplayBench();
  const count = 25_000;
  const index = `logpipe-replay-source-${bench.topic}-2026.01.01`;
  dropIndices(`logpipe-replay-*${bench.topic}-*`);
  const start = MIDNIGHT - 10 * DAY_MS;
  await bench.run({ source: 'file', toIndex: 'warm', from: '-1h' }, [empty(bench.folder)]);
  for (let from = 0; from < count; from += 5_000) {
    const lines = Array.from({ length: 5_000 }, (_, i) => [
      JSON.stringify({ create: { _index: index, _id: `doc/${from + i} "ä"` } }),
      JSON.stringify({
        '@timestamp': at(start + Math.floor((from + i) / 10)),
        // Ten share a millisecond, so that pages end amid one.
        timestamp: at(start + Math.floor((from + i) / 10)),
        level: 'info',
        message: `stored ${from + i}`,
        service: bench.topic,
        kafka: { topic: bench.topic, partition: i % 4, offset: from + i },
      }),
    ]).flat();
    await es('POST', '/_bulk', `${lines.join('\n')}\n`);
  }
  await es('POST', `/${index}/_refresh`);
  const run = { source: 'index', indexPattern: index, from: at(start), to: at(start + DAY_MS) } as const;
  const { summary } = await bench.run({ ...run, toIndex: `copy-${bench.topic}` });
  expect(summary).toMatchObject({ complete: true, read: count, matched: count, written: { new: count, present: 0 } });
  const copy = `logpipe-replay-copy-${bench.topic}-*`;
  const sample = async (pattern: string) => {
    await es('POST', `/${pattern}/_refresh`);
    const query = { terms: { 'kafka.offset': [0, 9_999, 10_000, 24_999] } };
    const reply = await es('POST', `/${pattern}/_search`, { query, sort: ['kafka.offset'] });
    return (reply.hits as { hits: { _id: string; _source: object }[] }).hits.map(({ _id, _source }) => ({
      _id,
      _source,
    }));
  };
  expect(await sample(copy)).toEqual(await sample(index));
  expect(await es('GET', `/${copy}/_count`)).toMatchObject({ count });

  // Interrupted and taken up again under another point in time: files hold each document once.
  const dir = join(bench.folder, 'out');
  const ending = new AbortController();
  const named = { ...run, toDir: dir, name: 'slices' };
  let seen = 0;
  const first = await bench.run({ ...named, throttle: 9_000, signal: ending.signal }, [], {
    onEvent: () => {
      seen += 1;
      if (seen === 1) setTimeout(() => ending.abort(), 1_500);
    },
  });
  expect(first.summary.complete).toBe(false);
  expect((await bench.run(named)).summary).toMatchObject({ complete: true, matched: count });
  const lines = readdirSync(dir).flatMap((file) => readFileSync(join(dir, file), 'utf8').trimEnd().split('\n'));
  expect(lines).toHaveLength(count);
  expect(new Set(lines.map((line) => JSON.parse(line)._id)).size).toBe(count);
});

function empty(folder: string): string {
  const file = join(folder, 'empty.ndjson');
  writeFileSync(file, '');
  return file;
}

it('files, plain and gzip, of our own, of elasticdump and of an application: the same ids each time', async () => {
  const bench = await createReplayBench();
  const start = MIDNIGHT + 360_000;
  const sent = await bench.send(Array.from({ length: 300 }, (_, i) => ({ eventMs: start + i })));
  const stretch = { from: at(start), to: at(start + 10_000) };
  const dir = join(bench.folder, 'files');
  expect((await bench.run({ ...stretch, toDir: dir })).summary.written).toMatchObject({ new: 300, files: 1 });
  const [file] = readdirSync(dir);
  expect(file).toBe(`calling-platform-${day(start)}.ndjson`);
  const text = readFileSync(join(dir, file!), 'utf8');
  expect(text.trimEnd().split('\n')).toHaveLength(300);
  await expect(bench.run({ ...stretch, toDir: dir })).rejects.toThrow('exists already');

  const plain = join(bench.folder, 'plain.ndjson');
  const gzip = join(bench.folder, 'compressed');
  const dump = join(bench.folder, 'dump.json');
  const lines = text.trimEnd().split('\n');
  writeFileSync(plain, lines.slice(0, 100).join('\n'));
  writeFileSync(gzip, gzipSync(`${lines.slice(100, 200).join('\n')}\n`));
  const hits = lines.slice(200).map((line) => {
    const { _id, ..._source } = JSON.parse(line);
    return JSON.stringify({ _index: 'whatever', _id, _source });
  });
  writeFileSync(dump, hits.join('\n'));
  const name = uniqueName('files');
  dropIndices(`logpipe-replay-${name}-*`);
  const { summary } = await bench.run({ source: 'file', toIndex: name }, [plain, gzip, dump]);
  expect(summary).toMatchObject({ complete: true, matched: 300, written: { new: 300 } });
  const again = await bench.run({ source: 'file', toIndex: name }, [plain, gzip, dump]);
  expect(again.summary.written).toMatchObject({ new: 0, present: 300 });
  const found = await documents(`logpipe-replay-${name}-*`, bench.topic);
  expect(found.map(({ _id }) => _id)).toEqual(sent.map(({ id }) => id).sort());

  // Lines as an application wrote them: their event id is the document's, else the place in the file.
  const app = join(bench.folder, 'app.log');
  const line = (extra: object) =>
    JSON.stringify({ timestamp: at(start), level: 'info', message: 'm', service: `${bench.topic}-app`, ...extra });
  writeFileSync(app, `${line({ eventId: '01J00000000000000000000001' })}\n${line({})}\nnot json\n`);
  const gz = join(bench.folder, 'app.gz');
  writeFileSync(gz, gzipSync(readFileSync(app)));
  expect((await bench.run({ source: 'file', toIndex: name }, [app])).summary.written).toMatchObject({ new: 3 });
  expect((await bench.run({ source: 'file', toIndex: name }, [gz])).summary.written).toMatchObject({ present: 3 });
});
