// Two timelines over the same records, compared. In: what two rule sets said. Out: alerts and incidents that only one has, and
// what the other one has earlier or later. Guarantee: every alert and incident of both stands in exactly one place; what belongs
// together is what overlaps: alerts of one rule and label set, incidents of one group.
import { PRIORITIES } from '../rules/observation.ts';
import type { Pages, Timeline, TimelineAlert, TimelineIncident } from './timeline.ts';

export interface MovedAlert {
  readonly rule: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly fired: string;
  readonly comparedFired: string;
  /** Positive: fired earlier than in the compared rule set. */
  readonly earlierSeconds: number;
}

export interface MovedIncident {
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

/** Two of one kind that follow each other this closely are the same one, seen earlier or later. */
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

/** Each with the first of the other side that it overlaps or nearly does, in order of time. */
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
