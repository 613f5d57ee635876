// For how long nobody would notice an incident. In: who is killed, and who can take over. Out: the time from the kill to the page of an
// incident that begins at the kill, less what a page takes when nobody is killed. Default settings; kills are spread evenly over the
// 10 s of a bucket, because a kill at its end hides most.
import { sleep } from '../../src/core/clock.ts';
import type { LogpipeProcess } from '../../test/kit/process.ts';
import { deleteIndices } from '../measure.ts';
import { RATE, startAll } from './latency.ts';
import { addressOf, createRig, type Rig, type Servers, until } from './rig.ts';

interface Case {
  readonly text: string;
  /** Processes by their roles. */
  readonly processes: readonly string[];
  readonly victim: 'counter' | 'alerter' | undefined;
  /** Started again at once, as a supervisor does. */
  readonly restart: boolean;
}

export const BLIND_CASES = {
  none: { text: 'nobody is killed', processes: ['counter', 'alerter'], victim: undefined, restart: false },
  counter: {
    text: 'counter, another one takes over',
    processes: ['counter', 'counter', 'alerter'],
    victim: 'counter',
    restart: false,
  },
  alerter: {
    text: 'alerter, another one stands by',
    processes: ['counter', 'alerter', 'alerter'],
    victim: 'alerter',
    restart: false,
  },
  counterRestarted: {
    text: 'only counter, started again at once',
    processes: ['counter', 'alerter'],
    victim: 'counter',
    restart: true,
  },
  alerterRestarted: {
    text: 'only alerter, started again at once',
    processes: ['counter', 'alerter'],
    victim: 'alerter',
    restart: true,
  },
  allRestarted: {
    text: 'one process for everything, started again at once',
    processes: ['indexer,counter,alerter'],
    victim: 'counter',
    restart: true,
  },
} as const satisfies Record<string, Case>;
export type BlindCase = keyof typeof BLIND_CASES;

const BACKGROUND_MS = 16_000;
const BUCKET_MS = 10_000;
const TIMEOUT_MS = 120_000;

/** From the kill to the page, ms. */
export async function measureBlind(
  name: BlindCase,
  trial: number,
  deps: { readonly servers: Servers; readonly run: string; readonly trials: number },
): Promise<number> {
  const { servers, trials } = deps;
  const { processes: roles, victim, restart } = BLIND_CASES[name];
  const rig = await createRig({ name: `${deps.run}-blind-${name}-${trial}`.toLowerCase() }, servers);
  try {
    const processes = await startAll(rig, roles);
    const generator = await rig.generate(RATE);
    await sleep(BACKGROUND_MS);
    const killed = victim === undefined ? undefined : await choose(rig, victim, processes, roles);
    // The middle of the trial's share of the bucket.
    const phase = ((trial + 0.5) / trials) * BUCKET_MS;
    await sleep((phase - (Date.now() % BUCKET_MS) + BUCKET_MS) % BUCKET_MS);
    const killMs = Date.now();
    killed?.child.kill('SIGKILL');
    generator.tell('burst');
    if (restart) {
      await killed!.child.exit;
      rig.start(killed!.roles);
    }
    const page = await rig.told('pagerduty', '', TIMEOUT_MS);
    return page.atMs - killMs;
  } finally {
    await rig.end();
    if (servers.elasticsearch !== undefined) await deleteIndices(servers.elasticsearch.url);
  }
}

/** Of several alerters the leader; of several counters the first. */
async function choose(rig: Rig, victim: 'counter' | 'alerter', processes: LogpipeProcess[], roles: readonly string[]) {
  const candidates = processes
    .map((child, i) => ({ child, roles: roles[i]! }))
    .filter((one) => one.roles.includes(victim));
  if (victim === 'counter') return candidates[0]!;
  let holder: (typeof candidates)[number] | undefined;
  await until(
    async () => {
      for (const one of candidates) if (await holds(one.child)) holder = one;
      return holder !== undefined;
    },
    `an alerter of ${rig.config.kafka.alerterGroup} that evaluates`,
    60_000,
    100,
  );
  return holder!;
}

async function holds(child: LogpipeProcess): Promise<boolean> {
  const text = await (await fetch(`${await addressOf(child)}/ready`)).text();
  return text.includes('"evaluating"');
}
