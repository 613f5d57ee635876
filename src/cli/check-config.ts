// `logpipe check-config`: is everything that the configuration says right, and what follows from it? In: a file, the environment.
// Out: which files were read, all that is wrong with them, whom each priority reaches, variables that nobody reads; with `--connect`
// what each server says. For people, or as one JSON object. Guarantee: no secret is shown; nothing is changed or sent.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CONFIG_SCHEMA, type Config, initialFile, inspectConfig } from '../config.ts';
import { systemClock } from '../core/clock.ts';
import {
  ConfigError,
  type ConfigProblem,
  type Environment,
  type FileOrigin,
  nearest,
  problemText,
  readConfigFile,
  secretsIn,
  withKnownSecrets,
  withoutSecrets,
} from '../core/config-loader.ts';
import { LogpipeError, listOfProblems, reasonInWords } from '../core/errors.ts';
import { type Log, silentLog } from '../core/log.ts';
import { packageRoot } from '../core/package-root.ts';
import { visible, visibleJson } from '../core/safe-json.ts';
import { createMasker, type Masker, secretsOnly } from '../core/secrets/mask.ts';
import { type Measures, parseMeasures } from '../measure/measure-config.ts';
import { channelsFor } from '../notify/notify-config.ts';
import { localText } from '../oncall/rota.ts';
import { checkRouting, createRoutes, type ScheduledShift, scheduleOf, type TeamSchedule } from '../oncall/routes.ts';
import { findRouting, parseRouting, type Routing } from '../oncall/routing.ts';
import { parseRules, type Rules } from '../rules/rule-config.ts';
import { PRIORITIES, type Priority } from '../rules/rule-types.ts';
import type { Connection } from './connections.ts';
import type { Io } from './io.ts';

export interface CheckConfigOptions {
  /** Of `--config`. */
  readonly config?: string | undefined;
  readonly json: boolean;
  /** Try the servers too. */
  readonly connect: boolean;
}

interface CheckedFile {
  readonly kind: 'configuration' | 'measures' | 'rules' | 'routing';
  readonly file: string;
  readonly origin: FileOrigin;
  readonly text: string;
}

/** Whom a priority reaches now. */
interface Route {
  readonly priority: Priority;
  /** How many rules have it; undefined when the rules could not be read. */
  readonly rules: number | undefined;
  readonly reaches: readonly string[];
  /** Channels it is meant for that are not there, with the key that is missing. */
  readonly missing: readonly { readonly channel: string; readonly set: string }[];
  /** Teams that other destinations than these stand for. */
  readonly teams?: Readonly<Record<string, readonly string[]>>;
  /** When it is sent, if that is not at once, or to whom besides. */
  readonly when?: 'daily mail' | 'business hours' | 'on call';
}

type FoundProblem = ConfigProblem & { readonly file: string };

interface Findings {
  readonly files: readonly CheckedFile[];
  readonly problems: readonly FoundProblem[];
  readonly config: Config | undefined;
  readonly measures: Measures | undefined;
  readonly rules: Rules | undefined;
  readonly routing: Routing | undefined;
}

/**
 * Exit status 0, 1 when a server that was tried is not as it should be, 2 when something is wrong with a file.
 * @param onConfig gets a valid configuration's masker
 */
