// A record -> the document it becomes, for commands that show or export records. In: a raw record and its origin. Out: the document
// with the path it took, or why there is none. Guarantee: the pipeline's own stages; whatever the record holds, nothing throws.
import { errorText } from '../core/errors.ts';
import type { Masker } from '../core/mask.ts';
import { MASK } from '../core/mask.ts';
import type { Chunk, DeadLetterReason, RawRecord } from '../core/record.ts';
import { Batch } from '../indexing/batch.ts';
import { createDocumentWriter } from '../indexing/document.ts';
import { readExact, writeJson } from '../parse/json.ts';
import { createParser, type ParseConfig } from '../parse/parse.ts';
import { createTagger } from '../tag/tag.ts';
import { settleStored, storedObject } from './stored-document.ts';

export type RecordDocument =
  | {
      readonly ok: true;
      readonly path: 'fast' | 'slow';
      readonly tags: readonly string[];
      readonly index: string;
      readonly document: Record<string, unknown>;
    }
  | { readonly ok: false; readonly reason: DeadLetterReason; readonly detail: string };

export function createRecordReader(
  config: ParseConfig,
  deps: { readonly masker: Masker; readonly duplicatesRefused?: boolean },
): (record: RawRecord, origin: Chunk['origin']) => RecordDocument {
  const parser = createParser(config, deps);
  const tag = createTagger();
  const documents = createDocumentWriter(parser.time);
  const batch = new Batch(64 * 1024);

  function read(record: RawRecord, origin: Chunk['origin']): RecordDocument {
    const result = parser.parse(record);
    if (!result.ok) return { ok: false, reason: result.reason, detail: result.detail };
    let event = tag(result.event);
    const chunk: Chunk = { origin, records: [record], bytes: 0, done() {} };
    batch.clear();
    try {
      documents.append(batch, event, record, chunk);
    } catch {
      // As the indexer has it: what is nested deeper than can be serialised leaves its place.
      batch.clear();
      const tags = [...event.tags, '_mapping_degraded'];
      event = { ...event, doc: parser.degrade(event.doc), tags, verbatim: false };
      documents.append(batch, event, record, chunk);
    }
    return {
      ok: true,
      path: event.verbatim ? 'fast' : 'slow',
      tags: event.tags,
      index: batch.action(0).index,
      document: documentOf(batch.document(0).toString()),
    };
  }

  return (record, origin) => {
    try {
      return read(record, origin);
    } catch (error) {
      return { ok: false, reason: 'processing_failed', detail: errorText(error) };
    }
  };
}

/** What will be indexed, number by number: `storedText` writes it again as it stands there. */
function documentOf(text: string): Record<string, unknown> {
  const document = storedObject(text) ?? {};
  settleStored(document);
  return document;
}

/** The beginning of a record's text, masked; null for a tombstone. Masked as a whole first: a cut may hide what a secret is known by. */
export function shownText(value: Buffer | null, masker: Masker, maxCharacters: number): string | null {
  if (value === null) return null;
  const text = value.toString();
  return maskedText(maskedJson(text, masker) ?? text, masker)
    .slice(0, maxCharacters)
    .replace(/[\ud800-\udbff]$/, '');
}

/** A text that cannot be masked is masked as a whole. */
export function maskedText(text: string, masker: Masker): string {
  try {
    return masker.text(text);
  } catch {
    return MASK;
  }
}

/** By its keys, which a text does not show when they are escaped. Undefined for what is no JSON object, or has nothing to mask. */
function maskedJson(text: string, masker: Masker): string | undefined {
  try {
    const value = readExact(text);
    const masked = masker.value(value);
    return masked === value ? undefined : writeJson(masked);
  } catch {
    return undefined;
  }
}
