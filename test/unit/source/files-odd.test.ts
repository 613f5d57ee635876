// What files do besides being rotated: each oddity beside an ordinary file that must not notice.
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  createWriteStream,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';
import { follow, lines, listen, newFolder, text, until } from '../../kit/log-files.ts';

const HEADER = `{"n":-1,"text":"${'the same in every file '.repeat(20)}"}\n`;

describe('truncated', () => {
  it('with the same first bytes, and grown to the very size it had', async () => {
    const { log, config } = newFolder();
    writeFileSync(log, HEADER + text(lines(10, 5)));
    const taken = await follow(config);
    await until('the first', () => taken.records.length === 6);
    writeFileSync(log, HEADER + text(lines(20, 5)));
    await until('the second', () => taken.records.length === 12);
    expect(taken.numbers()).toEqual([-1, 10, 11, 12, 13, 14, -1, 20, 21, 22, 23, 24]);
    expect(new Set(taken.ids()).size).toBe(12);
  });

  it('with the same first bytes while logpipe is stopped, and a copy left behind', async () => {
    const { log, config } = newFolder();
    writeFileSync(log, HEADER + text(lines(10, 5)));
    const first = await follow(config);
    await until('the first', () => first.records.length === 6);
    await first.end();
    appendFileSync(log, text(lines(15, 5)));
    writeFileSync(`${log}.1`, readFileSync(log));
    writeFileSync(log, HEADER + text(lines(20, 9)));
    const second = await follow(config);
    await until('the rest', () => second.records.length >= 15);
    await second.end();
    expect(second.numbers()).toEqual([15, 16, 17, 18, 19, -1, 20, 21, 22, 23, 24, 25, 26, 27, 28]);
    expect(second.records[0]!.identity).toBe(first.records[0]!.identity);
    expect(new Set([...first.ids(), ...second.ids()]).size).toBe(21);
  });

  it('by a writer that goes on at its old place: the hole is skipped and said, the lines after it come', async () => {
    const { log, config } = newFolder();
    const said = listen();
    const writer = openSync(log, 'w');
    onTestFinished(() => closeSync(writer));
    writeSync(writer, text(lines(10, 50)));
    const metrics = createMetrics();
    const taken = await follow(config, { log: said, metrics });
    await until('fifty lines', () => taken.records.length === 50);
    truncateSync(log);
    writeSync(writer, text(lines(60, 3)));
    await until('the lines behind the hole', () => taken.records.length === 53);
    expect(taken.numbers().slice(50)).toEqual([60, 61, 62]);
    expect(new Set(taken.ids()).size).toBe(53);
    expect(said.said.filter(({ message }) => message.includes('NUL'))).toHaveLength(1);
    expect((await metrics.fileHoleBytes.get()).values[0]!.value).toBe(450);
  });
});

describe('removed', () => {
  it('and still written to: read to its end', async () => {
    const { log, config } = newFolder();
    const writer = openSync(log, 'w');
    writeSync(writer, text(lines(0, 3)));
    const taken = await follow(config);
    await until('three lines', () => taken.records.length === 3);
    unlinkSync(log);
    writeSync(writer, text(lines(3, 3)));
    await until('what was written after it was removed', () => taken.records.length === 6);
    writeFileSync(log, text(lines(10, 2)));
    await until('the new file', () => taken.records.length === 8);
    writeSync(writer, text(lines(6, 1)));
    closeSync(writer);
    await until('a late line of the old one', () => taken.records.length === 9);
    expect(taken.numbers()).toEqual([0, 1, 2, 3, 4, 5, 10, 11, 6]);
    expect(await taken.dropped()).toEqual({});
  });

  it('before it was read: logged once and counted', async () => {
    const { log, config } = newFolder();
    writeFileSync(log, text(lines(0, 3)));
    const first = await follow(config);
    await until('three lines', () => first.records.length === 3);
    await first.end();
    appendFileSync(log, text(lines(3, 3)));
    rmSync(log);
    writeFileSync(log, text(lines(6, 1)));
    const said = listen();
    const second = await follow(config, { log: said });
    await until('the new file', () => second.records.length === 1);
    expect(await second.dropped()).toEqual({ file_gone: 1 });
    expect(said.said.filter(({ level }) => level === 'warn')).toMatchObject([{ path: log }]);
  });

  it('a compressed file that breaks off: its lines up to there, logged once and counted', async () => {
    const { log, config } = newFolder();
    const packed = gzipSync(text(lines(0, 50_000)));
    writeFileSync(`${log}.1.gz`, packed.subarray(0, packed.length - 2_000));
    writeFileSync(log, text(lines(60_000, 1)));
    const said = listen();
    const taken = await follow(config, { log: said });
    await until('the last line', () => taken.lines().includes('{"n":60000}'));
    await until('the count', async () => (await taken.dropped()).file_damaged === 1);
    expect(taken.records.length).toBeGreaterThan(30_000);
    expect(said.said.filter(({ level }) => level !== 'info')).toHaveLength(1);
  });
});

