// The README's way from an empty folder to a first alert: its application and its commands, taken from the page itself, on a Kafka of
// their own. Only installing the package and starting servers are done otherwise.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { packageRoot } from '../../src/core/package-root.ts';
import { type LogpipeProcess, startProcess } from '../kit/process.ts';
import { spawnLogpipe, startKafka, testEsUrl, waitFor } from '../kit/servers.ts';

const README = readFileSync(join(packageRoot(), 'README.md'), 'utf8');
const SECTION = README.slice(README.indexOf('## From an empty folder'), README.indexOf('## Use it'));

function block(language: string): string {
  const found = new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``).exec(SECTION)?.[1];
  if (found === undefined) throw new Error(`the section has no block of ${language}`);
  return found;
}

test('a first alert of an application of one’s own', async () => {
  const kafka = await startKafka();
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-first-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(packageRoot(), join(folder, 'node_modules', 'logpipe'));
  writeFileSync(join(folder, 'package.json'), '{ "name": "my-app", "version": "1.0.0" }');
  writeFileSync(join(folder, 'app.mjs'), block('js'));

  const commands = block('sh')
    .split('\n')
    .flatMap((line) => line.replace(/ +#.*/, '').split('&&'))
    .flatMap((command) => /^ *npx logpipe ([a-z]+) *&? *$/.exec(command)?.[1] ?? []);
  expect(commands).toEqual(['init', 'setup', 'run']);
  const env = {
    KAFKA_BROKERS: kafka.brokers.join(),
    ELASTICSEARCH_URL: testEsUrl(),
    // Other tests of this machine run at the same time.
    LOGPIPE_HTTP_PORT: '0',
  };
  let running: LogpipeProcess | undefined;
  for (const command of commands) {
    const child = spawnLogpipe([command], { cwd: folder, env });
    if (command === 'run') running = child;
    else expect(await child.exit, child.stderr()).toEqual({ status: 0, signal: null });
  }
  await waitFor(() => running!.stderr().includes('running'), { what: 'logpipe runs', timeoutMs: 60_000 });
  expect(SECTION).toContain('node app.mjs');
  const app = startProcess(join(folder, 'app.mjs'), [], { cwd: folder, env });
  expect(await app.exit, app.stderr()).toEqual({ status: 0, signal: null });
  await waitFor(() => running!.stdout().includes('Many Errors'), { what: 'the alert is printed', timeoutMs: 60_000 });
  running!.kill('SIGTERM');
  expect(await running!.exit, running!.stderr()).toEqual({ status: 0, signal: null });
});
