// A folder about one incident. In: a stretch of stored records, rules and measures. Out: logs, rates, alerts, frequent
// errors and a README. Guarantee: one pass over the records, and memory does not grow with their number; no record ends it: what is
// not a document is counted, and the beginning of its text is written. Everything is masked, and readable by this user only; the
// README says what is missing; a file gets its name only when it is complete, the README last; nobody is notified, and nobody's
// offsets move; a folder that is not empty is left alone unless told otherwise.
import { createWriteStream, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { errorText, LogpipeError, reasonInWords } from '../core/errors.ts';
import { makePrivateFolder, openPrivateSync, writePrivateSync } from '../core/private-files.ts';
import { bounded, toPrettyJson, visible, visibleJson } from '../core/safe-json.ts';
import type { Masker } from '../core/secrets/mask.ts';
import type { Measures } from '../measure/measure-config.ts';
import { BUCKET_MS, LATE_MS } from '../measure/totals.ts';
import { hasExactNumbers, toExactNumbers, toPlainNumbers } from '../parse/json.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { Rules } from '../rules/rule-config.ts';
import { readMeasure } from '../windows/values.ts';
import type { WindowStore } from '../windows/windows.ts';
import { backtest } from './backtest.ts';
import { createFacts, type Facts, type HistoryResult, readme } from './export-readme.ts';
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
  const { dir, fromMs, toMs, warmUpMs, tickMs, measures, rules, parse } = options;
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
      masker,
      fromMs,
      toMs,
      // Rates wait for what arrives late.
      untilMs: toMs + Math.max(LATE_MS + 2 * tickMs, LATENESS_MS),
      warmUpMs,
      tickMs,
      onTick: (nowMs, { ruleSets }) => rates.look(nowMs, ruleSets[0]!.evaluator.store),
    });
    const { facts, refused } = await logs.close();
    const from = new Date(fromMs).toISOString();
    const to = new Date(toMs).toISOString();
    const gaps = [...deps.gaps(), ...gapOf(refused)].map((gap) => maskedText(gap, masker));
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
  /** By event time. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly where: Matches | undefined;
}

interface IncidentLogs {
  /** Resolves when there is room for more. */
  take(record: StoredRecord): Promise<void> | undefined;
  /** Resolves when the file is whole and has its name. */
  close(): Promise<{ readonly facts: Facts; readonly refused: RefusedFacts }>;
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
type Read = { readonly document: Document } | { readonly reason: string; readonly detail: string } | undefined;

const MAX_TEXT = 8_192;

/** Documents as the pipeline would index them, masked once more. */
function createLogs(options: LogsOptions, masker: Masker): IncidentLogs {
  const { path, fromMs, toMs, where } = options;
  const read = createReader(options, masker);
  const facts = createFacts();
  const refused = new Map<string, number>();
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

  function takeDocument(document: Document): Promise<void> | undefined {
    const time = document['@timestamp'];
    const timeMs = typeof time === 'string' || typeof time === 'number' ? Date.parse(String(time)) : Number.NaN;
    if (!(timeMs >= fromMs && timeMs < toMs)) return undefined;
    if (where !== undefined && !where(document)) return undefined;
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
          return takeDocument(found.document);
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
      return { facts: facts.result(), refused: { count, byReason, written: where === undefined } };
    },
    async abandon() {
      gzip.destroy();
      await written.catch(() => {});
      rmSync(draft, { force: true });
    },
  };
}

function createReader({ parse, topic }: LogsOptions, masker: Masker): (record: StoredRecord) => Read {
  const toDocument = createRecordReader(parse, { masker });

  function parsed({ arrivalMs, partition, offset = 0, value, eventId, mark, clockErrorMs }: StoredRecord): Read {
    // These were counted and indexed when they first arrived.
    if (mark === 'redriven' || mark === 'replayed') return undefined;
    const origin = { kind: 'kafka', topic, partition } as const;
    const known = clockErrorMs === undefined ? {} : { clockErrorMs };
    const result = toDocument({ value, offset, timeMs: arrivalMs, eventId, ...known }, origin);
    return result.ok ? { document: result.document } : { reason: result.reason, detail: result.detail };
  }

  return (record) => {
    const found = record.document === undefined ? parsed(record) : { document: record.document };
    if (found === undefined || !('document' in found)) return found;
    try {
      const { document } = found;
      if (!hasExactNumbers(document)) return { document: masker.value(bounded(document)) as Document };
      // Masking makes a copy, so the texts of numbers have to travel with the values.
      const masked = masker.value(bounded(toExactNumbers(document))) as Document;
      toPlainNumbers(masked);
      return { document: masked };
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
