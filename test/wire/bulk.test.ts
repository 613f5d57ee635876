import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMasker } from '../../src/core/mask.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import type { Chunk, DeadLetter, RawRecord } from '../../src/core/record.ts';
import { createBulkWriter } from '../../src/indexing/bulk-writer.ts';
import { createDocumentWriter } from '../../src/indexing/document.ts';
import { createElasticsearchClient, createSendBulk } from '../../src/indexing/elasticsearch.ts';
import { createDegrade, createElasticsearchSink } from '../../src/indexing/elasticsearch-sink.ts';
import { createIndexer, type Indexer } from '../../src/indexing/indexer.ts';
import { createDeadLetter } from '../../src/indexing/refused.ts';
import type { Sink } from '../../src/indexing/sinks.ts';
import { createParser } from '../../src/parse/parse.ts';
import { createTagger } from '../../src/tag/tag.ts';
import { type BulkAnswer, type BulkRequest, type BulkServer, bulkReply, startBulkServer } from '../kit/bulk-server.ts';

const RECORD_MS = Date.parse('2026-11-24T10:00:00.000Z');
const BULK = {
  maxBytes: 5_000_000,
  maxDocuments: 1_000,
  maxDelayMs: 10_000,
  concurrency: 2,
  maxInFlightBytes: 16_000_000,
  backoffMs: 1,
  maxBackoffMs: 5,
  maxRejectionsPerMinute: 1_000,
};

const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

interface Rig {
  readonly indexer: Indexer;
  readonly server: BulkServer;
  readonly letters: DeadLetter[];
  readonly metrics: ReturnType<typeof createMetrics>;
  trouble(): string | undefined;
  /** Delivers lines as one chunk; `acknowledged` counts what came back. */
  deliver(lines: string[]): Promise<{ acknowledged: () => number }>;
}

/** The real stages from parse to bulk, in front of a scripted server. */
async function rig(
  answer: (request: BulkRequest, n: number) => BulkAnswer,
  overrides: Partial<typeof BULK> = {},
  requestTimeoutMs = 5_000,
): Promise<Rig> {
  const server = await startBulkServer(answer);
  const config = { ...BULK, ...overrides };
  const metrics = createMetrics();
  const masker = createMasker();
  const parser = createParser({ maxRecordBytes: 5e6, maxAheadMs: 6e5, maxBehindMs: 2.6e9 }, { masker });
  const tag = createTagger();
  const documents = createDocumentWriter(parser.time);
  const letters: DeadLetter[] = [];
  const sinks: Sink[] = [];
  const base = { metrics, log: silentLog, clock: systemClock };
  const indexer = createIndexer(config, {
    ...base,
    parser,
    tag,
    documents,
    sinks,
    deadLetters: {
      async put(batch) {
        letters.push(...batch);
      },
      async close() {},
    },
    toDeadLetter: createDeadLetter({ keepRaw: false, file: '' }, masker),
  });
  const client = createElasticsearchClient({ nodes: [server.url], requestTimeoutMs, installTemplate: false });
  const writer = createBulkWriter(config, {
    ...base,
    send: createSendBulk(client),
    degrade: createDegrade({ parser, tag, documents }),
    deadLetter: ({ record, chunk }, reason, detail, signal) => indexer.bury(record, chunk, reason, detail, signal),
    random: () => 0.5,
  });
  sinks.push(createElasticsearchSink(client, writer));
  open.push(server.close, () => client.close());
  return {
    indexer,
    server,
    letters,
    metrics,
    trouble: writer.trouble,
    async deliver(lines) {
      let acknowledged = 0;
      const records: RawRecord[] = lines.map((line, offset) => ({
        value: Buffer.from(line),
        offset,
        timeMs: RECORD_MS,
        eventId: undefined,
      }));
      const chunk: Chunk = {
        origin: { kind: 'kafka', topic: 't', partition: 0 },
        records,
        bytes: lines.reduce((sum, line) => sum + Buffer.byteLength(line), 0),
        done: (count) => {
          acknowledged += count;
        },
      };
      await indexer.accept(chunk);
      return { acknowledged: () => acknowledged };
    },
  };
}

