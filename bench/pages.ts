// `npm run bench:pages`: what open pages cost the pipeline. In: 5,000 lines a second on the standard input of one `logpipe run` that indexes
// into NDJSON files. Out: its CPU per event while 200 pages are open, and while none is, in turns, in the same process; medians of the pairs.
// The pages are read in this process. Without Kafka and Elasticsearch an event costs less than in production, and so the share of the pages
// is larger than it is there.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { sleep } from '../src/core/clock.ts';
import { NODE_FLAGS } from '../src/core/package-root.ts';
import { createEventIds } from '../src/core/record.ts';
import { endProcess } from '../stack/index.ts';
import { createCleanUp } from './clean-up.ts';
import { sampleLine } from './lines.ts';
import { createCostReader } from './process-cost.ts';

const PAGES = 200;
const PER_SECOND = 5_000;
const EVERY_MS = 50;
const KINDS = 20_000;
const ROUND_MS = 10_000;
const WARM_UP_MS = 10_000;
const SETTLE_MS = 1_000;

/** What the pages ask for, beside the figures of each second. */
const MODES = {
  /** Nothing: every view but the logs. */
  figures: '',
  /** The logs of all services; each page gets up to 50 lines a second. */
  tail: '?tail=1',
  /** The errors that hold a text. */
  filter: '?tail=1&level=error&text=timeout',
} as const;

export interface PagesBench {
  readonly pages: number;
  readonly eventsPerSecond: number;
  readonly rounds: number;
  readonly modes: Record<keyof typeof MODES, ModeResult>;
}

interface ModeResult {
  /** CPU per event in microseconds, medians. */
  readonly without: number;
  readonly withPages: number;
  /** Median of the pairs: 0.05 is 5 % more. */
  readonly rise: number;
  readonly rises: readonly number[];
  /** What the pages read in a round, per page and second. */
  readonly bytesPerPageSecond: number;
}

export async function benchPages(rounds: number, say: (line: string) => void): Promise<PagesBench> {
  const cost = createCostReader();
  const { folder, cleanUp, stop } = createCleanUp();
  try {
    const config = join(folder, 'logpipe.yml');
    const ndjson = { enabled: true, dir: join(folder, 'indexed') };
    writeFileSync(
      config,
      JSON.stringify({
        ...{ source: 'stdin', roles: ['indexer'], http: { port: 0 }, log: { level: 'info', format: 'json' } },
        ...{ sinks: { elasticsearch: false, ndjson }, dlq: { file: join(folder, 'dead.ndjson') } },
      }),
    );
    const main = fileURLToPath(new URL('../src/main.js', import.meta.url));
    const child = spawn(process.execPath, [...NODE_FLAGS, main, 'run', '--config', config], {
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    const ended = once(child, 'close');
    cleanUp.push(
      async () => void (await endProcess(child.pid!, { graceMs: 15_000, ended: ended.then(() => undefined) })),
    );
    const url = await urlOf(child);
    const feed = startFeed(child);
    cleanUp.push(feed.stop);
    await sleep(WARM_UP_MS);

    /** CPU per event of a round, microseconds. */
    const measure = async (): Promise<number> => {
      await sleep(SETTLE_MS);
      const [from, sent] = [cost(child.pid!).cpuMicros, feed.sent()];
      await sleep(ROUND_MS);
      return (cost(child.pid!).cpuMicros - from) / (feed.sent() - sent);
    };
    const results: Partial<Record<keyof typeof MODES, ModeResult>> = {};
    for (const [mode, query] of Object.entries(MODES) as [keyof typeof MODES, string][]) {
      const pairs: { without: number; withPages: number }[] = [];
      let bytes = 0;
      for (let round = 0; round < rounds; round++) {
        const without = await measure();
        const pages = await openPages(`${url}/api/v1/live${query}`);
        const before = pages.bytes();
        const withPages = await measure();
        bytes += pages.bytes() - before;
        await pages.close();
        pairs.push({ without, withPages });
        say(`${mode}: ${without.toFixed(2)} µs per event without, ${withPages.toFixed(2)} with ${PAGES} pages`);
      }
      const rises = pairs.map((pair) => pair.withPages / pair.without - 1);
      results[mode] = {
        without: median(pairs.map((pair) => pair.without)),
        withPages: median(pairs.map((pair) => pair.withPages)),
        ...{ rise: median(rises), rises },
        bytesPerPageSecond: Math.round(bytes / rounds / PAGES / ((ROUND_MS + SETTLE_MS) / 1_000)),
      };
    }
    return { pages: PAGES, eventsPerSecond: PER_SECOND, rounds, modes: results as PagesBench['modes'] };
  } finally {
    await stop();
  }
}

/** The address that it logs. */
function urlOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stderr!.setEncoding('utf8').on('data', (piece: string) => {
      text = (text + piece).slice(-2_000);
      const url = /"url":"([^"]+)"/.exec(text)?.[1];
      if (url !== undefined) resolve(url);
    });
    child.once('close', (status) => {
      process.stderr.write(text);
      reject(new Error(`logpipe run ended with status ${status}`));
    });
  });
}

/** Writes by the clock, so that a late timer does not make fewer of them. */
function startFeed(child: ChildProcess): { sent(): number; stop(): void } {
  const nextId = createEventIds();
  const lines = Array.from({ length: KINDS }, (_, i) => `${sampleLine(i, Date.now(), nextId())}\n`);
  const beganMs = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - beganMs) * PER_SECOND) / 1_000);
    let text = '';
    for (; sent < due; sent++) text += lines[sent % KINDS];
    child.stdin!.write(text);
  }, EVERY_MS);
  child.stdin!.on('error', () => undefined);
  return {
    sent: () => sent,
    stop: () => clearInterval(timer),
  };
}

async function openPages(url: string): Promise<{ bytes(): number; close(): Promise<void> }> {
  let bytes = 0;
  const requests = await Promise.all(
    Array.from({ length: PAGES }, async (): Promise<ClientRequest> => {
      const asked = request(url, { agent: false }).end();
      asked.on('error', () => undefined);
      const [response] = (await once(asked, 'response')) as [IncomingMessage];
      if (response.statusCode !== 200) throw new Error(`a page was answered ${response.statusCode}`);
      response.on('data', (piece: Buffer) => {
        bytes += piece.length;
      });
      response.on('error', () => undefined);
      return asked;
    }),
  );
  return {
    bytes: () => bytes,
    async close() {
      for (const asked of requests) asked.destroy();
      await sleep(SETTLE_MS);
    },
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const rounds = Number(process.argv[2] ?? 5);
  if (Number.isInteger(rounds) && rounds > 0) {
    const result = await benchPages(rounds, (line) => void process.stderr.write(`${line}\n`));
    process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  } else {
    process.stderr.write('Usage: npm run bench:pages -- [rounds, 5]\n');
    process.exitCode = 2;
  }
}
