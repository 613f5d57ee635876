// One server JVM: started with its output in a file, waited for until ready, ended for certain.
// Bound to this process it dies when this process does, however that happens; one that is detached outlives it, once it is released.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { sleep } from '../src/core/clock.ts';
import { errorText, LogpipeError } from '../src/core/errors.ts';
import type { Jdk } from './java.ts';
import type { Progress } from './libs.ts';
import { endProcess } from './pids.ts';

export interface ServerOptions {
  /** Kept after `stop()` when given; else a temporary folder that `stop()` removes. */
  dataDir?: string;
  /** The given `dataDir` is thrown away like a temporary one; for restarts on the same data in tests. */
  disposable?: boolean;
  /** Port on 127.0.0.1; a free one when not given. */
  port?: number;
  /** JVM heap limit, for example `512m`. */
  heap?: string;
  /** Survives this process once `release()` was called; from then on whoever knows its `pid` ends it. Needs `dataDir`. */
  detached?: boolean;
  /** Ends the fetching of jars. Whoever aborts ends the process itself. */
  signal?: AbortSignal;
  /** Time from start to ready, milliseconds; default 120,000 (a loaded machine takes many times the usual 10 s). */
  readyTimeoutMs?: number;
  /** For a server that soon ends again: it compiles half as much, and takes in less when there is much to do. */
  shortLived?: boolean;
  /** Where the classes that were loaded are written when the server ends in order: see quick-start.ts. */
  recordClassesTo?: string;
  onProgress?: Progress;
  /** Called once the process exists, long before it is ready: a detached one must be known before anything can fail. */
  onSpawn?: (process: { pid: number; port: number; version: string; logFile: string }) => void;
}

export interface LocalServer {
  version: string;
  port: number;
  pid: number;
  logFile: string;
  dataDir: string;
  /** Ends the server, waits until it is gone and removes its data unless `dataDir` is to be kept. Repeatable. */
  stop(): Promise<void>;
  /** Sends a signal without waiting: SIGSTOP, SIGCONT, SIGKILL. */
  signal(signal: NodeJS.Signals): void;
  /** Of a detached one: from now on it survives this process. */
  release(): Promise<void>;
  /** Resolves when the process has ended, for whatever reason. */
  ended: Promise<void>;
}

export interface JvmSpec {
  /** For messages: "Kafka 4.1.1". */
  name: string;
  version: string;
  jdk: Jdk;
  /** The jar of our own small program (`launcherJar`), first on the class path. */
  launcher: string;
  classPath: readonly string[];
  jvmFlags: readonly string[];
  main: string;
  args: readonly string[];
  port: number;
  folder: ServerFolder;
  /** True once the server does its work; called again and again until then, may throw. */
  ready(): Promise<boolean>;
}

export interface ServerFolder {
  path: string;
  temporary: boolean;
}

/** The folder of one server: the caller's own, or a new temporary one. */
export function serverFolder(kind: string, options: ServerOptions): ServerFolder {
  if (options.dataDir) {
    mkdirSync(join(options.dataDir, 'tmp'), { recursive: true });
    return { path: options.dataDir, temporary: options.disposable === true };
  }
  if (options.detached) throw new LogpipeError('LOGPIPE_STACK_FAILED', `A detached ${kind} needs a dataDir.`);
  const path = mkdtempSync(join(tmpdir(), `logpipe-${kind}-`));
  mkdirSync(join(path, 'tmp'));
  return { path, temporary: true };
}

