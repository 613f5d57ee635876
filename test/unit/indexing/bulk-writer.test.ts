// The bulk writer against a scripted Elasticsearch and a clock that stands still: what waits, for how long, what is said of it,
// and what is never given up.
import { describe, expect, it } from 'vitest';
import type { Log } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import type { Chunk, RawRecord, RecordMark } from '../../../src/core/record.ts';
import { Batch, type BatchItem } from '../../../src/indexing/batch.ts';
import { type BulkConfig, createBulkWriter } from '../../../src/indexing/bulk-writer.ts';
import type { BulkReply } from '../../../src/indexing/elasticsearch.ts';
import { type BulkItem, refusalKind } from '../../../src/indexing/outcome.ts';
import type { SetAside } from '../../../src/indexing/sinks.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';

const CONFIG: BulkConfig = {
  maxBytes: 1_000_000,
  maxDocuments: 1_000,
  maxDelayMs: 1_000,
  concurrency: 1,
  maxInFlightBytes: 6_000_000,
  backoffMs: 200,
  maxBackoffMs: 30_000,
  maxRejectionsPerMinute: 1_000,
};
const TODAY = 'calling-platform-2026.11.24';
const OLD = 'calling-platform-2026.11.01';
const strict: BulkItem = {
  status: 400,
  error: {
    type: 'strict_dynamic_mapping_exception',
    reason: '[1:6] mapping set to strict, dynamic introduction of [x]',
  },
};
const blocked: BulkItem = { status: 403, error: { type: 'cluster_block_exception', reason: 'index write (api)' } };
const ok: BulkItem = { status: 201 };

/** One request as the server sees it. */
interface Seen {
  readonly index: string;
  readonly id: string;
}

type Answer = (item: Seen) => BulkItem;

interface Options {
  readonly config?: Partial<BulkConfig>;
  readonly answer?: Answer;
  readonly degrade?: (item: BatchItem) => Buffer | undefined;
}

function rig(options: Options = {}) {
  const clock = createFakeClock();
  const metrics = createMetrics();
  const said: string[] = [];
  const say =
    (level: string) =>
    (message: string): void => {
      said.push(`${level} ${message}`);
    };
  const log: Log = { error: say('error'), warn: say('warn'), info: say('info'), debug() {} };
  const requests: { atMs: number; items: Seen[]; body: string }[] = [];
  const letters: { id: string; settle: () => void }[] = [];
  const rules: { reply?: (() => BulkReply) | undefined; answer: Answer; durable: boolean } = {
    answer: options.answer ?? (() => ok),
    durable: true,
  };
  const started = clock.now();
  const stop = new AbortController();
  const writer = createBulkWriter(
    { ...CONFIG, ...options.config },
    {
      async send(body) {
        const lines = body.toString().split('\n');
        const items = lines.flatMap((line, i) => {
          if (i % 2 === 1 || line === '') return [];
          const { create } = JSON.parse(line) as { create: { _index: string; _id: string } };
          return [{ index: create._index, id: create._id }];
        });
        requests.push({ atMs: clock.now() - started, items, body: body.toString() });
        return rules.reply?.() ?? { status: 200, detail: '', items: items.map(rules.answer) };
      },
      degrade: options.degrade ?? (() => undefined),
      deadLetter: ({ record }) =>
        new Promise<void>((settle) => {
          letters.push({ id: `n${record.offset}`, settle });
          if (rules.durable) settle();
        }),
      metrics,
      log,
      clock,
      random: () => 1,
    },
  );
  let next = 0;
  /** Writes documents for these indices as one batch; `open` is how many of them are not settled. */
  function write(indices: readonly string[], mark?: RecordMark) {
    const batch = new Batch(1_000);
    const records: RawRecord[] = [];
    const chunk: Chunk = { origin: { kind: 'kafka', topic: 't', partition: 0 }, records, bytes: 0, done() {} };
    for (const index of indices) {
      const offset = next++;
      const plain: RawRecord = { value: Buffer.from('{}'), offset, timeMs: 0, eventId: undefined };
      const record = mark === undefined ? plain : { ...plain, mark };
      const action = `{"create":{"_index":"${index}","_id":"n${offset}"}}`;
      batch.add(chunk, records.push(record) - 1, action, '{"m":1', Buffer.from('{}'));
    }
    const state = { written: false, open: indices.length };
    void writer.write(batch, stop.signal).then(
      (waiting: readonly SetAside[]) => {
        // As the pipeline does with a batch that is written.
        batch.clear();
        batch.buffer.fill(120);
        state.written = true;
        state.open = waiting.length;
        for (const one of waiting) one.settled.then(() => (state.open -= 1)).catch(() => {});
      },
      () => {},
    );
    return state;
  }
  return { write, writer, clock, metrics, said, requests, letters, rules, stop };
}

