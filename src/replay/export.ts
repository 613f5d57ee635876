// A folder about one incident. In: a stretch of stored records, rules and measures. Out: logs, rates, alerts, frequent
// errors and a README. Guarantee: one pass over the records, and memory does not grow with their number; no record ends it: what is
// not a document is counted, and the beginning of its text is written. Everything is masked, and readable by this user only; the
// README says what is missing; a file gets its name only when it is complete, the README last; nobody is notified, and nobody's
// offsets move; a folder that is not empty is left alone unless told otherwise.
import { createWriteStream, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { Client } from '@elastic/elasticsearch';
import { errorText, LogpipeError, reasonInWords } from '../core/errors.ts';
import { makePrivateFolder, openPrivateSync, writePrivateSync } from '../core/private-files.ts';
import { bounded, toJson, toPrettyJson, visible, visibleJson } from '../core/safe-json.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { HISTORY_PREFIX, type HistorySource } from '../incidents/records.ts';
import { complete, NO_PARTIAL, totalOf, whole } from '../indexing/outcome.ts';
import type { Measures } from '../measure/measure-config.ts';
import { BUCKET_MS, LATE_MS } from '../measure/totals.ts';
import { hasExactNumbers, toExactNumbers, toPlainNumbers } from '../parse/json.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { Rules } from '../rules/rule-config.ts';
import type { TransformsConfig } from '../transform/transform.ts';
import { readMeasure } from '../windows/values.ts';
import type { WindowStore } from '../windows/windows.ts';
import type { Timeline } from './backtest.ts';
import { backtest } from './backtest.ts';
import { createRecordReader, maskedText, shownText, storedText } from './record-document.ts';
import type { Matches } from './sources.ts';
import type { StoredRecord } from './stored.ts';

interface ExportOptions {
  readonly dir: string;
  readonly force: boolean;
  readonly fromMs: number;
  readonly toMs: number;
  readonly warmUpMs: number;
  readonly tickMs: number;
  /** Where the records come from, for people. */
  readonly source: string;
  /** As written, for people. */
  readonly where: readonly string[];
  readonly matches: Matches | undefined;
  readonly measures: Measures;
  readonly rules: Rules;
  readonly parse: ParseConfig;
  readonly transforms: TransformsConfig;
  readonly topic: string;
}

export interface ExportSummary {
  readonly dir: string;
  readonly from: string;
  readonly to: string;
  readonly files: readonly string[];
  readonly events: number;
  readonly errors: number;
  /** Records that are no documents, by reason. */
  readonly refused: Readonly<Record<string, number>>;
  readonly rateRows: number;
  readonly errorTemplates: number;
  readonly alerts: { readonly source: 'history' | 'backtest'; readonly fired: number; readonly reason?: string };
  readonly gaps: readonly string[];
}

/** A record that arrived within this time after the end of the stretch is still looked for. */
export const LATENESS_MS = 10 * 60_000;

/** @throws LogpipeError LOGPIPE_USAGE for a folder that is not empty, LOGPIPE_SINK_FAILED when it cannot be written */
export async function exportIncident(
  batches: AsyncIterable<readonly StoredRecord[]>,
  options: ExportOptions,
  deps: { readonly masker: Masker; readonly history: HistoryResult; readonly gaps: () => readonly string[] },
): Promise<ExportSummary> {
  const { dir, fromMs, toMs, warmUpMs, tickMs, measures, rules, parse, transforms } = options;
  const { masker, history } = deps;
  prepare(dir, options.force);
  const logs = begin(
    () => createLogs({ ...options, where: options.matches, path: join(dir, 'logs.ndjson.gz') }, masker),
    dir,
  );
  const rates = createRates(fromMs, toMs);

  async function* tapped(): AsyncGenerator<readonly StoredRecord[]> {
    for await (const batch of batches) {
      for (const record of batch) {
        // Nothing that happened in the range arrived long before it began.
        if (record.arrivalMs < fromMs - parse.maxAheadMs) continue;
        const pending = logs.take(record);
        if (pending !== undefined) await pending;
      }
      yield batch;
    }
  }

  try {
    const { timeline } = await backtest(tapped(), {
      measures,
      rules,
      parse,
      transforms,
      masker,
      fromMs,
      toMs,
      // Rates wait for what arrives late.
      untilMs: toMs + Math.max(LATE_MS + 2 * tickMs, LATENESS_MS),
      warmUpMs,
      tickMs,
      onTick: (nowMs, { ruleSets }) => rates.look(nowMs, ruleSets[0]!.evaluator.store),
    });
    const { facts, refused, dropped } = await logs.close();
    const from = new Date(fromMs).toISOString();
    const to = new Date(toMs).toISOString();
    const gaps = [...deps.gaps(), ...gapOf(refused), ...gapOfSteps(dropped)].map((gap) => maskedText(gap, masker));
    const where = options.where.map((condition) => maskedText(condition, masker));
    const alerts = {
      source: history.found ? 'history' : 'backtest',
      ...(history.found ? { history: history.transitions } : { reason: history.reason }),
      backtest: timeline,
    };
    const files: Record<string, string> = {
      'README.md': readme({ from, to, source: options.source, where, facts, history, timeline, gaps }),
      'rates.csv': rates.csv(),
      'alerts.json': `${visibleJson(toPrettyJson(masker.value(alerts)))}\n`,
      'errors.csv': errorsCsv(facts),
    };
    for (const [name, text] of Object.entries(files).reverse()) writePrivateSync(join(dir, name), text);
    return {
      dir,
      from,
      to,
      files: ['logs.ndjson.gz', ...Object.keys(files)].sort(),
      events: facts.events,
      errors: facts.errors,
      refused: refused.byReason,
      rateRows: rates.rows,
      errorTemplates: facts.templates.length,
      alerts: {
        source: history.found ? 'history' : 'backtest',
        fired: history.found
          ? history.transitions.filter(({ transition }) => transition === 'firing').length
          : timeline.alerts.length,
        ...(history.found ? {} : { reason: history.reason }),
      },
      gaps,
    };
  } catch (error) {
    await logs.abandon();
    throw failed(dir, error);
  }
}

function begin<T>(open: () => T, dir: string): T {
  try {
    return open();
  } catch (error) {
    throw failed(dir, error);
  }
}

/** Turns an error of the file system into one of ours; any other error stays as it is. */
function failed(dir: string, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (error instanceof LogpipeError || code === undefined || !/^E[A-Z]+$/.test(code)) return error;
  return new LogpipeError('LOGPIPE_SINK_FAILED', `--out: ${dir} cannot be written (${reasonInWords(error)})`, error);
}

const MAX_ERROR_ROWS = 1_000;

function errorsCsv({ templates }: Facts): string {
  const head = csvLine(['count', 'template', 'first', 'last', 'service', 'example']);
  const rows = templates
    .slice(0, MAX_ERROR_ROWS)
    .map(({ count, template, first, last, service, example }) =>
      csvLine([String(count), template, first, last, service, example]),
    );
  return [head, ...rows].join('');
}

/** What `logs.ndjson.gz` does not hold as documents. */
function gapOf({ count, byReason, written }: RefusedFacts): string[] {
  if (count === 0) return [];
  const reasons = Object.entries(byReason).map(([reason, number]) => `${reason} ${number}`);
  const what = `${count} record${count === 1 ? ' is not a document' : 's are not documents'} (${reasons.join(', ')})`;
  return [
    `${what}: ${written ? 'logs.ndjson.gz holds the beginning of their text, and `refused` says why' : 'without fields they match no condition and are left out'}`,
  ];
}

function gapOfSteps(dropped: number): string[] {
  if (dropped === 0) return [];
  return [`transforms of the configuration keep ${dropped} record${dropped === 1 ? '' : 's'} out of logs.ndjson.gz`];
}

function prepare(dir: string, force: boolean): void {
  const holds = begin(() => {
    makePrivateFolder(dir, { own: false });
    return readdirSync(dir);
  }, dir);
  if (holds.length === 0 || force) return;
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--out: ${dir} is not empty; name an empty or new folder, or add --force to write into it anyway`,
  );
}

// ---- logs.ndjson.gz ----

interface LogsOptions {
  readonly path: string;
  readonly topic: string;
  readonly parse: ParseConfig;
  readonly transforms: TransformsConfig;
  /** By event time. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly where: Matches | undefined;
}

interface IncidentLogs {
  /** Resolves when there is room for more. */
  take(record: StoredRecord): Promise<void> | undefined;
  /** Resolves when the file is whole and has its name. */
  close(): Promise<{ readonly facts: Facts; readonly refused: RefusedFacts; readonly dropped: number }>;
  /** Leaves no file behind. */
  abandon(): Promise<void>;
}

/** Records of the stretch, by arrival, that are not documents. */
interface RefusedFacts {
  readonly count: number;
  readonly byReason: Readonly<Record<string, number>>;
  /** False when only matching logs were asked for: a record without fields matches nothing. */
  readonly written: boolean;
}

type Document = Record<string, unknown>;
type Read =
  | { readonly document: Document; readonly dropped?: boolean }
  | { readonly reason: string; readonly detail: string }
  | undefined;

const MAX_TEXT = 8_192;

/** Documents as the pipeline would index them, masked once more. */
function createLogs(options: LogsOptions, masker: Masker): IncidentLogs {
  const { path, fromMs, toMs, where } = options;
  const read = createReader(options, masker);
  const facts = createFacts();
  const refused = new Map<string, number>();
  let dropped = 0;
  const draft = `${path}.part`;
  rmSync(draft, { force: true });
  const gzip = createGzip();
  // Private, because logs can be confidential even without secrets.
  const written = pipeline(gzip, createWriteStream(draft, { fd: openPrivateSync(draft, 'wx') }));
  let waiting: ((error: unknown) => void) | undefined;
  // Handled here, so that a failure before `take` or `close` is not an unhandled rejection.
  written.catch((error: unknown) => waiting?.(error));

  function write(document: Document): Promise<void> | undefined {
    if (gzip.write(`${visibleJson(storedText(document))}\n`)) return undefined;
    return new Promise<void>((resolve, reject) => {
      waiting = reject;
      gzip.once('drain', resolve);
    });
  }

  function takeDocument(document: Document, isDropped: boolean): Promise<void> | undefined {
    const time = document['@timestamp'];
    const timeMs = typeof time === 'string' || typeof time === 'number' ? Date.parse(String(time)) : Number.NaN;
    if (!(timeMs >= fromMs && timeMs < toMs)) return undefined;
    if (where !== undefined && !where(document)) return undefined;
    if (isDropped) {
      dropped += 1;
      return undefined;
    }
    facts.add(document, timeMs);
    return write(document);
  }

  function takeRefused(record: StoredRecord, reason: string, detail: string): Promise<void> | undefined {
    const { arrivalMs, value, partition, offset = 0 } = record;
    // By arrival, because it has no event time.
    if (!(arrivalMs >= fromMs && arrivalMs < toMs)) return undefined;
    refused.set(reason, (refused.get(reason) ?? 0) + 1);
    if (where !== undefined) return undefined;
    return write({
      '@timestamp': new Date(arrivalMs).toISOString(),
      tags: ['_parse_failed'],
      kafka: { topic: options.topic, partition, offset },
      message: shownText(value, masker, MAX_TEXT),
      refused: { reason, detail: maskedText(detail, masker), bytes: value?.length ?? 0 },
    });
  }

  return {
    take(record) {
      const found = read(record);
      if (found === undefined) return undefined;
      if ('document' in found) {
        try {
          return takeDocument(found.document, found.dropped === true);
        } catch (error) {
          return takeRefused(record, 'processing_failed', errorText(error));
        }
      }
      return takeRefused(record, found.reason, found.detail);
    },
    async close() {
      gzip.end();
      await written;
      renameSync(draft, path);
      const byReason = Object.fromEntries([...refused].sort(([a], [b]) => (a < b ? -1 : 1)));
      const count = [...refused.values()].reduce((sum, value) => sum + value, 0);
      return { dropped, facts: facts.result(), refused: { count, byReason, written: where === undefined } };
    },
    async abandon() {
      gzip.destroy();
      await written.catch(() => {});
      rmSync(draft, { force: true });
    },
  };
}

function createReader({ parse, transforms, topic }: LogsOptions, masker: Masker): (record: StoredRecord) => Read {
  const toDocument = createRecordReader({ parse, transforms }, { masker });

  function parsed({ arrivalMs, partition, offset = 0, value, eventId, mark, clockErrorMs }: StoredRecord): Read {
    // These were counted and indexed when they first arrived.
    if (mark === 'redriven' || mark === 'replayed') return undefined;
    const origin = { kind: 'kafka', topic, partition } as const;
    const known = clockErrorMs === undefined ? {} : { clockErrorMs };
    const result = toDocument({ value, offset, timeMs: arrivalMs, eventId, ...known }, origin);
    if (!result.ok) return { reason: result.reason, detail: result.detail };
    return { document: result.document, dropped: result.dropped !== undefined };
  }

  return (record) => {
    const found = record.document === undefined ? parsed(record) : { document: record.document };
    if (found === undefined || !('document' in found)) return found;
    try {
      const { document, dropped = false } = found;
      if (!hasExactNumbers(document)) return { dropped, document: masker.value(bounded(document)) as Document };
      // Masking makes a copy, so the texts of numbers have to travel with the values.
      const masked = masker.value(bounded(toExactNumbers(document))) as Document;
      toPlainNumbers(masked);
      return { dropped, document: masked };
    } catch (error) {
      return { reason: 'processing_failed', detail: errorText(error) };
    }
  };
}

// ---- rates.csv ----

/** Column -> measure of measures.yml; a measure that is not defined is left out. */
const COLUMNS: readonly (readonly [string, string])[] = [
  ['events', 'log.events'],
  ['errors', 'log.errors'],
  ['error_ratio', 'log.error_ratio'],
  ['http_requests', 'http.requests'],
  ['http_5xx', 'http.errors'],
  ['http_error_ratio', 'http.error_ratio'],
  ['http_p95_ms', 'http.p95'],
  ['calls_ended', 'calls.ended'],
  ['calls_failed', 'calls.failed'],
  ['call_failure_ratio', 'call.failure_ratio'],
  ['call_success_ratio', 'call.success_ratio'],
  ['call_duration_avg_ms', 'call.duration_avg'],
  ['calls_active', 'calls.active'],
];

interface Rates {
  /** Call it after each evaluation, at least every LATE_MS. */
  look(nowMs: number, store: WindowStore): void;
  /** The file's text. */
  csv(): string;
  readonly rows: number;
}

/**
 * One row for each 10 s that begin in [fromMs, toMs), written once events have had LATE_MS to arrive. An unknown value is an empty
 * cell, never 0.
 */
function createRates(fromMs: number, toMs: number): Rates {
  const lines: string[] = [];
  let columns: readonly (readonly [string, string])[] | undefined;
  let next = Math.floor(fromMs / BUCKET_MS) * BUCKET_MS;

  function row(store: WindowStore, startMs: number): string {
    const query = { fromMs: startMs, toMs: startMs + BUCKET_MS, nowMs: startMs + BUCKET_MS };
    const cells = (columns ?? []).map(([, measure]) => {
      const [reading] = readMeasure(store, measure, query);
      return reading?.value === undefined ? '' : String(Math.round(reading.value * 10_000) / 10_000);
    });
    return csvLine([new Date(startMs).toISOString(), ...cells]);
  }

  return {
    look(nowMs, store) {
      columns ??= COLUMNS.filter(([, measure]) => store.measures.has(measure));
      while (next < toMs && next + BUCKET_MS + LATE_MS <= nowMs + 1) {
        lines.push(row(store, next));
        next += BUCKET_MS;
      }
    },
    csv: () => [csvLine(['time', ...(columns ?? []).map(([name]) => name)]), ...lines].join(''),
    get rows() {
      return lines.length;
    },
  };
}

// ---- CSV (RFC 4180) ----

/** One line. What a spreadsheet would read as a formula becomes text, and invisible characters are escaped. */
export function csvLine(cells: readonly string[]): string {
  return `${cells.map(cell).join(',')}\n`;
}

function cell(text: string): string {
  // In some locales the full-width forms begin a formula too.
  const formula = /^[ ]{0,100}[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/.test(text) && !/^-?\d+(?:\.\d+)?$/.test(text);
  const safe = `${formula ? "'" : ''}${visible(text)}`;
  return /[",;]|^[' ]| $/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

// ---- the README of an exported incident: the beginning of a post-mortem, with what is known filled in ----

// Nothing that a log record holds is rendered as markup. The facts are bounded: what exceeds the limits is counted separately, under no
// name that a record can have; no document makes it throw. The history is masked and complete, up to MAX transitions; or there is none,
// and the reason is given.

interface ReadmeFacts {
  readonly from: string;
  readonly to: string;
  readonly source: string;
  readonly where: readonly string[];
  readonly facts: Facts;
  readonly history: HistoryResult;
  readonly timeline: Timeline;
  readonly gaps: readonly string[];
}

const TOP = 10;
const MAX_CELL = 300;
const MAX_GAP = 1_000;

function readme(known: ReadmeFacts): string {
  const { from, to, source, where, facts, history, timeline, gaps } = known;
  const range = `--from ${from} --to ${to}`;
  const lines = [
    `# Incident ${from} to ${to}`,
    '',
    '| | |',
    '|---|---|',
    `| Range (UTC) | ${from} to ${to} |`,
    `| Read from | ${source}${where.length === 0 ? '' : `, only ${where.map(tableCell).join(' and ')}`} |`,
    `| Events | ${facts.events}${levelsOf(facts)} |`,
    `| Errors | ${facts.errors} |`,
    `| First and last event | ${facts.firstEvent ?? 'none'} to ${facts.lastEvent ?? 'none'} |`,
    ...(facts.firstError === undefined ? [] : [`| First error | ${errorOf(facts.firstError)} |`]),
    ...(facts.lastError === undefined ? [] : [`| Last error | ${errorOf(facts.lastError)} |`]),
    '',
    ...gaps.map((gap) => `> ${tableCell(gap, MAX_GAP)}\n`),
    '## What happened',
    '',
    '_One paragraph for people who were not there._',
    '',
    '## Alerts',
    '',
    ...alertsOf(history, timeline),
    '',
    '## Releases seen',
    '',
    ...releasesOf(facts),
    '',
    '## Most frequent errors',
    '',
    ...templatesOf(facts),
    '',
    '## Cause, and what is to be done',
    '',
    '_Why did it happen? What would have prevented it, or shown it earlier?_',
    '',
    '## Files',
    '',
    '| file | what |',
    '|---|---|',
    '| `logs.ndjson.gz` | the events, one document per line; secrets are masked |',
    `| \`rates.csv\` | per 10 s, over all events${where.length === 0 ? '' : ' (not only those of `--where`)'}; an empty cell is not known |`,
    '| `alerts.json` | what the alert history holds, and what the present rules would have done |',
    '| `errors.csv` | error templates with count, first, last and an example |',
    '',
    '## Look further',
    '',
    '```sh',
    `logpipe backtest ${range}`,
    `logpipe backtest ${range} --rules candidate.yml --compare config/rules.yml`,
    `logpipe backtest --source file logs.ndjson.gz ${range}`,
    'gunzip -c logs.ndjson.gz | grep \'"level":"error"\' | head',
    '```',
    '',
    `In Kibana: \`@timestamp >= "${from}" and @timestamp < "${to}" and tags: error\``,
    '',
  ];
  return lines.join('\n');
}

