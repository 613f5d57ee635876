// `logpipe stack up|down|status`: a local Kafka and Elasticsearch that outlive the command, for development; one server
// each, or several that form a cluster. Guarantee: what fails or is interrupted on the way is ended again, also when this process is
// killed; after `down` nothing is left, neither process nor file.
import { existsSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import {
  type ClusterLayout,
  coordinatorAnswers,
  type EsChoice,
  endProcess,
  entryAlive,
  freePorts,
  healthYellow,
  type LocalServer,
  type MemberName,
  type MemberOptions,
  MOST_MEMBERS,
  memberName,
  memberNames,
  planLayout,
  portFree,
  processStart,
  readState,
  type ServerKind,
  type StackEntry,
  type StackState,
  stackFolder,
  stackRequirements,
  startMember,
  withLock,
  writeState,
} from '../../stack/index.ts';
import { sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';

export interface StackOptions {
  /** One object on standard output and nothing else. */
  json?: boolean;
  /** How many of each; by default what is up, else one. */
  brokers?: number;
  esNodes?: number;
  /** Port of the first one, the others take those that follow. Default 9092 and 9200 when free, else any free ports. */
  kafkaPort?: number;
  esPort?: number;
  es?: EsChoice;
  /** Where state, data and logs lie; default `.logpipe/stack` of the package. */
  folder?: string;
}

export interface StackIo {
  out(line: string): void;
  err(line: string): void;
}

interface MemberStatus {
  readonly name: MemberName;
  readonly state: 'up' | 'not answering' | 'down';
  readonly address: string;
  /** Undefined when it is down. */
  readonly entry?: StackEntry;
}

interface StackReport extends Readonly<Record<ServerKind, readonly MemberStatus[]>> {
  /** Every member of both answers. */
  readonly up: boolean;
}

const KINDS = ['kafka', 'elasticsearch'] as const;
const FLAGS = { kafka: '--brokers', elasticsearch: '--es-nodes' } as const;
const PORT_FLAGS = { kafka: '--kafka-port', elasticsearch: '--es-port' } as const;
const PREFERRED_PORTS = { kafka: 9092, elasticsearch: 9200 } as const;
const ANSWER_TIMEOUT_MS = 60_000;
const INTERRUPTION_GRACE_MS = 5_000;

/**
 * Runs one action and returns the exit status: 0 done or up, 1 failed, 2 wrong options, 3 (`status`) not everything is up.
 */
export async function runStack(action: 'up' | 'down' | 'status', opts: StackOptions, io: StackIo): Promise<number> {
  const folder = opts.folder ?? stackFolder();
  try {
    switch (action) {
      case 'up':
        checkNumbers(opts);
        return await withLock(`${folder}.lock`, () => up(folder, opts, io));
      case 'down':
        return await withLock(`${folder}.lock`, () => down(folder, opts, io));
      case 'status':
        return await status(folder, opts, io);
    }
  } catch (error) {
    const code = error instanceof LogpipeError ? error.code : 'LOGPIPE_STACK_FAILED';
    if (opts.json) io.out(JSON.stringify({ error: { code, message: errorText(error) } }));
    else io.err(`${code}: ${errorText(error)}`);
    return code === 'LOGPIPE_USAGE' ? 2 : 1;
  }
}

async function up(folder: string, opts: StackOptions, io: StackIo): Promise<number> {
  const before = readState(folder);
  refuseOtherWishes(before, opts);
  const report = await look(folder);
  if (report.up) {
    print(report, opts, io, { alreadyUp: true });
    return 0;
  }
  const interruption = listenForSignals();
  try {
    return await startMissing(folder, before, interruption, opts, io);
  } finally {
    interruption.dispose();
  }
}

async function startMissing(
  folder: string,
  before: StackState,
  interruption: Interruption,
  opts: StackOptions,
  io: StackIo,
): Promise<number> {
  const requirements = await stackRequirements(opts.es);
  if (requirements.missing.length > 0) {
    throw new LogpipeError('LOGPIPE_STACK_MISSING', `The local servers need:\n  ${requirements.missing.join('\n  ')}`);
  }
  const layout = await chooseLayout(before, opts, io);
  // Nodes with data were a cluster before.
  const bootstrap = !memberNames(layout, 'elasticsearch').some((name) => existsSync(join(folder, name, 'data')));
  const members = KINDS.flatMap((kind) =>
    layout[kind].map((_, i) => ({ kind, number: i + 1, name: memberName(kind, i + 1) })),
  );
  const running = members.filter(({ name }) => entryAlive(before[name])).map(({ name }) => name);
  const hadData = members.filter(({ name }) => existsSync(join(folder, name))).map(({ name }) => name);
  const start = async ({ kind, number, name }: (typeof members)[number]) => {
    if (running.includes(name)) return untilAnswers(folder, kind, name, layout[kind].length);
    const options: MemberOptions = {
      detached: true,
      dataDir: join(folder, name),
      // What it had before outlives an interrupted start.
      disposable: !hadData.includes(name),
      bootstrap,
      es: opts.es ?? 'auto',
      signal: interruption.signal,
      onProgress: (line) => io.err(line),
      onSpawn: ({ pid, ...rest }) => {
        if (interruption.signal.aborted) process.kill(pid, 'SIGKILL');
        // Written at once: should anything be left, `down` knows of it.
        else
          writeState(folder, {
            ...readState(folder),
            layout,
            [name]: { pid, start: processStart(pid) ?? '', ...rest },
          });
      },
    };
    io.err(`starting ${name} …`);
    servers.push(await startMember(layout, kind, number, options));
  };
  const servers: LocalServer[] = [];
  const fresh = members.map(({ name }) => name).filter((name) => !running.includes(name));
  const starting = Promise.allSettled(members.map(start));
  const results = await Promise.race([starting, interruption.reached]);
  if (results === undefined) {
    io.err('interrupted: ending what was started');
    await end(folder, fresh, hadData);
    // What was about to start ends as soon as it has a process.
    await Promise.race([starting, sleep(INTERRUPTION_GRACE_MS)]);
    await end(folder, fresh, hadData);
    return interruption.status();
  }
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) {
    await end(folder, fresh);
    throw failed.reason;
  }
  await Promise.all(servers.map((server) => server.release()));
  print(await look(folder), opts, io);
  return 0;
}

interface Interruption {
  readonly signal: AbortSignal;
  /** Resolves at the first signal. */
  readonly reached: Promise<undefined>;
  /** As shells have it: 128 and the signal's number. */
  status(): number;
  dispose(): void;
}

/** The first signal interrupts in order, the same one once more at once. */
function listenForSignals(): Interruption {
  const interrupted = new AbortController();
  let status = 0;
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const onSignal = (name: (typeof names)[number]) => {
    status = 128 + constants.signals[name];
    process.off(name, onSignal);
    interrupted.abort();
  };
  for (const name of names) process.on(name, onSignal);
  return {
    signal: interrupted.signal,
    reached: new Promise((resolve) => {
      interrupted.signal.addEventListener('abort', () => resolve(undefined), { once: true });
    }),
    status: () => status,
    dispose: () => {
      for (const name of names) process.off(name, onSignal);
    },
  };
}

async function down(folder: string, opts: StackOptions, io: StackIo): Promise<number> {
  const state = readState(folder);
  const names = KINDS.flatMap((kind) => namesOf(state, kind));
  const stopped = names.filter((name) => entryAlive(state[name]));
  await end(folder, names);
  if (opts.json) io.out(JSON.stringify({ up: false, stopped }));
  else io.out(stopped.length > 0 ? `stopped ${listed(stopped)}, removed ${folder}` : 'nothing was up');
  return 0;
}

async function status(folder: string, opts: StackOptions, io: StackIo): Promise<number> {
  const report = await look(folder);
  print(report, opts, io, { tell: io.out });
  return report.up ? 0 : 3;
}

/** Ends these servers and removes their data, but for those `kept`; with the last one goes the whole folder. */
async function end(folder: string, names: readonly MemberName[], kept: readonly MemberName[] = []): Promise<void> {
  const state = readState(folder);
  const endOne = async (name: MemberName) => {
    const entry = state[name];
    // Its data go next, so there is nothing it has to write down in order first.
    if (entryAlive(entry)) await endProcess(entry.pid, { graceMs: 0, start: entry.start });
    if (kept.includes(name)) return;
    rmSync(join(folder, name), { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    delete state[name];
  };
  await Promise.all(names.map(endOne));
  if (Object.keys(state).some((name) => name !== 'layout')) writeState(folder, state);
  else rmSync(folder, { recursive: true, force: true });
}

/**
 * A number on the command line, for commander.
 * @throws LogpipeError LOGPIPE_USAGE that quotes what was written
 */
export function stackNumber(flag: string): (text: string) => number {
  return (text) => {
    const most = flag.endsWith('-port') ? MOST_PORT : MOST_MEMBERS;
    const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (number >= 1 && number <= most) return number;
    throw new LogpipeError('LOGPIPE_USAGE', `${flag}: found ${JSON.stringify(text)}; permitted: 1 to ${most}`);
  };
}

const MOST_PORT = 65_535;

function checkNumbers(opts: StackOptions): void {
  const numbers = [
    [FLAGS.kafka, opts.brokers],
    [FLAGS.elasticsearch, opts.esNodes],
    [PORT_FLAGS.kafka, opts.kafkaPort],
    [PORT_FLAGS.elasticsearch, opts.esPort],
  ] as const;
  for (const [flag, number] of numbers) if (number !== undefined) stackNumber(flag)(String(number));
  const taken = new Map<number, string>();
  for (const [flag, first, count] of [
    [PORT_FLAGS.kafka, opts.kafkaPort, opts.brokers],
    [PORT_FLAGS.elasticsearch, opts.esPort, opts.esNodes],
  ] as const) {
    for (let i = 0; first !== undefined && i < (count ?? 1); i++) {
      const other = taken.get(first + i);
      if (first + i > MOST_PORT) {
        throw new LogpipeError(
          'LOGPIPE_USAGE',
          `${flag} ${first}: its ${count} servers need ports up to ${first + i}, which do not exist`,
        );
      }
      if (other !== undefined) {
        throw new LogpipeError(
          'LOGPIPE_USAGE',
          `${other}, ${flag}: both ask for port ${first + i}; choose another one`,
        );
      }
      taken.set(first + i, flag);
    }
  }
}

/** The members of one kind that were started, or were about to be. */
function namesOf(state: StackState, kind: ServerKind): MemberName[] {
  return state.layout ? memberNames(state.layout, kind) : [kind];
}

/** What runs is left as it is, so another number, version or port than asked for must not pass silently. */
function refuseOtherWishes(state: StackState, opts: StackOptions): void {
  const wishes = {
    kafka: { count: opts.brokers, port: opts.kafkaPort },
    elasticsearch: { count: opts.esNodes, port: opts.esPort },
  };
  const wrong: string[] = [];
  for (const kind of KINDS) {
    const names = namesOf(state, kind);
    const known = names.some((name) => state[name] !== undefined);
    const running = names.some((name) => entryAlive(state[name]));
    const { count, port } = wishes[kind];
    if (known && count !== undefined && count !== names.length) wrong.push(`${FLAGS[kind]} ${count}`);
    if (running && port !== undefined && portOf(state, kind, 0) !== port) wrong.push(`port ${port} for ${kind}`);
  }
  const es = namesOf(state, 'elasticsearch').map((name) => state[name]);
  const version = es.find(entryAlive)?.version;
  if (opts.es && opts.es !== 'auto' && version && !version.startsWith(`${opts.es}.`)) wrong.push(`--es ${opts.es}`);
  if (wrong.length === 0) return;
  const what = KINDS.filter((kind) => namesOf(state, kind).some((name) => state[name] !== undefined)).map((kind) => {
    const names = namesOf(state, kind);
    const alive = names.filter((name) => entryAlive(state[name])).length;
    const ports = names.map((_, i) => portOf(state, kind, i)).join(', ');
    const entry = names.map((name) => state[name]).find((candidate) => candidate !== undefined);
    const running = alive === names.length ? '' : ` (${alive} running)`;
    return `${names.length} ${kind} ${entry?.version}${running} on port ${ports}`;
  });
  throw new LogpipeError(
    'LOGPIPE_STACK_FAILED',
    `Already up: ${what.join('; ')}. That is not ${listed(wrong)}, and it is not changed while it has data. ` +
      'Run "logpipe stack down" first (it removes the data), then "logpipe stack up" again.',
  );
}

function portOf(state: StackState, kind: ServerKind, index: number): number | undefined {
  return state[memberName(kind, index + 1)]?.port ?? state.layout?.[kind][index]?.port;
}

/** The layout from before where there is one, on its ports unless somebody else has taken them meanwhile. */
async function chooseLayout(before: StackState, opts: StackOptions, io: StackIo): Promise<ClusterLayout> {
  const counts = { kafka: opts.brokers, elasticsearch: opts.esNodes };
  const asked = { kafka: opts.kafkaPort, elasticsearch: opts.esPort };
  const ports = { kafka: [] as number[], elasticsearch: [] as number[] };
  const isWanted = (port: number) => [...ports.kafka, ...ports.elasticsearch].includes(port);
  for (const kind of KINDS) {
    const count = before.layout?.[kind].length ?? counts[kind] ?? 1;
    for (let i = 0; i < count; i++) {
      const known = portOf(before, kind, i);
      const alive = entryAlive(before[memberName(kind, i + 1)]);
      const first = asked[kind];
      const preferred = known ?? PREFERRED_PORTS[kind] + i;
      if (alive && known !== undefined) ports[kind].push(known);
      else if (first !== undefined) ports[kind].push(await freeOrError(first + i));
      else {
        const port = !isWanted(preferred) && (await portFree(preferred)) ? preferred : await anyFree(isWanted);
        if (port !== preferred) {
          io.err(`port ${preferred} of 127.0.0.1 is taken; ${memberName(kind, i + 1)} gets ${port} instead`);
        }
        ports[kind].push(port);
      }
    }
  }
  const fresh = await planLayout(ports);
  if (before.layout === undefined) return fresh;
  // The ports between the members stay: those that run know the others by them.
  const kept = (kind: ServerKind) =>
    fresh[kind].map(({ port }, i) => ({ port, innerPort: before.layout![kind][i]!.innerPort }));
  return { kafka: kept('kafka'), elasticsearch: kept('elasticsearch'), clusterId: before.layout.clusterId };
}

/** For a server that an interrupted `up` left starting. */
async function untilAnswers(folder: string, kind: ServerKind, name: MemberName, members: number): Promise<void> {
  const timeoutMs = ANSWER_TIMEOUT_MS * members;
  const deadline = performance.now() + timeoutMs;
  const member = async () => (await look(folder))[kind].find((candidate) => candidate.name === name);
  while ((await member())?.state !== 'up') {
    if (performance.now() > deadline) {
      const where = readState(folder)[name]?.logFile ?? folder;
      const what = `${name} runs but did not answer within ${timeoutMs} ms; see ${where}.`;
      throw new LogpipeError('LOGPIPE_STACK_FAILED', `${what} "logpipe stack down" ends it.`);
    }
    await sleep(200);
  }
}

/** What runs and answers right now. */
async function look(folder: string): Promise<StackReport> {
  const state = readState(folder);
  const lookAt = (kind: ServerKind) =>
    Promise.all(
      namesOf(state, kind).map(async (name, i): Promise<MemberStatus> => {
        const entry = state[name];
        const address = `${kind === 'kafka' ? '' : 'http://'}127.0.0.1:${portOf(state, kind, i)}`;
        if (!entryAlive(entry)) return { name, state: 'down', address };
        const asked = kind === 'kafka' ? coordinatorAnswers([address]) : healthYellow(address);
        const answers = await asked.catch(() => false);
        return { name, state: answers ? 'up' : 'not answering', address, entry };
      }),
    );
  const [kafka, elasticsearch] = await Promise.all([lookAt('kafka'), lookAt('elasticsearch')]);
  return { kafka, elasticsearch, up: [...kafka, ...elasticsearch].every((member) => member.state === 'up') };
}

function print(report: StackReport, opts: StackOptions, io: StackIo, { alreadyUp = false, tell = io.err } = {}): void {
  if (opts.json) {
    io.out(JSON.stringify({ up: report.up, ...(alreadyUp ? { alreadyUp } : {}), ...jsonOf(report) }));
    return;
  }
  if (alreadyUp) io.err('already up');
  const members = KINDS.flatMap((kind) => report[kind]);
  const width = Math.max(...members.map(({ name }) => name.length));
  // Of `up`, standard output is for a shell: eval "$(logpipe stack up)".
  for (const { name, state, address, entry } of members) {
    if (entry === undefined) tell(`${name.padEnd(width)}  down`);
    else {
      tell(`${name.padEnd(width)}  ${state}  ${address}  version ${entry.version}, pid ${entry.pid}`);
      tell(`${' '.repeat(width)}  log ${entry.logFile}`);
    }
  }
  if (!report.up) return;
  io.out(`export KAFKA_BROKERS=${addressesOf(report.kafka)}`);
  io.out(`export ELASTICSEARCH_URL=${addressesOf(report.elasticsearch)}`);
  io.err('These two lines tell logpipe where the servers are: eval "$(logpipe stack up)" sets them in your shell.');
  io.err('"logpipe stack down" ends the servers and removes their data.');
}

/** The same facts under the names clients use: `brokers`, and `url` as configurations take it, separated by commas. */
function jsonOf(report: StackReport): Record<ServerKind, object> {
  const of = (kind: ServerKind, clients: (addresses: string[]) => object) => {
    const members = report[kind];
    const first = members.find(({ entry }) => entry !== undefined)?.entry;
    if (first === undefined) return { state: 'down' };
    const state = members.every((member) => member.state === 'up')
      ? 'up'
      : members.some((member) => member.state === 'up')
        ? 'incomplete'
        : 'not answering';
    const { version, pid, port, logFile } = first;
    return {
      state,
      version,
      ...(members.length === 1 ? { pid, port, logFile } : {}),
      ...clients(members.map(({ address }) => address)),
      members: members.map(({ name, state: memberState, address, entry }) => ({
        name,
        state: memberState,
        address,
        ...(entry === undefined ? {} : { pid: entry.pid, port: entry.port, logFile: entry.logFile }),
      })),
    };
  };
  return {
    kafka: of('kafka', (brokers) => ({ brokers })),
    elasticsearch: of('elasticsearch', (urls) => ({ url: urls.join(), urls })),
  };
}

function addressesOf(members: readonly MemberStatus[]): string {
  return members.map(({ address }) => address).join();
}

function listed(names: readonly string[]): string {
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

/** A port that was asked for is taken or is an error. */
async function freeOrError(asked: number): Promise<number> {
  if (await portFree(asked)) return asked;
  throw new LogpipeError('LOGPIPE_STACK_FAILED', `Port ${asked} of 127.0.0.1 is in use; free it or choose another.`);
}

async function anyFree(isWanted: (port: number) => boolean): Promise<number> {
  for (;;) {
    const [port] = await freePorts(1);
    if (!isWanted(port!)) return port!;
  }
}
