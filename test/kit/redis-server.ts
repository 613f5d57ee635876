// Is a Redis server installed? Loads nothing else, for the preflight.
import { findProgram } from './programs.ts';

export const INSTALL_REDIS = 'apt-get install redis-server (or your system’s package of Redis)';

/** Path of redis-server; undefined when it is not installed. */
export function findRedisServer(): string | undefined {
  return findProgram('redis-server');
}
