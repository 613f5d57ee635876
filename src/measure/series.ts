// The label sets of one measure within one arrival bucket. In: label values. Out: small numbers, 0 for the first set.
// Guarantee: the first `maxSeries` label sets in the order of the log are kept, everything after them is one set of OTHER:
// a pure function of the log, in bounded memory.
import { LABEL_SEPARATOR, OTHER, RESERVED } from './totals.ts';

/** Longer label values are cut: a label is for telling apart, not for reading a document back. */
const MAX_LABEL = 256;

/** Label values one below the other; the last level holds numbers. Looking up needs no joined text. */
type Tree = Map<string, Tree | number>;

export class SeriesTable {
  /** Joined label values by number, as JSON texts. */
  readonly keys: string[] = [];
  private readonly width: number;
  private readonly maxSeries: number;
  private readonly tree: Tree = new Map();
  private readonly numbers = new Map<string, number>();
  private kept = 0;
  private otherNumber = -1;

  constructor(width: number, maxSeries: number) {
    this.width = width;
    this.maxSeries = maxSeries;
  }

  /** The number of the label set that stands in `slots` at the places `by`. */
  find(slots: readonly unknown[], by: readonly number[]): number {
    const { width } = this;
    if (width === 0) return this.keys.length > 0 ? 0 : this.keep('');
    let node = this.tree;
    for (let i = 0; i < width - 1; i++) {
      const next = node.get(toLabel(slots[by[i]!]));
      if (next === undefined) return this.add(slots, by);
      node = next as Tree;
    }
    const found = node.get(toLabel(slots[by[width - 1]!]));
    return found === undefined ? this.add(slots, by) : (found as number);
  }

  /** The number of the set that stands for all others. */
  other(): number {
    if (this.otherNumber < 0) this.otherNumber = this.keep(new Array(this.width).fill(OTHER).join(LABEL_SEPARATOR));
    return this.otherNumber;
  }

  private add(slots: readonly unknown[], by: readonly number[]): number {
    if (this.kept >= this.maxSeries) return this.other();
    const labels = by.map((slot) => toLabel(slots[slot]));
    // A separator inside a value would make two labels of it; and nothing may be called OTHER.
    const key = labels.map((text) => text.replaceAll(RESERVED, ' ')).join(LABEL_SEPARATOR);
    const number = this.numbers.get(key) ?? this.keep(key);
    let node = this.tree;
    for (const text of labels.slice(0, -1)) {
      let next = node.get(text) as Tree | undefined;
      if (next === undefined) {
        next = new Map();
        node.set(text, next);
      }
      node = next;
    }
    node.set(labels[labels.length - 1]!, number);
    // Counted by places in the tree, so that its memory is bounded too.
    this.kept += 1;
    return number;
  }

  private keep(key: string): number {
    const known = this.numbers.get(key);
    if (known !== undefined) return known;
    this.numbers.set(key, this.keys.length);
    return this.keys.push(JSON.stringify(key)) - 1;
  }
}

/** A value as a label; empty for what is missing, a list or an object. */
function toLabel(value: unknown): string {
  if (typeof value === 'string') return value.length <= MAX_LABEL ? value : cut(value);
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}

/** A copy: a slice would keep the whole text alive. */
function cut(text: string): string {
  return Buffer.from(text.slice(0, MAX_LABEL)).toString();
}
