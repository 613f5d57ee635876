// What the scanner takes without parsing is, in every respect, what the parser makes of the same line. The parser alone is the judge: with
// an observer it scans nothing.
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../../src/core/log.ts';
import type { Metrics } from '../../../src/core/metrics.ts';
import { createEventIds, type RawRecord } from '../../../src/core/record.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { Batch, createDocumentWriter } from '../../../src/indexing/batch.ts';
import { createFieldBudget } from '../../../src/indexing/field-budget.ts';
import { ArrivalBucket, compileCollect, fieldsRead } from '../../../src/measure/collect.ts';
import { collectedOf, loadMeasures, parseMeasures } from '../../../src/measure/measure-config.ts';
import { createTimeParser, NORMAL_LEVELS } from '../../../src/parse/conform.ts';
import { LINE_FORMATS } from '../../../src/parse/normalise.ts';
import { createParser, type Parser } from '../../../src/parse/parse.ts';
import { createFieldValue } from '../../../src/parse/scan/field-values.ts';
import { FIELD_PATHS } from '../../../src/parse/scan/key-tree.ts';
import { ScannedEvent } from '../../../src/parse/scan/scanned-event.ts';
import { createScanner } from '../../../src/parse/scan/scanner.ts';
import { SHAPE_KEYS, SHAPES, USUAL_NAMES } from '../../../src/parse/shapes.ts';
import { createTagger, type TaggedEvent } from '../../../src/tag/tag.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';
import { drawn, INNOCENT, SECRETS } from '../core/mask-cases.ts';

const TIME_MS = Date.parse('2026-11-28T14:22:41.607Z');
const PARSE = { maxRecordBytes: 200_000, maxAheadMs: 600_000, maxBehindMs: 2_592_000_000 };
const ORIGIN = { kind: 'kafka', topic: 'logs', partition: 3 } as const;
const CHUNK = { origin: ORIGIN, records: [], bytes: 0, done() {} };
const nobody = { slow() {}, shape() {}, step() {}, moved() {} };

type Given = Omit<RawRecord, 'value' | 'offset'> & { readonly line: string | Buffer };

/** Fields as they are counted. */
const FIELDS = FIELD_PATHS.map((path, field) => ({ path: path.split('.'), at: createFieldValue(field) }));
const MEASURES = [
  ...collectedOf(loadMeasures({ env: {} })),
  ...collectedOf(
    parseMeasures(
      `measures:
  odd.count: { kind: counter, where: { requestId: { exists: true } }, by: [event, error.name, call.status, pid], examples: 2 }
  odd.duration: { kind: distribution, field: call.durationMs, by: [callId] }
  odd.gauge: { kind: gauge, field: process.heapUsedBytes, by: [host, kafka.topic] }`,
      {},
      'odd.yml',
    ),
  ),
];

/** None of them asks for anything else than fields of the catalogue. */
const PLAIN_MEASURES = MEASURES.filter(({ by }) => !by.includes('kafka.topic'));

/** Scans lines, keeps what it learns from one to the next, and compares. */
function createJudge(duplicatesRefused: boolean, mask = {}) {
  const masker = createMasker(mask);
  const scanning = createParser(PARSE, { masker, duplicatesRefused });
  const judge = createParser(PARSE, { masker, duplicatesRefused, observer: nobody });
  const ways = [scanning, judge].map((parser) => ({
    parser,
    tag: createTagger(),
    documents: createDocumentWriter(parser.time),
    batch: new Batch(1 << 16),
    collect: compileCollect(MEASURES),
  }));
  const counts = { lines: 0, scanned: 0, masked: 0, countedScanned: 0 };
  // Who only counts looks for secrets in what is counted alone.
  const read = fieldsRead(PLAIN_MEASURES)!;
  const counters = [createParser(PARSE, { masker, duplicatesRefused, read }), judge].map((parser) => ({
    parser,
    tag: createTagger(),
    collect: compileCollect(PLAIN_MEASURES),
  }));

  function count({ parser, tag, collect }: (typeof counters)[number], record: RawRecord) {
    const result = parser.parse(record);
    if (!result.ok) return 'refused';
    if (result.event instanceof ScannedEvent) counts.countedScanned += 1;
    const bucket = new ArrivalBucket('3', TIME_MS - (TIME_MS % 10_000), PLAIN_MEASURES);
    collect(tag(result.event), record, record.timeMs, bucket);
    return bucket.toJson();
  }

  function run({ parser, tag, documents, batch, collect }: (typeof ways)[number], record: RawRecord) {
    const result = (parser as Parser).parse(record);
    if (!result.ok) return { refused: result };
    const { event } = result;
    const tagged: TaggedEvent = tag(event);
    const scan = tagged instanceof ScannedEvent ? tagged.scan : undefined;
    const values = FIELDS.map(({ path, at }) => (scan === undefined ? valueAt(tagged.doc, path) : at(scan)));
    const bucket = new ArrivalBucket('3', TIME_MS - (TIME_MS % 10_000), MEASURES);
    collect(tagged, record, record.timeMs, bucket);
    batch.clear();
    documents.append(batch, tagged, record, CHUNK, 0);
    const item = batch.item(0).toString('latin1');
    // A parsed line whose error gets a group is serialised anew, a scanned one is not.
    const isAnew = tagged.grouping !== undefined && event.doc.error !== undefined;
    return { event, tagged, values, totals: bucket.toJson(), item: isAnew ? item.split('\n').map(readAgain) : item };
  }

  return {
    counts,
    /** Throws for the first line of which they make different things. */
    check(given: readonly Given[]): void {
      // Close together, as they were fetched: what stands before and behind a line is not part of it.
      const records = fetched(given);
      const made = records.map((record) => ways.map((way) => run(way, record)));
      for (const [i, record] of records.entries()) {
        const [some, all] = counters.map((counter) => count(counter, record));
        if (some !== all) expect({ line: String(given[i]!.line), totals: some }).toEqual({ totals: all });
      }
      // Documents are looked at only now, when other lines have been scanned.
      for (const [i, [fast, slow]] of made.entries()) {
        counts.lines += 1;
        if (fast!.event instanceof ScannedEvent) counts.scanned += 1;
        if (fast!.event?.tags.includes('_masked')) counts.masked += 1;
        const [one, other] = [seen(fast!), seen(slow!)];
        if (!isDeepStrictEqual(one, other))
          expect({ line: String(given[i]!.line), ...one }).toEqual({ line: String(given[i]!.line), ...other });
      }
    },
  };

  function seen({ refused, event, tagged, item, values, totals }: ReturnType<typeof run>) {
    if (event === undefined || tagged === undefined) return { refused };
    const { verbatim, timeMs, timeText, tags } = event;
    const { grouping } = tagged;
    const docs = [plain(event.doc), plain(tagged.doc)];
    return {
      verbatim,
      timeMs,
      timeText,
      tags,
      item,
      values,
      totals,
      docs,
      tagged: { tags: tagged.tags, grouping, verbatim: tagged.verbatim },
    };
  }
}

