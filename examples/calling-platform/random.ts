// Randomness from a seed, so that a test sees the same calls again. In: a seed; out: numbers, choices and identifiers.

export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform in [min, max). */
  between(min: number, max: number): number;
  chance(probability: number): boolean;
  pick<T>(list: readonly T[]): T;
  /** A key, as often as its share of the sum of all shares. */
  weighted<K extends string>(shares: Readonly<Record<K, number>>): K;
  /** Log-normal: most values near `median`, a long tail above it. */
  around(median: number, spread: number): number;
  /** `length` hexadecimal digits. */
  hex(length: number): string;
}

/** A xorshift generator (Marsaglia 2003, 32 bits): quick and repeatable, and not for secrets. */
export function createRandom(seed: number): Random {
  // Zero is the one state a xorshift never leaves.
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
  // Neighbouring seeds begin alike.
  for (let i = 0; i < 16; i++) next();

  return {
    next,
    between: (min, max) => min + next() * (max - min),
    chance: (probability) => next() < probability,
    pick: (list) => list[Math.floor(next() * list.length)]!,
    weighted<K extends string>(shares: Readonly<Record<K, number>>): K {
      const entries = Object.entries(shares) as [K, number][];
      let rest = next() * entries.reduce((sum, [, share]) => sum + share, 0);
      for (const [key, share] of entries) {
        rest -= share;
        if (rest < 0) return key;
      }
      return entries.at(-1)![0];
    },
    around(median, spread) {
      // Box-Muller; 1 - next() keeps the logarithm away from zero.
      const normal = Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
      return median * Math.exp(spread * normal);
    },
    hex(length) {
      let text = '';
      while (text.length < length) text += Math.floor(next() * 16).toString(16);
      return text;
    },
  };
}
