// Retention: deletes indices whose days are over. In: what indices there are, how long each kind is to be kept, and what time it is by
// every clock that can be asked. Out: a decision about each index, with its reason; unless it is a dry run, the expired ones are gone.
//
// - Which day a log index holds is what its NAME says, in UTC; for the alert history it is the month. When it was created means nothing:
//   a replay creates old days anew. A replay index is as old as its creation. It expires when ALL of its day is older than N days.
// - "Now" is the earliest of the clocks: the brokers' (where alerting knows it), this host's, Elasticsearch's. When they are more than a
//   day apart nobody knows which is right, and nothing is deleted. As long as one clock is not ahead, nothing goes too early.
// - Machines may share one clock. So the logs have to bear it out: without a log index of the N days before today, nothing of N days is
//   deleted. After a leap of all clocks only today's index is there, and it is no witness. So the logs are never deleted altogether.
// - Every index is deleted alone, by its exact name, which is checked again right before. What only looks like a name of logpipe's, an
//   alias, or a part of a data stream is left alone.
// - Only the leader runs it: some minutes after its term began, which makes up for what was missed while nobody led, and then by
//   schedule. Nothing has to be remembered: deleting what is gone already changes nothing. Whatever failed comes again at the next run.

import { type Client, errors } from '@elastic/elasticsearch';
import type { ScheduledTask } from 'node-cron';
import cron from 'node-cron';
import type { Clock } from '../core/clock.ts';
import type { ConfigProblem } from '../core/config-loader.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log, LogLevel } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { HISTORY_PREFIX } from '../incidents/records.ts';
import { INDEX_PATTERN, INDEX_PREFIX, REPLAY_PREFIX } from '../indexing/batch.ts';
import { createElasticsearchClient, type ElasticsearchConfig, explainFailure } from '../indexing/elasticsearch.ts';
import { type BulkItemError, errorWords } from '../indexing/outcome.ts';

// ---- the `retention` section ----

const days = (description: string) => ({ type: 'integer', minimum: 1, maximum: 36_500, description }) as const;

/** `retention` section, JSON Schema. */
export const retentionSection = {
  type: 'object',
  description:
    'Deletes old indices: [retention](retention.md). Off as long as no days are set. Role alerter, on the leader only.',
  additionalProperties: false,
  default: {},
  properties: {
    retentionDays: days(
      'Log indices (`calling-platform-YYYY.MM.dd`) are deleted when their whole day is older than this. Default: never.',
    ),
    alertHistoryDays: days(
      'The same for the alert history (`logpipe-alerts-YYYY.MM`), when its whole month is older. Default: never.',
    ),
    replayDays: days(
      'Indices of replays (`logpipe-replay-…`) are deleted when they were created longer ago. Default: never.',
    ),
    schedule: {
      type: 'string',
      minLength: 1,
      default: '0 3 * * *',
      description:
        'When it runs: a cron expression of five or six fields. It also runs 5 minutes after a leader began.',
    },
    timeZone: {
      type: 'string',
      minLength: 1,
      default: 'UTC',
      description: 'Time zone of the schedule, like `Europe/Berlin`. The days of indices are UTC in any case.',
    },
  },
} as const;

export interface RetentionConfig {
  readonly retentionDays?: number;
  readonly alertHistoryDays?: number;
  readonly replayDays?: number;
  readonly schedule: string;
  readonly timeZone: string;
}

/** What the schema cannot tell: whether the schedule and the time zone are any. */
export function retentionProblems({ schedule, timeZone }: RetentionConfig): ConfigProblem[] {
  const found: ConfigProblem[] = [];
  if (!cron.validate(schedule)) {
    const fix = 'write minute, hour, day, month and day of the week, like 0 3 * * *';
    found.push({
      path: 'retention.schedule',
      value: JSON.stringify(schedule),
      message: 'is not a cron expression',
      fix,
    });
  }
  try {
    new Intl.DateTimeFormat('en', { timeZone });
  } catch {
    const fix = 'write a name like Europe/Berlin or UTC';
    found.push({
      path: 'retention.timeZone',
      value: JSON.stringify(timeZone),
      message: 'no such time zone is known',
      fix,
    });
  }
  return found;
}

