// The whole configuration: each stage's section beside its code, put together here once, and what holds between sections.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { type AlertsConfig, alertsSection } from './alerter/alerter.ts';
import {
  type ConfigProblem,
  type Environment,
  type Inspection,
  inspectYaml,
  loadYaml,
  readConfigFile,
  type Schema,
} from './core/config-loader.ts';
import { LOG_LEVELS, type LogLevel } from './core/log.ts';
import { exponentialReason } from './core/regex-ambiguity.ts';
import { createMasker, type MaskOptions } from './core/secrets/mask.ts';
import { type BulkConfig, bulkSection } from './indexing/bulk-writer.ts';
import { type DlqConfig, dlqSection } from './indexing/dead-letters.ts';
import { type ElasticsearchConfig, elasticsearchSection } from './indexing/elasticsearch.ts';
import { type SinksConfig, sinksSection } from './indexing/sinks.ts';
import { type KibanaConfig, kibanaSection } from './kibana/import.ts';
import { type MonitorConfig, monitorSection } from './monitor/health-monitor.ts';
import { type RetentionConfig, retentionProblems, retentionSection } from './monitor/retention.ts';
import { type NotifyConfig, notifySection } from './notify/notify-config.ts';
import { type HttpConfig, httpSection } from './ops/http.ts';
import { type ParseConfig, parseSection } from './parse/parse.ts';
import { type Pm2Config, pm2Section } from './pm2/watch.ts';
import { contradictoryInputs, type ShipConfig, shipSection } from './shipping.ts';
import { type FilesConfig, filesSection } from './source/files/files.ts';
import { type IntakeConfig, intakeSection, type KafkaConfig, kafkaSection } from './source/kafka/client.ts';
import type { MultilineRule } from './source/lines.ts';
import { type TransformsConfig, transformProblems, transformsSection } from './transform/transform.ts';

export const ROLES = ['indexer', 'counter', 'alerter'] as const;
export type Role = (typeof ROLES)[number];

export interface Config {
  readonly roles: readonly Role[];
  readonly source: 'kafka' | 'files' | 'stdin';
  readonly shutdownTimeoutMs: number;
  readonly kafka: KafkaConfig;
  readonly intake: IntakeConfig;
  readonly files: FilesConfig;
  readonly ship: ShipConfig;
  readonly parse: ParseConfig;
  readonly mask: MaskOptions;
  readonly transforms: TransformsConfig;
  readonly elasticsearch: ElasticsearchConfig;
  readonly bulk: BulkConfig;
  readonly sinks: SinksConfig;
  readonly dlq: DlqConfig;
  readonly alerts: AlertsConfig;
  readonly monitor: MonitorConfig;
  readonly retention: RetentionConfig;
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
    ship: shipSection,
    parse: parseSection,
    mask: {
      type: 'object',
      description: 'Secrets to mask beside the built-in ones, and personal data.',
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
        phoneNumbers: {
          type: 'boolean',
          default: false,
          description: 'Mask phone numbers as `[phone]`.',
        },
        emailAddresses: {
          type: 'boolean',
          default: false,
          description: 'Mask e-mail addresses as `[email]`.',
        },
        ipAddresses: {
          type: 'boolean',
          default: false,
          description: 'Mask IPv4 and IPv6 addresses as `[ip]`; ports stay.',
        },
      },
    },
    transforms: transformsSection,
    elasticsearch: elasticsearchSection,
    bulk: bulkSection,
    sinks: sinksSection,
    dlq: dlqSection,
    alerts: alertsSection,
    monitor: monitorSection,
    retention: retentionSection,
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
  const { file, text } = readConfigFile('logpipe.yml', options.file ?? initialFile());
  return parseConfig(text, options.env, file);
}

/** The `logpipe.yml` of the working folder, as `logpipe init` writes it, unless there is a `config/logpipe.yml`. */
export function initialFile(): string | undefined {
  const file = resolve('logpipe.yml');
  return existsSync(file) && !existsSync(resolve('config', 'logpipe.yml')) ? file : undefined;
}

/** The configuration from YAML text; `place` stands in messages. */
export function parseConfig(text: string, env: Environment, place: string): Config {
  return loadYaml<Config>(text, CONFIG_SCHEMA, env, place, contradictions);
}

