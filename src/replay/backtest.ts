// Judges recorded logs by rules, without telling anybody. In: records in order of arrival, one or two rule sets, a range; or the
// events of a replay. Out: for each rule set the alerts that would have fired, messages and pages; for two, the difference.
// Guarantee: deterministic, byte for byte: it evaluates every `tickMs` of the records' own time, never of the wall clock, after
// exactly the records that had arrived by then; memory does not grow with the number of records.
import type { RawRecord } from '../core/record.ts';
import { createMasker, type Masker } from '../core/secrets/mask.ts';
import type { ChannelName, NotifyAction, NotifyReason } from '../incidents/notification.ts';
import { ArrivalBucket, compileCollect } from '../measure/collect.ts';
import type { SourcePosition } from '../measure/counter.ts';
import { collectedOf, type Measures } from '../measure/measure-config.ts';
import { BUCKET_MS, type BucketTotals } from '../measure/totals.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { Rules } from '../rules/rule-config.ts';
import { PRIORITIES, type Priority, type Rule } from '../rules/rule-types.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import type { TransformsConfig } from '../transform/transform.ts';
import {
  createRuleSet,
  createStages,
  type RuleSetStages,
  type Simulated,
  type SimulatedAlert,
  type SimulatedMessage,
  type Stages,
} from './simulate.ts';
import type { StoredRecord } from './stored.ts';

export interface BacktestOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  /** A second rule set, judged over the same counts. */
  readonly compare?: Rules;
  readonly parse: ParseConfig;
  readonly transforms: TransformsConfig;
  readonly masker?: Masker;
  readonly fromMs: number;
  readonly toMs: number;
  /** The simulation goes on until then, for what arrives late; the timeline still ends at `toMs`. */
  readonly untilMs?: number;
  /** The records begin this long before `fromMs`, so that windows are filled. */
  readonly warmUpMs: number;
  /** From one evaluation to the next. */
  readonly tickMs: number;
  readonly onTick?: RunOptions['onTick'];
}

export interface BacktestResult {
  readonly from: string;
  readonly to: string;
  readonly warmUpSeconds: number;
  readonly tickSeconds: number;
  /** Records from `from` on, and those of the warm-up. */
  readonly records: number;
  readonly warmUpRecords: number;
  readonly timeline: Timeline;
  /** With two rule sets. */
  readonly compared?: Timeline;
  readonly difference?: Difference;
}

/** @param batches records in order of arrival; those outside of the warm-up and the range are skipped */
export async function backtest(
  batches: AsyncIterable<readonly StoredRecord[]>,
  options: BacktestOptions,
): Promise<BacktestResult> {
  const { rules, compare, fromMs, toMs, untilMs = toMs, warmUpMs, tickMs } = options;
  const beginMs = fromMs - warmUpMs;
  const run = createRun({
    measures: options.measures,
    ruleSets: compare === undefined ? [rules] : [rules, compare],
    parse: options.parse,
    transforms: options.transforms,
    ...(options.masker === undefined ? {} : { masker: options.masker }),
    fromMs: beginMs,
    learnedMs: fromMs,
    tickMs,
    ...(options.onTick === undefined ? {} : { onTick: options.onTick }),
  });
  let warmUpRecords = 0;
  let inRange = 0;
  for await (const batch of batches) {
    for (const record of batch) {
      const { arrivalMs } = record;
      if (arrivalMs < beginMs || arrivalMs >= untilMs) continue;
      if (arrivalMs < fromMs) warmUpRecords += 1;
      else if (arrivalMs < toMs) inRange += 1;
      const pending = run.see(record);
      if (pending !== undefined) await pending;
    }
  }
  await run.finish(untilMs);

  const [first, second] = run.ruleSets;
  const timeline = timelineOf(first!, rules, { fromMs, toMs });
  const compared =
    second === undefined || compare === undefined ? undefined : timelineOf(second, compare, { fromMs, toMs });
  return {
    from: new Date(fromMs).toISOString(),
    to: new Date(toMs).toISOString(),
    warmUpSeconds: warmUpMs / 1_000,
    tickSeconds: tickMs / 1_000,
    records: inRange,
    warmUpRecords,
    timeline,
    ...(compared === undefined ? {} : { compared, difference: difference(timeline, compared) }),
  };
}

// ---- records one by one ----

interface RunOptions {
  readonly measures: Measures;
  readonly ruleSets: readonly (readonly Rule[])[];
  readonly parse: ParseConfig;
  readonly transforms: TransformsConfig;
  readonly masker?: Masker;
  /** Learning and judging begin here. */
  readonly fromMs: number;
  /** Everything that is new until then is learned silently, whatever a first-seen rule says. */
  readonly learnedMs: number;
  /** A whole part or a multiple of 10 s. */
  readonly tickMs: number;
  /** Called after each evaluation. */
  readonly onTick?: (nowMs: number, stages: Stages) => void;
}

