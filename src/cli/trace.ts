// `logpipe trace ID`: everything about one call, request or trace, in the order of its time, across days. In: the id, and where its events
// are: the daily indices, the log topic, or files. Out: its story, with what is odd about it: errors, gaps, a beginning or an end that is
// lacking; for people, or as one JSON object. Guarantee: nobody's offsets move; what was not read is said; memory is bounded by `limit`;
// what is printed is masked, and does nothing to the terminal.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker, type Masker } from '../core/secrets/mask.ts';
import { valueAt } from '../parse/json.ts';
import { LATENESS_MS } from '../replay/export.ts';
import { createRecordReader } from '../replay/record-document.ts';
import { parseTimeRange, type StoredBatch, type TimeRange } from '../replay/sources.ts';
import { ARRIVAL_SOURCES, type ArrivalSource, openSource } from '../replay/stored.ts';
import { formatDuration } from '../rules/words.ts';
import { createTimeText, type Io, jsonBlock, type Piece, say, shown, toDuration } from './io.ts';
import { sourceOf } from './rules.ts';

/** An event belongs to the story when one of these is the id. */
const ID_FIELDS = ['callId', 'requestId', 'traceId'] as const;
type IdField = (typeof ID_FIELDS)[number];

const MAX_ID = 512;
const DEFAULT_LIMIT = 5_000;
const MAX_LIMIT = 100_000;
const DEFAULT_GAP = '1m';
/** A topic is read from end to end; an index finds an id at once, however old it is. */
const TOPIC_FROM = '-24h';
const DAY_MS = 86_400_000;
/** Of other ids that were logged with this one. */
const MAX_RELATED = 10;

export interface TraceOptions {
  /** Default: the indices; without Elasticsearch the topic, or what the NDJSON sink wrote. */
  readonly source?: string;
  readonly from?: string;
  readonly to?: string;
  readonly timeZone?: string;
  /** Longer silence is marked. */
  readonly gap?: string;
  readonly limit?: number;
  readonly json?: boolean;
}

interface TraceDeps {
  readonly log: Log;
  readonly now?: () => number;
}

type Document = Readonly<Record<string, unknown>>;

interface Found {
  readonly ms: number;
  /** Events of the same millisecond stand in the order in which they came. */
  readonly place: number;
  readonly document: Document;
}

interface Story {
  readonly id: string;
  /** Fields that held the id. */
  readonly fields: readonly IdField[];
  readonly source: ArrivalSource;
  readonly from: string | null;
  readonly to: string | null;
  readonly durationMs: number | null;
  readonly errors: number;
  /** Longer silences: `at`, when the last event before it happened. */
  readonly gaps: readonly { readonly at: string; readonly ms: number }[];
  /** What is odd, and what was not read. */
  readonly notes: readonly string[];
  /** False when something was not read. */
  readonly complete: boolean;
  /** Other ids of these events. */
  readonly related: Readonly<Partial<Record<IdField, readonly string[]>>>;
  readonly events: readonly Document[];
}

/**
 * Exit status 0; 1 when nothing was found, or not everything could be read.
 * @param files for `--source file`
 * @throws LogpipeError LOGPIPE_USAGE and what the source reports
 */
export async function trace(
  id: string,
  files: readonly string[],
  config: Config,
  options: TraceOptions,
  io: Io,
  deps: TraceDeps,
): Promise<number> {
  if (id.trim() === '' || id.length > MAX_ID || visible(id) !== id) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `trace: the id is empty, longer than ${MAX_ID} characters or not a plain text`,
    );
  }
  const { limit = DEFAULT_LIMIT } = options;
  if (!(Number.isInteger(limit) && limit > 0 && limit <= MAX_LIMIT)) {
    throw new LogpipeError('LOGPIPE_USAGE', `--limit: ${limit} is not a whole number from 1 to ${MAX_LIMIT}`);
  }
  const gapMs = toDuration('--gap', options.gap ?? DEFAULT_GAP);
  const timeText = createTimeText(options.timeZone);
  const masker = createMasker(config.mask);
  const source = options.source === undefined ? defaultSource(config, files) : sourceOf(options.source);
  const range = rangeOf(options, source, (deps.now ?? Date.now)());
  const { found, notes, complete } = await collect(id, files, config, { source, range, limit, masker }, deps.log);
  const story = storyOf(id, source, found, { notes, complete, gapMs });
  if (options.json) io.out(jsonBlock(story, masker));
  else tell(story, io, { gapMs, timeText, masker });
  return found.length > 0 && complete ? 0 : 1;
}

function defaultSource({ source, sinks }: Config, files: readonly string[]): ArrivalSource {
  if (files.length > 0) return 'file';
  if (sinks.elasticsearch) return 'index';
  return source === 'kafka' ? 'kafka' : 'file';
}

