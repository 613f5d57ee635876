// What was seen before: keys with the time they were first seen. In: what first-seen rules find. Out: whether it is news, and what
// somebody has to make durable. Guarantee: bounded; when full, nothing more is learned and nothing more is reported, and it says so.

export interface KnownEntry {
  readonly key: string;
  readonly firstMs: number;
  /** Learned without a word. */
  readonly quiet: boolean;
}

export interface KnownSet {
  /** When learning began, ms. */
  readonly sinceMs: number;
  has(key: string): KnownEntry | undefined;
  /** False when the set is full: the key stays unknown. */
  learn(entry: KnownEntry): boolean;
}

export interface KeptKnownSet extends KnownSet {
  /** Learned since the last call. */
  take(): KnownEntry[];
  /** Keys held, and the most that are: at that number what is new is no longer told from what is known. */
  readonly size: number;
  readonly maxKeys: number;
}

const MAX_KEYS = 20_000;

/** @param initial what was kept; `sinceMs` too must be kept, else every start learns anew */
export function createKnownSet(sinceMs: number, initial: Iterable<KnownEntry> = [], maxKeys = MAX_KEYS): KeptKnownSet {
  const entries = new Map<string, KnownEntry>();
  for (const entry of initial) if (entries.size < maxKeys) entries.set(entry.key, entry);
  let learned: KnownEntry[] = [];

  return {
    sinceMs,
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
