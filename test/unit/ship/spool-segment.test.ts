// The files of a spool, byte by byte: whatever is cut off or changed costs the records it was in, and no others.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ShipRecord } from '../../../src/ship/log-record.ts';
import { createSpool, openLeftSpool, type SpooledRecord } from '../../../src/ship/spool.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'logpipe-spool-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const quiet = { onDropped() {}, onTrouble: (error: unknown) => expect.unreachable(String(error)), onRecovered() {} };

function record(line: string, key: string | null = null, eventId = `e${line.length}`): ShipRecord {
  return { line, eventId, key, bytes: Buffer.byteLength(line) };
}

const HARD: readonly ShipRecord[] = [
  record('{"a":1}'),
  record('', ''),
  record('two\nlines\r\nand a \ttab', '\t-\n"key"'),
  record('\r'),
  record('\u2028 and \u0000 and é and 🙂', 'schlüssel'),
  record('-', '-', '-'),
  record('the id', null, '"\tid\n'),
  record('x'.repeat(1_000), 'k'),
];

/** A folder as a process leaves it that ends after writing these. */
async function leave(records: readonly ShipRecord[], notes = false): Promise<{ log: Buffer; notes: Buffer }> {
  const folder = join(root, 'written');
  const spool = createSpool({ folder, maxBytes: 1e9, segmentBytes: 1e9 }, quiet);
  for (const [i, one] of records.entries()) spool.append(one, i === 1 ? { partition: 5 } : {});
  if (notes) {
    const got = await spool.next(4, 1e9);
    await spool.attempting(
      2,
      got.slice(2).map(({ place }) => place),
    );
    spool.done(got.slice(0, 2).map(({ place }) => place));
  }
  await spool.close();
  const file = (name: string) => readFileSync(join(folder, name));
  return { log: file('00000001.log'), notes: notes ? file('00000001.notes') : Buffer.alloc(0) };
}

let copies = 0;

async function read(
  log: Buffer,
  notes?: Buffer,
): Promise<{ records: SpooledRecord[]; damaged: number; again: number }> {
  const folder = join(root, `copy-${copies++}`);
  mkdirSync(folder);
  writeFileSync(join(folder, '00000001.log'), log);
  if (notes !== undefined) writeFileSync(join(folder, '00000001.notes'), notes);
  const spool = await openLeftSpool(folder, quiet);
  const records = await spool.next(1e9, 1e9);
  expect(records).toHaveLength(spool.records);
  const { damaged } = spool;
  // What is noted now counts for whoever opens it next, whatever was damaged.
  spool.done(records.slice(0, 1).map(({ place }) => place));
  await spool.close();
  const again = readdirSync(root).includes(`copy-${copies - 1}`) ? await openLeftSpool(folder, quiet) : undefined;
  const left = again?.records ?? 0;
  await again?.close();
  rmSync(folder, { recursive: true, force: true });
  return { records, damaged, again: left };
}

const plain = ({ line, eventId, key, bytes }: ShipRecord) => ({ line, eventId, key, bytes });

