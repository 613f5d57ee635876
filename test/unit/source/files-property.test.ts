// Whatever happens to a file, in any order, with logpipe stopped or held up in between: every line comes exactly once, but for
// those whose bytes were destroyed before they could be read; these are counted at most once per destruction.
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { follow, newFolder, until } from '../../kit/log-files.ts';

const OPERATIONS = ['write', 'rename', 'copytruncate', 'compress', 'destroy', 'restart', 'pause', 'settle'] as const;
const operation = fc.oneof(
  { weight: 3, arbitrary: fc.constant('write' as const) },
  { weight: 5, arbitrary: fc.constantFrom(...OPERATIONS) },
);
/** Lines of one length, of many lengths, or behind a header that every file repeats. */
const style = fc.constantFrom('even', 'uneven', 'header');

async function play(operations: readonly (typeof OPERATIONS)[number][], kind: 'even' | 'uneven' | 'header') {
  const { log, config } = newFolder();
  const deps = { pollIntervalMs: 20 };
  const runs = [await follow({ ...config, ...deps })];
  const got = () => runs.flatMap((run) => run.numbers()).filter((n) => n >= 0);
  /** What is in the live file, and what has to come. */
  let live: number[] = [];
  const due = new Set<number>();
  let next = 0;
  let destroyed = 0;
  let isPaused = false;

  const shift = () => {
    for (let n = 30; n > 0; n--) {
      for (const ending of ['', '.gz']) {
        if (existsSync(`${log}.${n}${ending}`)) renameSync(`${log}.${n}${ending}`, `${log}.${n + 1}${ending}`);
      }
    }
    live = [];
  };
  const settle = async () => {
    if (isPaused) runs.at(-1)!.comeBack();
    isPaused = false;
    const wanted = [...due];
    await until(`${wanted.length} lines`, () => {
      const have = new Set(got());
      return wanted.every((n) => have.has(n));
    });
  };

  for (const what of operations) {
    switch (what) {
      case 'write': {
        let content = kind === 'header' && !existsSync(log) ? `{"n":-1,"text":"${'h'.repeat(700)}"}\n` : '';
        for (let i = 0; i < 4; i++) {
          content += `{"n":${next},"text":"${'x'.repeat(kind === 'even' ? 20 : (next * 37) % 90)}"}\n`;
          due.add(next);
          live.push(next++);
        }
        appendFileSync(log, content);
        break;
      }
      case 'rename':
        if (live.length === 0) break;
        shift();
        renameSync(log, `${log}.1`);
        break;
      case 'copytruncate':
        if (live.length === 0) break;
        shift();
        copyFileSync(log, `${log}.1`);
        truncateSync(log);
        break;
      case 'compress':
        if (!existsSync(`${log}.1`)) break;
        writeFileSync(`${log}.1.gz`, gzipSync(readFileSync(`${log}.1`)));
        rmSync(`${log}.1`);
        break;
      case 'destroy': {
        if (live.length === 0) break;
        const have = new Set(got());
        for (const n of live) if (!have.has(n)) due.delete(n);
        live = [];
        destroyed += 1;
        truncateSync(log);
        break;
      }
      case 'restart': {
        isPaused = false;
        await runs.at(-1)!.end();
        runs.push(await follow({ ...config, ...deps }));
        break;
      }
      case 'pause':
        runs.at(-1)!.goAway();
        isPaused = true;
        break;
      case 'settle':
        await settle();
        break;
    }
  }
  await settle();
  await runs.at(-1)!.end();
  const all = got();
  expect(new Set(all).size, 'twice').toBe(all.length);
  const ids = runs.flatMap((run) => run.ids());
  expect(new Set(ids).size, 'one id for two lines').toBe(ids.length);
  let dropped = 0;
  for (const run of runs) dropped += (await run.dropped()).file_gone ?? 0;
  expect(dropped).toBeLessThanOrEqual(destroyed);
}

it('every line once', { timeout: 300_000 }, async () => {
  await fc.assert(fc.asyncProperty(fc.array(operation, { minLength: 4, maxLength: 16 }), style, play), {
    numRuns: Number(process.env.LOGPIPE_PROPERTY_RUNS ?? 25),
    endOnFailure: false,
    interruptAfterTimeLimit: 120_000,
  });
});
