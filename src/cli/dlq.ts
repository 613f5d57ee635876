// `logpipe dlq list | show`: the dead letters of the topic, or without Kafka of the file, oldest first. Moves nobody's offsets; memory
// does not grow with the number of letters.
import { existsSync } from 'node:fs';
import type { KafkaMessage } from 'kafkajs';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { DEAD_LETTER_REASONS } from '../core/record.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker, type Masker, type MaskOptions } from '../core/secrets/mask.ts';
import { assertKnownLetter, type DlqConfig } from '../indexing/dead-letters.ts';
import { isObject, readExact, writeJson } from '../parse/json.ts';
import { shownText } from '../replay/record-document.ts';
import type { KafkaConfig } from '../source/kafka/client.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import {
  cell,
  column,
  createTimeText,
  type Folded,
  type Io,
  jsonLine,
  say,
  sayUnfolded,
  shown,
  widthOf,
  withoutFolded,
} from './io.ts';
import { linesOf } from './local-logs.ts';

const PREVIEW_CHARACTERS = 2_000;
const ROW_CHARACTERS = 60;
/** Letters of a record that was delivered twice lie close together: this many keys find them. */
const MAX_REMEMBERED = 100_000;
/** A letter holds a record, once more as text. */
const MAX_LINE_BYTES = 64_000_000;

/** Where the letters are; `mask` because they may have been kept raw, or be older than the configured keys and patterns. */
export type LettersConfig = (
  | { readonly source: 'kafka'; readonly kafka: KafkaConfig }
  | { readonly source: 'files' | 'stdin'; readonly dlq: Pick<DlqConfig, 'file'> }
) & { readonly mask?: MaskOptions };

interface LettersView {
  readonly json?: boolean;
  /** IANA name, for the times that people read. Default: UTC. */
  readonly timeZone?: string | undefined;
  readonly signal?: AbortSignal;
}

export interface DlqListOptions extends LettersView {
  readonly reason?: string;
  readonly limit?: number;
}

/** One dead letter, as `--json` prints it. */
export interface ListedLetter {
  readonly id: string;
  readonly reason: string;
  readonly detail: string;
  /** When it was written, ISO 8601; empty for letters in a file, which do not tell. */
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
  /** The first characters, or with `show` all of them, masked; null for a tombstone. */
  readonly value: string | null;
}

/**
 * Prints a table or, with `json`, one object per line; a record that left two letters is listed once. Exit status 0, or
 * 1 when the end could not be reached.
 * @throws LogpipeError LOGPIPE_USAGE, LOGPIPE_KAFKA_UNREACHABLE, LOGPIPE_KAFKA_FAILED, LOGPIPE_SOURCE_FAILED
 */
export async function dlqList(config: LettersConfig, options: DlqListOptions, io: Io, log: Log): Promise<number> {
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
  const masker = createMasker(config.mask);
  const timeText = createZonedTime(options.timeZone);
  const print = io.isTTY === true ? printBlock : printRow;
  let listed = 0;
  const complete = await readLetters(
    config,
    { purpose: 'dlq-list', signal: options.signal },
    (stored) => {
      if (reason !== undefined && stored.reason !== reason) return true;
      const letter = toListed(stored, masker, PREVIEW_CHARACTERS);
      listed += 1;
      if (json) io.out(jsonLine(letter, masker));
      else print(shown(letter, masker) as ListedLetter, { io, timeText, isFirst: listed === 1 });
      return listed !== limit;
    },
    log,
  );
  const reached = complete || listed === limit;
  if (!json) {
    const count = listed === 0 ? 'no dead letters' : `${listed} dead letter${listed === 1 ? '' : 's'}`;
    const missing = config.source !== 'kafka' && !existsSync(config.dlq.file);
    const more = listed > 0 && io.isTTY === true ? '; logpipe dlq show <id> shows one whole' : '';
    const hint = missing ? ` (there is no ${config.dlq.file})` : more;
    io.err(visible(`${count}${hint}`));
  }
  if (!reached) io.err(`${placeOf(config)}: the end was not reached; the list may be incomplete`);
  return reached ? 0 : 1;
}

/**
 * Prints the letter of this id whole; those of several records with the same id one after the other. Exit status as `dlqList`.
 * @throws LogpipeError LOGPIPE_USAGE when there is none of that id, and what `dlqList` throws
 */
export async function dlqShow(
  id: string,
  config: LettersConfig,
  options: LettersView,
  io: Io,
  log: Log,
): Promise<number> {
  const masker = createMasker(config.mask);
  const timeText = createZonedTime(options.timeZone);
  let found = 0;
  const reached = await readLetters(
    config,
    { purpose: 'dlq-show', signal: options.signal },
    (stored) => {
      if (stored.id !== id) return true;
      found += 1;
      const letter = toListed(stored, masker, Number.POSITIVE_INFINITY);
      if (options.json) io.out(jsonLine(letter, masker));
      else {
        if (found > 1) io.out('');
        printWhole(letter, { io, timeText, masker });
      }
      return true;
    },
    log,
  );
  if (!reached) io.err(`${placeOf(config)}: the end was not reached`);
  else if (found === 0) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `dlq show: ${placeOf(config)} holds no dead letter with the id ${JSON.stringify(id)}; see logpipe dlq list`,
    );
  }
  return reached ? 0 : 1;
}

