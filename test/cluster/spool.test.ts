// What becomes of an application's events while Kafka is away: killed for seconds and for minutes, two of three brokers, a coordinator
// that comes back empty, Elasticsearch as well, a full disk under the spool, a cap, workers that share a folder and are killed.
// Whatever was written into a spool must be in Elasticsearch once and counted once, whoever sent it in the end; what a kill, the cap
// or the disk took is bounded, and counted where anybody is left to count it.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, it, onTestFinished } from 'vitest';
import { sleep } from '../../src/core/clock.ts';
import type { Cluster } from '../../stack/index.ts';
import { type ClusterRun, sharedCluster, startClusterRun } from '../kit/cluster.ts';
import { whole } from '../kit/cluster-faults.ts';
import type { LogpipeProcess } from '../kit/process.ts';
import { spawnScript, waitFor } from '../kit/servers.ts';

const FULL = process.env.LOGPIPE_CLUSTER === 'full';
const PER_SECOND = 100;
/** What an application may have logged between its last written record and a kill: one of its turns, and the record's way to the file. */
const MAY_BE_LOST = PER_SECOND / 2;
const PATIENCE_MS = 180_000;
/** A resident set that grows by more than this while Kafka is away is no longer flat. */
const MEMORY_BYTES = 60 * 1024 * 1024;

let cluster: Cluster;

beforeAll(async () => {
  ({ cluster } = await sharedCluster());
});

interface Stats {
  readonly delivered: number;
  readonly dropped: Readonly<Record<string, number>>;
  readonly queuedRecords: number;
  readonly spooledRecords: number;
  readonly logged: number;
  readonly rss: number;
}

/** One application in a process of its own. */
interface Application extends LogpipeProcess {
  readonly name: string;
  /** Events logged so far, as far as it could say. */
  logged(): number;
  stats(): Stats;
  /** The largest resident set it told of. */
  peak(): number;
  /** `rest`, `exit`, `close`; see test/kit/spooling-app.ts. */
  tell(line: string): void;
}

/** Becomes the program behind it, which alone sees a file system of 1 MiB at the folder. */
const MOUNT = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"';

function spoolFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-spool-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function startApplication(
  run: ClusterRun,
  name: string,
  options: { spool: object; queue?: object; closeTimeoutMs?: number; perSecond?: number },
  wrapped: (script: string, argument: string) => LogpipeProcess = (script, argument) => spawnScript(script, [argument]),
): Application {
  const { perSecond = PER_SECOND, ...transport } = options;
  const argument = { name, brokers: cluster.brokers, topic: run.topic, service: run.topic, perSecond, ...transport };
  const started = wrapped('test/kit/spooling-app.js', JSON.stringify(argument));
  const last = (kind: string) => started.stdout().match(new RegExp(`^${kind} .*$(?![^]*^${kind} .*$)`, 'm'))?.[0];
  const all = (kind: string) =>
    started
      .stdout()
      .split('\n')
      .filter((line) => line.startsWith(`${kind} `));
  const stats = () => JSON.parse((last('stats') ?? 'stats {}').slice('stats '.length)) as Stats;
  return Object.assign(started, {
    name,
    logged: () => Number(all('logged').at(-1)?.slice('logged '.length) ?? 0),
    stats,
    peak: () => Math.max(...all('stats').map((line) => (JSON.parse(line.slice('stats '.length)) as Stats).rss)),
    tell: (line: string) => void started.stdin.write(`${line}\n`),
  });
}

const idsOf = (name: string, from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `${name}-${from + i}`);

/** Numbers of this application's events that stand in a file below the folder, whoever owns it by now. */
function inFiles(folder: string, name: string): Set<string> {
  const found = new Set<string>();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.log')) continue;
    const text = readFileSync(join(entry.parentPath, entry.name), 'utf8');
    for (const [, id] of text.matchAll(/"requestId":"([^"]+)"/g)) if (id!.startsWith(`${name}-`)) found.add(id!);
  }
  return found;
}

async function awayFor(work: () => Promise<void>): Promise<void> {
  await Promise.all(cluster.kafka.map((broker) => broker.kill()));
  try {
    await work();
  } finally {
    await Promise.all(cluster.kafka.map((broker) => broker.restart()));
  }
}

/** Its events have reached Kafka, and it has nothing left to deliver. */
async function delivers(application: Application): Promise<void> {
  await waitFor(() => (application.stats().delivered ?? 0) > 0, {
    what: `${application.name} delivers`,
    timeoutMs: PATIENCE_MS,
  });
}

