// Three brokers with everything on all of them, each in turn leader, coordinator and controller, and what becomes of them:
// killed, restarted, frozen, emptied, full; then the network, Elasticsearch, and two processes of logpipe, cut off, frozen, killed,
// replaced, their clocks set. Whatever it is, each event is indexed and counted once, each incident told once, and nothing else.
//
// In short: each kind once, one after the other. In full: each alone, for longer, and at the end whatever comes by chance.
import { beforeAll, it } from 'vitest';
import { sleep } from '../../src/core/clock.ts';
import type { Cluster } from '../../stack/index.ts';
import { type JudgeOptions, judge, sharedCluster } from '../kit/cluster.ts';
import {
  applicationCutOff,
  brokerDiskFull,
  brokerFrozen,
  brokerKilled,
  brokerRestarted,
  clockSet,
  elasticsearchDiskFull,
  elasticsearchKilled,
  type Place,
  partitionAdded,
  processCutOff,
  processesReplaced,
  processFrozen,
  reassigned,
  whole,
} from '../kit/cluster-faults.ts';

const FULL = process.env.LOGPIPE_CLUSTER === 'full';
const HOUR_MS = 3_600_000;
const MINUTES = Number(process.env.LOGPIPE_CLUSTER_MINUTES ?? 20);
const SEED = Number(process.env.LOGPIPE_CLUSTER_SEED ?? Math.floor(Math.random() * 1e9));

let cluster: Cluster;
let fronts: Place['fronts'];

beforeAll(async () => {
  ({ cluster, fronts } = await sharedCluster());
});

/** By the cluster's own addresses, so that no front stands between; one process. */
function alone(fault: (place: Place) => Promise<void>, options: JudgeOptions = {}): Promise<void> {
  return judge(cluster, (run, processes) => fault({ cluster, run, processes, fronts }), options);
}

/** Two processes, of which the first can be cut off, as the application can. */
function together(fault: (place: Place) => Promise<void>): Promise<void> {
  return alone(fault, {
    processes: [fronts.PROCESS.brokers, cluster.brokers],
    application: fronts.APPLICATION.brokers,
  });
}

if (!FULL) {
  it('each kind of fault in turn', async () => {
    await together(async (place) => {
      const [first, second, third] = cluster.kafka;
      await brokerKilled(place, first!, 8_000);
      await brokerFrozen(place, second!, 16_000);
      await processFrozen(place, 0, 15_000);
      await brokerDiskFull(place, third!);
      const others = async () => {
        await processCutOff(place, 'hole', 15_000);
        await clockSet(place, 0, -HOUR_MS, 8_000);
        await applicationCutOff(place, 'hole', 10_000);
      };
      // It takes Elasticsearch half a minute to look at its disk.
      await Promise.all([elasticsearchDiskFull(place, 1_000), others()]);
      await reassigned(place);
      await partitionAdded(place);
      await processesReplaced(place);
    });
  });
} else {
  it('each broker killed in turn: leader, coordinator and controller', async () => {
    await alone(async (place) => {
      for (const broker of cluster.kafka) await brokerKilled(place, broker, 10_000);
    });
  });

  it.each([40_000, 150_000])('a broker frozen for %d ms', async (ms) => {
    await alone((place) => brokerFrozen(place, cluster.kafka[1]!, ms));
  });

  it.each([40_000, 150_000])('the process that alerts, frozen for %d ms', async (ms) => {
    await together((place) => processFrozen(place, 0, ms));
  });

  it('a rolling restart of all', async () => {
    await alone(async (place) => {
      for (const broker of cluster.kafka) await brokerRestarted(place, broker);
    });
  });

  it('two of three gone for 45 s', async () => {
    await alone(async (place) => {
      const [first, second] = cluster.kafka;
      await Promise.all([first!.kill(), second!.kill()]);
      await sleep(45_000);
      await Promise.all([first!.restart(), second!.restart()]);
      await whole(place);
    });
  });

  it('a broker that comes back with an empty folder', async () => {
    await alone((place) => brokerRestarted(place, cluster.kafka[2]!, { empty: true }));
  });

  it('a broker whose disk is full', async () => {
    await alone((place) => brokerDiskFull(place, cluster.kafka[0]!));
  });

  it('Elasticsearch with a full disk for 60 s, then killed', async () => {
    await alone(async (place) => {
      await elasticsearchDiskFull(place, 60_000);
      await elasticsearchKilled(place, 10_000);
    });
  });

  it('all leaders reassigned, and partitions added', async () => {
    await alone(async (place) => {
      await reassigned(place);
      for (let n = 0; n < 3; n++) await partitionAdded(place);
    });
  });

  it.each(['hole', 'refused'] as const)('the application cut off from all brokers for 40 s: %s', async (how) => {
    await together((place) => applicationCutOff(place, how, 40_000));
  });

  it.each(['hole', 'refused'] as const)('one of two processes cut off from all brokers for 40 s: %s', async (how) => {
    await together((place) => processCutOff(place, how, 40_000));
  });

  it.each(['hole', 'refused'] as const)('the only process cut off from all brokers for 40 s: %s', async (how) => {
    await alone((place) => processCutOff(place, how, 40_000), { processes: [fronts.PROCESS.brokers] });
  });

  it('one killed, then both replaced', async () => {
    await together(processesReplaced);
  });

  it.each([
    ['an hour back', -HOUR_MS],
    ['an hour ahead', HOUR_MS],
    ['five seconds back', -5_000],
  ])('the clock of the only process is set: %s', async (_name, aheadMs) => {
    await alone((place) => clockSet(place, 0, aheadMs, 30_000));
  });

  it(
    `whatever comes by chance, for ${MINUTES} minutes`,
    async () => {
      console.log(`LOGPIPE_CLUSTER_SEED=${SEED}`);
      const random = seeded(SEED);
      const below = (bound: number) => Math.floor(random() * bound);
      await together(async (place) => {
        const endMs = performance.now() + MINUTES * 60_000;
        const broker = () => cluster.kafka[below(3)]!;
        const ms = () => 5_000 + below(25_000);
        const how = () => (['hole', 'refused'] as const)[below(2)]!;
        const faults: Record<string, () => Promise<void>> = {
          'a broker killed': () => brokerKilled(place, broker(), ms()),
          'a broker frozen': () => brokerFrozen(place, broker(), ms()),
          'a broker restarted': () => brokerRestarted(place, broker()),
          'a broker emptied': () => brokerRestarted(place, broker(), { empty: true }),
          'a broker’s disk full': () => brokerDiskFull(place, broker()),
          'all leaders reassigned': () => reassigned(place),
          'a partition added': () => partitionAdded(place),
          'Elasticsearch’s disk full': () => elasticsearchDiskFull(place, ms()),
          'Elasticsearch killed': () => elasticsearchKilled(place, ms()),
          'the application cut off': () => applicationCutOff(place, how(), ms()),
          'a process cut off': () => processCutOff(place, how(), ms()),
          'a process frozen': () => processFrozen(place, below(2), ms()),
          'both processes replaced': () => processesReplaced(place),
          'a clock set': () => clockSet(place, below(2), (random() - 0.5) * HOUR_MS, ms()),
        };
        // Each comes before any comes again.
        let left: string[] = [];
        while (performance.now() < endMs) {
          if (left.length === 0) left = Object.keys(faults);
          const [name] = left.splice(below(left.length), 1);
          console.log(`${new Date().toISOString()} ${name}`);
          await faults[name!]!();
          await sleep(ms() / 3);
        }
      });
    },
    (MINUTES + 20) * 60_000,
  );
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
