// The way back of dead letters: what a record keeps through letter and redrive, which letters go and which stay, and what receipts
// remember. On real servers: test/integration/redrive.test.ts.
import fc from 'fast-check';
import type { Kafka, KafkaMessage, Message, ProducerRecord } from 'kafkajs';
import { afterAll, describe, expect, it, test } from 'vitest';
import { systemClock } from '../../../src/core/clock.ts';
import { LogpipeError } from '../../../src/core/errors.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { type DeadLetter, firstArrivalMs, isEventId, type RawRecord } from '../../../src/core/record.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { Batch, createDocumentWriter } from '../../../src/indexing/batch.ts';
import {
  createDeadLetter,
  createKafkaDeadLetters,
  letterOfLine,
  letterOfMessage,
  type Receipt,
  receiptLine,
  receiptMessage,
  receiptOfLine,
  receiptOfMessage,
  recordOfLetter,
  type StoredLetter,
} from '../../../src/indexing/dead-letters.ts';
import { createParser } from '../../../src/parse/parse.ts';
import {
  causeToStay,
  createRedrivenLetters,
  MAX_REDRIVES,
  type PlacedLetter,
  type RedriveOptions,
  redrive,
} from '../../../src/replay/redrive.ts';
import { toRecords } from '../../../src/source/kafka/record-batch.ts';
import { redrivenHeaders } from '../../../src/source/kafka/record-headers.ts';
import { createTagger } from '../../../src/tag/tag.ts';

const DAY_MS = 86_400_000;
const NOON = Date.parse('2026-01-02T12:00:00.000Z');
const PLACE = { topic: 'logs', partition: 2 };
const masker = createMasker();
const parser = createParser(
  { maxRecordBytes: 5_000_000, maxAheadMs: 600_000, maxBehindMs: 30 * DAY_MS } as Parameters<typeof createParser>[0],
  { masker },
);

const tag = createTagger();
const documents = createDocumentWriter(parser.time);

/** As a broker hands it over. */
function fetched(
  { key, value, headers }: Pick<Message, 'key' | 'value'> & { headers?: Message['headers'] | undefined },
  offset: number,
  timeMs: number,
): KafkaMessage {
  const bytes = (text: unknown) => Buffer.from(String(text));
  return {
    key: key == null ? null : bytes(key),
    value: value === null ? null : Buffer.isBuffer(value) ? value : bytes(value),
    headers: Object.fromEntries(Object.entries(headers ?? {}).map(([name, text]) => [name, bytes(text)])),
    ...{ offset: String(offset), timestamp: String(timeMs), attributes: 0 },
  } as KafkaMessage;
}

/** Letters as they lie in the topic; closed by `afterAll`. */
function createTopic() {
  let found: Message[] = [];
  const kafka = {
    producer: () => ({
      async connect() {},
      async disconnect() {},
      async send({ messages, topic }: ProducerRecord) {
        found.push(...messages);
        return [{ topicName: topic, partition: 0, errorCode: 0 }];
      },
    }),
    admin: () => ({ async connect() {}, async disconnect() {}, describeConfigs: async () => ({ resources: [] }) }),
  } as unknown as Kafka;
  const sink = createKafkaDeadLetters({ kafka, topic: 'dlq', metrics: createMetrics(), log: silentLog });
  return {
    async written(letter: DeadLetter): Promise<Message> {
      found = [];
      await sink.put([letter], new AbortController().signal);
      return found[0]!;
    },
    close: () => sink.close(),
  };
}

/** Index and id of the record's document. */
function actionOf(record: RawRecord): { index: string; id: string } {
  const result = parser.parse(record);
  if (!result.ok) throw new Error(result.detail);
  const origin = { kind: 'kafka', topic: 'logs', partition: 2 } as const;
  const chunk = { origin, records: [record], bytes: 0, done() {} };
  const batch = new Batch(1_024);
  documents.append(batch, tag(result.event), record, chunk, 0);
  const { index, id } = batch.action(0);
  return { index, id };
}

