// The contenders, and how each is started as a process of its own. In: where the servers and files are; out: command lines. All of
// them get the same documents, the same bulk size and the same number of bulks at a time.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NODE_FLAGS } from '../src/core/package-root.ts';
import { BULK } from './fill.ts';
import type { OrdinaryOptions } from './ordinary.ts';
import type { RawBulkOptions } from './raw-bulk.ts';

export interface Bench {
  readonly brokers: readonly string[];
  /** `http://127.0.0.1:port` */
  readonly node: string;
  /** A folder of this run. */
  readonly folder: string;
  readonly bodies: { readonly file: string; readonly lengths: readonly number[] };
}

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface Contender {
  readonly name: string;
  /** Joins a consumer group (its start is measured on an empty topic), or waits for a line on standard input. */
  readonly kind: 'consumer' | 'prompted';
  /** `id` is new in every round: the name of the consumer group and of files. */
  launch(bench: Bench, topic: string, id: string): Launch;
}

/** logpipe's indexer as in production, with everything switched on. `settings` are paths of its configuration. */
export function logpipe(
  name: string,
  flags: readonly string[] = [],
  settings: Record<string, unknown> = {},
): Contender {
  return {
    name,
    kind: 'consumer',
    launch(bench, topic, id) {
      const config: Record<string, Record<string, unknown>> = {
        kafka: { brokers: bench.brokers, group: id, topics: { logs: topic, dlq: `${topic}.dlq` } },
        elasticsearch: { nodes: [bench.node] },
        bulk: { maxDocuments: BULK.documents, concurrency: BULK.concurrency },
        http: { port: 0 },
      };
      for (const [path, value] of Object.entries(settings)) {
        const [section, key] = path.split('.') as [string, string];
        config[section] = { ...config[section], [key]: value };
      }
      const main = fileURLToPath(new URL('../src/main.js', import.meta.url));
      const file = toFile(bench, id, 'yml', config);
      const args = [...NODE_FLAGS, ...flags, main, 'run', '--roles', 'indexer', '--config', file, '--exit-with-parent'];
      return { command: process.execPath, args };
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
  return logpipe(`logpipe ${text}`, flags, Object.fromEntries(settings));
}

export const rawBulk: Contender = {
  name: 'raw bulk',
  kind: 'prompted',
  launch(bench, _topic, id) {
    const { file, lengths } = bench.bodies;
    const options: RawBulkOptions = { node: bench.node, bodiesFile: file, lengths, concurrency: BULK.concurrency };
    return script('raw-bulk.js', toFile(bench, id, 'json', options));
  },
};

export const ordinary: Contender = {
  name: 'ordinary',
  kind: 'consumer',
  launch(bench, topic, id) {
    const { brokers, node } = bench;
    const options: OrdinaryOptions = { node, brokers, topic, group: id, ...BULK };
    return script('ordinary.js', toFile(bench, id, 'json', options));
  },
};

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
      return { command: RSYSLOGD, args: ['-n', '-f', file, '-i', join(folder, 'pid')] };
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

function script(name: string, file: string): Launch {
  return { command: process.execPath, args: [fileURLToPath(new URL(name, import.meta.url)), file] };
}

function toFile(bench: Bench, id: string, ending: string, content: unknown): string {
  const file = join(bench.folder, `${id}.${ending}`);
  // JSON is YAML too.
  writeFileSync(file, JSON.stringify(content));
  return file;
}