interface Run {
  readonly ruleSets: readonly RuleSetStages[];
  /** A record that is older than the one before it counts as arrived with that one. */
  see(record: StoredRecord): Promise<void> | undefined;
  /** Judges up to `toMs`, and takes nothing more. */
  finish(toMs: number): Promise<void>;
}

const MAX_CHUNK = 2_000;

function createRun(options: RunOptions): Run {
  const { measures, parse, transforms, fromMs, learnedMs, tickMs } = options;
  const ruleSets = options.ruleSets.map((rules) => rules.map((rule) => learningUntil(rule, learnedMs - fromMs)));
  let read = 0;
  // Records of all partitions come in one order, so there is one reader, which is never behind.
  const positions = (): SourcePosition[] => [
    { partition: 0, partitions: 1, position: read, end: read, caughtUp: true },
  ];
  const stages = createStages(
    {
      measures,
      ruleSets,
      parse,
      transforms,
      fromMs,
      initial: new Map(),
      ...(options.masker && { masker: options.masker }),
    },
    positions,
  );
  const { clock, counter } = stages;
  const partitions = new Map<number, { offset: number; records: RawRecord[]; bytes: number }>();
  let held = 0;
  let bucket = 0;
  let newestMs = fromMs;
  let nextTick = tickAfter(fromMs, tickMs);

  async function flush(): Promise<void> {
    if (held === 0) return;
    held = 0;
    for (const [partition, waiting] of partitions) {
      const { records, bytes } = waiting;
      if (records.length === 0) continue;
      waiting.records = [];
      waiting.bytes = 0;
      await counter.accept({ origin: { kind: 'kafka', topic: 'records', partition }, records, bytes, done() {} });
    }
  }

  async function tick(): Promise<void> {
    await flush();
    clock.set(nextTick);
    await counter.publish();
    stages.judge(nextTick);
    options.onTick?.(nextTick, stages);
    nextTick += tickMs;
  }

  async function advance(toMs: number): Promise<void> {
    while (nextTick < toMs) await tick();
    if (held >= MAX_CHUNK || Math.floor(toMs / BUCKET_MS) !== bucket) await flush();
    bucket = Math.floor(toMs / BUCKET_MS);
  }

  function take(record: StoredRecord, arrivalMs: number): void {
    const { value, eventId, documentId, mark, clockErrorMs } = record;
    let waiting = partitions.get(record.partition);
    if (waiting === undefined) {
      waiting = { offset: 0, records: [], bytes: 0 };
      partitions.set(record.partition, waiting);
    }
    waiting.records.push({
      value,
      offset: waiting.offset,
      timeMs: arrivalMs,
      eventId,
      // What is sampled is decided by it; the offset here is another one.
      ...(documentId === undefined ? {} : { documentId }),
      ...(mark === undefined ? {} : { mark }),
      ...(clockErrorMs === undefined ? {} : { clockErrorMs }),
    });
    waiting.offset += 1;
    waiting.bytes += value?.length ?? 0;
    held += 1;
    read += 1;
  }

  return {
    ruleSets: stages.ruleSets,
    see(record) {
      const arrivalMs = Math.max(newestMs, record.arrivalMs);
      newestMs = arrivalMs;
      // No promise when there is nothing to wait for, because this runs for every record.
      if (arrivalMs <= nextTick && held < MAX_CHUNK && Math.floor(arrivalMs / BUCKET_MS) === bucket) {
        take(record, arrivalMs);
        return undefined;
      }
      return advance(arrivalMs).then(() => take(record, arrivalMs));
    },
    async finish(toMs) {
      while (nextTick <= toMs) await tick();
      await flush();
      await counter.drain(0);
    },
  };
}

/** Just before a bucket begins, when windows are as full as they get: at full seconds the newest bucket would be empty. */
function tickAfter(fromMs: number, tickMs: number): number {
  return Math.floor(fromMs / tickMs) * tickMs + tickMs - 1;
}

function learningUntil(rule: Rule, learningMs: number): Rule {
  return rule.kind === 'first-seen' ? { ...rule, learningMs } : rule;
}

// ---- the events of a replay ----

/** Takes events in any order as long as their arrivals are less than two hours apart, which bounds the memory. */
interface ShadowAlerts {
  /** Records that were counted when they first arrived (`redriven`, `replayed`) are not counted, as in the live pipeline. */
  see(event: TaggedEvent, record: Pick<RawRecord, 'eventId' | 'mark'>, arrivalMs: number): void;
  /** Evaluates what is left, and AFTER_MS more in which nothing arrives, so that alerts that are over end. */
  finish(): Timeline;
}

