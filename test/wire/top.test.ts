// `logpipe top` and `logpipe rules explain` against real HTTP servers: logpipe's own, and some that are not logpipe, or not well.

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { TermState } from '../../src/alerter/alerter.ts';
import { rulesExplain } from '../../src/cli/rules.ts';
import { addressesOf, countsOf, createScenes, lookAt, picture, type Scene, top } from '../../src/cli/top.ts';
import { loadConfig } from '../../src/config.ts';
import { systemClock } from '../../src/core/clock.ts';
import { createMetrics, type Metrics } from '../../src/core/metrics.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { createAlertMachine } from '../../src/incidents/machine.ts';
import { routesByPriority } from '../../src/oncall/routes.ts';
import { createAlertingView } from '../../src/ops/explain.ts';
import { createStatusView, type Readiness, startHttp } from '../../src/ops/http.ts';
import { toDecidingRule } from '../../src/rules/rule-config.ts';
import { calls, createStage, RULES, rulesOf, SECOND, T0 } from '../unit/rules/kit.ts';

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** Rules that are judged, with an error rate of 35 %; `more` label sets are breached too. */
function evaluated(rules = RULES, more = 0): TermState {
  const stage = createStage(rules);
  for (let i = 0; i < more; i++) calls(stage, T0, { failed: 90, ok: 10, tenant: `tenant\u001b[2J-${i}` });
  calls(stage, T0, { failed: 21, ok: 39 });
  const { times, observations } = stage.tick(T0 + 20 * SECOND);
  const machine = createAlertMachine(rules.map(toDecidingRule), new Map(), {
    nextId: () => 'i1',
    environment: 'test',
    routes: routesByPriority(() => []),
    masker: createMasker(),
  });
  machine.accept(machine.step({ evalMs: times.evalMs, wallMs: T0, observations }));
  const { store } = stage.evaluator;
  return {
    rules,
    store,
    times,
    observations,
    alerts: machine.alerts(),
    incidents: machine.incidents(),
    silences: machine.silences(),
  };
}

interface Served {
  readonly url: string;
  readonly metrics: Metrics;
  close(): Promise<void>;
}

async function logpipe(
  roles: readonly string[],
  state?: TermState,
  readiness: readonly Readiness[] = [{ name: 'elasticsearch', ready: true, detail: 'accepting documents' }],
  port = 0,
): Promise<Served> {
  const metrics = createMetrics();
  const about = { version: '9.9.9', roles, source: 'kafka', group: 'indexing' };
  const server = await startHttp(
    { enabled: true, host: '127.0.0.1', port, allowedHosts: [] },
    {
      ...{ metrics, clock: systemClock, readiness: () => readiness },
      platform: { metrics: () => undefined, stats: () => undefined },
      status: createStatusView(about, {
        ...{ clock: systemClock, readiness: () => readiness },
        alerting: createAlertingView(() => state, { clock: systemClock, masker: createMasker() }),
      }),
    },
  );
  ends.push(() => server.close());
  return { url: server.url, metrics, close: () => server.close() };
}

