// Records that stay where they were fetched, against the same records as kafkajs hands them over: through kafkajs's own Batch, from any
// offset, with compaction, control records, aborted transactions and damaged batches between them, they come to the pipeline as the
// same records, and the same offsets may be committed.
import { createRequire } from 'node:module';
import fc from 'fast-check';
import type { Batch as KafkaJsBatch } from 'kafkajs';
import { beforeAll, describe, expect, test } from 'vitest';
import { registerCodecs } from '../../../src/core/kafka/codecs.ts';
import { type Chunk, createEventIds, createLineIds, detached, type RawRecord } from '../../../src/core/record.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { Batch, createDocumentWriter } from '../../../src/indexing/batch.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createDecode } from '../../../src/source/kafka/fetch-decoder.ts';
import { createKafkaDelivery } from '../../../src/source/kafka/intake.ts';
import { createOffsetTracker } from '../../../src/source/kafka/offset-tracker.ts';
import { firstOffsetOf, recordsOf, takenOut, toRecords, wholeBatchOf } from '../../../src/source/kafka/record-batch.ts';
import { createTagger } from '../../../src/tag/tag.ts';
import { encodeBatch, frame, type Record, seal } from './batches.ts';

const require = createRequire(import.meta.url);
const KafkaBatch = require('kafkajs/src/consumer/batch') as new (
  topic: string,
  fetched: string,
  data: object,
) => KafkaJsBatch;

beforeAll(registerCodecs);

const none = async () => {
  throw new Error('this format belongs to kafkajs');
};
const apart = createDecode(none);
const inPlace = createDecode(none, new Set(['log']));

const NOW = Date.parse('2026-11-24T10:00:00.000Z');
const eventId = createEventIds(() => NOW);
const lineId = createLineIds('a file');

// ---- any log ----

const other = fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes));
const header = fc.oneof(
  fc.tuple(
    fc.constant('eventId'),
    fc.oneof(
      fc.nat().map(() => Buffer.from(eventId())),
      fc.nat(1_000).map((offset) => Buffer.from(lineId(offset, Buffer.from('x')))),
      fc.constant(Buffer.from('01KE70Q0VG000000000000000u')),
      other,
    ),
  ),
  fc.tuple(
    fc.constant('sentAt'),
    fc.oneof(
      fc.constantFrom(0, -300_000, 90_000).map((ms) => Buffer.from(String(NOW + ms))),
      other,
    ),
  ),
  fc.tuple(fc.constantFrom('clock', 'resent', 'replayed'), other),
  fc.tuple(
    fc.constantFrom('redriven', 'origin-timestamp', 'clock-error'),
    fc.nat(99).map((n) => Buffer.from(`${n}`)),
  ),
  fc.tuple(fc.constant('event-id'), fc.constant(Buffer.from('log-0-1-zz'))),
  fc.tuple(fc.constantFrom('event', 'eventIds', 'clocks', 'é', 'constructor'), other),
  // A name given twice.
  fc.nat().map(() => ['eventId', [Buffer.from(eventId()), Buffer.from(eventId())]]),
  fc.nat(9).map((ms) => ['sentAt', [Buffer.from(`${NOW - 300_000}`), Buffer.from(`${NOW - 300_000 - ms}`)]]),
) as fc.Arbitrary<[string, Buffer | Buffer[]]>;

const record = fc.record({
  skipped: fc.constantFrom(0, 0, 0, 1, 4),
  timestampDelta: fc.integer({ min: -100_000, max: 100_000 }),
  key: fc.constantFrom(null, null, Buffer.alloc(4), Buffer.from('key')),
  value: fc.oneof(fc.constant(null), other, other),
  headers: fc.uniqueArray(header, { maxLength: 4, selector: ([name]) => name }),
});

