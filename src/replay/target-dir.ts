// NDJSON files as a target, one per day: each line a document with its id in front, as `--source file` reads them back.
// Guarantee: after a kill the files are cut back to what the saved positions stand for, so that no line is there twice; they are for
// this user alone.
import { type FileHandle, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Metrics } from '../core/metrics.ts';
import { makePrivateFolder, openPrivate } from '../core/private-files.ts';
import { createDocumentWriter } from '../indexing/document.ts';
import type { Target } from './target.ts';

const ENDING = '.ndjson';

interface OpenFile {
  readonly handle: FileHandle;
  size: number;
}

export function createDirTarget(dir: string, deps: { metrics: Metrics }): Target {
  const files = new Map<string, OpenFile>();

  async function file(name: string): Promise<OpenFile> {
    const present = files.get(name);
    if (present !== undefined) return present;
    makePrivateFolder(dir, { own: false });
    const handle = await openPrivate(join(dir, name), 'ax');
    const opened = { handle, size: 0 };
    files.set(name, opened);
    return opened;
  }

  return {
    documents: (time) => createDocumentWriter(time),
    stepwise: true,
    async prepare(saved) {
      makePrivateFolder(dir, { own: false });
      for (const name of await readdir(dir)) {
        if (!name.endsWith(ENDING) || saved?.[name] !== undefined) continue;
        // Begun after the last checkpoint: the folder held none at the first start.
        if (saved !== undefined) await rm(join(dir, name));
        // Another replay's lines are not to be mixed with these.
        else
          throw new LogpipeError(
            'LOGPIPE_USAGE',
            `--to-dir: ${join(dir, name)} exists already; choose an empty folder`,
          );
      }
      for (const [name, size] of Object.entries(saved ?? {})) {
        const path = join(dir, name);
        const { size: present } = await stat(path).catch(() => ({ size: -1 }));
        if (present < size) {
          throw new LogpipeError(
            'LOGPIPE_USAGE',
            `--to-dir: ${path} has lost what this replay wrote (${present} of ${size} bytes); put it back, or begin under another --name`,
          );
        }
        const handle = await openPrivate(path, 'a');
        await handle.truncate(size);
        files.set(name, { handle, size });
      }
    },
    sink: {
      name: 'files',
      async write(batch) {
        const lines = new Map<string, Buffer[]>();
        for (let i = 0; i < batch.count; i++) {
          const { index, id } = batch.action(i);
          const parts = lines.get(index) ?? [];
          lines.set(index, parts);
          parts.push(Buffer.from(`{"_id":${JSON.stringify(id)},`), batch.document(i).subarray(1), Buffer.from('\n'));
        }
        const touched: { opened: OpenFile; before: number }[] = [];
        try {
          for (const [index, parts] of lines) {
            const opened = await file(`${index}${ENDING}`);
            touched.push({ opened, before: opened.size });
            const bytes = Buffer.concat(parts);
            await opened.handle.appendFile(bytes);
            opened.size += bytes.length;
          }
        } catch (error) {
          // The indexer sends the batch again: nothing of it may stay.
          for (const { opened, before } of touched) {
            opened.size = before;
            await opened.handle.truncate(before).catch(() => {});
          }
          throw failed(dir, error);
        }
        deps.metrics.indexed.inc({ sink: 'ndjson' }, batch.count);
      },
      async close() {
        for (const { handle } of files.values()) await handle.close();
      },
    },
    async checkpoint() {
      const sizes: Record<string, number> = {};
      for (const [name, { handle, size }] of files) {
        sizes[name] = size;
        await handle.sync();
      }
      return sizes;
    },
    counts: () => ({ files: files.size }),
  };
}

function failed(dir: string, error: unknown): LogpipeError {
  return new LogpipeError('LOGPIPE_SINK_FAILED', `--to-dir: ${dir}: ${errorText(error)}; free the disk`, error);
}
