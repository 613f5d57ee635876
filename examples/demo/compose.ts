// Kafka and Elasticsearch by `docker compose`, as a project of their own. A guard process takes them down when this
// process ends, however that happens.
import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { LogpipeError } from '../../src/core/errors.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import { portFree } from '../../stack/index.ts';
import { cleanEnvironment } from './child.ts';
import type { Servers } from './servers.ts';

const SERVICES = ['kafka', 'elasticsearch'];
/** As docker-compose.yml publishes them. */
const PORTS = { kafka: 9092, elasticsearch: 9200 };
const PROJECT = 'logpipe-demo';
const UP_TIMEOUT_MS = 600_000;
/** Where the daemon is; everything else of the environment stays out, for compose files read it. */
const DOCKER_VARIABLES = ['DOCKER_HOST', 'DOCKER_CONFIG', 'DOCKER_CONTEXT', 'XDG_RUNTIME_DIR'];

export async function startWithCompose(say: (line: string) => void): Promise<Servers> {
  await refuseBusyPorts();
  const options = { cwd: packageRoot(), env: cleanEnvironment(DOCKER_VARIABLES) };
  const compose = ['compose', '--project-name', PROJECT, '--file', join(packageRoot(), 'docker-compose.yml')];
  say('Docker answers: starting Kafka and Elasticsearch with compose (missing images are pulled, some 1.5 GB)');
  const guardScript = fileURLToPath(new URL('./compose-guard.js', import.meta.url));
  const down = [...compose, 'down', '--volumes', '--timeout', '5'];
  const guard = spawn(process.execPath, [guardScript, ...down], {
    ...options,
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  guard.stdin.on('error', () => undefined);
  const gone = new Promise<void>((resolve) => guard.once('close', () => resolve()));
  const stop = async () => {
    guard.stdin.end();
    await gone;
  };
  try {
    const up = [...compose, 'up', '--detach', '--wait', ...SERVICES];
    await promisify(execFile)('docker', up, { ...options, timeout: UP_TIMEOUT_MS });
  } catch (error) {
    await stop();
    const words = (error as { stderr?: string }).stderr?.trim().split('\n').slice(-3).join('\n') ?? '';
    const fix = 'Free ports 9092 and 9200, or run with --no-docker.';
    throw new LogpipeError(
      'LOGPIPE_STACK_FAILED',
      `docker compose could not start the servers. ${fix}\n${words}`,
      error,
    );
  }
  const addresses = { kafka: `127.0.0.1:${PORTS.kafka}`, elasticsearch: `http://127.0.0.1:${PORTS.elasticsearch}` };
  say(`Kafka and Elasticsearch are ready on ${addresses.kafka} and ${addresses.elasticsearch}`);
  return { mode: 'docker', description: 'Kafka and Elasticsearch in Docker', addresses, stop };
}

/** Whoever listens there would be written to instead of our containers, even if Docker sees no conflict. */
async function refuseBusyPorts(): Promise<void> {
  for (const [name, port] of Object.entries(PORTS)) {
    if (await portFree(port)) continue;
    const fix = 'End it ("logpipe stack down", "docker compose down"), or run with --no-docker.';
    const message = `Port ${port} of 127.0.0.1, which ${name} in Docker needs, is in use by another program. ${fix}`;
    throw new LogpipeError('LOGPIPE_STACK_FAILED', message);
  }
}