function valueAt(doc: Record<string, unknown>, [head, leaf]: string[]): unknown {
  const value = doc[head!];
  if (leaf === undefined || typeof value !== 'object' || value === null) return leaf === undefined ? value : undefined;
  return (value as Record<string, unknown>)[leaf];
}

const readAgain = (line: string) => (line === '' ? '' : JSON.stringify(JSON.parse(line)));

/** Whatever the prototypes are. */
const plain = (doc: object) => JSON.stringify(doc);

function fetched(given: readonly Given[]): RawRecord[] {
  const values = given.map(({ line }) => (typeof line === 'string' ? Buffer.from(line) : line));
  const lines = Buffer.concat(values.flatMap((value, i) => [Buffer.from('}" 1,'.slice(0, i % 6)), value]));
  const ids = lines.length;
  const memory = Buffer.concat([lines, ...given.map(({ eventId = '' }) => Buffer.from(eventId)), Buffer.alloc(8)]);
  let at = 0;
  return given.map(({ line: _, ...rest }, i) => {
    at += i % 6;
    const value = memory.subarray(at, at + values[i]!.length);
    at += value.length;
    // As Kafka's records do, and as others.
    const idAt = rest.eventId === undefined ? -1 : memory.indexOf(rest.eventId, ids);
    const place = i % 2 === 0 ? {} : { bytes: memory, start: at - value.length, end: at, idAt };
    return { ...rest, ...place, value, offset: 40 + i };
  });
}

const plainly = (line: string | Buffer): Given => ({ line, timeMs: TIME_MS + 900, eventId: undefined });

// ---- lines ----

/** Secrets of every kind: what stands in a text, and what a key says, written as a text. */
const SECRET_TEXTS = SECRETS.flatMap(({ line }) => {
  if (typeof line !== 'string' || !line.startsWith('{')) return [String(line)];
  try {
    const { timestamp: _, level: __, message, ...rest } = JSON.parse(line) as Record<string, unknown>;
    const said = Object.entries(rest).map(([key, value]) => `${key}=${String(value)}`);
    return [...(typeof message === 'string' && message !== 'x' ? [message] : [line, JSON.stringify(rest)]), ...said];
  } catch {
    return [line];
  }
});

const newId = createEventIds(() => TIME_MS);
const ID = newId();

