// NDJSON files as a source, plain or gzip. In: paths. Out: their lines as records: log lines as an application wrote them,
// or documents as `--to-dir`, `incident export` and elasticdump write them (with `_id`, with `_source` around the fields, or
// with what only logpipe adds to a record). Guarantee: a line has the same id in every reading; a position is a byte of the
// text, which for gzip is the unpacked text.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { TAGS } from '../../core/catalogue.ts';
import { LogpipeError, reasonInWords } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { type ChunkOrigin, isEventId, type RawRecord } from '../../core/record.ts';
import { createTimeParser } from '../../parse/conform.ts';
import { createLineSplitter } from '../../source/lines.ts';
import { createDocumentReader, settleStored, storedObject } from '../record-document.ts';
import type { PlannedPart, StoredSource } from '../sources.ts';

const HEAD_BYTES = 4_096;
const MAX_LINE_BYTES = 10_000_000;
const MAX_RECORDS = 2_000;
/** Tags that only logpipe gives; `error` may be a producer's own. */
const OWN_TAGS: ReadonlySet<unknown> = new Set(TAGS.filter((tag) => tag.startsWith('_')));

interface Opened {
  readonly path: string;
  readonly gzip: boolean;
  readonly bytes: number;
  readonly modifiedMs: number;
}

/** What a line of a file became. */
interface Line {
  readonly record: RawRecord;
  readonly origin?: ChunkOrigin | undefined;
  readonly document?: Readonly<Record<string, unknown>>;
  readonly hasTime: boolean;
}

interface StoredFilesOptions {
  /** Tags that the present stages can judge anew are left to them. */
  readonly freshTags?: boolean;
  /** Reads all files at the same time instead of one after the other. */
  readonly sideBySide?: boolean;
}

/** @throws LogpipeError LOGPIPE_SOURCE_FAILED for a file that cannot be read */
export function createStoredFiles(paths: readonly string[], options: StoredFilesOptions, log: Log): StoredSource {
  const { freshTags = false, sideBySide = false } = options;
  const time = createTimeParser();
  const ofDocument = createDocumentReader({ freshTags });

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

  function toLine(line: RawRecord, identity: string, { modifiedMs }: Opened): Line {
    const doc = storedObject(line.value!.toString());
    if (doc === undefined) return { record: { ...line, timeMs: modifiedMs }, hasTime: false };
    const { _id: id, _source: inner, _index: _, ...outer } = doc;
    const isHit = typeof inner === 'object' && inner !== null && !Array.isArray(inner);
    const fields = isHit ? (inner as Record<string, unknown>) : outer;
    if (isHit || typeof id === 'string' || isDocument(fields)) {
      const own = typeof id === 'string' ? id : eventIdOf(fields);
      return { ...ofDocument(own ?? `${identity}-${line.offset}`, fields, modifiedMs), document: fields };
    }
    settleStored(doc);
    // A file has no record time, so the event's own is taken: an old file keeps its days.
    const timeMs = time.parse(doc.timestamp ?? doc['@timestamp'] ?? doc.time);
    // The transport writes the same id into the line and the record header.
    const eventId = eventIdOf(doc);
    return {
      record: { value: line.value, offset: line.offset, timeMs: timeMs ?? modifiedMs, eventId, mark: 'replayed' },
      hasTime: timeMs !== undefined,
    };
  }

  return {
    kind: 'file',
    async plan() {
      const parts: PlannedPart[] = [];
      let bytes = 0;
      for (const path of paths) {
        bytes += (await look(path)).bytes;
        parts.push({ part: path, from: 0, to: undefined, records: undefined });
      }
      return { parts, records: undefined, bytes, gaps: [] };
    },

    async feed(from, signal, take, onEnd) {
      /** False when nothing more is wanted. */
      async function feedFile(path: string): Promise<boolean> {
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
            const found = fresh.slice(at, at + MAX_RECORDS).map((line) => toLine(line, identity, file));
            const batch = {
              part: path,
              records: found.map(({ record }) => record),
              origin: (i: number) => found[i]!.origin ?? origin,
              document: (i: number) => found[i]!.document,
              hasTime: (i: number) => found[i]!.hasTime,
              next: fresh[at + MAX_RECORDS]?.offset ?? end,
            };
            if (!(await take(batch)) || signal.aborted) return false;
          }
          return true;
        };
        try {
          for await (const piece of content(file)) {
            if (signal.aborted) return false;
            // A copy, because the stream may reuse its buffer while the lines are being taken.
            if (!(await hand(splitter.push(Buffer.from(piece), 0), splitter.position))) return false;
          }
          if (!(await hand(splitter.flush(0), splitter.position))) return false;
        } catch (error) {
          throw unreadable(path, error);
        }
        onEnd?.(path);
        return true;
      }

      if (sideBySide) await Promise.all(paths.map(feedFile));
      else for (const path of paths) if (!(await feedFile(path))) return;
    },
    missing: () => [],
  };
}

/** Does it hold something that only logpipe adds to a record? */
function isDocument({ '@timestamp': time, kafka, tags }: Readonly<Record<string, unknown>>): boolean {
  return time !== undefined && (kafka !== undefined || (Array.isArray(tags) && tags.some((tag) => OWN_TAGS.has(tag))));
}

function content({ path, gzip }: Opened): Readable {
  const raw = createReadStream(path, { highWaterMark: 256 * 1024 });
  if (!gzip) return raw;
  const text = createGunzip({ chunkSize: 256 * 1024 });
  raw.on('error', (error) => text.destroy(error));
  text.on('close', () => raw.destroy());
  return raw.pipe(text);
}

/** The same for a copy under another name, and for the plain and the compressed file. */
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
    `--source file: ${path} cannot be read (${reasonInWords(error)}); name readable NDJSON files, plain or gzip`,
    error,
  );
}
