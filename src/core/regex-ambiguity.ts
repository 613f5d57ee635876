// Can a regular expression take exponential time? In: its source, without flags. Out: why it may, or undefined.
// How: the expression becomes an automaton of its characters (Glushkov). It is exponential when some text leads from a
// place back to it in two ways: each repetition doubles the ways that a backtracking engine tries. Errs towards refusing.

type Ranges = readonly (readonly [from: number, to: number])[];
type Node =
  | { readonly kind: 'set'; readonly ranges: Ranges }
  | { readonly kind: 'list'; readonly items: readonly Node[] }
  | { readonly kind: 'choice'; readonly items: readonly Node[] }
  | { readonly kind: 'repeat'; readonly item: Node; readonly min: number; readonly max: number };

/** Places in an automaton; more than this cannot be examined in reasonable time. */
const MAX_PLACES = 300;
/** A repetition up to a higher number counts as one without end. */
const MAX_COPIES = 12;
const LAST = 0xffff;
const EMPTY: Node = { kind: 'list', items: [] };

/** @throws SyntaxError for a source that is not a regular expression. */
export function exponentialReason(source: string): string | undefined {
  new RegExp(source);
  const { whole, asides } = parse(source);
  for (const node of [whole, ...asides]) {
    const automaton = createAutomaton(node);
    if (automaton === undefined) return `it has more than ${MAX_PLACES} places when its repetitions are written out`;
    if (isAmbiguous(automaton)) return 'a repeated part of it can match the same text in more than one way';
  }
  return undefined;
}

// ---- the expression as a tree ----

/** The tree of the expression, and those of its lookarounds. */
function parse(source: string): { whole: Node; asides: Node[] } {
  const asides: Node[] = [];
  let at = 0;

  function choice(): Node {
    const items = [list()];
    while (source[at] === '|') {
      at += 1;
      items.push(list());
    }
    return items.length === 1 ? items[0]! : { kind: 'choice', items };
  }

  function list(): Node {
    const items: Node[] = [];
    while (at < source.length && source[at] !== '|' && source[at] !== ')') items.push(repeated(atom()));
    return { kind: 'list', items };
  }

  function repeated(item: Node): Node {
    const bounds = /^(?:[*+?]|\{(\d+)(,(\d*))?\})\??/.exec(source.slice(at, at + 24));
    if (bounds === null) return item;
    at += bounds[0].length;
    const [sign, from, comma, to] = [bounds[0][0], bounds[1], bounds[2], bounds[3]];
    if (sign === '*') return { kind: 'repeat', item, min: 0, max: Number.POSITIVE_INFINITY };
    if (sign === '+') return { kind: 'repeat', item, min: 1, max: Number.POSITIVE_INFINITY };
    if (sign === '?') return { kind: 'repeat', item, min: 0, max: 1 };
    const min = Number(from);
    return {
      kind: 'repeat',
      item,
      min,
      max: comma === undefined ? min : to === '' ? Number.POSITIVE_INFINITY : Number(to),
    };
  }

  function atom(): Node {
    const char = source[at]!;
    at += 1;
    if (char === '(') {
      const look = /^\?<?[=!]/.exec(source.slice(at, at + 3));
      if (look !== null) at += look[0].length;
      else {
        const lead = /^\?(?::|<[^>]*>)/.exec(source.slice(at, at + 80));
        if (lead !== null) at += lead[0].length;
      }
      const inner = choice();
      at += 1;
      if (look === null) return inner;
      asides.push(inner);
      return EMPTY;
    }
    if (char === '^' || char === '$') return EMPTY;
    if (char === '.')
      return {
        kind: 'set',
        ranges: without([
          [10, 10],
          [13, 13],
          [0x2028, 0x2029],
        ]),
      };
    if (char === '[') return { kind: 'set', ranges: set() };
    if (char !== '\\') return { kind: 'set', ranges: one(char.charCodeAt(0)) };
    if (source[at] === 'b' || source[at] === 'B') {
      at += 1;
      return EMPTY;
    }
    // A back reference may be anything.
    if (/^[1-9k]/.test(source.slice(at, at + 1))) {
      at += /^(?:\d{1,3}|k<[^>]*>|k)/.exec(source.slice(at))![0].length;
      return { kind: 'repeat', item: { kind: 'set', ranges: [[0, LAST]] }, min: 0, max: Number.POSITIVE_INFINITY };
    }
    return { kind: 'set', ranges: escaped() };
  }

  /** What follows a backslash. */
  function escaped(): Ranges {
    const char = source[at]!;
    at += 1;
    const named = NAMED[char.toLowerCase()];
    if (named !== undefined) return char === char.toLowerCase() ? named : without(named);
    const coded = /^(?:x([0-9a-f]{2})|u([0-9a-f]{4})|c([a-z]))/i.exec(source.slice(at - 1, at + 4));
    if (coded !== null) {
      at += coded[0].length - 1;
      return one(coded[3] !== undefined ? coded[3].charCodeAt(0) % 32 : Number.parseInt(coded[1] ?? coded[2]!, 16));
    }
    const control = { n: 10, r: 13, t: 9, v: 11, f: 12, '0': 0, b: 8 }[char];
    return one(control ?? char.charCodeAt(0));
  }

  function set(): Ranges {
    const negated = source[at] === '^';
    if (negated) at += 1;
    const ranges: (readonly [number, number])[] = [];
    while (source[at] !== ']') {
      const low = member();
      if (source[at] === '-' && source[at + 1] !== ']' && low.length === 1 && low[0]![0] === low[0]![1]) {
        at += 1;
        const high = member();
        ranges.push([low[0]![0], high.at(-1)![1]]);
      } else ranges.push(...low);
    }
    at += 1;
    return negated ? without(ranges) : ranges;
  }

  function member(): Ranges {
    if (source[at] === '\\') {
      at += 1;
      return escaped();
    }
    at += 1;
    return one(source.charCodeAt(at - 1));
  }

  return { whole: choice(), asides };
}

