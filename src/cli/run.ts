// `logpipe run`, and what is done once: `logpipe setup`, `logpipe retention`. Running: the first signal drains, the second forces; the exit status tells the truth.
import { resolve } from 'node:path';
import { ALERTS_TEMPLATE_NAME, installAlertsTemplate } from '../alerter/history.ts';
import { type Config, ROLES, type Role } from '../config.ts';
import { type Clock, sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { settleV8 } from '../core/package-root.ts';
import {
  createElasticsearchClient,
  explainFailure,
  installTemplate,
  TEMPLATE_NAME,
  TEMPLATE_VERSION,
} from '../indexing/elasticsearch.ts';
import { type RetentionRow, retentionIsOn, runRetention } from '../monitor/retention.ts';
import { startPipeline } from '../pipeline.ts';
import { formatValue } from '../rules/words.ts';
import { createKafka } from '../source/kafka/client.ts';
import { ensureTopics } from '../source/kafka/topics.ts';
import { clearTextWarnings } from './check-config.ts';
import { column, type Io, onParentsEnd, say, wantsJson, widthOf } from './io.ts';

interface RunOptions {
  /** The configuration's file, as it was named. */
  readonly config?: string;
  /** End when standard input closes: for a parent that must not leave this process behind. */
  readonly exitWithParent: boolean;
}

const TEMPLATE_RETRY_MS = 2_000;

/** Runs until a signal or the source's end. Resolves with the exit status: 0 only if every record was accounted for. */
export async function run(config: Config, options: RunOptions, log: Log): Promise<number> {
  settleV8(config.roles.length);
  for (const warning of clearTextWarnings(config)) log.warn(warning);
  const ending = new AbortController();
  const signals = listenForSignals(ending, log);
  if (options.exitWithParent) onParentsEnd(() => ending.abort());
  try {
    const { sinks, elasticsearch, roles } = config;
    const installs = sinks.elasticsearch && elasticsearch.installTemplate && roles.includes('indexer');
    // Not awaited: alerts never wait for Elasticsearch, not even at the start.
    const prepared = installs ? prepareElasticsearch(config, ending.signal, log) : Promise.resolve();
    const configArgs = options.config === undefined ? [] : [`--config=${resolve(options.config)}`];
    const pipeline = await startPipeline(config, { log, prepared, configArgs });
    log.info('running', { source: config.source, roles: config.roles, url: pipeline.url });
    const stopped = new Promise<'stopped'>((resolve) => {
      if (ending.signal.aborted) resolve('stopped');
      ending.signal.addEventListener('abort', () => resolve('stopped'), { once: true });
    });
    let failure: unknown;
    await Promise.race([pipeline.ended, stopped]).catch((error) => {
      failure = error;
    });
    const drained = await pipeline.stop();
    if (failure !== undefined) throw failure;
    if (!drained) {
      throw new LogpipeError(
        'LOGPIPE_SHUTDOWN_FORCED',
        `shutdownTimeoutMs: ${config.shutdownTimeoutMs} ms were not enough; unfinished records will be delivered again`,
      );
    }
    log.info('stopped: every record taken was accounted for');
    return 0;
  } finally {
    signals.dispose();
  }
}

/**
 * Daily indices must not be created without the template, so nothing is indexed before it is in place. A newer template is
 * left alone and used.
 */
async function prepareElasticsearch(config: Config, signal: AbortSignal, log: Log): Promise<void> {
  const client = createElasticsearchClient(config.elasticsearch);
  let said = '';
  try {
    while (!signal.aborted) {
      try {
        const result = await installTemplate(client, log);
        log.info(`index template ${result}`);
        return;
      } catch (error) {
        if (error instanceof LogpipeError && error.code === 'LOGPIPE_TEMPLATE_NEWER') {
          log.warn(error.message);
          return;
        }
        const explained = await explainFailure(error, config.elasticsearch);
        if (explained.message !== said) log.error(`${explained.message}; trying again`);
        said = explained.message;
        await sleep(TEMPLATE_RETRY_MS, signal);
      }
    }
  } finally {
    await client.close();
  }
}

/** The first signal ends what `ending` ends, the second the process. */
export function listenForSignals(ending: AbortController, log: Log): { dispose(): void } {
  const onSignal = (signal: NodeJS.Signals) => {
    if (ending.signal.aborted) {
      log.warn(`${signal} again: ending at once; unfinished records will be delivered again`);
      process.exit(1);
    }
    log.info(`${signal}: finishing what is under way; once more ends at once`);
    ending.abort();
  };
  const names = ['SIGTERM', 'SIGINT'] as const;
  for (const name of names) process.on(name, onSignal);
  // It makes the alerter read its rules again (alerting.ts); whoever has no such role must not end of it.
  const onHangUp = () => log.info('SIGHUP: rules are read again where alerts are evaluated');
  process.on('SIGHUP', onHangUp);
  return {
    dispose() {
      for (const name of names) process.off(name, onSignal);
      process.off('SIGHUP', onHangUp);
    },
  };
}

/** The roles named on the command line. @throws LogpipeError LOGPIPE_USAGE for an unknown one. */
export function parseRoles(text: string): Role[] {
  return text.split(',').map((name) => {
    const role = ROLES.find((known) => known === name.trim());
    if (role === undefined) {
      throw new LogpipeError('LOGPIPE_USAGE', `--roles: found ${errorText(name)}; permitted: ${ROLES.join(', ')}`);
    }
    return role;
  });
}

// ---- `logpipe setup`: topics and index templates, once per cluster; idempotent ----

/** @throws LogpipeError when a server cannot be reached or refuses. */
export async function setup(
  config: Config,
  options: { readonly json?: boolean | undefined },
  io: Io,
  log: Log,
): Promise<number> {
  // What it created, and what differs, is the command's own answer.
  const quiet: Log = { ...log, info: log.debug, warn: log.debug };
  const topics =
    config.source === 'kafka' ? await ensureTopics(createKafka(config.kafka, log), config.kafka, quiet) : undefined;
  let template: string | undefined;
  let alertsTemplate: string | undefined;
  if (config.sinks.elasticsearch) {
    const client = createElasticsearchClient(config.elasticsearch);
    try {
      template = await installTemplate(client, log);
      alertsTemplate = await installAlertsTemplate(client, log);
    } catch (error) {
      throw error instanceof Error && error.name === 'LogpipeError'
        ? error
        : await explainFailure(error, config.elasticsearch);
    } finally {
      await client.close();
    }
  }
  if (wantsJson(io, options.json)) {
    io.out(JSON.stringify({ topics, template, alertsTemplate }));
    return 0;
  }
  if (topics !== undefined) {
    for (const name of topics.created) say(io, `topic ${name}: created`);
    if (topics.created.length === 0) say(io, 'topics: nothing to create, all of them exist');
    for (const difference of topics.differences) say(io, `left as it is: ${difference}`);
  }
  if (template !== undefined) say(io, `index template ${TEMPLATE_NAME} version ${TEMPLATE_VERSION}: ${template}`);
  if (alertsTemplate !== undefined) say(io, `index template ${ALERTS_TEMPLATE_NAME}: ${alertsTemplate}`);
  if (topics === undefined && template === undefined)
    say(io, 'nothing to set up: neither Kafka nor Elasticsearch is used');
  return 0;
}

// `logpipe retention`: what the leader does by schedule, once and now; or, as a dry run, only what it would do. In: the configuration.
// Out: one line for each index that has to do with logpipe, with the decision and its reason. Changes nothing in a dry run.

// ---- `logpipe retention` ----

// `logpipe retention`: what the leader does by schedule, once and now; or, as a dry run, only what it would do. In: the configuration.
// Out: one line for each index that has to do with logpipe, with the decision and its reason. Changes nothing in a dry run.

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
