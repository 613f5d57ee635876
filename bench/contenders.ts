// The contenders, and how each is started as a process of its own. In: where the servers and files are; out: command lines. All of
// them get the same lines, the same bulk size and the same number of bulks at a time.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseConfig } from '../src/config.ts';
import { NODE_FLAGS } from '../src/core/package-root.ts';
import type { KafkaConfig } from '../src/source/kafka/client.ts';
import { BULK } from './fill.ts';
import type { OrdinaryOptions, Shape } from './ordinary.ts';
import type { RawBulkOptions } from './raw-bulk.ts';

export interface Bench {
  readonly brokers: readonly string[];
  /** `http://127.0.0.1:port` */
  readonly node: string;
  /** A folder of this run. */
  readonly folder: string;
  /** For raw bulk. */
  readonly bodies?: { readonly file: string; readonly lengths: readonly number[] };
}

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Consumer groups it joins. */
  readonly groups: readonly string[];
  /** With the topic in which its counter, if it has one, says how far it has come. */
  readonly counter?: KafkaConfig;
}

export interface Contender {
  readonly name: string;
  /** Joins a consumer group (its start is measured on an empty topic), or waits for a line on standard input. */
  readonly kind: 'consumer' | 'prompted';
  /** False for one that only counts. */
  readonly indexes: boolean;
  /** What it says once it works, where joining its groups is not enough. */
  readonly ready?: RegExp;
  /** `id` is new in every round: the name of the consumer group and of files. */
  launch(bench: Bench, topic: string, id: string): Launch;
}

/** logpipe as in production, with everything switched on and no channel to notify. `settings` are paths of its configuration. */
export function logpipe(
  name: string,
  roles: readonly ('indexer' | 'counter' | 'alerter')[] = ['indexer'],
  { flags = [], settings = {} }: { flags?: readonly string[]; settings?: Record<string, unknown> } = {},
): Contender {
  const indexes = roles.includes('indexer');
  return {
    name,
    kind: 'consumer',
    indexes,
    ...(roles.includes('alerter') ? { ready: /alerts are evaluated here/ } : {}),
    launch(bench, topic, id) {
      const topics = { logs: topic, dlq: `${topic}.dlq` };
      const own = { counts: `${id}-counts`, alerts: `${id}-alerts`, commands: `${id}-commands` };
      const groups = { indexer: id, counter: `${id}-counter`, alerter: `${id}-alerter` };
      const config: Record<string, Record<string, unknown>> = {
        kafka: {
          brokers: bench.brokers,
          topics: { ...topics, ...own },
          group: groups.indexer,
          counterGroup: groups.counter,
          alerterGroup: groups.alerter,
        },
        ...(indexes ? { elasticsearch: { nodes: [bench.node] } } : { sinks: { elasticsearch: false } }),
        bulk: { maxDocuments: BULK.documents, concurrency: BULK.concurrency },
        http: { port: 0 },
      };
      for (const [path, value] of Object.entries(settings)) {
        const [section, key] = path.split('.') as [string, string];
        config[section] = { ...config[section], [key]: value };
      }
      const main = fileURLToPath(new URL('../src/main.js', import.meta.url));
      const file = toFile(bench, id, 'yml', config);
      const run = ['run', '--roles', roles.join(','), '--config', file, '--exit-with-parent'];
      return {
        command: process.execPath,
        args: [...NODE_FLAGS, ...flags, main, ...run],
        groups: roles.map((role) => groups[role]),
        ...(roles.includes('counter') ? { counter: parseConfig(JSON.stringify(config), {}, file).kafka } : {}),
      };
    },
  };
}

/** `--variant`: words that begin with `--` are flags of Node, `section.key=value` are settings of logpipe. */
export function variant(text: string): Contender {
  const words = text.trim().split(/\s+/);
  const flags = words.filter((word) => word.startsWith('--'));
  const settings = words
    .filter((word) => !word.startsWith('--'))
    .map((word) => {
      const at = word.indexOf('=');
      return [word.slice(0, at), JSON.parse(word.slice(at + 1))] as const;
    });
  return logpipe(`logpipe ${text}`, ['indexer'], { flags, settings: Object.fromEntries(settings) });
}

export const rawBulk: Contender = {
  name: 'raw bulk',
  kind: 'prompted',
  indexes: true,
  launch(bench, _topic, id) {
    const { file, lengths } = bench.bodies!;
    const options: RawBulkOptions = { node: bench.node, bodiesFile: file, lengths, concurrency: BULK.concurrency };
    return script('raw-bulk.js', toFile(bench, id, 'json', options), []);
  },
};

