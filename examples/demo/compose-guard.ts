// Waits until its standard input closes, which it does with the process that started it, and then runs docker with the
// arguments it was given: containers do not end with whoever started them.
import { spawn } from 'node:child_process';

process.stdin.resume();
process.stdin.once('close', () => {
  spawn('docker', process.argv.slice(2), { stdio: 'ignore' }).once('error', () => undefined);
});
