// `logpipe ship`: the inputs of the command line or of the configuration (shipping.ts), until they end or it is told to stop. And with
// `--spool` alone: what processes that have ended left on disk for Kafka, as one-off scripts do. In: the folder of the transport's
// option `spool.dir`. Out: their records in the topics they were meant for; what was sent, what stays and why. Guarantee: records go
// out exactly as the transport would have sent them, with their ids, keys and partitions; what was not sent stays where the next one
// finds it; what belongs to a living process is left alone; credentials go only to brokers that somebody has named with them.
import { createReadStream, statSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Config, OTLP_ADDRESS, type ShipInput } from '../config.ts';
import { type Clock, endsWithin, sleep, systemClock } from '../core/clock.ts';
import { errorText, LogpipeError, reasonInWords } from '../core/errors.ts';
import { explainConnection } from '../core/kafka/broker-connections.ts';
import type { Log } from '../core/log.ts';
import { packageVersion, settleV8 } from '../core/package-root.ts';
import { exponentialReason } from '../core/regex-ambiguity.ts';
import { visible } from '../core/safe-json.ts';
import { createMasker, type Masker, type MaskOptions } from '../core/secrets/mask.ts';
import { createStatusView, type HttpServer, startHttp } from '../ops/http.ts';
import { createPlatformView } from '../ops/stats.ts';
import { createBrokers } from '../ship/brokers.ts';
import { type TransportSettings, transportSettings } from '../ship/options.ts';
import { createDrops, createQueue } from '../ship/queue.ts';
import { createSender } from '../ship/sender.ts';
import { type LeftSpool, openLeftSpool } from '../ship/spool.ts';
import { listSpools, type SpoolOwner, spoolFolders } from '../ship/spool-folder.ts';
import { readNotes, readPlace } from '../ship/spool-segment.ts';
import { type ShippedSummary, startShipping } from '../shipping.ts';
import { addressesOf, type KafkaConfig } from '../source/kafka/client.ts';
import { clearTextWarnings } from './check-config.ts';
import { type Io, jsonLine, say, toDuration, wantsJson } from './io.ts';
import { listenForSignals } from './run.ts';

// ---- logpipe ship --file, --stdin, --syslog, --otlp, or the inputs of the configuration ----

interface ShipInputsCommand {
  readonly file?: readonly string[];
  readonly stdin?: boolean;
  readonly syslog?: string;
  /** `true` when no address was given. */
  readonly otlp?: string | true;
  readonly service?: string;
  readonly environment?: string;
  readonly starts?: string;
  readonly continues?: string;
  readonly once: boolean;
  readonly dataDir?: string;
  readonly spool?: string;
  readonly brokers?: string;
  readonly json?: boolean | undefined;
}

/**
 * Exit status 0 when Kafka, or the spool, has everything that was read; 1 when not.
 * @throws LogpipeError LOGPIPE_USAGE, LOGPIPE_SOURCE_FAILED
 */
