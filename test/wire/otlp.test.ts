// OpenTelemetry's logs at the wire: exact answers, nothing acknowledged that is not safe, bounds, and what strangers send.
import { once } from 'node:events';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import protobuf from 'protobufjs/minimal.js';
import { expect, onTestFinished, test } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import type { Chunk, RawRecord } from '../../src/core/record.ts';
import { startPipeline } from '../../src/pipeline.ts';
import { startShipping } from '../../src/shipping.ts';
import { createOtlpSource, type OtlpOptions } from '../../src/source/otlp.ts';
import { bulkReply, startBulkServer } from '../kit/bulk-server.ts';
import { startScriptedKafka } from '../kit/scripted-kafka.ts';
import { waitFor } from '../kit/servers.ts';

const MIB = 1024 * 1024;

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

interface Asked {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  /** Ends the connection as soon as it is sent. */
  readonly leave?: Promise<unknown>;
}

/** One request on a connection of its own. */
function ask(port: number, body: string | Buffer, { path = '/v1/logs', method = 'POST', headers, leave }: Asked = {}) {
  return new Promise<Answer>((resolve, reject) => {
    const bytes = Buffer.from(body);
    const sent = request({
      ...{ host: '127.0.0.1', port, path, method, agent: false },
      headers: { 'content-type': 'application/json', 'content-length': bytes.length, ...headers },
    });
    sent.on('error', reject);
    sent.on('response', async (response) => {
      const pieces: Buffer[] = [];
      for await (const piece of response) pieces.push(piece as Buffer);
      resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(pieces) });
    });
    sent.end(bytes);
    void leave?.then(() => sent.destroy());
  });
}

const packed = { 'content-encoding': 'gzip' };
const binary = { 'content-type': 'application/x-protobuf' };
const textOf = ({ value }: RawRecord) => JSON.parse(value!.toString()) as Record<string, unknown>;

let atMs = Date.parse('2026-11-28T14:22:41.607Z');
/** A request of so many records, unlike all others. */
function logs(count: number, more: object = {}): string {
  atMs += 1;
  const logRecords = Array.from({ length: count }, (_, n) => ({
    ...{ timeUnixNano: `${atMs}000000`, severityNumber: 9, body: { stringValue: `record ${n}` } },
    ...more,
  }));
  return JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] });
}

/** A source whose chunks the test takes and acknowledges. */
async function listen(options: Partial<OtlpOptions> = {}) {
  const metrics = createMetrics();
  const chunks: Chunk[] = [];
  const source = createOtlpSource(
    { address: '127.0.0.1:0', maxLineBytes: 900_000, ...options },
    { log: silentLog, clock: systemClock, metrics },
  );
  await source.start(async (chunk) => void chunks.push(chunk));
  onTestFinished(async () => {
    await source.stop();
    await source.close();
  });
  const port = Number(/:(\d+)/.exec(source.status().detail)![1]);
  const count = async (name: 'otlpRequests' | 'otlpRecords' | 'otlpRejected', label?: string) => {
    const { values } = await metrics[name].get();
    return values.filter(({ labels }) => label === undefined || Object.values(labels).includes(label))[0]?.value ?? 0;
  };
  return {
    ...{ source, port, chunks, count },
    chunk: async (n = 0) => {
      await waitFor(() => chunks.length > n, { what: `chunk ${n}`, intervalMs: 2 });
      return chunks[n]!;
    },
  };
}

/** Takes all that comes. */
async function listenAndTake(options: Partial<OtlpOptions> = {}) {
  const to = await listen(options);
  const timer = setInterval(() => {
    for (const chunk of to.chunks.splice(0)) chunk.done(chunk.records.length);
  }, 1);
  onTestFinished(() => clearInterval(timer));
  return to;
}

