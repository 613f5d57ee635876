// Who owns a spool: real folders and real processes. Played are only what one machine cannot show: another host, another boot,
// another namespace of process ids.
import { spawn } from 'node:child_process';
import {
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

/** Another process: it obeys `own`, `adopt` and `close`, one line each, and answers each with JSON. */
async function child(
  of = dir,
): Promise<{
  ask(what: string): Promise<unknown>;
  kill(signal: NodeJS.Signals): void;
  ended: Promise<void>;
  pid: number;
}> {
  const module = new URL('../../../dist/src/ship/spool-folder.js', import.meta.url).href;
  const script = `
    import { createInterface } from 'node:readline';
    import { spoolFolders } from ${JSON.stringify(module)};
    const folders = spoolFolders(${JSON.stringify({ dir: of, ...TO })});
    for await (const what of createInterface({ input: process.stdin })) {
      process.stdout.write(JSON.stringify((await folders[what]()) ?? null) + '\\n');
    }`;
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
    pid: started.pid!,
    ended,
    kill: (signal) => void started.kill(signal),
    async ask(what) {
      started.stdin.write(`${what}\n`);
      const { value, done } = await answers.next();
      if (done) throw new Error(`the child ended instead of answering ${what}`);
      return JSON.parse(value);
    },
  };
}

/** A spool with one record in it, left by a process that was killed. */
async function leftByTheDead(text = 'a record\n'): Promise<string> {
  const owner = await child();
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
    expect(mine.isOurs()).toBe(false);
    const spool = mine.own();
    expect(mine.own()).toBe(spool);
    expect(mine.isOurs()).toBe(true);
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
    expect(await (await child()).ask('adopt')).toEqual([]);
    expect(await folders().adopt()).toEqual([]);
    expect(mine.isOurs()).toBe(true);
  });

  test('is not adopted while the owner is stopped and can be seen, however old its heartbeat is', async () => {
    const owner = await child();
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
    expect(await owner.ask('isOurs')).toBe(true);
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
    const second = await child();
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
    const owner = await child();
    const spool = (await owner.ask('own')) as string;
    owner.kill('SIGKILL');
    await owner.ended;
    expect(await folders().adopt()).toEqual([]);
    expect(readdirSync(dirname(dirname(spool)))).toEqual([]);
  });
});
