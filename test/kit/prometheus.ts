// A real Prometheus for one test, and the real exporters for node and Redis, on free ports of 127.0.0.1, with nothing kept on disk.
// They answer when the promise resolves, and end with the test, or in a hook by whoever started them. Also promtool.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { atEnd } from './at-end.ts';
import { type MonitoringProgram, monitoringProgram } from './programs.ts';
import type { PrometheusConfig } from './prometheus-config.ts';
import { alertmanagerArgs, type RunningProgram, startProgram } from './running-program.ts';

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Series {
  readonly labels: Readonly<Record<string, string>>;
  /** [seconds since the epoch, value] */
  readonly points: readonly (readonly [number, number])[];
}

export interface Prometheus extends RunningProgram {
  /** An instant query. @throws Error with what Prometheus says of a wrong one */
  query(expr: string, atSeconds?: number): Promise<Sample[]>;
  /** As scraped, without alignment: `expr` is a selector, `window` as in PromQL. */
  raw(selector: string, window: string): Promise<Series[]>;
  /** Health and last error of each target of a job. */
  targets(job: string): Promise<{ health: string; lastError: string; scrapeUrl: string }[]>;
}

export async function startPrometheus(config: PrometheusConfig): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-prometheus-'));
  const file = join(folder, 'prometheus.yml');
  writeFileSync(file, stringify(config));
  const { url, stop } = await start('prometheus', '/-/ready', (address) => [
    `--config.file=${file}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=${address}`,
    '--log.level=warn',
  ]);

  async function ask(path: string, parameters: Record<string, string>): Promise<unknown> {
    const response = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(parameters)}`);
    const answer = (await response.json()) as { status: string; error?: string; data: unknown };
    if (answer.status !== 'success') throw new Error(`${parameters.query ?? path}: ${answer.error}`);
    return answer.data;
  }
  const result = async (expr: string, at?: number) => {
    const time: Record<string, string> = at === undefined ? {} : { time: String(at) };
    return ((await ask('query', { query: expr, ...time })) as { result: unknown }).result;
  };

  return {
    url,
    async query(expr, at) {
      const found = (await result(expr, at)) as { metric: Record<string, string>; value: [number, string] }[];
      return found.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
    },
    async raw(selector, window) {
      const found = (await result(`${selector}[${window}]`)) as {
        metric: Record<string, string>;
        values: [number, string][];
      }[];
      return found.map(({ metric, values }) => ({
        labels: metric,
        points: values.map(([at, value]) => [at, Number(value)] as const),
      }));
    },
    async targets(job) {
      type Target = { scrapePool: string; health: string; lastError: string; scrapeUrl: string };
      const { activeTargets } = (await ask('targets', { state: 'active' })) as { activeTargets: Target[] };
      return activeTargets.filter(({ scrapePool }) => scrapePool === job);
    },
    async stop() {
      await stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export interface AlertmanagerAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly startsAt: string;
  readonly endsAt: string;
  readonly updatedAt: string;
}

/** A real Alertmanager by itself, which sends nothing to anybody. @param port that of one that has ended, to start it again */
export async function startAlertmanager(
  port?: number,
): Promise<RunningProgram & { alerts(): Promise<AlertmanagerAlert[]> }> {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-alertmanager-'));
  const file = join(folder, 'alertmanager.yml');
  writeFileSync(file, stringify({ route: { receiver: 'nobody' }, receivers: [{ name: 'nobody' }] }));
  const args = (address: string) => alertmanagerArgs(file, join(folder, 'data'), address);
  const { url, stop } = await start('prometheus-alertmanager', '/-/ready', args, port);
  return {
    url,
    alerts: async () => (await (await fetch(`${url}/api/v2/alerts`)).json()) as AlertmanagerAlert[],
    async stop() {
      await stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** For this machine. */
export function startNodeExporter(): Promise<RunningProgram> {
  return start('prometheus-node-exporter', '/metrics', (address) => [
    `--web.listen-address=${address}`,
    '--log.level=error',
  ]);
}

export function startRedisExporter(redisUrl: string): Promise<RunningProgram> {
  return start('prometheus-redis-exporter', '/metrics', (address) => [
    `-web.listen-address=${address}`,
    `-redis.addr=${redisUrl}`,
  ]);
}

/** What promtool prints; rejects with it when something is wrong. Runs in `folder`, since paths in rule tests are relative. */
export async function promtool(args: string[], folder: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(monitoringProgram('promtool'), args, { cwd: folder });
    return stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`promtool ${args.join(' ')}: ${stdout}${stderr}`, { cause: error });
  }
}

async function start(
  program: MonitoringProgram,
  readyPath: string,
  argsFor: (address: string) => string[],
  port?: number,
): Promise<RunningProgram> {
  const running = await startProgram(monitoringProgram(program), readyPath, argsFor, port);
  atEnd(running.stop);
  return running;
}
