// Faults of a cluster and of the logpipe processes on it: brokers, Elasticsearch, the network, processes, their clocks. Each lasts as
// long as wanted and is undone at its end; it resolves when the cluster is whole again.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import { sleep } from '../../src/core/clock.ts';
import { type ClusterMember, processStart } from '../../stack/index.ts';
import type { ClusterProcess, ClusterRun, SharedCluster } from './cluster.ts';
import type { Cut } from './fronts.ts';
import { waitFor } from './servers.ts';

/** The longest time from a broker's last answer to the first record that its partitions' new leaders take. */
export const LONGEST_PAUSE_MS = 20_000;
const WHOLE_MS = 180_000;

/** Where a fault happens. */
export interface Place extends SharedCluster {
  readonly run: ClusterRun;
  /** The first one reaches the brokers by the front `PROCESS`. */
  readonly processes: ClusterProcess[];
}

/** Resolves when all brokers have all of every topic. */
export async function whole({ run: { admin, topics } }: Pick<Place, 'run'>): Promise<void> {
  await waitFor(
    async () => {
      const { topics: found } = await admin.fetchTopicMetadata({ topics: [...topics] });
      return found.every(({ partitions }) => partitions.every(({ isr, leader }) => isr.length === 3 && leader >= 0));
    },
    { what: 'all replicas are in sync', timeoutMs: WHOLE_MS, intervalMs: 500 },
  );
}

/** Every broker leads, coordinates or controls something, so any of them will do. */
export async function brokerKilled(place: Place, broker: ClusterMember, ms: number): Promise<void> {
  const pause = await place.run.longestPause(async () => {
    await broker.kill();
    await sleep(ms);
  });
  report(`${broker.name} killed`, `nothing sent for ${seconds(pause)}`);
  await broker.restart();
  await whole(place);
  expect(pause, broker.name).toBeLessThan(LONGEST_PAUSE_MS);
}

export async function brokerFrozen(place: Place, broker: ClusterMember, ms: number): Promise<void> {
  const pause = await place.run.longestPause(async () => {
    await broker.kill('SIGSTOP');
    await sleep(ms);
  });
  await broker.kill('SIGCONT');
  report(`${broker.name} frozen for ${seconds(ms)}`, `nothing sent for ${seconds(pause)}`);
  await whole(place);
  expect(pause, broker.name).toBeLessThan(LONGEST_PAUSE_MS);
}

export async function brokerRestarted(place: Place, broker: ClusterMember, options: { empty?: boolean } = {}) {
  await broker.kill(options.empty ? 'SIGKILL' : 'SIGTERM');
  await broker.restart(options);
  await whole(place);
}

/** Its disk takes nothing more: writing fails, as it does on a full one, and the broker ends itself. Then there is room again. */
export async function brokerDiskFull(place: Place, broker: ClusterMember): Promise<void> {
  const pause = await place.run.longestPause(async () => {
    await promisify(execFile)('prlimit', ['--pid', String(broker.pid), '--fsize=1:unlimited']);
    await waitFor(() => processStart(broker.pid) === undefined, {
      ...{ what: `${broker.name} has ended itself`, timeoutMs: 60_000 },
    });
    await sleep(10_000);
  });
  report(`${broker.name}’s disk full`, `nothing sent for ${seconds(pause)}`);
  await broker.restart();
  await whole(place);
  expect(pause, broker.name).toBeLessThan(LONGEST_PAUSE_MS);
}

/** Elasticsearch's disks have less room than its own watermark asks for: it makes the indices read-only and writable again by itself. */
export async function elasticsearchDiskFull({ cluster: { esUrls } }: Place, ms: number): Promise<void> {
  const [url] = esUrls;
  /** The free space it asks for; undefined: the stack's default, which ignores disks. */
  const watermarks = async (left?: string) => {
    const names = ['low', 'high', 'flood_stage'].map((name) => `cluster.routing.allocation.disk.watermark.${name}`);
    const settings = {
      ...Object.fromEntries(names.map((name) => [name, left ?? null])),
      'cluster.routing.allocation.disk.threshold_enabled': left === undefined ? null : true,
      'cluster.info.update.interval': left === undefined ? null : '10s',
    };
    const reply = await fetch(`${url}/_cluster/settings`, {
      ...{ method: 'PUT', headers: { 'content-type': 'application/json' } },
      body: JSON.stringify({ persistent: settings }),
    });
    expect(reply.status, await reply.text()).toBe(200);
  };
  const isReadOnly = async () => {
    const reply = await fetch(`${url}/calling-platform-*/_settings/index.blocks.read_only_allow_delete`);
    return (await reply.text()).includes('"true"');
  };
  await watermarks('900tb');
  await waitFor(isReadOnly, { what: 'Elasticsearch has made the index read-only', timeoutMs: 90_000, intervalMs: 500 });
  await sleep(ms);
  await watermarks('1b');
  await waitFor(async () => !(await isReadOnly()), {
    what: 'it is writable again',
    timeoutMs: 90_000,
    intervalMs: 500,
  });
  await watermarks();
}

