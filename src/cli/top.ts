// `logpipe top`: one screen, live, of what runs, over its HTTP port. In: /metrics, /ready and /api/v1/status of one or several instances.
// Out: a picture that is redrawn in place; pictures one below the other where the output is no terminal; or NDJSON. Guarantee: at most
// `MAX_BYTES` of an answer are read, and it is waited for `TIMEOUT_MS` at most; whatever answers, nothing in it works on the terminal or
// breaks a line; who is away is said, and asked again.
//
// The demo draws with the same screen, and the same overview.
import type { Config } from '../config.ts';
import { type Clock, sleep } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import { oneLine, visible, visibleJson } from '../core/safe-json.ts';
import type { AlertingStatus, AlertStatus, RuleExplanation, RuleStatus } from '../ops/explain.ts';
import type { Readiness, Status } from '../ops/http.ts';
import { formatDuration } from '../rules/words.ts';

// ---- the screen: lines that are drawn over those before ----

export interface Terminal {
  write(text: string): unknown;
  isTTY?: boolean | undefined;
  columns?: number | undefined;
  rows?: number | undefined;
}

export interface Drawing {
  /** Over what was drawn before; what does not fit is cut. */
  draw(lines: readonly string[], below?: Below): void;
  /** What follows stands below, and is not drawn over. */
  leave(): void;
}

interface Below {
  /** Lines to copy from: never cut, over as many rows as they take; all of them, or none where they do not fit. */
  readonly whole?: readonly string[];
  /** Always shown. */
  readonly last?: readonly string[];
}

const DEFAULT_COLUMNS = 100;
const DEFAULT_ROWS = 40;
const LEAST_LINES = 4;

export function createDrawing(out: Terminal): Drawing {
  let drawn = 0;
  return {
    draw(all, { whole = [], last = [] } = {}) {
      const columns = out.columns ?? DEFAULT_COLUMNS;
      const rowsOf = (line: string) => Math.max(1, Math.ceil(line.length / columns));
      const rows = (lines: readonly string[]) => lines.reduce((sum, line) => sum + rowsOf(line), 0);
      // What scrolled out of the window cannot be drawn over.
      const most = Math.max((out.rows ?? DEFAULT_ROWS) - 1, last.length + LEAST_LINES);
      const cut = all.map((line) => oneLine(line, columns - 1));
      const uncut = whole.map(visible);
      const fits = cut.length + rows(uncut) + last.length <= most;
      const lines = [...(fits ? [...cut, ...uncut] : cut.slice(0, most - last.length)), ...last];
      const up = drawn > 0 ? `\u001b[${drawn}A` : '';
      drawn = rows(lines);
      // One write, so that nothing flickers; each line clears what stood there, the end what stood below. A full row leaves
      // the cursor on its last cell, which must not be cleared.
      const clear = (line: string) => (line.length > 0 && line.length % columns === 0 ? '' : '\u001b[K');
      out.write(`${up}\r${lines.map((line) => `${line}${clear(line)}\n`).join('')}\u001b[J`);
    },
    leave() {
      drawn = 0;
    },
  };
}

/** What every picture begins with. */
export interface Overview {
  /** What comes in: "produced" in the demo, "read" elsewhere. */
  readonly incoming: string;
  /** Events per second; undefined: not known yet. */
  readonly rates: { readonly incoming: number | undefined; readonly indexed: number | undefined };
  readonly totals: {
    readonly incoming: number;
    readonly indexed: number;
    readonly deadLettered: number;
    readonly duplicates: number;
    readonly dropped: number;
  };
  /** Records; undefined without Kafka. */
  readonly lag: number | undefined;
  readonly errorRate: string;
  readonly alerts: string;
}

export function overview({ incoming, rates, totals, lag, errorRate, alerts }: Overview): string[] {
  const name = incoming.padEnd('produced'.length);
  return [
    `  events/s      ${name} ${wide(rates.incoming)}   indexed ${wide(rates.indexed)}${lag === undefined ? '' : `   lag ${count(lag)}`}`,
    `  in all        ${name} ${wide(totals.incoming)}   indexed ${wide(totals.indexed)}`,
    `                dead letters ${count(totals.deadLettered)}, duplicates ${count(totals.duplicates)}, dropped ${count(totals.dropped)}`,
    `  error rate    ${errorRate}`,
    `  alerts        ${alerts}`,
  ];
}

