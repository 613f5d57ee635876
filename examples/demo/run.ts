// One demo from start to end, in the order a reader would do it by hand: servers, pipeline, application, a look at them,
// then everything off again in the order data flows. Guarantee: nothing started here is left, whatever fails.
import { join } from 'node:path';
import { errorText, LogpipeError } from '../../src/core/errors.ts';
import { type Application, startApplication } from './application.ts';
import { Interrupted, unlessInterrupted, until } from './await.ts';
import type { Child } from './child.ts';
import { handoverLines, whatComesNext, whileItRuns } from './handover.ts';
import { showLive, totals } from './live.ts';
import type { DemoOptions } from './options.ts';
import { type Pipeline, startPipeline } from './pipeline.ts';
import { type Receivers, startReceivers } from './receivers.ts';
import { complete, type DemoReport, finalReport, summary } from './report.ts';
import type { ResultsReader } from './results.ts';
import { createElasticsearchResults } from './results-elasticsearch.ts';
import { createFileResults } from './results-files.ts';
import type { Screen } from './screen.ts';
import { type Servers, startServers } from './servers.ts';
import { demoNames, removeNames } from './topics.ts';
import { createWorkspace } from './workspace.ts';

const SETTLE_TIMEOUT_MS = 60_000;
const PIPELINE_GRACE_MS = 30_000;
const LATEST_LINES = 5;

/** Resolves with the report, or with undefined when it was interrupted before there was anything to report. */
export async function runDemo(
  options: DemoOptions,
  screen: Screen,
  stop: AbortSignal,
): Promise<DemoReport | undefined> {
  const undo: (() => unknown)[] = [];
  try {
    return await demo(options, screen, stop, undo);
  } catch (error) {
    if (error instanceof Interrupted) return undefined;
    throw error;
  } finally {
    screen.leave();
    for (const step of undo.reverse()) await step();
  }
}

async function demo(
  options: DemoOptions,
  screen: Screen,
  stop: AbortSignal,
  undo: (() => unknown)[],
): Promise<DemoReport> {
  const workspace = createWorkspace();
  undo.push(() => workspace.remove());
  const servers = await unlessInterrupted(startServers(options, screen.step), stop);
  undo.push(() => servers.stop());
  const names = demoNames(servers.mode === 'outside');
  const { addresses } = servers;
  if (addresses && servers.mode === 'outside') undo.push(() => removeNames(addresses.kafka, names, screen.step));

  const receivers = await startReceivers(screen.step, options.watched);
  undo.push(() => receivers.stop());
  const logFile = join(workspace.folder('logs'), 'app.log');
  const ndjsonDir = options.keep ?? workspace.folder('ndjson');
  const latest: string[] = [];
  const started = (what: string, graceMs: number) => (child: Child) => {
    screen.step(`${what} is starting (pid ${child.pid})`);
    undo.push(() => child.end(graceMs));
  };
  const pipeline = await unlessInterrupted(
    startPipeline(
      { servers, workspace, names, receivers, logFile, ndjsonDir, onDocument: (line) => keepLast(latest, line) },
      started('The pipeline', PIPELINE_GRACE_MS),
    ),
    stop,
  );
  screen.step('The pipeline is ready');
  const kafka = addresses ? { broker: addresses.kafka, topic: names.logs } : undefined;
  const application = await unlessInterrupted(
    startApplication({ kafka, logFile, rate: options.rate, cwd: workspace.path }, started('The application', 5000)),
    stop,
  );
  screen.step(`The application serves ${application.url}, logging about ${options.rate} events/s`);

  const results = resultsOf(servers, names.logs, ndjsonDir);
  const { forMs, incident } = options;
  const { url, pageUrl, configFile } = pipeline;
  const handover = whileItRuns({ results, url, applicationUrl: application.url, configFile, incident });
  screen.note(['', 'Open this in a browser (it works once, within 15 minutes):', '', `  ${pageUrl}`]);
  screen.note(handoverLines('While it runs, in another terminal:', handover));
  const hints = handover.map(([, command]) => command);
  const view = { title: servers.description, kafka: !!addresses, fresh: servers.mode !== 'outside', forMs, incident };
  await showLive({ ...view, application, pipeline, results, latest, page: pageUrl, hints }, screen, stop);
  screen.leave();
  const report = await sumUp({ application, pipeline, results, receivers }, screen);
  screen.note(handoverLines('What comes next:', whatComesNext(servers, results, options.keep)));
  return report;
}

/** Ends the application, waits until what it produced is accounted for, and counts. */
async function sumUp(
  parts: { application: Application; pipeline: Pipeline; results: ResultsReader; receivers: Receivers },
  screen: Screen,
): Promise<DemoReport> {
  const { application, pipeline, results, receivers } = parts;
  screen.step('Stopping the application, then waiting until all of its events are accounted for');
  const { produced, dropped } = await application.stop();
  const settled = async () => {
    const { indexed, deadLettered } = await pipeline.counts();
    return indexed + deadLettered >= produced - dropped;
  };
  const what = 'every produced event to be indexed or in the dead letters';
  // Running into the deadline is a result, not a crash: the counts say what is missing.
  await until(settled, { what, timeoutMs: SETTLE_TIMEOUT_MS, intervalMs: 200, child: pipeline.child }).catch((error) =>
    screen.step(errorText(error)),
  );
  const counts = totals(produced, dropped, await pipeline.counts());
  const found = await results.read({ fresh: true });
  const report = finalReport(counts, found, receivers.alerts);
  const { status, signal } = await pipeline.child.end(PIPELINE_GRACE_MS);
  if (status !== 0)
    screen.step(`The pipeline ended with ${signal ?? `status ${status}`}:\n${pipeline.child.lastWords()}`);
  for (const line of summary(report, found)) screen.step(line);
  if (complete(report) && found.total !== report.indexed) {
    const message = `metrics count ${report.indexed} documents, the index holds ${found.total}`;
    throw new LogpipeError('LOGPIPE_ES_REFUSED', message);
  }
  return report;
}

function resultsOf(servers: Servers, topic: string, ndjsonDir: string): ResultsReader {
  if (!servers.addresses) return createFileResults(ndjsonDir);
  return createElasticsearchResults(servers.addresses.elasticsearch, topic);
}

function keepLast(lines: string[], line: string): void {
  lines.push(line);
  if (lines.length > LATEST_LINES) lines.shift();
}
