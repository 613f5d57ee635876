// Dead letters and their way back. In: the letters of the topic or, without Kafka, of the file, and the receipts of earlier redrives.
// Out: their records, back in the log topic (without Kafka: in Elasticsearch, through the same stages), and a receipt for what went back.
// Guarantee: each letter is sent, skipped or refused for one named cause; a receipt is written only when its letters are durable where
// they came from, so what a kill repeats is at most one piece, and harmless, because a record keeps its id and its first record time; no
// letter that was written after the beginning is touched, and none comes back more than MAX_REDRIVES times. Memory grows with the
// runs of letters that receipts name: one for all that went back in a row; one per letter where every other letter did.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { KafkaMessage, Message, Producer } from 'kafkajs';
import type { Clock } from '../core/clock.ts';
import { errorText, LogpipeError, reasonInWords } from '../core/errors.ts';
import { assertAcknowledged } from '../core/kafka/broker-connections.ts';
import type { Log } from '../core/log.ts';
import { createMetrics } from '../core/metrics.ts';
import type { DeadLetter, DeadLetterReason } from '../core/record.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { createDegrade } from '../indexing/bulk-writer.ts';
import {
  createDeadLetter,
  createFirstOf,
  type DlqConfig,
  letterKey,
  letterOfLine,
  letterOfMessage,
  type Receipt,
  type Run,
  receiptLine,
  receiptMessage,
  receiptOfLine,
  receiptOfMessage,
  recordOfLetter,
  type StoredLetter,
  sizeOf,
} from '../indexing/dead-letters.ts';
import { createIndexer, type Indexer } from '../indexing/indexer.ts';
import { createLineFile } from '../indexing/sinks.ts';
import { createParser } from '../parse/parse.ts';
import {
  createKafka,
  defaultPartitioner,
  failedReading,
  isTooLargeForKafka,
  type KafkaConfig,
} from '../source/kafka/client.ts';
import { redrivenHeaders } from '../source/kafka/record-headers.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { topicMaxBytes, withAdmin } from '../source/kafka/topics.ts';
import { linesOf } from '../source/lines.ts';
import { createTagger } from '../tag/tag.ts';
import { createTransformingParser } from '../transform/transform.ts';
import { createPace, type Yielding } from './replay.ts';
import type { ReplayConfig } from './request.ts';
import { byOrigin } from './sources.ts';
import { createEsTarget } from './targets.ts';

// ---- letters where they lie ----

/** Where letters are: the dead-letter topic or, without Kafka, a file. */
export type LettersConfig =
  | { readonly source: 'kafka'; readonly kafka: KafkaConfig }
  | { readonly source: 'files' | 'stdin' | 'otlp'; readonly dlq: Pick<DlqConfig, 'file'> };

/** A letter and its place: an offset of a partition, or a byte of the file. */
export interface PlacedLetter {
  /** Undefined for a line that is no letter. A record of the topic that is none is a letter without a place. */
  readonly letter: StoredLetter | undefined;
  readonly at: number;
  /** The next one is there or later. */
  readonly next: number;
}

/** Letters of one part (a partition, or the file), in its order. False ends the reading. */
export type TakeLetters = (letters: readonly PlacedLetter[], part: number) => Promise<boolean>;