describe('through the dead letters and back', () => {
  const topic = createTopic();
  afterAll(() => topic.close());

  const arbitraryRecord = fc
    .record({
      // Around the edge of what is believed of an event time, and around midnight.
      eventMs: fc.integer({ min: NOON - 40 * DAY_MS, max: NOON + DAY_MS }),
      hasTime: fc.boolean(),
      eventId: fc.constantFrom(undefined, '01KE70Q0VG0000000000000001'),
      offset: fc.nat(1_000_000),
      timeMs: fc.integer({ min: NOON, max: NOON + DAY_MS }),
      clockErrorMs: fc.constantFrom(undefined, -7_200_000, 45_000_000),
    })
    .map(({ eventMs, hasTime, eventId, clockErrorMs, ...rest }): RawRecord => {
      const sentMs = clockErrorMs === undefined ? eventMs : rest.timeMs - clockErrorMs;
      const time = hasTime ? { timestamp: new Date(sentMs).toISOString() } : {};
      const value = Buffer.from(JSON.stringify({ ...time, level: 'info', message: 'm' }));
      return { ...rest, value, eventId, ...(clockErrorMs === undefined ? {} : { clockErrorMs }) };
    });

  it('a record keeps its id, its first record time and its day, however often and however late it comes back', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryRecord, fc.integer({ min: 1, max: 3 }), fc.nat(60), async (first, times, days) => {
        const origin = { kind: 'kafka', topic: 'logs', partition: 2 } as const;
        const expected = actionOf(first);
        let record = first;
        for (let n = 1; n <= times; n++) {
          const letter = createDeadLetter({ keepRaw: true, file: '' }, masker)(
            record,
            { origin },
            'document_refused',
            'x',
          );
          const message = await topic.written(letter);
          const read = letterOfMessage(fetched(message, n, NOON), 'dlq/0/1')!;
          expect(read).toMatchObject({
            id: expected.id,
            timeMs: first.timeMs,
            offset: record.offset,
            value: first.value,
          });
          expect(read.redriven ?? 0).toBe(n - 1);
          const back = { value: read.value, headers: redrivenHeaders(read) };
          // What the brokers append: a later offset, and the time of now.
          const returnedMs = NOON + (days + n) * DAY_MS;
          const records = toRecords([fetched(back, 2_000_000 + n, returnedMs)], PLACE);
          record = records[0]!;
          expect(record).toMatchObject({ mark: 'redriven', timeMs: returnedMs, redriven: { times: n } });
          expect(firstArrivalMs(record)).toBe(first.timeMs);
          expect(record.clockErrorMs).toBe(first.clockErrorMs);
          expect(record.eventId).toBe(isEventId(expected.id) ? expected.id : undefined);
          expect(actionOf(record)).toEqual(expected);
        }
      }),
      { numRuns: 150 },
    );
  });

  /** What is believed of these headers, of a record that came back at noon, as offset 5. */
  function believed(headers: Record<string, string | Buffer>): RawRecord {
    const record = fetched({ value: '{}', headers: { redriven: '1' } }, 5, NOON);
    for (const [name, text] of Object.entries(headers)) record.headers![name] = Buffer.from(text);
    return toRecords([record], PLACE)[0]!;
  }

  it('headers that nobody can understand are left out, and the record still counts nowhere', () => {
    const headers = { redriven: 'often', 'event-id': 'x'.repeat(600), 'origin-timestamp': '-1', 'clock-error': '1e99' };
    expect(believed(headers)).toEqual({
      ...{ value: Buffer.from('{}'), offset: 5, timeMs: NOON, eventId: undefined, mark: 'redriven' },
      redriven: { firstMs: NOON, times: 1 },
    });
    expect(believed({ redriven: '9'.repeat(16) }).redriven).toEqual({ firstMs: NOON, times: 1_000 });
    expect(believed({ 'clock-error': '0x10' })).not.toHaveProperty('clockErrorMs');
  });

  test.each<[string, number, number]>([
    ['half a year', NOON - 180 * DAY_MS, NOON - 180 * DAY_MS],
    ['longer', NOON - 180 * DAY_MS - 1, NOON],
    ['in 1970', 0, NOON],
    ['by a clock that was ahead, a day later than it came back', NOON + DAY_MS, NOON + DAY_MS],
    ['more than a day later than it came back', NOON + DAY_MS + 1, NOON],
    ['at the end of time', 253_402_300_799_999, NOON],
  ])('a first record time, %s, is believed as far as a redrive may reach back', (_name, claimed, firstMs) => {
    expect(firstArrivalMs(believed({ 'origin-timestamp': String(claimed) }))).toBe(firstMs);
  });

  const short = (ms: number) => ms.toString(36);
  test.each<[string, string | Buffer]>([
    ['an event id', '01KE70Q0VG0000000000000001'],
    ['a line of a file', `${'0123456789abcdef0123'}-77`],
    ['a line of standard input', '0b1c2d3e-0000-4000-8000-0123456789ab-77'],
    ['an earlier record of the partition', `logs-2-4-${short(NOON - 1)}`],
    ['one of the same millisecond', `logs-2-4-${short(NOON)}`],
    ['an earlier one that arrived while the broker’s clock was ahead', `logs-2-4-${short(NOON + 400 * DAY_MS)}`],
    ['one of the topic of this name that was deleted', `logs-2-9000-${short(NOON - DAY_MS)}`],
    ['a record of another topic', `my-old.logs-7-9000-${short(NOON - DAY_MS)}`],
  ])('comes back under its id: %s', (_name, id) => {
    expect(believed({ 'event-id': id }).documentId).toBe(id);
  });

  test.each<[string, string | Buffer]>([
    ['the next record of the partition', `logs-2-6-${short(NOON)}`],
    ['one to come', `logs-2-6-${short(NOON + 1)}`],
    ['its own place', `logs-2-5-${short(NOON)}`],
    ['a record of another partition, which may not be indexed yet', `logs-1-4-${short(NOON - 1)}`],
    ['one to come in another topic', `other-2-6-${short(NOON + 1)}`],
    ['no id at all', 'x'],
    ['a path', '../_doc/1'],
    ['bytes that are no text, three times as long as text', Buffer.alloc(500, 0xff)],
    ['an endless topic', `${'a'.repeat(400)}-0-1-${short(NOON - 1)}`],
  ])('keeps an id of its own when it claims that of %s', (_name, id) => {
    const record = believed({ 'event-id': id });
    expect(record).not.toHaveProperty('documentId');
    expect(actionOf(record).id).toBe(`logs-2-5-${short(NOON)}`);
  });

  const letterWith = (headers: Record<string, string>, line: object) => [
    letterOfMessage(fetched({ value: '{}', headers: { 'origin-offset': '1', ...headers } }, 1, NOON), 'dlq/0/1')!,
    letterOfLine(JSON.stringify({ id: 'x', value: '{}', ...line }), 'file')!,
  ];

  test.each([
    ['Infinity', '+275760-09-13T00:00:00.000Z'],
    ['1e300', '-000001-01-01T00:00:00.000Z'],
    ['-5', 'soon'],
    ['', ''],
    ['253402300800000', '+010000-01-01T00:00:00.000Z'],
  ])('a letter of no time that there can be, %j or %j, has none, and matches no condition by that', (ms, time) => {
    for (const letter of letterWith({ 'origin-timestamp': ms }, { origin: { kind: 'file', offset: 1, time } })) {
      expect(letter.timeMs).toBeNaN();
      expect(parser.parse(recordOfLetter(letter)).ok).toBe(true);
    }
  });

  test.each([
    ['1', 1],
    ['3', 3],
    ['-3', 1_000],
    ['0', 1_000],
    ['', 1_000],
    ['often', 1_000],
    ['Infinity', 1_000],
    ['99999999999999999999', 1_000],
  ])('a letter that came back %j times is taken to have done so %d times', (redriven, times) => {
    const letters = letterWith({ redriven }, { origin: { kind: 'file', offset: 1 }, redriven });
    expect(letters.map((letter) => letter.redriven)).toEqual([times, times]);
    expect(causeToStay({ ...letters[0]!, id: 'x' }, { again: true, maxBytes: 1_000 })).toBe(
      times >= MAX_REDRIVES ? 'redriven_too_often' : undefined,
    );
  });

  it('a letter whose id no document can have is no letter', () => {
    const { value, headers } = { value: '{}', headers: { 'origin-offset': '1', 'event-id': 'é'.repeat(257) } };
    expect(letterOfMessage(fetched({ value, headers }, 1, NOON), 'dlq/0/1')!.id).toBe('');
    const line = { id: 'é'.repeat(257), origin: { kind: 'file', offset: 1 }, value: '{}' };
    expect(letterOfLine(JSON.stringify(line), 'file')!.id).toBe('');
  });
});