export async function shipInputs(config: Config, options: ShipInputsCommand, io: Io, log: Log): Promise<number> {
  const wanted = withOptions(config, options);
  for (const warning of clearTextWarnings(wanted)) log.warn(warning);
  const ending = new AbortController();
  const signals = listenForSignals(ending, log);
  let http: HttpServer | undefined;
  try {
    settleV8();
    const shipping = await startShipping(wanted, { log });
    const { metrics, readiness } = shipping;
    if (wanted.ship.http.enabled && wanted.ship.follow) {
      const about = { version: packageVersion(), roles: [], source: 'ship', group: null };
      const deps = { clock: systemClock, readiness };
      http = await startHttp(
        { ...wanted.ship.http, allowedHosts: wanted.http.allowedHosts },
        {
          ...deps,
          metrics,
          platform: createPlatformView(() => undefined, systemClock),
          status: createStatusView(about, { ...deps, alerting: () => undefined }),
        },
      );
    }
    log.info('shipping', { inputs: wanted.ship.inputs.length, topic: wanted.kafka.topics.logs, url: http?.url });
    const stopped = new Promise<void>((resolve) => {
      if (ending.signal.aborted) resolve();
      ending.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    let failure: unknown;
    await Promise.race([shipping.ended, stopped]).catch((error) => {
      failure = error;
    });
    const kept = await shipping.stop();
    const summary = shipping.summary();
    if (wantsJson(io, options.json)) io.out(jsonLine(summary, createMasker(config.mask)));
    else say(io, shippedText(summary));
    if (failure !== undefined) throw failure;
    return kept && summary.dropped === 0 ? 0 : 1;
  } finally {
    await http?.close();
    signals.dispose();
  }
}

/** What the command line names takes the place of the configuration's inputs. @throws LogpipeError LOGPIPE_USAGE */
function withOptions(config: Config, options: ShipInputsCommand): Config {
  const { file, stdin, syslog, otlp, service, environment, starts, continues, dataDir, spool, brokers } = options;
  const kafka = { ...config.kafka, brokers: brokersOf(brokers) ?? config.kafka.brokers };
  const rule = { ...(starts === undefined ? {} : { starts }), ...(continues === undefined ? {} : { continues }) };
  for (const [name, pattern] of Object.entries(rule)) checkPattern(`--${name}`, pattern);
  const fields = {
    ...(service === undefined ? {} : { service }),
    ...(environment === undefined ? {} : { environment }),
    ...(Object.keys(rule).length === 0 ? {} : { multiline: rule }),
  };
  const given: ShipInput[] = [
    ...(file === undefined ? [] : [{ files: file, name: 'files', ...fields }]),
    ...(stdin === true ? [{ stdin, name: 'stdin', ...fields } as const] : []),
    ...(syslog === undefined ? [] : [{ syslog, name: 'syslog', ...fields }]),
    ...(otlp === undefined ? [] : [{ otlp: otlp === true ? OTLP_ADDRESS : otlp, name: 'otlp', ...fields }]),
  ];
  const inputs = given.length > 0 ? given : config.ship.inputs;
  if (inputs.length === 0) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      'nothing to send: give --file, --stdin, --syslog, --otlp or --spool, or name inputs in ship.inputs of the configuration',
    );
  }
  const unused = given.length === 0 && Object.keys(fields).length > 0;
  if (unused) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      '--service, --environment, --starts and --continues go with --file, --stdin, --syslog or --otlp; in the configuration they are keys of each input',
    );
  }
  const ship = {
    ...config.ship,
    inputs,
    ...(options.once ? { follow: false } : {}),
    ...(dataDir === undefined ? {} : { dataDir }),
    ...(spool === undefined ? {} : { spool: { ...config.ship.spool, dir: spool } }),
  };
  return { ...config, kafka, ship };
}

/** @throws LogpipeError LOGPIPE_USAGE */
function checkPattern(option: string, pattern: string): void {
  let problem: string | undefined;
  try {
    new RegExp(pattern);
    problem = exponentialReason(pattern);
    if (problem !== undefined) problem = `it may take exponential time, since ${problem}`;
  } catch (error) {
    problem = errorText(error);
  }
  if (problem === undefined) return;
  throw new LogpipeError('LOGPIPE_USAGE', `${option}: ${JSON.stringify(pattern)} cannot be used: ${problem}`);
}

function shippedText({ sent, dropped, waiting, spooled }: ShippedSummary): string {
  const count = (records: number) => records.toLocaleString('en');
  const rest = [
    waiting > 0 ? `${count(waiting)} not sent; the next run sends those of files` : '',
    spooled > 0 ? `${count(spooled)} kept in the spool` : '',
    dropped > 0 ? `${count(dropped)} lost, see the log` : '',
  ].filter((text) => text !== '');
  return `${count(sent)} sent${rest.map((text) => `; ${text}`).join('')}`;
}

