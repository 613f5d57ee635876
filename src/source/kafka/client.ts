// Kafka as logpipe's own processes use it. In: the sections `kafka` and `intake` of the configuration. Out: a kafkajs client that
// logs to our log, knows every codec and retries quickly; addresses for readers without a group; what a failure means, and words
// for it. Guarantee: no error or log line made here carries a password or a key.
import { readFileSync } from 'node:fs';
import type { ICustomPartitioner, Kafka, KafkaConfig as KafkaJsConfig } from 'kafkajs';
import kafkajs from 'kafkajs';
import { createThrottle } from '../../core/clock.ts';
import { causeChain, errorText, LogpipeError, reasonInWords } from '../../core/errors.ts';
import { type BrokerAddresses, explainConnection } from '../../core/kafka/broker-connections.ts';
import { registerCodecs } from '../../core/kafka/codecs.ts';
import { repairKafkaJsTime } from '../../core/kafka/kafkajs-timer.ts';
import type { Log } from '../../core/log.ts';
import { installFetchDecoder } from './fetch-decoder.ts';

const DAY_MS = 86_400_000;
/** How old a client's metadata may get: new partitions are read within twice this time. kafkajs's default is 5 min. */
export const METADATA_MAX_AGE_MS = 12_000;

/** `kafka` section, JSON Schema. */
export const kafkaSection = {
  type: 'object',
  description: 'How to reach Kafka, and which topics and consumer group to use.',
  additionalProperties: false,
  default: {},
  properties: {
    brokers: {
      type: 'array',
      description: 'Addresses asked first for the cluster, as `host:port`.',
      items: {
        type: 'string',
        pattern: '^[^\\s:/]+:\\d{1,5}$|^\\[[0-9a-fA-F:]+\\]:\\d{1,5}$',
        permitted: 'host and port, like kafka-1:9092',
      },
      minItems: 1,
      default: ['localhost:9092'],
    },
    clientId: { type: 'string', minLength: 1, description: 'Name shown in the brokers’ logs.', default: 'logpipe' },
    ssl: {
      description: 'TLS: `false` for none, `{}` for the system’s certificate authorities, or files of your own.',
      default: false,
      anyOf: [
        { const: false },
        {
          type: 'object',
          additionalProperties: false,
          properties: {
            caFile: { type: 'string', description: 'PEM file of the certificate authorities to trust.' },
            certFile: { type: 'string', description: 'PEM file of the client certificate.' },
            keyFile: { type: 'string', description: 'PEM file of the client’s private key.' },
            serverName: { type: 'string', description: 'Name expected in the brokers’ certificates.' },
          },
          dependentRequired: { certFile: ['keyFile'], keyFile: ['certFile'] },
        },
      ],
    },
    sasl: {
      type: 'object',
      description: 'User name and password, when the brokers ask for them.',
      additionalProperties: false,
      required: ['mechanism', 'username'],
      dependentRequired: { username: ['password'] },
      properties: {
        mechanism: {
          enum: ['plain', 'scram-sha-256', 'scram-sha-512'],
          description: 'How to log in; `plain` only together with TLS.',
        },
        username: { type: 'string', description: 'User name.' },
        password: { type: 'string', minLength: 1, secret: true, description: 'Password. Also `passwordFile`.' },
      },
    },
    connectionTimeoutMs: {
      type: 'integer',
      minimum: 100,
      maximum: 120_000,
      description: 'Longest wait for a connection, TLS included.',
      default: 3_000,
    },
    requestTimeoutMs: {
      type: 'integer',
      minimum: 1_000,
      maximum: 300_000,
      description:
        'Longest wait for a broker’s answer. By default a little longer than brokers take to declare one of them dead (`broker.session.timeout.ms`, 9 s), so that its successor is known by then.',
      default: 10_000,
    },
    topics: {
      type: 'object',
      description:
        'Topic names, and the settings that missing topics are created with; existing topics are not altered.',
      additionalProperties: false,
      default: {},
      properties: {
        logs: { $ref: '#/$defs/topic', description: 'Topic of the log records.', default: 'calling-platform-logs' },
        dlq: { $ref: '#/$defs/topic', description: 'Topic of the dead letters.', default: 'calling-platform-logs.dlq' },
        counts: {
          $ref: '#/$defs/topic',
          description: 'Topic of the counts; two partitions, compacted.',
          default: 'calling-platform-counts',
        },
        alerts: {
          $ref: '#/$defs/topic',
          description: 'Topic of the alerts’ state; one partition, compacted.',
          default: 'calling-platform-alerts',
        },
        commands: {
          $ref: '#/$defs/topic',
          description: 'Topic of people’s commands about alerts; one partition, kept for a day.',
          default: 'calling-platform-alert-commands',
        },
        partitions: {
          type: 'integer',
          minimum: 1,
          maximum: 1_000,
          description: 'Partitions of the log topic: the most instances that can share the work.',
          default: 4,
        },
        replicationFactor: {
          type: 'integer',
          minimum: 1,
          maximum: 15,
          description: 'Copies of each partition; 3 in production.',
          default: 1,
        },
        minInsyncReplicas: {
          type: 'integer',
          minimum: 1,
          maximum: 15,
          description: 'Copies that must have a record before it counts as written; 2 in production.',
          default: 1,
        },
        logsRetentionMs: {
          type: 'integer',
          minimum: 60_000,
          description: 'How long log records are kept, which is also how far back a replay reaches.',
          default: 7 * DAY_MS,
        },
        dlqRetentionMs: {
          type: 'integer',
          minimum: 60_000,
          description: 'How long dead letters are kept.',
          default: 30 * DAY_MS,
        },
      },
    },
    group: {
      type: 'string',
      minLength: 1,
      maxLength: 249,
      description: 'Consumer group of the indexer; instances with the same group share the partitions.',
      default: 'calling-platform-indexer',
    },
    counterGroup: {
      type: 'string',
      minLength: 1,
      maxLength: 249,
      description: 'Consumer group of the counter, which reads the log independently of the indexer.',
      default: 'calling-platform-counter',
    },
    alerterGroup: {
      type: 'string',
      minLength: 1,
      maxLength: 249,
      description: 'Consumer group of the alerter; one member at a time evaluates and notifies.',
      default: 'calling-platform-alerter',
    },
  },
  $defs: {
    topic: {
      type: 'string',
      pattern: '^(?!\\.\\.?$)[A-Za-z0-9._-]{1,249}$',
      permitted: 'letters, digits, dots, hyphens and underscores, 249 at most',
    },
  },
} as const;

