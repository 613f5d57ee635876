// Replays and backtests that are started over HTTP. In: a request with a token that may act. Out: a job: who started it, how far it is, what
// came of it. Guarantee: each is a child process of this package's own command line, so that neither the event loop nor the heap of the
// indexer is spent on it; no text of a request is read by a shell or as an option; one of each kind runs at a time, none outlives this process;
// what is kept of them is bounded.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { constants, setPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { parse } from 'yaml';
import type { Clock } from '../core/clock.ts';
import { nearest, readConfigFile } from '../core/config-loader.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { NODE_FLAGS, packageRoot } from '../core/package-root.ts';
import { writePrivateSync } from '../core/private-files.ts';
import { createEventIds } from '../core/record.ts';
import { oneLine } from '../core/safe-json.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { REPLAY_PREFIX } from '../indexing/batch.ts';
import { loadMeasures } from '../measure/measure-config.ts';
import { parseCondition, parseTimeRange, type TimeRange } from '../replay/sources.ts';
import { parseRules } from '../rules/rule-config.ts';
import { boundsOf, parseQuantity, type WrittenRule } from '../rules/rule-types.ts';
import { createPatterns } from '../source/files/content.ts';
import { type ApiPart, byWhom, reply } from './guard.ts';
import type { Job, JobRequest } from './page-data.ts';
import { checked, Refusal, shown } from './requests.ts';

export interface JobsOptions {
  readonly source: 'kafka' | 'files' | 'stdin' | 'otlp';
  readonly sinks: { readonly elasticsearch: boolean };
  readonly kafka: { readonly topics: Readonly<Record<string, unknown>> };
  readonly files: { readonly paths: readonly string[] };
  readonly alerts: { readonly measuresFile?: string; readonly rulesFile?: string };
}

export interface JobsDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly masker: Masker;
  /** Options with which a command finds the configuration of this process; undefined: it has none that a command could find. */
  readonly configArgs: readonly string[] | undefined;
  /** Node's flags and the script, in place of the package's own. */
  readonly command?: readonly string[];
}

export interface Jobs {
  readonly routes: ApiPart;
  /** Ends those that run; resolves when they have ended. */
  close(): Promise<void>;
}

const MAX_KEPT = 20;
const KILL_AFTER_MS = 10_000;
const CLOSE_MS = 5_000;
/** Whatever takes longer is not waited for in front of a page. */
const MAX_RUN_MS = 12 * 3_600_000;
const DAY_MS = 86_400_000;
const MAX_DAYS: Readonly<Record<JobRequest['kind'], number>> = { replay: 31, backtest: 7 };

/** What a job is started with: found out before anything runs. */
interface Plan {
  /** With absolute times: `-2h` means nothing an hour later. */
  readonly request: JobRequest;
  readonly args: readonly string[];
  /** Files for the command alone, by the option that names them. */
  readonly files?: Readonly<Record<string, string>>;
  readonly isWhatIf?: boolean;
}

interface Kept {
  job: Job;
  resultBytes: number;
  readonly run: CommandRun;
  /** Why it was told to end before it was done. */
  told: 'canceled' | 'took too long' | undefined;
}

