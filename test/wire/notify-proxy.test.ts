// Delivered is proven: what counts as an answer of the address's own service, with real proxies and TLS in between.
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import type { Channel, SendResult } from '../../src/incidents/notification.ts';
import { importSavedObjects, kibanaTarget } from '../../src/kibana/import.ts';
import { createChannels } from '../../src/notify/dispatcher.ts';
import { proxyFor } from '../../src/notify/http-send.ts';
import { createAuthority } from '../kit/certificates.ts';
import { notification } from '../kit/notifications.ts';
import { type Answer, startReceiver } from '../kit/receiver.ts';

const never = new AbortController().signal;
const PAGE = '<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in to continue</body></html>';
const JSON_TYPE = { 'content-type': 'application/json' };
const quiet = { error() {}, warn() {}, info() {}, debug() {} };
const doubtful = (reason: string): SendResult => ({ ok: false, retryable: true, reason, doubtful: true });
const later = (reason: string, more = {}): SendResult => ({ ok: false, retryable: true, reason, ...more });

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const close of open.splice(0).reverse()) await close();
});

function channel(name: 'slack' | 'pagerduty' | 'webhook', url: string, timeoutMs = 5_000): Channel {
  const channels = createChannels(
    {
      environment: 'test',
      timeoutMs,
      slack: { ratePerSecond: 1, ...(name === 'slack' ? { webhookUrl: url } : {}) },
      pagerduty: { ratePerSecond: 1, url, ...(name === 'pagerduty' ? { integrationKey: 'k'.repeat(32) } : {}) },
      alertmanager: { resendMs: 60_000, ratePerSecond: 1 },
      webhook: { ratePerSecond: 1, ...(name === 'webhook' ? { url } : {}) },
      email: { port: 25, secure: false, ratePerSecond: 1 },
      console: { enabled: false },
    },
    undefined,
    { clock: systemClock, log: quiet, masker: createMasker(), out: new PassThrough() },
  );
  return channels.get(name) as Channel;
}

async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

interface ProxySeen {
  readonly port: number;
  readonly asked: string[];
  readonly auth: (string | undefined)[];
}

/** Leads everything to `port`; `refuse` answers CONNECT instead. */
async function startProxy(port: number, refuse?: string): Promise<ProxySeen> {
  const [asked, auth]: [string[], (string | undefined)[]] = [[], []];
  const see = (incoming: IncomingMessage) => {
    asked.push(`${incoming.method} ${incoming.url}`);
    auth.push(incoming.headers['proxy-authorization']);
  };
  const proxy = createServer((incoming, response) => {
    see(incoming);
    const { pathname } = new URL(incoming.url ?? '');
    const onward = request({ port, path: pathname, method: incoming.method, headers: incoming.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      answer.pipe(response);
    });
    incoming.pipe(onward);
  });
  proxy.on('connect', (incoming, socket) => {
    see(incoming);
    if (refuse !== undefined) {
      socket.end(refuse);
      return;
    }
    const onward = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      onward.pipe(socket).pipe(onward);
    });
    onward.on('error', () => socket.destroy());
  });
  return { port: await listen(proxy), asked, auth };
}

/** A service that has `url` for its address, though it is here. */
async function standIn(answer: Answer): Promise<ProxySeen> {
  const service = await startReceiver(() => answer);
  open.push(service.close);
  const proxy = await startProxy(service.port);
  vi.stubEnv('http_proxy', `http://127.0.0.1:${proxy.port}`);
  return proxy;
}

