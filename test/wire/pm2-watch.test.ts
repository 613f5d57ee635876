// The watcher at the sockets of a PM2 that is played here: what was given up does not stay open for ever, whoever was away, and a
// wrong folder pages nobody. The frames are those a PM2 7.0.4 sends.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import type { Channel, ChannelName, Notification, SendResult } from '../../src/incidents/notification.ts';
import { type Pm2Watch, startPm2Watch } from '../../src/pm2/watch.ts';
import { createFakeClock } from '../kit/fake-clock.ts';

let folder: string;
let home: string;
let clock: ReturnType<typeof createFakeClock>;
let sent: Notification[];
let answer: SendResult;
const open: (() => Promise<unknown>)[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lp-pm2-'));
  home = join(folder, 'home');
  mkdirSync(home);
  clock = createFakeClock(Date.parse('2026-01-05T10:00:00Z'));
  sent = [];
  answer = { ok: true };
});

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
  rmSync(folder, { recursive: true });
});

function frame(...args: readonly string[]): Buffer {
  const parts = args.map((arg) => {
    const bytes = Buffer.from(arg);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  });
  return Buffer.concat([Buffer.from([0x10 | args.length]), ...parts]);
}

/** PM2 with its two sockets; `list` is what it runs. */
async function startPm2(list: { name: string; status: string }[]) {
  const followers = new Set<Socket>();
  let asked = 0;
  const bus = createServer((socket) => {
    followers.add(socket);
    socket.on('error', () => {});
  });
  const rpc = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      asked += 1;
      const id = /s:(.*)$/.exec(bytes.toString())![1]!;
      expect(bytes.toString()).toContain('"method":"getMonitorData"');
      const processes = list.map(({ name, status }, i) => ({ name, pm_id: i, pm2_env: { status } }));
      const reply = frame(`j:${JSON.stringify({ args: [processes] })}`, `s:${id}`);
      // In pieces, as a long list comes.
      socket.write(reply.subarray(0, 7), () => socket.write(reply.subarray(7)));
    });
  });
  const listen = (server: Server, name: string) => new Promise<void>((done) => server.listen(join(home, name), done));
  await listen(rpc, 'rpc.sock');
  await listen(bus, 'pub.sock');
  const close = async () => {
    for (const socket of followers) socket.destroy();
    await Promise.all([bus, rpc].map((server) => new Promise((done) => server.close(done))));
  };
  open.push(close);
  return {
    list,
    asked: () => asked,
    close: () => {
      open.splice(open.indexOf(close), 1);
      return close();
    },
    async say(event: string, status: string) {
      await vi.waitFor(() => expect(followers.size).toBeGreaterThan(0));
      const data = { event, process: { name: 'api', pm_id: 0, status, restart_time: 16, exit_code: 1 } };
      for (const socket of followers) socket.write(frame('s:process:event', `j:${JSON.stringify(data)}`));
    },
  };
}

function watcher(written = '{}', name: ChannelName = 'pagerduty'): Pm2Watch {
  const channel: Channel = {
    name,
    ratePerSecond: 1_000,
    async send(notification) {
      sent.push(notification);
      return answer;
    },
    async close() {},
  };
  const config = parseConfig(written, {}, 'test.yml').pm2;
  const watch = startPm2Watch(
    { ...config, home },
    { environment: 'test', host: 'web-1', stateFolder: join(folder, 'state') },
    {
      clock,
      log: silentLog,
      masker: createMasker(),
      channels: new Map<ChannelName, Channel>([[name, channel]]),
    },
  );
  open.push(() => watch.stop(1_000));
  return watch;
}

const told = () => sent.map(({ action, title, message }) => `${action} ${title}: ${message}`);
/** Advances the clock until `check` holds. */
const until = (check: () => void) =>
  vi.waitFor(
    async () => {
      await clock.advance(1_000);
      check();
    },
    { timeout: 10_000, interval: 10 },
  );
const states = () =>
  readdirSync(join(folder, 'state')).flatMap(
    (name) => (JSON.parse(readFileSync(join(folder, 'state', name), 'utf8')) as { open: unknown[] }).open,
  );

