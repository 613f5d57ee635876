// Who may call the local HTTP server by which name: raw requests, for no client sends these headers.
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createStatusView, type HttpServer, startHttp } from '../../src/ops/http.ts';

const servers: HttpServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function serve(host: string, allowedHosts: string[] = []): Promise<number> {
  const server = await startHttp(
    { enabled: true, host, port: 0, allowedHosts },
    {
      metrics: createMetrics(),
      clock: systemClock,
      readiness: () => [],
      platform: { metrics: () => undefined, stats: () => undefined },
      status: createStatusView(
        { version: '1', roles: ['indexer'], source: 'kafka', group: 'g' },
        { clock: systemClock, readiness: () => [], alerting: () => undefined },
      ),
    },
  );
  servers.push(server);
  return Number(new URL(server.url).port);
}

/** The status of a request with exactly these header lines. */
async function ask(
  port: number,
  target: string,
  headers: readonly string[],
): Promise<{ status: number; text: string }> {
  const socket = connect(port, '127.0.0.1');
  const pieces: Buffer[] = [];
  socket.on('data', (piece) => pieces.push(piece));
  socket.write([`GET ${target} HTTP/1.1`, ...headers, 'Connection: close', '', ''].join('\r\n'));
  await once(socket, 'close');
  const text = Buffer.concat(pieces).toString();
  return { status: Number(text.split(' ')[1]), text };
}
const statuses = (port: number, target: string, names: readonly string[]) =>
  Promise.all(names.map(async (name) => (await ask(port, target, [`Host: ${name}`])).status));

test('bound to this machine, it answers to its own names alone', async () => {
  const port = await serve('127.0.0.1', ['logs.example']);
  const own = [
    'localhost',
    `localhost:${port}`,
    '127.0.0.1',
    `127.0.0.1:${port}`,
    '[::1]:80',
    'LOCALHOST.',
    'Logs.Example:1',
  ];
  expect(await statuses(port, '/metrics', own)).toEqual(own.map(() => 200));
  const others = [
    'evil.example',
    'localhost.evil.example',
    `evil.example:${port}`,
    '127.0.0.1.evil.example',
    '0.0.0.0',
    '127.0.0.2',
  ];
  for (const target of [
    '/metrics',
    '/metrics/platform',
    '/api/v1/stats',
    '/api/v1/status',
    '/api/v1/status?rule=x',
    '/api/v1/health',
    '/nowhere',
    '/ready/',
    '//ready',
  ]) {
    expect(await statuses(port, target, others), target).toEqual(others.map(() => 421));
  }
  const { text } = await ask(port, '/metrics', ['Host: evil.example']);
  expect(text).toContain('http.allowedHosts');
  expect(text).not.toContain('evil.example');
});

test('a missing, a second or an odd name is refused', async () => {
  const port = await serve('127.0.0.1');
  expect((await ask(port, '/metrics', [])).status).toBe(400);
  for (const headers of [
    ['Host: localhost', 'Host: evil.example'],
    ['Host: evil.example', 'Host: localhost'],
    ['Host:'],
    ['Host: localhost:x'],
    ['Host: user@localhost'],
    ['Host: localhost, evil.example'],
    [`Host: ${'a'.repeat(5_000)}`],
  ]) {
    expect((await ask(port, '/metrics', headers)).status, headers.join().slice(0, 60)).toBe(421);
  }
  expect((await ask(port, 'http://evil.example/metrics', ['Host: localhost'])).status).toBe(421);
});

test('probes are answered by any name', async () => {
  const port = await serve('127.0.0.1');
  const names = ['evil.example', '10.0.0.7:8780', 'a b'];
  for (const target of ['/ready', '/live', '/ready?x=1']) {
    expect(await statuses(port, target, names), target).toEqual(names.map(() => 200));
  }
});

test('bound elsewhere, names are asked for only when some are given', async () => {
  const open = await serve('0.0.0.0');
  expect(await statuses(open, '/metrics', ['anything.example', '10.0.0.7'])).toEqual([200, 200]);
  const named = await serve('0.0.0.0', ['logs.example']);
  expect(await statuses(named, '/metrics', ['logs.example:80', 'localhost', 'evil.example'])).toEqual([200, 200, 421]);
  expect(await statuses(named, '/ready', ['evil.example'])).toEqual([200]);
});

test('the status of an instance that evaluates no alerts: what it is, and that rules are to be asked for elsewhere', async () => {
  const port = await serve('127.0.0.1');
  const { status, text } = await ask(port, '/api/v1/status', ['Host: localhost']);
  expect(status).toBe(200);
  expect(JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1))).toMatchObject({
    version: '1',
    roles: ['indexer'],
    ready: true,
    alerting: null,
  });
  expect((await ask(port, '/api/v1/status?rule=high-error-rate', ['Host: localhost'])).status).toBe(503);
});
