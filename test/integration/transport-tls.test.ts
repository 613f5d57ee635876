// The transport and the intake on a Kafka that asks for TLS, client certificates and passwords: records arrive over each
// kind of listener; who is not let in is told why, without secrets, and keeps exact counts.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, onTestFinished } from 'vitest';
import winston from 'winston';
import { silentLog } from '../../src/core/log.ts';
import { type DropNotice, KafkaTransport, type KafkaTransportOptions } from '../../src/ship/index.ts';
import { createKafka, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { ensureTopics } from '../../src/source/kafka/topics.ts';
import { setScramPassword } from '../kit/scram-users.ts';
import { secureListeners } from '../kit/secure-listeners.ts';
import { createTopic, spawnLogpipe, startKafka, uniqueName, waitFor } from '../kit/servers.ts';
import { kafkaConfig, openSource, testAdmin } from './intake-kit.ts';

const PASSWORD = 'correct-horse-4711';
const WRONG = 'battery-staple-0815';
const secure = await secureListeners(PASSWORD);
afterAll(() => secure.remove());
const kafka = await startKafka({ port: secure.port, properties: secure.properties, heap: '256m' });
await setScramPassword(secure.port, secure.user, PASSWORD);

type Mechanism = 'plain' | 'scram-sha-256' | 'scram-sha-512';
type Way = Pick<KafkaTransportOptions, 'brokers' | 'ssl' | 'sasl'>;

const { ca, cert, key, files, ssl, saslSsl } = secure;
const login = (mechanism: Mechanism, password = PASSWORD) => ({ mechanism, username: secure.user, password });
const withPassword = (mechanism: Mechanism, password?: string): Way => ({
  brokers: saslSsl,
  ssl: { ca },
  sasl: login(mechanism, password) as NonNullable<Way['sasl']>,
});

function intakeConfig(topic: string, brokers: string[], way: Pick<KafkaConfig, 'ssl' | 'sasl'>): KafkaConfig {
  return { ...kafkaConfig({ topic, brokers }), ...way };
}

function loggerTo(topic: string, way: Way, more: Partial<KafkaTransportOptions> = {}) {
  const transport = new KafkaTransport({ topic, service: 'api', batch: { maxDelayMs: 20 }, ...way, ...more });
  onTestFinished(async () => void (await transport.close()));
  const failures: string[] = [];
  const told: string[] = [];
  transport.on('send-failed', ({ message }: { message: string }) => failures.push(message));
  transport.on('warn', ({ message }: { message: string }) => told.push(message));
  transport.on('dropped', ({ message }: DropNotice) => told.push(message));
  const format = winston.format.json();
  return { transport, logger: winston.createLogger({ format, transports: [transport] }), failures, told };
}

const messages = (records: readonly { value: Buffer | null }[]) =>
  records.map(({ value }) => (JSON.parse(String(value)) as { message: string }).message);
const numbered = (count: number) => Array.from({ length: count }, (_, n) => `event ${n}`);

describe('delivered, and read by the intake', () => {
  it.each<[string, Way, string[], Pick<KafkaConfig, 'ssl' | 'sasl'>]>([
    ['a client certificate', { brokers: ssl, ssl: { ca, cert, key } }, ssl, { ssl: files }],
    ...(['plain', 'scram-sha-256', 'scram-sha-512'] as const).map(
      (mechanism): [string, Way, string[], Pick<KafkaConfig, 'ssl' | 'sasl'>] => [
        mechanism,
        withPassword(mechanism),
        saslSsl,
        { ssl: { caFile: files.caFile }, sasl: login(mechanism) },
      ],
    ),
  ])('%s', async (_name, way, brokers, intake) => {
    const topic = uniqueName('tls');
    const config = {
      ...intakeConfig(topic, brokers, intake),
      topics: { ...kafkaConfig({ topic }).topics, partitions: 1 },
    };
    const { created } = await ensureTopics(createKafka(config, silentLog), config, silentLog);
    const { logs, dlq, counts, alerts } = config.topics;
    expect(created).toEqual([logs, dlq, counts, alerts]);
    // Frozen, as a configuration often is.
    const sasl = way.sasl === undefined ? {} : { sasl: Object.freeze({ ...way.sasl }) as NonNullable<Way['sasl']> };
    const { logger, transport, failures } = loggerTo(topic, { ...way, ...sasl }, { compression: 'gzip' });
    for (const message of numbered(300)) logger.info(message);
    expect(await transport.close()).toEqual({ delivered: 300, dropped: 0, undelivered: 0 });
    expect(failures).toEqual([]);
    const taken = await openSource(config, { auto: true });
    await waitFor(() => taken.records.length >= 300, { what: '300 records' });
    expect(messages(taken.records)).toEqual(numbered(300));
  });

  it('the command line, with its password in a file', async () => {
    const topic = uniqueName('tls');
    const folder = mkdtempSync(join(tmpdir(), 'logpipe-tls-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'password'), PASSWORD);
    const { password: _, ...user } = login('scram-sha-512');
    const section = {
      brokers: saslSsl,
      ssl: { caFile: files.caFile },
      sasl: { ...user, passwordFile: join(folder, 'password') },
      topics: { logs: topic, dlq: `${topic}.dlq` },
    };
    const config = join(folder, 'logpipe.yml');
    writeFileSync(config, JSON.stringify({ kafka: section, sinks: { elasticsearch: false, console: {} } }));
    const setup = spawnLogpipe(['setup', '--config', config]);
    expect((await setup.exit).status, setup.stderr()).toBe(0);
    const tail = spawnLogpipe(['tail', '--config', config, '--limit', '1', '--json']);
    await tail.waitForLine(/^following /);
    const { logger, transport } = loggerTo(topic, withPassword('plain'));
    logger.info('hello over TLS');
    await transport.close();
    expect(await tail.waitForLine(/hello over TLS/)).toContain('"service":"api"');
    expect((await tail.exit).status).toBe(0);
    expect(setup.stdout() + setup.stderr() + tail.stdout() + tail.stderr()).not.toContain(PASSWORD);
  });
});

const refused: [string, Way, RegExp][] = [
  ['a wrong password, PLAIN', withPassword('plain', WRONG), /authentication failed.*check sasl$/],
  ['a wrong password, SCRAM-SHA-256', withPassword('scram-sha-256', WRONG), /authentication failed.*check sasl$/],
  ['a wrong password, SCRAM-SHA-512', withPassword('scram-sha-512', WRONG), /authentication failed.*check sasl$/],
  [
    'an authority that did not sign the broker’s certificate',
    { ...withPassword('plain'), ssl: { ca: secure.strangerCa } },
    /certificate.*not trusted: check ssl$/,
  ],
  ['the system’s authorities', { ...withPassword('plain'), ssl: true }, /certificate.*not trusted: check ssl$/],
  ['no client certificate', { brokers: ssl, ssl: { ca } }, /wants a client certificate.*check ssl$/],
  ['plaintext to TLS', { brokers: ssl }, /hung up.*expects TLS \(ssl\) or a login \(sasl\)$/],
  ['a password in plaintext to TLS', { ...withPassword('plain'), ssl: false }, /hung up.*expects TLS \(ssl\)/],
  ['TLS without the login', { brokers: saslSsl, ssl: { ca } }, /hung up.*or a login \(sasl\)$/],
  [
    'a login where there is none',
    { ...withPassword('plain'), brokers: ssl, ssl: { ca, cert, key } },
    /this port takes no login: check the port and sasl$/,
  ],
  ['TLS to plaintext', { brokers: kafka.brokers, ssl: { ca } }, /no TLS at this port: check the port and ssl$/],
];

describe('not let in', () => {
  it.each(refused)(
    '%s: told why and without secrets; the application goes on, counts are exact',
    async (_name, way, why) => {
      const topic = uniqueName('tls');
      await createTopic(kafka.brokers, topic, { partitions: 1 });
      const { logger, transport, failures, told } = loggerTo(topic, way, {
        queue: { maxRecords: 50 },
        closeTimeoutMs: 200,
      });
      const times: number[] = [];
      for (const message of numbered(80)) {
        const started = performance.now();
        logger.info(message);
        times.push(performance.now() - started);
      }
      expect(times.sort((a, b) => a - b)[40]).toBeLessThan(5);
      await waitFor(() => failures.length > 0, { what: 'send-failed' });
      expect(failures).toEqual([expect.stringMatching(why)]);
      expect(failures[0]).not.toContain('\n');
      for (const secret of [PASSWORD, WRONG, Buffer.from(PASSWORD).toString('base64'), key.split('\n')[1]!]) {
        expect([...failures, ...told].filter((text) => text.includes(secret))).toEqual([]);
      }
      logger.info('one more');
      expect(transport.stats()).toMatchObject({ delivered: 0, queuedRecords: 50, dropped: { 'queue-full': 31 } });
      expect(await transport.close()).toEqual({ delivered: 0, dropped: 31, undelivered: 50 });
      expect((await (await testAdmin(kafka.brokers)).fetchTopicOffsets(topic))[0]!.high).toBe('0');
    },
  );

  it('until somebody sets the right password: then what is queued arrives, once and in order', async () => {
    const topic = uniqueName('tls');
    await createTopic(kafka.brokers, topic, { partitions: 1 });
    await setScramPassword(secure.port, 'rotated', WRONG);
    const sasl = { mechanism: 'scram-sha-512', username: 'rotated', password: PASSWORD } as const;
    const way: Way = { brokers: saslSsl, ssl: { ca }, sasl };
    const { logger, transport, failures, told } = loggerTo(topic, way, { queue: { maxRecords: 50 } });
    for (const message of numbered(80)) logger.info(message);
    await waitFor(() => failures.length > 0, { what: 'send-failed' });
    await setScramPassword(secure.port, 'rotated', PASSWORD);
    await waitFor(() => transport.stats().delivered === 50, { what: 'delivery with the right password' });
    expect(told).toContain('30 records were dropped (queue-full); that is over.');

    // A password that changes under a connection counts from the next one on.
    await setScramPassword(secure.port, 'rotated', WRONG);
    await kafka.kill();
    await kafka.start();
    for (let n = 50; n < 70; n++) logger.info(`event ${n}`);
    await waitFor(() => failures.length > 1, { what: 'send-failed after the change' });
    expect(failures[1]).toMatch(/authentication failed.*check sasl$/);
    await setScramPassword(secure.port, 'rotated', PASSWORD);
    expect(await transport.close()).toEqual({ delivered: 70, dropped: 30, undelivered: 0 });
    const config = intakeConfig(topic, saslSsl, { ssl: { caFile: files.caFile }, sasl });
    const taken = await openSource(config, { auto: true });
    await waitFor(() => taken.records.length >= 70, { what: '70 records' });
    expect(messages(taken.records)).toEqual(numbered(70));
  });
});
