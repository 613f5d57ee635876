// A real Redis for one test, on a free port, nothing on disk: the installed redis-server, else a container.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { GenericContainer } from 'testcontainers';
import { inject } from 'vitest';
import { freePorts } from '../../stack/ports.ts';
import { atEnd } from './at-end.ts';
import { findRedisServer } from './redis-server.ts';

const REDIS_IMAGE = 'redis:8.2-alpine';

/** Started and answering; ends with the test. */
export async function startRedis(): Promise<{ url: string; port: number; stop(): Promise<void> }> {
  const [port] = (await freePorts(1)) as [number];
  const url = `redis://127.0.0.1:${port}`;
  const program = findRedisServer();
  if (program === undefined && inject('backend') === 'docker') {
    const container = await new GenericContainer(REDIS_IMAGE).withExposedPorts({ container: 6379, host: port }).start();
    const stop = async () => void (await container.stop());
    atEnd(stop);
    return { url, port, stop };
  }
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
  const child = spawn(program ?? 'redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  const stop = async () => {
    process.off('exit', killAtExit);
    child.kill();
    await exited;
  };
  atEnd(stop);
  let output = '';
  await new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.includes('Ready to accept connections')) resolve();
    });
    void exited.then(() => reject(new Error(`redis-server ended: ${output.slice(-500)}`)));
  });
  return { url, port, stop };
}
