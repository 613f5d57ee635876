// How full a disk spool is. In: its folder. Out: used share of the permitted size, 0 to 1 (and above, should it overflow).
import { readdir, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Probe } from './reading.ts';

export const SPOOL_MEASURE = 'logpipe.spool_used';

export function createSpoolProbe(options: { dir: string; maxBytes: number }): Probe {
  return {
    name: 'spool',
    async run(signal) {
      let bytes = 0;
      for (const entry of await readdir(options.dir, { withFileTypes: true, recursive: true })) {
        signal.throwIfAborted();
        if (!entry.isFile()) continue;
        // Delivered segments are removed at any time.
        const size = await stat(join(entry.parentPath, entry.name)).then(
          (found) => found.size,
          () => 0,
        );
        bytes += size;
      }
      return [{ measure: SPOOL_MEASURE, labels: { host: hostname() }, value: bytes / options.maxBytes }];
    },
    async close() {},
  };
}
