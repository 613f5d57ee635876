// Partitions that no member of the group reads: they show in the lag of every member, until somebody reads them.

import type { Kafka } from 'kafkajs';
import kafkajs from 'kafkajs';
import { expect, test } from 'vitest';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createKafkaPositions } from '../../../src/source/kafka/positions.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const { MemberAssignment } = kafkajs.AssignerProtocol;

test('a new partition is unread until the group has noticed it', async () => {
  const clock = createFakeClock();
  const metrics = createMetrics();
  const said: string[] = [];
  const world = { ends: [10, 20], committed: [10, 15], assigned: [[0], [1]], state: 'Stable' };
  const admin = {
    connect: async () => {},
    disconnect: async () => {},
    fetchTopicOffsets: async () =>
      world.ends.map((end, partition) => ({ partition, low: '3', high: String(end), offset: String(end) })),
    fetchOffsets: async () => [
      {
        topic: 'logs',
        partitions: world.ends.map((_, partition) => ({ partition, offset: String(world.committed[partition] ?? -1) })),
      },
    ],
    describeGroups: async () => ({
      groups: [
        {
          state: world.state,
          members: world.assigned.map((partitions) => ({
            memberAssignment: MemberAssignment.encode({
              version: 1,
              assignment: { logs: partitions },
              userData: Buffer.alloc(0),
            }),
          })),
        },
      ],
    }),
  };
  const positions = createKafkaPositions(
    { topic: 'logs', group: 'g', lagIntervalMs: 10_000 },
    {
      kafka: { admin: () => admin } as unknown as Kafka,
      metrics,
      log: { ...silentLog, warn: (message) => said.push(message) },
      clock,
    },
  );
  const lag = async () =>
    Object.fromEntries((await metrics.lag.get()).values.map(({ labels, value }) => [String(labels.partition), value]));
  await positions.startOf([0]);
  await clock.advance(10_000);
  expect([positions.unread(), await lag()]).toEqual([[], { 0: 0 }]);

  // Written before anybody reads it; its oldest records are gone already.
  world.ends.push(9);
  await clock.advance(10_000);
  expect([positions.unread(), await lag()]).toEqual([[2], { 0: 0, 2: 6 }]);
  expect(said).toEqual(['partitions are read by no instance']);

  // While the group sorts itself out nothing is said of anybody.
  world.state = 'PreparingRebalance';
  await clock.advance(10_000);
  expect(positions.unread()).toEqual([]);

  Object.assign(world, { state: 'Stable', assigned: [[0], [1, 2]] });
  await clock.advance(10_000);
  expect([positions.unread(), await lag()]).toEqual([[], { 0: 0 }]);
  expect(positions.partitionCount()).toBe(3);
  await positions.close();
});
