// `logpipe/http` in real Express and Fastify applications over real connections: exactly one event per request, with the
// route as it was written, and nothing a visitor chose in it.
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import type { NextFunction, Request, Response } from 'express';
import express from 'express';
import fastify from 'fastify';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { expressRequests, fastifyRequests, type HttpRequestsOptions } from '../../src/ship/http-requests.ts';
import { createEventCheck } from '../../src/tag/tag.ts';

type Logged = Record<string, unknown> & { http: { durationMs: number } };

interface Served {
  url: string;
  port: number;
  events: Logged[];
  /** Resolves when a request hangs in `/api/v1/slow/:id`. */
  hanging: Promise<void>;
}
type Serve = (options?: Partial<HttpRequestsOptions>) => Promise<Served>;

function recorder(options: Partial<HttpRequestsOptions> = {}) {
  const events: Logged[] = [];
  const info = (message: string, meta: Record<string, unknown>) =>
    void events.push({ message, ...meta } as unknown as Logged);
  let hangs = () => {};
  const hanging = new Promise<void>((resolve) => {
    hangs = resolve;
  });
  return { events, hanging, hangs, settings: { logger: { info }, ...options } };
}

async function listen(server: Server): Promise<{ url: string; port: number }> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, port };
}

const serveExpress: Serve = async (options) => {
  const { events, hanging, hangs, settings } = recorder(options);
  const app = express();
  app.set('env', 'test');
  app.use(expressRequests(settings));
  app.get('/health', (_request: Request, response: Response) => void response.json({ ok: true }));
  const calls = express.Router();
  calls.get('/calls/:id', (_request, response) => void response.json({ ok: true }));
  calls.post('/calls', express.json(), (_request, response) => void response.status(201).end());
  calls.get('/broken/:id', async () => Promise.reject(new Error('broken')));
  calls.get('/slow/:id', () => hangs());
  calls.get('/stream', (_request, response) => {
    response.write('begun');
    hangs();
  });
  app.use('/api/v1', calls);
  const tenant = express.Router({ mergeParams: true });
  tenant.get('/calls/:call', (request, response) => void response.json(request.params));
  tenant.get('/', (_request, response) => void response.end());
  tenant.get('/broken', () => {
    throw new Error('broken');
  });
  app.use('/tenants/:tenant', tenant);
  app.use('/files', (request: Request, response: Response, next: NextFunction) => {
    if (request.url === '/there') response.end('there');
    else next();
  });
  return { events, hanging, ...(await listen(createServer(app as unknown as RequestListener))) };
};

const serveFastify: Serve = async (options) => {
  const { events, hanging, hangs, settings } = recorder(options);
  const app = fastify();
  await app.register(fastifyRequests(settings));
  app.get('/health', async () => ({ ok: true }));
  await app.register(
    async (calls) => {
      calls.get('/calls/:id', async () => ({ ok: true }));
      calls.post('/calls', async (_request, reply) => reply.status(201).send());
      calls.get('/broken/:id', async () => {
        throw new Error('broken');
      });
      calls.get('/slow/:id', (_request, _reply) => hangs());
      calls.get('/stream', (_request, reply) => {
        reply.hijack();
        reply.raw.write('begun');
        hangs();
      });
    },
    { prefix: '/api/v1' },
  );
  await app.listen({ port: 0, host: '127.0.0.1' });
  onTestFinished(async () => {
    app.server.closeAllConnections();
    await app.close();
  });
  const { port } = app.server.address() as AddressInfo;
  return { events, hanging, url: `http://127.0.0.1:${port}`, port };
};

const logged = (events: readonly unknown[], count: number) =>
  vi.waitFor(() => expect(events).toHaveLength(count), { timeout: 10_000, interval: 2 });

const event = (method: string, route: string, status: number, more: object = {}) => ({
  message: 'Request served',
  event: 'http.request',
  ...more,
  http: { method, route, status, durationMs: expect.any(Number) },
});

