// What a dead consumer means. In: the error that ended it. Out: whether Kafka is merely away, how long to wait, when to
// give up, and words for the operator.
import { LogpipeError } from '../core/errors.ts';
import { explainConnection } from '../core/kafka-hints.ts';

const FIRST_BACKOFF_MS = 200;
const MAX_BACKOFF_MS = 5_000;

const AWAY = new Set([
  'KafkaJSConnectionError',
  'KafkaJSConnectionClosedError',
  'KafkaJSRequestTimeoutError',
  'KafkaJSNoBrokerAvailableError',
  'KafkaJSBrokerNotFound',
  'KafkaJSGroupCoordinatorNotFound',
  'KafkaJSMetadataNotLoaded',
  'KafkaJSTopicMetadataNotLoaded',
  'KafkaJSLockTimeout',
]);

// Retriable by kafkajs's lights, but somebody has to act before they go away.
const NEEDS_A_PERSON = new Set(['UNKNOWN_TOPIC_OR_PARTITION', 'CORRUPT_MESSAGE']);

/** True for failures that pass by themselves: no broker answers, or the cluster is electing. */
export function isKafkaAway(error: unknown): boolean {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { name, type, retriable } = at as Error & { type?: string; retriable?: boolean };
    if (AWAY.has(name)) return true;
    if (name === 'KafkaJSProtocolError' && retriable === true && !NEEDS_A_PERSON.has(type ?? '')) return true;
  }
  return false;
}

/** Milliseconds before attempt `failures` + 1: 200 ms, doubling up to 5 s. */
export function backoffMs(failures: number): number {
  return Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(failures - 1, 16));
}

/** Of failures in a row the first is said, and then each time they have doubled. */
export function isWorthSaying(failures: number): boolean {
  return (failures & (failures - 1)) === 0;
}

/** The error in words, with what to do about the ones that are known. */
export function explainKafkaFailure(error: unknown): string {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { name, type } = at as Error & { type?: string };
    if (type === 'UNKNOWN_TOPIC_OR_PARTITION') return 'the topic does not exist; run `logpipe setup` or create it';
    if (name === 'KafkaJSNotImplemented') return `${at.message}; the records use a codec this build does not know`;
    if (type?.endsWith('AUTHORIZATION_FAILED')) return `${at.message} (${type}); check the user’s access rights`;
  }
  return explainConnection(error, 'kafka.');
}

/** What a command says when a topic could not be read. */
export function failedReading(error: unknown, config: { readonly brokers: readonly string[] }, topic: string) {
  if (error instanceof LogpipeError) return error;
  const brokers = config.brokers.join(', ');
  return isKafkaAway(error)
    ? new LogpipeError(
        'LOGPIPE_KAFKA_UNREACHABLE',
        `kafka.brokers: ${brokers} cannot be reached (${explainKafkaFailure(error)}); check the addresses and that Kafka runs`,
        error,
      )
    : new LogpipeError('LOGPIPE_KAFKA_FAILED', `topic ${topic}: ${explainKafkaFailure(error)}`, error);
}
