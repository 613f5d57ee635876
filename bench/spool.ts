// What a call costs while Kafka cannot be reached and records go to the spool, beside Winston's own File transport, and how fast a spool is read again. In: nothing; it works in
// a temporary folder. Out: medians over interleaved rounds.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KafkaTransport } from '../src/ship/index.ts';
import { openLeftSpool } from '../src/ship/spool.ts';
import { fileRound, measure, median, round } from './transport.ts';

export interface SpoolBench {
  /** Whole-process CPU for one call with an unreachable Kafka, until the record was in the file and the transport closed. */
  spoolMicrosPerInfo: number;
  /** The same with the File transport. */
  fileMicrosPerInfo: number;
  /** The first by the second. */
  spoolRatioToFile: number;
  /** Records a second from the files to whoever sends them, opening them and their notes included. */
  drainedPerSecond: number;
  events: number;
  rounds: number;
}

const BATCH_RECORDS = 500;
const BATCH_BYTES = 1_000_000;
const quiet = {
  onDropped(records: number) {
    throw new Error(`bench: ${records} records were dropped`);
  },
  onTrouble(error: unknown) {
    throw error;
  },
  onRecovered() {},
};

/** @throws when a record was not written or not read */
export async function benchSpool({ events = 50_000, rounds = 7 } = {}): Promise<SpoolBench> {
  const root = mkdtempSync(join(tmpdir(), 'logpipe-bench-'));
  try {
    const spoolRounds: number[] = [];
    const fileRounds: number[] = [];
    const rates: number[] = [];
    for (let i = 0; i <= rounds; i++) {
      const both = [
        async () => {
          const folder = join(root, `${i}`);
          spoolRounds.push(await spoolRound(folder, events));
          rates.push(await drainRound(folder, events));
        },
        async () => fileRounds.push((await fileRound(join(root, `${i}.log`), events)).cpu),
      ];
      for (const run of i % 2 === 0 ? both : both.reverse()) await run();
    }
    const spool = median(spoolRounds.slice(1));
    const file = median(fileRounds.slice(1));
    return {
      spoolMicrosPerInfo: round(spool),
      fileMicrosPerInfo: round(file),
      spoolRatioToFile: round(spool / file),
      drainedPerSecond: Math.round(median(rates.slice(1))),
      events,
      rounds,
    };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

async function spoolRound(dir: string, events: number): Promise<number> {
  // Nothing listens on the discard port.
  const options = { brokers: ['127.0.0.1:9'], service: 'bench', closeTimeoutMs: 4_000, spool: { dir, maxBytes: 1e9 } };
  const transport = new KafkaTransport(options);
  // With a listener, the outage is not told on standard error.
  transport.on('send-failed', () => {}).on('warn', () => {});
  const { cpu, done } = await measure(transport, events, async () => (await transport.close()).spooled ?? 0);
  if (done !== events) throw new Error(`bench: the spool has ${done} of ${events} records`);
  return cpu;
}

/** As after a restart: opened, read, noted before each request and after. */
async function drainRound(dir: string, events: number): Promise<number> {
  const log = readdirSync(dir, { recursive: true, withFileTypes: true }).find(({ name }) => name.endsWith('.log'));
  const folder = log!.parentPath;
  const before = performance.now();
  const spool = await openLeftSpool(folder, quiet);
  let drained = 0;
  for (;;) {
    const records = await spool.next(BATCH_RECORDS, BATCH_BYTES);
    if (records.length === 0) break;
    const places = records.map(({ place }) => place);
    await spool.attempting(drained % 4, places);
    spool.done(places);
    drained += records.length;
  }
  const seconds = (performance.now() - before) / 1_000;
  if (drained !== events || (await spool.close()) !== 0) throw new Error(`bench: ${drained} of ${events} were read`);
  return events / seconds;
}
