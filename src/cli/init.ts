// `logpipe init`: a configuration, rules with a test, and a file for whoever keeps it running, written into a folder. In: what the machine,
// the environment and the folder tell. Out: files, and what to do next. Guarantee: asks nothing; a file that is there already is never
// changed, so a second run changes nothing (`--force` keeps a copy); no credential of the environment is written down; what is written
// passes check-config, rules check and rules test.
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { userInfo } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import type { Environment } from '../core/config-loader.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import { NODE_FLAGS, packageRoot } from '../core/package-root.ts';
import { visible, visibleJson } from '../core/safe-json.ts';
import type { Io } from './io.ts';

export type Keeper = 'systemd' | 'pm2' | 'none';

export interface InitOptions {
  readonly dir: string;
  /** Who keeps it running; undefined: whoever is there. */
  readonly keeper: Keeper | undefined;
  readonly force: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
}

export interface InitDeps {
  readonly env: Environment;
  /** Where systemd says that it runs. */
  readonly systemdFolder?: string;
  readonly kafka?: { readonly host: string; readonly port: number };
  readonly elasticsearchUrl?: string;
}

interface Written {
  readonly file: string;
  /** `kept`: it is there, and differs from what would be written. */
  readonly action: 'written' | 'unchanged' | 'kept' | 'replaced';
  /** Where the former one is. */
  readonly backup?: string;
}

/** Writes what is missing. @returns the exit status @throws LogpipeError LOGPIPE_USAGE, LOGPIPE_SINK_FAILED */
export async function init(options: InitOptions, io: Io, deps: InitDeps): Promise<number> {
  const dir = resolve(options.dir);
  const found = await lookAround(dir, options, deps);
  const files = filesOf(dir, found);
  if (!options.dryRun) makeFolder(dir);
  const written = Object.entries(files).map(([file, text]) => put(dir, file, text, options));
  const next = nextSteps(dir, found);
  if (options.json) {
    const { service, keeper, kafka, elasticsearch, remarks } = found;
    const about = { service: service.name, keeper, kafka: kafka.brokers, elasticsearch: elasticsearch.node };
    io.out(visibleJson(JSON.stringify({ dir, dryRun: options.dryRun, files: written, found: about, remarks, next })));
    return 0;
  }
  for (const { file, action, backup } of written) {
    const changes = action === 'written' || action === 'replaced';
    const would = options.dryRun && changes ? `would be ${action}` : action;
    const why =
      action === 'kept' ? '  (it differs from what init would write; --force replaces it and keeps a copy)' : '';
    io.out(`${would.padEnd(10)}  ${file}${backup === undefined ? '' : `  (the former one is ${backup})`}${why}`);
  }
  if (written.every(({ action }) => action === 'unchanged' || action === 'kept')) io.out('Nothing was changed.');
  io.out('');
  for (const [name, text] of whatWasFound(found)) io.out(`${name.padEnd(14)} ${visible(text)}`);
  for (const remark of found.remarks) io.out(`note: ${visible(remark)}`);
  io.out('');
  io.out('Next:');
  for (const line of next) io.out(`  ${visible(line)}`);
  return 0;
}

// ---- what is there ----

interface Found {
  readonly service: { readonly name: string; readonly from: string };
  readonly kafka: { readonly brokers: string; readonly from: string };
  readonly elasticsearch: { readonly node: string; readonly from: string };
  readonly keeper: Keeper;
  readonly keeperFrom: string;
  readonly remarks: readonly string[];
}

const DEFAULT_BROKERS = 'localhost:9092';
const DEFAULT_NODE = 'http://localhost:9200';
const PROBE_MS = 700;

async function lookAround(dir: string, options: InitOptions, deps: InitDeps): Promise<Found> {
  const { env, systemdFolder = '/run/systemd/system' } = deps;
  const remarks: string[] = [];
  const [kafka, elasticsearch] = await Promise.all([kafkaOf(deps, remarks), elasticsearchOf(deps, remarks)]);
  const service = serviceOf(dir);
  const ecosystem = filesIn(dir).find((name) => /^ecosystem\.config\.(?:[cm]?js|json)$/.test(name));
  const pm2 = (env.PATH ?? '').split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, 'pm2')));
  let keeper: Keeper = 'none';
  let keeperFrom = 'neither PM2 nor a running systemd was found';
  if (options.keeper !== undefined) [keeper, keeperFrom] = [options.keeper, 'as asked for'];
  else if (ecosystem !== undefined) [keeper, keeperFrom] = ['pm2', `${ecosystem} is here`];
  else if (pm2) [keeper, keeperFrom] = ['pm2', 'pm2 is on the path'];
  else if (existsSync(systemdFolder)) [keeper, keeperFrom] = ['systemd', 'systemd runs'];
  if (existsSync(join(dir, 'config', 'logpipe.yml'))) {
    remarks.push(
      'config/logpipe.yml is here too, and logpipe reads that one; remove it, or name the other one with --config',
    );
  }
  return { service, kafka, elasticsearch, keeper, keeperFrom, remarks };
}

