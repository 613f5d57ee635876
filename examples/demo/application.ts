// The sample application as a child: its address and its running count of produced events.
import { LogpipeError } from '../../src/core/errors.ts';
import type { IncidentKind } from '../calling-platform/incident.ts';
import type { AppReport } from '../calling-platform/report.ts';
import { until } from './await.ts';
import { type Child, startChild } from './child.ts';

export interface Application {
  child: Child;
  url: string;
  /** Events logged so far; `dropped` never reached Kafka or the file. */
  counts(): { produced: number; dropped: number };
  startIncident(kind: IncidentKind, seconds: number): Promise<void>;
  /** Resolves with the final counts when everything it logged has been delivered, or at its own deadline. */
  stop(): Promise<{ produced: number; dropped: number }>;
}

export interface ApplicationInput {
  /** Absent: it logs to the file alone. */
  kafka: { broker: string; topic: string } | undefined;
  logFile: string;
  rate: number;
  cwd: string;
}

const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 60_000;
/** Time between its regular measurements; in production 15 s, which is long for somebody who watches. */
const STATS_EVERY_SECONDS = '5';

export async function startApplication(input: ApplicationInput, onSpawn: (child: Child) => void): Promise<Application> {
  let url: string | undefined;
  let counts = { produced: 0, dropped: 0 };
  let final = false;
  const to = input.kafka ? ['--brokers', input.kafka.broker, '--topic', input.kafka.topic] : [];
  const child = startChild({
    name: 'calling-platform',
    script: 'examples/calling-platform/main.js',
    args: [
      ...to,
      ...['--port', '0', '--rate', String(input.rate), '--log-file', input.logFile],
      ...['--stats-every', STATS_EVERY_SECONDS, '--report', '--exit-with-parent'],
    ],
    cwd: input.cwd,
    onStdout: (line) => {
      const report = JSON.parse(line) as AppReport;
      if (report.type === 'listening') url = report.url;
      else {
        counts = { produced: report.produced, dropped: report.dropped };
        final ||= report.type === 'final';
      }
    },
  });
  onSpawn(child);
  const address = await until(() => url, { what: 'the application to listen', timeoutMs: READY_TIMEOUT_MS, child });
  const isHealthy = async () => (await fetch(`${address}/api/v1/health`)).ok;
  await until(isHealthy, { what: `${address}/api/v1/health`, timeoutMs: READY_TIMEOUT_MS, child });
  return {
    child,
    url: address,
    counts: () => counts,
    async startIncident(kind, seconds) {
      await fetch(`${address}/admin/incident`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ kind, seconds }),
      });
    },
    async stop() {
      await child.end(STOP_TIMEOUT_MS);
      if (!final) {
        const message = `the application ended without its final count; it last said:\n${child.lastWords()}`;
        throw new LogpipeError('LOGPIPE_STACK_FAILED', message);
      }
      return counts;
    },
  };
}
