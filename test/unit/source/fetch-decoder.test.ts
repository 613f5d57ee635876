// The fast decoder against kafkajs's own: the same objects for the same bytes.
import { createRequire } from 'node:module';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import kafkajs, { type Batch as KafkaJsBatch } from 'kafkajs';
import { beforeAll, describe, expect, test } from 'vitest';
import { registerCodecs } from '../../../src/core/kafka/codecs.ts';
import { createDecode, installFetchDecoder, leaveInPlace } from '../../../src/source/kafka/fetch-decoder.ts';
import { toRecords, unpackAll } from '../../../src/source/kafka/record-batch.ts';
import { type Batch, encodeBatch, frame, type Record, seal } from './batches.ts';

type Decode = (bytes: Buffer) => Promise<object>;
const require = createRequire(import.meta.url);
const KafkaBatch = require('kafkajs/src/consumer/batch') as new (
  topic: string,
  fetched: string,
  data: object,
) => KafkaJsBatch;
const response = require('kafkajs/src/protocol/requests/fetch/v11/response') as { decode: Decode };

let theirs: Decode;
let ours: Decode;
beforeAll(() => {
  registerCodecs();
  // kafkajs's own: this test file is a process of its own, and nothing has been installed yet.
  theirs = response.decode;
  ours = createDecode(async () => {
    throw new Error('this format belongs to kafkajs');
  }) as Decode;
});

const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));
const headerName = fc.oneof(fc.constantFrom('eventId', 'resent', 'é', 'aé', 'a', ''), fc.string({ maxLength: 12 }));
const record = fc.record({
  timestampDelta: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
  key: fc.option(bytes),
  value: fc.option(
    fc.oneof(
      bytes,
      fc.integer({ min: 0, max: 20_000 }).map((length) => Buffer.alloc(length, 97)),
    ),
  ),
  headers: fc.array(fc.tuple(headerName, fc.oneof(bytes, fc.array(bytes, { minLength: 2, maxLength: 3 }))), {
    maxLength: 4,
  }),
});
const batch = fc.record({
  firstOffset: fc.oneof(fc.nat(), fc.integer({ min: 2 ** 31 - 2, max: 2 ** 50 })),
  firstTimestamp: fc.integer({ min: 0, max: 4e12 }),
  producerId: fc.integer({ min: -1, max: 2 ** 40 }),
  transactional: fc.boolean(),
  appendTime: fc.boolean(),
  control: fc.boolean(),
  compression: fc.constantFrom(0, 0, 1, 2, 3),
  records: fc
    .array(record, { minLength: 1, maxLength: 5 })
    .map((list) => list.map((item, i) => ({ ...item, offsetDelta: i * 3 }))),
});
const answer = fc.record({
  topics: fc.array(
    fc.record({
      name: fc.string({ minLength: 1, maxLength: 20 }),
      partitions: fc.array(
        fc.record({
          batches: fc.array(batch, { maxLength: 3 }),
          /** Aborted transactions have tests of their own: kafkajs lets some of their records through. */
          aborted: fc.constant<[number, number][]>([]),
          /** Bytes missing at the end, as when a broker's limit cuts the last batch. */
          cut: fc.nat(80),
        }),
        { maxLength: 3 },
      ),
    }),
    { maxLength: 2 },
  ),
});

