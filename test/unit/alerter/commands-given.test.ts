// `logpipe alerts resolve` without Kafka, from the command to the answer, over the real journal and the real term; and what is no
// command.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { beginTerm } from '../../../src/alerter/alerter.ts';
import {
  type Command,
  decodeCommand,
  encodeCommand,
  followFolder,
  giveToFolder,
} from '../../../src/alerter/commands-given.ts';
import { createCountedWindows } from '../../../src/alerter/counts-follower.ts';
import { openJournalStore } from '../../../src/alerter/store.ts';
import { alertsResolve } from '../../../src/cli/alert-commands.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { type Log, silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';
import { MEASURES, rulesOf, T0 } from '../rules/kit.ts';

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

describe('logpipe alerts resolve', () => {
  const RULES = rulesOf(
    '  silent: { title: Silent, priority: P2, kind: absence, measure: log.silence, above: 2 m }\n' +
      '  busy: { title: Busy, priority: P2, kind: threshold, measure: elasticsearch.status, atLeast: 2 }',
  );

  async function embedded() {
    const journalDir = folder();
    const store = await openJournalStore({ folder: journalDir }, { log: silentLog });
    const clock = { ...systemClock, now: () => T0 + Math.round(performance.now()) };
    const term = beginTerm(
      { rules: RULES, environment: 'test', tickMs: 20 },
      {
        ...{ store, clock, log: silentLog, metrics: createMetrics(), masker: createMasker() },
        windows: createCountedWindows({ measures: MEASURES, rules: RULES, coveredFromMs: T0 }),
        ...{ results: new Map(), channels: new Map(), history: undefined, onLost() {} },
        onTick: () => ticked(),
      },
    );
    let ticked = () => {};
    const tick = () =>
      new Promise<void>((resolve) => {
        ticked = resolve;
      });
    // Silent for an hour, and Elasticsearch is red.
    const at = T0 + Math.round(performance.now()) - 3_600_000;
    const totals = {
      ...{ lane: '0', arrivalMs: Math.floor(at / 10_000) * 10_000, upToOffset: 1, records: 1, format: 2 },
      buckets: [{ eventMs: Math.floor(at / 10_000) * 10_000, series: { 'log.events': { 'info\u001fv1': { n: 1 } } } }],
    };
    term.counts({ kind: 'totals', totals }, at, true);
    const progress = { lane: '0', lanes: 1, position: 1, end: 1, arrivalMs: at, caughtUp: true };
    term.counts({ kind: 'progress', progress }, clock.now(), true);
    term.gauge('elasticsearch.status', {}, 2, clock.now());
    const commands = followFolder(journalDir, { clock: systemClock, log: silentLog, onCommand: term.command });
    term.start();
    await tick();
    onTestFinished(async () => {
      await commands.close();
      await term.stop(0);
      await store.close();
    });
    const config = { source: 'files', alerts: { journalDir }, mask: {} } as never;
    const run = async (id: string) => {
      const said: string[] = [];
      const io = { out: (text: string) => void said.push(text), err: (text: string) => void said.push(text) };
      const status = await alertsResolve(id, config, { by: 'ann', waitSeconds: 20, json: false }, io, silentLog);
      return { status, said };
    };
    return { run, journalDir };
  }

  test('ends a silence, and says what is true now and is not ended', async () => {
    const { run, journalDir } = await embedded();
    expect(await run('silent')).toEqual({ status: 0, said: ['1 alert resolved'] });
    await expect(run('silent')).rejects.toThrow(/no alert of "silent" is firing/);
    const { status, said } = await run('busy');
    expect([status, said[0]]).toEqual([1, expect.stringMatching(/^refused: the condition of busy is true now/)]);
    expect(existsSync(join(journalDir, 'commands')) && readdirSync(join(journalDir, 'commands'))).toEqual([]);
  });
});
