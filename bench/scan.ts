// What a line costs to read. In: lines of several kinds; no Kafka. Out: microseconds of CPU per line of `toString` with `JSON.parse`, of
// the parser without the scanner, of the scanner alone, of the parser as it is, and of that with tags; and how many lines need no parsing.
// `npm run bench:scan` prints a table. All ways take turns, so that a busy machine is as busy for each of them; medians of the rounds.
import { createEventIds, type RawRecord } from '../src/core/record.ts';
import { createMasker } from '../src/core/secrets/mask.ts';
import { createTimeParser } from '../src/parse/conform.ts';
import { createParser } from '../src/parse/parse.ts';
import { ScannedEvent } from '../src/parse/scan/scanned-event.ts';
import { createScanner } from '../src/parse/scan/scanner.ts';
import { createTagger } from '../src/tag/tag.ts';
import { sampleLine } from './lines.ts';

const LINES = 10_000;
const ROUNDS = 15;
const PARSE = { maxRecordBytes: 5e6, maxAheadMs: 6e5, maxBehindMs: 2.6e9 };

type Line = (i: number, time: string, eventId: string) => object;

const STACK = `TypeError: Cannot read properties of undefined (reading 'status')\n${Array.from({ length: 8 }, (_, i) => `    at step${i} (/srv/calls/dist/worker-${i}.js:${100 + i}:17)`).join('\n')}`;

function winston(i: number, time: string, eventId: string): Record<string, unknown> {
  return JSON.parse(sampleLine(i % 50 === 0 ? i + 1 : i, Date.parse(time), eventId)) as Record<string, unknown>;
}

const KINDS: Readonly<Record<string, Line>> = {
  'Winston lines': (i, time, id) => ({
    ...winston(i, time, id),
    requestId: `req-${i * 7}`,
    traceId: `4bf92f3577b34da6${i}`,
  }),
  'fields of their own': (i, time, id) => ({
    ...winston(i, time, id),
    job: { step: i % 9, parts: [i, 'x'] },
    durationMs: i * 1.5,
  }),
  'twenty kinds of lines': (i, time, id) => ({
    ...winston(i, time, id),
    [`field${i % 20}`]: i,
    message: `step ${i % 20} done`,
  }),
  'other letters': (i, time, id) => ({ ...winston(i, time, id), message: `Anruf für Bérénice № ${i} beendet` }),
  'every second an error': (i, time, id) =>
    i % 2 === 0
      ? winston(i, time, id)
      : {
          ...winston(i, time, id),
          level: 'error',
          message: `Call to +4930${1_000_000 + (i % 9_000)} failed: provider timeout`,
          error: { name: 'TypeError', message: 'no status', stack: STACK },
        },
  'something to mask': (i, time, id) => ({
    ...winston(i, time, id),
    message: `login with password=hunter${i}x2 failed`,
  }),
  'ECS lines': (i, time) => ({
    '@timestamp': time,
    'log.level': 'info',
    message: `call ${i} ended`,
    ecs: { version: '8.10.0' },
    service: { name: 'calls', version: '1.4.2' },
    http: { request: { method: 'POST' }, response: { status_code: 200 } },
  }),
  'Pino lines': (i, time) => ({
    level: 30,
    time: Date.parse(time),
    pid: 12,
    hostname: 'web1',
    msg: `call ${i} ended`,
    callId: `CA${i}`,
  }),
};

/** As they were fetched: one behind the other. */
function recordsOf(line: Line): RawRecord[] {
  const ids = createEventIds();
  const startMs = Date.now();
  const given = Array.from({ length: LINES }, (_, i) => {
    const eventId = ids();
    return {
      eventId,
      timeMs: startMs + i,
      text: JSON.stringify(line(i, new Date(startMs + i).toISOString(), eventId)),
    };
  });
  const bytes = Buffer.from(given.map(({ text }) => text).join('\n'));
  let end = -1;
  return given.map(({ text, eventId, timeMs }, offset) => {
    const start = end + 1;
    end = start + Buffer.byteLength(text);
    const own = text.includes(eventId) ? eventId : undefined;
    return { bytes, start, end, value: bytes.subarray(start, end), offset, timeMs, eventId: own };
  });
}

function main(): void {
  const row = (cells: readonly string[]) =>
    console.log(cells.map((cell, i) => (i === 0 ? cell.padEnd(24) : cell.padStart(13))).join(''));
  row(['µs per line', 'bytes', 'JSON.parse', 'parser alone', 'scanner', 'parser', 'and tags', 'not parsed']);
  for (const [name, line] of Object.entries(KINDS)) {
    const records = recordsOf(line);
    const masker = createMasker();
    const scanner = createScanner({ masker, time: createTimeParser() })!;
    const nobody = { slow() {}, shape() {}, step() {}, moved() {} };
    const alone = createParser(PARSE, { masker, duplicatesRefused: true, observer: nobody });
    const parser = createParser(PARSE, { masker, duplicatesRefused: true });
    const tag = createTagger();
    let scanned = 0;
    const ways: (() => void)[] = [
      () => {
        for (const { bytes, start, end } of records) JSON.parse(bytes!.toString('utf8', start, end));
      },
      () => {
        for (const record of records) alone.parse(record);
      },
      () => {
        for (const { bytes, start, end, eventId } of records) scanner.scan(bytes!, start!, end!, eventId, -1);
      },
      () => {
        scanned = 0;
        for (const record of records) {
          const result = parser.parse(record);
          if (result.ok && result.event instanceof ScannedEvent) scanned += 1;
        }
      },
      () => {
        for (const record of records) {
          const result = parser.parse(record);
          if (result.ok) tag(result.event);
        }
      },
    ];
    const rounds = ways.map((): number[] => []);
    for (let round = 0; round < ROUNDS; round++) ways.forEach((way, i) => void rounds[i]!.push(costOf(way)));
    const medians = rounds.map((costs) => costs.slice(3).sort((a, b) => a - b)[(ROUNDS - 3) >> 1]! / LINES);
    const last = records.at(-1)!;
    row([
      name,
      (last.end! / LINES).toFixed(0),
      ...medians.map((cost) => cost.toFixed(2)),
      `${((100 * scanned) / LINES).toFixed(1)} %`,
    ]);
  }
}

function costOf(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

main();
