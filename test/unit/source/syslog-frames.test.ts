// Messages and offsets of a syslog connection do not depend on the pieces its bytes come in, whichever framing each message has.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import type { RawRecord } from '../../../src/core/record.ts';
import {
  createFrameSplitter,
  createSyslogSource,
  SYSLOG_CLOSE_REASONS,
  type SyslogOptions,
} from '../../../src/source/syslog.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';
import { GROWTH_LIMIT, growth } from '../../kit/growth.ts';

function split(bytes: Buffer, cuts: readonly number[] = [], maxLineBytes = 1_000) {
  let cut = 0;
  const splitter = createFrameSplitter({ maxLineBytes, onCut: () => cut++ });
  const records: RawRecord[] = [];
  let from = 0;
  for (const to of [...new Set([...cuts, bytes.length])].filter((to) => to <= bytes.length).sort((a, b) => a - b)) {
    records.push(...splitter.push(bytes.subarray(from, to), 5));
    from = to;
  }
  const { isUnfinished, broken } = splitter;
  records.push(...splitter.end(5));
  return {
    messages: records.map(({ value, offset }) => [offset, value!.toString('latin1')]),
    cut,
    isUnfinished,
    broken,
    isLost: splitter.isUnfinished,
  };
}

const messagesOf = (text: string, maxLineBytes?: number) =>
  split(Buffer.from(text), [], maxLineBytes).messages.map(([, message]) => message);

describe('a message', () => {
  it('is counted or a line, whatever the one before it was; its offset is where its frame begins', () => {
    const result = split(Buffer.from('8 <34>1 ab<13>line\r\n\n5 <1>xy10 <13>a\nb\r\nc\n<14>nul\x007 <1>zwei<15>last'));
    expect(result.messages).toEqual([
      [0, '<34>1 ab'],
      [10, '<13>line'],
      [21, '<1>xy'],
      [28, '<13>a\nb\r\nc'],
      [42, '<14>nul'],
      [50, '<1>zwei'],
      [59, '<15>last'],
    ]);
    expect(result).toMatchObject({ cut: 0, broken: undefined, isUnfinished: true, isLost: false });
  });

  it.each([
    ['2026-11-28T14:22:41Z web1 app: m\n', ['2026-11-28T14:22:41Z web1 app: m']],
    ['10 items are left\n', ['10 items are left']],
    ['0 <13>m\n', ['0 <13>m']],
    ['01234567890123456789012 m\n', ['01234567890123456789012 m']],
    ['1795875761607 m\n', ['1795875761607 m']],
    ['12\n34', ['12', '34']],
    ['9 {"a":"b"}9 {"a":"c"}', ['{"a":"b"}', '{"a":"c"}']],
    // After a counted message a number is a count, whatever follows it: some send texts without a priority.
    ['5 <1>ab5 plain3 abc', ['<1>ab', 'plain', 'abc']],
    // Some count characters, or add a line end to what they count.
    ['6 <1>ab\n5 <1>cd\n', ['<1>ab', '<1>cd']],
    ['<13>a\0<13>b\n\0', ['<13>a', '<13>b']],
  ])('%j', (text, messages) => {
    expect(messagesOf(text)).toEqual(messages);
  });

  it('that is too long is cut at the end of a character, and counted', () => {
    const result = split(Buffer.from('14 <1>€€€ab<13>€€€\n5 <1>ok'), [], 8);
    expect(result.messages.map(([, text]) => Buffer.from(text as string, 'latin1').toString())).toEqual([
      '<1>€',
      '<13>€',
    ]);
    expect(result).toMatchObject({ cut: 2, broken: 'unframed' });
    expect(messagesOf(`${'<13>'.padEnd(3_000, 'x')}\n<13>ok\n`)).toEqual(['<13>'.padEnd(1_000, 'x'), '<13>ok']);
    expect(messagesOf(`3000 ${'<13>'.padEnd(3_000, 'x')}6 <13>ok`)).toEqual(['<13>'.padEnd(1_000, 'x'), '<13>ok']);
  });

  it.each([
    '999999999 <13>m\n<13>next\n',
    `${'9'.repeat(21)} <13>m\n<13>next\n`,
    `${'1'.repeat(5_000)}\n<13>next\n`,
    '5 <1>ab123456789 m\n<13>next\n',
  ])('with a count that cannot be ends what can be understood: %#', (text) => {
    const result = split(Buffer.from(text));
    expect(result).toMatchObject({ broken: 'bad_count', isUnfinished: false });
    expect(result.messages.every(([, message]) => message === '<1>ab')).toBe(true);
  });

  it('that is counted and has no end is not made up; a line without an end is complete when its sender hangs up', () => {
    expect(split(Buffer.from('9 <1>half'))).toMatchObject({ messages: [], isUnfinished: true, isLost: true });
    expect(split(Buffer.from('<13>whole'))).toMatchObject({ messages: [[0, '<13>whole']], isLost: false });
  });
});

interface Frame {
  readonly message: string;
  readonly framing: 'count' | 'newline' | 'nul';
}

const text = fc
  .array(fc.constantFrom('a', '7 ', '12', '€', '{', '<5>', '\r', ' ', 'ü', 'x'.repeat(30)), {
    minLength: 1,
    maxLength: 8,
  })
  .map((parts) => `<13>${parts.join('')}.`);