function placeOf(config: LettersConfig): string {
  return config.source === 'kafka' ? `topic ${config.kafka.topics.dlq}` : config.dlq.file;
}

// ---- reading letters, from a topic or a file ----

/** A letter as it was written; nothing of it is masked for certain. */
interface StoredLetter extends Omit<ListedLetter, 'value'> {
  readonly value: Buffer | null;
}

/** Oldest first, each once, until `take` returns false; true when the end was reached. */
async function readLetters(
  config: LettersConfig,
  options: { readonly purpose: string; readonly signal?: AbortSignal | undefined },
  take: (letter: StoredLetter) => boolean,
  log: Log,
): Promise<boolean> {
  const seen = new Set<string>();
  const takeOnce = (letter: StoredLetter): boolean => {
    const { origin } = letter;
    const key = `${letter.id}|${origin.topic ?? origin.identity}|${origin.partition ?? ''}|${origin.offset}`;
    if (seen.has(key)) return true;
    if (seen.size >= MAX_REMEMBERED) seen.delete(seen.values().next().value!);
    seen.add(key);
    return take(letter);
  };
  if (config.source === 'kafka') {
    const topic = config.kafka.topics.dlq;
    let refused: unknown;
    const complete = await readTopic(
      config.kafka,
      {
        topic,
        ...{ purpose: options.purpose, from: 'beginning', follow: false, signal: options.signal },
        onRecord(message, partition) {
          try {
            return takeOnce(ofMessage(message, `${topic}/${partition}/${message.offset}`));
          } catch (error) {
            refused = error;
            return false;
          }
        },
      },
      log,
    );
    if (refused !== undefined) throw refused;
    return complete;
  }
  const { file } = config.dlq;
  // Nothing has been refused yet.
  if (!existsSync(file)) return true;
  for await (const line of linesOf(file, MAX_LINE_BYTES)) {
    const letter = ofLine(line.value!.toString(), `${file}, offset ${line.offset}`);
    if (letter === undefined) log.warn('A line is not a dead letter: left out', { path: file, offset: line.offset });
    else if (!takeOnce(letter)) return false;
    if (options.signal?.aborted) return false;
  }
  return true;
}

/** @throws LogpipeError LOGPIPE_FORMAT_NEWER */
function ofMessage(message: KafkaMessage, place: string): StoredLetter {
  const header = (name: string): string | undefined => {
    const value = message.headers?.[name];
    return value === undefined ? undefined : String(Array.isArray(value) ? value[0] : value);
  };
  assertKnownLetter(header('v'), place);
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
    value,
  };
}

/** As indexing/dead-letters.ts writes it; undefined for anything else. @throws LogpipeError LOGPIPE_FORMAT_NEWER */
function ofLine(line: string, place: string): StoredLetter | undefined {
  let found: unknown;
  try {
    found = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!isObject(found) || !isObject(found.origin)) return undefined;
  assertKnownLetter(found.v, place);
  const { id, reason, detail, origin, value, valueBase64 } = found;
  const text = (given: unknown): string => (typeof given === 'string' ? given : '');
  const bytes =
    typeof valueBase64 === 'string'
      ? Buffer.from(valueBase64, 'base64')
      : typeof value === 'string'
        ? Buffer.from(value)
        : null;
  return {
    id: text(id),
    reason: text(reason) || 'unknown',
    detail: text(detail),
    time: '',
    origin: {
      ...(origin.kind === 'kafka'
        ? { topic: text(origin.topic), partition: Number(origin.partition) }
        : { file: text(origin.path), identity: text(origin.identity) }),
      offset: Number(origin.offset),
      time: text(origin.time),
    },
    bytes: bytes?.length ?? 0,
    value: bytes,
  };
}

function toListed({ value, ...letter }: StoredLetter, masker: Masker, maxCharacters: number): ListedLetter {
  return { ...letter, value: shownText(value, masker, maxCharacters) };
}

function isoTime(text: string | undefined): string {
  const time = new Date(Number(text));
  return Number.isNaN(time.getTime()) ? '' : time.toISOString();
}

// ---- showing them to people ----

interface Printing {
  readonly io: Io;
  readonly timeText: (iso: string) => string;
}

/** ISO 8601 in, the same moment in the zone out. */
function createZonedTime(timeZone: string | undefined): (iso: string) => string {
  const timeText = createTimeText(timeZone);
  return (iso) => (iso === '' ? '' : timeText(Date.parse(iso)));
}

