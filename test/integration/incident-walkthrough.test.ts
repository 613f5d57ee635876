// The walk-through of docs/operations.md on real servers: an incident, its logs replayed in place without any change, what the shipped
// rules did, a rule that is new, the proof that it would have paged earlier, and the folder for the post-mortem.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { packageRoot } from '../../src/core/package-root.ts';
import type { BacktestResult } from '../../src/replay/backtest.ts';
import { incidentLog } from '../kit/incident-log.ts';
import { committedOffsets, testAdmin } from './intake-kit.ts';
import { storeIncident, workspace } from './stored-incident-kit.ts';

/** A day that no other test logs on. */
const START = Date.parse('2025-03-18T09:00:00.000Z');
const MINUTE = 60_000;
const FROM = new Date(START + 10 * MINUTE).toISOString();
const TO = new Date(START + 40 * MINUTE).toISOString();

it('incident, replay in place, backtest, new rule, proof', async () => {
  // For five minutes a call in ten fails, then one in two: the shipped page comes with the second.
  const log = incidentLog({
    startMs: START,
    minutes: 40,
    failing: (minute) => (minute < 15 || minute >= 30 ? 0 : minute < 20 ? 0.1 : 0.5),
  });
  const stored = await storeIncident(log);
  onTestFinished(() => stored.remove());
  const { folder, run } = workspace(stored.configYaml);
  const admin = await testAdmin();
  const offsets = await committedOffsets(admin, stored.group, stored.topic);
  const before = await stored.versions();
  expect(before.count).toBe(log.length);

  // 1. Nothing is missing: replaying changes no document, and no live offset.
  const replayed = await run('replay', '--from', FROM, '--to', TO, '--alerts', 'shadow', '--json');
  expect(replayed.status).toBe(0);
  const inRange = log.filter(({ timeMs }) => timeMs >= Date.parse(FROM) && timeMs < Date.parse(TO)).length;
  expect(JSON.parse(replayed.out)).toMatchObject({
    complete: true,
    matched: inRange,
    written: { new: 0, present: inRange },
  });
  expect(replayed.err).toContain('high-error-rate');
  expect(await stored.versions()).toEqual(before);
  expect(await committedOffsets(admin, stored.group, stored.topic)).toEqual(offsets);

  // 2. What the shipped rules did.
  const backtest = async (...args: string[]) => {
    const { status, out, err } = await run('backtest', '--from', FROM, '--to', TO, '--json', ...args);
    expect({ status, err }).toEqual({ status: 0, err: '' });
    return JSON.parse(out) as BacktestResult;
  };
  const shipped = await backtest();
  const paged = shipped.timeline.incidents.find(({ group }) => group === 'calls')?.paged.P1;
  expect(Date.parse(paged!)).toBeGreaterThan(START + 20 * MINUTE);

  // 3. A rule that looks at a shorter time, beside the shipped ones.
  const candidate = join(folder, 'candidate.yml');
  const rules = readFileSync(join(packageRoot(), 'config', 'rules.yml'), 'utf8');
  writeFileSync(
    candidate,
    `${rules.trimEnd()}

  calls-begin-to-fail:
    title: Calls Begin To Fail
    priority: P1
    group: calls
    kind: ratio
    measure: call.failure_ratio
    window: 3m
    above: 8 %
    for: 1m
    minEvents: 50
    message: '{numerator} of {denominator} calls failed in {window} ({value}, threshold {threshold})'
`,
  );
  expect(await run('rules', 'check', '--rules', candidate)).toMatchObject({ status: 0 });

  // 4. The proof: the incident pages earlier, and nothing else changes.
  const { difference, timeline } = await backtest('--rules', candidate, '--compare', 'config/rules.yml');
  expect(difference!.alerts.only.map(({ rule }) => rule)).toEqual(['calls-begin-to-fail']);
  expect(difference!.alerts.onlyCompared).toEqual([]);
  const early = timeline.incidents.find(({ group }) => group === 'calls')!.paged.P1!;
  expect(Date.parse(early)).toBeLessThan(Date.parse(paged!) - 2 * MINUTE);
  expect(Date.parse(early)).toBeGreaterThan(START + 15 * MINUTE);
  expect(difference!.incidents.moved).toMatchObject([{ group: 'calls', title: 'Calls Begin To Fail', priority: 'P1' }]);
  const { earlierSeconds, earlierByPriority } = difference!.incidents.moved[0]!;
  expect(earlierSeconds).toBeGreaterThan(60);
  expect(earlierByPriority.P1).toBe((Date.parse(paged!) - Date.parse(early)) / 1_000);

  // 5. The folder for the post-mortem.
  const dir = join(folder, 'incident');
  const exported = await run('incident', 'export', '--from', FROM, '--to', TO, '--out', dir, '--json');
  expect(exported.status).toBe(0);
  expect(JSON.parse(exported.out)).toMatchObject({ events: inRange });
  const readme = readFileSync(join(dir, 'README.md'), 'utf8');
  expect(readme).toContain('provider timeout');
  expect(readme).toContain(`logpipe backtest --from ${FROM} --to ${TO}`);
}, 240_000);
