// The alerts over HTTP, attacked: a listening server, the real alert machine behind it, and raw requests, for no client sends most of
// these. What a request gets is read from its bytes; what it changed, from the machine's records.
import { createHmac } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { type AlertDesk, DeskClosedError } from '../../src/alerter/alert-desk.ts';
import { type Command, decodeCommand, encodeCommand } from '../../src/alerter/commands-given.ts';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import { type Log, silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { parseRouting, type Routing } from '../../src/oncall/routing.ts';
import { createActionLinks } from '../../src/ops/access.ts';
import { alertRoutes } from '../../src/ops/alerts-api.ts';
import type { AlertingView } from '../../src/ops/explain.ts';
import { createApi } from '../../src/ops/guard.ts';
import { createStatusView, startHttp } from '../../src/ops/http.ts';
import { MINUTE, type Rig, rig, rule, START, seen } from '../unit/incidents/machine-kit.ts';

const ACT = 'a-token-that-may-act-0123456789';
const READ = 'a-token-that-may-read-0123456789';
const SECRET = 'the-secret-that-signs-links-0123456789';
const FORMER = 'the-secret-that-signed-links-0123456789';
const PAGERDUTY = 'pagerduty-webhook-secret-1';
const PUBLIC = 'https://alerts.example.org/logpipe';
const HOUR = 60 * MINUTE;

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  readonly json: Record<string, unknown>;
}

interface Served {
  readonly port: number;
  readonly r: Rig;
  /** Exactly these bytes. */
  raw(text: string): Promise<Answer>;
  ask(method: string, target: string, headers?: readonly string[], body?: string): Promise<Answer>;
  /** With a token. */
  post(target: string, body?: object, token?: string): Promise<Answer>;
  get(target: string, token?: string): Promise<Answer>;
  /** What the desk does from now on. */
  desk: 'well' | 'away' | 'slow';
  readonly given: readonly Command[];
  readonly logged: readonly string[];
  wallMs: number;
  monotonicMs: number;
}

interface Options {
  readonly host?: string;
  readonly allowedHosts?: readonly string[];
  readonly tokens?: Parameters<typeof createApi>[0]['tokens'];
  readonly routing?: Routing;
  readonly alerting?: AlertingView;
}

/** One incident fires: `incident1` of the rule `failures`. */
async function serve(options: Options = {}): Promise<Served> {
  const r = rig([rule('failures', { title: 'Calls <fail> & "fall"' }), rule('slow', { priority: 'P3' })]);
  r.go({ observations: [seen('failures', 'breached', { tenantId: 'acme' })] });
  const logged: string[] = [];
  const log: Log = { ...silentLog, warn: (text, meta) => void logged.push(`${text} ${JSON.stringify(meta)}`) };
  const given: Command[] = [];
  const clock: Clock = { ...systemClock, now: () => served.wallMs, monotonicMs: () => served.monotonicMs };
  const desk: AlertDesk = {
    async state() {
      if (served.desk === 'away') throw new DeskClosedError('Kafka does not answer');
      const { machine } = r;
      return { alerts: machine.alerts(), incidents: machine.incidents(), silences: machine.silences() };
    },
    async answer(id) {
      await desk.state();
      return r.machine.answer(id);
    },
    async give(command) {
      await desk.state();
      given.push(command);
      // As it goes through the topic.
      const read = decodeCommand(Buffer.from(encodeCommand(command)));
      if (read === undefined) throw new Error('the command cannot be read again');
      if (served.desk === 'slow') return undefined;
      r.now = served.wallMs;
      r.go({ observations: [seen('failures', 'breached', { tenantId: 'acme' })], commands: [read] });
      return r.machine.answer(command.commandId);
    },
    async close() {},
  };
  const tokens = options.tokens ?? [
    { name: 'ops', token: ACT, scopes: ['read', 'act'] },
    { name: 'wall', token: READ, scopes: ['read'] },
  ];
  const access = { tokens, publicUrl: PUBLIC, linkSecrets: [SECRET, FORMER] };
  const webhookSecrets = [PAGERDUTY, 'another-secret-of-pagerduty'];
  const api = createApi(access, { clock, log }, [
    alertRoutes(
      { linkSecrets: access.linkSecrets, webhookSecrets, environment: 'test' },
      {
        ...{ clock, log, desk, masker: createMasker() },
        alerting: () => options.alerting,
        routing: () => options.routing,
      },
    ),
  ]);
  const { host = '127.0.0.1', allowedHosts = [] } = options;
  const server = await startHttp(
    { enabled: true, host, port: 0, allowedHosts, ...access },
    {
      metrics: createMetrics(),
      clock: systemClock,
      readiness: () => [],
      platform: { metrics: () => '', stats: () => undefined },
      status: createStatusView(
        { version: '1', roles: ['alerter'], source: 'kafka', group: 'g' },
        { clock: systemClock, readiness: () => [], alerting: () => undefined },
      ),
      api: async () => api,
    },
  );
  onTestFinished(() => server.close());
  const port = Number(new URL(server.url).port);
  const ask: Served['ask'] = (method, target, headers = ['Host: localhost'], body) => {
    const length = body === undefined ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
    return raw(
      [`${method} ${target} HTTP/1.1`, ...headers, ...length, 'Connection: close', '', body ?? ''].join('\r\n'),
    );
  };
  const raw = async (text: string) => answerOf(await bytesOf(port, (socket) => socket.write(text)));
  const served: Served = {
    ...{ port, r, raw, ask, given, logged },
    post: (target, body = {}, token = ACT) =>
      ask('POST', target, [...JSON_HEADERS, `Authorization: Bearer ${token}`], JSON.stringify(body)),
    get: (target, token) =>
      ask('GET', target, ['Host: localhost', ...(token === undefined ? [] : [`Authorization: Bearer ${token}`])]),
    desk: 'well',
    wallMs: START,
    monotonicMs: 0,
  };
  return served;
}

