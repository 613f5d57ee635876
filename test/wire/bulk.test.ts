import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import type { Chunk, DeadLetter, RawRecord } from '../../src/core/record.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { createDocumentWriter } from '../../src/indexing/batch.ts';
import { createBulkWriter, createDegrade, createElasticsearchSink } from '../../src/indexing/bulk-writer.ts';
import { createDeadLetter } from '../../src/indexing/dead-letters.ts';
import { createElasticsearchClient, createSendBulk } from '../../src/indexing/elasticsearch.ts';
import { createIndexer, type Indexer } from '../../src/indexing/indexer.ts';
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
      `/_bulk?filter_path=${encodeURIComponent('errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by')}&timeout=10s`,
    );
    expect(request!.headers['content-type']).toBe('application/vnd.elasticsearch+x-ndjson; compatible-with=8');
    expect(request!.body).toBe(
      [
        `{"create":{"_index":"calling-platform-2026.11.24","_id":"${id(0)}"}}`,
        '{"@timestamp":"2026-11-24T09:59:59.000Z","kafka":{"topic":"t","partition":0,"offset":0},"timestamp":"2026-11-24T09:59:59.000Z","level":"info","message":"n0"}',
        `{"create":{"_index":"calling-platform-2026.11.24","_id":"${id(1)}"}}`,
        '{"@timestamp":"2026-11-24T09:59:59.000Z","tags":["error"],"kafka":{"topic":"t","partition":0,"offset":1},"error":{"template":"käse <quoted> <n>","fingerprint":"a91059a67017d0a3"},"timestamp":"2026-11-24T09:59:59.000Z","level":"error","message":"käse \\"x\\" 42"}',
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
    await expect.poll(() => trouble()).toBe('too_many_rejections for calling-platform-2026.11.24');
    await expect.poll(() => server.requests.length).toBeGreaterThan(4);
    expect(letters).toHaveLength(2);
    expect(acknowledged()).toBe(2);
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
  const eight = (at: number) => Array.from({ length: 8 }, (_, n) => line(n, n === at ? { custom: 'poison' } : {}));
  const unreadable = (type: string, reason: string) => ({ status: 400, body: { error: { type, reason } } });

  it.each<[string, BulkAnswer, string]>([
    ['413', { status: 413, body: '<html>too large</html>', headers: { 'content-type': 'text/html' } }, 'too_large'],
    [
      'an unreadable action line',
      unreadable('illegal_argument_exception', 'Malformed action/metadata line [5], expected START_OBJECT'),
      'document_refused',
    ],
    ['no JSON', unreadable('x_content_parse_exception', "[1:8] Unrecognized token 'a'"), 'document_refused'],
    [
      'an id that is too long',
      unreadable('action_request_validation_exception', 'Validation Failed: 1: id [x] is too long'),
      'document_refused',
    ],
  ])('%s: halved until the one document to blame is alone', async (_, refusal, reason) => {
    const { indexer, server, letters, deliver } = await rig((request) =>
      request.body.includes('"poison"') ? refusal : created(request),
    );
    const { acknowledged } = await deliver(eight(5));
    expect(await indexer.drain(5_000)).toBe(true);
    expect(acknowledged()).toBe(8);
    expect(letters.map((letter) => [letter.reason, letter.offset])).toEqual([[reason, 5]]);
    // 8, 4, 4, 2, 1, 1(, degraded or once more), 2: logarithmic, not one by one.
    expect(server.requests.length).toBeLessThanOrEqual(9);
  });

  const html = { 'content-type': 'text/html' };
  const foreignJson = { 'content-type': 'application/json' };
  const page = '<html><body>Bad Request</body></html>';

  it.each<[string, BulkAnswer, string]>([
    ['a gateway’s page, 400', { status: 400, body: page, headers: html }, 'not_elasticsearch'],
    [
      'another server’s 400 that looks like Elasticsearch’s',
      { status: 400, body: { error: { type: 'x_content_parse_exception', reason: 'x' } }, headers: foreignJson },
      'not_elasticsearch',
    ],
    ['a page that claims to be JSON', { status: 400, body: page }, 'server_error'],
    ['a wrong path', { status: 400, body: { error: 'no handler found for uri [/x/_bulk]' } }, 'unknown_refusal'],
    ['the media type', unreadable('media_type_header_exception', 'Invalid media-type value'), 'unknown_refusal'],
    ['a parameter', unreadable('illegal_argument_exception', 'unrecognized parameter: [a]'), 'unknown_refusal'],
    ['a reason nobody knows', unreadable('brand_new_exception', 'because'), 'unknown_refusal'],
    ['a body that got lost', unreadable('parse_exception', 'request body is required'), 'unknown_refusal'],
    ['no error at all', { status: 400, body: {} }, 'unknown_refusal'],
    ['a redirect', { status: 301, body: '', headers: { location: 'https://elsewhere.invalid/' } }, 'not_elasticsearch'],
    ['a gateway’s 404', { status: 404, body: page, headers: html }, 'not_elasticsearch'],
    ['405', { status: 405, body: page, headers: html }, 'not_elasticsearch'],
    ['411', { status: 411, body: page, headers: html }, 'not_elasticsearch'],
    ['415', { status: 415, body: page, headers: html }, 'not_elasticsearch'],
    ['431', { status: 431, body: page, headers: html }, 'not_elasticsearch'],
    ['a page with status 200', { status: 200, body: page, headers: html }, 'not_elasticsearch'],
    ['another server’s 200', { status: 200, body: { ok: true }, headers: foreignJson }, 'not_elasticsearch'],
    [
      'another server’s 200 with as many items',
      { status: 200, body: { items: Array(8).fill({ create: { status: 201 } }) }, headers: foreignJson },
      'not_elasticsearch',
    ],
    ['items that are none', { status: 200, body: { items: 'all' } }, 'count_mismatch'],
    ['413 for every size', { status: 413, body: page, headers: html }, 'request_too_large'],
  ])('%s: no document is to blame, all wait', async (_, refusal, reason) => {
    let broken = true;
    const { indexer, server, letters, metrics, trouble, deliver } = await rig((request) =>
      broken ? refusal : created(request),
    );
    const { acknowledged } = await deliver(eight(5));
    const draining = indexer.drain(10_000);
    await expect.poll(() => server.requests.length).toBeGreaterThan(20);
    expect(trouble()).toMatch(new RegExp(`^${reason}`));
    const paused = (await metrics.paused.get()).values.find(({ labels }) => labels.reason === reason);
    expect(paused?.value).toBe(1);
    expect([acknowledged(), letters.length]).toEqual([0, 0]);
    broken = false;
    expect(await draining).toBe(true);
    expect([acknowledged(), letters.length]).toEqual([8, 0]);
    expect(trouble()).toBeUndefined();
  });

  it('413 for one document alone waits until a smaller request has got through', async () => {
    const limit = 1_000;
    const { indexer, server, letters, trouble, deliver } = await rig(
      (request) => (request.body.length > limit ? { status: 413, body: page, headers: html } : created(request)),
      { maxDelayMs: 1 },
    );
    await deliver([line(0)]);
    await expect.poll(() => server.requests.length).toBe(1);
    const { acknowledged } = await deliver([line(1, { custom: 'x'.repeat(limit) })]);
    await expect.poll(() => server.requests.length).toBeGreaterThan(5);
    expect(trouble()).toBe('request_too_large for calling-platform-2026.11.24');
    expect([acknowledged(), letters.length]).toEqual([0, 0]);
    await deliver([line(2)]);
    expect(await indexer.drain(5_000)).toBe(true);
    expect(letters.map(({ reason, value }) => [reason, value!.length > limit])).toEqual([['too_large', true]]);
    expect([acknowledged(), trouble()]).toEqual([1, undefined]);
  });
});

