// Which of the configuration files is meant, and what stands in it: one that was named, else the working folder's, else the
// shipped one.
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { errorText, LogpipeError } from './errors.ts';
import { packageRoot } from './package-root.ts';

/**
 * @param name of the file below config/
 * @throws LogpipeError LOGPIPE_CONFIG_UNREADABLE
 */
export function readConfigFile(
  name: string,
  named: string | undefined,
): { readonly file: string; readonly text: string } {
  const local = resolve('config', name);
  const file = named ?? (existsSync(local) ? local : join(packageRoot(), 'config', name));
  try {
    return { file, text: readFileSync(file, 'utf8') };
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_UNREADABLE',
      `${file} cannot be read (${errorText(error)}); name a readable YAML file`,
      error,
    );
  }
}
