// What becomes of syslog lines as senders write them, and of those that nobody should write: no word of any is lost.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse, TIME } from './kit.ts';

const SECOND = '2026-11-28T14:22:41.000Z';
const RECORD = '2026-11-28T14:23:00.000Z';
const severity = (priority: number) => ({ priority, severity: priority % 8, facility: Math.floor(priority / 8) });

/** [what, line, what the document has, fields it must not have] */
const LINES: [string, string, object, string[]?][] = [
  [
    'RFC 5424 in full',
    `<165>1 ${TIME} web1.example evntslog 8710 ID47 [ex@32473 iut="3" eventSource="App"][meta sequenceId="7"] \uFEFFAn entry`,
    {
      '@timestamp': TIME,
      level: 'notice',
      host: 'web1.example',
      service: 'evntslog',
      pid: 8710,
      message: 'An entry',
      syslog: { ...severity(165), msgId: 'ID47' },
      extra: { structuredData: { 'ex@32473': { iut: '3', eventSource: 'App' }, meta: { sequenceId: '7' } } },
    },
  ],
  [
    'nothing but nil values',
    '<34>1 - - - - - -',
    { '@timestamp': RECORD, level: 'crit', message: '', syslog: severity(34) },
    ['host', 'service', 'pid', 'extra'],
  ],
  [
    'a process that is no number, and one that is none as it is written',
    `<14>1 ${TIME} h app main-7 - - m`,
    { service: 'app', syslog: { ...severity(14), procId: 'main-7' }, message: 'm' },
    ['pid'],
  ],
  ['a number with a zero before it', `<14>1 ${TIME} h app 007 - - m`, { syslog: { ...severity(14), procId: '007' } }],
  [
    'structured data with quotes, brackets and backslashes, and a name twice',
    String.raw`<14>1 ${TIME} h app - - [o ip="10.0.0.1" ip="10.0.0.2" q="a \"b\" \] ] [ \\ \n"][empty@1] text ] [x="y"]`,
    {
      message: 'text ] [x="y"]',
      extra: {
        structuredData: { o: { ip: ['10.0.0.1', '10.0.0.2'], q: String.raw`a "b" ] ] [ \ \n` }, 'empty@1': {} },
      },
    },
  ],
  ['no structured data, not even a dash', `<14>1 ${TIME} h app - - text of it`, { message: 'text of it' }, ['extra']],
  ['a message that begins with a bracket', `<14>1 ${TIME} h app - - [worker] m`, { message: '[worker] m' }, ['extra']],
  ['an element without an end', `<14>1 ${TIME} h app - - [o a="b m`, { message: '[o a="b m' }, ['extra']],
  ['a dash that is the message', `<14>1 ${TIME} h app - - -- m`, { message: '-- m' }],
  [
    'JSON behind structured data',
    `<14>1 ${TIME} h app 7 - [o a="b"] {"level":"error","message":"call failed","service":"calls","extra":{"x":1}}`,
    {
      level: 'error',
      message: 'call failed',
      service: 'calls',
      host: 'h',
      pid: 7,
      extra: { level: 'info', service: 'app', x: 1, structuredData: { o: { a: 'b' } } },
    },
  ],
  [
    'JSON behind a byte order mark',
    `<14>1 ${TIME} h app - - - \uFEFF{"message":"call failed"}`,
    { level: 'info', message: 'call failed', service: 'app' },
  ],
  [
    'rsyslog, RSYSLOG_ForwardFormat',
    '<13>2026-11-28T14:22:41.607123+00:00 web1 app[411]: text',
    { '@timestamp': TIME, level: 'notice', host: 'web1', service: 'app', pid: 411, message: 'text' },
  ],
  [
    'rsyslog, RSYSLOG_TraditionalForwardFormat',
    '<78>Nov 28 14:22:41 web1 CRON[411]: (root) CMD (run-parts)',
    { '@timestamp': SECOND, level: 'info', host: 'web1', service: 'CRON', pid: 411, message: '(root) CMD (run-parts)' },
  ],
  [
    'a day with one digit, a fraction, a tag without a text',
    '<13>Nov 8 14:22:41.607 10.0.0.1 docker/calls[a1b2]:',
    { '@timestamp': '2026-11-08T14:22:41.607Z', host: '10.0.0.1', service: 'docker/calls', message: '' },
  ],
  [
    'the year of the record',
    '<13>Nov  8 14:22:41 fe80::1 app: m',
    { '@timestamp': '2026-11-08T14:22:41.000Z', host: 'fe80::1' },
  ],
  ['a year of its own', '<13>Nov 28 2026 14:22:41 h app: m', { '@timestamp': SECOND, host: 'h', service: 'app' }],
  [
    'no host, as on the host itself',
    '<13>Nov 28 14:22:41 app[7]: error: m',
    { service: 'app', pid: 7, message: 'error: m' },
    ['host'],
  ],
  [
    'no host, a tag and a word with a colon',
    '<13>Nov 28 14:22:41 app: warned: m',
    { service: 'app', message: 'warned: m' },
    ['host'],
  ],
  [
    'no tag',
    '<13>Nov 28 14:22:41 the link is down',
    { '@timestamp': SECOND, message: 'the link is down' },
    ['host', 'service'],
  ],
  ['a level in the place of a tag', '<11>Nov 28 14:22:41 error: disk', { message: 'error: disk' }, ['service', 'host']],
  [
    'Cisco IOS with a host and a number',
    '<189>Nov 28 14:22:41 sw1 12345: Nov 28 14:22:40.123: %LINK-3-UPDOWN: Interface up',
    { host: 'sw1', message: '12345: Nov 28 14:22:40.123: %LINK-3-UPDOWN: Interface up', level: 'notice' },
    ['service'],
  ],
  [
    'Cisco IOS without a host',
    '<189>29: *Nov 28 14:22:41.607: %SYS-5-CONFIG_I: Configured',
    { message: '29: *Nov 28 14:22:41.607: %SYS-5-CONFIG_I: Configured', level: 'notice' },
    ['service', 'host'],
  ],
  [
    'Cisco ASA',
    '<166>Nov 28 2026 14:22:41 asa1 : %ASA-6-302013: Built',
    { '@timestamp': SECOND, message: 'asa1 : %ASA-6-302013: Built' },
    ['service'],
  ],
  [
    'a day that no month has',
    '<13>Feb 31 14:22:41 h app: m',
    { '@timestamp': RECORD, message: 'Feb 31 14:22:41 h app: m', level: 'notice' },
  ],
  ['an hour that no day has', '<13>Nov 28 99:22:41 h app: m', { message: 'Nov 28 99:22:41 h app: m', level: 'notice' }],
  [
    'a priority that none has',
    '<192>Nov 28 14:22:41 h app: m',
    { message: '<192>Nov 28 14:22:41 h app: m' },
    ['level'],
  ],
];

