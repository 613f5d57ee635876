// The switches for phone numbers, e-mail and IP addresses, judged by what comes out of the parser, both ways, and of the
// transport: what is personal is on no path, and the numbers and names of a calling platform come out as they were.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLineParser } from '../../../src/cli/parse.ts';
import { FIELDS } from '../../../src/core/catalogue.ts';
import { createMasker, type MaskOptions } from '../../../src/core/secrets/mask.ts';
import { createDeadLetter } from '../../../src/indexing/dead-letters.ts';
import { createRecordBuilder, type Info, LEVEL, MESSAGE } from '../../../src/ship/log-record.ts';
import { transportSettings } from '../../../src/ship/options.ts';

const TIME = '2026-11-28T12:00:00.000Z';
const RECORD_MS = Date.parse('2026-11-28T12:00:01.000Z');
const PARSE = { maxRecordBytes: 5_000_000, maxAheadMs: 600_000, maxBehindMs: 2_592_000_000 };
const ORIGIN = { kind: 'kafka', topic: 't', partition: 0 } as const;
const ALL = { phoneNumbers: true, emailAddresses: true, ipAddresses: true };

function createPaths(mask: MaskOptions) {
  const masker = createMasker(mask);
  const parseLine = createLineParser({ parse: PARSE, mask, transforms: [] });
  const forElasticsearch = createLineParser({ parse: PARSE, mask, transforms: [] }, { duplicatesRefused: true });
  const letter = createDeadLetter({ keepRaw: false, file: '' }, masker);
  const build = createRecordBuilder(transportSettings({ brokers: ['b:9092'], service: 's', mask }));
  const recordOf = (line: string) => ({ value: Buffer.from(line), offset: 1, timeMs: RECORD_MS, eventId: undefined });

  function all(fields: Record<string, unknown>): string[] {
    const record = { timestamp: TIME, level: 'info', message: 'm', ...fields };
    const line = JSON.stringify(record);
    const info = { ...record, [LEVEL]: 'info' } as Info;
    // A blank in front forces the slow path.
    const parsed = [
      parseLine(recordOf(line), ORIGIN),
      parseLine(recordOf(` ${line}`), ORIGIN),
      forElasticsearch(recordOf(line), ORIGIN),
    ];
    return [
      ...parsed.map(({ document }) => JSON.stringify(document)),
      letter(recordOf(line), { origin: ORIGIN }, 'processing_failed', line).value!.toString(),
      build({ ...info, [MESSAGE]: line }).line,
      build({ ...info, [MESSAGE]: 'pretty' }).line,
    ];
  }

  return { masker, parseLine, forElasticsearch, recordOf, all };
}

const paths = createPaths(ALL);

