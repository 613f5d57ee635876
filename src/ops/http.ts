// The local HTTP server: liveness, readiness, metrics, health. Answers from memory, never from a dependency, so that a
// slow Elasticsearch cannot make a probe time out.
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import type { Clock } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Metrics } from '../core/metrics.ts';
import { PLATFORM_CONTENT_TYPE } from './platform-metrics.ts';
import type { PlatformView } from './platform-view.ts';
import { isStatsWindow, STATS_WINDOWS } from './stats.ts';

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
  },
} as const;

export interface HttpConfig {
  readonly enabled: boolean;
  readonly host: string;
  readonly port: number;
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

  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, hostname: config.host, port: config.port }, (address) => {
      const host = address.family === 'IPv6' ? `[${address.address}]` : address.address;
      resolve({
        url: `http://${host}:${address.port}`,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            // A scraper's kept-alive connection must not hold up the shutdown.
            if ('closeAllConnections' in server) server.closeAllConnections();
          }),
      });
    });
    server.once('error', (error: Error) =>
      reject(
        new LogpipeError(
          'LOGPIPE_USAGE',
          `http: ${config.host}:${config.port} cannot be bound (${errorText(error)}); choose another http.port, or 0 for a free one`,
          error,
        ),
      ),
    );
  });
}