describe.each([
  ['Express', serveExpress],
  ['Fastify', serveFastify],
])('%s', (_name, serve) => {
  test('one exact event per request: success, error, unknown address', async () => {
    const { url, events } = await serve();
    const get = async (path: string, init: RequestInit = {}) => {
      const before = events.length;
      const response = await fetch(url + path, init);
      await response.arrayBuffer();
      await logged(events, before + 1);
      return response.status;
    };
    expect(await get('/health')).toBe(200);
    expect(await get('/api/v1/calls/CA123?token=hidden', { headers: { 'x-request-id': 'req-1' } })).toBe(200);
    const body = { body: '{}', headers: { 'content-type': 'application/json' } };
    expect(await get('/api/v1/calls', { method: 'POST', ...body })).toBe(201);
    expect(await get('/api/v1/broken/7', { headers: { 'x-request-id': 'no id: "quoted"' } })).toBe(500);
    expect(await get('/api/v1/nothing/here?password=hidden')).toBe(404);
    expect(await get('/.env')).toBe(404);
    expect(events).toEqual([
      event('GET', '/health', 200),
      event('GET', '/api/v1/calls/:id', 200, { requestId: 'req-1' }),
      event('POST', '/api/v1/calls', 201),
      event('GET', '/api/v1/broken/:id', 500),
      event('GET', 'none', 404),
      event('GET', 'none', 404),
    ]);
    expect(JSON.stringify(events)).not.toContain('hidden');
    const keepsContract = createEventCheck();
    expect(events.filter((one) => !keepsContract(one))).toEqual([]);
    for (const { http } of events) expect(http.durationMs).toBeGreaterThan(0);
  });

  test('a client that leaves is 499 before an answer, and the status sent once there was one', async () => {
    for (const [path, route, status] of [
      ['/api/v1/slow/9', '/api/v1/slow/:id', 499],
      ['/api/v1/stream', '/api/v1/stream', 200],
    ] as const) {
      const { port, events, hanging } = await serve();
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => undefined);
      socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
      await hanging;
      expect(events).toEqual([]);
      socket.destroy();
      await logged(events, 1);
      expect(events).toEqual([event('GET', route, status)]);
    }
  });

  test('what the application asks not to log, and secrets in what it logs', async () => {
    const token = `sk-${'a1'.repeat(12)}`;
    const { url, events } = await serve({ ignoreRoutes: ['/health'], requestIdHeader: 'X-Trace' });
    await (await fetch(`${url}/health`)).arrayBuffer();
    await (await fetch(`${url}/api/v1/calls/1`, { headers: { 'x-trace': token, 'x-request-id': 'other' } })).text();
    await logged(events, 1);
    expect(events).toEqual([event('GET', '/api/v1/calls/:id', 200, { requestId: '[masked]' })]);
  });

  test('a logger that throws changes nothing for the visitor', async () => {
    let asked = 0;
    const logger = {
      info() {
        asked++;
        throw new Error('the disk is full');
      },
    };
    const { url } = await serve({ logger });
    for (let n = 1; n <= 2; n++) {
      expect(await (await fetch(`${url}/health`)).json()).toEqual({ ok: true });
      await vi.waitFor(() => expect(asked).toBe(n));
    }
  });
});

test('Express: mounted routers with parameters, errors that leave them, and mounted handlers', async () => {
  const { url, events } = await serveExpress();
  const expected: [path: string, route: string, status: number][] = [
    ['/tenants/acme%20ltd/calls/CA1', '/tenants/:tenant/calls/:call', 200],
    ['/tenants/acme', '/tenants/:tenant', 200],
    ['/tenants/4711/broken', '/tenants/:tenant/broken', 500],
    ['/files/there', '/files/*', 200],
    ['/files/not-there', 'none', 404],
  ];
  for (const [n, [path, , status]] of expected.entries()) {
    const response = await fetch(url + path);
    expect(response.status).toBe(status);
    const text = await response.text();
    // The application reads its parameters as ever.
    if (n === 0) expect(JSON.parse(text)).toEqual({ tenant: 'acme ltd', call: 'CA1' });
    await logged(events, n + 1);
  }
  expect(events).toEqual(expected.map(([, route, status]) => event('GET', route, status)));
});
