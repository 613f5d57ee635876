// How a calling platform behaves at a moment, and how it behaves when healthy. Rates, probabilities and readings, by a correct clock.
import type { Process } from './fleet.ts';

export interface CallFacts {
  readonly tenantId: string;
  readonly host: string;
  readonly attempt: number;
}

/** The behaviour at each moment; a scenario changes parts of the healthy one. */
export interface Behaviour {
  readonly callsPerSecond: (ms: number) => number;
  /** Probability that a call that ends now has failed. */
  readonly callFails: (ms: number, call: CallFacts) => number;
  /** Probability that it was not the first attempt. */
  readonly callRetried: (ms: number) => number;
  readonly requestsPerSecond: (ms: number) => number;
  /** Probability of a status of 500 and more. */
  readonly requestFails: (ms: number, host: string) => number;
  /** Answers 401 or 403 in addition to the ordinary requests. */
  readonly deniedPerSecond: (ms: number) => number;
  /** Half of the requests take longer, ms. */
  readonly requestMillis: (ms: number) => number;
  readonly jobsPerSecond: (ms: number, queue: string) => number;
  readonly jobsDonePerSecond: (ms: number, queue: string) => number;
  /** When the number of completed jobs was reset. */
  readonly queueRestartMs?: number;
  /** Share of the limit that the heap uses. */
  readonly heap: (ms: number, process: Process) => number;
  readonly poolInUse: (ms: number, process: Process) => number;
  readonly cpuPercent: (ms: number, host: string) => number;
  readonly memoryPercent: (ms: number, host: string) => number;
  readonly diskPercent: (ms: number, host: string) => number;
  readonly networkBytes: (ms: number, host: string) => number;
  readonly connections: (ms: number, host: string) => number;
  /** Plain lines per second. */
  readonly linesPerSecond: (ms: number) => number;
}

export const POOL_SIZE = 50;
export const QUEUES = ['scheduled-calls', 'webhooks'] as const;

export const HEALTH: Behaviour = {
  callsPerSecond: () => 0.6,
  callFails: () => 0.02,
  callRetried: () => 0.18,
  requestsPerSecond: () => 5,
  requestFails: () => 0.003,
  deniedPerSecond: () => 0.03,
  requestMillis: () => 70,
  jobsPerSecond: () => 0.4,
  jobsDonePerSecond: () => 2,
  heap: () => 0.3,
  poolInUse: () => 12,
  cpuPercent: () => 35,
  memoryPercent: () => 60,
  diskPercent: () => 55,
  networkBytes: () => 2e6,
  connections: () => 150,
  linesPerSecond: () => 0.5,
};
