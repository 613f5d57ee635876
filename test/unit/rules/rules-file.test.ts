// The rules file of a running process: written in place, replaced, swapped behind a symbolic link as Kubernetes does, wrong, and away.
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Log } from '../../../src/core/log.ts';
import { type Rules, type RulesFile, watchRulesFile } from '../../../src/rules/rule-config.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';
import { MEASURES } from './kit.ts';

const SECOND = 1_000;
const text = (above: string) =>
  `rules:\n  cpu: { title: CPU, priority: P2, kind: threshold, measure: system.cpu, above: ${above}, labels: [host] }\n`;

function watching(prepare: (folder: string) => string) {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-rules-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = prepare(folder);
  const measures = join(folder, 'measures.yml');
  writeFileSync(measures, 'measures: {}');
  const clock = createFakeClock();
  const taken: number[] = [];
  const said: string[] = [];
  let problem: string | undefined;
  const log = Object.fromEntries(
    ['debug', 'info', 'warn', 'error'].map((level) => [
      level,
      (message: string, fields: object = {}) => said.push(`${level} ${message} ${JSON.stringify(fields)}`),
    ]),
  ) as unknown as Log;
  const watched: RulesFile = watchRulesFile(
    { rules: { file, text: text('80') }, measures: { file: measures, text: 'measures: {}' } },
    {
      ...{ measures: MEASURES, env: {}, clock, log },
      onRules(rules: Rules) {
        if (problem === undefined) taken.push((rules[0] as { bound: { value: number } }).bound.value);
        return problem;
      },
    },
  );
  onTestFinished(() => watched.close());
  return { folder, file, measures, clock, taken, said, watched, refuse: (why: string) => (problem = why) };
}

const plain = (folder: string) => {
  const file = join(folder, 'rules.yml');
  writeFileSync(file, text('80'));
  return file;
};

describe('a change', () => {
  test('in place is taken once, after the file has been left alone for a second', async () => {
    const w = watching(plain);
    await w.clock.advance(5 * SECOND);
    expect(w.taken).toEqual([]);
    writeFileSync(w.file, text('85'));
    await w.clock.advance(SECOND);
    expect(w.taken).toEqual([]);
    await w.clock.advance(10 * SECOND);
    expect(w.taken).toEqual([85]);
    expect(w.said).toEqual([expect.stringMatching(/^info The rules were read again/)]);
  });

  test('by a new file in its place, also one of the same size', async () => {
    const w = watching(plain);
    writeFileSync(`${w.file}.new`, text('90'));
    renameSync(`${w.file}.new`, w.file);
    await w.clock.advance(3 * SECOND);
    expect(w.taken).toEqual([90]);
  });

  test('by a swapped link, two links away, as a config map is', async () => {
    const w = watching((folder) => {
      for (const [version, above] of [
        ['one', '80'],
        ['two', '95'],
      ] as const) {
        mkdirSync(join(folder, version));
        writeFileSync(join(folder, version, 'rules.yml'), text(above));
      }
      symlinkSync('one', join(folder, '..data'));
      symlinkSync(join('..data', 'rules.yml'), join(folder, 'rules.yml'));
      return join(folder, 'rules.yml');
    });
    await w.clock.advance(3 * SECOND);
    symlinkSync('two', join(w.folder, '..data.new'));
    renameSync(join(w.folder, '..data.new'), join(w.folder, '..data'));
    await w.clock.advance(3 * SECOND);
    expect(w.taken).toEqual([95]);
  });

  test('is taken at once when somebody asks; without one that is said', async () => {
    const w = watching(plain);
    w.watched.look();
    expect(w.said).toEqual([expect.stringMatching(/^info The rules have not changed/)]);
    writeFileSync(w.file, text('70'));
    w.watched.look();
    expect(w.taken).toEqual([70]);
  });
});

describe('a wrong file', () => {
  test('is refused as a whole and logged once; the right one after it is taken', async () => {
    const w = watching(plain);
    writeFileSync(
      w.file,
      `${text('85')}  bad: { title: B, priority: P9, kind: threshold, measure: nothing, above: 1 }\n`,
    );
    await w.clock.advance(60 * SECOND);
    expect(w.taken).toEqual([]);
    expect(w.said).toEqual([expect.stringMatching(/^error The changed rules file is refused as a whole.*rules\.bad/s)]);
    w.watched.look();
    expect(w.said.at(-1)).toMatch(/still the one that was refused/);
    writeFileSync(w.file, text('86'));
    await w.clock.advance(3 * SECOND);
    expect(w.taken).toEqual([86]);
  });

  test('one that takes a restart says why, once', async () => {
    const w = watching(plain);
    w.refuse('its histograms reach further');
    writeFileSync(w.file, text('85'));
    await w.clock.advance(60 * SECOND);
    expect(w.said).toEqual([
      expect.stringMatching(/^error The changed rules take effect after a restart.*reach further/),
    ]);
  });

  test('one that is away is logged once and waited for', async () => {
    const w = watching(plain);
    rmSync(w.file);
    await w.clock.advance(60 * SECOND);
    expect(w.said).toEqual([expect.stringMatching(/^warn The rules file cannot be read/)]);
    writeFileSync(w.file, text('88'));
    await w.clock.advance(3 * SECOND);
    expect(w.taken).toEqual([88]);
  });
});

test('changed measures are said to need a restart, once', async () => {
  const w = watching(plain);
  writeFileSync(w.measures, 'measures: { a: {} }');
  await w.clock.advance(30 * SECOND);
  expect(w.said).toEqual([
    expect.stringMatching(/^warn The measures file has changed: measures take effect after a restart/),
  ]);
});