describe('what proves delivery', () => {
  const SLACK = 'http://hooks.slack.com/services/T0/B0/x';
  const PAGERDUTY = 'http://events.pagerduty.com/v2/enqueue';
  const OWN = 'http://hooks.example.org/x';

  test.each<[string, 'slack' | 'pagerduty' | 'webhook', string, Answer, SendResult]>([
    ['its word', 'slack', SLACK, { status: 200, body: 'ok' }, { ok: true }],
    ['its word and a line end', 'slack', SLACK, { status: 200, body: 'ok\n' }, { ok: true }],
    ['nothing', 'slack', SLACK, { status: 200 }, doubtful('HTTP 200 with an empty body instead of “ok”')],
    ['no content', 'slack', SLACK, { status: 204 }, doubtful('HTTP 204 with an empty body instead of “ok”')],
    ['a page', 'slack', SLACK, { status: 200, body: PAGE }, doubtful('HTTP 200 with a web page')],
    ['other words', 'slack', SLACK, { status: 200, body: 'okay' }, doubtful('HTTP 200 with something other than “ok”')],
    ['another Slack', 'slack', OWN, { status: 204 }, { ok: true }],
    [
      'success',
      'pagerduty',
      PAGERDUTY,
      { status: 202, body: '{"status":"success"}', headers: JSON_TYPE },
      { ok: true },
    ],
    [
      'no success',
      'pagerduty',
      PAGERDUTY,
      { status: 202, body: '{"status":"throttled"}', headers: JSON_TYPE },
      doubtful('HTTP 202 with JSON without “status: success”'),
    ],
    [
      'no JSON',
      'pagerduty',
      PAGERDUTY,
      { status: 200, body: 'ok' },
      doubtful('HTTP 200 with something other than its JSON'),
    ],
    ['another PagerDuty', 'pagerduty', OWN, { status: 200, body: 'ok' }, { ok: true }],
    [
      'another PagerDuty without success',
      'pagerduty',
      OWN,
      { status: 200, body: '{"message":"hello"}' },
      doubtful('HTTP 200 with JSON without “status: success”'),
    ],
    ['anything', 'webhook', OWN, { status: 201, body: '{"id":7}' }, { ok: true }],
    [
      'XML',
      'webhook',
      OWN,
      { status: 200, body: '<?xml version="1.0"?><done/>', headers: { 'content-type': 'text/xml' } },
      { ok: true },
    ],
    [
      'one word as a page',
      'webhook',
      OWN,
      { status: 200, body: 'OK', headers: { 'content-type': 'text/html' } },
      { ok: true },
    ],
    ['an empty page', 'webhook', OWN, { status: 200, headers: { 'content-type': 'text/html' } }, { ok: true }],
    ['a page', 'webhook', OWN, { status: 200, body: `\ufeff  ${PAGE}` }, doubtful('HTTP 200 with a web page')],
    [
      'a page after a remark',
      'webhook',
      OWN,
      { status: 203, body: `<!-- ${'-->'.repeat(200)}<HTML><p>Log in</p>` },
      doubtful('HTTP 203 with a web page'),
    ],
    [
      'words that are called a page',
      'webhook',
      OWN,
      { status: 200, body: 'Please log in first', headers: { 'content-type': 'text/html; charset=utf-8' } },
      doubtful('HTTP 200 with a web page'),
    ],
    [
      'the way to a log-in page',
      'webhook',
      OWN,
      { status: 302, headers: { location: '/login' } },
      doubtful('HTTP 302 (redirects are not followed)'),
    ],
    [
      'another address for ever',
      'webhook',
      OWN,
      { status: 308, headers: { location: '/v2' } },
      { ok: false, retryable: false, reason: 'HTTP 308 (redirects are not followed)' },
    ],
  ])('%s, for %s at %s', async (_, name, url, answer, expected) => {
    const proxy = await standIn(answer);
    expect(await channel(name, url).send(notification(), never)).toEqual(expected);
    expect(proxy.asked).toEqual([`POST ${url}`]);
  });

  test.each([['-5'], ['+30'], ['soon 5'], ['1e3'], ['']])('Retry-After %j is not heeded', async (value) => {
    await standIn({ status: 429, headers: { 'retry-after': value } });
    expect(await channel('webhook', OWN).send(notification(), never)).toEqual(later('HTTP 429'));
  });
});

