// Who owns a spool: real folders and real processes. Played are only what one machine cannot show: another host, another boot,
// another namespace of process ids.
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { listSpools, type SpoolFolders, spoolFolders } from '../../../src/ship/spool-folder.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const TO = { brokers: ['kafka-2:9092', 'kafka-1:9092'], topic: 'logs', service: 'calls' };
const HEARTBEAT_MS = 5_000;

let dir: string;

beforeEach(() => {
  dir = join(mkdtempSync(join(tmpdir(), 'spool-folder-')), 'spool');
});
afterEach(() => rmSync(dirname(dir), { recursive: true, force: true }));

/** Folders of this process, or of one that is played, closed at the end of the test. */
function folders(options: Partial<typeof TO> = {}, deps: Parameters<typeof spoolFolders>[1] = {}): SpoolFolders {
  const made = spoolFolders({ dir, ...TO, ...options }, deps);
  onTestFinished(() => made.close());
  return made;
}

interface Child {
  /** Sends a line; the answer is the next line that it prints, as JSON. */
  ask(line: string): Promise<unknown>;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<void>;
}

/** A module as a process of its own, which answers every line with one of JSON. */
function runs(script: string): Child {
  const started = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answers = createInterface({ input: started.stdout })[Symbol.asyncIterator]();
  const ended = new Promise<void>((resolve) => started.once('exit', () => resolve()));
  onTestFinished(async () => {
    started.kill('SIGKILL');
    await ended;
  });
  return {
    ended,
    kill: (signal) => void started.kill(signal),
    async ask(line) {
      started.stdin.write(`${line}\n`);
      const { value, done } = await answers.next();
      if (done) throw new Error(`the child ended instead of answering ${line}`);
      return JSON.parse(value);
    },
  };
}

const MODULE = JSON.stringify(new URL('../../../dist/src/ship/spool-folder.js', import.meta.url).href);

/** Another owner: it obeys `own`, `adopt` and `close`. */
function anotherOwner(): Child {
  return runs(`
    import { createInterface } from 'node:readline';
    import { spoolFolders } from ${MODULE};
    const folders = spoolFolders(${JSON.stringify({ dir, ...TO })});
    for await (const what of createInterface({ input: process.stdin })) {
      process.stdout.write(JSON.stringify((await folders[what]()) ?? null) + '\\n');
    }`);
}

/** A spool with one record in it, left by a process that was killed. */
async function leftByTheDead(text = 'a record\n'): Promise<string> {
  const owner = anotherOwner();
  const spool = (await owner.ask('own')) as string;
  writeFileSync(join(spool, '00000001.log'), text);
  owner.kill('SIGKILL');
  await owner.ended;
  return spool;
}

function ownerOf(spool: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(dirname(spool), 'owner.json'), 'utf8').split('\n')[0]!);
}

/** Says something else about the owner, as if its heart had last beaten `secondsAgo`. */
function pretend(spool: string, changes: Record<string, unknown>, secondsAgo = 0): void {
  const file = join(dirname(spool), 'owner.json');
  const [, beat] = readFileSync(file, 'utf8').split('\n');
  writeFileSync(file, `${JSON.stringify({ ...ownerOf(spool), ...changes })}\n${beat}\n`);
  const then = Date.now() / 1_000 - secondsAgo;
  utimesSync(file, then, then);
}

/** Everything below the folder of spools, with modes. */
function tree(): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => `${(lstatSync(path).mode & 0o777).toString(8)} ${relative(dir, path)}`)
    .sort();
}

