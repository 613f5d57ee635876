// A real PM2 in a folder of its own, with the shipped ecosystem file: the sample application in cluster mode shows its four
// metrics, logpipe tells what happens to it, and nothing of all that is left behind.
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { packageRoot } from '../../src/core/package-root.ts';
import { type LogpipeProcess, startProcess } from '../kit/process.ts';
import { type Receiver, startReceiver } from '../kit/receiver.ts';

interface Listed {
  pid: number;
  name: string;
  pm_id: number;
  pm2_env: {
    status: string;
    exec_mode: string;
    restart_time: number;
    axm_monitor: Record<string, { value: number; unit?: string; historic?: boolean }>;
  };
}

const WAIT = { timeout: 60_000, interval: 100 };
const ECOSYSTEM = join(packageRoot(), 'config/pm2/ecosystem.config.cjs');
const PM2 = join(packageRoot(), 'node_modules/pm2/bin/pm2');

/** In every Node process of this PM2: writes down who it is, and where it connects or looks up a name outside this machine. */
const HOOK = `
const { appendFileSync } = require('node:fs');
const { join } = require('node:path');
const dns = require('node:dns');
const net = require('node:net');
const note = (file, text) => appendFileSync(join(__dirname, file), text + '\\n');
const outside = (host) => typeof host === 'string' && !/^(127\\.|::1$|localhost$)/.test(host);
note('hooked.log', String(process.pid));
const { connect } = net.Socket.prototype;
net.Socket.prototype.connect = function (...args) {
  const [{ host } = {}] = Array.isArray(args[0]) ? args[0] : args;
  if (outside(host)) note('outside.log', 'connect ' + host);
  return connect.apply(this, args);
};
const { lookup } = dns;
dns.lookup = (host, ...rest) => {
  if (outside(host)) note('outside.log', 'lookup ' + host);
  return lookup(host, ...rest);
};
`;

let home: string;
let env: Record<string, string>;
let slack: Receiver;
let watch: LogpipeProcess;
let port: number;
/** Every process that was seen under this PM2, PM2 itself included. */
const seen = new Set<number>();

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'logpipe-pm2-'));
  port = await freePort();
  env = {
    ...Object.fromEntries(
      ['PATH', 'LANG', 'TZ'].flatMap((name) => (process.env[name] ? [[name, process.env[name]!]] : [])),
    ),
    HOME: home,
    PM2_HOME: home,
    // Without the latter two it asks its maker for a newer release, and prints a banner first.
    PM2_DISCRETE_MODE: 'true',
    PM2_DISABLE_VERSION_CHECK: 'true',
    LOGPIPE_CWD: home,
    PORT: String(port),
    METRICS_PORT: String(await freePort()),
    EXAMPLE_RATE: '60',
    EXAMPLE_LOG: join(home, 'app.log'),
  };
  writeFileSync(join(home, 'hook.cjs'), HOOK);
  env.NODE_OPTIONS = `--require ${join(home, 'hook.cjs')}`;
  slack = await startReceiver();
  const config = join(home, 'logpipe.yml');
  writeFileSync(
    config,
    JSON.stringify({
      pm2: { home, quietMs: 800, cooldownMs: 5_000 },
      notify: { environment: 'test', slack: { webhookUrl: slack.url, ratePerSecond: 100 } },
    }),
  );
  // Before PM2: it waits for it.
  watch = startProcess('src/main.js', ['pm2', 'watch', '--config', config]);
  await watch.waitForLine(/PM2 cannot be watched/);
});

afterAll(async () => {
  // Without a daemon `pm2 kill` would start one first.
  if (existsSync(join(home, 'pm2.pid'))) await pm2('kill').catch(() => undefined);
  watch.kill();
  await watch.exit;
  await slack.close();
  for (const pid of seen) if (alive(pid)) process.kill(pid, 'SIGKILL');
  rmSync(home, { recursive: true, force: true });
});

function pm2(...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [PM2, ...args], { env, cwd: home, maxBuffer: 2 ** 24 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`pm2 ${args.join(' ')}: ${stdout}\n${stderr}`, { cause: error }));
      else resolve(stdout);
    });
  });
}

