// What rules remember for longer than windows reach: what was seen before, and who fell silent. In: what first-seen and absence rules find.
// Out: whether it is news, since when each label set is silent, and what the caller has to make durable. Guarantee: bounded; when the set
// of known things is full, nothing more is learned or reported, and its size shows it; a rule that is added later learns first, as all do
// after the first start; what is known for a rule is dropped when it watches something else.
import { isOver } from '../core/clock.ts';
import type { Labels } from '../windows/series.ts';
import type { AbsenceRule } from './rule-types.ts';

export interface KnownEntry {
  readonly key: string;
  readonly firstMs: number;
  /** Learned silently. */
  readonly quiet: boolean;
}

export interface KnownSet {
  /**
   * Since when what a rule watches is learned, ms: since the first question about it.
   * @param what the same text for the same label sets: see `learnedBy` (kinds.ts)
   * @param evalMs evaluation time of the question; 0 when nothing was evaluated yet
   */
  since(what: string, evalMs: number): number;
  has(key: string): KnownEntry | undefined;
  /** False when the set is full: the key stays unknown. */
  learn(entry: KnownEntry): boolean;
}

interface KeptKnownSet extends KnownSet {
  /** Learned since the last call. */
  take(): KnownEntry[];
  /** Since when each thing is learned; undefined when nothing has changed since the last call. */
  takeSince(): Readonly<Record<string, number>> | undefined;
  /** From now on only these are watched: another one that comes back learns anew. */
  watchOnly(whats: Iterable<string>): void;
  /** Keys held, and how many there may be: beyond that, what is new can no longer be told from what is known. */
  readonly size: number;
  readonly maxKeys: number;
}

const MAX_KEYS = 20_000;

/**
 * @param sinceMs when learning began for the first time
 * @param initial what was kept; `sinceMs` and `watched` must be kept too, else every start learns anew
 * @param watched since when each thing is learned; without it, all are learned since `sinceMs`, as in a simulation
 */
export function createKnownSet(
  sinceMs: number,
  initial: Iterable<KnownEntry> = [],
  maxKeys = MAX_KEYS,
  watched?: ReadonlyMap<string, number>,
): KeptKnownSet {
  const since = watched === undefined ? undefined : new Map(watched);
  let sinceChanged = false;
  const entries = new Map<string, KnownEntry>();
  for (const entry of initial) if (entries.size < maxKeys) entries.set(entry.key, entry);
  let learned: KnownEntry[] = [];

  return {
    since(what, evalMs) {
      if (since === undefined) return sinceMs;
      const present = since.get(what);
      if (present !== undefined || evalMs === 0) return present ?? sinceMs;
      const beganMs = Math.max(sinceMs, evalMs);
      since.set(what, beganMs);
      sinceChanged = true;
      return beganMs;
    },
    takeSince() {
      if (!sinceChanged || since === undefined) return undefined;
      sinceChanged = false;
      return Object.fromEntries(since);
    },
    watchOnly(whats) {
      const kept = new Set(whats);
      for (const what of [...(since?.keys() ?? [])]) {
        if (kept.has(what)) continue;
        since?.delete(what);
        // Else a rule that is taken out and put back after a restart would take for new what appeared meanwhile.
        sinceChanged = true;
      }
    },
    maxKeys,
    get size() {
      return entries.size;
    },
    has: (key) => entries.get(key),
    learn(entry) {
      if (entries.size >= maxKeys) return false;
      entries.set(entry.key, entry);
      learned.push(entry);
      return true;
    },
    take() {
      const taken = learned;
      learned = [];
      return taken;
    },
  };
}

// ---- who fell silent: label sets of which nothing has arrived for a while, and since when a rule without labels watches ----

/** `quiet/<rule and labels>`: nothing has arrived since `lastMs`. */
export interface QuietEntry {
  readonly ruleId: string;
  /** See `watchedBy`. */
  readonly what: string;
  readonly key: string;
  readonly labels: Labels;
  readonly lastMs: number;
}

/** `watched/<rule>`, for rules without labels. */
export interface WatchedEntry {
  readonly ruleId: string;
  readonly what: string;
  /** Evaluation time at which the rule was first seen. */
  readonly sinceMs: number;
  /** Something has arrived since. */
  readonly heard?: true;
}

/** `skipped/times`: the brokers' clock was set forward over these times, [from, to) in ms, oldest first. They are no silence. */
export interface SkippedEntry {
  readonly times: readonly (readonly [number, number])[];
}

interface QuietChange {
  readonly id: string;
  readonly entry: QuietEntry | WatchedEntry | SkippedEntry | null;
}

export interface QuietSet {
  /**
   * Something of the label set arrived at `lastMs` or a little before.
   * @returns the newest arrival known
   */
  hear(rule: AbsenceRule, key: string, labels: Labels, lastMs: number, evalMs: number): number;
  /** Label sets of the rule that are remembered. */
  of(rule: AbsenceRule): QuietEntry[];
  forget(entry: QuietEntry): void;
  /** The brokers' clock was set forward. */
  skip(fromMs: number, toMs: number): void;
  /** It was set back to `nowMs`: times that were skipped after that are no longer skipped. */
  begin(nowMs: number): void;
  /** How much of the time from `fromMs` to `toMs` was skipped, ms. */
  skippedMs(fromMs: number, toMs: number): number;
  /** Since when nothing was skipped, ms; 0 when nothing ever was. */
  unbrokenSinceMs(): number;
  /** For a rule without labels: since when it watches; since `evalMs` when it did not before. */
  watched(rule: AbsenceRule, evalMs: number): WatchedEntry;
}

