/** How much longer the input is whose cost is compared: far enough apart for linear (64) and quadratic (4,096) never to be taken for each other, collections of garbage included. */
export const TIMES_LONGER = 64;

/** The limit for the answer of `growth`: eight times what is linear, an eighth of what is quadratic. */
export const GROWTH_LIMIT = 512;

/**
 * How much more processor time `work` takes for an input of 64 times the size, the best of up to six attempts: other
 * processes and collections of garbage disturb single ones. Below half a millisecond the clock is all that is measured.
 *
 * @param small size of the smaller input
 * @param work does it once for an input of that size
 */
export function growth(small: number, work: (size: number) => void): number {
  const cost = (size: number) => {
    const before = process.cpuUsage();
    work(size);
    const { user, system } = process.cpuUsage(before);
    return user + system;
  };
  cost(small);
  let best = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 6 && best > 2 * TIMES_LONGER; attempt++) {
    best = Math.min(best, cost(TIMES_LONGER * small) / Math.max(cost(small), 500));
  }
  return best;
}
