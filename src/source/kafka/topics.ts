// The topics logpipe needs. In: a client and the wanted settings. Out: the topics exist; settings that differ from what logpipe
// would set are reported. Guarantee: an existing topic is never altered; a connection opened for a question is closed again; an
// election in progress delays an answer but does not fail it.

import type { Admin, ITopicConfig, Kafka } from 'kafkajs';
import kafkajs from 'kafkajs';
import { sleep } from '../../core/clock.ts';
import { causeChain, errorText, LogpipeError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { explainKafkaFailure, failedReading, isKafkaAway, type KafkaConfig } from './client.ts';

// The brokers' own default. Records are at most 1,000,000 bytes, so a batch of one always fits.
const LOGS_MAX_BYTES = 1_048_588;
// A dead letter carries its record and headers; larger letters are cut.
const DLQ_MAX_BYTES = 2_097_152;
// One arrival bucket in one record: as large as measure/collect.ts permits, plus the rest of its line.
const COUNTS_MAX_BYTES = 10_485_760;

const COUNTS_PARTITIONS = 2;

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

const LEADERS_MS = 30_000;

interface WantedTopic {
  readonly name: string;
  readonly partitions: number;
  readonly settings: Readonly<Record<string, string>>;
}

interface TopicsReport {
  readonly created: string[];
  /** One sentence per setting of an existing topic that logpipe would have set otherwise. */
  readonly differences: string[];
}

/** The topics and the settings they are created with. */
export function wantedTopics(topics: KafkaConfig['topics']): WantedTopic[] {
  const common = {
    'cleanup.policy': 'delete',
    // Arrival times must come from the brokers' clock: an application host with a wrong one must not move them.
    'message.timestamp.type': 'LogAppendTime',
    'min.insync.replicas': String(topics.minInsyncReplicas),
  };
  return [
    {
      name: topics.logs,
      partitions: topics.partitions,
      settings: {
        ...common,
        'retention.ms': String(topics.logsRetentionMs),
        'max.message.bytes': String(LOGS_MAX_BYTES),
      },
    },
    {
      name: topics.dlq,
      partitions: 1,
      settings: {
        ...common,
        'retention.ms': String(topics.dlqRetentionMs),
        'max.message.bytes': String(DLQ_MAX_BYTES),
      },
    },
    {
      name: topics.counts,
      // One for final totals, one for what is published every half second (measure/totals.ts).
      partitions: COUNTS_PARTITIONS,
      settings: {
        ...common,
        'cleanup.policy': 'compact,delete',
        'retention.ms': String(48 * HOUR_MS),
        'max.message.bytes': String(COUNTS_MAX_BYTES),
        // The totals of one interval are written some twenty times, and only closed segments are compacted.
        'segment.ms': String(10 * MINUTE_MS),
        // The counter repeats an open interval every minute; nothing newer may be compacted away (measure/totals.ts).
        'min.compaction.lag.ms': String(10 * MINUTE_MS),
        'max.compaction.lag.ms': String(HOUR_MS),
      },
    },
    {
      name: topics.alerts,
      partitions: 1,
      settings: {
        ...common,
        'cleanup.policy': 'compact',
        'max.message.bytes': String(LOGS_MAX_BYTES),
        'segment.ms': String(HOUR_MS),
        // A leader that takes over first reads to the end; what it is about to read must stay as it was written.
        'min.compaction.lag.ms': String(MINUTE_MS),
        'max.compaction.lag.ms': String(24 * HOUR_MS),
      },
    },
    ...(topics.commands === undefined ? [] : [commandsTopic(topics.commands, common)]),
  ];
}

function commandsTopic(name: string, common: WantedTopic['settings']): WantedTopic {
  const settings = {
    ...common,
    'retention.ms': String(24 * HOUR_MS),
    'max.message.bytes': String(LOGS_MAX_BYTES),
  };
  return { name, partitions: 1, settings };
}

/**
 * Creates the topics that are missing and reports, as warnings too, how existing ones differ. Idempotent.
 * @throws LogpipeError LOGPIPE_KAFKA_FAILED when a topic can neither be found nor created
 */
export async function ensureTopics(kafka: Kafka, config: KafkaConfig, log: Log): Promise<TopicsReport> {
  const admin = kafka.admin();
  const report: TopicsReport = { created: [], differences: [] };
  try {
    await admin.connect();
    const existing = new Set(await admin.listTopics());
    const wanted = wantedTopics(config.topics);
    for (const topic of wanted) {
      if (!existing.has(topic.name) && (await create(admin, topic, config.topics.replicationFactor))) {
        report.created.push(topic.name);
        log.info('created topic', { topic: topic.name, partitions: topic.partitions });
      }
    }
    const old = wanted.filter((topic) => !report.created.includes(topic.name));
    if (old.length > 0) report.differences.push(...(await differences(admin, old, config.topics, log)));
    for (const difference of report.differences) log.warn(difference);
  } catch (error) {
    // Nobody was asked: that no topic was made says nothing about permissions.
    if (isKafkaAway(error)) throw failedReading(error, config, config.topics.logs);
    throw new LogpipeError(
      'LOGPIPE_KAFKA_FAILED',
      `kafka.topics: ${wantedTopics(config.topics)
        .map(({ name }) => name)
        .join(', ')} could not be checked or created at ` +
        `${config.brokers.join(', ')} (${explainKafkaFailure(error)}); create them by hand or allow the user to`,
      error,
    );
  } finally {
    await admin.disconnect();
  }
  return report;
}

/** False when somebody else created it in the meantime. */
function create(admin: Admin, topic: WantedTopic, replicationFactor: number): Promise<boolean> {
  return createUsable(admin, {
    topic: topic.name,
    numPartitions: topic.partitions,
    replicationFactor,
    configEntries: Object.entries(topic.settings).map(([name, value]) => ({ name, value })),
  });
}

/** False when the topic was there already. Resolves when every partition can be used. */
export async function createUsable(admin: Admin, wanted: ITopicConfig): Promise<boolean> {
  const created = await admin.createTopics({
    // kafkajs waits for leaders too, but gives up when the broker it asks has not heard of the topic yet.
    waitForLeaders: false,
    topics: [wanted],
  });
  const deadline = performance.now() + LEADERS_MS;
  for (;;) {
    try {
      const { topics } = await admin.fetchTopicMetadata({ topics: [wanted.topic] });
      const partitions = topics.flatMap((row) => row.partitions);
      if (partitions.length > 0 && partitions.every(({ leader }) => leader >= 0)) return created;
      if (performance.now() > deadline) throw new Error(`${wanted.topic} has partitions without a leader`);
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await sleep(100);
  }
}

async function differences(
  admin: Admin,
  wanted: readonly WantedTopic[],
  topics: KafkaConfig['topics'],
  log: Log,
): Promise<string[]> {
  const found: string[] = [];
  const { topics: metadata } = await admin.fetchTopicMetadata({ topics: wanted.map(({ name }) => name) });
  for (const { name, partitions } of metadata) {
    if (name === topics.logs && partitions.length !== topics.partitions) {
      found.push(
        `topic ${name} has ${partitions.length} partitions, kafka.topics.partitions says ${topics.partitions}`,
      );
    }
    if (name === topics.counts && partitions.length < COUNTS_PARTITIONS) {
      found.push(
        `topic ${name} has ${partitions.length} partition and needs ${COUNTS_PARTITIONS}: nothing can be counted until ` +
          'one is added (kafka-topics --alter --partitions); adding it loses nothing',
      );
    }
  }
  const actual = await readSettings(
    admin,
    wanted.map(({ name }) => name),
    log,
  );
  for (const topic of wanted) {
    const settings = actual.get(topic.name);
    if (!settings) continue;
    for (const [name, value] of Object.entries(topic.settings)) {
      const present = settings.get(name);
      // A larger limit does no harm.
      if (name === 'max.message.bytes' && Number(present) >= Number(value)) continue;
      if (present !== undefined && present !== value) {
        found.push(`topic ${topic.name} has ${name}=${present}, logpipe would set ${value}`);
      }
    }
  }
  const limit = (topic: string) => Number(actual.get(topic)?.get('max.message.bytes'));
  if (limit(topics.dlq) <= limit(topics.logs)) {
    found.push(
      `topic ${topics.dlq} takes at most ${limit(topics.dlq)} bytes per batch and ${topics.logs} ` +
        `${limit(topics.logs)}: dead letters of large records will be cut`,
    );
  }
  return found;
}

/** Settings by topic; empty when the user may not read them, which is no reason to stop. */
async function readSettings(
  admin: Admin,
  names: readonly string[],
  log: Log,
): Promise<Map<string, Map<string, string>>> {
  try {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: names.map((name) => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name })),
    });
    return new Map(
      resources.map(({ resourceName, configEntries }) => [
        resourceName,
        new Map(configEntries.map(({ configName, configValue }) => [configName, configValue])),
      ]),
    );
  } catch (error) {
    log.debug('the settings of the topics could not be read', { error: errorText(error) });
    return new Map();
  }
}