/** What stands in a text, and what becomes of it. */
const PHONES: readonly (readonly [given: string, masked: string])[] = [
  ...[
    '+4930123456',
    '+49 30 1234567',
    '+49\u00a030\u00a01234567',
    '+49 (0) 30 1234567',
    '(+49) 30 1234567',
    '+49-171-1234567',
    '+49.171.1234567',
    '+1 (415) 555-2671',
    '+1 415 555 2671',
    '+33 6 12 34 56 78',
    '+44 20 7946 0958',
    '+86 138 1234 5678',
    '0049 30 1234567',
    '004930123456',
    '(415) 555-2671',
    '1 (415) 555-2671',
    '415-555-2671',
    '415.555.2671',
    '1-800-555-1234',
    '(030) 1234567',
    '030/1234567',
    '030 1234567',
    '0171-1234567',
    '0171 123 45 67',
    '01711234567',
    '01 23 45 67 89',
    '07700 900123',
    '(11) 91234-5678',
  ].map((given) => [given, '[phone]'] as const),
  ['sip:+4930123456@sbc.example.com:5060', 'sip:[phone]@sbc.example.com:5060'],
  ['<sip:0301234567@pbx;user=phone>', '<sip:[phone]@pbx;user=phone>'],
  ['sips%3A%2B4930123456%40pbx', 'sips%3A[phone]%40pbx'],
  ['tel:+49-30-1234567', 'tel:[phone]'],
  ['tel:0301234567;phone-context=x', 'tel:[phone];phone-context=x'],
  ['whatsapp:+14155552671', 'whatsapp:[phone]'],
  ['GET /calls?to=%2B4930123456&page=2', 'GET /calls?to=[phone]&page=2'],
  ['/lookup/+4930123456/carrier', '/lookup/[phone]/carrier'],
  ['/phones/01711234567', '/phones/[phone]'],
  ['/calls/0171-1234567', '/calls/[phone]'],
  ['paid 0171 1234567', 'paid [phone]'],
  ['phone: 4930123456', 'phone: [phone]'],
  ['phoneNumber=4155552671 ok', 'phoneNumber=[phone] ok'],
  ['caller 4930123456 hung up', 'caller [phone] hung up'],
  ['dialing 4915112345678 (attempt 2)', 'dialing [phone] (attempt 2)'],
  ['call from 4915112345678 to 14155552671', 'call from [phone] to [phone]'],
  ['Call from 4155552671 to 2071838750', 'Call from [phone] to [phone]'],
  ['copied from 4155552671 to 2071838750', 'copied from [phone] to [phone]'],
  ['paid to 4155552671', 'paid to [phone]'],
  ['timestamp 17, call from 4155552671', 'timestamp 17, call from [phone]'],
  ['call id 17 to 2071838750', 'call id 17 to [phone]'],
  ['{"sequence":{"dst":"4155552671"}}', '{"sequence":{"dst":"[phone]"}}'],
  ['Transfer to 4155552671', 'Transfer to [phone]'],
  ['Call connected: 4155552671 -> 2071838750', 'Call connected: [phone] -> [phone]'],
  ['bridged +14155552671 and 2071838750', 'bridged [phone] and [phone]'],
  ['+14155552671_20261129.wav', '[phone]_20261129.wav'],
  ['call_+14155552671_1.wav', 'call_[phone]_1.wav'],
  ['phone=4155552671,4155552672,4155552673,4155552674,4155552675,4155552676', `phone=${'[phone],'.repeat(5)}[phone]`],
  ['to=4155552671;4155552672', 'to=[phone];[phone]'],
  ['phones=[4155552671,4155552672]', 'phones=[[phone],[phone]]'],
  ['sent {"to":[4155552671, 4155552672]}', 'sent {"to":["[phone]", "[phone]"]}'],
  ['called_number 4155552671', 'called_number [phone]'],
  ['calling_number=41555526', 'calling_number=[phone]'],
  ['calledPartyNumber: 41555526', 'calledPartyNumber: [phone]'],
  ['ConnectedLineNum: 4155552671', 'ConnectedLineNum: [phone]'],
  ['CLI 447700900123', 'CLI [phone]'],
  ['SIP/4155552671-0000abcd', 'SIP/[phone]-0000abcd'],
  ['PJSIP/4155552671-00000001', 'PJSIP/[phone]-00000001'],
  ['Dial(PJSIP/14155552671@trunk,30)', 'Dial(PJSIP/[phone]@trunk,30)'],
  ['sofia/gateway/trunk/14155552671', 'sofia/gateway/trunk/[phone]'],
  ['"4155552671" <4155552671>', '"[phone]" <[phone]>'],
  ['"4155552671" <sip:1001@pbx>', '"[phone]" <sip:1001@pbx>'],
  ['sent {"to":"4915112345678","n":1}', 'sent {"to":"[phone]","n":1}'],
  ['sent {"to": 4915112345678}', 'sent {"to": "[phone]"}'],
  ['to +4930123456 200 OK', 'to [phone] 200 OK'],
  ['+49 30 1234567 after 1200 ms', '[phone] after 1200 ms'],
  ['at 2026-11-28 14:22:41 +4930123456', 'at 2026-11-28 14:22:41 [phone]'],
  ['first\n+4930123456\n', 'first\n[phone]\n'],
  ['a literal \\n+4930123456', 'a literal \\n[phone]'],
];

