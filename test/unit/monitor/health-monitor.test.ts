// When the health monitor runs: at once, then as the cron expression says; never twice at a time, never after its stop.
import { expect, it, onTestFinished, vi } from 'vitest';
import { LogpipeError } from '../../../src/core/errors.ts';
import { createHealthMonitor, type HealthMonitorDeps, type ProbeReading } from '../../../src/monitor/health-monitor.ts';

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
