// Log files for tests of the file source: a folder that ends with the test, numbered lines, and a source whose chunks are
// collected. Acknowledged at once, when told to, or not taken at all for a while.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import { type Log, silentLog } from '../../src/core/log.ts';
import { createMetrics, type Metrics } from '../../src/core/metrics.ts';
import type { Chunk, RawRecord, Source } from '../../src/core/record.ts';
import type { JournalEntry } from '../../src/source/files/checkpoints.ts';
import { createFileSource, type FilesConfig } from '../../src/source/files/files.ts';
import { waitFor } from './servers.ts';

export const until = (what: string, condition: () => unknown) =>
  waitFor(condition, { what, timeoutMs: 40_000, intervalMs: 5 });

export const lines = (from: number, count: number) => Array.from({ length: count }, (_, i) => `{"n":${from + i}}`);
export const text = (all: readonly string[]) => all.map((line) => `${line}\n`).join('');

/** An empty folder with `app.log` to be written, and a configuration that reads it. */
export function newFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-files-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const log = join(folder, 'app.log');
  const config: FilesConfig = {
    paths: [log],
    follow: true,
    dataDir: join(folder, 'data'),
    pollIntervalMs: 50,
    commitIntervalMs: 20,
    maxLineBytes: 1_000,
  };
  /** What the journal says now about each file that it remembers. */
  const positions = () => {
    const entries = new Map<string, JournalEntry>();
    for (const line of readFileSync(join(folder, 'data', 'positions.ndjson'), 'utf8')
      .split('\n')
      .slice(1, -1)) {
      const entry = JSON.parse(line) as JournalEntry & { gone?: true };
      if (entry.gone) entries.delete(entry.identity);
      else entries.set(entry.identity, entry);
    }
    return [...entries.values()];
  };
  return { folder, log, config, positions };
}

/** What a log was told, by level. */
export function listen(): Log & { readonly said: { level: string; message: string; path?: unknown }[] } {
  const said: { level: string; message: string; path?: unknown }[] = [];
  const at = (level: string) => (message: string, meta?: Record<string, unknown>) =>
    void said.push({ level, message, path: meta?.path });
  return { said, error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') };
}

/** A running source; `auto` acknowledges at once. */
export async function take(source: Source, options: { auto?: boolean; onChunk?: (chunk: Chunk) => void } = {}) {
  const chunks: Chunk[] = [];
  const records: (RawRecord & { identity: string })[] = [];
  let shut: Promise<void> | undefined;
  let release = () => {};
  const taken = {
    source,
    chunks,
    records,
    auto: options.auto ?? true,
    lines: () => records.map(({ value }) => String(value)),
    /** The numbers of the lines, in the order in which they came. */
    numbers: () => records.map(({ value }) => (JSON.parse(String(value)) as { n: number }).n),
    /** What makes a document id: no two records may share it. */
    ids: () => records.map(({ identity, offset }) => `${identity} ${offset}`),
    ack() {
      for (const chunk of chunks.splice(0)) chunk.done(chunk.records.length);
    },
    /** As when Elasticsearch is away: the next chunk is not taken before `comeBack`. */
    goAway() {
      shut = new Promise((resolve) => {
        release = resolve;
      });
    },
    comeBack() {
      shut = undefined;
      release();
    },
    async end() {
      taken.comeBack();
      await source.stop();
      await source.close();
    },
  };
  onTestFinished(taken.end);
  await source.start(async (chunk) => {
    options.onChunk?.(chunk);
    chunks.push(chunk);
    const identity = chunk.origin.kind === 'file' ? chunk.origin.identity : '';
    for (const record of chunk.records) records.push({ ...record, identity });
    if (taken.auto) taken.ack();
    await shut;
  });
  return taken;
}

export type Taken = Awaited<ReturnType<typeof take>>;

/** A file source that is read at once. */
export async function follow(
  config: FilesConfig,
  deps: { log?: Log; clock?: Clock; metrics?: Metrics; auto?: boolean; onChunk?: (chunk: Chunk) => void } = {},
): Promise<Taken & { dropped(): Promise<Record<string, number>> }> {
  const { log = silentLog, clock = systemClock, metrics = createMetrics(), auto = true, onChunk } = deps;
  const source = createFileSource(config, { log, clock, metrics });
  const taken = await take(source, { auto, ...(onChunk ? { onChunk } : {}) });
  return Object.assign(taken, {
    async dropped() {
      const { values } = await metrics.dropped.get();
      return Object.fromEntries(values.map(({ labels, value }) => [String(labels.reason), value]));
    },
  });
}
