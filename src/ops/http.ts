// The local HTTP server: liveness, readiness, metrics, health; and where the page (page.ts) and the API (api.ts) are reached. All but the API answers
// from memory, never from a dependency, so that a slow Elasticsearch cannot make a probe time out. Guarantee: a web page in somebody's
// browser cannot read it by making its own name resolve to this machine (DNS rebinding): the Host header is checked, except for the
// probes /live and /ready. Whoever calls by the public name gets nothing but the page's files without a token: those are everybody's anyway. A request that comes too slowly, or
// with a method that nothing here has, is refused.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import type { Clock } from '../core/clock.ts';
import { LogpipeError, reasonInWords } from '../core/errors.ts';
import type { Metrics } from '../core/metrics.ts';
import { type AccessConfig, accessProperties, isLoopback } from './access.ts';
import type { AlertingStatus, AlertingView, RuleExplanation } from './explain.ts';
import { isStatsWindow, PLATFORM_CONTENT_TYPE, type PlatformView, STATS_WINDOWS } from './stats.ts';

// ---- GET /api/v1/status: how this instance stands, for `logpipe top` and `logpipe rules explain` ----

// What is said of the alerts comes from explain.ts, which the indexer alone does not load.

/** One dependency's state, as /ready shows it. */
export interface Readiness {
  readonly name: string;
  readonly ready: boolean;
  readonly detail: string;
}

export interface Status {
  readonly version: string;
  /** ISO 8601, by this host's clock. */
  readonly timestamp: string;
  readonly uptimeSeconds: number;
  readonly roles: readonly string[];
  readonly source: string;
  /** The consumer group of the indexer, by which its lag is found in /metrics; null without Kafka. */
  readonly group: string | null;
  readonly ready: boolean;
  readonly dependencies: readonly Readiness[];
  /** Null where alerts are not evaluated. */
  readonly alerting: AlertingStatus | null;
}

interface StatusView {
  status(): Status;
  /** `elsewhere`: alerts are not evaluated here. Undefined: there is no such rule. */
  rule(id: string): RuleExplanation | 'elsewhere' | undefined;
}

interface StatusDeps {
  readonly clock: Clock;
  readonly readiness: () => readonly Readiness[];
  /** Undefined where alerts are not evaluated, or not yet. */
  readonly alerting: () => AlertingView | undefined;
}

export function createStatusView(
  about: Pick<Status, 'version' | 'roles' | 'source' | 'group'>,
  { clock, readiness, alerting }: StatusDeps,
): StatusView {
  const startedMs = clock.monotonicMs();
  return {
    status() {
      const dependencies = readiness();
      return {
        ...about,
        timestamp: new Date(clock.now()).toISOString(),
        uptimeSeconds: Math.round((clock.monotonicMs() - startedMs) / 1_000),
        ready: dependencies.every(({ ready }) => ready),
        dependencies,
        alerting: alerting()?.status() ?? null,
      };
    },
    rule(id) {
      const view = alerting();
      return view === undefined ? 'elsewhere' : view.rule(id);
    },
  };
}

// ---- the server ----

export const httpSection = {
  type: 'object',
  description:
    'The local HTTP server with /live, /ready, /metrics, /api/v1/health and /api/v1/status, the page at /, and the API of both.',
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
    page: {
      type: 'boolean',
      default: true,
      description:
        'Serve the page at `/`. Its files are open to whoever reaches the server; what it shows is not: docs/api.md, "Who may do what".',
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
        'Names, without a port, under which the server may be called besides `localhost`, `127.0.0.1` and `[::1]`. When it is bound to a loopback address (127.0.0.1, ::1), requests for any other name are refused with status 421; otherwise only if names are listed here. The probes `/live` and `/ready` answer under any name.',
    },
    ...accessProperties,
  },
} as const;

export interface HttpConfig extends AccessConfig {
  readonly enabled: boolean;
  readonly host: string;
  readonly port: number;
  readonly page: boolean;
  readonly allowedHosts: readonly string[];
}

export interface HttpServer {
  /** `http://host:port` as bound. */
  readonly url: string;
  close(): Promise<void>;
}

/** The API (api.ts), which the indexer alone does not load before it is asked for. */
export interface ApiHandler {
  handle(request: IncomingMessage, response: ServerResponse, next: () => void): void;
}

/** The page's files (page.ts). */
export interface PageFiles {
  handle(request: IncomingMessage, response: ServerResponse): void;
}

