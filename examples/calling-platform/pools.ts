// Connection pools: a statement waits for a connection, holds it for a while and may fail.
// In: statements of HTTP requests and queue jobs; out: their delay, their errors, and how full the pool is.
import type { Clock } from '../../src/core/clock.ts';
import { poolExhausted, statementFailed } from './faults.ts';
import type { Incident } from './incident.ts';
import type { Random } from './random.ts';

export type PoolSystem = 'mongodb' | 'redis';

export interface PoolOptions {
  system: PoolSystem;
  /** Connections. */
  size: number;
  /** Usual time of one statement, milliseconds. */
  medianMs: number;
  /** A statement that has waited this long for a connection fails. */
  acquireTimeoutMs: number;
  /** Share of statements that fail on a good day. */
  failureShare: number;
}

export interface Pool {
  readonly system: PoolSystem;
  /** Resolves when the statement is done. Rejects with a PoolTimeoutError or a DatabaseError. */
  run(statement: string): Promise<void>;
  /** `waiting` statements have no connection yet. */
  stats(): { size: number; inUse: number; waiting: number };
}

export interface PoolDeps {
  clock: Clock;
  random: Random;
  incident: Incident;
}

/** How much longer the database takes during its incident. */
const SLOW_FACTOR = 250;

export function createPool(options: PoolOptions, deps: PoolDeps): Pool {
  const waiters: (() => void)[] = [];
  let inUse = 0;

  const acquire = () =>
    new Promise<void>((resolve, reject) => {
      if (inUse < options.size) {
        inUse++;
        return resolve();
      }
      const enter = () => {
        cancel();
        resolve();
      };
      const cancel = deps.clock.after(options.acquireTimeoutMs, () => {
        waiters.splice(waiters.indexOf(enter), 1);
        reject(poolExhausted(options.system, options.size, options.acquireTimeoutMs));
      });
      waiters.push(enter);
    });
  const release = () => {
    const next = waiters.shift();
    // The connection goes over to the next statement without being free in between.
    if (next) next();
    else inUse--;
  };

  return {
    system: options.system,
    async run(statement) {
      await acquire();
      try {
        const slow = options.system === 'mongodb' && deps.incident.is('slow-database');
        const ms = deps.random.around(options.medianMs, 0.5) * (slow ? SLOW_FACTOR : 1);
        await new Promise<void>((resolve) => void deps.clock.after(ms, resolve));
        if (deps.random.chance(options.failureShare)) throw statementFailed(options.system, statement);
      } finally {
        release();
      }
    },
    stats: () => ({ size: options.size, inUse, waiting: waiters.length }),
  };
}
