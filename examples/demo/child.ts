// A program of this project as a child: clean environment, output by line, ends when this process does.
// Its standard input is a pipe that closes with this process, also on SIGKILL; the child watches it.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface Child {
  name: string;
  pid: number;
  /** Resolves when it has ended; never rejects. */
  exit: Promise<ChildExit>;
  /** Undefined while it runs. */
  exited(): ChildExit | undefined;
  /** The last lines of its standard error, for messages. */
  lastWords(): string;
  /** SIGTERM, and SIGKILL when it has not ended after `graceMs`. */
  end(graceMs: number): Promise<ChildExit>;
}

export interface ChildExit {
  status: number | null;
  signal: NodeJS.Signals | null;
}

export interface ChildOptions {
  name: string;
  /** Path below the compiled tree, for example `src/main.js`. */
  script: string;
  args: readonly string[];
  cwd: string;
  onStdout?: (line: string) => void;
  onStderr?: (line: string) => void;
}

/** What a program needs to run at all; addresses and secrets of the person at the keyboard are not among it. */
const PASSED_ON = ['PATH', 'HOME', 'TMPDIR', 'TEMP', 'LANG', 'TZ', 'SystemRoot'];
const KEPT_LINES = 12;

export function cleanEnvironment(also: readonly string[] = []): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const name of [...PASSED_ON, ...also]) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}

export function startChild(options: ChildOptions): Child {
  const script = fileURLToPath(new URL(`../../${options.script}`, import.meta.url));
  const child = spawn(process.execPath, ['--enable-source-maps', script, ...options.args], {
    cwd: options.cwd,
    env: cleanEnvironment(),
    stdio: ['pipe', 'pipe', 'pipe'],
    // A session of its own: Ctrl-C must reach the demo alone, which then ends everything in order.
    detached: true,
  });
  child.stdin.on('error', () => undefined);
  const last: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => options.onStdout?.(line));
  createInterface({ input: child.stderr }).on('line', (line) => {
    last.push(line);
    if (last.length > KEPT_LINES) last.shift();
    options.onStderr?.(line);
  });
  let ended: ChildExit | undefined;
  const exit = new Promise<ChildExit>((resolve) => {
    const finish = (status: number | null, signal: NodeJS.Signals | null) => {
      ended ??= { status, signal };
      resolve(ended);
    };
    child.once('close', finish);
    child.once('error', (error) => {
      last.push(error.message);
      finish(null, null);
    });
  });
  // The pipe is the children's business on SIGKILL; on an ordinary exit in a hurry they need not wait for it.
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  void exit.then(() => process.off('exit', killAtExit));

  return {
    name: options.name,
    pid: child.pid ?? -1,
    exit,
    exited: () => ended,
    lastWords: () => last.join('\n'),
    async end(graceMs) {
      if (!ended) child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
      const result = await exit;
      clearTimeout(timer);
      return result;
    },
  };
}
