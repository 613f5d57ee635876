// A routing that changes in a process that decides: what its channels refuse is in force nowhere. That the file is read again, and a wrong
// one refused: routing.test.ts.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { startAlerting } from '../../../src/alerting.ts';
import { parseConfig } from '../../../src/config.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

test('an address that no channel can be made of leaves the previous routing in force, everywhere', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-reload-'));
  const file = join(folder, 'routing.yml');
  const routing = (id: string, url: string) =>
    `hours: { timeZone: Etc/UTC }\nteams: { ${id}: { slackWebhookUrl: '${url}' } }\n`;
  writeFileSync(file, routing('before', 'https://hooks.example.org/x'));
  const config = parseConfig(
    `source: stdin
alerts: { journalDir: '${join(folder, 'alerts')}', routingFile: '${file}' }
monitor: { enabled: false }
sinks: { elasticsearch: false }
files: { dataDir: '${folder}' }`,
    {},
    'test.yml',
  );
  const clock = createFakeClock();
  const stdout = new Writable({ write: (_chunk, _encoding, done) => done() });
  const alerting = (await startAlerting(config, { clock, log: silentLog, metrics: createMetrics(), stdout }))!;
  onTestFinished(async () => {
    let stopped = false;
    const stopping = alerting.stop().then(() => (stopped = true));
    while (!stopped) await clock.advance(1_000);
    await stopping;
    rmSync(folder, { recursive: true, force: true });
  });
  const inForce = () => alerting.routing()?.teams.map(({ id }) => id);
  const refused = () => alerting.readiness().some(({ name, ready }) => name === 'routing' && !ready);
  writeFileSync(file, routing('after', 'https://['));
  await clock.advance(5_000);
  expect([inForce(), refused()]).toEqual([['before'], true]);
  writeFileSync(file, routing('after', 'https://hooks.example.org/y'));
  await clock.advance(5_000);
  expect([inForce(), refused()]).toEqual([['after'], false]);
});