const step = fc.record({
  kind: fc.constantFrom('plain', 'plain', 'plain', 'write', 'write', 'commit', 'abort', 'broken', 'emptied'),
  producer: fc.nat(2),
  records: fc.array(record, { minLength: 1, maxLength: 6 }),
  /** Removed by compaction behind the last record. */
  tail: fc.constantFrom(0, 0, 0, 3),
  appendTime: fc.boolean(),
  /** The clock is set back by an hour. */
  back: fc.constantFrom(false, false, true),
  compression: fc.constantFrom(0, 0, 1, 3),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

interface Log {
  readonly batches: readonly { readonly first: number; readonly next: number; readonly bytes: Buffer }[];
  readonly aborted: readonly (readonly [producer: number, first: number, end: number])[];
  readonly end: number;
}

async function logOf(steps: readonly Step[]): Promise<Log> {
  const batches: { first: number; next: number; bytes: Buffer }[] = [];
  const aborted: [number, number, number][] = [];
  const open = new Map<number, number>();
  let next = 100;

  async function put(one: Step, { transactional = false, control = false } = {}) {
    const { records, tail, appendTime, back, compression, producer } = one;
    let delta = 0;
    const placed = records.map(({ skipped, ...rest }, i): Record => {
      delta += i === 0 ? skipped : skipped + 1;
      return { ...rest, offsetDelta: delta };
    });
    const producerId = transactional ? producer : -1;
    const bytes = await encodeBatch({
      ...{ firstOffset: next, firstTimestamp: back ? NOW - 3_600_000 : NOW, producerId },
      ...{ transactional, control, appendTime, compression, records: placed },
    });
    bytes.writeInt32BE(delta + tail, 23);
    seal(bytes);
    batches.push({ first: next, next: next + delta + tail + 1, bytes });
    next += delta + tail + 1;
    return bytes;
  }
  const marker = (one: Step, type: number) => {
    const key = Buffer.from([0, 0, 0, type]);
    const end = { skipped: 0 as const, timestampDelta: 0, key, value: Buffer.alloc(6), headers: [] };
    return put({ ...one, records: [end], tail: 0, compression: 0 }, { transactional: true, control: true });
  };

  async function add(one: Step): Promise<void> {
    const { kind, producer } = one;
    if (kind === 'plain') await put(one);
    else if (kind === 'write') {
      if (!open.has(producer)) open.set(producer, next);
      await put(one, { transactional: true });
    } else if (kind === 'broken' || kind === 'emptied') {
      const bytes = await put({ ...one, compression: 0 });
      const last = batches.pop()!;
      const emptied = Buffer.from(bytes.subarray(0, 61));
      if (kind === 'broken') bytes[61] = 1;
      emptied.writeInt32BE(0, 57);
      emptied.writeInt32BE(61 - 12, 8);
      batches.push({ ...last, bytes: kind === 'broken' ? bytes : emptied });
      seal(batches.at(-1)!.bytes);
    } else if (open.has(producer)) {
      if (kind === 'abort') aborted.push([producer, open.get(producer)!, next]);
      open.delete(producer);
      await marker(one, kind === 'abort' ? 0 : 1);
    }
  }

  for (const one of steps) await add(one);
  // A broker hands out nothing of a transaction that has not ended.
  for (const producer of [...open.keys()]) await add({ ...steps[0]!, kind: 'commit', producer });
  return { batches, aborted, end: next };
}

/** What the broker answers to a fetch from here. */
function answerOf({ batches, aborted }: Log, from: number, most: number): Buffer {
  const fetched = batches.filter(({ next }) => next > from).slice(0, most);
  const transactions = aborted.filter(([, , end]) => end >= from);
  const body = Buffer.concat(fetched.map(({ bytes }) => bytes));
  return frame([
    { name: 'log', partitions: [{ body, aborted: transactions.map(([producer, first]) => [producer, first]) }] },
  ]);
}

// ---- read to its end, as the source reads it ----

type Decode = ReturnType<typeof createDecode>;

async function read(log: Log, decode: Decode, from: number, most: number, splitMs?: number) {
  const tracker = createOffsetTracker();
  tracker.reset(1);
  tracker.start(0, from);
  const records: RawRecord[] = [];
  const chunks: unknown[] = [];
  const deliver = async (chunk: Chunk) => {
    const own = Array.from(chunk.records, detached);
    records.push(...own);
    chunks.push({ first: own[0]!.offset, count: own.length, bytes: chunk.bytes, setBack: chunk.setBack ?? false });
    expect(chunk.bytes).toBe(own.reduce((sum, { value }) => sum + (value?.length ?? 0), 0));
    expect(chunk.records.at(own.length)).toBeUndefined();
    chunk.done(own.length);
  };
  const delivery = createKafkaDelivery({ topic: 'log', splitMs }, { tracker, deliver, isStopping: () => false });
  /** Where each answer begins and ends: what tells a gap in the log from what compaction leaves. */
  const steps: [first: number, next: number][] = [];
  for (let position = from; position < log.end; position = tracker.position(0)!) {
    const { responses } = await decode(answerOf(log, position, most));
    const [data] = responses[0]!.partitions;
    const batch = new KafkaBatch('log', String(position), { ...data, partition: 0 });
    // What kafkajs says of a batch that holds only what no application sees (session.ts, intake.ts).
    const first = batch.isEmpty() ? Number(batch.firstOffset()) : firstOffsetOf(batch);
    if (batch.isEmpty()) tracker.open(0, position, Number(batch.lastOffset()), 0);
    else await delivery.take(batch);
    expect(tracker.position(0)).toBeGreaterThan(position);
    steps.push([first, tracker.position(0)!]);
  }
  expect(tracker.due()).toEqual([{ partition: 0, offset: log.end }]);
  return { records, chunks, steps };
}

describe('any log, from any offset', () => {
  test('gives the same records, chunks and positions in place as apart', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 12 }),
        fc.nat(60),
        fc.integer({ min: 1, max: 6 }),
        fc.boolean(),
        async (steps, start, most, split) => {
          const log = await logOf(steps);
          fc.pre(log.end > 100);
          const from = Math.min(100 + start, log.end - 1);
          const splitMs = split ? 10_000 : undefined;
          const expected = await read(log, apart, from, most, splitMs);
          expect(await read(log, inPlace, from, most, splitMs)).toEqual(expected);
        },
      ),
      { numRuns: 300 },
    );
  }, 240_000);

  test('whoever reads messages gets all of them', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
        const answer = answerOf(await logOf(steps), 0, 100);
        const [left] = (await inPlace(answer)).responses[0]!.partitions;
        const [all] = (await apart(answer)).responses[0]!.partitions;
        expect(takenOut(left!.messages)).toEqual(all!.messages);
      }),
      { numRuns: 100 },
    );
  }, 240_000);
});

