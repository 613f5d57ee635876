// Files for this user alone, whatever was there before. The umask is a process's: see test/wire/private-files.test.ts.
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { makePrivateFolder, openPrivate, replacePrivate, writePrivateSync } from '../../../src/core/private-files.ts';

const base = mkdtempSync(join(tmpdir(), 'logpipe-private-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
const modeOf = (path: string) => (statSync(path).mode & 0o7777).toString(8);

test('a folder of ours is tightened, one that somebody made for us is left and said', () => {
  for (const own of [true, false]) {
    const folder = join(base, `folder-${own}`);
    mkdirSync(folder);
    chmodSync(folder, 0o755);
    const said = makePrivateFolder(folder, { own });
    expect(modeOf(folder)).toBe(own ? '700' : '755');
    if (own) expect(said).toBeUndefined();
    else expect(said).toContain('mode 755');
  }
});

test('a folder for everybody is never taken away from them', () => {
  const folder = join(base, 'sticky');
  mkdirSync(folder);
  chmodSync(folder, 0o1777);
  expect(makePrivateFolder(folder, { own: true })).toContain('mode 1777');
  expect(modeOf(folder)).toBe('1777');
});

test('folders that are missing above are made private too', () => {
  const folder = join(base, 'a', 'b');
  expect(makePrivateFolder(folder, { own: true })).toBeUndefined();
  expect([modeOf(join(base, 'a')), modeOf(folder)]).toEqual(['700', '700']);
});

test('where no folder can be made that is said at once: Node’s own recursive mkdir would never come back', () => {
  for (const folder of ['/proc/nothing', '/proc/nothing/below/it']) {
    expect(() => makePrivateFolder(folder, { own: true })).toThrow(/ENOENT|EACCES|EPERM|EROFS/);
  }
  const file = join(base, 'in-its-place');
  writeFileSync(file, '');
  expect(() => makePrivateFolder(file, { own: true })).toThrow(/EEXIST/);
  expect(() => makePrivateFolder(join(file, 'below'), { own: true })).toThrow(/ENOTDIR/);
});

test('a file that exists with a looser mode is tightened when it is opened', async () => {
  const path = join(base, 'loose');
  writeFileSync(path, 'kept');
  chmodSync(path, 0o644);
  await (await openPrivate(path, 'a')).close();
  expect(modeOf(path)).toBe('600');
  expect(readFileSync(path, 'utf8')).toBe('kept');
});

test('a file is replaced as a whole, and nothing else stays', async () => {
  const folder = join(base, 'whole');
  makePrivateFolder(folder, { own: true });
  for (const text of ['one', 'two']) {
    await replacePrivate(join(folder, 'durable'), text);
    writePrivateSync(join(folder, 'quick'), text);
  }
  expect(readdirSync(folder).sort()).toEqual(['durable', 'quick']);
  for (const name of ['durable', 'quick']) {
    expect(readFileSync(join(folder, name), 'utf8')).toBe('two');
    expect(modeOf(join(folder, name))).toBe('600');
  }
});
