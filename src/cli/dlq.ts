// `logpipe dlq list`: the dead letters of the topic, oldest first. Moves nobody's offsets; memory does not grow with
// the number of letters.
import type { KafkaMessage } from 'kafkajs';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { DEAD_LETTER_REASONS } from '../core/record.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker, type Masker, type MaskOptions } from '../core/secrets/mask.ts';
import { shownText } from '../replay/record-document.ts';
import type { KafkaConfig } from '../source/kafka/client.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { type Io, jsonLine, shown } from './io.ts';

const PREVIEW_CHARACTERS = 2_000;
const ROW_CHARACTERS = 60;
/** Letters of a record that was delivered twice lie close together: this many keys find them. */
const MAX_REMEMBERED = 100_000;

export interface DlqListOptions {
  readonly reason?: string;
  readonly limit?: number;
  readonly json?: boolean;
  /** The configuration's keys and patterns: letters may have been kept raw, or be older than these. */
  readonly mask?: MaskOptions;
  readonly signal?: AbortSignal;
}

/** One dead letter, as `--json` prints it. */
export interface ListedLetter {
  readonly id: string;
  readonly reason: string;
  readonly detail: string;
  /** When it was written, ISO 8601. */
  readonly time: string;
  readonly origin: {
    readonly topic?: string;
    readonly partition?: number;
    readonly file?: string;
    readonly identity?: string;
    readonly offset: number;
    /** Record time, ISO 8601. */
    readonly time: string;
  };
  /** Bytes of the record, also when the letter holds less of it. */
  readonly bytes: number;
  /** Hash of the record when the letter holds less of it. */
  readonly sha256?: string;
  /** The first characters, masked; null for a tombstone. */
  readonly value: string | null;
}

/**
 * Prints a table or, with `json`, one object per line; a record that left two letters is listed once. Exit status 0, or
 * 1 when the end could not be reached.
 * @throws LogpipeError LOGPIPE_USAGE, LOGPIPE_KAFKA_UNREACHABLE, LOGPIPE_KAFKA_FAILED
 */
export async function dlqList(config: KafkaConfig, options: DlqListOptions, io: Io, log: Log): Promise<number> {
  const { reason, limit, json } = options;
  if (reason !== undefined && !(DEAD_LETTER_REASONS as readonly string[]).includes(reason)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--reason: there is no ${JSON.stringify(reason)}; reasons: ${DEAD_LETTER_REASONS.join(', ')}`,
    );
  }
  if (limit !== undefined && !(Number.isInteger(limit) && limit > 0)) {
    throw new LogpipeError('LOGPIPE_USAGE', `--limit: ${limit} is not a whole number above 0`);
  }
  const masker = createMasker(options.mask);
  const seen = new Set<string>();
  let listed = 0;

  const complete = await readTopic(
    config,
    {
      topic: config.topics.dlq,
      purpose: 'dlq-list',
      from: 'beginning',
      follow: false,
      signal: options.signal,
      onRecord(message) {
        const letter = toLetter(message, masker);
        if (reason !== undefined && letter.reason !== reason) return true;
        const { origin } = letter;
        const key = `${letter.id}|${origin.topic ?? origin.identity}|${origin.partition ?? ''}|${origin.offset}`;
        if (seen.has(key)) return true;
        if (seen.size >= MAX_REMEMBERED) seen.delete(seen.values().next().value!);
        seen.add(key);
        if (!json && listed === 0) io.out(row('time', 'reason', 'origin', 'bytes', 'detail', 'value'));
        listed += 1;
        io.out(json ? jsonLine(letter, masker) : letterRow(shown(letter, masker) as ListedLetter));
        return listed !== limit;
      },
    },
    log,
  );
  const reached = complete || listed === limit;
  if (!json) io.err(listed === 0 ? 'no dead letters' : `${listed} dead letter${listed === 1 ? '' : 's'}`);
  if (!reached) io.err(`${config.topics.dlq}: the end was not reached; the list may be incomplete`);
  return reached ? 0 : 1;
}

function toLetter(message: KafkaMessage, masker: Masker): ListedLetter {
  const header = (name: string): string | undefined => {
    const value = message.headers?.[name];
    return value === undefined ? undefined : String(Array.isArray(value) ? value[0] : value);
  };
  const topic = header('origin-topic');
  const sha256 = header('sha256');
  const { value } = message;
  return {
    id: header('event-id') ?? message.key?.toString() ?? '',
    reason: header('reason') ?? 'unknown',
    detail: header('detail') ?? '',
    time: isoTime(message.timestamp),
    origin: {
      ...(topic === undefined
        ? { file: header('origin-file') ?? '', identity: header('origin-identity') ?? '' }
        : { topic, partition: Number(header('origin-partition')) }),
      offset: Number(header('origin-offset')),
      time: isoTime(header('origin-timestamp')),
    },
    bytes: Number(header('original-bytes') ?? value?.length ?? 0),
    ...(sha256 === undefined ? {} : { sha256 }),
    value: shownText(value, masker, PREVIEW_CHARACTERS),
  };
}

function isoTime(text: string | undefined): string {
  const time = new Date(Number(text));
  return Number.isNaN(time.getTime()) ? '' : time.toISOString();
}

function letterRow(letter: ListedLetter): string {
  const { origin } = letter;
  const place = origin.topic === undefined ? origin.file! : `${origin.topic}/${origin.partition}`;
  const value = letter.value === null ? '(null)' : letter.value;
  return row(letter.time, letter.reason, `${place}@${origin.offset}`, String(letter.bytes), letter.detail, value);
}

function row(time: string, reason: string, origin: string, bytes: string, detail: string, value: string): string {
  return [
    time.padEnd(24),
    visible(reason).padEnd(17),
    visible(origin).padEnd(30),
    bytes.padStart(8),
    oneLine(detail, ROW_CHARACTERS).padEnd(ROW_CHARACTERS),
    oneLine(value, ROW_CHARACTERS),
  ]
    .join('  ')
    .trimEnd();
}