interface KeptQuietSet extends QuietSet {
  /** Changed since the last call. */
  take(): QuietChange[];
}

export const QUIET = 'quiet/';
export const WATCHED = 'watched/';
export const SKIPPED = 'skipped/times';
/** A silence is noted after this time at the latest: well within the hour of counts that a take-over reads back. */
const NOTE_MS = 15 * 60_000;
const MAX_PER_RULE = 500;
const MAX_SKIPPED = 16;

/** Identifies what the rule listens to: the silence of something else is another one. */
export function watchedBy({ measure, where, labels }: Pick<AbsenceRule, 'measure' | 'where' | 'labels'>): string {
  return JSON.stringify([measure, where, labels]);
}

export function createQuietSet(
  quiet: Iterable<QuietEntry> = [],
  watched: Iterable<WatchedEntry> = [],
  skipped: SkippedEntry = { times: [] },
): KeptQuietSet {
  let { times } = skipped;
  const rules = new Map<string, Map<string, QuietEntry>>();
  const since = new Map<string, WatchedEntry>();
  const changed = new Map<string, QuietChange['entry']>();
  const texts = new WeakMap<AbsenceRule, string>();
  for (const entry of quiet) entriesOf(entry.ruleId).set(entry.key, entry);
  for (const entry of watched) since.set(entry.ruleId, entry);

  /** Cached, because every evaluation asks for every label set. */
  function whatOf(rule: AbsenceRule): string {
    let what = texts.get(rule);
    if (what === undefined) {
      what = watchedBy(rule);
      texts.set(rule, what);
    }
    return what;
  }

  function entriesOf(ruleId: string): Map<string, QuietEntry> {
    let entries = rules.get(ruleId);
    if (entries === undefined) {
      entries = new Map();
      rules.set(ruleId, entries);
    }
    return entries;
  }

  const idOf = ({ ruleId, key }: Pick<QuietEntry, 'ruleId' | 'key'>) => `${QUIET}${ruleId}/${key}`;

  function put(entry: QuietEntry): void {
    const entries = entriesOf(entry.ruleId);
    if (!entries.has(entry.key) && entries.size >= MAX_PER_RULE) {
      const oldest = [...entries.values()].reduce((one, other) => (other.lastMs < one.lastMs ? other : one));
      // What was dropped before is older than anything held, and so does not come back.
      if (oldest.lastMs >= entry.lastMs) return;
      forget(oldest);
    }
    entries.set(entry.key, entry);
    changed.set(idOf(entry), entry);
  }

  function forget(entry: QuietEntry): void {
    if (!entriesOf(entry.ruleId).delete(entry.key)) return;
    changed.set(idOf(entry), null);
  }

  function keepSkipped(next: SkippedEntry['times']): void {
    times = next;
    changed.set(SKIPPED, { times });
  }

  function skippedMs(fromMs: number, toMs: number): number {
    let sum = 0;
    for (const [from, to] of times) sum += Math.max(0, Math.min(to, toMs) - Math.max(from, fromMs));
    return sum;
  }

  function of(rule: AbsenceRule): QuietEntry[] {
    const what = whatOf(rule);
    const entries = [...entriesOf(rule.id).values()];
    for (const entry of entries) if (entry.what !== what) forget(entry);
    return entries.filter((entry) => entry.what === what);
  }

  function watch(rule: AbsenceRule, evalMs: number): WatchedEntry {
    const what = whatOf(rule);
    const known = since.get(rule.id);
    if (known?.what === what) return isOver(known.sinceMs, evalMs) ? keepWatched({ ...known, sinceMs: evalMs }) : known;
    return keepWatched({ ruleId: rule.id, what, sinceMs: evalMs });
  }

  function keepWatched(entry: WatchedEntry): WatchedEntry {
    since.set(entry.ruleId, entry);
    changed.set(`${WATCHED}${entry.ruleId}`, entry);
    return entry;
  }

  return {
    hear(rule, key, labels, lastMs, evalMs) {
      const what = whatOf(rule);
      if (rule.labels.length === 0) {
        const entry = watch(rule, evalMs);
        if (entry.heard === undefined) keepWatched({ ...entry, heard: true });
      }
      const found = entriesOf(rule.id).get(key);
      const known = found?.what === what && !isOver(found.lastMs, evalMs) ? found : undefined;
      const newestMs = Math.max(lastMs, known?.lastMs ?? lastMs);
      const silentMs = evalMs - newestMs - skippedMs(newestMs, evalMs);
      if (silentMs < Math.min(rule.bound.value * 1_000, NOTE_MS)) {
        if (found !== undefined) forget(found);
      } else if (known?.lastMs !== newestMs) put({ ruleId: rule.id, what, key, labels, lastMs: newestMs });
      return newestMs;
    },
    of,
    forget,
    watched: watch,
    skip(fromMs, toMs) {
      // Every counter reports the same step.
      const same = times.filter(([from, to]) => from <= toMs && to >= fromMs);
      const merged = [Math.min(fromMs, ...same.map(([from]) => from)), Math.max(toMs, ...same.map(([, to]) => to))];
      const others = times.filter((time) => !same.includes(time));
      keepSkipped([...others, merged as [number, number]].sort(([a], [b]) => a - b).slice(-MAX_SKIPPED));
    },
    begin(nowMs) {
      if (times.some(([, to]) => to > nowMs)) keepSkipped(times.filter(([, to]) => to <= nowMs));
    },
    skippedMs,
    unbrokenSinceMs: () => times.at(-1)?.[1] ?? 0,
    take() {
      const taken = [...changed].map(([id, entry]) => ({ id, entry }));
      changed.clear();
      return taken;
    },
  };
}
