// Nothing lost, nothing twice: the ledger after kills, stops, pauses and changes of the group, on the real servers.
import { expect, it } from 'vitest';
import { createLedger, type Ledger } from '../kit/ledger.ts';
import { waitFor } from '../kit/servers.ts';

const FULL = process.env.LOGPIPE_INTEGRITY === 'full';
const KILLS = FULL ? 20 : 5;

/** A fixed seed, so that a failing run can be repeated: mulberry32. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Produces until `finish`; in short at most 10,000 events further than it was at the last `goOn`, which is load enough for one step. */
function load(ledger: Ledger) {
  let limit = 0;
  const goOn = () => {
    limit = FULL ? Number.POSITIVE_INFINITY : ledger.produced + 10_000;
  };
  goOn();
  return { goOn, finish: ledger.produceContinuously(200, () => limit) };
}

it(`${KILLS} SIGKILLs at random moments under load`, async () => {
  const ledger = await createLedger();
  const random = seeded(20261124);
  let limit = 0;
  const finish = ledger.produceContinuously(200, () => limit);
  for (let kill = 0; kill < KILLS; kill++) {
    const process = ledger.start();
    // Counted in documents instead of milliseconds: the moment is random, but there is always work in the middle of it.
    limit = ledger.produced + 5_000;
    await process.waitForLine(/"message":"running"/);
    limit += 5_000;
    const wanted = ledger.produced + 500 + Math.floor(random() * 3_000);
    await waitFor(() => ledger.produced >= wanted, { what: `${wanted} events produced`, intervalMs: 5 });
    process.kill('SIGKILL');
    await process.exit;
  }
  const last = ledger.start();
  limit = Math.max(20_000, ledger.produced);
  await waitFor(() => ledger.produced >= 20_000, { what: 'enough events' });
  await finish();
  await ledger.settled();
  last.kill('SIGTERM');
  expect(await last.exit).toEqual({ status: 0, signal: null });
  expect(await ledger.verify()).toEqual([]);
});

it('SIGTERM under load: exit status 0, nothing delivered again', async () => {
  const ledger = await createLedger();
  const { goOn, finish } = load(ledger);
  for (let round = 0; round < 3; round++) {
    const process = ledger.start();
    await process.waitForLine(/"message":"running"/);
    goOn();
    const wanted = ledger.produced + 3_000;
    await waitFor(() => ledger.produced >= wanted, { what: 'load' });
    process.kill('SIGTERM');
    expect(await process.exit).toEqual({ status: 0, signal: null });
  }
  await finish();
  const last = ledger.start();
  const url = JSON.parse(await last.waitForLine(/"message":"running"/)).url as string;
  await ledger.settled();
  // Committed to the last record at each stop: the next start met no document that was already there.
  const metrics = await (await fetch(`${url}/metrics`)).text();
  expect(metrics).toMatch(/^logpipe_duplicates_total 0$/m);
  expect(await ledger.verify()).toEqual([]);
});

// In short the counter's test shows it, which has the same intake.
if (FULL) {
  it('a second instance joins and leaves under load', async () => {
    const ledger = await createLedger();
    const finish = ledger.produceContinuously(200);
    const first = ledger.start();
    await first.waitForLine(/"message":"running"/);
    for (let round = 0; round < 3; round++) {
      const second = ledger.start();
      await second.waitForLine(/"message":"running"/);
      const wanted = ledger.produced + 4_000;
      await waitFor(() => ledger.produced >= wanted, { what: 'load on two instances' });
      // Once by leaving the group, then by falling silent.
      second.kill(round === 0 ? 'SIGTERM' : 'SIGKILL');
      await second.exit;
    }
    await finish();
    await ledger.settled();
    expect(await ledger.verify()).toEqual([]);
  });
}

it('SIGSTOP beyond the session timeout, while another takes over, then SIGCONT', async () => {
  const ledger = await createLedger();
  const { goOn, finish } = load(ledger);
  const sleeper = ledger.start();
  await sleeper.waitForLine(/"message":"running"/);
  const other = ledger.start();
  await other.waitForLine(/"message":"running"/);
  goOn();
  const before = ledger.produced + 4_000;
  await waitFor(() => ledger.produced >= before, { what: 'load' });
  sleeper.kill('SIGSTOP');
  const describeGroup = async () => {
    const admin = ledger.kafka.admin();
    await admin.connect();
    try {
      return (await admin.describeGroups([ledger.group])).groups[0]!;
    } finally {
      await admin.disconnect();
    }
  };
  await waitFor(
    async () => {
      const { state, members } = await describeGroup();
      return state === 'Stable' && members.length === 1;
    },
    { what: 'the sleeper is expelled', timeoutMs: 60_000, intervalMs: 200 },
  );
  goOn();
  const wanted = ledger.produced + 4_000;
  await waitFor(() => ledger.produced >= wanted, { what: 'load on the survivor' });
  sleeper.kill('SIGCONT');
  goOn();
  await waitFor(
    async () => {
      const { state, members } = await describeGroup();
      return state === 'Stable' && members.length === 2;
    },
    { what: 'the sleeper is back', timeoutMs: 60_000, intervalMs: 200 },
  );
  await finish();
  await ledger.settled();
  expect(await ledger.verify()).toEqual([]);
});

it('the topic consumed twice from the beginning leaves the same documents', async () => {
  const ledger = await createLedger();
  await ledger.produce(5_000);
  const first = ledger.start();
  await ledger.settled();
  first.kill('SIGTERM');
  await first.exit;
  const count = await ledger.documents();

  const again = ledger.start({ group: `${ledger.group}-again` });
  const url = JSON.parse(await again.waitForLine(/"message":"running"/)).url as string;
  await ledger.settled(60_000, `${ledger.group}-again`);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  expect(metrics).toMatch(new RegExp(`^logpipe_duplicates_total ${count}$`, 'm'));
  expect(await ledger.documents()).toBe(count);
  expect(await ledger.verify()).toEqual([]);
});