export interface KafkaConfig {
  readonly brokers: readonly string[];
  readonly clientId: string;
  readonly ssl:
    | false
    | {
        readonly caFile?: string;
        readonly certFile?: string;
        readonly keyFile?: string;
        readonly serverName?: string;
      };
  readonly sasl?: {
    readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    readonly username: string;
    readonly password: string;
  };
  readonly connectionTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly topics: {
    readonly logs: string;
    readonly dlq: string;
    readonly counts: string;
    readonly alerts: string;
    /** Always present in a loaded configuration; code that builds one may leave it out, and then there are no commands. */
    readonly commands?: string;
    readonly partitions: number;
    readonly replicationFactor: number;
    readonly minInsyncReplicas: number;
    readonly logsRetentionMs: number;
    readonly dlqRetentionMs: number;
  };
  readonly group: string;
  readonly counterGroup: string;
  readonly alerterGroup: string;
}

// ---- the `intake` section ----

const MIB = 1024 * 1024;

/** `intake` section, JSON Schema. */
export const intakeSection = {
  type: 'object',
  description: 'How records are fetched from Kafka and how offsets are committed.',
  additionalProperties: false,
  default: {},
  properties: {
    maxWaitMs: {
      type: 'integer',
      minimum: 10,
      maximum: 5_000,
      description: 'How long a broker may hold back an answer while there is nothing new.',
      default: 250,
    },
    fetchMaxBytes: {
      type: 'integer',
      minimum: 65_536,
      maximum: 256 * MIB,
      description: 'Most bytes of one answer to a fetch; memory use grows with it.',
      default: MIB,
    },
    fetchMaxBytesPerPartition: {
      type: 'integer',
      minimum: 65_536,
      maximum: 256 * MIB,
      description: 'Most bytes of one partition in an answer.',
      default: MIB / 4,
    },
    commitIntervalMs: {
      type: 'integer',
      minimum: 10,
      maximum: 60_000,
      description: 'How often finished offsets are committed.',
      default: 500,
    },
    sessionTimeoutMs: {
      type: 'integer',
      minimum: 500,
      maximum: 300_000,
      description: 'How long the group waits for a silent instance before it gives its partitions to others.',
      default: 10_000,
    },
    heartbeatMs: {
      type: 'integer',
      minimum: 50,
      maximum: 100_000,
      description:
        'How often an instance shows the group that it is alive; about a third of sessionTimeoutMs, and no more than half.',
      default: 3_000,
    },
    giveUpAfter: {
      type: 'integer',
      minimum: 1,
      maximum: 1_000,
      description: 'After this many crashes in a row, each after less than a minute of reading, the process ends.',
      default: 8,
    },
  },
} as const;

export interface IntakeConfig {
  readonly maxWaitMs: number;
  readonly fetchMaxBytes: number;
  readonly fetchMaxBytesPerPartition: number;
  readonly commitIntervalMs: number;
  readonly sessionTimeoutMs: number;
  readonly heartbeatMs: number;
  readonly giveUpAfter: number;
}

// ---- the client ----

/**
 * A kafkajs client for the configured cluster; nothing is connected yet. Use one client per consumer: consumers of one
 * client share kafkajs's table of committed offsets.
 * @throws LogpipeError LOGPIPE_CONFIG_UNREADABLE when a TLS file cannot be read
 */
