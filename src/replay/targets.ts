// Where a replay writes: the daily indices (adding or overwriting), indices of its own, another topic, files, the console; or nowhere,
// only counting. In: batches of the indexer. Out: written documents. Guarantee: what is written again after a break exists once: in
// Elasticsearch by its id; in a topic, what had arrived although its position was not saved is recognised and not sent again; files are
// cut back to the saved positions (the console may repeat a second). Never writes to the topics the pipeline lives on; files are
// readable by this user only.
import { type FileHandle, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Client } from '@elastic/elasticsearch';
import type { Message, Producer } from 'kafkajs';
import type { Clock } from '../core/clock.ts';
import { LogpipeError, reasonInWords } from '../core/errors.ts';
import { assertAcknowledged } from '../core/kafka/broker-connections.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { makePrivateFolder, openPrivate, unusable, usable } from '../core/private-files.ts';
import { documentId } from '../core/record.ts';
import {
  type Batch,
  createDocumentWriter,
  type DocumentOptions,
  type DocumentWriter,
  INDEX_PATTERN,
  INDEX_PREFIX,
  REPLAY_PREFIX,
} from '../indexing/batch.ts';
import {
  type BulkConfig,
  type BulkWriterDeps,
  createBulkWriter,
  createElasticsearchSink,
} from '../indexing/bulk-writer.ts';
import {
  createElasticsearchClient,
  createSendBulk,
  type ElasticsearchConfig,
  explainFailure,
  type IndexTemplate,
  indexTemplate,
  installIndexTemplate,
  installTemplate,
  type TemplateResult,
} from '../indexing/elasticsearch.ts';
import { complete, NO_PARTIAL, refreshed, totalOf, WHOLENESS, whole } from '../indexing/outcome.ts';
import { createConsoleSink } from '../indexing/sinks.ts';
import type { TimeParser } from '../parse/conform.ts';
import { documentText } from '../parse/json.ts';
import { createKafka, defaultPartitioner, failedReading, type KafkaConfig } from '../source/kafka/client.ts';
import { readTopic } from '../source/kafka/topic-reader.ts';
import { withAdmin } from '../source/kafka/topics.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import type { ReplayConfig, ReplayOptions, Target } from './request.ts';

interface TargetDeps extends EsTargetDeps {
  readonly bury: BulkWriterDeps['deadLetter'];
  readonly stdout: NodeJS.WritableStream;
}

/** The target still has to be prepared. */
export function createTarget(options: ReplayOptions, config: ReplayConfig, deps: TargetDeps): Target {
  const { target } = options;
  switch (target.kind) {
    case 'in-place':
    case 'index':
      return createEsTarget(target, config, deps);
    case 'topic':
      return createTopicTarget(target.topic, options.name ?? 'unnamed', config.kafka, deps);
    case 'dir':
      return createDirTarget(target.dir, deps);
    case 'console':
      return {
        documents: (time) => createDocumentWriter(time),
        stepwise: true,
        async prepare() {},
        sink: createConsoleSink(target.format, { out: deps.stdout as NodeJS.WriteStream, metrics: deps.metrics }),
        async checkpoint() {
          return {};
        },
        counts: () => ({}),
      };
  }
}

/** Counts what would be written, and writes nothing. */
export function createDryTarget(options: ReplayOptions, config: ReplayConfig): Target {
  const { target } = options;
  if (target.kind === 'topic') checkTopic(target.topic, config.kafka.topics);
  const documents = target.kind === 'in-place' || target.kind === 'index' ? esDocuments(target) : {};
  const indices: Record<string, { documents: number; bytes: number }> = {};
  return {
    documents: (time) => createDocumentWriter(time, documents),
    stepwise: false,
    async prepare() {},
    sink: {
      name: 'dry run',
      async write(batch) {
        for (let i = 0; i < batch.count; i++) {
          const { index } = batch.action(i);
          indices[index] ??= { documents: 0, bytes: 0 };
          indices[index].documents += 1;
          indices[index].bytes += batch.document(i).length;
        }
      },
      async close() {},
    },
    async checkpoint() {
      return {};
    },
    counts: () => ({}),
    indices: () => indices,
  };
}

