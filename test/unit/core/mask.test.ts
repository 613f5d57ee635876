// Masking judged from outside: lines go through the parser (both ways), the dead letter and the transport, and what comes
// out is searched for the secret.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createMasker, MASK, OVERLAP, WINDOW } from '../../../src/core/secrets/mask.ts';
import { FORM_RULES } from '../../../src/core/secrets/secret-forms.ts';
import { secretNames } from '../../../src/core/secrets/secret-keys.ts';
import { createTextRules } from '../../../src/core/secrets/secret-text.ts';
import { createDeadLetter } from '../../../src/indexing/dead-letters.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { createRecordBuilder, type Info, LEVEL, MESSAGE } from '../../../src/ship/log-record.ts';
import { transportSettings } from '../../../src/ship/options.ts';
import { INNOCENT, SECRETS } from './mask-cases.ts';

const RECORD_MS = Date.parse('2026-11-28T12:00:01.000Z');
const PARSE = { maxRecordBytes: 5_000_000, maxAheadMs: 600_000, maxBehindMs: 2_592_000_000 };
const ORIGIN = { kind: 'kafka', topic: 't', partition: 0 } as const;

/** Everything that logpipe makes of a record. */
function createPaths(mask: { keys?: string[]; patterns?: string[] } = {}) {
  const masker = createMasker(mask);
  const parsers = [createParser(PARSE, { masker }), createParser(PARSE, { masker, duplicatesRefused: true })];
  const letter = createDeadLetter({ keepRaw: false, file: '' }, masker);
  const build = createRecordBuilder(transportSettings({ brokers: ['b:9092'], topic: 't', service: 's', mask }));

  function documents(value: Buffer): string[] {
    return parsers.map((parser) => {
      const parsed = parser.parse({ value, offset: 1, timeMs: RECORD_MS, eventId: undefined });
      if (!parsed.ok) return `refused: ${parsed.reason} ${parsed.detail}`;
      const { doc, verbatim, tags } = parsed.event;
      return (verbatim ? value.toString() : JSON.stringify(doc)) + JSON.stringify(tags);
    });
  }

  function deadLetter(value: Buffer): string {
    const record = { value, offset: 1, timeMs: RECORD_MS, eventId: undefined };
    return letter(record, { origin: ORIGIN }, 'processing_failed', value.toString()).value!.toString();
  }

  function shipped(fields: Record<string, unknown>): string[] {
    const info = { ...fields, level: 'error', [LEVEL]: 'error' } as Info;
    const own = { ...info, [MESSAGE]: JSON.stringify(info) };
    // A format of the application's own, and one that writes JSON.
    return [build({ ...info, [MESSAGE]: 'pretty' }).line, build(own).line, build(own).line];
  }

  function all(line: string | Buffer): string[] {
    const value = Buffer.from(line as string);
    const fields = jsonObject(value.toString());
    return [...documents(value), deadLetter(value), ...(fields === undefined ? [] : shipped(fields))];
  }

  return { masker, documents, deadLetter, shipped, all };
}

function jsonObject(text: string): Record<string, unknown> | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? { ...parsed } : undefined;
  } catch {
    return undefined;
  }
}

const paths = createPaths();
const { masker } = paths;

describe('secrets', () => {
  const families = [...new Set(SECRETS.map(({ family }) => family))];
  test.each(families)('of the family "%s" are on no path', (name) => {
    const leaks: string[] = [];
    for (const { family, what, line, secrets } of SECRETS) {
      if (family !== name) continue;
      const out = paths.all(line);
      const at = out.findIndex((text) => secrets.some((secret) => text.replaceAll('\\u0000', '').includes(secret)));
      // The second parser writes for a sink that refuses a line with a key given twice.
      if (at >= 0 && !(at === 1 && /given twice/.test(what)))
        leaks.push(`${what} | path ${at} | ${out[at]!.slice(0, 400)}`);
    }
    expect(leaks).toEqual([]);
  });
});

