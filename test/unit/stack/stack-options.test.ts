// What `logpipe stack` is asked for: wrong numbers are refused before anything starts, by name and with what is permitted.
import { expect, test } from 'vitest';
import { runStack, type StackOptions, stackNumber } from '../../../src/cli/stack.ts';

async function answer(options: StackOptions) {
  const out: string[] = [];
  const io = { out: (line: string) => out.push(line), err: () => undefined };
  const status = await runStack('up', { ...options, folder: '/nowhere/stack', json: true }, io);
  return { status, message: (JSON.parse(out[0]!) as { error: { message: string } }).error.message };
}

test.each([
  ['--kafka-port', 'abc', '"abc"; permitted: 1 to 65535'],
  ['--kafka-port', '0', '"0"; permitted: 1 to 65535'],
  ['--es-port', '70000', '"70000"; permitted: 1 to 65535'],
  ['--es-port', '92.5', '"92.5"; permitted: 1 to 65535'],
  ['--brokers', '6', '"6"; permitted: 1 to 5'],
  ['--es-nodes', '-1', '"-1"; permitted: 1 to 5'],
])('%s %s', (flag, text, problem) => {
  expect(() => stackNumber(flag)(text)).toThrow(`${flag}: found ${problem}`);
});

test('numbers that fit are taken as they are', () => {
  expect([stackNumber('--es-port')('9201'), stackNumber('--brokers')('3')]).toEqual([9201, 3]);
});

test.each([
  [{ brokers: Number.NaN }, '--brokers: found "NaN"'],
  [{ kafkaPort: 65_534, brokers: 3 }, '--kafka-port 65534: its 3 servers need ports up to 65536'],
  [{ kafkaPort: 9200, brokers: 3, esPort: 9202 }, '--kafka-port, --es-port: both ask for port 9202'],
])('%j is refused', async (options, problem) => {
  expect(await answer(options)).toEqual({ status: 2, message: expect.stringContaining(problem) });
});
