// What the views of logs, alerts and replays make of strangers' text: query lines, links, and words.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  backtestOf,
  conditionsOf,
  jobTitle,
  pagesText,
  replayLines,
  replayResult,
  whatIfOf,
} from '../../../src/page/views/job-data.ts';
import { measureText } from '../../../src/page/views/measure-text.ts';
import { both, fieldRows, quoted, runbookAddress, term } from '../../../src/page/views/query-text.ts';
import { createRateMeter, tailWords } from '../../../src/page/views/tail-rate.ts';
import { timelineRows, timeMarks } from '../../../src/page/views/timeline-layout.ts';

describe('query lines', () => {
  /** What the search and Kibana read between the quotes. */
  const read = (text: string) => /^"((?:\\.|[^"\\])*)"$/s.exec(text)?.[1]?.replace(/\\(.)/gs, '$1');

  test('a value is found as it is, and never ends its quotes', () => {
    expect(quoted('a "b" \\ c')).toBe('"a \\"b\\" \\\\ c"');
    const hostile = fc
      .array(fc.constantFrom('"', '\\', '\n', '\t', ' or ', ')', '*', 'x', 'é'))
      .map((all) => all.join(''));
    fc.assert(fc.property(hostile, (value) => read(quoted(value)) === value));
  });

  test('only what can be searched gets a query', () => {
    expect(term('callId', 'c-1')).toBe('callId: "c-1"');
    expect(term('call.attempt', 3)).toBe('call.attempt: 3');
    expect(term('message', 'one\r\ntwo')).toBe('message: "one two"');
    expect(term('tenantId', 'one\ntwo')).toBeNull();
    expect(term('call.voicemail', false)).toBe('call.voicemail: false');
    for (const value of ['', null, undefined, {}, ['a'], 'x'.repeat(1_025)]) expect(term('callId', value)).toBeNull();
    for (const field of ['a b', 'a: "x" or b', '*', '', 'NOT', 'a)']) expect(term(field, 'x')).toBeNull();
  });

  test('what is added holds for all of the query, once', () => {
    expect(both('', 'a: 1')).toBe('a: 1');
    expect(both(' a: 1 ', 'a: 1')).toBe('a: 1');
    expect(both('a: 1', 'b: 2')).toBe('a: 1 and b: 2');
    expect(both('a: 1 and b: 2', 'b: 2')).toBe('a: 1 and b: 2');
    expect(both('a: 1 or b: 2', 'c: 3')).toBe('(a: 1 or b: 2) and c: 3');
    expect(both('a: 1', 'b: 2 or c: 3')).toBe('a: 1 and (b: 2 or c: 3)');
    expect(both('a: 1 or c: 3 and b: 2', 'b: 2')).toBe('(a: 1 or c: 3 and b: 2) and b: 2');
  });

  test('a document becomes rows, the important ones first, and bounded', () => {
    const { rows, left } = fieldRows({
      zone: 'eu',
      call: { status: 'failed', attempt: 2 },
      tags: ['error', 'x'],
      message: 'm',
      '@timestamp': '2026-11-30T09:00:00Z',
      empty: {},
      extraRaw: '{"a":1}',
      'odd name': 'y',
      mixed: [1, { a: 'b' }],
    });
    expect(rows.map(({ name }) => name)).toEqual([
      ...[
        '@timestamp',
        'message',
        'call.attempt',
        'call.status',
        'empty',
        'extraRaw',
        'mixed',
        'odd name',
        'tags',
        'zone',
      ],
    ]);
    const queryOf = (name: string) => rows.find((row) => row.name === name)?.query;
    expect(queryOf('call.status')).toBe('call.status: "failed"');
    expect(queryOf('tags')).toBe('tags: "error"');
    for (const name of ['empty', 'extraRaw', 'mixed', 'odd name']) expect(queryOf(name)).toBeNull();
    expect(rows.find(({ name }) => name === 'mixed')?.text).toBe('[1,{"a":"b"}]');
    expect(left).toBe(0);
    const many = fieldRows(Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`f${i}`, i])));
    expect(many.rows.length + many.left).toBe(1_000);
    expect(many.rows.length).toBe(400);
    let deep: Record<string, unknown> = { end: 1 };
    for (let i = 0; i < 5_000; i++) deep = { a: deep };
    expect(fieldRows(deep).rows).toHaveLength(1);
  });
});