// ---- logpipe ship --spool alone ----

interface ShipCommand {
  /** The transport's `spool.dir`. */
  readonly spool: string;
  /** `host:port`, comma-separated: where to send instead of where the records were meant to go. */
  readonly brokers?: string;
  /** How long to wait while nothing gets through. */
  readonly timeout: string;
  readonly dryRun: boolean;
  /** Default: readable lines on a terminal, JSON elsewhere. */
  readonly json?: boolean | undefined;
}

interface ShipConfig {
  readonly kafka: KafkaConfig;
  readonly mask?: MaskOptions;
}

interface ShipDeps {
  /** Ends it: what is not sent stays. */
  readonly stop?: AbortSignal;
  readonly clock?: Clock;
}

/** An owner of spools, as `--json` prints it. */
interface ShownOwner {
  readonly path: string;
  readonly service: string | undefined;
  readonly host: string | undefined;
  readonly pid: number | undefined;
  /** ISO 8601 */
  readonly since: string | undefined;
  readonly brokers: readonly string[] | undefined;
  readonly topic: string | undefined;
  /** `dead`, `alive`, `unknown`: its process cannot be seen from here, `newer`: written by a newer logpipe. */
  readonly state: SpoolOwner['state'];
  /** Not known to be in Kafka. */
  readonly records: number;
  readonly bytes: number;
}

interface ShipSummary {
  readonly dir: string;
  readonly sent: number;
  /** Records that Kafka refused for good. */
  readonly refused: number;
  /** Records whose files were lost, or removed. */
  readonly lost: number;
  /** Records that stay in the folder for the next time. */
  readonly left: number;
  /** Why something stays, or was not sent. */
  readonly problems: readonly string[];
  /** Owners that send their records themselves. */
  readonly living: number;
}

const TELL_MS = 2_000;
const LOOK_MS = 1_000;

/**
 * Exit status 0 when everything is sent that dead processes left, 1 when something stays or was refused.
 * @throws LogpipeError LOGPIPE_USAGE, LOGPIPE_FOLDER_UNUSABLE, LOGPIPE_CONFIG_UNREADABLE
 */
export async function ship(config: ShipConfig, options: ShipCommand, io: Io, deps: ShipDeps = {}): Promise<number> {
  const dir = options.spool;
  assertFolder(dir);
  const stallMs = toDuration('--timeout', options.timeout);
  const override = brokersOf(options.brokers);
  const masker = createMasker(config.mask);
  const problems: string[] = [];
  const tell = (message: string) => {
    if (problems.includes(message)) return;
    problems.push(message);
    io.err(visible(message));
  };
  const owners = await listSpools(dir, tell);
  const asJson = wantsJson(io, options.json);
  if (options.dryRun) {
    const shown: ShownOwner[] = [];
    for (const owner of owners) shown.push(await shownOwner(owner));
    if (asJson) io.out(jsonLine({ dir, owners: shown, problems }, masker));
    else printOwners(dir, shown, io);
    return problems.length > 0 ? 1 : 0;
  }

  const destinations = destinationsOf(owners, override);
  const result = { sent: 0, refused: 0, lost: 0, left: 0 };
  for (const owner of owners) {
    if (owner.destination === undefined && owner.state !== 'newer' && owner.spools.length > 0) {
      tell(
        `${owner.path}: nothing there says which brokers its records are for; start the application, which sends them`,
      );
    }
  }
  for (const { brokers, topic } of destinations) {
    const settings = settingsFor({ brokers, topic }, config.kafka, override);
    if (typeof settings === 'string') {
      tell(settings);
      continue;
    }
    await shipTo(settings, { dir, brokers, topic, stallMs }, { ...deps, io, masker, tell, result });
    if (deps.stop?.aborted) break;
  }
  if (deps.stop?.aborted) tell('stopped; what was not sent stays in the folder');
  // Whoever was watched and is still there has given a sign of life.
  const living = (await listSpools(dir)).filter(
    ({ state, destination }) => state === 'alive' || (state === 'unknown' && destination !== undefined),
  ).length;
  const summary: ShipSummary = { dir, ...result, problems, living };
  if (asJson) io.out(jsonLine(summary, masker));
  else print(summary, io);
  return problems.length > 0 || result.left + result.refused + result.lost > 0 ? 1 : 0;
}