export async function elasticsearchKilled({ cluster }: Place, ms: number): Promise<void> {
  const [node] = cluster.elasticsearch;
  await node!.kill();
  await sleep(ms);
  await node!.restart();
}

export async function applicationCutOff({ run, fronts }: Place, how: Cut, ms: number): Promise<void> {
  await fronts.APPLICATION.cut(how);
  await sleep(ms);
  await fronts.APPLICATION.heal();
  const back = await run.nextDelivery();
  report(`the application cut off for ${seconds(ms)}, ${how}`, `sent again after ${seconds(back)}`);
  expect(back).toBeLessThan(LONGEST_PAUSE_MS);
}

export async function processCutOff({ fronts }: Place, how: Cut, ms: number): Promise<void> {
  await fronts.PROCESS.cut(how);
  await sleep(ms);
  await fronts.PROCESS.heal();
}

export async function processFrozen({ processes }: Place, which: number, ms: number): Promise<void> {
  processes[which]!.kill('SIGSTOP');
  await sleep(ms);
  processes[which]!.kill('SIGCONT');
}

/** One after the other: the first is killed, the second is stopped properly. */
export async function processesReplaced({ run, processes, fronts, cluster }: Place): Promise<void> {
  const [first, second] = processes.splice(0);
  first!.kill('SIGKILL');
  await first!.exit;
  processes.push(await run.start(fronts.PROCESS.brokers));
  second!.kill('SIGTERM');
  expect(await second!.exit).toEqual({ status: 0, signal: null });
  processes.push(await run.start(cluster.brokers));
}

export async function clockSet({ processes }: Place, which: number, aheadMs: number, ms: number): Promise<void> {
  processes[which]!.setClock(aheadMs);
  await sleep(ms);
  processes[which]!.setClock(0);
}

/** The leader of each partition of each topic is removed, and comes back as a follower. */
export async function reassigned(place: Place): Promise<void> {
  const { admin, topics } = place.run;
  const assign = async (of: (leader: number, others: number[]) => number[]) => {
    const { topics: found } = await admin.fetchTopicMetadata({ topics: [...topics] });
    await admin.alterPartitionReassignments({
      topics: found.map(({ name, partitions }) => ({
        topic: name,
        partitionAssignment: partitions.map(({ partitionId, leader }) => ({
          partition: partitionId,
          replicas: of(
            leader,
            [1, 2, 3].filter((node) => node !== leader),
          ),
        })),
      })),
    });
  };
  const pause = await place.run.longestPause(async () => {
    await assign((_leader, others) => others);
    await waitFor(
      async () => {
        const { topics: found } = await admin.fetchTopicMetadata({ topics: [...topics] });
        return found.every(({ partitions }) =>
          partitions.every(({ replicas, leader }) => replicas.length === 2 && replicas.includes(leader)),
        );
      },
      { what: 'the leaders have gone', timeoutMs: WHOLE_MS, intervalMs: 500 },
    );
    await assign((leader, others) => [leader, ...others]);
    await whole(place);
  });
  report('all leaders reassigned', `nothing sent for ${seconds(pause)}`);
  expect(pause).toBeLessThan(LONGEST_PAUSE_MS);
}

export async function partitionAdded({ run: { admin, topic } }: Place): Promise<void> {
  const [metadata] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics;
  await admin.createPartitions({ topicPartitions: [{ topic, count: metadata!.partitions.length + 1 }] });
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

function report(what: string, measured: string): void {
  console.log(`${what}: ${measured}`);
}
