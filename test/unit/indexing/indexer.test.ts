// The indexer against stages that fail in every way and sinks that answer late: each record is acknowledged once, when it is
// safe and not before; nothing a record causes stops the ones behind it.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import type { Chunk, DeadLetter, RawRecord } from '../../../src/core/record.ts';
import { apart } from '../../../src/indexing/batch.ts';
import type { BulkConfig } from '../../../src/indexing/bulk-writer.ts';
import { createIndexer, type IndexerDeps } from '../../../src/indexing/indexer.ts';
import type { SetAside, Sink } from '../../../src/indexing/sinks.ts';
import type { ParsedEvent, ParseResult } from '../../../src/parse/parse.ts';
import type { TaggedEvent } from '../../../src/tag/tag.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';

const CONFIG: BulkConfig = {
  maxBytes: 1_000_000,
  maxDocuments: 5,
  maxDelayMs: 1_000,
  concurrency: 2,
  maxInFlightBytes: 1_000_000,
  backoffMs: 1,
  maxBackoffMs: 1,
  maxRejectionsPerMinute: 1_000,
};

/** What a record does to the stages; the first letter of its value. */
const KINDS = {
  good: 'g',
  refused: 'r',
  parserThrows: 'p',
  tagThrows: 't',
  documentThrows: 'd',
  maskThrows: 'm',
  letterThrows: 'l',
  throwsNoError: 'n',
} as const;
type Kind = keyof typeof KINDS;

interface Options {
  readonly config?: Partial<BulkConfig>;
  readonly sinks?: readonly Sink[];
  readonly put?: (letter: DeadLetter) => Promise<void>;
}

function rig(options: Options = {}) {
  const clock = createFakeClock();
  const metrics = createMetrics();
  const letters: DeadLetter[] = [];
  const logged: string[] = [];
  const kindOf = (record: RawRecord) => record.value?.toString().charAt(0);
  const hostile = Object.create(null) as unknown;
  const deps: IndexerDeps = {
    parser: {
      reparse: (): never => {
        throw new Error('no document of this test is refused');
      },
      parse(record): ParseResult {
        const kind = kindOf(record);
        if (kind === KINDS.parserThrows || kind === KINDS.maskThrows) throw new RangeError('Maximum call stack');
        if (kind === KINDS.throwsNoError) throw hostile;
        if (kind === KINDS.refused || kind === KINDS.letterThrows) {
          return { ok: false, reason: 'empty_value', detail: 'nothing in it' };
        }
        const event = { doc: {}, verbatim: true, timeMs: 0, timeText: undefined, tags: [] } as ParsedEvent;
        return { ok: true, event: Object.assign(event, { record }) };
      },
      degrade() {
        throw new RangeError('Maximum call stack');
      },
      time: {} as never,
    },
    tag(event) {
      if (kindOf((event as unknown as { record: RawRecord }).record) === KINDS.tagThrows) throw new TypeError('tag');
      return event as TaggedEvent;
    },
    documents: {
      append(batch, _, record, chunk, position) {
        if (kindOf(record) === KINDS.documentThrows) throw new RangeError('Maximum call stack');
        batch.add(chunk, position, '{"create":{"_index":"i","_id":"x"}}', '{"m":', Buffer.from('{1}'));
      },
      rewrite: () => Buffer.alloc(0),
    },
    sinks: options.sinks ?? [{ name: 'quick', async write() {}, async close() {} } as unknown as Sink],
    deadLetters: {
      async put([letter]) {
        await options.put?.(letter!);
        letters.push(letter!);
      },
      async close() {},
    },
    toDeadLetter(record, chunk, reason, detail) {
      if (kindOf(record) === KINDS.maskThrows) throw new RangeError('Maximum call stack size exceeded');
      return {
        ...{ reason, detail, value: record.value, origin: chunk.origin },
        ...{ offset: record.offset, timeMs: record.timeMs, id: `id${record.offset}` },
      };
    },
    metrics,
    log: { ...silentLog, error: (text) => void logged.push(text) },
    clock,
  };
  const indexer = createIndexer({ ...CONFIG, ...options.config }, deps);
  let offset = 0;
  function chunkOf(kinds: readonly Kind[], partition = 0, timeMs = 0) {
    const records: RawRecord[] = kinds.map((kind) => ({
      value: Buffer.from(`${KINDS[kind]} value`),
      offset: offset++,
      timeMs,
      eventId: undefined,
    }));
    const state = { acknowledged: 0 };
    const chunk: Chunk = {
      origin: { kind: 'kafka', topic: 't', partition },
      records,
      bytes: records.length * 7,
      done(count) {
        state.acknowledged += count;
      },
    };
    return { chunk, state };
  }
  function deliver(kinds: readonly Kind[], partition = 0, timeMs = 0) {
    const { chunk, state } = chunkOf(kinds, partition, timeMs);
    const taken = { accepted: false };
    void indexer.accept(chunk).then(() => {
      taken.accepted = true;
    });
    return Object.assign(state, { taken });
  }
  return { indexer, clock, metrics, letters, logged, deliver };
}