test('answers are byte for byte those of the protocol, in the encoding of the request, and wait for all of its records', async () => {
  const { port, chunk, count } = await listen();
  let isAnswered = false;
  const asking = ask(port, logs(2)).then((answer) => {
    isAnswered = true;
    return answer;
  });
  const first = await chunk();
  expect([...first.records].map(textOf)).toEqual([
    { timestamp: expect.stringMatching(/^2026-11-28T14:22:41\.\d{3}Z$/), level: 'info', message: 'record 0' },
    expect.objectContaining({ message: 'record 1' }),
  ]);
  first.done(1);
  expect((await ask(port, '{}')).body.toString()).toBe('{}');
  expect(isAnswered).toBe(false);
  first.done(1);
  const answer = await asking;
  expect([answer.status, answer.headers['content-type'], answer.body.toString()]).toEqual([
    200,
    'application/json',
    '{}',
  ]);
  expect(answer.headers['access-control-allow-origin']).toBeUndefined();
  const empty = await ask(port, '', { headers: binary });
  expect([empty.status, empty.headers['content-type'], empty.body.length]).toEqual([200, 'application/x-protobuf', 0]);
  expect([await count('otlpRequests', '200'), await count('otlpRecords')]).toEqual([3, 2]);
});

test('what is too long or refused by Kafka is told as partial success, in both encodings, and the others are taken', async () => {
  const { port, chunk, count } = await listen({ maxLineBytes: 1_000 });
  const long = { severityNumber: 9, timeUnixNano: '1795875761607000000', body: { stringValue: 'x'.repeat(2_000) } };
  const body = JSON.parse(logs(2)) as { resourceLogs: [{ scopeLogs: [{ logRecords: object[] }] }] };
  body.resourceLogs[0].scopeLogs[0].logRecords.unshift(long);
  const asking = ask(port, JSON.stringify(body));
  const first = await chunk();
  expect([...first.records].map((record) => textOf(record).message)).toEqual(['record 0', 'record 1']);
  first.refused!(1);
  first.done(2);
  const { status, body: said } = await asking;
  expect(status).toBe(200);
  expect(JSON.parse(said.toString())).toEqual({
    partialSuccess: {
      rejectedLogRecords: '2',
      errorMessage: expect.stringMatching(/^1 too_large: .*; 1 refused: .*max\.message\.bytes/),
    },
  });
  expect([await count('otlpRejected', 'too_large'), await count('otlpRejected', 'refused')]).toEqual([1, 1]);
  expect(await count('otlpRecords')).toBe(1);
  // resource_logs 1 { scope_logs 2 { log_records 2 { body 5 { string_value 1 } } } }
  const text = protobuf.Writer.create().uint32(10).string('y'.repeat(2_000)).finish();
  const wrap = (tag: number, inner: Uint8Array) => protobuf.Writer.create().uint32(tag).bytes(inner).finish();
  const answer = await ask(port, Buffer.from(wrap(10, wrap(18, wrap(18, wrap(42, text))))), { headers: binary });
  const reader = protobuf.Reader.create(answer.body);
  expect([answer.status, reader.uint32(), reader.uint32()]).toEqual([200, 10, answer.body.length - reader.pos]);
  expect([reader.uint32(), Number(reader.int64()), reader.uint32()]).toEqual([8, 1, 18]);
  expect(reader.string()).toMatch(/^1 too_large/);
});

test('what is not safe in time gets 503; the same request again waits for the same records, and later is answered at once', async () => {
  const { port, chunk, chunks } = await listen({ answerWithinMs: 100 });
  const body = logs(1);
  const early = await ask(port, body);
  expect([early.status, early.headers['retry-after']]).toEqual([503, '1']);
  expect(JSON.parse(early.body.toString())).toEqual({ code: 14, message: expect.stringContaining('not safe yet') });
  const again = ask(port, body);
  await again;
  expect(chunks).toHaveLength(1);
  const first = await chunk();
  first.done(1);
  expect((await ask(port, gzipSync(body), { headers: packed })).status).toBe(200);
  expect(chunks).toHaveLength(1);
  // One that only looks alike.
  void ask(port, body.replace('record 0', 'record O')).catch(() => {});
  const other = await chunk(1);
  expect(other.records.at(0)!.documentId).not.toBe(first.records.at(0)!.documentId);
});

test('a sender that leaves takes nothing away; its request is known when it comes again', async () => {
  const { port, chunk, chunks, count } = await listen();
  const body = logs(3);
  let leave = () => {};
  const left = ask(port, body, { leave: new Promise<void>((resolve) => (leave = resolve)) });
  const first = await chunk();
  leave();
  await expect(left).rejects.toThrow();
  await waitFor(async () => (await count('otlpRequests', 'gone')) === 1, { what: 'it has left' });
  const again = ask(port, body);
  first.done(3);
  expect((await again).status).toBe(200);
  expect(chunks).toHaveLength(1);
});

