// The local HTTP server: liveness, readiness, metrics, health. Answers from memory, never from a dependency, so that a slow
// Elasticsearch cannot make a probe time out. Guarantee: a page that somebody opens in a browser cannot read it by giving
// its own name this machine's address (DNS rebinding): the Host header is checked, but for the probes /live and /ready.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import type { Clock } from '../core/clock.ts';
import { LogpipeError, reasonInWords } from '../core/errors.ts';
import type { Metrics } from '../core/metrics.ts';
import { isStatsWindow, PLATFORM_CONTENT_TYPE, type PlatformView, STATS_WINDOWS } from './stats.ts';

export const httpSection = {
  type: 'object',
  description: 'The local HTTP server with /live, /ready, /metrics and /api/v1/health.',
  additionalProperties: false,
  default: {},
  properties: {
    enabled: { type: 'boolean', default: true, description: 'Serve HTTP.' },
    host: { type: 'string', minLength: 1, default: '127.0.0.1', description: 'Address to bind.' },
    port: {
      type: 'integer',
      minimum: 0,
      maximum: 65_535,
      default: 8780,
      description: 'Port to bind; 0 takes a free one, which is logged.',
    },
    allowedHosts: {
      type: 'array',
      items: {
        type: 'string',
        pattern: '^[A-Za-z0-9._-]+$|^\\[[0-9A-Fa-f:.]+\\]$',
        permitted: 'names without scheme and port, like logs.example.org',
      },
      uniqueItems: true,
      default: [],
      description:
        'Names, without a port, under which it is called beside `localhost`, `127.0.0.1` and `[::1]`. Bound to this machine alone (127.0.0.1, ::1), requests for any other name are refused with status 421; bound elsewhere, only if names are listed here. The probes `/live` and `/ready` answer under any name.',
    },
  },
} as const;

export interface HttpConfig {
  readonly enabled: boolean;
  readonly host: string;
  readonly port: number;
  readonly allowedHosts: readonly string[];
}

/** One dependency's state, as /ready shows it. */
export interface Readiness {
  readonly name: string;
  readonly ready: boolean;
  readonly detail: string;
}

export interface HttpServer {
  /** `http://host:port` as bound. */
  readonly url: string;
  close(): Promise<void>;
}

/** @throws LogpipeError LOGPIPE_USAGE when the address cannot be bound. */
export async function startHttp(
  config: HttpConfig,
  deps: { metrics: Metrics; clock: Clock; readiness: () => readonly Readiness[]; platform: PlatformView },
): Promise<HttpServer> {
  const app = new Hono();
  app.get('/live', (c) => c.json({ live: true }));
  app.get('/ready', (c) => {
    const dependencies = deps.readiness();
    const ready = dependencies.every((dependency) => dependency.ready);
    return c.json({ ready, dependencies }, ready ? 200 : 503);
  });
  app.get('/metrics', async (c) =>
    c.text(await deps.metrics.registry.metrics(), 200, { 'content-type': deps.metrics.registry.contentType }),
  );
  app.get('/api/v1/health', (c) =>
    c.json({ success: true, message: 'API is running', timestamp: new Date(deps.clock.now()).toISOString() }),
  );
  // Only where the alerts are evaluated are all partitions known: everywhere else these say so instead of half the truth.
  app.get('/metrics/platform', (c) => {
    const text = deps.platform.metrics();
    return text === undefined
      ? c.text('# not the alerter\n', 503, { 'content-type': PLATFORM_CONTENT_TYPE })
      : c.text(text, 200, { 'content-type': PLATFORM_CONTENT_TYPE });
  });
  app.get('/api/v1/stats', (c) => {
    const window = c.req.query('window') ?? '24h';
    if (!isStatsWindow(window)) {
      const permitted = Object.keys(STATS_WINDOWS).join(', ');
      return c.json({ success: false, message: `window: found "${window}"; permitted: ${permitted}` }, 400);
    }
    const stats = deps.platform.stats(window);
    return stats === undefined
      ? c.json({ success: false, message: 'the alerts are not evaluated here; ask the instance that does' }, 503)
      : c.json(stats);
  });
  app.notFound((c) =>
    c.json(
      { error: `${c.req.path} is not served; try /live, /ready, /metrics, /metrics/platform or /api/v1/stats` },
      404,
    ),
  );

  const listener = getRequestListener(app.fetch);
  let mayAsk: HostCheck = () => false;
  // Without a Host header, which HTTP/1.1 asks for, Node answers 400 itself.
  const server = createServer((request, response) => {
    if (!mayAsk(request)) return refuseHost(response);
    // Nothing here depends on it, and a probe's odd one is no reason to refuse it.
    request.headers.host = 'localhost';
    void listener(request, response);
  });

  return new Promise((resolve, reject) => {
    server.once('error', (error: Error) =>
      reject(
        new LogpipeError(
          'LOGPIPE_USAGE',
          `http: ${config.host}:${config.port} cannot be bound (${reasonInWords(error)}); choose another http.port, or 0 for a free one`,
          error,
        ),
      ),
    );
    server.listen(config.port, config.host, () => {
      const { address, port, family } = server.address() as AddressInfo;
      const host = family === 'IPv6' ? `[${address}]` : address;
      mayAsk = createHostCheck(config.allowedHosts, address, host);
      resolve({
        url: `http://${host}:${port}`,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            // A scraper's kept-alive connection must not hold up the shutdown.
            server.closeAllConnections();
          }),
      });
    });
  });
}

type HostCheck = (request: IncomingMessage) => boolean;

const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '[::1]'] as const;
/** Probes come from machinery that calls a container by its address; they tell no more than whether it works. */
const UNCHECKED = new Set(['/live', '/ready']);

/** @param bound the address that is listened on, and as it stands in a URL */
function createHostCheck(allowedHosts: readonly string[], bound: string, boundHost: string): HostCheck {
  if (!isLoopback(bound) && allowedHosts.length === 0) return () => true;
  // None of these can be made to mean another machine, or this one for a stranger's page.
  const names = new Set([...LOOPBACK_NAMES, boundHost, ...allowedHosts].map((name) => name.toLowerCase()));
  return (request) => {
    const target = request.url ?? '';
    if (UNCHECKED.has(target.split('?', 1)[0]!)) return true;
    // Of several, each reader picks another one; and a target with a host of its own goes before the header.
    const hosts = request.rawHeaders.filter(
      (_, i) => i % 2 === 1 && request.rawHeaders[i - 1]!.toLowerCase() === 'host',
    );
    if (hosts.length !== 1 || !target.startsWith('/')) return false;
    const name = hostName(hosts[0]!);
    return name !== undefined && names.has(name);
  };
}

/** Without port and final dot, in lower case; undefined for what is no host. */
function hostName(header: string): string | undefined {
  const name = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::\d{1,5})?$/i.exec(header)?.[1]?.toLowerCase();
  return name?.endsWith('.') ? name.slice(0, -1) : name;
}

function isLoopback(address: string): boolean {
  return address === '::1' || /^(?:::ffff:)?127\./i.test(address);
}

function refuseHost(response: ServerResponse): void {
  const text =
    'This server is not called by that name. Call it localhost, 127.0.0.1 or [::1], or add the name to http.allowedHosts.';
  response.writeHead(421, { 'content-type': 'application/json; charset=utf-8' });
  response.end(`${JSON.stringify({ error: text })}\n`);
}