const line = (n: number, more = {}) =>
  JSON.stringify({ timestamp: '2026-11-24T09:59:59.000Z', level: 'info', message: `n${n}`, ...more });
const id = (n: number) => `t-0-${n}-${RECORD_MS.toString(36)}`;
const created = (request: BulkRequest) => bulkReply(request.ids.map(() => ({ status: 201 })));
const error = (status: number, type: string, reason = 'because') => ({ status, error: { type, reason } });

describe('on the wire', () => {
  it('sends exactly this', async () => {
    const { indexer, server, deliver } = await rig(created);
    const { acknowledged } = await deliver([
      line(0),
      line(1, { level: 'error', message: 'käse "x" 42' }),
      '{\n"timestamp":"2026-11-23T00:00:00.000Z","level":"info","message":"pretty"}',
      '{}',
    ]);
    expect(await indexer.drain(5_000)).toBe(true);
    expect(acknowledged()).toBe(4);
    expect(server.requests).toHaveLength(1);
    const [request] = server.requests;
    expect(request!.path).toBe(
      `/_bulk?filter_path=${encodeURIComponent('errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by')}`,
    );
    expect(request!.headers['content-type']).toBe('application/vnd.elasticsearch+x-ndjson; compatible-with=8');
    expect(request!.body).toBe(
      [
        `{"create":{"_index":"calling-platform-2026.11.24","_id":"${id(0)}"}}`,
        '{"@timestamp":"2026-11-24T09:59:59.000Z","kafka":{"topic":"t","partition":0,"offset":0},"timestamp":"2026-11-24T09:59:59.000Z","level":"info","message":"n0"}',
        `{"create":{"_index":"calling-platform-2026.11.24","_id":"${id(1)}"}}`,
        '{"@timestamp":"2026-11-24T09:59:59.000Z","tags":["error"],"error":{"template":"käse <quoted> <n>","fingerprint":"a91059a67017d0a3"},"kafka":{"topic":"t","partition":0,"offset":1},"timestamp":"2026-11-24T09:59:59.000Z","level":"error","message":"käse \\"x\\" 42"}',
        `{"create":{"_index":"calling-platform-2026.11.23","_id":"${id(2)}"}}`,
        '{"@timestamp":"2026-11-23T00:00:00.000Z","kafka":{"topic":"t","partition":0,"offset":2},"timestamp":"2026-11-23T00:00:00.000Z","level":"info","message":"pretty"}',
        `{"create":{"_index":"calling-platform-2026.11.24","_id":"${id(3)}"}}`,
        '{"@timestamp":"2026-11-24T10:00:00.000Z","tags":["_time_missing"],"kafka":{"topic":"t","partition":0,"offset":3}}',
        '',
      ].join('\n'),
    );
  });

  it('cuts batches by documents and by bytes', async () => {
    const byCount = await rig(created, { maxDocuments: 2 });
    await byCount.deliver([line(0), line(1), line(2)]);
    await byCount.indexer.drain(5_000);
    expect(byCount.server.requests.map((r) => r.ids.length)).toEqual([2, 1]);

    const byBytes = await rig(created, { maxBytes: 10_000 });
    await byBytes.deliver([line(0, { x: 'a'.repeat(9_900) }), line(1), line(2)]);
    await byBytes.indexer.drain(5_000);
    expect(byBytes.server.requests.map((r) => r.ids.length)).toEqual([1, 2]);
  });
});