async function pausedOf(metrics: ReturnType<typeof createMetrics>, reason: string): Promise<number | undefined> {
  return (await metrics.paused.get()).values.find(({ labels }) => labels.reason === reason)?.value;
}

describe('waits grow', () => {
  it('for the path: doubled each time up to the longest, and from the beginning after an answer', async () => {
    const { write, clock, requests, rules, said, metrics, writer } = rig({ config: { maxBackoffMs: 3_000 } });
    const down: BulkReply = { status: 503, items: [], detail: 'busy' };
    rules.reply = () => down;
    const batch = write([TODAY]);
    await clock.advance(12_000);
    expect(requests.map(({ atMs }) => atMs)).toEqual([0, 200, 600, 1_400, 3_000, 6_000, 9_000, 12_000]);
    expect([writer.trouble(), await pausedOf(metrics, 'server_error')]).toEqual(['server_error', 1]);
    rules.reply = undefined;
    await clock.advance(3_000);
    expect([batch.written, batch.open, writer.trouble()]).toEqual([true, 0, undefined]);
    expect(said).toEqual([
      'warn Elasticsearch: server_error; documents are kept and sent again',
      'info Elasticsearch: recovered from server_error',
    ]);
    expect(await pausedOf(metrics, 'server_error')).toBe(0);
  });

  it('for an index: the same, for one document of it', async () => {
    const { write, clock, requests } = rig({ answer: () => blocked, config: { maxBackoffMs: 1_000 } });
    write([OLD, OLD]);
    await clock.advance(3_400);
    expect(requests.map(({ atMs, items }) => [atMs, items.length])).toEqual([
      [0, 2],
      ...[200, 600, 1_400, 2_400, 3_400].map((atMs) => [atMs, 1]),
    ]);
  });
});

describe('trouble of one index', () => {
  it('is begun and ended with one line each, however much else is answered meanwhile', async () => {
    const { write, clock, rules, said, writer, metrics, requests } = rig();
    rules.answer = ({ index }) => (index === OLD ? blocked : ok);
    const first = write([OLD, TODAY, OLD, OLD]);
    await settled();
    expect([first.written, first.open]).toEqual([true, 3]);
    for (let i = 0; i < 20; i++) {
      expect(write([TODAY, OLD, TODAY])).toMatchObject({ written: false });
      await clock.advance(1_000);
    }
    expect([writer.trouble(), await pausedOf(metrics, 'read_only')]).toEqual([`read_only for ${OLD}`, 1]);
    expect(said).toEqual([`error Elasticsearch: read_only for ${OLD}; its documents wait, the others go on`]);
    rules.answer = () => ok;
    await clock.advance(30_000);
    expect(said.slice(1)).toEqual([`info Elasticsearch: no document waits for ${OLD} any more`]);
    expect([first.open, writer.trouble(), await pausedOf(metrics, 'read_only')]).toEqual([0, undefined, 0]);
    // One was tried, and then all the others came at once: each once, with its own bytes.
    expect(requests.at(-1)!.items).toHaveLength(22);
    const taken = requests.slice(-2).flatMap(({ items }) => items.map(({ id }) => id));
    expect(new Set(taken).size).toBe(23);
  });

  it('of two indices with one reason: the reason stands until the last of them is well', async () => {
    const { write, clock, rules, writer, metrics } = rig();
    const well = new Set<string>();
    rules.answer = ({ index }) => (well.has(index) ? ok : blocked);
    write([OLD, TODAY]);
    await clock.advance(10);
    expect(writer.trouble()).toBe(`read_only for ${OLD}; read_only for ${TODAY}`);
    well.add(OLD);
    await clock.advance(200);
    expect([writer.trouble(), await pausedOf(metrics, 'read_only')]).toEqual([`read_only for ${TODAY}`, 1]);
    well.add(TODAY);
    await clock.advance(400);
    expect([writer.trouble(), await pausedOf(metrics, 'read_only')]).toEqual([undefined, 0]);
  });

  it('a refusal that may be about the one document alone holds up no other, and is tried less and less often', async () => {
    const { write, clock, rules, requests } = rig();
    rules.answer = ({ id }) => (id === 'n0' ? { status: 400, error: { type: 'brand_new_exception' } } : ok);
    write([TODAY, TODAY]);
    for (let i = 0; i < 64; i++) {
      const batch = write([TODAY]);
      await clock.advance(100);
      expect(batch).toEqual({ written: true, open: 0 });
    }
    const tries = requests.filter(({ items }) => items.some(({ id }) => id === 'n0')).map(({ atMs }) => atMs);
    expect(tries).toEqual([0, 200, 600, 1_400, 3_000, 6_200]);
  });

  it('an abort ends every wait, and settles nothing', async () => {
    const { write, clock, stop } = rig({ answer: ({ index }) => (index === OLD ? blocked : ok) });
    const batch = write([OLD, TODAY]);
    await clock.advance(300);
    stop.abort(new Error('over'));
    await settled();
    expect(batch.open).toBe(1);
    expect(clock.timers()).toBe(0);
  });
});

