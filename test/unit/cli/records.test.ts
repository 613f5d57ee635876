// What the commands print of records: every one of them, masked by the configured keys, and nothing that works on the terminal.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, test, vi } from 'vitest';
import { parse } from '../../../src/cli/parse.ts';
import { parseConfig } from '../../../src/config.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { LINE_FORMATS } from '../../../src/parse/normalise.ts';
import { SHAPES } from '../../../src/parse/shapes.ts';
import { shownText } from '../../../src/replay/record-document.ts';
import { parseCondition } from '../../../src/replay/sources.ts';

const folder = mkdtempSync(join(tmpdir(), 'logpipe-records-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const CONFIG = parseConfig("mask: { keys: [locker], patterns: ['ZZ-[0-9]{4}'] }", {}, 'test.yml');
const WORKS = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b\u2028\u2029\u202a-\u202e]/;

async function printed(lines: readonly (string | Buffer)[], json: boolean) {
  const file = join(folder, 'lines');
  writeFileSync(file, Buffer.concat(lines.flatMap((line) => [Buffer.from(line as string), Buffer.from('\n')])));
  const out: string[] = [];
  const status = await parse([file], CONFIG, { json }, { out: (line) => out.push(line), err: () => {} });
  return { status, out };
}

const nested = (open: string, close: string, levels: number) => `${open.repeat(levels)}1${close.repeat(levels)}`;
const HOSTILE = [
  '{"timestamp":"2026-01-05T10:00:00.000Z","level":"info","message":"first"}',
  ...[6_000, 60_000].flatMap((n) => [
    `{"level":"error","x":${nested('[', ']', n)}}`,
    `{"level":"info","error":{"x":${nested('{"a":', '}', n)}}}`,
    nested('[', ']', n),
    nested('{"a":', '}', n),
  ]),
  '{"message":{"toString":1},"__proto__":{"x":1},"constructor":1}',
  '{"message":"\u001b[2J\u202edrow\u2028ssap\u200b"}',
  '\u001b]0;title\u0007\u009b2J plain \u202e text',
  '{"message":"last"}',
];

describe.each([true, false])('parse, as JSON: %s', (json) => {
  it('gives every line its answer', async () => {
    const { out } = await printed([...HOSTILE, Buffer.from([0xff, 0xfe, 0x41])], json);
    expect(out).toHaveLength(HOSTILE.length + 1);
    expect(out[0]).toContain('first');
    expect(out.at(-2)).toContain('last');
    expect(out.join('')).not.toMatch(WORKS);
    if (json) for (const line of out) expect(JSON.parse(line)).toHaveProperty('path');
    // Indentation of what is nested deeply would be the square of its depth.
    expect(out.join('').length).toBeLessThan(1_000_000);
  });

  it('masks by the configured keys and patterns', async () => {
    const { out } = await printed(
      ['{"message":"x","locker":"opal","note":"ZZ-1234"}', 'text ZZ-1234 locker=opal'],
      json,
    );
    expect(out.join()).not.toMatch(/opal|ZZ-1234/);
    expect(out.join().match(/\[masked\]/g)!.length).toBeGreaterThanOrEqual(4);
  });
});

test('a line separator within a record ends no line', async () => {
  const { status, out } = await printed(['{"level":"info","message":"a\u2028b\rc"}'.replace('\r', '\\r')], true);
  expect(status).toBe(0);
  expect(JSON.parse(out[0]!).document.message).toBe('a\u2028b\rc');
});

test('a file that is not there is said as such', async () => {
  const nowhere = parse([join(folder, 'nowhere')], CONFIG, { json: true }, { out: () => {}, err: () => {} });
  await expect(nowhere).rejects.toMatchObject({ code: 'LOGPIPE_SOURCE_FAILED' });
});

describe('the text of a dead letter that was kept raw', () => {
  const masker = createMasker(CONFIG.mask);
  const show = (text: string) => shownText(Buffer.from(text), masker, 200)!;

  test.each([
    ['{"locker":"opal","a":1}', '{"locker":"[masked]","a":1}'],
    ['{"l\\u006fcker":"opal"}', '{"locker":"[masked]"}'],
    ['{"a":"ZZ-1234"}', '{"a":"[masked]"}'],
    ['{"locker":"opal","cut', '{"locker":"[masked]","cut'],
    ['{"a": 1}', '{"a": 1}'],
  ])('%s', (text, shown) => {
    expect(show(text)).toBe(shown);
  });

  it('is masked before it is cut, at any depth', () => {
    expect(show(`${'x'.repeat(195)} ZZ-1234`)).not.toContain('ZZ-');
    expect(show(`{"a":${nested('[', ']', 9_000)},"locker":"opal"}`)).not.toContain('opal');
    expect(shownText(null, masker, 10)).toBeNull();
  });
});

test('a condition takes a value at any depth, and its own text in one pass', () => {
  const value = JSON.parse(nested('[', ']', 20_000)) as unknown;
  expect(parseCondition('x~[[1]]')({ x: value })).toBe(true);
  expect(parseCondition('x=2')({ x: value })).toBe(false);
  expect(parseCondition('x != a ')({ x: 'a' })).toBe(false);
  expect(() => parseCondition('a!b=c')).toThrow('--where');
  expect(() => parseCondition(`x${' '.repeat(50_000)}y`)).toThrow('--where');
});

describe('parse --explain', () => {
  const masked = parseConfig(
    'parse: { maxBehindMs: 9000000000000, maxAheadMs: 9000000000000 }\nmask: { keys: [locker], phoneNumbers: true, emailAddresses: true, ipAddresses: true }',
    {},
    'test.yml',
  );
  const AT = '"timestamp":"2026-01-05T10:00:00.000Z"';

  async function explained(lines: readonly (string | Buffer)[], json = true) {
    const file = join(folder, 'explained');
    writeFileSync(file, Buffer.concat(lines.flatMap((line) => [Buffer.from(line as string), Buffer.from('\n')])));
    const out: string[] = [];
    await parse([file], masked, { json, explain: true }, { out: (line) => out.push(line), err: () => {} });
    return out;
  }
  const one = async (line: string) => JSON.parse((await explained([line]))[0]!);

  it('says that nothing was done to a record of the transport, and its id', async () => {
    const id = '01KB5ZK0V2XJ4M3C8Q9D7E6F5G';
    const line = `{${AT},"level":"info","message":"m","eventId":"${id}"}`;
    const nothing = { shapes: [], masked: [], renamed: [], set: [], moved: [], transformed: [] };
    expect(await one(line)).toMatchObject({
      path: 'fast',
      tags: [],
      id,
      index: 'calling-platform-2026.01.05',
      explanation: nothing,
    });
    expect((await explained([line], false))[0]).toBe(`fast path  calling-platform-2026.01.05  id: ${id}  no tags`);
  });

  it.each<[string, string, object]>([
    [
      'no number',
      '"call":{"durationMs":"12ms"}',
      {
        why: expect.stringContaining('call.durationMs'),
        moved: [{ from: 'call.durationMs', to: 'extra.call.durationMs', why: '"12ms" is no whole number' }],
      },
    ],
    [
      'a number as text',
      '"call":{"durationMs":"12"}',
      { moved: [{ from: 'call.durationMs', to: 'call.durationMs', why: '"12" became a whole number' }] },
    ],
    [
      'a number in another notation',
      '"pid":"007"',
      { moved: [{ from: 'pid', to: 'extra.pid', why: '"007" became a whole number; this is the original' }] },
    ],
    [
      'no name for a field',
      '"a..b":1',
      {
        why: 'a..b is not a plain name of a field',
        moved: [{ from: 'a..b', to: 'extra.a..b', why: 'Elasticsearch takes no field of this name' }],
      },
    ],
    [
      'what logpipe writes',
      '"kafka":1,"extra":{"kafka":2}',
      {
        why: 'kafka is logpipe’s to write',
        moved: [{ from: 'kafka', to: 'extra.kafka_2', why: 'logpipe writes this field itself' }],
      },
    ],
    [
      'a group in the place of a text',
      '"service":{"name":"x"}',
      { moved: [{ from: 'service', to: 'extra.service', why: '{"name":"x"} is no text' }] },
    ],
    [
      'a text in the place of a group',
      '"call":"CA1"',
      { moved: [{ from: 'call', to: 'extra.call', why: 'call is a group of fields, and "CA1" is none' }] },
    ],
    [
      'what is nested too deeply',
      `"x":${nested('[', ']', 30)}`,
      { why: 'x is nested too deeply', moved: [{ from: 'x', to: 'extraRaw', why: 'it is nested too deeply' }] },
    ],
    [
      'a key given twice',
      '"x":1,"x":2',
      { why: 'a key may be given twice', set: [], moved: [{ from: 'x (given twice)', to: 'extra.x' }] },
    ],
    ['an escape', '"x":"\\u0041"', { why: 'it holds a line break or an escape \\u' }],
    [
      'a secret',
      '"locker":"opal"',
      { why: 'something in it is to be masked', masked: [{ field: 'locker', kind: 'secret', times: 1 }] },
    ],
    [
      'every kind',
      '"a":[{"b":"+4930123456 and +4930123457, a@example.com, 10.0.0.1"}]',
      {
        masked: [
          { field: 'a[0].b', kind: 'phone number', times: 2 },
          { field: 'a[0].b', kind: 'e-mail address', times: 1 },
          { field: 'a[0].b', kind: 'IP address', times: 1 },
        ],
      },
    ],
    ['a number under a key', '"to":4915112345678', { masked: [{ field: 'to', kind: 'phone number', times: 1 }] }],
    [
      'a name',
      '"seen":{"10.0.0.1":{"token":"abcdefgh1"}}',
      {
        masked: [
          { field: 'seen.[ip]', kind: 'IP address', times: 1, inName: true },
          { field: 'seen.[ip].token', kind: 'secret', times: 1 },
        ],
      },
    ],
    [
      'an error by other names',
      '"err":{"type":"TypeError","message":"x"}',
      {
        why: 'err may belong to the format of another logger',
        renamed: [
          { from: 'err.message', to: 'error.message' },
          { from: 'err.type', to: 'error.name' },
        ],
      },
    ],
  ])('tells of %s', async (_, fields, explanation) => {
    const { path, explanation: given } = await one(`{${AT},"level":"info","message":"m",${fields}}`);
    expect(path).toBe('slow');
    expect(given).toMatchObject(explanation);
  });

  it('names the shape, where each field came from, and what it was put aside for', async () => {
    const { explanation } = await one('{"level":50,"time":1767607200000,"hostname":"web1","msg":"call failed","v":0}');
    expect(explanation).toEqual({
      why: 'timestamp is not a text',
      shapes: ['Pino and Bunyan'],
      masked: [],
      renamed: [
        { from: 'msg', to: 'message' },
        { from: 'time', to: 'timestamp' },
        { from: 'hostname', to: 'host' },
      ],
      set: ['level'],
      moved: [{ from: 'level', to: 'extra.level', why: 'its field holds another value, or it has none' }],
      transformed: [],
    });
    const wrapped = await one(
      '{"log":"{\\"level\\":\\"error\\",\\"message\\":\\"inner\\"}\\n","stream":"stderr","time":"2026-01-05T10:00:00.1Z"}',
    );
    expect(wrapped.explanation).toMatchObject({
      shapes: ['Docker (`json-file`)'],
      renamed: expect.arrayContaining([{ from: 'log: message', to: 'message' }]),
    });
    expect((await one('2026-01-05 10:00:00,607 - ERROR - x')).explanation).toMatchObject({
      why: 'it does not begin with {',
      renamed: [{ from: 'line', to: 'message' }],
      set: ['timestamp', 'level'],
    });
  });

  it('is a few readable lines on a terminal', async () => {
    const line = `{${AT},"level":"info","message":"from 10.0.0.1 to 10.0.0.2","call":{"durationMs":"12ms"}}`;
    expect((await explained([line], false))[0]!.split('\n')).toEqual([
      'slow path  calling-platform-2026.01.05  id: its place in its source  _masked _mapping_degraded',
      '  why      call.durationMs has a value or name that its place does not take',
      '  masked   IP address in message (2 times)',
      '  moved    call.durationMs → extra.call.durationMs: "12ms" is no whole number',
    ]);
  });

  it('has a reason for every line that is not on the fast path, none for those that are, and changes nothing', async () => {
    const examples = [...SHAPES, ...LINE_FORMATS].map(({ example }) => example);
    const lines = [
      ...examples,
      ...HOSTILE.filter(({ length }) => length < 50_000),
      '{"level":"info"',
      '[1]',
      'x',
      `{${AT},"level":"info","message":"m"}`,
      Buffer.from([0xff, 0x41]),
    ];
    const now = vi.spyOn(Date, 'now').mockReturnValue(Date.parse('2026-11-29T00:00:00Z'));
    const [out, plain] = [await explained(lines), await printedBy(lines)];
    now.mockRestore();
    expect(out).toHaveLength(lines.length);
    for (const [i, text] of out.entries()) {
      const { id, explanation, ...line } = JSON.parse(text);
      expect(line).toEqual(JSON.parse(plain[i]!));
      expect(id).toBeNull();
      if (line.path !== 'refused') expect(explanation.why === undefined, text).toBe(line.path === 'fast');
    }
    expect(out.join('')).not.toMatch(WORKS);
  });

  async function printedBy(lines: readonly (string | Buffer)[]) {
    const file = join(folder, 'explained');
    writeFileSync(file, Buffer.concat(lines.flatMap((line) => [Buffer.from(line as string), Buffer.from('\n')])));
    const out: string[] = [];
    await parse([file], masked, { json: true }, { out: (line) => out.push(line), err: () => {} });
    return out;
  }

  it('shows no secret, wherever it stands and whatever becomes of it', async () => {
    const secret = ['hunter', '2x9Z'].join('');
    const fields = [
      `"password":"${secret}"`,
      `"call":{"durationMs":"password=${secret}"}`,
      `"service":{"password":"${secret}"}`,
      `"level":"password=${secret}"`,
      `"error":{"code":{"token":"${secret}"}}`,
      `"a..b":"token: ${secret}"`,
      `"x":{"https://u:${secret}@h/":1}`,
      `"kafka":{"secret":"${secret}"}`,
      `"message":"{\\"password\\":\\"${secret}\\",\\"pid\\":\\"x\\"}"`,
      `"pid":"locker=${secret}"`,
    ];
    const lines = fields.map((field) => `{${AT},"level":"info","message":"m",${field}}`);
    for (const json of [true, false]) {
      const out = await explained(lines, json);
      for (const text of out) expect(text).not.toContain(secret);
      expect(out.filter((text) => text.includes('secret'))).toHaveLength(lines.length);
    }
  });

  it('is bounded for a record with many fields', async () => {
    const many = Array.from({ length: 5_000 }, (_, i) => `"f${i}":"10.0.0.1"`).join();
    const { explanation } = await one(`{${AT},"level":"info","message":"m",${many}}`);
    expect(explanation.masked).toHaveLength(100);
    expect(explanation.leftOut).toBeGreaterThan(4_000);
  });
});
