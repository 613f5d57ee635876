// A command that is done ends the process, whatever a library has left open. Real processes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { packageRoot } from '../../src/core/package-root.ts';

const MODULE = pathToFileURL(join(packageRoot(), 'dist', 'src', 'cli', 'io.js')).href;

async function statusOf(program: string): Promise<{ status: number | null; ms: number }> {
  const text = `import { endDespiteLeftovers } from ${JSON.stringify(MODULE)};\n${program}`;
  const startedMs = performance.now();
  const child = spawn(process.execPath, ['--input-type=module', '-e', text], { stdio: 'ignore' });
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, ms: performance.now() - startedMs };
}

it('an open server does not keep the process, and its exit status is kept', async () => {
  const { status } = await statusOf(
    "import { createServer } from 'node:net';\ncreateServer().listen(0, '127.0.0.1');\nprocess.exitCode = 3;\nendDespiteLeftovers(100);",
  );
  expect(status).toBe(3);
});

it('a process with nothing open does not wait for the grace period', async () => {
  const { status, ms } = await statusOf('process.exitCode = 1;\nendDespiteLeftovers(600_000);');
  expect(status).toBe(1);
  expect(ms).toBeLessThan(60_000);
});

it('a command that fails says so once: nothing of each attempt of a library, and readable where it is asked for', async () => {
  const main = join(packageRoot(), 'dist', 'src', 'main.js');
  // Port 1 of this machine refuses at once.
  const env = { ...process.env, KAFKA_BROKERS: '127.0.0.1:1', ELASTICSEARCH_URL: 'http://127.0.0.1:1' };
  const child = spawn(process.execPath, [main, 'setup'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stdout.on('data', (piece: Buffer) => {
    said += piece.toString();
  });
  child.stderr.on('data', (piece: Buffer) => {
    said += piece.toString();
  });
  const [status] = (await once(child, 'close')) as [number | null];
  expect(status).toBe(1);
  expect(said).toMatch(/^logpipe: [^\n]*127\.0\.0\.1:1[^\n]*\[LOGPIPE_\w+\]\n$/);
});