// ---- Elasticsearch ----

type EsTarget =
  | { readonly kind: 'in-place'; readonly reparse: boolean }
  | { readonly kind: 'index'; readonly name: string };

interface EsTargetDeps {
  readonly degrade: BulkWriterDeps['degrade'];
  readonly bury: BulkWriterDeps['deadLetter'];
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
}

/** How documents are written for the target. @throws LogpipeError LOGPIPE_USAGE */
function esDocuments(options: EsTarget): DocumentOptions {
  if (options.kind === 'in-place') return { action: options.reparse ? 'index' : 'create' };
  if (!/^[a-z0-9][a-z0-9_-]{0,99}$/.test(options.name)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--to-index: found ${JSON.stringify(options.name)}; permitted: lower-case letters, digits, hyphens and underscores (the index is ${REPLAY_PREFIX}<name>-YYYY.MM.dd)`,
    );
  }
  return { prefix: `${REPLAY_PREFIX}${options.name}-` };
}

/** Uses the pipeline's bulk writer: every item is classified, and retried or refused, as in the live pipeline. */
export function createEsTarget(
  options: EsTarget,
  config: { readonly elasticsearch: ElasticsearchConfig; readonly bulk: BulkConfig },
  deps: EsTargetDeps,
): Target {
  const { log } = deps;
  const documents = esDocuments(options);
  const client = createElasticsearchClient(config.elasticsearch);
  const oldCopies = createOldCopies(client);
  const reparse = options.kind === 'in-place' && options.reparse;
  const refused = new Set<string>();
  let moved = 0;
  const writer = createBulkWriter(config.bulk, {
    ...deps,
    send: createSendBulk(client),
    deadLetter: async (item, reason, detail, signal) => {
      // The old copy is all there is of it, and must stay.
      if (reparse) refused.add(documentId(item.record, item.chunk));
      await deps.bury(item, reason, detail, signal);
    },
    random: Math.random,
  });
  const sink = createElasticsearchSink(client, writer);

  return {
    documents: (time) => createDocumentWriter(time, documents),
    // A document that is written twice under the same id exists once.
    stepwise: false,
    async prepare() {
      try {
        if (options.kind === 'index') await installReplayTemplate(client, log);
        else if (config.elasticsearch.installTemplate) await installLive(client, log);
        if (reparse) await oldCopies.refresh();
      } catch (error) {
        throw error instanceof LogpipeError ? error : await explainFailure(error, config.elasticsearch);
      }
    },
    sink: reparse
      ? {
          ...sink,
          async write(batch, signal) {
            const waiting = await sink.write(batch, signal);
            // Until the new copy is written, the old one is all there is.
            await Promise.all((waiting ?? []).map(({ settled }) => settled));
            // In two steps: `moved += await …` would lose what other batches add meanwhile.
            const removed = await oldCopies.remove(batch, refused);
            moved += removed;
            return undefined;
          },
        }
      : sink,
    async checkpoint() {
      return {};
    },
    counts: () => (reparse ? { moved } : {}),
  };
}

async function installLive(client: Client, log: Log): Promise<void> {
  try {
    await installTemplate(client, log);
  } catch (error) {
    // As the pipeline does: a newer one is left alone and used.
    if (!(error instanceof LogpipeError) || error.code !== 'LOGPIPE_TEMPLATE_NEWER') throw error;
    log.warn(error.message);
  }
}

// ---- old copies of documents that a newer parser puts on another day ----

const PAGE = 1_000;

interface Hit {
  readonly _index: string;
  readonly _id: string;
}

/**
 * Called after the new copy is safe, so that there is always one. It can be repeated: what is already gone counts as deleted. A partial
 * answer is refused.
 */
interface OldCopies {
  /** Makes everything written so far visible to the search for old copies. */
  refresh(): Promise<void>;
  /** Resolves with how many were deleted. `skip` holds ids whose new copy was refused. */
  remove(batch: Batch, skip: ReadonlySet<string>): Promise<number>;
}

export function createOldCopies(client: Client): OldCopies {
  async function find(ids: readonly string[]): Promise<Hit[]> {
    const reply = await client.transport.request<{ hits?: { total?: unknown; hits?: Hit[] } }>({
      method: 'POST',
      path: `/${INDEX_PREFIX}*/_search`,
      querystring: {
        allow_no_indices: true,
        ignore_unavailable: true,
        filter_path: `hits.total,hits.hits._index,hits.hits._id,${WHOLENESS}`,
        ...NO_PARTIAL,
      },
      body: { size: 10 * PAGE, query: { ids: { values: ids } }, _source: false, track_total_hits: true },
    });
    // A copy that is missed here would stay forever.
    const found = whole(reply, 'the search for old copies').hits?.hits ?? [];
    complete(found.length, totalOf(reply.hits), 'old copies');
    return found;
  }

  async function erase(copies: readonly Hit[]): Promise<void> {
    const body = copies.map(({ _index, _id }) => `${JSON.stringify({ delete: { _index, _id } })}\n`).join('');
    const reply = await client.transport.request<{ items: { delete: { status: number; _index: string } }[] }>({
      method: 'POST',
      path: '/_bulk',
      bulkBody: body,
    });
    complete(reply.items.length, copies.length, 'deleting old copies');
    const failed = reply.items.find(({ delete: item }) => item.status !== 200 && item.status !== 404);
    if (failed) throw new Error(`an old copy in ${failed.delete._index} was not deleted: HTTP ${failed.delete.status}`);
  }

  return {
    async refresh() {
      const reply = await client.transport.request<object>({
        method: 'POST',
        path: `/${INDEX_PREFIX}*/_refresh`,
        querystring: { allow_no_indices: true, ignore_unavailable: true },
      });
      refreshed(reply, `the refresh of ${INDEX_PREFIX}*`);
    },
    async remove(batch, skip) {
      const day = new Map<string, string>();
      for (let i = 0; i < batch.count; i++) {
        const { index, id } = batch.action(i);
        if (!skip.has(id)) day.set(id, index);
      }
      const ids = [...day.keys()];
      let removed = 0;
      for (let from = 0; from < ids.length; from += PAGE) {
        const found = await find(ids.slice(from, from + PAGE));
        const old = found.filter(({ _index, _id }) => INDEX_PATTERN.test(_index) && _index !== day.get(_id));
        if (old.length > 0) await erase(old);
        removed += old.length;
      }
      return removed;
    },
  };
}

// ---- the index template for replays into indices of their own ----

const REPLAY_TEMPLATE_NAME = 'logpipe-replay';
/** Different from that of every other template of logpipe: two of equal priority must not match the same index. */
const PRIORITY = 220;

/**
 * As shipped in config/elasticsearch/: mappings and version of the live template, but for replay indices only and with a priority
 * of its own.
 */
export function replayTemplate(): IndexTemplate {
  return {
    ...indexTemplate(),
    index_patterns: [`${REPLAY_PREFIX}*`],
    priority: PRIORITY,
    _meta: { managed_by: 'logpipe', description: 'Replayed logs, one index per replay and UTC day' },
  };
}

/** @throws LogpipeError LOGPIPE_TEMPLATE_NEWER when the server's is newer; otherwise the client's errors */
function installReplayTemplate(client: Client, log: Log): Promise<TemplateResult> {
  return installIndexTemplate(client, REPLAY_TEMPLATE_NAME, replayTemplate(), log);
}

// ---- another topic ----

/** @throws LogpipeError LOGPIPE_USAGE for one of the pipeline's own topics */
function checkTopic(topic: string, topics: KafkaConfig['topics']): void {
  const own = (['logs', 'dlq', 'counts', 'alerts', 'commands'] as const).find((name) => topics[name] === topic);
  if (own === undefined) return;
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--to-topic: ${topic} is kafka.topics.${own}, which the live pipeline works on; name another topic`,
  );
}

