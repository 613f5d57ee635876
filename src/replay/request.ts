// What a replay is asked to do, and what it tells at the end.
import type { BulkConfig } from '../indexing/bulk-writer.ts';
import type { ElasticsearchConfig } from '../indexing/elasticsearch.ts';
import type { DlqConfig } from '../indexing/refused.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { KafkaConfig } from '../source/kafka-client.ts';
import type { Tally } from './progress.ts';
import type { SourcePlan } from './sources.ts';
import type { ReplayRequest } from './state.ts';
import type { TargetOptions } from './target.ts';
import type { TimeRange } from './time-range.ts';
import type { Matches } from './where.ts';

/** The sections of the configuration that a replay uses. */
export interface ReplayConfig {
  /** Of the live pipeline; without Kafka there is no lag to look at. */
  readonly source: 'kafka' | 'files' | 'stdin';
  readonly kafka: KafkaConfig;
  readonly parse: ParseConfig;
  readonly mask: { readonly keys: readonly string[]; readonly patterns: readonly string[] };
  readonly elasticsearch: ElasticsearchConfig;
  readonly bulk: BulkConfig;
  readonly dlq: DlqConfig;
}

export interface ReplayOptions {
  /** Of the state file; undefined when nothing is remembered. */
  readonly name: string | undefined;
  /** What has to be the same when it goes on. */
  readonly request: ReplayRequest;
  readonly range: TimeRange | undefined;
  readonly matches: Matches | undefined;
  readonly target: TargetOptions;
  readonly limit: number | undefined;
  /** Events per event: 10 is ten times as fast as they happened. */
  readonly speed: number;
  /** Events per second. */
  readonly throttle: number | undefined;
  /** Refused documents also go to the dead letters' topic. */
  readonly deadLetters: boolean;
  /** Reads, selects and counts, and writes nothing. */
  readonly dryRun: boolean;
}

export interface Refusal {
  readonly reason: string;
  readonly detail: string;
  readonly id: string;
  readonly origin: string;
}

export interface ReplaySummary {
  /** False when it was ended early: with a name it goes on from there. */
  readonly complete: boolean;
  readonly gaps: readonly string[];
  readonly tally: Tally;
  /** new, present, refused, degraded, and what the target counts (moved, files). */
  readonly written: Readonly<Record<string, number>>;
  readonly plan: SourcePlan;
  /** Of a dry run: documents and bytes by index. */
  readonly indices: Readonly<Record<string, { readonly documents: number; readonly bytes: number }>>;
  readonly refusals: { readonly byReason: Readonly<Record<string, number>>; readonly examples: readonly Refusal[] };
  readonly seconds: number;
  readonly live: { readonly maxLiveLag: number; readonly heldMs: number } | undefined;
}