export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** Right-aligned. */
export function wide(value: number | undefined): string {
  return (value === undefined ? '-' : count(value)).padStart(9);
}

/** "2.1 %", or a dash when there is nothing to divide by. */
export function share(part: number, whole: number): string {
  return whole === 0 ? '-' : `${((100 * part) / whole).toFixed(1)} %`;
}

// ---- what an instance answers ----

/** What is taken of /metrics. */
export interface Counts {
  /** Records read from the source, in all. */
  readonly read: number;
  /** New documents, by sink. */
  readonly indexed: ReadonlyMap<string, number>;
  readonly errors: number;
  readonly duplicates: number;
  readonly deadLettered: ReadonlyMap<string, number>;
  readonly dropped: number;
  /** Alerts that fire. */
  readonly firing: number;
  /** By consumer group. */
  readonly lag: ReadonlyMap<string, number>;
  readonly inFlightBytes: number;
  /** Reasons the intake waits for. */
  readonly paused: readonly string[];
  readonly residentBytes: number;
  readonly heapBytes: number;
}

export interface Instance {
  readonly url: string;
  /** Why there is no answer. */
  readonly problem?: string;
  readonly ready?: boolean;
  readonly dependencies?: readonly Readiness[];
  readonly counts?: Counts;
  /** Absent: a logpipe that does not know this address yet. */
  readonly status?: Status;
}

const TIMEOUT_MS = 2_000;
const MAX_BYTES = 8_000_000;

/** One look. Resolves always. @param timeoutMs how long each of its questions may take */
export async function lookAt(url: string, timeoutMs = TIMEOUT_MS): Promise<Instance> {
  try {
    const [ready, metrics, status] = await Promise.all([
      ask(`${url}/ready`, [200, 503], timeoutMs),
      ask(`${url}/metrics`, [200], timeoutMs),
      ask(`${url}/api/v1/status`, [200, 404], timeoutMs),
    ]);
    const answer = objectOf(ready.text) as { ready?: unknown; dependencies?: unknown } | undefined;
    if (typeof answer?.ready !== 'boolean' || !Array.isArray(answer.dependencies)) {
      return { url, problem: 'something that is not logpipe answers there' };
    }
    const known = status.status === 200 ? statusOf(status.text) : undefined;
    return {
      url,
      ready: answer.ready,
      dependencies: answer.dependencies.filter(isReadiness),
      counts: countsOf(metrics.text),
      ...(known === undefined ? {} : { status: known }),
    };
  } catch (error) {
    return { url, problem: reasonOf(error) };
  }
}

/**
 * One rule as an instance explains it, or why it does not.
 * @throws Error when nobody answers there
 */
export async function askForRule(url: string, id: string): Promise<RuleExplanation | { readonly refused: number }> {
  const { status, text } = await ask(`${url}/api/v1/status?rule=${encodeURIComponent(id)}`, [200, 404, 503]);
  const answer = objectOf(text) as RuleExplanation | undefined;
  if (status !== 200) return { refused: status };
  if (typeof answer?.id !== 'string' || !Array.isArray(answer.sets) || !Array.isArray(answer.meaning)) {
    throw new Error('something that is not logpipe answers there');
  }
  return answer;
}

async function ask(
  address: string,
  permitted: readonly number[],
  timeoutMs = TIMEOUT_MS,
): Promise<{ readonly status: number; readonly text: string }> {
  const signal = AbortSignal.timeout(timeoutMs);
  const response = await fetch(address, { signal, redirect: 'manual' });
  const { status } = response;
  if (!permitted.includes(status)) {
    await response.body?.cancel();
    if (status === 421) throw new Error('it is not called by that name (http.allowedHosts)');
    throw new Error(`${new URL(address).pathname} answers ${status}`);
  }
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of response.body ?? []) {
    size += piece.length;
    if (size > MAX_BYTES) throw new Error(`it answers more than ${MAX_BYTES / 1e6} MB`);
    pieces.push(piece);
  }
  return { status, text: Buffer.concat(pieces).toString() };
}