function alertsOf(history: HistoryResult, { alerts, pages }: Timeline): string[] {
  const lines: string[] = [];
  if (history.found) {
    const told = history.transitions.filter(({ transition }) => transition !== 'pending');
    lines.push(`From the alert history (${told.length} transitions${history.cut ? ', cut' : ''}):`, '');
    if (told.length === 0) lines.push('No alert changed its state.');
    else lines.push('| time | what | priority | alert | message |', '|---|---|---|---|---|');
    for (const { '@timestamp': time, transition, priority, alert, notification } of told) {
      const what = notification === undefined ? transition : `${transition}: ${notification.channel}`;
      const cells = [time, what, priority, alert?.title, alert?.message].map((text) => tableCell(String(text ?? '')));
      lines.push(`| ${cells.join(' | ')} |`);
    }
    lines.push('', 'What the present rules would have done (backtest):', '');
  } else {
    lines.push(
      `The alert history could not be read (${tableCell(history.reason)}). What the present rules would have done (backtest):`,
      '',
    );
  }
  if (alerts.length === 0) lines.push('No alert.');
  else lines.push('| fired | resolved | priority | rule | message |', '|---|---|---|---|---|');
  for (const { fired, resolved = 'still firing', priority, rule, message } of alerts) {
    lines.push(`| ${fired} | ${resolved} | ${priority} | ${tableCell(rule)} | ${tableCell(message)} |`);
  }
  lines.push('', `Pages: ${pages.total}.`);
  return lines;
}