describe('the log', () => {
  test('gives back every record as it was', async () => {
    const { log } = await leave(HARD);
    const { records, damaged } = await read(log);
    expect(records.map(plain)).toEqual(HARD);
    expect(records.map(({ partition }) => partition)).toEqual(HARD.map((_, i) => (i === 1 ? 5 : undefined)));
    expect(damaged).toBe(0);
  });

  test('a surrogate without its other half gives the bytes that Kafka would have got', async () => {
    const odd = record('half \ud800 of it', 'half \ud800');
    const { records } = await read((await leave([odd])).log);
    expect(Buffer.from(records[0]!.line)).toEqual(Buffer.from(odd.line));
    expect(Buffer.from(records[0]!.key!)).toEqual(Buffer.from(odd.key!));
    expect(records[0]!.bytes).toBe(odd.bytes);
  });

  test('cut off at every byte: what was whole is there, what was not is not damage', async () => {
    const { log } = await leave(HARD.slice(0, 4));
    for (let end = 0; end <= log.length; end++) {
      const whole = Math.max(log.subarray(0, end).toString('latin1').split('\n').length - 2, 0);
      const { records, damaged, again } = await read(log.subarray(0, end));
      expect(records.map(plain), `${end} bytes`).toEqual(HARD.slice(0, whole));
      expect(damaged).toBe(0);
      expect(again).toBe(Math.max(whole - 1, 0));
    }
  });

  test('a bit changed in every byte costs what it was in, and is counted', async () => {
    const given = HARD.slice(0, 4);
    const { log } = await leave(given);
    const text = log.toString('latin1');
    for (let at = text.indexOf('\n') + 1; at < log.length; at++) {
      const changed = Buffer.from(log);
      changed[at]! ^= 1 << (at % 8);
      const hit = text.slice(0, at).split('\n').length - 2;
      // A newline that is none any more makes two lines one.
      const cost = log[at] === 0x0a ? [hit, hit + 1] : [hit];
      const { records, damaged } = await read(changed);
      expect(records.map(plain), `byte ${at}`).toEqual(given.filter((_, i) => !cost.includes(i)));
      // Behind the last whole record it is not known how many there were; a cut-off one is no damage.
      const isLast = cost.includes(given.length - 1);
      if (!isLast) expect(damaged, `byte ${at}`).toBe(cost.length);
      else expect(damaged).toBeLessThanOrEqual(2);
    }
  });

  test('a damaged first line costs no record', async () => {
    const { log } = await leave(HARD);
    for (let at = 0; at < log.indexOf(0x0a); at++) {
      const changed = Buffer.from(log);
      changed[at]! ^= 0x04;
      expect((await read(changed)).records.map(plain)).toEqual(HARD);
    }
  });

  test('zeros, as a power cut leaves them, and a line without an end, cost what they cover', async () => {
    const { log } = await leave([...HARD, record('y'.repeat(500))]);
    const from = log.indexOf('x'.repeat(50));
    log.fill(0, from, from + 600);
    const { records, damaged } = await read(log);
    expect(records.map(plain)).toEqual([...HARD.slice(0, -1), record('y'.repeat(500))]);
    expect(damaged).toBe(1);
    const endless = Buffer.concat([log, Buffer.alloc(20 * 1024 * 1024, 'z'), Buffer.from('\n')]);
    expect((await read(endless)).records).toHaveLength(HARD.length);
  });

  test('of a newer version is left alone, and says so', async () => {
    const folder = join(root, 'newer');
    mkdirSync(folder);
    const body = 'logpipe-spool 2 0';
    const { crc32 } = await import('node:zlib');
    writeFileSync(join(folder, '00000001.log'), `${crc32(body).toString(16).padStart(8, '0')}\t${body}\n`);
    await expect(openLeftSpool(folder, quiet)).rejects.toMatchObject({ code: 'LOGPIPE_FORMAT_NEWER' });
    expect(readdirSync(folder)).toEqual(['00000001.log']);
  });
});

describe('the notes', () => {
  test('cut off or changed anywhere: records come again, none is lost', async () => {
    const { log, notes } = await leave(HARD, true);
    const whole = await read(log, notes);
    expect(whole.records.map(plain)).toEqual(HARD.slice(2));
    expect(whole.records.map(({ partition }) => partition)).toEqual([2, 2, ...Array(4).fill(undefined)]);
    for (let at = 0; at < notes.length; at++) {
      const changed = Buffer.from(notes);
      changed[at]! ^= 1 << (at % 8);
      for (const damaged of [notes.subarray(0, at), changed]) {
        const { records, again } = await read(log, damaged);
        expect([HARD.slice(2), HARD]).toContainEqual(records.map(plain));
        // A note that only lacked its newline is whole again when another one follows.
        expect([records.length - 1, HARD.length - 2]).toContain(again);
        for (const { partition, place } of records) {
          if (partition !== undefined) expect(partition).toBe(place.ordinal === 1 ? 5 : 2);
        }
      }
    }
  });
});
