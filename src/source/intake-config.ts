// The `intake` section of the configuration: how records are fetched from Kafka and how offsets are committed.

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
      description: 'Most bytes of one answer to a fetch; memory use follows it.',
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
      description: 'How long the group waits for an instance that fell silent before it gives its partitions away.',
      default: 10_000,
    },
    heartbeatMs: {
      type: 'integer',
      minimum: 50,
      maximum: 100_000,
      description: 'How often an instance shows the group that it is alive; at most a third of sessionTimeoutMs.',
      default: 3_000,
    },
    giveUpAfter: {
      type: 'integer',
      minimum: 1,
      maximum: 1_000,
      description: 'Crashes in a row, less than a minute of reading apart, after which the process ends.',
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
