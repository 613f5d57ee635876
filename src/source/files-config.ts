// The `files` section of the configuration: log files read without Kafka (embedded mode).

export const filesSection = {
  type: 'object',
  description: 'Files with one JSON record per line, for `source: files`. Always read from their beginning.',
  additionalProperties: false,
  default: {},
  properties: {
    paths: {
      type: 'array',
      items: { type: 'string', minLength: 1 },
      minItems: 1,
      uniqueItems: true,
      description: 'Files to read. Name a file as its writer does; rotated files are found by themselves.',
      default: ['logs/app.log'],
    },
    follow: {
      type: 'boolean',
      description: 'Wait for more at the end of a file. Off: everything is read once and the process ends.',
      default: true,
    },
    dataDir: {
      type: 'string',
      minLength: 1,
      description: 'Folder that remembers how far each file was read; one running logpipe per folder.',
      default: '.logpipe/files',
    },
    pollIntervalMs: {
      type: 'integer',
      minimum: 20,
      maximum: 60_000,
      description: 'How often files are looked at when the system does not announce changes.',
      default: 1_000,
    },
    commitIntervalMs: {
      type: 'integer',
      minimum: 10,
      maximum: 60_000,
      description: 'How often positions are written down.',
      default: 500,
    },
    maxLineBytes: {
      type: 'integer',
      minimum: 1_000,
      maximum: 16_000_000,
      description: 'Longer lines are cut to this many bytes; also for `source: stdin`.',
      default: 1_000_000,
    },
  },
} as const;

export interface FilesConfig {
  readonly paths: readonly string[];
  readonly follow: boolean;
  readonly dataDir: string;
  readonly pollIntervalMs: number;
  readonly commitIntervalMs: number;
  readonly maxLineBytes: number;
}
