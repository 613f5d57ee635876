// What a process has cost so far, read from /proc (Linux): the same ruler for Node and for rsyslog.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { LogpipeError } from '../src/core/errors.ts';

export interface ProcessCost {
  /** User and system time of all threads since the process began, microseconds; the kernel counts in 10 ms steps. */
  readonly cpuMicros: number;
  /** Peak resident memory so far (VmHWM), megabytes. */
  readonly peakMb: number;
}

export type CostReader = (pid: number) => ProcessCost;

/** @throws LogpipeError LOGPIPE_USAGE on a system without /proc */
export function createCostReader(): CostReader {
  if (!existsSync('/proc/self/stat')) {
    throw new LogpipeError('LOGPIPE_USAGE', `bench: ${process.platform} has no /proc to read costs from; use Linux`);
  }
  const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  return (pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold blanks, so fields are counted from its end: utime is the 14th, stime the 15th.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const ticks = Number(fields[11]) + Number(fields[12]);
    const peakKb = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return { cpuMicros: (ticks / ticksPerSecond) * 1e6, peakMb: Number(peakKb) / 1024 };
  };
}
