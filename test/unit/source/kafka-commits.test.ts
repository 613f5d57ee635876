// Commits: one at a time, never back, never an offset of one assignment with the generation of another.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { deferred } from '../../../src/core/clock.ts';
import type { Log } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createOffsetTracker } from '../../../src/source/kafka/offset-tracker.ts';
import { createCommitter } from '../../../src/source/kafka/positions.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';

const INTERVAL_MS = 500;

/** A committer whose commits the test answers. */
function setUp() {
  const clock = createFakeClock();
  const metrics = createMetrics();
  const tracker = createOffsetTracker();
  const said: string[] = [];
  const told: string[] = [];
  const say = (level: string) => (message: string) => void said.push(`${level} ${message}`);
  const log: Log = { error: say('error'), warn: say('warn'), info: say('info'), debug: say('debug') };
  /** Commits that wait for an answer, oldest first. */
  const asked: { offsets: string; answer(error?: object): Promise<void> }[] = [];
  const all: string[] = [];
  let underWay = 0;
  const committer = createCommitter(
    { topic: 'logs', intervalMs: INTERVAL_MS },
    {
      ...{ tracker, metrics, log, clock },
      onCommitted: ({ partition, offset }) => told.push(`${partition}:${offset}`),
    },
  );
  const send: Parameters<typeof committer.use>[0] = ({ topics }) => {
    underWay += 1;
    expect(underWay).toBe(1);
    const [{ topic, partitions }] = topics as [(typeof topics)[number]];
    expect(topic).toBe('logs');
    const offsets = partitions.map(({ partition, offset }) => `${partition}:${offset}`).join(' ');
    all.push(offsets);
    const { promise, resolve, reject } = deferred();
    asked.push({
      offsets,
      answer(error) {
        underWay -= 1;
        if (error === undefined) resolve();
        else reject(Object.assign(new Error('refused'), error));
        return settled();
      },
    });
    return promise;
  };
  tracker.reset(1);
  tracker.start(0, 100);
  const read = (count: number, partition = 0) => {
    const first = tracker.position(partition)!;
    return tracker.open(partition, first, first + count - 1, count);
  };
  const results = async () =>
    Object.fromEntries((await metrics.commits.get()).values.map(({ labels, value }) => [labels.result, value]));
  return { clock, tracker, committer, send, asked, all, said, told, read, results };
}

test('the next commit waits for the answer to the last, then names all that was finished meanwhile', async () => {
  const { clock, committer, send, asked, all, told, read } = setUp();
  committer.use(send);
  read(10).done(10);
  await clock.advance(INTERVAL_MS);
  read(5).done(5);
  await clock.advance(10 * INTERVAL_MS);
  expect(all).toEqual(['0:110']);
  expect(told).toEqual([]);
  await asked.shift()!.answer();
  expect(told).toEqual(['0:110']);
  await clock.advance(INTERVAL_MS);
  expect(all).toEqual(['0:110', '0:115']);
  await asked.shift()!.answer();
  // Nothing new, nothing said.
  await clock.advance(10 * INTERVAL_MS);
  expect(all).toHaveLength(2);
});

test('whatever is acknowledged in whatever order, what goes out only grows and stops before what is open', async () => {
  const step = fc.oneof(
    fc.record({ read: fc.integer({ min: 1, max: 20 }), partition: fc.integer({ min: 0, max: 2 }) }),
    fc.record({ done: fc.nat(), count: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ waitMs: fc.integer({ min: 1, max: 2 * INTERVAL_MS }) }),
    fc.record({ fails: fc.boolean() }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { clock, tracker, committer, send, asked, all, read } = setUp();
      committer.use(send);
      for (const partition of [1, 2]) tracker.start(partition, 100);
      const open: { partition: number; first: number; left: number; done(count: number): void }[] = [];
      const sent = new Map<number, number>();
      const look = () => {
        for (const each of all.splice(0).flatMap((one) => one.split(' '))) {
          const [partition, offset] = each.split(':').map(Number) as [number, number];
          expect(offset).toBeGreaterThan(sent.get(partition) ?? 100);
          for (const one of open) {
            if (one.partition === partition && one.left > 0) expect(offset).toBeLessThanOrEqual(one.first);
          }
          sent.set(partition, offset);
        }
      };
      for (const each of steps) {
        if ('read' in each) {
          const first = tracker.position(each.partition)!;
          open.push({ ...each, first, left: each.read, done: read(each.read, each.partition).done });
        } else if ('done' in each) {
          const waiting = open.filter(({ left }) => left > 0);
          const one = waiting[each.done % Math.max(1, waiting.length)];
          if (one === undefined) continue;
          const count = Math.min(one.left, each.count);
          // Before it is told, so that a commit in between would be found out.
          look();
          one.left -= count;
          one.done(count);
        } else if ('waitMs' in each) {
          await clock.advance(each.waitMs);
          look();
        } else {
          // What failed is due again, the same or more.
          const [partition] = asked[0]?.offsets.split(':').map(Number) ?? [];
          const isAnswered = asked.length > 0;
          await asked.shift()?.answer(each.fails ? { type: 'REQUEST_TIMED_OUT' } : undefined);
          if (isAnswered && each.fails && partition !== undefined) sent.clear();
        }
      }
    }),
    { numRuns: 200 },
  );
});

