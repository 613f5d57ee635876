// Everything that the dashboards look at, running together: the example application with a driver that knows what it asked for,
// the pipeline, exporters, and one real Prometheus for each of the two ways to the application's metrics. And what the
// application knows of itself without any of it: its log file, its process as the kernel sees it, the driver's own counts.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep } from '../../src/core/clock.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import type { LogpipeProcess } from '../kit/process.ts';
import { type Prometheus, startNodeExporter, startPrometheus, startRedisExporter } from '../kit/prometheus.ts';
import { type PlatformWay, type PrometheusConfig, shippedPrometheusConfig } from '../kit/prometheus-config.ts';
import { startRedis } from '../kit/redis.ts';
import { spawnLogpipe, spawnScript, testBrokers, testEsUrl, uniqueName, waitFor } from '../kit/servers.ts';

export interface LoggedEvent {
  readonly atMs: number;
  readonly event?: string;
  readonly http?: { method: string; route: string; status: number; durationMs: number };
}

/** The application as the kernel sees it. */
export interface ProcessReading {
  readonly atMs: number;
  readonly rssBytes: number;
  readonly cpuSeconds: number;
}

export interface Platform {
  readonly url: string;
  readonly logFile: string;
  readonly readings: ProcessReading[];
  /** Answers that the driver got, by `method status`. */
  readonly answers: Map<string, number>;
  request(method: string, path: string, body?: object): Promise<number>;
  /** Everything logged so far. */
  logged(): LoggedEvent[];
}

export interface Surroundings {
  readonly platform: Platform;
  /** What this way asks; scraping every second. */
  prometheus(way: PlatformWay): Prometheus;
  stop(): Promise<void>;
}

/** Beside the application lies a spool, filled to a known share. */
export const SPOOL = { usedBytes: 2_000_000, maxBytes: 8_000_000 };

const CLOCK_TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;

