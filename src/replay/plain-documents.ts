// A record as a producer would have sent it: the document without what logpipe adds. In: a tagged event. Out: an item of a
// batch whose document is the record's own bytes, or the masked and conformed document where those could not be used.
import { type DocumentWriter, documentId, INDEX_PREFIX } from '../indexing/document.ts';
import { documentText } from '../parse/json.ts';
import type { TimeParser } from '../parse/time.ts';
import type { TaggedEvent } from '../tag/tag.ts';

export function plainDocuments(time: TimeParser): DocumentWriter {
  const bytes = (event: TaggedEvent, doc: Record<string, unknown>): Buffer => {
    // logpipe's own tags come again wherever the record is read.
    const tags = event.tags.filter((tag) => !tag.startsWith('_') && tag !== 'error');
    const plain = tags.length === 0 ? doc : { ...doc, tags };
    return Buffer.from(documentText(plain));
  };
  return {
    append(batch, event, record, chunk) {
      const action = JSON.stringify({
        create: { _index: `${INDEX_PREFIX}${time.day(event.timeMs)}`, _id: documentId(record, chunk) },
      });
      const rest = event.verbatim ? record.value! : bytes(event, event.doc);
      batch.add({ record, chunk }, action, '{', false, rest, 1);
    },
    rewrite: (event, doc) => bytes(event, doc),
  };
}
