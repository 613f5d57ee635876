// Rotations as real writers make them, while nobody looks: every numbered line comes exactly once.
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import winston from 'winston';
import { follow, lines, newFolder, type Taken, text, until } from '../../kit/log-files.ts';

/** Every line up to `count` once, in any number of runs, and no document id twice. */
function expectLedger(count: number, ...runs: Taken[]) {
  const numbers = runs.flatMap((run) => run.numbers()).sort((a, b) => a - b);
  expect(numbers).toEqual(Array.from({ length: count }, (_, i) => i));
  expect(new Set(runs.flatMap((run) => run.ids())).size).toBe(count);
}

const all = (count: number, ...runs: Taken[]) =>
  until(`${count} lines`, () => runs.reduce((sum, run) => sum + run.records.length, 0) >= count);

/** logrotate: `app.log.1` becomes `app.log.2` and so on, `app.log` becomes `app.log.1`. */
function rotate(log: string, ending = '') {
  for (let n = 9; n > 0; n--) {
    if (existsSync(`${log}.${n}${ending}`)) renameSync(`${log}.${n}${ending}`, `${log}.${n + 1}${ending}`);
  }
}
function rename(log: string) {
  rotate(log);
  renameSync(log, `${log}.1`);
}
function copytruncate(log: string) {
  rotate(log);
  copyFileSync(log, `${log}.1`);
  truncateSync(log);
}
/** As gzip does: the whole copy first, then the original goes. */
function compress(file: string) {
  writeFileSync(`${file}.gz`, gzipSync(readFileSync(file)));
  rmSync(file);
}

describe('rotated twice between two looks', () => {
  it.each([
    ['by renaming', rename],
    ['by copytruncate', copytruncate],
  ])('%s, with Elasticsearch away', async (_, turn) => {
    const { log, config } = newFolder();
    writeFileSync(log, text(lines(0, 10)));
    const taken = await follow(config);
    await all(10, taken);
    taken.goAway();
    appendFileSync(log, text(lines(10, 10)));
    await all(20, taken);
    for (let turns = 0; turns < 3; turns++) {
      appendFileSync(log, text(lines(20 + 20 * turns, 10)));
      turn(log);
      appendFileSync(log, text(lines(30 + 20 * turns, 10)));
    }
    taken.comeBack();
    await all(80, taken);
    expectLedger(80, taken);
    expect(taken.numbers()).toEqual(Array.from({ length: 80 }, (_, i) => i));
    expect(await taken.dropped()).toEqual({});
  });

  it.each([
    ['by renaming', rename],
    ['by copytruncate', copytruncate],
  ])('%s, with logpipe stopped', async (_, turn) => {
    const { log, config } = newFolder();
    writeFileSync(log, text(lines(0, 10)));
    const first = await follow(config);
    await all(10, first);
    await first.end();
    for (let turns = 0; turns < 3; turns++) {
      appendFileSync(log, text(lines(10 + 20 * turns, 10)));
      turn(log);
      appendFileSync(log, text(lines(20 + 20 * turns, 10)));
    }
    const second = await follow(config);
    await all(70, first, second);
    await second.end();
    expectLedger(70, first, second);
    expect(second.numbers()).toEqual(Array.from({ length: 60 }, (_, i) => 10 + i));
    expect(await second.dropped()).toEqual({});
    const third = await follow({ ...config, follow: false });
    await third.source.ended;
    expect(third.records).toEqual([]);
  });

  it.each([
    ['by renaming', rename],
    ['by copytruncate', copytruncate],
  ])('%s, and compressed', async (_, turn) => {
    const { folder, log, config } = newFolder();
    writeFileSync(log, text(lines(0, 10)));
    const first = await follow(config);
    await all(10, first);
    await first.end();
    for (let turns = 0; turns < 3; turns++) {
      appendFileSync(log, text(lines(10 + 20 * turns, 10)));
      rotate(log, '.gz');
      turn(log);
      compress(`${log}.1`);
      appendFileSync(log, text(lines(20 + 20 * turns, 10)));
    }
    const second = await follow(config);
    await all(70, first, second);
    // What is read while it is plain and compressed later is the same file.
    rotate(log, '.gz');
    turn(log);
    appendFileSync(log, text(lines(70, 10)));
    await all(80, first, second);
    compress(`${log}.1`);
    await second.end();
    const third = await follow(config);
    appendFileSync(log, text(lines(80, 1)));
    await all(81, first, second, third);
    await third.end();
    expectLedger(81, first, second, third);
    expect(readdirSync(folder).filter((name) => name.endsWith('.gz'))).toHaveLength(4);
    expect(await second.dropped()).toEqual({});
    expect(await third.dropped()).toEqual({});
  });
});

