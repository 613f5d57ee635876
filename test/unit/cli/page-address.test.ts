// `logpipe page`: the address it prints opens a session, and only what is asked for stands on standard output.
import { expect, test } from 'vitest';
import { page } from '../../../src/cli/page-address.ts';
import { loadConfig } from '../../../src/config.ts';
import { createPassReader } from '../../../src/ops/access.ts';

const SECRET = 'the-secret-that-signs-pages-0123456789';
const NOW = Date.parse('2026-11-29T10:00:00Z');

function run(http: object, options: object = {}) {
  const [out, err]: [string[], string[]] = [[], []];
  const base = loadConfig({ env: {} });
  const config = { ...base, http: { ...base.http, ...http } };
  const io = { out: (line: string) => void out.push(line), err: (line: string) => void err.push(line) };
  const status = page(config, { readOnly: false, local: false, json: false, ...options }, io, { now: () => NOW });
  return { status, out, err: err.join('\n') };
}

const passOf = (url: string) =>
  createPassReader('once', [SECRET], { now: () => NOW + 15 * 60_000 - 1 })(new URL(url).hash.slice('#once='.length));

test('one address, with a token that opens a session once', () => {
  const { status, out, err } = run({ linkSecrets: [SECRET, 'x'.repeat(40)] });
  expect([status, out.length]).toEqual([0, 1]);
  expect(out[0]).toMatch(/^http:\/\/127\.0\.0\.1:8780\/#once=[\w-]+\.[\w-]{43}$/);
  expect(passOf(out[0]!)).toMatchObject({ scopes: ['read', 'act'], expiresMs: NOW + 15 * 60_000 });
  expect(err).toBe(
    'It works once, within 15 minutes; the session may read and act, for twelve hours.\nTo read, on this machine: http://127.0.0.1:8780/',
  );
  expect(err).not.toContain(SECRET);
  expect(run({ linkSecrets: [SECRET] }).out[0]).not.toBe(out[0]);
});

test('read only, from outside, from here all the same, and as JSON', () => {
  const http = { linkSecrets: [SECRET], publicUrl: 'https://logs.example.org/pipe/', host: '::' };
  const outside = run(http, { readOnly: true });
  expect(outside.out[0]).toMatch(/^https:\/\/logs\.example\.org\/pipe\/#once=/);
  expect(passOf(outside.out[0]!)).toMatchObject({ scopes: ['read'] });
  expect(outside.err).toMatch(/^It works once, .* may only read/);
  expect(run(http, { local: true }).out[0]).toMatch(/^http:\/\/\[::1\]:8780\/#once=/);
  const { out, err } = run(http, { json: true });
  expect(err).toBe('');
  const json = JSON.parse(out.join('\n')) as { url: string; expires: string };
  expect(json).toEqual({ url: expect.stringMatching(/#once=/), expires: '2026-11-29T10:15:00.000Z' });
});

test('without secrets, the plain address and what to set; without a page, why', () => {
  const { status, out, err } = run({});
  expect([status, out]).toEqual([0, ['http://127.0.0.1:8780/']]);
  expect(err).toMatch(/^It can be read on this machine, and nothing changed: for more, set http\.linkSecrets/);
  expect(JSON.parse(run({}, { json: true }).out[0]!)).toEqual({ url: 'http://127.0.0.1:8780/', expires: null });
  expect(() => run({ page: false })).toThrow('http.page: false, so that there is no page');
  expect(() => run({ enabled: false })).toThrow('http.enabled: false');
  expect(() => run({ port: 0 })).toThrow('http.port: 0 is another one at each start');
});
