// The ids of lines: what makes them alike and different, and that everything which reads event ids tells them apart.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createEventIds, createLineIds, eventIdIn, isEventId, timeOfEventId } from '../../../src/core/record.ts';
import { toRecords } from '../../../src/source/kafka/record-batch.ts';

const value = fc.string({ minLength: 1, maxLength: 40, unit: 'binary' }).map((text) => Buffer.from(text));
const place = fc.record({ identity: fc.string({ minLength: 1, maxLength: 20 }), offset: fc.maxSafeNat(), value });

test('a line has the same id whenever it is read, and another one than any other line', () => {
  fc.assert(
    fc.property(place, place, (one, other) => {
      const id = createLineIds(one.identity)(one.offset % 2 ** 40, one.value);
      expect(isEventId(id)).toBe(true);
      expect(createLineIds(one.identity)(one.offset % 2 ** 40, Buffer.from(one.value))).toBe(id);
      const same =
        one.identity === other.identity &&
        one.offset % 2 ** 40 === other.offset % 2 ** 40 &&
        firstLine(one.value) === firstLine(other.value);
      expect(createLineIds(other.identity)(other.offset % 2 ** 40, other.value) === id).toBe(same);
    }),
  );
});

const firstLine = (text: Buffer) => text.toString('latin1').split('\n')[0];

test('identical lines of a file differ by their place, and the same place of a copied machine by its text', () => {
  const idOf = createLineIds('0123456789abcdef0123');
  const line = Buffer.from('GET /health 200');
  const ids = new Set(Array.from({ length: 200_000 }, (_, i) => idOf(i * 16, line)));
  expect(ids.size).toBe(200_000);
  // What tells ids apart in the counter's memory is the last ten characters and part of the first ten (measure/counter.ts).
  expect(new Set([...ids].map((id) => id.slice(16))).size).toBe(200_000);
  expect(idOf(0, Buffer.from('a'))).not.toBe(idOf(0, Buffer.from('b')));
});

test('where a joined record ends does not change its id', () => {
  const idOf = createLineIds('0123456789abcdef0123');
  expect(idOf(7, Buffer.from('Error: x\n  at y'))).toBe(idOf(7, Buffer.from('Error: x')));
});

test('no event id is taken for a line’s, and none of a line’s for an event’s', () => {
  const event = createEventIds(() => Date.parse('2300-01-01T00:00:00Z'))();
  const line = createLineIds('x')(5, Buffer.from('y'));
  expect(eventIdIn(event)).toBe(event);
  expect(eventIdIn(line)).toBeUndefined();
  expect(eventIdIn('no id')).toBeUndefined();
  expect(timeOfEventId(line)).toBeGreaterThan(Date.parse('8000-01-01T00:00:00Z'));
  const message = (eventId: string) => ({
    ...{ key: null, value: Buffer.from('{}'), offset: '4', timestamp: '1795875761607', attributes: 0 },
    headers: { eventId: Buffer.from(eventId), resent: Buffer.from('1') },
  });
  const records = toRecords([message(line), message(event)]);
  expect(records).toMatchObject([
    { eventId: undefined, documentId: line, mark: 'resent' },
    { eventId: event, mark: 'resent' },
  ]);
  expect(records[1]).not.toHaveProperty('documentId');
});