export async function checkConfig(
  options: CheckConfigOptions,
  io: Io,
  deps: {
    readonly env: Environment;
    readonly onConfig?: (config: Config, masker: Masker) => void;
    readonly now?: () => number;
  },
): Promise<number> {
  const { env } = deps;
  const found = inspectFiles(options.config ?? env.LOGPIPE_CONFIG, env, (deps.now ?? Date.now)());
  const { config, files, problems } = found;
  const masker =
    config === undefined
      ? createMasker()
      : withKnownSecrets(createMasker(secretsOnly(config.mask)), secretsIn(config, CONFIG_SCHEMA));
  if (config !== undefined) deps.onConfig?.(config, masker);
  const nowMs = (deps.now ?? Date.now)();
  const routing = config === undefined ? NO_ROUTES : await routesOf(config, found, nowMs);
  const named = config === undefined ? [] : unusableFiles(config, files[0]?.file ?? '');
  const all = [...problems, ...named, ...routing.problems];
  const warnings = [
    ...(config === undefined
      ? []
      : [
          ...clearTextWarnings(config),
          ...doubts(config),
          ...routeWarnings(config, routing.routes),
          ...routing.warnings,
        ]),
    ...unreadVariables(env, files),
  ];
  let connections: readonly Connection[] | undefined;
  if (options.connect && config !== undefined) {
    const { tryConnections } = await import('./connections.ts');
    connections = await tryConnections(config, { masker, env });
  }
  const status = all.length > 0 ? 2 : connections?.some(({ ok }) => !ok) ? 1 : 0;
  if (options.json) {
    const configuration =
      config === undefined ? undefined : withoutSecrets(config, CONFIG_SCHEMA, createMasker(secretsOnly(config.mask)));
    const result = {
      ok: status === 0,
      file: files[0]?.file,
      files: files.map(({ kind, file, origin }) => ({ kind, file, origin })),
      problems: all,
      warnings,
      routing: routing.routes,
      onCall: routing.onCall,
      connections,
      configuration,
    };
    io.out(visibleJson(JSON.stringify(result, null, 2)));
    return status;
  }
  for (const line of filesInWords(found, options.config === undefined)) io.out(line);
  for (const route of routing.routes) for (const line of routeInWords(route)) io.out(line);
  for (const line of onCallInWords(routing.onCall)) io.out(line);
  if (config?.roles.includes('alerter') === false) {
    io.out(`roles          ${config.roles.join(', ')}: another process evaluates the rules and sends the messages`);
  }
  for (const connection of connections ?? []) io.out(connectionInWords(connection));
  for (const warning of warnings) io.err(`warning: ${warning}`);
  for (const file of new Set(all.map((problem) => problem.file))) {
    const mine = all.filter((problem) => problem.file === file);
    io.err(`${visible(file)}: ${mine.length} problem(s)\n${listOfProblems(mine.map(problemText))}`);
  }
  const away = connections?.filter(({ ok }) => !ok).length ?? 0;
  if (all.length > 0) io.err(`logpipe: ${all.length} problem(s) in all [LOGPIPE_CONFIG_INVALID]`);
  else
    io.out(
      away === 0
        ? 'the configuration is fine'
        : `the configuration is fine; ${away} of ${connections?.length} servers are not`,
    );
  return status;
}

// ---- the files ----

/** The configuration and the files it names, as far as they can be read, with all that is wrong. */
function inspectFiles(named: string | undefined, env: Environment, nowMs: number): Findings {
  const files: CheckedFile[] = [];
  const problems: FoundProblem[] = [];
  const read = (kind: CheckedFile['kind'], name: string, wanted: string | undefined): CheckedFile | undefined => {
    try {
      const file = { kind, ...readConfigFile(name, wanted) };
      files.push(file);
      return file;
    } catch (error) {
      if (!(error instanceof LogpipeError)) throw error;
      problems.push({ file: wanted || name, path: kind, message: error.message });
      return undefined;
    }
  };
  /** Undefined when it was refused. */
  const parsed = <T>(file: string, parse: () => T): T | undefined => {
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      problems.push(...error.problems.map((problem) => ({ file, ...problem })));
      return undefined;
    }
  };

  const main = read('configuration', 'logpipe.yml', named ?? initialFile());
  const nothing = { config: undefined, measures: undefined, rules: undefined, routing: undefined };
  if (main === undefined) return { files, problems, ...nothing };
  const { value: config, partial, problems: found } = inspectConfig(main.text, env, main.file);
  problems.push(...found.map((problem) => ({ file: main.file, ...problem })));
  const { alerts } = partial as { readonly alerts?: Readonly<Partial<Record<string, unknown>>> };
  const measuresFile = read('measures', 'measures.yml', textOf(alerts?.measuresFile));
  const rulesFile = read('rules', 'rules.yml', textOf(alerts?.rulesFile));
  const measures =
    measuresFile && parsed(measuresFile.file, () => parseMeasures(measuresFile.text, env, measuresFile.file));
  // Without the measures nothing can be said of rules but nonsense.
  const rules =
    rulesFile && measures && parsed(rulesFile.file, () => parseRules(rulesFile.text, env, rulesFile.file, measures));
  const namedRouting = textOf(alerts?.routingFile);
  // Without one, everybody is told of everything: there is no shipped one that would be used instead.
  const isThere = namedRouting !== undefined || findRouting(undefined) !== undefined;
  const routingFile = isThere ? read('routing', 'routing.yml', namedRouting) : undefined;
  const routing =
    routingFile && parsed(routingFile.file, () => parseRouting(routingFile.text, env, routingFile.file, nowMs));
  return { files, problems, config, measures, rules, routing };
}

