// Jobs over HTTP on a real Kafka and a real Elasticsearch: a running pipeline is asked, its own command line does the work, and what came of
// it is counted in the indices. Between the pipeline and Elasticsearch stands a proxy that can hold bulk requests back.
import { writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { beforeAll, expect, it, onTestFinished } from 'vitest';
import { incidentLog } from '../kit/incident-log.ts';
import { spawnLogpipe, testEsUrl, uniqueName } from '../kit/servers.ts';
import { es } from './replay-kit.ts';
import { type StoredIncident, storeIncident, workspace } from './stored-incident-kit.ts';

const MINUTE = 60_000;
/** A day that no other test logs on. */
const START = Date.parse('2025-03-21T09:00:00.000Z');
const LOG = incidentLog({ startMs: START, minutes: 30, failing: (minute) => (minute >= 15 && minute < 22 ? 0.5 : 0) });
const RANGE = { from: new Date(START + 10 * MINUTE).toISOString(), to: new Date(START + 30 * MINUTE).toISOString() };
const IN_RANGE = LOG.filter(({ timeMs }) => timeMs >= START + 10 * MINUTE);
const TOKEN = 'a-token-that-may-act-0123456789';

let stored: StoredIncident;

beforeAll(async () => {
  stored = await storeIncident(LOG);
  return () => stored.remove();
}, 120_000);

/** Passes everything on to Elasticsearch; of bulk requests, once it holds them, one. */
async function holdingProxy() {
  let letThrough = Number.POSITIVE_INFINITY;
  let held: (() => void)[] = [];
  const forward = (from: IncomingMessage, to: ServerResponse) => {
    const { method, url, headers } = from;
    const onward = request(`${testEsUrl()}${url}`, { method, headers }, (answer) => {
      to.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(to);
    });
    onward.on('error', () => to.destroy());
    from.pipe(onward);
  };
  const server = createServer((from, to) => {
    to.on('error', () => {});
    if (from.url?.startsWith('/_bulk') !== true || letThrough-- > 0) forward(from, to);
    else held.push(() => forward(from, to));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    held: () => held.length,
    hold() {
      letThrough = 1;
    },
    release() {
      letThrough = Number.POSITIVE_INFINITY;
      for (const go of held.splice(0)) go();
      held = [];
    },
  };
}

async function pipeline() {
  const proxy = await holdingProxy();
  const { folder } = workspace(stored.configYaml);
  const config = join(folder, 'logpipe.yml');
  const yaml = stored.configYaml
    .replace(/nodes: \['[^']*'\]/, `nodes: ['${proxy.url}']`)
    .replace(
      'http: { enabled: false }',
      `http: { port: 0, tokens: [{ name: ops, token: ${TOKEN}, scopes: [act, read] }] }`,
    );
  writeFileSync(config, `${yaml}bulk: { maxDocuments: 100, concurrency: 1, maxInFlightBytes: 100000 }\n`);
  const child = spawnLogpipe(['run', '--roles', 'indexer', '--config', config]);
  onTestFinished(async () => {
    proxy.release();
    child.kill('SIGTERM');
    expect(await child.exit).toEqual({ status: 0, signal: null });
  });
  const url = /http:\/\/127\.0\.0\.1:\d+/.exec(await child.waitForLine(/"url":"http|url=http/))![0];
  const ask = async (method: string, path: string, body?: object) => {
    const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
    const reply = await fetch(`${url}/api/v1/jobs${path}`, {
      ...{ method, headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    // biome-ignore lint/suspicious/noExplicitAny: compared as JSON
    return (await reply.json()) as any;
  };
  return {
    ...{ proxy, ask },
    async start(body: object): Promise<string> {
      const { id, detail } = await ask('POST', '', body);
      expect(detail).toBeUndefined();
      return `/${id}`;
    },
    async ended(path: string) {
      await expect.poll(async () => (await ask('GET', path)).state, { timeout: 90_000 }).not.toBe('running');
      return ask('GET', path);
    },
  };
}

const replay = (target: object, more: object = {}) => ({ kind: 'replay', ...RANGE, target, dryRun: false, ...more });

function ownIndex(): { readonly name: string; count(): Promise<number> } {
  const name = uniqueName('job');
  const index = `logpipe-replay-${name}-2025.03.21`;
  onTestFinished(async () => void (await es('DELETE', `/${index}`)));
  return {
    name,
    async count() {
      await es('POST', `/${index}/_refresh`);
      return (await es('GET', `/${index}/_count`)).count as number;
    },
  };
}

it('a replay is planned, done, and canceled in the middle: what is said is what is there', async () => {
  const { proxy, ask, start, ended } = await pipeline();
  const before = await stored.versions();
  const errors = IN_RANGE.filter(({ line }) => line.includes('"level":"error"')).length;
  const planned = await ended(await start(replay({ kind: 'in-place' }, { dryRun: true, where: ['level=error'] })));
  expect(planned).toMatchObject({ state: 'done', error: null, result: { dryRun: true, matched: errors } });
  expect(planned.result.indices).toEqual({ [stored.index]: { documents: errors, bytes: expect.any(Number) } });

  const inPlace = await ended(await start(replay({ kind: 'in-place' })));
  expect(inPlace).toMatchObject({ state: 'done', result: { written: { new: 0, present: IN_RANGE.length } } });
  expect(await stored.versions()).toEqual(before);

  const whole = ownIndex();
  const done = await ended(await start(replay({ kind: 'index', name: whole.name })));
  expect(done).toMatchObject({
    state: 'done',
    share: 1,
    result: { complete: true, written: { new: IN_RANGE.length } },
  });
  expect(await whole.count()).toBe(IN_RANGE.length);

  const part = ownIndex();
  proxy.hold();
  const path = await start(replay({ kind: 'index', name: part.name }));
  await expect.poll(proxy.held).toBe(1);
  await expect.poll(async () => (await ask('GET', path)).progress).toMatch(/^read \d+ of at most \d+, to write/);
  expect(await ask('DELETE', path)).toMatchObject({ state: 'running' });
  proxy.release();
  const canceled = await ended(path);
  expect(canceled).toMatchObject({ state: 'canceled', error: null, result: { complete: false } });
  const { new: written } = canceled.result.written;
  expect(written).toBeGreaterThan(0);
  expect(written).toBeLessThan(IN_RANGE.length);
  expect(await part.count()).toBe(written);
});

it('a backtest says when rules would have paged, and a what-if what another threshold would have changed', async () => {
  const { start, ended } = await pipeline();
  const backtest = { kind: 'backtest', ...RANGE };
  const all = await ended(await start(backtest));
  expect(all).toMatchObject({ state: 'done', error: null, result: { source: 'kafka', gaps: [], cut: null } });
  const { timeline } = all.result;
  expect(timeline.messages).toHaveLength(timeline.pages.total);
  const rule = 'high-error-rate';
  const fired = timeline.alerts.find((alert: { rule: string }) => alert.rule === rule);
  expect(fired).toMatchObject({
    labels: {},
    priority: 'P1',
    fired: expect.stringMatching(/^2025-03-21T09:1/),
    resolved: expect.stringMatching(/^2025-03-21T09:2/),
  });

  const one = await ended(await start({ ...backtest, rule }));
  expect(one.result.timeline.alerts).toEqual([fired]);

  const higher = await ended(await start({ ...backtest, rule, threshold: 0.9 }));
  expect(higher).toMatchObject({ state: 'done', error: null, request: { rule, threshold: 0.9 } });
  // The rules in force are those of the backtest.
  expect(higher.result.now).toEqual({ ...all.result, cut: undefined });
  expect(higher.result.difference.alerts).toMatchObject({ only: [], onlyCompared: [fired], moved: [] });
  expect(higher.result.difference.pages.total).toBeLessThan(0);
  expect(higher.result.then.timeline.pages.total).toBe(timeline.pages.total + higher.result.difference.pages.total);

  const lower = await ended(await start({ ...backtest, rule, threshold: 0.05 }));
  const [moved] = lower.result.difference.alerts.moved;
  expect(moved).toMatchObject({ rule, comparedFired: fired.fired });
  expect(moved.earlierSeconds).toBeGreaterThan(0);
});
