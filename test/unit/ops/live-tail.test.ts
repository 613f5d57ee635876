// The live tail against batches of every kind: what it shows matches, its counts add up whatever comes, errors are seen among many other
// lines, and it takes no more time than it may.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLiveTail, type Indexed } from '../../../src/ops/live-tail.ts';
import type { LogFilter, TailLines } from '../../../src/ops/page-data.ts';

const ALL: LogFilter = { level: [], environment: null, service: null, text: null };

/** A batch as the indexer has it; a text is the document's own bytes. */
function batchOf(documents: readonly (object | string)[]): Indexed {
  const bytes = documents.map((one) => Buffer.from(typeof one === 'string' ? one : JSON.stringify(one)));
  return {
    count: bytes.length,
    document: (i) => bytes[i]!,
    action: (i) => ({ index: 'calling-platform-2026.11.29', id: `id${i}` }),
  };
}

function rig() {
  let nowMs = 0;
  let offer: ((batch: Indexed) => void) | undefined;
  const tail = createLiveTail(
    (next) => {
      offer = next;
    },
    { clock: { monotonicMs: () => nowMs } },
  );
  return {
    tail,
    watch: (filter: Partial<LogFilter> = {}) => tail.watch({ ...ALL, ...filter }),
    offer: (...documents: (object | string)[]) => offer?.(batchOf(documents)),
    isWatched: () => offer !== undefined,
    later(ms: number) {
      nowMs += ms;
    },
  };
}

const messages = (given: TailLines | undefined) => given?.lines.map(({ message }) => message);