async function list(): Promise<Listed[]> {
  const found = JSON.parse((await pm2('jlist', '--silent')).split('\n').at(-1) || '[]') as Listed[];
  for (const { pid } of found) if (pid > 0) seen.add(pid);
  const daemon = join(home, 'pm2.pid');
  if (existsSync(daemon)) seen.add(Number(readFileSync(daemon, 'utf8')));
  return found;
}

const values = (listed: Listed) =>
  Object.fromEntries(Object.entries(listed.pm2_env.axm_monitor).map(([name, { value }]) => [name, value]));

/** The message about the application whose `text` fits. */
function message(pattern: RegExp): Promise<Record<string, unknown>> {
  return vi.waitFor(() => {
    const found = slack.requests.find(({ body }) => pattern.test(String(body.text)));
    expect(slack.requests.map(({ body }) => body.text).join('\n')).toMatch(pattern);
    return found!.body;
  }, WAIT);
}

const OURS = ['Active Calls', 'Queue Size', 'Avg Response Time', 'Error Rate'];

test('the shipped ecosystem file starts the example in cluster mode, with four metrics that change', async () => {
  // Starts PM2 alone: what happens before it is watched nobody can tell.
  await pm2('ping');
  await watch.waitForLine(/watching PM2/);
  await pm2('start', ECOSYSTEM, '--only', 'calling-platform');
  const before = await vi.waitFor(async () => {
    const workers = await list();
    expect(workers.map(({ pm2_env }) => [pm2_env.status, pm2_env.exec_mode])).toEqual([
      ['online', 'cluster_mode'],
      ['online', 'cluster_mode'],
    ]);
    for (const { pm2_env } of workers) {
      // A worker that is slow to start has shown PM2's own heap metrics once by then, and PM2 keeps them.
      expect(pm2_env.axm_monitor).toMatchObject({
        'Active Calls': { unit: 'calls', historic: true, value: expect.any(Number) },
        'Queue Size': { unit: 'jobs', historic: true, value: expect.any(Number) },
        'Avg Response Time': { unit: 'ms', historic: true, value: expect.any(Number) },
        'Error Rate': { unit: '%', historic: true, value: expect.any(Number) },
      });
    }
    return workers;
  }, WAIT);
  // Make each of them move: a stuck queue fills up, a provider that is away is answered with 503.
  await Promise.all(before.map((_, n) => incident(n, 'provider-outage')));
  const shown = new Map<string, Set<number>>();
  const look = async () => {
    for (const worker of await list()) {
      for (const [name, value] of Object.entries(values(worker))) {
        if (!OURS.includes(name)) continue;
        const key = `${name} of ${worker.pm_id}`;
        shown.set(key, (shown.get(key) ?? new Set()).add(value));
      }
    }
  };
  const highest = (name: string) => [0, 1].map((id) => Math.max(...(shown.get(`${name} of ${id}`) ?? [0])));
  await vi.waitFor(async () => {
    await look();
    for (const percent of highest('Error Rate')) expect(percent).toBeGreaterThan(1);
  }, WAIT);
  await Promise.all(before.map((_, n) => incident(n, 'queue-stuck')));
  await vi.waitFor(async () => {
    await look();
    for (const jobs of highest('Queue Size')) expect(jobs).toBeGreaterThan(5);
    expect(shown.size).toBe(8);
    for (const [name, different] of shown) expect(different.size, name).toBeGreaterThan(1);
  }, WAIT);
  const started = await message(/calling-platform: Started/);
  expect(started).toMatchObject({ username: 'Calling Platform Bot', text: 'ℹ️ INFO: calling-platform: Started' });

  for (const words of [['list'], ['show', 'calling-platform'], ['describe', 'calling-platform']]) {
    const text = await pm2(...words);
    expect(text).toContain('calling-platform');
    if (words.length > 1) expect(text).toMatch(/Avg Response Time\D+[\d.]+ ms/);
  }
});

test('each worker serves metrics of its own, and health is one for all', async () => {
  const health = await fetch(`http://127.0.0.1:${port}/api/v1/health`);
  expect(await health.json()).toEqual({ success: true, message: 'API is running', timestamp: expect.any(String) });
  const texts = await Promise.all([0, 1].map(async (n) => (await fetch(`${worker(n)}/metrics`)).text()));
  for (const text of texts) {
    expect(text).toMatch(/^node_active_calls \d+$/m);
    expect(text).toMatch(/^process_resident_memory_bytes \d+/m);
  }
  const cpu = texts.map((text) => /^process_cpu_seconds_total (\S+)/m.exec(text)![1]);
  expect(cpu[0]).not.toBe(cpu[1]);
});

