// `logpipe dlq list | show | redrive`: the dead letters of the topic, or without Kafka of the file, oldest first, and their way back.
// In: the command line. Out: letters for people and as JSON; what became of each. Moves nobody's offsets; memory does not grow with the
// number of letters.
import { existsSync } from 'node:fs';
import { systemClock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { DEAD_LETTER_REASONS } from '../core/record.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker, type Masker, type MaskOptions } from '../core/secrets/mask.ts';
import { createFirstOf, letterKey, recordOfLetter, type StoredLetter } from '../indexing/dead-letters.ts';
import type { SinksConfig } from '../indexing/sinks.ts';
import { isObject, readExact, writeJson } from '../parse/json.ts';
import { createParser } from '../parse/parse.ts';
import { maskedText, shownText } from '../replay/record-document.ts';
import {
  createRedrivenLetters,
  type LettersConfig as LettersPlace,
  largestRecord,
  NOT_REDRIVEN,
  type NotRedriven,
  openElasticsearch,
  openLogTopic,
  type RedriveSummary,
  type RedriveTally,
  readLetters,
  readReceipts,
  redrive,
  type WayBack,
} from '../replay/redrive.ts';
import { createYielding, DEFAULT_YIELD_LAG, type Yielding } from '../replay/replay.ts';
import type { ReplayConfig } from '../replay/request.ts';
import { createSelector, parseTime, parseWhere } from '../replay/sources.ts';
import { createTagger } from '../tag/tag.ts';
import { createTransformingParser } from '../transform/transform.ts';
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
  wantsJson,
  widthOf,
  withoutFolded,
} from './io.ts';
import { listenForSignals } from './replay.ts';

const PREVIEW_CHARACTERS = 2_000;
const ROW_CHARACTERS = 60;
/** Where the letters are; `mask` because they may have been kept raw, or be older than the configured keys and patterns. */
export type LettersConfig = LettersPlace & { readonly mask?: MaskOptions };

interface LettersView {
  readonly json?: boolean;
  /** IANA name, for the times that people read. Default: UTC. */
  readonly timeZone?: string | undefined;
  readonly signal?: AbortSignal;
}