async function kafkaOf(
  { env, kafka = { host: 'localhost', port: 9092 } }: InitDeps,
  remarks: string[],
): Promise<Found['kafka']> {
  const written = env.KAFKA_BROKERS ?? '';
  if (written !== '') {
    if (/^[\w.:[\],-]{1,500}$/.test(written)) return { brokers: written, from: 'KAFKA_BROKERS' };
    remarks.push('KAFKA_BROKERS holds something that is no list of host:port; it is not written down');
  }
  if (await somebodyListens(kafka)) return { brokers: DEFAULT_BROKERS, from: 'something listens there' };
  if (written === '')
    remarks.push(
      'No Kafka was found: set KAFKA_BROKERS, or start one with logpipe stack up; without Kafka see source in logpipe.yml',
    );
  return { brokers: DEFAULT_BROKERS, from: 'nothing listens there now' };
}

function somebodyListens({ host, port }: { readonly host: string; readonly port: number }): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ host, port, timeout: PROBE_MS });
    const end = (listens: boolean) => {
      socket.destroy();
      done(listens);
    };
    socket.once('connect', () => end(true));
    socket.once('timeout', () => end(false));
    socket.once('error', () => end(false));
  });
}

async function elasticsearchOf(
  { env, elasticsearchUrl = DEFAULT_NODE }: InitDeps,
  remarks: string[],
): Promise<Found['elasticsearch']> {
  const written = env.ELASTICSEARCH_URL ?? '';
  if (written !== '') {
    const nodes = written.split(',').map((text) => nodeOf(text.trim()));
    const isPlain = nodes.every((node) => node !== undefined);
    if (nodes.some((node) => node?.hadLogin)) {
      remarks.push(
        'ELASTICSEARCH_URL holds a user name: it is not written down; set ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD',
      );
    }
    if (isPlain) return { node: nodes.map((node) => node!.address).join(','), from: 'ELASTICSEARCH_URL' };
    remarks.push('ELASTICSEARCH_URL holds something that is no address; it is not written down');
  }
  const answer = await elasticsearchAt(elasticsearchUrl);
  if (answer !== undefined) return { node: DEFAULT_NODE, from: answer };
  if (written === '')
    remarks.push('No Elasticsearch was found: set ELASTICSEARCH_URL, or start one with logpipe stack up');
  return { node: DEFAULT_NODE, from: 'nothing answers there now' };
}

/** Without user and password. */
function nodeOf(text: string): { readonly address: string; readonly hadLogin: boolean } | undefined {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  const hadLogin = url.username !== '' || url.password !== '';
  const address = `${url.origin}${url.pathname.replace(/\/$/, '')}`;
  // A brace would end the default that it is written as.
  if (!/^https?:$/.test(url.protocol) || !/^[\w.:/[\]%~-]+$/.test(address)) return undefined;
  return { address, hadLogin };
}

const MAX_ANSWER = 10_000;

async function elasticsearchAt(url: string): Promise<string | undefined> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(PROBE_MS), redirect: 'manual' });
    let text = '';
    for await (const piece of response.body ?? []) {
      text += Buffer.from(piece).toString();
      if (text.length > MAX_ANSWER) break;
    }
    if (response.status === 401 && text.includes('security_exception')) return 'it asks for a login';
    const number = (JSON.parse(text) as { version?: { number?: unknown } }).version?.number;
    const isVersion = typeof number === 'string' && number.length <= 32 && /^\d[\w.-]*$/.test(number);
    return response.headers.get('x-elastic-product') === 'Elasticsearch' && isVersion
      ? `it answers as ${number}`
      : undefined;
  } catch {
    return undefined;
  }
}

function filesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function serviceOf(dir: string): Found['service'] {
  try {
    const { name } = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as { name?: unknown };
    // "@scope/name" is a name to npm alone.
    const short = typeof name === 'string' ? name.slice(name.lastIndexOf('/') + 1) : '';
    if (/^[\w.-]{1,80}$/.test(short)) return { name: short, from: 'package.json' };
  } catch {
    // None, or none that can be read: the default does.
  }
  return { name: 'my-service', from: 'there is no package.json with a name' };
}

function whatWasFound({ service, kafka, elasticsearch, keeper, keeperFrom }: Found): [string, string][] {
  return [
    ['Kafka', `${kafka.brokers} (${kafka.from})`],
    ['Elasticsearch', `${elasticsearch.node} (${elasticsearch.from})`],
    ['Service', `${service.name} (${service.from})`],
    ['Kept running', `${keeper === 'none' ? 'by nobody yet' : `by ${keeper}`} (${keeperFrom})`],
  ];
}

// ---- writing: never over what is there ----

function makeFolder(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true });
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--dir: ${visible(dir)} cannot be made (${errorText(error)}); name a folder`,
      error,
    );
  }
}

function put(dir: string, file: string, text: string, { force, dryRun }: InitOptions): Written {
  const path = join(dir, file);
  try {
    // A link that leads nowhere is there as well.
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) {
      if (!dryRun) writeFileSync(path, text, { flag: 'wx' });
      return { file, action: 'written' };
    }
    if (textOf(path) === text) return { file, action: 'unchanged' };
    if (!force) return { file, action: 'kept' };
    const backup = freeName(dir, file);
    if (!dryRun) {
      writeFileSync(`${path}.new`, text, { flag: 'wx' });
      // Moved, not copied: a link that leads nowhere cannot be copied on every Node.
      renameSync(path, join(dir, backup));
      renameSync(`${path}.new`, path);
    }
    return { file, action: 'replaced', backup };
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_SINK_FAILED',
      `${visible(path)} cannot be written (${errorText(error)}); name another folder with --dir`,
      error,
    );
  }
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function freeName(dir: string, file: string): string {
  for (let i = 1; ; i++) {
    const name = `${file}.bak${i === 1 ? '' : `.${i}`}`;
    if (!existsSync(join(dir, name))) return name;
  }
}

// ---- the files ----

function filesOf(dir: string, found: Found): Record<string, string> {
  return {
    'logpipe.yml': configurationText(found),
    'rules.yml': RULES_TEXT,
    'rules.test.yml': testText(found),
    ...(found.keeper === 'systemd' ? { 'logpipe.service': unitText(dir, found) } : {}),
    ...(found.keeper === 'pm2' ? { 'logpipe.config.cjs': pm2Text(dir) } : {}),
  };
}

function configurationText({ kafka, elasticsearch, service }: Found): string {
  return `# logpipe of ${service.name}. What is not here has its default; every key, range and variable is in docs/configuration.md of logpipe.
# Texts may hold \${VARIABLE} or \${VARIABLE:-default}; a variable that is empty counts as not set.
# Paths are those of the folder logpipe is started in. Check a change: npx logpipe check-config

# Where records come from. Without Kafka, \`files\` reads JSON lines from the files below, and \`stdin\` standard input.
source: \${LOGPIPE_SOURCE:-kafka}

files:
  paths: \${LOGPIPE_FILES:-logs/app.log}

kafka:
  # Several: comma-separated.
  brokers: \${KAFKA_BROKERS:-${kafka.brokers}}
  topics:
    # Used when \`logpipe setup\` creates the topics: 3 copies, of which 2 must have a record, where there are three brokers.
    replicationFactor: \${KAFKA_REPLICATION_FACTOR:-1}
    minInsyncReplicas: \${KAFKA_MIN_INSYNC_REPLICAS:-1}
  # TLS with the system's certificate authorities is \`ssl: {}\`; a user name and password:
  # sasl: { mechanism: scram-sha-512, username: '\${KAFKA_USERNAME}', passwordFile: '\${KAFKA_PASSWORD_FILE}' }

elasticsearch:
  nodes: \${ELASTICSEARCH_URL:-${elasticsearch.node}}
  # An API key, or user and password; each secret also from a file.
  apiKey: \${ELASTICSEARCH_API_KEY:-}
  apiKeyFile: \${ELASTICSEARCH_API_KEY_FILE:-}
  username: \${ELASTICSEARCH_USERNAME:-}
  password: \${ELASTICSEARCH_PASSWORD:-}
  passwordFile: \${ELASTICSEARCH_PASSWORD_FILE:-}