test('records without any time may be meant twice, and are taken twice; all others keep their ids in another process', async () => {
  const other = await listen();
  const heartbeat = JSON.stringify({
    resourceLogs: [{ scopeLogs: [{ logRecords: [{ body: { stringValue: 'alive' } }] }] }],
  });
  const timed = logs(2);
  const seen: RawRecord[][] = [];
  for (const body of [heartbeat, heartbeat, timed]) {
    const asking = ask(other.port, body);
    const chunk = await other.chunk(seen.length);
    seen.push([...chunk.records]);
    chunk.done(chunk.records.length);
    await asking;
  }
  expect(seen[0]![0]!.documentId).not.toBe(seen[1]![0]!.documentId);
  expect(textOf(seen[0]![0]!)).toEqual({ shippedLine: 'alive' });
  const third = await listen();
  const asking = ask(third.port, timed);
  const chunk = await third.chunk();
  expect([...chunk.records].map(({ documentId }) => documentId)).toEqual(seen[2]!.map(({ documentId }) => documentId));
  expect(new Set(seen[2]!.map(({ documentId }) => documentId)).size).toBe(2);
  chunk.done(2);
  await asking;
});

test('what cannot be taken is refused with the reason, before the body is read where that is possible', async () => {
  const { port, chunks } = await listen({ tokens: ['correct-horse-battery'] });
  const authorization = 'Bearer correct-horse-battery';
  const refused = async (asked: Asked, body: string | Buffer = logs(1)) => {
    const {
      status,
      body: said,
      headers,
    } = await ask(port, body, {
      ...asked,
      headers: { authorization, ...asked.headers },
    });
    return { status, message: (JSON.parse(said.toString()) as { message: string }).message, headers };
  };
  expect(await refused({ headers: { authorization: 'Bearer correct-horse-batterx' } })).toMatchObject({ status: 401 });
  expect(await refused({ headers: { authorization: 'correct-horse-battery' } })).toMatchObject({ status: 401 });
  expect(await refused({ path: '/v1/traces' })).toMatchObject({
    status: 404,
    message: expect.stringContaining('/v1/logs'),
  });
  expect(await refused({ method: 'PUT' })).toMatchObject({ status: 405, headers: { allow: 'POST' } });
  expect(await refused({ method: 'OPTIONS', headers: { origin: 'http://a.test' } })).toMatchObject({ status: 403 });
  expect(await refused({ headers: { host: 'rebound.test' } })).toMatchObject({ status: 421 });
  expect(await refused({ headers: { 'content-type': 'text/plain' } })).toMatchObject({ status: 415 });
  expect(await refused({ headers: { 'content-encoding': 'br' } })).toMatchObject({ status: 415 });
  expect(await refused({ headers: packed })).toMatchObject({ status: 400, message: expect.stringContaining('gzip') });
  const cut = gzipSync(logs(1)).subarray(0, -9);
  expect(await refused({ headers: packed }, cut)).toMatchObject({ status: 400 });
  expect(
    await refused({}, '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"soon"}]}]}]}'),
  ).toMatchObject({
    status: 400,
    message:
      'resourceLogs[0].scopeLogs[0].logRecords[0].timeUnixNano: found "soon"; permitted: nanoseconds since 1970, as a text',
  });
  expect(await refused({}, '{')).toMatchObject({ status: 400, message: 'the body is no JSON in UTF-8' });
  expect(await refused({}, Buffer.alloc(4 * MIB + 1, 32))).toMatchObject({ status: 413 });
  expect(chunks).toHaveLength(0);
});