describe('fetch decoder', () => {
  test('makes of any answer what kafkajs makes of it', async () => {
    await fc.assert(
      fc.asyncProperty(answer, async ({ topics }) => {
        const raw = await encodeAnswer(topics);
        expect(await ours(raw)).toEqual(await theirs(raw));
      }),
      { numRuns: 100 },
    );
  });

  test('leaves message formats before version 2 to kafkajs', async () => {
    const set = Buffer.alloc(80);
    set[16] = 1;
    const raw = frame([{ name: 'old', partitions: [{ body: set, aborted: [] }] }]);
    const decode = createDecode(async () => 'theirs' as never);
    expect(await decode(raw)).toBe('theirs');
  });

  test('a batch cut off before its format is told is left out, where kafkajs throws', async () => {
    const raw = frame([{ name: 'cut', partitions: [{ body: Buffer.alloc(16), aborted: [] }] }]);
    await expect(theirs(raw)).rejects.toThrow(RangeError);
    expect(await ours(raw)).toMatchObject({ responses: [{ partitions: [{ messages: [] }] }] });
  });

  test('more records in one answer than a call has arguments', async () => {
    const records = Array.from({ length: 150_000 }, (_, offsetDelta) => ({
      offsetDelta,
      timestampDelta: 0,
      key: null,
      value: null,
      headers: [],
    }));
    const shared = { firstOffset: 0, firstTimestamp: 0, producerId: -1, transactional: false, appendTime: true };
    const body = await encodeBatch({ ...shared, control: false, compression: 0, records });
    const messages = await messagesOf(frame([{ name: 'many', partitions: [{ body, aborted: [] }] }]));
    // So many do not come at once, either.
    expect(messages.map(({ offset }) => offset)).toEqual(['149999']);
    const slices = await allOf(messages);
    expect(Math.max(...slices.map(({ length }) => length))).toBeLessThanOrEqual(20_000);
    expect(slices.flat().map(({ offset }) => Number(offset))).toEqual(records.map((_, i) => i));
  });

  test('goes into the kafkajs it was made for, once', () => {
    const own = response.decode;
    try {
      expect(installFetchDecoder()).toBe(true);
      const installed = response.decode;
      expect(installed).not.toBe(own);
      expect(installFetchDecoder()).toBe(true);
      expect(response.decode).toBe(installed);
      expect(require('kafkajs').Kafka).toBe(kafkajs.Kafka);
    } finally {
      response.decode = own;
    }
  });
});

test('a topic is left in place while somebody reads it so, and no other', async () => {
  const own = response.decode;
  try {
    installFetchDecoder();
    const body = await encodeBatch({ ...SHARED, compression: 0, records: plain(3) });
    const raw = frame(['read', 'other'].map((name) => ({ name, partitions: [{ body, aborted: [] }] })));
    const counts = async () =>
      ((await response.decode(raw)) as Answer).responses.map(({ partitions }) => partitions[0]!.messages.length);
    const [end, endToo] = [leaveInPlace('read'), leaveInPlace('read')];
    expect(await counts()).toEqual([1, 3]);
    end();
    end();
    expect(await counts()).toEqual([1, 3]);
    endToo();
    expect(await counts()).toEqual([3, 3]);
  } finally {
    response.decode = own;
  }
});

const SHARED = {
  firstOffset: 1_000,
  firstTimestamp: 7e11,
  producerId: -1,
  transactional: false,
  appendTime: false,
  control: false,
};
const plain = (length: number): Record[] =>
  Array.from({ length }, (_, offsetDelta) => ({
    offsetDelta,
    timestampDelta: offsetDelta,
    key: null,
    value: Buffer.from(`value ${offsetDelta}`),
    headers: [['eventId', Buffer.from('x')]],
  }));

/** The first batch is changed by `harm`, the second one is well. */
async function harmed(harm: (batch: Buffer) => Buffer | undefined, resealed: boolean, compression = 0) {
  const first = await encodeBatch({ ...SHARED, compression, records: plain(10) });
  const second = await encodeBatch({ ...SHARED, firstOffset: 1_010, compression: 0, records: plain(3) });
  const bad = harm(first) ?? first;
  if (resealed) seal(bad);
  return messagesOf(frame([{ name: 'hurt', partitions: [{ body: Buffer.concat([bad, second]), aborted: [] }] }]));
}

/** The bytes of the first record begin here. */
const RECORDS = 61;
const patch = (at: number, bytes: readonly number[]) => (batch: Buffer) => {
  batch.set(bytes, at);
  return undefined;
};
/** One record whose bytes are given. */
const body =
  (...bytes: number[]) =>
  (batch: Buffer) => {
    const record = Buffer.from(bytes);
    const whole = Buffer.concat([batch.subarray(0, RECORDS), Buffer.from([record.length * 2]), record]);
    whole.writeInt32BE(1, 57);
    whole.writeInt32BE(whole.length - 12, 8);
    return whole;
  };
const FULL = [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255];

