// How many files of src/ one record passes from the fetch to the commit, and one event from the fetch to the page: as V8 counts them
// in the running program. The walk in docs/architecture.md names the same files.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { packageRoot } from '../../src/core/package-root.ts';
import { call, createAlerting } from '../kit/alerting.ts';
import type { LogpipeProcess } from '../kit/process.ts';
import { waitFor } from '../kit/servers.ts';
import { testAdmin } from './intake-kit.ts';

const AGENT = pathToFileURL(
  join(process.env.LOGPIPE_TEST_DIST ?? join(packageRoot(), 'dist'), 'test/kit/coverage-agent.js'),
);

function coverage() {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-walk-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'files.json');
  return {
    env: { NODE_OPTIONS: `--import ${AGENT.href}`, LOGPIPE_COVERAGE: file },
    /** The files that ran because of `work`; to be called when the program has nothing to do. */
    async during(program: LogpipeProcess, work: () => Promise<unknown>): Promise<string[]> {
      program.kill('SIGUSR2');
      await waitFor(() => existsSync(`${file}.idle`), { what: 'what an idle program calls' });
      await work();
      program.kill('SIGUSR2');
      await waitFor(() => existsSync(file), { what: 'the files that ran' });
      return JSON.parse(readFileSync(file, 'utf8')) as string[];
    },
  };
}

test('one record, from the fetch to the commit', async () => {
  const kit = await createAlerting();
  const { env, during } = coverage();
  const logpipe = kit.start('indexer', { env });
  const admin = await testAdmin();
  const group = `${kit.topics.logs}-indexer`;
  const committed = async () => {
    const [topic] = await admin.fetchOffsets({ groupId: group, topics: [kit.topics.logs] });
    return topic!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0);
  };
  await kit.produce(Array.from({ length: 8 }, (_, n) => call(n, 0)));
  await waitFor(async () => (await committed()) === 8, { what: 'what went before is committed', timeoutMs: 60_000 });
  const files = await during(logpipe, async () => {
    await kit.produce([call(9, 0)]);
    await waitFor(async () => (await committed()) === 9, { what: 'the record is committed' });
  });
  console.log('record', files.length, files.join(' '));
  expect(files.length).toBeLessThanOrEqual(20);
});

test('one event, from the fetch to the page', async () => {
  const kit = await createAlerting();
  const { env, during } = coverage();
  const logpipe = kit.start('counter,alerter', { env });
  await logpipe.waitForLine(/alerts are evaluated here/, 60_000);
  await kit.produce(Array.from({ length: 8 }, (_, n) => call(n * 10 + 9, 0)));
  await waitFor(async () => kit.heartbeats.requests.length > 0, { what: 'a heartbeat' });
  const files = await during(logpipe, async () => {
    await kit.produce(Array.from({ length: 40 }, (_, n) => call(n * 10, 10)));
    await kit.pagerduty.received(1);
    await kit.slack.received(1);
  });
  console.log('event', files.length, files.join(' '));
  expect(files.length).toBeLessThanOrEqual(45);
});