export function createJobs(options: JobsOptions, deps: JobsDeps): Jobs {
  const { clock, log, masker, configArgs } = deps;
  const { command = [...NODE_FLAGS, join(packageRoot(), 'dist', 'src', 'main.js')] } = deps;
  const nextId = createEventIds(() => clock.now());
  /** Newest first. */
  let kept: Kept[] = [];
  let closed = false;

  const running = (): Kept[] => kept.filter(({ job }) => job.state === 'running');
  // For an end in a hurry. Of a process that is killed, the children see their standard input end.
  const killAll = () => {
    for (const { run } of running()) run.kill();
  };
  process.on('exit', killAll);

  /** @throws Refusal 409 */
  function start({ request, args, files, isWhatIf = false }: Plan, by: string): Job {
    const other = running().find(({ job }) => job.request.kind === request.kind);
    if (other !== undefined) {
      const { id, started, by: who } = other.job;
      const why = `a ${request.kind} runs already: ${id}, started at ${started} by ${who}`;
      throw new Refusal(409, `${why}; wait for its end, or cancel it`);
    }
    const [name = '', ...rest] = args;
    const written = files === undefined ? undefined : writeFiles(files);
    const line = [...command, name, ...(configArgs ?? []), ...(written?.args ?? []), ...rest];
    let run: CommandRun;
    try {
      run = startCommand(line, (share, text) => {
        if (entry.job.state === 'running') entry.job = { ...entry.job, share, progress: masker.text(text) };
      });
    } catch (error) {
      written?.remove();
      throw error;
    }
    const entry: Kept = {
      job: {
        id: nextId(),
        request: masker.value(request) as JobRequest,
        by,
        started: new Date(clock.now()).toISOString(),
        ended: null,
        state: 'running',
        progress: null,
        share: null,
        result: null,
        error: null,
      },
      resultBytes: 0,
      run,
      told: undefined,
    };
    // One that runs is never forgotten: somebody may want to end it.
    kept = [entry, ...kept].filter(({ job }, i) => i < MAX_KEPT || job.state === 'running');
    log.info('A job was started', { job: entry.job.id, by, request: entry.job.request });
    const waitNoLonger = clock.after(MAX_RUN_MS, () => tell(entry, 'took too long'));
    void run.ended.then((ended) => {
      waitNoLonger();
      written?.remove();
      const outcome = outcomeOf(ended, { told: entry.told, isWhatIf, masker });
      const share = outcome.state === 'done' ? 1 : entry.job.share;
      entry.job = { ...entry.job, ...outcome, share, ended: new Date(clock.now()).toISOString() };
      entry.resultBytes = outcome.result === null ? 0 : JSON.stringify(outcome.result).length;
      forgetOldResults(kept);
      const { id, state, error } = entry.job;
      log.info('A job has ended', { job: id, state, ...(error === null ? {} : { error }) });
    });
    return entry.job;
  }

  /** Gently at first: a replay then ends between two records, and says what it has written. */
  function tell(entry: Kept, why: NonNullable<Kept['told']>, killAfterMs = KILL_AFTER_MS): void {
    entry.told ??= why;
    entry.run.interrupt();
    const calm = clock.after(killAfterMs, entry.run.kill);
    void entry.run.ended.then(calm);
  }

  function find(id: string): Kept {
    const entry = kept.find(({ job }) => job.id === id);
    if (entry === undefined) throw new Refusal(404, `there is no job ${shown(id)}; the last ${MAX_KEPT} are kept`);
    return entry;
  }

  const routes: ApiPart = (app, { permit, json }) => {
    app.post('/api/v1/jobs', async (c) => {
      const holder = permit(c.env.incoming, 'act');
      const body = await json(c, anyBody);
      if (closed) throw new Refusal(503, 'this process is ending', { 'retry-after': '5' });
      if (configArgs === undefined) {
        throw new Refusal(
          503,
          'this process was not started by the command line, so that no command can be run like it',
        );
      }
      const plan =
        body.kind === 'replay'
          ? replayPlan(checked(body, replayBody), options, clock.now())
          : await backtestPlan(checked(body, backtestBody), options, clock.now());
      const job = start(plan, byWhom(holder, body.by));
      return reply(c, job, 202, { location: `/api/v1/jobs/${job.id}` });
    });

    app.get('/api/v1/jobs', (c) => {
      permit(c.env.incoming, 'read');
      return reply(c, { jobs: kept.map(({ job }) => job) });
    });

    app.get('/api/v1/jobs/:id', (c) => {
      permit(c.env.incoming, 'read');
      return reply(c, find(c.req.param('id')).job);
    });

    app.delete('/api/v1/jobs/:id', (c) => {
      const holder = permit(c.env.incoming, 'act');
      const entry = find(c.req.param('id'));
      if (entry.job.state !== 'running') return reply(c, entry.job);
      if (entry.told === undefined) {
        log.info('A job is canceled', { job: entry.job.id, by: byWhom(holder, undefined), request: entry.job.request });
        tell(entry, 'canceled');
      }
      return reply(c, entry.job, 202);
    });
  };

  return {
    routes,
    async close() {
      closed = true;
      for (const entry of running()) tell(entry, 'canceled', CLOSE_MS);
      await Promise.all(kept.map(({ run }) => run.ended));
      process.off('exit', killAll);
    },
  };
}