/**
 * Records are masked, keep their event id, and are marked `replayed`, so that nothing counts them; after a break, `replay-origin`
 * shows which had arrived.
 */
export function createTopicTarget(
  topic: string,
  name: string,
  config: KafkaConfig,
  deps: { log: Log; metrics: Metrics },
): Target {
  const { log, metrics } = deps;
  checkTopic(topic, config.topics);
  const kafka = createKafka(config, log);
  /**
   * The places of records that an earlier start had sent beyond its saved positions; each is removed when the source comes to
   * it again.
   */
  const arrived = new Map<string, { readonly partition: number; readonly offset: number }>();
  let producer: Producer | undefined;
  let partitions: number[] = [];

  async function readEnds(): Promise<Record<string, number>> {
    try {
      const rows = await withAdmin(kafka, (admin) => admin.fetchTopicOffsets(topic));
      partitions = rows.map(({ partition }) => partition).sort((a, b) => a - b);
      return Object.fromEntries(rows.map(({ partition, high }) => [String(partition), Number(high)]));
    } catch (error) {
      throw failedReading(error, config, topic);
    }
  }

  async function connect(): Promise<Producer> {
    if (producer) return producer;
    const fresh = kafka.producer({
      createPartitioner: defaultPartitioner,
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
    });
    await fresh.connect();
    producer = fresh;
    return fresh;
  }

  return {
    documents: plainDocuments,
    stepwise: true,
    has: (key) => arrived.delete(key),
    async prepare(saved) {
      const ends = await readEnds();
      if (saved === undefined) return;
      const wanted = new Map(
        partitions.map((partition) => [
          partition,
          { from: saved[partition] ?? 0, to: ends[partition] ?? Number.POSITIVE_INFINITY },
        ]),
      );
      await readTopic(
        config,
        {
          topic,
          purpose: 'replay-resume',
          from: wanted,
          follow: false,
          onRecord({ headers, offset }, partition) {
            if (String(headers?.replayed) === name) {
              arrived.set(String(headers?.['replay-origin']), { partition, offset: Number(offset) });
            }
            return true;
          },
        },
        log,
      );
    },
    sink: {
      name: 'topic',
      async write(batch) {
        const messages: Message[] = Array.from({ length: batch.count }, (_, i) => {
          const { record, chunk } = batch.source(i);
          const { origin } = chunk;
          const place = origin.kind === 'kafka' ? origin.partition : 0;
          return {
            value: Buffer.from(batch.document(i)),
            partition: partitions[place % partitions.length]!,
            headers: {
              ...(record.eventId === undefined ? {} : { eventId: record.eventId }),
              replayed: name,
              'replay-origin': documentId(record, chunk),
            },
          };
        });
        const answers = await (await connect()).send({ topic, acks: -1, messages });
        assertAcknowledged(
          answers,
          messages.map(({ partition }) => partition!),
          topic,
        );
        metrics.indexed.inc({ sink: 'topic' }, batch.count);
      },
      async close() {
        await producer?.disconnect();
      },
    },
    // Where a later start begins to look for what had arrived: at the ends, or before them at records this start has not come to yet.
    // It may also find records whose position was saved: nobody asks for those, so they are never sent again.
    async checkpoint() {
      const from = await readEnds();
      for (const { partition, offset } of arrived.values()) from[partition] = Math.min(from[partition]!, offset);
      return from;
    },
    counts: () => ({}),
  };
}