/** What somebody else serves. */
async function stranger(answer: Parameters<typeof createServer>[1]): Promise<string> {
  const server: Server = createServer(answer as never);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function terminal(tty: boolean) {
  const written: string[] = [];
  const waiting: { readonly count: number; readonly done: () => void }[] = [];
  return {
    written,
    out: {
      ...{ isTTY: tty, columns: 80, rows: 24 },
      write(text: string) {
        written.push(text);
        for (const { count, done } of waiting) if (written.length >= count) done();
      },
    },
    /** So many pictures have been drawn. */
    drawn: (count: number) => new Promise<void>((done) => waiting.push({ count, done })),
  };
}

const options = { once: false, json: false, everyMs: 20 };
const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/;

describe('top', () => {
  test('one picture of 80 x 24: rates, lag, errors, alerts, rules with their thresholds, parts', async () => {
    const served = await logpipe(['indexer', 'counter', 'alerter'], evaluated(RULES, 12), [
      { name: 'kafka', ready: true, detail: 'reading 4 partitions' },
      { name: 'elasticsearch', ready: false, detail: 'unreachable: nothing listens' },
      { name: 'alerter', ready: true, detail: 'evaluating' },
    ]);
    const { metrics } = served;
    metrics.consumed.inc(1_000);
    metrics.indexed.inc({ sink: 'elasticsearch' }, 900);
    metrics.tagged.inc({ tag: 'error' }, 250);
    metrics.tagged.inc({ tag: '_event_invalid' }, 500);
    metrics.deadLettered.inc({ reason: 'document_refused' }, 3);
    metrics.lag.set({ group: 'indexing', partition: '0' }, 60);
    metrics.lag.set({ group: 'indexing', partition: '1' }, 40);
    metrics.lag.set({ group: 'counting', partition: '0' }, 7_000);
    metrics.paused.set({ reason: 'in_flight' }, 1);
    const { out, written } = terminal(true);
    expect(
      await top(
        [served.url],
        { ...options, once: true },
        { ...{ out, clock: systemClock }, stop: AbortSignal.abort() },
      ),
    ).toBe(0);
    const lines = written.join('').trimEnd().split('\n');
    expect(lines.length).toBeLessThanOrEqual(23);
    expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(80);
    expect(written.join('').replaceAll('\n', '')).not.toMatch(CONTROL);
    const text = lines.join('\n');
    for (const part of [
      `logpipe top   ${new URL(served.url).host}   9.9.9   indexer, counter, alerter   up`,
      'lag 100',
      'read         1,000   indexed       900',
      'dead letters 3, duplicates 0, dropped 0',
      'dead letters  document_refused 3',
      '3 firing',
      'P1  firing     12:00:20  High Error Rate Detected: Error rate is',
      '/ 20 %',
      'wait  elasticsearch   0 docs/s; unreachable: nothing listens',
      'intake waits (in_flight)',
    ]) {
      expect(text).toContain(part);
    }
  });

  test('rates and the error rate are those between two looks; a counter that begins anew gives none', () => {
    const next = createScenes();
    const at = (atMs: number, read: number, errors: number, indexed: number): Scene =>
      next({
        atMs,
        instances: [
          {
            ...{ url: 'http://a', ready: true, dependencies: [] },
            counts: countsOf(
              `# HELP x\nlogpipe_consumed_total ${read}\nlogpipe_tagged_total{tag="error"} ${errors}\nlogpipe_indexed_total{sink="ndjson"} ${indexed}\nlogpipe_indexed_total{sink="el\\"se"} NaN\n`,
            ),
          },
        ],
      });
    expect(at(0, 100, 50, 100).rates).toEqual({ read: undefined, indexed: undefined });
    const second = at(2_000, 300, 60, 200);
    expect(second.rates.read).toBe(100);
    expect([...second.rates.indexed!]).toEqual([['ndjson', 50]]);
    expect(second.errors).toEqual({ errors: 10, read: 200, overMs: 2_000 });
    expect(at(3_000, 5, 1, 5).rates.read).toBeUndefined();
    expect(at(4_000, 15, 1, 15).rates.read).toBe(10);
  });

  test('roles in several processes: added up; and what none of them does is named', async () => {
    const indexer = await logpipe(['indexer']);
    indexer.metrics.consumed.inc(5);
    const second = await logpipe(['indexer', 'counter']);
    second.metrics.consumed.inc(7);
    const scene = createScenes()({
      atMs: 0,
      instances: await Promise.all([indexer.url, second.url].map((url) => lookAt(url))),
    });
    expect(scene.totals.read).toBe(12);
    const text = picture(scene, 40).join('\n');
    expect(text).toContain('not in these processes: alerter; name theirs with a further --url');
    expect(text).toContain('alerts        not evaluated here');
  });

  test('who is away is said, and asked again; drawn in place on a terminal alone', async () => {
    const gone = await logpipe(['indexer', 'counter', 'alerter']);
    const { port } = new URL(gone.url);
    await gone.close();
    const once = terminal(false);
    const stopped = { clock: systemClock, stop: AbortSignal.abort() };
    expect(await top([gone.url], { ...options, once: true }, { ...stopped, out: once.out })).toBe(1);
    expect(once.written.join('')).toContain(`away          ${gone.url}: nothing listens there`);

    const screen = terminal(true);
    const piped = terminal(false);
    const ending = new AbortController();
    const live = { clock: systemClock, stop: ending.signal };
    const runs = [
      top([gone.url], options, { ...live, out: screen.out }),
      top([gone.url], options, { ...live, out: piped.out }),
    ];
    await Promise.all([screen.drawn(2), piped.drawn(2)]);
    const back = await logpipe(['indexer', 'counter', 'alerter'], evaluated(), undefined, Number(port));
    expect(back.url).toBe(gone.url);
    const seen = () => screen.written.findIndex((text) => text.includes('9.9.9'));
    while (seen() === -1) await screen.drawn(screen.written.length + 1);
    await piped.drawn(piped.written.length + 2);
    ending.abort();
    expect(await Promise.all(runs)).toEqual([0, 0]);
    expect(screen.written[0]).toMatch(/^\r/);
    expect(screen.written[1]).toMatch(/^\u001b\[\d+A\r/);
    expect(piped.written.join('')).not.toContain('\u001b');
  });

  test('NDJSON: one object per look', async () => {
    const served = await logpipe(['indexer', 'counter', 'alerter'], evaluated());
    served.metrics.consumed.inc(5);
    const { out, written, drawn } = terminal(true);
    const ending = new AbortController();
    const running = top([served.url], { ...options, json: true }, { out, clock: systemClock, stop: ending.signal });
    await drawn(2);
    ending.abort();
    await running;
    for (const line of written) {
      expect(line).toMatch(/^\{[^\n]*\}\n$/);
      expect(JSON.parse(line)).toMatchObject({
        instances: [{ url: served.url, up: true, version: '9.9.9', ready: true }],
        totals: { read: 5, lag: null },
        alerting: { firing: 2 },
        missingRoles: [],
      });
    }
  });

  test.each([
    [
      'a page',
      (_: unknown, response: { end(text: string): void }) => response.end('<html>'),
      'something that is not logpipe',
    ],
    [
      'a redirect',
      (_: unknown, response: { writeHead(status: number, headers: object): { end(): void } }) =>
        response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
      '/ready answers 302',
    ],
    [
      'an answer without an end',
      (_: unknown, response: import('node:http').ServerResponse) => {
        const piece = 'x'.repeat(1_000_000);
        const more = () => {
          while (!response.destroyed && response.write(piece));
        };
        response.on('drain', more);
        more();
      },
      'it answers more than 8 MB',
      // Three times 8 MB through a busy machine.
      60_000,
    ],
    ['silence', () => {}, 'no answer within 2 s'],
  ])('%s in the place of logpipe is said', async (_, answer, problem, timeoutMs?: number) => {
    const instance = await lookAt(await stranger(answer as never), timeoutMs);
    expect(instance.problem).toContain(problem);
  });

  test('an older logpipe without the status, and one whose status is nonsense, still show what they have', async () => {
    for (const status of [
      '{"version":1}',
      '{"version":"\\u001b[2J","roles":["indexer"],"uptimeSeconds":1,"alerting":{"firing":1,"pending":0,"alerts":[null,{"priority":"P1"}],"rules":[{"id":7}]}}',
    ]) {
      const url = await stranger(((
        request: { url: string },
        response: { statusCode: number; end(text: string): void },
      ) => {
        if (request.url === '/ready')
          response.end('{"ready":true,"dependencies":[{"name":"kafka","ready":true,"detail":"\\u001b[31mred"},7]}');
        else if (request.url === '/metrics') response.end('logpipe_consumed_total 42\n');
        else response.end(status);
      }) as never);
      const { out, written } = terminal(false);
      await top([url], { ...options, once: true }, { out, clock: systemClock, stop: AbortSignal.abort() });
      const text = written.join('');
      expect(text).toContain('read            42');
      expect(text).toContain('\\u001b[31mred');
      expect(text.replaceAll('\n', '')).not.toMatch(CONTROL);
    }
  });
});

test('the address: as given, or that of the configuration, or why there is none', () => {
  const config = (http: object) => () => ({
    ...loadConfig({ env: {} }),
    http: { enabled: true, host: '127.0.0.1', port: 8780, page: true, allowedHosts: [], ...http },
  });
  expect(addressesOf([], config({}))).toEqual(['http://127.0.0.1:8780']);
  expect(addressesOf([], config({ host: '0.0.0.0' }))).toEqual(['http://127.0.0.1:8780']);
  expect(addressesOf([], config({ host: '::1' }))).toEqual(['http://[::1]:8780']);
  expect(addressesOf(['127.0.0.1:1', 'https://logs.example/pipe/'], config({}))).toEqual([
    'http://127.0.0.1:1',
    'https://logs.example/pipe',
  ]);
  expect(() => addressesOf([], config({ port: 0 }))).toThrow('http.port is 0');
  expect(() => addressesOf([], config({ enabled: false }))).toThrow('http.enabled is false');
  for (const wrong of ['ftp://a', '', 'http://', 'http://user:word@a'])
    expect(() => addressesOf([wrong], config({})), wrong).toThrow('--url');
});

describe('rules explain', () => {
  const config = loadConfig({ env: {} });
  const said = () => {
    const lines: string[] = [];
    return {
      lines,
      io: { out: (line: string) => void lines.push(line), err: (line: string) => void lines.push(`! ${line}`) },
    };
  };
  const wish = { json: false, offline: false, url: [] as string[] };

  test('of a running instance: what it means, and why it fires now', async () => {
    const other = await logpipe(['indexer']);
    const { url } = await logpipe(['alerter'], evaluated());
    const { lines, io } = said();
    expect(await rulesExplain('elevated-error-rate', config, { ...wish, url: [other.url, url] }, io)).toBe(0);
    const text = lines.join('\n');
    expect(text).toContain('fires when   call.failure_ratio is above 10 %, with at least 60 events');
    expect(text).toContain('  breached   35.00 % (21 of 60) is above 10 %');
    expect(text).toContain('muted while high-error-rate fires');
  });

  test('of label sets: a bounded list, and nothing in a name works on the terminal', async () => {
    const rules = rulesOf(
      '  tenant: { title: T, priority: P2, kind: ratio, measure: call.failure_ratio, above: 50 %, labels: [tenantId] }',
    );
    const { url } = await logpipe(['alerter'], evaluated(rules, 60));
    const { lines, io } = said();
    await rulesExplain('tenant', config, { ...wish, url: [url] }, io);
    expect(lines.filter((line) => /tenantId tenant\\u001b\[2J-\d+: /.test(line)).length).toBeGreaterThan(40);
    expect(lines.join('')).not.toMatch(CONTROL);
    expect(lines.at(-1)).toBe('  and 11 label sets more');
  });

  test('without one: what the files say, and that the value is not known; exit status 1 for an address that was named', async () => {
    const gone = await logpipe([]);
    await gone.close();
    const { lines, io } = said();
    expect(await rulesExplain('new-error', config, { ...wish, url: [gone.url] }, io)).toBe(1);
    expect(lines.join('\n')).toContain('error.template is one never seen before, with at least 3 events');
    expect(lines.at(-1)).toContain(`! value now: not known. ${gone.url}: nothing listens there`);
    expect(await rulesExplain('new-error', config, { ...wish, offline: true }, io)).toBe(0);
    expect(lines.at(-1)).not.toContain('!');
    await expect(rulesExplain('new-eror', config, { ...wish, offline: true }, io)).rejects.toThrow(
      'did you mean "new-error"?',
    );
  });
});
