// What a replay is asked to do, where it writes, and how far it has come. In: a request, then batches as they are begun and
// acknowledged. Out: the positions and counts of exactly what is finished, in a state file from which a named replay goes on.
// Guarantee: after SIGKILL or a power cut the file is the last one saved; only one process at a time uses a name, and a name belongs
// to one request; the file is readable by this user only.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LogpipeError, reasonInWords } from '../core/errors.ts';
import { lockFolder, makePrivateFolder, replacePrivate, usable } from '../core/private-files.ts';
import type { MaskOptions } from '../core/secrets/mask.ts';
import type { DocumentWriter } from '../indexing/batch.ts';
import type { BulkConfig } from '../indexing/bulk-writer.ts';
import type { DlqConfig } from '../indexing/dead-letters.ts';
import type { ElasticsearchConfig } from '../indexing/elasticsearch.ts';
import type { Sink } from '../indexing/sinks.ts';
import type { TimeParser } from '../parse/conform.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { KafkaConfig } from '../source/kafka/client.ts';
import type { TransformsConfig } from '../transform/transform.ts';
import type { Matches, Position, Positions, SourcePlan, TimeRange } from './sources.ts';

/** The sections of the configuration that a replay uses. */
export interface ReplayConfig {
  /** The live pipeline's source; without Kafka there is no lag to watch. */
  readonly source: 'kafka' | 'files' | 'stdin' | 'otlp';
  readonly kafka: KafkaConfig;
  readonly parse: ParseConfig;
  readonly mask: MaskOptions;
  readonly transforms: TransformsConfig;
  readonly elasticsearch: ElasticsearchConfig;
  readonly bulk: BulkConfig;
  readonly dlq: DlqConfig;
}

export interface ReplayOptions {
  /** Names the state file; undefined when nothing is remembered. */
  readonly name: string | undefined;
  /** What has to be the same when the replay goes on. */
  readonly request: ReplayRequest;
  readonly range: TimeRange | undefined;
  readonly matches: Matches | undefined;
  readonly target: TargetOptions;
  readonly limit: number | undefined;
  /** 10 is ten times as fast as the events happened. */
  readonly speed: number;
  /** Events per second. */
  readonly throttle: number | undefined;
  /** Refused documents also go to the dead-letter topic. */
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
  /** False when it was stopped early: with a name it goes on from there. */
  readonly complete: boolean;
  readonly gaps: readonly string[];
  readonly tally: Tally;
  /** new, present, refused, degraded; with transforms, dropped; and what the target counts (moved, files). */
  readonly written: Readonly<Record<string, number>>;
  readonly plan: SourcePlan;
  /** For a dry run: documents and bytes by index. */
  readonly indices: Readonly<Record<string, { readonly documents: number; readonly bytes: number }>>;
  readonly refusals: { readonly byReason: Readonly<Record<string, number>>; readonly examples: readonly Refusal[] };
  readonly seconds: number;
  readonly live: { readonly maxLiveLag: number; readonly heldMs: number } | undefined;
}

// ---- where a replay writes ----

export type TargetOptions =
  | { readonly kind: 'in-place'; readonly reparse: boolean }
  | { readonly kind: 'index'; readonly name: string }
  | { readonly kind: 'topic'; readonly topic: string }
  | { readonly kind: 'dir'; readonly dir: string }
  | { readonly kind: 'console'; readonly format: 'pretty' | 'ndjson' };

/** Takes the indexer's batches. */
export interface Target {
  documents(time: TimeParser): DocumentWriter;
  /** True when the target keeps what is written twice: positions are then saved only between whole batches. */
  readonly stepwise: boolean;
  /** Prepares the target; with `saved`, goes on from the last checkpoint. */
  prepare(saved: Readonly<Record<string, number>> | undefined): Promise<void>;
  readonly sink: Sink;
  /** True for a record that the target already has although its position was not saved. */
  has?(key: string): boolean;
  /** Forces what was written to disk, and returns what `prepare` needs to go on. */
  checkpoint(): Promise<Record<string, number>>;
  /** For a dry run: documents and bytes by index. */
  indices?(): Readonly<Record<string, { readonly documents: number; readonly bytes: number }>>;
  /** What the target counts besides new and present documents. */
  counts(): Readonly<Record<string, number>>;
}

// ---- the state of a named replay ----

const STATE_FOLDER = '.logpipe/replay';

/** What the first start decides and a later one has to repeat. */
export type ReplayRequest = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

export interface ReplayState {
  readonly version: 1;
  readonly name: string;
  readonly request: ReplayRequest;
  /** Fixed at the first start: `-2h` means the same after a break. */
  readonly range: TimeRange | undefined;
  positions: Record<string, Position>;
  tally: Tally;
  /** New, present and refused documents, as far as they were known when the file was written. */
  written: Record<string, number>;
  /** What the target needs to go on: lengths of files, ends of partitions. */
  target: Record<string, number>;
  complete: boolean;
}