const text = fc.oneof(
  { weight: 16, arbitrary: fc.constantFrom('calls', 'production', 'CA1', 'x', '', 'provider timeout', 'call ended') },
  fc.string({ maxLength: 40 }),
  fc.string({ unit: 'binary', maxLength: 8 }),
  fc.constantFrom(
    'Bérénice',
    '日本',
    '\u2028',
    '\u00a0{',
    ' {"a":1}',
    '{"level":"error"}',
    'a\\',
    'a\\"',
    'C:\\users',
    'a/b',
    '"q":1',
    '\n at x',
  ),
  fc.constantFrom(
    ...SECRETS.map(({ secrets }) => String(secrets[0] ?? '')),
    'password=hunter2hunter2',
    'Bearer Zx1drawn9drawn',
  ),
  { weight: 2, arbitrary: fc.constantFrom(...SECRET_TEXTS) },
  fc.constantFrom('shipping', 'tokens', 'author', 'pinned', '4111 1111 1111 1111', 'MTIzNDU2Nzg5MDEyMzQ1Njc4.AbCdEf.x'),
);
const numberText = fc.oneof(
  fc.integer().map(String),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
  fc.constantFrom(
    '0',
    '-0',
    '1.50',
    '1e5',
    '1E+2',
    '1e400',
    '007',
    '1.',
    '.5',
    '-',
    '+1',
    '0x1',
    'NaN',
    '9007199254740993',
    '32768',
    '-32769',
    '200.5',
    `1${'0'.repeat(40)}`,
  ),
);
const scalar = fc.oneof(
  { weight: 6, arbitrary: text.map((one) => JSON.stringify(one)) },
  { weight: 3, arbitrary: numberText },
  fc.constantFrom(
    'true',
    'false',
    'null',
    'nul',
    'True',
    '"\\u0041"',
    '"a\\/b"',
    '"\\x"',
    '"tab\\t"',
    '"\t"',
    '"open',
    '""',
  ),
);
const ownKey = fc.oneof(
  fc.constantFrom(
    'custom',
    'durationMs',
    'n',
    'a',
    'path',
    'a.b',
    '_id',
    '__proto__',
    'constructor',
    '',
    ' ',
    'é',
    'token',
    'sessionId',
    'password',
    'apiKey',
    'headers',
    'value',
    'x'.repeat(257),
  ),
  fc.constantFrom(
    ...SHAPE_KEYS,
    ...Object.values(USUAL_NAMES).flat(),
    'tags',
    'extra',
    'extraRaw',
    '@timestamp',
    'kafka',
  ),
  fc.string({ maxLength: 6 }),
);
const written = (key: string) => JSON.stringify(key);
const own: fc.Arbitrary<string> = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    { weight: 6, arbitrary: scalar },
    fc.array(tie('value'), { maxLength: 3 }).map((items) => `[${items.join()}]`),
    fc
      .array(fc.tuple(ownKey, tie('value')), { maxLength: 3 })
      .map((entries) => `{${entries.map(([key, value]) => `${written(key)}:${value}`).join()}}`),
  ),
})).value;

const time = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.integer({ min: -120_000, max: 60_000 }).map((ms) => new Date(TIME_MS + ms).toISOString()),
  },
  fc.constantFrom(
    ...[
      '2026-11-28T14:22:41Z',
      '2026-11-28 14:22:41.607',
      '2026-11-28T15:22:41.607+01:00',
      '2026-11-28T14:22:61.607Z',
      '2026-02-30T10:00:00.000Z',
    ],
    ...[
      '2026-11-27T24:00:00.000Z',
      '2026-11-28T14:22:41,607Z',
      '2026-11-28T14:22:41.6a7Z',
      '2026-11-28',
      '1795875761607',
      '',
      '2025-01-01T00:00:00.000Z',
    ],
    ...[
      '2026-11-28T14:22:41.607z',
      '2026-11-28T14:22:41.607Z ',
      '2099-11-28T14:22:41.607Z',
      '2026-11-28T14:22:4x.607Z',
      '2026-11-28T14:22:41.60é',
    ],
  ),
);
const level = fc.oneof(
  { weight: 20, arbitrary: fc.constantFrom('info', 'debug', 'warn') },
  fc.constantFrom(...NORMAL_LEVELS),
  fc.constantFrom('INFO', 'unknown', '', 'inf', 'infoo', 'a level longer than any other'),
);
const status = fc.oneof(fc.constantFrom('completed', 'busy', 'voicemail'), text);
const call = fc
  .tuple(fc.constantFrom('"outbound"', '""', '1'), status, numberText, fc.constantFrom('1', '1.0', '"1"', 'null'))
  .map(
    ([direction, state, duration, attempt]) =>
      `{"direction":${direction},"status":${JSON.stringify(state)},"durationMs":${duration},"attempt":${attempt}}`,
  );
const error = fc
  .tuple(fc.constantFrom('name', 'type', 'class', 'template', 'code'), text)
  .map(
    ([key, value]) =>
      `{"message":"x is not a function",${written(key)}:${JSON.stringify(value)},"stack":"TypeError: x\\n    at y (/a/b.js:1:2)"}`,
  );
const CALL_ENDED = '{"direction":"outbound","status":"busy","durationMs":5,"attempt":1}';
const odd: fc.Arbitrary<readonly [string, string]> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(
      fc.constantFrom('service', 'environment', 'version', 'host', 'tenantId', 'callId', 'userId'),
      text.map((one) => JSON.stringify(one)),
    ),
  },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom('pid', 'activeCalls'), fc.integer().map(String)) },
  fc.tuple(fc.constantFrom('pid', 'activeCalls', 'service', 'call', 'http', 'error', 'event', 'originalBytes'), own),
  {
    weight: 2,
    arbitrary: fc.tuple(
      fc.constant('event'),
      fc.constantFrom('"call.ended"', '"call.started"', '"http.request"', '"other"', '"platform.stats"', '5'),
    ),
  },
  { weight: 3, arbitrary: fc.tuple(fc.constant('call'), call) },
  fc.tuple(
    fc.constant('http'),
    fc
      .tuple(fc.constantFrom('200', '200.0', '40000', '"200"', 'true'), numberText)
      .map(([code, ms]) => `{"method":"GET","route":"/","status":${code},"durationMs":${ms}}`),
  ),
  fc.tuple(fc.constant('error'), error),
  fc.tuple(
    fc.constant('process'),
    fc.tuple(numberText, ownKey, own).map(([cpu, key, value]) => `{"cpuPercent":${cpu},${written(key)}:${value}}`),
  ),
  fc.tuple(fc.constant('eventId'), fc.constantFrom(`"${ID}"`, `"${newId()}"`, 'null', '1')),
  { weight: 3, arbitrary: fc.tuple(ownKey, own) },
);

