// Clocks that are set and a process that is stopped, on real servers: the groups are kept, pages go out and end, nobody is said to
// have been silent.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import kafkajs from 'kafkajs';
import { expect, it, onTestFinished } from 'vitest';
import { sleep } from '../../src/core/clock.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import type { Stats } from '../../src/ops/stats.ts';
import { createAlerting } from '../kit/alerting.ts';
import { testBrokers, waitFor } from '../kit/servers.ts';

const HOUR = 3_600_000;
const SHIFTED_CLOCK = pathToFileURL(
  join(process.env.LOGPIPE_TEST_DIST ?? join(packageRoot(), 'dist'), 'test/kit/shifted-clock.js'),
);

it('an hour back, two forward, and a stop longer than it takes to be blind: one incident for each that there was', {
  timeout: 240_000,
}, async () => {
  const kit = await createAlerting();
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-clocks-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const clock = join(folder, 'clock.txt');
  const logpipe = kit.start(undefined, {
    env: { NODE_OPTIONS: `--import=${SHIFTED_CLOCK}`, LOGPIPE_TEST_CLOCK: clock },
  });
  await logpipe.waitForLine(/alerts are evaluated here/, 30_000);
  const url = /http:\/\/127\.0\.0\.1:\d+/.exec(await logpipe.waitForLine(/"message":"running"/))?.[0];
  const actions = () => kit.pagerduty.requests.map(({ body }) => body.event_action);
  /** The n-th message; when it does not come, what the process says of itself. */
  async function told(n: number): Promise<void> {
    await kit.pagerduty.received(n, 60_000).catch(async (error: Error) => {
      const ready = await fetch(`${url}/ready`).then(
        (response) => response.text(),
        (reason) => String(reason),
      );
      throw new Error(`${error.message}\n/ready: ${ready}\nlog:\n${logpipe.stderr().slice(-6_000)}`);
    });
  }
  let failing = 0;
  const stop = kit.calls(50, () => failing);
  await waitFor(async () => kit.heartbeats.requests.length > 1, { what: 'heartbeats' });
  const joins = () => logpipe.stderr().match(/joined the consumer group|this instance is the alerter/g)?.length;
  const before = joins();

  for (const [n, step] of ['back', 'forward'].entries()) {
    writeFileSync(clock, String(n === 0 ? -HOUR : HOUR));
    await logpipe.waitForLine(
      n === 0 ? /"byMs":-3[56]\d{5},.*The wall clock was set/ : /"byMs":7[12]\d{5},.*The wall clock was set/,
    );
    const beats = kit.heartbeats.requests.length;
    // Longer than a session: who sends no heartbeats is out of its group by now.
    await sleep(5_000);
    expect(await members([kit.service]), step).toEqual([1, 1, 1]);
    expect(joins(), step).toBe(before);
    expect(kit.heartbeats.requests.length, step).toBeGreaterThan(beats + 2);
    // What it has counted is seen, wherever its own clock stands.
    const stats = (await (await fetch(`${url}/api/v1/stats?window=5m`)).json()) as Stats;
    expect(stats.data.calls.total, step).toBeGreaterThan(50);
    failing = 10;
    await told(2 * n + 1);
    await kit.goOn();
    failing = 0;
    await told(2 * n + 2);
    expect(actions(), step).toEqual(['trigger', 'resolve', 'trigger', 'resolve'].slice(0, 2 * n + 2));
  }

  logpipe.kill('SIGSTOP');
  await sleep(8_000);
  logpipe.kill('SIGCONT');
  await logpipe.waitForLine(/This process was stopped/);
  const beats = kit.heartbeats.requests.length;
  await waitFor(async () => kit.heartbeats.requests.length > beats + 1, { what: 'heartbeats again' });
  await stop();
  logpipe.kill('SIGTERM');
  const ended = await Promise.race([logpipe.exit, sleep(40_000)]);
  expect(ended?.status, logpipe.stderr().slice(-4_000)).toBe(0);
  expect(logpipe.stderr()).not.toContain('Log pipeline blind');
  expect(actions()).toEqual(['trigger', 'resolve', 'trigger', 'resolve']);
});

/** Of the groups of this pipeline. */
async function members([name]: readonly [string]): Promise<number[]> {
  const kafka = new kafkajs.Kafka({ clientId: 'look', brokers: testBrokers(), logLevel: kafkajs.logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  onTestFinished(() => admin.disconnect());
  const { groups } = await admin.describeGroups(['indexer', 'counter', 'alerter'].map((role) => `${name}-${role}`));
  return groups.map(({ members }) => members.length);
}
