// The lines that an application reads about records which do not get through. That a real transport causes them, and that they
// leave the application alone, is in test/wire/transport-life.test.ts.
import { EventEmitter } from 'node:events';
import { expect, test } from 'vitest';
import { createOutageReport, type Left } from '../../../src/ship/transport.ts';

const TO = { brokers: ['kafka-1:9092'], topic: 'logs' };
const NOTHING: Left = { destination: TO, waiting: 0, dropped: 0 };
const holderOf = (left: Partial<Left> = {}) => ({ left: () => ({ ...NOTHING, ...left }) });

function setUp() {
  const lines: string[] = [];
  const process = new EventEmitter() as unknown as NodeJS.Process;
  const report = createOutageReport({ write: (line) => lines.push(line), process });
  return { report, lines, process, exit: () => (process as unknown as EventEmitter).emit('exit', 0) };
}

test('transports that share a cluster and a topic have one line when it goes and one when all of them are through', () => {
  const { report, lines } = setUp();
  const [one, two, three] = [holderOf(), holderOf(), holderOf()];
  report.began(one, TO, 'connect ECONNREFUSED; nothing listens there', 100_000);
  report.began(two, TO, 'connect ECONNREFUSED; nothing listens there', 100_000);
  expect(lines).toEqual([
    'logpipe: log records do not reach Kafka (kafka-1:9092, topic logs): connect ECONNREFUSED; nothing listens there. ' +
      'Up to 100,000 are kept and sent as soon as it is reached, later ones are dropped. ' +
      'Check the option brokers, and that Kafka runs and can be reached from this machine.',
  ]);
  report.ended(one, 4_000, { waiting: 3, dropped: 0 });
  report.ended(three, 4_000, { waiting: 9, dropped: 9 });
  expect(lines).toHaveLength(1);
  report.ended(two, 61_400, { waiting: 4, dropped: 2 });
  expect(lines[1]).toMatch(
    /again \(kafka-1:9092, topic logs\), 61 s .* 7 that waited are being sent, 2 were dropped\.$/,
  );
  report.began(one, TO, 'again', 10);
  expect(lines).toHaveLength(3);
});

test('a transport that is closed during an outage ends its part of it without a line', () => {
  const { report, lines } = setUp();
  const [one, two] = [holderOf(), holderOf()];
  report.began(one, TO, 'away', 10);
  report.release(one);
  report.began(two, { ...TO, topic: 'other' }, 'away', 10);
  expect(lines.map((line) => /topic \w+/.exec(line)?.[0])).toEqual(['topic logs', 'topic other']);
  report.ended(one, 1_000, { waiting: 0, dropped: 0 });
  expect(lines).toHaveLength(2);
});

test('one line at the end counts what all transports have left, the closed ones too; nothing left, no line, no listener', () => {
  const { report, lines, exit, process } = setUp();
  const [full, closed, fine] = [
    holderOf({ waiting: 5, dropped: 2, reason: 'away' }),
    holderOf({ waiting: 1 }),
    holderOf(),
  ];
  report.watch(fine);
  report.release(fine);
  expect(process.listenerCount('exit')).toBe(0);
  report.watch(fine);
  exit();
  expect(lines).toEqual([]);
  for (const one of [full, closed]) report.watch(one);
  report.release(closed);
  expect(process.listenerCount('exit')).toBe(1);
  exit();
  expect(lines).toEqual([
    'logpipe: 8 log records did not reach Kafka by the end of this process (6 waited, 2 had been dropped) (kafka-1:9092, topic logs): away.',
  ]);
});

test('a process that ends too early reads what to wait for', () => {
  const { report, lines, exit } = setUp();
  report.watch(holderOf({ waiting: 1 }));
  exit();
  expect(lines[0]).toMatch(
    /^logpipe: 1 log record did not .*the process ended before they were sent; wait for close\(\)/,
  );
});

test('a line holds no password of an address, does nothing to a terminal, and nobody hears of a standard error that is gone', () => {
  const { report, lines } = setUp();
  report.began(holderOf(), { brokers: ['user:hunter2@kafka-1:9092'], topic: 'logs' }, 'a\u001b[2J\nb', 10);
  expect(lines[0]).not.toMatch(/hunter2|\u001b|\n/);
  const gone = createOutageReport({
    write: () => {
      throw new Error('EPIPE');
    },
    process: new EventEmitter() as unknown as NodeJS.Process,
  });
  expect(() => gone.began(holderOf(), TO, 'away', 10)).not.toThrow();
});

test('with a spool: where records are kept during an outage, and at the end how many, which are not lost', () => {
  const { report, lines, exit } = setUp();
  const kept = holderOf({ spooled: { records: 7, dir: 'spool' } });
  report.began(kept, TO, 'away', { dir: 'spool', maxBytes: 512 * 1024 * 1024 });
  expect(lines.pop()).toMatch(
    /: away\. They are kept in spool \(up to 512 MiB, beyond that the oldest are dropped\) and sent as soon as it is reached\. /,
  );
  report.watch(kept);
  exit();
  const inFiles =
    '7 log records are kept in spool (kafka-1:9092, topic logs): the next process that logs there sends them, or logpipe ship --spool spool.';
  expect(lines.pop()).toBe(`logpipe: ${inFiles}`);
  report.watch(holderOf({ waiting: 2, reason: 'disk full' }));
  report.release(kept);
  exit();
  expect(lines.pop()).toBe(
    `logpipe: 2 log records did not reach Kafka by the end of this process (kafka-1:9092, topic logs): disk full. ${inFiles}`,
  );
});
