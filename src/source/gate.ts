// The backpressure valve. Shut while the pipeline still takes in the last chunk; waiting can be cut short.
import type { Clock } from '../core/clock.ts';

export interface Gate {
  readonly open: boolean;
  /** Shut until the promise settles. What a rejection means is the caller's business. */
  shutUntil(done: Promise<void>): void;
  /** Resolves when the gate opens, when `wake` is called, or after `ms`. */
  wait(ms: number): Promise<void>;
  /** Lets every waiter look again. */
  wake(): void;
}

export function createGate(clock: Clock): Gate {
  let shutBy: Promise<void> | undefined;
  const waiters = new Set<() => void>();
  const wake = () => {
    for (const waiter of [...waiters]) waiter();
  };
  return {
    get open() {
      return shutBy === undefined;
    },
    shutUntil(done) {
      shutBy = done;
      const open = () => {
        if (shutBy !== done) return;
        shutBy = undefined;
        wake();
      };
      done.then(open, open);
    },
    wait(ms) {
      return new Promise((resolve) => {
        const finish = () => {
          cancel();
          waiters.delete(finish);
          resolve();
        };
        const cancel = clock.after(ms, finish);
        waiters.add(finish);
      });
    },
    wake,
  };
}