const EMAILS: readonly (readonly [given: string, masked: string])[] = [
  ...[
    'alice@example.com',
    "bob.o'brien+x@mail.example.co.uk",
    'jürgen@müller.de',
    'a_b-c@x-y.io',
    'x@xn--mller-kva.de',
  ].map((given) => [given, '[email]'] as const),
  ['<alice@example.com>: mailbox full', '<[email]>: mailbox full'],
  ['to=alice@example.com&cc=bob%40example.com', 'to=[email]&cc=[email]'],
  ['?q=%3Dalice%2Bnews%40example.com', '?q=%3D[email]'],
  ['mailto:alice@example.com', 'mailto:[email]'],
  ['sip:alice@example.com;transport=tls', 'sip:[email];transport=tls'],
  ['write to alice@example.com.', 'write to [email].'],
  ['alice@example.com,bob@example.com', '[email],[email]'],
  ['two\nalice@example.com', 'two\n[email]'],
];

const IPS: readonly (readonly [given: string, masked: string])[] = [
  ...['10.0.0.1', '203.0.113.255', '::1', '2001:db8::1', '2001:DB8:0:0:0:0:0:1', '::ffff:10.0.0.1', 'fe80::a1'].map(
    (given) => [given, '[ip]'] as const,
  ),
  ['10.0.0.1:5060', '[ip]:5060'],
  ['[2001:db8::1]:5060', '[ip]:5060'],
  ['2001:db8:0:0:0:0:0:1:443', '[ip]:443'],
  ['connect ECONNREFUSED ::1:6379', 'connect ECONNREFUSED [ip]:6379'],
  ['connect ECONNREFUSED 10.0.0.1:6379', 'connect ECONNREFUSED [ip]:6379'],
  ['::ffff:10.0.0.1:443', '[ip]:443'],
  ['http://10.0.0.1:80/x and kafka-1/10.0.0.2:9092', 'http://[ip]:80/x and kafka-1/[ip]:9092'],
  ['10.0.0.0/8', '[ip]/8'],
  ['fe80::1%eth0', '[ip]%eth0'],
  ['10.0.0.1-10.0.0.9.', '[ip]-[ip].'],
  ['client:2001:db8::1, x', 'client:[ip], x'],
  ['Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK', 'Via: SIP/2.0/UDP [ip]:5060;branch=z9hG4bK'],
  ['1-12345@10.0.0.1', '1-12345@[ip]'],
  ['%2010.0.0.1%20', '%20[ip]%20'],
  // They end like words for a version.
  ['server 10.0.0.1', 'server [ip]'],
  ['media server: 203.0.113.7:5060', 'media server: [ip]:5060'],
  ['{"dnsServer":"203.0.113.7"}', '{"dnsServer":"[ip]"}'],
  ['NAMESERVER=8.8.8.8', 'NAMESERVER=[ip]'],
  ['driver/10.1.2.3', 'driver/[ip]'],
  ['prev 10.0.0.1', 'prev [ip]'],
];

