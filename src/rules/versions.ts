// Which version of each (lane, arrival bucket) was counted. In: lane, bucket and how far its totals reach. Out: whether it is
// news, and what the version before had added. Guarantee: bounded; a version is never counted twice, an older one never after
// a newer one.

/**
 * `applied`: counted. `known`: this or a later version was counted already. `too-old`: a later version of a bucket that is
 * long closed: it cannot be corrected any more.
 */
export type Applied = 'applied' | 'known' | 'too-old';

/**
 * How long what a version added is held. A new version of a bucket comes only while it is the newest of its lane, or when a
 * new owner reads it again: that is at most one bucket back, so this is generous.
 */
const CORRECTABLE_MS = 10 * 60_000;
/** How long it is known that a bucket was counted: longer than a counts topic is read back. */
const KNOWN_MS = 25 * 3_600_000;
/** A lane of which nothing came for this long is gone. */
const LANE_MS = 25 * 3_600_000;

export interface Versions<T> {
  check(lane: string, arrivalMs: number, upToOffset: number): 'new' | Exclude<Applied, 'applied'>;
  /** Remembers the version; returns what the one before had added. */
  replace(lane: string, arrivalMs: number, upToOffset: number, added: T): T | undefined;
}

interface Lane<T> {
  newestMs: number;
  readonly upTo: Map<number, number>;
  readonly added: Map<number, T>;
}

export function createVersions<T>(): Versions<T> {
  const lanes = new Map<string, Lane<T>>();
  let newestMs = 0;

  function laneOf(name: string): Lane<T> {
    let lane = lanes.get(name);
    if (lane === undefined) {
      lane = { newestMs: 0, upTo: new Map(), added: new Map() };
      lanes.set(name, lane);
      for (const [other, { newestMs: last }] of lanes) {
        if (other !== name && last < newestMs - LANE_MS) lanes.delete(other);
      }
    }
    return lane;
  }

  return {
    check(name, arrivalMs, upToOffset) {
      const lane = laneOf(name);
      if (arrivalMs < lane.newestMs - KNOWN_MS) return 'too-old';
      const known = lane.upTo.get(arrivalMs);
      if (known === undefined) return 'new';
      if (upToOffset <= known) return 'known';
      return lane.added.has(arrivalMs) ? 'new' : 'too-old';
    },
    replace(name, arrivalMs, upToOffset, added) {
      const lane = laneOf(name);
      const before = lane.added.get(arrivalMs);
      lane.upTo.set(arrivalMs, upToOffset);
      lane.added.set(arrivalMs, added);
      if (arrivalMs > lane.newestMs) {
        lane.newestMs = arrivalMs;
        newestMs = Math.max(newestMs, arrivalMs);
        prune(lane.added, arrivalMs - CORRECTABLE_MS);
        prune(lane.upTo, arrivalMs - KNOWN_MS);
      }
      return before;
    },
  };
}

/** Buckets come nearly in order, so the old ones stand in front; one out of order goes a little later. */
function prune(map: Map<number, unknown>, beforeMs: number): void {
  for (const key of map.keys()) {
    if (key >= beforeMs) break;
    map.delete(key);
  }
}