const tame: fc.Arbitrary<readonly [string, string]> = fc.oneof(
  fc.tuple(
    fc.constantFrom(
      'service',
      'environment',
      'version',
      'host',
      'tenantId',
      'callId',
      'traceId',
      'requestId',
      'step',
      'ok',
    ),
    fc.oneof(
      fc.constantFrom('"calls"', '"1.4.2"', '"say \\"x\\": y"', 'null', '"ü"', '17'),
      fc.string({ maxLength: 20 }).map(written),
      fc.constantFrom(...SECRET_TEXTS).map(written),
    ),
  ),
  fc.tuple(fc.constantFrom('pid', 'activeCalls', 'shards'), fc.integer().map(String)),
  fc.tuple(fc.constant('event'), fc.constantFrom('"call.ended"', '"other"', '"http.request"')),
  fc.tuple(
    fc.constant('call'),
    fc.constantFrom('{}', 'null', '{"status":"busy","durationMs":1.5,"own":[1,{"a":[]},{"a":"b"}]}', CALL_ENDED),
  ),
  fc.tuple(
    fc.constant('detail'),
    fc.constantFrom('{}', '[]', '[[],{}]', '{"a":{"b":1},"c":[{"a":1},{"a":2}]}', '[1,"x",null,true]'),
  ),
  fc.tuple(
    fc.constant('http'),
    fc.constantFrom(
      '{"method":"GET","route":"/","status":200,"durationMs":1e2}',
      '{"method":"GET","route":"/","status":200,"durationMs":1.2}',
    ),
  ),
);

/** A record that is mostly a usual one. */
const usual = fc
  .tuple(
    time,
    level,
    text,
    fc.array(fc.oneof({ weight: 24, arbitrary: tame }, odd), { maxLength: 7 }),
    fc.constantFrom('', '', '', '', ' ', '\t'),
    fc.integer({ min: 0, max: 5 }),
  )
  .map(([at, name, message, fields, space, turn]) => {
    const heads = [
      ['timestamp', JSON.stringify(at)],
      ['level', written(name)],
      ['message', JSON.stringify(message)],
    ] as [string, string][];
    const entries =
      turn === 0
        ? [...fields, ...heads]
        : turn === 1
          ? [heads[1]!, heads[2]!, ...fields, heads[0]!]
          : [...heads, ...fields];
    return `{${entries.map(([key, value]) => `${space}${written(key)}${space}:${space}${value}${space}`).join()}}${space}`;
  });

/** The same, damaged: a byte changed, left out or put in, or its end missing. */
const damaged = fc
  .tuple(
    usual,
    fc.double({ min: 0, max: 0.999, noNaN: true }),
    fc.integer({ min: 0, max: 3 }),
    fc.oneof(fc.constantFrom(...Buffer.from('{}[]:,"\\/u0 \n\r\t')), fc.integer({ min: 0, max: 255 })),
  )
  .map(([line, where, how, byte]) => {
    const bytes = Buffer.from(line);
    const at = Math.floor(where * bytes.length);
    const put = how === 0 || how === 1 ? [byte] : [];
    const rest = how === 3 ? bytes.subarray(0, 0) : bytes.subarray(how === 1 ? at : at + 1);
    return Buffer.concat([bytes.subarray(0, at), Buffer.from(put), rest]);
  });

const given: fc.Arbitrary<Given> = fc.record(
  {
    line: fc.oneof({ weight: 5, arbitrary: usual }, damaged),
    timeMs: fc.integer({ min: TIME_MS - 1_000, max: TIME_MS + 1_000 }),
    eventId: fc.constantFrom(undefined, undefined, undefined, undefined, ID),
    clockErrorMs: fc.constantFrom(50, -3_600_000, 90_000),
    redriven: fc.constant({ firstMs: TIME_MS + 500, times: 1 }),
    documentId: fc.constantFrom('an id', 'ünüsual'),
  },
  { requiredKeys: ['line', 'timeMs', 'eventId'] },
);

const HEAD = '"timestamp":"2026-11-28T14:22:41.607Z","level":"info","message":"m"';