// ---- what is asked for ----

type WithBy<T> = T & { readonly by?: string };

const ajv = new Ajv({ allErrors: true, strict: true, verbose: true });
ajv.addKeyword('permitted');
const line = (maxLength: number) => ({ type: 'string', minLength: 1, maxLength }) as const;
const STRETCH = { from: line(40), to: line(40) };
const COMMON = { by: line(200) };

const anyBody = ajv.compile<WithBy<{ readonly kind: JobRequest['kind'] }>>({
  type: 'object',
  required: ['kind'],
  properties: { kind: { enum: ['replay', 'backtest'] }, ...COMMON },
});

const replayBody = ajv.compile<WithBy<ReplayJob>>({
  type: 'object',
  additionalProperties: false,
  required: ['kind', 'from', 'to', 'target', 'dryRun'],
  properties: {
    kind: { const: 'replay' },
    ...STRETCH,
    where: { type: 'array', maxItems: 20, items: line(500) },
    target: {
      type: 'object',
      additionalProperties: false,
      required: ['kind'],
      properties: { kind: { enum: ['in-place', 'index', 'topic'] }, name: line(249) },
    },
    dryRun: { type: 'boolean' },
    ...COMMON,
  },
});

const backtestBody = ajv.compile<WithBy<BacktestJob>>({
  type: 'object',
  additionalProperties: false,
  required: ['kind', 'from', 'to'],
  properties: { kind: { const: 'backtest' }, ...STRETCH, rule: line(200), threshold: { type: 'number' }, ...COMMON },
});

type ReplayJob = Extract<JobRequest, { readonly kind: 'replay' }>;
type BacktestJob = Extract<JobRequest, { readonly kind: 'backtest' }>;

/** @throws Refusal 400 */
function stretchOf({ kind, from, to }: JobRequest, nowMs: number): TimeRange {
  const range = inWords(() => parseTimeRange({ from, to }, nowMs));
  if (range.toMs - range.fromMs > MAX_DAYS[kind] * DAY_MS) {
    throw new Refusal(
      400,
      `from, to: a ${kind} may reach over ${MAX_DAYS[kind]} days at most; the command line has no such limit`,
    );
  }
  return range;
}

/** What the commands say of a value, as the API says it. @throws Refusal 400 */
function inWords<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof LogpipeError)) throw error;
    throw new Refusal(400, oneLine(error.message.replace(/^--/, ''), 300));
  }
}

/** Behind `=`, no value can become an option. */
function stretchArgs({ fromMs, toMs }: TimeRange): string[] {
  return [`--from=${new Date(fromMs).toISOString()}`, `--to=${new Date(toMs).toISOString()}`];
}

const FOR_US = ['--json', '--progress=json', '--exit-with-parent'] as const;

function resolved<T extends JobRequest>({ by: _, ...request }: WithBy<T>, { fromMs, toMs }: TimeRange): T {
  return { ...request, from: new Date(fromMs).toISOString(), to: new Date(toMs).toISOString() } as unknown as T;
}