/** Two hours. */
const MAX_BUCKETS = 720;
const AFTER_MS = 120_000;

export function createShadowAlerts(rules: Rules, measures: Measures, masker: Masker = createMasker()): ShadowAlerts {
  const collected = collectedOf(measures);
  const collect = compileCollect(collected);
  /** Start of a bucket -> what arrived in it; evaluated buckets are removed. */
  const buckets = new Map<number, ArrivalBucket>();
  let ruleSet: ReturnType<typeof createRuleSet> | undefined;
  let firstMs = 0;
  /** Start of the next bucket to evaluate. */
  let nextMs = Number.NEGATIVE_INFINITY;

  /** Evaluates up to and including the bucket that starts at `lastMs`. */
  function evaluateTo(lastMs: number): void {
    if (ruleSet === undefined) {
      firstMs = Math.min(...buckets.keys());
      nextMs = firstMs;
      ruleSet = createRuleSet(rules, { measures, fromMs: firstMs, initial: new Map() }, masker);
    }
    for (; nextMs <= lastMs; nextMs += BUCKET_MS) {
      // Just before the next one begins, as in a backtest.
      const atMs = nextMs + BUCKET_MS - 1;
      const bucket = buckets.get(nextMs);
      buckets.delete(nextMs);
      if (bucket !== undefined) {
        const totals = JSON.parse(bucket.toJson()) as BucketTotals;
        ruleSet.evaluator.counts({ kind: 'totals', totals }, atMs);
      }
      const progress = { lane: '0', lanes: 1, position: 0, end: 0, arrivalMs: atMs, caughtUp: true };
      ruleSet.evaluator.counts({ kind: 'progress', progress }, atMs);
      ruleSet.judge(atMs);
    }
  }

  function bucketAt(arrivalMs: number): ArrivalBucket {
    const startMs = Math.max(nextMs, Math.floor(arrivalMs / BUCKET_MS) * BUCKET_MS);
    let bucket = buckets.get(startMs);
    if (bucket === undefined) {
      if (buckets.size >= MAX_BUCKETS) evaluateTo(Math.min(...buckets.keys()));
      bucket = new ArrivalBucket('0', startMs, collected);
      buckets.set(startMs, bucket);
    }
    return bucket;
  }

  return {
    see(event, record, arrivalMs) {
      if (record.mark === 'redriven' || record.mark === 'replayed') return;
      const bucket = bucketAt(arrivalMs);
      bucket.records += 1;
      bucket.upToOffset += 1;
      collect(event, record, Math.max(arrivalMs, bucket.arrivalMs), bucket);
    },
    finish() {
      if (buckets.size === 0 && ruleSet === undefined) {
        return timelineOf({ alerts: [], messages: [] }, rules, { fromMs: 0, toMs: 0 });
      }
      const lastMs = Math.max(nextMs - BUCKET_MS, ...buckets.keys()) + AFTER_MS;
      evaluateTo(Math.floor(lastMs / BUCKET_MS) * BUCKET_MS);
      return timelineOf(ruleSet!, rules, { fromMs: firstMs, toMs: nextMs });
    },
  };
}

// ---- the timeline: alerts, messages, incidents and the number of pages, as plain data with ISO times ----
// Only what falls into the range is included.

export interface TimelineAlert {
  readonly rule: string;
  readonly title: string;
  readonly priority: Priority;
  readonly group: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly fired: string;
  /** Absent: still firing at the end. */
  readonly resolved?: string;
  /** It fired before the range began. */
  readonly before?: true;
  /** Nobody would have been told: inhibited by another alert. */
  readonly muted?: true;
  readonly message: string;
}

interface TimelineMessage {
  readonly at: string;
  readonly action: NotifyAction;
  readonly reason: NotifyReason;
  readonly priority: Priority;
  readonly title: string;
  readonly message: string;
  readonly channels: readonly ChannelName[];
}

/** Alerts of one group that were one incident: from its first message on. */
interface TimelineIncident {
  readonly group: string;
  readonly first: string;
  /** Absent: not over at the end. */
  readonly over?: string;
  /** The highest it had. */
  readonly priority: Priority;
  /** Time of the first message of each priority. */
  readonly paged: Readonly<Partial<Record<Priority, string>>>;
  /** That of the first message. */
  readonly title: string;
  readonly pages: number;
}