describe('runbooks', () => {
  test.each([
    ['https://wiki.example.org/a?b=c#d', 'https://wiki.example.org/a?b=c#d'],
    ['HTTP://wiki.example.org/', 'HTTP://wiki.example.org/'],
    ['docs/runbooks/high-error-rate.md', './docs/runbooks/high-error-rate.md'],
    ['/docs/runbooks/x.md#what-to-do', './docs/runbooks/x.md#what-to-do'],
    ['./docs/on-call.md', './docs/on-call.md'],
  ])('%s is a link', (text, address) => expect(runbookAddress(text)).toBe(address));

  test.each([
    ...[
      'javascript:alert(1)',
      'JavaScript:alert(1)',
      ' javascript:alert(1)',
      'java\nscript:alert(1)',
      'data:text/html,x',
    ],
    ...['vbscript:x', '//evil.example.org/docs/x', 'https://', 'https:// evil', 'docs/../api/v1/alerts', 'docs/a"b'],
    ...['', 'see the wiki', 'docs/runbooks/x.md?next=javascript:1', 'file:///etc/passwd', 'ask.docs/x.md'],
  ])('%s is text', (text) => expect(runbookAddress(text)).toBeNull());
});

describe('the tail’s rate', () => {
  const event = (lines: number, passed: number, looked: number, matched: number) =>
    ({ lines: Array.from({ length: lines }), passed, looked, matched }) as never;

  test('is per second, however often events come, and falls when none do', () => {
    let nowMs = 0;
    const meter = createRateMeter(() => nowMs);
    for (; nowMs < 10_000; nowMs += 250) meter.add(event(12, 300, 100, 15));
    expect(meter.rate()).toEqual({ shown: 48, passed: 1_200, looked: 400, matched: 60 });
    nowMs += 2_500;
    expect(meter.rate().passed).toBeLessThan(900);
    nowMs += 5_000;
    expect(meter.rate().passed).toBe(0);
  });

  test('says what was not looked at', () => {
    const rate = { shown: 50, passed: 1_204, looked: 400, matched: 60 };
    expect(tailWords(rate, false)).toBe('Showing 50 of 1,204 lines a second; 400 looked at.');
    expect(tailWords(rate, true)).toBe('Showing 50 of 1,204 lines a second; 400 looked at, 60 match.');
    expect(tailWords({ shown: 3, passed: 3, looked: 3, matched: 3 }, false)).toBe('Showing 3 of 3 lines a second.');
  });
});

describe('a timeline', () => {
  const range = { fromMs: 0, toMs: 1_000_000 };

  test('draws what touches its range, inside of it, and wide enough to be seen', () => {
    const rows = timelineRows(
      [
        { row: 'b', fromMs: 500_000, toMs: 500_001 },
        { row: 'a', fromMs: -500_000, toMs: 100_000 },
        { row: 'a', fromMs: 50_000, toMs: null },
        { row: 'a', fromMs: 1_000_000, toMs: null },
        { row: 'c', fromMs: -10, toMs: -5 },
        { row: 'c', fromMs: 1_000_001, toMs: null },
      ],
      range,
    );
    expect(rows.map(({ name, lanes }) => [name, lanes])).toEqual([
      ['a', 2],
      ['b', 1],
    ]);
    expect(rows[0]!.bars[0]).toMatchObject({ left: 0, width: 0.1, lane: 0 });
    expect(rows[0]!.bars[1]).toMatchObject({ left: 0.05, width: 0.95, lane: 1 });
  });

  test('bars of one lane never overlap, whatever they are', () => {
    const span = fc.record({
      row: fc.constantFrom('a', 'b'),
      fromMs: fc.integer({ min: -100_000, max: 1_100_000 }),
      lasts: fc.option(fc.integer({ min: 0, max: 400_000 })),
    });
    fc.assert(
      fc.property(fc.array(span, { maxLength: 30 }), (all) => {
        const spans = all.map(({ row, fromMs, lasts }) => ({
          row,
          fromMs,
          toMs: lasts === null ? null : fromMs + lasts,
        }));
        for (const { bars, lanes } of timelineRows(spans, range)) {
          for (const { left, width } of bars) {
            expect(left).toBeGreaterThanOrEqual(0);
            expect(left + width).toBeLessThanOrEqual(1 + 1e-9);
            expect(width).toBeGreaterThan(0.005);
          }
          for (let lane = 0; lane < lanes; lane++) {
            const own = bars.filter((bar) => bar.lane === lane).sort((one, other) => one.left - other.left);
            own.slice(1).forEach((bar, i) => {
              expect(bar.left).toBeGreaterThanOrEqual(own[i]!.left + own[i]!.width - 1e-9);
            });
          }
        }
      }),
    );
  });

  test('marks full times of the reader’s clock, a few of them', () => {
    const day = { fromMs: Date.UTC(2026, 10, 29, 10, 7), toMs: Date.UTC(2026, 10, 30, 10, 7) };
    const marks = timeMarks(day, 4, 3_600_000);
    expect(marks.length).toBeLessThanOrEqual(4);
    expect(marks.map(({ atMs }) => new Date(atMs + 3_600_000).getUTCHours())).toEqual([12, 18, 0, 6]);
    expect(timeMarks({ fromMs: 5, toMs: 5 }, 4)).toEqual([]);
    expect(timeMarks({ fromMs: 0, toMs: 400 * 86_400_000 }, 4).length).toBeLessThanOrEqual(5);
  });
});