describe('the folder of a living owner', () => {
  test('is made when it is asked for, for this user alone; nothing is left of it when nothing is in it', () => {
    const mine = folders();
    expect(existsSync(dir)).toBe(false);
    const spool = mine.own();
    expect(mine.own()).toBe(spool);
    expect(tree().map((entry) => entry.split(' ')[0])).toEqual(['600', '700', '700', '700']);
    expect(ownerOf(spool)).toMatchObject({
      v: 1,
      brokers: ['kafka-1:9092', 'kafka-2:9092'],
      topic: 'logs',
      service: 'calls',
      pid: process.pid,
    });
    mine.close();
    expect(readdirSync(dirname(dirname(spool)))).toEqual([]);
  });

  test('depends on brokers and topic, not on their order; no credentials are written', () => {
    const group = (brokers: string[], topic = 'logs') => dirname(dirname(folders({ brokers, topic }).own()));
    const one = group(['a:1', 'b:2']);
    const secret = ['user', 'pass'].join(':');
    expect(group([`${secret}@b:2`, 'a:1'])).toBe(one);
    expect(group(['a:1', 'b:2'], 'other')).not.toBe(one);
    expect(group(['a:1'])).not.toBe(one);
    for (const file of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
      if (file.endsWith('owner.json')) expect(readFileSync(join(dir, file), 'utf8')).not.toContain('pass');
    }
  });

  test('is not adopted by another process, nor by another transport of the same one', async () => {
    const mine = folders();
    const spool = mine.own();
    writeFileSync(join(spool, '00000001.log'), 'mine');
    expect(await anotherOwner().ask('adopt')).toEqual([]);
    expect(await folders().adopt()).toEqual([]);
    expect(mine.own()).toBe(spool);
  });

  test('is not adopted while the owner is stopped and can be seen, however old its heartbeat is', async () => {
    const owner = anotherOwner();
    const spool = (await owner.ask('own')) as string;
    writeFileSync(join(spool, '00000001.log'), 'x');
    owner.kill('SIGSTOP');
    pretend(spool, {}, 3_600);
    const clock = createFakeClock();
    const other = folders({}, { clock });
    for (let looks = 0; looks < 20; looks++) {
      expect(await other.adopt()).toEqual([]);
      await clock.advance(HEARTBEAT_MS);
    }
    expect(other.watching).toBe(0);
    owner.kill('SIGCONT');
    expect(await owner.ask('own')).toBe(spool);
  });

  test('leaves nothing behind when there is no room for its owner.json, however often it is asked for', () => {
    const mine = folders();
    // Files of this process can have no more bytes than that.
    const limitFiles = (bytes: number | 'unlimited') =>
      execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`]);
    try {
      limitFiles(0);
      for (let n = 0; n < 3; n++) expect(() => mine.own()).toThrow(/EFBIG|too large/);
    } finally {
      limitFiles('unlimited');
    }
    expect(tree()).toEqual([expect.stringMatching(/^700 [0-9a-f]{16}$/)]);
    expect(existsSync(mine.own())).toBe(true);
  });

  test('gets its owner.json back when somebody deletes it, and a new folder when all of it is deleted', async () => {
    const clock = createFakeClock();
    const mine = folders({}, { clock });
    const spool = mine.own();
    const before = ownerOf(spool);
    rmSync(join(dirname(spool), 'owner.json'));
    await clock.advance(HEARTBEAT_MS);
    await mine.adopt();
    expect(ownerOf(spool)).toMatchObject({ id: before.id, pid: before.pid });
    rmSync(dir, { recursive: true });
    const fresh = mine.own();
    expect(lstatSync(fresh).isDirectory()).toBe(true);
    expect(ownerOf(fresh)).toMatchObject({ pid: before.pid });
  });

  test('that is closed with records in it can be adopted at once, though its process lives', async () => {
    const mine = folders();
    const spool = mine.own();
    writeFileSync(join(spool, '00000001.log'), 'kept');
    mine.close();
    const [adopted] = await folders().adopt();
    expect(readFileSync(join(adopted!, '00000001.log'), 'utf8')).toBe('kept');
    expect(existsSync(dirname(spool))).toBe(false);
  });
});

describe('the folder of a dead owner', () => {
  test('is adopted at once when its process was killed; nothing else is left of the owner', async () => {
    const spool = await leftByTheDead();
    const mine = folders();
    const adopted = await mine.adopt();
    expect(adopted.map((path) => basename(path))).toEqual([basename(spool)]);
    expect(readFileSync(join(adopted[0]!, '00000001.log'), 'utf8')).toBe('a record\n');
    expect(ownerOf(adopted[0]!)).toMatchObject({ pid: process.pid });
    expect(readdirSync(dirname(dirname(spool)))).toEqual([basename(dirname(adopted[0]!))]);
    expect(await mine.adopt()).toEqual([]);
  });

  test('is adopted when its process id belongs to another program by now', async () => {
    const mine = folders();
    const spool = mine.own();
    writeFileSync(join(spool, '00000001.log'), 'x');
    pretend(spool, { startedTicks: String(Number(ownerOf(spool).startedTicks) + 1) });
    expect(await folders().adopt()).toHaveLength(1);
  });

  test('of other brokers or another topic is left to others', async () => {
    await leftByTheDead();
    expect(await folders({ topic: 'other' }).adopt()).toEqual([]);
    expect(await folders({ brokers: ['kafka-1:9092'] }).adopt()).toEqual([]);
    expect(await folders().adopt()).toHaveLength(1);
  });

  test('that had adopted others’ is adopted with them, the oldest first', async () => {
    const first = await leftByTheDead('first');
    const second = anotherOwner();
    const own = (await second.ask('own')) as string;
    writeFileSync(join(own, '00000001.log'), 'second');
    await second.ask('adopt');
    second.kill('SIGKILL');
    await second.ended;
    const adopted = await folders().adopt();
    expect(adopted.map((path) => basename(path))).toEqual([basename(first), basename(own)]);
    expect(adopted.map((path) => readFileSync(join(path, '00000001.log'), 'utf8'))).toEqual(['first', 'second']);
  });

  test('is cleared away when an adopter died while it was clearing it away', async () => {
    const spool = await leftByTheDead();
    const home = dirname(spool);
    renameSync(home, join(dirname(home), `.gone-${basename(home)}`));
    const [adopted] = await folders().adopt();
    expect(readdirSync(dirname(home))).toEqual([basename(dirname(adopted!))]);
  });

  test('without anything in it is deleted', async () => {
    const owner = anotherOwner();
    const spool = (await owner.ask('own')) as string;
    owner.kill('SIGKILL');
    await owner.ended;
    expect(await folders().adopt()).toEqual([]);
    expect(readdirSync(dirname(dirname(spool)))).toEqual([]);
  });
});

describe('an owner whose process cannot be seen from here', () => {
  /** A spool of an owner elsewhere, its last heartbeat so long ago. */
  function elsewhere(secondsAgo: number, changes: Record<string, unknown> = { bootId: 'another' }): string {
    // Closed without having been made empty would mean dead, so it is left open, on a clock that stands still.
    const spool = spoolFolders({ dir, ...TO }, { clock: createFakeClock() }).own();
    writeFileSync(join(spool, '00000001.log'), 'x');
    pretend(spool, changes, secondsAgo);
    return spool;
  }

  /** Calls `adopt` once every heartbeat until it gives something; how many heartbeats that took. */
  async function heartbeatsUntilAdopted(
    mine: SpoolFolders,
    clock: ReturnType<typeof createFakeClock>,
    { most = 20, meanwhile = () => {} } = {},
  ): Promise<number | undefined> {
    for (let beats = 0; beats <= most; beats++) {
      if ((await mine.adopt()).length > 0) return beats;
      meanwhile();
      await clock.advance(HEARTBEAT_MS);
    }
    return undefined;
  }

  test.each([
    ['another host', { host: 'other', bootId: 'another' }],
    ['another boot: hosts may share a name', { bootId: 'another' }],
    ['another namespace', { pidNamespace: 'pid:[1]' }],
    ['a system without /proc', { bootId: undefined, pidNamespace: undefined, startedTicks: undefined }],
  ])('on %s: silent for a minute, it is watched for three heartbeats and adopted', async (_, changes) => {
    elsewhere(61, changes);
    const clock = createFakeClock();
    const mine = folders({}, { clock });
    expect(await mine.adopt()).toEqual([]);
    expect(mine.watching).toBe(1);
    expect(await heartbeatsUntilAdopted(mine, clock)).toBe(3);
    expect(mine.watching).toBe(0);
  });

  test('silent for less than a minute, it is left alone until the minute is over', async () => {
    const spool = elsewhere(20);
    const clock = createFakeClock();
    const mine = folders({}, { clock });
    expect(await heartbeatsUntilAdopted(mine, clock, { most: 8 })).toBeUndefined();
    await mine.adopt();
    utimesSync(join(dirname(spool), 'owner.json'), Date.now() / 1_000 - 61, Date.now() / 1_000 - 61);
    expect(await heartbeatsUntilAdopted(mine, clock)).toBe(4);
  });

  test('is alive when its heart beats, whatever the clocks say', async () => {
    const spool = elsewhere(3_600);
    const file = join(dirname(spool), 'owner.json');
    const clock = createFakeClock();
    const mine = folders({}, { clock });
    let beats = 0;
    // Its file system keeps no times, or its clock stands still: only the number moves.
    const beat = () => {
      const text = readFileSync(file, 'utf8').split('\n')[0];
      writeFileSync(file, `${text}\n${String(++beats).padStart(10, '0')}\n`);
      utimesSync(file, 1_000, 1_000);
    };
    const everySecond = () => {
      if (beats++ % 2 === 0) beat();
    };
    expect(await heartbeatsUntilAdopted(mine, clock, { meanwhile: everySecond })).toBeUndefined();
  });

  test('silent for a minute, it is adopted also where the clock was set back by an hour', async () => {
    elsewhere(-3_600);
    const clock = createFakeClock();
    const mine = folders({}, { clock });
    expect(await heartbeatsUntilAdopted(mine, clock)).toBe(12);
  });

  test('is not taken for dead by a process that slept as long as it did', async () => {
    const spool = elsewhere(0);
    const clock = createFakeClock();
    const mine = folders({}, { clock });
    await mine.adopt();
    // Both are frozen for an hour, and this one wakes up first.
    pretend(spool, {}, 3_600);
    await mine.adopt();
    await clock.advance(HEARTBEAT_MS);
    await clock.sleep(3_600_000);
    expect(await mine.adopt()).toEqual([]);
  });

  test('whose owner.json was cut short by a power cut is judged by its silence', async () => {
    const spool = elsewhere(0);
    const file = join(dirname(spool), 'owner.json');
    writeFileSync(file, '');
    utimesSync(file, 1_000, 1_000);
    const clock = createFakeClock();
    expect(await heartbeatsUntilAdopted(folders({}, { clock }), clock)).toBe(3);
  });

  test('that has made no owner.json yet is judged by its silence', async () => {
    const spool = elsewhere(0);
    rmSync(join(dirname(spool), 'owner.json'));
    const clock = createFakeClock();
    const mine = folders({}, { clock });
    expect(await heartbeatsUntilAdopted(mine, clock, { most: 6 })).toBeUndefined();
    await mine.adopt();
    utimesSync(dirname(spool), 1_000, 1_000);
    expect(await heartbeatsUntilAdopted(mine, clock)).toBe(4);
  });

  test('that wakes up after its spool has been adopted begins a new one, which nobody takes', async () => {
    const clock = createFakeClock();
    const stopped = folders({}, { clock });
    const spool = stopped.own();
    writeFileSync(join(spool, '00000001.log'), 'before');
    pretend(spool, { closed: true });
    const [adopted] = await folders().adopt();
    expect(readFileSync(join(adopted!, '00000001.log'), 'utf8')).toBe('before');
    await clock.sleep(120_000);
    const fresh = stopped.own();
    expect(basename(fresh)).not.toBe(basename(spool));
    expect(stopped.own()).toBe(fresh);
    writeFileSync(join(fresh, '00000001.log'), 'after');
    expect(await folders().adopt()).toEqual([]);
  });
});

describe('what is not to be touched', () => {
  test('a folder that a newer logpipe has written is left alone and said, once', async () => {
    const spool = await leftByTheDead();
    pretend(spool, { v: 2 });
    const said: string[] = [];
    const mine = folders({}, { warn: (message) => said.push(message) });
    expect(await mine.adopt()).toEqual([]);
    expect(await mine.adopt()).toEqual([]);
    expect(said).toEqual([expect.stringMatching(/was written by a newer logpipe and is left alone; upgrade/)]);
    expect(existsSync(spool)).toBe(true);
  });

  test('links that somebody has planted are not followed', async () => {
    const spool = await leftByTheDead();
    const target = join(dirname(dir), 'elsewhere');
    mkdirSync(target);
    writeFileSync(join(target, 'precious'), 'x');
    const group = dirname(dirname(spool));
    const planted = basename(spool).replace(/.{12}$/, 'aaaaaaaaaaaa');
    symlinkSync(target, join(dirname(spool), planted));
    symlinkSync(target, join(group, planted));
    const said: string[] = [];
    const adopted = await folders({}, { warn: (message) => said.push(message) }).adopt();
    expect(adopted.map((path) => basename(path))).toEqual([basename(spool)]);
    expect(readdirSync(target)).toEqual(['precious']);
    expect(said.filter((text) => text.includes('is a link'))).toHaveLength(3);
  });

  test('a link in place of the folder of a destination is refused, with what to do', async () => {
    const mine = folders();
    const group = dirname(dirname(mine.own()));
    mine.close();
    rmSync(group, { recursive: true });
    const target = join(dirname(dir), 'elsewhere');
    mkdirSync(target);
    chmodSync(target, 0o755);
    symlinkSync(target, group);
    expect(() => folders().own()).toThrow(
      expect.objectContaining({
        code: 'LOGPIPE_FOLDER_UNUSABLE',
        message: expect.stringMatching(/^spool\.dir: .* is a link, .*; remove it, or name a folder/),
      }),
    );
    expect(readdirSync(target)).toEqual([]);
    expect(lstatSync(target).mode & 0o777).toBe(0o755);
  });

  test('a spool.dir that another user could tamper with is said once', () => {
    mkdirSync(dir);
    const me = lstatSync(dir).uid;
    if (me === 0) chownSync(dir, 2, 2);
    vi.spyOn(process, 'geteuid').mockReturnValue(me + 1);
    const said: string[] = [];
    const mine = folders({}, { warn: (message) => said.push(message) });
    for (let n = 0; n < 2; n++) expect(() => mine.own()).toThrow('another user');
    expect(said).toEqual([
      expect.stringMatching(/^spool\.dir: .* belongs to another user \(id \d+\), who can replace/),
    ]);
    chmodSync(dir, 0o1777);
    const other: string[] = [];
    expect(() => folders({}, { warn: (message) => other.push(message) }).own()).toThrow('another user');
    expect(other).toEqual([]);
  });

  test('a place that cannot be a folder is an error with place and fix, and adopting tells it instead of failing', async () => {
    writeFileSync(dir, 'a file');
    expect(() => folders().own()).toThrow(
      expect.objectContaining({ code: 'LOGPIPE_FOLDER_UNUSABLE', message: expect.stringContaining(dir) }),
    );
    expect(await folders().adopt()).toEqual([]);
  });

  test('folders of another user are left alone, and said with the ids', async () => {
    const spool = await leftByTheDead();
    const me = lstatSync(dir).uid;
    vi.spyOn(process, 'geteuid').mockReturnValue(me + 1);
    const wrong = `belongs to another user (id ${me}; this one has id ${me + 1}); remove it, or name a folder of this user's own`;
    expect(() => folders().own()).toThrow(expect.objectContaining({ message: expect.stringContaining(wrong) }));
    const said: string[] = [];
    const warn = (message: string) => said.push(message);
    expect(await folders({}, { warn }).adopt()).toEqual([]);
    expect(await listSpools(dir, warn)).toEqual([]);
    expect(said).toEqual([expect.stringContaining(wrong), expect.stringContaining('belongs to another user')]);
    expect(existsSync(spool)).toBe(true);
  });

  test('a looser mode is tightened', () => {
    const mine = folders();
    const group = dirname(dirname(mine.own()));
    mine.close();
    chmodSync(group, 0o755);
    folders().own();
    expect(lstatSync(group).mode & 0o777).toBe(0o700);
  });
});

