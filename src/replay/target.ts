// The contract of where a replay writes. In: batches of the indexer. Out: written documents.
import type { DocumentWriter } from '../indexing/document.ts';
import type { Sink } from '../indexing/sinks.ts';
import type { TimeParser } from '../parse/time.ts';

export type TargetKind = 'in-place' | 'index' | 'topic' | 'dir' | 'console';

export type TargetOptions =
  | { readonly kind: 'in-place'; readonly reparse: boolean }
  | { readonly kind: 'index'; readonly name: string }
  | { readonly kind: 'topic'; readonly topic: string }
  | { readonly kind: 'dir'; readonly dir: string }
  | { readonly kind: 'console'; readonly format: 'pretty' | 'ndjson' };

export interface Target {
  documents(time: TimeParser): DocumentWriter;
  /** True when the target keeps what is written twice: positions then count only between whole batches. */
  readonly stepwise: boolean;
  /** Makes the place ready; `saved`: takes up the work where the last checkpoint says it was. */
  prepare(saved: Readonly<Record<string, number>> | undefined): Promise<void>;
  readonly sink: Sink;
  /** True for a record the target has already though its position was not saved. */
  has?(key: string): boolean;
  /** Forces what is written to disk, and says what `prepare` needs to know. */
  checkpoint(): Promise<Record<string, number>>;
  /** Of a dry run: documents and bytes by index. */
  indices?(): Readonly<Record<string, { readonly documents: number; readonly bytes: number }>>;
  /** What is counted beside new documents and those already there. */
  counts(): Readonly<Record<string, number>>;
}