const one = (code: number): Ranges => [[code, code]];
const NAMED: Readonly<Record<string, Ranges>> = {
  d: [[48, 57]],
  w: [
    [48, 57],
    [65, 90],
    [95, 95],
    [97, 122],
  ],
  s: [
    [9, 13],
    [32, 32],
    [0xa0, 0xa0],
    [0x1680, 0x1680],
    [0x2000, 0x200a],
    [0x2028, 0x2029],
    [0x202f, 0x202f],
    [0x205f, 0x205f],
    [0x3000, 0x3000],
    [0xfeff, 0xfeff],
  ],
};

function without(ranges: Ranges): Ranges {
  const rest: [number, number][] = [];
  let from = 0;
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    if (low > from) rest.push([from, low - 1]);
    from = Math.max(from, high + 1);
  }
  if (from <= LAST) rest.push([from, LAST]);
  return rest;
}

const meet = (a: Ranges, b: Ranges) => a.some(([low, high]) => b.some(([from, to]) => low <= to && from <= high));

// ---- the tree as an automaton ----

interface Automaton {
  readonly places: readonly Ranges[];
  /** For each place those that may follow, with the number of ways to get there. */
  readonly follow: readonly ReadonlyMap<number, number>[];
}

interface Part {
  readonly empty: boolean;
  readonly first: readonly number[];
  readonly last: readonly number[];
}

function hasLoop(node: Node): boolean {
  if (node.kind === 'set') return false;
  if (node.kind === 'repeat') return node.max > MAX_COPIES || hasLoop(node.item);
  return node.items.some(hasLoop);
}

