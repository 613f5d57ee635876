// The history's way to Elasticsearch on a clock of its own: exact bulk bodies, every kind of answer, and days without one.
import { describe, expect, test } from 'vitest';
import { alertsTemplate, createHistorySender, type HistorySender } from '../../../src/alerter/history.ts';
import { LogpipeError } from '../../../src/core/errors.ts';
import { silentLog } from '../../../src/core/log.ts';
import type { HistoryEntry, OutboxResult } from '../../../src/incidents/records.ts';
import type { BulkReply } from '../../../src/indexing/elasticsearch.ts';
import { indexTemplate } from '../../../src/indexing/elasticsearch.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const SECOND = 1_000;

function entry(n: number): HistoryEntry {
  return {
    id: `${n}-history`,
    channel: 'history',
    createdMs: 0,
    attempts: 0,
    nextMs: 0,
    document: {
      index: 'logpipe-alerts-2026.03',
      id: `doc${n}`,
      source: { '@timestamp': '2026-03-02T10:00:00.000Z', transition: 'firing', environment: 'test' },
    },
  };
}
const entries = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => entry(from + i));
const created = (count: number): BulkReply => ({
  status: 200,
  items: Array.from({ length: count }, () => ({ status: 201 })),
  detail: '',
});
const whole = (status: number): BulkReply => ({ status, items: [], detail: '' });

interface Rig {
  clock: ReturnType<typeof createFakeClock>;
  bodies: string[];
  results: OutboxResult[];
  /** Answers by the number of documents asked for. */
  answer(count: number): BulkReply | Promise<BulkReply>;
  prepare(): Promise<void>;
  onResults(some: readonly OutboxResult[]): Promise<void>;
  sizes(): number[];
  sender: HistorySender;
}

function rig(): Rig {
  const clock = createFakeClock();
  const bodies: string[] = [];
  const results: OutboxResult[] = [];
  const self: Rig = {
    clock,
    bodies,
    results,
    answer: created,
    prepare: async () => {},
    onResults: async (some: readonly OutboxResult[]) => void results.push(...some),
    sizes: () => bodies.map((body) => body.split('\n').length / 2 - 0.5),
    sender: createHistorySender({
      send: async (body) => {
        bodies.push(body.toString());
        return self.answer(body.toString().split('\n').length / 2 - 0.5);
      },
      prepare: () => self.prepare(),
      onResults: (some) => self.onResults(some),
      clock,
      log: silentLog,
    }),
  };
  return self;
}