describe('a proxy', () => {
  test.each([
    ['407 Proxy Authentication Required', {}],
    ['403 Forbidden', {}],
    ['404 Not Found', {}],
    ['302 Found', {}],
    ['503 Service Unavailable\r\nRetry-After: 7', { retryAfterMs: 7_000 }],
    ['502 Bad Gateway\r\nContent-Type: text/html', {}],
  ])('that answers CONNECT with %s: its own answer, and tried again', async (status, more) => {
    const proxy = await startProxy(1, `HTTP/1.1 ${status}\r\nContent-Length: 13\r\n\r\n<html></html>`);
    vi.stubEnv('https_proxy', `http://127.0.0.1:${proxy.port}`);
    const result = await channel('slack', 'https://hooks.slack.com/services/T0/B0/x').send(notification(), never);
    expect(result).toEqual(later(`the proxy answered ${status.slice(0, 3)}`, more));
    expect(proxy.asked).toEqual(['CONNECT hooks.slack.com:443']);
  });

  test('is given user and password as they are, and the message goes through it encrypted', async () => {
    const bodies: string[] = [];
    const { pem, keyPem } = createAuthority().issue(['hooks.slack.com']);
    const service = createTlsServer({ cert: pem, key: keyPem }, (incoming, response) => {
      incoming.setEncoding('utf8').on('data', (text: string) => bodies.push(text));
      incoming.on('end', () => response.end('ok'));
    });
    const proxy = await startProxy(await listen(service));
    const [user, password] = ['app:1', ['p@ss', 'wörd%'].join('/')];
    vi.stubEnv(
      'HTTPS_PROXY',
      `http://${encodeURIComponent(user)}:${encodeURIComponent(password)}@127.0.0.1:${proxy.port}`,
    );
    const slack = () => channel('slack', 'https://hooks.slack.com/services/T0/B0/x');
    // An authority that nobody knows: the other end is checked, not the proxy.
    expect(await slack().send(notification(), never)).toEqual(
      later('connection failed: UNABLE_TO_VERIFY_LEAF_SIGNATURE'),
    );
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    expect(await slack().send(notification(), never)).toEqual({ ok: true });
    expect(bodies.join('')).toContain('High Error Rate Detected');
    expect(proxy.auth).toEqual(Array(2).fill(`Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`));
  });

  test('that speaks TLS itself', async () => {
    const service = await startReceiver();
    open.push(service.close);
    const { pem, keyPem } = createAuthority().issue(['127.0.0.1']);
    const asked: string[] = [];
    const proxy = createTlsServer({ cert: pem, key: keyPem });
    proxy.on('connect', (incoming, socket) => {
      asked.push(`${incoming.url}`);
      socket.end('HTTP/1.1 407 No\r\n\r\n');
    });
    vi.stubEnv('https_proxy', `https://127.0.0.1:${await listen(proxy)}`);
    const webhook = () => channel('webhook', 'https://hooks.example.org/x');
    expect(await webhook().send(notification(), never)).toEqual(
      later('connection to the proxy failed: UNABLE_TO_VERIFY_LEAF_SIGNATURE'),
    );
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    expect(await webhook().send(notification(), never)).toEqual(later('the proxy answered 407'));
    expect(asked).toEqual(['hooks.example.org:443']);
  });

  test('for plain http: its 407 is its own, and a page of it is no refusal for good', async () => {
    const url = 'http://hooks.example.org/x';
    await standIn({ status: 407, headers: { 'proxy-authenticate': 'Basic' } });
    expect(await channel('webhook', url).send(notification(), never)).toEqual(later('the proxy answered 407'));
    await standIn({ status: 403, body: PAGE, headers: { 'content-type': 'text/html' } });
    expect(await channel('webhook', url).send(notification(), never)).toEqual(
      doubtful('HTTP 403 with a web page, perhaps of the proxy'),
    );
    await standIn({ status: 403, body: 'no' });
    expect(await channel('webhook', url).send(notification(), never)).toEqual({
      ok: false,
      retryable: false,
      reason: 'HTTP 403',
    });
  });

  test('that is away, hangs, speaks something else or is no address: said without its password', async () => {
    const url = 'https://hooks.example.org/x';
    const word = ['pa', 'ss', '99'].join('');
    vi.stubEnv('https_proxy', `http://user:${word}@127.0.0.1:1`);
    expect(await channel('webhook', url).send(notification(), never)).toEqual(
      later('connection to the proxy failed: ECONNREFUSED'),
    );
    const hanging = createServer().on('connect', () => {});
    vi.stubEnv('https_proxy', `http://user:${word}@127.0.0.1:${await listen(hanging)}`);
    expect(await channel('webhook', url, 200).send(notification(), never)).toEqual(later('no answer within 200 ms'));
    const noisy = createServer();
    noisy.on('connection', (socket) => socket.end('220 mail.example ESMTP\r\n'));
    vi.stubEnv('https_proxy', `127.0.0.1:${await listen(noisy)}`);
    const strange = await channel('webhook', url).send(notification(), never);
    expect(strange).toMatchObject({
      retryable: true,
      reason: expect.stringMatching(/^connection to the proxy failed: [A-Z_]+$/),
    });
    vi.stubEnv('https_proxy', `socks5://user:${word}@127.0.0.1:1080`);
    const result = await channel('webhook', url).send(notification(), never);
    expect(result).toEqual(later('HTTPS_PROXY is not an http:// or https:// address of a proxy'));
  });

  test('before Kibana: its refusal is not called Kibana’s', async () => {
    const ask = () =>
      importSavedObjects('', kibanaTarget('https://kibana.example.org', 'default'), {
        url: '',
        space: '',
        requestTimeoutMs: 5_000,
      });
    const proxy = await startProxy(1, 'HTTP/1.1 407 No\r\n\r\n');
    vi.stubEnv('https_proxy', `http://127.0.0.1:${proxy.port}`);
    const code = 'LOGPIPE_KIBANA_UNREACHABLE';
    await expect(ask()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/the proxy answered 407; check HTTPS_PROXY/),
    });
    vi.stubEnv('https_proxy', 'http://127.0.0.1:1');
    await expect(ask()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/the proxy cannot be reached \(ECONNREFUSED\)/),
    });
    vi.stubEnv('https_proxy', 'socks5://127.0.0.1:1');
    await expect(ask()).rejects.toMatchObject({ code, message: expect.stringMatching(/HTTPS_PROXY is not an http/) });
  });

  test('which addresses go through it', () => {
    const env = {
      HTTPS_PROXY: 'proxy:3128',
      http_proxy: 'http://[::1]:8080',
      NO_PROXY: 'a.example, .b.example:8443 *.c.example,10.0.0.1',
    };
    const host = (address: string, more = {}) => proxyFor(new URL(address), { ...env, ...more })?.host;
    expect(proxyFor(new URL('https://x.example'), env)).toEqual({ protocol: 'http:', host: 'proxy', port: 3128 });
    expect(proxyFor(new URL('http://x.example'), env)).toEqual({ protocol: 'http:', host: '::1', port: 8080 });
    for (const direct of [
      'a.example',
      'x.a.example',
      'A.example.',
      'x.b.example:8443',
      'c.example',
      'y.x.c.example',
      '10.0.0.1',
    ]) {
      expect(host(`https://${direct}`), direct).toBeUndefined();
    }
    for (const through of ['ba.example', 'x.b.example', '110.0.0.1', 'c.example.org']) {
      expect(host(`https://${through}`), through).toBe('proxy');
    }
    expect(host('https://x.example', { no_proxy: '*' })).toBeUndefined();
    expect(host('https://x.example', { https_proxy: 'http://first' })).toBe('first');
    expect(proxyFor(new URL('https://x.example'), { all_proxy: 'http://every' })?.host).toBe('every');
    expect(proxyFor(new URL('https://x.example'), {})).toBeUndefined();
  });
});