/** What a calling platform logs besides. */
const INNOCENT: readonly string[] = [
  ...[
    '2026-11-28T14:22:41.607Z',
    '2026-11-28 14:22:41,607 +0100',
    '28.11.2026 14:22:41',
    '20261128101500',
    '20261128T101500Z',
  ],
  ...['05-12-2026', '01/02/2026 10:15', '12:34:56', '12:34:56:78', '1795875761607', '1795875761', '1795875761.607'],
  ...[
    'took 1234567 ms',
    '12345678 bytes',
    '+12345 ms',
    '+1000000',
    '-4915112345678',
    'amount: 1234567.89',
    '1,234,567.89 EUR',
  ],
  ...[
    '1.234.567,89',
    '0.1234567890',
    '3.14159265358979',
    '1e15',
    '0x0171234567',
    '#0171234567',
    'exit code 137',
    'port 5060',
  ],
  ...['01KB5ZK0V2XJ4M3C8Q9D7E6F5G', '550e8400-e29b-41d4-a716-446655440000', '00000000-0000-0000-0000-012345678901'],
  ...[
    'CA0123456789abcdef0123456789abcdef',
    'deadbeef1234567890',
    `sha256:${'9f86d081884c7d65'.repeat(4)}`,
    '1795875761607-0',
  ],
  ...[
    'version 1.2.3.4',
    'v1.2.3.4',
    '"appVersion":"1.2.3.4"',
    'APP_VERSION=1.2.3.4',
    'agentRev 1.2.3.4',
    'OSVersion: 1.2.3.4',
    'Firmware: 1.2.3.4',
    'HeadlessChrome/120.0.0.0',
    'Chrome/120.0.0.0 Safari/537.36',
    '1.2.3',
    '1.2.3.4.5',
    '300.1.1.1',
  ],
  ...[
    'aa:bb:cc:dd:ee:ff',
    '00:11:22:33:44:55:66:77',
    'std::vector',
    'abc::def',
    'a::b',
    'Foo::1',
    ':::3000',
    '0:0',
    '::',
  ],
  ...['arn:aws:iam::123456789012:role/x', 'lodash@4.17.21', '@types/node@20.1.0', 'react@18.2.0-beta.next'],
  ...['logo@2x.png', 'getty@tty1.service', 'user@localhost', '@alice', 'redis://default@cache.example.com', 'retry@3'],
  ...['a84b4c76e66710@pc33.example.com', '550e8400-e29b-41d4-a716-446655440000@pbx.example.com'],
  ...[
    'sip:1001@pbx.example.com',
    'tel:112',
    'dialing 112',
    'extension 4711',
    'call 12345678 ended',
    'order 0123456789',
  ],
  ...[
    'orderId: 01711234567',
    'id=004912345678',
    'orders 0171-1234567',
    'callId 0123456789',
    'jobRefs: 0171 1234567',
    'orderNumber 0123456789',
    'GET /calls/0123456789',
    'https://pbx.example.com/legs/004912345678?x=1',
    'offset 123456789012',
    'from=1795875761607&to=1795875765607',
    'to: 1795875761607',
  ],
  ...['1 2 3 4 5 6 7 8 9 10', '01 02 03 04 05 06 07 08 09', '00 01 02 03 04 05 06 07', '(42) 2026-11-28', '10 of 12'],
  ...['01 02 03 04 05 06 07 08 09 10 11 12 13', '01/02/03/04/05/06/07/08/09'],
  ...[
    'IBAN DE89 3704 0044 0532 0130 00',
    'offset from 9876543210 to 9999999999',
    '{"offset":{"from":9876543210,"to":9999999999}}',
    'coords +48.85661400,+2.35222190',
    'microphone: 12345678',
    'automobile 4155552671',
    '<1795875761>',
    '12.5.2026',
    'pid 12345',
    '192.168.1',
    '1.2.3-rc.4',
    'SK8er',
    '[1, 2, 3]',
    '8080:80',
  ],
];

/** Both switches together: neither hides what the other looks for. */
const MIXED: readonly (readonly [given: string, masked: string])[] = [
  ['1732796096789 10.0.0.1 GET /', '1732796096789 [ip] GET /'],
  ['ts=1732796096789 203.0.113.7 200', 'ts=1732796096789 [ip] 200'],
  ['1796000000.123 10.0.0.1', '1796000000.123 [ip]'],
  ['12345678 192.168.100.200', '12345678 [ip]'],
  ['1234 192.168.100.200', '1234 [ip]'],
  ['12 34 56 78 10.20.30.40', '12 34 56 78 [ip]'],
  ['01 02 03 04 05 06 07 08 10.20.30.40', '01 02 03 04 05 06 07 08 [ip]'],
  ['1732796096789-10.0.0.1', '1732796096789-[ip]'],
  ['1732796096789/10.0.0.1', '1732796096789/[ip]'],
  [
    'a=candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 10.0.0.5',
    'a=candidate:842163049 1 udp 1677729535 [ip] 46154 typ srflx raddr [ip]',
  ],
  ['+49 30 123456 10.0.0.1', '[phone] [ip]'],
  ['+45 12.34.56.78', '[phone]'],
  ['phone: 12345678 10.0.0.1', 'phone: [phone] [ip]'],
  ['tel:030 123456 10.0.0.1', 'tel:[phone] [ip]'],
  ['1732796096789 415-555-2671', '1732796096789 [phone]'],
  ['1732796096789 (415) 555-2671', '1732796096789 [phone]'],
  ['1732796096789 0171 1234567', '1732796096789 [phone]'],
  ['1000 2000 3000 4000 0171 1234567', '1000 2000 3000 4000 [phone]'],
  ['10 20 30 40 50 60 415-555-2671', '10 20 30 40 50 60 [phone]'],
  ['1732796096789 2026-11-28 0171 1234567', '1732796096789 2026-11-28 [phone]'],
];

