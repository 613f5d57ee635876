// What kafkajs says, on its way to the transport's `warn` event; and what it leaves unsaid, partitions nobody acknowledged.
import { expect, test } from 'vitest';
import { assertAcknowledged, passOn } from '../../../src/core/kafka/broker-connections.ts';

test('texts, details and errors in place of texts; repetitions once a minute', () => {
  const told: string[] = [];
  let now = 0;
  const say = passOn(
    (message) => void told.push(message),
    () => now,
  );
  const entry = (message: unknown, error?: unknown) => ({ namespace: 'Connection', log: { message, error } });
  say(entry('Response Metadata', 'no leader'));
  say(entry(new Error('SASL PLAIN authentication failed')));
  for (now = 0; now < 150_000; now += 1_000) say(entry('Connection timeout'));
  expect(told).toEqual([
    '[Connection] Response Metadata: no leader',
    '[Connection] SASL PLAIN authentication failed',
    ...Array(3).fill('[Connection] Connection timeout'),
  ]);
});

test('a send that resolves without all of its partitions has not succeeded', () => {
  const answers = [{ partition: 0 }, { partition: 2 }];
  expect(() => assertAcknowledged(answers, [0, 2, 2, 0], 'logs')).not.toThrow();
  expect(() => assertAcknowledged(answers, [3, 0, 1, 3], 'logs')).toThrow(
    'no broker acknowledged partitions 3, 1 of logs',
  );
});