describe('the history', () => {
  test('is written with `create` and an id of its own, in bulks, after the template', async () => {
    const r = rig();
    let prepared = 0;
    r.prepare = async () => {
      prepared += 1;
    };
    r.sender.add(entries(0, 250));
    r.sender.add(entries(0, 250));
    await r.clock.advance(0);
    expect(r.sizes()).toEqual([100, 100, 50]);
    expect(prepared).toBe(1);
    expect(r.bodies[0]?.split('\n').slice(0, 2)).toEqual([
      '{"create":{"_index":"logpipe-alerts-2026.03","_id":"doc0"}}',
      '{"@timestamp":"2026-03-02T10:00:00.000Z","transition":"firing","environment":"test"}',
    ]);
    expect(r.results.map(({ id }) => id)).toEqual(entries(0, 250).map(({ id }) => id));
    expect(r.sender.pending()).toBe(0);
  });

  test('what was there already counts as written, what is refused as a document is given up, the rest is sent again', async () => {
    const r = rig();
    const refused = { type: 'document_parsing_exception', reason: 'failed to parse' };
    r.answer = () => ({
      status: 200,
      items: [{ status: 201 }, { status: 409 }, { status: 400, error: refused }, { status: 429 }],
      detail: '',
    });
    r.sender.add(entries(0, 4));
    await r.clock.advance(0);
    const reason = 'document_parsing_exception: failed to parse';
    expect(r.results).toEqual([
      { id: '0-history', result: { ok: true } },
      { id: '1-history', result: { ok: true } },
      { id: '2-history', result: { ok: false, retryable: false, reason } },
    ]);
    r.answer = created;
    await r.clock.advance(2 * SECOND);
    expect(r.results.at(-1)).toEqual({ id: '3-history', result: { ok: true } });
    expect(r.sizes()).toEqual([4, 1]);
  });

  test.each<[string, () => BulkReply | Promise<BulkReply>]>([
    ['no connection', () => Promise.reject(new Error('connect ECONNREFUSED'))],
    ['a time-out of a proxy', () => whole(504)],
    ['a wrong key', () => whole(401)],
    ['an answer of another length', () => created(1)],
    [
      'a shard limit',
      () => ({
        status: 200,
        items: [0, 1].map(() => ({ status: 400, error: { type: 'validation_exception' } })),
        detail: '',
      }),
    ],
  ])('%s for a day: nothing is given up, a try a minute, and then it is written', async (_, answer) => {
    const r = rig();
    r.answer = answer;
    r.sender.add(entries(0, 2));
    await r.clock.advance(24 * 3_600 * SECOND);
    expect(r.results).toEqual([]);
    expect(r.bodies.length).toBeGreaterThan(1_000);
    expect(r.bodies.length).toBeLessThan(1_500);
    r.answer = created;
    await r.clock.advance(60 * SECOND);
    expect(r.results.map(({ result }) => result.ok)).toEqual([true, true]);
  });

  test('a bulk that is too large is halved; a document that is too large alone is given up', async () => {
    const r = rig();
    r.answer = () => whole(413);
    r.sender.add(entries(0, 2));
    await r.clock.advance(5 * SECOND);
    expect(r.results).toEqual([
      { id: '0-history', result: { ok: false, retryable: false, reason: 'HTTP 413' } },
      { id: '1-history', result: { ok: false, retryable: false, reason: 'HTTP 413' } },
    ]);
  });

  test('a template that cannot be installed yet keeps it back; one that is newer does not', async () => {
    const r = rig();
    r.prepare = () => Promise.reject(new Error('connect ECONNREFUSED'));
    r.sender.add([entry(1)]);
    await r.clock.advance(30 * SECOND);
    expect(r.bodies).toEqual([]);
    r.prepare = () => Promise.reject(new LogpipeError('LOGPIPE_TEMPLATE_NEWER', 'newer'));
    await r.clock.advance(60 * SECOND);
    expect(r.results).toEqual([{ id: '1-history', result: { ok: true } }]);
  });

  test('a result that could not be written down is told again; what left the outbox is not sent any more', async () => {
    const r = rig();
    r.onResults = () => Promise.reject(new Error('not now'));
    r.sender.add(entries(0, 3));
    await r.clock.advance(0);
    r.sender.forget(['1-history']);
    const told: string[] = [];
    r.onResults = async (some) => void told.push(...some.map(({ id }) => id));
    await r.clock.advance(2 * SECOND);
    expect(told).toEqual(['0-history', '2-history']);
  });

  test('`close` waits for nobody: neither for a wait nor for results that cannot be written down', async () => {
    const r = rig();
    r.onResults = () => new Promise(() => {});
    r.sender.add([entry(1)]);
    await r.clock.advance(0);
    expect(r.bodies).toHaveLength(1);
    await r.sender.close();
  });

  test('`close` ends a wait and an attempt', async () => {
    const r = rig();
    r.answer = () => whole(503);
    r.sender.add([entry(1)]);
    await r.clock.advance(10 * SECOND);
    await r.sender.close();
    const tries = r.bodies.length;
    r.sender.add([entry(2)]);
    await r.clock.advance(600 * SECOND);
    expect(r.bodies.length).toBe(tries);
  });
});

test('the template’s indices are none of the live ones, and its priority is its own', () => {
  const { index_patterns, priority } = alertsTemplate();
  expect(index_patterns).toEqual(['logpipe-alerts-*']);
  expect(priority).toBeGreaterThan(200);
  expect(priority).not.toBe(indexTemplate().priority);
});
