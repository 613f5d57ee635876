// When the health monitor runs: at once, then as the cron expression says; never twice at a time, never after its stop.
import { expect, it, onTestFinished, vi } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import { LogpipeError } from '../../../src/core/errors.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import {
  createHealthMonitor,
  createLook,
  createProbes,
  type HealthMonitorDeps,
  type ProbeReading,
} from '../../../src/monitor/health-monitor.ts';

const lag = (value: number): ProbeReading => ({ measure: 'kafka.lag', labels: {}, value });

function createDeps(readings: () => Promise<readonly ProbeReading[]>) {
  const recorded: [number, number][] = [];
  const lines: string[] = [];
  const note = (message: string, meta?: object) => void lines.push(`${message} ${JSON.stringify(meta)}`);
  const deps: HealthMonitorDeps = {
    probes: [{ name: 'kafka', run: readings, close: async () => {} }],
    record: ({ value }, atMs) => void recorded.push([value, atMs]),
    summary: () => ({ calls: 7 }),
    mask: (text) => text,
    log: { error: note, warn: note, info: note, debug: note },
    clock: { now: () => 1_000, monotonicMs: () => 1_000, after: () => () => {} },
  };
  return { deps, recorded, lines };
}

it('looks at once and then on schedule, until it is stopped', async () => {
  let runs = 0;
  let third = () => {};
  const ran = new Promise<void>((resolve) => {
    third = resolve;
  });
  const { deps, recorded, lines } = createDeps(async () => {
    runs += 1;
    if (runs === 3) third();
    return [lag(runs)];
  });
  const monitor = createHealthMonitor({ schedule: '* * * * * *', timeoutMs: 5_000 }, deps);
  onTestFinished(() => monitor.stop());
  monitor.start();
  await ran;
  await monitor.stop();
  expect(recorded.slice(0, 2)).toEqual([
    [1, 1_000],
    [2, 1_000],
  ]);
  expect(lines[0]).toBe('health check {"calls":7,"kafka.lag":1}');
});

it('a run under way is joined, not repeated', async () => {
  let release = () => {};
  let runs = 0;
  const { deps } = createDeps(() => {
    runs += 1;
    return new Promise((resolve) => {
      release = () => resolve([lag(5)]);
    });
  });
  const monitor = createHealthMonitor({ schedule: '*/5 * * * *', timeoutMs: 5_000 }, deps);
  const both = Promise.all([monitor.run(), monitor.run()]);
  release();
  expect(await both).toEqual([[lag(5)], [lag(5)]]);
  expect(runs).toBe(1);
  await monitor.stop();
});

it('refuses what is no cron expression', () => {
  const { deps } = createDeps(async () => []);
  const make = () => createHealthMonitor({ schedule: 'every day', timeoutMs: 1 }, deps);
  expect(make).toThrow(LogpipeError);
  expect(make).toThrow(/monitor\.schedule: found "every day"/);
});

it('goes on when the wall clock is set back, once it is told; node-cron alone would wait for the time to come again', async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  let runs = 0;
  const { deps } = createDeps(async () => {
    runs += 1;
    return [];
  });
  const monitor = createHealthMonitor({ schedule: '*/5 * * * * *', timeoutMs: 5_000 }, deps);
  onTestFinished(() => monitor.stop());
  monitor.start();
  await vi.advanceTimersByTimeAsync(20_000);
  expect(runs).toBeGreaterThanOrEqual(4);
  vi.setSystemTime(Date.now() - 3_600_000);
  await vi.advanceTimersByTimeAsync(6_000);
  const before = runs;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(runs).toBe(before);
  monitor.reschedule();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(runs).toBeGreaterThanOrEqual(before + 11);
  await monitor.stop();
  monitor.reschedule();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(runs).toBeLessThanOrEqual(before + 13);
});

it('a look that is due while the process has no processor comes late; it is not left out', async () => {
  vi.useFakeTimers({ now: Date.parse('2026-11-25T10:00:30Z') });
  onTestFinished(() => void vi.useRealTimers());
  let runs = 0;
  const { deps } = createDeps(async () => {
    runs += 1;
    return [];
  });
  const monitor = createHealthMonitor({ schedule: '*/5 * * * *', timeoutMs: 5_000 }, deps);
  onTestFinished(() => monitor.stop());
  monitor.start();
  expect(runs).toBe(1);
  // Stopped for twelve minutes: three looks were due, one is made.
  vi.setSystemTime(Date.now() + 12 * 60_000);
  await vi.advanceTimersByTimeAsync(5 * 60_000);
  expect(runs).toBe(2);
  await vi.advanceTimersByTimeAsync(5 * 60_000);
  expect(runs).toBe(3);
});

it('of new letters, what is no news is counted once, however far the reading goes and however much there is', () => {
  const letter = (offset: number, headers: Record<string, Buffer>, bytes = 10) => ({
    ...{ offset: String(offset), headers, value: Buffer.alloc(bytes) },
  });
  const again = { redriven: Buffer.from('1') };
  const receipt = { kind: Buffer.from('receipt') };
  const ranges = new Map([
    [0, { from: 10, to: 14 }],
    [1, { from: 0, to: 2 }],
  ]);
  const look = createLook(ranges);
  for (const [offset, headers] of [again, {}, receipt, {}, again, receipt].entries()) {
    // The last two were written after the ends were asked for.
    expect(look.take(letter(10 + offset, headers), 0)).toBe(true);
  }
  expect(look.take(letter(1, again), 1)).toBe(true);
  expect(look.noNews()).toBe(3);

  // 40,000 letters of 1 KiB, of which every fourth is news: the look ends after 16 MiB, and the rest is taken to be like them.
  const large = createLook(new Map([[0, { from: 0, to: 40_000 }]]));
  let offset = 0;
  while (large.take(letter(offset, offset % 4 === 0 ? {} : again, 1_024), 0)) offset += 1;
  expect(offset).toBe(16 * 1_024 - 1);
  expect(large.noNews()).toBe(30_000);
});

it('takes what the configuration drops for no loss', async () => {
  const metrics = createMetrics();
  const config = parseConfig('source: stdin\nsinks: { elasticsearch: false }', {}, 'test.yml');
  const drops = createProbes(config, { log: silentLog, metrics }).find(({ name }) => name === 'drops')!;
  metrics.dropped.inc({ reason: 'configured' }, 500);
  metrics.dropped.inc({ reason: 'file_gone' }, 2);
  expect(await drops.run(AbortSignal.timeout(1_000))).toEqual([
    { measure: 'logpipe.dropped', labels: { reason: 'file_gone (this process)' }, value: 2 },
  ]);
});