/** A plain indexer for lines of that logger. */
export function ordinary(shape: Shape = 'winston'): Contender {
  return {
    name: 'ordinary',
    kind: 'consumer',
    indexes: true,
    launch(bench, topic, id) {
      const { brokers, node } = bench;
      const options: OrdinaryOptions = { node, brokers, topic, group: id, shape, ...BULK };
      return script('ordinary.js', toFile(bench, id, 'json', options), [id]);
    },
  };
}

/** rsyslog making the same document: parsed, with `@timestamp` and the day's index from the event, its id and the error tag. */
export const rsyslog: Contender = createRsyslog('rsyslog', {
  modules: 'module(load="mmjsonparse")',
  templates: `template(name="day" type="string" string="calling-platform-%$.day%")
template(name="id" type="string" string="%$!eventId%")
template(name="document" type="list") {
  constant(value="{\\"@timestamp\\":\\"") property(name="$!timestamp")
  constant(value="\\",") property(name="$.tags") property(name="$!all-json-plain" position.from="2")
}`,
  prepare: `action(type="mmjsonparse" cookie="")
  set $.day = replace(substring($!timestamp, 0, 10), "-", ".");
  if $!level == "error" then set $.tags = "\\"tags\\":[\\"error\\"],";`,
  action: 'searchIndex="day" dynSearchIndex="on" bulkid="id" dynbulkid="on" writeoperation="create"',
});

/** rsyslog doing the minimum: the line copied as text, its own clock's time, a fixed index, no id; nothing is parsed. */
export const rsyslogText: Contender = createRsyslog('rsyslog text', {
  modules: '',
  templates: `template(name="document" type="list") {
  constant(value="{\\"@timestamp\\":\\"") property(name="timegenerated" dateFormat="rfc3339")
  constant(value="\\",") property(name="msg" position.from="2")
}`,
  prepare: '',
  action: 'searchIndex="calling-platform-2026.01.01"',
});

function createRsyslog(
  name: string,
  parts: { modules: string; templates: string; prepare: string; action: string },
): Contender {
  return {
    name,
    kind: 'consumer',
    indexes: true,
    launch(bench, topic, id) {
      const folder = join(bench.folder, id);
      mkdirSync(folder);
      const { hostname, port } = new URL(bench.node);
      const file = join(folder, 'rsyslog.conf');
      const brokers = bench.brokers.map((broker) => `"${broker}"`).join(',');
      writeFileSync(
        file,
        `global(workDirectory="${folder}" maxMessageSize="64k")
module(load="imkafka")
module(load="omelasticsearch")
${parts.modules}
${parts.templates}
input(type="imkafka" topic="${topic}" broker=[${brokers}] consumergroup="${id}"
  confParam=["auto.offset.reset=earliest"] ruleset="index")
ruleset(name="index" queue.type="FixedArray" queue.size="50000" queue.dequeueBatchSize="${BULK.documents}"
  queue.workerThreads="${BULK.concurrency}") {
  ${parts.prepare}
  action(type="omelasticsearch" server="${hostname}" serverport="${port}" template="document" bulkmode="on"
    maxbytes="5m" searchType="" esVersion.major="8" action.resumeRetryCount="-1" ${parts.action})
}
`,
      );
      return { command: RSYSLOGD, args: ['-n', '-f', file, '-i', join(folder, 'pid')], groups: [id] };
    },
  };
}

export const RSYSLOGD = '/usr/sbin/rsyslogd';
export const MODULE_FOLDERS = [
  '/usr/lib/x86_64-linux-gnu/rsyslog',
  '/usr/lib/aarch64-linux-gnu/rsyslog',
  '/usr/lib64/rsyslog',
];

/** True when rsyslogd and both modules are there. */
export function rsyslogInstalled(): boolean {
  const has = (module: string) => MODULE_FOLDERS.some((folder) => existsSync(join(folder, module)));
  return existsSync(RSYSLOGD) && has('imkafka.so') && has('omelasticsearch.so');
}

function script(name: string, file: string, groups: readonly string[]): Launch {
  return { command: process.execPath, args: [fileURLToPath(new URL(name, import.meta.url)), file], groups };
}

function toFile(bench: Bench, id: string, ending: string, content: unknown): string {
  const file = join(bench.folder, `${id}.${ending}`);
  // JSON is YAML too.
  writeFileSync(file, JSON.stringify(content));
  return file;
}