async function giveUp(pm2: Awaited<ReturnType<typeof startPm2>>) {
  await vi.waitFor(() => expect(pm2.asked()).toBeGreaterThan(0));
  pm2.list[0]!.status = 'errored';
  await pm2.say('exit', 'stopped');
  await pm2.say('restart overlimit', 'errored');
  await until(() => expect(sent).toHaveLength(1));
  expect(sent[0]).toMatchObject({ action: 'trigger', priority: 'P1' });
}

test('given up, and deleted: no event says so, the list does', async () => {
  const pm2 = await startPm2([{ name: 'api', status: 'online' }]);
  watcher();
  await giveUp(pm2);
  await until(() => expect(pm2.asked()).toBeGreaterThan(1));
  expect(sent).toHaveLength(1);
  pm2.list.length = 0;
  await until(() => expect(sent).toHaveLength(2));
  expect(told()[1]).toBe(
    'resolve api: Down: PM2 Gave Up Restarting: api is not in PM2’s list any more: it was deleted',
  );
  expect(sent[1]?.incidentId).toBe(sent[0]?.incidentId);
  await vi.waitFor(() => expect(states()).toEqual([]));
  // Nothing is asked any more.
  const asked = pm2.asked();
  await clock.advance(120_000);
  expect(pm2.asked()).toBe(asked);
});

test.each([
  ['deleted', [], 'api is not in PM2’s list any more: it was deleted'],
  ['repaired', [{ name: 'api', status: 'online' }], 'api runs again'],
  ['stopped', [{ name: 'api', status: 'stopped' }], 'api was stopped'],
])('given up, and %s while the watcher was away', async (_, list, words) => {
  const pm2 = await startPm2([{ name: 'api', status: 'online' }]);
  const first = watcher();
  await giveUp(pm2);
  await vi.waitFor(() => expect(states()).toHaveLength(1));
  await first.stop(1_000);
  pm2.list.splice(0, 1, ...list);
  watcher();
  await until(() => expect(sent).toHaveLength(2));
  expect(sent[1]).toMatchObject({ action: 'resolve', message: words, incidentId: sent[0]!.incidentId });
  expect(sent[1]?.dedupKey).toBe(sent[0]?.dedupKey);
});

test('what is still down after a restart is neither told again nor ended; its recovery on the bus ends it', async () => {
  const pm2 = await startPm2([
    { name: 'api', status: 'online' },
    { name: 'api', status: 'online' },
  ]);
  const first = watcher();
  await giveUp(pm2);
  await vi.waitFor(() => expect(states()).toHaveLength(1));
  await first.stop(1_000);
  watcher();
  await until(() => expect(pm2.asked()).toBeGreaterThan(1));
  expect(sent).toHaveLength(1);
  await pm2.say('online', 'launching');
  await until(() => expect(told().filter((text) => text.startsWith('resolve'))).toHaveLength(1));
});

test('what PM2 had given up before anybody watched is paged once, over a restart of the watcher too, until it ends', async () => {
  const pm2 = await startPm2([
    { name: 'api', status: 'online' },
    { name: 'api', status: 'errored' },
    { name: 'stopped-by-hand', status: 'stopped' },
    { name: 'job', status: 'one-launch-status' },
    { name: 'being-started', status: 'launching' },
  ]);
  const first = watcher();
  await until(() => expect(sent).toHaveLength(1));
  expect(told()).toEqual(['trigger api: Down: PM2 Gave Up Restarting: PM2 has given up starting api']);
  expect(sent[0]).toMatchObject({ priority: 'P1', dedupKey: 'logpipe/pm2/web-1/api/overlimit' });
  await vi.waitFor(() => expect(states()).toHaveLength(1));
  await first.stop(1_000);
  watcher();
  const asked = pm2.asked();
  await until(() => expect(pm2.asked()).toBeGreaterThan(asked + 2));
  await clock.advance(15 * 60_000);
  expect(sent).toHaveLength(1);
  pm2.list[1]!.status = 'stopped';
  await until(() => expect(sent).toHaveLength(2));
  expect(sent[1]).toMatchObject({ action: 'resolve', incidentId: sent[0]!.incidentId, dedupKey: sent[0]!.dedupKey });
  pm2.list.splice(0, 2);
});