test.each(MIXED)('%j with all switches', (given, masked) => {
  expect(paths.masker.text(given)).toBe(masked);
  expect(paths.masker.text(`x ${given} y`)).toBe(`x ${masked} y`);
  expect(paths.masker.text(masked)).toBe(masked);
  expect(paths.masker.suspicious(JSON.stringify({ a: given }))).toBe(true);
});

const holds = (masked: string, given: string) => !masked.includes(given);

describe.each([
  ['phoneNumbers', PHONES],
  ['emailAddresses', EMAILS],
  ['ipAddresses', IPS],
] as const)('%s', (name, cases) => {
  const alone = createPaths({ [name]: true });

  test.each(cases)('%j in a text', (given, masked) => {
    expect(alone.masker.text(given)).toBe(masked);
    expect(alone.masker.text(`x ${given} y`)).toBe(`x ${masked} y`);
    expect(alone.masker.text(masked)).toBe(masked);
    for (const fields of [
      { message: given },
      { error: { stack: `Error: ${given}\n at x` } },
      { a: { b: [{ c: given }] } },
    ]) {
      for (const out of alone.all(fields)) expect(holds(out, JSON.stringify(given).slice(1, -1)), out).toBe(true);
    }
  });

  test('the other switches and none leave it alone', () => {
    const others = createMasker({ ...ALL, [name]: false });
    const off = createMasker();
    for (const [given] of cases) {
      expect(off.text(given)).toBe(given);
      expect(others.text(given)).not.toContain(
        { phoneNumbers: '[phone]', emailAddresses: '[email]', ipAddresses: '[ip]' }[name],
      );
    }
  });
});

test('what is none of the three comes out as it was, on every path', () => {
  const wrong: string[] = [];
  for (const text of INNOCENT) {
    for (const given of [text, `x ${text} y`, `a=${text}`.replace(/^a=(?=from)/, '')]) {
      if (paths.masker.text(given) !== given) wrong.push(`${given} => ${paths.masker.text(given)}`);
      for (const out of paths.all({ message: given, note: text }))
        if (/\[(?:phone|email|ip)\]|_masked/.test(out)) wrong.push(`${given} => ${out}`);
    }
  }
  expect([...new Set(wrong)]).toEqual([]);
});