describe('a syslog line', () => {
  it.each(LINES)('with %s', (_, line, fields, without = []) => {
    const { document } = parse(line);
    expect(document).toMatchObject(fields);
    for (const field of without) expect(document).not.toHaveProperty([field]);
  });

  it('keeps structured data that are too many for `extra` as they are', () => {
    const data = `[o ${Array.from({ length: 600 }, (_, i) => `k${i}="v${i}"`).join(' ')}]`;
    const { document, tags } = parse(`<14>1 ${TIME} h app - - ${data} m`);
    expect(document).toMatchObject({ message: 'm', syslog: { structuredData: data } });
    expect(tags).toEqual([]);
  });

  /** Pieces of syslog; in the place of `w` stands a word of its own each time. */
  const PIECES = [
    ...[
      '<13>',
      '<191>',
      '<3>',
      '1 ',
      '- ',
      '-',
      'w',
      'w ',
      ' ',
      '[w',
      '[w@1',
      ']',
      '[',
      '="',
      '"',
      'w="w"',
      ' w="w\\"w"',
    ],
    ...['\\', ':', ': ', 'w: ', 'w[7]: ', 'w[w]: ', 'Nov 28 14:22:41 ', 'Feb 31 14:22:41 ', 'Nov 28 2026 99:22:41 '],
    ...[`${TIME} `, '2026-13-28T99:22:41Z ', '%', '\uFEFF', '@cee: ', '{"w":"w"}', '{"message":"w', 'w=w level=w '],
  ];
  const header = fc.constantFrom(
    '',
    '<13>',
    `<14>1 ${TIME} w w w w `,
    '<14>1 w - - - - ',
    '<13>Nov 28 14:22:41 w w[w]: ',
  );

  it('loses no word, however it is broken', () => {
    fc.assert(
      fc.property(header, fc.array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 14 }), (head, pieces) => {
        let count = 0;
        const line = (head + pieces.join('')).replaceAll(/(?<![a-z])w(?![a-z])/g, () => `word${++count}x`);
        fc.pre(line.trim() !== '');
        const text = JSON.stringify(parse(line).document);
        for (let i = 1; i <= count; i++) expect(text, line).toContain(`word${i}x`);
      }),
      { numRuns: 2_000 },
    );
  });
});
