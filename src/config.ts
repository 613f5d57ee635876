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
import { accessProblems } from './ops/access.ts';
import { type HttpConfig, httpSection } from './ops/http.ts';
import { type ParseConfig, parseSection } from './parse/parse.ts';
import { type Pm2Config, pm2Section } from './pm2/watch.ts';
import { type FilesConfig, filesSection } from './source/files/files.ts';
import { type IntakeConfig, intakeSection, type KafkaConfig, kafkaSection } from './source/kafka/client.ts';
import { type MultilineRule, multilineSection } from './source/lines.ts';
import type { SyslogTls } from './source/syslog.ts';
import { type TransformsConfig, transformProblems, transformsSection } from './transform/transform.ts';

export const ROLES = ['indexer', 'counter', 'alerter'] as const;
export type Role = (typeof ROLES)[number];

export interface Config {
  readonly roles: readonly Role[];
  readonly source: 'kafka' | 'files' | 'stdin' | 'otlp';
  readonly shutdownTimeoutMs: number;
  readonly kafka: KafkaConfig;
  readonly intake: IntakeConfig;
  readonly files: FilesConfig;
  readonly otlp: OtlpConfig;
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

// ---- the `otlp` section: here and not beside its code, which is only loaded where it is wanted ----

/** Where it listens when nobody says where: the port that OpenTelemetry's exporters use. */
export const OTLP_ADDRESS = '127.0.0.1:4318';

/** `otlp` section, JSON Schema; `ship.inputs` has the same keys. */
export const otlpSection = {
  type: 'object',
  description: 'For `source: otlp`: OpenTelemetry’s logs over HTTP; see docs/otlp.md.',
  additionalProperties: false,
  default: {},
  properties: {
    address: {
      type: 'string',
      minLength: 1,
      default: OTLP_ADDRESS,
      description: 'Address to listen at, `host:port`; port 0 takes a free one, which /ready tells.',
    },
    tokens: {
      type: 'array',
      secret: true,
      minItems: 1,
      items: { type: 'string', secret: true, minLength: 16, maxLength: 512 },
      description:
        'Who may send OpenTelemetry’s logs: `Authorization: Bearer …`, each of at least 16 characters. Also `tokensFile`, one a line. Default: everybody who reaches the port.',
    },
  },
} as const;

interface OtlpConfig {
  readonly address: string;
  readonly tokens?: readonly string[];
}

// ---- the `ship` section: here and not beside its code, which only its own command loads ----

const MIB = 1024 * 1024;
const fieldSchema = { type: 'string', minLength: 1, maxLength: 200 } as const;

/** `ship` section, JSON Schema. */
export const shipSection = {
  type: 'object',
  description:
    'What `logpipe ship` sends to the log topic; it uses `kafka.brokers`, `kafka.ssl`, `kafka.sasl` and `mask`, too.',
  additionalProperties: false,
  default: {},
  properties: {
    inputs: {
      type: 'array',
      default: [],
      description: 'Where lines come from; each has one of `files`, `stdin`, `syslog` and `otlp`.',
      items: {
        type: 'object',
        additionalProperties: false,
        oneOf: [{ required: ['files'] }, { required: ['stdin'] }, { required: ['syslog'] }, { required: ['otlp'] }],
        properties: {
          files: {
            type: 'array',
            items: { type: 'string', minLength: 1 },
            minItems: 1,
            uniqueItems: true,
            description: 'Files or patterns such as `/var/log/nginx/*.log`; rotated files are found automatically.',
          },
          stdin: { const: true, description: 'Standard input, until it ends.' },
          syslog: {
            type: 'string',
            minLength: 1,
            description:
              'Address to listen at for syslog: `tcp://0.0.0.0:6514`, or `tls://…` with `tls`; see docs/syslog.md.',
          },
          tls: {
            type: 'object',
            description: 'Certificate of a `tls://` address.',
            additionalProperties: false,
            required: ['certFile', 'keyFile'],
            properties: {
              certFile: {
                type: 'string',
                minLength: 1,
                description: 'PEM file of the certificate and those above it.',
              },
              keyFile: { type: 'string', minLength: 1, description: 'PEM file of its private key.' },
              caFile: {
                type: 'string',
                minLength: 1,
                description: 'PEM file of those who sign senders’ certificates.',
              },
              clientCertificates: {
                enum: ['required', 'optional'],
                description: 'With `caFile`: whether a sender needs a certificate. Default: `required`.',
              },
            },
          },
          maxConnections: {
            type: 'integer',
            minimum: 1,
            maximum: 100_000,
            description: 'Syslog: most connections at a time. Default: 500.',
          },
          otlp: {
            type: 'string',
            minLength: 1,
            description:
              'Address to listen at for OpenTelemetry’s logs over HTTP, such as `http://127.0.0.1:4318`; see docs/otlp.md.',
          },
          tokens: otlpSection.properties.tokens,
          name: {
            type: 'string',
            pattern: '^(?!\\.)[A-Za-z0-9._-]{1,100}$',
            permitted: 'letters, digits, dots, hyphens and underscores, 100 at most',
            description:
              'What the input is called; its files’ positions are kept under this. Default: its `service`, else `files`, `stdin`, `syslog` or `otlp`.',
          },
          service: { ...fieldSchema, description: 'Field `service` of records that have none.' },
          environment: { ...fieldSchema, description: 'Field `environment` of records that have none.' },
          host: {
            ...fieldSchema,
            description:
              'Field `host` of records that have none. Default: this host’s name, for syslog and OpenTelemetry none.',
          },
          multiline: multilineSection,
        },
      },
    },
    dataDir: {
      type: 'string',
      minLength: 1,
      default: '.logpipe/ship',
      description: 'Folder that remembers how far each file was sent; one running `logpipe ship` per folder.',
    },
    follow: { type: 'boolean', default: true, description: 'Wait for more at the end of a file.' },
    pollIntervalMs: filesSection.properties.pollIntervalMs,
    commitIntervalMs: filesSection.properties.commitIntervalMs,
    maxLineBytes: {
      type: 'integer',
      minimum: 1_000,
      maximum: 900_000,
      default: 900_000,
      description: 'Longer lines are cut to this many bytes; a record must fit into `max.message.bytes` of the topic.',
    },
    maxInFlightBytes: {
      type: 'integer',
      minimum: MIB,
      maximum: 4_096 * MIB,
      default: 32 * MIB,
      description: 'Most bytes of lines read and not yet taken by Kafka; beyond it, reading waits.',
    },
    compression: {
      enum: ['none', 'gzip', 'snappy', 'lz4'],
      default: 'lz4',
      description: 'How batches are packed.',
    },
    spool: {
      type: 'object',
      description:
        'Keeps what came from standard input and syslog on disk while Kafka is away; files need none, and OpenTelemetry’s exporters wait for their answer.',
      additionalProperties: false,
      required: ['dir'],
      properties: {
        dir: { type: 'string', minLength: 1, description: 'A folder on a local disk.' },
        maxBytes: {
          type: 'integer',
          minimum: 4 * MIB,
          default: 512 * MIB,
          description: 'Beyond it the oldest records are dropped and counted.',
        },
      },
    },
    http: {
      type: 'object',
      description: 'The HTTP server of `logpipe ship` with /live, /ready and /metrics.',
      additionalProperties: false,
      default: {},
      properties: {
        enabled: { type: 'boolean', default: true, description: 'Serve HTTP.' },
        host: { type: 'string', minLength: 1, default: '127.0.0.1', description: 'Address to bind.' },
        port: {
          type: 'integer',
          minimum: 0,
          maximum: 65_535,
          default: 8781,
          description: 'Port to bind; 0 takes a free one, which is logged.',
        },
      },
    },
  },
} as const;

/** One of `files`, `stdin`, `syslog` and `otlp`. */
export interface ShipInput {
  readonly files?: readonly string[];
  readonly stdin?: true;
  readonly syslog?: string;
  readonly tls?: SyslogTls;
  readonly maxConnections?: number;
  readonly otlp?: string;
  readonly tokens?: readonly string[];
  readonly name?: string;
  readonly service?: string;
  readonly environment?: string;
  readonly host?: string;
  readonly multiline?: MultilineRule;
}

export interface ShipConfig {
  readonly inputs: readonly ShipInput[];
  readonly dataDir: string;
  readonly follow: boolean;
  readonly pollIntervalMs: number;
  readonly commitIntervalMs: number;
  readonly maxLineBytes: number;
  readonly maxInFlightBytes: number;
  readonly compression: 'none' | 'gzip' | 'snappy' | 'lz4';
  readonly spool?: { readonly dir: string; readonly maxBytes?: number };
  readonly http: { readonly enabled: boolean; readonly host: string; readonly port: number };
}

const NAME = /^(?!\.)[A-Za-z0-9._-]{1,100}$/;

/** What an input is called: its positions are kept under this. */
export function nameOf({ name, service, files, syslog, otlp }: ShipInput): string {
  if (name !== undefined) return name;
  if (service !== undefined && NAME.test(service)) return service;
  if (files !== undefined) return 'files';
  return syslog !== undefined ? 'syslog' : otlp !== undefined ? 'otlp' : 'stdin';
}

/** What no single input is to blame for. */
export function contradictoryInputs(inputs: readonly ShipInput[]): ConfigProblem[] {
  const names = inputs.map(nameOf);
  const found: ConfigProblem[] = [];
  for (const [i, name] of names.entries()) {
    const first = names.indexOf(name);
    if (first < i) {
      const message = `is called ${name}, as ship.inputs.${first} is, and positions are kept under the name`;
      found.push({
        path: `ship.inputs.${i}`,
        value: JSON.stringify(name),
        message,
        fix: 'give it a `name` of its own',
      });
    }
    if (inputs[i]!.stdin && inputs.findIndex(({ stdin }) => stdin) < i) {
      const message = 'standard input can be read by one of them only';
      found.push({ path: `ship.inputs.${i}.stdin`, value: 'true', message, fix: 'leave one of them out' });
    }
  }
  return found;
}

// ---- all of it ----

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
      enum: ['kafka', 'files', 'stdin', 'otlp'],
      default: 'kafka',
      description: 'Where records come from; `files`, `stdin` and `otlp` need no Kafka (embedded mode).',
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
    otlp: otlpSection,
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
  const { mask, intake, kafka, files, ship, alerts, retention, notify, http, source } = value as Config;
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
    ...accessProblems(http, notify.pagerduty.webhookSecrets),
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
