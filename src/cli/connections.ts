// `logpipe check-config --connect`: is every server there that the configuration names? In: a configuration. Out: what each address
// says, in words. Guarantee: no message is sent and nothing is changed; each server has its own time limit, and none waits for
// another; no result holds a credential, nor the path of an address that is one.
import { readFile } from 'node:fs/promises';
import { connect as connectTcp, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { createTransport } from 'nodemailer';
import type { Config } from '../config.ts';
import { within } from '../core/clock.ts';
import { errorText, reasonInWords } from '../core/errors.ts';
import { silentLog } from '../core/log.ts';
import { oneLine } from '../core/safe-json.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { createElasticsearchClient, explainFailure } from '../indexing/elasticsearch.ts';
import { createBullProbe } from '../monitor/health-monitor.ts';
import { isLoopback, proxyFor } from '../notify/http-send.ts';
import { createKafka, explainKafkaFailure } from '../source/kafka/client.ts';

/** What one address says. */
export interface Connection {
  /** The key that names the server: `kafka.brokers`. */
  readonly path: string;
  /** Host and port, no more. */
  readonly address: string;
  readonly ok: boolean;
  /** What was found, or what is wrong with it. */
  readonly detail: string;
  readonly ms: number;
}

interface ConnectionsDeps {
  readonly masker: Masker;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** For each server. Default 8,000. */
  readonly timeoutMs?: number;
}

interface Attempt {
  readonly path: string;
  readonly address: string;
  /** What there is to say of a server that answers. */
  readonly ask: (signal: AbortSignal) => Promise<string>;
}

const TIMEOUT_MS = 8_000;
const MAX_DETAIL = 300;

/** Tries all at once, in the order of the configuration. Never rejects. */
export async function tryConnections(config: Config, deps: ConnectionsDeps): Promise<Connection[]> {
  const { masker, timeoutMs = TIMEOUT_MS } = deps;
  return Promise.all(
    attemptsOf(config, deps).map(async ({ path, address, ask }): Promise<Connection> => {
      const started = performance.now();
      const over = new AbortController();
      const result = (ok: boolean, detail: string): Connection => {
        const shown = oneLine(masker.text(detail), MAX_DETAIL);
        return { path, address, ok, detail: shown, ms: Math.round(performance.now() - started) };
      };
      try {
        return result(true, await within(ask(over.signal), timeoutMs, `no answer within ${timeoutMs / 1_000} s`));
      } catch (error) {
        return result(false, reasonInWords(error));
      } finally {
        over.abort();
      }
    }),
  );
}

function attemptsOf(config: Config, { env }: ConnectionsDeps): Attempt[] {
  const { kafka, elasticsearch, sinks, monitor, notify, alerts, kibana, source } = config;
  const attempts: Attempt[] = [];
  if (source === 'kafka') {
    for (const broker of kafka.brokers) {
      const at = broker.lastIndexOf(':');
      const host = bare(broker.slice(0, at));
      // Logged in, when all of them are asked as one cluster.
      attempts.push({
        path: 'kafka.brokers',
        address: broker,
        ask: (signal) => reach({ host, port: Number(broker.slice(at + 1)), tls: false }, signal),
      });
    }
    attempts.push({ path: 'kafka', address: kafka.brokers.join(', '), ask: (signal) => askKafka(config, signal) });
  }
  if (sinks.elasticsearch) {
    for (const node of elasticsearch.nodes) {
      const ask = () => askElasticsearch({ ...elasticsearch, nodes: [node] });
      attempts.push({ path: 'elasticsearch.nodes', address: addressOf(node), ask });
    }
  }
  if (monitor.enabled && monitor.redisUrl !== undefined) {
    const { redisUrl, bullPrefix: prefix, timeoutMs } = monitor;
    attempts.push({
      path: 'monitor.redisUrl',
      address: addressOf(redisUrl),
      ask: async (signal) => {
        const { protocol, hostname, port } = new URL(redisUrl);
        // Its client says of every failed connection that it is closed.
        await reach({ host: bare(hostname), port: Number(port || 6379), tls: protocol === 'rediss:' }, signal);
        const probe = createBullProbe({ redisUrl, prefix, timeoutMs });
        const readings = await probe.run(signal).finally(() => probe.close());
        const queues = new Set(readings.map(({ labels }) => labels['queue.name']).filter((name) => name !== undefined));
        return `answers; ${queues.size} queues of prefix ${prefix}`;
      },
    });
  }
  const addresses: readonly (readonly [string, string | undefined])[] = [
    ['notify.slack.webhookUrl', notify.slack.webhookUrl],
    ['notify.pagerduty.url', notify.pagerduty.integrationKey === undefined ? undefined : notify.pagerduty.url],
    ...(notify.alertmanager.urls ?? []).map((url, i) => [`notify.alertmanager.urls.${i}`, url] as const),
    ['notify.webhook.url', notify.webhook.url],
    ['alerts.heartbeatUrl', alerts.heartbeatUrl],
  ];
  for (const [path, address] of addresses) if (address !== undefined) attempts.push(atAddress(path, address, env));
  if (notify.email.host !== undefined) attempts.push(atMailServer(notify.email));
  // Everybody has its default; only who means it has changed something.
  if (addressOf(kibana.url) !== 'localhost:5601' || kibana.apiKey !== undefined || kibana.username !== undefined) {
    attempts.push(
      atAddress('kibana.url', kibana.url, env, kibana.caFile === undefined ? {} : { caFile: kibana.caFile }),
    );
  }
  return attempts;
}

async function askKafka({ kafka }: Config, signal: AbortSignal): Promise<string> {
  const admin = createKafka(kafka, silentLog).admin();
  const leave = () => void admin.disconnect().catch(() => {});
  signal.addEventListener('abort', leave, { once: true });
  try {
    await admin.connect();
    const [{ brokers }, present] = await Promise.all([admin.describeCluster(), admin.listTopics()]);
    const { logs, dlq, counts, alerts, commands } = kafka.topics;
    const missing = [logs, dlq, counts, alerts, commands].filter(
      (name) => name !== undefined && !present.includes(name),
    );
    const topics =
      missing.length === 0 ? 'all topics are there' : `no topic ${missing.join(', ')} yet: run logpipe setup`;
    return `a cluster of ${brokers.length} broker${brokers.length === 1 ? '' : 's'}; ${topics}`;
  } catch (error) {
    throw new Error(explainKafkaFailure(error));
  }
}

async function askElasticsearch(config: Config['elasticsearch']): Promise<string> {
  const client = createElasticsearchClient(config);
  try {
    const { version, cluster_name: cluster } = await client.info();
    return `Elasticsearch ${version.number}, cluster ${cluster}`;
  } catch (error) {
    throw await explainFailure(error, config);
  } finally {
    await client.close();
  }
}

/** An address that a request would be a message to: its machine is reached, the certificate looked at, and nothing sent. */
function atAddress(
  path: string,
  url: string,
  env: ConnectionsDeps['env'],
  { caFile }: { caFile?: string } = {},
): Attempt {
  const { protocol, hostname } = new URL(url);
  const address = addressOf(url);
  return {
    path,
    address,
    ask: async (signal) => {
      const proxy = isLoopback(hostname) ? undefined : proxyFor(new URL(url), env);
      if (proxy !== undefined) {
        const way = `${proxy.host}:${proxy.port}`;
        const found = await reach({ host: proxy.host, port: proxy.port, tls: proxy.protocol === 'https:' }, signal);
        return `its proxy ${way} ${found}; what lies behind it was not tried`;
      }
      const at = address.lastIndexOf(':');
      const host = bare(address.slice(0, at));
      return reach({ host, port: Number(address.slice(at + 1)), tls: protocol === 'https:', caFile }, signal);
    },
  };
}

function atMailServer({ host = '', port, secure, username, password }: Config['notify']['email']): Attempt {
  return {
    path: 'notify.email.host',
    address: `${host}:${port}`,
    ask: async (signal) => {
      await reach({ host, port, tls: false }, signal);
      const transport = createTransport({
        ...{ host, port, secure },
        ...(username === undefined ? {} : { auth: { user: username, pass: password ?? '' } }),
        ...(isLoopback(host) ? { ignoreTLS: true } : { requireTLS: username !== undefined }),
        disableFileAccess: true,
        disableUrlAccess: true,
      });
      signal.addEventListener('abort', () => transport.close(), { once: true });
      await transport.verify();
      return username === undefined ? 'a mail server answers' : 'a mail server answers and takes the login';
    },
  };
}

interface Place {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  readonly caFile?: string | undefined;
}

/** Resolves when a connection stands; with TLS when the certificate is believed. */
async function reach({ host, port, tls, caFile }: Place, signal: AbortSignal): Promise<string> {
  const ca = caFile === undefined ? {} : { ca: await readFile(caFile) };
  return new Promise((resolve, reject) => {
    const done = () => {
      socket.destroy();
      resolve(tls ? 'is there, and its certificate is believed' : 'is there');
    };
    const socket = tls
      ? connectTls({ host, port, ...ca, ...(isIP(host) === 0 ? { servername: host } : {}) }, done)
      : connectTcp({ host, port }, done);
    socket.once('error', (error) =>
      reject(isCertificate(error) ? new Error(`its certificate is not believed (${errorText(error)})`) : error),
    );
    signal.addEventListener('abort', () => socket.destroy(), { once: true });
  });
}

function isCertificate(error: NodeJS.ErrnoException): boolean {
  return /CERT|VERIFY_LEAF|SELF_SIGNED|ALTNAME/.test(error.code ?? '');
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443, 'redis:': 6379, 'rediss:': 6379 };

/** An IPv6 address without its brackets. */
function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

/** Without user, password and path. */
function addressOf(url: string): string {
  const { protocol, hostname, port } = new URL(url);
  return `${hostname}:${port === '' ? (DEFAULT_PORTS[protocol] ?? '?') : port}`;
}