/** @throws Refusal 400, 409 */
function replayPlan(request: WithBy<ReplayJob>, options: JobsOptions, nowMs: number): Plan {
  const { where = [], target, dryRun } = request;
  const range = stretchOf(request, nowMs);
  inWords(() => where.map(parseCondition));
  const to = targetArgs(target, options);
  if (options.source !== 'kafka' && !options.sinks.elasticsearch) {
    throw new Refusal(
      409,
      'a replay reads the log topic or the indices, and this process has neither; `logpipe replay --source file` reads files',
    );
  }
  return {
    request: resolved(request, range),
    args: [
      'replay',
      `--source=${options.source === 'kafka' ? 'kafka' : 'index'}`,
      ...stretchArgs(range),
      ...where.map((condition) => `--where=${condition}`),
      ...to,
      ...(dryRun ? ['--dry-run'] : []),
      ...FOR_US,
    ],
  };
}

const OWN_TOPICS = ['logs', 'dlq', 'counts', 'alerts', 'commands'] as const;

/** @throws Refusal 400 for a name, 409 for what this process has not */
function targetArgs({ kind, name }: ReplayJob['target'], { source, sinks, kafka }: JobsOptions): string[] {
  if ((kind === 'in-place') !== (name === undefined)) {
    throw new Refusal(400, 'target.name: needed for an index and for a topic, and for nothing else');
  }
  if (kind !== 'topic' && !sinks.elasticsearch) {
    throw new Refusal(409, 'target: Elasticsearch is switched off here (sinks.elasticsearch); choose a topic');
  }
  switch (kind) {
    case 'in-place':
      if (source === 'kafka') return [];
      throw new Refusal(
        409,
        'target: a replay in place reads the log topic, and there is none without Kafka: choose an index of its own',
      );
    case 'index':
      if (/^[a-z0-9][a-z0-9_-]{0,99}$/.test(name!)) return [`--to-index=${name}`];
      throw new Refusal(
        400,
        `target.name: permitted: small letters, digits, hyphens and underscores, 100 at most; the index is ${REPLAY_PREFIX}NAME-YYYY.MM.dd`,
      );
    case 'topic': {
      if (source !== 'kafka') throw new Refusal(409, 'target: there is no Kafka here; choose an index');
      const own = OWN_TOPICS.find((key) => kafka.topics[key] === name);
      if (own !== undefined) {
        throw new Refusal(
          400,
          `target.name: this is kafka.topics.${own}, which the pipeline lives on; name another topic`,
        );
      }
      if (/^[A-Za-z0-9._-]{1,249}$/.test(name!) && !/^(?:\.\.?|__.*)$/.test(name!)) return [`--to-topic=${name}`];
      throw new Refusal(
        400,
        'target.name: permitted: letters, digits, dots, hyphens and underscores, not beginning with two underscores, which are topics of Kafka itself',
      );
    }
  }
}

/** @throws Refusal 400, 409 */
async function backtestPlan(request: WithBy<BacktestJob>, options: JobsOptions, nowMs: number): Promise<Plan> {
  const range = stretchOf(request, nowMs);
  const files = rulesFor(request, options);
  const stored = await storedIn(options);
  return {
    request: resolved(request, range),
    args: ['backtest', ...stretchArgs(range), ...FOR_US, ...stored],
    ...(files === undefined ? {} : { files }),
    isWhatIf: files?.compare !== undefined,
  };
}

/** Where the records of a backtest lie. @throws Refusal 409 */
async function storedIn({ source, sinks, files }: JobsOptions): Promise<string[]> {
  if (source === 'kafka') return ['--source=kafka'];
  if (sinks.elasticsearch) return ['--source=index'];
  if (source !== 'files') {
    throw new Refusal(
      409,
      'a backtest reads what is stored, and of what only `logpipe run` reads nothing is: Elasticsearch is switched off',
    );
  }
  const { literal, expand } = createPatterns(files.paths);
  const there = literal.filter((path) => existsSync(path));
  const paths = [...new Set([...there, ...(await expand(new Set(there)))])].slice(0, MAX_FILES);
  if (paths.length === 0) throw new Refusal(409, 'none of the files in files.paths is there');
  return ['--source=file', '--', ...paths];
}

/** A command line has an end. */
const MAX_FILES = 200;

