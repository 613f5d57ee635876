// `logpipe parse`: lines in, documents out, with the path each took and its tags. Touches no server.
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Config } from '../config.ts';
import { createMasker } from '../core/mask.ts';
import type { Chunk, RawRecord } from '../core/record.ts';
import { Batch } from '../indexing/batch.ts';
import { createDocumentWriter } from '../indexing/document.ts';
import { createParser } from '../parse/parse.ts';
import { createTagger } from '../tag/tag.ts';
import type { Io } from './io.ts';

/** What one line becomes, as the pipeline would have it. */
export interface ParsedLine {
  readonly path: 'fast' | 'slow' | 'refused';
  readonly tags: readonly string[];
  readonly index?: string;
  readonly document?: Record<string, unknown>;
  readonly reason?: string;
  readonly detail?: string;
}

/** A function from raw records to documents, with the very stages the pipeline uses. */
export function createLineParser(
  config: Pick<Config, 'parse' | 'mask'>,
  options: { duplicatesRefused?: boolean } = {},
) {
  const parser = createParser(config.parse, { masker: createMasker(config.mask), ...options });
  const tag = createTagger();
  const documents = createDocumentWriter(parser.time);
  const batch = new Batch(64 * 1024);

  return (record: RawRecord, origin: Chunk['origin']): ParsedLine => {
    const result = parser.parse(record);
    if (!result.ok) return { path: 'refused', tags: [], reason: result.reason, detail: result.detail };
    const event = tag(result.event);
    batch.clear();
    documents.append(batch, event, record, { origin, records: [record], bytes: 0, done() {} });
    return {
      path: event.verbatim ? 'fast' : 'slow',
      tags: event.tags,
      index: batch.action(0).index,
      document: JSON.parse(batch.document(0).toString()) as Record<string, unknown>,
    };
  };
}

/** Parses files (or stdin for `-` and none) line by line; prints one object or one readable block per line. */
export async function parse(
  files: readonly string[],
  config: Config,
  options: { json: boolean },
  io: Io,
): Promise<number> {
  const parseLine = createLineParser(config);
  let refused = 0;
  for (const file of files.length === 0 ? ['-'] : files) {
    const input = file === '-' ? process.stdin : createReadStream(file);
    const origin = { kind: 'file', path: file, identity: file } as const;
    let offset = 0;
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      const value = Buffer.from(line);
      const result = parseLine({ value, offset, timeMs: Date.now(), eventId: undefined }, origin);
      offset += value.length + 1;
      if (result.path === 'refused') refused += 1;
      if (options.json) io.out(JSON.stringify(result));
      else io.out(readable(result));
    }
  }
  return refused === 0 ? 0 : 1;
}

function readable(result: ParsedLine): string {
  if (result.path === 'refused') return `refused  ${result.reason}: ${result.detail}`;
  const tags = result.tags.length === 0 ? 'no tags' : result.tags.join(' ');
  return `${result.path} path  ${result.index}  ${tags}\n${JSON.stringify(result.document, null, 2)}`;
}