describe('jobs', () => {
  const timeline = { alerts: [], incidents: [], pages: { total: 2 } };
  const tested = { from: '2026-11-29T00:00:00Z', to: '2026-11-30T00:00:00Z', records: 5, timeline };

  const whatIf = (now: unknown, then: unknown) =>
    Object.fromEntries([
      ['now', now],
      ['then', then],
    ]);

  test('a result of another shape is none, and no fault', () => {
    for (const odd of [
      null,
      undefined,
      3,
      'x',
      [],
      {},
      { timeline: 3 },
      { from: 'x', to: 'y', timeline: { alerts: [], incidents: [], pages: {} } },
    ]) {
      expect(backtestOf(odd)).toBeUndefined();
      expect(whatIfOf(whatIf(odd, tested))).toBeUndefined();
      expect(whatIfOf(whatIf(tested, odd))).toBeUndefined();
      expect(replayResult(odd)).toBeUndefined();
    }
    expect(backtestOf(tested)).toBe(tested);
    expect(whatIfOf(whatIf(tested, tested))).toEqual({ before: tested, after: tested });
  });

  test('what another threshold would page, in words', () => {
    expect(pagesText(3, 2)).toBe('would have paged 3 times instead of 2');
    expect(pagesText(1, 0)).toBe('would have paged once instead of 0');
    expect(pagesText(0, 1)).toBe('would have paged nobody, instead of 1 time');
    expect(pagesText(2, 2)).toBe('would have paged 2 times, as it is now');
    expect(pagesText(0, 0)).toBe('would have paged nobody, as it is now');
  });

  test('a plan and a replay say what was found, and what became of it', () => {
    const base = { complete: true, read: 120_340, outside: 310, unmatched: 1_200, matched: 118_830 };
    const indices = { 'logs-2026.11.29': { documents: 118_830, bytes: 3 * 1_048_576 } };
    expect(replayLines({ ...base, dryRun: true, indices })).toEqual([
      '120,340 records read: 310 outside of the time, 1,200 that the conditions leave out, 118,830 would be written',
      'logs-2026.11.29: 118,830 documents, 3 MB',
    ]);
    const written = { new: 100, present: 5, dropped: 0 };
    const lines = replayLines({
      ...base,
      complete: false,
      dryRun: false,
      written,
      refused: { byReason: { mapping: 2 } },
    });
    expect(lines.slice(1)).toEqual(['100 written, 5 already there', '2 refused: mapping', 'It ended early']);
  });

  test('conditions have spaces between them, and in quotes', () => {
    expect(conditionsOf(' level=error  tenantId!=t-7 ')).toEqual(['level=error', 'tenantId!=t-7']);
    expect(conditionsOf('message~"two words" a=b')).toEqual(['message~two words', 'a=b']);
    expect(conditionsOf('"a b=c d" e="f')).toEqual(['a b=c d', 'e=', 'f']);
    expect(conditionsOf('')).toEqual([]);
  });

  test('a job has a title', () => {
    const range = { from: '', to: '' };
    const target = { kind: 'index', name: 'x' } as const;
    expect(jobTitle({ request: { kind: 'replay', ...range, target, dryRun: true } })).toBe(
      'Plan of a replay to index x',
    );
    expect(jobTitle({ request: { kind: 'backtest', ...range } })).toBe('Backtest of all rules');
    expect(jobTitle({ request: { kind: 'backtest', ...range, rule: 'r', threshold: 0.1 } })).toBe(
      'What if r had 0.1 as its threshold',
    );
  });
});

test('measures are told in their unit', () => {
  expect(measureText(0.1234, 'ratio')).toBe('12.3 %');
  expect(measureText(12, 'percent')).toBe('12 %');
  expect(measureText(1_500, 'ms')).toBe('1,500 ms');
  expect(measureText(90, 's')).toBe('1 min');
  expect(measureText(3 * 1_048_576, 'bytes')).toBe('3 MB');
  expect(measureText(0, 'bytes/s')).toBe('0 B/s');
  expect(measureText(7, 'parsecs')).toBe('7');
  for (const value of [null, undefined, Number.NaN, Number.POSITIVE_INFINITY])
    expect(measureText(value, 'ratio')).toBe('–');
  expect(measureText(Number.NaN, 'bytes')).toBe('–');
});