describe('an index that takes no documents', () => {
  const OLD = '2026-11-20T00:00:00.000Z';
  const blocked = error(403, 'cluster_block_exception', 'index [x] blocked by: [FORBIDDEN/8/index write (api)];');

  it('holds up its own documents alone, and they follow when it opens', async () => {
    let open = false;
    const { indexer, server, trouble, deliver } = await rig(
      (request) =>
        bulkReply(request.indices.map((index) => (index.endsWith('11.20') && !open ? blocked : { status: 201 }))),
      // One at a time: a batch that waited would hold up all others.
      { concurrency: 1, maxDocuments: 10, backoffMs: 50 },
    );
    const batch = (from: number) =>
      Array.from({ length: 10 }, (_, n) => line(from + n, n < 3 ? { timestamp: OLD } : {}));
    const results: { acknowledged: () => number }[] = [];
    for (let from = 0; from < 100; from += 10) results.push(await deliver(batch(from)));
    await expect.poll(() => results.map(({ acknowledged }) => acknowledged())).toEqual(Array(10).fill(7));
    expect(trouble()).toBe('read_only for calling-platform-2026.11.20');
    // Known to be blocked, its documents are not even sent; one of them is tried now and then.
    const old = server.requests.map(({ indices }) => indices.filter((index) => index.endsWith('11.20')).length);
    expect(old.filter((documents) => documents > 1)).toEqual([3]);
    open = true;
    expect(await indexer.drain(5_000)).toBe(true);
    expect(results.map(({ acknowledged }) => acknowledged())).toEqual(Array(10).fill(10));
    expect([trouble(), indexer.inFlightBytes()]).toEqual([undefined, 0]);
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