export interface LettersOptions {
  /** What they are read for, in one word, for the log. */
  readonly purpose: string;
  /** Letters that were written before may be left out. */
  readonly sinceMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Letters at most in one piece, and so what a kill repeats at most. */
const PIECE = 500;
/** A letter holds a record, once more as text. */
const MAX_LINE_BYTES = 64_000_000;
const HEAD_BYTES = 4_096;
/** The file is one part. */
const FILE_PART = 0;

/**
 * Oldest first, up to the present end; one piece at a time over all partitions. True when the end was reached.
 * @throws LogpipeError LOGPIPE_KAFKA_UNREACHABLE, LOGPIPE_KAFKA_FAILED, LOGPIPE_SOURCE_FAILED, LOGPIPE_FORMAT_NEWER, and what `take` throws
 */
export async function readLetters(
  config: LettersConfig,
  options: LettersOptions,
  take: TakeLetters,
  log: Log,
): Promise<boolean> {
  if (config.source === 'kafka') {
    const topic = config.kafka.topics.dlq;
    return readMessages(config.kafka, options, log, async (messages, partition) => {
      const placed: PlacedLetter[] = [];
      for (const message of messages) {
        // A receipt, or whatever else is no letter by its own account.
        if (message.headers?.kind !== undefined) continue;
        const at = Number(message.offset);
        placed.push({ letter: letterOfMessage(message, `${topic}/${partition}/${at}`), at, next: at + 1 });
      }
      return placed.length === 0 || take(placed, partition);
    });
  }
  const { file } = config.dlq;
  // Nothing has been refused yet.
  if (!existsSync(file)) return true;
  let piece: PlacedLetter[] = [];
  // A pipeline may be writing more of them, and be in the middle of one.
  const { size } = await stat(file);
  for await (const { value, offset } of linesOf(file, MAX_LINE_BYTES, size)) {
    const letter = letterOfLine(value!.toString(), `${file}, offset ${offset}`);
    piece.push({ letter, at: offset, next: offset + value!.length + 1 });
    if (piece.length < PIECE) continue;
    if (options.signal?.aborted || !(await take(piece, FILE_PART))) return false;
    piece = [];
  }
  if (options.signal?.aborted) return false;
  return piece.length === 0 || take(piece, FILE_PART);
}

/** Which letters were redriven, and when. False when the end was not reached. @throws LogpipeError as `readLetters` */
export async function readReceipts(
  config: LettersConfig,
  options: LettersOptions,
  log: Log,
): Promise<RedrivenLetters | false> {
  const redriven = createRedrivenLetters();
  if (config.source === 'kafka') {
    const topic = config.kafka.topics.dlq;
    // A receipt comes after its letters: where these are left out, so may be the receipts before them.
    const whole = await readMessages(config.kafka, options, log, async (messages, partition) => {
      for (const message of messages) {
        const receipt = receiptOfMessage(message, `${topic}/${partition}/${message.offset}`);
        if (receipt !== undefined) redriven.add(partition, receipt);
      }
      return true;
    });
    return whole && redriven;
  }
  const path = receiptsFile(config.dlq.file);
  if (!existsSync(path) || !existsSync(config.dlq.file)) return redriven;
  const identity = await identityOfFile(config.dlq.file);
  for await (const { value, offset } of linesOf(path, MAX_LINE_BYTES)) {
    const receipt = receiptOfLine(value!.toString(), identity, `${path}, offset ${offset}`);
    if (receipt !== undefined) redriven.add(FILE_PART, receipt);
  }
  return redriven;
}

async function readMessages(
  config: KafkaConfig,
  { purpose, sinceMs, signal }: LettersOptions,
  log: Log,
  take: (messages: readonly KafkaMessage[], partition: number) => Promise<boolean>,
): Promise<boolean> {
  let refused: unknown;
  let more = true;
  let turn: Promise<unknown> = Promise.resolve();
  /** False for good after the first false or error: that is not Kafka's fault, and trying again would not help. */
  const inTurn = (messages: readonly KafkaMessage[], partition: number): Promise<boolean> => {
    const mine = turn.then(async () => {
      try {
        for (let at = 0; more && at < messages.length; at += PIECE) {
          more = await take(messages.slice(at, at + PIECE), partition);
        }
      } catch (error) {
        refused ??= error;
        more = false;
      }
      return more;
    });
    turn = mine;
    return mine;
  };
  const from = sinceMs ?? 'beginning';
  const topic = config.topics.dlq;
  const complete = await readTopic(config, { topic, purpose, from, follow: false, signal, onBatch: inTurn }, log);
  await turn;
  if (refused !== undefined) throw refused;
  return complete && more;
}

function receiptsFile(file: string): string {
  return `${file}.receipts`;
}

/** Its first line, as far as that need be read, tells a file from the next one of the same name. */
async function identityOfFile(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    const head = Buffer.alloc(HEAD_BYTES);
    const { bytesRead } = await file.read(head, 0, HEAD_BYTES, 0);
    const end = head.indexOf(0x0a);
    return createHash('sha256')
      .update(head.subarray(0, end < 0 ? bytesRead : end))
      .digest('hex')
      .slice(0, 32);
  } finally {
    await file.close();
  }
}