describe('every item is classified', () => {
  it.each([
    ['429', error(429, 'es_rejected_execution_exception'), 'overloaded'],
    ['503', error(503, 'unavailable_shards_exception'), 'server_error'],
    ['403 by permission', error(403, 'security_exception'), 'forbidden'],
    ['403 by a read-only block', error(403, 'cluster_block_exception'), 'read_only'],
    ['400 index closed', error(400, 'index_closed_exception'), 'index_closed'],
    ['400 shard limit', error(400, 'validation_exception', 'this action would add [2] shards'), 'shard_limit'],
    ['404', error(404, 'index_not_found_exception'), 'index_missing'],
    ['400 nobody knows', error(400, 'brand_new_exception'), 'unknown_refusal'],
    [
      '400 illegal argument of the cluster',
      error(400, 'illegal_argument_exception', 'number of documents in the index cannot exceed 2147483519'),
      'unknown_refusal',
    ],
  ])('%s: only that item is sent again, until it is taken', async (_, refusal, reason) => {
    const { indexer, server, letters, metrics, trouble, deliver } = await rig((request, n) =>
      n < 3 ? bulkReply(request.ids.map((i) => (i === id(1) ? refusal : { status: 201 }))) : created(request),
    );
    const { acknowledged } = await deliver([line(0), line(1), line(2)]);
    expect(await indexer.drain(5_000)).toBe(true);
    expect(server.requests.map((r) => r.ids)).toEqual([[id(0), id(1), id(2)], [id(1)], [id(1)], [id(1)]]);
    expect(acknowledged()).toBe(3);
    expect(letters).toEqual([]);
    expect(trouble()).toBeUndefined();
    expect((await metrics.retried.get()).values).toEqual([{ labels: { reason }, value: 3 }]);
  });

  it('409 counts as done', async () => {
    const { indexer, server, metrics, deliver } = await rig((r) =>
      bulkReply(r.ids.map((_, i) => (i === 0 ? error(409, 'version_conflict_engine_exception') : { status: 201 }))),
    );
    const { acknowledged } = await deliver([line(0), line(1)]);
    await indexer.drain(5_000);
    expect(server.requests).toHaveLength(1);
    expect(acknowledged()).toBe(2);
    expect((await metrics.duplicates.get()).values[0]?.value).toBe(1);
  });

  it('a mapping conflict is degraded and sent once more, the others are not', async () => {
    const { indexer, server, letters, deliver } = await rig((request, n) =>
      n === 0
        ? bulkReply(request.ids.map((i) => (i === id(1) ? error(400, 'document_parsing_exception') : { status: 201 })))
        : created(request),
    );
    await deliver([line(0), line(1, { custom: { a: 1 }, call: { status: 'busy' } }), line(2)]);
    await indexer.drain(5_000);
    expect(server.requests[1]!.ids).toEqual([id(1)]);
    expect(JSON.parse(server.requests[1]!.body.split('\n')[1]!)).toEqual({
      '@timestamp': '2026-11-24T09:59:59.000Z',
      tags: ['_mapping_degraded'],
      kafka: { topic: 't', partition: 0, offset: 1 },
      timestamp: '2026-11-24T09:59:59.000Z',
      level: 'info',
      message: 'n1',
      call: { status: 'busy' },
      extra: { custom: { a: 1 } },
    });
    expect(letters).toEqual([]);
  });

  it.each([
    ['document_parsing_exception', 'failed to parse'],
    ['strict_dynamic_mapping_exception', 'mapping set to strict'],
    ['illegal_argument_exception', 'Document contains at least one immense term in field="x"'],
  ])('%s twice: to the dead letters, masked, with its reason', async (type, reason) => {
    const { indexer, letters, deliver } = await rig((request) =>
      bulkReply(request.ids.map((i) => (i === id(1) ? error(400, type, reason) : { status: 201 }))),
    );
    const { acknowledged } = await deliver([line(0), line(1, { password: 'hunter2' })]);
    await indexer.drain(5_000);
    expect(acknowledged()).toBe(2);
    expect(letters).toHaveLength(1);
    expect(letters[0]).toMatchObject({
      reason: 'document_refused',
      detail: `${type}: ${reason}`,
      id: id(1),
      offset: 1,
    });
    expect(letters[0]!.value?.toString()).toContain('"password":"[masked]"');
  });

  it('many rejections pause instead of emptying the topic into the dead letters', async () => {
    let broken = true;
    const { indexer, letters, trouble, server, deliver } = await rig(
      (request) =>
        broken ? bulkReply(request.ids.map(() => error(400, 'document_parsing_exception'))) : created(request),
      { maxRejectionsPerMinute: 2 },
    );
    const { acknowledged } = await deliver([line(0), line(1), line(2), line(3)]);
    const draining = indexer.drain(5_000);
    await expect.poll(() => trouble()).toBe('too_many_rejections');
    await expect.poll(() => server.requests.length).toBeGreaterThan(4);
    expect(letters).toHaveLength(2);
    expect(acknowledged()).toBe(0);
    broken = false;
    expect(await draining).toBe(true);
    expect(letters).toHaveLength(2);
    expect(acknowledged()).toBe(4);
  });
});