/** Ends the load of these and waits until all they have is in Kafka. */
async function settle(...applications: Application[]): Promise<void> {
  for (const application of applications) application.tell('rest');
  for (const application of applications) {
    await waitFor(
      () => {
        const { logged, queuedRecords, spooledRecords } = application.stats();
        return logged === application.logged() && queuedRecords + spooledRecords === 0;
      },
      { what: `${application.name} has delivered everything`, timeoutMs: PATIENCE_MS },
    );
  }
}

async function startRun(options: Parameters<typeof startClusterRun>[2] = {}): Promise<ClusterRun> {
  const run = await startClusterRun(cluster, cluster.brokers, options);
  // Without the role that alerts: a Kafka that is away for long is news of its own.
  await run.start(cluster.brokers, ['indexer', 'counter']);
  return run;
}

it('four workers share a folder, Kafka is away, two are killed: the others send what they had written', async () => {
  const dir = spoolFolder();
  const run = await startRun({ spool: { dir } });
  const workers = ['a', 'b', 'c', 'd'].map((name) => startApplication(run, name, { spool: { dir } }));
  const [a, b, c, d] = workers as [Application, Application, Application, Application];
  for (const worker of workers) await delivers(worker);
  // Killed while Kafka works: what was not answered yet is lost, and no more.
  const e = startApplication(run, 'e', { spool: { dir } });
  await delivers(e);
  e.kill('SIGKILL');
  await e.exit;
  const written = new Map<string, Set<string>>();
  await awayFor(async () => {
    await sleep(8_000);
    for (const killed of [a, b]) {
      killed.kill('SIGKILL');
      await killed.exit;
      written.set(killed.name, inFiles(dir, killed.name));
      expect(written.get(killed.name)!.size).toBeGreaterThan(PER_SECOND);
    }
    await sleep(2_000);
  });
  await whole({ run });
  await waitFor(() => inFiles(dir, 'a').size + inFiles(dir, 'b').size === 0, {
    ...{ what: 'the spools of the killed are sent', timeoutMs: PATIENCE_MS },
  });
  await settle(c, d);
  const once = new Set<string>();
  const perhaps = new Set<string>();
  const answered = Math.max(0, e.logged() - MAY_BE_LOST);
  for (const id of idsOf('e', 0, answered)) once.add(id);
  for (const id of idsOf('e', answered, e.logged() + MAY_BE_LOST)) perhaps.add(id);
  for (const killed of [a, b]) {
    const ids = written.get(killed.name)!;
    // What is before the last one written was written too, or delivered while Kafka was there; what is after it was on its way.
    const numbers = [...ids].map((id) => Number(id.slice(2)));
    const last = Math.max(...numbers);
    for (const id of idsOf(killed.name, 0, last + 1)) once.add(id);
    for (const id of idsOf(killed.name, last + 1, last + 1 + 10 * MAY_BE_LOST)) perhaps.add(id);
    expect(killed.logged() - last).toBeLessThan(MAY_BE_LOST);
  }
  for (const worker of [c, d]) for (const id of idsOf(worker.name, 0, worker.logged())) once.add(id);
  await run.finish(once.size);
  expect(await run.problems({ once, perhaps })).toEqual([]);
  for (const worker of [c, d]) {
    worker.tell('close');
    expect(await worker.exit).toEqual({ status: 0, signal: null });
  }
  expect(inFiles(dir, 'c').size + inFiles(dir, 'd').size).toBe(0);
});

