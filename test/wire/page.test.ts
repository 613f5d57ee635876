// The page's files and sessions, attacked over the wire: what each answer's headers permit a browser, what of the file system a path can
// reach, and what a token is good for.
import { createHmac } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import { createActionLinks, type Scope, signPass } from '../../src/ops/access.ts';
import { reply } from '../../src/ops/guard.ts';
import { sessionRoutes } from '../../src/ops/page.ts';
import { pageFolder, servePage } from '../kit/page-server.ts';

const SCRIPT = `console.log(1);\n`.repeat(200);
const FILES = {
  'index.html': '<!doctype html><title>logpipe</title>'.padEnd(400, ' '),
  'assets/page-ABCD2345.js': SCRIPT,
  'assets/page-ABCD2345.css': 'body{}',
  'assets/icon.svg': '<svg xmlns="http://www.w3.org/2000/svg"/>',
};
const SECRET = 'the-secret-that-signs-pages-0123456789';
const FORMER = 'the-secret-that-signed-pages-0123456789';
const PUBLIC = 'https://logs.example.org/logpipe';
const TOKEN = 'a-token-that-may-read-0123456789';
const MINUTE = 60_000;

describe('files', () => {
  test('each comes with its type, the policy, and how long to keep it', async () => {
    const { ask } = await servePage({ folder: pageFolder(FILES) });
    const index = await ask('GET', '/?view=logs&text=%3Cscript%3E');
    expect([index.status, index.text]).toEqual([200, FILES['index.html']]);
    expect(index.headers).toMatchObject({
      'content-type': 'text/html; charset=utf-8',
      'content-length': '400',
      'cache-control': 'no-cache',
      'content-security-policy':
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
      'x-frame-options': 'DENY',
      vary: 'accept-encoding',
    });
    expect((await ask('GET', '/index.html')).headers.etag).toBe(index.headers.etag);
    const kept = { 'cache-control': 'public, max-age=31536000, immutable' };
    const script = await ask('GET', '/assets/page-ABCD2345.js');
    expect(script.headers).toMatchObject({ ...kept, 'content-type': 'text/javascript; charset=utf-8' });
    expect(script.headers['content-security-policy']).toBe(index.headers['content-security-policy']);
    const style = await ask('GET', '/assets/page-ABCD2345.css');
    expect(style.headers).toMatchObject({ ...kept, 'content-type': 'text/css; charset=utf-8' });
    for (const path of ['/assets/icon.svg', '/favicon.ico']) {
      const icon = await ask('GET', path);
      expect(icon.status, path).toBe(200);
      expect(icon.headers, path).toMatchObject({ 'content-type': 'image/svg+xml', 'cache-control': 'no-cache' });
    }
    const head = await ask('HEAD', '/');
    expect([head.status, head.text]).toEqual([200, '']);
    const { date: _, ...like } = index.headers;
    expect(head.headers).toMatchObject(like);
  });

  test('a known one is not sent again, and gzip is another one', async () => {
    const { ask } = await servePage({ folder: pageFolder(FILES) });
    const get = (headers: Record<string, string>) => ask('GET', '/assets/page-ABCD2345.js', headers);
    const plain = await get({});
    const packed = await get({ 'accept-encoding': 'br;q=1, gzip' });
    expect(packed.headers['content-encoding']).toBe('gzip');
    expect(gunzipSync(packed.body).toString()).toBe(SCRIPT);
    expect(packed.body.length).toBeLessThan(plain.body.length / 5);
    expect(packed.headers.etag).not.toBe(plain.headers.etag);
    for (const encoding of ['', 'identity', 'gzip;q=0', 'gzip; q=0.000, br', 'br', '*;q=0', 'xgzip']) {
      expect((await get({ 'accept-encoding': encoding })).text, encoding).toBe(SCRIPT);
    }
    expect((await get({ 'accept-encoding': '*' })).headers['content-encoding']).toBe('gzip');
    const tag = plain.headers.etag!;
    expect(tag).toMatch(/^"[\w-]{27}"$/);
    for (const known of [tag, `W/${tag}`, `"x", ${tag}`, '*']) {
      const answer = await get({ 'if-none-match': known });
      expect([answer.status, answer.text, answer.headers.etag], known).toEqual([304, '', tag]);
      expect(answer.headers['cache-control']).toMatch(/immutable/);
    }
    expect((await get({ 'if-none-match': packed.headers.etag! })).status).toBe(200);
    expect((await get({ 'if-none-match': packed.headers.etag!, 'accept-encoding': 'gzip' })).status).toBe(304);
    // Short files only grow by it.
    const short = await ask('GET', '/assets/page-ABCD2345.css', { 'accept-encoding': 'gzip' });
    expect([short.text, short.headers['content-encoding']]).toEqual(['body{}', undefined]);
  });

  test('nothing but what was there at the start can be reached, by any path or method', async () => {
    const folder = pageFolder(FILES);
    writeFileSync(join(folder, '..', 'secret.txt'), 'secret');
    writeFileSync(join(folder, 'notes.txt'), 'secret');
    const { ask } = await servePage({ folder });
    await ask('GET', '/');
    writeFileSync(join(folder, 'assets', 'later.js'), 'secret');
    for (const path of [
      ...['/assets/', '/assets/later.js', '/assets/../index.html', '/assets/../notes.txt', '/assets/../../secret.txt'],
      ...['/assets/..%2f..%2fsecret.txt', '/assets/%2e%2e/notes.txt', '/assets/..\\notes.txt', '/assets//icon.svg'],
      ...['/assets/icon.svg/', '/assets/icon.svg%00.js', '/assets/__proto__', '/assets/constructor', '//index.html'],
      ...['/notes.txt', '/INDEX.HTML', '/index.html/', '/%2e%2e/secret.txt', '/../secret.txt'],
    ]) {
      const answer = await ask('GET', path);
      expect([answer.status, answer.text.includes('secret"')], path).toEqual([404, false]);
      expect(answer.text, path).not.toMatch(/^secret/);
    }
    for (const method of ['POST', 'DELETE']) {
      const answer = await ask(method, '/', { 'content-length': '10000' }, 'x'.repeat(10_000));
      expect([answer.status, answer.headers.allow], method).toEqual([405, 'GET, HEAD']);
    }
    expect((await ask('PUT', '/')).status).toBe(405);
  });

  test('they are open by every name of the server, and by no other; what they show is not', async () => {
    const access = { publicUrl: PUBLIC, linkSecrets: [SECRET], tokens: [] };
    const { ask } = await servePage({
      ...{ folder: pageFolder(FILES), access, allowedHosts: ['logs.internal'] },
      parts: ({ clock }) => [sessionRoutes({ linkSecrets: [SECRET], environment: 'test' }, { clock })],
    });
    for (const host of ['localhost', '127.0.0.1:8780', '[::1]', 'logs.internal', 'logs.example.org']) {
      for (const path of ['/', '/favicon.ico', '/assets/page-ABCD2345.js']) {
        expect((await ask('GET', path, { host })).status, host + path).toBe(200);
      }
    }
    for (const host of ['evil.example', 'logs.example.org.evil.example']) {
      expect((await ask('GET', '/', { host })).status, host).toBe(421);
    }
    for (const path of ['/metrics', '/api/v1/status', '/nowhere', '/api/v1/session', '/assetsx']) {
      expect((await ask('GET', path, { host: 'logs.example.org' })).status, path).toBe(401);
    }
  });

  test('switched off, and not built: said', async () => {
    const off = await servePage({ folder: undefined });
    const answer = await off.ask('GET', '/');
    expect([answer.status, answer.json]).toEqual([
      404,
      { error: expect.stringMatching(/^\/ is not served; try \/live/) },
    ]);
    const missing = await servePage({ folder: join(pageFolder(FILES), 'nowhere') });
    for (const path of ['/', '/assets/page-ABCD2345.js', '/favicon.ico']) {
      const { status, json } = await missing.ask('GET', path);
      expect([status, json.detail], path).toEqual([503, 'the page has not been built: npm run build makes it']);
    }
    expect((await missing.ask('GET', '/nowhere')).json.error).toMatch(/try \/, \/live/);
  });
});