it('what dies again after a redrive counts apart, and a letter without its value knows it too', async () => {
  const { indexer, metrics, letters } = rig();
  const record = (value: string, redriven?: RawRecord['redriven']): RawRecord => ({
    ...{ value: Buffer.from(value), offset: 7, timeMs: 9_000, eventId: undefined, documentId: 'origin-id' },
    ...(redriven === undefined ? {} : { redriven, mark: 'redriven', clockErrorMs: 5_000 }),
  });
  const records = [
    record('r first'),
    record('r again', { firstMs: 1, times: 2 }),
    record('m', { firstMs: 1, times: 2 }),
  ];
  const origin = { kind: 'kafka', topic: 't', partition: 0 } as const;
  void indexer.accept({ origin, records, bytes: 0, done() {} });
  expect(await indexer.drain(1_000)).toBe(true);
  const count = async (name: 'deadLettered' | 'diedAgain') =>
    Object.fromEntries((await metrics[name].get()).values.map(({ labels, value }) => [labels.reason, value]));
  expect(await count('deadLettered')).toEqual({ empty_value: 1 });
  expect(await count('diedAgain')).toEqual({ empty_value: 1, processing_failed: 1 });
  expect(letters.at(-1)).toMatchObject({
    ...{ value: null, id: 'origin-id', timeMs: 1, redriven: 2, clockErrorMs: 5_000, offset: 7 },
  });
});

/** A sink whose writes end when told to, with the named positions set aside. */
function lateSink(name: string) {
  const writes: { count: number; end: (positions?: readonly number[]) => (() => void)[] }[] = [];
  const sink: Sink = {
    name,
    write: (batch) =>
      new Promise((resolve) => {
        writes.push({
          count: batch.count,
          end(positions = []) {
            const ends: (() => void)[] = [];
            const waiting: SetAside[] = positions.map((position) => ({
              position,
              item: apart(batch.source(position)),
              settled: new Promise((settle) => ends.push(settle)),
            }));
            resolve(waiting);
            return ends;
          },
        });
      }),
    async close() {},
  };
  return { sink, writes };
}