/** Among them those that a hasty reader takes for what they are not. */
const JSON_TEXTS = [
  ...[
    '[]',
    '{}',
    '[[]]',
    '[{}]',
    '[1,2]',
    '[1,]',
    '[,1]',
    '[1 2]',
    '[1,,2]',
    '[',
    ']',
    '{',
    '}',
    '[}',
    '{]',
    '[1',
    '{"a"',
    '{"a":',
    '{"a":1',
  ],
  ...[
    '{"a":1,}',
    '{,"a":1}',
    '{"a":1 "b":2}',
    '{"a" 1}',
    '{a:1}',
    "{'a':1}",
    '{"a"::1}',
    '{"a":1,,"b":2}',
    '{1:1}',
    '{"a":}',
    '{:1}',
    '{"a",1}',
  ],
  ...[
    '{"a":1}}',
    '[1]]',
    '{"a":1}x',
    '{"a":1} ',
    '{"a":1}\t',
    '\u00a0{}',
    ' {}',
    '{ }',
    '[ ]',
    '[ 1 , 2 ]',
    '{ "a" : 1 , "b" : [ ] }',
    '{"a":1}//',
  ],
  ...[
    '0',
    '-0',
    '00',
    '01',
    '-01',
    '-',
    '+1',
    '1.',
    '.1',
    '1.0',
    '1.e1',
    '1e',
    '1e+',
    '1e1',
    '1E-1',
    '1e+-1',
    '1.5.5',
    '1..5',
    '0e0',
    '0.0e-0',
  ],
  ...[
    '1_000',
    '0x1F',
    '1a',
    '- 1',
    '--1',
    'Infinity',
    '-Infinity',
    'NaN',
    '1e999',
    '-1e-999',
    '123456789012345678901234567890',
    '１',
  ],
  ...['true', 'false', 'null', 'tru', 'truee', 'True', 'nulL', 'nu', 'fals', 'undefined', 'true1', 't', 'n', 'f', ''],
  ...[
    '""',
    '"',
    '"a',
    '"\\"',
    '"\\\\"',
    '"\\""',
    '"\\a"',
    '"\\x41"',
    '"\\u0041"',
    '"\\u00"',
    '"\\ud800"',
    '"\\/"',
    '"\\b\\f\\n\\r\\t"',
    '"\\\'"',
  ],
  ...[
    '"\u0000"',
    '"\u0001"',
    '"\n"',
    '"\t"',
    '"\r"',
    '"\u007f"',
    '"\u00e9"',
    '"\u2028"',
    '"\ufeff"',
    '\ufeff1',
    '"\ufffd"',
    '"😀"',
    '"é\\n"',
    '"\\é"',
  ],
  ...[
    '{"a":1,"a":2}',
    '{"a":{"b":1,"b":2}}',
    '[{"b":1,"b":2}]',
    '{"a":1,"b":2,"a":3}',
    '{"":1}',
    '{"":1,"":2}',
    '{"a":{"a":{"a":1}},"b":{"a":1}}',
    '[{"a":1},{"a":2}]',
  ],
  ...[
    '{"\\u0061":1}',
    '{"a\\n":1}',
    '{"é":1}',
    '{"a":1,"\\u0061":2}',
    '{"__proto__":1}',
    '{"a":{"__proto__":{}}}',
    '{"constructor":{"prototype":1}}',
    '{"a\t":1}',
  ],
  ...[
    '/**/1',
    '1/**/',
    '#1',
    '"a"b',
    '"a""b"',
    '[1]2',
    '{}{}',
    '1 2',
    '[true,false,null]',
    '[1e1,-1.5]',
    '{"a":[{"b":[{"c":[]}]}]}',
    '[[[[[[]]]]]]',
  ],
];

const RUNS = Number(process.env.LOGPIPE_PROPERTY_RUNS ?? 500);
const LINES_PER_RUN = 10;