/** Everything, where finding does not mean reading; clocks may be ahead. */
function rangeOf({ from, to, timeZone }: TraceOptions, source: ArrivalSource, now: number): TimeRange {
  if (from !== undefined || to !== undefined || source === 'kafka') {
    const start = from ?? (source === 'kafka' ? TOPIC_FROM : '1970-01-01');
    return parseTimeRange({ from: start, to, timeZone }, now);
  }
  return { fromMs: 0, toMs: now + DAY_MS };
}

// ---- reading ----

interface Wanted {
  readonly source: ArrivalSource;
  readonly range: TimeRange;
  readonly limit: number;
  readonly masker: Masker;
}

interface Collected {
  /** By their time. */
  readonly found: readonly Found[];
  readonly notes: readonly string[];
  readonly complete: boolean;
}

async function collect(
  id: string,
  files: readonly string[],
  config: Config,
  wanted: Wanted,
  log: Log,
): Promise<Collected> {
  const { source, range, limit, masker } = wanted;
  const stored = openSource(
    source,
    config,
    {
      ...{ range, latenessMs: LATENESS_MS, aheadMs: DAY_MS, purpose: 'trace', freshTags: false, order: 'time' },
      files: source === 'file' && files.length === 0 ? await writtenFiles(config) : files,
      only: { bool: { minimum_should_match: 1, should: ID_FIELDS.map((field) => ({ term: { [field]: id } })) } },
    },
    log,
  );
  const read = createRecordReader(config, { masker });
  // What does not hold the id's bytes is not about it, and need not be parsed.
  const bytes = Buffer.from(JSON.stringify(id).slice(1, -1));
  const found: Found[] = [];
  let isCut = false;

  function documentOf(batch: StoredBatch, i: number): Document | undefined {
    const known = batch.document?.(i);
    if (known !== undefined) return known;
    const record = batch.records[i]!;
    // An id may be written with escapes: then only parsing tells.
    if (record.value === null || !(record.value.includes(bytes) || record.value.includes('\\'))) return undefined;
    const result = read(record, batch.origin(i));
    return result.ok ? result.document : undefined;
  }

  const plan = await stored.plan();
  const from = new Map(plan.parts.map(({ part, from: start }) => [part, start]));
  await stored.feed(from, new AbortController().signal, async (batch) => {
    for (let i = 0; i < batch.records.length; i++) {
      const document = documentOf(batch, i);
      if (document === undefined || fieldsWith(document, id).length === 0) continue;
      const ms = Date.parse(String(document['@timestamp']));
      if (!(ms >= range.fromMs && ms < range.toMs)) continue;
      if (found.length === limit) {
        isCut = true;
        return false;
      }
      found.push({ ms, place: found.length, document });
    }
    return true;
  });
  found.sort((one, other) => one.ms - other.ms || one.place - other.place);
  const notes = [...plan.gaps, ...stored.missing()];
  if (isCut) notes.push(`only ${limit} events were read: raise --limit, or narrow it with --from and --to`);
  return { found, notes, complete: notes.length === 0 };
}

/** Of the NDJSON sink. @throws LogpipeError LOGPIPE_USAGE */
async function writtenFiles({ sinks }: Config): Promise<string[]> {
  const { enabled, dir } = sinks.ndjson;
  const names = enabled ? await readdir(dir).catch((): string[] => []) : [];
  const files = names.filter((name) => name.endsWith('.ndjson')).sort();
  if (files.length === 0) {
    const permitted = ARRIVAL_SOURCES.join(', ');
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `trace: there are no files of the NDJSON sink; name files, or --source ${permitted}`,
    );
  }
  return files.map((name) => join(dir, name));
}

function fieldsWith(document: Document, id: string): IdField[] {
  return ID_FIELDS.filter((field) => textAt(document, field) === id);
}

function textAt(document: Document, path: string): string | undefined {
  const value = valueAt(document, path);
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
}

// ---- what is odd about it ----

function storyOf(
  id: string,
  source: ArrivalSource,
  found: readonly Found[],
  about: Pick<Collected, 'notes' | 'complete'> & { readonly gapMs: number },
): Story {
  const events = found.map(({ document }) => document);
  const [first, last] = [found[0], found.at(-1)];
  const gaps = found.flatMap(({ ms }, i) => {
    const before = found[i - 1];
    return before === undefined || ms - before.ms <= about.gapMs ? [] : [{ at: iso(before.ms), ms: ms - before.ms }];
  });
  const fields = ID_FIELDS.filter((field) => events.some((event) => textAt(event, field) === id));
  return {
    ...{ id, fields, source },
    ...{ from: first === undefined ? null : iso(first.ms), to: last === undefined ? null : iso(last.ms) },
    durationMs: first === undefined || last === undefined ? null : last.ms - first.ms,
    errors: events.filter(isError).length,
    gaps,
    notes: [...(fields.includes('callId') ? callNotes(events) : []), ...timeNotes(events), ...about.notes],
    complete: about.complete,
    related: relatedTo(id, events),
    events,
  };
}

