// A refused record -> dead letter: masked bytes, the id the document would have had, and why.
import type { Masker } from '../core/mask.ts';
import type { Chunk, DeadLetter, DeadLetterReason, RawRecord } from '../core/record.ts';
import { documentId } from './document.ts';

export const dlqSection = {
  type: 'object',
  description: 'Dead letters: records that can never be indexed.',
  additionalProperties: false,
  default: {},
  properties: {
    keepRaw: {
      type: 'boolean',
      default: false,
      description: 'Keep the original bytes, secrets included. Off: dead letters are masked like documents.',
    },
    file: {
      type: 'string',
      minLength: 1,
      default: 'logs/dead-letters.ndjson',
      description: 'Where dead letters go without Kafka (sources `files` and `stdin`).',
    },
  },
} as const;

export interface DlqConfig {
  readonly keepRaw: boolean;
  readonly file: string;
}

const MAX_DETAIL = 1_000;

export function createDeadLetter(config: DlqConfig, masker: Masker) {
  return (record: RawRecord, chunk: Pick<Chunk, 'origin'>, reason: DeadLetterReason, detail: string): DeadLetter => ({
    reason,
    detail: masker.text(detail).slice(0, MAX_DETAIL),
    value: config.keepRaw ? record.value : maskedBytes(record.value, masker),
    origin: chunk.origin,
    offset: record.offset,
    timeMs: record.timeMs,
    id: documentId(record, chunk),
  });
}

/**
 * The same bytes when they hold no secret. Masked as text and then as what it says, so that a key given twice, a broken
 * line and an escaped key keep nothing; a secret's neighbours stay as they were written.
 */
function maskedBytes(value: Buffer | null, masker: Masker): Buffer | null {
  if (value === null) return null;
  const text = value.toString();
  const masked = masker.text(text);
  return masked === text ? value : Buffer.from(masked);
}
