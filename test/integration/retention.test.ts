// Retention on real servers: of indices of many days, closed, read-only, hidden, and of look-alikes, a dry run touches none, and a run deletes
// those whose days are over and no other. By the command, and by the leader's schedule.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { spawnLogpipe, testEsMajors, testEsUrlOf, waitFor } from '../kit/servers.ts';

const DAY_MS = 86_400_000;
const KEPT_DAYS = 7;
const dotted = (daysAgo: number) =>
  new Date(Date.now() - daysAgo * DAY_MS).toISOString().slice(0, 10).replaceAll('-', '.');
const day = (daysAgo: number) => `calling-platform-${dotted(daysAgo)}`;

interface Row {
  readonly name: string;
  readonly decision: string;
  readonly result?: string;
  readonly documents?: number;
  readonly ageDays?: number;
  readonly blocks: readonly string[];
}

describe.each(testEsMajors())('retention on Elasticsearch %s', (major) => {
  it('only indices whose days are over are gone, whatever state they were in', async () => {
    const url = await testEsUrlOf(major);
    async function call<T = unknown>(method: string, path: string, body?: object): Promise<T> {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: { 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
      return (await response.json()) as T;
    }
    const names = async () => {
      const { indices } = await call<{ indices: { name: string }[] }>('GET', '/_resolve/index/*?expand_wildcards=all');
      return indices.map(({ name }) => name);
    };
    const mine = /calling-platform-|logpipe-alerts-|logpipe-replay-/;
    const clean = async () => {
      for (const name of (await names()).filter((one) => mine.test(one))) {
        for (const block of ['read_only', 'metadata']) {
          await call('PUT', `/${name}/_settings`, { [`index.blocks.${block}`]: false });
        }
        await call('DELETE', `/${name}`);
      }
    };
    await clean();
    onTestFinished(clean);

    const create = (name: string, settings: object = {}, aliases: object = {}) =>
      call('PUT', `/${name}?wait_for_active_shards=0`, {
        settings: { number_of_shards: 1, number_of_replicas: 0, ...settings },
        aliases,
      });
    const kept = [
      ...[0, 1, 2, KEPT_DAYS].map(day),
      day(-2),
      `${day(40)}-old`,
      `my-${day(40)}`,
      'calling-platform-2020.02.30',
      `logpipe-alerts-${dotted(0).slice(0, 7)}`,
      `logpipe-alerts-${dotted(800)}`,
      // Created today, whatever it holds.
      `logpipe-replay-incident-7-${dotted(400)}`,
    ];
    const expired = [
      ...[KEPT_DAYS + 1, KEPT_DAYS + 2, 10, 11, 12, 13, 14, 15].map(day),
      `logpipe-alerts-${dotted(800).slice(0, 7)}`,
    ];
    for (const name of kept) await create(name, {}, name.startsWith('my-') ? { [day(50)]: {} } : {});
    for (const name of expired) await create(name, name === day(10) ? { hidden: true } : {});
    await call('POST', `/${day(KEPT_DAYS + 1)}/_doc?refresh=true`, { '@timestamp': new Date().toISOString() });
    await call('POST', `/${day(11)}/_close`);
    await call('POST', `/${day(12)}/_close`);
    await call('PUT', `/${day(12)}/_settings`, { 'index.blocks.read_only': true });
    await call('PUT', `/${day(13)}/_settings`, { 'index.blocks.read_only': true });
    await call('PUT', `/${day(14)}/_settings`, { 'index.blocks.read_only_allow_delete': true });
    await call('PUT', `/${day(15)}/_settings`, { 'index.blocks.write': true });
    await call('PUT', `/${day(1)}/_settings`, { 'index.blocks.read_only': true });
    const there = (await names()).filter((one) => mine.test(one)).sort();
    expect(there).toEqual([...kept, ...expired].sort());

    const folder = mkdtempSync(join(tmpdir(), 'logpipe-retention-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const config = join(folder, 'logpipe.yml');
    const at = (path: string) => `'${join(folder, path)}'`;
    const write = (schedule: string) =>
      writeFileSync(
        config,
        `source: files
files: { paths: [${at('app.log')}], dataDir: ${at('positions')} }
dlq: { file: ${at('dead-letters.ndjson')} }
elasticsearch: { nodes: ['${url}'], installTemplate: false }
retention: { retentionDays: ${KEPT_DAYS}, alertHistoryDays: 365, replayDays: 1, schedule: '${schedule}' }
monitor: { enabled: false }
alerts: { journalDir: ${at('alerts')} }
http: { port: 0 }
`,
      );
    write('0 3 * * *');
    const command = async (...args: string[]) => {
      const child = spawnLogpipe(['retention', '--config', config, '--json', ...args]);
      const { status } = await child.exit;
      expect(child.stderr()).toBe('');
      return { status, ...(JSON.parse(child.stdout()) as { clocks: Record<string, string>; indices: Row[] }) };
    };

    const dry = await command('--dry-run');
    expect(dry.status).toBe(0);
    expect(
      dry.indices
        .filter(({ decision }) => decision === 'delete')
        .map(({ name }) => name)
        .sort(),
    ).toEqual([...expired].sort());
    const row = (name: string) => dry.indices.find((one) => one.name === name);
    expect(row(day(KEPT_DAYS + 1))).toMatchObject({ documents: 1, ageDays: KEPT_DAYS });
    expect(row(day(12))).toMatchObject({ closed: true, blocks: ['index.blocks.read_only'] });
    expect(row(day(50))).toMatchObject({ form: 'alias', decision: 'keep' });
    // Elasticsearch's own clock is one of those that were asked.
    expect(Math.abs(Date.parse(dry.clocks.elasticsearch!) - Date.now())).toBeLessThan(600_000);
    expect((await names()).filter((one) => mine.test(one)).sort()).toEqual(there);

    // From now on nobody may read the settings of all these indices at once.
    await call('PUT', `/${day(15)}/_settings`, { 'index.blocks.metadata': true });
    if (major === testEsMajors()[0]) {
      // The leader of a running pipeline, every second.
      write('* * * * * *');
      const child = spawnLogpipe(['run', '--config', config, '--exit-with-parent', '--roles', 'counter,alerter']);
      await waitFor(async () => !(await names()).some((name) => expired.includes(name)), {
        what: 'the leader has deleted what is expired',
        timeoutMs: 90_000,
      });
      const { url: http } = JSON.parse(await child.waitForLine(/"message":"running"/)) as { url: string };
      await child.waitForLine(/"message":"retention: nothing more is expired"/);
      const metrics = await (await fetch(`${http}/metrics`)).text();
      expect(metrics).toMatch(/^logpipe_retention_deleted_total\{kind="logs"\} 8$/m);
      expect(metrics).toMatch(/^logpipe_retention_deleted_total\{kind="alert_history"\} 1$/m);
      expect(metrics).toMatch(/^logpipe_retention_last_success_timestamp_seconds 1\.?\d+/m);
      child.kill('SIGTERM');
      expect(await child.exit).toMatchObject({ status: 0 });
    } else {
      const { status, indices } = await command();
      expect(indices.filter(({ result }) => result === 'deleted')).toHaveLength(expired.length);
      expect(status).toBe(0);
    }
    expect((await names()).filter((one) => mine.test(one)).sort()).toEqual([...kept].sort());
    // The block of an index that stays was not touched.
    const settings = await call<object>('GET', `/${day(1)}/_settings?flat_settings=true`);
    expect(settings).toMatchObject({ [day(1)]: { settings: { 'index.blocks.read_only': 'true' } } });
  });
});