// ---- a record as a producer would have sent it ----

/** Without what logpipe adds: the record's own bytes, or the masked and conformed document when those cannot be used. */
function plainDocuments(time: TimeParser): DocumentWriter {
  // logpipe's own tags are added again when the record is read.
  const tagsOf = (event: TaggedEvent) => event.tags.filter((tag) => !tag.startsWith('_') && tag !== 'error');
  const bytes = (event: TaggedEvent, doc: Record<string, unknown>): Buffer => {
    const tags = tagsOf(event);
    const plain = tags.length === 0 ? doc : { ...doc, tags };
    return Buffer.from(documentText(plain));
  };
  return {
    append(batch, event, record, chunk, position) {
      const action = JSON.stringify({
        create: { _index: `${INDEX_PREFIX}${time.day(event.timeMs)}`, _id: documentId(record, chunk) },
      });
      const rest = event.verbatim ? record.value! : bytes(event, event.doc);
      // A step of the configuration may have added tags, which stand beside the record's own bytes.
      const tags = event.verbatim ? tagsOf(event) : [];
      const head = tags.length === 0 ? '{' : `{"tags":${JSON.stringify(tags)},`;
      batch.add(chunk, position, action, head, rest);
    },
    rewrite: (event, doc) => bytes(event, doc),
  };
}