/** For people; fetch itself only says "fetch failed". */
export function reasonOf(error: unknown): string {
  const { cause } = error as { cause?: { code?: unknown } };
  if (cause?.code === 'ECONNREFUSED') return 'nothing listens there';
  if (error instanceof Error && error.name === 'TimeoutError') return `no answer within ${TIMEOUT_MS / 1_000} s`;
  return errorText(cause ?? error);
}

function objectOf(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function isReadiness(value: unknown): value is Readiness {
  const { name, ready, detail } = (value ?? {}) as Partial<Readiness>;
  return typeof name === 'string' && typeof ready === 'boolean' && typeof detail === 'string';
}

/** Undefined for what this version cannot read. */
function statusOf(text: string): Status | undefined {
  const status = objectOf(text) as Partial<Status> | undefined;
  const { version, roles, alerting, uptimeSeconds } = status ?? {};
  if (typeof version !== 'string' || !Array.isArray(roles) || !roles.every((role) => typeof role === 'string')) return;
  if (typeof uptimeSeconds !== 'number' || typeof alerting !== 'object') return;
  if (alerting === null) return status as Status;
  const { firing, pending, alerts, rules } = alerting;
  if (typeof firing !== 'number' || typeof pending !== 'number' || !Array.isArray(alerts) || !Array.isArray(rules))
    return;
  return {
    ...(status as Status),
    alerting: { ...alerting, alerts: alerts.filter(isAlert), rules: rules.filter(isRule) },
  };
}

function isAlert(value: unknown): value is AlertStatus {
  const { priority, phase, title, message, muted, labels } = (value ?? {}) as Partial<AlertStatus>;
  const texts = [priority, phase, title, message].every((one) => typeof one === 'string');
  return texts && (muted === null || typeof muted === 'string') && typeof (labels ?? {}) === 'object';
}

function isRule(value: unknown): value is RuleStatus {
  const { id, priority, sets } = (value ?? {}) as Partial<RuleStatus>;
  if (typeof id !== 'string' || typeof priority !== 'string' || !Array.isArray(sets)) return false;
  return sets.every((set) => typeof set?.state === 'string' && typeof set.labels === 'object' && set.labels !== null);
}

const SAMPLE = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /,?([a-z_]+)="((?:[^"\\]|\\.)*)"/gy;

/** Of the text exposition format what is shown. */
export function countsOf(text: string): Counts {
  const sums = new Map<string, number>();
  const by = { sink: new Map<string, number>(), reason: new Map<string, number>(), group: new Map<string, number>() };
  const paused: string[] = [];
  const add = (map: Map<string, number>, key: string | undefined, value: number) =>
    void (key !== undefined && map.set(key, (map.get(key) ?? 0) + value));
  for (const line of text.split('\n')) {
    const [, name = '', written = '', number = ''] = line.startsWith('logpipe_') ? (SAMPLE.exec(line) ?? []) : [];
    const value = Number(number);
    if (name === '' || !Number.isFinite(value)) continue;
    const labels = Object.fromEntries([...written.matchAll(LABEL)].map(([, label, of]) => [label, of]));
    if (name === 'logpipe_indexed_total') add(by.sink, labels.sink, value);
    else if (name === 'logpipe_dead_lettered_total') add(by.reason, labels.reason, value);
    else if (name === 'logpipe_lag_records') add(by.group, labels.group, value);
    else if (name === 'logpipe_paused' && value > 0) paused.push(labels.reason ?? 'an unknown reason');
    else if (name !== 'logpipe_tagged_total' || labels.tag === 'error') add(sums, name, value);
  }
  const sum = (name: string) => sums.get(`logpipe_${name}`) ?? 0;
  return {
    read: sum('consumed_total'),
    indexed: by.sink,
    errors: sum('tagged_total'),
    duplicates: sum('duplicates_total'),
    deadLettered: by.reason,
    dropped: sum('dropped_total'),
    firing: sum('alerts_firing'),
    lag: by.group,
    inFlightBytes: sum('in_flight_bytes'),
    paused,
    residentBytes: sum('process_resident_memory_bytes'),
    heapBytes: sum('nodejs_heap_size_used_bytes'),
  };
}

