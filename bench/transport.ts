// What one `logger.info` costs with the Kafka transport, compared with Winston's own File transport with the same format.
// In: brokers. Out: medians over interleaved rounds, in microseconds of whole-process CPU time per call, delivery included.
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import kafkajs from 'kafkajs';
import winston from 'winston';
import { sleep } from '../src/core/clock.ts';
import { KafkaTransport } from '../src/ship/index.ts';
import type { Compression } from '../src/ship/options.ts';
import { createUsable } from '../src/source/kafka/topics.ts';

export interface TransportBench {
  /** Whole-process CPU per call, until Kafka had everything. */
  transportMicrosPerInfo: number;
  /** The same until the file was written. */
  fileMicrosPerInfo: number;
  /** The first by the second. */
  transportRatioToFile: number;
  /** How long one call keeps the caller. */
  transportCallerMicrosPerInfo: number;
  fileCallerMicrosPerInfo: number;
  /** Median of the rounds' own ratios, as a check on the ratio of the medians. */
  medianOfRatios: number;
  events: number;
  rounds: number;
  compression: Compression;
}

export interface TransportBenchOptions {
  /** Calls per round and transport. Default 50,000. */
  events?: number;
  /** Default 7, after one to warm up. */
  rounds?: number;
  compression?: Compression;
}

interface Round {
  cpu: number;
  caller: number;
}

/** One burst of calls before the event loop turns, as one HTTP request of a busy application logs. */
const BURST = 20;

/** @param brokers A real Kafka; the topic is created and deleted. @throws when a record was not delivered. */
export async function benchTransport(brokers: string[], options: TransportBenchOptions = {}): Promise<TransportBench> {
  const { events = 50_000, rounds = 7, compression = 'none' } = options;
  const topic = `logpipe-bench-transport-${randomUUID().slice(0, 8)}`;
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-bench-'));
  const admin = new kafkajs.Kafka({ clientId: 'logpipe-bench', brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    await createUsable(admin, { topic, numPartitions: 4 });
    const kafkaRounds: Round[] = [];
    const fileRounds: Round[] = [];
    for (let i = 0; i <= rounds; i++) {
      // They take turns at going first, so that neither always pays for the other's garbage.
      const both = [
        async () => kafkaRounds.push(await kafkaRound(brokers, topic, compression, events)),
        async () => fileRounds.push(await fileRound(join(folder, `${i}.log`), events)),
      ];
      for (const run of i % 2 === 0 ? both : both.reverse()) await run();
    }
    const measured = { kafka: kafkaRounds.slice(1), file: fileRounds.slice(1) };
    const transport = median(measured.kafka.map(({ cpu }) => cpu));
    const file = median(measured.file.map(({ cpu }) => cpu));
    return {
      transportMicrosPerInfo: round(transport),
      fileMicrosPerInfo: round(file),
      transportRatioToFile: round(transport / file),
      transportCallerMicrosPerInfo: round(median(measured.kafka.map(({ caller }) => caller))),
      fileCallerMicrosPerInfo: round(median(measured.file.map(({ caller }) => caller))),
      medianOfRatios: round(median(measured.kafka.map(({ cpu }, i) => cpu / measured.file[i]!.cpu))),
      events,
      rounds,
      compression,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await admin.deleteTopics({ topics: [topic] }).catch(() => {});
    await admin.disconnect();
  }
}

async function kafkaRound(brokers: string[], topic: string, compression: Compression, events: number): Promise<Round> {
  const transport = new KafkaTransport({
    ...{ brokers, topic, compression, service: 'bench', environment: 'bench', version: '1.2.3' },
    queue: { maxRecords: 1_000_000, maxBytes: 1_000_000_000 },
  });
  const result = await measure(transport, events, async (logger) => {
    await ended(logger);
    return (await transport.close()).delivered;
  });
  if (result.done !== events) throw new Error(`bench: ${result.done} of ${events} records were delivered`);
  return result;
}

export async function fileRound(filename: string, events: number): Promise<Round> {
  const transport = new winston.transports.File({ filename });
  const result = await measure(transport, events, async (logger) => {
    await ended(logger);
    return statSync(filename).size;
  });
  if (result.done < events * 100) throw new Error(`bench: the file has only ${result.done} bytes`);
  rmSync(filename);
  return result;
}

/** Logs `events` times and waits for `finish`; what is logged is what the sample application logs for a request. */
export async function measure(
  transport: winston.transport,
  events: number,
  finish: (logger: winston.Logger) => Promise<number>,
): Promise<Round & { done: number }> {
  const { timestamp, json, combine } = winston.format;
  const logger = winston.createLogger({ level: 'info', format: combine(timestamp(), json()), transports: [transport] });
  const cpuBefore = process.cpuUsage();
  let callerNs = 0n;
  for (let i = 0; i < events; i += BURST) {
    const before = process.hrtime.bigint();
    for (let j = i; j < Math.min(i + BURST, events); j++) {
      logger.info('request served', {
        event: 'http.request',
        requestId: `req-${j}`,
        callId: `call-${j % 1_000}`,
        tenantId: 'acme',
        userId: `u-${j % 50}`,
        http: { method: 'GET', route: '/api/calls/:id', status: 200, durationMs: 12.5 },
      });
    }
    callerNs += process.hrtime.bigint() - before;
    await turn();
  }
  // Winston's File transport applies backpressure, and `logger.end()` loses what the logger still holds then.
  while (logger.writableLength + logger.readableLength + transport.writableLength > 0) await sleep(2);
  const done = await finish(logger);
  const cpu = process.cpuUsage(cpuBefore);
  return { cpu: (cpu.user + cpu.system) / events, caller: Number(callerNs) / 1_000 / events, done };
}

function ended(logger: winston.Logger): Promise<void> {
  return new Promise((resolve) => {
    logger.once('finish', resolve);
    logger.end();
  });
}

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function round(value: number): number {
  return Math.round(value * 100) / 100;
}