// ---- what was redriven ----

export interface RedrivenLetters {
  add(part: number, receipt: Receipt): void;
  /** When the redrive began that brought this letter back first, in ms; undefined when none has. */
  when(part: number, at: number): number | undefined;
  /** How many runs are remembered. */
  readonly runs: number;
}

interface TimedRun {
  readonly from: number;
  to: number;
  readonly ms: number;
}

/** The union of receipts, in any order and overlapping: what two of them name counts from the first that was added. */
export function createRedrivenLetters(): RedrivenLetters {
  /** Of each part, in the order of adding. */
  const added = new Map<number, TimedRun[]>();
  /** Of each part that was asked about since: ascending, without overlaps. */
  const united = new Map<number, readonly TimedRun[]>();

  function runsOfPart(part: number): readonly TimedRun[] {
    const known = united.get(part) ?? union(added.get(part) ?? []);
    united.set(part, known);
    return known;
  }

  return {
    add(part, { startedMs, runs }) {
      const known = added.get(part) ?? [];
      added.set(part, known);
      united.delete(part);
      for (const [from, to] of runs) {
        const last = known.at(-1);
        // As one redrive writes them.
        if (last !== undefined && last.to === from && last.ms === startedMs) last.to = to;
        else known.push({ from, to, ms: startedMs });
      }
    },
    when(part, at) {
      const runs = runsOfPart(part);
      const run = runs[firstIndex(runs.length, (i) => runs[i]!.to > at)];
      return run !== undefined && run.from <= at ? run.ms : undefined;
    },
    get runs() {
      return [...added.keys()].reduce((sum, part) => sum + runsOfPart(part).length, 0);
    },
  };
}

/** The first of `length` indices that `holds` is true of, as it is of all behind it; `length` when it is true of none. */
function firstIndex(length: number, holds: (i: number) => boolean): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Ascending and without overlaps: of several runs over one place, the first in `runs` has it. Takes n log n steps. */
function union(runs: readonly TimedRun[]): TimedRun[] {
  const ends = Float64Array.from({ length: 2 * runs.length }, (_, i) =>
    i % 2 ? runs[i >> 1]!.to : runs[i >> 1]!.from,
  );
  const bounds = ends.sort().filter((bound, i, all) => i === 0 || bound !== all[i - 1]);
  /** Whose the stretch is that begins at this bound. */
  const owners = new Array<TimedRun | undefined>(bounds.length).fill(undefined);
  /** Where to look for the next stretch that is nobody's; itself, while it is nobody's. */
  const next = Uint32Array.from(bounds, (_, i) => i);
  const free = (from: number): number => {
    let i = from;
    while (next[i] !== i) {
      next[i] = next[next[i]!]!;
      i = next[i]!;
    }
    return i;
  };
  for (const run of runs) {
    const first = firstIndex(bounds.length, (i) => bounds[i]! >= run.from);
    for (let i = free(first); bounds[i]! < run.to; i = free(i)) {
      owners[i] = run;
      next[i] = i + 1;
    }
  }
  const found: TimedRun[] = [];
  for (const [i, owner] of owners.entries()) {
    if (owner === undefined) continue;
    const last = found.at(-1);
    const [from, to, { ms }] = [bounds[i]!, bounds[i + 1]!, owner];
    if (last !== undefined && last.to === from && last.ms === ms) last.to = to;
    else found.push({ from, to, ms });
  }
  return found;
}

/** Ascending places as runs. */
function runsOf(placed: readonly PlacedLetter[]): Run[] {
  const runs: [number, number][] = [];
  for (const { at, next } of placed) {
    const last = runs.at(-1);
    if (last?.[1] === at) last[1] = next;
    else runs.push([at, next]);
  }
  return runs;
}

// ---- may it go back? ----

/** However much somebody insists: what died this often has a fault that no redrive repairs. */
export const MAX_REDRIVES = 5;