/** @throws LogpipeError LOGPIPE_USAGE when the address cannot be bound. */
export async function startHttp(
  config: Omit<HttpConfig, 'page'>,
  deps: {
    metrics: Metrics;
    clock: Clock;
    readiness: () => readonly Readiness[];
    platform: PlatformView;
    status: StatusView;
    /** Loaded by the first request to it. */
    api?: () => Promise<ApiHandler>;
    /** So is this; absent where there is no page. */
    page?: (() => Promise<PageFiles>) | undefined;
  },
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
  // All partitions are known only where the alerts are evaluated: everywhere else these paths say so instead of telling half the
  // truth.
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
  app.get('/api/v1/status', (c) => {
    const id = c.req.query('rule');
    if (id === undefined) return c.json(deps.status.status());
    const rule = deps.status.rule(id);
    if (rule === 'elsewhere') {
      return c.json({ success: false, message: 'the alerts are not evaluated here; ask the instance that does' }, 503);
    }
    return rule === undefined
      ? c.json({ success: false, message: `rule: there is no rule of the id "${id.slice(0, 80)}"` }, 404)
      : c.json(rule);
  });
  app.notFound((c) =>
    c.json(
      {
        error: `${c.req.path} is not served; try ${deps.page === undefined ? '' : '/, '}/live, /ready, /metrics, /metrics/platform, /api/v1/stats or /api/v1/status`,
      },
      404,
    ),
  );

  // Hono's own Response in the global one's place would be taken by what is loaded later, and live.ts needs the real one.
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  let mayAsk: HostCheck = () => false;
  const publicName = config.publicUrl === undefined ? undefined : hostName(new URL(config.publicUrl).host);

  // When HTTP/1.1's mandatory Host header is missing, Node itself answers 400.
  function answer(request: IncomingMessage, response: ServerResponse): void {
    const isPermitted = METHODS.has(request.method ?? '');
    if (!isPermitted || !mayAsk(request)) {
      (isPermitted ? refuseHost : refuseMethod)(response);
      return;
    }
    const target = request.url ?? '';
    const byPublicName = publicName !== undefined && hostName(request.headers.host ?? '') === publicName;
    const next = () => {
      // Nothing depends on the header from here on, and an odd one is no reason to refuse a probe.
      request.headers.host = 'localhost';
      void listener(request, response);
    };
    if (deps.page !== undefined && isPagePath(target)) {
      deps.page().then(
        (page) => page.handle(request, response),
        () => response.writeHead(500).end(),
      );
      return;
    }
    const guarded = isApiPath(target) || (byPublicName && !OPEN.has(pathOf(target)));
    if (deps.api === undefined || !guarded) next();
    else {
      deps.api().then(
        (api) => api.handle(request, response, next),
        () => response.writeHead(500).end(),
      );
    }
  }
  const server = createServer(PATIENCE, answer);
  // Whoever asks before sending a body is told by the same code whether to send it.
  server.on('checkContinue', answer);

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
      const names = publicName === undefined ? config.allowedHosts : [...config.allowedHosts, publicName];
      mayAsk = createHostCheck(config.allowedHosts, names, address, host);
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

/** A request whose headers take longer than 5 s, or all of which takes longer than 10 s, gets 408. */
const PATIENCE = { headersTimeout: 5_000, requestTimeout: 10_000, connectionsCheckingInterval: 1_000 } as const;
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'DELETE']);

const API_PATHS =
  /^\/(?:api\/v1\/(?:alerts|silences|oncall|rates|incidents|commands|webhooks|session|live|figures|series|search|charts|events|jobs)(?:[/?]|$)|a\/)/;

/** Whether a request is for the API. @param target of the request, with its query */
export function isApiPath(target: string): boolean {
  return API_PATHS.test(target);
}

const PAGE_PATHS = /^\/(?:index\.html|favicon\.ico|assets\/.*|docs\/.*)?$/;

function isPagePath(target: string): boolean {
  return PAGE_PATHS.test(pathOf(target));
}

function pathOf(target: string): string {
  return target.split('?', 1)[0]!;
}

function refuseMethod(response: ServerResponse): void {
  const headers = { allow: [...METHODS].join(', '), 'content-type': 'application/problem+json', connection: 'close' };
  response.writeHead(405, headers);
  const detail = `permitted here: ${headers.allow}`;
  response.end(`${JSON.stringify({ type: 'about:blank', title: 'Method Not Allowed', status: 405, detail })}\n`);
}

type HostCheck = (request: IncomingMessage) => boolean;

const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '[::1]'] as const;
/** Probes come from orchestrators that call a container by its address, and learn only whether it works. */
const UNCHECKED = new Set(['/live', '/ready']);
/** What everybody may ask who reaches this server: it says only whether it works. */
const OPEN: ReadonlySet<string> = new Set([...UNCHECKED, '/api/v1/health']);

/**
 * @param listed `http.allowedHosts`; `allowed`: those, and the public name
 * @param bound the listening address; `boundHost`: the same as written in a URL
 */
function createHostCheck(
  listed: readonly string[],
  allowed: readonly string[],
  bound: string,
  boundHost: string,
): HostCheck {
  if (!isLoopback(bound) && listed.length === 0) return () => true;
  // A stranger's page can make none of these names point to this machine.
  const names = new Set([...LOOPBACK_NAMES, boundHost, ...allowed].map((name) => name.toLowerCase()));
  return (request) => {
    const target = request.url ?? '';
    if (UNCHECKED.has(pathOf(target))) return true;
    // Of several headers, every reader picks a different one; and a target with a host of its own takes precedence over the
    // header.
    const hosts = request.rawHeaders.filter(
      (_, i) => i % 2 === 1 && request.rawHeaders[i - 1]!.toLowerCase() === 'host',
    );
    if (hosts.length !== 1 || !target.startsWith('/')) return false;
    const name = hostName(hosts[0]!);
    return name !== undefined && names.has(name);
  };
}

/** Without port and final dot, in lower case; undefined for what is not a host. */
function hostName(header: string): string | undefined {
  const name = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::\d{1,5})?$/i.exec(header)?.[1]?.toLowerCase();
  return name?.endsWith('.') ? name.slice(0, -1) : name;
}

function refuseHost(response: ServerResponse): void {
  const text =
    'This server is not called by that name. Call it localhost, 127.0.0.1 or [::1], or add the name to http.allowedHosts.';
  response.writeHead(421, { 'content-type': 'application/json; charset=utf-8' });
  response.end(`${JSON.stringify({ error: text })}\n`);
}
