// `logpipe incident export`: a folder with everything about a stretch of time. Reads only, and writes into that folder alone.
import type { Config } from '../config.ts';
import type { Log } from '../core/log.ts';
import { visible } from '../core/safe-json.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { createElasticsearchClient } from '../indexing/elasticsearch.ts';
import { loadMeasures } from '../measure/measure-config.ts';
import { type ExportSummary, exportIncident, LATENESS_MS, readHistory } from '../replay/export.ts';
import { maskedText } from '../replay/record-document.ts';
import { parseTimeRange, parseWhere } from '../replay/sources.ts';
import { openByArrival } from '../replay/stored.ts';
import { loadRules, reachOf } from '../rules/rule-config.ts';
import { sourceOf, withProgress } from './backtest.ts';
import { type Io, jsonLine, say, wantsJson } from './io.ts';

interface IncidentExportCommand {
  readonly from?: string;
  readonly to?: string;
  readonly timeZone?: string;
  readonly out: string;
  readonly source: string;
  readonly where: readonly string[];
  readonly rules?: string;
  readonly measures?: string;
  readonly force: boolean;
  /** Default: readable lines on a terminal, JSON elsewhere. */
  readonly json?: boolean | undefined;
}

const TICK_MS = 5_000;

/** Exit status 0, or 1 when part of the range could not be read. @throws LogpipeError */
export async function runIncidentExport(
  config: Config,
  options: IncidentExportCommand,
  io: Io,
  deps: { readonly log: Log; readonly now?: () => number },
): Promise<number> {
  const { fromMs, toMs } = parseTimeRange(options, (deps.now ?? Date.now)());
  const source = sourceOf(options.source);
  const matches = parseWhere(options.where);
  const masker = createMasker(config.mask);
  const measures = loadMeasures({ file: options.measures ?? config.alerts.measuresFile, env: process.env });
  const rules = loadRules({ file: options.rules ?? config.alerts.rulesFile, env: process.env, measures });
  const warmUpMs = reachOf(rules);
  const client = createElasticsearchClient(config.elasticsearch);
  const history = await readHistory(client, { fromMs, toMs }, masker).finally(() => client.close());

  // An index knows only event times: what is later than the stretch is no part of it.
  const lateMs = source === 'kafka' ? LATENESS_MS : 0;
  const range = { fromMs: fromMs - warmUpMs, toMs: toMs + lateMs };
  const arrivals = await openByArrival(source, config, { files: [], range, purpose: 'incident-export' }, deps.log);
  let summary: ExportSummary;
  try {
    summary = await exportIncident(
      withProgress(arrivals.batches, io),
      {
        dir: options.out,
        force: options.force,
        fromMs,
        toMs,
        warmUpMs,
        tickMs: TICK_MS,
        source,
        where: options.where,
        matches,
        measures,
        rules,
        parse: config.parse,
        transforms: config.transforms,
        topic: config.kafka.topics.logs,
      },
      { masker, history, gaps: arrivals.gaps },
    );
  } finally {
    await arrivals.close();
  }
  if (wantsJson(io, options.json)) io.out(jsonLine(summary, masker));
  else print(summary, io);
  for (const gap of summary.gaps) io.err(maskedText(gap, masker));
  return summary.gaps.some((gap) => gap.includes('not reached')) ? 1 : 0;
}

function print({ dir, files, events, errors, rateRows, errorTemplates, alerts }: ExportSummary, io: Io): void {
  say(io, `${events} events, ${errors} errors of ${errorTemplates} kinds, ${rateRows} rows of rates`);
  const from =
    alerts.source === 'history' ? 'from the alert history' : `from a backtest: ${visible(alerts.reason ?? '')}`;
  say(io, `${alerts.fired} alerts (${from})`);
  say(io, `written to ${dir}: ${files.join(', ')}`);
}