test('of twenty adopters in five processes exactly one gets each spool of the dead', { timeout: 60_000 }, async () => {
  const script = `
    import { createInterface } from 'node:readline';
    import { readFileSync } from 'node:fs';
    import { spoolFolders } from ${MODULE};
    for await (const line of createInterface({ input: process.stdin })) {
      const options = JSON.parse(line);
      const all = Array.from({ length: 4 }, () => spoolFolders(options, { warn: (text) => console.error(text) }));
      const got = (await Promise.all(all.map((folders) => folders.adopt()))).flat();
      console.log(JSON.stringify(got.map((path) => readFileSync(path + '/00000001.log', 'utf8'))));
    }`;
  const rivals = Array.from({ length: 5 }, () => runs(script));
  for (let round = 0; round < 10; round++) {
    const of = join(dir, String(round));
    const dead = Array.from({ length: 3 }, (_, at) => {
      const owner = spoolFolders({ dir: of, ...TO });
      const spool = owner.own();
      writeFileSync(join(spool, '00000001.log'), String(at));
      owner.close();
      return spool;
    });
    const got = await Promise.all(rivals.map((rival) => rival.ask(JSON.stringify({ dir: of, ...TO }))));
    // Whoever comes last takes what the others had not come to, from owners that live: nothing.
    expect((got as string[][]).flat().sort()).toEqual(['0', '1', '2']);
    for (const spool of dead) expect(existsSync(dirname(spool))).toBe(false);
  }
});