it('a link that moves on, as kubelet’s do: every file behind it, and what was rotated there', async () => {
  const { folder, config } = newFolder();
  const pods = join(folder, 'pods');
  mkdirSync(pods);
  const link = join(folder, 'container.log');
  const target = (n: number) => join(pods, `${n}.log`);
  writeFileSync(target(0), text(lines(0, 2)));
  symlinkSync(target(0), link);
  const first = await follow({ ...config, paths: [link] });
  await until('two lines', () => first.records.length === 2);
  renameSync(target(0), `${target(0)}.20261128-101112`);
  writeFileSync(target(0), text(lines(2, 2)));
  await until('the rotated target', () => first.records.length === 4);
  await first.end();
  // Two restarts of the container while nobody looks.
  appendFileSync(target(0), text(lines(4, 1)));
  for (const n of [1, 2]) {
    writeFileSync(target(n), text(lines(3 + 2 * n, 2)));
    rmSync(link);
    symlinkSync(target(n), link);
  }
  const second = await follow({ ...config, paths: [link] });
  await until('all of them', () => second.records.length >= 5);
  await second.end();
  expect([...first.numbers(), ...second.numbers()]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
});

it('one that cannot be read: logged once, named in the status, tried again, and the others go on', async () => {
  const { folder, log, config } = newFolder();
  const bad = join(folder, 'bad.log');
  mkdirSync(bad);
  const said = listen();
  const taken = await follow({ ...config, paths: [bad, log] }, { log: said });
  for (let n = 0; n < 5; n++) {
    appendFileSync(log, text(lines(n, 1)));
    await until('the good one', () => taken.records.length === n + 1);
  }
  expect(taken.source.status()).toMatchObject({ ready: false, detail: expect.stringContaining(bad) as string });
  expect(said.said.filter(({ level }) => level === 'error')).toMatchObject([{ path: bad }]);
  rmdirSync(bad);
  writeFileSync(bad, text(lines(5, 1)));
  await until('the bad one', () => taken.records.length === 6);
  await until('a clean status', () => taken.source.status().ready);
});

it('a named pipe holds up neither the start nor the others, and brings its lines', async () => {
  const { folder, log, config } = newFolder();
  const pipe = join(folder, 'pipe.log');
  execFileSync('mkfifo', [pipe]);
  writeFileSync(log, text(lines(0, 1)));
  const taken = await follow({ ...config, paths: [pipe, log] });
  await until('the ordinary file', () => taken.records.length === 1);
  for (const from of [1, 5_001]) {
    const writer = createWriteStream(pipe);
    writer.end(text(lines(from, 5_000)));
    await until('what one writer wrote', () => taken.records.length === from + 5_000);
  }
  expect(taken.numbers()).toEqual(Array.from({ length: 10_001 }, (_, i) => i));
  expect(new Set(taken.ids()).size).toBe(10_001);
});

it('lines of white space are none; one as long as Kafka takes comes whole, a longer one is cut', async () => {
  const { log, config } = newFolder();
  const long = `{"n":1,"text":"${'ü'.repeat(524_000)}"}`;
  writeFileSync(log, `${text(lines(0, 1))}   \n\t \r\n${long}\n${'ä'.repeat(600_000)}\n \n`);
  const taken = await follow({ ...config, maxLineBytes: 1_048_588 });
  await until('three lines', () => taken.records.length === 3);
  expect(taken.lines()[1]).toBe(long);
  expect(taken.lines()[2]).toBe('ä'.repeat(524_294));
});

describe('2,500 files', () => {
  async function readAll(count: number) {
    const { folder, config } = newFolder();
    const paths = Array.from({ length: count }, (_, i) => join(folder, `worker-${i}.log`));
    for (const [i, path] of paths.entries()) writeFileSync(path, text(lines(i, 1)));
    const before = process.cpuUsage();
    const taken = await follow({ ...config, paths, pollIntervalMs: 1_000, commitIntervalMs: 500 });
    await until('a line of each', () => taken.records.length === count);
    const { user, system } = process.cpuUsage(before);
    const took = user + system;
    const descriptors = readdirSync('/proc/self/fd').length;
    await taken.end();
    expect(new Set(taken.numbers()).size).toBe(count);
    return { took, descriptors };
  }

  it('with bounded descriptors, in a time that grows with their number', async () => {
    let best = Number.POSITIVE_INFINITY;
    // Processor time: linear is 8, quadratic 64.
    for (let attempt = 0; attempt < 3 && best > 16; attempt++) {
      const few = await readAll(312);
      const many = await readAll(2_500);
      expect(many.descriptors).toBeLessThan(400);
      best = Math.min(best, many.took / few.took);
    }
    expect(best).toBeLessThan(24);
  });
});

describe('the journal', () => {
  it('is private, and has an identity before the first line is delivered under it', async () => {
    const { folder, log, config, positions } = newFolder();
    writeFileSync(log, text(lines(0, 3)));
    const held: unknown[] = [];
    const taken = await follow(config, { auto: false, onChunk: () => held.push(...positions()) });
    await until('three lines', () => taken.records.length === 3);
    const { identity } = taken.records[0]!;
    // The first bytes too, or a file that is emptied while logpipe is dead would be taken for the same.
    expect(held).toMatchObject([{ identity, position: 0, marks: [[24, expect.any(String)]] }]);
    for (const name of readdirSync(join(folder, 'data'))) {
      expect(statSync(join(folder, 'data', name)).mode & 0o777, name).toBe(0o600);
    }
    expect(statSync(join(folder, 'data')).mode & 0o777).toBe(0o700);
  });

  it('loses a torn tail and nothing else, and refuses what it does not understand', async () => {
    const { folder, log, config } = newFolder();
    writeFileSync(log, text(lines(0, 3)));
    const first = await follow(config);
    await until('three lines', () => first.records.length === 3);
    await first.end();
    const journal = join(folder, 'data', 'positions.ndjson');
    const whole = readFileSync(journal, 'utf8');
    appendFileSync(journal, `{"path":"${log}","position":1\n{"identity":"abc`);
    const second = await follow(config);
    appendFileSync(log, text(lines(3, 1)));
    await until('the new line alone', () => second.records.length === 1);
    await second.end();
    expect(second.numbers()).toEqual([3]);
    writeFileSync(journal, whole.replace('"identity"', '"identity'));
    await expect(follow(config)).rejects.toMatchObject({ code: 'LOGPIPE_SOURCE_FAILED' });
  });

  it('on a full disk: logged once, reading goes on, and written when there is room', async () => {
    const { folder, log, config, positions } = newFolder();
    const said = listen();
    const taken = await follow(config, { log: said });
    writeFileSync(log, text(lines(0, 1)));
    await until('one line', () => taken.records.length === 1);
    await until('its position', () => positions()[0]?.position === 8);
    const journal = join(folder, 'data', 'positions.ndjson');
    renameSync(journal, `${journal}.kept`);
    symlinkSync('/dev/full', journal);
    for (let n = 1; n < 6; n++) {
      appendFileSync(log, text(lines(n, 1)));
      await until('the next line', () => taken.records.length === n + 1);
      await until('the disk to be noticed', () => !taken.source.status().ready);
    }
    // A file that is new has to wait: its identity is not safe yet.
    renameSync(log, `${log}.1`);
    writeFileSync(log, text(lines(6, 1)));
    rmSync(journal);
    renameSync(`${journal}.kept`, journal);
    await until('the new file', () => taken.records.length === 7);
    await until('the position', () => positions().some(({ position }) => position === 48));
    expect(said.said.filter(({ level }) => level === 'error')).toHaveLength(1);
    expect(taken.source.status().ready).toBe(true);
  });
});

describe('with a clock that stands still', () => {
  /** Nothing but announced changes and the clock makes it look. */
  const patient = { pollIntervalMs: 60_000, commitIntervalMs: 1_000 };

  it('a late line starts the wait for further ones anew', async () => {
    const { log, config } = newFolder();
    const clock = createFakeClock(Date.now());
    writeFileSync(log, text(lines(0, 1)));
    const taken = await follow({ ...config, ...patient }, { clock });
    await until('one line', () => taken.records.length === 1);
    renameSync(log, `${log}.1`);
    writeFileSync(log, text(lines(10, 1)));
    appendFileSync(`${log}.1`, text(lines(1, 1)));
    await until('a late line', () => taken.records.length === 2);
    await clock.advance(90_000);
    appendFileSync(`${log}.1`, `${text(lines(2, 1))}{"n"`);
    await until('another one', () => taken.records.length === 3);
    await clock.advance(90_000);
    appendFileSync(`${log}.1`, ':3}\n');
    await until('the line that was under way', () => taken.records.length === 4);
    expect(taken.numbers()).toEqual([0, 1, 2, 3]);
    await until('the new file, after two minutes without a line', async () => {
      await clock.advance(30_000);
      return taken.records.length === 5;
    });
    expect(taken.numbers()).toEqual([0, 1, 2, 3, 10]);
  });

  it('what is written to a rotated file long after it was finished still comes', async () => {
    const { folder, log, config } = newFolder();
    writeFileSync(`${log}.1`, text(lines(0, 2)));
    utimesSync(`${log}.1`, 1_700_000_000, 1_700_000_000);
    writeFileSync(log, text(lines(10, 1)));
    const taken = await follow({ ...config, ...patient }, { clock: createFakeClock(Date.now()) });
    await until('both files', () => taken.records.length === 3);
    // The folder has not changed for long: nothing but the file itself tells.
    utimesSync(folder, 1_700_000_000, 1_700_000_000);
    for (let n = 11; n < 13; n++) {
      appendFileSync(log, text(lines(n, 1)));
      await until('a line of the live file', () => taken.records.length === n - 7);
    }
    appendFileSync(`${log}.1`, text(lines(2, 1)));
    await until('the late line', () => taken.records.length === 6);
    expect(taken.numbers()).toEqual([0, 1, 10, 11, 12, 2]);
    expect(new Set(taken.ids()).size).toBe(6);
  });

  it('a file that is gone is forgotten in time, but not before it is accounted for', async () => {
    const { folder, log, config, positions } = newFolder();
    const other = join(folder, 'other.log');
    const clock = createFakeClock(Date.now());
    const taken = await follow({ ...config, ...patient, paths: [log, other] }, { clock, auto: false });
    const isKnown = (identity: string) => positions().some((entry) => entry.identity === identity);
    const writeAndRemove = async (path: string, isAcknowledged: boolean) => {
      const count = taken.records.length + 3;
      writeFileSync(path, text(lines(count, 3)));
      await until('three lines', async () => {
        // What the system does not announce, or before all is written, is found by looking.
        await clock.advance(1_000);
        return taken.records.length === count;
      });
      if (isAcknowledged) taken.ack();
      else taken.chunks.length = 0;
      rmSync(path);
      return taken.records.at(-1)!.identity;
    };
    const kept = await writeAndRemove(other, false);
    // Twice, one after the other: what is still known after the second has had all the time that the first one needed.
    for (let round = 0; round < 2; round++) {
      const identity = await writeAndRemove(log, true);
      await until('it to be forgotten', async () => {
        await clock.advance(60_000);
        return !isKnown(identity);
      });
    }
    expect(isKnown(kept)).toBe(true);
  });

  it('nor taken for finished by the next run, when it is still there', async () => {
    const { log, config } = newFolder();
    writeFileSync(log, text(lines(0, 3)));
    const first = await follow(config, { auto: false });
    await until('three lines', () => first.records.length === 3);
    renameSync(log, `${log}.1`);
    writeFileSync(log, text(lines(10, 1)));
    await until('the new file', () => first.records.length === 4);
    await first.end();
    const second = await follow(config);
    await until('all of it again', () => second.records.length === 4);
    expect(second.ids()).toEqual(first.ids());
  });
});