describe('keys', () => {
  test.each<[string, object, object]>([
    ['a phone’s: text', { phone: '415 555 2671' }, { phone: '[phone]' }],
    ['a phone’s: digits', { customerPhoneNumber: '4155552671' }, { customerPhoneNumber: '[phone]' }],
    ['a phone’s: JSON number', { msisdn: 4915112345678 }, { msisdn: '[phone]' }],
    ['the parties of a call', { to: 4915112345678, from: '14155552671' }, { to: '[phone]', from: '[phone]' }],
    [
      'with number behind',
      { toNumber: '4930123', caller_id: 4155552671 },
      { toNumber: '[phone]', caller_id: '[phone]' },
    ],
    ['lists', { recipients: ['4915112345678', 4915112345679] }, { recipients: ['[phone]', '[phone]'] }],
    ['groups', { phones: { home: '030 12345', n: '4930123456' } }, { phones: { home: '[phone]', n: '[phone]' } }],
    [
      'numbers of JSON in groups',
      { phones: { home: 4930123456, workMobile: 4930123457, 0: 4930123458 }, phone: { national: 4155552671 } },
      { phones: { home: '[phone]', workMobile: '[phone]', 0: '[phone]' }, phone: { national: '[phone]' } },
    ],
    ['a caller’s id', { caller: { id: '4155552671', name: 'x' } }, { caller: { id: '[phone]', name: 'x' } }],
    ...[
      ...['calling_party', 'calledParty', 'calledPartyNumber', 'aNumber', 'b_number', 'connectedLineNum', 'exten'],
      ...['sip_from_user', 'sip.to.user', 'callback_number', 'contactNumber', 'customerNumber'],
    ].map((key): [string, object, object] => [key, { [key]: '4155552671' }, { [key]: '[phone]' }]),
    ['below a word for times', { time: { caller: '4155552671' } }, { time: { caller: '[phone]' } }],
    ['groups of a party', { to: { number: 49301234567 } }, { to: { number: '[phone]' } }],
    [
      'themselves',
      { seen: { '10.0.0.1': 1, 'a@example.com': 2, '10.0.0.2': 3 } },
      { seen: { '[ip]': 1, '[email]': 2, '[ip] 2': 3 } },
    ],
    [
      'that end like a word for a version',
      { server: '10.0.0.1', sip: { receiver: '10.0.0.2' }, dnsServer: '10.0.0.3' },
      { server: '[ip]', sip: { receiver: '[ip]' }, dnsServer: '[ip]' },
    ],
    ['JSON in a message', { message: '{"phones":[4915112345678]}' }, { phones: ['[phone]'] }],
  ])('%s', (_, fields, masked) => {
    for (const out of paths.all(fields as Record<string, unknown>).slice(0, 3)) {
      expect(JSON.parse(out)).toMatchObject(masked);
      expect(JSON.parse(out).tags).toEqual(['_masked']);
    }
  });

  test.each<object>([
    { to: 1795875761607, from: 1795875700000 },
    { from: 0, to: 5_000_000, offset: 123456789012 },
    { offset: { from: 9876543210, to: 9999999999 }, ranges: { from: '4155552671' } },
    { automobile: '12345678', microphone: 12345678, headphone: '12345678', fromLine: 12345678 },
    { customerNumber: '12345678', a: 41555526, party: '12345678', fromUser: 41555526, exten: '1001' },
    { phoneId: '4155552671', phoneVerifiedAt: 1795875761607, phoneCount: 12345678 },
    { phone: 112, extension: 4711, phoneType: 'mobile', phoneChecked: true },
    { phone: { price: 1234567, lastSeen: 1796000000000, bytes: 12345678 }, mobile: { total: 4155552671 } },
    { version: '1.2.3.4', appVersion: '10.0.0.1', os_ver: '10.0.0.2', agentRev: '10.0.0.3' },
    { orderId: '0171 1234567', userId: 4155552671, bytes: 4155552671 },
    { phone: '2026-11-28', to: '2026-11-28T12:00:00.000Z', from: '20261128101500' },
  ])('%j stays', (fields) => {
    for (const out of paths.all(fields as Record<string, unknown>)) expect(out).not.toMatch(/\[(?:phone|email|ip)\]/);
  });

  test('a number of any notation', () => {
    for (const number of [
      '4915112345678',
      '4.915112345678e12',
      '49151123456780e-1',
      '4915112345678.0',
      '0.00004915112345678e17',
    ])
      for (const front of ['', ' ']) {
        const line = `${front}{"timestamp":"${TIME}","level":"info","message":"m","to":${number}}`;
        expect(paths.parseLine(paths.recordOf(line), ORIGIN).document, line).toMatchObject({ to: '[phone]' });
      }
  });

  test('a dead letter stays JSON', () => {
    for (const to of [4915112345678, [4155552671, 4155552672], ['4155552671', 4155552672, '4155552673']])
      for (const fields of [{ to }, { phones: to }, { a: JSON.stringify({ to }) }]) {
        const letter = paths.all(fields)[3]!;
        expect(() => JSON.parse(letter), letter).not.toThrow();
        expect(letter).not.toMatch(/\d{10}/);
      }
  });

  test('no field of the catalogue leads to any, so that its records stay on the fast path', () => {
    const names = Object.entries(FIELDS).flatMap(([name, group]) => [
      name,
      ...(typeof group === 'string' ? [] : Object.keys(group)),
    ]);
    const off = createMasker();
    expect(names.filter((name) => paths.masker.leads(name) && !off.leads(name))).toEqual([]);
    const line = `{"timestamp":"${TIME}","level":"info","message":"call 17 ended after 1200 ms","callId":"CA1","version":"1.2.3.4"}`;
    expect(paths.parseLine(paths.recordOf(line), ORIGIN).path).toBe('fast');
    expect(paths.forElasticsearch(paths.recordOf(line), ORIGIN).path).toBe('fast');
  });

  test('a field of the catalogue keeps its type: a masked text is a text, and no number of it is masked', () => {
    const line = JSON.stringify({
      timestamp: TIME,
      level: 'info',
      message: 'm',
      host: '10.0.0.1',
      pid: 4915112345,
      callId: '1@10.0.0.1',
    });
    const { document, tags } = paths.parseLine(paths.recordOf(line), ORIGIN);
    expect(document).toMatchObject({ host: '[ip]', pid: 4915112345, callId: '1@[ip]' });
    expect(tags).toEqual(['_masked']);
  });
});