/** As `parseConfig`, with all that is wrong instead of an error. */
export function inspectConfig(text: string, env: Environment, place: string): Inspection<Config> {
  return inspectYaml<Config>(text, CONFIG_SCHEMA, env, place, contradictions);
}

/** What no single value is to blame for, and patterns that may take exponential time. */
function contradictions(value: unknown): ConfigProblem[] {
  const { mask, intake, kafka, files, ship, alerts, retention, source } = value as Config;
  const { inputs } = ship;
  return [
    ...slowPatterns(
      Object.fromEntries([
        ...(mask.patterns ?? []).map((pattern, i) => [`mask.patterns.${i}`, pattern]),
        ...rulesOf('files', files),
        ...inputs.flatMap((input, i) => rulesOf(`ship.inputs.${i}`, input)),
      ]),
    ),
    ...contradictoryInputs(inputs),
    ...limits(),
    ...sameNames(),
    ...sameFolder(),
    ...retentionProblems(retention),
    ...wrongSteps(),
  ];

  function rulesOf(path: string, { multiline = {} }: { readonly multiline?: MultilineRule | undefined }) {
    return Object.entries(multiline).map(([key, pattern]) => [`${path}.multiline.${key}`, pattern]);
  }

  function limits(): ConfigProblem[] {
    const { heartbeatMs, sessionTimeoutMs } = intake;
    const { minInsyncReplicas, replicationFactor } = kafka.topics;
    const found: ConfigProblem[] = [];
    if (heartbeatMs >= sessionTimeoutMs) {
      found.push({
        path: 'intake.heartbeatMs',
        value: String(heartbeatMs),
        message: `the group would give an instance up before its next heartbeat: intake.sessionTimeoutMs is ${sessionTimeoutMs}`,
        fix: 'a third of it is usual',
      });
    }
    if (minInsyncReplicas > replicationFactor) {
      found.push({
        path: 'kafka.topics.minInsyncReplicas',
        value: String(minInsyncReplicas),
        message: `a topic has only kafka.topics.replicationFactor = ${replicationFactor} copies, so no record would ever be taken`,
        fix: 'in production 3 copies, of which 2 must have a record',
      });
    }
    return found;
  }

  function sameNames(): ConfigProblem[] {
    const { logs, dlq, counts, alerts: states, commands } = kafka.topics;
    const topics = { logs, dlq, counts, alerts: states, commands };
    const { group, counterGroup, alerterGroup } = kafka;
    return [
      ...twice('kafka.topics', topics, 'each topic has its own records; give it a name of its own'),
      ...twice(
        'kafka',
        { group, counterGroup, alerterGroup },
        'each role reads at its own pace; give it a group of its own',
      ),
    ];
  }

  function wrongSteps(): ConfigProblem[] {
    const { transforms } = value as Config;
    if (transforms.length === 0) return [];
    try {
      return transformProblems(transforms, createMasker(mask));
    } catch {
      // They break the schema, or a pattern to mask does, and the schema has told already.
      return [];
    }
  }

  /** Only one process, and one part of it, can have a folder. */
  function sameFolder(): ConfigProblem[] {
    if (source === 'kafka' || resolve(files.dataDir) !== resolve(alerts.journalDir)) return [];
    const message = 'is the folder of files.dataDir too';
    return [
      { path: 'alerts.journalDir', value: JSON.stringify(alerts.journalDir), message, fix: 'name another folder' },
    ];
  }
}

function twice(section: string, names: Readonly<Record<string, string | undefined>>, fix: string): ConfigProblem[] {
  const seen = new Map<string, string>();
  return Object.entries(names).flatMap(([key, name]) => {
    const first = name === undefined ? undefined : seen.get(name);
    if (name !== undefined) seen.set(name, first ?? key);
    if (first === undefined) return [];
    return [
      {
        path: `${section}.${key}`,
        value: JSON.stringify(name),
        message: `is the name of ${section}.${first} too`,
        fix,
      },
    ];
  });
}

/** A pattern that may take exponential time would stop everything at the first text made for it. */
function slowPatterns(patterns: Readonly<Record<string, string>>): ConfigProblem[] {
  return Object.entries(patterns).flatMap(([path, pattern]) => {
    const reason = exponentialReason(pattern);
    if (reason === undefined) return [];
    const fix = 'write what is repeated so that it matches a text in one way only';
    const message = `may take exponential time, since ${reason}`;
    return [{ path, value: JSON.stringify(pattern), message, fix }];
  });
}
