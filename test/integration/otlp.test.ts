// OpenTelemetry's own SDK, with its exporters of both encodings, to `logpipe ship` and on to documents. Judged from outside: each record
// is one document with the right fields, also when Kafka is killed in the middle and when the answer to a request is lost; and what was
// acknowledged meanwhile is there.
import { connect, createServer, type Socket } from 'node:net';
import { OTLPLogExporter as JsonExporter } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtobufExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import {
  BatchLogRecordProcessor,
  LoggerProvider,
  type LoggerProviderOptions,
  type LogRecordExporter,
} from '@opentelemetry/sdk-logs';
import { expect, onTestFinished, test } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { silentLog } from '../../src/core/log.ts';
import { startShipping } from '../../src/shipping.ts';
import { createLedger } from '../kit/ledger.ts';
import { startKafka, waitFor } from '../kit/servers.ts';

const PER_STAGE = 150;
const BATCH = 50;
const SUCCESS = 0;

/** Stands before the server; the answer to the request that comes next can be lost. */
async function startFront(port: number) {
  let isLost = false;
  let lost = 0;
  const sockets = new Set<Socket>();
  const front = createServer((client) => {
    const server = connect(port, '127.0.0.1');
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => {}).once('close', () => sockets.delete(socket));
    }
    client.pipe(server);
    server.on('data', (bytes) => {
      if (!isLost) {
        client.write(bytes);
        return;
      }
      isLost = false;
      lost += 1;
      client.resetAndDestroy();
    });
    server.once('close', () => client.destroy());
    client.once('close', () => server.destroy());
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    front.close();
  });
  const address = front.address() as { port: number };
  return {
    url: `http://127.0.0.1:${address.port}/v1/logs`,
    loseNext: () => (isLost = true),
    lost: () => lost,
  };
}

/** All types of values, by names of ours, of the conventions, and of nobody. */
const attributesOf = (n: number) => ({
  ...{ requestId: `r${n}`, callId: `CA${n % 7}`, 'http.request.method': 'POST', 'http.response.status_code': 502 },
  ...{
    'exception.type': 'TypeError',
    'exception.message': 'x is no function',
    'exception.stacktrace': 'TypeError: x\n at y',
  },
  ...{ text: 'täxt', whole: 2 ** 40, fraction: 1.5, yes: true, none: null, bytes: new Uint8Array([1, 2, 3]) },
  ...{
    texts: ['a', 'b'],
    numbers: [1, 2.5],
    mixed: ['a', 1, { deep: [false] }],
    map: { inner: { leaf: 'l' }, count: n },
  },
});