describe('the list of all owners', () => {
  test('says whose, where to, and whether the process lives; it changes nothing', async () => {
    const spool = await leftByTheDead();
    const mine = folders({ topic: 'other', service: 'jobs' });
    const own = mine.own();
    const elsewhere = folders({}, { self: { bootId: 'another', host: 'far-away' } }).own();
    const newer = folders({}, { self: { pid: 1, startedTicks: '1' } }).own();
    pretend(newer, { v: 2 });
    mkdirSync(join(dir, 'not-of-logpipe'));
    symlinkSync(dirname(dir), join(dir, '0123456789abcdef'));
    const before = tree();
    const said: string[] = [];
    const found = await listSpools(dir, (message) => said.push(message));
    expect(tree()).toEqual(before);
    const to = { brokers: ['kafka-1:9092', 'kafka-2:9092'], topic: 'logs' };
    expect(
      found.map(({ spools, state, destination, process: of }) => [spools, state, destination, of?.service, of?.host]),
    ).toEqual(
      expect.arrayContaining([
        [[spool], 'dead', to, 'calls', ownerOf(spool).host],
        [[own], 'alive', { ...to, topic: 'other' }, 'jobs', ownerOf(own).host],
        [[elsewhere], 'unknown', to, 'calls', 'far-away'],
        [[newer], 'newer', to, undefined, undefined],
      ]),
    );
    expect(found).toHaveLength(4);
    expect(said).toEqual([expect.stringMatching(/0123456789abcdef is a link, which logpipe does not follow here/)]);
  });

  test('of a folder that cannot be read is an error with its place', async () => {
    await expect(listSpools(join(dir, 'none'))).rejects.toMatchObject({
      code: 'LOGPIPE_FOLDER_UNUSABLE',
      message: expect.stringContaining(join(dir, 'none')),
    });
  });
});
