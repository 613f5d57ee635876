// The `monitor` section of the configuration: regular checks of what the log does not tell. In: YAML. Out: MonitorConfig.

/** `monitor` section, JSON Schema. */
export const monitorSection = {
  type: 'object',
  description:
    'The health monitor, which regularly checks Kafka, Elasticsearch, the spool and Bull’s queues. Role alerter.',
  additionalProperties: false,
  default: {},
  properties: {
    enabled: { type: 'boolean', default: true, description: 'Run the health monitor.' },
    schedule: {
      type: 'string',
      minLength: 9,
      default: '*/5 * * * *',
      description: 'When it runs: a cron expression of five or six fields, in UTC.',
    },
    timeoutMs: {
      type: 'integer',
      minimum: 100,
      maximum: 120_000,
      default: 10_000,
      description: 'A probe without an answer for this long has failed; its measures then have no data.',
    },
    redisUrl: {
      type: 'string',
      minLength: 1,
      secret: true,
      description:
        'Redis of the Bull queues, `redis://…` or `rediss://…`; without it, the backlog is taken from the log. Also `redisUrlFile`.',
    },
    bullPrefix: { type: 'string', minLength: 1, default: 'bull', description: 'Key prefix of the queues.' },
    spoolDir: {
      type: 'string',
      minLength: 1,
      description: 'Folder of a disk spool to watch. Default: none.',
    },
    spoolMaxBytes: {
      type: 'integer',
      minimum: 1,
      default: 536_870_912,
      description: 'The size at which that spool is full.',
    },
  },
} as const;

export interface MonitorConfig {
  readonly enabled: boolean;
  readonly schedule: string;
  readonly timeoutMs: number;
  readonly redisUrl?: string;
  readonly bullPrefix: string;
  readonly spoolDir?: string;
  readonly spoolMaxBytes: number;
}