// ---- from one look to the next: rates, and what was wrong before ----

interface Look {
  readonly atMs: number;
  readonly instances: readonly Instance[];
}

/** Of all instances together. */
export interface Scene {
  readonly instances: readonly Instance[];
  readonly rates: { readonly read: number | undefined; readonly indexed: ReadonlyMap<string, number> | undefined };
  readonly totals: Sums;
  /** Share of errors among the events read, and of how long. */
  readonly errors: { readonly errors: number; readonly read: number; readonly overMs: number | undefined };
  readonly alerting: AlertingStatus | undefined;
  /** Roles that none of these instances has; undefined when one does not say which it has. */
  readonly missing: readonly string[] | undefined;
  /** By instance and part: what was wrong with it, and how long ago it was seen last. */
  readonly troubles: ReadonlyMap<string, { readonly detail: string; readonly agoMs: number }>;
}

/** Of all instances together. */
interface Sums extends Pick<Counts, 'read' | 'indexed' | 'errors' | 'duplicates' | 'deadLettered' | 'dropped'> {
  /** Undefined where nobody reads from Kafka. */
  readonly lag: number | undefined;
}

const ERRORS_OVER_MS = 60_000;
const ROLES = ['indexer', 'counter', 'alerter'] as const;

/** Takes one look after the other. */
export function createScenes(): (look: Look) => Scene {
  /** Of the last minute, oldest first. */
  let before: { readonly atMs: number; readonly of: string; readonly sums: Sums }[] = [];
  const troubles = new Map<string, { detail: string; atMs: number }>();
  return ({ atMs, instances }) => {
    const totals = sumUp(instances);
    // Who has come, gone or begun anew makes a difference that nobody read.
    const of = instances.map(({ url, problem }) => `${url} ${problem === undefined}`).join();
    const comparable = before.filter((one) => one.of === of && one.sums.read <= totals.read);
    const previous = comparable.at(-1);
    const oldest = comparable[0];
    for (const { url, dependencies = [] } of instances) {
      for (const { name, ready, detail } of dependencies) if (!ready) troubles.set(`${url} ${name}`, { detail, atMs });
    }
    const roles = instances.map(({ status }) => status?.roles);
    before = [...comparable, { atMs, of, sums: totals }].filter((one) => atMs - one.atMs < ERRORS_OVER_MS);
    return {
      instances,
      totals,
      rates: {
        read: previous && perSecond(totals.read - previous.sums.read, atMs - previous.atMs),
        indexed:
          previous &&
          new Map(
            [...totals.indexed].map(([sink, n]) => [
              sink,
              perSecond(n - (previous.sums.indexed.get(sink) ?? 0), atMs - previous.atMs),
            ]),
          ),
      },
      errors:
        oldest === undefined
          ? { errors: totals.errors, read: totals.read, overMs: undefined }
          : {
              errors: Math.max(0, totals.errors - oldest.sums.errors),
              read: totals.read - oldest.sums.read,
              overMs: atMs - oldest.atMs,
            },
      alerting: instances.find(({ status }) => status?.alerting)?.status?.alerting ?? undefined,
      missing: roles.includes(undefined)
        ? undefined
        : ROLES.filter((role) => !roles.some((has) => has?.includes(role))),
      troubles: new Map([...troubles].map(([key, one]) => [key, { detail: one.detail, agoMs: atMs - one.atMs }])),
    };
  };
}

function perSecond(events: number, ms: number): number {
  return ms <= 0 ? 0 : Math.max(0, (events * 1_000) / ms);
}

