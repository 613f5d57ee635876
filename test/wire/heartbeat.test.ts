// The dead man's switch of a whole process, without Kafka: it is not called for evaluations that rest on no counts.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startAlerting } from '../../src/alerting.ts';
import { parseConfig } from '../../src/config.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createFakeClock } from '../kit/fake-clock.ts';
import { startReceiver } from '../kit/receiver.ts';

test('the first call comes with the first evaluation that has counts, not with those before it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-heartbeat-'));
  const receiver = await startReceiver();
  const clock = createFakeClock();
  const startMs = clock.now();
  const metrics = createMetrics();
  const config = parseConfig(
    `source: stdin
alerts: { journalDir: '${join(folder, 'alerts')}', heartbeatUrl: '${receiver.url}', tickMs: 100 }
monitor: { enabled: false }
sinks: { elasticsearch: false }
files: { dataDir: '${folder}' }`,
    {},
    'test.yml',
  );
  const stdout = new Writable({ write: (_chunk, _encoding, done) => done() });
  const alerting = await startAlerting(config, { clock, log: silentLog, metrics, stdout });
  onTestFinished(async () => {
    let stopped = false;
    const stopping = alerting?.stop().then(() => (stopped = true));
    while (!stopped) await clock.advance(1_000);
    await stopping;
    await receiver.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const evaluations = async () =>
    (await metrics.evaluationSeconds.get()).values.find(({ metricName }) => metricName?.endsWith('_count'))?.value ?? 0;
  // Counting says something every 500 ms: the first evaluation comes before that, and is durable when the next one is due.
  await clock.advance(0);
  const timers = clock.timers();
  await clock.advance(100);
  expect(await evaluations()).toBe(1);
  await vi.waitFor(() => expect(clock.timers()).toBe(timers), { timeout: 20_000 });
  await vi.waitFor(
    async () => {
      await clock.advance(100);
      expect(receiver.requests.length).toBeGreaterThan(0);
    },
    { timeout: 20_000, interval: 20 },
  );
  const [first] = receiver.requests;
  expect(first?.body.status).toBe('ok');
  expect(Date.parse(String(first?.body.at)) - startMs).toBeGreaterThanOrEqual(500);
});
