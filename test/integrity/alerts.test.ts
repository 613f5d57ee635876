// One page per incident and channel, whatever is killed when: kills between deciding, committing, sending and recording, and
// a paused holder that wakes up after another one has taken over.
import { expect, it } from 'vitest';
import { type AlertingKit, createAlerting, groupRules } from '../kit/alerting.ts';
import type { LogpipeProcess } from '../kit/process.ts';
import type { ReceivedRequest } from '../kit/receiver.ts';
import { waitFor } from '../kit/servers.ts';

const KILLS = process.env.LOGPIPE_INTEGRITY === 'full' ? 50 : 5;
/** A send that was not recorded this long before a kill was confirmed. */
const RECORDED_MS = 2_000;

/** Several incidents at once, so that most moments are in the middle of something. */
const GROUPS = ['alpha', 'beta', 'gamma', 'delta'];
const RULES = groupRules(GROUPS);

interface Sent {
  readonly key: string;
  readonly action: string;
  readonly atMs: number;
}

function pages({ pagerduty }: AlertingKit): Sent[] {
  return pagerduty.requests.map(({ body, atMs }: ReceivedRequest) => ({
    key: String(body.dedup_key),
    action: String(body.event_action),
    atMs,
  }));
}

/** The last word about each incident. */
function open(kit: AlertingKit): string[] {
  const last = new Map<string, string>();
  for (const { key, action } of pages(kit)) last.set(key, action);
  return [...last].flatMap(([key, action]) => (action === 'resolve' ? [] : [key]));
}

const EVALUATES = /alerts are evaluated here/g;
const times = (one: LogpipeProcess, line: RegExp) => one.stderr().match(line)?.length ?? 0;
/** By its own word. */
const holds = (one: LogpipeProcess) => times(one, EVALUATES) > times(one, /no longer the alerter/g);
const standsBy = (one: LogpipeProcess) =>
  times(one, /standing by/g) > 0 &&
  times(one, /this instance is the alerter/g) === times(one, /no longer the alerter/g);

async function evaluating(kit: AlertingKit): Promise<LogpipeProcess> {
  const alerter = kit.start('alerter');
  await alerter.waitForLine(/alerts are evaluated here/, 60_000);
  return alerter;
}

it(`${KILLS} SIGKILLs of the alerter: one page per incident and channel, one more only where it was unconfirmed`, async () => {
  // Slow receivers: a kill often meets a message that has arrived and is not recorded.
  const slow = {
    slack: () => ({ status: 200, body: 'ok', delayMs: 80 }),
    pagerduty: () => ({ status: 202, delayMs: 80 }),
  };
  const kit = await createAlerting({ rules: RULES, ...slow });
  kit.start('counter');
  let failing = 0;
  const stop = kit.calls(50, () => failing);
  let alerter = await evaluating(kit);
  const kills: number[] = [];
  for (let kill = 0; kill < KILLS; kill++) {
    failing = kill % 2 === 0 ? 6 : 0;
    const before = kit.pagerduty.requests.length;
    // Every other kill as soon as something goes out, the rest at any time.
    if (kill % 2 === 0)
      await waitFor(() => kit.pagerduty.requests.length > before || open(kit).length > 0, {
        what: 'a page',
        timeoutMs: 60_000,
      });
    const moment = kit.produced() + Math.floor(Math.random() * (kill % 2 === 0 ? 15 : 200));
    await waitFor(() => kit.produced() >= moment, { what: 'a random moment', intervalMs: 5 });
    alerter.kill('SIGKILL');
    kills.push(Date.now());
    await alerter.exit;
    alerter = await evaluating(kit);
  }
  failing = 6;
  await waitFor(() => open(kit).length === GROUPS.length, { what: 'all groups page', timeoutMs: 60_000 });
  failing = 0;
  await waitFor(() => open(kit).length === 0, { what: 'everything is resolved', timeoutMs: 90_000 });
  await stop();
  alerter.kill('SIGTERM');
  expect((await alerter.exit).status).toBe(0);

  const all = pages(kit);
  expect(new Set(all.map(({ key }) => key)).size).toBeGreaterThanOrEqual(GROUPS.length);
  const unexplained = all.filter(({ key, action, atMs }, i) => {
    const former = all.slice(0, i).findLast((page) => page.key === key);
    // The same word again about the same incident: only where a kill came before the first was recorded.
    if (former === undefined || former.action !== action) return false;
    return !kills.some((at) => at <= atMs && at >= former.atMs - 500 && at <= former.atMs + RECORDED_MS);
  });
  expect(unexplained).toEqual([]);
  // Every incident was opened before it was closed, on each channel.
  for (const key of new Set(all.map((page) => page.key)))
    expect(all.find((page) => page.key === key)!.action).toBe('trigger');
});

it('a paused holder that wakes up writes nothing and sends nothing', async () => {
  const kit = await createAlerting({ rules: RULES });
  kit.start('counter');
  let failing = 0;
  const stop = kit.calls(50, () => failing);
  const both = [await evaluating(kit), kit.start('alerter')] as const;
  await both[1].waitForLine(/standing by|this instance is the alerter/, 30_000);
  // Joining may have moved the hold: the one that has it in the end is put to sleep.
  const settled = () => both.every((one) => holds(one) || standsBy(one)) && both.filter(holds).length === 1;
  await waitFor(settled, { what: 'one holds, the other stands by', timeoutMs: 60_000 });
  const [sleeper, other] = holds(both[0]) ? both : [both[1], both[0]];
  const tookOver = times(other, EVALUATES);
  failing = 6;
  await waitFor(() => open(kit).length === GROUPS.length, { what: 'all groups page', timeoutMs: 60_000 });
  sleeper.kill('SIGSTOP');
  failing = 0;
  await waitFor(() => times(other, EVALUATES) > tookOver, { what: 'the other takes over', timeoutMs: 60_000 });
  await waitFor(() => open(kit).length === 0, { what: 'the successor resolves', timeoutMs: 60_000 });
  const before = kit.pagerduty.requests.length;
  // Slack's lane has its own pace.
  const onSlack = (group: string) =>
    kit.slack.requests.findLast(({ body }) => String(body.text).endsWith(`Failing ${group}`));
  const told = (word: string) => GROUPS.every((group) => String(onSlack(group)?.body.text).includes(word));
  await waitFor(() => told('RESOLVED'), { what: 'Slack knows' });
  const slackBefore = kit.slack.requests.length;
  // What it slept through would look like news to it.
  sleeper.kill('SIGCONT');
  await waitFor(() => !holds(sleeper), { what: 'the sleeper knows', timeoutMs: 60_000 });
  failing = 6;
  await waitFor(() => open(kit).length === GROUPS.length, { what: 'the next incidents', timeoutMs: 60_000 });
  await waitFor(() => told('CRITICAL'), { what: 'Slack knows of the next' });
  await stop();
  expect(kit.pagerduty.requests.length).toBe(before + GROUPS.length);
  expect(kit.slack.requests.length).toBe(slackBefore + GROUPS.length);
  // What it had sent and not recorded when it fell asleep may have come twice; nothing since it woke up.
  const since = pages(kit).slice(before);
  expect(since.map(({ action }) => action)).toEqual(GROUPS.map(() => 'trigger'));
  expect(new Set(since.map(({ key }) => key)).size).toBe(GROUPS.length);
});
