// What was seen before: keys with the time they were first seen, and since when each rule has looked. In: what first-seen rules find.
// Out: whether it is news, and what somebody has to make durable. Guarantee: bounded; when full, nothing more is learned and nothing
// more is reported, and it says so; a rule that comes later learns first, as all do after the first start.

export interface KnownEntry {
  readonly key: string;
  readonly firstMs: number;
  /** Learned without a word. */
  readonly quiet: boolean;
}

export interface KnownSet {
  /**
   * When learning began of what a rule watches, ms: at the first question about it.
   * @param what the same text for the same label sets: see `watchedBy`
   * @param evalMs evaluation time of the question; 0 when nothing was evaluated yet
   */
  since(what: string, evalMs: number): number;
  has(key: string): KnownEntry | undefined;
  /** False when the set is full: the key stays unknown. */
  learn(entry: KnownEntry): boolean;
}

export interface KeptKnownSet extends KnownSet {
  /** Learned since the last call. */
  take(): KnownEntry[];
  /** Since when each is learned, when that has changed since the last call. */
  takeSince(): Readonly<Record<string, number>> | undefined;
  /** From now on only these are watched: another one that comes back learns anew. */
  watchOnly(whats: Iterable<string>): void;
  /** Keys held, and the most that are: at that number what is new is no longer told from what is known. */
  readonly size: number;
  readonly maxKeys: number;
}

const MAX_KEYS = 20_000;

/**
 * @param sinceMs when learning began at all
 * @param initial what was kept; `sinceMs` and `watched` too must be kept, else every start learns anew
 * @param watched since when each is learned; without it all are since `sinceMs`, as in a simulation
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
      for (const what of since?.keys() ?? []) if (!kept.has(what)) since?.delete(what);
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