test('the end goes where the beginning went, though the priority has another by now', async () => {
  const pm2 = await startPm2([{ name: 'api', status: 'errored' }]);
  const first = watcher();
  await until(() => expect(sent).toHaveLength(1));
  await vi.waitFor(() => expect(states()).toHaveLength(1));
  await first.stop(1_000);
  pm2.list.length = 0;
  watcher('pm2: { priorities: { overlimit: none } }');
  await until(() => expect(sent).toHaveLength(2));
  expect(sent[1]).toMatchObject({ action: 'resolve', dedupKey: sent[0]!.dedupKey });
});

test('what only a channel was told of that is gone is told to those that are there', async () => {
  await startPm2([{ name: 'api', status: 'errored' }]);
  const first = watcher();
  await until(() => expect(sent).toHaveLength(1));
  await vi.waitFor(() => expect(states()).toHaveLength(1));
  await first.stop(1_000);
  watcher('{}', 'slack');
  await until(() => expect(sent).toHaveLength(2));
  expect(sent.map(({ action }) => action)).toEqual(['trigger', 'trigger']);
});

test('what was open is written down with its format: a bare list of before is read, a newer format refused', async () => {
  await startPm2([{ name: 'api', status: 'errored' }]);
  const first = watcher();
  await until(() => expect(sent).toHaveLength(1));
  await vi.waitFor(() => expect(states()).toHaveLength(1));
  await first.stop(1_000);
  const path = join(folder, 'state', readdirSync(join(folder, 'state'))[0]!);
  const written = readFileSync(path, 'utf8');
  expect(JSON.parse(written)).toMatchObject({ v: 1 });
  writeFileSync(path, written.replace('"v":1', '"v":2'));
  expect(() => watcher()).toThrow(expect.objectContaining({ code: 'LOGPIPE_FORMAT_NEWER' }));
  expect(readFileSync(path, 'utf8')).toContain('"v":2');
  writeFileSync(path, JSON.stringify(states()));
  const asked = sent.length;
  const second = watcher();
  await clock.advance(60_000);
  expect(sent).toHaveLength(asked);
  await second.stop(1_000);
});

test('PM2 gone, and back while the watcher was away', async () => {
  const pm2 = await startPm2([]);
  const first = watcher();
  await pm2.say('online', 'launching');
  await pm2.close();
  await until(() => expect(sent).toHaveLength(1));
  expect(told()[0]).toMatch(/^trigger PM2: Gone/);
  await vi.waitFor(() => expect(states()).toHaveLength(1));
  await first.stop(1_000);
  await startPm2([]);
  watcher();
  await until(() => expect(sent).toHaveLength(2));
  expect(told()[1]).toMatch(/^resolve PM2: Gone.*PM2 answers again$/);
});

test('a channel that refused the page is not told of the end', async () => {
  answer = { ok: false, retryable: false, reason: 'HTTP 404' };
  const pm2 = await startPm2([{ name: 'api', status: 'online' }]);
  watcher();
  await giveUp(pm2);
  pm2.list.length = 0;
  const asked = pm2.asked();
  await until(() => expect(pm2.asked()).toBeGreaterThan(asked));
  await clock.advance(60_000);
  expect(sent).toHaveLength(1);
});

test('a wrong folder is refused at once; one where PM2 has never been pages nobody', async () => {
  const right = home;
  home = join(folder, 'nope');
  expect(() => watcher()).toThrow(/^pm2\.home: .*nope does not exist; name PM2's folder with --home/);
  writeFileSync(join(folder, 'file'), '');
  home = join(folder, 'file');
  expect(() => watcher()).toThrow(/is not a folder/);
  home = right;
  watcher();
  for (let i = 0; i < 10; i++) await until(() => {});
  await clock.advance(60_000);
  expect(sent).toEqual([]);
});

test('where PM2 has been and is not, it is missed', async () => {
  writeFileSync(join(home, 'pm2.log'), '');
  watcher();
  await until(() => expect(sent).toHaveLength(1));
  expect(told()[0]).toMatch(/^trigger PM2: Gone/);
});
