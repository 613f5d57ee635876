// A command as it is written, what is none, and how commands come by the folder. From the command line to the answer:
// test/unit/cli/alert-commands.test.ts.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  type Command,
  decodeCommand,
  encodeCommand,
  followFolder,
  giveToFolder,
} from '../../../src/alerter/commands-given.ts';
import { type Log, silentLog } from '../../../src/core/log.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const COMMAND: Command = {
  kind: 'resolve',
  commandId: 'c1',
  by: 'ann',
  alerts: [{ key: 'a{host="x"}', startedMs: 5 }],
};

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'logpipe-journal-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

describe('a command as it is written', () => {
  test('is read as it was given', () => {
    expect(decodeCommand(Buffer.from(encodeCommand(COMMAND)))).toEqual(COMMAND);
  });

  const blind: Command = {
    ...{ kind: 'blind-over', commandId: 'c2', by: 'host-1', incidentId: 'blind-0123456789abcdef' },
    ...{ environment: 'production', sinceMs: 5, channels: ['slack', 'pagerduty'] },
  };

  test('of an instance that was cut off, too; it can end nothing but what such an instance tells', () => {
    expect(decodeCommand(Buffer.from(encodeCommand(blind)))).toEqual(blind);
    for (const wrong of [
      { incidentId: '01KBG7' },
      { incidentId: 'blind-x' },
      { environment: 7 },
      { sinceMs: null },
      { channels: [] },
      { channels: 'slack' },
      { channels: ['history', 'fax'] },
    ]) {
      const value = Buffer.from(JSON.stringify({ v: 1, command: { ...blind, ...wrong } }));
      expect(decodeCommand(value), JSON.stringify(wrong)).toBeUndefined();
    }
  });

  test('anything else is no command', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.json().map((text) => `{"v":1,"command":${text}}`),
        ),
        (text) => {
          expect(decodeCommand(Buffer.from(text))).toBeUndefined();
        },
      ),
    );
    const wrong: object[] = [
      { ...COMMAND, kind: 'shutdown' },
      { ...COMMAND, commandId: '' },
      { ...COMMAND, commandId: 'x'.repeat(65) },
      { ...COMMAND, by: 7 },
      { ...COMMAND, alerts: [] },
      { ...COMMAND, alerts: [null] },
      { ...COMMAND, alerts: [{ key: 'a' }] },
      { ...COMMAND, alerts: [{ key: 'a', startedMs: 'now' }] },
    ];
    for (const command of wrong) {
      expect(decodeCommand(Buffer.from(JSON.stringify({ v: 1, command }))), JSON.stringify(command)).toBeUndefined();
    }
    expect(decodeCommand(Buffer.from(JSON.stringify({ v: 2, command: COMMAND })))).toBeUndefined();
    expect(decodeCommand(null)).toBeUndefined();
  });
});

describe('the folder', () => {
  test('hands each command over once until it is answered, then it is gone; strange files are said and removed', async () => {
    const journalDir = folder();
    const clock = createFakeClock(Date.now());
    const warned: string[] = [];
    const given: { id: string; done: () => void }[] = [];
    const log: Log = { ...silentLog, warn: (text) => void warned.push(text) };
    const reader = followFolder(journalDir, {
      ...{ clock, log },
      onCommand: ({ commandId: id }, done) => given.push({ id, done }),
    });
    await clock.advance(5_000);
    giveToFolder(journalDir, COMMAND);
    mkdirSync(join(journalDir, 'commands'), { recursive: true });
    writeFileSync(join(journalDir, 'commands', 'junk.json'), '{}');
    await clock.advance(5_000);
    expect(given.map(({ id }) => id)).toEqual(['c1']);
    expect(warned).toHaveLength(1);
    given[0]!.done();
    await clock.advance(5_000);
    expect(readdirSync(join(journalDir, 'commands'))).toEqual([]);
    expect(given).toHaveLength(1);
    await reader.close();
  });
});
