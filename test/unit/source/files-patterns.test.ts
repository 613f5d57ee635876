// Files that patterns name: found when they appear, each read once, rotated ones as part of their own file.
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createPatterns } from '../../../src/source/files/content.ts';
import { follow, lines, newFolder, text, until } from '../../kit/log-files.ts';

it('reads what a pattern names, what appears later, and each line once through rotation and a restart', async () => {
  const { folder, config } = newFolder();
  const patterns = { ...config, paths: [join(folder, '*.log')] };
  writeFileSync(join(folder, 'a.log'), text(lines(0, 3)));
  writeFileSync(join(folder, 'a.log.1'), text(lines(100, 2)));
  writeFileSync(join(folder, 'b.txt'), text(lines(900, 1)));
  const first = await follow(patterns);
  await until('what is there', () => first.numbers().length === 5);
  writeFileSync(join(folder, 'b.log'), text(lines(10, 2)));
  await until('what appeared', () => first.numbers().length === 7);
  // Winston's `maxsize` names a file that the pattern matches, too.
  renameSync(join(folder, 'a.log'), join(folder, 'a1.log'));
  writeFileSync(join(folder, 'a1.log'), text(lines(3, 1)), { flag: 'a' });
  await until('what was added after the rotation', () => first.numbers().length === 8);
  await first.end();
  // While nobody looked; `a.log` is not there at the start.
  writeFileSync(join(folder, 'a1.log'), text(lines(4, 1)), { flag: 'a' });
  const second = await follow(patterns);
  await until('the last line', () => second.numbers().length === 1);
  writeFileSync(join(folder, 'a.log'), text(lines(20, 2)));
  await until('the new file', () => second.numbers().length === 3);
  const all = [...first.numbers(), ...second.numbers()].sort((a, b) => a - b);
  expect(all).toEqual([0, 1, 2, 3, 4, 10, 11, 20, 21, 100, 101]);
  expect(new Set([...first.ids(), ...second.ids()]).size).toBe(all.length);
  // A former run may have handed on what it did not note; what was written since is new.
  expect(second.chunks).toEqual([]);
});

it('ends without `follow` when all is read, and says so when a pattern names nothing', async () => {
  const { folder, config } = newFolder();
  const once = { ...config, follow: false };
  mkdirSync(join(folder, 'pods', 'x'), { recursive: true });
  writeFileSync(join(folder, 'pods', 'x', '0.log'), text(lines(0, 3)));
  symlinkSync(join(folder, 'pods', 'x', '0.log'), join(folder, 'link.log'));
  const taken = await follow({ ...once, paths: [join(folder, '*.log'), join(folder, 'pods', '**', '*.log')] });
  await taken.source.ended;
  expect(taken.numbers()).toEqual([0, 1, 2]);
  await taken.end();
  await expect(follow({ ...once, dataDir: join(folder, 'other'), paths: [join(folder, '*.nope')] })).rejects.toThrow(
    /files\.paths: .*nope matches no file/,
  );
});

it('lets go of a file that is gone, and takes up another one of its name', async () => {
  const { folder, config } = newFolder();
  const patterns = { ...config, paths: [join(folder, '{a,b}*.log')] };
  writeFileSync(join(folder, 'a-web.log'), text(lines(0, 2)));
  const taken = await follow(patterns);
  await until('the file', () => taken.numbers().length === 2);
  rmSync(join(folder, 'a-web.log'));
  writeFileSync(join(folder, 'b-web.log'), text(lines(5, 1)));
  await until('the next', () => taken.numbers().length === 3);
  expect(taken.source.status().ready).toBe(true);
});

it('takes an existing file whose name looks like a pattern for that file', () => {
  const { folder } = newFolder();
  const odd = join(folder, 'app[1].log');
  expect(createPatterns([odd]).hasWildcards).toBe(true);
  writeFileSync(odd, '');
  expect(createPatterns([odd])).toMatchObject({ hasWildcards: false, literal: [odd] });
});
