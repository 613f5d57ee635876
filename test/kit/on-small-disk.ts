// `on-small-disk.js <folder> <size> <script> <argument>`: runs a compiled program that alone sees a file system of this size (1m, 64k)
// mounted at the folder. Its standard streams, signals and exit status are the program's.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../../src/core/package-root.ts';

const [, , folder, size, script, argument] = process.argv as string[];
const program = [process.execPath, join(packageRoot(), 'dist', script!), argument!];
const mount = `mount -t tmpfs -o size=${size} tmpfs "$0" && exec "$@"`;
const child = spawn('unshare', ['--user', '--map-root-user', '--mount', 'sh', '-c', mount, folder!, ...program], {
  stdio: 'inherit',
});
child.on('error', (error) => {
  process.stderr.write(`unshare (util-linux) is needed: ${error.message}\n`);
  process.exit(1);
});
child.on('exit', (status, signal) => process.exit(status ?? (signal === null ? 1 : 128)));
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => child.kill(signal));
