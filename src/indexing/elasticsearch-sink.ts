// The bulk writer as a sink: connects it to the parser (for degraded documents) and to the dead letters.

import type { Client } from '@elastic/elasticsearch';
import type { ParsedEvent, Parser } from '../parse/parse.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import type { BatchItem } from './batch.ts';
import type { BulkWriter } from './bulk-writer.ts';
import type { DocumentWriter } from './document.ts';
import type { Sink } from './sinks.ts';

export function createElasticsearchSink(client: Client, writer: BulkWriter): Sink {
  return {
    name: 'elasticsearch',
    write: (batch, signal) => writer.write(batch, signal),
    trouble: () => writer.trouble(),
    close: () => client.close(),
  };
}

/**
 * What is sent after the server refused a document: the catalogue's fields in place, everything else in `extra`.
 * Parsed again from the record's bytes, because refusals are rare and parsed documents are not kept.
 */
export function createDegrade(deps: {
  parser: Parser;
  tag: (event: ParsedEvent) => TaggedEvent;
  documents: DocumentWriter;
}): (item: BatchItem) => Buffer | undefined {
  return ({ record, chunk }) => {
    try {
      const result = deps.parser.reparse(record);
      if (!result.ok) return undefined;
      const event = deps.tag(result.event);
      return deps.documents.rewrite(event, deps.parser.degrade(event.doc), record, chunk);
    } catch {
      return undefined;
    }
  };
}