describe('receipts', () => {
  const arbitraryRuns = fc.array(
    fc.record({
      part: fc.nat(1),
      startedMs: fc.nat(5),
      runs: fc.array(fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 20 })), { maxLength: 4 }),
    }),
    { maxLength: 12 },
  );

  it('name every letter once, with the first redrive that brought it back, and survive topic and file', () => {
    fc.assert(
      fc.property(arbitraryRuns, (given) => {
        const redriven = createRedrivenLetters();
        const model = new Map<string, number>();
        for (const { part, startedMs, runs } of given) {
          const receipt: Receipt = { startedMs, runs: runs.map(([from, length]) => [from, from + length]) };
          const message = fetched(receiptMessage(receipt), 1, NOON);
          expect(letterOfMessage(message, 'dlq/0/1')).toBeUndefined();
          expect(receiptOfMessage(message, 'dlq/0/1')).toEqual(receipt);
          expect(receiptOfLine(receiptLine(receipt, 'file-1'), 'file-1', 'place')).toEqual(receipt);
          expect(receiptOfLine(receiptLine(receipt, 'file-1'), 'file-2', 'place')).toBeUndefined();
          redriven.add(part, receipt);
          for (const [from, to] of receipt.runs) {
            for (let at = from; at < to; at++) {
              const key = `${part}/${at}`;
              if (!model.has(key)) model.set(key, startedMs);
            }
          }
        }
        for (const part of [0, 1]) {
          for (let at = 0; at < 90; at++) expect(redriven.when(part, at)).toBe(model.get(`${part}/${at}`));
        }
      }),
    );
  });

  it('of one redrive that meet are one run, whatever their number', () => {
    const redriven = createRedrivenLetters();
    for (let from = 0; from < 100_000; from += 500) redriven.add(0, { startedMs: 1, runs: [[from, from + 500]] });
    expect(redriven.runs).toBe(1);
  });

  it('of two redrives that took every other letter in turns are read in no time', () => {
    const redriven = createRedrivenLetters();
    const before = process.cpuUsage();
    for (const startedMs of [1, 2]) {
      for (let from = 0; from < 800_000; from += 1_000) {
        const runs = Array.from({ length: 250 }, (_, i) => from + 4 * i + 2 * (startedMs - 1));
        redriven.add(0, { startedMs, runs: runs.map((at) => [at, at + 1] as const) });
      }
    }
    expect([redriven.when(0, 799_996), redriven.when(0, 799_998), redriven.when(0, 5)]).toEqual([1, 2, undefined]);
    expect(redriven.runs).toBe(400_000);
    // Microseconds. Inserting them one by one takes minutes.
    expect(process.cpuUsage(before).user).toBeLessThan(10_000_000);
  });

  it('of a newer logpipe are not guessed at; what is none is left out', () => {
    const { value, headers } = receiptMessage({ startedMs: 1, runs: [[0, 1]] });
    const newer = fetched({ value, headers: { ...headers, v: '2' } }, 7, NOON);
    expect(() => receiptOfMessage(newer, 'dlq/0/7')).toThrow(/dlq\/0\/7: the receipt of a redrive has format 2/);
    expect(receiptOfMessage(fetched({ value: '[', headers }, 7, NOON), 'dlq/0/7')).toBeUndefined();
    const odd = fetched({ value: '{"startedMs":1,"runs":[[2,1],["a",3],[4,5]]}', headers }, 7, NOON);
    expect(receiptOfMessage(odd, 'dlq/0/7')).toEqual({ startedMs: 1, runs: [[4, 5]] });
  });
});

