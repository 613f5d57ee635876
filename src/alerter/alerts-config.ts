// The `alerts` section of the configuration: measures, rules and their evaluation, and what watches logpipe itself.
/** `alerts` section, JSON Schema. */
export const alertsSection = {
  type: 'object',
  description: 'Measures, rules and their evaluation. Roles counter and alerter.',
  additionalProperties: false,
  default: {},
  properties: {
    measuresFile: {
      type: 'string',
      minLength: 1,
      description: 'File of the measures; without it `config/measures.yml`, else the shipped one.',
    },
    rulesFile: {
      type: 'string',
      minLength: 1,
      description: 'File of the rules; without it `config/rules.yml`, else the shipped one.',
    },
    publishMs: {
      type: 'integer',
      minimum: 50,
      maximum: 10_000,
      default: 500,
      description: 'The counter publishes its totals this often.',
    },
    tickMs: {
      type: 'integer',
      minimum: 50,
      maximum: 60_000,
      default: 250,
      description: 'The rules are evaluated this often.',
    },
    blindAfterMs: {
      type: 'integer',
      minimum: 1_000,
      default: 60_000,
      description: 'When Kafka is gone for this long, “Log pipeline blind” is sent directly.',
    },
    heartbeatUrl: {
      type: 'string',
      pattern: '^https?://[^\\s]+$',
      permitted: 'an address that begins with http:// or https://, without spaces',
      secret: true,
      description: 'Dead man’s switch: called while the evaluator ticks. Also `heartbeatUrlFile`.',
    },
    heartbeatMs: {
      type: 'integer',
      minimum: 1_000,
      default: 60_000,
      description: 'How often it is called.',
    },
    sessionTimeoutMs: {
      type: 'integer',
      minimum: 1_000,
      maximum: 300_000,
      default: 6_000,
      description: 'How long the group waits for an alerter that fell silent before another one takes over.',
    },
    journalDir: {
      type: 'string',
      minLength: 1,
      default: '.logpipe/alerts',
      description: 'Folder of the alert state when there is no Kafka (sources files and stdin).',
    },
  },
} as const;

export interface AlertsConfig {
  readonly measuresFile?: string;
  readonly rulesFile?: string;
  readonly publishMs: number;
  readonly tickMs: number;
  readonly blindAfterMs: number;
  readonly heartbeatUrl?: string;
  readonly heartbeatMs: number;
  readonly sessionTimeoutMs: number;
  readonly journalDir: string;
}