alerts:
  # When it alerts. The shipped rules for a calling platform are used without this line.
  rulesFile: rules.yml

# Where alerts are sent: a channel without its address or key is skipped. P1: all of them; P2: Slack and e-mail; P3: Slack.
# Try them: npx logpipe notify test
notify:
  environment: \${NODE_ENV:-development}
  # On standard output as well, to begin with.
  console: { enabled: true }
  slack: { webhookUrl: '\${SLACK_WEBHOOK_URL:-}', webhookUrlFile: '\${SLACK_WEBHOOK_URL_FILE:-}' }
  pagerduty: { integrationKey: '\${PAGERDUTY_INTEGRATION_KEY:-}', integrationKeyFile: '\${PAGERDUTY_INTEGRATION_KEY_FILE:-}' }
  webhook: { url: '\${ALERT_WEBHOOK_URL:-}', urlFile: '\${ALERT_WEBHOOK_URL_FILE:-}' }
  email:
    host: \${SMTP_HOST:-}
    port: \${SMTP_PORT:-587}
    username: \${SMTP_USERNAME:-}
    password: \${SMTP_PASSWORD:-}
    from: \${SMTP_FROM:-}
    to: \${SMTP_TO:-}

# /live, /ready, /metrics, and what logpipe top reads.
http:
  host: \${LOGPIPE_HTTP_HOST:-127.0.0.1}
  port: \${LOGPIPE_HTTP_PORT:-8780}

log:
  level: \${LOGPIPE_LOG_LEVEL:-info}
  format: \${LOGPIPE_LOG_FORMAT:-json}
`;
}

const RULES_TEXT = `# When logpipe alerts. Each rule judges one measure: those that are shipped are listed in docs/events.md of logpipe, kinds and keys in
# docs/rules.md. A running logpipe takes a changed file by itself; a wrong one is refused as a whole.
# Check: npx logpipe rules check   Test: npx logpipe rules test   Why does it fire? npx logpipe rules explain many-errors

rules:
  application-silent:
    title: Application Is Silent
    priority: P1
    group: application
    kind: absence
    measure: log.silence
    # Longer than the longest pause of an application that is well; startProcessStats() of logpipe/transport logs every 15 s.
    above: 5 m
    message: 'No log event has arrived for {value} (threshold {threshold})'

  many-errors:
    title: Many Errors
    priority: P2
    group: application
    kind: ratio
    measure: log.error_ratio
    window: 5m
    above: 10 %
    # With fewer events in the window nothing is said.
    minEvents: 50
    inhibitedBy: [application-silent]
    # What to do then: a page of your own, in time.
    runbook: docs/runbooks/error-trend.md
    message: '{value} of the events are errors (threshold {threshold}): {numerator} of {denominator} in {window}'

  new-error:
    title: New Kind of Error
    priority: P3
    group: new-errors
    kind: first-seen
    measure: error.templates
    labels: [error.template]
    # At first all of them are new: they are learned for a day.
    learning: 24h
    minEvents: 3
    message: 'Never seen before: {error.template}, {volume} times in {window}'
`;

function testText({ service }: Found): string {
  return `# Tests of rules.yml: log lines in, alerts and messages out, on a clock of their own. Run: npx logpipe rules test
# Times are offsets: 90s, 1m30s, or a range 1m..2m. What is not expected is a failure too. How to write them: docs/rules.md of logpipe.

events:
  fine: &fine { level: info, message: 'request {n} answered', service: ${JSON.stringify(service.name)} }
  failed: &failed { level: error, message: 'the database does not answer: request {n}', service: ${JSON.stringify(service.name)} }

tests:
  - name: 'a quarter of the events are errors for four minutes: one alert, and its end'
    for: 20m
    tick: 5s
    log:
      - { every: 3s, event: *fine }
      - { every: 9s, from: 6m, to: 10m, event: *failed }
    expect:
      alerts:
        - { rule: many-errors, fires: 7m..9m, resolves: 13m..17m }
      messages:
        - { at: 7m..9m, title: Many Errors, to: [slack, email] }
        - { at: 13m..17m, title: Many Errors, action: resolve, to: [slack, email] }

  - name: a few errors say nothing
    for: 10m
    tick: 5s
    log:
      - { every: 3s, event: *fine }
      - { every: 60s, from: 5m, event: *failed }
    expect: { silent: [many-errors] }

  - name: the application falls silent
    for: 12m
    tick: 5s
    log:
      - { every: 3s, to: 4m, event: *fine }
    expect:
      alerts:
        - { rule: application-silent, fires: 9m..9m15s }
