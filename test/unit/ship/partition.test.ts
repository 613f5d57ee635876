// Records of one key go where every other Kafka client puts them.
import fc from 'fast-check';
import type { PartitionMetadata } from 'kafkajs';
import kafkajs from 'kafkajs';
import { expect, test } from 'vitest';
import { choosePartition } from '../../../src/ship/queue.ts';

const partitions = (count: number) =>
  Array.from({ length: count }, (_, n) => ({ partitionId: n, leader: 1 }) as PartitionMetadata);

test('keys are placed as the default partitioner places them', () => {
  const theirs = kafkajs.Partitioners.DefaultPartitioner();
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 1, max: 50 }), (key, count) => {
      const message = { key, value: '' };
      const expected = theirs({ topic: 't', partitionMetadata: partitions(count), message });
      expect(choosePartition(partitions(count), [], key, 0)).toBe(expected);
    }),
  );
});

test('records without key take turns over the partitions that can be used, over all when none can', () => {
  const all = partitions(4);
  const usable = all.filter(({ partitionId }) => partitionId !== 2);
  expect([0, 1, 2, 3].map((turn) => choosePartition(all, usable, null, turn))).toEqual([0, 1, 3, 0]);
  expect([0, 1, 2, 3].map((turn) => choosePartition(all, [], null, turn))).toEqual([0, 1, 2, 3]);
});