/** Why a letter stays where it is. A closed list, in the words of the summary. */
export const NOT_REDRIVEN = {
  cut: 'the letter holds only part of its record',
  no_value: 'the letter holds no value',
  whole_batch: 'the letter stands for a whole batch of records',
  not_a_letter: 'no dead letter, or one that does not say where it comes from',
  too_large: 'the log topic takes no record of this size',
  redriven_before: 'it died again after a redrive (--again insists)',
  redriven_too_often: `it died again after ${MAX_REDRIVES} redrives`,
  refused_again: 'Elasticsearch refused it again',
} as const;
export type NotRedriven = keyof typeof NOT_REDRIVEN;

/** @param maxBytes the largest record that the log topic takes */
export function causeToStay(
  letter: StoredLetter | undefined,
  options: { readonly again: boolean; readonly maxBytes: number },
): NotRedriven | undefined {
  if (letter === undefined || letter.id === '' || !Number.isSafeInteger(letter.offset)) return 'not_a_letter';
  const { reason, sha256, value, redriven = 0 } = letter;
  if (reason === 'batch_undecodable' || reason === 'batch_too_large') return 'whole_batch';
  if (sha256 !== undefined) return 'cut';
  if (value === null || value.length === 0 || reason === ('empty_value' satisfies DeadLetterReason)) return 'no_value';
  if (redriven >= MAX_REDRIVES) return 'redriven_too_often';
  if (redriven > 0 && !options.again) return 'redriven_before';
  return sizeOf(backMessage(letter)) > options.maxBytes ? 'too_large' : undefined;
}

/** The record once more: what decides its id and its day travels in headers (source/kafka/record-batch.ts). */
function backMessage(letter: StoredLetter): { value: Buffer | null; headers: Record<string, string> } {
  const { timeMs } = recordOfLetter(letter);
  return { value: letter.value, headers: redrivenHeaders({ ...letter, timeMs }) };
}

// ---- the redrive ----

/** Which letters are meant. */
export interface LetterSelection {
  readonly reason?: string | undefined;
  /** [sinceMs, untilMs) by the time at which the letter was written; in a file, by its record's time. */
  readonly sinceMs?: number | undefined;
  readonly untilMs?: number | undefined;
  /** Empty: all. */
  readonly ids: readonly string[];
  /** By the document that its record would become. */
  readonly matches?: ((letter: StoredLetter) => boolean) | undefined;
}

export interface RedriveOptions {
  readonly selection: LetterSelection;
  /** At most this many go back. */
  readonly limit: number | undefined;
  /** Also those that died again after a redrive. */
  readonly again: boolean;
  readonly dryRun: boolean;
  /** Letters per second. */
  readonly throttle: number;
}

/** A letter that stays. */
export interface Stayed {
  readonly id: string;
  readonly cause: NotRedriven;
  /** `topic/0@5`, or `file@123`. */
  readonly place: string;
  readonly reason: string;
  readonly detail: string;
}

export interface RedriveTally {
  /** Letters read, of whatever selection. */
  read: number;
  /** Back where they came from; in a dry run, what would be. */
  redriven: number;
  /** The same by the reason of their letters. */
  readonly byReason: Record<string, number>;
  /** They have the receipt of an earlier redrive. */
  alreadyRedriven: number;
  readonly stayed: Partial<Record<NotRedriven, number>>;
}

export interface RedriveSummary extends RedriveTally {
  /** False when it was ended early: repeating it goes on. */
  readonly complete: boolean;
  readonly startedMs: number;
  /** The first ones. */
  readonly examples: readonly Stayed[];
  /** Asked for, and not there. */
  readonly unknownIds: readonly string[];
  readonly seconds: number;
  readonly live: { readonly maxLiveLag: number; readonly heldMs: number } | undefined;
}

/** Where letters go back to. */
export interface WayBack {
  /** The largest record it takes. */
  readonly maxBytes: number;
  /**
   * Resolves when all but the returned ones are durable there; undefined when it was ended before that is known.
   * @throws when none of them is known to be there
   */
  send(letters: readonly StoredLetter[], signal: AbortSignal): Promise<readonly NotSent[] | undefined>;
  /** Resolves when the receipt is durable. */
  confirm(part: number, receipt: Receipt): Promise<void>;
  close(): Promise<void>;
}