function sumUp(instances: readonly Instance[]): Sums {
  const all = instances.flatMap(({ counts, status }) =>
    counts === undefined ? [] : [{ counts, group: status?.group }],
  );
  const sum = (of: (counts: Counts) => number) => all.reduce((total, { counts }) => total + of(counts), 0);
  const merged = (of: (counts: Counts) => ReadonlyMap<string, number>) => {
    const result = new Map<string, number>();
    for (const { counts } of all) for (const [key, n] of of(counts)) result.set(key, (result.get(key) ?? 0) + n);
    return result;
  };
  const lags = merged(({ lag }) => lag);
  // Of a logpipe that does not say which group indexes, the one that is furthest behind.
  const group = all.find((one) => typeof one.group === 'string' && lags.has(one.group))?.group;
  return {
    read: sum(({ read }) => read),
    indexed: merged(({ indexed }) => indexed),
    errors: sum(({ errors }) => errors),
    duplicates: sum(({ duplicates }) => duplicates),
    deadLettered: merged(({ deadLettered }) => deadLettered),
    dropped: sum(({ dropped }) => dropped),
    lag: typeof group === 'string' ? lags.get(group) : lags.size === 0 ? undefined : Math.max(...lags.values()),
  };
}

// ---- the picture ----

const MAX_ALERTS = 8;
const MAX_RULES = 12;

/** @param rows of the terminal: what is most urgent stands in it */
export function picture(scene: Scene, rows: number): string[] {
  const { instances, totals, rates, errors, alerting } = scene;
  const only = instances.length === 1 ? instances[0] : undefined;
  const head = only === undefined ? `logpipe top   ${instances.length} instances` : `logpipe top   ${titleOf(only)}`;
  if (instances.every(({ problem }) => problem !== undefined)) {
    return [head, '', ...instances.map(({ url, problem }) => `  away          ${url}: ${problem}`)];
  }
  const over = errors.overMs === undefined ? 'since its start' : `of the last ${formatDuration(errors.overMs)}`;
  const lines = [
    head,
    '',
    ...overview({
      incoming: 'read',
      rates: { incoming: rates.read, indexed: rates.indexed && sumOf(rates.indexed) },
      totals: {
        ...{ incoming: totals.read, indexed: sumOf(totals.indexed), deadLettered: sumOf(totals.deadLettered) },
        ...{ duplicates: totals.duplicates, dropped: totals.dropped },
      },
      lag: totals.lag,
      errorRate: `${share(errors.errors, errors.read)}  ${over}`,
      alerts: alertsLine(scene),
    }),
  ];
  const below = [...reasonsLine(totals.deadLettered), ...partLines(scene), ...missingLine(scene)];
  const room = Math.max(2, rows - 1 - lines.length - below.length - 1);
  const alerts = (alerting?.alerts ?? []).slice(0, Math.min(MAX_ALERTS, Math.max(1, Math.floor(room / 2))));
  const rules = rulesShown(alerting).slice(0, Math.min(MAX_RULES, room - alerts.length));
  return [
    ...lines,
    ...alerts.map((alert) => `    ${alertLine(alert)}`),
    ...(rules.length === 0 ? [] : ['  rules', ...rules]),
    ...below,
  ];
}

