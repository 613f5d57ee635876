import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ShipRecord } from '../../../src/ship/log-record.ts';
import { createSpool, openLeftSpool, type SpoolDeps, type SpoolOptions } from '../../../src/ship/spool.ts';

let root: string;
let folder: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'logpipe-spool-'));
  folder = join(root, 'brokers', 'owner');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function record(id: number, text = `line of ${id}`, key: string | null = null): ShipRecord {
  const line = JSON.stringify({ eventId: `e${id}`, text });
  return { line, eventId: `e${id}`, key, bytes: Buffer.byteLength(line) };
}

function watched() {
  const told = { dropped: [] as [number, string][], troubles: [] as unknown[], recovered: 0 };
  const deps: SpoolDeps = {
    onDropped: (records, why) => told.dropped.push([records, why]),
    onTrouble: (error) => told.troubles.push(error),
    onRecovered: () => told.recovered++,
    retryMs: 5,
  };
  return { told, deps };
}

const plain = (deps: SpoolDeps, more: Partial<SpoolOptions> = {}) =>
  createSpool({ folder, maxBytes: 1e9, segmentBytes: 8e6, ...more }, deps);
const ids = (records: readonly ShipRecord[]) => records.map(({ eventId }) => Number(eventId.slice(1)));

describe('a spool', () => {
  test('keeps records and hands them out in order, once', async () => {
    const { told, deps } = watched();
    const spool = plain(deps);
    for (let i = 0; i < 100; i++) spool.append(record(i));
    expect(spool.records).toBe(100);
    const first = await spool.next(60, 1e9);
    expect(ids(first)).toEqual(Array.from({ length: 60 }, (_, i) => i));
    expect(first[5]).toMatchObject(record(5));
    await spool.written();
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder, '00000001.log')).mode & 0o777).toBe(0o600);
    await spool.attempting(
      3,
      first.map(({ place }) => place),
    );
    spool.done(first.slice(0, 50).map(({ place }) => place));
    expect(await spool.close()).toBe(50);

    const left = await openLeftSpool(folder, deps);
    expect([left.records, left.available, left.damaged]).toEqual([50, 50, 0]);
    const again = await left.next(100, 1e9);
    expect(ids(again)).toEqual(Array.from({ length: 50 }, (_, i) => i + 50));
    expect(again.map(({ partition }) => partition)).toEqual([...Array(10).fill(3), ...Array(40).fill(undefined)]);
    left.done(again.map(({ place }) => place));
    expect(await left.close()).toBe(0);
    expect(readdirSync(join(folder, '..'))).toEqual([]);
    expect(told).toEqual({ dropped: [], troubles: [], recovered: 0 });
  });

  test('saves at once what is not written yet, when nothing was ever written', () => {
    const { deps } = watched();
    const spool = plain(deps);
    spool.append(record(0));
    expect(spool.saveSync([{ record: record(1), partition: 7 }, { record: record(2) }])).toBe(3);
    expect(readFileSync(join(folder, '00000001.log'), 'utf8').split('\n')).toHaveLength(5);
  });
});