export async function startSurroundings(ways: readonly PlatformWay[]): Promise<Surroundings> {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-surroundings-'));
  const ends: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
  const stop = async () => {
    for (const end of ends.reverse()) await end();
  };
  try {
    const redis = await startRedis();
    ends.push(redis.stop);
    const redisExporter = await startRedisExporter(redis.url);
    ends.push(redisExporter.stop);
    const nodeExporter = await startNodeExporter();
    ends.push(nodeExporter.stop);
    const mongodbExporter = await startMongodbSamples();
    ends.push(mongodbExporter.stop);

    const topic = uniqueName('surroundings');
    const configFile = join(folder, 'logpipe.yml');
    mkdirSync(join(folder, 'spool'));
    writeFileSync(join(folder, 'spool', '1'), Buffer.alloc(SPOOL.usedBytes));
    writeFileSync(configFile, logpipeConfig(topic, folder));
    const setup = spawnLogpipe(['setup', '--config', configFile]);
    const { status } = await setup.exit;
    if (status !== 0) throw new Error(`logpipe setup: ${setup.stdout()}${setup.stderr()}`);
    const pipeline = spawnLogpipe(['run', '--config', configFile, '--exit-with-parent']);
    ends.push(() => ended(pipeline));
    const logpipe = await listening(pipeline, '/live');

    const platform = await startPlatform(topic, folder, ends);
    const targets = {
      'localhost:3000': new URL(platform.url).host,
      'localhost:8780': new URL(logpipe).host,
      'localhost:9100': new URL(nodeExporter.url).host,
      'localhost:9121': new URL(redisExporter.url).host,
      'localhost:9216': new URL(mongodbExporter.url).host,
    };
    const running = new Map<PlatformWay, Prometheus>();
    for (const way of ways) {
      const prometheus = await startPrometheus(everySecond(shippedPrometheusConfig(way), targets));
      ends.push(prometheus.stop);
      running.set(way, prometheus);
    }
    return { platform, prometheus: (way) => running.get(way)!, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The shipped configuration, at other ports and with other intervals. */
function everySecond(config: PrometheusConfig, targets: Readonly<Record<string, string>>): PrometheusConfig {
  return {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: config.rule_files!.map((path) => join(packageRoot(), 'config/prometheus', path)),
    scrape_configs: config.scrape_configs.map((job) => ({
      ...job,
      static_configs: job.static_configs.map((entry) => ({
        ...entry,
        targets: entry.targets.map((target) => targets[target]!),
      })),
    })),
  };
}

function logpipeConfig(topic: string, folder: string): string {
  return `kafka:
  brokers: ['${testBrokers().join("', '")}']
  group: ${topic}-indexer
  counterGroup: ${topic}-counter
  alerterGroup: ${topic}-alerter
  topics: { logs: ${topic}, dlq: ${topic}.dlq, counts: ${topic}-counts, alerts: ${topic}-alerts }
elasticsearch: { nodes: ['${testEsUrl()}'] }
intake: { commitIntervalMs: 100, maxWaitMs: 50 }
files: { dataDir: '${folder}' }
monitor: { spoolDir: '${folder}/spool', spoolMaxBytes: ${SPOOL.maxBytes} }
http: { port: 0 }
`;
}

async function startPlatform(topic: string, folder: string, ends: (() => unknown)[]): Promise<Platform> {
  const logFile = join(folder, 'app.log');
  const child = spawnScript('examples/calling-platform/main.js', [
    ...['--brokers', testBrokers().join(','), '--topic', topic, '--log-file', logFile, '--port', '0', '--report'],
    ...['--rate', '0', '--stats-every', '1', '--call-speed', '20', '--seed', '7', '--exit-with-parent'],
  ]);
  ends.push(() => ended(child));
  const { url } = JSON.parse(await child.waitForLine(/"listening"/)) as { url: string };
  const readings: ProcessReading[] = [];
  const timer = setInterval(() => readings.push(readProcess(child.pid)), 250);
  ends.push(() => clearInterval(timer));
  const answers = new Map<string, number>();
  return {
    url,
    logFile,
    readings,
    answers,
    async request(method, path, body) {
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(
        url + path,
        body === undefined ? { method } : { method, headers, body: JSON.stringify(body) },
      );
      await response.arrayBuffer();
      const key = `${method} ${response.status}`;
      answers.set(key, (answers.get(key) ?? 0) + 1);
      return response.status;
    },
    logged: () =>
      readFileSync(logFile, 'utf8')
        .split('\n')
        .filter((line) => line.endsWith('}'))
        .map((line) => {
          const { timestamp, ...rest } = JSON.parse(line) as LoggedEvent & { timestamp: string };
          return { ...rest, atMs: Date.parse(timestamp) };
        }),
  };
}

/** /proc/<pid>/stat: the 14th and 15th field are user and system time, the 24th resident pages; the name may hold blanks. */
function readProcess(pid: number): ProcessReading {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  const field = (number: number) => Number(fields[number - 3]);
  return {
    atMs: Date.now(),
    rssBytes: field(24) * PAGE_BYTES,
    cpuSeconds: (field(14) + field(15)) / CLOCK_TICKS_PER_SECOND,
  };
}

/**
 * No Debian package has the MongoDB exporter: samples in the form that its source describes, operations growing by the scrape.
 * It shows that the queries fit the names, not that an exporter gives them.
 */
async function startMongodbSamples(): Promise<{ url: string; stop(): Promise<void> }> {
  let scrapes = 0;
  const server = createServer((_, response) => {
    scrapes += 1;
    const operations = ['insert', 'query', 'update', 'delete', 'getmore', 'command'].map(
      (kind, i) =>
        `mongodb_ss_opcounters{cl_id="",cl_role="mongod",legacy_op_type="${kind}",rs_state="0"} ${scrapes * i}`,
    );
    const connections = [
      ['current', 38],
      ['available', 51_162],
      ['active', 9],
    ].map(([kind, n]) => `mongodb_ss_connections{cl_id="",cl_role="mongod",conn_type="${kind}",rs_state="0"} ${n}`);
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' });
    response.end(
      [
        '# TYPE mongodb_ss_connections untyped',
        ...connections,
        '# TYPE mongodb_ss_opcounters untyped',
        ...operations,
        '',
      ].join('\n'),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

/** The address in logpipe's own log, answering. */
async function listening(pipeline: LogpipeProcess, path: string): Promise<string> {
  const line = await pipeline.waitForLine(/http:\/\/127\.0\.0\.1:\d+/);
  const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(line)!;
  await waitFor(async () => (await fetch(url + path)).ok, { what: `an answer of ${url}${path}` });
  return url;
}

async function ended(child: LogpipeProcess): Promise<void> {
  child.kill('SIGKILL');
  await child.exit;
}

/** Calls `act` `perSecond` times a second for `seconds`; what is late is made up for. Resolves when all of it is done. */
export async function atRate(perSecond: number, seconds: number, act: (n: number) => Promise<unknown>): Promise<void> {
  const begin = Date.now();
  const all: Promise<unknown>[] = [];
  for (let n = 0; n < perSecond * seconds; n++) {
    await sleep(Math.max(0, begin + (n * 1000) / perSecond - Date.now()));
    all.push(act(n));
  }
  await Promise.all(all);
}