/** The largest batch a topic takes, in bytes; undefined when it cannot be learnt. */
export async function topicMaxBytes(kafka: Kafka, topic: string, log: Log): Promise<number | undefined> {
  const admin = kafka.admin();
  try {
    await admin.connect();
    const limit = Number((await readSettings(admin, [topic], log)).get(topic)?.get('max.message.bytes'));
    return Number.isFinite(limit) && limit > 0 ? limit : undefined;
  } catch {
    return undefined;
  } finally {
    await admin.disconnect();
  }
}

// ---- questions to the cluster ----

/** An election takes a second or two or, when a broker died, as long as the cluster takes to notice. */
const PATIENCE_MS = 20_000;
const PAUSE_MS = 200;

/** Answers of a broker that does not lead the partition, or not yet. kafkajs gives up at once on these. */
const ELECTING = new Set(['NOT_LEADER_FOR_PARTITION', 'LEADER_NOT_AVAILABLE', 'REPLICA_NOT_AVAILABLE']);

/** kafkajs wraps what it retried in vain in an error without a type. */
function isElecting(error: unknown): boolean {
  return [...causeChain(error)].some((at) => ELECTING.has((at as { readonly type?: string }).type ?? ''));
}

/**
 * Does `work` with an admin client of its own, and again with a new one (and so with fresh metadata) while leaders are being
 * elected.
 * @throws what `work` and the connection throw
 */
export async function withAdmin<T>(kafka: Kafka, work: (admin: Admin) => Promise<T>): Promise<T> {
  const started = performance.now();
  for (;;) {
    const admin = kafka.admin();
    try {
      await admin.connect();
      return await work(admin);
    } catch (error) {
      if (!isElecting(error) || performance.now() - started > PATIENCE_MS) throw error;
    } finally {
      await admin.disconnect().catch(() => {});
    }
    await sleep(PAUSE_MS);
  }
}
