// Processes known by number only: a number is reused by the system, so it counts only together with its start time.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { sleep } from '../src/core/clock.ts';

/**
 * When the process started, as text to compare and nothing else; undefined when there is no such process.
 * A process that has ended but was not yet waited for (a zombie) counts as gone.
 */
export function processStart(pid: number): string | undefined {
  if (process.platform === 'linux') {
    try {
      // The name in parentheses may hold anything, so fields are counted from its end: state is 3rd, start time 22nd.
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      // A zombie with more than one task left is a process whose other threads, and so its ports, still live.
      const ended = fields[0] === 'X' || (fields[0] === 'Z' && readdirSync(`/proc/${pid}/task`).length <= 1);
      return ended ? undefined : fields[19];
    } catch {
      return undefined;
    }
  }
  try {
    return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim() || undefined;
  } catch {
    return undefined;
  }
}

/**
 * SIGTERM, then SIGKILL after `graceMs` (0: at once), then waits until it is gone.
 * Without `ended` the process is polled for; with `start` only a process with that start time is touched.
 */
export async function endProcess(
  pid: number,
  options: { graceMs: number; start?: string; ended?: Promise<void> },
): Promise<void> {
  const start = options.start ?? processStart(pid);
  const alive = () => start !== undefined && processStart(pid) === start;
  const gone = async (ms: number) => {
    const deadline = Date.now() + ms;
    while (alive() && Date.now() < deadline) await sleep(20);
    return !alive();
  };
  const send = (signal: NodeJS.Signals) => {
    try {
      if (alive()) process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  };
  if (options.graceMs > 0) {
    send('SIGTERM');
    // A stopped process takes no other signal.
    send('SIGCONT');
    if (await gone(options.graceMs)) return options.ended;
  }
  send('SIGKILL');
  await gone(10_000);
  await options.ended;
}
