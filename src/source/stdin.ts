// Standard input as a source: one record per line, until it ends. Nothing is remembered between runs: whoever pipes
// data in decides what is sent again.
import { randomUUID } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { ChunkOrigin, Deliver, RawRecord, Source } from '../core/record.ts';
import { createLineSplitter } from './lines.ts';
import { settleable } from './settleable.ts';

/** `ended` resolves at the end of input; it rejects with LOGPIPE_SOURCE_FAILED when reading fails. */
export function createStdinSource(
  options: { input: NodeJS.ReadableStream; maxLineBytes: number },
  deps: { log: Log; clock: Clock },
): Source {
  const { input, maxLineBytes } = options;
  const { log, clock } = deps;
  // A run of its own: the third line of one run is not the third line of the next.
  const origin: ChunkOrigin = { kind: 'file', path: 'stdin', identity: randomUUID() };
  const splitter = createLineSplitter({
    offset: 0,
    maxLineBytes,
    onCut: (bytes) => log.warn('a line was cut', { path: 'stdin', bytes, keptBytes: maxLineBytes }),
  });
  const ended = settleable();
  let detail = 'not started';
  let reading = false;

  const run = async (deliver: Deliver) => {
    const take = async (records: RawRecord[]) => {
      if (records.length === 0) return;
      let bytes = 0;
      for (const { value } of records) bytes += value?.length ?? 0;
      await deliver({ origin, records, bytes, done() {} });
    };
    for await (const piece of input) {
      if (!reading) return;
      await take(splitter.push(Buffer.isBuffer(piece) ? piece : Buffer.from(piece), clock.now()));
    }
    if (reading) await take(splitter.flush(clock.now()));
    detail = 'standard input has ended';
    reading = false;
    ended.resolve();
  };

  const letGo = () => {
    reading = false;
    // Ends the loop, and the process with it: an open pipe would keep both alive.
    if ('destroy' in input && typeof input.destroy === 'function') input.destroy();
  };

  return {
    ended: ended.promise,
    async start(deliver) {
      reading = true;
      detail = 'reading standard input';
      run(deliver).catch((error: unknown) => {
        if (!reading) return;
        reading = false;
        detail = errorText(error);
        ended.reject(
          new LogpipeError('LOGPIPE_SOURCE_FAILED', `standard input cannot be read: ${errorText(error)}`, error),
        );
      });
    },
    async stop() {
      letGo();
      detail = 'stopped';
    },
    async close() {
      letGo();
    },
    status: () => ({ ready: reading, detail }),
  };
}