export interface DlqListOptions extends LettersView {
  readonly reason?: string;
  /** By the time at which the letters were written, as `--since` of other commands. */
  readonly since?: string;
  readonly until?: string;
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
  /** When a redrive brought its record back, ISO 8601. */
  readonly redrivenAt?: string;
  /** How many times its record had come back already when it died. */
  readonly redrives?: number;
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
  checkReason(reason);
  checkCount('--limit', limit);
  const { sinceMs, untilMs } = stretchOf(options);
  const masker = createMasker(config.mask);
  const timeText = createZonedTime(options.timeZone);
  const print = io.isTTY === true ? printBlock : printRow;
  let listed = 0;
  const complete = await eachLetter(
    config,
    { purpose: 'dlq-list', sinceMs, signal: options.signal },
    (stored, redrivenMs) => {
      const ms = stored.writtenMs ?? stored.timeMs;
      if (sinceMs !== undefined && !(ms >= sinceMs)) return true;
      if (untilMs !== undefined && !(ms < untilMs)) return true;
      if (reason !== undefined && stored.reason !== reason) return true;
      const letter = toListed(stored, redrivenMs, masker, PREVIEW_CHARACTERS);
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
  const reached = await eachLetter(
    config,
    { purpose: 'dlq-show', signal: options.signal },
    (stored, redrivenMs) => {
      if (stored.id !== id) return true;
      found += 1;
      const letter = toListed(stored, redrivenMs, masker, Number.POSITIVE_INFINITY);
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

function placeOf(config: LettersPlace): string {
  return config.source === 'kafka' ? `topic ${config.kafka.topics.dlq}` : config.dlq.file;
}

/** Oldest first, each once, with the time at which it was redriven, until `take` returns false; true when the end was reached. */
async function eachLetter(
  config: LettersPlace,
  options: {
    readonly purpose: string;
    readonly sinceMs?: number | undefined;
    readonly signal?: AbortSignal | undefined;
  },
  take: (letter: StoredLetter, redrivenMs: number | undefined) => boolean,
  log: Log,
): Promise<boolean> {
  const redriven = await readReceipts(config, options, log);
  if (redriven === false) return false;
  const isFirst = createFirstOf();
  return readLetters(
    config,
    options,
    async (placed, part) => {
      for (const { letter, at } of placed) {
        if (letter === undefined) log.warn('Not a dead letter: left out', { place: placeOf(config), at });
        else if (isFirst(letterKey(letter)) && !take(letter, redriven.when(part, at))) return false;
      }
      return true;
    },
    log,
  );
}

/** @throws LogpipeError LOGPIPE_USAGE */
function checkReason(reason: string | undefined): void {
  if (reason === undefined || (DEAD_LETTER_REASONS as readonly string[]).includes(reason)) return;
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--reason: there is no ${JSON.stringify(reason)}; reasons: ${DEAD_LETTER_REASONS.join(', ')}`,
  );
}

/** @throws LogpipeError LOGPIPE_USAGE */
function checkCount(option: string, count: number | undefined): void {
  if (count === undefined || (Number.isInteger(count) && count > 0)) return;
  throw new LogpipeError('LOGPIPE_USAGE', `${option}: ${count} is not a whole number above 0`);
}

/** @throws LogpipeError LOGPIPE_USAGE */
function stretchOf(
  options: { readonly since?: string; readonly until?: string; readonly timeZone?: string | undefined },
  now = Date.now(),
): { readonly sinceMs: number | undefined; readonly untilMs: number | undefined } {
  const { since, until, timeZone } = options;
  const sinceMs = since === undefined ? undefined : parseTime(since, { place: '--since', now, timeZone });
  const untilMs = until === undefined ? undefined : parseTime(until, { place: '--until', now, timeZone, edge: 'end' });
  if (sinceMs !== undefined && untilMs !== undefined && sinceMs >= untilMs) {
    throw new LogpipeError('LOGPIPE_USAGE', `--since, --until: ${since} is not before ${until}`);
  }
  return { sinceMs, untilMs };
}

function toListed(
  stored: StoredLetter,
  redrivenMs: number | undefined,
  masker: Masker,
  maxCharacters: number,
): ListedLetter {
  const { id, reason, detail, writtenMs, origin, offset, timeMs, bytes, sha256, redriven, value } = stored;
  return {
    ...{ id, reason, detail, time: isoTime(writtenMs) },
    origin: {
      ...(origin.kind === 'kafka'
        ? { topic: origin.topic, partition: origin.partition }
        : { file: origin.path, identity: origin.identity }),
      offset,
      time: isoTime(timeMs),
    },
    bytes,
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(redrivenMs === undefined ? {} : { redrivenAt: isoTime(redrivenMs) }),
    ...(redriven === undefined ? {} : { redrives: redriven }),
    value: shownText(value, masker, maxCharacters),
  };
}

function isoTime(ms: number | undefined): string {
  const time = new Date(ms ?? Number.NaN);
  return Number.isNaN(time.getTime()) ? '' : time.toISOString();
}

// ---- redrive ----

/** The sections of the configuration that a redrive uses. */
export interface DlqRedriveConfig extends ReplayConfig {
  readonly sinks: Pick<SinksConfig, 'elasticsearch'>;
}

export interface DlqRedriveOptions extends LettersView {
  readonly reason?: string;
  readonly since?: string;
  readonly until?: string;
  readonly where?: readonly string[];
  readonly limit?: number;
  readonly again?: boolean;
  readonly dryRun?: boolean;
  readonly throttle?: number;
  readonly yield?: boolean;
  readonly yieldLag?: number;
}

/** Letters per second, well below what live indexing takes. */
export const DEFAULT_THROTTLE = 500;

/**
 * Brings records back from the dead letters. Exit status 0 when all that was asked for is back, now or by an earlier redrive; 1 when
 * something could not go back, or it was ended early.
 * @param ids none: all letters
 * @throws LogpipeError LOGPIPE_USAGE, and what `redrive` throws
 */
export async function dlqRedrive(
  ids: readonly string[],
  config: DlqRedriveConfig,
  options: DlqRedriveOptions,
  io: Io,
  log: Log,
): Promise<number> {
  const { reason, limit, dryRun = false, again = false, throttle = DEFAULT_THROTTLE } = options;
  checkReason(reason);
  checkCount('--limit', limit);
  checkCount('--yield-lag', options.yieldLag);
  if (!(throttle > 0)) {
    throw new LogpipeError('LOGPIPE_USAGE', `--throttle: found ${throttle}; permitted: letters per second above 0`);
  }
  const stretch = stretchOf(options);
  const matches = matchesOf(config, options.where);
  const { source } = config;
  if (source !== 'kafka' && !config.sinks.elasticsearch) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      'dlq redrive: without Kafka records go back into Elasticsearch, and sinks.elasticsearch is off; ' +
        `read them in ${config.dlq.file}`,
    );
  }
  const place: LettersPlace = source === 'kafka' ? { source, kafka: config.kafka } : { source, dlq: config.dlq };
  const signals = listenForSignals(options.signal, io);
  const { signal } = signals;
  const reading = { purpose: 'redrive', sinceMs: stretch.sinceMs, signal };
  const isEmpty = place.source !== 'kafka' && !existsSync(place.dlq.file);
  const open =
    source === 'kafka'
      ? () => openLogTopic(config.kafka, log)
      : () => openElasticsearch(config, { log, clock: systemClock });
  let back: WayBack | undefined;
  let yielding: Yielding | undefined;
  try {
    const redriven = await readReceipts(place, reading, log);
    if (redriven === false && !signal.aborted) {
      throw new LogpipeError(
        'LOGPIPE_KAFKA_FAILED',
        `${placeOf(place)}: the receipts of earlier redrives could not be read to the end; nothing was redriven, try again`,
      );
    }
    if (!dryRun && !isEmpty && !signal.aborted) back = await open();
    if (back !== undefined && source === 'kafka' && options.yield !== false) {
      const bound = options.yieldLag ?? DEFAULT_YIELD_LAG;
      yielding = createYielding(config.kafka, { bound }, { log, clock: systemClock });
    }
    const whereabouts =
      place.source === 'kafka' ? (part: number) => `${place.kafka.topics.dlq}/${part}` : () => place.dlq.file;
    const summary = await redrive(
      { selection: { reason, ...stretch, ids, matches }, limit, again, dryRun, throttle },
      {
        redriven: redriven || createRedrivenLetters(),
        read: (take) => (signal.aborted ? Promise.resolve(false) : readLetters(place, reading, take, log)),
        place: whereabouts,
        back,
        maxBytes:
          back?.maxBytes ?? (source === 'kafka' ? await largestRecord(config.kafka, log) : Number.POSITIVE_INFINITY),
        yielding,
        clock: systemClock,
        onProgress: progressLine(io),
      },
      signal,
    );
    const masker = createMasker(config.mask);
    const about = { dryRun, source };
    if (wantsJson(io, options.json)) io.out(jsonLine(summaryJson(summary, about), masker));
    else for (const line of summaryLines(summary, about)) say(io, maskedText(line, masker), 4);
    const stayed = Object.keys(summary.stayed).length > 0 || summary.unknownIds.length > 0;
    return summary.complete && !stayed ? 0 : 1;
  } finally {
    signals.dispose();
    await yielding?.close();
    await back?.close();
  }
}

/** As `--where` of a replay: by the document that the letter's record would become. @throws LogpipeError LOGPIPE_USAGE */
function matchesOf(
  config: Pick<ReplayConfig, 'parse' | 'mask' | 'transforms'>,
  where: readonly string[] | undefined,
): ((letter: StoredLetter) => boolean) | undefined {
  const matches = parseWhere(where);
  if (matches === undefined) return undefined;
  const masker = createMasker(config.mask);
  const parsed = createParser(config.parse, { masker, duplicatesRefused: true });
  const parser = createTransformingParser(parsed, config.transforms, { masker });
  const selector = createSelector({ parser, tag: createTagger(), range: undefined, matches });
  return (letter) => typeof selector.select(recordOfLetter(letter), letter) === 'object';
}

const TELL_MS = 5_000;

/** On a terminal, every five seconds. */
function progressLine(io: Io): (tally: RedriveTally, held: boolean) => void {
  const first = performance.now();
  let last = first;
  return ({ read, redriven }, held) => {
    const at = performance.now();
    if (io.isTTY !== true || at - last < TELL_MS) return;
    last = at;
    const rate = Math.round((redriven * 1_000) / (at - first));
    io.err(`read ${read}, redriven ${redriven}; ${rate} per second${held ? '; waiting for live indexing' : ''}`);
  };
}

interface About {
  readonly dryRun: boolean;
  readonly source: DlqRedriveConfig['source'];
}

function summaryJson(summary: RedriveSummary, { dryRun }: About): object {
  const { complete, startedMs, seconds, live, stayed, examples, ...counts } = summary;
  return {
    ...{ complete, dryRun, started: isoTime(startedMs), ...counts, notRedriven: stayed, examples },
    seconds: Math.round(seconds * 1_000) / 1_000,
    liveLag: live === undefined ? null : { max: live.maxLiveLag, heldMs: Math.round(live.heldMs) },
  };
}

const SHOWN_EXAMPLES = 20;

function summaryLines(summary: RedriveSummary, { dryRun, source }: About): string[] {
  const { complete, read, redriven, byReason, alreadyRedriven, stayed, examples, unknownIds, live, startedMs } =
    summary;
  const reasons = Object.entries(byReason).map(([reason, count]) => `${reason} ${count}`);
  const lines = [
    `${complete ? 'done' : 'ended early'} in ${summary.seconds.toFixed(1)} s: ${read} ${read === 1 ? 'letter' : 'letters'} read, ${redriven} ` +
      `${dryRun ? 'would be redriven' : 'redriven'}${reasons.length === 0 ? '' : ` (${reasons.join(', ')})`}`,
  ];
  if (alreadyRedriven > 0) lines.push(`redriven earlier: ${alreadyRedriven}`);
  for (const [cause, count] of Object.entries(stayed)) {
    lines.push(`not redriven, ${cause}: ${count}; ${NOT_REDRIVEN[cause as NotRedriven]}`);
  }
  for (const { id, cause, place, detail } of examples.slice(0, SHOWN_EXAMPLES)) {
    lines.push(`  ${oneLine(`${place} ${id} ${cause}: ${detail}`, 200)}`);
  }
  const more = examples.length - SHOWN_EXAMPLES;
  if (more > 0) lines.push('  …; logpipe dlq list shows all letters, and which were redriven');
  for (const id of unknownIds) lines.push(`no letter: ${oneLine(id, ROW_CHARACTERS)}`);
  if (live !== undefined) {
    lines.push(
      `live indexing: lag at most ${live.maxLiveLag} records, waited for ${(live.heldMs / 1_000).toFixed(1)} s`,
    );
  }
  if (!complete) lines.push('the same command goes on from here');
  if (!dryRun && redriven > 0) {
    lines.push(
      source === 'kafka'
        ? `what died again, once live indexing has come to it: logpipe dlq list --since ${isoTime(startedMs)}`
        : 'they are in Elasticsearch: logpipe dlq list says which letters were redriven',
    );
  }
  return lines;
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
  const { reason, id, bytes, value } = letter;
  const time = timeText(letter.time || letter.origin.time);
  row(time, reason, id, originText(letter), String(bytes), wordsOf(letter, timeText), value ?? '(null)');
}

/** What is said of it: its redrives, then why it was refused. */
function wordsOf({ redrivenAt, redrives, detail }: ListedLetter, timeText: Printing['timeText']): string {
  const words = [
    redrivenAt === undefined ? '' : `redriven ${timeText(redrivenAt)}`,
    redrives === undefined ? '' : `died again after redrive ${redrives}`,
    detail,
  ];
  return words.filter((text) => text !== '').join('; ');
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
  const words = wordsOf(letter, timeText);
  if (words !== '') io.out(`    ${cell(words, columns - 4)}`);
  const value = `    ${cell(letter.value ?? '(null)', columns - 4)}`;
  if (io.paint !== undefined) io.paint([{ text: value, style: 'dim' }]);
  else io.out(value);
}

const NAME_WIDTH = 10;

function printWhole(letter: ListedLetter, { io, timeText, masker }: Printing & { readonly masker: Masker }): void {
  const { value, ...facts } = letter;
  const { id, reason, detail, time, origin, bytes, sha256, redrivenAt, redrives } = shown(
    facts,
    masker,
  ) as typeof facts;
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
  field('refused', `${timeText(time)}${redrives === undefined ? '' : `, again, after redrive ${redrives}`}`);
  field('redriven', timeText(redrivenAt ?? ''));
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
