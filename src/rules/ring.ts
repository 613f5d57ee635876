// Numbers per time slot and series: a ring of typed rows. In: additions to (slot, series). Out: per-series sums over a range.
// Guarantee: bounded by slots × series; a slot that fell out of the ring is forgotten as a whole; sums are exact.
//
// Rows lie slot by slot, not series by series: a window over a thousand series is a few dozen straight passes, and the sums
// of one window are kept until something changes, so that rules over the same window share them.

export interface Ring {
  readonly slotMs: number;
  /** False when the slot is older than the ring reaches; nothing was added then. */
  add(slotStartMs: number, index: number, field: number, delta: number): boolean;
  /** Replaces instead of adding; otherwise as `add`. */
  set(slotStartMs: number, index: number, field: number, value: number): boolean;
  /** Sums of the slots that start in [fromMs, toMs): `width` numbers per series. Shared: read only. */
  sum(fromMs: number, toMs: number): Float64Array;
  /** The numbers of one slot, undefined when it has none. Shared: read only. */
  row(slotStartMs: number): Float64Array | undefined;
  /** Start of the oldest slot the ring can hold beside its newest; undefined while it is empty. */
  oldestMs(): number | undefined;
}

export interface RingOptions {
  readonly slotMs: number;
  readonly slots: number;
  /** Numbers per series. */
  readonly width: number;
}

const SMALLEST_ROW = 16;

export function createRing(options: RingOptions): Ring {
  const { slotMs, slots, width } = options;
  const rows: (Float64Array | undefined)[] = new Array(slots).fill(undefined);
  const numbers = new Float64Array(slots).fill(-1);
  const sums = new Map<string, Float64Array>();
  let newest = -1;

  function rowAt(slot: number): Float64Array | undefined {
    const at = slot % slots;
    return slot > newest - slots && numbers[at] === slot ? rows[at] : undefined;
  }

  /** The slot's row, long enough for the position; undefined when the slot is too old. */
  function writable(slotStartMs: number, position: number): Float64Array | undefined {
    const slot = Math.floor(slotStartMs / slotMs);
    if (slot < 0 || slot <= newest - slots) return undefined;
    if (slot > newest) newest = slot;
    if (sums.size > 0) sums.clear();
    const at = slot % slots;
    let row = rows[at];
    if (numbers[at] !== slot) {
      numbers[at] = slot;
      row?.fill(0);
    }
    if (row === undefined || position >= row.length) {
      const grown = new Float64Array(rowLength(position, row?.length ?? SMALLEST_ROW));
      if (row !== undefined) grown.set(row);
      rows[at] = grown;
      row = grown;
    }
    return row;
  }

  return {
    slotMs,
    add(slotStartMs, index, field, delta) {
      const position = index * width + field;
      const row = writable(slotStartMs, position);
      if (row === undefined) return false;
      row[position]! += delta;
      return true;
    },
    set(slotStartMs, index, field, value) {
      const position = index * width + field;
      const row = writable(slotStartMs, position);
      if (row === undefined) return false;
      row[position] = value;
      return true;
    },
    sum(fromMs, toMs) {
      const from = Math.max(Math.ceil(fromMs / slotMs), newest - slots + 1, 0);
      const to = Math.min(Math.ceil(toMs / slotMs), newest + 1);
      const key = `${from}-${to}`;
      const known = sums.get(key);
      if (known !== undefined) return known;
      let longest = 0;
      for (let slot = from; slot < to; slot++) longest = Math.max(longest, rowAt(slot)?.length ?? 0);
      const result = new Float64Array(longest);
      for (let slot = from; slot < to; slot++) {
        const row = rowAt(slot);
        if (row === undefined) continue;
        for (let i = 0; i < row.length; i++) result[i]! += row[i]!;
      }
      sums.set(key, result);
      return result;
    },
    row: (slotStartMs) => rowAt(Math.floor(slotStartMs / slotMs)),
    oldestMs: () => (newest < 0 ? undefined : Math.max(0, newest - slots + 1) * slotMs),
  };
}

function rowLength(position: number, atLeast: number): number {
  let length = atLeast;
  while (length <= position) length *= 2;
  return length;
}
