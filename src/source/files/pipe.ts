// A named pipe among the files. In: what its writers write, one after the other. Out: chunks of lines. What was read cannot be
// read again, so nothing is remembered between runs. Guarantee: a pipe without a writer holds up nobody.
import { randomUUID } from 'node:crypto';
import { constants, open } from 'node:fs';
import { Socket } from 'node:net';
import { promisify } from 'node:util';
import type { Clock } from '../../core/clock.ts';
import type { Log } from '../../core/log.ts';
import type { Chunk, RawRecord } from '../../core/record.ts';
import { createLineSplitter } from '../lines.ts';

export interface PipeReader {
  /** Time to see whether a writer has come. */
  look(): void;
  /** What has arrived; undefined when that is nothing. Rejects when the pipe cannot be opened. */
  next(): Promise<Chunk | undefined>;
  /** A writer was there, and the last one has left. */
  readonly hasEnded: boolean;
  close(): Promise<void>;
}

export function createPipeReader(
  options: { path: string; maxLineBytes: number },
  deps: { wake(): void; log: Log; clock: Clock },
): PipeReader {
  const { path, maxLineBytes } = options;
  const { wake, log, clock } = deps;
  const origin = { kind: 'file', path, identity: randomUUID() } as const;
  const splitter = createLineSplitter({
    offset: 0,
    maxLineBytes,
    onCut: (bytes) => log.warn('a line was cut', { path, bytes, keptBytes: maxLineBytes }),
  });
  let socket: Socket | undefined;
  let piece: Buffer | undefined;
  let hasLeft = false;
  let hasRead = false;
  let mayConnect = true;

  const connect = async () => {
    // Without NONBLOCK opening would wait for a writer, and with it a thread that all file operations share.
    const fd = await promisify(open)(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const mine = new Socket({ fd, readable: true, writable: false });
    socket = mine;
    mine.on('data', (data) => {
      piece = data;
      hasRead = true;
      mine.pause();
      wake();
    });
    const end = () => {
      if (socket !== mine) return;
      socket = undefined;
      hasLeft = hasRead;
      mine.destroy();
      if (!hasRead) return;
      mayConnect = true;
      wake();
    };
    mine.on('end', end);
    mine.on('error', end);
  };

  const toChunk = (records: RawRecord[]): Chunk | undefined => {
    if (records.length === 0) return undefined;
    let bytes = 0;
    for (const { value } of records) bytes += value?.length ?? 0;
    return { origin, records, bytes, done() {} };
  };

  return {
    look() {
      mayConnect = true;
    },
    async next() {
      const data = piece;
      if (data) {
        piece = undefined;
        socket?.resume();
        return toChunk(splitter.push(data, clock.now()));
      }
      if (socket) return undefined;
      const last = hasLeft ? toChunk(splitter.flush(clock.now())) : undefined;
      if (last || !mayConnect) return last;
      mayConnect = false;
      await connect();
      return undefined;
    },
    get hasEnded() {
      return hasLeft && piece === undefined;
    },
    async close() {
      socket?.destroy();
      socket = undefined;
    },
  };
}
