// A server of another project's, as a process of its own. In: its path and arguments. Out: where it answers, once it says that it is ready,
// and how to end it. For tests and benchmarks alike, so nothing here belongs to a test runner.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { basename } from 'node:path';
import { sleep } from '../../src/core/clock.ts';
import { freePorts } from '../../stack/ports.ts';

export interface RunningProgram {
  readonly url: string;
  stop(): Promise<void>;
}

const READY_MS = 20_000;

/** Where Alertmanager listens and keeps what it knows; the rest is in its file. */
export function alertmanagerArgs(file: string, data: string, address: string): string[] {
  return [
    `--config.file=${file}`,
    `--storage.path=${data}`,
    `--web.listen-address=${address}`,
    '--cluster.listen-address=',
    '--log.level=warn',
  ];
}

/** @param argsFor by the address, `127.0.0.1:port` @throws Error with the end of its output when it is not ready in time */
export async function startProgram(
  path: string,
  readyPath: string,
  argsFor: (address: string) => string[],
  wanted?: number,
): Promise<RunningProgram> {
  const port = wanted ?? (await freePorts(1))[0]!;
  const address = `127.0.0.1:${port}`;
  const url = `http://${address}`;
  const child = spawn(path, argsFor(address), { stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  let ended = false;
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-4_000);
  });
  const exited = once(child, 'exit').finally(() => {
    ended = true;
  });
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  const stop = async () => {
    process.off('exit', killAtExit);
    if (!ended) child.kill();
    await exited;
  };
  for (const deadline = performance.now() + READY_MS; ; ) {
    const answer = await fetch(url + readyPath).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer?.ok) return { url, stop };
    if (ended || performance.now() > deadline) {
      await stop();
      throw new Error(`${basename(path)} ${ended ? 'ended' : 'is not ready'}: ${output}`);
    }
    await sleep(50);
  }
}
