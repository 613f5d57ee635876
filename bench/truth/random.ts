// Repeatable randomness. In: a seed and a name. Out: numbers. Guarantee: the same seed and name give the same numbers, and streams of
// different names do not affect each other, so that an addition to a scenario leaves the rest of it as it was.

export interface Random {
  /** In [0, 1). */
  next(): number;
  between(least: number, most: number): number;
  chance(probability: number): boolean;
  pick<T>(list: readonly T[]): T;
  /** `items` with weights that need not add up to anything. */
  weighted<T>(items: readonly (readonly [T, number])[]): T;
  /** How often something happens now that happens `mean` times on average. */
  poisson(mean: number): number;
  /** Skewed to the right, like durations; half of the values are above `median`. */
  logNormal(median: number, sigma: number): number;
  /** A canonical ULID of that time. */
  eventId(ms: number): string;
  fork(name: string): Random;
}

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

export function createRandom(seed: number, name = ''): Random {
  let state = hash(`${seed}/${name}`);

  /** Mulberry32: https://gist.github.com/tommyettinger/46a874533244883189143505d203312c */
  function next(): number {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  function normal(): number {
    return Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  }

  return {
    next,
    between: (least, most) => least + next() * (most - least),
    chance: (probability) => next() < probability,
    pick: (list) => list[Math.floor(next() * list.length)]!,
    weighted(items) {
      let rest = next() * items.reduce((sum, [, weight]) => sum + weight, 0);
      for (const [item, weight] of items) {
        rest -= weight;
        if (rest < 0) return item;
      }
      return items.at(-1)![0];
    },
    poisson(mean) {
      // Above that the normal distribution is as good, and the product below would fall to 0.
      if (mean > 200) return Math.max(0, Math.round(mean + Math.sqrt(mean) * normal()));
      const limit = Math.exp(-mean);
      let count = 0;
      for (let product = next(); product > limit; product *= next()) count += 1;
      return count;
    },
    logNormal: (median, sigma) => median * Math.exp(sigma * normal()),
    eventId(ms) {
      let time = '';
      for (let rest = ms, i = 0; i < 10; i++, rest = Math.floor(rest / 32)) time = ALPHABET[rest % 32] + time;
      let chance = '';
      for (let i = 0; i < 16; i++) chance += ALPHABET[Math.floor(next() * 32)];
      return time + chance;
    },
    fork: (part) => createRandom(seed, `${name}/${part}`),
  };
}

/** FNV-1a. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h | 0;
}
