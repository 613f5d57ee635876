// A compiled program of this project as a child process: its output by line, its end as a promise.
import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { NODE_FLAGS, packageRoot } from '../../src/core/package-root.ts';

export interface SpawnOptions {
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** A command that becomes the program: it gets the program's command line behind its own words. */
  through?: readonly [string, ...string[]];
}

export interface LogpipeProcess {
  pid: number;
  stdin: Writable;
  /** All output so far. */
  stdout(): string;
  stderr(): string;
  /** The first line of either output that matches, also one printed before the call; fails when the program ends. */
  waitForLine(pattern: RegExp, timeoutMs?: number): Promise<string>;
  kill(signal?: NodeJS.Signals): void;
  /** Never rejects. */
  exit: Promise<{ status: number | null; signal: NodeJS.Signals | null }>;
}

/** What a program needs to run at all. Settings of the person who runs the tests must not reach it. */
const PASSED_ON = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'TZ', 'JAVA_HOME', 'SystemRoot'];

/** Starts dist/`script`, or the file at an absolute path; LOGPIPE_TEST_DIST names another folder than dist/. */
export function startProcess(script: string, args: string[], options: SpawnOptions = {}): LogpipeProcess {
  const dist = process.env.LOGPIPE_TEST_DIST ?? join(packageRoot(), 'dist');
  const inherited = PASSED_ON.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value]];
  });
  const words = [process.execPath, ...(script === 'src/main.js' ? NODE_FLAGS : []), resolve(dist, script), ...args];
  const [command = process.execPath, ...rest] = [...(options.through ?? []), ...words];
  const child = spawn(command, rest, {
    cwd: options.cwd ?? packageRoot(),
    env: { ...Object.fromEntries(inherited), ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  const watchers = new Set<() => void>();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
      for (const look of watchers) look();
    });
  }
  child.stdin.on('error', () => undefined);
  // Nothing may outlive the worker; a normal end has killed it already.
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  let ended = false;
  const exit: LogpipeProcess['exit'] = new Promise((resolve) => {
    const finish = (status: number | null, signal: NodeJS.Signals | null) => {
      ended = true;
      process.off('exit', killAtExit);
      resolve({ status, signal });
      for (const look of watchers) look();
    };
    child.once('close', finish);
    child.once('error', (error) => {
      output.stderr += error.message;
      finish(null, null);
    });
  });
  const tail = () => `${output.stdout.slice(-2000)}\n${output.stderr.slice(-2000)}`.trim();
  return {
    pid: child.pid ?? -1,
    stdin: child.stdin,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    kill: (signal = 'SIGTERM') => {
      child.kill(signal);
    },
    exit,
    waitForLine: (pattern, timeoutMs = 60_000) =>
      new Promise((resolve, reject) => {
        const done = () => {
          clearTimeout(timer);
          watchers.delete(look);
        };
        const fail = (why: string) => {
          done();
          reject(new Error(`${script} ${args.join(' ')}: ${why} a line matching ${pattern}. Output:\n${tail()}`));
        };
        const look = () => {
          for (const text of [output.stdout, output.stderr]) {
            // The last piece has no line end yet: unless the program has ended, more of it may come.
            const lines = ended ? text.split('\n') : text.split('\n').slice(0, -1);
            const line = lines.find((candidate) => candidate.search(pattern) >= 0);
            if (line === undefined) continue;
            done();
            return resolve(line);
          }
          if (ended) fail('ended without');
        };
        const timer = setTimeout(() => fail(`did not print within ${timeoutMs} ms`), timeoutMs);
        watchers.add(look);
        look();
      }),
  };
}
