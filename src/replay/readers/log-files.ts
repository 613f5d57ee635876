// NDJSON files as a source, plain or gzip. In: paths. Out: their lines as records: log lines as an application wrote them,
// or documents as `--to-dir` and elasticdump write them (with `_id`, and with `_source` around the fields).
// Guarantee: a line has the same id in every reading; a position is a byte of the text, of what gunzip gives for gzip.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { errorText, LogpipeError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { type ChunkOrigin, isEventId, type RawRecord } from '../../core/record.ts';
import { createTimeParser } from '../../parse/time.ts';
import { createLineSplitter } from '../../source/lines.ts';
import { fromDocument, settleStored, storedObject } from '../record-document.ts';
import { type PlannedLane, type ReplaySource, readable } from '../sources.ts';

const HEAD_BYTES = 4_096;
const MAX_LINE_BYTES = 10_000_000;
const MAX_RECORDS = 2_000;

interface Opened {
  readonly path: string;
  readonly gzip: boolean;
  readonly bytes: number;
  readonly modifiedMs: number;
}

/** @throws LogpipeError LOGPIPE_SOURCE_FAILED for a file that cannot be read */
export function createFileReplaySource(
  paths: readonly string[],
  options: { freshTags?: boolean },
  log: Log,
): ReplaySource {
  const { freshTags = false } = options;
  const time = createTimeParser();

  async function look(path: string): Promise<Opened> {
    try {
      const file = await open(path, 'r');
      try {
        const head = Buffer.alloc(2);
        await file.read(head, 0, 2, 0);
        const { size, mtimeMs } = await stat(path);
        return { path, gzip: head[0] === 0x1f && head[1] === 0x8b, bytes: size, modifiedMs: Math.floor(mtimeMs) };
      } finally {
        await file.close();
      }
    } catch (error) {
      throw unreadable(path, error);
    }
  }

  function toRecord(line: RawRecord, identity: string, file: Opened): { record: RawRecord; origin?: ChunkOrigin } {
    const fallbackMs = file.modifiedMs;
    const doc = storedObject(line.value!.toString());
    if (doc === undefined) return { record: { ...line, timeMs: fallbackMs } };
    const { _id: id, _source: inner, _index: _, ...outer } = doc;
    const isHit = typeof inner === 'object' && inner !== null && !Array.isArray(inner);
    const fields = isHit ? (inner as Record<string, unknown>) : outer;
    if (isHit || typeof id === 'string' || (fields['@timestamp'] !== undefined && fields.kafka !== undefined)) {
      const own = typeof id === 'string' ? id : eventIdOf(fields);
      const stored = fromDocument(own ?? `${identity}-${line.offset}`, fields, { freshTags, fallbackMs });
      return stored.origin === undefined ? { record: stored.record } : { record: stored.record, origin: stored.origin };
    }
    settleStored(doc);
    // A file tells no record time: the event's own is taken, so that an old file keeps its days.
    const timeMs = time.parse(doc.timestamp ?? doc['@timestamp'] ?? doc.time) ?? fallbackMs;
    // The transport writes the same id into line and record header.
    const eventId = eventIdOf(doc);
    return { record: { value: line.value, offset: line.offset, timeMs, eventId, mark: 'replayed' } };
  }

  return readable({
    kind: 'file',
    async plan() {
      const lanes: PlannedLane[] = [];
      let bytes = 0;
      for (const path of paths) {
        bytes += (await look(path)).bytes;
        lanes.push({ lane: path, from: 0, to: undefined, records: undefined });
      }
      return { lanes, records: undefined, bytes, gaps: [] };
    },

    async feed(from, signal, take) {
      for (const path of paths) {
        const file = await look(path);
        const start = Number(from.get(path) ?? 0);
        const identity = await identityOf(file);
        const origin: ChunkOrigin = { kind: 'file', path, identity };
        const splitter = createLineSplitter({
          offset: 0,
          maxLineBytes: MAX_LINE_BYTES,
          onCut: (bytes) => log.warn('a line was cut', { path, bytes, keptBytes: MAX_LINE_BYTES }),
        });
        const hand = async (lines: RawRecord[], end: number): Promise<boolean> => {
          const fresh = lines.filter(({ offset }) => offset >= start);
          for (let at = 0; at < fresh.length; at += MAX_RECORDS) {
            const found = fresh.slice(at, at + MAX_RECORDS).map((line) => toRecord(line, identity, file));
            const batch = {
              lane: path,
              records: found.map(({ record }) => record),
              origin: (i: number) => found[i]!.origin ?? origin,
              next: fresh[at + MAX_RECORDS]?.offset ?? end,
            };
            if (!(await take(batch)) || signal.aborted) return false;
          }
          return true;
        };
        try {
          for await (const piece of content(file)) {
            if (signal.aborted) return;
            // A copy: the stream may use its buffer again while the lines are on their way.
            if (!(await hand(splitter.push(Buffer.from(piece), 0), splitter.position))) return;
          }
          if (!(await hand(splitter.flush(0), splitter.position))) return;
        } catch (error) {
          throw unreadable(path, error);
        }
      }
    },
    missing: () => [],
  });
}

function content({ path, gzip }: Opened): Readable {
  const raw = createReadStream(path, { highWaterMark: 256 * 1024 });
  if (!gzip) return raw;
  const text = createGunzip({ chunkSize: 256 * 1024 });
  raw.on('error', (error) => text.destroy(error));
  text.on('close', () => raw.destroy());
  return raw.pipe(text);
}

/** The same for a copy under another name, and for the file before and after gzip. */
async function identityOf(file: Opened): Promise<string> {
  const head: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const piece of content(file)) {
      head.push(piece as Buffer);
      bytes += (piece as Buffer).length;
      if (bytes >= HEAD_BYTES) break;
    }
  } catch (error) {
    throw unreadable(file.path, error);
  }
  const text = Buffer.concat(head).subarray(0, HEAD_BYTES);
  return `file-${createHash('sha256').update(text).digest('hex').slice(0, 20)}`;
}

function eventIdOf(doc: Readonly<Record<string, unknown>>): string | undefined {
  return typeof doc.eventId === 'string' && isEventId(doc.eventId) ? doc.eventId : undefined;
}

function unreadable(path: string, error: unknown): LogpipeError {
  if (error instanceof LogpipeError) return error;
  return new LogpipeError(
    'LOGPIPE_SOURCE_FAILED',
    `--source file: ${path} cannot be read (${errorText(error)}); name readable NDJSON files, plain or gzip`,
    error,
  );
}
