// The whole configuration: each stage's section beside its code, put together here once.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { type AlertsConfig, alertsSection } from './alerter/alerts-config.ts';
import { type Environment, invalidConfig, loadYaml, readConfigFile, type Schema } from './core/config-loader.ts';
import { LOG_LEVELS, type LogLevel } from './core/log.ts';
import { exponentialReason } from './core/regex-ambiguity.ts';
import { type BulkConfig, bulkSection } from './indexing/bulk-writer.ts';
import { type DlqConfig, dlqSection } from './indexing/dead-letters.ts';
import { type ElasticsearchConfig, elasticsearchSection } from './indexing/elasticsearch.ts';
import { type SinksConfig, sinksSection } from './indexing/sinks.ts';
import { type KibanaConfig, kibanaSection } from './kibana/kibana-config.ts';
import { type MonitorConfig, monitorSection } from './monitor/monitor-config.ts';
import { type NotifyConfig, notifySection } from './notify/notify-config.ts';
import { type HttpConfig, httpSection } from './ops/http.ts';
import { type ParseConfig, parseSection } from './parse/parse.ts';
import { type Pm2Config, pm2Section } from './pm2/pm2-config.ts';
import { type FilesConfig, filesSection } from './source/files/files.ts';
import { type IntakeConfig, intakeSection, type KafkaConfig, kafkaSection } from './source/kafka/client.ts';

export const ROLES = ['indexer', 'counter', 'alerter'] as const;
export type Role = (typeof ROLES)[number];

export interface Config {
  readonly roles: readonly Role[];
  readonly source: 'kafka' | 'files' | 'stdin';
  readonly shutdownTimeoutMs: number;
  readonly kafka: KafkaConfig;
  readonly intake: IntakeConfig;
  readonly files: FilesConfig;
  readonly parse: ParseConfig;
  readonly mask: { readonly keys: readonly string[]; readonly patterns: readonly string[] };
  readonly elasticsearch: ElasticsearchConfig;
  readonly bulk: BulkConfig;
  readonly sinks: SinksConfig;
  readonly dlq: DlqConfig;
  readonly alerts: AlertsConfig;
  readonly monitor: MonitorConfig;
  readonly notify: NotifyConfig;
  readonly kibana: KibanaConfig;
  readonly pm2: Pm2Config;
  readonly http: HttpConfig;
  readonly log: { readonly level: LogLevel; readonly format: 'json' | 'pretty' };
}

/** Every permitted key with its type, default and meaning; docs/configuration.md is generated from it. */
export const CONFIG_SCHEMA = {
  type: 'object',
  additionalProperties: false,
  properties: {
    roles: {
      type: 'array',
      minItems: 1,
      uniqueItems: true,
      items: { enum: ROLES },
      default: [...ROLES],
      description: 'What this process does; `--roles` on the command line wins.',
    },
    source: {
      enum: ['kafka', 'files', 'stdin'],
      default: 'kafka',
      description: 'Where records come from; `files` and `stdin` need no Kafka (embedded mode).',
    },
    shutdownTimeoutMs: {
      type: 'integer',
      minimum: 0,
      maximum: 600_000,
      default: 20_000,
      description: 'How long a shutdown waits for records under way. A second signal ends it at once.',
    },
    kafka: kafkaSection,
    intake: intakeSection,
    files: filesSection,
    parse: parseSection,
    mask: {
      type: 'object',
      description: 'Secrets to mask beside the built-in ones.',
      additionalProperties: false,
      default: {},
      properties: {
        keys: {
          type: 'array',
          items: { type: 'string', minLength: 2 },
          default: [],
          description: 'Key names whose values are secrets; case and punctuation do not matter.',
        },
        patterns: {
          type: 'array',
          items: { type: 'string', minLength: 1, format: 'regex' },
          default: [],
          description: 'Regular expressions whose matches are secrets.',
        },
      },
    },
    elasticsearch: elasticsearchSection,
    bulk: bulkSection,
    sinks: sinksSection,
    dlq: dlqSection,
    alerts: alertsSection,
    monitor: monitorSection,
    notify: notifySection,
    kibana: kibanaSection,
    pm2: pm2Section,
    http: httpSection,
    log: {
      type: 'object',
      description: 'logpipe’s own log, on standard error.',
      additionalProperties: false,
      default: {},
      properties: {
        level: { enum: LOG_LEVELS, default: 'info', description: 'Least severe level written.' },
        format: { enum: ['json', 'pretty'], default: 'json', description: 'JSON lines, or short lines for people.' },
      },
    },
  },
  $defs: kafkaSection.$defs,
} as const satisfies Schema;

/**
 * The frozen configuration from `file`, else `config/logpipe.yml` of the working folder, else its `logpipe.yml`, else the shipped one.
 * @throws LogpipeError LOGPIPE_CONFIG_UNREADABLE, LOGPIPE_CONFIG_INVALID (all problems at once)
 */
export function loadConfig(options: { file?: string | undefined; env: Environment }): Config {
  const { file, text } = readConfigFile('logpipe.yml', options.file ?? besideOthers());
  return parseConfig(text, options.env, file);
}

/** What `logpipe init` writes. */
function besideOthers(): string | undefined {
  const file = resolve('logpipe.yml');
  return existsSync(file) && !existsSync(resolve('config', 'logpipe.yml')) ? file : undefined;
}

/** The configuration from YAML text; `place` stands in messages. */
export function parseConfig(text: string, env: Environment, place: string): Config {
  const config = loadYaml<Config>(text, CONFIG_SCHEMA, env, place);
  checkPatterns(config.mask.patterns, place);
  return config;
}

/** A pattern that may take exponential time would stop everything at the first text made for it. */
function checkPatterns(patterns: readonly string[], place: string): void {
  const problems = patterns.flatMap((pattern, i) => {
    const reason = exponentialReason(pattern);
    if (reason === undefined) return [];
    const fix = 'write what is repeated so that it matches a text in one way only';
    return [`mask.patterns.${i}: found ${JSON.stringify(pattern)}; may take exponential time, since ${reason}: ${fix}`];
  });
  if (problems.length > 0) throw invalidConfig(place, problems);
}