interface NotSent {
  readonly letter: StoredLetter;
  readonly cause: NotRedriven;
  readonly detail?: string;
}

export interface RedriveDeps {
  /** Of earlier redrives; read before the letters. */
  readonly redriven: RedrivenLetters;
  readonly read: (take: TakeLetters) => Promise<boolean>;
  /** For people: the partition or the file. */
  readonly place: (part: number) => string;
  /** Undefined in a dry run. */
  readonly back: Pick<WayBack, 'send' | 'confirm'> | undefined;
  /** The largest record that can go back. */
  readonly maxBytes: number;
  readonly yielding: Yielding | undefined;
  readonly clock: Clock;
  /** Called about once a second. */
  readonly onProgress?: (tally: RedriveTally, held: boolean) => void;
}

const MAX_EXAMPLES = 100;
const PROGRESS_MS = 1_000;
/** Of the records that go together. */
const MAX_SEND_BYTES = 500_000;

/**
 * Runs to the end of the letters, `limit` or `signal`.
 * @throws LogpipeError when letters cannot be read, or records or receipts not be written. What had gone back by then gets its receipt
 *   first, as far as that is possible.
 */
export async function redrive(
  options: RedriveOptions,
  deps: RedriveDeps,
  signal: AbortSignal,
): Promise<RedriveSummary> {
  const { selection, limit = Number.POSITIVE_INFINITY, again, throttle } = options;
  const { redriven, back, maxBytes, yielding, clock } = deps;
  const startedMs = clock.now();
  const began = clock.monotonicMs();
  const pace = createPace({ speed: Number.POSITIVE_INFINITY, throttle });
  const isFirst = createFirstOf();
  const wantedIds = new Set(selection.ids);
  const unknownIds = new Set(selection.ids);
  const tally: RedriveTally = { read: 0, redriven: 0, byReason: {}, alreadyRedriven: 0, stayed: {} };
  const examples: Stayed[] = [];
  let chosen = 0;

  function isMeant(letter: StoredLetter | undefined): boolean {
    const { reason, sinceMs, untilMs, matches } = selection;
    // What is no letter has nothing to be chosen by.
    if (letter === undefined) return reason === undefined && matches === undefined && wantedIds.size === 0;
    const ms = letter.writtenMs ?? letter.timeMs;
    if (sinceMs !== undefined && !(ms >= sinceMs)) return false;
    if (untilMs !== undefined && !(ms < untilMs)) return false;
    if (reason !== undefined && letter.reason !== reason) return false;
    if (wantedIds.size > 0 && !wantedIds.has(letter.id)) return false;
    return matches === undefined || matches(letter);
  }

  function stay({ letter, at }: PlacedLetter, part: number, cause: NotRedriven, detail = letter?.detail ?? ''): void {
    tally.stayed[cause] = (tally.stayed[cause] ?? 0) + 1;
    if (examples.length >= MAX_EXAMPLES) return;
    const { id = '', reason = 'unknown' } = letter ?? {};
    examples.push({ id, cause, place: `${deps.place(part)}@${at}`, reason, detail });
  }

  async function take(placed: readonly PlacedLetter[], part: number): Promise<boolean> {
    const piece: PlacedLetter[] = [];
    for (const one of placed) {
      const { letter, at } = one;
      tally.read += 1;
      if (!isMeant(letter)) continue;
      if (letter !== undefined) {
        unknownIds.delete(letter.id);
        // The second letter of a record: the first one speaks for both.
        if (!isFirst(letterKey(letter))) continue;
      }
      if (redriven.when(part, at) !== undefined) {
        tally.alreadyRedriven += 1;
        continue;
      }
      const cause = causeToStay(letter, { again, maxBytes });
      if (cause !== undefined) stay(one, part, cause);
      else {
        piece.push(one);
        chosen += 1;
        if (chosen >= limit) break;
      }
    }
    await send(piece, part);
    return !signal.aborted && chosen < limit;
  }

  async function send(piece: readonly PlacedLetter[], part: number): Promise<void> {
    const gone: PlacedLetter[] = [];
    try {
      for (let from = 0; from < piece.length; ) {
        const together = piece.slice(from, from + fitting(piece, from));
        from += together.length;
        if (back !== undefined) {
          await pace.wait(0, together.length, signal);
          await yielding?.pass(signal);
          if (signal.aborted) return;
        }
        const stayed = await (back?.send(
          together.map(({ letter }) => letter!),
          signal,
        ) ?? []);
        // Ended before it was known what became of them.
        if (stayed === undefined) return;
        const causes = new Map(stayed.map((one) => [one.letter, one]));
        for (const one of together) {
          const found = causes.get(one.letter!);
          if (found !== undefined) stay(one, part, found.cause, found.detail);
          else {
            gone.push(one);
            tally.redriven += 1;
            const { reason } = one.letter!;
            tally.byReason[reason] = (tally.byReason[reason] ?? 0) + 1;
          }
        }
      }
    } finally {
      if (gone.length > 0) await back?.confirm(part, { startedMs, runs: runsOf(gone) });
    }
  }

  function fitting(piece: readonly PlacedLetter[], from: number): number {
    const most = pace.fitting(
      piece.map(() => 0),
      from,
    );
    let count = 0;
    for (let bytes = 0; count < most; count++) {
      bytes += piece[from + count]!.letter!.value!.length;
      if (count > 0 && bytes > MAX_SEND_BYTES) break;
    }
    return count;
  }

  const ticker = setInterval(() => deps.onProgress?.(tally, yielding?.seen().held ?? false), PROGRESS_MS);
  try {
    const reached = await deps.read(take);
    const isEnough = chosen >= limit;
    return {
      ...tally,
      complete: !signal.aborted && (reached || isEnough),
      startedMs,
      examples,
      unknownIds: reached && !isEnough ? [...unknownIds] : [],
      seconds: (clock.monotonicMs() - began) / 1_000,
      live: yielding?.seen(),
    };
  } catch (error) {
    if (!(error instanceof LogpipeError) || back === undefined) throw error;
    const count = `${tally.redriven} ${tally.redriven === 1 ? 'letter' : 'letters'}`;
    throw new LogpipeError(
      error.code,
      `${error.message}. ${count} had been redriven; the same command goes on with the others`,
      error,
    );
  } finally {
    clearInterval(ticker);
  }
}

