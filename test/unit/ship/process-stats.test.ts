// process.stats and system.stats: the catalogue's fields, readings absent where they cannot be had.
import { expect, test } from 'vitest';
import { EVENTS, FIELDS } from '../../../src/core/catalogue.ts';
import {
  createSystemStats,
  establishedConnections,
  networkTotals,
  startProcessStats,
} from '../../../src/ship/process-stats.ts';

const DEV = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9000 10 0 0 0 0 0 0 9000 10 0 0 0 0 0 0
  eth0:1000 5 0 0 0 0 0 0 300 4 0 0 0 0 0 0
  eth1: 500 5 0 0 0 0 0 0 200 4 0 0 0 0 0 0
`;
const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:2382 0100007F:8001 01 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0100007F:8001 0100007F:2382 06 00000000:00000000 00:00000000 00000000     0        0 3
`;

test('both events come with exactly the fields of the catalogue', async () => {
  const logged: Record<string, any>[] = [];
  let stop = () => {};
  await new Promise<void>((resolve) => {
    // On a busy machine the first intervals may pass before the event loop's lag was measured once.
    const info = (_message: string, meta: Record<string, unknown>) => {
      logged.push(meta);
      const complete = logged.at(-2)?.process?.eventLoopLagMs !== undefined;
      if (logged.length >= 4 && meta.event === 'system.stats' && complete) resolve();
    };
    stop = startProcessStats({ logger: { info }, intervalMs: 60 });
    // The interval alone keeps nothing alive.
    setTimeout(resolve, 20_000);
  });
  stop();
  const [process, system] = logged.slice(-2) as [Record<string, any>, Record<string, any>];
  expect([process.event, system.event]).toEqual(['process.stats', 'system.stats']);
  expect(Object.keys(process.process).sort()).toEqual(Object.keys(FIELDS.process).sort());
  for (const key of Object.keys(system.system)) expect(Object.keys(FIELDS.system)).toContain(key);
  for (const name of ['process.stats', 'system.stats'] as const) {
    const event = name === 'process.stats' ? process : system;
    for (const path of EVENTS[name].required) {
      const value = path.split('.').reduce<any>((at, key) => at?.[key], event);
      expect(value, path).toEqual(expect.any(Number));
    }
  }
  expect(process.process.heapLimitBytes).toBeGreaterThan(process.process.heapUsedBytes);
});

test('network rates from two readings without the loopback, connections in state established', async () => {
  let nowMs = 0;
  let dev = DEV;
  const readProc = async (path: string) => {
    if (path === '/proc/net/dev') return dev;
    if (path === '/proc/net/tcp') return TCP;
    throw new Error('ENOENT');
  };
  const stats = createSystemStats('/', { readProc, nowMs: () => nowMs });
  expect(await stats.read()).not.toHaveProperty('networkRxBytesPerSec');
  nowMs = 2_000;
  dev = DEV.replace('eth0:1000', 'eth0:5000');
  expect(await stats.read()).toMatchObject({
    networkRxBytesPerSec: 2_000,
    networkTxBytesPerSec: 0,
    activeConnections: 1,
  });
  expect(networkTotals(DEV)).toEqual({ rx: 1_500, tx: 500 });
  expect(establishedConnections(TCP)).toBe(1);
});

test('without /proc the readings are absent, not 0', async () => {
  const stats = createSystemStats('/no/such/folder', {
    readProc: () => Promise.reject(new Error('ENOENT')),
    nowMs: () => 0,
  });
  await stats.read();
  const fields = await stats.read();
  expect(Object.keys(fields).filter((key) => key !== 'cpuPercent')).toEqual(['memoryPercent']);
});
