// One event as it happened: the moment, the process it happened in, and what the application logs about it. Plain data.
import type { Process } from './fleet.ts';

/** One event as it truly happened. What logpipe gets of it may be wrong in its time, late, or there twice. */
export interface Occurrence {
  readonly trueMs: number;
  readonly host: string;
  readonly doc: Readonly<Record<string, unknown>>;
}

export function occurrence(trueMs: number, { host, pid, version }: Process, doc: object): Occurrence {
  const base = { level: 'info', service: 'calling-platform', environment: 'production', version, host, pid };
  return { trueMs, host, doc: { ...base, ...doc } };
}
