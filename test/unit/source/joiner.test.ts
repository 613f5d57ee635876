// Lines that belong together become one record, and are accounted for together.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Chunk, RawRecord } from '../../../src/core/record.ts';
import { createJoiner, type MultilineRule } from '../../../src/source/lines.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const STACK: MultilineRule = { continues: '^\\s' };

function join(rule: MultilineRule, maxBytes = 10_000) {
  const clock = createFakeClock();
  const taken: Chunk[] = [];
  const joiner = createJoiner(rule, async (chunk) => void taken.push(chunk), { clock, maxBytes });
  const done: number[] = [];
  let next = 0;
  /** A chunk of these lines; its number is that of the `done` counts. */
  const give = (lines: readonly string[], identity = 'f') => {
    const records = lines.map((line): RawRecord => {
      const offset = next;
      next += line.length + 1;
      return { value: Buffer.from(line), offset, timeMs: 5, eventId: undefined };
    });
    const at = done.push(0) - 1;
    return joiner.deliver({
      origin: { kind: 'file', path: '/x', identity },
      ...{ records, bytes: 0 },
      done(count) {
        done[at]! += count;
      },
    });
  };
  const texts = () => taken.flatMap(({ records }) => [...records].map(({ value }) => String(value)));
  return { clock, joiner, taken, done, give, texts };
}

test('a stack belongs to its message, across chunks; the last record waits for a second', async () => {
  const { clock, give, texts, taken, done } = join(STACK);
  await give(['Error: a', '  at b', 'ok', 'Error: c']);
  await give(['  at d']);
  expect(texts()).toEqual(['Error: a\n  at b', 'ok']);
  expect([...taken[0]!.records].map(({ offset }) => offset)).toEqual([0, 16]);
  taken[0]!.done(2);
  expect(done).toEqual([3, 0]);
  await clock.advance(1_000);
  expect(texts()[2]).toBe('Error: c\n  at d');
  taken[1]!.done(1);
  expect(done).toEqual([4, 1]);
});

test('`starts` takes every other line for a further one; files do not mix', async () => {
  const { joiner, give, texts } = join({ starts: '^\\d{4}-' });
  await give(['2026-11-28 a', 'b', '2026-11-28 c'], 'one');
  await give(['2026-11-28 x', 'y'], 'two');
  await give(['d'], 'one');
  await joiner.flush();
  expect(texts().sort()).toEqual(['2026-11-28 a\nb', '2026-11-28 c\nd', '2026-11-28 x\ny']);
});

test('nothing that is closed goes on, so that it is read again', async () => {
  const { clock, joiner, give, texts, done } = join(STACK);
  await give(['a']);
  joiner.close();
  await clock.advance(5_000);
  expect(texts()).toEqual([]);
  expect(done).toEqual([0]);
});

test('a record is bounded in lines and bytes, and the rule looks at the beginning of a line only', async () => {
  const lines = join(STACK);
  await lines.give(['a', ...Array.from({ length: 2_500 }, () => ' b')]);
  await lines.joiner.flush();
  expect(lines.texts().map((text) => text.split('\n').length)).toEqual([1_000, 1_000, 501]);
  const bytes = join(STACK, 100);
  await bytes.give(['a', ...Array.from({ length: 30 }, () => ` ${'b'.repeat(20)}`)]);
  await bytes.joiner.flush();
  expect(Math.max(...bytes.texts().map((text) => text.length))).toBeLessThanOrEqual(100);
  const late = join({ continues: 'x' });
  await late.give(['a', `${'y'.repeat(600)}x`]);
  await late.joiner.flush();
  expect(late.texts()).toHaveLength(2);
});

test('whatever the lines and chunks, no line is lost or moved, and all are accounted for when all records are', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.tuple(fc.array(fc.constantFrom('a', ' b', 'c d', '\te'), { maxLength: 8 }), fc.constantFrom('f', 'g')),
      ),
      fc.boolean(),
      async (chunks, wait) => {
        const { clock, joiner, taken, done, give } = join(STACK);
        for (const [lines, identity] of chunks) {
          await give(lines, identity);
          if (wait) await clock.advance(700);
        }
        await joiner.flush();
        for (const identity of ['f', 'g']) {
          const given = chunks.flatMap(([lines, of]) => (of === identity ? lines : []));
          const records = taken.flatMap(({ origin, records }) =>
            origin.kind === 'file' && origin.identity === identity ? [...records] : [],
          );
          expect(records.flatMap(({ value }) => String(value).split('\n'))).toEqual(given);
          expect(records.map(({ offset }) => offset)).toEqual(
            records.map(({ offset }) => offset).sort((a, b) => a - b),
          );
        }
        for (const chunk of taken) for (const _ of chunk.records) chunk.done(1);
        expect(done).toEqual(chunks.map(([lines]) => lines.length));
      },
    ),
  );
});