describe('a reply to be doubted acknowledges nothing', () => {
  it.each<[string, (request: BulkRequest) => BulkAnswer, string]>([
    ['too few items', (r) => bulkReply(r.ids.slice(1).map(() => ({ status: 201 }))), 'count_mismatch'],
    ['too many items', (r) => bulkReply([...r.ids, 'x'].map(() => ({ status: 201 }))), 'count_mismatch'],
    ['no items', () => ({ status: 200, body: {} }), 'count_mismatch'],
    [
      '429',
      () => ({ status: 429, body: { error: { type: 'circuit_breaking_exception', reason: 'x' } } }),
      'overloaded',
    ],
    ['503', () => ({ status: 503, body: 'busy' }), 'server_error'],
    ['401', () => ({ status: 401, body: { error: 'x' } }), 'unauthorized'],
    ['403', () => ({ status: 403, body: { error: 'x' } }), 'forbidden'],
    ['a closed connection', () => 'drop', 'unreachable'],
    ['silence', () => 'hang', 'timeout'],
  ])('%s: the whole batch is sent again', async (_, first, reason) => {
    let acknowledgedEarly = -1;
    let deliveredAck = () => 0;
    const { indexer, server, metrics, deliver } = await rig(
      (request, n) => {
        if (n === 0) return first(request);
        acknowledgedEarly = deliveredAck();
        return created(request);
      },
      {},
      reason === 'timeout' ? 300 : 5_000,
    );
    const { acknowledged } = await deliver([line(0), line(1)]);
    deliveredAck = acknowledged;
    expect(await indexer.drain(10_000)).toBe(true);
    expect(server.requests.map((r) => r.ids)).toEqual([
      [id(0), id(1)],
      [id(0), id(1)],
    ]);
    expect(acknowledgedEarly).toBe(0);
    expect(acknowledged()).toBe(2);
    expect((await metrics.retried.get()).values).toEqual([{ labels: { reason }, value: 2 }]);
  });
});

describe('a request refused as a whole', () => {
  it.each([
    [413, 'too_large'],
    [400, 'document_refused'],
  ])('%s is halved until the one document to blame is alone', async (status, reason) => {
    const { indexer, server, letters, deliver } = await rig((request) =>
      request.body.includes('"poison"') ? { status, body: { error: { type: 'x', reason: 'y' } } } : created(request),
    );
    const { acknowledged } = await deliver(
      Array.from({ length: 8 }, (_, n) => line(n, n === 5 ? { custom: 'poison' } : {})),
    );
    expect(await indexer.drain(5_000)).toBe(true);
    expect(acknowledged()).toBe(8);
    expect(letters.map((letter) => [letter.reason, letter.offset])).toEqual([[reason, 5]]);
    // 8, 4, 4, 2, 1(, degraded), 1, 2 …: logarithmic, not one by one.
    expect(server.requests.length).toBeLessThanOrEqual(9);
  });
});

describe('shutdown', () => {
  it('gives up at the deadline and acknowledges nothing it is not sure of', async () => {
    const { indexer, deliver } = await rig(() => ({ status: 503, body: 'down' }));
    const { acknowledged } = await deliver([line(0)]);
    expect(await indexer.drain(100)).toBe(false);
    expect(acknowledged()).toBe(0);
  });

  it('holds the intake while too much is under way, and lets it go on afterwards', async () => {
    let answer: (() => void) | undefined;
    const { indexer, deliver } = await rig(created, { maxInFlightBytes: 1_000 });
    let accepted = false;
    const delivered = deliver(Array.from({ length: 20 }, (_, n) => line(n))).then((result) => {
      accepted = true;
      return result;
    });
    answer?.();
    const { acknowledged } = await delivered;
    expect(accepted).toBe(true);
    expect(acknowledged()).toBe(20);
    expect(indexer.inFlightBytes()).toBe(0);
  });
});
