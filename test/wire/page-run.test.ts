// The page's API as `logpipe run` has it, loaded by its first request: lines of a running indexer, without Kafka and Elasticsearch.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { silentLog } from '../../src/core/log.ts';
import { startPipeline } from '../../src/pipeline.ts';

test('what is indexed is seen, for as long as the pipeline runs', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-page-run-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = (name: string) => JSON.stringify(join(folder, name));
  const config = parseConfig(
    `source: stdin
roles: [indexer]
http: { port: 0 }
bulk: { maxDelayMs: 20 }
sinks: { elasticsearch: false, ndjson: { enabled: true, dir: ${file('indexed')} } }
dlq: { file: ${file('dead.ndjson')} }`,
    {},
    'test',
  );
  const stdin = new PassThrough();
  const pipeline = await startPipeline(config, { log: silentLog, stdin });
  let stopped: Promise<boolean> | undefined;
  onTestFinished(async () => void (await (stopped ?? pipeline.stop())));
  const page = await fetch(`${pipeline.url}/`);
  // From sources, there may be no build.
  expect([200, 503]).toContain(page.status);
  const live = await fetch(`${pipeline.url}/api/v1/live?tail=1&level=error`);
  expect(live.status).toBe(200);
  let text = '';
  const reading = (async () => {
    for await (const piece of live.body!) text += Buffer.from(piece).toString();
  })();
  await expect.poll(() => text).toContain('event: tick\ndata: {"at":"');
  // Masked, as everything that is indexed.
  stdin.write('{"level":"info","message":"quiet"}\n{"level":"error","message":"loud, password=hunter2hunter2"}\n');
  await expect.poll(() => text).toContain('"message":"loud, password=');
  expect(text).not.toMatch(/hunter2|quiet/);
  expect((await fetch(`${pipeline.url}/api/v1/session`)).status).toBe(200);
  stopped = pipeline.stop();
  // In order, not as a broken connection.
  await reading;
  expect(await stopped).toBe(true);
});
