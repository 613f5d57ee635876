// What stays of an error text and what is replaced, and how well that groups the labelled lines.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { judge, LABELLED_LINES, mean, messageOf, readLabelled, wholeOf } from '../../../bench/templates.ts';
import { errorTemplate } from '../../../src/tag/tag.ts';

describe('what varies', () => {
  test.each([
    ['Timeout after 5000 ms connecting to 10.0.3.17:5432', 'Timeout after <n> ms connecting to <id>'],
    ['took 12ms, then 3.5s, at -40 °C and 99.5%', 'took <n>, then <n>, at <n> °C and <n>'],
    ['estimated size 384.0 B, free 1.5 GiB', 'estimated size <n>, free <n>'],
    ['Received block blk_-160899 of size 67108864', 'Received block <id> of size <n>'],
    ['to delete blk_1 blk_-2 blk_3', 'to delete <id>'],
    ["Can't reach 'a b' or \"c\" or `d`", "Can't reach <quoted> or <quoted> or <quoted>"],
    ['"GET /v2/ab/servers HTTP/1.1" status: 200', '"GET <path>" status: <n>'],
    ['"POST /v2/ab/servers HTTP/1.1" status: 200', '"POST <path>" status: <n>'],
    ['cannot open /var/lib/app/x.cfg: denied', 'cannot open <path>: denied'],
    ['Loaded C:\\Windows\\winsxs\\cbscore.dll.', 'Loaded <path>.'],
    ['see https://example.org/a?b=1&c=(x), or not', 'see <path>), or not'],
    ['mail for karl@kestrel.net failed', 'mail for <id> failed'],
    ['request 7d44b2c1-98a0-4e4b-9d3e-0123456789ab gone', 'request <id> gone'],
    ['no route to fe80::1:2:3 or 2001:db8:0:0:1:2:3:4', 'no route to <id> or <id>'],
    ['Failed password for root from 1.2.3.4 port 22', 'Failed password for <user> from <id> port <n>'],
    ['Failed password for invalid user test1 from 1.2.3.4', 'Failed password for invalid user <user> from <id>'],
    ['session closed for user root', 'session closed for user <user>'],
    ['the user is unknown; user input was empty', 'the user is unknown; user input was empty'],
    ['rhost=a.b  user=root, tag="View Lock", ok= false', 'rhost=<value>  user=<value>, tag=<value>, ok=<value>'],
    ['logname= uid=0 ruser= rhost=', 'logname=<value> uid=<value> ruser=<value> rhost=<value>'],
    ['a == b, c => d, e != f', 'a == b, c => d, e != f'],
    ['token=Token{ab (c) [d] e=f} rest', 'token=<value> rest'],
    ['at Fri Jun 17 07:57:31 2005 PM', 'at <n>'],
    ['It may be that Sun and Mar are names', 'It may be that Sun and Mar are names'],
    ['com.kestrel.Call@1f2e3d4c: null', 'com.kestrel.Call@<id>: null'],
    ['at route(Router.java:812)', 'at route(Router.java:<n>)'],
    ['signals [TERM, HUP, INT]', 'signals [<list>]'],
    ['INFO [pool-1] c.k.Service - ready', 'INFO [<id>] c.k.Service - ready'],
    ['Jul  1 09:00:55 authorMacBook-Pro kernel[0]: up', '<id> kernel[<n>]: up'],
    ['lifetime <1 sec', 'lifetime <n>'],
    ['read/write and/or this', 'read/write and/or this'],
    ['Größe 17 überschritten', 'Größe <n> überschritten'],
    ['first line 1\nsecond line 2', 'first line <n>'],
    ['nothing here varies', 'nothing here varies'],
  ])('%s', (text, template) => {
    expect(errorTemplate(text)).toBe(template);
  });

  test('is a pure function of any first line, bounded and well-formed', () => {
    const part = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        '=',
        '[',
        ']',
        '"',
        "'",
        '(',
        '<1 sec',
        '://',
        '@',
        ':',
        '.',
        ' for ',
        ' user ',
        'Jun 3',
        '12',
        '\\',
        '/',
      ),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 40 }), (parts) => {
        const text = parts.join('');
        const template = errorTemplate(text);
        expect(template.length).toBeLessThanOrEqual(256);
        expect(template.isWellFormed()).toBe(true);
        expect(errorTemplate(text)).toBe(template);
        expect(template).not.toMatch(/[\r\n]/);
      }),
      { numRuns: 2_000 },
    );
  });

  test('costs no more for signs that open than for words', () => {
    // Bounded by the first 512 characters; among these nothing may be looked at again and again without end.
    const time = (text: string) => {
      let best = Number.POSITIVE_INFINITY;
      for (let round = 0; round < 7; round++) {
        const before = performance.now();
        for (let i = 0; i < 300; i++) errorTemplate(text);
        best = Math.min(best, performance.now() - before);
      }
      return best;
    };
    const words = time('word '.repeat(100));
    for (const sign of ['[', '=', '"', "'", '@a', 'a:1', '1:', 'a.', '/', '(', 'a=[', 'INFO [', '<1', ' =', '=a ']) {
      expect(time(sign.repeat(Math.floor(500 / sign.length))) / words).toBeLessThan(100);
    }
  });
});

test('groups the labelled lines of eighteen kinds of systems', () => {
  const lines = readLabelled(LABELLED_LINES);
  const messages = judge(lines, messageOf);
  const whole = judge(lines, wholeOf);
  expect(messages.length).toBeGreaterThanOrEqual(10);
  expect(mean(messages, 'accuracy')).toBeGreaterThanOrEqual(0.97);
  expect(mean(whole, 'accuracy')).toBeGreaterThanOrEqual(0.97);
  expect(mean(messages, 'precision')).toBeGreaterThanOrEqual(0.99);
  expect(mean(whole, 'precision')).toBeGreaterThanOrEqual(0.99);
});

test('judges by whole groups: one line astray makes its group and its target wrong', () => {
  const line = (label: string, message: string) => ({ system: 's', label, head: '', message });
  const lines = [line('a', 'x'), line('a', 'x'), line('a', 'y'), line('b', 'y'), line('c', 'z')];
  const [grouping] = judge(lines, messageOf, (text) => text);
  // Only c is right; of two pairs (x, x) and (y, y) the first is.
  expect(grouping).toEqual({ system: 's', lines: 5, accuracy: 0.2, precision: 0.5 });
});
