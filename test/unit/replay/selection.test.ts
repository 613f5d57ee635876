import { describe, expect, it } from 'vitest';
import { alertsTemplate } from '../../../src/alerter/history.ts';
import type { RawRecord } from '../../../src/core/record.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { INDEX_PATTERN, REPLAY_PREFIX } from '../../../src/indexing/batch.ts';
import { indexTemplate } from '../../../src/indexing/elasticsearch.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { byOrigin, createSelector, parseWhere } from '../../../src/replay/sources.ts';
import { replayTemplate } from '../../../src/replay/targets.ts';
import { createTagger } from '../../../src/tag/tag.ts';
import { createTransformingParser } from '../../../src/transform/transform.ts';

const START = Date.parse('2026-01-31T23:59:59.000Z');
const PARSE = { maxRecordBytes: 5_000_000, maxAheadMs: 600_000, maxBehindMs: 2_592_000_000 };
const FROM = { origin: { kind: 'kafka', topic: 'logs', partition: 0 } } as const;
const newParser = () => createParser(PARSE, { masker: createMasker(), duplicatesRefused: true });

function record(fields: object, extra: Partial<RawRecord> = {}): RawRecord {
  const value = Buffer.from(JSON.stringify({ timestamp: new Date(START).toISOString(), level: 'error', ...fields }));
  return { value, offset: 7, timeMs: START + 50, eventId: undefined, ...extra };
}

describe('what is wanted', () => {
  const selector = (where: string[]) =>
    createSelector({
      parser: newParser(),
      tag: createTagger(),
      range: { fromMs: START, toMs: START + 1_000 },
      matches: parseWhere(where),
    });

  it('lies in the stretch by event time: the beginning is part of it, the end is not', () => {
    const at = (ms: number) =>
      selector([]).select(record({ timestamp: new Date(ms).toISOString(), message: 'm' }), FROM);
    expect(at(START)).toBeTypeOf('object');
    expect(at(START + 999)).toBeTypeOf('object');
    expect(at(START - 1)).toBe('outside');
    expect(at(START + 1_000)).toBe('outside');
  });

  it('holds every condition, on the document as it will be', () => {
    const event = record({ message: 'Call 4711 failed', call: { status: 'failed' } });
    expect(selector(['tags=error', 'call.status=failed', 'error.template~failed']).select(event, FROM)).toBeTypeOf(
      'object',
    );
    expect(selector(['tags=error', 'call.status=busy']).select(event, FROM)).toBe('unmatched');
  });

  it('that no parser takes is wanted by its record time, and by no condition', () => {
    const poison = { ...record({}), value: null };
    expect(selector([]).select(poison, FROM)).toMatchObject({ result: { ok: false, reason: 'null_value' } });
    expect(selector(['level=error']).select(poison, FROM)).toBe('unmatched');
    expect(selector([]).select({ ...poison, timeMs: START - 1 }, FROM)).toBe('outside');
  });

  it('and dropped by a transform reaches the indexer as dropped, tagged for the counts', () => {
    const steps = [{ where: { level: 'error' }, drop: true }] as const;
    const parser = createTransformingParser(newParser(), steps, { masker: createMasker() });
    const chosen = createSelector({
      parser,
      tag: createTagger(),
      range: undefined,
      matches: parseWhere(['tags=error']),
    });
    const one = record({ message: 'call 5 failed' });
    const selection = chosen.select(one, FROM);
    expect(selection).toMatchObject({ result: { ok: false, reason: 'configured', counted: true } });
    if (typeof selection !== 'object') throw new Error('it is wanted');
    expect(selection.result).toHaveProperty('event.grouping.template');
    chosen.expect([selection.result], [one]);
    expect(chosen.parser.parse(one, FROM)).toBe(selection.result);
  });

  it('is parsed once, and again only when the server has refused it', () => {
    const parser = newParser();
    let parsed = 0;
    const parse = (one: RawRecord) => {
      parsed += 1;
      return parser.parse(one);
    };
    const counting = { ...parser, parse };
    const chosen = createSelector({ parser: counting, tag: createTagger(), range: undefined, matches: undefined });
    const one = record({ message: 'm' });
    const selection = chosen.select(one, FROM);
    if (typeof selection !== 'object') throw new Error('it is wanted');
    chosen.expect([selection.result], [one]);
    expect(chosen.parser.parse(one, FROM)).toBe(selection.result);
    expect(parsed).toBe(1);
    expect(chosen.parser.parse(one, FROM)).toMatchObject({ ok: true });
    expect(parsed).toBe(2);
  });
});

it('records are handed over by origin, in their order', () => {
  const a = { kind: 'kafka', topic: 't', partition: 0 } as const;
  const b = { kind: 'kafka', topic: 't', partition: 1 } as const;
  const items = [a, b, { ...a }, b, a].map((origin, n) => ({ origin, n }));
  expect(byOrigin(items, ({ origin }) => origin).map(([, list]) => list.map(({ n }) => n))).toEqual([
    [0, 2, 4],
    [1, 3],
  ]);
});

it('the replay’s indices are none of the live ones, and its template has a priority of its own', () => {
  const { index_patterns, priority, template } = replayTemplate();
  expect(index_patterns).toEqual([`${REPLAY_PREFIX}*`]);
  expect(INDEX_PATTERN.test(`${REPLAY_PREFIX}x-2026.01.31`)).toBe(false);
  expect(priority).toBeGreaterThan(200);
  expect(new Set([priority, alertsTemplate().priority, indexTemplate().priority]).size).toBe(3);
  expect(template).toEqual(indexTemplate().template);
});