function releasesOf({ releases, untold }: Facts): string[] {
  if (releases.length === 0) return ['No event names its version.'];
  return [
    '| version | first seen in the range | events | errors |',
    '|---|---|---|---|',
    ...releases.map(
      ({ version, first, events, errors }) => `| ${tableCell(version)} | ${first} | ${events} | ${errors} |`,
    ),
    ...(untold.ofReleases === 0 ? [] : ['', `${eventsText(untold.ofReleases)} of further releases.`]),
  ];
}

function templatesOf({ templates, untold }: Facts): string[] {
  if (templates.length === 0) return ['None.'];
  return [
    '| count | error | first | last | example |',
    '|---|---|---|---|---|',
    ...templates
      .slice(0, TOP)
      .map(
        ({ count, template, first, last, example }) =>
          `| ${count} | ${tableCell(template)} | ${first} | ${last} | ${tableCell(example)} |`,
      ),
    ...(untold.errors === 0
      ? []
      : ['', `${untold.errors} more errors are not listed: there were too many different texts.`]),
  ];
}

function levelsOf({ levels, untold }: Facts): string {
  const list = Object.entries(levels).map(([level, count]) => `${tableCell(level)} ${count}`);
  const rest = [
    ...(untold.ofLevels === 0 ? [] : [`${untold.ofLevels} of further levels`]),
    ...(untold.withoutLevel === 0 ? [] : [`${untold.withoutLevel} without a level`]),
  ];
  // A semicolon, so that no level's name can be mistaken for one of these.
  const told = [list.join(', '), rest.join(', ')].filter((part) => part !== '').join('; ');
  return told === '' ? '' : ` (${told})`;
}