// ---- NDJSON files, one per day ----

const ENDING = '.ndjson';

interface OpenFile {
  readonly handle: FileHandle;
  size: number;
}

/** Each line is a document that begins with its id; `--source file` reads them back. */
function createDirTarget(dir: string, deps: { metrics: Metrics }): Target {
  const files = new Map<string, OpenFile>();

  async function file(name: string): Promise<OpenFile> {
    const present = files.get(name);
    if (present !== undefined) return present;
    makePrivateFolder(dir, { own: false });
    const handle = await openPrivate(join(dir, name), 'ax');
    const opened = { handle, size: 0 };
    files.set(name, opened);
    return opened;
  }

  return {
    documents: (time) => createDocumentWriter(time),
    stepwise: true,
    async prepare(saved) {
      usable('--to-dir', dir, () => makePrivateFolder(dir, { own: false }));
      const present = await readdir(dir).catch((error: unknown) => {
        throw unusable('--to-dir', dir, error);
      });
      for (const name of present) {
        if (!name.endsWith(ENDING) || saved?.[name] !== undefined) continue;
        // It was begun after the last checkpoint, because the folder held none at the first start.
        if (saved !== undefined) await rm(join(dir, name));
        // Lines of another replay must not be mixed with these.
        else
          throw new LogpipeError(
            'LOGPIPE_USAGE',
            `--to-dir: ${join(dir, name)} exists already; choose an empty folder`,
          );
      }
      for (const [name, size] of Object.entries(saved ?? {})) {
        const path = join(dir, name);
        const { size: present } = await stat(path).catch(() => ({ size: -1 }));
        if (present < size) {
          throw new LogpipeError(
            'LOGPIPE_USAGE',
            `--to-dir: ${path} has lost what this replay wrote (${present} of ${size} bytes); put it back, or begin under another --name`,
          );
        }
        const handle = await openPrivate(path, 'a');
        await handle.truncate(size);
        files.set(name, { handle, size });
      }
    },
    sink: {
      name: 'files',
      async write(batch) {
        const lines = new Map<string, Buffer[]>();
        for (let i = 0; i < batch.count; i++) {
          const { index, id } = batch.action(i);
          const parts = lines.get(index) ?? [];
          lines.set(index, parts);
          parts.push(Buffer.from(`{"_id":${JSON.stringify(id)},`), batch.document(i).subarray(1), Buffer.from('\n'));
        }
        const touched: { opened: OpenFile; before: number }[] = [];
        try {
          for (const [index, parts] of lines) {
            const opened = await file(`${index}${ENDING}`);
            touched.push({ opened, before: opened.size });
            const bytes = Buffer.concat(parts);
            await opened.handle.appendFile(bytes);
            opened.size += bytes.length;
          }
        } catch (error) {
          // The indexer sends the batch again, so none of it may stay.
          for (const { opened, before } of touched) {
            opened.size = before;
            await opened.handle.truncate(before).catch(() => {});
          }
          throw failed(dir, error);
        }
        deps.metrics.indexed.inc({ sink: 'ndjson' }, batch.count);
      },
      async close() {
        for (const { handle } of files.values()) await handle.close();
      },
    },
    async checkpoint() {
      const sizes: Record<string, number> = {};
      for (const [name, { handle, size }] of files) {
        sizes[name] = size;
        await handle.sync();
      }
      return sizes;
    },
    counts: () => ({ files: files.size }),
  };
}

function failed(dir: string, error: unknown): LogpipeError {
  return new LogpipeError('LOGPIPE_SINK_FAILED', `--to-dir: ${dir}: ${reasonInWords(error)}; free the disk`, error);
}