// ---- one rule, and what if its threshold were another ----

const NO_THRESHOLD: Readonly<Partial<Record<WrittenRule['kind'], string>>> = {
  spike: 'it compares with the time just before, by factor, deviations and floor',
  trend: 'it compares with an earlier week, by factor and floor',
  'first-seen': 'it fires for whatever is new',
  late: 'it watches for records that come late',
};

/**
 * Files of rules for the command: of one rule, with those that it needs; or all of them, with another threshold, and as they are.
 * Written as JSON, which is YAML: so no alias ties one rule to another.
 * @throws Refusal 400, 409
 */
function rulesFor({ rule: id, threshold }: BacktestJob, { alerts }: JobsOptions): Record<string, string> | undefined {
  if (id === undefined) {
    if (threshold === undefined) return undefined;
    throw new Refusal(400, 'rule: missing; a threshold is that of a rule');
  }
  const { written, measures } = rulesInForce(alerts);
  if (!Object.hasOwn(written, id)) {
    const near = nearest(id, Object.keys(written));
    throw new Refusal(400, `rule: there is no rule ${shown(id)}${near === undefined ? '' : `; did you mean ${near}?`}`);
  }
  const rule = written[id]!;
  if (threshold === undefined) {
    const wanted = new Set([id]);
    // Those that are added are looked at, too.
    for (const one of wanted) {
      const { inhibitedBy = [], insteadOf } = written[one]!;
      for (const other of insteadOf === undefined ? inhibitedBy : [...inhibitedBy, insteadOf]) wanted.add(other);
    }
    return { rules: JSON.stringify({ rules: Object.fromEntries([...wanted].map((one) => [one, written[one]])) }) };
  }
  const [bound] = boundsOf(rule);
  const why = NO_THRESHOLD[rule.kind];
  if (bound === undefined || why !== undefined) {
    const instead = '`logpipe backtest --rules candidate.yml --compare rules.yml` compares any change';
    throw new Refusal(
      400,
      `threshold: ${shown(id)} is of kind ${rule.kind} and has no single one: ${why ?? ''}; ${instead}`,
    );
  }
  const parsed = parseQuantity(threshold, measures.get(rule.measure ?? '')?.unit ?? 'count');
  if (!parsed.ok) throw new Refusal(400, `threshold: ${parsed.problem}`);
  const changed = JSON.stringify({ rules: { ...written, [id]: { ...rule, [bound[0]]: threshold } } });
  inWords(() => parseRules(changed, process.env, 'threshold', measures));
  return { rules: changed, compare: JSON.stringify({ rules: written }) };
}

/** @throws Refusal 409 */
function rulesInForce({ measuresFile, rulesFile }: JobsOptions['alerts']) {
  try {
    const { file, text } = readConfigFile('rules.yml', rulesFile);
    const measures = loadMeasures({ file: measuresFile, env: process.env });
    parseRules(text, process.env, file, measures);
    const { rules: written } = parse(text, { logLevel: 'error' }) as { rules: Record<string, WrittenRule> };
    return { written, measures };
  } catch (error) {
    if (!(error instanceof LogpipeError)) throw error;
    throw new Refusal(409, 'the rules or measures cannot be read as they are now; `logpipe check-config` says why');
  }
}

function writeFiles(files: Readonly<Record<string, string>>): { readonly args: readonly string[]; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-job-'));
  const remove = () => {
    try {
      rmSync(folder, { recursive: true, force: true });
    } catch {
      // Rules that lie in the system's folder for temporary files harm nobody.
    }
  };
  try {
    const args = Object.entries(files).map(([option, text]) => {
      const path = join(folder, `${option}.yml`);
      writePrivateSync(path, text);
      return `--${option}=${path}`;
    });
    return { args, remove };
  } catch (error) {
    remove();
    throw error;
  }
}

// ---- a command as a child process ----

interface CommandRun {
  /** As Ctrl-C does. */
  interrupt(): void;
  kill(): void;
  /** Never rejects. */
  readonly ended: Promise<CommandEnd>;
}

