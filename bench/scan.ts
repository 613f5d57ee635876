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
import { KINDS, type LineOf } from './lines.ts';

const LINES = 10_000;
const ROUNDS = 15;
const PARSE = { maxRecordBytes: 5e6, maxAheadMs: 6e5, maxBehindMs: 2.6e9 };

/** As they were fetched: one behind the other. */
function recordsOf(line: LineOf): RawRecord[] {
  const ids = createEventIds();
  const startMs = Date.now();
  const given = Array.from({ length: LINES }, (_, i) => {
    const eventId = ids();
    return {
      eventId,
      timeMs: startMs + i,
      text: line(i, startMs + i, eventId),
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
