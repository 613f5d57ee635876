// From `logger.error()` to the receiver. In: how logpipe is split into processes. Out: one latency per trial and channel, and
// what logpipe costs under that load. Every trial has topics, groups and processes of its own; background load comes first, then
// most calls fail, and latency counts from the call that makes the rule true.
import { sleep } from '../../src/core/clock.ts';
import type { LogpipeProcess } from '../../test/kit/process.ts';
import { deleteIndices } from '../measure.ts';
import type { CostReader } from '../process-cost.ts';
import { createRig, evaluates, type Rig, type Servers, TITLE } from './rig.ts';

export const RATE = 5_000;
/**
 * By then everything is compiled and connected, and a bucket of 10 s is complete; without one, the rules for quiet hours would
 * fire first.
 */
const BACKGROUND_MS = 16_000;
/** Spreads the trials over the intervals of 10 s, 500 ms and 250 ms in which logpipe works. */
const PHASE_MS = 733;
const TIMEOUT_MS = 60_000;

/** Processes by their roles. */
export const SPLITS = {
  allRoles: ['indexer,counter,alerter'],
  split: ['counter,alerter'],
} as const satisfies Record<string, readonly string[]>;
export type Split = keyof typeof SPLITS;

export interface LatencyTrial {
  /** From the call to the accept of the page. */
  readonly pagerdutyMs: number;
  /** The same at Slack, which may have had a message of lower priority of the same incident right before. */
  readonly slackMs: number;
  /** From the call to the commit of the decision; the rest is sending. */
  readonly decidedMs: number;
  readonly calls: { readonly ended: number; readonly failed: number };
  /** Events per second that were really logged in the background. */
  readonly rate: number;
  /** CPU of logpipe's process during the background load, per event logged. */
  readonly cpuMicrosPerEvent: number;
}

export async function measureLatency(
  split: Split,
  trial: number,
  deps: { readonly servers: Servers; readonly cost: CostReader; readonly run: string },
): Promise<LatencyTrial> {
  const { servers, cost } = deps;
  const rig = await createRig({ name: `${deps.run}-${split}-${trial}`.toLowerCase() }, servers);
  try {
    const [logpipe] = await startAll(rig, SPLITS[split]);
    const generator = await rig.generate(RATE);
    await sleep(BACKGROUND_MS / 2 + ((trial * PHASE_MS) % 10_000));
    const before = { ...cost(logpipe!.pid), ...(await generator.count()) };
    await sleep(BACKGROUND_MS / 2);
    const after = { ...cost(logpipe!.pid), ...(await generator.count()) };
    generator.tell('fail');
    const { atMs, ...calls } = await generator.crossed();
    const [page, message] = await Promise.all([
      rig.told('pagerduty', TITLE, TIMEOUT_MS),
      rig.told('slack', TITLE, TIMEOUT_MS),
    ]);
    const logged = after.logged - before.logged;
    return {
      pagerdutyMs: page.atMs - atMs,
      slackMs: message.atMs - atMs,
      decidedMs: (await decided(logpipe!)) - atMs,
      calls,
      rate: (logged / (after.atMs - before.atMs)) * 1_000,
      cpuMicrosPerEvent: (after.cpuMicros - before.cpuMicros) / logged,
    };
  } finally {
    await rig.end();
    if (servers.elasticsearch !== undefined) await deleteIndices(servers.elasticsearch.url);
  }
}

/** Starts processes and resolves when the log is counted and evaluated. */
export async function startAll(rig: Rig, roles: readonly string[]): Promise<LogpipeProcess[]> {
  const processes = roles.map((its) => rig.start(its));
  const having = (role: string) => roles.filter((its) => its.includes(role)).length;
  if (having('alerter') > 0)
    await Promise.any(processes.filter((_, i) => roles[i]!.includes('alerter')).map(evaluates));
  for (const role of ['counter', 'alerter', 'indexer'] as const) {
    if (having(role) > 0) await rig.stable(role, having(role));
  }
  return processes;
}

/** When the page was decided: it is logged once it is durable. */
async function decided(logpipe: LogpipeProcess): Promise<number> {
  const line = await logpipe.waitForLine(new RegExp(`^(?=.*"CRITICAL ALERT").*"${TITLE}"`));
  return Date.parse((JSON.parse(line) as { timestamp: string }).timestamp);
}