interface CommandEnd {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Standard output; undefined when it was longer than what is read. */
  readonly output: string | undefined;
  /** The end of standard error, without what is said of progress. */
  readonly lastWords: string;
}

const MAX_OUTPUT = 4 * 1024 * 1024;
const MAX_WORDS = 4_096;
const MAX_LINE = 16_384;
/** What only this process is meant to have, or what fills standard error. */
const NOT_PASSED_ON = ['LOGPIPE_DEBUG', 'NOTIFY_SOCKET', 'LISTEN_FDS', 'LISTEN_PID'];

function startCommand(args: readonly string[], onProgress: (share: number | null, text: string) => void): CommandRun {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !NOT_PASSED_ON.includes(name)));
  const child = spawn(process.execPath, args, {
    env,
    stdio: ['pipe', 'pipe', 'pipe'],
    // A session of its own: Ctrl-C is for this process alone, which then ends its children in order.
    detached: true,
    windowsHide: true,
  });
  try {
    // What is live goes first.
    if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // It has ended already, or the system does not let us.
  }
  const output: Buffer[] = [];
  let bytes = 0;
  let words = '';
  const say = (text: string) => {
    words = `${words}${text}\n`.slice(-MAX_WORDS);
  };
  const take = createLines((text) => {
    const progress = progressIn(text);
    if (progress === undefined) say(text);
    else onProgress(progress.share, progress.text);
  });
  const ended = new Promise<CommandEnd>((resolve) => {
    const end = (status: number | null, signal: NodeJS.Signals | null) => {
      take('\n');
      const text = bytes > MAX_OUTPUT ? undefined : Buffer.concat(output).toString();
      resolve({ status, signal, output: text, lastWords: words });
    };
    child.once('close', end);
    child.on('error', (error) => {
      say(`the command could not be started: ${errorText(error)}`);
      // With a process there is a close of its own.
      if (child.pid === undefined) end(null, null);
    });
  });
  // Without a process, for want of file descriptors, there are no pipes either.
  child.stdin?.on('error', () => {});
  child.stdout?.on('data', (piece: Buffer) => {
    bytes += piece.length;
    if (bytes <= MAX_OUTPUT) output.push(piece);
    // Neither a summary nor a timeline is that long, and nobody would read on.
    else child.kill('SIGKILL');
  });
  child.stderr?.setEncoding('utf8').on('data', take);
  // Without a process, Node would send the signal to this process's whole group.
  const send = (signal: NodeJS.Signals) => {
    if (child.pid !== undefined) child.kill(signal);
  };
  return { interrupt: () => send('SIGINT'), kill: () => send('SIGKILL'), ended };
}

/** Whole lines; of one that is too long, only its begin. */
function createLines(onLine: (text: string) => void): (piece: string) => void {
  let held = '';
  return (piece) => {
    const lines = piece.split('\n');
    for (const [i, text] of lines.entries()) {
      if (held.length < MAX_LINE) held += text.slice(0, MAX_LINE - held.length);
      if (i === lines.length - 1) break;
      if (held !== '') onLine(held);
      held = '';
    }
  };
}

function progressIn(text: string): { readonly share: number | null; readonly text: string } | undefined {
  if (!text.startsWith('{"type":"progress"')) return undefined;
  try {
    const { share, text: words } = JSON.parse(text) as { share?: unknown; text?: unknown };
    return { share: typeof share === 'number' ? share : null, text: oneLine(String(words), 200) };
  } catch {
    return undefined;
  }
}

// ---- what came of it ----

type Outcome = Pick<Job, 'state' | 'result' | 'error'>;