test('a length that is not announced is bounded too, and so is what gzip hides; both end early', async () => {
  const { port, chunks } = await listen();
  const socket = connect(port, '127.0.0.1');
  socket.write(
    'POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
  );
  const piece = Buffer.alloc(MIB, 32);
  for (let n = 0; n < 5; n++) socket.write(Buffer.concat([Buffer.from('100000\r\n'), piece, Buffer.from('\r\n')]));
  const [said] = (await once(socket, 'data')) as [Buffer];
  expect(said.toString()).toMatch(/^HTTP\/1\.1 413 /);
  socket.destroy();
  // A gibibyte in a mebibyte.
  const bomb = Buffer.concat(new Array<Buffer>(16).fill(gzipSync(Buffer.alloc(64 * MIB))));
  const before = process.memoryUsage().rss;
  const started = performance.now();
  const { status } = await ask(port, bomb, { headers: packed });
  expect(status).toBe(413);
  expect(performance.now() - started).toBeLessThan(5_000);
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * MIB);
  expect(chunks).toHaveLength(0);
});

test('who takes too long to send ends with 408', async () => {
  const { port, chunks, count } = await listen();
  const head = 'POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n';
  const answers = [head, `${head}\r\n{"resourceLogs":`].map(async (begun) => {
    const socket = connect(port, '127.0.0.1');
    onTestFinished(() => void socket.destroy());
    socket.write(begun);
    const [said] = (await once(socket, 'data')) as [Buffer];
    return said.toString();
  });
  for (const said of await Promise.all(answers)) expect(said).toMatch(/^HTTP\/1\.1 408 /);
  await waitFor(async () => (await count('otlpRequests', 'gone')) === 1, { what: 'the one that had begun is counted' });
  expect(chunks).toHaveLength(0);
}, 30_000);

test('more requests, or more bytes, than may be under way are told to come again; the places of those that end are free', async () => {
  const few = await listen({ maxRequests: 2 });
  const asking = [ask(few.port, logs(1)), ask(few.port, logs(1))];
  await few.chunk(1);
  const third = await ask(few.port, logs(1));
  expect([third.status, third.headers['retry-after'], JSON.parse(third.body.toString()).code]).toEqual([429, '1', 8]);
  for (const chunk of few.chunks) chunk.done(1);
  expect((await Promise.all(asking)).map(({ status }) => status)).toEqual([200, 200]);
  const later = ask(few.port, logs(1));
  (await few.chunk(2)).done(1);
  expect((await later).status).toBe(200);

  const big = { body: { stringValue: 'z'.repeat(100_000) } };
  const small = await listen({ maxHeldBytes: 250_000 });
  const first = ask(small.port, logs(2, big));
  await small.chunk();
  const second = await ask(small.port, logs(1, big));
  expect([second.status, second.headers['retry-after']]).toEqual([503, '1']);
  small.chunks[0]!.done(2);
  expect((await first).status).toBe(200);
  const free = ask(small.port, logs(1, big));
  (await small.chunk(1)).done(1);
  expect((await free).status).toBe(200);
});

test('one resource with much in it, in thousands of records, makes no more than a bounded number of bytes', async () => {
  const { port, chunk, count } = await listen();
  const logRecords = Array.from({ length: 5_000 }, (_, n) => ({ timeUnixNano: String(n + 1), severityNumber: 9 }));
  const attributes = Array.from({ length: 100 }, (_, n) => ({
    key: `k${n}`,
    value: { stringValue: 'v'.repeat(1_000) },
  }));
  const body = JSON.stringify({ resourceLogs: [{ resource: { attributes }, scopeLogs: [{ logRecords }] }] });
  const asking = ask(port, gzipSync(body), { headers: packed });
  const { bytes, records, done } = await chunk();
  expect(bytes).toBeLessThanOrEqual(32 * MIB);
  expect(records.length).toBeGreaterThan(300);
  done(records.length);
  const { partialSuccess } = JSON.parse((await asking).body.toString());
  expect(Number(partialSuccess.rejectedLogRecords)).toBe(5_000 - records.length);
  expect(await count('otlpRejected', 'too_large')).toBe(5_000 - records.length);
});