/** By the application's contract a call begins once and ends once. */
function callNotes(events: readonly Document[]): string[] {
  const count = (name: string) => events.filter((event) => event.event === name).length;
  const [started, ended] = [count('call.started'), count('call.ended')];
  if (started + ended === 0) return [];
  return [
    ...(started === 0 ? ['there is no call.started: it began earlier than what was read, or its event was lost'] : []),
    ...(ended === 0 ? ['there is no call.ended: the call goes on, or its event was lost'] : []),
    ...(ended > 1 ? [`there are ${ended} call.ended: each is counted as a call`] : []),
  ];
}

function timeNotes(events: readonly Document[]): string[] {
  const odd = events.filter(({ tags }) => hasTag(tags, '_time_missing') || hasTag(tags, '_time_out_of_range')).length;
  if (odd === 0) return [];
  const events_ = odd === 1 ? '1 event has' : `${odd} events have`;
  return [`${events_} no time that can be true, and ${odd === 1 ? 'stands' : 'stand'} where it arrived`];
}

function relatedTo(id: string, events: readonly Document[]): Story['related'] {
  const related: Partial<Record<IdField, readonly string[]>> = {};
  for (const field of ID_FIELDS) {
    const others = new Set(events.flatMap((event) => textAt(event, field) ?? []));
    others.delete(id);
    if (others.size > 0) related[field] = [...others].slice(0, MAX_RELATED);
  }
  return related;
}

function isError({ tags }: Document): boolean {
  return hasTag(tags, 'error');
}

function hasTag(tags: unknown, tag: string): boolean {
  return Array.isArray(tags) && tags.includes(tag);
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

// ---- for people ----

interface Telling {
  readonly gapMs: number;
  readonly timeText: (ms: number, precision?: 's' | 'ms') => string;
  readonly masker: Masker;
}

function tell(story: Story, io: Io, { gapMs, timeText, masker }: Telling): void {
  const { id, fields, events, errors, durationMs, notes, related } = story;
  if (events.length === 0) {
    io.err(`there is nothing about ${visible(id)}: no event has it as ${ID_FIELDS.join(', ')}`);
  } else {
    const length = formatDuration(durationMs ?? 0);
    const many = events.length === 1 ? '1 event' : `${events.length} events in ${length}`;
    say(io, [
      { text: `${fields.join(', ')} ${id}`, style: 'bold' },
      { text: `: ${many}, ` },
      { text: errors === 1 ? '1 error' : `${errors} errors`, style: errors === 0 ? undefined : 'red' },
    ]);
  }
  let beforeMs: number | undefined;
  for (const event of events) {
    const ms = Date.parse(String(event['@timestamp']));
    if (beforeMs !== undefined && ms - beforeMs > gapMs) {
      say(io, [{ text: `    … nothing for ${formatDuration(ms - beforeMs)} …`, style: 'yellow' }]);
    }
    say(
      io,
      lineOf(shown(event, masker) as Document, timeText(ms, 'ms'), beforeMs === undefined ? 0 : ms - beforeMs),
      6,
    );
    beforeMs = ms;
  }
  for (const [field, ids] of Object.entries(related)) {
    say(io, `with ${field} ${ids.map((one) => visible(String(shown(one, masker)))).join(', ')}`);
  }
  for (const note of notes) io.err(visible(String(shown(note, masker))));
}

function lineOf(event: Document, time: string, sinceMs: number): Piece[] {
  const { level, service, host, event: name, message, error } = event;
  const reason = typeof error === 'object' && error !== null ? (error as { message?: unknown }).message : undefined;
  const isBad = isError(event);
  return [
    { text: `${time} `, style: 'dim' },
    { text: `+${formatDuration(sinceMs)} `.padStart(11), style: 'dim' },
    { text: `${String(level ?? '-').padEnd(5)} `, style: isBad ? 'red' : undefined },
    { text: `${[service, host].filter((part) => part !== undefined).join('@') || '-'} `, style: 'cyan' },
    ...(name === undefined ? [] : [{ text: `${name} ` } as const]),
    { text: oneLine(String(message ?? ''), 500), style: isBad ? 'bold' : undefined },
    ...(reason === undefined || reason === message ? [] : [{ text: ` (${oneLine(String(reason), 300)})` } as const]),
  ];
}
