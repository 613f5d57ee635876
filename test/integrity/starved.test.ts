// Alerters that get a tenth of a core: nobody is expelled for being slow, every incident is paged once, and a take-over is quick.
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { expect, it, onTestFinished } from 'vitest';
import { createAlerting, groupRules } from '../kit/alerting.ts';
import type { LogpipeProcess } from '../kit/process.ts';
import { waitFor } from '../kit/servers.ts';

const FULL = process.env.LOGPIPE_INTEGRITY === 'full';
const GROUPS = ['alpha', 'beta', 'gamma'];
const RULES = groupRules(GROUPS);
const ROUNDS = FULL ? 5 : 2;
const TAKE_OVER_MS = 10_000;
const SLICE_MS = 10;
const PERIOD_MS = 100;

/** Runs it for a tenth of the time, in slices. */
function starve(one: LogpipeProcess): void {
  let slice: NodeJS.Timeout;
  const period = setInterval(() => {
    one.kill('SIGCONT');
    slice = setTimeout(() => one.kill('SIGSTOP'), SLICE_MS);
  }, PERIOD_MS);
  const stop = () => {
    clearInterval(period);
    clearTimeout(slice);
    one.kill('SIGCONT');
  };
  void one.exit.then(stop);
  onTestFinished(stop);
}

/** Ten runnable programs for each core, at the same priority. */
function crowd(): void {
  const programs = Array.from({ length: 10 * availableParallelism() }, () =>
    spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
  );
  onTestFinished(() => {
    for (const program of programs) program.kill('SIGKILL');
  });
}

it.each([
  ['with a tenth of a core', false] as const,
  ...(FULL ? [['in a crowd of ten programs a core', true] as const] : []),
])('an alerter %s', async (_name, crowded) => {
  const kit = await createAlerting({ rules: RULES });
  kit.start('counter');
  let failing = 0;
  const stop = kit.calls(100, () => failing);
  const first = kit.start('alerter');
  await first.waitForLine(/alerts are evaluated here/, 60_000);
  const second = kit.start('alerter');
  await second.waitForLine(/standing by/, 60_000);
  if (crowded) crowd();
  else for (const one of [first, second]) starve(one);

  const open = () => {
    const last = new Map(kit.pagerduty.requests.map(({ body }) => [String(body.dedup_key), String(body.event_action)]));
    return [...last.values()].filter((action) => action === 'trigger').length;
  };
  for (let round = 0; round < ROUNDS; round++) {
    failing = 6;
    await waitFor(() => open() === GROUPS.length, { what: `round ${round} is paged`, timeoutMs: 120_000 });
    failing = 0;
    await waitFor(() => open() === 0, { what: `round ${round} is resolved`, timeoutMs: 120_000 });
  }
  // Neither was expelled meanwhile.
  for (const one of [first, second]) expect(one.stderr()).not.toMatch(/no longer the alerter/);
  expect(second.stderr()).not.toMatch(/this instance is the alerter/);

  failing = 6;
  await waitFor(() => open() > 0, { what: 'something is paged', timeoutMs: 120_000 });
  first.kill('SIGKILL');
  await second.waitForLine(/this instance is the alerter/, 120_000);
  const freeMs = performance.now();
  await second.waitForLine(/alerts are evaluated here/, 120_000);
  const tookMs = performance.now() - freeMs;
  console.log(`taken over after ${(tookMs / 1_000).toFixed(1)} s`);
  expect(tookMs).toBeLessThan(TAKE_OVER_MS);
  await waitFor(() => open() === GROUPS.length, { what: 'the successor pages the rest', timeoutMs: 120_000 });
  failing = 0;
  await waitFor(() => open() === 0, { what: 'the successor resolves', timeoutMs: 120_000 });
  await stop();

  const told = (action: string) =>
    kit.pagerduty.requests.filter(({ body }) => body.event_action === action).map(({ body }) => String(body.dedup_key));
  const incidents = new Set(told('trigger'));
  expect(incidents.size).toBe((ROUNDS + 1) * GROUPS.length);
  expect(new Set(told('resolve'))).toEqual(incidents);
  // Once each, but for the one whose sender was killed before it could record it.
  expect(told('trigger').length - incidents.size).toBeLessThanOrEqual(GROUPS.length);
});