// ---- back into the log topic ----

const DEFAULT_MAX_BYTES = 1_048_588;
/** Batch header, with room to spare. */
const BATCH_OVERHEAD = 512;

/** The largest record that the log topic takes. */
export async function largestRecord(config: KafkaConfig, log: Log): Promise<number> {
  const limit = await topicMaxBytes(createKafka(config, log), config.topics.logs, log);
  return (limit ?? DEFAULT_MAX_BYTES) - BATCH_OVERHEAD;
}

/**
 * Each record goes to the partition that it came from; its receipt, to the partition of its letter.
 * @throws LogpipeError LOGPIPE_KAFKA_UNREACHABLE, LOGPIPE_KAFKA_FAILED
 */
export async function openLogTopic(config: KafkaConfig, log: Log): Promise<WayBack> {
  const { logs, dlq } = config.topics;
  const kafka = createKafka(config, log);
  let producer: Producer | undefined;

  async function produce(topic: string, messages: readonly (Message & { partition: number })[]): Promise<void> {
    try {
      if (producer === undefined) {
        const fresh = kafka.producer({
          createPartitioner: defaultPartitioner,
          idempotent: true,
          maxInFlightRequests: 1,
          allowAutoTopicCreation: false,
        });
        producer = fresh;
        await fresh.connect();
      }
      const answers = await producer.send({ topic, acks: -1, messages: [...messages] });
      assertAcknowledged(
        answers,
        messages.map(({ partition }) => partition),
        topic,
      );
    } catch (error) {
      // With its sequence numbers, the broker would mistake the next, different records for a repetition of the failed ones.
      const failed = producer;
      producer = undefined;
      await failed?.disconnect().catch(() => {});
      throw isTooLargeForKafka(error) ? error : failedReading(error, config, topic);
    }
  }

  let partitions: number;
  try {
    partitions = (await withAdmin(kafka, (admin) => admin.fetchTopicOffsets(logs))).length;
  } catch (error) {
    throw failedReading(error, config, logs);
  }
  /** Where it came from, unless the topic has fewer partitions now, or the record came from elsewhere. */
  const partitionOf = ({ origin, offset }: StoredLetter): number => {
    const place = origin.kind === 'kafka' ? origin.partition : offset;
    return Number.isSafeInteger(place) && place >= 0 ? place % partitions : 0;
  };

  async function send(letters: readonly StoredLetter[]): Promise<readonly NotSent[]> {
    try {
      await produce(
        logs,
        letters.map((letter) => ({ ...backMessage(letter), partition: partitionOf(letter) })),
      );
      return [];
    } catch (error) {
      if (!isTooLargeForKafka(error)) throw error;
      if (letters.length === 1) return [{ letter: letters[0]!, cause: 'too_large', detail: errorText(error) }];
      const half = letters.length >> 1;
      return [...(await send(letters.slice(0, half))), ...(await send(letters.slice(half)))];
    }
  }

  return {
    maxBytes: await largestRecord(config, log),
    send,
    confirm: (partition, receipt) => produce(dlq, [{ partition, ...receiptMessage(receipt) }]),
    async close() {
      await producer?.disconnect();
    },
  };
}

