// The Kafka producer behind the transport. In: settings. Out: a fresh producer per call of `producer()`.
// Guarantee: kafkajs's log goes to `warn`, and idle connections do not keep the application's process alive.
import net from 'node:net';
import tls from 'node:tls';
import kafkajs, { type KafkaConfig, type Producer } from 'kafkajs';
import { errorText } from '../core/errors.ts';
import { repairKafkaJsTime } from '../core/kafkajs-timer.ts';
import { createEncodedSend } from './encoded-send.ts';
import type { TransportSettings } from './options.ts';
import type { ShipRecord } from './record.ts';

export interface ShipClient {
  /** A new, unconnected, idempotent producer with a producer id of its own. */
  producer(): Producer;
  /** Resolves when all in-sync replicas have the records. */
  send(producer: Producer, records: readonly ShipRecord[], resent: boolean): Promise<void>;
  /** While busy, sockets keep the process alive. */
  busy(busy: boolean): void;
  /** No more sends after this. */
  dispose(): void;
}

const CONNECTION_TIMEOUT_MS = 3_000;
const REQUEST_TIMEOUT_MS = 15_000;
// kafkajs waits this long after a first failure; its 300 ms would show as latency at every leader change.
const INITIAL_RETRY_MS = 50;
const MAX_RETRY_MS = 1_000;
const RETRIES = 5;
const KEEP_ALIVE_MS = 60_000;
const REPEAT_MS = 60_000;
const MAX_REMEMBERED = 200;

export function createShipClient(
  settings: TransportSettings,
  deps: {
    warn(source: 'kafkajs', message: string): void;
    /** Once, before the first connection: something that must be seen. */
    warnLoudly(message: string): void;
  },
): ShipClient {
  const { Kafka, logLevel } = kafkajs;
  repairKafkaJsTime();
  const sockets = new Set<net.Socket>();
  const encoded = createEncodedSend(settings.compression);
  let isBusy = false;

  const config: KafkaConfig = {
    clientId: settings.clientId,
    brokers: [...settings.brokers],
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retry: { initialRetryTime: INITIAL_RETRY_MS, maxRetryTime: MAX_RETRY_MS, retries: RETRIES },
    ...(settings.ssl === false ? {} : { ssl: settings.ssl }),
    // A copy: kafkajs writes into it, and the application's own may be frozen or shared.
    ...(settings.sasl === undefined ? {} : { sasl: { ...settings.sasl } }),
    logLevel: logLevel.WARN,
    logCreator: () => passOn(deps.warn),
    socketFactory: ({ host, port, ssl, onConnect }) => {
      const name = net.isIP(host) === 0 ? { servername: host } : {};
      const socket = ssl
        ? tls.connect({ host, port, ...name, ...ssl }, onConnect)
        : net.connect({ host, port }, onConnect);
      socket.setKeepAlive(true, KEEP_ALIVE_MS);
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      if (!isBusy) socket.unref();
      return socket;
    },
  };
  const kafka = new Kafka(config);
  let inClear = clearTextBroker(settings);

  return {
    producer() {
      if (inClear !== undefined) {
        deps.warnLoudly(
          `The credentials of sasl (${settings.sasl?.mechanism}) go to ${inClear} unencrypted, as all records do; set ssl.`,
        );
        inClear = undefined;
      }
      return kafka.producer({
        idempotent: true,
        maxInFlightRequests: 1,
        allowAutoTopicCreation: false,
        createPartitioner: encoded.partitioner,
        retry: { initialRetryTime: INITIAL_RETRY_MS, maxRetryTime: MAX_RETRY_MS, retries: RETRIES },
      });
    },
    send: (producer, records, resent) => encoded.send(producer, settings.topic, records, resent),
    dispose: () => encoded.dispose(),
    busy(busy) {
      isBusy = busy;
      for (const socket of sockets) busy ? socket.ref() : socket.unref();
    },
  };
}

/** The first broker on another machine that would get credentials without TLS. */
function clearTextBroker({ brokers, sasl, ssl }: TransportSettings): string | undefined {
  if (sasl === undefined || ssl !== false) return undefined;
  return brokers.find(
    (broker) => !/^(?:localhost|127(?:\.\d{1,3}){3}|\[(?:::1|::ffff:127[\d.a-f:]*)\]):\d+$/i.test(broker),
  );
}

/**
 * kafkajs's warnings and errors as texts. While a broker is away it repeats them several times a second; the same one is
 * passed on once a minute.
 */
export function passOn(
  warn: (source: 'kafkajs', message: string) => void,
  now: () => number = Date.now,
): (entry: { namespace: string; log: { message: unknown; error?: unknown } }) => void {
  const lastTime = new Map<string, number>();
  return ({ namespace, log }) => {
    // For a broker that refuses a login kafkajs gives an error instead of a text.
    const message = errorText(log.message);
    // Retries are limited on purpose; see sender.ts for what happens after the last one.
    if (message.startsWith('Limiting retries')) return;
    const text = `[${namespace}] ${message}${typeof log.error === 'string' ? `: ${log.error}` : ''}`;
    const time = now();
    if (time - (lastTime.get(text) ?? Number.NEGATIVE_INFINITY) < REPEAT_MS) return;
    if (lastTime.size >= MAX_REMEMBERED) lastTime.clear();
    lastTime.set(text, time);
    warn('kafkajs', text);
  };
}