test('no body makes it throw, hang or fall silent: cut, changed and nested ones are taken or refused with 400', async () => {
  const { port } = await listenAndTake();
  const nested = (depth: number) => `{"resourceLogs":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  const anyValues = (depth: number) => {
    const body = `${'{"arrayValue":{"values":['.repeat(depth)}{"intValue":"1"}${']}}'.repeat(depth)}`;
    return `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","severityNumber":9,"body":${body}}]}]}]}`;
  };
  for (const body of [nested(900_000), nested(2), anyValues(15), anyValues(100_000), '[]', 'null', '"x"', '\ufeff{}']) {
    const { status } = await ask(port, gzipSync(body), { headers: packed });
    expect([200, 400]).toContain(status);
  }
  // Every level of a body that holds itself as a list, 100,000 deep.
  let deep: Uint8Array = protobuf.Writer.create().uint32(24).int64(1).finish();
  for (let n = 0; n < 1_000; n++) {
    const list = protobuf.Writer.create().uint32(10).bytes(deep).finish();
    deep = protobuf.Writer.create().uint32(42).bytes(list).finish();
  }
  const wrap = (tag: number, inner: Uint8Array) => protobuf.Writer.create().uint32(tag).bytes(inner).finish();
  const whole = Buffer.from(wrap(10, wrap(18, wrap(18, wrap(42, deep)))));
  expect((await ask(port, whole, { headers: binary })).status).toBe(200);
  // Groups within groups, and the most empty messages that fit.
  expect((await ask(port, Buffer.alloc(MIB, 0x0b), { headers: binary })).status).toBe(400);
  const empties = gzipSync(Buffer.from(wrap(10, wrap(18, Buffer.alloc(15 * MIB, Buffer.from([18, 0]))))));
  const started = performance.now();
  const { status, body } = await ask(port, empties, { headers: { ...binary, ...packed } });
  expect([status, protobuf.Reader.create(body).uint32()]).toEqual([200, 10]);
  expect(performance.now() - started).toBeLessThan(5_000);
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.nat(), fc.nat(255), async (bytes, at, byte) => {
      const changed = Buffer.from(whole.subarray(0, at % whole.length));
      if (changed.length > 0) changed[at % changed.length] = byte;
      for (const sent of [Buffer.from(bytes), changed]) {
        expect([200, 400]).toContain((await ask(port, sent, { headers: binary })).status);
      }
    }),
    { numRuns: 60 },
  );
});

test('stop takes nothing new, finishes what is being sent, and answers what becomes safe; close tells the others to come again', async () => {
  const { source, port, chunk, chunks } = await listen();
  const first = ask(port, logs(1));
  const second = ask(port, logs(1));
  await chunk(1);
  const half = request({ host: '127.0.0.1', port, path: '/v1/logs', method: 'POST', agent: false });
  half.setHeader('content-type', 'application/json');
  const text = logs(1);
  half.write(text.slice(0, 20));
  const answered = once(half, 'response');
  await waitFor(() => source.status().detail.endsWith('3 under way'), { what: 'the third has begun' });
  const stopping = source.stop();
  half.end(text.slice(20));
  await stopping;
  await expect(ask(port, logs(1))).rejects.toThrow();
  chunks[0]!.done(1);
  expect((await first).status).toBe(200);
  chunks[2]!.done(1);
  const [third] = await answered;
  expect([third.statusCode, third.headers.connection]).toEqual([200, 'close']);
  await source.close();
  expect((await second).status).toBe(503);
});