// ---- the redrive itself, between letters and a log in memory ----

function stored(n: number, overrides: Partial<StoredLetter> = {}): StoredLetter {
  return {
    ...{ id: `id-${n}`, reason: 'document_refused', detail: 'because', value: Buffer.from(`{"n":${n}}`), bytes: 7 },
    ...{ origin: { kind: 'kafka', topic: 'logs', partition: 1 }, offset: n, timeMs: NOON, writtenMs: NOON + n },
    ...overrides,
  };
}

/** Letters of several partitions, what was sent, and receipts as the topic has them. */
function createWorld(parts: readonly (readonly StoredLetter[])[]) {
  const receipts: { part: number; receipt: Receipt }[] = [];
  const log: string[] = [];
  let sends = 0;

  async function run(
    options: Partial<RedriveOptions> & { killAfter?: number; abortAfter?: number; piece?: number } = {},
  ) {
    const { killAfter, abortAfter, piece = 500, ...rest } = options;
    const redriven = createRedrivenLetters();
    for (const { part, receipt } of receipts) redriven.add(part, receipt);
    const ending = new AbortController();
    let sent = 0;
    const dead = () => killAfter !== undefined && sent >= killAfter;
    const back = {
      async send(letters: readonly StoredLetter[]) {
        if (dead()) throw new Error('killed');
        for (const { id } of letters) {
          log.push(id);
          sent += 1;
        }
        sends += 1;
        if (abortAfter !== undefined && sent >= abortAfter) ending.abort();
        return [];
      },
      async confirm(part: number, receipt: Receipt) {
        if (dead()) throw new Error('killed');
        receipts.push({ part, receipt });
      },
    };
    return redrive(
      { selection: { ids: [] }, limit: undefined, again: false, dryRun: false, throttle: 1e9, ...rest },
      {
        redriven,
        async read(take) {
          for (const [part, letters] of parts.entries()) {
            const placed = letters.map((letter, at): PlacedLetter => ({ letter, at, next: at + 1 }));
            for (let at = 0; at < placed.length; at += piece) {
              if (!(await take(placed.slice(at, at + piece), part))) return false;
            }
          }
          return true;
        },
        place: (part) => `dlq/${part}`,
        back: rest.dryRun ? undefined : back,
        ...{ maxBytes: 10_000, yielding: undefined, clock: systemClock },
      },
      ending.signal,
    );
  }

  return { run, log, receipts, sends: () => sends };
}

