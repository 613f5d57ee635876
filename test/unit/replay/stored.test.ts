// Stored records as one stream in order of arrival: from a source at hand and from files.
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import type { RawRecord } from '../../../src/core/record.ts';
import type { StoredSource } from '../../../src/replay/sources.ts';
import {
  inOrderOfArrival,
  mergeByArrival,
  openByArrival,
  openSource,
  type StoredRecord,
} from '../../../src/replay/stored.ts';

const quiet = { error() {}, warn() {}, info() {}, debug() {} };
const record = (timeMs: number): RawRecord => ({ value: Buffer.alloc(10), offset: timeMs, timeMs, eventId: undefined });

describe('a source', () => {
  /** Each part's batches, one record each; `taken` is told how many of a part it got rid of. */
  const source = (parts: Record<string, readonly number[]>, taken: Record<string, number> = {}, failAfter?: number) =>
    ({
      kind: 'kafka',
      plan: async () => ({
        parts: Object.keys(parts).map((part) => ({ part, from: 0, to: undefined, records: undefined })),
        ...{ records: undefined, bytes: undefined, gaps: ['planned'] },
      }),
      missing: () => ['missed'],
      async feed(_from, signal, take, onEnd) {
        await Promise.all(
          Object.entries(parts).map(async ([part, times]) => {
            for (const [n, timeMs] of times.entries()) {
              if (n === failAfter) throw new Error('the source broke');
              const origin = () => ({ kind: 'kafka', topic: 't', partition: Number(part) }) as const;
              if (signal.aborted || !(await take({ part, records: [record(timeMs)], origin, next: n + 1 }))) return;
              taken[part] = n + 1;
            }
            onEnd?.(part);
          }),
        );
      },
    }) satisfies StoredSource;

  it('is given in order over its parts, also where one has ended or never had anything', async () => {
    const found: StoredRecord[] = [];
    const arrivals = await inOrderOfArrival(source({ 0: [1, 4, 9], 1: [], 2: [2, 3], 3: [7] }), 1);
    for await (const batch of arrivals.batches) found.push(...batch);
    // As the live pipeline names them, so that a sample decides alike.
    expect(found[1]!.documentId).toBe('t-2-2-2');
    expect(found.map(({ arrivalMs, partition }) => `${arrivalMs} of ${partition}`)).toEqual([
      ...['1 of 0', '2 of 2', '3 of 2', '4 of 0', '7 of 3', '9 of 0'],
    ]);
    expect(arrivals.gaps()).toEqual(['planned', 'missed']);
    await arrivals.close();
  });

  it('is held back while its records are not taken, and ended with the loop', async () => {
    const times = Array.from({ length: 1_000 }, (_, i) => i);
    const taken: Record<string, number> = {};
    const arrivals = await inOrderOfArrival(source({ 0: times, 1: [5_000] }, taken), 1_000);
    let given = 0;
    for await (const batch of arrivals.batches) {
      given += batch.length;
      // Room for 1,000 bytes and what was just taken over.
      expect(taken[0]! - given).toBeLessThanOrEqual(2 * 4);
      if (given >= 20) break;
    }
    expect(taken[0]).toBeLessThan(100);
    await arrivals.close();
  });

  it('that breaks breaks the loop', async () => {
    const arrivals = await inOrderOfArrival(source({ 0: [1, 2, 3], 1: [1, 2, 3] }, {}, 2));
    const all = async () => {
      for await (const _ of arrivals.batches);
    };
    await expect(all()).rejects.toThrow('the source broke');
  });
});

