// Hosts and their processes. In: names and when they run. Out: who runs at a moment.

export interface Process {
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  /** It runs in [fromMs, toMs). */
  readonly fromMs: number;
  readonly toMs: number;
  /** Reports for its host and its queues too. */
  readonly first: boolean;
}

export interface Fleet {
  readonly processes: readonly Process[];
  at(ms: number): readonly Process[];
}

export const HOSTS = ['app-1', 'app-2', 'app-3'] as const;

export interface Generation {
  readonly version: string;
  readonly fromMs: number;
  readonly toMs: number;
  readonly firstPid: number;
}

/** Processes that were there before and will be there after. */
const ALWAYS: Generation = { version: '1.4.2', fromMs: 0, toMs: Number.POSITIVE_INFINITY, firstPid: 4_100 };

/** Two processes per host and generation. */
export function createFleet(options: { hosts?: readonly string[]; generations?: readonly Generation[] } = {}): Fleet {
  const { hosts = HOSTS, generations = [ALWAYS] } = options;
  const processes = generations.flatMap(({ version, fromMs, toMs, firstPid }) =>
    hosts.flatMap((host, h) =>
      [0, 1].map((n): Process => ({ host, pid: firstPid + h * 10 + n, version, fromMs, toMs, first: n === 0 })),
    ),
  );
  // A shortcut, because every event asks and most fleets never change.
  const changes = processes.some(({ fromMs, toMs }) => fromMs > 0 || toMs !== Number.POSITIVE_INFINITY);
  return {
    processes,
    at: changes ? (ms) => processes.filter(({ fromMs, toMs }) => ms >= fromMs && ms < toMs) : () => processes,
  };
}