test('with Kafka away nothing is acknowledged; what comes again meanwhile and after the end is in the topic once', async () => {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 2 });
  await kafka.stop(0);
  const input = { otlp: 'http://127.0.0.1:0', environment: 'test', service: 'edge' };
  const start = async () => {
    const given = {
      kafka: { brokers: kafka.brokers, topics: { logs: kafka.topic } },
      shutdownTimeoutMs: 1_000,
      ship: { inputs: [input], http: { enabled: false } },
    };
    const shipping = await startShipping(parseConfig(JSON.stringify(given), {}, 'test'), { log: silentLog });
    onTestFinished(async () => void (await shipping.stop()));
    return { shipping, port: Number(/:(\d+)/.exec(shipping.readiness()[0]!.detail)![1]) };
  };
  const first = await start();
  const body = logs(3, {
    attributes: [
      { key: 'callId', value: { stringValue: 'CA1' } },
      { key: 'password', value: { stringValue: 'hunter2secret' } },
    ],
  });
  const waiting = ask(first.port, body);
  await waitFor(() => first.shipping.summary().waiting === 3, { what: 'they are in the queue' });
  const again = ask(first.port, body);
  expect(kafka.records).toHaveLength(0);
  await kafka.start(0);
  expect((await Promise.all([waiting, again])).map(({ status }) => status)).toEqual([200, 200]);
  expect(kafka.records).toHaveLength(3);
  expect((await ask(first.port, body)).status).toBe(200);
  expect(kafka.records).toHaveLength(3);
  // Its answer was lost, and the process with it: another one takes the request once more, and says so.
  await first.shipping.stop();
  const second = await start();
  expect((await ask(second.port, body)).status).toBe(200);
  expect(kafka.records).toHaveLength(6);
  const ids = kafka.records.map(({ headers }) => headers.eventId);
  expect(new Set(ids).size).toBe(3);
  expect(ids.every((id) => /^7[0-9A-HJKMNP-TV-Z]{25}$/.test(id!))).toBe(true);
  expect(kafka.records.slice(3).map(({ headers }) => headers.resent)).toEqual(['1', '1', '1']);
  expect(new Set(kafka.records.map(({ partition, key }) => `${partition} ${key}`)).size).toBe(1);
  expect(kafka.records.every(({ value }) => !value.includes('hunter2secret'))).toBe(true);
  expect(kafka.records[0]!.value).toContain('"environment":"test"');
});

test('what Kafka refuses for good is told to the sender, and the rest of its request is safe', async () => {
  const MESSAGE_TOO_LARGE = 10;
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const given = {
    kafka: { brokers: kafka.brokers, topics: { logs: kafka.topic } },
    ship: { inputs: [{ otlp: '127.0.0.1:0' }], http: { enabled: false } },
  };
  const shipping = await startShipping(parseConfig(JSON.stringify(given), {}, 'test'), { log: silentLog });
  onTestFinished(async () => void (await shipping.stop()));
  const port = Number(/:(\d+)/.exec(shipping.readiness()[0]!.detail)![1]);
  kafka.answer(0, MESSAGE_TOO_LARGE);
  const { body } = await ask(port, logs(1));
  expect(JSON.parse(body.toString()).partialSuccess).toMatchObject({ rejectedLogRecords: '1' });
  expect((await ask(port, logs(1))).body.toString()).toBe('{}');
  expect(shipping.summary()).toMatchObject({ sent: 1, dropped: 1 });
});

test('without Kafka a request waits for Elasticsearch, and is indexed under the same ids when it comes again', async () => {
  let isOpen = false;
  const indexed: string[][] = [];
  const server = await startBulkServer(({ ids }) => {
    if (!isOpen) return { status: 503, body: {} };
    if (ids.length > 0) indexed.push([...ids]);
    return bulkReply(ids.map(() => ({ status: 201 })));
  });
  onTestFinished(() => server.close());
  const start = async () => {
    const given = {
      ...{ source: 'otlp', otlp: { address: '127.0.0.1:0' }, roles: ['indexer'], http: { port: 0 } },
      ...{ elasticsearch: { nodes: [server.url], installTemplate: false }, bulk: { maxDelayMs: 10 } },
    };
    const pipeline = await startPipeline(parseConfig(JSON.stringify(given), {}, 'test'), { log: silentLog });
    onTestFinished(async () => void (await pipeline.stop()));
    const port = await waitFor(
      async () =>
        Number(/listening at 127\.0\.0\.1:(\d+)/.exec(await (await fetch(`${pipeline.url}/ready`)).text())?.[1]),
      { what: 'it listens' },
    );
    return { pipeline, port };
  };
  const first = await start();
  let isAnswered = false;
  const body = logs(3);
  const asking = ask(first.port, body).then((answer) => {
    isAnswered = true;
    return answer;
  });
  await waitFor(() => server.requests.some(({ ids }) => ids.length === 3), {
    what: 'the records are at Elasticsearch',
  });
  expect(isAnswered).toBe(false);
  isOpen = true;
  expect((await asking).status).toBe(200);
  expect((await ask(first.port, body)).status).toBe(200);
  expect(indexed.flat()).toHaveLength(3);
  await first.pipeline.stop();
  const second = await start();
  expect((await ask(second.port, body)).status).toBe(200);
  expect(indexed[1]).toEqual(indexed[0]);
});
