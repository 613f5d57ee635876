// Which event ids a lane carried lately, to recognise records that the transport sent again. In: ids with their offsets.
// Out: seen before, new, or not known because that part of the log was read by somebody else.
// Guarantee: the answer depends on the log alone (two spans of offsets are remembered, cut at fixed offsets), never on when
// reading began; memory is bounded: at most 3 MB a lane.

/** Offsets that are forgotten together. What is asked for is found in the same span or in the one before it. */
export const SPAN = 65_536;

const FIRST_SLOTS = 1_024;
const LOW = 0x200_0000;

export interface RecentIds {
  /** Reading goes on at `offset`: not necessarily where it stopped. */
  resume(offset: number): void;
  add(eventId: string, offset: number): void;
  /** Was the id carried by an earlier record? `undefined`: ask again when `missing(offset)` has been added. */
  seenBefore(eventId: string, offset: number): boolean | undefined;
  /** Offsets [from, to) that must be known to answer for a record at `offset`. */
  missing(offset: number): { from: number; to: number };
  /** Everything from `offset` on has been added. */
  completed(offset: number): void;
}

export function createRecentIds(): RecentIds {
  let current = new Span(-1);
  let former = new Span(-1);
  /** Everything in [from, to) was added. */
  let from = 0;
  let to = -1;

  const spanOf = (offset: number): Span | undefined => {
    const number = Math.floor(offset / SPAN);
    if (number > current.number) {
      former = number === current.number + 1 ? current : new Span(number - 1);
      current = new Span(number);
    }
    return number === current.number ? current : number === former.number ? former : undefined;
  };
  const wantedFrom = (offset: number) => Math.max(0, (Math.floor(offset / SPAN) - 1) * SPAN);

  return {
    resume(offset) {
      const goesOn = to >= 0 && offset >= from && offset <= to;
      const back = offset < from || Math.floor(offset / SPAN) < current.number;
      if (goesOn && !back) return;
      // The spans before it are gone; in a topic that was created again the old ids mean nothing.
      if (back) {
        current = new Span(-1);
        former = new Span(-1);
      }
      from = offset;
      to = offset;
    },
    add(eventId, offset) {
      if (offset >= to) to = offset + 1;
      spanOf(offset)?.add(eventId, offset);
    },
    seenBefore(eventId, offset) {
      const span = spanOf(offset);
      for (const place of span === current ? [former, current] : [former]) {
        const at = place.offsetOf(eventId);
        if (at >= 0 && at < offset) return true;
      }
      return from <= wantedFrom(offset) ? false : undefined;
    },
    missing: (offset) => ({ from: wantedFrom(offset), to: from }),
    completed(offset) {
      from = Math.min(from, offset);
    },
  };
}

/** Ids of one span of offsets: an open-addressed table of numbers, which costs a fifth of a Map of strings. */
class Span {
  readonly number: number;
  private readonly start: number;
  private keys = new Float64Array(FIRST_SLOTS);
  private offsets = new Uint16Array(FIRST_SLOTS);
  private size = 0;

  constructor(number: number) {
    this.number = number;
    this.start = number * SPAN;
  }

  /** Of an id that is there twice the first offset stays. */
  add(eventId: string, offset: number): void {
    if (this.size * 2 >= this.keys.length) this.grow();
    this.insert(keyOf(eventId), offset - this.start);
  }

  offsetOf(eventId: string): number {
    const key = keyOf(eventId);
    const slot = this.slotOf(key);
    return this.keys[slot] === key ? this.offsets[slot]! + this.start : -1;
  }

  private insert(key: number, offset: number): void {
    const slot = this.slotOf(key);
    if (this.keys[slot] === key) {
      if (offset < this.offsets[slot]!) this.offsets[slot] = offset;
      return;
    }
    this.keys[slot] = key;
    this.offsets[slot] = offset;
    this.size += 1;
  }

  /** Where the key is, or where it belongs. */
  private slotOf(key: number): number {
    const mask = this.keys.length - 1;
    const high = Math.floor(key / LOW);
    let slot = (Math.imul(high, 0x9e3779b1) ^ Math.imul(key - high * LOW, 0x85ebca6b)) >>> 12;
    for (slot &= mask; ; slot = (slot + 1) & mask) {
      const found = this.keys[slot];
      if (found === key || found === 0) return slot;
    }
  }

  private grow(): void {
    const { keys, offsets } = this;
    this.keys = new Float64Array(keys.length * 2);
    this.offsets = new Uint16Array(keys.length * 2);
    this.size = 0;
    for (let i = 0; i < keys.length; i++) if (keys[i] !== 0) this.insert(keys[i]!, offsets[i]!);
  }
}

/**
 * 50 bits of the id: its last ten characters, which are random and count up within a millisecond, and part of its time.
 * Two ids of a span fall together once in some hundred thousand spans. Never 0.
 */
function keyOf(eventId: string): number {
  let high = 0;
  let low = 0;
  for (let i = 16; i < 21; i++) {
    high = (high << 5) | (valueOfCharacter(eventId, i) ^ valueOfCharacter(eventId, i - 11));
    low = (low << 5) | valueOfCharacter(eventId, i + 5);
  }
  return high * LOW + low + 1;
}

function valueOfCharacter(text: string, at: number): number {
  return VALUES[text.charCodeAt(at) & 127]!;
}

/** Crockford's base 32, as event-id.ts writes it. */
const VALUES = Uint8Array.from({ length: 128 }, (_, code) =>
  Math.max(0, '0123456789ABCDEFGHJKMNPQRSTVWXYZ'.indexOf(String.fromCharCode(code))),
);