/** Starts the JVM and resolves when it is ready; LOGPIPE_STACK_FAILED with the end of its log when it is not. */
export async function startJvm(spec: JvmSpec, options: ServerOptions): Promise<LocalServer> {
  const { folder } = spec;
  const logFile = join(folder.path, 'server.log');
  const child = spawnJvm(spec, logFile, options.detached === true, options);
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  // The guard, not the event loop, ties the server to this process: a finished program must be able to exit.
  child.unref();
  child.stdin?.on('error', () => undefined);
  (child.stdin as { unref?: () => void } | null)?.unref?.();
  if (child.pid !== undefined) options.onSpawn?.({ pid: child.pid, port: spec.port, version: spec.version, logFile });
  let stopping: Promise<void> | undefined;
  const end = async () => {
    child.ref();
    // Temporary data is thrown away, so there is nothing to write down in order first.
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      await endProcess(child.pid, { graceMs: folder.temporary ? 0 : 10_000, ended });
    }
    if (folder.temporary) rmSync(folder.path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  };
  const stop = () => {
    stopping ??= end();
    return stopping;
  };
  const failure = await untilReady(spec, child, options.readyTimeoutMs ?? 120_000);
  if (failure !== undefined) {
    const log = logTail(logFile);
    await stop();
    throw new LogpipeError('LOGPIPE_STACK_FAILED', `${spec.name} ${failure} The end of its log (${logFile}):\n${log}`);
  }
  return {
    version: spec.version,
    port: spec.port,
    pid: child.pid!,
    logFile,
    dataDir: folder.path,
    stop,
    signal: (signal) => {
      child.kill(signal);
    },
    release: () =>
      new Promise((resolve) => {
        // Called also when the process has gone meanwhile.
        child.stdin!.end('.', () => resolve());
      }),
    ended,
  };
}

/** The last lines of a server's log, for error messages. */
export function logTail(logFile: string, lines = 20): string {
  if (!existsSync(logFile) || statSync(logFile).size === 0) return '(empty)';
  return readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
}

/** The recorded classes of what this launcher starts, if they were recorded: a server with them starts in half the time. */
export function classArchive(launcher: string, jdk: Jdk): string {
  return `${launcher}.${jdk.version}.jsa`;
}

/** `inStack`: its folder is one of several of a stack, which is removed when nothing is left in it. */
function spawnJvm(spec: JvmSpec, logFile: string, inStack: boolean, options: ServerOptions): ChildProcess {
  const { folder } = spec;
  const archive = classArchive(spec.launcher, spec.jdk);
  const flags = [
    '-XX:+UseSerialGC',
    // Nothing outside the server's own folder: no perf data, no unpacked native libraries, no crash reports.
    '-XX:-UsePerfData',
    ...(options.shortLived ? ['-XX:TieredStopAtLevel=1'] : []),
    ...(options.recordClassesTo ? [`-XX:ArchiveClassesAtExit=${options.recordClassesTo}`] : []),
    ...(!options.recordClassesTo && existsSync(archive) ? [`-XX:SharedArchiveFile=${archive}`] : []),
    `-Djava.io.tmpdir=${join(folder.path, 'tmp')}`,
    `-XX:ErrorFile=${join(folder.path, 'crash.log')}`,
    '-Dlogpipe.guard=true',
    ...(folder.temporary ? [`-Dlogpipe.removeOnOrphan=${folder.path}`] : []),
    ...(folder.temporary && inStack ? ['-Dlogpipe.removeStack=true'] : []),
    ...spec.jvmFlags,
  ];
  const log = openSync(logFile, 'a');
  try {
    const args = [...flags, '-cp', [spec.launcher, ...spec.classPath].join(delimiter), spec.main, ...spec.args];
    return spawn(join(spec.jdk.home, 'bin', 'java'), args, {
      cwd: folder.path,
      // A session of its own: Ctrl-C in a terminal must reach us alone, so that we can drain before the servers go.
      detached: true,
      stdio: ['pipe', log, log],
    });
  } finally {
    closeSync(log);
  }
}

/** Undefined when ready, else what went wrong. */
async function untilReady(spec: JvmSpec, child: ChildProcess, timeoutMs: number): Promise<string | undefined> {
  const deadline = Date.now() + timeoutMs;
  let spawnError: Error | undefined;
  let last = '';
  child.once('error', (error) => {
    spawnError = error;
  });
  while (Date.now() < deadline) {
    if (spawnError) return `could not be started: ${spawnError.message}.`;
    if (child.exitCode !== null) return `ended with status ${child.exitCode} before it was ready.`;
    if (child.signalCode !== null) return `was ended by ${child.signalCode} before it was ready.`;
    try {
      if (await spec.ready()) return undefined;
    } catch (error) {
      last = ` Last answer: ${errorText(error)}.`;
    }
    await sleep(100);
  }
  return `was not ready after ${timeoutMs} ms on 127.0.0.1:${spec.port}.${last}`;
}
