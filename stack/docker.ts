// Whether a Docker daemon answers. The command line client alone is not enough.
import { execFile } from 'node:child_process';

/** True when `docker info` reports a server within `timeoutMs`; false for a missing client, daemon or permission. */
export function dockerAvailable(timeoutMs = 3000): Promise<boolean> {
  return new Promise((resolve) => {
    const arguments_ = ['info', '--format', '{{.ServerVersion}}'];
    execFile('docker', arguments_, { timeout: timeoutMs, killSignal: 'SIGKILL' }, (error, stdout) => {
      // Some clients exit with 0 and an empty version when the daemon is gone.
      resolve(!error && /\d/.test(stdout));
    });
  });
}
