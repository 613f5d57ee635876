// Rules that change under a running alerter, and an alert that is ended by hand: on a real Kafka, from the file and the command line to
// what people get.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { createAlerting } from '../kit/alerting.ts';
import { spawnLogpipe, waitFor } from '../kit/servers.ts';

const RULES = `rules:
  no-calls:
    title: No Calls
    priority: P2
    kind: absence
    measure: call.silence
    above: 5 s
`;

it('a changed priority pages without a restart, a wrong file changes nothing, and the silence ends by hand for good', async () => {
  const kit = await createAlerting({ rules: RULES });
  const logpipe = kit.start('counter,alerter');
  await logpipe.waitForLine(/alerts are evaluated here/, 30_000);
  await kit.slack.received(1);
  expect(JSON.stringify(kit.slack.requests[0]!.body)).toContain('no event has ever arrived');
  expect(kit.pagerduty.requests).toEqual([]);

  const rulesFile = join(dirname(kit.configFile), 'rules.yml');
  const text = readFileSync(rulesFile, 'utf8');
  writeFileSync(rulesFile, text.replace('P2', 'P9'));
  await logpipe.waitForLine(/refused as a whole/, 10_000);
  writeFileSync(rulesFile, text.replace('P2', 'P1'));
  logpipe.kill('SIGHUP');
  await logpipe.waitForLine(/The rules were read again/, 10_000);
  await kit.pagerduty.received(1);
  expect(kit.pagerduty.requests[0]!.body).toMatchObject({ event_action: 'trigger', payload: { severity: 'critical' } });

  const run = async (...args: string[]) => {
    const child = spawnLogpipe([...args, '--config', kit.configFile]);
    const { status } = await child.exit;
    return { status, out: child.stdout(), err: child.stderr() };
  };
  expect(await run('alerts', 'resolve', 'no-calls')).toMatchObject({
    status: 0,
    out: expect.stringContaining('1 alert resolved'),
  });
  await kit.pagerduty.received(2);
  expect(kit.pagerduty.requests[1]!.body).toMatchObject({ event_action: 'resolve' });
  expect(await run('alerts', 'resolve', 'no-calls')).toMatchObject({ status: 2 });
  // A successor too leaves it ended.
  const second = kit.start('counter,alerter');
  await second.waitForLine(/standing by/, 30_000);
  logpipe.kill('SIGTERM');
  await logpipe.exit;
  await second.waitForLine(/alerts are evaluated here/, 30_000);
  await waitFor(async () => (await run('alerts', 'list')).err.includes('no alerts are firing'), {
    what: 'nothing fires',
  });
  expect(kit.pagerduty.requests).toHaveLength(2);
});
