// Records made to stop, slow or swell the process. Every one is a document or a dead letter, in time that grows with its length.
import { describe, expect, it } from 'vitest';
import { parse, winston } from './kit.ts';

const many = (n: number, item: (i: number) => string) => Array.from({ length: n }, (_, i) => item(i)).join();
/** Characters that expressions look for, as they stand in JSON. */
const SEPARATORS = [
  '.',
  ' ',
  '\\n',
  '\\"',
  ':',
  '=',
  ',',
  '[',
  '/',
  '-',
  '\\\\',
  '0',
  '1.',
  'e',
  '\\u0000',
  '\\ud83d',
  '\\u001b[',
];

const GROWING: Record<string, (n: number) => string> = {
  'dotted keys of one group': (n) => winston(many(n, (i) => `"call.k${i}":1`)),
  'dotted keys that collide': (n) => winston(`"call":{"a":1},${many(n, (i) => `"call.a.k${i}":1`)}`),
  'dotted keys of an ECS group': (n) => winston(`"ecs.version":"8",${many(n, (i) => `"service.k${i}":1`)}`),
  'an ECS group of many keys': (n) => winston(`"ecs":{},"service":{"name":"s",${many(n, (i) => `"k${i}":1`)}}`),
  'one dotted key, deep': (n) => winston(`"call${'.a'.repeat(n)}":1`),
  'many keys': (n) => winston(many(n, (i) => `"k${i}":1`)),
  'many fields to unfold': (n) => winston(`"fields":{${many(n, (i) => `"message${i % 2}${i}":1`)}}`),
  'an extra of many keys, and a field that goes there': (n) =>
    winston(`"kafka":1,"extra":{${many(n, (i) => `"kafka_${i}":1`)}}`),
  'one key many times': (n) => winston(many(n, () => '"a":1')),
  'names that differ in blanks alone': (n) => winston(`"extra":{${many(n, (i) => `"a${' '.repeat(i % 200)}":1`)}}`),
  'a long list': (n) => winston(`"a":[${many(n, () => '1')}],"stack":"x"`),
  'a long list of odd numbers': (n) => winston(`"a":[${many(n, () => '{"b":1e400}')}]`),
  'many tags': (n) => winston(`"tags":[${many(n, () => '"t"')}]`),
  'many attributes': (n) =>
    `{"severityNumber":9,"body":"x","attributes":[${many(n, (i) => `{"key":"k${i}","value":{"stringValue":"1"}}`)}]}`,
  'many log records': (n) =>
    `{"resourceLogs":[{"scopeLogs":[{"logRecords":[${many(n, () => '{"severityNumber":9}')}]}]}]}`,
  'many pairs of logfmt': (n) => `level=info ${many(n, (i) => `k${i}=v`).replaceAll(',', ' ')}`,
  'an open quote of logfmt': (n) => `level=info a="${'\\"'.repeat(n)}`,
  'elements of structured data': (n) => `<11>1 - h a - - ${'[a@1 b="c"]'.repeat(n)} m`,
  'pairs of structured data': (n) => `<11>1 - h a - - [a ${'b="\\"" '.repeat(n)}] m`,
  'elements without an end': (n) => `<11>1 - h a - - ${'[a@1 '.repeat(n)}`,
  'a tag without an end': (n) => `<11>Nov 28 14:22:41 h ${'a'.repeat(n)}`,
  'a tag of brackets': (n) => `<11>Nov 28 14:22:41 ${'a['.repeat(n)}`,
  'open structured data': (n) => `<11>1 - h a - - [${'x="\\]" '.repeat(n)}`,
  'a message of many fields': (n) =>
    winston('"a":1').replace('"m"', JSON.stringify(`{${many(n, (i) => `"k${i}":1`)}}`)),
};
for (const separator of SEPARATORS) {
  GROWING[`a message of ${separator}`] = (n) => winston('').replace('"m"', `"${separator.repeat(n)}"`);
  GROWING[`a key of ${separator}`] = (n) => winston(`"${separator.repeat(n)}":1,"time":1`);
  GROWING[`a level and time of ${separator}`] = (n) =>
    `{"message":"m","level":"${separator.repeat(n)}","time":"${separator.repeat(n)}"}`;
  GROWING[`a line of ${separator}`] = (n) => `2026-11-28 14:22:41 ${separator.repeat(n)}`;
  GROWING[`nothing but ${separator}`] = (n) => separator.repeat(n);
}

describe('work', () => {
  const SHORT = 2_000;
  const LONGER = 8;

  function cost(line: string): number {
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 3; i++) {
      const before = process.cpuUsage();
      parse(line);
      const { user, system } = process.cpuUsage(before);
      best = Math.min(best, user + system);
    }
    return best;
  }

  it.each(Object.entries(GROWING))('of %s grows with its length', (_, line) => {
    cost(line(SHORT));
    let best = Number.POSITIVE_INFINITY;
    // Linear is 8, quadratic 64; below a millisecond the clock is all that is measured.
    for (let attempt = 0; attempt < 4 && best > 16; attempt++) {
      best = Math.min(best, cost(line(SHORT * LONGER)) / Math.max(cost(line(SHORT)), 1_000));
    }
    expect(best).toBeLessThan(24);
  });
});

describe('nesting', () => {
  const inside = (depth: number, open: string, close: string) => `${open.repeat(depth)}1${close.repeat(depth)}`;

  it.each([6_000, 100_000])('of %i levels is a tagged document, with all that is not nested', (depth) => {
    for (const [open, close] of [
      ['{"a":', '}'],
      ['[', ']'],
    ] as const) {
      for (const key of [
        'custom',
        'call',
        'extra',
        'message',
        'error',
        'tags',
        'fields',
        'service',
        'attributes',
        'kafka',
      ]) {
        const { document, tags } = parse(
          `{"level":"info","callId":"CA1","time":"2026-11-28T14:22:41.607Z","${key}":${inside(depth, open, close)}}`,
        );
        expect(document, key).toMatchObject({ '@timestamp': '2026-11-28T14:22:41.607Z', level: 'info', callId: 'CA1' });
        expect(tags.join(), key).toMatch(/_mapping_degraded|_masked/);
        expect(JSON.stringify(document).length, key).toBeLessThan(20_000);
      }
    }
  });

  it('of the record itself is one too', () => {
    expect(parse(inside(100_000, '{"a":', '}')).tags).toContain('_mapping_degraded');
    expect(parse(inside(100_000, '[', ']')).tags).toContain('_parse_failed');
    expect(parse('{"a":'.repeat(100_000)).tags).toContain('_parse_failed');
  });

  it('is cut at a bound of our own, the same on both paths', () => {
    for (const depth of [14, 15, 16, 17, 18, 40]) {
      const fields = `"deep":${inside(depth, '{"a":', '}')},"list":${inside(depth, '[', ']')}`;
      const [fast, slow] = [parse(winston(fields)), parse(` ${winston(fields)}`)];
      expect(fast.path).toBe(depth <= 16 ? 'fast' : 'slow');
      expect(fast.document).toEqual(slow.document);
      expect(fast.tags).toEqual(depth <= 16 ? [] : ['_mapping_degraded']);
      expect(JSON.stringify(fast.document).match(/[[{]/g)!.length).toBeGreaterThanOrEqual(2 * depth);
    }
  });

  it('of JSON in messages ends after a few', () => {
    let line = '{"message":"the innermost"}';
    for (let i = 0; i < 9; i++) line = JSON.stringify({ message: line, pad: i });
    expect(parse(line).document?.message).toContain('the innermost');
  });
});