test('every record of the SDK is one document, whatever Kafka and the network do, and nothing acknowledged is lost', async () => {
  const kafka = await startKafka({ heap: '256m' });
  const ledger = await createLedger({ brokers: kafka.brokers });
  const indexer = ledger.start();
  await indexer.waitForLine(/"message":"running"/);
  const given = {
    kafka: { brokers: kafka.brokers, topics: { logs: ledger.topic } },
    ship: { inputs: [{ otlp: 'http://127.0.0.1:0' }], http: { enabled: false } },
  };
  const shipping = await startShipping(parseConfig(JSON.stringify(given), {}, 'test'), { log: silentLog });
  onTestFinished(async () => void (await shipping.stop()));
  const front = await startFront(Number(/:(\d+)/.exec(shipping.readiness()[0]!.detail)![1]));

  const acknowledged: string[] = [];
  const failures: unknown[] = [];
  const attributes = {
    ...{ 'service.name': ledger.service, 'service.version': '1.4.2', 'deployment.environment.name': 'test' },
    ...{ 'host.name': 'web1', 'process.pid': 411, 'telemetry.sdk.language': 'nodejs' },
  };
  const resource = { attributes, getRawAttributes: () => Object.entries(attributes), merge: () => resource };
  const loggers = [
    new JsonExporter({ url: front.url, timeoutMillis: 120_000 }),
    new ProtobufExporter({ url: front.url, timeoutMillis: 120_000, compression: 'gzip' as never }),
  ].map((exporter) => {
    // What the application is told, noted.
    const noting: LogRecordExporter = {
      export: (records, done) =>
        exporter.export(records, (result) => {
          if (result.code !== SUCCESS) failures.push(result.error);
          else acknowledged.push(...records.map((record) => String(record.attributes.requestId)));
          done(result);
        }),
      shutdown: () => exporter.shutdown(),
      forceFlush: () => exporter.forceFlush(),
    };
    const processor = new BatchLogRecordProcessor({
      ...{ exporter: noting, maxExportBatchSize: BATCH, scheduledDelayMillis: 20, exportTimeoutMillis: 120_000 },
    });
    const provider = new LoggerProvider({ resource, processors: [processor] } as unknown as LoggerProviderOptions);
    onTestFinished(() => provider.shutdown());
    return { provider, logger: provider.getLogger('calls', '2.0') };
  });

  let emitted = 0;
  const emit = (count: number) => {
    for (let i = 0; i < count; i++) {
      const n = emitted++;
      const { logger } = loggers[n % 2]!;
      const body = n % 3 === 0 ? { message: `event ${n}`, tenantId: 't1' } : `event ${n}`;
      logger.emit({ severityNumber: 17, severityText: 'ERROR', body, attributes: attributesOf(n) });
    }
  };
  const flush = () => Promise.all(loggers.map(({ provider }) => provider.forceFlush({ timeoutMillis: 120_000 })));

  emit(PER_STAGE);
  await flush();
  expect(acknowledged).toHaveLength(PER_STAGE);

  // The answers of both are lost once, after Kafka has the records.
  for (const at of [1, 2]) {
    front.loseNext();
    emit(PER_STAGE / 2);
    await flush();
    expect(front.lost()).toBe(at);
  }
  expect(acknowledged).toHaveLength(2 * PER_STAGE);

  await kafka.kill();
  emit(PER_STAGE);
  const flushing = flush();
  await waitFor(() => shipping.summary().waiting >= 2 * BATCH, { what: 'some are on their way' });
  expect(acknowledged).toHaveLength(2 * PER_STAGE);
  await kafka.start();
  await flushing;
  expect(failures).toEqual([]);
  expect(new Set(acknowledged).size).toBe(3 * PER_STAGE);

  await ledger.settled();
  const search = async () => {
    await fetch(`${ledger.esUrl}/calling-platform-*/_refresh`, { method: 'POST' });
    const reply = await fetch(`${ledger.esUrl}/calling-platform-*/_search`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ size: 10_000, query: { term: { service: ledger.service } } }),
    });
    const { hits } = (await reply.json()) as { hits: { hits: { _source: Record<string, unknown> }[] } };
    return hits.hits.map(({ _source }) => _source);
  };
  const documents = await search();
  expect(documents).toHaveLength(3 * PER_STAGE);
  const byNumber = new Map(documents.map((one) => [Number(String(one.requestId).slice(1)), one]));
  expect(byNumber.size).toBe(3 * PER_STAGE);
  expect(acknowledged.every((id) => byNumber.has(Number(id.slice(1))))).toBe(true);
  for (const [n, document] of byNumber) {
    expect(document).toMatchObject({
      ...{ level: 'error', message: `event ${n}`, callId: `CA${n % 7}`, version: '1.4.2', environment: 'test' },
      ...{ host: 'web1', pid: 411, http: { method: 'POST', status: 502 }, tags: ['error'] },
      ...(n % 3 === 0 ? { tenantId: 't1' } : {}),
      error: { name: 'TypeError', message: 'x is no function', stack: 'TypeError: x\n at y' },
      extra: {
        ...{ text: 'täxt', whole: 2 ** 40, fraction: 1.5, yes: true, bytes: 'AQID', texts: ['a', 'b'] },
        ...{ numbers: [1, 2.5], map: { inner: { leaf: 'l' }, count: n } },
        resource: { 'telemetry.sdk.language': 'nodejs' },
        scope: { name: 'calls', version: '2.0' },
      },
    });
    expect(Math.abs(Date.parse(String(document.timestamp)) - Date.now())).toBeLessThan(600_000);
  }
  const { values } = await shipping.metrics.otlpRecords.get();
  expect(values[0]!.value).toBe(3 * PER_STAGE);
  indexer.kill('SIGTERM');
  expect((await indexer.exit).status).toBe(0);
});
