// The reader of PM2's bus: whatever the pieces the bytes come in, each wanted event once; what is no such message is refused.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createBusReader } from '../../../src/pm2/lifecycle.ts';

function frame(...args: readonly (string | Buffer)[]): Buffer {
  const parts = [Buffer.from([0x10 | args.length])];
  for (const arg of args) {
    const bytes = Buffer.from(arg);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}
const event = (name: string, data: unknown) => frame(`s:${name}`, `j:${JSON.stringify(data)}`);

test('messages in any pieces: each wanted event once, in order, others left unread', () => {
  const message = fc.record({ wanted: fc.boolean(), data: fc.jsonValue() });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 20 }), fc.array(fc.integer({ min: 1, max: 40 })), (messages, sizes) => {
      const seen: unknown[] = [];
      const read = createBusReader(['process:event'], (name, data) => seen.push([name, data]));
      const bytes = Buffer.concat(
        messages.map(({ wanted, data }) => (wanted ? event('process:event', data) : frame('s:log:out', 'j:{not json'))),
      );
      let at = 0;
      for (const size of sizes) {
        if (at < bytes.length) read(bytes.subarray(at, at + size));
        at += size;
      }
      if (at < bytes.length) read(bytes.subarray(at));
      const wanted = messages
        .filter((one) => one.wanted)
        .map(({ data }) => ['process:event', JSON.parse(JSON.stringify(data))]);
      expect(seen).toEqual(wanted);
    }),
  );
});

test('messages with no, one or an empty argument are passed over', () => {
  const seen: unknown[] = [];
  const read = createBusReader(['a'], (name, data) => seen.push([name, data]));
  read(Buffer.concat([frame(), frame('s:a'), frame('', ''), event('a', 'ä')]));
  expect(seen).toEqual([['a', 'ä']]);
});

test.each([
  ['another protocol', Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), /protocol version 4/],
  ['a length beyond all reason', Buffer.from([0x12, 0xff, 0xff, 0xff, 0xff]), /longer than 16777216 bytes/],
  ['JSON that is none', frame('s:a', 'j:{'), /JSON/],
])('%s is refused', (_what, bytes, reason) => {
  expect(() => createBusReader(['a'], () => {})(bytes)).toThrow(reason);
});
