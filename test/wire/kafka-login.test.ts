// A log-in to a broker that stops answering in the middle of it, or breaks off: it fails in the time of a request, as a connection
// that broke. Only a broker's refusal is one.
import { createRequire } from 'node:module';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import kafkajs from 'kafkajs';
import { expect, onTestFinished, test } from 'vitest';
import { repairKafkaJsTime } from '../../src/core/kafka/kafkajs-timer.ts';
import { isKafkaAway } from '../../src/source/kafka/client.ts';

interface Reply {
  readonly buffer: Buffer;
  writeInt16(value: number): Reply;
  writeInt32(value: number): Reply;
  writeString(value: string | null): Reply;
  writeBytes(value: Buffer): Reply;
}

const Encoder = createRequire(import.meta.url)('kafkajs/src/protocol/encoder') as new () => Reply;
const SASL_HANDSHAKE = 17;
const API_VERSIONS = 18;
const SASL_AUTHENTICATE = 36;
const SASL_AUTHENTICATION_FAILED = 58;
const REQUEST_MS = 1_000;

type Step = 'ApiVersions' | 'handshake' | 'password';
type Doing = 'silent' | 'reset' | 'hangUp' | 'refuse';

/** Does as told at one step of the log-in. Before Kafka 1.0 (`old`) the password is no request. Ends with the test. */
async function startBroker(at: Step, doing: Doing, old: boolean): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    let pending = Buffer.alloc(0);
    let raw = false;
    const send = (body: Buffer) => {
      const length = Buffer.alloc(4);
      length.writeInt32BE(body.length);
      socket.write(Buffer.concat([length, body]));
    };
    socket.on('data', (bytes) => {
      pending = Buffer.concat([pending, bytes]);
      while (pending.length >= 4 && pending.length >= 4 + pending.readInt32BE(0)) {
        const frame = pending.subarray(4, 4 + pending.readInt32BE(0));
        pending = pending.subarray(4 + frame.length);
        const key = raw ? SASL_AUTHENTICATE : frame.readInt16BE(0);
        const step = key === API_VERSIONS ? 'ApiVersions' : key === SASL_HANDSHAKE ? 'handshake' : 'password';
        const reply = new Encoder();
        if (!raw) reply.writeInt32(frame.readInt32BE(4));
        if (step === at) {
          if (doing === 'reset') socket.resetAndDestroy();
          if (doing === 'hangUp') socket.end();
          if (doing === 'refuse')
            send(
              reply.writeInt16(SASL_AUTHENTICATION_FAILED).writeString('wrong password').writeBytes(Buffer.alloc(0))
                .buffer,
            );
          return;
        }
        if (key === API_VERSIONS) {
          const apis = [[API_VERSIONS, 0], [SASL_HANDSHAKE, old ? 0 : 1], ...(old ? [] : [[SASL_AUTHENTICATE, 0]])];
          reply.writeInt16(frame.readInt16BE(2) > 0 ? 35 : 0).writeInt32(apis.length);
          for (const [api, highest] of apis) reply.writeInt16(api!).writeInt16(0).writeInt16(highest!);
        } else {
          reply.writeInt16(0).writeInt32(1).writeString('PLAIN');
          raw = old;
        }
        send(reply.buffer);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function logIn(broker: string) {
  repairKafkaJsTime();
  const kafka = new kafkajs.Kafka({
    ...{ brokers: [broker], logLevel: kafkajs.logLevel.NOTHING, retry: { retries: 0 } },
    ...{ connectionTimeout: REQUEST_MS, requestTimeout: REQUEST_MS },
    sasl: { mechanism: 'plain', username: 'logpipe', password: 'open sesame' },
  });
  const admin = kafka.admin();
  const sinceMs = performance.now();
  const error = await admin.connect().then(
    () => undefined,
    (reason: Error) => reason,
  );
  void admin.disconnect().catch(() => {});
  return { error, isAway: isKafkaAway(error), tookMs: performance.now() - sinceMs };
}

test.each<[Step, Doing, boolean]>([
  ['ApiVersions', 'silent', false],
  ['handshake', 'silent', false],
  ['handshake', 'reset', false],
  ['password', 'silent', false],
  ['password', 'reset', false],
  ['password', 'hangUp', false],
  ['handshake', 'silent', true],
  ['password', 'silent', true],
  ['password', 'reset', true],
])('at the step %s the broker: %s (before Kafka 1.0: %s)', async (step, doing, old) => {
  const { error, isAway, tookMs } = await logIn(await startBroker(step, doing, old));
  expect(tookMs).toBeLessThan(REQUEST_MS + 2_000);
  expect([isAway, error?.message]).toEqual([true, expect.not.stringContaining('authentication failed')]);
});

test.each<[Doing, boolean]>([
  ['refuse', false],
  ['hangUp', true],
])('a refused password stays one: %s (before Kafka 1.0: %s)', async (doing, old) => {
  const { error, isAway } = await logIn(await startBroker('password', doing, old));
  expect([isAway, error?.message]).toEqual([false, expect.stringMatching(/authentication failed: (?:wrong|Conn)/)]);
});
