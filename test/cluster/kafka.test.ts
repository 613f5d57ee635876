// Three brokers with everything on all of them, each in turn leader, coordinator and controller, and what becomes of them:
// killed, restarted, frozen, emptied; then one of two processes of logpipe, frozen, killed, replaced, its clock set. Whatever it
// is, each event is indexed and counted once, each incident told once, and nothing else is told.
import { beforeAll, expect, it } from 'vitest';
import { sleep } from '../../src/core/clock.ts';
import type { Cluster } from '../../stack/index.ts';
import { type ClusterRun, judge } from '../kit/cluster.ts';
import { startTestCluster, waitFor } from '../kit/servers.ts';

const FULL = process.env.LOGPIPE_CLUSTER === 'full';
const HOUR_MS = 3_600_000;

/** From a broker's last answer to the first record that its partitions' new leaders take. */
const LONGEST_PAUSE_MS = 20_000;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startTestCluster({ brokers: 3, esNodes: 1 });
});

/** All brokers have all of the topic. */
async function inSync({ admin, topic }: ClusterRun): Promise<void> {
  await waitFor(
    async () => {
      const [metadata] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics;
      return metadata!.partitions.every(({ isr }) => isr.length === 3);
    },
    { what: 'all replicas are in sync', timeoutMs: 180_000, intervalMs: 500 },
  );
}

it('each broker killed in turn: leader, coordinator and controller', async () => {
  await judge(cluster, async (run) => {
    for (const broker of FULL ? cluster.kafka : cluster.kafka.slice(0, 1)) {
      const pause = await run.longestPause(async () => {
        await broker.kill();
        await sleep(10_000);
      });
      await broker.restart();
      await inSync(run);
      expect(pause, broker.name).toBeLessThan(LONGEST_PAUSE_MS);
    }
  });
});

it.each(FULL ? [40_000, 150_000] : [20_000])('a broker frozen for %d ms', async (ms) => {
  await judge(cluster, async (run) => {
    const [, frozen] = cluster.kafka;
    const pause = await run.longestPause(async () => {
      await frozen!.kill('SIGSTOP');
      await sleep(ms);
    });
    await frozen!.kill('SIGCONT');
    expect(pause).toBeLessThan(LONGEST_PAUSE_MS);
    await inSync(run);
  });
});

if (FULL) {
  it.each([40_000, 150_000])('the process that alerts, frozen for %d ms', async (ms) => {
    await judge(
      cluster,
      async (_run, [first]) => {
        first!.kill('SIGSTOP');
        await sleep(ms);
        first!.kill('SIGCONT');
      },
      { processes: 2 },
    );
  });

  it('a rolling restart of all', async () => {
    await judge(cluster, async (run) => {
      for (const broker of cluster.kafka) {
        await broker.kill('SIGTERM');
        await broker.restart();
        await inSync(run);
      }
    });
  });

  it('two of three gone for 45 s', async () => {
    await judge(cluster, async (run) => {
      const [first, second] = cluster.kafka;
      await Promise.all([first!.kill(), second!.kill()]);
      await sleep(45_000);
      await Promise.all([first!.restart(), second!.restart()]);
      await inSync(run);
    });
  });

  it('a broker that comes back with an empty folder', async () => {
    await judge(cluster, async (run) => {
      const [, , third] = cluster.kafka;
      await third!.kill();
      await third!.restart({ empty: true });
      await inSync(run);
    });
  });

  it('partitions that are added', async () => {
    await judge(cluster, async ({ admin, topic }) => {
      await admin.createPartitions({ topicPartitions: [{ topic, count: 7 }] });
    });
  });

  it('one killed, then both replaced', async () => {
    await judge(
      cluster,
      async (run, processes) => {
        const [first, second] = processes.splice(0);
        first!.kill('SIGKILL');
        await first!.exit;
        processes.push(await run.start());
        second!.kill('SIGTERM');
        expect(await second!.exit).toEqual({ status: 0, signal: null });
        processes.push(await run.start());
      },
      { processes: 2 },
    );
  });

  it.each([
    ['an hour back', -HOUR_MS],
    ['an hour ahead', HOUR_MS],
    ['five seconds back', -5_000],
  ])('the clock of the only process is set: %s', async (_name, aheadMs) => {
    await judge(cluster, async (_run, [only]) => {
      only!.setClock(aheadMs);
      await sleep(30_000);
      only!.setClock(0);
    });
  });
}
