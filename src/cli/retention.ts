// `logpipe retention`: what the leader does by schedule, once and now; or, as a dry run, only what it would do. In: the configuration.
// Out: one line for each index that has to do with logpipe, with the decision and its reason. Changes nothing in a dry run.
import type { Config } from '../config.ts';
import type { Clock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import { type RetentionRow, retentionIsOn, runRetention } from '../monitor/retention.ts';
import { formatValue } from '../rules/words.ts';
import { column, type Io, say, widthOf } from './io.ts';

export interface RetentionOptions {
  readonly dryRun: boolean;
  readonly json: boolean;
}

const DAY_MS = 86_400_000;
const MAX_NAME = 60;
const HEAD = ['index', 'documents', 'size', 'age', 'decision'] as const;
const WIDTHS = [0, 12, 10, 9, 8] as const;

/**
 * Exit status 1 when what is expired is still there, or when the time is in doubt; else 0.
 * @throws LogpipeError LOGPIPE_USAGE when retention is off and this is no dry run; those of `runRetention`
 */
export async function retention(
  config: Pick<Config, 'retention' | 'elasticsearch'>,
  { dryRun, json }: RetentionOptions,
  io: Io,
  { clock, stop }: { readonly clock: Pick<Clock, 'now'>; readonly stop: AbortSignal },
): Promise<number> {
  if (!dryRun && !retentionIsOn(config.retention)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      'retention: off; set retention.retentionDays, alertHistoryDays or replayDays, or look with --dry-run',
    );
  }
  const run = await runRetention(config.elasticsearch, {
    config: config.retention,
    dryRun,
    clocks: () => ({ host: clock.now() }),
    signal: stop,
  });
  const { indices, problem, nowMs, clocks } = run;
  const has = (result: RetentionRow['result']) => indices.filter((row) => row.result === result);
  const expired = indices.filter(({ decision }) => decision === 'delete');
  const gone = [...has('deleted'), ...has('gone')];
  const left = dryRun ? 0 : expired.length - gone.length;
  const doubted = indices.filter(({ decision }) => decision === 'doubt').length;
  const status = problem === undefined && left === 0 && doubted === 0 ? 0 : 1;
  if (json) {
    const times = Object.entries(clocks).map(([whose, ms]) => [whose, isoTime(ms)]);
    const { retentionDays, alertHistoryDays, replayDays } = config.retention;
    io.out(
      JSON.stringify({
        dryRun,
        now: isoTime(nowMs),
        clocks: Object.fromEntries(times),
        configured: { retentionDays, alertHistoryDays, replayDays },
        problem,
        expired: expired.length,
        deleted: gone.length,
        left,
        doubted,
        indices: indices.map(({ ageMs, createdMs, ...row }) => ({ ...row, ageDays: daysOf(ageMs) })),
      }),
    );
    return status;
  }
  if (problem !== undefined) {
    io.err(`nothing was deleted: ${problem}`);
    return status;
  }
  if (indices.length > 0) print(indices, io);
  for (const { failure } of indices) if (failure !== undefined) io.err(`still there: ${failure}`);
  const kept = indices.length - expired.length;
  io.err(
    dryRun
      ? `${expired.length} of ${indices.length} would be deleted (${sizeOf(expired)}); nothing was changed`
      : `${gone.length} deleted (${sizeOf(gone)}), ${kept} kept${left === 0 ? '' : `, ${left} expired but still there`}`,
  );
  return status;
}

function print(indices: readonly RetentionRow[], io: Io): void {
  const name = Math.min(MAX_NAME, Math.max(...indices.map((row) => widthOf(row.name))));
  const line = (cells: readonly string[], why: string) => {
    const columns = cells.map((text, i) => (i === 0 ? column(text, name) : column(text, WIDTHS[i]!)));
    return `${columns.join('  ')}  ${why}`;
  };
  say(io, [{ text: line(HEAD, 'why'), style: 'dim' }]);
  for (const row of indices) {
    const { documents, bytes, ageMs, decision, result, why, closed, blocks } = row;
    const state = [closed ? 'closed' : '', ...blocks].filter((text) => text !== '').join(', ');
    const cells = [
      row.name,
      documents === undefined ? '-' : String(documents),
      bytes === undefined ? '-' : formatValue(bytes, 'bytes'),
      ageMs === undefined ? '-' : ageMs < 0 ? 'not over' : `${daysOf(ageMs)} d`,
      result ?? decision,
    ];
    const style = decision === 'keep' ? undefined : decision === 'doubt' ? 'yellow' : 'red';
    say(io, [{ text: line(cells, state === '' ? why : `${why} (${state})`), style }]);
  }
}

/** Whole days. */
function daysOf(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.floor(ms / DAY_MS);
}

function isoTime(ms: number | undefined): string | undefined {
  return ms === undefined || Number.isNaN(new Date(ms).getTime()) ? undefined : new Date(ms).toISOString();
}

function sizeOf(rows: readonly RetentionRow[]): string {
  return formatValue(
    rows.reduce((sum, { bytes = 0 }) => sum + bytes, 0),
    'bytes',
  );
}