const frames: fc.Arbitrary<Frame[]> = fc.array(
  fc.record({ message: text, framing: fc.constantFrom<Frame['framing']>('count', 'newline', 'nul') }),
  { maxLength: 12 },
);
const cuts = fc.array(fc.nat(600), { maxLength: 12 });

function encode({ message, framing }: Frame): Buffer {
  if (framing === 'count') return Buffer.from(`${Buffer.byteLength(message)} ${message}`);
  return Buffer.from(message + (framing === 'nul' ? '\0' : '\n'));
}

describe('in any pieces', () => {
  it('comes out what was sent', () => {
    fc.assert(
      fc.property(frames, cuts, (sent, cutAt) => {
        const encoded = sent.map(encode);
        const { messages } = split(Buffer.concat(encoded), cutAt);
        let offset = 0;
        const expected = encoded.map((bytes, i) => {
          const start = offset;
          offset += bytes.length;
          return [start, Buffer.from(sent[i]!.message).toString('latin1')];
        });
        expect(messages).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('comes out the same, whatever the bytes', () => {
    const odd = fc.array(
      fc.constantFrom('5 <1>ab', '9', '1', ' ', '<', '{', '\n', '\0', '\r\n', '0', 'abc', '123456789', '€€€', '12 '),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(odd, cuts, fc.integer({ min: 5, max: 40 }), (parts, cutAt, max) => {
        const bytes = Buffer.from(parts.join(''));
        const whole = split(bytes, [], max);
        expect(split(bytes, cutAt, max)).toEqual(whole);
        const single = Array.from({ length: bytes.length }, (_, i) => i);
        expect(split(bytes, single, max)).toEqual(whole);
        for (const [, message] of whole.messages) expect((message as string).length).toBeLessThanOrEqual(max);
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    ['a line', 100, (n: number) => `<13>${'x'.repeat(n)}\n`],
    ['a counted message', 100, (n: number) => `${n} ${'<13>'.padEnd(n, 'x')}`],
    ['many lines, and no NUL among them', 1_000_000_000, (n: number) => '<1>\n'.repeat(n / 4)],
    ['many counted messages, and no line end', 1_000_000_000, (n: number) => '3 <1>'.repeat(n / 5)],
    ['counted messages of line ends', 1_000_000_000, (n: number) => '9 <1>\n\n\n\n\n\n'.repeat(n / 11)],
  ])('%s takes time in step with its length', (_, pieceBytes, make) => {
    const cost = growth(25_000, (size) => {
      const bytes = Buffer.from(make(size));
      const splitter = createFrameSplitter({ maxLineBytes: 99_000_000, onCut() {} });
      for (let at = 0; at < bytes.length; at += pieceBytes) splitter.push(bytes.subarray(at, at + pieceBytes), 5);
    });
    expect(cost).toBeLessThan(GROWTH_LIMIT);
  });

  it('holds no more than what has come, however much was announced', () => {
    const splitter = createFrameSplitter({ maxLineBytes: 1_000_000, onCut() {} });
    splitter.push(Buffer.from('90000000 <13>'), 5);
    expect(splitter.heldBytes).toBeLessThan(5_000);
    for (let i = 0; i < 300; i++) splitter.push(Buffer.alloc(10_000, 'x'), 5);
    expect(splitter.heldBytes).toBe(1_000_000);
  });
});

it('the documentation has every reason for which a connection is closed', () => {
  const page = readFileSync(join(packageRoot(), 'docs/syslog.md'), 'utf8');
  const table = page.slice(page.indexOf('logpipe_syslog_closed_total{reason}'));
  for (const reason of SYSLOG_CLOSE_REASONS) expect(table).toContain(`\`${reason}\``);
});

describe('an address', () => {
  const source = (options: Partial<SyslogOptions>) =>
    createSyslogSource(
      { address: 'tcp://127.0.0.1:6514', maxLineBytes: 1_000, ...options },
      { log: silentLog, clock: createFakeClock(), metrics: createMetrics() },
    );
  const tls = { certFile: 'c.pem', keyFile: 'k.pem' };

  it.each(['127.0.0.1:6514', 'udp://127.0.0.1:6514', 'tcp://::1:6514', 'tcp://h', 'tcp://h:65536', 'tcp://u@h:1', ''])(
    '%j is none, and the error says how to write one',
    (address) => {
      expect(() => source({ address })).toThrow(/is not an address to listen at; write tcp:\/\//);
    },
  );

  it('and the files for TLS belong together', () => {
    expect(() => source({ address: 'tls://h:1' })).toThrow(/^syslog tls:\/\/h:1: .*name their PEM files/);
    expect(() => source({ tls })).toThrow(/write tls:\/\/ or leave them out/);
    expect(() => source({ address: 'tls://h:1', tls: { ...tls, clientCertificates: 'required' } })).toThrow(
      /authority/,
    );
    for (const address of ['tcp://[::1]:0', 'tcp://0.0.0.0:514', 'tcp://web1.example:65535']) source({ address });
    expect(source({ address: 'tls://h:1', tls }).status()).toEqual({ ready: false, detail: 'not started' });
  });
});