function originText({ origin }: ListedLetter): string {
  const place = origin.topic === undefined ? origin.file! : `${origin.topic}/${origin.partition}`;
  return `${place}@${origin.offset}`;
}

const TIME_WIDTH = 20;
const REASON_WIDTH = 17;
const ID_WIDTH = 26;

/** In a pipe: one line for each. */
function printRow(letter: ListedLetter, { io, timeText, isFirst }: Printing & { readonly isFirst: boolean }): void {
  const row = (
    time: string,
    reason: string,
    id: string,
    origin: string,
    bytes: string,
    detail: string,
    value: string,
  ) =>
    io.out(
      [
        time.padEnd(TIME_WIDTH),
        visible(reason).padEnd(REASON_WIDTH),
        visible(id).padEnd(ID_WIDTH),
        visible(origin).padEnd(30),
        bytes.padStart(8),
        oneLine(detail, ROW_CHARACTERS).padEnd(ROW_CHARACTERS),
        oneLine(value, ROW_CHARACTERS),
      ]
        .join('  ')
        .trimEnd(),
    );
  if (isFirst) row('time', 'reason', 'id', 'origin', 'bytes', 'detail', 'value');
  const { reason, id, bytes, detail, value } = letter;
  const time = timeText(letter.time || letter.origin.time);
  row(time, reason, id, originText(letter), String(bytes), detail, value ?? '(null)');
}

/** On a terminal: three lines for each, none of which is wider than it. */
function printBlock(letter: ListedLetter, { io, timeText, isFirst }: Printing & { readonly isFirst: boolean }): void {
  const { columns = 80 } = io;
  const time = timeText(letter.time || letter.origin.time);
  const timeWidth = Math.max(TIME_WIDTH, time.length);
  const row = (when: string, reason: string, id: string) => [
    { text: `${column(when, timeWidth)}  ` },
    { text: column(reason, REASON_WIDTH), style: 'yellow' } as const,
    { text: `  ${id}` },
  ];
  if (isFirst) say(io, [{ text: `${column('TIME', timeWidth)}  ${column('REASON', REASON_WIDTH)}  ID`, style: 'dim' }]);
  say(io, row(time, letter.reason, letter.id), timeWidth + 2);
  // The end of a path tells more than its beginning, and a file's place stands there.
  const where = visible(originText(letter));
  const origin = widthOf(where) > columns - 20 ? `…${where.slice(-(columns - 20))}` : where;
  say(io, `    ${origin}, ${letter.bytes} bytes`, 4);
  if (letter.detail !== '') io.out(`    ${cell(letter.detail, columns - 4)}`);
  const value = `    ${cell(letter.value ?? '(null)', columns - 4)}`;
  if (io.paint !== undefined) io.paint([{ text: value, style: 'dim' }]);
  else io.out(value);
}

const NAME_WIDTH = 10;

function printWhole(letter: ListedLetter, { io, timeText, masker }: Printing & { readonly masker: Masker }): void {
  const { value, ...facts } = letter;
  const { id, reason, detail, time, origin, bytes, sha256 } = shown(facts, masker) as typeof facts;
  const field = (name: string, text: string) => {
    if (text !== '') say(io, [{ text: column(name, NAME_WIDTH), style: 'dim' }, { text }], NAME_WIDTH);
  };
  field('id', id);
  field('reason', reason);
  field('detail', detail);
  field(
    'origin',
    origin.topic === undefined
      ? `${origin.file} at byte ${origin.offset}`
      : `topic ${origin.topic}, partition ${origin.partition}, offset ${origin.offset}`,
  );
  field('recorded', timeText(origin.time));
  field('refused', timeText(time));
  field('size', `${bytes} bytes${sha256 === undefined ? '' : `, cut; of the whole record: sha256 ${sha256}`}`);
  if (value === null) {
    field('value', '(null)');
    return;
  }
  const { rest, folded } = layOut(value);
  sayWhole(io, 'value', rest);
  for (const { path, text } of folded) sayWhole(io, path, text);
}

/** A record that is JSON: indented, and its texts of several lines apart from it. Anything else as it is. */
function layOut(value: string): { readonly rest: string; readonly folded: readonly Folded[] } {
  try {
    const read = readExact(value);
    if (!isObject(read)) return { rest: value, folded: [] };
    const { value: kept, folded } = withoutFolded(read);
    const lines = Object.entries(kept as object).map(([key, part]) => `${JSON.stringify(key)}: ${writeJson(part)}`);
    return { rest: lines.join('\n'), folded };
  } catch {
    return { rest: value, folded: [] };
  }
}

function sayWhole(io: Io, name: string, text: string): void {
  say(io, [{ text: name, style: 'dim' }]);
  sayUnfolded(io, text, 2, Number.POSITIVE_INFINITY);
}