export interface StateFile {
  readonly path: string;
  /** Undefined at the first start. */
  readonly found: ReplayState | undefined;
  save(state: ReplayState): Promise<void>;
  close(): void;
}

/**
 * One JSON file, replaced as a whole and forced to disk.
 * @throws LogpipeError LOGPIPE_USAGE (bad name, another request), LOGPIPE_SOURCE_FAILED (in use, unreadable)
 */
export function openState(options: { name: string; folder?: string; request: ReplayRequest }): StateFile {
  const { name, request } = options;
  if (!/^[a-z0-9][a-z0-9._-]{0,99}$/.test(name)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--name: found ${JSON.stringify(name)}; permitted: lower-case letters, digits, dots, hyphens and underscores`,
    );
  }
  const folder = options.folder ?? STATE_FOLDER;
  const path = join(folder, `${name}.json`);
  usable('--name', folder, () => makePrivateFolder(folder, { own: true }));
  const unlock = lockFolder(join(folder, `${name}.lock`), '--name');
  try {
    const found = load(path);
    if (found !== undefined) checkSame(found, request, path);
    let saving: Promise<unknown> = Promise.resolve();
    return {
      path,
      found,
      save(state) {
        const text = `${JSON.stringify(state)}\n`;
        const mine = saving.then(() => replacePrivate(path, text));
        saving = mine.catch(() => {});
        return mine;
      },
      close: unlock,
    };
  } catch (error) {
    unlock();
    throw error;
  }
}

function checkSame(found: ReplayState, request: ReplayRequest, path: string): void {
  const names = [...new Set([...Object.keys(found.request), ...Object.keys(request)])];
  const different = names.filter((name) => JSON.stringify(found.request[name]) !== JSON.stringify(request[name]));
  if (different.length === 0) return;
  const [first] = different;
  const text = (value: unknown) => JSON.stringify(value) ?? 'nothing';
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--name ${found.name}: began with another ${first} (${text(found.request[first!])}, now ${text(request[first!])}); ` +
      `repeat the first command line, choose another name, or remove ${path} to begin anew`,
  );
}

function load(path: string): ReplayState | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw unreadable(path, error);
  }
  try {
    const state = JSON.parse(text) as ReplayState;
    if (state.version !== 1) throw new Error(`version ${state.version} is not known`);
    return state;
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): LogpipeError {
  return new LogpipeError(
    'LOGPIPE_SOURCE_FAILED',
    `${path}: the state of the replay cannot be used (${reasonInWords(error)}); repair it, or remove it to begin anew`,
    error,
  );
}

// ---- progress ----

/** What became of the records of a batch. `matched`: those to be written. */
export interface Tally {
  read: number;
  bytes: number;
  /** Outside of the stretch by event time. */
  outside: number;
  /** In the stretch, but without what `--where` asks for. */
  unmatched: number;
  matched: number;
}

const TALLY_KEYS = ['read', 'bytes', 'outside', 'unmatched', 'matched'] as const satisfies (keyof Tally)[];

interface ReplayProgress {
  /** `count` records of the batch are still to be acknowledged. */
  begin(part: string, next: Position, tally: Tally, count: number): (done: number) => void;
  /** Positions and counts of exactly what is finished. */
  finished(): { positions: Map<string, Position>; tally: Tally };
  /** Counts of everything begun, finished or not. */
  readonly begun: Tally;
}

interface Open {
  readonly next: Position;
  readonly tally: Tally;
  left: number;
}

/**
 * Acknowledgements come in any order; a part's position is the end of its unbroken row of finished batches.
 * @param positions of each part of the source
 */
export function createReplayProgress(positions: Positions, start: Tally): ReplayProgress {
  const at = new Map(positions);
  const finished = { ...start };
  const begun = { ...start };
  const parts = new Map<string, Open[]>();

  function advance(part: string, open: Open[]): void {
    while (open.length > 0 && open[0]!.left === 0) {
      const { next, tally } = open.shift()!;
      at.set(part, next);
      add(finished, tally);
    }
  }

  return {
    begun,
    begin(part, next, tally, count) {
      const open = parts.get(part) ?? [];
      parts.set(part, open);
      const entry = { next, tally, left: count };
      open.push(entry);
      add(begun, tally);
      if (count === 0) advance(part, open);
      return (done) => {
        entry.left -= done;
        if (entry.left < 0) throw new RangeError(`${part}: ${-entry.left} records too many were acknowledged`);
        if (entry.left === 0) advance(part, open);
      };
    },
    finished: () => ({ positions: new Map(at), tally: { ...finished } }),
  };
}

export function emptyTally(): Tally {
  return { read: 0, bytes: 0, outside: 0, unmatched: 0, matched: 0 };
}

function add(to: Tally, more: Tally): void {
  for (const key of TALLY_KEYS) to[key] += more[key];
}
