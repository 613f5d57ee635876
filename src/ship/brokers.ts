// What the transport asks Kafka's brokers. In: its settings. Out: the topic's partitions, producer ids, produce requests.
// Guarantee: that of core/broker-connections.ts; credentials that go over the network unencrypted are warned of.
import Encoder from 'kafkajs/src/protocol/encoder.js';
import { type BrokerConnections, createBrokerConnections, type Partition } from '../core/broker-connections.ts';
import { systemClock } from '../core/clock.ts';
import { encodeProduce, type PartitionBatch, type ProducerId } from './encode.ts';
import type { TransportSettings } from './options.ts';
import { createOwnClock, type OwnClock } from './own-clock.ts';

export interface Brokers extends Pick<BrokerConnections, 'busy' | 'connect' | 'destroy' | 'disconnect' | 'giveUp'> {
  /** As BrokerConnections.partitions, of the transport's topic. */
  partitions(): Promise<readonly Partition[]>;
  producerId(): Promise<ProducerId>;
  /**
   * Kafka's error code for each partition, 0 for those that all in-sync replicas have. A rejection says nothing about what
   * has arrived.
   */
  produce(nodeId: number, batches: readonly PartitionBatch[]): Promise<ReadonlyMap<number, number>>;
}

/** How long a broker may wait for its replicas: shorter than anybody waits for its answer. */
const REPLICAS_TIMEOUT_MS = 10_000;

export function createBrokers(
  settings: TransportSettings,
  deps: {
    warn(source: 'kafkajs', message: string): void;
    /** Once, before the first connection: something that must be seen. */
    warnLoudly(message: string): void;
    /** Wall clock in ms. */
    now?: (() => number) | undefined;
  },
): Brokers {
  const { now = Date.now } = deps;
  /** By broker: of several the clocks differ. */
  const clocks = new Map<number, OwnClock>();
  const inClear = clearTextBroker(settings);
  const connections = createBrokerConnections(settings, {
    warn: (message) => deps.warn('kafkajs', message),
    onFirst() {
      if (inClear === undefined) return;
      deps.warnLoudly(
        `The credentials of sasl (${settings.sasl?.mechanism}) go to ${inClear} unencrypted, as all records do; set ssl.`,
      );
    },
  });

  return {
    ...connections,
    partitions: () => connections.partitions(settings.topic),
    async producerId() {
      const { producerId, producerEpoch } = await connections.askAny<{ producerId: string; producerEpoch: number }>(
        'InitProducerId',
        { transactionTimeout: 60_000 },
      );
      return { id: String(producerId), epoch: producerEpoch };
    },
    async produce(nodeId, batches) {
      const clock = clocks.get(nodeId) ?? createOwnClock({ ...systemClock, now });
      clocks.set(nodeId, clock);
      const body = await encodeProduce(settings.topic, batches, {
        compression: settings.compression,
        timeoutMs: REPLICAS_TIMEOUT_MS,
        nowMs: now(),
        isClockRight: clock.isRight(),
      });
      const sent = clock.moment();
      const answer = await connections.ask<{
        topics: readonly {
          partitions: readonly { partition: number; errorCode: number; logAppendTime: string }[];
        }[];
      }>(nodeId, 'Produce', { acks: -1, topicData: [] }, ({ request, response }) => {
        if (request.apiVersion < 3) throw new Error('this Kafka is older than 0.11 and knows no record headers');
        return {
          request: { ...request, encode: async () => new Encoder().writeBuffer(body) },
          response: { decode: response.decode, parse: async (parsed: unknown) => parsed },
        };
      });
      const codes = new Map<number, number>();
      const again = new Set(batches.flatMap(({ partition, resent }) => (resent ? [partition] : [])));
      for (const { partition, errorCode, logAppendTime } of answer.topics[0]?.partitions ?? []) {
        codes.set(partition, errorCode);
        if (errorCode === 0 && !again.has(partition)) clock.answered(sent, Number(logAppendTime));
      }
      return codes;
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
