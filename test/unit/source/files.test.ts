// The file source on a real file system: rotations, restarts, and what the position file promises.
import { appendFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLog } from '../../../src/core/log.ts';
import type { Chunk } from '../../../src/core/record.ts';
import { createFileSource } from '../../../src/source/files/files.ts';
import { createStdinSource } from '../../../src/source/lines.ts';
import { lines, newFolder, take as open, text, until } from '../../kit/log-files.ts';

const deps = { log: silentLog, clock: systemClock };

describe('following', () => {
  it('reads from the beginning, waits for line ends and for files that do not exist yet', async () => {
    const { log, config } = newFolder();
    const taken = await open(createFileSource(config, deps));
    writeFileSync(log, `${text(lines(0, 3))}{"n":`);
    await until('three lines', () => taken.records.length === 3);
    appendFileSync(log, '3}\n');
    await until('the fourth', () => taken.records.length === 4);
    expect(taken.lines()).toEqual(lines(0, 4));
    expect(taken.records.map(({ offset }) => offset)).toEqual([0, 8, 16, 24]);
  });

  it('finishes a renamed file, late lines included, before it opens the new one', async () => {
    const { log, config } = newFolder();
    writeFileSync(log, text(lines(0, 2)));
    const taken = await open(createFileSource({ ...config, pollIntervalMs: 500 }, deps));
    await until('two lines', () => taken.records.length === 2);
    renameSync(log, `${log}.1`);
    writeFileSync(log, text(lines(10, 2)));
    // The writer still has the old file open.
    appendFileSync(`${log}.1`, text(lines(2, 1)));
    await until('a late line', () => taken.records.length === 3);
    appendFileSync(`${log}.1`, '{"n":3}');
    await until('all lines', () => taken.records.length === 6);
    expect(taken.lines()).toEqual([...lines(0, 4), ...lines(10, 2)]);
    expect(new Set(taken.ids()).size).toBe(6);
    expect(new Set(taken.records.map(({ identity }) => identity)).size).toBe(2);
  });

  it('reads a truncated file from its beginning under a new identity, also when it has outgrown its old size', async () => {
    const { log, config } = newFolder();
    writeFileSync(log, text(lines(0, 5)));
    const taken = await open(createFileSource(config, deps));
    await until('five lines', () => taken.records.length === 5);
    truncateSync(log);
    appendFileSync(log, text(lines(10, 1)));
    await until('the line after it was emptied', () => taken.records.length === 6);
    // Emptied and refilled beyond the old size within one look.
    writeFileSync(log, text(lines(20, 9)));
    await until('the lines after the second time', () => taken.records.length === 15);
    expect(taken.lines()).toEqual([...lines(0, 5), ...lines(10, 1), ...lines(20, 9)]);
    expect(new Set(taken.ids()).size).toBe(15);
  });

  it('cuts over-long lines', async () => {
    const { log, config } = newFolder();
    writeFileSync(log, `${'x'.repeat(700_000)}\n${text(lines(0, 1))}`);
    const taken = await open(createFileSource(config, deps));
    await until('both lines', () => taken.records.length === 2);
    expect(taken.records[0]!.value).toHaveLength(1_000);
    expect(taken.records[1]!.offset).toBe(700_001);
  });
});

describe('reading much', () => {
  /** Each read whose lines are delivered at once. */
  async function memoryOf(config: Parameters<typeof createFileSource>[0], count: number) {
    const seen: ArrayBufferLike[] = [];
    let records = 0;
    const source = createFileSource({ ...config, follow: false }, deps);
    await source.start(async ({ lines: read, done }) => {
      const { apart, bytes, starts, reuse } = read!;
      if (reuse !== undefined) seen.push(bytes.buffer);
      records += apart.length + starts.length;
      done(apart.length + starts.length);
      reuse?.();
    });
    await source.ended;
    await source.close();
    expect(records).toBe(count);
    return seen;
  }
  const much = text(lines(0, 150_000));

  it('all files share the buffers that are free', async () => {
    const { log, config } = newFolder();
    const paths = ['a', 'b', 'c'].map((name) => `${log}-${name}`);
    for (const path of paths) writeFileSync(path, much);
    const seen = await memoryOf({ ...config, paths }, 3 * 150_000);
    // Of each file the first read and the last one have lengths of their own.
    expect(seen.length).toBeGreaterThan(3 * 5);
    expect(new Set(seen).size).toBeLessThanOrEqual(2 * 3 + 1);
  });

  it('what was unpacked is not read over: the rest of it may lie there', async () => {
    const { log, config } = newFolder();
    const path = `${log}.gz`;
    writeFileSync(path, gzipSync(much));
    expect(await memoryOf({ ...config, paths: [path] }, 150_000)).toHaveLength(0);
  });
});