// ---- sessions ----

const START = Date.parse('2026-11-29T10:00:00Z');

async function serveSessions(linkSecrets: readonly string[] = [SECRET, FORMER]) {
  let nowMs = START;
  const clock: Clock = { ...systemClock, now: () => nowMs, monotonicMs: () => nowMs - START };
  const access = {
    publicUrl: PUBLIC,
    linkSecrets,
    tokens: [{ name: 'wall', token: TOKEN, scopes: ['read'] as const }],
  };
  const server = await servePage({
    ...{ folder: undefined, access, clock },
    parts: () => [
      sessionRoutes({ linkSecrets, environment: 'test' }, { clock }),
      (app, { permit }) => {
        app.post('/api/v1/silences', (c) => reply(c, { by: permit(c.env.incoming, 'act')?.name }));
      },
    ],
  });
  const json = { host: 'localhost', 'content-type': 'application/json' };
  return {
    ...server,
    /** Goes on by that much. */
    later(ms: number) {
      nowMs += ms;
    },
    make: (scopes: readonly Scope[] = ['read', 'act'], secret = SECRET) =>
      signPass('once', secret, { scopes, nowMs }).token,
    open: (once: unknown, headers = {}) =>
      server.ask('POST', '/api/v1/session', { ...json, ...headers }, JSON.stringify({ once })),
    who: (token: string, headers = {}) =>
      server.ask('GET', '/api/v1/session', { host: 'logs.example.org', authorization: `Bearer ${token}`, ...headers }),
    act: (token: string) => server.ask('POST', '/api/v1/silences', { ...json, authorization: `Bearer ${token}` }, '{}'),
  };
}