it('whatever fails, and in whatever order sinks and dead letters answer: once each, and not before it is safe', async () => {
  const kind = fc.constantFrom(...(Object.keys(KINDS) as Kind[]));
  const plan = fc.record({
    chunks: fc.array(fc.array(kind, { maxLength: 12 }), { minLength: 1, maxLength: 6 }),
    order: fc.array(fc.nat(), { minLength: 300, maxLength: 300 }),
    aside: fc.array(fc.nat({ max: 6 }), { minLength: 40, maxLength: 40 }),
  });
  await fc.assert(
    fc.asyncProperty(plan, async ({ chunks, order, aside }) => {
      const one = lateSink('one');
      const two = lateSink('two');
      const pending: (() => void)[] = [];
      let failures = 0;
      const { indexer, clock, letters, deliver } = rig({
        sinks: [one.sink, two.sink],
        put: (letter) =>
          new Promise((resolve, reject) =>
            pending.push(() => {
              const cannot = letter.value?.toString().startsWith(KINDS.letterThrows) === true;
              if (cannot) failures += 1;
              if (cannot) reject(new Error('Invalid string length'));
              else resolve();
            }),
          ),
      });
      const total = chunks.reduce((sum, kinds) => sum + kinds.length, 0);
      const delivered = chunks.map((kinds, i) => deliver(kinds, i % 2));
      const acknowledged = () => delivered.reduce((sum, state) => sum + state.acknowledged, 0);
      let drained: boolean | undefined;
      const draining = indexer.drain(Number.POSITIVE_INFINITY).then((all) => {
        drained = all;
      });
      let asked = 0;
      for (let step = 0; acknowledged() < total; step++) {
        await settled();
        for (const { writes } of [one, two]) {
          for (const { count, end } of writes.splice(0)) {
            const positions = [...Array(count).keys()].filter((i) => i < aside[asked % aside.length]! % 4);
            asked += 1;
            pending.push(() => pending.push(...end(positions)));
          }
        }
        expect(step).toBeLessThan(2_000);
        if (acknowledged() < total) expect(drained).toBe(undefined);
        if (pending.length === 0) await clock.advance(CONFIG.maxDelayMs);
        else pending.splice(order[step % order.length]! % pending.length, 1)[0]!();
      }
      await draining;
      expect(drained).toBe(true);
      expect(delivered.map((state) => state.acknowledged)).toEqual(chunks.map((kinds) => kinds.length));
      expect(indexer.inFlightBytes()).toBe(0);
      const all = chunks.flat();
      const bad = all.filter((one) => one !== 'good');
      expect(letters).toHaveLength(bad.length);
      expect(failures).toBe(all.filter((one) => one === 'letterThrows').length);
      const bare = letters.filter(({ value }) => value === null);
      expect(bare).toHaveLength(all.filter((one) => one === 'maskThrows' || one === 'letterThrows').length);
      for (const letter of bare) expect(letter.detail).toContain('left out');
    }),
    { numRuns: 60 },
  );
});