describe('a line that is scanned', () => {
  it.each([true, false])(
    'is the same event as one that is parsed (keys given twice refused: %s)',
    { timeout: 3_600_000 },
    (refused) => {
      const { check, counts } = createJudge(refused);
      fc.assert(fc.property(fc.array(given, { minLength: 1, maxLength: LINES_PER_RUN }), check), { numRuns: RUNS });
      // Else this would say nothing.
      expect(counts.scanned / counts.lines).toBeGreaterThan(0.15);
      expect(counts.masked / counts.lines).toBeGreaterThan(0.15);
    },
  );

  it('says which texts of its fields are to be masked, whatever secrets they hold', () => {
    const scanner = createScanner({ masker: createMasker(), time: createTimeParser() })!;
    const { check } = createJudge(true);
    const texts = SECRET_TEXTS.filter((_, i) => RUNS > 500 || i % 6 === 0);
    const lines = texts.flatMap((secret, i) => {
      const [one, other] = [secret, SECRET_TEXTS[(i * 7 + 3) % SECRET_TEXTS.length]!].map(written);
      return [
        `{"timestamp":"2026-11-28T14:22:41.607Z","level":"error","message":${one}}`,
        `{${HEAD},"service":${one},"own":[1,"é"],"error":{"stack":${other},"code":"x"},"host":"ü","n":1.${i % 10}e1}`,
        `{${HEAD},"call":{"status":${one},"from":${other},"own":"x"},"durationMs":1.50,"eventId":"${ID}"}`,
        `{${HEAD},"error":{"name":${one},"message":${other}}}`,
      ];
    });
    check(lines.map(plainly));
    check(lines.map((line, i) => ({ ...plainly(line), eventId: i % 2 === 0 ? ID : undefined, clockErrorMs: 50 })));
    const found = lines.filter((line) => {
      const bytes = Buffer.from(line);
      expect(scanner.scan(bytes, 0, bytes.length, undefined, -1) && scanner.masked.length > 0).toBe(false);
      return scanner.masked.length > 0;
    });
    expect(found.length).toBeGreaterThan(lines.length / 4);
  });

  it('is masked where its own keys or the operator’s say so, and fits its fields then', () => {
    const masks = [{}, { keys: ['pid', 'host'] }, { keys: ['level'] }, { keys: ['eventId', 'timestamp'] }];
    const owns = [
      `"password":"${drawn(9)}"`,
      `"headers":{"authorization":"Bearer ${drawn(20)}","accept":"*/*"}`,
      `"params":[{"name":"X-Api-Key","value":"${drawn(20)}"}]`,
      `"token":null,"pin":1234,"secret":9007199254740993`,
      `"call":{"apiKey":"${drawn(12)}","durationMs":1.5}`,
      `"password":"${drawn(9)}","password":"${drawn(9)}"`,
      `"error":{"message":"x","password":"${drawn(9)}"}`,
      `"a password=${drawn(9)}":1`,
      '"x":1',
    ];
    for (const mask of masks) {
      const { check, counts } = createJudge(true, mask);
      const lines = owns.map((own) => `{${HEAD},"pid":5,"host":"web1","eventId":"${ID}",${own}}`);
      const errors = lines.map((line) => line.replace('"info"', '"error"'));
      check([...lines, ...errors].map(plainly));
      check(lines.map((line) => ({ ...plainly(line), eventId: ID, clockErrorMs: 50 })));
      expect(counts.masked).toBeGreaterThan(15);
    }
  });

  it('is valid JSON', () => {
    const { check, counts } = createJudge(true);
    const lines = JSON_TEXTS.flatMap((json) => [json, `{"a":${json}}`, `[${json}]`]).flatMap((json) => [
      json,
      json.replace(/^\{/, `{${HEAD},`),
      `{${HEAD},"a":${json}}`,
      `{"a":${json},${HEAD}}`,
      `{${HEAD},"service":${json},"call":{"a":${json},"status":${json}}}`,
    ]);
    check(lines.map(plainly));
    check(lines.map((line) => plainly(Buffer.from(line, 'latin1'))));
    expect(counts.scanned).toBeGreaterThan(200);
  });

  it('has no byte in a text or key that JSON does not allow there', () => {
    const { check, counts } = createJudge(true);
    for (let byte = 0; byte < 256; byte++) {
      const lines = Array.from({ length: 10 }, (_, at) => {
        const text = [Buffer.from('abcdefghi'.slice(0, at)), Buffer.from([byte]), Buffer.from('abcdefghij'.slice(at))];
        const around = [
          `{${HEAD},"custom":"`,
          '"}',
          `{${HEAD},"host":"`,
          `","version":"${byte}.${at}"}`,
          `{${HEAD},"`,
          '":1}',
        ];
        return [0, 2, 4].map((i) => Buffer.concat([Buffer.from(around[i]!), ...text, Buffer.from(around[i + 1]!)]));
      });
      check(lines.flat().map(plainly));
    }
    // All letters of ASCII but two, and for keys also what may not stand first or at all.
    expect(counts.scanned / counts.lines).toBeGreaterThan(0.25);
  });

  it('has a time, a level and a message that are texts', () => {
    const given = [
      '1795875761607',
      '17',
      'true',
      'null',
      '{}',
      '["x"]',
      '""',
      '":"',
      '" : x"',
      '"\u00a0:x"',
      '"{}"',
      '" {}"',
      '"\u00a0{}"',
      '"x"',
    ];
    const usual = { timestamp: '"2026-11-28T14:22:41.607Z"', level: '"info"', message: '"m"', host: '"web1"' };
    const lines = Object.keys(usual).flatMap((key) =>
      given.map(
        (value) =>
          `{${Object.entries({ ...usual, [key]: value })
            .map(([name, one]) => `"${name}":${one}`)
            .join()}}`,
      ),
    );
    for (const refused of [true, false])
      createJudge(refused).check(
        [`{${HEAD}}`, ...lines, '{":x":1,', `{${HEAD},":x":1}`, `{${HEAD},"a\\/b":1,"a/b":2}`].map(plainly),
      );
  });

  it('has groups with names that their place takes', () => {
    const { check } = createJudge(true);
    const names = ['a.b', '', ' ', 'type', 'kind', 'class', 'stack_trace', 'template', 'fingerprint', '_x', 'own'];
    const groups = ['error', 'call', 'own'].flatMap((group) => names.map((name) => `"${group}":{"${name}":"x"}`));
    check(groups.map((group) => plainly(`{${HEAD},${group}}`)));
  });

  it('is known by its places until another one is scanned', () => {
    const parser = createParser(PARSE, { masker: createMasker(), duplicatesRefused: true });
    const [one, other] = fetched([plainly(`{${HEAD}}`), plainly(`{${HEAD}}`)]).map((record) => parser.parse(record));
    expect([one, other].map((result) => result?.ok && (result.event as ScannedEvent).scan !== undefined)).toEqual([
      false,
      true,
    ]);
  });

  it('ends where its bytes end', () => {
    const scanner = createScanner({ masker: createMasker(), time: createTimeParser() })!;
    const line = `{${HEAD},"service":"calls","pid":12,"own":[true]}`;
    const whole = Buffer.from(line);
    expect(scanner.scan(whole, 0, whole.length, undefined, -1)).toBe(true);
    for (let end = 0; end < line.length; end++) {
      // Nothing lies behind it; and then what would complete it.
      const cut = Buffer.from(new Uint8Array(whole.subarray(0, end)).buffer);
      expect(scanner.scan(cut, 0, end, undefined, -1)).toBe(false);
      expect(scanner.scan(whole, 0, end, undefined, -1)).toBe(false);
    }
  });

  it('has numbers that fit their fields', () => {
    const { check, counts } = createJudge(true);
    const nines = (n: number) => '9'.repeat(n);
    const numbers = [
      ...[
        '0',
        '-0',
        '1.50',
        '200',
        '9999',
        '32767',
        '32767.5',
        '32768',
        '99999',
        '-32768',
        '-32769',
        '2e2',
        '2e9',
        '1e-7',
        '70000.0',
      ],
      ...[
        nines(15),
        `${nines(15)}.5`,
        nines(16),
        '9007199254740991',
        '9007199254740992',
        '-9007199254740993',
        '1e15',
        '1e16',
        nines(20),
      ],
      ...[
        nines(38),
        nines(39),
        `3${nines(38)}`,
        '3.4e38',
        '3.5e38',
        '1e308',
        '1e309',
        `0.${nines(60)}`,
        `-${nines(39)}.1`,
      ],
    ];
    const fields = [
      '"pid":#',
      '"activeCalls":#',
      '"http":{"status":#}',
      '"http":{"durationMs":#}',
      '"call":{"attempt":#,"voicemail":#}',
      '"host":#',
      '"own":#',
    ];
    check(numbers.flatMap((number) => fields.map((field) => plainly(`{${HEAD},${field.replaceAll('#', number)}}`))));
    expect(counts.scanned / counts.lines).toBeGreaterThan(0.4);
  });

  it('that is an error gets its group where a serialiser would put it', () => {
    const errors = [
      '{}',
      '{"name":"TypeError","stack":"a\\nb"}',
      '{"message":"m","code":17}',
      '{"own":{"a":[]}}',
      '{"name":null}',
      'null',
      '"text"',
    ];
    const lines = errors.flatMap((error) => [
      `{${HEAD},"error":${error}}`,
      `{"error":${error},${HEAD},"service":"x"}`,
      `{${HEAD},"pid":5,"error":${error},"x":{"error":{}}}`,
    ]);
    const way = (more: object) => {
      const parser = createParser(PARSE, { masker: createMasker(), duplicatesRefused: true, ...more });
      const tag = createTagger();
      const documents = createDocumentWriter(parser.time);
      return (line: string, place: object) => {
        const batch = new Batch(10);
        const record = { ...plainly(line), value: Buffer.from(line), offset: 0, ...place };
        const result = parser.parse(record);
        if (result.ok) documents.append(batch, tag(result.event), record, CHUNK, 0);
        return batch.item(0).toString();
      };
    };
    const [fast, slow] = [way({}), way({ observer: nobody })];
    for (const line of lines.map((one) => one.replace('"info"', '"error"').replace('"m"', '"boom ü"'))) {
      const bytes = Buffer.from(`[${line}]`);
      expect(fast(line, {})).toBe(slow(line, {}));
      expect(fast(line, { bytes, start: 1, end: bytes.length - 1 })).toBe(slow(line, {}));
    }
    // What a serialiser would change stays.
    const item = fast(lines[0]!.replace('"info"', '"error"').replace('{}', '{ "own" : 1.50 }'), {});
    expect(item).toMatch(/"error":\{ "own" : 1\.50 ,"template":"m","fingerprint":"[0-9a-f]{16}"\}\}\n$/);
  });

  it('is nested no deeper than the parser leaves it', () => {
    const { check, counts } = createJudge(true);
    const lines: string[] = [];
    for (let depth = 1; depth < 22; depth++) {
      for (const [open, close] of [
        ['[', ']'],
        ['{"a":', '}'],
        ['[{"a":', '}]'],
      ] as const) {
        for (const inner of ['1', '{}', '[]']) {
          const value = open.repeat(depth) + inner + close.repeat(depth);
          lines.push(`{${HEAD},"a":${value}}`, `{${HEAD},"call":{"a":${value}}}`);
        }
      }
    }
    check(lines.map(plainly));
    expect(counts.scanned).toBeGreaterThan(lines.length / 2);
  });

  it('has at most as many fields of its own as the parser leaves it', () => {
    const { check, counts } = createJudge(true);
    const many = (n: number) => Array.from({ length: n }, (_, i) => `"k${i}":{"x":1}`).join();
    check([99, 100, 101].flatMap((n) => [`{${HEAD},${many(n)}}`, `{${many(n)},${HEAD}}`]).map(plainly));
    expect(counts.scanned).toBe(4);
  });

  it('is so whatever keys came before, in memory that does not grow', () => {
    const { check, counts } = createJudge(true);
    const line = plainly(`{${HEAD},"service":"calls"}`);
    for (let i = 0; i < 16; i++) {
      const odd = Array.from({ length: 1_000 }, (_, n) =>
        plainly(`{${HEAD},"service":"calls","k${i}x${n}":{"k${n % 7}":[]}}`),
      );
      check([...odd, line]);
    }
    // Of the odd lines some: first, and again when what was learnt is forgotten.
    expect(counts.scanned).toBeGreaterThan(1_000);
    expect(counts.scanned).toBeLessThan(8_000);
  });

  it('leaves no object behind', () => {
    const scanner = createScanner({ masker: createMasker(), time: createTimeParser() })!;
    const lines = Array.from(
      { length: 500 },
      (_, i) =>
        `{${HEAD},"eventId":"01KB9Z6V5R${1_000_000 + i}","service":"calls","call":{"durationMs":${i},"x":[{"a":"${i}"}]}}`,
    );
    const bytes = Buffer.from(lines.join('\n'));
    const ends = lines.map((_, i) => Buffer.byteLength(lines.slice(0, i + 1).join('\n')));
    const all = () => ends.every((end, i) => scanner.scan(bytes, i === 0 ? 0 : ends[i - 1]! + 1, end, undefined, -1));
    for (let i = 0; i < 40; i++) expect(all()).toBe(true);
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 40; i++) all();
    expect((process.memoryUsage().heapUsed - before) / (40 * lines.length)).toBeLessThan(24);
  });

  it('takes as many fields of an index as when it is parsed', async () => {
    const metric = { set() {}, inc() {} };
    const masker = createMasker();
    /** What the server has: fields that others wrote, some of them as objects. */
    const use = { paths: ['own1', 'own2.', 'own2.a'], ignoredDocuments: 0, ignoredFields: [] };

    function createWay(more: object) {
      const parser = createParser(PARSE, { masker, duplicatesRefused: true, ...more });
      const tag = createTagger();
      const clock = createFakeClock(TIME_MS);
      let limit = 160;
      const budget = createFieldBudget({
        read: async () => ({ ...use, limit }),
        day: parser.time.day,
        clock,
        metrics: {
          fieldsMoved: metric,
          indexFields: metric,
          ignoredFields: metric,
          ignoredDocuments: metric,
        } as unknown as Metrics,
        log: silentLog,
      });
      let scanned = 0;
      return {
        scanned: () => scanned,
        admits(line: string) {
          const result = parser.parse({ ...plainly(line), value: Buffer.from(line), offset: 0 });
          if (result.ok && result.event instanceof ScannedEvent) scanned += 1;
          return result.ok && budget.admits(tag(result.event));
        },
        async later() {
          limit += 2;
          await clock.advance(60_000);
        },
      };
    }

    const name = fc.nat({ max: 30 }).map((i) => `own${i}`);
    const value = fc.letrec<{ one: string }>((tie) => ({
      one: fc.oneof(
        { depthSize: 'small' },
        fc.constantFrom('1', '"x"', 'null', 'true', '{}', '[]', '[null,1]', '[{"a":1},{"b":null},2]'),
        fc.array(tie('one'), { maxLength: 2 }).map((items) => `[${items.join()}]`),
        fc
          .uniqueArray(fc.tuple(name, tie('one')), { maxLength: 3, selector: ([key]) => key })
          .map((entries) => `{${entries.map(([key, one]) => `"${key}":${one}`).join()}}`),
      ),
    })).one;
    const line = fc
      .uniqueArray(fc.tuple(fc.oneof(name, fc.constant('call')), value), { maxLength: 4, selector: ([key]) => key })
      .map((entries) => `{${[HEAD, ...entries.map(([key, one]) => `"${key}":${one}`)].join()}}`);
    const decisions = new Set<boolean>();
    let scanned = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof({ weight: 20, arbitrary: line }, fc.constant('later')), { minLength: 20, maxLength: 60 }),
        async (steps) => {
          const [fast, slow] = [createWay({}), createWay({ observer: nobody })];
          for (const step of steps) {
            if (step === 'later') await Promise.all([fast.later(), slow.later()]);
            else {
              const expected = slow.admits(step);
              expect(fast.admits(step), step).toBe(expected);
              decisions.add(expected);
            }
          }
          scanned += fast.scanned();
        },
      ),
      { numRuns: 60 },
    );
    expect([decisions.size, scanned > 50]).toEqual([2, true]);
  });

  it('is so among lines of other loggers, lines with secrets and without, and hostile ones', () => {
    const { check, counts } = createJudge(true);
    const others = [...SHAPES, ...LINE_FORMATS].map(({ example }) => example);
    const innocent = INNOCENT.map((one) =>
      JSON.stringify({ timestamp: '2026-11-28T14:22:41.607Z', level: 'info', message: 'm', ...one }),
    );
    // A text that says what the one beside it is, in places of its own and in a field.
    const pairs = ['queue', 'error', 'own'].flatMap((group) =>
      [
        `{"name":"X-Api-Key","value":"${drawn(20)}"}`,
        `{"name":"password","data":"${drawn(9)}"}`,
        '{"name":"token"}',
      ].map((value) => `{${HEAD},"${group}":${value}}`),
    );
    check([...others, ...SECRETS.map(({ line }) => line), ...innocent, ...innocent, ...pairs].map(plainly));
    expect(counts.scanned).toBeGreaterThan(innocent.length / 5);
    // A secret where nobody counts keeps no line from being scanned; one that would be counted does.
    const before = { ...counts };
    const header = `Authorization: Bearer ${drawn(30)}`;
    check([`{${HEAD},"own":"${header}"}`, `{${HEAD},"tenantId":"${header}"}`].map(plainly));
    expect([counts.scanned - before.scanned, counts.countedScanned - before.countedScanned]).toEqual([0, 1]);
  });
});