// ---- where to ----

interface Destination {
  readonly brokers: readonly string[];
  readonly topic: string;
}

/** Of owners that do not live, each once. @throws LogpipeError LOGPIPE_USAGE when one address is to stand for several clusters */
function destinationsOf(owners: readonly SpoolOwner[], override: readonly string[] | undefined): Destination[] {
  const found = new Map<string, Destination>();
  for (const { destination, state } of owners) {
    if (destination === undefined || state === 'alive' || state === 'newer') continue;
    found.set(JSON.stringify([destination.brokers, destination.topic]), destination);
  }
  const clusters = new Set([...found.values()].map(({ brokers }) => brokers.join(', ')));
  if (override !== undefined && clusters.size > 1) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--brokers: the records there are for ${clusters.size} clusters (${[...clusters].join('; ')}); leave it out, or ship from a folder with one of them`,
    );
  }
  return [...found.values()];
}

/** How to send there; a text says why it cannot be done. Credentials go to nobody whom the configuration does not name. */
function settingsFor(
  { brokers, topic }: Destination,
  kafka: KafkaConfig,
  override: readonly string[] | undefined,
): TransportSettings | string {
  const { ssl, sasl } = addressesOf(kafka);
  const isNamed = override !== undefined || [...kafka.brokers].sort().join() === [...brokers].sort().join();
  if (!isNamed && (ssl !== false || sasl !== undefined)) {
    return (
      `records for ${brokers.join(', ')} stay: the configuration has TLS or a log-in for ${kafka.brokers.join(', ')} alone; ` +
      'name the same brokers in kafka.brokers, or give --brokers'
    );
  }
  try {
    return transportSettings({
      brokers: override ?? brokers,
      topic,
      service: 'logpipe-ship',
      clientId: kafka.clientId,
      ...(ssl === false ? {} : { ssl }),
      ...(sasl === undefined ? {} : { sasl }),
    });
  } catch (error) {
    return `records for ${brokers.join(', ')}, topic ${topic}, stay: ${errorText(error)}`;
  }
}

function brokersOf(text: string | undefined): string[] | undefined {
  const brokers = text?.split(',').map((broker) => broker.trim());
  const wrong = brokers?.find((broker) => !/^(?:[^\s:/@]+|\[[0-9a-fA-F:]+\]):\d{1,5}$/.test(broker));
  if (wrong === undefined) return brokers;
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--brokers: ${JSON.stringify(wrong)} is not host:port; write kafka-1:9092,kafka-2:9092`,
  );
}

function assertFolder(dir: string): void {
  try {
    if (statSync(dir).isDirectory()) return;
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--spool: ${dir} cannot be read (${reasonInWords(error)}); name the folder of the transport's option spool.dir`,
      error,
    );
  }
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--spool: ${dir} is not a folder; name that of the transport's option spool.dir`,
  );
}

// ---- sending ----

interface Shipping extends ShipDeps {
  readonly io: Io;
  readonly masker: Masker;
  /** What has to be known at the end. */
  tell(message: string): void;
  readonly result: { sent: number; refused: number; lost: number; left: number };
}