function titleOf({ url, problem, status }: Instance): string {
  const name = url.replace(/^http:\/\//, '');
  if (problem !== undefined || status === undefined) return name;
  return `${name}   ${status.version}   ${status.roles.join(', ')}   up ${formatDuration(status.uptimeSeconds * 1_000)}`;
}

function sumOf(counts: ReadonlyMap<string, number>): number {
  let sum = 0;
  for (const n of counts.values()) sum += n;
  return sum;
}

function alertsLine({ alerting, instances }: Scene): string {
  if (alerting === undefined) {
    if (instances.every(({ status }) => status === undefined)) return 'not told by this version';
    const alerter = instances.flatMap(({ dependencies = [] }) => dependencies).find(({ name }) => name === 'alerter');
    return `not evaluated here${alerter === undefined ? '' : `: ${alerter.detail}`}`;
  }
  const { firing, pending, lagSeconds, behind } = alerting;
  const state = firing === 0 ? 'none is firing' : `${count(firing)} firing`;
  const waiting = pending === 0 ? '' : `, ${count(pending)} pending`;
  const late =
    lagSeconds === null ? '; nothing was counted yet' : `; evaluation is ${formatDuration(lagSeconds * 1_000)} behind`;
  return `${state}${waiting}${late}${behind ? ': until it has caught up nothing begins or ends' : ''}`;
}

function alertLine({ priority, phase, title, labels, message, muted, acknowledgedBy, since }: AlertStatus): string {
  const of = Object.values(labels ?? {}).join(', ');
  const state = muted ?? (acknowledgedBy === null ? phase : 'acknowledged');
  return `${priority}  ${state.padEnd(9)}  ${String(since).slice(11, 19)}  ${title}${of === '' ? '' : ` (${of})`}: ${message}`;
}

/** Those that are breached, then those that are nearest to their threshold. */
function rulesShown(alerting: AlertingStatus | undefined): string[] {
  return (alerting?.rules ?? [])
    .flatMap((rule) => {
      const set = rule.sets[0];
      return set === undefined || set.valueText === null ? [] : [{ rule, set }];
    })
    .sort(
      (a, b) =>
        Number(b.set.state === 'breached') - Number(a.set.state === 'breached') ||
        (b.set.near ?? -1) - (a.set.near ?? -1),
    )
    .map(({ rule, set }) => {
      const of = Object.values(set.labels).join(', ');
      const bound = set.thresholdText === null ? '' : ` / ${set.thresholdText}`;
      return `    ${rule.priority}  ${set.state.padEnd(8)}  ${`${set.valueText}${bound}`.padEnd(22)}  ${rule.id}${of === '' ? '' : ` (${of})`}`;
    });
}

function reasonsLine(deadLettered: ReadonlyMap<string, number>): string[] {
  const some = [...deadLettered].filter(([, n]) => n > 0);
  return some.length === 0 ? [] : [`  dead letters  ${some.map(([reason, n]) => `${reason} ${count(n)}`).join(', ')}`];
}

function partLines({ instances, rates, troubles }: Scene): string[] {
  const several = instances.length > 1;
  return instances.flatMap((instance) => {
    const { url, problem, dependencies = [], counts } = instance;
    const head = several ? [`  ${titleOf(instance)}`] : ['  parts'];
    if (problem !== undefined) return [`  ${url}   away: ${problem}`];
    const sinks = [...(counts?.indexed.keys() ?? [])];
    const named = new Set(dependencies.map(({ name }) => name));
    const parts = dependencies.map(({ name, ready, detail }) => {
      const rate = !several && sinks.includes(name) ? `${count(rates.indexed?.get(name) ?? 0)} docs/s; ` : '';
      const trouble = troubles.get(`${url} ${name}`);
      const earlier = ready && trouble !== undefined ? `; ${formatDuration(trouble.agoMs)} ago: ${trouble.detail}` : '';
      return `    ${ready ? 'ok  ' : 'wait'}  ${name.padEnd(14)}  ${rate}${detail}${earlier}`;
    });
    const others = sinks
      .filter((sink) => !named.has(sink))
      .map(
        (sink) => `    ok    ${sink.padEnd(14)}  ${several ? '' : `${count(rates.indexed?.get(sink) ?? 0)} docs/s`}`,
      );
    return [...head, ...parts, ...others, ...(counts === undefined ? [] : [intakeLine(counts)])];
  });
}

function intakeLine({ paused, inFlightBytes, residentBytes, heapBytes }: Counts): string {
  const state = paused.length === 0 ? 'reads' : `waits (${paused.join(', ')})`;
  const memory = residentBytes > 0 ? megabytes(residentBytes) : '-';
  return `    intake ${state}, ${megabytes(inFlightBytes)} in flight; memory ${memory}, heap ${megabytes(heapBytes)}`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function missingLine({ missing = [], instances }: Scene): string[] {
  if (missing.length === 0 || missing.length === ROLES.length) return [];
  const where = instances.length === 1 ? 'this process' : 'these processes';
  return [`  not in ${where}: ${missing.join(', ')}; name theirs with a further --url`];
}

// ---- the command ----

export interface TopOptions {
  /** Look once, say it, end: exit status 1 when nobody answers. */
  readonly once: boolean;
  readonly json: boolean;
  /** From one look to the next, ms. */
  readonly everyMs: number;
}

export interface TopDeps {
  readonly out: Terminal;
  readonly clock: Pick<Clock, 'now' | 'monotonicMs'>;
  /** Ends it. */
  readonly stop: AbortSignal;
  readonly look?: (url: string) => Promise<Instance>;
}

/** Between the two looks that a rate takes. */
const ONCE_MS = 1_000;

/** Looks until it is stopped. @returns the exit status */
export async function top(urls: readonly string[], options: TopOptions, deps: TopDeps): Promise<number> {
  const { out, clock, stop, look = lookAt } = deps;
  const { once, json, everyMs } = options;
  const next = createScenes();
  const drawing = !once && !json && out.isTTY === true ? createDrawing(out) : undefined;
  const scene = async () =>
    next({ instances: await Promise.all(urls.map((url) => look(url))), atMs: clock.monotonicMs() });
  const say = (seen: Scene) => {
    if (json) out.write(`${visibleJson(JSON.stringify(sceneJson(seen, clock.now())))}\n`);
    else if (drawing !== undefined) drawing.draw(picture(seen, out.rows ?? DEFAULT_ROWS));
    else {
      const width = out.columns ?? Number.POSITIVE_INFINITY;
      const lines = picture(seen, out.rows ?? DEFAULT_ROWS).map((line) => oneLine(line, width));
      out.write(`${lines.join('\n')}\n${once ? '' : '\n'}`);
    }
  };
  const answers = ({ instances }: Scene) => instances.some(({ problem }) => problem === undefined);

  if (once) {
    let seen = await scene();
    if (answers(seen)) {
      await sleep(ONCE_MS, stop);
      seen = await scene();
    }
    say(seen);
    return seen.instances.every(({ problem }) => problem === undefined) ? 0 : 1;
  }
  while (!stop.aborted) {
    const startedMs = clock.monotonicMs();
    say(await scene());
    await sleep(Math.max(0, everyMs - (clock.monotonicMs() - startedMs)), stop);
  }
  drawing?.leave();
  return 0;
}

/** For programs. */
function sceneJson({ instances, rates, totals, errors, alerting, missing }: Scene, nowMs: number): object {
  return {
    timestamp: new Date(nowMs).toISOString(),
    instances: instances.map(({ url, problem, ready, dependencies, counts, status }) => ({
      ...{ url, up: problem === undefined, problem: problem ?? null },
      ...{
        version: status?.version ?? null,
        roles: status?.roles ?? null,
        uptimeSeconds: status?.uptimeSeconds ?? null,
      },
      ...{ ready: ready ?? null, dependencies: dependencies ?? [] },
      intake: counts === undefined ? null : { paused: counts.paused, inFlightBytes: counts.inFlightBytes },
      memory: counts === undefined ? null : { residentBytes: counts.residentBytes, heapBytes: counts.heapBytes },
    })),
    rates: {
      read: rates.read ?? null,
      indexed: rates.indexed === undefined ? null : Object.fromEntries(rates.indexed),
    },
    totals: {
      ...totals,
      indexed: Object.fromEntries(totals.indexed),
      deadLettered: Object.fromEntries(totals.deadLettered),
      lag: totals.lag ?? null,
    },
    errorRate: errors.read === 0 ? null : Math.round((errors.errors / errors.read) * 10_000) / 10_000,
    alerting: alerting ?? null,
    missingRoles: missing ?? null,
  };
}

/**
 * The addresses to ask: those given, else that of the configuration.
 * @throws LogpipeError LOGPIPE_USAGE
 */
export function addressesOf(given: readonly string[], config: () => Config): string[] {
  if (given.length > 0) return given.map(addressOf);
  const { enabled, host, port } = config().http;
  if (!enabled || port === 0) {
    const why = enabled ? 'http.port is 0, so that it is another one at each start' : 'http.enabled is false';
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--url: missing, and ${why}; give the address that logpipe run logs as "url"`,
    );
  }
  // Bound to every address, it is called by one that is always there.
  const name = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host;
  return [`http://${name}:${port}`];
}

/** `host:port` too. */
function addressOf(text: string): string {
  const written = /^[a-z]+:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(written) ? new URL(written) : undefined;
  if (
    url === undefined ||
    !/^https?:$/.test(url.protocol) ||
    url.hostname === '' ||
    url.username !== '' ||
    url.password !== ''
  ) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--url: found "${visible(text)}"; expected an address such as http://127.0.0.1:8780`,
    );
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
}