test('from REBALANCING to GROUP_JOIN nothing is committed, whoever asks; what was due goes right before it', async () => {
  const { clock, tracker, committer, send, asked, all, read } = setUp();
  committer.use(send);
  const late = read(10);
  late.done(4);
  const next = read(10);
  late.done(6);
  committer.hold();
  // From inside the event, while kafkajs still has the old assignment.
  expect(all).toEqual(['0:110']);
  await asked.shift()!.answer();
  next.done(10);
  await clock.advance(10 * INTERVAL_MS);
  await committer.flush();
  expect(all).toHaveLength(1);

  // The new assignment reads again from what was committed. Acknowledgements of the old one change nothing.
  tracker.reset(2);
  tracker.start(0, 110);
  committer.resume();
  const again = read(20);
  await clock.advance(INTERVAL_MS);
  expect(all).toHaveLength(1);
  again.done(20);
  await clock.advance(INTERVAL_MS);
  expect(all).toEqual(['0:110', '0:130']);
});

test('an answer that comes after a new assignment has begun is not its own: the offset is committed again', async () => {
  const { clock, tracker, committer, send, asked, all, read, results } = setUp();
  committer.use(send);
  read(10).done(10);
  await clock.advance(INTERVAL_MS);
  tracker.reset(2);
  tracker.start(0, 100);
  read(10).done(10);
  await asked.shift()!.answer();
  await clock.advance(INTERVAL_MS);
  expect(all).toEqual(['0:110', '0:110']);
  expect(await results()).toEqual({ ok: 1 });
});

test('a consumer that is gone commits nothing; the next one goes on with what is due', async () => {
  const { clock, committer, send, asked, all, read } = setUp();
  read(10).done(10);
  await clock.advance(INTERVAL_MS);
  committer.use(send);
  committer.drop();
  await clock.advance(INTERVAL_MS);
  expect(all).toEqual([]);
  committer.use(send);
  await clock.advance(INTERVAL_MS);
  expect(all).toEqual(['0:110']);
  await asked.shift()!.answer();
  committer.stop();
  expect(clock.timers()).toBe(0);
});

test.each([
  ['ILLEGAL_GENERATION', 'refused', 'info'],
  ['UNKNOWN_MEMBER_ID', 'refused', 'info'],
  ['REBALANCE_IN_PROGRESS', 'refused', 'info'],
  ['REQUEST_TIMED_OUT', 'failed', 'warn'],
])('%s: counted as %s, said as %s, and due again', async (type, result, level) => {
  const { clock, committer, send, asked, all, told, said, read, results } = setUp();
  committer.use(send);
  read(10).done(10);
  await clock.advance(INTERVAL_MS);
  await asked.shift()!.answer({ type });
  expect(await results()).toEqual({ [result]: 1 });
  expect(said).toEqual([`${level} offsets were not committed`]);
  expect(told).toEqual([]);
  await clock.advance(INTERVAL_MS);
  expect(all).toEqual(['0:110', '0:110']);
});

test('a last commit begins where no microtask waits, after the one under way, and is waited for', async () => {
  const { clock, committer, send, asked, all, read } = setUp();
  committer.use(send);
  read(10).done(10);
  await clock.advance(INTERVAL_MS);
  read(10).done(10);
  let isFlushed = false;
  const flushed = committer.flush().then(() => {
    isFlushed = true;
  });
  let microtasks = 0;
  const answered = asked.shift()!.answer();
  for (; microtasks < 50; microtasks++) await Promise.resolve();
  // kafkajs changes its assignment and tells of it within one run of the microtasks.
  expect(all).toEqual(['0:110']);
  await answered;
  await settled();
  expect(all).toEqual(['0:110', '0:120']);
  expect(isFlushed).toBe(false);
  await asked.shift()!.answer();
  await flushed;
});