test('a killed process is told with what is known of it, and is back', async () => {
  const [victim] = await list();
  process.kill(victim!.pid, 'SIGKILL');
  const body = await message(/Process Ended by Itself/);
  expect(body).toMatchObject({
    username: 'Calling Platform Bot',
    text: '⚠️ WARNING: calling-platform: Process Ended by Itself',
  });
  const [{ fields }] = body.attachments as [{ fields: { title: string; value: string }[] }];
  const field = (title: string) => fields.find((one) => one.title === title)!.value;
  expect(field('Message')).toMatch(/^one process of calling-platform ended by itself \(exit code 0: a signal, or/);
  expect(field('Environment')).toBe('test');
  expect(JSON.parse(field('Metadata'))).toMatchObject({ application: 'calling-platform', event: 'error', crashes: 1 });
  await vi.waitFor(async () => {
    const again = (await list()).find(({ pm_id }) => pm_id === victim!.pm_id)!;
    expect([again.pm2_env.status, again.pm2_env.restart_time]).toEqual(['online', 1]);
    expect(again.pid).not.toBe(victim!.pid);
  }, WAIT);
});

test('reload, restart and stop are one message each, however many workers', async () => {
  for (const [command, title] of [
    ['reload', 'Reloaded'],
    ['restart', 'Restarted'],
    ['stop', 'Stopped'],
  ] as const) {
    await pm2(command, 'calling-platform');
    const body = await message(new RegExp(`calling-platform: ${title}$`));
    const text = JSON.stringify(body);
    expect(text).toContain(`2 processes of calling-platform: ${command} was asked for`);
    await list();
  }
  const crashes = slack.requests.filter(({ body }) => /Ended by Itself/.test(String(body.text)));
  expect(crashes).toHaveLength(1);
});

test('an application that PM2 gives up is critical, and its return ends that', async () => {
  const script = join(home, 'doomed.cjs');
  writeFileSync(script, "throw new Error('no database: password=hunter2');");
  await pm2('start', script, '--name', 'doomed', '--max-restarts', '2', '--no-vizion');
  const body = await message(/CRITICAL: doomed: Down: PM2 Gave Up Restarting/);
  expect(JSON.stringify(body)).toContain('no database: password=[masked]');
  writeFileSync(script, 'setInterval(() => {}, 1000);');
  await pm2('restart', 'doomed');
  await message(/RESOLVED: doomed: Down/);
  await list();
});

test('nobody was called outside this machine', () => {
  const hooked = readFileSync(join(home, 'hooked.log'), 'utf8').split('\n').map(Number);
  // PM2 itself and every worker were looked at.
  expect([...seen].filter((pid) => !hooked.includes(pid))).toEqual([]);
  expect(existsSync(join(home, 'outside.log')) ? readFileSync(join(home, 'outside.log'), 'utf8') : '').toBe('');
});

test('nothing stays behind', async () => {
  expect(seen.size).toBeGreaterThan(4);
  await pm2('kill');
  await vi.waitFor(() => expect([...seen].filter(alive)).toEqual([]), WAIT);
  // That is more than an application's end: nothing would start them again.
  await message(/CRITICAL: PM2: Gone/);
  watch.kill('SIGINT');
  expect(await watch.exit).toEqual({ status: 0, signal: null });
  expect(readdirSync(home).filter((name) => name.endsWith('.sock'))).toEqual([]);
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function worker(n: number): string {
  return `http://127.0.0.1:${Number(env.METRICS_PORT) + n}`;
}

/** At one worker: through the shared port it would be either. */
async function incident(n: number, kind: string): Promise<void> {
  const body = JSON.stringify({ kind, seconds: 300 });
  const headers = { 'content-type': 'application/json' };
  expect((await fetch(`${worker(n)}/admin/incident`, { method: 'POST', headers, body })).status).toBe(200);
}

/** With its neighbour free as well. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const first = createServer().listen(0, '127.0.0.1', () => {
      const { port: found } = first.address() as AddressInfo;
      const next = createServer();
      next.once('error', () => first.close(() => freePort().then(resolve, reject)));
      next.listen(found + 1, '127.0.0.1', () => next.close(() => first.close(() => resolve(found))));
    });
  });
}
