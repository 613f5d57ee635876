// A folder about one incident. In: a stretch of stored records, rules and measures. Out: logs, rates, alerts, frequent errors and a
// README. Guarantee: one pass over the records; everything is masked, and for this user alone; what is missing is said; a file has its
// name only when it is whole, the README last; nobody is told anything, nobody's offsets move; a folder that holds something is left alone unless
// asked otherwise.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Masker } from '../core/mask.ts';
import { makePrivateFolder, writePrivateSync } from '../core/private-files.ts';
import { toPrettyJson } from '../core/safe-json.ts';
import { visibleJson } from '../core/terminal-text.ts';
import type { Measures } from '../measure/measure-config.ts';
import { LATE_MS } from '../measure/totals.ts';
import type { ParseConfig } from '../parse/parse.ts';
import { maskedText } from '../replay/record-document.ts';
import type { Matches } from '../replay/where.ts';
import type { Rules } from '../rules/rule-config.ts';
import { backtest } from '../simulate/backtest.ts';
import type { StoredRecord } from '../simulate/feed.ts';
import { csvLine } from './csv.ts';
import type { Facts } from './facts.ts';
import type { HistoryResult } from './history.ts';
import { createLogs, type RefusedFacts } from './logs.ts';
import { createRates } from './rates.ts';
import { readme } from './readme.ts';

export interface ExportOptions {
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

/** So long after the end of the stretch a record may have arrived and still be looked for. */
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
      onTick: (nowMs, { ruleSets }) => rates.look(nowMs, ruleSets[0]!.evaluations.store),
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

/** Trouble of the folder as an error of ours; anything else as it is. */
function failed(dir: string, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (error instanceof LogpipeError || code === undefined || !/^E[A-Z]+$/.test(code)) return error;
  return new LogpipeError('LOGPIPE_SINK_FAILED', `--out: ${dir} cannot be written (${errorText(error)})`, error);
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
  const what = `${count} record${count === 1 ? ' is no document' : 's are no documents'} (${reasons.join(', ')})`;
  return [
    `${what}: ${written ? 'logs.ndjson.gz holds the beginning of their text, under `refused` why' : 'without fields they match no condition and are left out'}`,
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
    `--out: ${dir} is not empty; name an empty or new folder, or add --force to write beside what is there`,
  );
}