/** Whether any index may be deleted. */
export function retentionIsOn(config: RetentionConfig): boolean {
  return Object.values(KINDS).some(({ key }) => config[key] !== undefined);
}

// ---- what a name says ----

const DAY_MS = 86_400_000;

/** Closed list: becomes a metric label. */
export type IndexKind = 'logs' | 'alert_history' | 'replay';

interface Kind {
  readonly key: 'retentionDays' | 'alertHistoryDays' | 'replayDays';
  readonly prefix: string;
  /** When the time ends that an index of this name holds, ms; undefined for any other name. */
  readonly endOf: (name: string, createdMs: number | undefined) => number | undefined;
}

const KINDS: Readonly<Record<IndexKind, Kind>> = {
  logs: {
    key: 'retentionDays',
    prefix: INDEX_PREFIX,
    endOf: (name) => (INDEX_PATTERN.test(name) ? dayEnd(name.slice(INDEX_PREFIX.length)) : undefined),
  },
  alert_history: {
    key: 'alertHistoryDays',
    prefix: HISTORY_PREFIX,
    endOf: (name) => monthEnd(name.slice(HISTORY_PREFIX.length)),
  },
  replay: {
    key: 'replayDays',
    prefix: REPLAY_PREFIX,
    endOf(name, createdMs = Number.POSITIVE_INFINITY) {
      // As `--to-index` permits names, and the day of the events.
      const [, day] = /^[a-z0-9][a-z0-9_-]{0,99}-(\d{4}\.\d\d\.\d\d)$/.exec(name.slice(REPLAY_PREFIX.length)) ?? [];
      return day === undefined || dayEnd(day) === undefined ? undefined : createdMs;
    },
  },
};

/**
 * What an index is by its name, and when the time it holds ends, ms.
 * @param createdMs for replays, whose name does not tell their age; without it they never end
 * @returns undefined for every name that logpipe does not give
 */
export function indexKind(name: string, createdMs?: number): { kind: IndexKind; endMs: number } | undefined {
  for (const [kind, { prefix, endOf }] of Object.entries(KINDS)) {
    const endMs = name.startsWith(prefix) ? endOf(name, createdMs) : undefined;
    if (endMs !== undefined) return { kind: kind as IndexKind, endMs };
  }
  return undefined;
}

/** End of the UTC day `2026.11.28`; undefined for 2026.02.30. */
function dayEnd(text: string): number | undefined {
  const startMs = Date.parse(`${text.replaceAll('.', '-')}T00:00:00.000Z`);
  if (Number.isNaN(startMs) || isoDay(startMs) !== text.replaceAll('.', '-')) return undefined;
  return startMs + DAY_MS;
}

/** End of the UTC month `2026.11`. */
function monthEnd(text: string): number | undefined {
  const [, year, month] = /^(\d{4})\.(0[1-9]|1[0-2])$/.exec(text) ?? [];
  return year === undefined ? undefined : new Date(0).setUTCFullYear(Number(year), Number(month), 1);
}

