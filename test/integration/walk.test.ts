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
/** Called by anything, or now and then by a clock: they may be missing from the walk, and may not be called. */
const ANYWHERE = new Set([
  ...[
    'core/clock.ts',
    'core/log.ts',
    'core/errors.ts',
    'core/safe-json.ts',
    'core/config-loader.ts',
    'core/metrics.ts',
  ],
  // Whatever is logged is masked, and the last complaint of each stage is kept; the history of alerts is written by the clock.
  ...['ops/flow.ts', 'core/secrets/secret-text.ts', 'indexing/outcome.ts'],
  ...['core/kafka/kafkajs-timer.ts', 'core/kafka/broker-connections.ts', 'source/kafka/client.ts'],
]);

/** It looks once a minute, whatever happens. */
const WITHOUT_MONITOR = { extra: 'monitor: { enabled: false }' };

interface Called {
  /** Files that ran because of what happened. */
  readonly because: readonly string[];
  /** These, and what ran in the background meanwhile. */
  readonly all: readonly string[];
}

function coverage() {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-walk-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'files.json');
  return {
    env: { NODE_OPTIONS: `--import ${AGENT.href}`, LOGPIPE_COVERAGE: file },
    /** To be called when the program has nothing to do. */
    async during(program: LogpipeProcess, work: () => Promise<unknown>): Promise<Called> {
      program.kill('SIGUSR2');
      await waitFor(() => existsSync(`${file}.idle`), { what: 'what an idle program calls' });
      await work();
      program.kill('SIGUSR2');
      await waitFor(() => existsSync(file), { what: 'the files that ran' });
      return JSON.parse(readFileSync(file, 'utf8')) as Called;
    },
  };
}

/** The files, given by their path below src/, that a part of docs/architecture.md names. */
function named(from: string, to: string): string[] {
  const text = readFileSync(join(packageRoot(), 'docs', 'architecture.md'), 'utf8');
  const part = text.slice(text.indexOf(from), text.indexOf(to));
  return [
    ...new Set([...part.matchAll(/`((?:[\w-]+\/)+[\w-]+\.ts|pipeline\.ts|alerting\.ts)`/g)].map(([, path]) => path!)),
  ].sort();
}

test('one record, from the fetch to the commit', async () => {
  const kit = await createAlerting(WITHOUT_MONITOR);
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
  const { because, all } = await during(logpipe, async () => {
    await kit.produce([call(9, 0)]);
    await waitFor(async () => (await committed()) === 9, { what: 'the record is committed' });
  });
  const walk = named('2. **Intake**', '# The second flow');
  expect(because.filter((file) => !ANYWHERE.has(file) && !walk.includes(file))).toEqual([]);
  expect(walk.filter((file) => !all.includes(file))).toEqual([]);
  expect(walk.length).toBeLessThanOrEqual(23);
});

test('one event, from the fetch to the page', async () => {
  const kit = await createAlerting(WITHOUT_MONITOR);
  const { env, during } = coverage();
  const logpipe = kit.start('counter,alerter', { env });
  await logpipe.waitForLine(/alerts are evaluated here/, 60_000);
  await kit.produce(Array.from({ length: 8 }, (_, n) => call(n * 10 + 9, 0)));
  await waitFor(async () => kit.heartbeats.requests.length > 0, { what: 'a heartbeat' });
  const { because, all } = await during(logpipe, async () => {
    await kit.produce(Array.from({ length: 40 }, (_, n) => call(n * 10, 10)));
    await kit.pagerduty.received(1);
    await kit.slack.received(1);
  });
  const first = named('2. **Intake**', '4. **Tag**');
  const second = named('# The second flow', 'One instance decides');
  const walk = new Set([...first, ...second]);
  expect(because.filter((file) => !ANYWHERE.has(file) && !walk.has(file))).toEqual([]);
  // Evaluation goes on while nothing happens: what the walk names was called, but not only because of this event.
  expect(second.filter((file) => !all.includes(file))).toEqual([]);
  expect(because.filter((file) => walk.has(file)).length).toBeLessThanOrEqual(45);
});