const numbered = (count: number, from = 0) => Array.from({ length: count }, (_, n) => stored(from + n));

describe('a redrive', () => {
  it('killed wherever it is and run again brings each letter back, one piece at most twice, and then none', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(70), fc.integer({ min: 1, max: 9 }), async (killAfter, piece) => {
        const world = createWorld([numbered(40), numbered(30, 100)]);
        const all = [...numbered(40), ...numbered(30, 100)].map(({ id }) => id);
        await world.run({ killAfter, piece }).catch((error: Error) => expect(error.message).toContain('killed'));
        const first = world.log.length;
        const second = await world.run({ piece });
        expect([...new Set(world.log)].sort()).toEqual(all.sort());
        expect(first + second.redriven - all.length).toBeLessThanOrEqual(piece);
        expect(second.redriven + second.alreadyRedriven).toBe(all.length);
        expect(await world.run({ piece })).toMatchObject({ complete: true, redriven: 0, alreadyRedriven: all.length });
      }),
      { numRuns: 60 },
    );
  });

  it('ended by a signal it leaves a receipt for what it sent, and goes on from there', async () => {
    const world = createWorld([numbered(20)]);
    expect(await world.run({ abortAfter: 1, piece: 5, throttle: 1e9 })).toMatchObject({ complete: false, redriven: 5 });
    expect(await world.run()).toMatchObject({ complete: true, redriven: 15, alreadyRedriven: 5 });
    expect(world.log).toHaveLength(20);
    expect(new Set(world.log).size).toBe(20);
  });

  it('writes nothing in a dry run, and says the same', async () => {
    const letters = [...numbered(3), stored(7, { value: null, reason: 'null_value' })];
    const dry = createWorld([letters]);
    const said = await dry.run({ dryRun: true });
    expect({ log: dry.log, receipts: dry.receipts }).toEqual({ log: [], receipts: [] });
    const { redriven, byReason, stayed } = await createWorld([letters]).run();
    expect(said).toMatchObject({ redriven, byReason, stayed });
    expect({ redriven, byReason, stayed }).toEqual({
      ...{ redriven: 3, byReason: { document_refused: 3 }, stayed: { no_value: 1 } },
    });
  });

  it('leaves what died again after a redrive alone, sends it when somebody insists, and never without end', async () => {
    const letters = [stored(1), stored(2, { redriven: 1 }), stored(3, { redriven: MAX_REDRIVES })];
    const world = createWorld([letters]);
    expect(await world.run()).toMatchObject({
      ...{ redriven: 1, stayed: { redriven_before: 1, redriven_too_often: 1 } },
      examples: [
        { id: 'id-2', cause: 'redriven_before', place: 'dlq/0@1' },
        { id: 'id-3', cause: 'redriven_too_often', place: 'dlq/0@2' },
      ],
    });
    expect(await world.run({ again: true })).toMatchObject({ redriven: 1, stayed: { redriven_too_often: 1 } });
    expect(world.log).toEqual(['id-1', 'id-2']);
  });

  it('takes what is asked for: reason, time, ids, a condition, at most so many; a second letter of a record not at all', async () => {
    const letters = [stored(1), stored(1), stored(2, { reason: 'too_large' }), stored(3), stored(4), stored(5)];
    const chosen = async (selection: Partial<RedriveOptions['selection']>, limit?: number) => {
      const world = createWorld([letters]);
      const summary = await world.run({ selection: { ids: [], ...selection }, limit });
      return [world.log.join(), summary.unknownIds.join(), summary.complete];
    };
    expect(await chosen({})).toEqual(['id-1,id-2,id-3,id-4,id-5', '', true]);
    expect(await chosen({ reason: 'too_large' })).toEqual(['id-2', '', true]);
    expect(await chosen({ sinceMs: NOON + 3, untilMs: NOON + 5 })).toEqual(['id-3,id-4', '', true]);
    expect(await chosen({ ids: ['id-4', 'id-9'] })).toEqual(['id-4', 'id-9', true]);
    expect(await chosen({ matches: ({ offset }) => offset % 2 === 1 })).toEqual(['id-1,id-3,id-5', '', true]);
    expect(await chosen({}, 2)).toEqual(['id-1,id-2', '', true]);
  });

  it('says how far it came when records can no longer be sent', async () => {
    const world = createWorld([numbered(4)]);
    const failing = world.run({ piece: 2, killAfter: 100 });
    await expect(failing).resolves.toMatchObject({ redriven: 4 });
    const letters = numbered(1_100);
    const sent: string[] = [];
    const receipts: Receipt[] = [];
    const back = {
      async send(some: readonly StoredLetter[]) {
        if (sent.length >= 500) throw new LogpipeError('LOGPIPE_KAFKA_UNREACHABLE', 'kafka.brokers: gone');
        sent.push(...some.map(({ id }) => id));
        return [];
      },
      async confirm(_part: number, receipt: Receipt) {
        receipts.push(receipt);
      },
    };
    const redriven = redrive(
      { selection: { ids: [] }, limit: undefined, again: false, dryRun: false, throttle: 4_000 },
      {
        ...{ redriven: createRedrivenLetters(), maxBytes: 1e6, yielding: undefined, clock: systemClock, back },
        read: (take) =>
          take(
            letters.map((letter, at) => ({ letter, at, next: at + 1 })),
            0,
          ),
        place: () => 'dlq/0',
      },
      new AbortController().signal,
    );
    await expect(redriven).rejects.toMatchObject({
      code: 'LOGPIPE_KAFKA_UNREACHABLE',
      message: expect.stringMatching(/gone\. (\d+) letters had been redriven; the same command goes on/) as string,
    });
    expect(receipts.flatMap(({ runs }) => runs)).toEqual([[0, sent.length]]);
  });

  it('waits while live indexing needs it to', async () => {
    const world: string[] = [];
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const running = redrive(
      { selection: { ids: [] }, limit: undefined, again: false, dryRun: false, throttle: 1e9 },
      {
        ...{ redriven: createRedrivenLetters(), maxBytes: 1e6, clock: systemClock, place: () => 'dlq/0' },
        back: {
          async send(some) {
            world.push(...some.map(({ id }) => id));
            return [];
          },
          async confirm() {},
        },
        yielding: {
          pass: () => gate,
          seen: () => ({ maxLiveLag: 9, heldMs: 0, held: true }),
          async close() {},
        },
        read: (take) => take([{ letter: stored(1), at: 0, next: 1 }], 0),
      },
      new AbortController().signal,
    );
    await new Promise(setImmediate);
    expect(world).toEqual([]);
    open();
    expect(await running).toMatchObject({ redriven: 1, live: { maxLiveLag: 9 } });
  });
});

test.each<[string, Partial<StoredLetter>]>([
  ['cut', { sha256: 'ab' }],
  ['no_value', { value: null }],
  ['no_value', { value: Buffer.alloc(0) }],
  ['no_value', { value: Buffer.from('  '), reason: 'empty_value' }],
  ['whole_batch', { value: null, reason: 'batch_undecodable' }],
  ['whole_batch', { value: null, reason: 'batch_too_large' }],
  ['not_a_letter', { id: '' }],
  ['not_a_letter', { offset: Number.NaN }],
  ['too_large', { value: Buffer.alloc(10_000) }],
  ['redriven_before', { redriven: 1 }],
  ['redriven_too_often', { redriven: 9 }],
])('stays, %s: %o', (cause, overrides) => {
  expect(causeToStay(stored(1, overrides), { again: false, maxBytes: 10_000 })).toBe(cause);
  expect(causeToStay(undefined, { again: false, maxBytes: 10_000 })).toBe('not_a_letter');
  expect(causeToStay(stored(1), { again: false, maxBytes: 10_000 })).toBeUndefined();
});