/** Certificates and keys, which are read only when a connection is made. */
function unusableFiles({ elasticsearch, kafka, kibana }: Config, file: string): FoundProblem[] {
  const ssl = kafka.ssl === false ? {} : kafka.ssl;
  const named: readonly (readonly [string, string | undefined])[] = [
    ['kafka.ssl.caFile', ssl.caFile],
    ['kafka.ssl.certFile', ssl.certFile],
    ['kafka.ssl.keyFile', ssl.keyFile],
    ['elasticsearch.caFile', elasticsearch.caFile],
    ['kibana.caFile', kibana.caFile],
  ];
  return named.flatMap(([path, place]) => {
    if (place === undefined) return [];
    const value = JSON.stringify(place);
    const fix = 'name a readable PEM file';
    try {
      if (readFileSync(place, 'utf8').includes('-----BEGIN ')) return [];
      return [{ file, path, value, message: 'is no PEM file: it has no line -----BEGIN …-----', fix }];
    } catch (error) {
      return [{ file, path, value, message: `cannot be read (${reasonInWords(error)})`, fix }];
    }
  });
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function filesInWords({ files, measures, rules, routing, problems }: Findings, mayBeVariable: boolean): string[] {
  return files.map(({ kind, file, origin }) => {
    const how = {
      named:
        kind !== 'configuration'
          ? 'named by the configuration'
          : mayBeVariable
            ? 'named by LOGPIPE_CONFIG'
            : 'named by --config',
      local: 'of this folder',
      shipped: `the shipped one: there is no config/${kind === 'configuration' ? 'logpipe' : kind}.yml in this folder`,
    }[origin];
    const wrong = problems.some((problem) => problem.file === file);
    const count = kind === 'measures' ? measures?.size : kind === 'rules' ? rules?.length : undefined;
    const what = wrong
      ? '; see below'
      : kind === 'routing' && routing !== undefined
        ? `; ${counted(routing.teams.length, 'team', 'teams')}, ${counted(routing.people.size, 'person', 'people')}`
        : count !== undefined
          ? `; ${count} ${kind}`
          : kind === 'rules' && rules === undefined
            ? '; not checked: the measures come first'
            : '';
    return `${kind.padEnd(14)} ${visible(file)} (${how}${what})`;
  });
}

function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}

// ---- whom a priority reaches, and who is on call ----

interface RoutesFound {
  readonly routes: readonly Route[];
  readonly problems: readonly FoundProblem[];
  readonly warnings: readonly string[];
  /** Empty without routing. */
  readonly onCall: readonly TeamSchedule[];
}

const NO_ROUTES: RoutesFound = { routes: [], problems: [], warnings: [], onCall: [] };