if (FULL) {
  it.each([30_000, 600_000])(
    'all brokers killed for %d ms while the application logs: nothing is lost, and memory stays flat',
    async (ms) => {
      const run = await startRun({ spool: { dir: spoolFolder() }, queue: { maxRecords: 500 } });
      const dir = spoolFolder();
      const application = startApplication(run, 'a', { spool: { dir }, queue: { maxRecords: 500 } });
      await delivers(application);
      await sleep(5_000);
      const before = application.peak();
      await awayFor(async () => {
        await sleep(ms);
        expect(application.stats().queuedRecords).toBeLessThanOrEqual(500);
        expect(application.stats().spooledRecords).toBeGreaterThan((ms / 1_000) * PER_SECOND * 0.2);
      });
      await whole({ run });
      await settle(application);
      expect(application.peak() - before).toBeLessThan(MEMORY_BYTES);
      const once = new Set(idsOf('a', 0, application.logged()));
      await run.finish(once.size);
      expect(await run.problems({ once })).toEqual([]);
    },
    2_400_000,
  );

  it('two of three brokers gone for 45 s: nothing is lost, however small the queue in memory', async () => {
    const run = await startRun({ spool: { dir: spoolFolder() }, queue: { maxRecords: 500 } });
    const [first, second] = cluster.kafka;
    await Promise.all([first!.kill(), second!.kill()]);
    await sleep(45_000);
    await Promise.all([first!.restart(), second!.restart()]);
    await whole({ run });
    await run.finish();
    expect(await run.problems()).toEqual([]);
  });

  it('all killed, one comes back with an empty folder: coordinator and numbers of the producers are gone', async () => {
    const run = await startRun({ spool: { dir: spoolFolder() } });
    await awayFor(() => sleep(10_000));
    await whole({ run });
    for (const broker of cluster.kafka) {
      await broker.kill('SIGKILL');
      await broker.restart({ empty: true });
      await whole({ run });
    }
    await run.finish();
    expect(await run.problems()).toEqual([]);
  });

  it('Kafka and Elasticsearch killed for 30 s', async () => {
    const run = await startRun({ spool: { dir: spoolFolder() } });
    await Promise.all(cluster.elasticsearch.map((node) => node.kill()));
    await awayFor(() => sleep(30_000));
    await Promise.all(cluster.elasticsearch.map((node) => node.restart()));
    await whole({ run });
    await run.finish();
    expect(await run.problems()).toEqual([]);
  });

  it('the disk under the spool is full, then the queue in memory: what is lost is counted, and nothing else is lost', async () => {
    const dir = spoolFolder();
    const run = await startRun();
    // A file system of 1 MiB that only this application sees.
    const application = startApplication(
      run,
      'a',
      { spool: { dir }, queue: { maxRecords: 1_000 } },
      // One process from beginning to end: whoever kills it kills the application.
      (script, argument) =>
        spawnScript(script, [argument], {
          through: ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', MOUNT, dir],
        }),
    );
    await delivers(application);
    await awayFor(async () => {
      await waitFor(() => (application.stats().dropped['queue-full'] ?? 0) > 0, {
        ...{ what: 'the queue is full as well', timeoutMs: PATIENCE_MS },
      });
    });
    await whole({ run });
    await settle(application);
    const { logged, delivered, dropped } = application.stats();
    const lost = Object.values(dropped).reduce((sum, count) => sum + count, 0);
    expect({
      sum: delivered + lost,
      reasons: Object.entries(dropped)
        .filter(([, n]) => n > 0)
        .map(([reason]) => reason),
    }).toEqual({
      sum: logged,
      reasons: ['queue-full'],
    });
    await run.finish(delivered);
    const perhaps = new Set(idsOf('a', 0, logged));
    expect(await run.problems({ perhaps })).toEqual([]);
  });

  it('a spool that reaches its cap: the oldest go, counted; whatever is not counted arrives', async () => {
    const dir = spoolFolder();
    const run = await startRun();
    const spool = { dir, maxBytes: 4 * 1024 * 1024, segmentBytes: 512 * 1024 };
    const application = startApplication(run, 'a', { spool, perSecond: 10 * PER_SECOND });
    await delivers(application);
    await awayFor(async () => {
      await waitFor(() => (application.stats().dropped['spool-full'] ?? 0) > 1_000, {
        ...{ what: 'the cap has taken the oldest', timeoutMs: PATIENCE_MS },
      });
    });
    await whole({ run });
    await settle(application);
    const { logged, delivered, dropped } = application.stats();
    expect(delivered + dropped['spool-full']!).toBe(logged);
    expect(application.stderr().match(/spool/g)?.length ?? 0).toBeGreaterThan(0);
    await run.finish(delivered);
    expect(await run.problems({ perhaps: new Set(idsOf('a', 0, logged)) })).toEqual([]);
  });

  it('process.exit right after a log, with Kafka away and with Kafka there: the next process sends what was left', async () => {
    const dir = spoolFolder();
    const run = await startRun();
    const first = startApplication(run, 'a', { spool: { dir } });
    await delivers(first);
    first.tell('exit');
    expect(await first.exit).toEqual({ status: 0, signal: null });
    const second = startApplication(run, 'b', { spool: { dir } });
    await delivers(second);
    await awayFor(async () => {
      await sleep(3_000);
      second.tell('exit');
      expect(await second.exit).toEqual({ status: 0, signal: null });
    });
    await whole({ run });
    const third = startApplication(run, 'c', { spool: { dir } });
    await waitFor(() => inFiles(dir, 'a').size + inFiles(dir, 'b').size === 0, {
      ...{ what: 'what was left is sent', timeoutMs: PATIENCE_MS },
    });
    await settle(third);
    const once = new Set([first, second, third].flatMap(({ name, logged }) => idsOf(name, 0, logged())));
    await run.finish(once.size);
    expect(await run.problems({ once })).toEqual([]);
    expect(existsSync(dir)).toBe(true);
  });
}