it('a copy beside its original is not read, however long the truncation takes; what only the copy has left is', async () => {
  const { log, config } = newFolder();
  writeFileSync(log, text(lines(0, 5)));
  const taken = await follow(config);
  await all(5, taken);
  copyFileSync(log, `${log}.1`);
  for (let n = 5; n < 8; n++) {
    appendFileSync(log, text(lines(n, 1)));
    await all(n + 1, taken);
  }
  taken.goAway();
  appendFileSync(log, text(lines(8, 1)));
  await all(9, taken);
  appendFileSync(log, text(lines(9, 1)));
  copyFileSync(log, `${log}.1`);
  truncateSync(log);
  appendFileSync(log, text(lines(10, 1)));
  taken.comeBack();
  await all(11, taken);
  await taken.end();
  const again = await follow({ ...config, follow: false });
  await again.source.ended;
  expectLedger(11, taken, again);
});

describe('Winston’s own rotation', () => {
  const kinds = [
    ['maxsize', {}],
    ['maxsize and tailable', { tailable: true, maxFiles: 200 }],
    ['maxsize, tailable and zippedArchive', { tailable: true, maxFiles: 200, zippedArchive: true }],
  ] as const;

  async function write(log: string, options: object, from: number, count: number) {
    const transport = new winston.transports.File({ filename: log, maxsize: 5_000, ...options });
    const logger = winston.createLogger({ transports: [transport], format: winston.format.json() });
    await new Promise((resolve) => transport.once('open', resolve));
    for (let n = from; n < from + count; n++) {
      const logged = new Promise((resolve) => transport.once('logged', resolve));
      logger.info({ message: 'x'.repeat(100), n } as never);
      await logged;
    }
    await until('the last line on disk', () => written(dirname(log)).includes(from + count - 1));
    logger.close();
  }

  /** Winston itself may lose lines while it opens the next file: what it wrote is what counts. */
  function written(folder: string): number[] {
    const found: number[] = [];
    for (const name of readdirSync(folder).filter((other) => other.startsWith('app'))) {
      const bytes = readFileSync(join(folder, name));
      const content = String(name.endsWith('.gz') ? gunzipSync(bytes) : bytes);
      for (const line of content.split('\n').slice(0, -1)) found.push((JSON.parse(line) as { n: number }).n);
    }
    return found.sort((a, b) => a - b);
  }

  it.each(kinds)('%s, while logpipe reads', async (_, options) => {
    const { folder, log, config } = newFolder();
    const taken = await follow(config);
    await write(log, options, 0, 600);
    const expected = written(folder);
    expect(expected.length).toBeGreaterThan(500);
    expect(readdirSync(folder).length).toBeGreaterThan(5);
    await all(expected.length, taken);
    await taken.end();
    expect(taken.numbers().sort((a, b) => a - b)).toEqual(expected);
    expect(await taken.dropped()).toEqual({});
  });

  it.each(kinds)('%s, while logpipe is stopped', async (_, options) => {
    const { folder, log, config } = newFolder();
    await write(log, options, 0, 300);
    const before = written(folder).length;
    const first = await follow(config);
    await all(before, first);
    await first.end();
    await write(log, options, 300, 300);
    const expected = written(folder);
    expect(expected.length).toBeGreaterThan(before + 200);
    const second = await follow(config);
    await all(expected.length, first, second);
    await second.end();
    expect([...first.numbers(), ...second.numbers()].sort((a, b) => a - b)).toEqual(expected);
    expect(await second.dropped()).toEqual({});
  });
});