`;
}

/** How Node is started for it: this very program. */
function programOf(): string {
  return join(packageRoot(), 'dist', 'src', 'main.js');
}

function unitText(dir: string, { service }: Found): string {
  const quoted = (text: string) =>
    `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%').replaceAll('$', '$$$$')}"`;
  const folder = dir.replaceAll('%', '%%');
  const { username, uid } = userOf();
  const user = uid === 0 ? '# It needs no rights of root: name a user of its own.\n#User=logpipe' : `User=${username}`;
  return `# logpipe of ${service.name}, under systemd: restarted when it ends, and given the time to finish what is under way.
#   sudo cp logpipe.service /etc/systemd/system/ && sudo systemctl daemon-reload && sudo systemctl enable --now logpipe
[Unit]
Description=logpipe of ${service.name}
Wants=network-online.target
After=network-online.target

[Service]
${user}
WorkingDirectory=${folder}
# KAFKA_BROKERS, ELASTICSEARCH_URL, SLACK_WEBHOOK_URL ...; readable for that user alone.
EnvironmentFile=-${folder}/logpipe.env
ExecStart=${quoted(process.execPath)} ${NODE_FLAGS.join(' ')} ${quoted(programOf())} run
Restart=always
RestartSec=2
# Above shutdownTimeoutMs: it is not to be killed while it finishes.
TimeoutStopSec=30
NoNewPrivileges=true
PrivateTmp=true

[Install]
WantedBy=multi-user.target
`;
}

function userOf(): { readonly username: string; readonly uid: number } {
  try {
    return userInfo();
  } catch {
    return { username: 'logpipe', uid: -1 };
  }
}

function pm2Text(dir: string): string {
  return `// logpipe under PM2: pm2 start logpipe.config.cjs
// Settings travel in the environment: KAFKA_BROKERS, ELASTICSEARCH_URL, SLACK_WEBHOOK_URL ..., as in logpipe.yml.
${isInstalledIn(dir) ? "const { dirname, join } = require('node:path');\n\nconst script = join(dirname(require.resolve('logpipe/package.json')), 'dist/src/main.js');" : `const script = ${JSON.stringify(programOf())};`}

module.exports = {
  apps: [
    {
      name: 'logpipe',
      script,
      args: 'run',
      cwd: __dirname,
      interpreter_args: ${JSON.stringify(NODE_FLAGS.join(' '))},
      // Instances share the work through Kafka, not through a port: never cluster mode.
      exec_mode: 'fork',
      vizion: false,
      exp_backoff_restart_delay: 200,
      // Above shutdownTimeoutMs: PM2 must not kill what is still being finished.
      kill_timeout: 25000,
    },
  ],
};
`;
}

/** True when the project has logpipe itself. */
function isInstalledIn(dir: string): boolean {
  try {
    createRequire(join(dir, 'package.json')).resolve('logpipe/package.json');
    return true;
  } catch {
    return false;
  }
}

function nextSteps(dir: string, { keeper, kafka, service }: Found): string[] {
  const keep = {
    systemd: [
      'sudo cp logpipe.service /etc/systemd/system/',
      'sudo systemctl daemon-reload && sudo systemctl enable --now logpipe',
    ],
    pm2: ['pm2 start logpipe.config.cjs'],
    none: [],
  }[keeper];
  const there =
    resolve('.') === dir ? [] : [`cd ${/^[\w./-]+$/.test(dir) ? dir : `'${dir.replaceAll("'", "'\\''")}'`}`];
  const brokers = JSON.stringify(kafka.brokers.split(',').map((broker) => broker.trim()));
  return [
    ...there,
    'npx logpipe check-config && npx logpipe rules test',
    'npx logpipe setup          # topics and index template',
    'npx logpipe run            # until Ctrl-C; in another terminal: npx logpipe top',
    ...keep,
    'In the application:',
    "  import { createLogger } from 'logpipe/transport';",
    `  const logger = createLogger({ brokers: ${brokers}, service: ${JSON.stringify(service.name)} });`,
    "  logger.error('it works');",
  ];
}