interface Pages {
  /** Messages that call somebody, which are the triggers that go to a channel. */
  readonly total: number;
  /** UTC day -> pages. */
  readonly perDay: Readonly<Record<string, number>>;
  readonly perPriority: Readonly<Partial<Record<Priority, number>>>;
  readonly perChannel: Readonly<Partial<Record<ChannelName, number>>>;
}

export interface Timeline {
  readonly alerts: readonly TimelineAlert[];
  readonly messages: readonly TimelineMessage[];
  readonly incidents: readonly TimelineIncident[];
  readonly pages: Pages;
}

export function timelineOf(
  { alerts, messages }: Simulated,
  rules: Rules,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
): Timeline {
  const known = new Map(rules.map((rule) => [rule.id, rule]));
  const told = messages.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs);
  return {
    alerts: alerts
      .filter(({ firedMs, resolvedMs = Number.POSITIVE_INFINITY }) => firedMs <= toMs && resolvedMs >= fromMs)
      .map(describe),
    messages: told.map(say),
    incidents: incidentsOf(told, (ruleId) => known.get(ruleId)?.group ?? ''),
    pages: countPages(told),
  };

  function describe({ ruleId, labels, firedMs, resolvedMs, message, muted }: SimulatedAlert): TimelineAlert {
    const { title = ruleId, priority = 'P4', group = '' } = known.get(ruleId) ?? {};
    return {
      rule: ruleId,
      title,
      priority,
      group,
      labels,
      fired: iso(firedMs),
      ...(resolvedMs === undefined ? {} : { resolved: iso(resolvedMs) }),
      ...(firedMs < fromMs ? { before: true } : {}),
      ...(muted ? { muted } : {}),
      message,
    };
  }
}

function say({ atMs, channels, notification }: SimulatedMessage): TimelineMessage {
  const { action, reason, priority, title, message } = notification;
  return { at: iso(atMs), action, reason, priority, title, message, channels };
}

function incidentsOf(messages: readonly SimulatedMessage[], groupOf: (ruleId: string) => string): TimelineIncident[] {
  const incidents = new Map<string, { -readonly [K in keyof TimelineIncident]: TimelineIncident[K] }>();
  for (const { atMs, notification } of messages) {
    const { incidentId, action, priority, title, alerts } = notification;
    let incident = incidents.get(incidentId);
    if (action === 'resolve') {
      if (incident !== undefined) incident.over = iso(atMs);
      continue;
    }
    if (action !== 'trigger') continue;
    if (incident === undefined) {
      const group = groupOf(alerts[0]?.ruleId ?? '');
      incident = { group, first: iso(atMs), priority, paged: {}, title, pages: 0 };
      incidents.set(incidentId, incident);
    }
    // Fired again within its cooldown.
    delete incident.over;
    incident.pages += 1;
    if (priority < incident.priority) incident.priority = priority;
    if (incident.paged[priority] === undefined) incident.paged = { ...incident.paged, [priority]: iso(atMs) };
  }
  return [...incidents.values()];
}

function countPages(messages: readonly SimulatedMessage[]): Pages {
  const perDay: Record<string, number> = {};
  const perPriority: Partial<Record<Priority, number>> = {};
  const perChannel: Partial<Record<ChannelName, number>> = {};
  let total = 0;
  for (const { atMs, channels, notification } of messages) {
    const { action, priority } = notification;
    if (action !== 'trigger' || channels.length === 0) continue;
    total += 1;
    const day = iso(atMs).slice(0, 10);
    perDay[day] = (perDay[day] ?? 0) + 1;
    perPriority[priority] = (perPriority[priority] ?? 0) + 1;
    for (const channel of channels) perChannel[channel] = (perChannel[channel] ?? 0) + 1;
  }
  return { total, perDay, perPriority: sorted(perPriority), perChannel: sorted(perChannel) };
}

function sorted<T extends object>(counts: T): T {
  return Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1))) as T;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

// ---- two timelines compared ----
// Every alert and incident of both is in exactly one place; those that overlap belong together: alerts of one rule and label set,
// incidents of one group.

interface MovedAlert {
  readonly rule: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly fired: string;
  readonly comparedFired: string;
  /** Positive: fired earlier than in the compared rule set. */
  readonly earlierSeconds: number;
}

interface MovedIncident {
  readonly group: string;
  readonly title: string;
  readonly comparedTitle: string;
  readonly first: string;
  readonly comparedFirst: string;
  /** Positive: the first page comes earlier than in the compared rule set. */
  readonly earlierSeconds: number;
  readonly priority: string;
  readonly comparedPriority: string;
  /** The same for the first page of each priority that both have. */
  readonly earlierByPriority: Readonly<Record<string, number>>;
}

