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
import type { SilenceRecord } from '../../../src/incidents/incident.ts';
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

  const silence: SilenceRecord = {
    ...{ id: 's1', ruleId: 'a', group: 'g', labels: { host: 'x' }, priority: 'P2', environment: 'production' },
    ...{ fromMs: 1, createdMs: 2, untilMs: 5, by: 'ann', reason: '' },
  };
  const PEOPLES: readonly Command[] = [
    { kind: 'acknowledge', commandId: 'c3', incidentId: '01KBG7', by: 'link from #ops', via: 'link' },
    { kind: 'resolve', commandId: 'c4', incidentId: '01KBG7', evenIfTrue: true, by: 'ann', via: 'api' },
    { kind: 'resolve', commandId: 'c5', alerts: [{ key: 'a', startedMs: 5 }], evenIfTrue: true, by: 'ann', via: 'cli' },
    { kind: 'silence', commandId: 'c6', silence, via: 'api' },
    { kind: 'silence', commandId: 'c7', silence: { id: 's', group: 'g', untilMs: 5, by: 'ann', reason: 'why' } },
    { kind: 'unsilence', commandId: 'pagerduty:01ABC', id: 's1', by: 'ann', via: 'pagerduty' },
  ];

  test.each(PEOPLES)('of people: $kind, by topic and by folder', async (command) => {
    expect(decodeCommand(Buffer.from(encodeCommand(command)))).toEqual(command);
    const journalDir = folder();
    giveToFolder(journalDir, command);
    const given: Command[] = [];
    const onCommand = (one: Command) => void given.push(one);
    const reader = followFolder(journalDir, { clock: createFakeClock(Date.now()), log: silentLog, onCommand });
    expect(given).toEqual([command]);
    await reader.close();
  });

  test('of people, altered in any one place: no command', () => {
    const long = 'x'.repeat(1_001);
    const wrong: readonly (readonly [number, object])[] = [
      [0, { incidentId: 7 }],
      [0, { incidentId: 'x'.repeat(65) }],
      [0, { by: '' }],
      [0, { via: 'smoke signals' }],
      [0, { commandId: '../../etc/passwd' }],
      [1, { evenIfTrue: 'yes' }],
      [1, { incidentId: '' }],
      [1, { alerts: [{ key: 'a', startedMs: 5 }] }],
      [1, { incidentId: undefined }],
      [3, { silence: null }],
      [3, { silence: { ...silence, untilMs: '5' } }],
      [3, { silence: { ...silence, untilMs: 9e15 } }],
      [3, { silence: { ...silence, fromMs: null } }],
      [3, { silence: { ...silence, priority: 'P5' } }],
      [3, { silence: { ...silence, labels: ['host'] } }],
      [3, { silence: { ...silence, labels: { host: 7 } } }],
      [3, { silence: { ...silence, labels: { host: long } } }],
      [
        3,
        { silence: { ...silence, labels: Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`l${i}`, 'x'])) } },
      ],
      [3, { silence: { ...silence, group: long } }],
      [3, { silence: { ...silence, reason: 7 } }],
      [3, { silence: { ...silence, by: 'x'.repeat(301) } }],
      [4, { silence: { id: 's', untilMs: 5, by: 'ann', reason: '' } }],
      [5, { id: '' }],
      [5, { by: null }],
    ];
    for (const [which, change] of wrong) {
      const value = Buffer.from(JSON.stringify({ v: 1, command: { ...PEOPLES[which], ...change } }));
      expect(decodeCommand(value), `${which} ${JSON.stringify(change).slice(0, 100)}`).toBeUndefined();
    }
    expect(decodeCommand(Buffer.alloc(256 * 1024 + 1, ' '))).toBeUndefined();
  });

  test('what it does not know is left out, and reaches nobody', () => {
    const value = { v: 1, command: { ...PEOPLES[4], admin: true, silence: { ...silence, everything: true } } };
    expect(decodeCommand(Buffer.from(JSON.stringify(value)))).toEqual({ kind: 'silence', commandId: 'c7', silence });
  });

  const blind: Command = {
    ...{ kind: 'blind-over', commandId: 'c2', by: 'host-1', incidentId: 'blind-0123456789abcdef' },
    ...{ environment: 'production', sinceMs: 5, channels: ['slack', 'pagerduty', 'email:ada'] },
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
  test('what cannot be read holds up nothing beside it', async () => {
    const journalDir = folder();
    mkdirSync(join(journalDir, 'commands', '0.json'), { recursive: true });
    giveToFolder(journalDir, COMMAND);
    const warned: string[] = [];
    const given: Command[] = [];
    const clock = createFakeClock(Date.now());
    const log: Log = { ...silentLog, warn: (text) => void warned.push(text) };
    const reader = followFolder(journalDir, { clock, log, onCommand: (one) => void given.push(one) });
    await clock.advance(5_000);
    expect(given).toEqual([COMMAND]);
    expect(warned).toEqual(['Commands cannot be read; trying again']);
    await reader.close();
  });

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