describe('files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-stored-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const write = (name: string, ...lines: (object | string)[]): string => {
    const path = join(folder, name);
    const text = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n');
    writeFileSync(path, name.endsWith('.gz') ? gzipSync(text) : text);
    utimesSync(path, 1_800_000_000, 1_800_000_000);
    return path;
  };
  const RANGE = { fromMs: 0, toMs: Date.parse('2027-01-01') };
  const at = (second: number) => `2026-01-05T10:00:${String(second).padStart(2, '0')}.000Z`;
  const stores = { kafka: {} as never, elasticsearch: {} as never };
  const arrived = async (...files: string[]) => {
    const all: StoredRecord[] = [];
    const { batches } = await openByArrival('file', stores, { files, range: RANGE, purpose: 'x' }, quiet);
    for await (const batch of batches) all.push(...batch);
    return all;
  };
  const replayed = async (...files: string[]) => {
    const all: RawRecord[] = [];
    const options = { files, range: undefined, latenessMs: 0, aheadMs: 0, purpose: 'x', freshTags: true } as const;
    const source = openSource('file', stores, { ...options, order: 'any' }, quiet);
    await source.feed(new Map(), new AbortController().signal, async ({ records }) => all.push(...records) > 0);
    return all;
  };

  it('are read side by side, in order of their times; one that stands there twice once', async () => {
    const one = write('one.log.gz', ...[1, 3, 5].map((s) => ({ timestamp: at(s), message: `${s}` })));
    const other = write('other.log', ...[2, 4].map((s) => ({ timestamp: at(s), message: `${s}` })), '', '  ');
    const found = await arrived(one, other, one);
    expect(found.map(({ value }) => (JSON.parse(String(value)) as { message: string }).message)).toEqual([
      ...['1', '2', '3', '4', '5'],
    ]);
    expect((await replayed(one, other)).map(({ timeMs }) => new Date(timeMs).toISOString())).toEqual(
      [1, 3, 5, 2, 4].map(at),
    );
  });

  it('a line that tells no time arrived with the one before it; replayed it has the time of the file', async () => {
    const path = write('stack.log', 'first', { timestamp: at(7), message: 'm' }, '  at f (a.js:1)', { message: 'n' });
    const seventh = Date.parse(at(7));
    expect((await arrived(path)).map(({ arrivalMs }) => arrivalMs)).toEqual([0, seventh, seventh, seventh]);
    expect((await replayed(path)).map(({ timeMs }) => timeMs)).toEqual([1.8e12, seventh, 1.8e12, 1.8e12]);
  });

  it('hold documents in every form: the same records to a replay and to a backtest, which counts them', async () => {
    const own = { level: 'info', message: 'm', tags: ['mine', '_time_out_of_range', '_event_invalid'] };
    const kafka = { topic: 'logs', partition: 2, offset: 9 };
    const path = write(
      'documents.ndjson',
      // `incident export`, `--to-dir`, elasticdump, and what a file became.
      { '@timestamp': at(1), timestamp: '1999-01-01T00:00:00Z', ...own, kafka },
      { _id: 'a', '@timestamp': at(2), timestamp: at(2), ...own, kafka },
      { _id: 'b', _index: 'x', _source: { '@timestamp': Date.parse(at(3)), timestamp: at(3), ...own, kafka } },
      { '@timestamp': at(4), timestamp: '1999-01-01T00:00:00Z', ...own },
    );
    const [counted, again] = [await arrived(path), await replayed(path)];
    expect(counted.map(({ value }) => String(value))).toEqual(again.map(({ value }) => String(value)));
    expect(counted.map(({ arrivalMs }) => new Date(arrivalMs).toISOString())).toEqual([1, 2, 3, 4].map(at));
    expect(counted.map(({ partition, mark }) => [partition, mark])).toEqual([2, 2, 2, 0].map((p) => [p, undefined]));
    for (const { value } of counted) {
      const { tags, kafka: place, '@timestamp': time } = JSON.parse(String(value)) as Record<string, unknown>;
      expect({ tags, place, time }).toEqual({
        tags: ['mine', '_time_out_of_range'],
        place: undefined,
        time: undefined,
      });
    }
    expect(again.map(({ mark }) => mark)).toEqual(Array(4).fill('replayed'));
  });
});

describe('merging', () => {
  interface Item {
    readonly arrivalMs: number;
    readonly stream: number;
    readonly n: number;
  }

  it('gives everything once and in order, and holds at most one batch of each stream', async () => {
    const streams = fc.array(fc.array(fc.nat({ max: 50 }), { maxLength: 60 }), { maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(streams, fc.integer({ min: 1, max: 9 }), async (times, size) => {
        const all = times.map((list, stream) => list.map((arrivalMs, n): Item => ({ arrivalMs, stream, n })));
        const taken = all.map(() => 0);
        const given = all.map(() => 0);
        let mostHeld = 0;
        async function* open(list: readonly Item[], stream: number): AsyncGenerator<readonly Item[]> {
          for (let i = 0; i < list.length; i += size) {
            const batch = list.slice(i, i + size);
            taken[stream]! += batch.length;
            // Only when what came before has been taken over.
            mostHeld = Math.max(mostHeld, taken[stream]! - given[stream]!);
            if (i % 2 === 0) await Promise.resolve();
            yield batch;
          }
        }
        const merged: Item[] = [];
        for await (const batch of mergeByArrival(all.map(open))) {
          for (const item of batch) given[item.stream]! += 1;
          merged.push(...batch);
        }
        expect(mostHeld).toBeLessThanOrEqual(size);
        // What is sorted stays sorted; what goes back in time counts as standing still.
        const effective = all.map((list) => {
          let newest = 0;
          return list.map(({ arrivalMs }) => {
            newest = Math.max(newest, arrivalMs);
            return newest;
          });
        });
        const expected = all
          .flat()
          .map((item) => ({ item, at: effective[item.stream]![item.n]! }))
          .sort((a, b) => a.at - b.at || a.item.stream - b.item.stream || a.item.n - b.item.n)
          .map(({ item }) => item);
        expect(merged).toEqual(expected);
      }),
    );
  });

  it('passes a failure of one stream on', async () => {
    async function* broken(): AsyncGenerator<readonly Item[]> {
      yield [{ arrivalMs: 1, stream: 0, n: 0 }];
      throw new Error('gone');
    }
    async function* one(item: Item): AsyncGenerator<readonly Item[]> {
      yield [item];
    }
    const read = async () => {
      for await (const batch of mergeByArrival([broken(), one({ arrivalMs: 5, stream: 1, n: 0 })])) void batch;
    };
    await expect(read()).rejects.toThrow('gone');
  });
});