describe('documents refused in a row', () => {
  it('after 50 for one reason the index pauses, one is tried every 30 s, and the first that is taken ends it', async () => {
    const { write, clock, rules, requests, letters, writer, said } = rig();
    rules.answer = ({ index, id }) =>
      index === TODAY ? { ...strict, error: { ...strict.error, reason: `mapping set to strict, [${id}]` } } : ok;
    const many = write(Array(500).fill(TODAY));
    await clock.advance(0);
    expect([letters.length, many.written, many.open]).toEqual([50, true, 450]);
    expect(writer.trouble()).toBe(`refused_in_a_row for ${TODAY}`);
    const later = write([...Array(500).fill(TODAY), OLD]);
    await clock.advance(95_000);
    expect([letters.length, later.open]).toEqual([50, 500]);
    // The other index goes on; of this one another document is tried each time.
    expect(requests.map(({ atMs, items }) => [atMs, items.length])).toEqual([
      [0, 500],
      [0, 1],
      [30_000, 1],
      [60_000, 1],
      [90_000, 1],
    ]);
    expect(new Set(requests.slice(2).map(({ items }) => items[0]!.id)).size).toBe(3);
    rules.answer = () => ok;
    await clock.advance(25_000);
    expect([letters.length, many.open, later.open, writer.trouble()]).toEqual([50, 0, 0, undefined]);
    expect(said).toHaveLength(2);
  });

  it('what was degraded in vain is sent in its first form once the index takes documents', async () => {
    const degrade = ({ record }: BatchItem) =>
      Buffer.from(`{"create":{"_index":"${TODAY}","_id":"n${record.offset}"}}\n{"degraded":true}\n`);
    const { write, clock, rules, requests, letters } = rig({ answer: () => strict, degrade });
    const batch = write(Array(60).fill(TODAY));
    await clock.advance(0);
    expect(requests.map(({ items, body }) => [items.length, body.includes('degraded')])).toEqual([
      [60, false],
      [60, true],
    ]);
    const before = requests.length;
    rules.answer = () => ok;
    await clock.advance(30_000);
    expect([letters.length, batch.open]).toEqual([50, 0]);
    expect(requests.slice(before).some(({ body }) => body.includes('degraded'))).toBe(false);
  });

  it('a document that cannot even be degraded is a dead letter, and the ones beside it are not sent again', async () => {
    const degrade = () => {
      throw new RangeError('Maximum call stack size exceeded');
    };
    const { write, requests, letters } = rig({ answer: ({ id }) => (id === 'n1' ? strict : ok), degrade });
    const batch = write([TODAY, TODAY, TODAY]);
    await settled();
    expect([batch.open, requests.length, letters.map(({ id }) => id)]).toEqual([0, 1, ['n1']]);
  });

  it('one that is taken in between begins the count anew; so does another reason', async () => {
    const { write, clock, rules, letters, writer } = rig();
    const other: BulkItem = { status: 400, error: { type: 'document_parsing_exception', reason: 'failed to parse' } };
    rules.answer = ({ id }) => (Number(id.slice(1)) % 40 === 39 ? ok : strict);
    write(Array(200).fill(TODAY));
    await clock.advance(0);
    rules.answer = ({ id }) => (Math.floor(Number(id.slice(1)) / 40) % 2 === 0 ? strict : other);
    write(Array(200).fill(TODAY));
    await clock.advance(0);
    expect([letters.length, writer.trouble()]).toEqual([195 + 200, undefined]);
  });

  it('what came back from the dead letters and is refused again holds up nothing, and counts towards nothing', async () => {
    const refused = new Set<string>();
    const answer = ({ id }: Seen) => (refused.has(id) ? strict : ok);
    const { write, clock, letters, writer, said } = rig({ answer, config: { maxRejectionsPerMinute: 100 } });
    for (let n = 0; n < 500; n++) refused.add(`n${n}`);
    const back = write(Array(500).fill(TODAY), 'redriven');
    await clock.advance(0);
    expect([letters.length, back.open, writer.trouble()]).toEqual([500, 0, undefined]);
    const live = write(Array(500).fill(TODAY));
    await clock.advance(0);
    expect([live.written, live.open, said]).toEqual([true, 0, []]);
    // Of the live ones 50 are letters, as if no other had been refused before them; then the index pauses.
    for (let n = 1_000; n < 1_060; n++) refused.add(`n${n}`);
    const bad = write(Array(60).fill(TODAY));
    await clock.advance(0);
    expect([letters.length - 500, bad.open]).toEqual([50, 10]);
    // One that was redriven does not keep the pause up when its turn comes.
    refused.add('n1060');
    const late = write([TODAY], 'redriven');
    for (let n = 1_000; n < 1_060; n++) refused.delete(`n${n}`);
    await clock.advance(30_000);
    expect([letters.length - 500, late.open, bad.open, writer.trouble()]).toEqual([51, 0, 0, undefined]);
  });

  it('one document refused again and again is one refusal', async () => {
    const { write, clock, letters, writer } = rig({ answer: () => strict, config: { maxRejectionsPerMinute: 1 } });
    write([TODAY, TODAY]);
    await clock.advance(59_000);
    expect([letters.length, writer.trouble()]).toEqual([1, `too_many_rejections for ${TODAY}`]);
  });

  it('the number per minute begins anew every minute', async () => {
    const { write, clock, rules, letters, writer } = rig({
      config: { maxRejectionsPerMinute: 10, maxBackoffMs: 1_000 },
    });
    // Never two in a row.
    rules.answer = ({ id }) => (Number(id.slice(1)) % 2 === 0 ? strict : ok);
    const batch = write(Array(60).fill(TODAY));
    await clock.advance(59_000);
    expect([letters.length, batch.open]).toEqual([10, 20]);
    expect(writer.trouble()).toBe(`too_many_rejections for ${TODAY}`);
    await clock.advance(3_000);
    expect([letters.length, batch.open]).toEqual([20, 10]);
    await clock.advance(62_000);
    expect([letters.length, batch.open, writer.trouble()]).toEqual([30, 0, undefined]);
  });

  it('tells reasons apart by their words, not by names, ids and values in them', () => {
    const of = (type: string, reason: string) => refusalKind({ type, reason });
    expect(of('x', "[1:6] failed to parse field [a] of type [long] in document with id 'q'. Preview: 'secret'")).toBe(
      of('x', '[9:99] [1:2] failed to parse field [b.c] of type [date]'),
    );
    expect(of('x', 'mapping set to strict, dynamic introduction of [a]')).not.toBe(
      of('x', 'failed to parse field [a]'),
    );
    expect(of('x', 'failed to parse field [a]')).not.toBe(of('y', 'failed to parse field [a]'));
    expect(refusalKind(undefined)).toBe('no reason given');
  });
});

describe('a refused document', () => {
  it('is settled when its letter is durable, and holds up nobody until then', async () => {
    const { write, rules, letters } = rig();
    rules.answer = ({ id }) => (id === 'n1' ? strict : ok);
    rules.durable = false;
    const batch = write([TODAY, TODAY, TODAY]);
    await settled();
    expect([batch.written, batch.open, letters.map(({ id }) => id)]).toEqual([true, 1, ['n1']]);
    const next = write([TODAY]);
    await settled();
    expect([next.written, next.open, batch.open]).toEqual([true, 0, 1]);
    letters[0]!.settle();
    await settled();
    expect(batch.open).toBe(0);
  });
});