/** Undefined when it would be too large. */
function createAutomaton(whole: Node): Automaton | undefined {
  const places: Ranges[] = [];
  const follow: Map<number, number>[] = [];
  const nothing: Part = { empty: true, first: [], last: [] };

  function join(last: readonly number[], first: readonly number[]): void {
    for (const from of last) for (const to of first) follow[from]!.set(to, (follow[from]!.get(to) ?? 0) + 1);
  }

  function then(a: Part, b: Part): Part {
    join(a.last, b.first);
    return {
      empty: a.empty && b.empty,
      first: a.empty ? [...a.first, ...b.first] : a.first,
      last: b.empty ? [...a.last, ...b.last] : b.last,
    };
  }

  function build(node: Node): Part {
    if (places.length > MAX_PLACES) return nothing;
    switch (node.kind) {
      case 'set': {
        const place = places.push(node.ranges) - 1;
        follow.push(new Map());
        return { empty: false, first: [place], last: [place] };
      }
      case 'list':
        return node.items.map(build).reduce(then, nothing);
      case 'choice': {
        const parts = node.items.map(build);
        return {
          empty: parts.some(({ empty }) => empty),
          first: parts.flatMap(({ first }) => first),
          last: parts.flatMap(({ last }) => last),
        };
      }
      case 'repeat': {
        const { item, min, max } = node;
        let all = nothing;
        for (let copy = 0; copy < Math.min(min, MAX_COPIES); copy++) all = then(all, build(item));
        // `(.*a){20}` has a bound and is just as bad.
        if (max > Math.max(min, MAX_COPIES) || (max > 2 && hasLoop(item))) {
          const star = build(item);
          join(star.last, star.first);
          return then(all, { ...star, empty: true });
        }
        for (let copy = min; copy < max; copy++) all = then(all, { ...build(item), empty: true });
        return all;
      }
    }
  }

  build(whole);
  return places.length > MAX_PLACES ? undefined : { places, follow };
}

/** Does some text lead from a place back to it in two ways? */
function isAmbiguous({ places, follow }: Automaton): boolean {
  const count = places.length;
  const group = components(count, (place) => [...follow[place]!.keys()]);
  for (const [from, next] of follow.entries()) {
    for (const [to, ways] of next) if (ways > 1 && group[from] === group[to]) return true;
  }
  // Two walkers on the same text: ambiguous where they can part and meet again.
  const pairs = components(count * count, (pair) => {
    const [a, b] = [Math.floor(pair / count), pair % count];
    const next: number[] = [];
    for (const x of follow[a]!.keys()) {
      if (group[x] !== group[a]) continue;
      for (const y of follow[b]!.keys())
        if (group[y] === group[b] && meet(places[x]!, places[y]!)) next.push(x * count + y);
    }
    return next;
  });
  const together = new Set<number>();
  for (let place = 0; place < count; place++) together.add(pairs[place * count + place]!);
  for (let pair = 0; pair < count * count; pair++) {
    if (Math.floor(pair / count) !== pair % count && together.has(pairs[pair]!)) return true;
  }
  return false;
}

/** The strongly connected component of each node (Tarjan, without recursion). */
function components(count: number, next: (node: number) => readonly number[]): Int32Array {
  const order = new Int32Array(count).fill(-1);
  const low = new Int32Array(count);
  const group = new Int32Array(count).fill(-1);
  const open: number[] = [];
  let time = 0;
  let groups = 0;
  for (let root = 0; root < count; root++) {
    if (order[root] !== -1) continue;
    const path: { node: number; ahead: readonly number[]; at: number }[] = [];
    const enter = (node: number) => {
      order[node] = low[node] = time++;
      open.push(node);
      path.push({ node, ahead: next(node), at: 0 });
    };
    enter(root);
    while (path.length > 0) {
      const step = path.at(-1)!;
      if (step.at < step.ahead.length) {
        const to = step.ahead[step.at++]!;
        if (order[to] === -1) enter(to);
        else if (group[to] === -1) low[step.node] = Math.min(low[step.node]!, order[to]!);
        continue;
      }
      path.pop();
      const above = path.at(-1);
      if (above !== undefined) low[above.node] = Math.min(low[above.node]!, low[step.node]!);
      if (low[step.node] !== order[step.node]) continue;
      for (let node = open.pop()!; ; node = open.pop()!) {
        group[node] = groups;
        if (node === step.node) break;
      }
      groups += 1;
    }
  }
  return group;
}