async function shipTo(
  settings: TransportSettings,
  { dir, brokers, topic, stallMs }: Destination & { readonly dir: string; readonly stallMs: number },
  deps: Shipping,
): Promise<void> {
  const { clock = systemClock, io, stop, tell, result } = deps;
  const folders = spoolFolders({ dir, brokers, topic, service: 'logpipe-ship' }, { clock, warn: tell });
  try {
    const send = async () => {
      const left: LeftSpool[] = [];
      for (const path of await folders.adopt()) {
        const opened = await openLeftSpool(path, {
          onDropped: (records) => {
            result.lost += records;
          },
          onTrouble: (error) => tell(`${path}: ${reasonInWords(error)}`),
          onRecovered: () => {},
        }).catch((error) => tell(errorText(error)));
        if (opened !== undefined) left.push(opened);
      }
      return left.length === 0 || (await sendAll(settings, left, stallMs, deps));
    };
    if (!(await send()) || folders.watching === 0) return;
    const many = folders.watching === 1 ? 'the process of one spool' : `the processes of ${folders.watching} spools`;
    io.err(`${many} cannot be seen from here; waiting up to a minute for a sign of life`);
    while (folders.watching > 0 && !stop?.aborted) await sleep(LOOK_MS, stop);
    // Whoever has given none is dead by now; the others are watched anew, and left alone.
    if (!stop?.aborted) await send();
  } finally {
    folders.close();
  }
}

/** @returns false when something is left because nothing got through for too long, or because it was stopped */
async function sendAll(
  settings: TransportSettings,
  all: readonly LeftSpool[],
  stallMs: number,
  { clock = systemClock, io, masker, stop, tell, result }: Shipping,
): Promise<boolean> {
  const total = all.reduce((sum, { records }) => sum + records, 0);
  const drops = createDrops({ onStart: ({ message }) => tell(message), onEnd: () => {} });
  let movedMs = clock.monotonicMs();
  let toldMs = movedMs;
  const sender = createSender(settings, {
    queue: createQueue(settings.queue),
    brokers: createBrokers(settings, { warn: () => {}, warnLoudly: (message) => io.err(masker.text(message)) }),
    drops,
    onDelivered() {
      movedMs = clock.monotonicMs();
      if (io.isTTY !== true || movedMs - toldMs < TELL_MS) return;
      toldMs = movedMs;
      io.err(`${sender.delivered.toLocaleString('en')} of ${total.toLocaleString('en')} records sent`);
    },
    onFailed: (error) => {
      if (io.isTTY === true) io.err(masker.text(explainConnection(error)));
    },
    onResumed: () => {},
  });
  const unsent = new Set(all);
  try {
    const closings = all.map(
      (spool) =>
        new Promise<void>((resolve) => {
          // The sender closes each when it is sent.
          const close = () => {
            unsent.delete(spool);
            return spool.close().finally(resolve);
          };
          sender.adopt(Object.create(spool, { close: { value: close } }) as LeftSpool);
        }),
    );
    const stopped = new Promise((resolve) => stop?.addEventListener('abort', resolve, { once: true }));
    const isOver = Promise.race([Promise.all(closings), stopped]);
    while (unsent.size > 0 && !stop?.aborted && clock.monotonicMs() - movedMs < stallMs) {
      await endsWithin(isOver, LOOK_MS);
    }
    const isSent = unsent.size === 0;
    if (!isSent && !stop?.aborted) {
      const { trouble } = sender;
      const why = trouble === undefined ? 'no broker has answered' : explainConnection(trouble);
      tell(
        masker.text(
          `nothing got through to ${settings.brokers.join(', ')}, topic ${settings.topic}, for ${stallMs / 1_000} s: ${why}`,
        ),
      );
    }
    return isSent;
  } finally {
    sender.abort();
    // Also waits for those that are being closed.
    for (const spool of all) result.left += await spool.close();
    result.sent += sender.delivered;
    result.refused += drops.counts().refused;
  }
}

// ---- what is there, without touching it ----

const READ_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;

