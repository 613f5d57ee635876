// One process per folder: who has it, who takes it over, and that of many that try only one gets it.
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { lockFolder } from '../../../src/core/private-files.ts';

let folder: string;
let lock: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'folder-lock-'));
  lock = join(folder, 'lock');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** What a process that has ended leaves behind. */
async function idOfTheDead(): Promise<number> {
  const child = promisify(execFile)(process.execPath, ['-e', '']);
  const { pid } = child.child;
  await child;
  return pid!;
}

test('taken, refused to another, given back, taken again; only the lock itself stays in the folder', () => {
  const unlock = lockFolder(folder, 'files.dataDir');
  expect(readdirSync(folder)).toEqual(['lock']);
  expect(() => lockFolder(folder, 'files.dataDir')).toThrow(
    expect.objectContaining({
      code: 'LOGPIPE_SOURCE_FAILED',
      message: expect.stringContaining(`${folder} is in use by process ${process.pid}`),
    }),
  );
  expect(readdirSync(folder)).toEqual(['lock']);
  unlock();
  expect(readdirSync(folder)).toEqual([]);
  lockFolder(folder, 'files.dataDir')();
});

test('a lock of a process that has ended is taken over', async () => {
  writeFileSync(lock, `${await idOfTheDead()} 1 some-boot`);
  const unlock = lockFolder(folder, 'files.dataDir');
  expect(readFileSync(lock, 'utf8')).toMatch(new RegExp(`^${process.pid}\\b`));
  expect(readdirSync(folder)).toEqual(['lock']);
  unlock();
});

test('an id that is used again is not the process that took the lock', () => {
  const unlock = lockFolder(folder, 'files.dataDir');
  const mine = readFileSync(lock, 'utf8');
  unlock();
  const [pid, started, boot] = mine.split(' ');
  // The same id after a restart of the machine, or of the container; and another start on the same one.
  // Only Linux tells these.
  const others = [`${pid} ${started} another-boot`, `${pid} ${Number(started) + 1} ${boot}`];
  for (const holder of started === undefined ? [] : others) {
    writeFileSync(lock, holder);
    lockFolder(folder, 'files.dataDir')();
  }
  writeFileSync(lock, mine);
  expect(() => lockFolder(folder, 'files.dataDir')).toThrow(/in use by process/);
});

test('whoever was taken over does not give back what another has', () => {
  const unlock = lockFolder(folder, 'files.dataDir');
  writeFileSync(lock, '1 2 other');
  unlock();
  expect(existsSync(lock)).toBe(true);
});

test('a lock that a process died over: of eight that try, one gets it and the others hear of it', async () => {
  writeFileSync(lock, `${await idOfTheDead()} 1 some-boot`);
  const module = new URL('../../../dist/src/core/private-files.js', import.meta.url).href;
  const script = `
    import { lockFolder } from ${JSON.stringify(module)};
    try {
      lockFolder(${JSON.stringify(folder)}, 'files.dataDir');
      process.stdout.write('mine');
      process.stdin.resume().on('end', () => process.exit());
    } catch (error) {
      process.stdout.write(error.code ?? String(error));
    }`;
  const children = Array.from({ length: 8 }, () => {
    const { child } = promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
    let said = '';
    child.stdout!.on('data', (text) => (said += text));
    const spoken = new Promise<void>((resolve) => child.stdout!.once('data', () => resolve()));
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    return { child, spoken, ended, said: () => said };
  });
  await Promise.all(children.map(({ spoken, ended }) => Promise.race([spoken, ended])));
  const said = children.map((one) => one.said()).sort();
  for (const { child } of children) child.stdin!.end();
  await Promise.all(children.map(({ ended }) => ended));
  expect(said).toEqual([...Array(7).fill('LOGPIPE_SOURCE_FAILED'), 'mine']);
});
