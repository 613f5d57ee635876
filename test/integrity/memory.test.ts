// Memory stays bounded whatever the backlog: the peak resident size of the process, as the kernel saw it.
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createLedger } from '../kit/ledger.ts';

const FULL = process.env.LOGPIPE_INTEGRITY === 'full';
const BACKLOG = FULL ? 1_000_000 : 150_000;
const LIMIT_MIB = 256;

it(`at most ${LIMIT_MIB} MiB over a backlog of ${BACKLOG} records, default settings`, async () => {
  const ledger = await createLedger();
  for (let i = 0; i < BACKLOG; i += 5_000) await ledger.produce(5_000);
  // The shipped limits instead of the quick ones the other tests use.
  const child = ledger.start({ defaults: true });
  await ledger.settled(600_000);
  const peakKib = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]);
  child.kill('SIGTERM');
  expect((await child.exit).status).toBe(0);
  expect(await ledger.documents()).toBe(BACKLOG - Math.floor(BACKLOG / 97));
  expect(peakKib / 1024).toBeLessThanOrEqual(LIMIT_MIB);
});
