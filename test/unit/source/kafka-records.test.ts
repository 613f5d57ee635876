// What the headers of a record say, on its way from kafkajs to a raw record.
import type { KafkaMessage } from 'kafkajs';
import { expect, test } from 'vitest';
import { toRecords } from '../../../src/source/kafka/record-batch.ts';

const ARRIVED_MS = Date.parse('2026-11-24T10:00:00.000Z');
const DAY_MS = 86_400_000;

function clockErrorMs(headers: Record<string, unknown>): number | undefined {
  const buffers = Object.entries(headers).map(([name, value]) => [
    name,
    typeof value === 'number' || typeof value === 'string' ? Buffer.from(String(value)) : value,
  ]);
  const message = {
    ...{ key: null, value: Buffer.from('{}'), offset: '7', attributes: 0 },
    ...{ timestamp: String(ARRIVED_MS), headers: Object.fromEntries(buffers) },
  } as unknown as KafkaMessage;
  return toRecords([message])[0]!.clockErrorMs;
}

test.each([
  ['five minutes behind', ARRIVED_MS - 300_000, 300_000],
  ['five minutes ahead', ARRIVED_MS + 300_000, -300_000],
  ['two seconds', ARRIVED_MS - 2_000, 2_000],
  ['less than two seconds', ARRIVED_MS - 1_999, undefined],
  ['a day', ARRIVED_MS + DAY_MS, -DAY_MS],
  ['more than a day', ARRIVED_MS - DAY_MS - 1, undefined],
])('the clock of the sending host: %s', (_name, sentAt, expected) => {
  expect(clockErrorMs({ sentAt })).toBe(expected);
});

test.each([
  [{}],
  [{ sentAt: 'yesterday' }],
  [{ sentAt: `${ARRIVED_MS - 300_000}0` }],
  [{ sentAt: '179562960000x' }],
  [{ sentAt: '' }],
  [{ sentAt: [Buffer.from(String(ARRIVED_MS - 300_000))] }],
  [{ sentAt: ARRIVED_MS - 300_000, clock: 'right' }],
  [{ sentAt: ARRIVED_MS - 300_000, resent: '1' }],
  [{ sentAt: ARRIVED_MS - 300_000, replayed: 'x' }],
  [{ sentAt: ARRIVED_MS - 300_000, redriven: 'x' }],
])('says nothing about the clock: %o', (headers) => {
  expect(clockErrorMs(headers)).toBeUndefined();
});