describe('one decision on every path', () => {
  const given = [...PHONES, ...EMAILS, ...IPS, ...MIXED].map(([text]) => text);
  const key = fc.constantFrom(
    ...[
      'phone',
      'to',
      'from',
      'number',
      'phones',
      'home',
      'version',
      'orderId',
      'a',
      'note',
      'host',
      'userId',
      'callId',
      'message',
    ],
    ...[
      'call',
      'http',
      'error',
      'callerId',
      '10.0.0.1',
      'x@y.de',
      'tel',
      'ts',
      'caller',
      'id',
      'offset',
      'exten',
      'aNumber',
      'lat',
    ],
  );
  const piece = fc.oneof(
    fc.constantFrom(...given, ...INNOCENT),
    fc.constantFrom(
      '+',
      '@',
      ':',
      '::',
      '.',
      ' ',
      '0',
      '49',
      '030',
      '1234567',
      '(',
      ')',
      '-',
      '/',
      '%40',
      '%2B',
      'to=',
      'phone ',
      '\n',
    ),
    fc.constantFrom(
      '\b',
      '\f',
      '\\',
      '"',
      'é',
      'v',
      'id ',
      'version ',
      'x',
      '%',
      'sip:',
      'tel:',
      '255',
      '[',
      ']',
      '\0',
      '//',
      '4155552671',
      ', ',
      ' -> ',
      '<',
      'PJSIP/',
      'from ',
      'coords ',
      '_',
    ),
    fc.stringMatching(/^[0-9a-f:.@+ -]{0,12}$/),
  );
  const text = fc.array(piece, { maxLength: 5 }).map((pieces) => pieces.join(''));
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      text,
      fc.integer({ min: 0, max: 9_999_999_999_999 }),
      fc.constantFrom(4915112345678, 4155552671, 1795875761607),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(fc.oneof(key, text), tie('value'), { maxKeys: 3 }),
    ),
  }));
  const fields = fc.dictionary(fc.oneof(key, text), value, { maxKeys: 4 });
  const switches = [ALL, { phoneNumbers: true }, { emailAddresses: true }, { ipAddresses: true }];
  const each = switches.map(createPaths);

  test('both paths of the parser give the same document, and the fast one only what masking leaves alone', () => {
    fc.assert(
      fc.property(fields, fc.constantFrom(...each), (record, { parseLine, forElasticsearch, recordOf, masker }) => {
        const line = JSON.stringify({ ...record, timestamp: TIME, level: 'info', message: record.message ?? 'm' });
        const [fast, slow] = [parseLine(recordOf(line), ORIGIN), parseLine(recordOf(` ${line}`), ORIGIN)];
        expect(fast.document).toEqual(slow.document);
        expect(fast.tags).toEqual(slow.tags);
        for (const parsed of [fast, forElasticsearch(recordOf(line), ORIGIN)])
          if (parsed.path === 'fast') expect(masker.value(JSON.parse(line))).toEqual(JSON.parse(line));
      }),
      { numRuns: 1_500 },
    );
  });

  test('what the cheap look passes, masking leaves alone', () => {
    fc.assert(
      fc.property(fields, fc.constantFrom(...each), (record, { masker }) => {
        const line = JSON.stringify(record);
        if (masker.suspicious(line)) return;
        expect(masker.value(record)).toBe(record);
        expect(masker.text(line)).toBe(line);
      }),
      { numRuns: 1_500 },
    );
  });

  test('any kind of space between the digits of a number', () => {
    const spaces = Array.from({ length: 65_536 }, (_, code) => String.fromCharCode(code)).filter((one) =>
      /\s/.test(one),
    );
    const missed = spaces.filter((space) => {
      const record = { phone: `03${space}1234${space}5678` };
      const line = JSON.stringify({ ...record, timestamp: TIME, level: 'info', message: 'm' });
      expect(paths.masker.value(record)).toEqual({ phone: '[phone]' });
      return paths.parseLine(paths.recordOf(line), ORIGIN).document?.phone !== '[phone]';
    });
    expect(missed.map((space) => space.charCodeAt(0).toString(16))).toEqual([]);
  });

  test('the transport’s two paths give the same record', () => {
    const builds = switches.map(
      (mask) => () => createRecordBuilder(transportSettings({ brokers: ['b:9092'], service: '10.0.0.1', mask })),
    );
    fc.assert(
      fc.property(fields, text, fc.constantFrom(...builds), (meta, message, build) => {
        const info = { ...meta, level: 'info', message, timestamp: TIME, [LEVEL]: 'info' } as Info;
        const fast = JSON.parse(build()({ ...info, [MESSAGE]: JSON.stringify(info) }).line);
        const slow = JSON.parse(build()(info).line);
        expect({ ...fast, eventId: '' }).toEqual({ ...slow, eventId: '' });
      }),
      { numRuns: 400 },
    );
  });

  test('masking twice changes nothing more', () => {
    fc.assert(
      fc.property(fields, text, fc.constantFrom(...each), (record, line, { masker }) => {
        const once = masker.value(record);
        expect(masker.value(once)).toEqual(once);
        expect(masker.text(masker.text(line))).toBe(masker.text(line));
      }),
      { numRuns: 400 },
    );
  });
});