function outcomeOf(
  { status, signal, output, lastWords }: CommandEnd,
  { told, isWhatIf, masker }: { readonly told: Kept['told']; readonly isWhatIf: boolean; readonly masker: Masker },
): Outcome {
  const found = output === undefined ? undefined : parsedObject(output);
  const result = found === undefined ? null : fitted(forThePage(found, isWhatIf));
  if (status === 0 && result !== null) return { state: 'done', result, error: null };
  const wasKilled =
    signal === 'SIGKILL' ? 'it did not end when it was told to, and was killed: what it had done is not known' : null;
  if (told === 'canceled') return { state: 'canceled', result, error: wasKilled };
  const words =
    told === 'took too long'
      ? `it took longer than ${MAX_RUN_MS / 3_600_000} hours`
      : output === undefined
        ? `its result is longer than ${MAX_OUTPUT / 1_048_576} MiB; choose a shorter stretch`
        : lastSentence(lastWords);
  const how = signal === null ? `exit status ${status ?? 'unknown'}` : `ended by ${signal}`;
  return { state: 'failed', result, error: masker.text(words === '' ? `${how}, without a word` : words) };
}

function parsedObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** A command that fails says why in its last words, which may have several lines. */
function lastSentence(words: string): string {
  const at = words.lastIndexOf('logpipe: ');
  const text = at < 0 ? (words.trimEnd().split('\n').at(-1) ?? '') : words.slice(at + 'logpipe: '.length);
  return oneLine(text.trim(), 1_000);
}

/**
 * Of what a backtest would have sent, the page shows what calls somebody. A what-if is two backtests of the same records: with the rules in
 * force, and with the other threshold.
 */
function forThePage(found: Record<string, unknown>, isWhatIf: boolean): Record<string, unknown> {
  const { timeline, compared, difference, ...facts } = found;
  if (timeline === undefined) return found;
  const pagesOnly = (given: unknown): object => {
    const { messages, ...others } = given as { messages: { action: string; channels: unknown[] }[] };
    const pages = messages.filter(({ action, channels }) => action === 'trigger' && channels.length > 0);
    return { ...facts, timeline: { ...others, messages: pages } };
  };
  if (!isWhatIf) return pagesOnly(timeline) as Record<string, unknown>;
  // biome-ignore lint/suspicious/noThenProperty: not a function, so no promise; it is the word of the contract with the page
  return { now: pagesOnly(compared), then: pagesOnly(timeline), difference };
}

const MAX_RESULT = 262_144;
const MAX_ITEMS = 500;
const MAX_TEXT = 1_000;

/** What is too long is cut, and `cut` says where; null where nothing was. */
function fitted(value: Record<string, unknown>): Record<string, unknown> {
  for (let most = MAX_ITEMS; ; most = Math.floor(most / 2)) {
    const cuts: string[] = [];
    const kept = shortened(value, most, '', cuts) as Record<string, unknown>;
    const result = { ...kept, cut: cuts.length === 0 ? null : cuts.slice(0, 10).join('; ') };
    if (most === 0 || JSON.stringify(result).length <= MAX_RESULT) return result;
  }
}

function shortened(value: unknown, most: number, path: string, cuts: string[]): unknown {
  if (typeof value === 'string') return value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT)}…` : value;
  if (typeof value !== 'object' || value === null) return value;
  const all = Object.entries(value);
  const kept = all.slice(0, most).map(([key, part]): [string, unknown] => {
    const name = Array.isArray(value) ? path : path === '' ? key : `${path}.${key}`;
    return [key, shortened(part, most, name, cuts)];
  });
  if (kept.length < all.length) cuts.push(`${path}: ${kept.length} of ${all.length}`);
  return Array.isArray(value) ? kept.map(([, part]) => part) : Object.fromEntries(kept);
}

const MAX_RESULTS = 8 * MAX_RESULT;

/** The newest results are kept. */
function forgetOldResults(kept: readonly Kept[]): void {
  let bytes = 0;
  for (const entry of kept) {
    bytes += entry.resultBytes;
    if (bytes <= MAX_RESULTS || entry.resultBytes === 0) continue;
    entry.job = { ...entry.job, result: null, progress: 'the result is no longer kept' };
    entry.resultBytes = 0;
  }
}
