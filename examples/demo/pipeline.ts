// logpipe itself as a child: a generated configuration in, its address and its own counts out.
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { countsOf } from '../../src/cli/top.ts';
import { LogpipeError } from '../../src/core/errors.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import { SCOPES, signPass } from '../../src/ops/access.ts';
import { freePorts } from '../../stack/index.ts';
import { endedMessage, until } from './await.ts';
import { type Child, startChild } from './child.ts';
import type { Receivers } from './receivers.ts';
import type { Servers } from './servers.ts';
import type { DemoNames } from './topics.ts';
import type { Workspace } from './workspace.ts';

export interface PipelineCounts {
  consumed: number;
  /** New documents in the sink that counts: Elasticsearch, or the NDJSON files without servers. */
  indexed: number;
  duplicates: number;
  deadLettered: number;
  dropped: number;
  /** Records in Kafka that are not yet indexed. */
  lag: number;
  /** Alerts that fire. */
  firing: number;
}

export interface Pipeline {
  child: Child;
  /** Where it serves /metrics and /ready. */
  url: string;
  /** Where a browser opens the page, with a token that works once. */
  pageUrl: string;
  /** Its configuration, for other commands. */
  configFile: string;
  counts(): Promise<PipelineCounts>;
}

export interface PipelineInput {
  servers: Servers;
  workspace: Workspace;
  /** Topics and consumer groups of this demo; nobody else's records are touched. */
  names: DemoNames;
  /** Where alerts go: nowhere else, whatever the environment says. */
  receivers: Pick<Receivers, 'slackUrl' | 'pagerdutyUrl'>;
  /** The application's log file, read when there is no Kafka. */
  logFile: string;
  /** Folder of the NDJSON files when there is no Elasticsearch. */
  ndjsonDir: string;
  /** Each document as a readable line, in the embedded mode. */
  onDocument: (line: string) => void;
}

const SETUP_TIMEOUT_MS = 60_000;
const READY_TIMEOUT_MS = 60_000;

export async function startPipeline(input: PipelineInput, onSpawn: (child: Child) => void): Promise<Pipeline> {
  const file = join(input.workspace.path, 'logpipe.yml');
  // Links in messages name the port, so it is chosen before.
  const [port] = (await freePorts(1)) as [number];
  const linkSecret = randomBytes(32).toString('hex');
  // An outside address may carry a password.
  writeFileSync(file, stringify(configuration(input, port, linkSecret)), { mode: 0o600 });
  await setUp(file, input);
  let url: string | undefined;
  const child = startChild({
    name: 'logpipe',
    script: 'src/main.js',
    args: ['run', '--config', file, '--exit-with-parent'],
    cwd: input.workspace.path,
    onStdout: input.onDocument,
    onStderr: (line) => {
      url ??= addressIn(line);
    },
  });
  onSpawn(child);
  const address = await until(() => url, {
    what: 'the pipeline to say where it listens',
    timeoutMs: READY_TIMEOUT_MS,
    child,
  });
  const isReady = async () => (await fetch(`${address}/ready`)).status === 200;
  await until(isReady, { what: `${address}/ready to answer 200`, timeoutMs: READY_TIMEOUT_MS, child });
  const sink = input.servers.addresses ? 'elasticsearch' : 'ndjson';
  return {
    child,
    url: address,
    pageUrl: `${address}/#once=${signPass('once', linkSecret, { scopes: SCOPES, nowMs: Date.now() }).token}`,
    configFile: file,
    async counts() {
      if (child.exited()) throw new Error(endedMessage(child));
      const response = await fetch(`${address}/metrics`, { signal: AbortSignal.timeout(10_000) });
      return countsIn(await response.text(), sink);
    },
  };
}

/** Topics and index template, by logpipe's own command. */
async function setUp(file: string, { servers, workspace }: PipelineInput): Promise<void> {
  if (!servers.addresses) return;
  const child = startChild({
    name: 'logpipe setup',
    script: 'src/main.js',
    args: ['setup', '--config', file],
    cwd: workspace.path,
  });
  const timer = setTimeout(() => void child.end(0), SETUP_TIMEOUT_MS);
  const { status } = await child.exit;
  clearTimeout(timer);
  if (status !== 0) throw new LogpipeError('LOGPIPE_STACK_FAILED', endedMessage(child));
}

/** The configuration file as an object. */
function configuration(input: PipelineInput, port: number, linkSecret: string): object {
  const { servers, names, workspace, logFile, ndjsonDir, receivers } = input;
  const common = {
    alerts: {
      measuresFile: join(packageRoot(), 'config', 'measures.yml'),
      rulesFile: join(packageRoot(), 'examples', 'demo', 'rules.yml'),
      routingFile: join(packageRoot(), 'examples', 'demo', 'routing.yml'),
      journalDir: workspace.folder('alerts'),
    },
    // The key is none: it only has to be there.
    notify: {
      environment: 'demo',
      slack: { webhookUrl: receivers.slackUrl },
      pagerduty: { url: receivers.pagerdutyUrl, integrationKey: 'demo' },
    },
    http: {
      ...{ host: '127.0.0.1', port, publicUrl: `http://127.0.0.1:${port}` },
      linkSecrets: [linkSecret],
    },
    log: { level: 'info', format: 'json' },
  };
  if (!servers.addresses) {
    return {
      ...common,
      source: 'files',
      files: { paths: [logFile], follow: true, dataDir: workspace.folder('positions') },
      dlq: { file: join(workspace.path, 'dead-letters.ndjson') },
      sinks: {
        elasticsearch: false,
        console: { enabled: true, format: 'pretty' },
        ndjson: { enabled: true, dir: ndjsonDir },
      },
    };
  }
  return {
    ...common,
    source: 'kafka',
    kafka: {
      brokers: [servers.addresses.kafka],
      topics: {
        logs: names.logs,
        dlq: names.dlq,
        counts: names.counts,
        alerts: names.alerts,
        commands: names.commands,
      },
      group: names.groups.indexer,
      counterGroup: names.groups.counter,
      alerterGroup: names.groups.alerter,
    },
    elasticsearch: elasticsearchSection(servers.addresses.elasticsearch),
    // A person is watching: small, quick bulks.
    bulk: { maxDelayMs: 250 },
  };
}

/** A user name and password in the address go where the client expects them. */
function elasticsearchSection(address: string): object {
  const url = new URL(address);
  const { username, password } = url;
  url.username = '';
  url.password = '';
  const nodes = [url.href.replace(/\/$/, '')];
  if (username === '') return { nodes };
  return { nodes, username: decodeURIComponent(username), password: decodeURIComponent(password) };
}

/** The address in the pipeline's `running` line. */
function addressIn(line: string): string | undefined {
  try {
    const { message, url } = JSON.parse(line) as { message?: unknown; url?: unknown };
    return message === 'running' && typeof url === 'string' ? url : undefined;
  } catch {
    return undefined;
  }
}

/** Of what it serves under /metrics. */
export function countsIn(text: string, sink: string): PipelineCounts {
  const { read, indexed, duplicates, deadLettered, dropped, lag, firing } = countsOf(text);
  const sum = (counts: Iterable<number>) => [...counts].reduce((total, n) => total + n, 0);
  const indexing = [...lag].filter(([group]) => group.endsWith('indexer'));
  return {
    ...{ consumed: read, indexed: indexed.get(sink) ?? 0, duplicates, deadLettered: sum(deadLettered.values()) },
    ...{ dropped, firing, lag: sum(indexing.map(([, n]) => n)) },
  };
}