describe('a batch that cannot be read', () => {
  test.each<[string, (batch: Buffer) => Buffer | undefined, RegExp]>([
    ['2^31 records', patch(57, [0x7f, 255, 255, 255]), /cannot hold 2147483647 records/],
    ['a negative number of records', patch(57, [255, 255, 255, 255]), /cannot hold -1 records/],
    ['more records than there are', patch(57, [0, 0, 0, 11]), /record 10 of 11 reaches beyond its batch/],
    ['a record longer than the batch', patch(RECORDS, [254, 255, 3]), /record 0 of 10 reaches beyond its batch/],
    ['a record of negative length', patch(RECORDS, [1]), /record 0 of 10 has a length of -1 bytes/],
    ['a length without end', patch(RECORDS, FULL), /number that does not end/],
    ['a time without end', body(0, ...FULL), /number that does not end/],
    ['a time that runs past the end', body(0, 255, 255, 255, 255, 255, 255), /record 0 of 1/],
    ['a value longer than its record', body(0, 0, 0, 1, 254, 127, 0), /record 0 of 1/],
    ['headers beyond the record', body(0, 0, 0, 1, 1, 254, 127), /cannot hold 8191 headers/],
    ['a header name beyond the record', body(0, 0, 0, 1, 1, 2, 254, 127), /header name of 8191 bytes/],
    ['a header name of negative length', body(0, 0, 0, 1, 1, 2, 1, 0), /header name of -1 bytes/],
    ['offsets that stand still', patch(RECORDS + 1, [0, 0, 40]), /has the offset 1020/],
    ['an unknown codec', patch(22, [5]), /no codec 5/],
    ['a codec that it was not written with', patch(22, [1]), /gzip: /],
    ['a negative last offset', patch(23, [255, 255, 255, 255]), /last offset/],
  ])('%s', async (_what, harm, reason) => {
    // Written like this: the batch behind it is where it seems to be.
    const [bad, ...others] = await harmed(harm, true);
    expect(bad!.whole?.failure?.reason).toBe('batch_undecodable');
    expect(bad!.whole?.failure?.detail).toMatch(reason);
    expect(bad!.whole?.failure?.detail).toContain('checksum matches');
    expect(bad!.whole?.failure?.detail).toContain('hurt/0, offsets 1000 to ');
    expect(others.map(({ offset }) => offset)).toEqual(['1010', '1011', '1012']);
    const records = toRecords([bad as never]);
    expect(records).toMatchObject([{ offset: 1_000, value: null, refusal: { reason: 'batch_undecodable' } }]);
    // Damaged on its way or on a disk: nothing behind it is trusted until the broker says where it begins.
    const damaged = await harmed(harm, false);
    expect(damaged).toHaveLength(1);
    expect(damaged[0]!.whole?.failure?.detail).toContain('checksum does not match');
    expect(Number(damaged[0]!.offset)).toBeLessThanOrEqual(1_009);
  });

  test('a damaged batch behind others waits until it is the first', async () => {
    const well = await encodeBatch({ ...SHARED, firstOffset: 990, compression: 0, records: plain(2) });
    const bad = await encodeBatch({ ...SHARED, compression: 0, records: plain(10) });
    bad[RECORDS] = 1;
    const messages = await messagesOf(
      frame([{ name: 'hurt', partitions: [{ body: Buffer.concat([well, bad]), aborted: [] }] }]),
    );
    expect(messages.map(({ offset }) => offset)).toEqual(['990', '991']);
  });

  test.each([
    ['topics', 10],
    ['partitions', 18],
    ['aborted transactions', 52],
    ['bytes', 60],
  ])('an answer that claims more %s than it holds is an error', async (what, at) => {
    for (const claim of [2 ** 31 - 1, -5]) {
      const whole = await encodeBatch({ ...SHARED, compression: 0, records: plain(2) });
      const raw = frame([{ name: 'hi', partitions: [{ body: whole, aborted: [] }] }]);
      raw.writeInt32BE(claim, at);
      if (what === 'bytes' && claim < 0) expect((await messagesOf(raw)).length).toBe(0);
      else await expect(ours(raw)).rejects.toThrow(new RegExp(`claims -?\\d+ ${what}`));
    }
  });

  test('a header name that comes 50,000 times costs what its bytes cost', async () => {
    const headers: [string, Buffer[]][] = [['h', Array.from({ length: 50_000 }, () => Buffer.from('v'))]];
    const whole = await encodeBatch({ ...SHARED, compression: 0, records: [{ ...plain(1)[0]!, headers }] });
    const raw = frame([{ name: 'h', partitions: [{ body: whole, aborted: [] }] }]);
    const [message] = await messagesOf(raw);
    expect((message as unknown as { headers: { h: Buffer[] } }).headers.h).toHaveLength(50_000);
  });

  test('any changed bytes end in records, a letter or an error', async () => {
    const changes = fc.array(
      fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.oneof(fc.constantFrom(0, 1, 127, 128, 255), fc.nat(255))),
      {
        minLength: 1,
        maxLength: 4,
      },
    );
    await fc.assert(
      fc.asyncProperty(answer, changes, fc.boolean(), async ({ topics }, list, reseal) => {
        const raw = await encodeAnswer(topics);
        for (const [place, byte] of list) raw[Math.floor(place * (raw.length - 1))] = byte;
        if (reseal) sealAll(raw);
        const decode = createDecode(theirs as never) as Decode;
        try {
          for (const { partitions } of ((await decode(raw)) as Answer).responses) {
            for (const { messages } of partitions) for (const slice of await allOf(messages)) toRecords(slice as never);
          }
        } catch (error) {
          // Nothing else but the frame's own error, or what kafkajs says of older formats.
          expect(
            ['FetchResponseError', 'Error'].includes((error as Error).name) ||
              /^KafkaJS|RangeError/.test((error as Error).name),
          ).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  }, 240_000);
});

describe('transactions', () => {
  /** One batch of a transaction, or the marker that ends it. */
  const of = (firstOffset: number, producerId: number, keys: readonly (Buffer | null)[]) =>
    encodeBatch({
      ...{ ...SHARED, firstOffset, producerId, transactional: true, compression: 1 },
      records: keys.map((key, i) => ({ ...plain(1)[0]!, offsetDelta: i, key })),
    });
  const marker = (firstOffset: number, producerId: number, type: 'abort' | 'commit') =>
    encodeBatch({
      ...{ ...SHARED, firstOffset, producerId, transactional: true, compression: 0, control: true },
      records: [{ ...plain(1)[0]!, key: Buffer.from([0, 0, 0, type === 'abort' ? 0 : 1]), value: Buffer.alloc(6) }],
    });
  /** Offsets that an application sees of these batches, read from `from` on. */
  async function seen(batches: readonly Buffer[], aborted: [number, number][], from = 0): Promise<number[]> {
    const raw = frame([{ name: 'tx', partitions: [{ body: Buffer.concat(batches), aborted }] }]);
    const [data] = ((await ours(raw)) as Answer).responses[0]!.partitions;
    return new KafkaBatch('tx', String(from), data!).messages.map(({ offset }) => Number(offset));
  }

  test('a key of four zero bytes does not end an aborted transaction', async () => {
    const zero = Buffer.alloc(4);
    const log = [await of(0, 7, [null, zero, null]), await marker(3, 7, 'abort'), await of(4, 7, [zero, null])];
    expect(await seen([...log, await marker(6, 7, 'commit')], [[7, 0]])).toEqual([4, 5]);
  });

  test('brokers name aborted transactions in the order in which they ended', async () => {
    const log = [
      await of(0, 7, [null]),
      await of(1, 8, [null]),
      await marker(2, 8, 'abort'),
      await marker(3, 7, 'abort'),
    ];
    const list: [number, number][] = [
      [8, 1],
      [7, 0],
    ];
    expect(await seen(log, list)).toEqual([]);
  });

  test('two transactions that began before what was fetched', async () => {
    const log = [await of(2, 8, [null, null]), await marker(4, 8, 'abort'), await marker(5, 7, 'abort')];
    const list: [number, number][] = [
      [7, 0],
      [8, 1],
    ];
    expect(await seen(log, list, 2)).toEqual([]);
  });

  test('of any log, from anywhere: what was committed, and nothing else', async () => {
    const step = fc.record({
      producer: fc.integer({ min: 0, max: 2 }),
      act: fc.constantFrom('write', 'write', 'commit', 'abort'),
      keys: fc.array(fc.constantFrom(null, Buffer.alloc(4), Buffer.from([0, 0, 0, 1])), { minLength: 1, maxLength: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.nat(30), async (steps, start) => {
        const log: { first: number; bytes: Buffer }[] = [];
        const open = new Map<number, { first: number; offsets: number[] }>();
        const aborted: { producer: number; first: number; end: number }[] = [];
        const committed: number[] = [];
        let next = 0;
        const put = (bytes: Buffer, count: number) => {
          log.push({ first: next, bytes });
          next += count;
        };
        const act = async (producer: number, what: string, keys: readonly (Buffer | null)[]) => {
          const current = open.get(producer);
          if (what === 'write') {
            const offsets = keys.map((_, i) => next + i);
            if (current) current.offsets.push(...offsets);
            else open.set(producer, { first: next, offsets });
            return put(await of(next, producer, keys), keys.length);
          }
          if (current === undefined) return;
          open.delete(producer);
          if (what === 'commit') committed.push(...current.offsets);
          else aborted.push({ producer, first: current.first, end: next });
          put(await marker(next, producer, what as 'abort' | 'commit'), 1);
        };
        for (const { producer, act: what, keys } of steps) await act(producer, what, keys);
        // A broker hands out nothing of a transaction that has not ended.
        for (const producer of [...open.keys()]) await act(producer, 'commit', []);
        const from = Math.min(start, next);
        const fetched = log.filter((_, i) => (log[i + 1]?.first ?? next) > from);
        const list = aborted
          .filter(({ end }) => end >= from)
          .map(({ producer, first }): [number, number] => [producer, first]);
        const expected = committed.filter((offset) => offset >= from).sort((a, b) => a - b);
        expect(
          await seen(
            fetched.map(({ bytes }) => bytes),
            list,
            from,
          ),
        ).toEqual(expected);
      }),
      { numRuns: 200 },
    );
  }, 240_000);
});

describe('what compaction has removed', () => {
  const compacted = async (deltas: readonly number[], last: number) => {
    const records = deltas.map((offsetDelta) => ({ ...plain(1)[0]!, offsetDelta }));
    const batch = await encodeBatch({ ...SHARED, compression: 0, records: records.length > 0 ? records : plain(1) });
    const kept = records.length > 0 ? batch : batch.subarray(0, RECORDS);
    kept.writeInt32BE(last, 23);
    kept.writeInt32BE(deltas.length, 57);
    kept.writeInt32BE(kept.length - 12, 8);
    seal(kept);
    return messagesOf(frame([{ name: 'c', partitions: [{ body: kept, aborted: [] }] }]));
  };
  const offsetsOf = (messages: readonly Message[]) =>
    messages.map(({ offset, isControlRecord }) => `${offset}${isControlRecord ? ' control' : ''}`);

  // Without a message, kafkajs would ask for the same batch again for ever, or once for every offset.
  test('an empty batch says where it ends, by a message that no application sees', async () => {
    expect(offsetsOf(await compacted([], 9))).toEqual(['1009 control']);
  });

  test('so does one without its last records', async () => {
    expect(offsetsOf(await compacted([2, 5], 9))).toEqual(['1002', '1005', '1009 control']);
    expect(offsetsOf(await compacted([2, 9], 9))).toEqual(['1002', '1009']);
  });
});

describe('a batch too large to be held unpacked', () => {
  const MIB = 1024 * 1024;
  const large = (count: number): Record[] =>
    Array.from({ length: count }, (_, offsetDelta) => ({
      offsetDelta,
      timestampDelta: 0,
      key: null,
      value: Buffer.alloc(MIB, 97 + (offsetDelta % 26)),
      headers: [],
    }));

  test.each([
    ['gzip', 1],
    ['snappy', 2],
    ['lz4', 3],
  ])('%s stays packed and comes in slices, from an offset in its middle on', async (_name, compression) => {
    const whole = await encodeBatch({ ...SHARED, compression, records: large(40) });
    const messages = await messagesOf(frame([{ name: 'big', partitions: [{ body: whole, aborted: [] }] }]));
    expect(messages.map(({ offset }) => offset)).toEqual(['1039']);
    let next = 1_010;
    for await (const slice of unpackAll(messages as never, next)) {
      expect(slice.length).toBeLessThanOrEqual(5);
      for (const { offset, value } of slice) {
        expect(Number(offset)).toBe(next);
        expect(value!.equals(Buffer.alloc(MIB, 97 + ((next - 1_000) % 26)))).toBe(true);
        next += 1;
      }
    }
    expect(next).toBe(1_040);
  });

  test('two small batches and two large ones keep their order', async () => {
    const bodies = [];
    for (const [i, count] of [2, 20, 2, 20].entries()) {
      const records = count === 2 ? plain(2) : large(20);
      bodies.push(await encodeBatch({ ...SHARED, firstOffset: i * 100, compression: 1, records }));
    }
    const messages = await messagesOf(
      frame([{ name: 'm', partitions: [{ body: Buffer.concat(bodies), aborted: [] }] }]),
    );
    const offsets = (await allOf(messages)).flat().map(({ offset }) => Number(offset));
    const run = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);
    expect(offsets).toEqual([...run(0, 2), ...run(100, 20), ...run(200, 2), ...run(300, 20)]);
  });

  test.each([
    ['gzip', 1],
    ['snappy', 2],
    ['lz4', 3],
  ])('%s beyond 128 MiB is one letter that names its offsets', async (_name, compression) => {
    const whole = await encodeBatch({ ...SHARED, compression, records: large(129) });
    const messages = await messagesOf(frame([{ name: 'bomb', partitions: [{ body: whole, aborted: [] }] }]));
    const slices = await allOf(messages);
    expect(slices.flat()).toHaveLength(1);
    const failure = slices[0]![0]!.whole!.failure!;
    expect(failure.reason).toBe('batch_too_large');
    expect(failure.detail).toContain('bomb/0, offsets 1000 to 1128');
    expect(slices[0]![0]!.offset).toBe('1128');
  });

  test('nothing of a batch is handed out when its last record is damaged', async () => {
    const whole = await encodeBatch({ ...SHARED, compression: 0, records: large(20) });
    const inner = whole.subarray(RECORDS);
    inner[inner.length - 1] = 2;
    const packed = gzipSync(inner);
    const batch = Buffer.concat([whole.subarray(0, RECORDS), packed]);
    batch[22] = 1;
    batch.writeInt32BE(batch.length - 12, 8);
    seal(batch);
    const messages = await messagesOf(frame([{ name: 'end', partitions: [{ body: batch, aborted: [] }] }]));
    const slices = await allOf(messages);
    expect(slices.flat().map(({ whole: one }) => one?.failure?.reason)).toEqual(['batch_undecodable']);
  });
});

interface Answer {
  readonly responses: { readonly partitions: { readonly messages: Message[] }[] }[];
}
interface Message {
  readonly offset: string;
  readonly isControlRecord?: boolean;
  readonly whole?: { readonly failure?: { readonly reason: string; readonly detail: string } };
}

async function messagesOf(raw: Buffer): Promise<Message[]> {
  return ((await ours(raw)) as Answer).responses.flatMap(({ partitions }) =>
    partitions.flatMap(({ messages }) => messages),
  );
}

async function allOf(messages: Message[]): Promise<Message[][]> {
  const slices: Message[][] = [];
  for await (const slice of unpackAll(messages as never, 0)) slices.push([...slice] as unknown as Message[]);
  return slices;
}

/** Gives every batch that still looks like one the checksum of its bytes. */
function sealAll(raw: Buffer): void {
  for (let at = 0; at + 61 <= raw.length; at++) {
    if (raw[at + 16] !== 2 || raw[at + 12] !== 0 || raw[at + 13] !== 0) continue;
    const end = at + 12 + raw.readInt32BE(at + 8);
    if (end >= at + 61 && end <= raw.length) seal(raw.subarray(at, end));
  }
}

/** Up to the byte that tells the format. */
const SHORTEST = 17;

async function encodeAnswer(
  topics: readonly {
    name: string;
    partitions: readonly { batches: Batch[]; aborted: [number, number][]; cut: number }[];
  }[],
): Promise<Buffer> {
  const encoded = [];
  for (const { name, partitions } of topics) {
    const bodies = [];
    for (const { batches, aborted, cut } of partitions) {
      const body = Buffer.concat(await Promise.all(batches.map(encodeBatch)));
      const length = Math.max(body.length - cut, 0);
      // Of less kafkajs cannot read the format and throws; that case has a test of its own.
      bodies.push({ body: body.subarray(0, length < SHORTEST ? 0 : length), aborted });
    }
    encoded.push({ name, partitions: bodies });
  }
  return frame(encoded);
}
