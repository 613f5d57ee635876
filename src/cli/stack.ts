// `logpipe stack up|down|status`: a local Kafka and Elasticsearch that outlive the command, for development.
// Whatever fails on the way is ended again; after `down` nothing is left, neither process nor file.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  coordinatorAnswers,
  type EsChoice,
  endProcess,
  entryAlive,
  freePorts,
  healthYellow,
  portFree,
  processStart,
  readState,
  type ServerKind,
  type ServerOptions,
  type StackEntry,
  type StackState,
  stackFolder,
  stackRequirements,
  startElasticsearch,
  startKafka,
  withLock,
  writeState,
} from '../../stack/index.ts';
import { sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';

export interface StackOptions {
  /** One object on standard output and nothing else. */
  json?: boolean;
  /** Default 9092 and 9200 when free, else any free port. */
  kafkaPort?: number;
  esPort?: number;
  es?: EsChoice;
  /** Where state, data and logs go; `.logpipe/stack` of the package when not given. */
  folder?: string;
}

export interface StackIo {
  out(line: string): void;
  err(line: string): void;
}

type ServerStatus = { state: 'up' | 'not answering'; address: string } & StackEntry;
type StackReport = { up: boolean; alreadyUp?: boolean } & Partial<Record<ServerKind, ServerStatus>>;

const KINDS = ['kafka', 'elasticsearch'] as const;
const GRACE_MS = 10_000;
const ANSWER_TIMEOUT_MS = 60_000;

/** Runs one action and returns the exit status: 0 done or up, 1 failed, 3 (`status`) not everything is up. */
export async function runStack(action: 'up' | 'down' | 'status', opts: StackOptions, io: StackIo): Promise<number> {
  const folder = opts.folder ?? stackFolder();
  try {
    switch (action) {
      case 'up':
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
    return 1;
  }
}

async function up(folder: string, opts: StackOptions, io: StackIo): Promise<number> {
  const before = readState(folder);
  const running = KINDS.filter((kind) => entryAlive(before[kind]));
  refuseOtherWishes(before, running, opts);
  const report = await look(folder);
  if (report.up) {
    print({ ...report, alreadyUp: true }, opts, io);
    return 0;
  }
  const requirements = await stackRequirements(opts.es);
  if (requirements.missing.length > 0) {
    throw new LogpipeError('LOGPIPE_STACK_MISSING', `The local servers need:\n  ${requirements.missing.join('\n  ')}`);
  }
  const start = async (kind: ServerKind) => {
    if (running.includes(kind)) return untilAnswers(folder, kind);
    const common: ServerOptions = {
      detached: true,
      dataDir: join(folder, kind),
      onProgress: (line) => io.err(line),
      onSpawn: ({ pid, ...rest }) => {
        // Written at once: an interrupted `up` is then undone by `down`.
        writeState(folder, { ...readState(folder), [kind]: { pid, start: processStart(pid) ?? '', ...rest } });
      },
    };
    io.err(`starting ${kind} …`);
    if (kind === 'kafka') {
      await startKafka({ ...common, port: await choosePort(opts.kafkaPort, before.kafka?.port ?? 9092) });
    } else {
      const port = await choosePort(opts.esPort, before.elasticsearch?.port ?? 9200);
      await startElasticsearch({ ...common, port, version: opts.es ?? 'auto' });
    }
  };
  const results = await Promise.allSettled(KINDS.map(start));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) {
    await end(
      folder,
      KINDS.filter((kind) => !running.includes(kind)),
    );
    throw failed.reason;
  }
  print(await look(folder), opts, io);
  return 0;
}

async function down(folder: string, opts: StackOptions, io: StackIo): Promise<number> {
  const stopped = KINDS.filter((kind) => entryAlive(readState(folder)[kind]));
  await end(folder, KINDS);
  if (opts.json) io.out(JSON.stringify({ up: false, stopped }));
  else io.out(stopped.length > 0 ? `stopped ${stopped.join(' and ')}, removed ${folder}` : 'nothing was up');
  return 0;
}

async function status(folder: string, opts: StackOptions, io: StackIo): Promise<number> {
  const report = await look(folder);
  print(report, opts, io);
  return report.up ? 0 : 3;
}

/** Ends these servers and removes their data; with the last one goes the whole folder. */
async function end(folder: string, kinds: readonly ServerKind[]): Promise<void> {
  const state = readState(folder);
  const endOne = async (kind: ServerKind) => {
    const entry = state[kind];
    if (entryAlive(entry)) await endProcess(entry.pid, { graceMs: GRACE_MS, start: entry.start });
    rmSync(join(folder, kind), { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    delete state[kind];
  };
  await Promise.all(kinds.map(endOne));
  if (Object.keys(state).length > 0) writeState(folder, state);
  else rmSync(folder, { recursive: true, force: true });
}

/** A server that runs is left as it is, so a different version or port than asked for must not pass silently. */
function refuseOtherWishes(state: StackState, running: readonly ServerKind[], opts: StackOptions): void {
  const wrong = (kind: ServerKind, asked: number | undefined) =>
    running.includes(kind) && asked !== undefined && state[kind]?.port !== asked;
  const version = state.elasticsearch?.version ?? '';
  const otherEs =
    running.includes('elasticsearch') && opts.es && opts.es !== 'auto' && !version.startsWith(`${opts.es}.`);
  if (!otherEs && !wrong('kafka', opts.kafkaPort) && !wrong('elasticsearch', opts.esPort)) return;
  const what = running.map((kind) => `${kind} ${state[kind]?.version} on port ${state[kind]?.port}`).join(', ');
  throw new LogpipeError('LOGPIPE_STACK_FAILED', `Already up: ${what}. Run "logpipe stack down" first.`);
}

/** For a server that an interrupted `up` left starting. */
async function untilAnswers(folder: string, kind: ServerKind): Promise<void> {
  const deadline = Date.now() + ANSWER_TIMEOUT_MS;
  while ((await look(folder))[kind]?.state !== 'up') {
    if (Date.now() > deadline) {
      const where = readState(folder)[kind]?.logFile ?? folder;
      const what = `${kind} runs but did not answer within ${ANSWER_TIMEOUT_MS} ms; see ${where}.`;
      throw new LogpipeError('LOGPIPE_STACK_FAILED', `${what} "logpipe stack down" ends it.`);
    }
    await sleep(200);
  }
}

/** What runs and answers right now. */
async function look(folder: string): Promise<StackReport> {
  const state = readState(folder);
  const report: StackReport = { up: false };
  const lookAt = async (kind: ServerKind) => {
    const entry = state[kind];
    if (!entryAlive(entry)) return;
    const address = `${kind === 'kafka' ? '' : 'http://'}127.0.0.1:${entry.port}`;
    const answers = await (kind === 'kafka' ? coordinatorAnswers([address]) : healthYellow(address)).catch(() => false);
    report[kind] = { state: answers ? 'up' : 'not answering', address, ...entry };
  };
  await Promise.all(KINDS.map(lookAt));
  report.up = KINDS.every((kind) => report[kind]?.state === 'up');
  return report;
}

function print(report: StackReport, opts: StackOptions, io: StackIo): void {
  if (opts.json) {
    io.out(JSON.stringify(jsonOf(report)));
    return;
  }
  if (report.alreadyUp) io.out('already up');
  for (const kind of KINDS) {
    const server = report[kind];
    if (!server) io.out(`${kind.padEnd(13)} down`);
    else {
      const what = `${kind.padEnd(13)} ${server.state.padEnd(4)} ${server.address}`;
      io.out(`${what}  (version ${server.version}, pid ${server.pid}, log ${server.logFile})`);
    }
  }
  if (report.up) io.out('logpipe stack down ends both and removes their data');
}

/** The same facts under the names clients use: `brokers` and `url`. */
function jsonOf({ up: isUp, alreadyUp, kafka, elasticsearch }: StackReport): object {
  const common = ({ address: _, start: __, ...rest }: ServerStatus) => rest;
  return {
    up: isUp,
    ...(alreadyUp ? { alreadyUp } : {}),
    kafka: kafka ? { ...common(kafka), brokers: [kafka.address] } : { state: 'down' },
    elasticsearch: elasticsearch ? { ...common(elasticsearch), url: elasticsearch.address } : { state: 'down' },
  };
}

/** A port asked for is taken as it is, so that a busy one is an error; the preferred one only when free. */
async function choosePort(asked: number | undefined, preferred: number): Promise<number> {
  if (asked !== undefined) {
    if (await portFree(asked)) return asked;
    throw new LogpipeError('LOGPIPE_STACK_FAILED', `Port ${asked} of 127.0.0.1 is in use; free it or choose another.`);
  }
  if (await portFree(preferred)) return preferred;
  return (await freePorts(1))[0]!;
}