test('costs in step with the length, whatever it is', () => {
  const { masker } = paths;
  const cost = (text: string, tries: number) =>
    Math.min(
      ...Array.from({ length: tries }, () => {
        const before = process.cpuUsage();
        masker.suspicious(text);
        masker.text(text);
        const { user, system } = process.cpuUsage(before);
        return (user + system) / 1_000;
      }),
    );
  const units = [
    ...[
      '7',
      '0',
      '.',
      ':',
      '@',
      '+',
      '%',
      '-',
      '/',
      '(',
      '::',
      '1 ',
      '12 ',
      '1.',
      '1:',
      'a:',
      'a@',
      'a.b@c.d',
      '%40',
      '%2B',
    ],
    ...[
      '0171 ',
      '10.20.30.40 12345678 ',
      '1234 7777777777777777 ',
      '+14155552671,',
      'from 4155552671 to ',
      '"4155552671" <',
      'SIP/1234567',
      '+49 ',
      '(030) ',
      'phone 1',
      '10.0.0.1 ',
      '10.0.0.',
      'é@',
      '1/',
      '1-',
      "o'",
      'fe80:',
      'tel:1',
      '\\n1',
      'sip:1@',
    ],
  ];
  const slow = units.filter((unit) => {
    const [few, many] = [8_000, 64_000].map((length) => unit.repeat(length / unit.length));
    const ratio = (tries: number) => cost(many!, tries) / Math.max(cost(few!, tries), 0.5);
    return [1, 4, 16].every((tries) => ratio(tries) > 24);
  });
  expect(slow).toEqual([]);
  for (const unit of ['7', '.', ':', '@']) {
    const before = process.cpuUsage();
    masker.text(unit.repeat(1_000_000));
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1_000, unit).toBeLessThan(20_000);
  }
}, 120_000);
