// Masking judged from outside: lines go through the parser (both ways), the dead letter and the transport, and what comes
// out is searched for the secret.
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { createMasker, MASK, type Masker } from '../../../src/core/mask.ts';
import { secretNames } from '../../../src/core/secret-keys.ts';
import { createDeadLetter } from '../../../src/indexing/refused.ts';
import { createParser } from '../../../src/parse/parse.ts';
import { transportSettings } from '../../../src/ship/options.ts';
import { createRecordBuilder, type Info, LEVEL, MESSAGE } from '../../../src/ship/record.ts';
import { drawn, INNOCENT, SECRETS } from './mask-cases.ts';

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
        if (/\[masked\]|_masked/.test(text)) wrong.push(`${line.slice(60)} => ${text.slice(0, 300)}`);
    }
    expect([...new Set(wrong)]).toEqual([]);
  });
});