describe('one batch', () => {
  const plain = (offsetDelta: number, headers: Record['headers'] = []): Record => ({
    ...{ offsetDelta, timestampDelta: offsetDelta, key: null, headers },
    value: Buffer.from(`value ${offsetDelta}`),
  });
  const SHARED = { firstOffset: 100, firstTimestamp: NOW, producerId: -1, transactional: false, control: false };
  const fetched = async (records: readonly Record[], aborted: [number, number][] = [], more: object = {}) => {
    const body = await encodeBatch({ ...SHARED, appendTime: false, compression: 1, records, ...more });
    const { responses } = await inPlace(frame([{ name: 'log', partitions: [{ body, aborted }] }]));
    return responses[0]!.partitions[0]!;
  };

  test('is one message of kafkajs, at its last offset, and no record of it has an object', async () => {
    const { messages } = await fetched(Array.from({ length: 500 }, (_, i) => plain(i)));
    expect(messages.map(({ offset }) => offset)).toEqual(['599']);
    expect(wholeBatchOf(messages[0])!.inPlace).toMatchObject({ from: 0, to: 500 });
  });

  test('a record’s value and ids are where it was unpacked', async () => {
    const id = eventId();
    const { messages } = await fetched([plain(0), plain(1, [['eventId', Buffer.from(id)]])]);
    const { places } = wholeBatchOf(messages[0])!.inPlace!;
    const one = places.record(1);
    expect(one).toMatchObject({ offset: 101, timeMs: NOW + 1, eventId: id });
    expect(one.bytes!.toString('latin1', one.start, one.end)).toBe('value 1');
    expect(one.value!.buffer).toBe(places.pieces[0]!.buffer);
    // Kept, it keeps nothing else alive.
    expect(detached(one).value!.buffer).not.toBe(places.pieces[0]!.buffer);
  });

  test('of an aborted transaction takes no place', async () => {
    const { messages } = await fetched([plain(0), plain(1)], [[7, 100]], { producerId: 7, transactional: true });
    expect(messages.map(({ offset, isControlRecord }) => [offset, isControlRecord])).toEqual([
      ['100', true],
      ['101', true],
    ]);
  });

  test('is made a list of messages only for who asks', async () => {
    const { messages } = await fetched([plain(0), plain(3)]);
    const records = toRecords(takenOut(messages) as never);
    expect(records.map(({ offset, value }) => [offset, String(value)])).toEqual([
      [100, 'value 0'],
      [103, 'value 3'],
    ]);
  });
});

