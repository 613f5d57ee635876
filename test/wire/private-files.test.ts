// What the embedded mode writes is for its user alone, with the loosest umask there is; a process of its own, for the umask is one's.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { packageRoot } from '../../src/core/package-root.ts';

const MAIN = join(packageRoot(), 'dist', 'src', 'main.js');

/** Runs it in `folder` with umask 0. */
async function logpipe(folder: string, ...args: string[]): Promise<void> {
  const child = spawn('sh', ['-c', 'umask 0; exec "$0" "$@"', process.execPath, MAIN, ...args], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (piece) => {
    said += piece;
  });
  const [status] = await once(child, 'close');
  expect({ status, said }).toMatchObject({ status: 0 });
}

/** Everything below, with its mode. */
function modes(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => `${(statSync(path).mode & 0o777).toString(8)} ${relative(folder, path)}`)
    .sort();
}

test('journals, positions, locks, documents, dead letters and replays are 0600 in folders 0700', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-private-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const line = { timestamp: new Date().toISOString(), level: 'error', message: 'boom' };
  const tooLong = { ...line, message: 'x'.repeat(2_000) };
  writeFileSync(join(folder, 'app.log'), `${JSON.stringify(line)}\n${JSON.stringify(tooLong)}\n`);
  // Left by an earlier version.
  mkdirSync(join(folder, 'state', 'alerts'), { recursive: true });
  writeFileSync(join(folder, 'state', 'alerts', 'alerts.journal'), '');
  for (const name of ['state/alerts', 'state']) chmodSync(join(folder, name), 0o755);
  chmodSync(join(folder, 'state', 'alerts', 'alerts.journal'), 0o644);
  writeFileSync(
    join(folder, 'logpipe.yml'),
    `source: files
files: { paths: [app.log], dataDir: data/files, follow: false }
sinks: { elasticsearch: false, ndjson: { enabled: true, dir: indexed } }
dlq: { file: letters/dead.ndjson }
parse: { maxRecordBytes: 1000 }
alerts: { journalDir: state/alerts }
monitor: { enabled: false }
http: { enabled: false }
`,
  );

  await logpipe(folder, 'run', '--config', 'logpipe.yml');
  await logpipe(
    folder,
    'replay',
    '--config',
    'logpipe.yml',
    '--source',
    'file',
    '--to-dir',
    'out',
    '--name',
    'once',
    'app.log',
  );

  const found = modes(folder).filter((entry) => !/ (?:app\.log|logpipe\.yml|state)$/.test(entry));
  for (const name of ['alerts.journal', 'positions.ndjson', 'once.json', 'letters/dead.ndjson', 'indexed', 'out']) {
    expect(
      found.some((entry) => entry.endsWith(name)),
      `${name} was written`,
    ).toBe(true);
  }
  expect(found.filter((entry) => !/^[67]00 /.test(entry))).toEqual([]);
});