describe('what holds no secret', () => {
  test('comes out as it was, on every path', () => {
    const wrong: string[] = [];
    for (const fields of INNOCENT) {
      const line = JSON.stringify({ timestamp: '2026-11-28T12:00:00.000Z', level: 'info', message: 'x', ...fields });
      for (const text of paths.all(line))
        if (/\[masked\]|_masked/.test(text.replace(line.includes(MASK) ? MASK : '\0', '')))
          wrong.push(`${line.slice(60)} => ${text.slice(0, 300)}`);
    }
    expect([...new Set(wrong)]).toEqual([]);
  });
});

describe('one decision on every path', () => {
  const mask = { keys: ['doorCode', 'tenantId'], patterns: ['\\bPAT-\\d{6}\\b', '"x"'] };
  const own = createPaths(mask);

  test.each([
    ['a key', { 'door-code': 'hunter2' }],
    ['a key in disguise', { 'D.o_o-r Code': 'hunter2' }],
    ['a catalogue field', { tenantId: 'hunter2' }],
    ['a key in a text', { message: 'doorCode=hunter2' }],
    ['a key in a text, spelled otherwise', { message: 'sent {"door_code": "hunter2"}' }],
    ['a pattern', { note: 'PAT-123456' }],
    ['a pattern in a catalogue field', { host: 'PAT-123456' }],
    ['a pattern in a key', { a: { 'PAT-123456': 1 } }],
    ['a pattern that JSON escapes', { note: 'a "x" b', other: 'PAT-123456' }],
  ])('masks %s of the operator', (_, fields) => {
    const line = JSON.stringify({ timestamp: '2026-11-28T12:00:00.000Z', level: 'error', message: 'm', ...fields });
    for (const text of own.all(line)) {
      expect(text).toContain(MASK);
      expect(text).not.toMatch(/hunter2|PAT-123456/);
    }
  });

  const word = fc.constantFrom(
    ...[
      'password',
      'token',
      'apiKey',
      'pin',
      'doorCode',
      'card',
      'code',
      'name',
      'value',
      'key',
      'session',
      'a',
      'note',
      'cookie',
      'PWD',
    ],
    ...['path', 'api', 'sid', 'auth', 'type', 'tokens', 'host', 'message', 'error', 'call', 'x-api-key', 'p\u0061ss'],
  );
  const piece = fc.oneof(
    word,
    fc.constantFrom(
      '=',
      ': ',
      ' ',
      '":"',
      '"',
      "'",
      '{',
      '}',
      '[',
      ',',
      '\\',
      '\n',
      '\\u0070',
      '%3D',
      '://',
      '@',
      ' is ',
      '--',
      '\0',
      '&',
      '?',
      '[masked]',
    ),
    fc.constantFrom(
      'Bearer abcdefg1',
      'PAT-123456',
      'https://u:p@h/',
      'Zx9aB7cD1eF4gH8i',
      '4111 1111 1111 1111',
      'null',
      '12',
      'curl -u a:b',
      'é',
    ),
    fc.string({ maxLength: 6 }),
  );
  const text = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''));
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      text,
      fc.integer(),
      fc.boolean(),
      fc.array(tie('value'), { maxLength: 3 }),
      tie('object'),
    ),
    object: fc.dictionary(fc.oneof(word, text), tie('value'), { maxKeys: 3 }),
  }));
  const fields = fc.dictionary(fc.oneof(word, text), value, { maxKeys: 4 });

  test('what the cheap look passes, masking leaves alone', () => {
    for (const each of [createMasker(), createMasker({ keys: mask.keys })]) {
      fc.assert(
        fc.property(fields, (record) => {
          const line = JSON.stringify(record);
          if (!each.suspicious(line)) {
            expect(each.value(record)).toBe(record);
            expect(each.text(line)).toBe(line);
          }
          if (!each.holdsSecret(line)) expect(each.value(JSON.parse(line))).toEqual(JSON.parse(line));
        }),
        { numRuns: 3_000 },
      );
    }
  });

  test('a document that goes through as it came is one that masking leaves alone', () => {
    fc.assert(
      fc.property(fields, (record) => {
        const line = JSON.stringify({ timestamp: '2026-11-28T12:00:00.000Z', level: 'info', message: 'm', ...record });
        for (const document of paths.documents(Buffer.from(line))) {
          if (document === `${line}[]`) expect(masker.value(JSON.parse(line))).toEqual(JSON.parse(line));
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test('masking twice changes nothing more, and never throws', () => {
    fc.assert(
      fc.property(fc.oneof(text, fc.string({ unit: 'binary' })), (given) => {
        const once = masker.text(given);
        expect(masker.text(once)).toBe(once);
      }),
      { numRuns: 5_000 },
    );
    fc.assert(
      fc.property(fields, (record) => {
        const once = masker.value(record);
        expect(masker.value(once)).toEqual(once);
      }),
      { numRuns: 3_000 },
    );
    for (const { line } of SECRETS) {
      const once = masker.text(line.toString());
      expect(masker.text(once)).toBe(once);
    }
  });

  test('every name of a secret is found in every spelling', () => {
    const missed: string[] = [];
    for (const [name] of secretNames()) {
      for (const key of [name, name.toUpperCase(), `my_${name}`, `x-${name}`, `db.${name}`]) {
        if (masker.isSecretKey(key) && !masker.suspicious(JSON.stringify({ [key]: 'Zx9aB7cD1eF4gH8i' })))
          missed.push(key);
      }
      if (!masker.isSecretKey(name) && !['pincode', 'seed', 'pan'].includes(name)) missed.push(`not secret: ${name}`);
    }
    expect(missed).toEqual([]);
  });
});

describe('patterns of the operator', () => {
  test('see windows that overlap by the longest match', () => {
    const { text } = createMasker({ patterns: ['A{1,2000}Z', 'b*'] });
    for (const at of [0, WINDOW - 10, WINDOW - OVERLAP, WINDOW, 3 * WINDOW - 500]) {
      const before = '-'.repeat(at);
      expect(text(`${before}${'A'.repeat(OVERLAP - 1)}Z-`)).toBe(`${before}${MASK}-`);
    }
    expect(text('aba')).toBe(`a${MASK}a`);
    expect(text('a'.repeat(3 * WINDOW))).toBe('a'.repeat(3 * WINDOW));
  });
});

describe('hostile input', () => {
  test.each([
    ['a token that never ends', `eyJabcdefgh${'.'.repeat(4_900_000)}`],
    ['a scheme before megabytes', `Bearer ${'a'.repeat(20_000_000)}`],
    ['a key that is not closed', '-----BEGIN PRIVATE KEY-----'.repeat(100_000)],
    ['groups in groups', '{"password":'.repeat(200_000)],
    ['brackets', `${'['.repeat(100_000)}${']'.repeat(100_000)}`],
    ['quotes and backslashes', '"\\'.repeat(500_000)],
  ])('%s overflows nothing', (_, text) => {
    const masked = masker.text(text);
    expect(masked.length).toBeLessThanOrEqual(text.length);
    expect(masker.text(masked)).toBe(masked);
  });

  test('nesting is cut, not followed', () => {
    let deep: unknown = 'x';
    for (let level = 0; level < 50_000; level++) deep = level % 2 === 0 ? { password: deep } : [deep];
    expect(JSON.stringify(masker.value(deep))).toContain('nested too deeply');
  });

  /** CPU time in ms, the best of some tries: the machine may have other work. */
  function cost(text: string, tries: number): number {
    const each = Array.from({ length: tries }, () => {
      const before = process.cpuUsage();
      hostile.suspicious(text);
      hostile.text(text);
      const { user, system } = process.cpuUsage(before);
      return (user + system) / 1_000;
    });
    return Math.min(...each);
  }

  const hostile = createMasker({ keys: ['doorCode'], patterns: ['[A-Z0-9]+@corp', '[a-z]+[0-9]'] });
  const literals = [...new Set([...FORM_RULES, ...createTextRules(() => false)].flatMap(({ anchors }) => anchors))];
  const units = [
    ...literals.filter((_, i) => i % 8 === 0),
    ...[
      'password',
      'token',
      '://',
      'eyJabcdefgh.',
      'Bearer ',
      'Cookie: ',
      'insert into t (',
      '<password ',
      'curl -u ',
    ].flatMap((literal) => ['=', ': ', '="', ':{', '[', "='", '%3D', '\\"', '@', '1'].map((tail) => literal + tail)),
    ...[
      ':',
      '"',
      "'",
      '\\',
      '%',
      '&',
      '.',
      '[',
      '{"a":',
      '1',
      '1 ',
      '1-',
      '4111 1111 1111 1111 ',
      '\\u0070',
      '\0',
      'é',
      'a b ',
      'A',
      'A@corp',
      'a1',
    ],
    ...[
      '"name":"password","value":',
      'password for ',
      'insert into t (password) values (',
      'mysql -p',
      'key key ',
      '----',
      'END-',
      'a.bcdefg.',
    ],
  ];

  test('costs in step with its length, for every literal and key form repeated', () => {
    const slow: string[] = [];
    const [short, long] = [2_000, 16_000];
    for (const unit of units) {
      const [few, many] = [short, long].map((length) => unit.repeat(Math.ceil(length / unit.length)));
      // A floor, because a millisecond cannot be measured; 8 is in step, 64 would be its square.
      const ratio = (tries: number) => cost(many!, tries) / Math.max(cost(few!, tries), 0.5);
      // Again and again, for a busy machine disturbs one measurement, and a collection of garbage several.
      if ([1, 4, 16, 16].every((tries) => ratio(tries) > 24)) slow.push(unit);
    }
    expect(slow).toEqual([]);
  }, 240_000);

  test('many keys cost in step with their number', () => {
    const wide = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`call.k${i}password`, `v${i}`]));
    const run = (record: object) => {
      const before = process.cpuUsage();
      masker.value(record);
      const { user, system } = process.cpuUsage(before);
      return user + system;
    };
    const [few, many] = [wide(2_000), wide(16_000)];
    run(few);
    const ratios = [0, 1, 2].map(() => run(many) / Math.max(run(few), 1_000));
    expect(Math.min(...ratios)).toBeLessThan(24);
  });
});

describe('a mask that fails', () => {
  // What a regular expression does that runs out of stack: it throws out of any text function.
  function failing<T>(work: () => T): T {
    const original = String.prototype.matchAll;
    String.prototype.matchAll = () => {
      throw new RangeError('Maximum call stack size exceeded');
    };
    try {
      return work();
    } finally {
      String.prototype.matchAll = original;
    }
  }
  const masker = createMasker({ keys: ['doorCode'] });

  test('masks the whole text', () => {
    expect(failing(() => masker.text('call 7 doorCode=abc123 answered'))).toBe(MASK);
  });

  test('also in a text that is JSON, and in a value', () => {
    const inner = JSON.stringify({ note: 'doorCode: abc123' });
    expect(failing(() => masker.text(inner))).toBe(MASK);
    expect(failing(() => masker.value({ callId: 'c1', inner, list: ['doorCode=abc123'] }))).toEqual({
      callId: 'c1',
      inner: MASK,
      list: [MASK],
    });
  });
});

test('what is remembered of keys does not grow with them', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const held = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const masker = createMasker();
  const feed = (from: number, count: number) => {
    for (let i = from; i < from + count; i++)
      masker.value({ [`${'k'.repeat(40)}${i}`]: 1, [`${'long'.repeat(200)}${i}`]: 1 });
  };
  feed(0, 20_000);
  const before = held();
  feed(20_000, 200_000);
  // All of them would be more than 180 MB.
  expect(held() - before).toBeLessThan(20_000_000);
});

describe('a text that was left alone once', () => {
  test('is masked where it can be looked at more deeply', () => {
    const masker = createMasker();
    // Its words alone do not give it away.
    const said = JSON.stringify({ path: '/dbPassword', op: 'replace', value: 'hunter2' });
    const wrap = (text: string, times: number): string =>
      times === 0 ? text : wrap(JSON.stringify([text]), times - 1);
    expect(masker.text(wrap(said, 4))).toContain('hunter2');
    expect(masker.text(said)).not.toContain('hunter2');
  });

  test('is remembered as a text of its own, not as a part of a long one', () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const masker = createMasker();
    const held = () => {
      collect();
      return process.memoryUsage().heapUsed;
    };
    const before = held();
    for (let i = 0; i < 200; i++) masker.text(`${'x'.repeat(500_000)}${i} token refreshed`.slice(-40));
    expect(held() - before).toBeLessThan(20_000_000);
  });
});
