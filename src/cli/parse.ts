// `logpipe parse`: lines in, documents out, with the path each took and its tags. Touches no server. Guarantee: every line gets an
// answer, whatever it holds; nothing secret is printed, nothing in a line works on the terminal.
import { createReadStream } from 'node:fs';
import type { Config } from '../config.ts';
import { LogpipeError, reasonInWords } from '../core/errors.ts';
import type { Chunk, RawRecord } from '../core/record.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker, type Masker } from '../core/secrets/mask.ts';
import { createRecordReader, shownText } from '../replay/record-document.ts';
import { createLineSplitter } from '../source/lines.ts';
import { type Io, jsonBlock, jsonLine, shown } from './io.ts';

/** What one line becomes, as the pipeline would have it. */
export interface ParsedLine {
  readonly path: 'fast' | 'slow' | 'refused';
  readonly tags: readonly string[];
  readonly index?: string;
  readonly document?: Record<string, unknown>;
  readonly reason?: string;
  readonly detail?: string;
}

/** Characters of a refused line that are shown. */
const SHOWN = 2_000;
const ROW = 160;

/** A function from raw records to documents, with the very stages the pipeline uses. Never throws. */
export function createLineParser(
  config: Pick<Config, 'parse' | 'mask'>,
  options: { duplicatesRefused?: boolean } = {},
): (record: RawRecord, origin: Chunk['origin']) => ParsedLine {
  const read = createRecordReader(config.parse, { masker: createMasker(config.mask), ...options });
  return (record, origin) => {
    const result = read(record, origin);
    if (!result.ok) return { path: 'refused', tags: [], reason: result.reason, detail: result.detail };
    const { path, tags, index, document } = result;
    return { path, tags, index, document };
  };
}

/**
 * Parses files (or stdin for `-` and none) line by line; prints one object or one readable block per line. Exit status 1 when a line
 * was refused. @throws LogpipeError LOGPIPE_SOURCE_FAILED for a file that cannot be read
 */
export async function parse(
  files: readonly string[],
  config: Pick<Config, 'parse' | 'mask'>,
  options: { json: boolean },
  io: Io,
): Promise<number> {
  const parseLine = createLineParser(config);
  const masker = createMasker(config.mask);
  let refused = 0;
  for (const file of files.length === 0 ? ['-'] : files) {
    const origin = { kind: 'file', path: file, identity: file } as const;
    for await (const record of linesOf(file, io)) {
      const result = parseLine(record, origin);
      if (result.path === 'refused') refused += 1;
      const text = result.path === 'refused' ? { value: shownText(record.value, masker, SHOWN) } : {};
      const line: Shown = { ...result, ...text };
      io.out(options.json ? jsonLine(line, masker) : readable(shown(line, masker) as Shown, masker));
    }
  }
  return refused === 0 ? 0 : 1;
}

type Shown = ParsedLine & { readonly value?: string | null };

/** Only a line feed ends a line, as in the pipeline: a record may hold any other separator. */
async function* linesOf(file: string, io: Io): AsyncGenerator<RawRecord> {
  const input: AsyncIterable<Buffer> = file === '-' ? process.stdin : createReadStream(file);
  const lines = createLineSplitter({
    offset: 0,
    maxLineBytes: MAX_LINE_BYTES,
    onCut: (bytes) => io.err(`${visible(file)}: a line of ${bytes} bytes was cut to ${MAX_LINE_BYTES}`),
  });
  try {
    for await (const piece of input) yield* lines.push(Buffer.from(piece), Date.now());
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_SOURCE_FAILED',
      `${file || '""'} cannot be read (${reasonInWords(error)}); name a readable file`,
      error,
    );
  }
  yield* lines.flush(Date.now());
}

/** Longer than any record the parser takes. */
const MAX_LINE_BYTES = 64_000_000;

function readable(result: Shown, masker: Masker): string {
  if (result.path === 'refused') {
    const text = result.value ? `  ${oneLine(result.value, ROW)}` : '';
    return `refused  ${result.reason}: ${visible(result.detail ?? '')}${text}`;
  }
  const tags = result.tags.length === 0 ? 'no tags' : result.tags.map(visible).join(' ');
  return `${result.path} path  ${result.index}  ${tags}\n${jsonBlock(result.document, masker)}`;
}