function isoDay(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

// ---- what time it is ----

/** Clocks of machines differ by seconds; so far apart, one of them is wrong by days. */
const MAX_APART_MS = DAY_MS;

/** What each clock says, ms. */
export interface Clocks {
  readonly host: number;
  readonly elasticsearch: number;
  /** Undefined where nobody has asked the brokers. */
  readonly brokers?: number | undefined;
}

/** The earliest of the clocks, or why there is no time to go by. */
export function agreedTime(clocks: Clocks): { readonly nowMs: number } | { readonly problem: string } {
  const said = Object.entries({
    'Elasticsearch’s': clocks.elasticsearch,
    'the brokers’': clocks.brokers,
    'this host’s': clocks.host,
  }).filter((entry): entry is [string, number] => entry[1] !== undefined);
  const times = said.map(([, ms]) => ms);
  const nowMs = Math.min(...times);
  if (Math.max(...times) - nowMs <= MAX_APART_MS) return { nowMs };
  const list = said.map(([whose, ms]) => `${whose} says ${timeText(ms)}`).join(', ');
  return { problem: `the clocks are more than a day apart: ${list}; set the one that is wrong` };
}

function timeText(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : `${date.toISOString().slice(0, 19)}Z`;
}

// ---- the plan ----

/** One thing that exists in Elasticsearch under a name that begins like logpipe's. */
export interface FoundIndex {
  readonly name: string;
  readonly form: 'index' | 'alias' | 'data stream';
  /** The data stream that it is a part of. */
  readonly dataStream?: string | undefined;
  readonly closed: boolean;
  /** Settings that forbid deleting it. */
  readonly blocks: readonly string[];
  readonly createdMs?: number | undefined;
  /** Undefined for a closed index. */
  readonly documents?: number | undefined;
  readonly bytes?: number | undefined;
}

export interface PlannedIndex extends FoundIndex {
  /** Undefined when logpipe has not made it. */
  readonly kind: IndexKind | undefined;
  /** Since the end of the time that it holds, ms; negative while that lasts. */
  readonly ageMs: number | undefined;
  /** `doubt`: its days are over, unless the time is wrong. It is kept. */
  readonly decision: 'delete' | 'keep' | 'doubt';
  /** Why, in words. */
  readonly why: string;
}

/** Pure. @returns a decision about each index, in the given order */
export function planRetention(
  found: readonly FoundIndex[],
  config: RetentionConfig,
  nowMs: number,
): readonly PlannedIndex[] {
  const logDays = found.flatMap(({ name, form }) => {
    const named = form === 'index' ? indexKind(name) : undefined;
    return named?.kind === 'logs' ? [named.endMs] : [];
  });
  /** Whether the logs bear out that it is `nowMs`. Today's index may be the work of a clock that leapt. */
  const isBorneOut = (keptMs: number) =>
    logDays.length === 0 || logDays.some((endMs) => endMs <= nowMs && endMs + keptMs > nowMs);

  return found.map((index): PlannedIndex => {
    const named = indexKind(index.name, index.createdMs);
    const decided = (decision: PlannedIndex['decision'], why: string): PlannedIndex => ({
      ...index,
      kind: named?.kind,
      ageMs: named === undefined || !Number.isFinite(named.endMs) ? undefined : nowMs - named.endMs,
      decision,
      why,
    });
    if (index.form !== 'index') return decided('keep', `is not an index but ${article(index.form)}`);
    if (named === undefined) return decided('keep', 'not a name that logpipe gives');
    if (index.dataStream !== undefined) return decided('keep', `is a part of the data stream ${index.dataStream}`);
    const { key } = KINDS[named.kind];
    const wanted = config[key];
    if (wanted === undefined) return decided('keep', `retention.${key} is not set`);
    if (!Number.isFinite(named.endMs)) return decided('keep', 'Elasticsearch does not say when it was created');
    const keptMs = wanted * DAY_MS;
    const setting = `retention.${key} (${wanted})`;
    if (named.endMs + keptMs > nowMs) return decided('keep', `until ${timeText(named.endMs + keptMs)}: ${setting}`);
    if (!isBorneOut(keptMs)) {
      const what = `older than ${setting}, but there is no log index of the ${wanted} days before today`;
      return decided('doubt', `${what}, so the time may be wrong; if it is right, wait for logs or delete it by hand`);
    }
    return decided('delete', `older than ${setting}`);
  });
}

function article(form: string): string {
  return form === 'alias' ? 'an alias' : `a ${form}`;
}

// ---- one run ----

export interface RetentionRow extends PlannedIndex {
  /** Absent when nothing was tried. `gone`: somebody else has deleted it meanwhile. `waits`: the next run will do it. */
  readonly result?: 'deleted' | 'gone' | 'waits' | 'failed';
  /** Why it is still there, and what to do. */
  readonly failure?: string;
}

export interface RetentionRun {
  readonly clocks: Clocks;
  /** The time that it went by; undefined when there was none. */
  readonly nowMs: number | undefined;
  /** Why nothing at all was decided. */
  readonly problem?: string;
  readonly indices: readonly RetentionRow[];
}

interface RunOptions {
  readonly config: RetentionConfig;
  readonly dryRun: boolean;
  /** This host's time, and the brokers' if it is known, ms. Called once the list is there. */
  readonly clocks: () => Omit<Clocks, 'elasticsearch'>;
  /** Nothing more is deleted once it aborts. */
  readonly signal?: AbortSignal;
  readonly onResult?: (row: RetentionRow) => void;
}

/**
 * Decides about every index and, unless it is a dry run, deletes the expired ones, the oldest first.
 * @throws LogpipeError LOGPIPE_ES_UNREACHABLE, LOGPIPE_ES_REFUSED, LOGPIPE_ES_INCOMPLETE when it cannot be learnt what is there
 */
export async function runRetention(elasticsearch: ElasticsearchConfig, options: RunOptions): Promise<RetentionRun> {
  const { config, dryRun, onResult, signal = new AbortController().signal } = options;
  const client = createElasticsearchClient(elasticsearch);
  try {
    const found = await listIndices(client, signal);
    const clocks = { elasticsearch: await timeOf(client, signal), ...options.clocks() };
    const agreed = agreedTime(clocks);
    if ('problem' in agreed) return { clocks, nowMs: undefined, problem: agreed.problem, indices: [] };
    const { nowMs } = agreed;
    const plan = planRetention(found, config, nowMs);
    if (dryRun) return { clocks, nowMs, indices: plan };
    const results = new Map<string, RetentionRow>();
    const oldestFirst = plan
      .filter(({ decision }) => decision === 'delete')
      .sort((a, b) => (b.ageMs ?? 0) - (a.ageMs ?? 0));
    for (const index of oldestFirst) {
      if (signal.aborted) break;
      const removal = await remove(client, index, { config, nowMs, signal }).catch((error) => {
        if (!signal.aborted) throw error;
      });
      if (removal === undefined) break;
      const row = { ...index, ...removal };
      results.set(index.name, row);
      onResult?.(row);
    }
    return { clocks, nowMs, indices: plan.map((index) => results.get(index.name) ?? index) };
  } catch (error) {
    throw error instanceof LogpipeError ? error : await explainFailure(error, elasticsearch);
  } finally {
    await client.close();
  }
}

/** Wildcards are for looking only. */
const PATTERNS = Object.values(KINDS)
  .map(({ prefix }) => `${prefix}*`)
  .join(',');
/** Closed and hidden ones too. */
const EVERY = { expand_wildcards: 'all' } as const;
/** Settings that forbid deleting an index, and how Elasticsearch names them when it refuses. */
const BLOCKS = {
  'index.blocks.read_only': 'index read-only (api)',
  'index.blocks.metadata': 'index metadata (api)',
} as const;

interface Resolved {
  readonly indices?: readonly { name: string; attributes?: readonly string[]; data_stream?: string }[];
  readonly aliases?: readonly { name: string }[];
  readonly data_streams?: readonly { name: string }[];
}

interface CatRow {
  readonly index: string;
  readonly 'docs.count'?: string | null;
  readonly 'store.size'?: string | null;
  readonly 'creation.date'?: string | null;
}

async function listIndices(client: Client, signal: AbortSignal): Promise<FoundIndex[]> {
  const get = async <T extends object>(path: string, querystring: object): Promise<T> => {
    const reply = await client.transport.request<T>({ method: 'GET', path, querystring }, { signal });
    if (typeof reply === 'object' && reply !== null) return reply;
    throw new LogpipeError('LOGPIPE_ES_INCOMPLETE', `Elasticsearch gave no answer that can be used to GET ${path}`);
  };
  /** One index whose metadata may not be read refuses them for all: what is only for the list, or a replay's age, is missing then. */
  const unlessBlocked = <T>(answer: Promise<T>, otherwise: T) =>
    answer.catch((error) => {
      if (error instanceof errors.ResponseError && /cluster_block_exception/.test(error.message)) return otherwise;
      throw error;
    });
  const [resolved, rows, settings] = await Promise.all([
    // Only this tells indices from aliases and data streams.
    get<Resolved>(`/_resolve/index/${PATTERNS}`, EVERY),
    unlessBlocked(
      get<readonly CatRow[]>(`/_cat/indices/${PATTERNS}`, {
        ...EVERY,
        format: 'json',
        bytes: 'b',
        h: 'index,docs.count,store.size,creation.date',
      }),
      [],
    ),
    unlessBlocked(
      get<Record<string, { settings?: Record<string, unknown> }>>(`/${PATTERNS}/_settings/index.blocks.*`, {
        ...EVERY,
        flat_settings: true,
      }),
      {},
    ),
  ]);
  const byName = new Map([...rows].map((row) => [row.index, row]));
  const found = (resolved.indices ?? []).map(({ name, attributes = [], data_stream: dataStream }): FoundIndex => {
    const row = byName.get(name);
    const set = settings[name]?.settings ?? {};
    return {
      name,
      form: 'index',
      dataStream,
      closed: attributes.includes('closed'),
      blocks: Object.keys(BLOCKS).filter((block) => String(set[block]) === 'true'),
      createdMs: numberOf(row?.['creation.date']),
      documents: numberOf(row?.['docs.count']),
      bytes: numberOf(row?.['store.size']),
    };
  });
  const other = (form: FoundIndex['form'], names: readonly { name: string }[] = []) =>
    names.map(({ name }): FoundIndex => ({ name, form, closed: false, blocks: [] }));
  return [...found, ...other('alias', resolved.aliases), ...other('data stream', resolved.data_streams)].sort(
    (one, another) => (one.name < another.name ? -1 : 1),
  );
}

function numberOf(text: unknown): number | undefined {
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** Elasticsearch's own clock, ms, to the second. It sends no `Date` header. */
async function timeOf(client: Client, signal: AbortSignal): Promise<number> {
  const [row] = await client.transport.request<readonly { epoch?: string }[]>(
    { method: 'GET', path: '/_cat/health', querystring: { format: 'json', h: 'epoch' } },
    { signal },
  );
  const seconds = numberOf(row?.epoch);
  if (seconds !== undefined) return seconds * 1_000;
  throw new LogpipeError('LOGPIPE_ES_INCOMPLETE', 'Elasticsearch does not say what time it is (GET /_cat/health)');
}

// ---- deleting one index ----

type Removal = Required<Pick<RetentionRow, 'result'>> & Pick<RetentionRow, 'failure'>;

interface Answer {
  /** 0 when there was none. */
  readonly status: number;
  readonly acknowledged: boolean;
  readonly error: BulkItemError;
}

/** How long Elasticsearch may take to spread the change: less than our own patience. */
const ACK_TIMEOUT = { timeout: '10s', master_timeout: '10s' } as const;
const ALL_ERRORS = Array.from({ length: 200 }, (_, n) => 400 + n);

/** Resolves once it is proven what became of it. Rejects only when Elasticsearch can no longer be asked. */
async function remove(
  client: Client,
  index: PlannedIndex,
  { config, nowMs, signal }: { config: RetentionConfig; nowMs: number; signal: AbortSignal },
): Promise<Removal> {
  const { name } = index;
  // The last look before the door: nothing but an expired name of exactly this form ever reaches DELETE.
  const named = indexKind(name, index.createdMs);
  const wanted = named === undefined ? undefined : config[KINDS[named.kind].key];
  if (named === undefined || wanted === undefined || !(named.endMs + wanted * DAY_MS <= nowMs)) {
    throw new LogpipeError('LOGPIPE_FAULT', `retention: ${JSON.stringify(name)} is not an expired index of logpipe`);
  }

  async function ask(method: string, path: string, body?: object): Promise<Answer> {
    try {
      const {
        statusCode,
        headers,
        body: reply,
      } = await client.transport.request<Record<string, unknown> | string>(
        {
          method,
          path,
          querystring: { ...ACK_TIMEOUT, ...(method === 'DELETE' ? { expand_wildcards: 'none' } : {}) },
          ...(body && { body }),
        },
        { meta: true, signal, ignore: ALL_ERRORS },
      );
      const status = statusCode ?? 0;
      const json = typeof reply === 'object' && reply !== null;
      // A refusal by a block comes without the header that every other answer has; it only leads to lifting that block.
      const isBlock = json && isError(reply.error) && reply.error.type === 'cluster_block_exception';
      const isTheirs = json && (isBlock || headers?.['x-elastic-product'] === 'Elasticsearch');
      if (!isTheirs) return { status: 0, acknowledged: false, error: { reason: `HTTP ${status} from something else` } };
      const error = isError(reply.error) ? reply.error : {};
      return { status, acknowledged: status === 200 && reply.acknowledged === true, error };
    } catch (error) {
      if (signal.aborted || !(error instanceof errors.ElasticsearchClientError)) throw error;
      return { status: 0, acknowledged: false, error: { reason: errorText(error) } };
    }
  }

  const path = `/${encodeURIComponent(name)}`;
  const cleared: string[] = [];
  let answer = await ask('DELETE', path);
  // By the refusal's own words: the block may be younger than the list, and one of the whole cluster is not ours to lift.
  const blocks = blocksIn(answer);
  if (blocks.length > 0) {
    for (const block of blocks) {
      // One at a time: Elasticsearch lets nothing else pass such a block.
      const change = await ask('PUT', `${path}/_settings`, { [block]: false });
      if (change.acknowledged) cleared.push(block);
      else answer = change;
    }
    if (cleared.length === blocks.length) answer = await ask('DELETE', path);
  }
  if (answer.acknowledged) return { result: 'deleted' };
  if (isMissing(answer)) return { result: 'gone' };
  // Without an answer, or when not every node has heard of it, it may be gone all the same.
  if ((answer.status === 0 || answer.status === 200) && !(await exists(client, name, signal))) {
    return { result: 'deleted' };
  }
  for (const block of cleared) await ask('PUT', `${path}/_settings`, { [block]: true });
  return stillThere(answer, index, blocks.length > 0);
}

function isError(value: unknown): value is BulkItemError {
  return typeof value === 'object' && value !== null && typeof (value as BulkItemError).type === 'string';
}

function blocksIn({ error }: Answer): string[] {
  if (error.type !== 'cluster_block_exception') return [];
  return Object.entries(BLOCKS).flatMap(([block, words]) => (error.reason?.includes(words) ? [block] : []));
}

function isMissing({ status, error }: Answer): boolean {
  return status === 404 && error.type === 'index_not_found_exception';
}

async function exists(client: Client, name: string, signal: AbortSignal): Promise<boolean> {
  const reply = await client.transport.request<Resolved>(
    { method: 'GET', path: `/_resolve/index/${PATTERNS}`, querystring: EVERY },
    { signal },
  );
  // An answer without the list proves nothing.
  return reply?.indices?.some((index) => index.name === name) ?? true;
}

function stillThere({ status, error }: Answer, { name, kind }: PlannedIndex, blocked: boolean): Removal {
  const words = (error.type === undefined ? (error.reason ?? '') : errorWords(error)).slice(0, 300);
  const text = `${name}: ${status === 0 ? '' : `HTTP ${status} `}${words}`;
  if (error.type === 'snapshot_in_progress_exception') {
    return { result: 'waits', failure: `${text}; it goes when the snapshot is done` };
  }
  if (error.type === 'cluster_block_exception') {
    return {
      result: 'failed',
      failure: `${text}; lift the block: GET _cluster/settings and GET ${name}/_settings show it`,
    };
  }
  if (status === 401 || status === 403) {
    const needed = blocked ? 'delete_index and manage' : 'delete_index';
    const fix = `the credentials need the index privilege ${needed} on ${KINDS[kind!].prefix}*`;
    return { result: 'failed', failure: `${text}; ${fix}` };
  }
  if (status === 0 || status === 200 || status === 429 || status >= 500) return { result: 'waits', failure: text };
  return { result: 'failed', failure: `${text}; see the server log` };
}

// ---- on the leader, by schedule ----

/** After the beginning of a term: processes that start over and over delete nothing, and nobody is surprised at a start. */
const FIRST_AFTER_MS = 300_000;

interface RetentionDeps {
  /** The brokers' time, ms. */
  readonly brokersNow: () => number;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Pick<Metrics, 'retentionDeleted' | 'retentionSucceeded'>;
}

export interface Retention {
  start(): void;
  /** Runs once now, or joins the run under way. Never rejects. */
  run(): Promise<void>;
  /** The wall clock was set: plans the next run anew. */
  reschedule(): void;
  /** No further run; one under way deletes nothing more. */
  stop(): Promise<void>;
}

/** For one term of the leader. */
export function createRetention(
  config: { readonly retention: RetentionConfig; readonly elasticsearch: ElasticsearchConfig },
  deps: RetentionDeps,
): Retention {
  const { retention, elasticsearch } = config;
  const { clock, log, metrics } = deps;
  const ending = new AbortController();
  let task: ScheduledTask | undefined;
  let running: Promise<void> | undefined;
  let cancelFirst = () => {};

  async function runOnce(): Promise<void> {
    const again = `tried again at the next run (retention.schedule ${retention.schedule})`;
    try {
      const { indices, problem } = await runRetention(elasticsearch, {
        config: retention,
        dryRun: false,
        clocks: () => ({ host: clock.now(), brokers: deps.brokersNow() }),
        signal: ending.signal,
        onResult({ name, kind, documents, bytes, result }) {
          if (result !== 'deleted') return;
          metrics.retentionDeleted.inc({ kind: kind! });
          log.info('retention: deleted an index', { index: name, documents, bytes });
        },
      });
      if (ending.signal.aborted) return;
      if (problem !== undefined) {
        log.error(`retention: nothing is deleted: ${problem}; ${again}`);
        return;
      }
      const doubted = indices.find(({ decision }) => decision === 'doubt');
      if (doubted !== undefined) log.error(`retention: kept ${doubted.name}: ${doubted.why}; ${again}`);
      const left = indices.filter(({ failure }) => failure !== undefined);
      if (left.length > 0) {
        log.error(`retention: expired indices that are still there: ${left.length}; ${again}`, {
          first: left[0]?.failure,
          indices: left.slice(0, 20).map(({ name }) => name),
        });
      }
      if (left.length > 0 || doubted !== undefined) return;
      const deleted = indices.filter(({ result }) => result === 'deleted').length;
      log.info('retention: nothing more is expired', { deleted, indices: indices.length - deleted });
      metrics.retentionSucceeded.set(clock.now() / 1_000);
    } catch (error) {
      if (!ending.signal.aborted) log.error(`retention: ${errorText(error)}; ${again}`);
    }
  }

  function run(): Promise<void> {
    running ??= runOnce().finally(() => {
      running = undefined;
    });
    return running;
  }

  const say = (level: LogLevel) => (text: string | Error) =>
    log[level](`retention: ${text instanceof Error ? errorText(text) : text}`);

  function plan(): void {
    void task?.destroy();
    task = cron.schedule(retention.schedule, run, {
      timezone: retention.timeZone,
      noOverlap: true,
      // As for the health monitor: a run that begins late is a run.
      missedExecutionTolerance: Number.POSITIVE_INFINITY,
      logger: { info: say('info'), warn: say('warn'), error: say('error'), debug: say('debug') },
    });
  }

  return {
    start() {
      plan();
      cancelFirst = clock.after(FIRST_AFTER_MS, () => void run());
    },
    run,
    reschedule() {
      if (task !== undefined && !ending.signal.aborted) plan();
    },
    async stop() {
      ending.abort();
      cancelFirst();
      await task?.destroy();
      await running;
    },
  };
}
