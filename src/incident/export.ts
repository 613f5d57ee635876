// A folder about one incident. In: a stretch of stored records, rules and measures. Out: logs, rates, alerts, frequent errors and a
// README. Guarantee: one pass over the records; everything is masked; nobody is told anything, nobody's offsets move; a folder that
// holds something is left alone unless asked otherwise.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Masker } from '../core/mask.ts';
import type { Measures } from '../measure/measure-config.ts';
import { LATE_MS } from '../measure/totals.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { Matches } from '../replay/where.ts';
import type { Rules } from '../rules/rule-config.ts';
import { backtest } from '../simulate/backtest.ts';
import type { StoredRecord } from '../simulate/feed.ts';
import { csvLine } from './csv.ts';
import type { Facts } from './facts.ts';
import type { HistoryResult } from './history.ts';
import { createLogs } from './logs.ts';
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
  const logs = createLogs({ ...options, where: options.matches, path: join(dir, 'logs.ndjson.gz') }, masker);
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
    const facts = await logs.close();
    const from = new Date(fromMs).toISOString();
    const to = new Date(toMs).toISOString();
    const gaps = deps.gaps().map(masker.text);
    const where = options.where.map(masker.text);
    const alerts = {
      source: history.found ? 'history' : 'backtest',
      ...(history.found ? { history: history.transitions } : { reason: history.reason }),
      backtest: timeline,
    };
    const files: Record<string, string> = {
      'README.md': readme({ from, to, source: options.source, where, facts, history, timeline, gaps }),
      'rates.csv': rates.csv(),
      'alerts.json': `${JSON.stringify(alerts, null, 2)}\n`,
      'errors.csv': errorsCsv(facts),
    };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text, { mode: 0o600 });
    return {
      dir,
      from,
      to,
      files: ['logs.ndjson.gz', ...Object.keys(files)].sort(),
      events: facts.events,
      errors: facts.errors,
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
    const { code } = error as NodeJS.ErrnoException;
    if (error instanceof LogpipeError || code === undefined || !/^E[A-Z]+$/.test(code)) throw error;
    throw new LogpipeError('LOGPIPE_SINK_FAILED', `--out: ${dir} cannot be written (${errorText(error)})`, error);
  }
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

function prepare(dir: string, force: boolean): void {
  let holds: readonly string[];
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    holds = readdirSync(dir);
  } catch (error) {
    throw new LogpipeError('LOGPIPE_SINK_FAILED', `--out: ${dir} cannot be written (${errorText(error)})`, error);
  }
  if (holds.length === 0 || force) return;
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--out: ${dir} is not empty; name an empty or new folder, or add --force to write beside what is there`,
  );
}