test('the bulk body is the same, whether records are in place or apart', async () => {
  const parser = createParser(
    { maxRecordBytes: 1e6, maxAheadMs: 6e5, maxBehindMs: 2.6e9 },
    { masker: createMasker(), duplicatesRefused: true },
  );
  const tag = createTagger();
  const documents = createDocumentWriter(parser.time);
  const line = fc.record(
    {
      timestamp: fc.constantFrom(new Date(NOW).toISOString(), new Date(NOW - 86_400_000).toISOString(), NOW, 'never'),
      level: fc.constantFrom('info', 'info', 'warn', 'error', 'ERROR', 30),
      message: fc.constantFrom('all is well', 'Grüße aus Köln', 'failed for ☎ +49 30 1234567', ''),
      service: fc.constantFrom('a', 'b'),
      tags: fc.constantFrom(['mine'], ['häßlich']),
      error: fc.constant({
        name: 'TypeError',
        message: 'x is not a function',
        stack: 'TypeError: x\n at y (z.js:1:2)',
      }),
      note: fc.string(),
    },
    { requiredKeys: ['timestamp', 'level', 'message'] },
  );
  const one = fc.record({
    value: fc.oneof(
      line.map((fields) => JSON.stringify(fields)),
      line.map((fields) => JSON.stringify(fields)),
      fc.constantFrom(
        'no JSON',
        '{"a":1}',
        '{"timestamp":"2026-11-24T10:00:00.000Z","level":"info","message":"x","a":1,"a":2}',
      ),
    ),
    headers: fc.array(header, { maxLength: 2 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 20 }), async (lines) => {
      const records = lines.map(({ value, headers }, offsetDelta): Record => {
        return { offsetDelta, timestampDelta: 0, key: null, value: Buffer.from(value), headers };
      });
      const body = await encodeBatch({
        ...{ firstOffset: 7, firstTimestamp: NOW, producerId: -1, transactional: false, control: false },
        ...{ appendTime: false, compression: 0, records },
      });
      const { responses } = await inPlace(frame([{ name: 'log', partitions: [{ body, aborted: [] }] }]));
      const fetched = recordsOf(responses[0]!.partitions[0]!.messages as never, { topic: 'log', partition: 3 });
      // One body, used again, with records of several partitions.
      const batch = new Batch(16);
      const written = [fetched, Array.from(fetched, detached)].map((from) => {
        const elsewhere = { kind: 'kafka', topic: 'log', partition: 9 } as const;
        batch.add({ origin: elsewhere, records: [], bytes: 0, done() {} }, 99, '{}', '{', Buffer.from('{}'));
        batch.clear();
        for (let i = 0; i < from.length; i++) {
          const origin = { kind: 'kafka', topic: 'log', partition: i % 3 } as const;
          const chunk: Chunk = { origin, records: from, bytes: 0, done() {} };
          const result = parser.parse(from.at(i)!);
          if (result.ok) documents.append(batch, tag(result.event), from.at(i)!, chunk, i);
        }
        const places = Array.from({ length: batch.count }, (_, i) => ({
          action: batch.action(i),
          kafka: (JSON.parse(batch.document(i).toString()) as { kafka: object }).kafka,
          offset: batch.source(i).record.offset,
        }));
        return { body: batch.body().toString(), places };
      });
      expect(written[0]).toEqual(written[1]);
      for (const { kafka, offset } of written[0]!.places) {
        expect(kafka).toEqual({ topic: 'log', partition: (offset - 7) % 3, offset });
      }
    }),
    { numRuns: 200 },
  );
});
