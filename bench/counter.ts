// CPU per event of counting, compared with only parsing. In: nothing; no Kafka. Out: microseconds per event of parsing, of parsing
// and tagging, and of a whole counter whose totals go into a sink that writes them as JSON and forgets them.
// `node dist/bench/counter.js [events]` prints a table.
import { systemClock } from '../src/core/clock.ts';
import { silentLog } from '../src/core/log.ts';
import { createMetrics } from '../src/core/metrics.ts';
import { createEventIds, type RawRecord } from '../src/core/record.ts';
import { createMasker } from '../src/core/secrets/mask.ts';
import { createCounter } from '../src/measure/counter.ts';
import { loadMeasures } from '../src/measure/measure-config.ts';
import { encodeCounts } from '../src/measure/totals.ts';
import { createParser, type Parser } from '../src/parse/parse.ts';
import { createTagger } from '../src/tag/tag.ts';
import { sampleLine } from './lines.ts';

export interface CounterBench {
  readonly lines: string;
  readonly bytesPerLine: number;
  readonly parseMicros: number;
  readonly parseAndTagMicros: number;
  readonly counterMicros: number;
}

/** Records per second and partition that the lines' times stand for, which decides how often a bucket ends. */
const RATE = 1_250;
const RECORDS = 20_000;
const CHUNK = 700;

export async function benchCounter(events: number): Promise<CounterBench[]> {
  return [
    await benchLines('call.ended only', events, (i, ms, id) => sampleLine(i, ms, id)),
    await benchLines('a mix', events, mixedLine),
  ];
}

type Line = (i: number, timeMs: number, eventId: string) => string;

async function benchLines(lines: string, events: number, line: Line): Promise<CounterBench> {
  const ids = createEventIds();
  const start = Date.now();
  const records: RawRecord[] = Array.from({ length: RECORDS }, (_, i) => {
    const timeMs = start + Math.floor((i * 1_000) / RATE);
    const eventId = ids();
    return { value: Buffer.from(line(i, timeMs, eventId)), offset: i, timeMs, eventId };
  });
  const bytesPerLine = records.reduce((sum, record) => sum + record.value!.length, 0) / RECORDS;

  const parser = newParser();
  const tag = createTagger();
  const parse = () => {
    for (const record of records) parser.parse(record);
  };
  const parseAndTag = () => {
    for (const record of records) {
      const result = parser.parse(record);
      if (result.ok) tag(result.event);
    }
  };
  const count = await counting(records);
  const rounds = Math.max(1, Math.round(events / RECORDS));
  // Interleaved, so that disturbances of the machine affect all of them; the minimum of each is its cost.
  const cost = { parse: Infinity, tag: Infinity, count: Infinity };
  for (let round = -1; round < rounds; round++) {
    const costs = { parse: await cpu(parse), tag: await cpu(parseAndTag), count: await cpu(count) };
    if (round < 0) continue;
    cost.parse = Math.min(cost.parse, costs.parse);
    cost.tag = Math.min(cost.tag, costs.tag);
    cost.count = Math.min(cost.count, costs.count);
  }
  return {
    lines,
    bytesPerLine,
    parseMicros: cost.parse,
    parseAndTagMicros: cost.tag,
    counterMicros: cost.count,
  };
}

/** The records again and again as a log that goes on, through a counter that publishes as often as it would live. */
async function counting(records: readonly RawRecord[]): Promise<() => Promise<void>> {
  const counter = createCounter(loadMeasures({ env: {} }), {
    parser: newParser(),
    tag: createTagger(),
    metrics: createMetrics(),
    log: silentLog,
    clock: { ...systemClock, after: () => () => {} },
    sink: {
      async put(messages) {
        for (const message of messages) encodeCounts(message);
      },
      async close() {},
    },
  });
  const spanMs = Math.ceil((records.length * 1_000) / RATE / 10_000) * 10_000;
  let pass = 0;
  return async () => {
    const chunks: RawRecord[][] = [];
    for (let at = 0; at < records.length; at += CHUNK) {
      chunks.push(
        records.slice(at, at + CHUNK).map((record) => ({
          ...record,
          offset: record.offset + pass * records.length,
          timeMs: record.timeMs + pass * spanMs,
        })),
      );
    }
    pass += 1;
    started = process.cpuUsage();
    for (const part of chunks) {
      await counter.accept({
        origin: { kind: 'kafka', topic: 'bench', partition: 0 },
        records: part,
        bytes: 0,
        done() {},
      });
      // 700 records are half a second at this rate.
      await counter.publish();
    }
  };
}

let started = process.cpuUsage();

async function cpu(work: () => void | Promise<void>): Promise<number> {
  started = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(started);
  return (user + system) / RECORDS;
}

function newParser(): Parser {
  return createParser(
    { maxRecordBytes: 5e6, maxAheadMs: 6e5, maxBehindMs: 2.6e9 },
    { masker: createMasker(), duplicatesRefused: true },
  );
}

const ROUTES = ['/api/v1/calls', '/api/v1/calls/:id', '/api/v1/campaigns', '/api/v1/health', '/webhooks/voice'];

/** What an application logs in a day: requests, calls, plain lines, some errors, now and then its own numbers. */
function mixedLine(i: number, timeMs: number, eventId: string): string {
  const base = {
    timestamp: new Date(timeMs).toISOString(),
    level: 'info',
    service: 'calling-platform',
    environment: 'production',
    version: '1.4.2',
    host: `app-${i % 3}`,
    pid: 4242,
    eventId,
  };
  const kind = i % 20;
  if (kind < 10) {
    const http = {
      method: kind < 7 ? 'GET' : 'POST',
      route: ROUTES[i % ROUTES.length],
      status: i % 97 === 0 ? 500 : 200,
      durationMs: 5 + ((i * 37) % 400),
    };
    return JSON.stringify({ ...base, message: 'request served', event: 'http.request', requestId: `r-${i}`, http });
  }
  if (kind < 14) return sampleLine(i * 3 + 1, timeMs, eventId);
  if (kind === 19) {
    return JSON.stringify({ ...base, level: 'error', message: `Provider answered ${500 + (i % 4)} for call CA${i}` });
  }
  if (kind === 18) {
    const queue = { name: `queue-${i % 5}`, waiting: i % 90, active: 3, completed: i, failed: 1 };
    return JSON.stringify({ ...base, message: 'queue', event: 'queue.stats', queue });
  }
  return JSON.stringify({ ...base, message: `Campaign step ${i} scheduled`, campaignId: `c-${i % 40}` });
}

if (process.argv[1]?.endsWith('counter.js')) {
  const events = Number(process.argv[2] ?? 400_000);
  console.log('lines              bytes   parse   + tag   whole counter   on top of parsing   (µs CPU per event)');
  for (const row of await benchCounter(events)) {
    const { lines, bytesPerLine, parseMicros, parseAndTagMicros, counterMicros } = row;
    const cells = [parseMicros, parseAndTagMicros, counterMicros, counterMicros - parseMicros];
    console.log(
      `${lines.padEnd(16)} ${bytesPerLine.toFixed(0).padStart(7)} ${cells.map((n) => n.toFixed(2).padStart(9)).join(' ')}`,
    );
  }
}