async function routesOf(config: Config, { rules, routing, files }: Findings, nowMs: number): Promise<RoutesFound> {
  const missing = new Map<string, string>();
  const log: Log = {
    ...silentLog,
    // The channels say themselves what they lack.
    info: (_, meta) => {
      const set = String(meta?.set ?? '');
      const [, channel] = set.split('.');
      if (channel !== undefined) missing.set(channel, set);
    },
  };
  const { createChannels } = await import('../notify/dispatcher.ts');
  let present: ReadonlySet<string>;
  try {
    const channels = createChannels(config.notify, routing, {
      clock: systemClock,
      log,
      masker: createMasker(config.mask),
      out: process.stdout,
    });
    present = new Set(channels.keys());
    for (const channel of channels.values()) await channel.close();
  } catch (error) {
    // An address or a key from a file, which the schema has not seen.
    if (!(error instanceof LogpipeError)) throw error;
    return { ...NO_ROUTES, problems: [{ file: 'notify', path: 'notify', message: error.message }] };
  }
  const has = (name: string) => present.has(name);
  const ways = routing && createRoutes(routing, { has, environment: config.notify.environment });
  const routes = PRIORITIES.map((priority): Route => {
    const wanted: readonly string[] =
      routing?.priorities[priority].to ?? channelsFor(priority).filter((name) => name !== 'history');
    const daily = routing?.priorities[priority].daily === true;
    const reachedBy = (id: string) => {
      const mailed = daily ? ways?.team(id) : undefined;
      return (mailed === undefined ? ways?.channels(priority, id) : ways?.mailOf(mailed)) ?? [];
    };
    const reaches = routing === undefined ? wanted.filter(has) : reachedBy(routing.defaultTeam);
    const reached = new Set(reaches.map((name) => name.split(':')[0]));
    const others = (routing?.teams ?? []).flatMap(({ id }) => {
      const own = reachedBy(id);
      return own.join() === reaches.join() ? [] : [[id, own] as const];
    });
    const when = routing && whenOf(priority, routing);
    return {
      priority,
      rules: rules?.filter((rule) => rule.priority === priority).length,
      reaches,
      missing: wanted
        .filter((name) => missing.has(name) && !reached.has(name))
        .map((channel) => ({ channel, set: missing.get(channel)! })),
      ...(others.length === 0 ? {} : { teams: Object.fromEntries(others) }),
      ...(when === undefined ? {} : { when }),
    };
  });
  if (routing === undefined) return { ...NO_ROUTES, routes };
  // Where nobody is named, there is no more to say than of `notify` itself.
  const isPlain = routing.people.size === 0 && routing.teams.length === 1;
  const findings = isPlain ? { problems: [], warnings: [] } : checkRouting(routing, { has, nowMs });
  const file = files.find(({ kind }) => kind === 'routing')?.file ?? 'routing';
  return {
    routes,
    problems: findings.problems.map((problem) => ({ file, ...pathAndMessage(problem) })),
    warnings: findings.warnings,
    onCall: isPlain ? [] : scheduleOf(routing, nowMs, 1),
  };
}

/** `path: what is wrong` */
function pathAndMessage(problem: string): { readonly path: string; readonly message: string } {
  const at = problem.indexOf(': ');
  return { path: problem.slice(0, at), message: problem.slice(at + 2) };
}

function whenOf(priority: Priority, { priorities, teams }: Routing): Route['when'] {
  const { daily, businessHoursOnly, onCall } = priorities[priority];
  if (daily) return 'daily mail';
  if (businessHoursOnly) return 'business hours';
  return onCall && teams.some(({ rota }) => rota !== undefined) ? 'on call' : undefined;
}