async function shownOwner({ path, process, destination, state, spools }: SpoolOwner): Promise<ShownOwner> {
  let [records, bytes] = [0, 0];
  for (const spool of spools) {
    const size = await sizeOf(spool);
    records += size.records;
    bytes += size.bytes;
  }
  return {
    path,
    service: process?.service,
    host: process?.host,
    pid: process?.pid,
    since: process?.since,
    brokers: destination?.brokers,
    topic: destination?.topic,
    ...{ state, records, bytes },
  };
}

/** Records that are not noted as done; only read, for a living process may be writing there. */
async function sizeOf(spool: string): Promise<{ records: number; bytes: number }> {
  let [records, bytes] = [0, 0];
  for (const name of await readdir(spool).catch(() => [])) {
    const path = join(spool, name);
    bytes += await stat(path).then(
      ({ size }) => size,
      () => 0,
    );
    if (!name.endsWith('.log')) continue;
    const notes = await readFile(path.replace(/log$/, 'notes')).catch(() => Buffer.alloc(0));
    const done = doneRanges(notes);
    let at = 0;
    for await (const line of linesOf(path)) {
      const place = readPlace(line);
      if (place === undefined) continue;
      while (at < done.length && done[at]![1] < place.ordinal) at++;
      if (at === done.length || place.ordinal < done[at]![0]) records += 1;
    }
  }
  return { records, bytes };
}

/** Rising, without overlaps. */
function doneRanges(notes: Buffer): (readonly [number, number])[] {
  const all = readNotes(notes).flatMap(({ kind, ranges }) => (kind === 'done' ? ranges : []));
  const merged: (readonly [number, number])[] = [];
  for (const [first, last] of all.sort(([a], [b]) => a - b)) {
    const before = merged.at(-1);
    if (before === undefined || first > before[1]) merged.push([first, last]);
    else if (last > before[1]) merged[merged.length - 1] = [before[0], last];
  }
  return merged;
}

/** Whole lines, without their ends. Nothing of a file that has been deleted meanwhile. */
async function* linesOf(path: string): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES })) {
      rest = Buffer.concat([rest, chunk as Buffer]);
      let from = 0;
      for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE, from)) {
        yield rest.subarray(from, end);
        from = end + 1;
      }
      rest = rest.subarray(from);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

// ---- for people ----

const STATES: Readonly<Record<SpoolOwner['state'], string>> = {
  dead: 'its process has ended',
  alive: 'its process lives, and sends it itself',
  unknown: 'its process cannot be seen from here',
  newer: 'written by a newer logpipe: upgrade this one',
};

function printOwners(dir: string, owners: readonly ShownOwner[], io: Io): void {
  const found = owners.filter(({ records, state }) => records > 0 || state === 'newer');
  if (found.length === 0) say(io, `nothing to send in ${dir}`);
  for (const { service, host, pid, since, brokers, topic, records, bytes, state } of found) {
    const whose =
      service === undefined ? 'an unknown process' : `${service} on ${host}, process ${pid}, since ${since}`;
    const where = brokers === undefined ? 'an unknown place' : `${brokers.join(', ')}, topic ${topic}`;
    say(io, visible(`${whose}: ${counted(records)} (${mebibytes(bytes)}) for ${where}; ${STATES[state]}`));
  }
}

function print({ dir, sent, refused, lost, left, living }: ShipSummary, io: Io): void {
  const parts = [
    sent + left === 0 ? `nothing to send in ${dir}` : `${counted(sent)} sent`,
    ...(left === 0 ? [] : [`${counted(left)} left in ${dir}: run this again when Kafka takes records`]),
    ...(refused === 0 ? [] : [`${counted(refused)} refused by Kafka for good`]),
    ...(lost === 0 ? [] : [`${counted(lost)} lost: their files were damaged or removed`]),
    ...(living === 0
      ? []
      : [`left alone: ${living === 1 ? 'one process that lives' : `${living} processes that live`}`]),
  ];
  say(io, parts.join('; '));
}

function counted(records: number): string {
  return `${records.toLocaleString('en')} record${records === 1 ? '' : 's'}`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