describe('drain', () => {
  it('is false while a record waits, also when asked again after its deadline', async () => {
    const late = lateSink('late');
    const { indexer, deliver } = rig({ sinks: [late.sink] });
    const state = deliver(['good', 'good', 'good']);
    const first = indexer.drain(50);
    await settled();
    const [end] = late.writes[0]!.end([1]);
    expect(await first).toBe(false);
    expect(state.acknowledged).toBe(2);
    const second = indexer.drain(10);
    expect(await second).toBe(false);
    end!();
    await settled();
  });

  it('is false when a record was given up', async () => {
    const sink: Sink = {
      name: 'giving up',
      write: (_, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
      async close() {},
    };
    const { indexer, deliver } = rig({ sinks: [sink] });
    deliver(['good']);
    expect(await indexer.drain(10)).toBe(false);
    expect(await indexer.drain(Number.POSITIVE_INFINITY)).toBe(false);
    await settled();
    expect(await indexer.drain(Number.POSITIVE_INFINITY)).toBe(false);
  });
});

it('a batch whose first record cannot be written is sent in time all the same', async () => {
  const late = lateSink('late');
  const { clock, deliver } = rig({ sinks: [late.sink] });
  deliver(['documentThrows']);
  await clock.advance(CONFIG.maxDelayMs + 1);
  deliver(['good']);
  await clock.advance(CONFIG.maxDelayMs - 1);
  expect(late.writes).toHaveLength(0);
  await clock.advance(1);
  expect(late.writes.map(({ count }) => count)).toEqual([1]);
});

it('a record is not acknowledged before its dead letter is durable', async () => {
  let durable = () => {};
  const { indexer, deliver } = rig({
    put: () =>
      new Promise((resolve) => {
        durable = resolve;
      }),
  });
  const state = deliver(['refused']);
  await settled();
  expect([state.acknowledged, indexer.inFlightBytes() > 0]).toEqual([0, true]);
  durable();
  await settled();
  expect([state.acknowledged, indexer.inFlightBytes()]).toEqual([1, 0]);
});

describe('what was set aside', () => {
  const MINUTE = 60_000;

  it('lets the others go on, until it holds a quarter of the bytes in flight', async () => {
    const late = lateSink('late');
    const { indexer, deliver, metrics } = rig({ sinks: [late.sink], config: { maxInFlightBytes: 8_000 } });
    const ends: (() => void)[] = [];
    const paused = async () => (await metrics.paused.get()).values.find(({ labels }) => labels.reason === 'set_aside');
    // 263 bytes each: seven are less than a quarter, eight are more.
    for (let i = 0; i < 7; i++) {
      const state = deliver(Array(5).fill('good'));
      await settled();
      ends.push(...late.writes.shift()!.end([0]));
      await settled();
      expect([state.taken.accepted, state.acknowledged]).toEqual([true, 4]);
    }
    expect([indexer.trouble(), indexer.inFlightBytes()]).toEqual([undefined, 7 * 263]);
    deliver(Array(5).fill('good'));
    await settled();
    ends.push(...late.writes.shift()!.end([0]));
    await settled();
    const held = deliver(Array(5).fill('good'));
    await settled();
    const pauses = expect.stringMatching(/^the intake pauses/);
    expect([held.taken.accepted, indexer.trouble(), (await paused())?.value]).toEqual([false, pauses, 1]);
    ends[3]!();
    await settled();
    expect([held.taken.accepted, indexer.trouble(), (await paused())?.value]).toEqual([true, undefined, 0]);
  });

  it('lets the others go on for a quarter of an hour of its partition’s log', async () => {
    const late = lateSink('late');
    const { deliver } = rig({ sinks: [late.sink] });
    deliver(Array(5).fill('good'), 0, 100 * MINUTE);
    await settled();
    const [end] = late.writes.shift()!.end([0]);
    await settled();
    const steps: [partition: number, minutes: number, accepted: boolean][] = [
      [0, 115, true],
      [1, 200, true],
      [0, 116, false],
    ];
    let last: ReturnType<typeof deliver> | undefined;
    for (const [partition, minutes, accepted] of steps) {
      last = deliver(Array(5).fill('good'), partition, minutes * MINUTE);
      await settled();
      late.writes.shift()!.end();
      await settled();
      expect(last.taken.accepted).toBe(accepted);
    }
    end!();
    await settled();
    expect(last!.taken.accepted).toBe(true);
  });

  it('keeps no more than its own bytes', async () => {
    const late = lateSink('late');
    const { indexer, letters } = rig({ sinks: [late.sink] });
    const fetched = Buffer.alloc(1_000_000, 114);
    const record: RawRecord = { value: fetched.subarray(0, 10), offset: 0, timeMs: 0, eventId: undefined };
    const origin = { kind: 'kafka', topic: 't', partition: 0 } as const;
    void indexer.accept({ origin, records: [record], bytes: 10, done() {} });
    await settled();
    expect(letters[0]!.value).toEqual(record.value);
    expect(letters[0]!.value!.buffer).not.toBe(fetched.buffer);
  });
});

it('a source that refuses an acknowledgement is told of no other record twice', async () => {
  const { indexer, clock } = rig();
  const records: RawRecord[] = [0, 1].map((offset) => ({
    value: Buffer.from('g'),
    offset,
    timeMs: 0,
    eventId: undefined,
  }));
  const origin = { kind: 'kafka', topic: 't', partition: 0 } as const;
  let calls = 0;
  const done = () => {
    calls += 1;
    throw new RangeError('only 0 are open');
  };
  await indexer.accept({ origin, records, bytes: 2, done });
  await clock.advance(CONFIG.maxDelayMs);
  expect([calls, indexer.inFlightBytes()]).toEqual([1, 0]);
});

it('who watches is shown each batch when the sinks are done with it, and cannot disturb it', async () => {
  const late = lateSink('late');
  const { indexer, clock, deliver, logged } = rig({ sinks: [late.sink] });
  const shown: number[] = [];
  const look = (batch: { readonly count: number }) => void shown.push(batch.count);
  const deliverAndWrite = async () => {
    const state = deliver(['good', 'good']);
    await clock.advance(CONFIG.maxDelayMs);
    const before = shown.length;
    await settled();
    expect(shown).toHaveLength(before);
    late.writes.pop()!.end([]);
    await settled();
    expect(state.acknowledged).toBe(2);
  };
  indexer.showTo(look);
  await deliverAndWrite();
  expect(shown).toEqual([2]);
  indexer.showTo(() => {
    throw new Error('cannot look');
  });
  await deliverAndWrite();
  await deliverAndWrite();
  expect(logged).toEqual(['Who watches what is indexed has failed, and is shown no more']);
  indexer.showTo(look);
  await deliverAndWrite();
  indexer.showTo(undefined);
  await deliverAndWrite();
  expect(shown).toEqual([2, 2]);
});