export function createKafka(config: KafkaConfig, log: Log): Kafka {
  prepareKafkaJs();
  const options: KafkaJsConfig = {
    brokers: [...config.brokers],
    clientId: config.clientId,
    connectionTimeout: config.connectionTimeoutMs,
    requestTimeout: config.requestTimeoutMs,
    // The first retry is the usual one (a coordinator still loading): kafkajs's 300 ms would show up as latency.
    retry: { initialRetryTime: 30, maxRetryTime: 2_000, retries: 8 },
    logLevel: kafkajs.logLevel.INFO,
    logCreator: () => routeKafkaJsLogs(log),
  };
  if (config.ssl !== false) options.ssl = tlsOptions(config.ssl);
  if (config.sasl) options.sasl = { ...config.sasl } as NonNullable<KafkaJsConfig['sasl']>;
  return new kafkajs.Kafka(options);
}

/** For readers without a group. @throws as createKafka */
export function addressesOf(config: KafkaConfig): BrokerAddresses {
  prepareKafkaJs();
  const { brokers, clientId, ssl, sasl, connectionTimeoutMs, requestTimeoutMs } = config;
  return {
    ...{ brokers, clientId, connectionTimeoutMs, answerTimeoutMs: requestTimeoutMs },
    ssl: ssl !== false && tlsOptions(ssl),
    sasl: sasl && ({ ...sasl } as NonNullable<BrokerAddresses['sasl']>),
  };
}

/** Installs codecs, clocks and the decoder of fetch answers, for the whole process. */
function prepareKafkaJs(): void {
  registerCodecs();
  repairKafkaJsTime();
  installFetchDecoder();
}

/** kafkajs's own default, named because leaving it out makes kafkajs print a migration notice. */
export const defaultPartitioner: ICustomPartitioner = () => kafkajs.Partitioners.DefaultPartitioner();

function tlsOptions(ssl: Exclude<KafkaConfig['ssl'], false>) {
  return {
    ...(ssl.caFile === undefined ? {} : { ca: readPem('kafka.ssl.caFile', ssl.caFile) }),
    ...(ssl.certFile === undefined ? {} : { cert: readPem('kafka.ssl.certFile', ssl.certFile) }),
    ...(ssl.keyFile === undefined ? {} : { key: readPem('kafka.ssl.keyFile', ssl.keyFile) }),
    ...(ssl.serverName === undefined ? {} : { servername: ssl.serverName }),
  };
}

function readPem(path: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_UNREADABLE',
      `${path}: ${file} cannot be read (${reasonInWords(error)}); name a readable PEM file`,
      error,
    );
  }
}

// kafkajs warns of this for every producer with limited retries; ours limits them on purpose.
const EXPECTED = 'Limiting retries for the idempotent producer';

/**
 * kafkajs repeats a connection error several times a second while a broker is away, so the same message is passed on once a
 * minute. Its errors become warnings: whoever supervises the client says what they mean for logpipe.
 */
function routeKafkaJsLogs(log: Log): (entry: {
  namespace: string;
  level: number;
  /** kafkajs sometimes gives an error where it promises a text. */
  log: { message: unknown; error?: unknown; broker?: unknown; groupId?: unknown };
}) => void {
  const maySay = createThrottle();
  return ({ namespace, level, log: entry }) => {
    const meta: Record<string, unknown> = { from: `kafkajs ${namespace}`.trim() };
    if (entry.broker !== undefined) meta.broker = entry.broker;
    if (entry.groupId !== undefined) meta.groupId = entry.groupId;
    if (entry.error !== undefined) meta.error = errorText(entry.error);
    const message = errorText(entry.message);
    if (level > kafkajs.logLevel.WARN || message.startsWith(EXPECTED)) return log.debug(message, meta);
    if (maySay(`${namespace}|${message}`)) log.warn(message, meta);
    else log.debug(message, meta);
  };
}

// ---- what a failure means ----

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

// kafkajs calls them retriable, but somebody has to act before they go away.
const NEEDS_A_PERSON = new Set(['UNKNOWN_TOPIC_OR_PARTITION', 'CORRUPT_MESSAGE']);

/** True for failures that pass by themselves: no broker answers, or the cluster is electing. */
export function isKafkaAway(error: unknown): boolean {
  for (const at of causeChain(error)) {
    const { name, type, retriable } = at as Error & { type?: string; retriable?: boolean };
    if (AWAY.has(name)) return true;
    if (name === 'KafkaJSProtocolError' && retriable === true && !NEEDS_A_PERSON.has(type ?? '')) return true;
  }
  return false;
}

/** Does the broker or the topic refuse a record or batch because of its size? */
export function isTooLargeForKafka(error: unknown): boolean {
  for (const at of causeChain(error)) {
    const { type } = at as Error & { type?: string };
    if (type === 'MESSAGE_TOO_LARGE' || type === 'RECORD_LIST_TOO_LARGE') return true;
  }
  return false;
}

/** The error in words, with what to do about known ones. */
export function explainKafkaFailure(error: unknown): string {
  for (const at of causeChain(error)) {
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