const JSON_HEADERS = ['Host: localhost', 'Content-Type: application/json'];

async function bytesOf(port: number, talk: (socket: Socket) => void): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const pieces: Buffer[] = [];
  socket.on('data', (piece) => pieces.push(piece));
  // Whoever is refused while sending may see the connection break after the answer.
  socket.on('error', () => {});
  talk(socket);
  await new Promise((resolve) => socket.once('close', resolve));
  return Buffer.concat(pieces).toString();
}

function answerOf(bytes: string): Answer {
  const [head = '', ...rest] = bytes.split('\r\n\r\n');
  const [first = '', ...lines] = head.split('\r\n');
  const headers = Object.fromEntries(
    lines.map((text) => [text.slice(0, text.indexOf(':')).toLowerCase(), text.slice(text.indexOf(':') + 2)]),
  );
  const text = rest.join('\r\n\r\n');
  const isJson = headers['content-type']?.includes('json') === true && text.includes('{');
  const json = isJson ? JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1)) : {};
  return { status: Number(first.split(' ')[1]), headers, text, json };
}

const incidentOf = ({ r }: Served) => r.machine.incidents()[0]!;
const acknowledge = '/api/v1/incidents/incident1/acknowledge';

// ---- who may ----

test('a problem is said in RFC 9457’s form, and says nothing but why', async () => {
  const served = await serve();
  const { status, headers, json } = await served.ask('POST', acknowledge, JSON_HEADERS, '{}');
  expect({ status, json }).toEqual({
    status: 401,
    json: {
      type: 'about:blank',
      title: 'Unauthorized',
      status: 401,
      detail: 'it needs a token with the scope "act": Authorization: Bearer …',
    },
  });
  expect(headers).toMatchObject({
    'content-type': 'application/problem+json',
    'www-authenticate': 'Bearer realm="logpipe"',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
});

test('nothing changes without a token that may act, not even from this machine', async () => {
  const served = await serve();
  const silence = { rule: 'failures', for: '1h', reason: 'tests' };
  const tries: [token: string | undefined, status: number][] = [
    [undefined, 401],
    ['wrong', 401],
    [ACT.slice(0, -1), 401],
    [`${ACT}x`, 401],
    [ACT.toUpperCase(), 401],
    [READ, 403],
    ['', 401],
  ];
  for (const [token, status] of tries) {
    const auth = token === undefined ? [] : [`Authorization: Bearer ${token}`];
    for (const [method, target, body] of [
      ['POST', acknowledge, '{}'],
      ['POST', '/api/v1/incidents/incident1/resolve', '{}'],
      ['POST', '/api/v1/silences', JSON.stringify(silence)],
      ['POST', '/api/v1/silences?preview=true', JSON.stringify(silence)],
    ] as const) {
      served.monotonicMs += MINUTE;
      expect((await served.ask(method, target, [...JSON_HEADERS, ...auth], body)).status, `${token} ${target}`).toBe(
        status,
      );
    }
    const removed = await served.ask('DELETE', '/api/v1/silences/x', ['Host: localhost', ...auth]);
    expect(removed.status).toBe(status);
  }
  for (const odd of [
    `Basic ${Buffer.from(`ops:${ACT}`).toString('base64')}`,
    ACT,
    `Bearer ${ACT} ${ACT}`,
    `Bearer ${ACT},`,
    `Bearer "${ACT}"`,
    `Bearer ${'a'.repeat(5_000)}`,
  ]) {
    served.monotonicMs += MINUTE;
    const { status } = await served.ask('POST', acknowledge, [...JSON_HEADERS, `Authorization: ${odd}`], '{}');
    expect(status, odd.slice(0, 40)).toBe(401);
  }
  expect((await served.ask('POST', `${acknowledge}?token=${ACT}&access_token=${ACT}`, JSON_HEADERS, '{}')).status).toBe(
    401,
  );
  expect(served.given).toEqual([]);
  expect((await served.post(acknowledge)).status).toBe(200);
});

test('two Authorization headers are refused, in whatever order; so are two Hosts', async () => {
  const served = await serve({ host: '0.0.0.0' });
  for (const tokens of [
    [ACT, 'wrong'],
    ['wrong', ACT],
    [ACT, ACT],
  ]) {
    const auth = tokens.map((token) => `Authorization: Bearer ${token}`);
    expect((await served.ask('POST', acknowledge, [...JSON_HEADERS, ...auth], '{}')).status).toBe(400);
  }
  const twoHosts = [
    'Host: localhost',
    'Host: evil.example',
    'Content-Type: application/json',
    `Authorization: Bearer ${ACT}`,
  ];
  expect((await served.ask('POST', acknowledge, twoHosts, '{}')).status).toBe(400);
  expect((await served.ask('GET', '/api/v1/alerts', ['Host: localhost', 'Host: localhost'])).status).toBe(400);
  expect((await served.ask('GET', 'http://localhost/api/v1/alerts', ['Host: localhost'])).status).not.toBe(200);
  expect(served.given).toEqual([]);
});

test('reading is open to programs of this machine alone: a proxy’s header, a foreign name or a foreign page ends that', async () => {
  const served = await serve({ host: '0.0.0.0' });
  const get = async (...headers: string[]) => (await served.ask('GET', '/api/v1/alerts', headers)).status;
  for (const name of ['localhost', `localhost:${served.port}`, '127.0.0.1', '[::1]:80']) {
    expect(await get(`Host: ${name}`), name).toBe(200);
  }
  for (const header of [
    'X-Forwarded-For: 127.0.0.1',
    'x-forwarded-for: ',
    'X-Forwarded-Host: localhost',
    'Forwarded: for=127.0.0.1',
    'X-Real-IP: 127.0.0.1',
    'Via: 1.1 proxy',
    'CF-Connecting-IP: ::1',
    'X-Envoy-External-Address: 127.0.0.1',
  ]) {
    expect(await get('Host: localhost', header), header).toBe(401);
    expect(await get('Host: localhost', header, `Authorization: Bearer ${READ}`), header).toBe(200);
  }
  for (const name of ['evil.example', '0.0.0.0', 'alerts.example.org', 'localhost.evil.example']) {
    expect(await get(`Host: ${name}`), name).toBe(401);
  }
  for (const header of [
    'Origin: https://evil.example',
    'Origin: null',
    'Origin: http://localhost.evil.example',
    'Sec-Fetch-Site: cross-site',
  ]) {
    expect(await get('Host: localhost', header), header).toBe(403);
  }
  expect(await get('Host: localhost', 'Origin: http://localhost', 'Sec-Fetch-Site: same-origin')).toBe(200);
  // A wrong token is worse than none.
  expect(await get('Host: localhost', 'Authorization: Bearer wrong')).toBe(401);
});

test('a page of another origin changes nothing, and no answer permits it to read', async () => {
  const served = await serve();
  const auth = `Authorization: Bearer ${ACT}`;
  const post = (...more: string[]) => served.ask('POST', acknowledge, [...JSON_HEADERS, auth, ...more], '{}');
  for (const header of [
    'Origin: https://evil.example',
    'Origin: null',
    'Origin: https://alerts.example.org.evil.example',
    'Origin: http://alerts.example.org',
    'Sec-Fetch-Site: cross-site',
    'Sec-Fetch-Site: same-site',
  ]) {
    expect((await post(header)).status, header).toBe(403);
  }
  expect((await post('Origin: https://alerts.example.org', 'Origin: https://evil.example')).status).toBe(403);
  expect(served.given).toEqual([]);
  const preflight = ['Host: localhost', 'Origin: https://evil.example', 'Access-Control-Request-Method: POST'];
  for (const method of ['OPTIONS', 'TRACE', 'PUT', 'PATCH', 'PROPFIND']) {
    const { status, headers } = await served.ask(method, acknowledge, preflight);
    expect(status, method).toBe(405);
    expect(headers.allow).toBe('GET, HEAD, POST, DELETE');
  }
  const { status, headers } = await post('Origin: https://alerts.example.org');
  expect(status).toBe(200);
  expect(Object.keys(headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
});

test('twenty wrong tokens in a minute, and the address waits, with the right one too', async () => {
  const served = await serve();
  for (let i = 0; i < 20; i++) {
    served.monotonicMs += 1_000;
    expect((await served.post(acknowledge, {}, `wrong-${i}`)).status).toBe(401);
  }
  const { status, headers } = await served.post(acknowledge);
  expect([status, headers['retry-after']]).toEqual([429, '41']);
  expect((await served.get('/api/v1/alerts', READ)).status).toBe(429);
  // Whoever shows none is refused or served as ever, and links cannot be guessed.
  expect((await served.get('/api/v1/alerts')).status).toBe(200);
  expect((await served.ask('GET', linkOf().acknowledge)).status).toBe(200);
  expect((await served.ask('GET', '/a/altered')).status).toBe(429);
  expect(served.logged.filter((text) => text.includes('too often'))).toHaveLength(1);
  expect(served.logged.join()).not.toContain('wrong-');
  served.monotonicMs += 41_000;
  expect((await served.post(acknowledge)).status).toBe(200);
});

test('twenty altered links or webhooks hold up no token: a proxy on this machine has the address of its programs', async () => {
  const served = await serve();
  for (let i = 0; i < 21; i++) expect((await served.ask('GET', '/a/altered')).status).toBe(i < 20 ? 404 : 429);
  expect((await served.post(acknowledge, {}, 'wrong')).status).toBe(401);
  expect((await served.post(acknowledge)).status).toBe(200);
});

test('by the public name, nothing but health is told without a token', async () => {
  const served = await serve();
  const by = (target: string, ...more: string[]) => served.ask('GET', target, ['Host: alerts.example.org', ...more]);
  for (const target of [
    '/metrics',
    '/metrics/platform',
    '/api/v1/status',
    '/api/v1/stats',
    '/api/v1/alerts',
    '/nowhere',
  ]) {
    expect((await by(target)).status, target).toBe(401);
  }
  for (const target of ['/live', '/ready', '/api/v1/health']) expect((await by(target)).status, target).toBe(200);
  expect((await by('/metrics', `Authorization: Bearer ${READ}`)).status).toBe(200);
  expect((await served.ask('GET', '/a/x', ['Host: evil.example'])).status).toBe(421);
});

// ---- what is asked ----

test('a body that is too long is refused without being read', async () => {
  const served = await serve();
  const head = (...more: string[]) =>
    [`POST ${acknowledge} HTTP/1.1`, ...JSON_HEADERS, `Authorization: Bearer ${ACT}`, ...more, '', ''].join('\r\n');
  const announced = await served.raw(head('Content-Length: 65537'));
  expect(announced.status).toBe(413);
  expect(announced.headers.connection).toBe('close');
  const expecting = await served.raw(head('Content-Length: 9999999', 'Expect: 100-continue'));
  expect(expecting.status).toBe(413);
  // In pieces without a length, for ever: the connection ends.
  let sent = 0;
  const bytes = await bytesOf(served.port, (socket) => {
    socket.write(head('Transfer-Encoding: chunked'));
    const more = () => {
      for (let i = 0; i < 16 && !socket.destroyed; i++) {
        sent += 1024;
        socket.write(`400\r\n${' '.repeat(1024)}\r\n`);
      }
      if (!socket.destroyed && sent < 64 * 1024 * 1024) setImmediate(more);
    };
    more();
  });
  expect(answerOf(bytes).status).toBe(413);
  expect(sent).toBeLessThan(32 * 1024 * 1024);
  const ok = await served.raw(`${head('Content-Length: 2', 'Expect: 100-continue', 'Connection: close')}{}`);
  expect(ok.status).toBe(100);
  expect(ok.text).toContain('200 OK');
});

test('a body that comes too slowly is cut off', { timeout: 30_000 }, async () => {
  const served = await serve();
  const head = [
    `POST ${acknowledge} HTTP/1.1`,
    ...JSON_HEADERS,
    `Authorization: Bearer ${ACT}`,
    'Content-Length: 10',
    '',
    '{',
  ];
  const beganMs = performance.now();
  const bytes = await bytesOf(served.port, (socket) => socket.write(head.join('\r\n')));
  expect(answerOf(bytes).status).toBe(408);
  expect(performance.now() - beganMs).toBeLessThan(15_000);
  expect(served.given).toEqual([]);
});

test('only JSON of the right form is understood, and what is wrong is named', async () => {
  const served = await serve();
  const auth = `Authorization: Bearer ${ACT}`;
  const as = (type: string[], body: string) =>
    served.ask('POST', acknowledge, ['Host: localhost', auth, ...type.map((one) => `Content-Type: ${one}`)], body);
  for (const type of [
    [],
    ['text/plain'],
    ['application/x-www-form-urlencoded'],
    ['multipart/form-data; boundary=x'],
    ['application/json; charset=utf-16'],
    ['application/jsonp'],
    ['application/json', 'text/plain'],
  ]) {
    expect((await as(type, '{}')).status, type.join()).toBe(415);
  }
  expect((await served.ask('POST', acknowledge, [...JSON_HEADERS, auth, 'Content-Encoding: gzip'], '{}')).status).toBe(
    415,
  );
  const details = async (body: string) => {
    const { status, json } = await as(['application/json'], body);
    expect(status, body.slice(0, 40)).toBe(400);
    return json.detail;
  };
  for (const body of ['', '{', 'null!', '\u0000', '{"by":', '['.repeat(60_000)]) {
    expect(await details(body)).toBe('the body is no JSON in UTF-8');
  }
  expect(await details('[]')).toBe('the body: must be object');
  expect(await details('null')).toBe('the body: must be object');
  expect(await details('{"by":7}')).toBe('by: must be string');
  expect(await details('{"__proto__":{"by":"x"},"constructor":1}')).toBe('__proto__: unknown; constructor: unknown');
  expect(await details(JSON.stringify({ by: 'x'.repeat(201) }))).toContain(
    'by: must NOT have more than 200 characters',
  );
  expect(await details('{"by":"ada\\u001b[2J"}')).toBe('by: has characters that cannot be seen');
  for (const labels of [{ 'tenant\u202eId': 'acme' }, { tenantId: 'acme\u001b[2J' }]) {
    const asked = { labels, for: '1h', reason: 'x' };
    const { status, json } = await served.post('/api/v1/silences', asked);
    expect([status, json.detail]).toEqual([400, 'labels: has characters that cannot be seen']);
  }
  expect(served.given).toEqual([]);
  const invalid = Buffer.concat([Buffer.from('{"by":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]);
  const head = [
    `POST ${acknowledge} HTTP/1.1`,
    ...JSON_HEADERS,
    auth,
    `Content-Length: ${invalid.length}`,
    'Connection: close',
    '',
    '',
  ];
  const bytes = await bytesOf(served.port, (socket) => {
    socket.write(head.join('\r\n'));
    socket.write(invalid);
  });
  expect(answerOf(bytes).status).toBe(400);
  expect((await as(['application/json; charset=utf-8'], '{"by":"ada"}')).status).toBe(200);
});

test('acknowledging: the first wins, the second gets the state; the history says who, by which token', async () => {
  const served = await serve();
  expect((await served.get('/api/v1/alerts')).json).toMatchObject({
    incidents: [
      {
        id: 'incident1',
        state: 'firing',
        acknowledged: null,
        alerts: [{ rule: 'failures', labels: { tenantId: 'acme' } }],
      },
    ],
    more: 0,
    pending: [],
  });
  const by = 'a'.repeat(200);
  const first = await served.post(acknowledge, { by });
  expect(first.status).toBe(200);
  expect(first.json).toMatchObject({
    done: true,
    changed: true,
    incident: { id: 'incident1', state: 'acknowledged', acknowledged: { by: `${by}, by token ops`, via: 'api' } },
  });
  expect(incidentOf(served).acknowledged).toMatchObject({ by: `${by}, by token ops`, via: 'api' });
  const second = await served.post(acknowledge, { by: 'ben' });
  expect(second.json).toMatchObject({
    done: true,
    changed: false,
    incident: { acknowledged: { by: `${by}, by token ops` } },
  });
  expect(served.given).toHaveLength(1);
  const command = await served.get(`/api/v1/commands/${first.json.commandId}`);
  expect(command.json).toMatchObject({ done: true, changed: true });
  expect((await served.post('/api/v1/incidents/nobody/acknowledge')).status).toBe(404);
  const states = async (state: string) =>
    ((await served.get(`/api/v1/alerts?state=${state}`)).json.incidents as { id: string }[]).length;
  expect([await states('acknowledged'), await states('firing'), await states('resolved'), await states('all')]).toEqual(
    [1, 0, 0, 1],
  );
  expect((await served.get('/api/v1/alerts?state=odd')).json.detail).toContain('found "odd"; permitted: open, firing');
});

test('an answer that takes longer is 202 with where to look; without Kafka it is 503, and nothing was given', async () => {
  const served = await serve();
  served.desk = 'slow';
  const { status, headers, json } = await served.post(acknowledge);
  expect(status).toBe(202);
  expect(headers.location).toBe(`/api/v1/commands/${json.commandId}`);
  expect((await served.get(headers.location!)).json).toMatchObject({ done: false });
  served.desk = 'away';
  const silence = { group: 'failures', for: '1h', reason: 'tests' };
  for (const answer of [
    await served.post(acknowledge),
    await served.post('/api/v1/incidents/incident1/resolve'),
    await served.post('/api/v1/silences', silence),
    await served.ask('DELETE', '/api/v1/silences/x', ['Host: localhost', `Authorization: Bearer ${ACT}`]),
    await served.get('/api/v1/alerts'),
    await served.get('/api/v1/silences'),
    await served.get('/api/v1/commands/x'),
  ]) {
    expect(answer.status).toBe(503);
    expect(answer.json.detail).toBe('Kafka does not answer');
  }
  expect((await served.ask('GET', linkOf().acknowledge)).status).toBe(503);
  expect(served.given).toHaveLength(1);
});

test('silences: shown before they are set, then set, listed and removed; what is too wide or already over is refused', async () => {
  const served = await serve();
  const asked = { rule: 'failures', labels: { tenantId: 'acme' }, for: '2h', reason: 'planned work', by: 'ada' };
  const preview = await served.post('/api/v1/silences?preview=true', asked);
  expect(preview.json).toMatchObject({ preview: { now: [{ rule: 'failures' }], lastDay: [] } });
  expect(served.given).toEqual([]);
  const other = await served.post('/api/v1/silences?preview=true', { ...asked, labels: { tenantId: 'other' } });
  expect(other.json).toMatchObject({ preview: { now: [], lastDay: [] } });
  const set = await served.post('/api/v1/silences', asked);
  expect(set.json).toMatchObject({
    done: true,
    silence: { rule: 'failures', by: 'ada, by token ops', reason: 'planned work' },
  });
  const { id } = set.json.silence as { id: string };
  expect((await served.get('/api/v1/silences')).json).toMatchObject({
    silences: [{ id, labels: { tenantId: 'acme' }, until: new Date(START + 2 * HOUR).toISOString() }],
  });
  expect(served.r.machine.alerts()[0]?.muted).toBe('silenced');
  const remove = (name: string) =>
    served.ask('DELETE', `/api/v1/silences/${name}`, ['Host: localhost', `Authorization: Bearer ${ACT}`]);
  expect((await remove('nothing')).status).toBe(404);
  expect((await remove(id)).status).toBe(200);
  expect(served.r.machine.silences()).toEqual([]);
  const details = async (body: object) => {
    const { status, json } = await served.post('/api/v1/silences', body);
    expect(status).toBe(400);
    return json.detail;
  };
  expect(await details({ for: '1h', reason: 'all of it' })).toContain('give one at least');
  expect(await details({ rule: 'x', reason: 'r' })).toContain('until, for: give one of them');
  expect(await details({ rule: 'x', reason: 'r', for: '1h', until: '2026-03-02T12:00:00Z' })).toContain(
    'give one of them',
  );
  expect(await details({ rule: 'x', reason: 'r', until: '2026-03-01T12:00:00Z' })).toContain('has ended already');
  expect(await details({ rule: 'x', reason: 'r', until: 'tomorrow' })).toContain('found "tomorrow"');
  expect(await details({ rule: 'x', reason: 'r', for: '400d' })).toContain('at most a year');
  expect(await details({ rule: 'x', for: '1h' })).toContain("must have required property 'reason'");
  expect(await details({ rule: 'x', reason: 'r', for: '1 hour' })).toBe(
    'for: permitted: a duration, like 30s, 5m or 2h',
  );
  expect(await details({ priority: 'P5', reason: 'r', for: '1h' })).toBe('priority: permitted: P1, P2, P3, P4');
});

const ROUTING = `
hours: { timeZone: Europe/Berlin }
people:
  ada: { name: Ada, email: ada@example.org, slackId: U012AB3CD, pagerDutyKey: her-own-key }
  ben: { name: Ben, email: ben@example.org }
teams:
  payments:
    name: Payments
    rota:
      starts: 2026-03-02
      primary: [ada, ben]
      secondary: [ben, ada]
      overrides: [{ from: 2026-03-04, until: 2026-03-05, primary: ben, secondary: ada }]
`;

test('who is on call now, at a time and next, by name and nothing else; without a rota, that there is none', async () => {
  const served = await serve({ routing: parseRouting(ROUTING, {}, 'routing.yml', START) });
  const [ada, ben] = [
    { id: 'ada', name: 'Ada' },
    { id: 'ben', name: 'Ben' },
  ];
  const { json, text } = await served.get('/api/v1/oncall?next=2');
  expect(json).toMatchObject({
    at: new Date(START).toISOString(),
    teams: [
      {
        ...{ team: 'payments', name: 'Payments' },
        now: { primary: ada, secondary: ben, until: '2026-03-03T23:00:00Z', by: 'rota' },
        next: [
          { from: '2026-03-03T23:00:00Z', until: '2026-03-04T23:00:00Z', primary: ben, secondary: ada, by: 'override' },
          { from: '2026-03-04T23:00:00Z', until: '2026-03-09T08:00:00Z', primary: ada, secondary: ben, by: 'rota' },
        ],
      },
    ],
  });
  expect(text).not.toMatch(/example\.org|U012AB3CD|her-own-key/);
  const later = await served.get('/api/v1/oncall?at=2026-03-10T00:00:00Z');
  expect(later.json).toMatchObject({ teams: [{ now: { primary: ben }, next: [] }] });
  for (const query of ['at=yesterday', 'at=%2B275760-09-13T00:00:00Z', 'next=-1', 'next=21', 'next=1.5', 'next=x']) {
    expect((await served.get(`/api/v1/oncall?${query}`)).status, query).toBe(400);
  }
  expect((await (await serve()).get('/api/v1/oncall')).status).toBe(404);
  expect((await served.get('/api/v1/rates')).json.detail).toContain('not evaluated here');
});

// ---- links ----

function linkOf(options: { secret?: string; atMs?: number; incidentId?: string } = {}) {
  const links = createActionLinks({ publicUrl: PUBLIC, secrets: [options.secret ?? SECRET] });
  const made = links?.(options.incidentId ?? 'incident1', 'slack:payments', options.atMs ?? START);
  const path = (url: string | undefined) => (url ?? '').replace(PUBLIC, '');
  return { acknowledge: path(made?.acknowledge), resolve: path(made?.resolve), url: made?.acknowledge ?? '' };
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

const NULL_ORIGIN = [
  'Host: alerts.example.org',
  'Origin: null',
  'Sec-Fetch-Site: same-origin',
  'Content-Type: application/x-www-form-urlencoded',
];

test('a link shows what it would do to whoever opens it, and does it when the button is pressed, once', async () => {
  const served = await serve();
  const { acknowledge: path, url } = linkOf();
  expect(url).toMatch(/^https:\/\/alerts\.example\.org\/logpipe\/a\/[\w-]+\.[\w-]{43}$/);
  // As it is opened from a message: another site's link.
  const opened = ['Host: alerts.example.org', 'Sec-Fetch-Site: cross-site', 'X-Forwarded-For: 192.0.2.1'];
  const shown = await served.ask('GET', path, opened);
  expect(shown.status).toBe(200);
  expect(shown.headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  expect(shown.headers['content-security-policy']).toMatch(
    /^default-src 'none'; style-src 'sha256-[\w+/=]{44}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'$/,
  );
  expect(shown.text).toContain('<html lang="en">');
  expect(shown.text).toContain('<h1>Acknowledge this incident?</h1>');
  expect(shown.text).toContain('<form method="post"><button>Acknowledge</button></form>');
  expect(shown.text).toContain('Calls &lt;fail&gt; &amp; &quot;fall&quot;');
  expect(shown.text).not.toMatch(/<script|<img|<link|<iframe|href=|src=|<fail>/i);
  const head = await served.ask('HEAD', path, opened);
  const { date: _, 'content-length': __, ...headers } = shown.headers;
  expect(head.headers).toMatchObject(headers);
  expect(head.text).toBe('');
  for (let i = 0; i < 3; i++) await served.ask('GET', path, opened);
  expect(served.given).toEqual([]);

  expect((await served.ask('POST', path, ['Host: alerts.example.org', 'Origin: https://evil.example'])).status).toBe(
    403,
  );
  expect((await served.ask('POST', path, ['Host: alerts.example.org', 'Sec-Fetch-Site: cross-site'])).status).toBe(403);
  expect((await served.ask('POST', path, JSON_HEADERS, '{}')).status).toBe(415);
  expect(served.given).toEqual([]);

  const done = await served.ask('POST', path, NULL_ORIGIN, '');
  expect(done.status).toBe(200);
  expect(done.text).toContain('<h1>The incident is acknowledged</h1>');
  expect(incidentOf(served).acknowledged).toMatchObject({ by: 'link from slack:payments', via: 'link' });
  for (const again of [await served.ask('POST', path, NULL_ORIGIN, ''), await served.ask('GET', path, opened)]) {
    expect(again.status).toBe(200);
    expect(again.text).toContain('<h1>Nothing was changed</h1>');
    expect(again.text).toContain('acknowledged by link from slack:payments');
    expect(again.text).not.toContain('<form');
  }
  expect(served.given).toHaveLength(1);
});

test('a link that was used stays used when the incident begins again', async () => {
  const served = await serve();
  const { acknowledge: path } = linkOf();
  await served.ask('POST', path, NULL_ORIGIN, '');
  const labels = { tenantId: 'acme' };
  served.wallMs += MINUTE;
  served.r.now = served.wallMs;
  served.r.go({ observations: [seen('failures', 'clear', labels)] });
  expect(incidentOf(served).state).toBe('resolved');
  expect((await served.ask('POST', path, NULL_ORIGIN, '')).text).toContain('Nothing was changed');
  served.r.go({ observations: [seen('failures', 'breached', labels)] });
  expect(incidentOf(served)).toMatchObject({ state: 'open', reopened: 1 });
  expect(incidentOf(served).acknowledged).toBeUndefined();
  expect((await served.ask('POST', path, NULL_ORIGIN, '')).text).toContain('Nothing was changed');
  expect(incidentOf(served).acknowledged).toBeUndefined();
  expect(served.given).toHaveLength(1);
  // While nobody has answered, the same press is the same command.
  served.desk = 'slow';
  const newer = linkOf({ atMs: served.wallMs }).acknowledge;
  for (let i = 0; i < 2; i++) expect((await served.ask('POST', newer, NULL_ORIGIN, '')).status).toBe(202);
  expect(served.given[1]?.commandId).toBe(served.given[2]?.commandId);
});

test('two presses at once are one command', async () => {
  const served = await serve();
  const { acknowledge: path } = linkOf();
  await Promise.all([1, 2, 3].map(() => served.ask('POST', path, NULL_ORIGIN, '')));
  expect(new Set(served.given.map(({ commandId }) => commandId)).size).toBe(1);
  const other = linkOf({ atMs: START + 1 });
  expect((await served.ask('POST', other.acknowledge, NULL_ORIGIN, '')).text).toContain('Nothing was changed');
});

test('expired, altered and foreign links each get a page, and change nothing', async () => {
  const served = await serve();
  const at = async (path: string, method = 'POST') => {
    served.monotonicMs += 10_000;
    const { status, text } = await served.ask(method, path, ['Host: localhost']);
    return [status, /<h1>(.*)<\/h1>/.exec(text)?.[1]];
  };
  const { acknowledge: path } = linkOf();
  const invalid = [404, 'This link is not valid'];
  const [payload = '', signature = ''] = path.slice(3).split('.');
  const content = JSON.parse(Buffer.from(payload, 'base64url').toString()) as object;
  const with_ = (change: object) => Buffer.from(JSON.stringify({ ...content, ...change })).toString('base64url');
  const bits = [...signature].map((character, i) => {
    const other = character === 'A' ? 'B' : 'A';
    return `/a/${payload}.${signature.slice(0, i)}${other}${signature.slice(i + 1)}`;
  });
  for (const altered of [
    ...bits,
    // The same bytes: of the last character, two bits are not part of the signature.
    `/a/${payload}.${signature.slice(0, -1)}${ALPHABET[ALPHABET.indexOf(signature.at(-1)!) + 1]}`,
    `/a/${with_({ a: 'resolve' })}.${signature}`,
    `/a/${with_({ i: 'incident2' })}.${signature}`,
    `/a/${with_({ e: START + 1e12 })}.${signature}`,
    `/a/${payload}.`,
    `/a/${payload}`,
    `/a/.${signature}`,
    `/a/${payload}=.${signature}`,
    `/a/${payload}.${signature}.${signature}`,
    '/a/x',
    `/a/${'a'.repeat(5_000)}.${signature}`,
    linkOf({ secret: `${SECRET}x` }).acknowledge,
  ]) {
    expect(await at(altered), altered.slice(-60)).toEqual(invalid);
  }
  expect(await at(linkOf({ incidentId: 'of-another-installation' }).acknowledge)).toEqual([
    404,
    'This incident is not known here',
  ]);
  // The former secret still holds while it is listed.
  expect(await at(linkOf({ secret: FORMER }).acknowledge, 'GET')).toEqual([200, 'Acknowledge this incident?']);
  served.wallMs = START + 24 * HOUR;
  const expired = [410, 'This link has expired'];
  expect([await at(path), await at(path, 'GET')]).toEqual([expired, expired]);
  expect(served.given).toEqual([]);
});

// ---- PagerDuty ----

function pagerDuty(change: object = {}, data: object = {}): string {
  return JSON.stringify({
    event: {
      id: '01BRB6ZP4M6T8ZG4X6BP63ZB9O',
      event_type: 'incident.acknowledged',
      resource_type: 'incident',
      occurred_at: new Date(START + MINUTE).toISOString(),
      agent: {
        html_url: 'https://acme.pagerduty.com/users/PLH1HKV',
        id: 'PLH1HKV',
        summary: 'Tenex Engineer',
        type: 'user_reference',
      },
      client: null,
      data: {
        id: 'PGR0VU2',
        type: 'incident',
        status: 'acknowledged',
        incident_key: 'logpipe/incident1',
        title: 'é 🚨',
        ...data,
      },
      ...change,
    },
  });
}
const sign = (body: string, secret = PAGERDUTY) => `v1=${createHmac('sha256', secret).update(body).digest('hex')}`;
const hook = (served: Served, body: string, ...signatures: string[]) =>
  served.ask(
    'POST',
    '/api/v1/webhooks/pagerduty',
    [...JSON_HEADERS, ...signatures.map((one) => `X-PagerDuty-Signature: ${one}`)],
    body,
  );

test('PagerDuty’s webhook acknowledges what a person acknowledged there, once, however often it is delivered', async () => {
  const served = await serve();
  const body = pagerDuty();
  const { status, json } = await hook(served, body, `v1=${'0'.repeat(64)}, ${sign(body)}`);
  expect(status).toBe(202);
  expect(json.commandId).toMatch(/^pagerduty-[\w-]{32}$/);
  expect(incidentOf(served).acknowledged).toMatchObject({ by: 'Tenex Engineer, in PagerDuty', via: 'pagerduty' });
  const again = await hook(served, body, sign(body, 'another-secret-of-pagerduty'));
  expect([again.status, again.json.ignored]).toEqual([202, 'this event was dealt with before']);
  expect(served.given).toHaveLength(1);
});

test('a webhook that PagerDuty did not sign is refused', async () => {
  const served = await serve();
  const body = pagerDuty();
  const spaced = `${body.slice(0, -1)} }`;
  for (const [sent, ...signatures] of [
    [body],
    [body, ''],
    [body, 'v1='],
    [body, sign(body, 'a-secret-of-somebody-else')],
    [spaced, sign(body)],
    [body, sign(body).replace('v1=', 'v0=')],
    [body, sign(body).slice(3)],
    [body, sign(body).toUpperCase()],
    [body, `${sign(body)}0`],
    [body, sign(body).slice(0, -1)],
    [body, sign(body), sign(body)],
    [body, Array(50).fill(sign(body)).join(',')],
  ] as [string, ...string[]][]) {
    served.monotonicMs += 10_000;
    expect((await hook(served, sent, ...signatures)).status, signatures.join().slice(0, 90)).toBe(403);
  }
  expect(served.given).toEqual([]);
  const signed = await hook(served, '{', sign('{'));
  expect(signed.status).toBe(400);
});

test('echoes of our own, other people’s incidents and other events change nothing, and are taken all the same', async () => {
  const served = await serve();
  const integration = { id: 'PXMQRWJ', summary: 'Events API V2', type: 'inbound_integration_reference' };
  const ignored = async (change: object, data: object = {}) => {
    const body = pagerDuty(change, data);
    const { status, json } = await hook(served, body, sign(body));
    expect(status).toBe(202);
    return json.ignored;
  };
  expect(await ignored({ agent: integration })).toBe('no person did that');
  expect(await ignored({ agent: integration, event_type: 'incident.resolved' })).toBe('no person did that');
  expect(await ignored({ agent: null })).toBe('no person did that');
  for (const type of [
    'incident.triggered',
    'incident.unacknowledged',
    'incident.reopened',
    'pagey.ping',
    'toString',
    '__proto__',
  ]) {
    expect(await ignored({ event_type: type }), type).toContain('change nothing here');
  }
  expect(await ignored({}, { incident_key: 'd3640fbd41094207a1c11e58e46b1662' })).toBe(
    'the incident is not one of logpipe',
  );
  expect(await ignored({}, { incident_key: ['logpipe/incident1'] })).toBe('the incident is not one of logpipe');
  expect(await ignored({}, { incident_key: 'logpipe/../incident1' })).toBe('the incident is not one of logpipe');
  expect(await ignored({}, { incident_key: 'logpipe/incident9' })).toBe('there is no such incident');
  // It was delivered after the incident began again.
  expect(await ignored({ occurred_at: new Date(START - HOUR).toISOString() })).toContain(
    'before the present alerts began',
  );
  for (const odd of ['[]', '7', 'null', '{}', '{"event":null}', '{"event":{"id":7}}']) {
    const { status, json } = await hook(served, odd, sign(odd));
    expect([status, json.ignored], odd).toEqual([202, 'there is no event in it']);
  }
  expect(served.given).toEqual([]);
  await served.post(acknowledge);
  expect(await ignored({})).toBe('that is so already');
  served.desk = 'away';
  const body = pagerDuty();
  expect((await hook(served, body, sign(body))).status).toBe(503);
});
