// `logpipe tail`: the log topic as it grows, parsed as the pipeline would. Moves nobody's offsets. Guarantee: no record ends it;
// what is printed is masked, and does nothing to the terminal.
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { ChunkOrigin, RawRecord } from '../core/record.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker, type Masker } from '../core/secrets/mask.ts';
import { prettyLine } from '../indexing/sinks.ts';
import { parseWhere } from '../replay/sources.ts';
import type { KafkaConfig } from '../source/kafka/client.ts';
import { toRecords } from '../source/kafka/record-batch.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { type Io, jsonLine, shown } from './io.ts';

export interface TailOptions {
  /** Conditions, all of which must hold; see replay/sources.ts. */
  readonly where?: readonly string[];
  /** See `parseSince`. */
  readonly since?: string;
  readonly limit?: number;
  readonly json?: boolean;
  /** Ends the following; otherwise SIGINT and SIGTERM do. */
  readonly signal?: AbortSignal;
}

/** What a record becomes; `reason` when it would go to the dead letters. */
export interface TailedRecord {
  readonly document?: Record<string, unknown>;
  readonly reason?: string;
}

export interface TailDeps {
  readonly parse: (record: RawRecord, origin: ChunkOrigin) => TailedRecord;
  readonly log: Log;
  /** Of the configuration; default: the built-in rules alone. */
  readonly masker?: Masker;
  readonly now?: () => number;
}

/**
 * Prints matching documents until it is told to end; exit status 0.
 * @throws LogpipeError LOGPIPE_USAGE, LOGPIPE_KAFKA_UNREACHABLE, LOGPIPE_KAFKA_FAILED
 */
export async function tail(config: KafkaConfig, options: TailOptions, io: Io, deps: TailDeps): Promise<number> {
  const { limit } = options;
  if (limit !== undefined && !(Number.isInteger(limit) && limit > 0)) {
    throw new LogpipeError('LOGPIPE_USAGE', `--limit: ${limit} is not a whole number above 0`);
  }
  const { masker = createMasker() } = deps;
  const matches = parseWhere(options.where);
  const from = options.since === undefined ? 'end' : parseSince(options.since, (deps.now ?? Date.now)());
  const topic = config.topics.logs;
  const stop = new AbortController();
  const end = () => stop.abort();
  const signals = ['SIGINT', 'SIGTERM'] as const;
  if (options.signal === undefined) for (const signal of signals) process.once(signal, end);
  else if (options.signal.aborted) end();
  else options.signal.addEventListener('abort', end, { once: true });

  let printed = 0;
  try {
    await readTopic(
      config,
      {
        topic,
        purpose: 'tail',
        from,
        follow: true,
        signal: stop.signal,
        onReady: () => io.err(`following ${topic}; Ctrl-C ends`),
        onRecord(message, partition) {
          const record = toRecords([message]).records[0]!;
          const { document, reason } = deps.parse(record, { kind: 'kafka', topic, partition });
          if (document === undefined) {
            // A dead letter has no fields to compare.
            if (matches === undefined)
              io.err(`${topic}/${partition}@${record.offset}: refused, ${visible(reason ?? 'unknown')}`);
            return true;
          }
          if (matches?.(document) === false) return true;
          io.out(options.json ? jsonLine(document, masker) : lineOf(document, masker));
          printed += 1;
          return printed !== limit;
        },
      },
      deps.log,
    );
  } finally {
    for (const signal of signals) process.off(signal, end);
    options.signal?.removeEventListener('abort', end);
  }
  return 0;
}

/** For people; what cannot be written that way is said, and the next record is shown. */
function lineOf(document: Record<string, unknown>, masker: Masker): string {
  try {
    return oneLine(prettyLine(shown(document, masker) as Record<string, unknown>));
  } catch (error) {
    return `(a document that cannot be shown: ${visible(errorText(error))})`;
  }
}

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/**
 * A time in ms: `-90s`, `-10m`, `-2h`, `-1d` before `now`, or ISO 8601.
 * @throws LogpipeError LOGPIPE_USAGE
 */
export function parseSince(text: string, now: number): number {
  const relative = /^-(\d{1,9})([smhd])$/.exec(text.trim());
  if (relative) return Math.max(0, now - Number(relative[1]) * UNIT_MS[relative[2] as keyof typeof UNIT_MS]);
  const absolute = /^\d{4}-\d\d-\d\d/.test(text.trim()) ? Date.parse(text.trim()) : Number.NaN;
  if (Number.isNaN(absolute)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--since: ${JSON.stringify(text)} is not a time; write -10m, -2h, -1d or ISO 8601 like 2026-01-31T08:00:00Z`,
    );
  }
  return absolute;
}