function eventsText(count: number): string {
  return count === 1 ? '1 event' : `${count} events`;
}

function errorOf({ time, message, eventId }: NonNullable<Facts['firstError']>): string {
  return `${time} ${tableCell(message)}${eventId === undefined ? '' : ` (${tableCell(eventId)})`}`;
}

/** Text of log records for a table or a quotation: on one line, with every character shown literally. */
function tableCell(text: string, max = MAX_CELL): string {
  const plain = visible(
    text
      .slice(0, max)
      .replace(/[\ud800-\udbff]$/, '')
      .replace(/\s/g, ' ')
      .trim(),
  );
  return (
    plain
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;')
      .replace(/[\\`*_[\](){}#!|~$^]/g, (character) => `\\${character}`)
      // Addresses would become links, and some characters are markup at the beginning.
      .replaceAll('://', '\\://')
      .replace(/www\./gi, (name) => `${name.slice(0, 3)}\\.`)
      .replaceAll('@', '&#64;')
      .replace(/^[-+=:]/, (character) => `\\${character}`)
  );
}

// ---- facts: counts, first and last, releases, frequent errors ----

interface ErrorFact {
  readonly time: string;
  readonly message: string;
  readonly eventId?: string;
}

interface TemplateFact {
  readonly template: string;
  count: number;
  readonly first: string;
  last: string;
  /** Event id of the first error. */
  readonly example: string;
  readonly service: string;
}

interface ReleaseFact {
  readonly version: string;
  events: number;
  errors: number;
  readonly first: string;
}

interface Facts {
  readonly events: number;
  readonly errors: number;
  readonly firstEvent?: string;
  readonly lastEvent?: string;
  readonly firstError?: ErrorFact;
  readonly lastError?: ErrorFact;
  /** The most frequent first. */
  readonly templates: readonly TemplateFact[];
  readonly releases: readonly ReleaseFact[];
  readonly levels: Readonly<Record<string, number>>;
  /** What is in none of the lists, because they were full or there is no level. */
  readonly untold: {
    /** Errors with a template beyond the first MAX_TEMPLATES. */
    readonly errors: number;
    /** Events of releases beyond the first MAX_RELEASES. */
    readonly ofReleases: number;
    /** Events of levels beyond the first MAX_LEVELS. */
    readonly ofLevels: number;
    readonly withoutLevel: number;
  };
}

const MAX_TEMPLATES = 5_000;
const MAX_RELEASES = 200;
const MAX_LEVELS = 20;
const MAX_MESSAGE = 500;
/** Longest name of a release, a service or a level. */
const MAX_NAME = 200;

/** Collects facts from documents, one by one. */
function createFacts() {
  const templates = new Map<string, TemplateFact>();
  const releases = new Map<string, ReleaseFact>();
  const levels = new Map<string, number>();
  const untold = { errors: 0, ofReleases: 0, ofLevels: 0, withoutLevel: 0 };
  let events = 0;
  let errors = 0;
  let first = Number.POSITIVE_INFINITY;
  let last = Number.NEGATIVE_INFINITY;
  let firstError: { ms: number; fact: ErrorFact } | undefined;
  let lastError: { ms: number; fact: ErrorFact } | undefined;

  function release(name: unknown, time: string, isError: boolean): void {
    if (typeof name !== 'string') return;
    const version = name.slice(0, MAX_NAME);
    const known = releases.get(version);
    if (known === undefined && releases.size >= MAX_RELEASES) {
      untold.ofReleases += 1;
      return;
    }
    const fact = known ?? { version, events: 0, errors: 0, first: time };
    if (known === undefined) releases.set(version, fact);
    fact.events += 1;
    if (isError) fact.errors += 1;
  }

  function error(document: Readonly<Record<string, unknown>>, ms: number, time: string): void {
    const { message, eventId, service } = document;
    const grouping = document.error as { readonly template?: unknown } | undefined;
    const fact: ErrorFact = {
      time,
      message: textOf(message).slice(0, MAX_MESSAGE),
      ...(typeof eventId === 'string' ? { eventId: eventId.slice(0, MAX_NAME) } : {}),
    };
    if (firstError === undefined || ms < firstError.ms) firstError = { ms, fact };
    if (lastError === undefined || ms >= lastError.ms) lastError = { ms, fact };
    const template = typeof grouping?.template === 'string' ? grouping.template.slice(0, MAX_MESSAGE) : fact.message;
    const known = templates.get(template);
    if (known !== undefined) {
      known.count += 1;
      if (time > known.last) known.last = time;
      return;
    }
    if (templates.size >= MAX_TEMPLATES) {
      untold.errors += 1;
      return;
    }
    const place = { example: fact.eventId ?? '', service: textOf(service).slice(0, MAX_NAME) };
    templates.set(template, { template, count: 1, first: time, last: time, ...place });
  }

  function countLevel(level: unknown): void {
    if (typeof level !== 'string') {
      untold.withoutLevel += 1;
      return;
    }
    const name = level.slice(0, MAX_NAME);
    if (levels.has(name) || levels.size < MAX_LEVELS) levels.set(name, (levels.get(name) ?? 0) + 1);
    else untold.ofLevels += 1;
  }

  return {
    add(document: Readonly<Record<string, unknown>>, ms: number): void {
      const time = new Date(ms).toISOString();
      const { level, tags, version } = document;
      const isError = Array.isArray(tags) && tags.includes('error');
      events += 1;
      first = Math.min(first, ms);
      last = Math.max(last, ms);
      countLevel(level);
      release(version, time, isError);
      if (!isError) return;
      errors += 1;
      error(document, ms, time);
    },
    result(): Facts {
      return {
        events,
        errors,
        ...(events === 0 ? {} : { firstEvent: new Date(first).toISOString(), lastEvent: new Date(last).toISOString() }),
        ...(firstError === undefined ? {} : { firstError: firstError.fact }),
        ...(lastError === undefined ? {} : { lastError: lastError.fact }),
        templates: [...templates.values()].sort((a, b) => b.count - a.count || (a.template < b.template ? -1 : 1)),
        releases: [...releases.values()].sort((a, b) => (a.first < b.first ? -1 : 1)),
        levels: Object.fromEntries([...levels].sort(([a], [b]) => (a < b ? -1 : 1))),
        untold: { ...untold },
      };
    },
  };
}

/** Not String(): an object may have a `toString` that is not a function. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return value === undefined || value === null ? '' : toJson(value);
}

// ---- the alert history ----

const MAX = 5_000;

type HistoryResult =
  | { readonly found: true; readonly transitions: readonly HistorySource[]; readonly cut: boolean }
  | { readonly found: false; readonly reason: string };

/** The transitions in order, or why there are none: a server that does not answer does not fail the export. */
export async function readHistory(
  client: Client,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
  masker: Masker,
): Promise<HistoryResult> {
  try {
    const reply = await client.search({
      index: `${HISTORY_PREFIX}*`,
      ignore_unavailable: true,
      allow_no_indices: true,
      size: MAX,
      track_total_hits: true,
      ...NO_PARTIAL,
      query: { range: { '@timestamp': { gte: fromMs, lt: toMs, format: 'epoch_millis' } } },
      sort: [{ '@timestamp': { order: 'asc', unmapped_type: 'date' } }],
    } as Parameters<Client['search']>[0]);
    const what = `the search in ${HISTORY_PREFIX}*`;
    complete(whole(reply, what).hits.hits.length, Math.min(totalOf(reply.hits), MAX), what);
    if ((reply._shards?.total ?? 0) === 0) return { found: false, reason: `there is no index ${HISTORY_PREFIX}*` };
    const hits = reply.hits.hits as unknown as readonly { readonly _source: HistorySource }[];
    const transitions = hits.map(({ _source }) => masker.value(_source) as HistorySource);
    return { found: true, transitions, cut: hits.length === MAX };
  } catch (error) {
    return { found: false, reason: masker.text(errorText(error)).slice(0, 200) };
  }
}