/** Who is on call now and next, or that nobody is. */
function onCallInWords(schedules: readonly TeamSchedule[]): string[] {
  const person = (shift: ScheduledShift) => {
    const { primary, secondary } = shift;
    const after = secondary === null ? '' : `, secondary ${visible(secondary.name)}`;
    return primary === null ? 'NOBODY' : `${visible(primary.name)}${after}`;
  };
  return schedules.map(({ team, timeZone, now, next: [next] }) => {
    const head = `${'on call'.padEnd(14)} ${team}: `;
    if (now === null) return `${head}nobody, because it has no rota`;
    const until = now.until === null ? '' : ` until ${localText(Date.parse(now.until), timeZone)} (${timeZone})`;
    return `${head}${person(now)}${until}${next === undefined ? '' : `, then ${person(next)}`}`;
  });
}

function routeInWords(route: Route): string[] {
  const { teams = {} } = route;
  if (route.when === 'daily mail') return [commonInWords(route)];
  const own = Object.entries(teams).map(([team, to]) => {
    return `${' '.repeat(15)}of ${team}: ${to.length === 0 ? 'nobody' : to.join(', ')}`;
  });
  return [commonInWords(route), ...own];
}

function commonInWords({ priority, rules, reaches, missing, when }: Route): string {
  const count = rules === undefined ? '' : ` (${rules} rule${rules === 1 ? '' : 's'})`;
  if (when === 'daily mail') {
    const who = reaches.length > 0 ? 'the daily mail' : 'nobody: the daily mail has no recipient';
    return `${`${priority}${count}`.padEnd(14)} reaches ${who}`;
  }
  const at =
    when === undefined ? '' : { 'business hours': ' in business hours', 'on call': ' and who is on call' }[when];
  const to = `${reaches.length > 0 ? reaches.join(', ') : 'nobody'}${at}`;
  const lacks = missing.map(({ channel, set }) => `${channel} without ${set}`).join(', ');
  const why =
    missing.length > 0 ? `; not: ${lacks}` : reaches.length === 0 ? ': by design, see `logpipe alerts list`' : '';
  return `${`${priority}${count}`.padEnd(14)} reaches ${to}${why}`;
}

/** A process that evaluates no rules tells nobody by intent. */
function routeWarnings({ roles }: Config, routes: readonly Route[]): string[] {
  if (!roles.includes('alerter')) return [];
  const unheard = routes.filter(
    ({ rules, reaches, missing, when }) =>
      rules !== 0 && reaches.length === 0 && missing.length > 0 && when !== 'daily mail',
  );
  if (unheard.length === 0) return [];
  const names = unheard.map(({ priority }) => priority).join(', ');
  const [first] = unheard;
  return [`notify: alerts of ${names} reach nobody now; set ${first?.missing.map(({ set }) => set).join(' or ')}`];
}

function connectionInWords({ path, address, ok, detail, ms }: Connection): string {
  return `${ok ? 'ok    ' : 'FAILED'} ${path} ${visible(address)}: ${detail} (${ms} ms)`;
}

// ---- what is permitted and hardly meant ----

function doubts({ bulk, intake, elasticsearch, kibana, sinks, roles, parse }: Config): string[] {
  const found: (readonly [boolean, string])[] = [
    [
      bulk.maxBytes > bulk.maxInFlightBytes,
      'bulk.maxBytes: above bulk.maxInFlightBytes, where the intake pauses: no request is ever that large',
    ],
    [
      parse.maxRecordBytes > bulk.maxInFlightBytes,
      'parse.maxRecordBytes: above bulk.maxInFlightBytes: such a record holds up all others while it is written',
    ],
    [bulk.backoffMs > bulk.maxBackoffMs, 'bulk.backoffMs: above bulk.maxBackoffMs, which is what holds'],
    [
      intake.fetchMaxBytesPerPartition > intake.fetchMaxBytes,
      'intake.fetchMaxBytesPerPartition: above intake.fetchMaxBytes, which is what holds',
    ],
    [
      elasticsearch.apiKey !== undefined && elasticsearch.password !== undefined,
      'elasticsearch.password: not used, because elasticsearch.apiKey is set',
    ],
    [
      kibana.apiKey !== undefined && kibana.password !== undefined,
      'kibana.password: not used, because kibana.apiKey is set',
    ],
    [
      roles.includes('indexer') && !sinks.elasticsearch && !sinks.console.enabled && !sinks.ndjson.enabled,
      'sinks: none is on; documents would go nowhere',
    ],
  ];
  return found.flatMap(([is, text]) => (is ? [text] : []));
}