export interface Difference {
  readonly alerts: {
    readonly only: readonly TimelineAlert[];
    readonly onlyCompared: readonly TimelineAlert[];
    readonly moved: readonly MovedAlert[];
    /** Fired at the same moment in both. */
    readonly same: number;
  };
  readonly incidents: {
    readonly only: readonly TimelineIncident[];
    readonly onlyCompared: readonly TimelineIncident[];
    readonly moved: readonly MovedIncident[];
    readonly same: number;
  };
  /** More (positive) or fewer pages than in the compared rule set. */
  readonly pages: { readonly total: number; readonly perDay: Pages['perDay']; readonly perPriority: Pages['perDay'] };
}

/** Two of a kind that are no further apart than this are the same one, seen earlier or later. */
const NEAR_MS = 10 * 60_000;

export function difference(one: Timeline, other: Timeline): Difference {
  const alerts = pair(one.alerts, other.alerts, alertKey, ({ fired, resolved }) => [fired, resolved]);
  const incidents = pair(
    one.incidents,
    other.incidents,
    ({ group }) => group,
    ({ first, over }) => [first, over],
  );
  return {
    alerts: {
      only: alerts.only,
      onlyCompared: alerts.onlyOther,
      moved: alerts.pairs
        .filter(([a, b]) => a.fired !== b.fired)
        .map(([a, b]) => ({
          rule: a.rule,
          labels: a.labels,
          fired: a.fired,
          comparedFired: b.fired,
          earlierSeconds: seconds(a.fired, b.fired),
        })),
      same: alerts.pairs.filter(([a, b]) => a.fired === b.fired).length,
    },
    incidents: {
      only: incidents.only,
      onlyCompared: incidents.onlyOther,
      moved: incidents.pairs
        .filter(([a, b]) => !isSame(a, b))
        .map(([a, b]) => ({
          group: a.group,
          title: a.title,
          comparedTitle: b.title,
          first: a.first,
          comparedFirst: b.first,
          earlierSeconds: seconds(a.first, b.first),
          priority: a.priority,
          comparedPriority: b.priority,
          earlierByPriority: byPriority(a, b),
        })),
      same: incidents.pairs.filter(([a, b]) => isSame(a, b)).length,
    },
    pages: {
      total: one.pages.total - other.pages.total,
      perDay: minus(one.pages.perDay, other.pages.perDay),
      perPriority: minus(one.pages.perPriority, other.pages.perPriority),
    },
  };
}

function isSame(one: TimelineIncident, other: TimelineIncident): boolean {
  return PRIORITIES.every((priority) => one.paged[priority] === other.paged[priority]);
}

function byPriority(one: TimelineIncident, other: TimelineIncident): Record<string, number> {
  const found: Record<string, number> = {};
  for (const priority of PRIORITIES) {
    const [at, otherAt] = [one.paged[priority], other.paged[priority]];
    if (at !== undefined && otherAt !== undefined) found[priority] = seconds(at, otherAt);
  }
  return found;
}

function alertKey({ rule, labels }: TimelineAlert): string {
  return JSON.stringify([rule, Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** Pairs each item with the first of the other side that it overlaps or nearly overlaps, in order of time. */
function pair<T>(
  one: readonly T[],
  other: readonly T[],
  keyOf: (item: T) => string,
  spanOf: (item: T) => readonly [string, string | undefined],
): { only: T[]; onlyOther: T[]; pairs: [T, T][] } {
  const rest = [...other];
  const only: T[] = [];
  const pairs: [T, T][] = [];
  for (const item of one) {
    const at = rest.findIndex((candidate) => keyOf(candidate) === keyOf(item) && meet(spanOf(item), spanOf(candidate)));
    if (at < 0) only.push(item);
    else pairs.push([item, rest.splice(at, 1)[0]!]);
  }
  return { only, onlyOther: rest, pairs };
}

function meet(one: readonly [string, string | undefined], other: readonly [string, string | undefined]): boolean {
  const [from, to] = span(one);
  const [otherFrom, otherTo] = span(other);
  return from <= otherTo + NEAR_MS && otherFrom <= to + NEAR_MS;
}

function span([from, to]: readonly [string, string | undefined]): [number, number] {
  return [Date.parse(from), to === undefined ? Number.POSITIVE_INFINITY : Date.parse(to)];
}

function seconds(one: string, other: string): number {
  return (Date.parse(other) - Date.parse(one)) / 1_000;
}

function minus(
  one: Readonly<Record<string, number>>,
  other: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])].sort();
  return Object.fromEntries(keys.map((key) => [key, (one[key] ?? 0) - (other[key] ?? 0)]));
}
