// The HTTP side of the platform: requests in, answers and one `http.request` event per request out.
import { Hono } from 'hono';
import { routePath } from 'hono/route';
import type { Clock } from '../../src/core/clock.ts';
import { isStatsWindow, STATS_WINDOWS } from '../../src/ops/stats.ts';
import type { Call, CallOrder, Calls } from './calls.ts';
import { PlatformError } from './faults.ts';
import { INCIDENT_KINDS, type Incident, isIncidentKind } from './incident.ts';
import type { AppLog } from './log.ts';
import type { PlatformMetrics } from './metrics.ts';
import type { Pool } from './pools.ts';
import type { Queue } from './queues.ts';
import type { Random } from './random.ts';
import type { PlatformStats } from './stats.ts';

export interface AppDeps {
  clock: Clock;
  random: Random;
  log: AppLog;
  incident: Incident;
  calls: Calls;
  scheduled: Queue<Call>;
  mongodb: Pool;
  redis: Pool;
  metrics: PlatformMetrics;
  stats: PlatformStats;
}

interface Env {
  Variables: { requestId: string; traceId: string };
}

const MAX_INCIDENT_SECONDS = 86_400;

export function createApp(deps: AppDeps): Hono<Env> {
  const { clock, random, log, incident, calls, scheduled, mongodb, redis, metrics, stats } = deps;
  const app = new Hono<Env>();

  app.use(async (c, next) => {
    // A scraper is not a visitor: it would look like traffic on the quietest night.
    if (c.req.path === '/metrics') return next();
    const begin = clock.now();
    c.set('requestId', c.req.header('x-request-id') ?? `req-${random.hex(16)}`);
    c.set('traceId', c.req.header('x-trace-id') ?? random.hex(32));
    await next();
    const route = routePath(c, -1);
    log.info('Request served', {
      event: 'http.request',
      requestId: c.get('requestId'),
      traceId: c.get('traceId'),
      http: {
        method: c.req.method,
        // Requests that no route answers are one series, whatever they asked for.
        route: route.endsWith('*') ? 'none' : route,
        status: c.res.status,
        durationMs: Math.round((clock.now() - begin) * 1000) / 1000,
      },
    });
  });

  app.get('/api/v1/health', (c) =>
    c.json({ success: true, message: 'API is running', timestamp: new Date(clock.now()).toISOString() }),
  );

  app.get('/api/v1/stats', (c) => {
    const window = c.req.query('window') ?? '24h';
    if (isStatsWindow(window)) return c.json(stats.of(window, clock.now()));
    const permitted = Object.keys(STATS_WINDOWS).join(', ');
    return c.json({ success: false, message: `window: must be one of ${permitted}` }, 400);
  });

  app.get('/metrics', async (c) =>
    c.text(await metrics.registry.metrics(), 200, { 'content-type': metrics.registry.contentType }),
  );

  app.post('/api/v1/calls', async (c) => {
    const body = await jsonBody(c.req);
    if (body?.direction !== 'inbound' && body?.direction !== 'outbound') {
      return c.json({ success: false, message: 'direction: must be inbound or outbound' }, 400);
    }
    const order: CallOrder = {
      direction: body.direction,
      tenantId: text(body.tenantId, 'tenant-1'),
      campaignId: text(body.campaignId, 'campaign-1'),
      userId: text(body.userId, 'user-1'),
      traceId: c.get('traceId'),
      requestId: c.get('requestId'),
      attempt: 1,
    };
    await mongodb.run('insert calls');
    const call = calls.create(order);
    if (order.direction === 'inbound') {
      calls.begin(call);
      return c.json({ success: true, data: view(call) }, 201);
    }
    await redis.run('rpush scheduled-calls');
    scheduled.add(call);
    return c.json({ success: true, data: view(call) }, 202);
  });

  app.get('/api/v1/calls/:id', async (c) => {
    await mongodb.run('find calls');
    const call = calls.get(c.req.param('id'));
    if (!call) return c.json({ success: false, message: 'no such call' }, 404);
    return c.json({ success: true, data: view(call) });
  });

  app.post('/admin/incident', async (c) => {
    const body = await jsonBody(c.req);
    const { kind, seconds } = body ?? {};
    if (!isIncidentKind(kind)) {
      return c.json({ success: false, message: `kind: must be one of ${INCIDENT_KINDS.join(', ')}` }, 400);
    }
    if (typeof seconds !== 'number' || !(seconds > 0 && seconds <= MAX_INCIDENT_SECONDS)) {
      return c.json({ success: false, message: `seconds: must be above 0 and at most ${MAX_INCIDENT_SECONDS}` }, 400);
    }
    const { until } = incident.start(kind, seconds);
    return c.json({ success: true, data: { kind, until: new Date(until).toISOString() } });
  });

  app.delete('/admin/incident', (c) => {
    incident.stop();
    return c.json({ success: true });
  });

  app.notFound((c) => c.json({ success: false, message: 'not found' }, 404));

  app.onError((error, c) => {
    const status = error instanceof PlatformError ? error.httpStatus : 500;
    const ids = { requestId: c.get('requestId'), traceId: c.get('traceId') };
    // A provider's failure has already been logged with its call.
    if (status === 500) log.error(`Request failed: ${error.message}`, { ...ids, error });
    return c.json({ success: false, message: 'the request could not be served' }, status as 500 | 503 | 504);
  });

  return app;
}

/** The body as an object; undefined when it is not one. */
async function jsonBody(request: { json(): Promise<unknown> }): Promise<Record<string, unknown> | undefined> {
  const body = await request.json().catch(() => undefined);
  return typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : undefined;
}

function text(value: unknown, otherwise: string): string {
  return typeof value === 'string' && value !== '' && value.length <= 64 ? value : otherwise;
}

function view(call: Call): object {
  const { id, direction, status, attempt, durationMs } = call;
  return { id, direction, status, attempt, durationMs: durationMs ?? null };
}