/** Read by the program itself, or by Node for it. */
const OWN_VARIABLES = new Set(['LOGPIPE_CONFIG', 'LOGPIPE_DEBUG']);
/** Set for other reasons on nearly every machine. */
const EVERYBODYS = new Set(['NODE_ENV', 'PM2_HOME']);
/** What other programs call it. */
const SYNONYMS: Readonly<Record<string, string>> = {
  KAFKA_BOOTSTRAP_SERVERS: 'KAFKA_BROKERS',
  KAFKA_HOSTS: 'KAFKA_BROKERS',
  KAFKA_SERVERS: 'KAFKA_BROKERS',
  KAFKA_URL: 'KAFKA_BROKERS',
  ELASTICSEARCH_HOST: 'ELASTICSEARCH_URL',
  ELASTICSEARCH_HOSTS: 'ELASTICSEARCH_URL',
  ELASTICSEARCH_NODE: 'ELASTICSEARCH_URL',
  ELASTICSEARCH_NODES: 'ELASTICSEARCH_URL',
  ELASTIC_URL: 'ELASTICSEARCH_URL',
  ES_URL: 'ELASTICSEARCH_URL',
  REDIS_HOST: 'REDIS_URL',
  SLACK_URL: 'SLACK_WEBHOOK_URL',
  PAGERDUTY_KEY: 'PAGERDUTY_INTEGRATION_KEY',
  PAGERDUTY_ROUTING_KEY: 'PAGERDUTY_INTEGRATION_KEY',
  SMTP_USER: 'SMTP_USERNAME',
  SMTP_PASS: 'SMTP_PASSWORD',
  KIBANA_HOST: 'KIBANA_URL',
};

/** Variables that are set as if logpipe read them, and that no file speaks of. No value is repeated. */
export function unreadVariables(env: Environment, files: readonly Pick<CheckedFile, 'file' | 'text'>[]): string[] {
  const [main] = files;
  if (main === undefined) return [];
  const read = new Set(files.flatMap(({ text }) => variablesIn(text)));
  const offered = [...new Set(variablesIn(readConfigFile('logpipe.yml', shippedFile()).text))];
  const groups = new Set(offered.map(groupOf));
  const isOne = (name: string) => read.has(name) || offered.includes(name);
  return Object.keys(env)
    .filter((name) => env[name] !== undefined && env[name] !== '' && !read.has(name))
    .filter((name) => !OWN_VARIABLES.has(name) && !EVERYBODYS.has(name))
    .sort()
    .flatMap((name) => {
      if (offered.includes(name)) {
        return [`${name} is set, but ${main.file} does not speak of it; write \${${name}} at the key it is meant for`];
      }
      const synonym = SYNONYMS[name];
      const longer = offered.find((known) => known.startsWith(name) || name.startsWith(known));
      const close = synonym !== undefined && isOne(synonym) ? synonym : (nearest(name, offered) ?? longer);
      const meant = close === undefined ? '' : `; did you mean ${close}?`;
      if (name.startsWith('LOGPIPE_')) return [`${name} is set, but nothing reads it${meant}`];
      if (
        synonym === undefined &&
        (close === undefined || !groups.has(groupOf(name)) || groupOf(close) !== groupOf(name))
      )
        return [];
      return close === undefined ? [] : [`${name} is set, but nothing reads it${meant}`];
    });
}

function groupOf(name: string): string {
  return name.split('_', 1)[0]!;
}

