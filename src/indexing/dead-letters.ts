// Where dead letters go: a Kafka topic, or an NDJSON file in the embedded mode. At least once: a record delivered again
// may leave a second letter with the same id and origin, which readers recognise.
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { IHeaders, Kafka, Producer } from 'kafkajs';
import { sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { ChunkOrigin, DeadLetter, DeadLetterSink } from '../core/record.ts';

/** Record headers of a letter. Values are UTF-8 text; `dlq list` and redrives read them. */
export const LETTER_HEADERS = {
  reason: 'reason',
  detail: 'detail',
  origin: 'origin',
  originPartition: 'origin-partition',
  originOffset: 'origin-offset',
  originTimestamp: 'origin-timestamp',
  /** Only of letters whose bytes were cut. */
  sha256: 'sha256',
  originalBytes: 'original-bytes',
} as const;

/** The dead-letter topic takes 2 MB; headers and framing need some of it. */
export const MAX_LETTER_BYTES = 1_900_000;
const RETRY_MS = 1_000;

/** Writes letters to the dead-letter topic (acks=all, idempotent); connects on the first letter. */
export function createKafkaDeadLetters(options: {
  kafka: Kafka;
  topic: string;
  metrics: Metrics;
  log: Log;
}): DeadLetterSink {
  const { kafka, topic, metrics, log } = options;
  let producer: Producer | undefined;

  async function connected(): Promise<Producer> {
    if (producer === undefined) {
      const fresh = kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false });
      await fresh.connect();
      producer = fresh;
    }
    return producer;
  }

  return {
    async put(letters, signal) {
      const messages = letters.map(toMessage);
      for (let failures = 0; ; failures++) {
        signal.throwIfAborted();
        try {
          await (await connected()).send({ topic, acks: -1, messages });
          if (failures > 0) metrics.paused.set({ reason: 'dead_letters' }, 0);
          return;
        } catch (error) {
          if (failures === 0) {
            metrics.paused.set({ reason: 'dead_letters' }, 1);
            log.error(`dead letters: ${topic} does not take them; trying again`, { error: errorText(error) });
          }
          // An idempotent producer that failed may have lost its sequence: the next try starts with a new one.
          await producer?.disconnect().catch(() => {});
          producer = undefined;
          await sleep(RETRY_MS, signal);
        }
      }
    },
    async close() {
      await producer?.disconnect().catch(() => {});
    },
  };
}

function toMessage(letter: DeadLetter): { key: string; value: Buffer | null; headers: IHeaders } {
  const headers: IHeaders = {
    [LETTER_HEADERS.reason]: letter.reason,
    [LETTER_HEADERS.detail]: letter.detail,
    [LETTER_HEADERS.origin]: originName(letter.origin),
    [LETTER_HEADERS.originPartition]: String(letter.origin.kind === 'kafka' ? letter.origin.partition : 0),
    [LETTER_HEADERS.originOffset]: String(letter.offset),
    [LETTER_HEADERS.originTimestamp]: String(letter.timeMs),
  };
  let { value } = letter;
  if (value !== null && value.length > MAX_LETTER_BYTES) {
    headers[LETTER_HEADERS.sha256] = createHash('sha256').update(value).digest('hex');
    headers[LETTER_HEADERS.originalBytes] = String(value.length);
    value = value.subarray(0, MAX_LETTER_BYTES);
  }
  return { key: letter.id, value, headers };
}

function originName(origin: ChunkOrigin): string {
  return origin.kind === 'kafka' ? origin.topic : origin.path;
}

/** Appends letters to a file, one JSON object per line, and syncs before it reports success. */
export function createFileDeadLetters(options: { path: string; metrics: Metrics; log: Log }): DeadLetterSink {
  const { path, metrics, log } = options;
  let file: FileHandle | undefined;
  let turn: Promise<void> = Promise.resolve();

  async function append(text: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      try {
        if (file === undefined) {
          mkdirSync(dirname(path), { recursive: true });
          file = await open(path, 'a', 0o600);
        }
        await file.appendFile(text);
        await file.datasync();
        metrics.paused.set({ reason: 'dead_letters' }, 0);
        return;
      } catch (error) {
        metrics.paused.set({ reason: 'dead_letters' }, 1);
        log.error(`dlq.file: ${path} cannot be written; trying again`, { error: errorText(error) });
        await sleep(RETRY_MS, signal);
      }
    }
  }

  return {
    put(letters, signal) {
      const text = letters.map((letter) => `${JSON.stringify(toLine(letter))}\n`).join('');
      // One after the other, so that lines never interleave.
      const mine = turn.then(() => append(text, signal));
      turn = mine.catch(() => {});
      return mine;
    },
    async close() {
      await turn;
      await file?.close();
    },
  };
}

function toLine(letter: DeadLetter): object {
  return {
    reason: letter.reason,
    detail: letter.detail,
    time: new Date(letter.timeMs).toISOString(),
    id: letter.id,
    origin: { path: originName(letter.origin), offset: letter.offset },
    value: letter.value?.toString() ?? null,
  };
}
