// Two processes of logpipe beside each other, on three brokers, and what becomes of one of them: frozen, killed, replaced, its
// clock set. Each event is indexed and counted once, each incident told once, and nothing else is told.
import { beforeAll, expect, it } from 'vitest';
import { sleep } from '../../src/core/clock.ts';
import type { Cluster } from '../../stack/index.ts';
import { judge } from '../kit/cluster.ts';
import { startTestCluster } from '../kit/servers.ts';

const FULL = process.env.LOGPIPE_CLUSTER === 'full';
const HOUR_MS = 3_600_000;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startTestCluster({ brokers: 3, esNodes: 1 });
});

it.each(FULL ? [40_000, 150_000] : [20_000])('the process that alerts, frozen for %d ms', async (ms) => {
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

if (FULL) {
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