function variablesIn(text: string): string[] {
  const lines = text.split('\n').filter((line) => !line.trimStart().startsWith('#'));
  return [...lines.join('\n').matchAll(/\$\{([A-Za-z_][A-Za-z0-9_]*)/g)].map(([, name]) => name!);
}

function shippedFile(): string {
  return join(packageRoot(), 'config', 'logpipe.yml');
}

/** One line for each place where a credential would be sent without TLS to another machine; none of them holds an address. */
export function clearTextWarnings(config: Config): string[] {
  const { elasticsearch, kibana, kafka, notify, alerts, monitor, http } = config;
  const found: (readonly [place: string, what: string, fix: string] | undefined)[] = [
    elasticsearch.nodes.some((node) => isClear(node) && (hasLogin(elasticsearch) || hasUserInfo(node)))
      ? ['elasticsearch.nodes', 'API key or password', 'write https:// and, if need be, elasticsearch.caFile']
      : undefined,
    isClear(kibana.url) && hasLogin(kibana)
      ? ['kibana.url', 'API key or password', 'write https:// and, if need be, kibana.caFile']
      : undefined,
    kafka.sasl !== undefined && !kafka.ssl && kafka.brokers.some((broker) => !isLoopback(hostOf(`kafka://${broker}`)))
      ? kafka.sasl.mechanism === 'plain'
        ? ['kafka.sasl', 'user name and password', 'set kafka.ssl']
        : ['kafka.sasl', 'the proof of the password, which can be tried offline, and every record', 'set kafka.ssl']
      : undefined,
    // Mail needs no warning: user and password are only sent over TLS, or to this host (notify/email.ts).
    clearUrl('notify.slack.webhookUrl', notify.slack.webhookUrl),
    notify.alertmanager.headers !== undefined && (notify.alertmanager.urls ?? []).some(isClear)
      ? ['notify.alertmanager.urls', 'headers', 'write https://']
      : undefined,
    clearUrl('notify.webhook.url', notify.webhook.url),
    clearUrl('alerts.heartbeatUrl', alerts.heartbeatUrl),
    clearUrl('http.publicUrl', http.publicUrl),
    isClear(notify.pagerduty.url) && notify.pagerduty.integrationKey !== undefined
      ? ['notify.pagerduty.url', 'integration key', 'write https://']
      : undefined,
    monitor.redisUrl !== undefined && isClear(monitor.redisUrl) && hasUserInfo(monitor.redisUrl)
      ? ['monitor.redisUrl', 'password', 'write rediss://']
      : undefined,
  ];
  return found.flatMap((entry) =>
    entry === undefined ? [] : [`${entry[0]}: ${entry[1]} would be sent in clear text to another machine; ${entry[2]}`],
  );
}

/** Whoever knows such an address can use it: the address is the credential. */
function clearUrl(place: string, url: string | undefined): readonly [string, string, string] | undefined {
  return url !== undefined && isClear(url)
    ? [place, 'the address, which is a credential,', 'write https://']
    : undefined;
}

function isClear(url: string): boolean {
  return /^(?:http|redis):\/\//i.test(url) && !isLoopback(hostOf(url));
}

function hasLogin({ apiKey, password }: { readonly apiKey?: string; readonly password?: string }): boolean {
  return apiKey !== undefined || password !== undefined;
}

function hasUserInfo(url: string): boolean {
  const rest = url.slice(url.indexOf('://') + 3);
  return rest.split('/', 1)[0]!.includes('@');
}

function hostOf(url: string): string {
  try {
    // The names of special schemes alone are read as host names.
    return new URL(url.replace(/^[a-z]+:/i, 'http:')).hostname;
  } catch {
    return '';
  }
}

function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[|\]$/g, '');
  return name === 'localhost' || name.endsWith('.localhost') || name === '::1' || /^127(?:\.\d{1,3}){3}$/.test(name);
}