// ---- without Kafka: into Elasticsearch ----

const SHUTDOWN_MS = 20_000;

/**
 * Indexes records by the stages of the pipeline; receipts go to a file beside the letters.
 * @throws LogpipeError when Elasticsearch cannot be used
 */
export async function openElasticsearch(
  config: Pick<ReplayConfig, 'parse' | 'mask' | 'transforms' | 'elasticsearch' | 'bulk' | 'dlq'>,
  deps: { readonly log: Log; readonly clock: Clock },
): Promise<WayBack> {
  const metrics = createMetrics();
  const masker = createMasker(config.mask);
  const parsed = createParser(config.parse, { masker, duplicatesRefused: true });
  const parser = createTransformingParser(parsed, config.transforms, { masker });
  const tag = createTagger();
  let refused: DeadLetter[] = [];
  let indexer: Indexer | undefined;
  const target = createEsTarget({ kind: 'in-place', reparse: false }, config, {
    ...deps,
    metrics,
    degrade: (item) => createDegrade({ parser, tag, documents })(item),
    bury: ({ record, chunk }, reason, detail, abort) => indexer!.bury(record, chunk, reason, detail, abort),
  });
  const documents = target.documents(parser.time);
  indexer = createIndexer(config.bulk, {
    ...deps,
    ...{ parser, tag, documents, metrics, sinks: [target.sink] },
    deadLetters: {
      async put(letters) {
        refused.push(...letters);
      },
      async close() {},
    },
    toDeadLetter: createDeadLetter(config.dlq, masker),
  });
  const path = receiptsFile(config.dlq.file);
  const receipts = createLineFile(path, { sync: true });
  const identity = await identityOfFile(config.dlq.file);
  await target.prepare(undefined);

  return {
    maxBytes: Number.POSITIVE_INFINITY,
    async send(letters, signal) {
      refused = [];
      // A server that takes nothing must not keep the command from ending.
      const onAbort = () => void indexer.drain(SHUTDOWN_MS);
      signal.addEventListener('abort', onAbort, { once: true });
      for (const [origin, items] of byOrigin(letters, (letter) => letter.origin)) {
        const bytes = items.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
        await indexer.accept({ origin, records: items.map(recordOfLetter), bytes, done() {} });
      }
      const isKnown = await indexer.drain(Number.POSITIVE_INFINITY);
      signal.removeEventListener('abort', onAbort);
      if (!isKnown) return undefined;
      const found = new Map(letters.map((letter) => [letterKey(letter), letter]));
      return refused.map((letter) => ({
        ...{ letter: found.get(letterKey(letter))!, cause: 'refused_again' as const, detail: letter.detail },
      }));
    },
    async confirm(_part, receipt) {
      try {
        await receipts.append(Buffer.from(receiptLine(receipt, identity)));
      } catch (error) {
        throw new LogpipeError('LOGPIPE_SINK_FAILED', `${path}: ${reasonInWords(error)}; free the disk`, error);
      }
    },
    async close() {
      await target.sink.close();
      await receipts.close();
    },
  };
}