describe('sessions', () => {
  test('a token opens one, once; it ends after twelve hours', async () => {
    const { make, open, who, act, later, logged } = await serveSessions();
    const once = make();
    later(15 * MINUTE - 1);
    const opened = await open(once);
    const expires = '2026-11-29T22:14:59.999Z';
    const session = { name: 'page', mayAct: true, expires, environment: 'test' };
    expect([opened.status, opened.json]).toEqual([200, { ...session, token: expect.any(String) }]);
    expect(opened.headers['cache-control']).toBe('no-store');
    const token = String(opened.json.token);
    expect((await who(token)).json).toEqual(session);
    expect((await act(token)).json).toEqual({ by: 'page' });
    const again = await open(once);
    expect([again.status, again.json.detail]).toEqual([401, 'the address has been used; logpipe page makes a new one']);
    later(12 * 60 * MINUTE - 1);
    expect((await who(token)).status).toBe(200);
    later(1);
    const ended = await who(token);
    expect([ended.status, ended.json.detail]).toEqual([401, 'the session has ended; logpipe page opens a new one']);
    expect((await act(token)).status).toBe(401);
    for (const secret of [once, token, SECRET]) expect(logged.join('\n')).not.toContain(secret.slice(0, 30));
  });

  test('read only, by another instance, and with the former secret', async () => {
    const one = await serveSessions([FORMER]);
    const { open, who, act, make } = await serveSessions();
    const { token } = (await open(make(['read']))).json;
    expect((await who(String(token))).json).toMatchObject({ name: 'page', mayAct: false });
    expect((await act(String(token))).status).toBe(403);
    const former = (await one.open(one.make(['read', 'act'], FORMER))).json;
    expect((await act(String(former.token))).status).toBe(200);
    expect((await open(make(['read'], FORMER))).status).toBe(200);
  });

  test('on this machine one may read without, and a token of the configuration is a session of its own', async () => {
    const { ask, who } = await serveSessions();
    const here = await ask('GET', '/api/v1/session', { host: 'localhost' });
    expect(here.json).toEqual({ name: null, mayAct: false, expires: null, environment: 'test' });
    expect((await who(TOKEN)).json).toEqual({ name: 'wall', mayAct: false, expires: null, environment: 'test' });
    expect((await ask('GET', '/api/v1/session', { host: 'logs.example.org' })).status).toBe(401);
  });

  test('whatever is altered, too old, or was signed for something else opens none', async () => {
    const { make, open, who, act, later } = await serveSessions();
    const once = make();
    const [payload, signature] = once.split('.') as [string, string];
    const content = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>;
    const other = Buffer.from(JSON.stringify({ ...content, e: START + 1e9 })).toString('base64url');
    const signed = (purpose: string, text: string) =>
      createHmac('sha256', SECRET).update(`${purpose}${text}`).digest('base64url');
    const links = createActionLinks({ publicUrl: PUBLIC, secrets: [SECRET] })!;
    const link = links('i', 'slack', START)!.acknowledge.split('/a/')[1]!;
    const session = signPass('session', SECRET, { scopes: ['read', 'act'], nowMs: START }).token;
    const last = signature.at(-1) === 'A' ? 'B' : 'A';
    const bad = [
      ...['', '.', 'x', `${payload}.`, `.${signature}`, payload, `${other}.${signature}`],
      ...[`${payload}.${signature.slice(0, -1)}${last}`, `${payload}.${signed('logpipe link ', payload)}`],
      ...[`${payload}.${signed('', payload)}`, link, session, make(['read'], 'another-secret-0123456789-0123456789')],
    ];
    for (const [i, token] of bad.entries()) {
      later(MINUTE / 10);
      const { status, json } = await open(token);
      expect(status, `${i}: ${token}`).toBe(token === '' ? 400 : 401);
      expect(JSON.stringify(json)).not.toContain(SECRET);
    }
    for (const body of [42, null, ['x'], 'x'.repeat(1_000), 'a\u0000b']) expect((await open(body)).status).toBe(400);
    later(2 * MINUTE);
    // What opens a session is none, and neither is a link.
    for (const token of [once, link]) {
      expect((await who(token)).status).toBe(401);
      expect((await act(token)).status).toBe(401);
    }
    later(13 * MINUTE);
    const late = await open(once);
    expect([late.status, late.json.detail]).toEqual([401, 'the address is too old; logpipe page makes a new one']);
    // Pages of others, and forms, ask for nothing here.
    expect((await open(make(), { origin: 'https://evil.example' })).status).toBe(403);
    expect((await open(make(), { 'content-type': 'text/plain' })).status).toBe(415);
  });

  test('whoever guesses has to wait; whoever has a token does not', async () => {
    const { make, open, who, later, logged } = await serveSessions();
    const { token } = (await open(make())).json;
    for (let i = 0; i < 20; i++) expect((await open(`x${i}.${'A'.repeat(43)}`)).status).toBe(401);
    const refused = await open('x.y');
    expect([refused.status, Number(refused.headers['retry-after'])]).toEqual([429, 60]);
    expect((await who('a-wrong-token')).status).toBe(429);
    expect((await who(String(token))).status).toBe(200);
    expect((await open(make())).status).toBe(200);
    later(MINUTE);
    expect((await open('x.y')).status).toBe(401);
    expect(logged).toEqual([
      'An address has been refused too often, and has to wait {"address":"127.0.0.1","what":"token"}',
    ]);
  });

  test('what was used is remembered within bounds, and nothing opens twice for that', async () => {
    const { make, open, later } = await serveSessions();
    const all = Array.from({ length: 1_000 }, () => make());
    for (const once of all) expect((await open(once)).status).toBe(200);
    const full = await open(make());
    expect([full.status, full.headers['retry-after']]).toEqual([503, '60']);
    expect((await open(all[0])).status).toBe(401);
    later(15 * MINUTE);
    expect((await open(make())).status).toBe(200);
    expect((await open(all[0])).status).toBe(401);
  });

  test('without secrets there are none, and that is said', async () => {
    const { make, open, ask } = await serveSessions([]);
    expect((await open(make())).json.detail).toBe('http.linkSecrets is not set, so that nothing can be signed');
    expect((await ask('GET', '/api/v1/session', { host: 'localhost' })).status).toBe(200);
  });
});