describe('what is shown', () => {
  test('nobody is offered anything while nobody watches', () => {
    const r = rig();
    expect(r.isWatched()).toBe(false);
    const [one, other] = [r.watch(), r.watch({ text: 'x' })];
    one.close();
    one.close();
    expect(r.isWatched()).toBe(true);
    other.close();
    expect(r.isWatched()).toBe(false);
  });

  test('a line has what a reader looks for, cut, on one line, and harmless', () => {
    const r = rig();
    const watch = r.watch();
    const doc = {
      '@timestamp': '2026-11-29T10:00:00.000Z',
      ...{ tags: ['error'], level: 'error', service: 's'.repeat(300), environment: 'production' },
      ...{ event: 'call.ended', callId: 7, message: `a\u001b[31m\nb\u202e<script>${'x'.repeat(1_000)}` },
    };
    r.offer(
      doc,
      { error: { message: 'inner' }, tags: 'error' },
      '{"__proto__":{"level":"x"},"message":{"a":1},"error":null}',
    );
    const { lines } = watch.take()!;
    expect(lines[0]).toEqual({
      ...{ index: 'calling-platform-2026.11.29', id: 'id0', at: '2026-11-29T10:00:00.000Z', level: 'error' },
      ...{ service: `${'s'.repeat(199)}…`, environment: 'production', event: 'call.ended', callId: null },
      message: expect.stringMatching(/^a\\u001b\[31m\\nb\\u202e<script>x+…$/),
      isError: true,
    });
    expect(lines[0]!.message).toHaveLength(500);
    expect(lines.slice(1)).toMatchObject([
      { message: 'inner', isError: false, at: '', level: null },
      { message: '', isError: false, level: null },
    ]);
  });

  test('filters are exact, however the producer wrote what they ask for', () => {
    const r = rig();
    const texts = {
      plain: '{"level":"error","service":"api","message":"Queue timeout"}',
      spaced: '{ "level" : "error" , "service" : "api" , "message" : "queue TIMEOUT" }',
      escaped: '{"level":"\\u0065rror","service":"ap\\u0069","message":"queue time\\u006fut"}',
      elsewhere: '{"level":"info","service":"web","message":"error api","error":{"code":"timeout"}}',
      key: '{"level":"warn","service":"api","timeout":1,"message":"x"}',
      list: '{"level":"error","service":"web","extra":["a",{"b":"gone: TimeOut"}]}',
    };
    const offered = Object.values(texts);
    const ids = (filter: Partial<LogFilter>) => {
      const watch = r.watch(filter);
      r.offer(...offered);
      const given = watch.take();
      watch.close();
      expect(given).toMatchObject({ passed: offered.length, looked: offered.length });
      expect(given?.matched).toBe(given?.lines.length);
      return given?.lines.map(({ id }) => Object.keys(texts)[Number(id.slice(2))]);
    };
    expect(ids({ level: ['error'] })).toEqual(['plain', 'spaced', 'escaped', 'list']);
    expect(ids({ level: ['error', 'warn'] })).toEqual(['plain', 'spaced', 'escaped', 'key', 'list']);
    expect(ids({ service: 'api' })).toEqual(['plain', 'spaced', 'escaped', 'key']);
    expect(ids({ text: 'timeout' })).toEqual(['plain', 'spaced', 'escaped', 'elsewhere', 'list']);
    expect(ids({ text: 'TIMEOUT', level: ['error'], service: 'web' })).toEqual(['list']);
    expect(ids({ service: 'ap' })).toEqual([]);
    expect(ids({ environment: 'production' })).toEqual([]);
    offered.splice(0, offered.length, '{"message":"a \\"quoted\\\\ text\\" Ä"}', '{"message":"https:\\/\\/a"}');
    expect(ids({ text: '"quoted\\ TEXT" Ä' })).toEqual(['plain']);
    expect(ids({ text: 'HTTPS://a' })).toEqual(['spaced']);
    expect(ids({ text: 'ä' })).toEqual([]);
  });
});

describe('how much is shown', () => {
  test('at most 50 lines in any second, evenly, with nearly all errors among thousands of others', () => {
    const r = rig();
    const watch = r.watch();
    const shown: { atMs: number; lines: number; errors: number }[] = [];
    let [passed, looked, matched] = [0, 0, 0];
    for (let ms = 0; ms < 10_000; ms += 250) {
      // 4,000 a second, of which eight are errors.
      const others = Array.from({ length: 998 }, (_, i) => ({ level: 'info', message: `${ms}-${i}` }));
      const error = { tags: ['_masked', 'error'], level: 'error', message: 'failed' };
      r.offer(...others.slice(0, 500), error, ...others.slice(500), error);
      const given = watch.take();
      passed += given?.passed ?? 0;
      looked += given?.looked ?? 0;
      matched += given?.matched ?? 0;
      if (given !== undefined) {
        expect(given.matched).toBe(given.looked);
        shown.push({
          atMs: ms,
          lines: given.lines.length,
          errors: given.lines.filter(({ isError }) => isError).length,
        });
      }
      r.later(250);
    }
    for (let second = 0; second < 10_000; second += 250) {
      const within = shown.filter(({ atMs }) => atMs >= second && atMs < second + 1_000);
      expect(within.reduce((sum, { lines }) => sum + lines, 0)).toBeLessThanOrEqual(50);
    }
    expect(shown.reduce((sum, { lines }) => sum + lines, 0)).toBeGreaterThanOrEqual(450);
    // The first lines are those of a whole second.
    expect(shown.length).toBe(37);
    expect(shown.reduce((sum, { errors }) => sum + errors, 0)).toBeGreaterThanOrEqual(76);
    expect(passed).toBe(40_000);
    expect(looked).toBe(matched);
    expect(looked).toBeLessThanOrEqual(100 * 10 + 50);
    expect(looked).toBeGreaterThanOrEqual(100 * 9);
  });

  test('where few match, four hundred a second are looked at', () => {
    const r = rig();
    const watch = r.watch({ level: ['fatal', 'error'] });
    const counts = { passed: 0, looked: 0, matched: 0 };
    for (let ms = 0; ms < 10_000; ms += 1_000 / 4) {
      r.offer(...Array.from({ length: 1_000 }, () => ({ level: 'info' })));
      const given = watch.take();
      for (const name of ['passed', 'looked', 'matched'] as const) counts[name] += given?.[name] ?? 0;
      r.later(250);
    }
    expect(counts.matched).toBe(0);
    expect(counts.looked).toBeLessThanOrEqual(400 * 10 + 200);
    expect(counts.looked).toBeGreaterThanOrEqual(400 * 9);
  });

  test('a flood of errors leaves half to the others', () => {
    const r = rig();
    const watch = r.watch();
    const error = { tags: ['error'], message: 'failed' };
    r.offer(...Array.from({ length: 1_000 }, (_, i) => (i % 10 === 0 ? { message: 'other' } : error)));
    const { lines } = watch.take()!;
    expect(lines).toHaveLength(50);
    expect(lines.filter(({ isError }) => isError)).toHaveLength(25);
  });

  test('what is read through and matches nothing is looked at; what there was no time for is not', () => {
    const r = rig();
    const watch = r.watch({ text: 'needle' });
    const hay = { message: 'hay'.repeat(300) };
    r.offer(...Array.from({ length: 2_000 }, () => hay));
    expect(watch.take()).toEqual({ lines: [], passed: 2_000, looked: 2_000, matched: 0 });
    r.later(1_000);
    const large = { message: 'x'.repeat(200_000) };
    r.offer(...Array.from({ length: 100 }, () => large), { message: 'x'.repeat(300_000) });
    const { passed, looked } = watch.take()!;
    expect(passed).toBe(101);
    expect(looked).toBeGreaterThan(15);
    expect(looked).toBeLessThan(25);
  });

  test('counts without lines are given once a second', () => {
    const r = rig();
    const watch = r.watch({ text: 'needle' });
    expect(watch.take()).toBeUndefined();
    r.offer({ message: 'hay' });
    expect(watch.take()).toMatchObject({ passed: 1, looked: 1 });
    r.offer({ message: 'hay' });
    r.later(999);
    expect(watch.take()).toBeUndefined();
    r.later(1);
    expect(watch.take()).toMatchObject({ passed: 1, lines: [] });
    r.offer({ message: 'needle' });
    r.later(20);
    expect(messages(watch.take())).toEqual(['needle']);
  });

  test('whatever comes, counts add up, and what is shown matches', () => {
    const value = fc.oneof(
      fc.constantFrom('error', 'info', 'api', 'production', 'Needle', 'nee\\dle', 'é"x'),
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.jsonValue({ maxDepth: 3 }),
    );
    const document = fc.record(
      {
        level: value,
        service: value,
        environment: value,
        message: value,
        tags: fc.array(value, { maxLength: 3 }),
        extra: value,
      },
      { requiredKeys: [] },
    );
    const filter = fc.record({
      level: fc.subarray(['error', 'info', 'warn']),
      environment: fc.constantFrom(null, null, 'production'),
      service: fc.constantFrom(null, null, 'api'),
      text: fc.option(fc.oneof(fc.constantFrom('needle', 'é"', '\\'), fc.string({ minLength: 1, maxLength: 3 })), {
        nil: null,
      }),
    });
    const step = fc.record({ documents: fc.array(document, { maxLength: 60 }), laterMs: fc.nat(1_500) });
    fc.assert(
      fc.property(
        fc.array(filter, { minLength: 1, maxLength: 4 }),
        fc.array(step, { maxLength: 12 }),
        (filters, steps) => {
          const r = rig();
          const watches = filters.map((one) => ({ filter: one, watch: r.watch(one), passed: 0 }));
          let offered = 0;
          for (const { documents, laterMs } of steps) {
            r.offer(...documents);
            offered += documents.length;
            for (const one of watches) {
              const given = one.watch.take();
              if (given === undefined) continue;
              one.passed += given.passed;
              expect(given.passed).toBeGreaterThanOrEqual(given.looked);
              expect(given.looked).toBeGreaterThanOrEqual(given.matched);
              expect(given.matched).toBeGreaterThanOrEqual(0);
              const { level, service, environment } = one.filter;
              for (const line of given.lines) {
                if (level.length > 0) expect(level).toContain(line.level);
                if (service !== null) expect(line.service).toBe(service);
                if (environment !== null) expect(line.environment).toBe(environment);
              }
            }
            r.later(laterMs);
          }
          r.later(1_000);
          for (const one of watches) expect(one.passed + (one.watch.take()?.passed ?? 0)).toBe(offered);
        },
      ),
    );
  });

  test('with time for all of them, a filter finds exactly what a plain search finds', () => {
    const word = fc.constantFrom('needle', 'NEEDLE', 'ne\\u0065dle', 'hay', 'needl', 'é', '\\"needle');
    fc.assert(
      fc.property(fc.array(fc.array(word, { maxLength: 3 }), { maxLength: 40 }), (rows) => {
        const r = rig();
        const watch = r.watch({ text: 'nEEdle' });
        const texts = rows.map((words) => `{"message":"${words.join(' ')}"}`);
        r.offer(...texts);
        const expected = texts.filter((text) =>
          /needle/i.test((JSON.parse(text) as { message: string }).message),
        ).length;
        const given = watch.take();
        expect(given?.matched ?? 0).toBe(expected);
        expect(given?.looked ?? 0).toBe(rows.length);
      }),
    );
  });
});