describe('restarting', () => {
  it('goes on behind the contiguous acknowledged lines, under the same ids', async () => {
    const { log, config, positions } = newFolder();
    // Two reads of 256 KiB, so that there are chunks to acknowledge out of order.
    const all = Array.from({ length: 1_000 }, (_, i) => `{"n":${i},"text":"${'x'.repeat(600)}"}`);
    writeFileSync(log, text(all));
    const first = await open(createFileSource(config, deps), { auto: false });
    await until('everything', () => first.records.length === 1_000);
    expect(first.chunks.length).toBeGreaterThan(2);
    const [one, two] = first.chunks as [Chunk, Chunk];
    two.done(two.records.length);
    await until('an unchanged position', () => positions()[0]!.position === 0);
    one.done(one.records.length);
    const behind = two.records.at(-1)!.offset + two.records.at(-1)!.value!.length + 1;
    await until('both chunks', () => positions()[0]!.position === behind);
    await first.end();

    const second = await open(createFileSource(config, deps));
    await until('the rest', () => second.records.length === 1_000 - one.records.length - two.records.length);
    expect(second.ids()).toEqual(first.ids().slice(one.records.length + two.records.length));
    appendFileSync(log, text(lines(0, 1)));
    await until('a new line', () => second.lines().at(-1) === '{"n":0}');
  });

  it('finishes a file that was rotated while nobody looked', async () => {
    const { folder, log, config } = newFolder();
    writeFileSync(log, text(lines(0, 3)));
    const first = await open(createFileSource(config, deps));
    await until('three lines', () => first.records.length === 3);
    await first.end();
    appendFileSync(log, text(lines(3, 2)));
    renameSync(log, join(folder, 'app-yesterday.log'));
    writeFileSync(log, text(lines(10, 1)));

    const second = await open(createFileSource(config, deps));
    await until('the rest and the new file', () => second.records.length === 3);
    expect(second.lines()).toEqual([...lines(3, 2), ...lines(10, 1)]);
    expect(second.records[0]!.identity).toBe(first.records[0]!.identity);
  });

  it('notices a file that was emptied while nobody looked', async () => {
    const { log, config } = newFolder();
    writeFileSync(log, text(lines(0, 5)));
    const first = await open(createFileSource(config, deps));
    await until('five lines', () => first.records.length === 5);
    await first.end();
    truncateSync(log);
    appendFileSync(log, text(lines(10, 2)));
    const second = await open(createFileSource(config, deps));
    await until('both lines', () => second.records.length === 2);
    expect(new Set([...first.ids(), ...second.ids()]).size).toBe(7);
  });

  it('keeps the identity of a file whose lines were delivered but never acknowledged', async () => {
    const { log, config } = newFolder();
    writeFileSync(log, text(lines(0, 3)));
    const first = await open(createFileSource(config, deps), { auto: false });
    await until('three lines', () => first.records.length === 3);
    await first.end();
    const second = await open(createFileSource(config, deps));
    await until('the same again', () => second.records.length === 3);
    expect(second.ids()).toEqual(first.ids());
  });
});

it('a second process is refused while the first one lives, and a dead one’s lock is taken over', async () => {
  const { log, config } = newFolder();
  writeFileSync(log, text(lines(0, 1)));
  const first = await open(createFileSource(config, deps));
  await expect(createFileSource(config, deps).start(async () => {})).rejects.toMatchObject({
    code: 'LOGPIPE_SOURCE_FAILED',
    message: expect.stringContaining(`process ${process.pid}`) as string,
  });
  await first.end();
  // What a killed process leaves behind: its number, used by somebody else now.
  writeFileSync(join(config.dataDir, 'lock'), `${process.ppid} 1 another-boot`);
  const second = await open(createFileSource(config, deps));
  expect(second.source.status().ready).toBe(true);
});

describe('reading once', () => {
  it('ends at the end of the files, the last line included, and has nothing to do the next time', async () => {
    const { folder, log, config } = newFolder();
    const other = join(folder, 'other.log');
    writeFileSync(log, `${text(lines(0, 2))}{"n":2}`);
    writeFileSync(other, text(lines(10, 1)));
    const once = { ...config, follow: false, paths: [log, other] };
    const first = await open(createFileSource(once, deps));
    await first.source.ended;
    expect(first.lines().sort()).toEqual([...lines(0, 3), ...lines(10, 1)].sort());
    await first.end();
    const second = await open(createFileSource(once, deps));
    await second.source.ended;
    expect(second.records).toEqual([]);
  });

  it('fails for a file that does not exist', async () => {
    const { config } = newFolder();
    const taken = await open(createFileSource({ ...config, follow: false }, deps));
    await expect(taken.source.ended).rejects.toMatchObject({ code: 'LOGPIPE_SOURCE_FAILED' });
  });
});

it('standard input: lines in any pieces, and an end', async () => {
  const input = Readable.from([Buffer.from('{"n":0}\n{"n"'), Buffer.from(':1}\n'), Buffer.from('{"n":2}')]);
  const taken = await open(createStdinSource({ input, maxLineBytes: 1_000 }, deps));
  await taken.source.ended;
  expect(taken.lines()).toEqual(lines(0, 3));
  expect(taken.source.status().ready).toBe(false);
});
