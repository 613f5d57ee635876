// logpipe beside ElastAlert 2 and beside Prometheus with Alertmanager, on the events of the labelled scenarios. In: a seed. Out: the
// table and the one object of `--json`. Guarantee: the same events, the same judge; each peer is the real program.
import { LogpipeError } from '../../../src/core/errors.ts';
import { packageVersion } from '../../../src/core/package-root.ts';
import type { TruthOptions } from '../bench.ts';
import { createRandom } from '../random.ts';
import { shipped, simulateStaged } from '../run.ts';
import { SCENARIOS } from '../scenarios/all.ts';
import { compare, type Facts, type Outcome, type Reality, realityOf, toldBy } from './compare.ts';
import { createElastAlertPeer } from './elastalert.ts';
import { createPrometheusPeer } from './prometheus.ts';
import type { Told } from './told.ts';

export const PEERS = ['elastalert', 'prometheus'] as const;
export type PeerName = (typeof PEERS)[number];

export interface PeersOptions extends TruthOptions {
  readonly peers: readonly PeerName[];
}

interface Figures {
  readonly tool: string;
  readonly missed: number;
  /** Missed ones whose rule the tool cannot express. */
  readonly cannotBeSaid: number;
  readonly false: number;
  /** Of those that were told, and for which people had not been called already. */
  readonly detectSeconds: { readonly median: number; readonly p90: number; readonly worst: number } | null;
  readonly callsPerIncident: number;
  readonly mostCalls: number;
  readonly endsPerIncident: number;
}

export interface PeersReport {
  readonly seed: number;
  readonly versions: readonly string[];
  readonly expected: number;
  readonly incidents: number;
  readonly tools: readonly Figures[];
  readonly scenarios: readonly {
    readonly name: string;
    readonly expected: Reality['expected'];
    readonly tools: Readonly<Record<string, Outcome>>;
  }[];
}

const LOGPIPE = 'logpipe';
const TITLES: Readonly<Record<string, string>> = {
  elastalert: 'ElastAlert 2',
  prometheus: 'Prometheus + Alertmanager',
  [LOGPIPE]: 'logpipe',
};

export async function benchPeers({ seed, only, peers, onProgress = () => {} }: PeersOptions): Promise<PeersReport> {
  const { measures, rules } = shipped();
  const facts = new Map<string, Facts>(
    rules.map(({ id, group, priority, cooldownMs, inhibitedBy }) => [
      id,
      { group, priority, cooldownMs, mutedBy: inhibitedBy },
    ]),
  );
  const chosen = SCENARIOS.filter(({ name }) => only === undefined || only.includes(name));
  const prometheus = peers.includes('prometheus') ? await createPrometheusPeer() : undefined;
  const elastalert = peers.includes('elastalert') ? await createElastAlertPeer(onProgress) : undefined;
  try {
    const real = new Map<string, Reality>();
    const told = new Map<string, Map<string, Told>>();
    for (const [i, { name, about, stage }] of chosen.entries()) {
      onProgress(`${i + 1} of ${chosen.length}, ${name}: ${about}`);
      const staged = stage(createRandom(seed, name));
      const own = new Map<string, Told>([[LOGPIPE, toldBy(await simulateStaged(staged, { measures, rules }))]]);
      told.set(name, own);
      real.set(name, realityOf(staged, facts));
      const [answer] = await Promise.all([elastalert?.run(name, staged), prometheus?.evaluate(name, staged)]);
      if (answer !== undefined) own.set('elastalert', answer);
    }
    // Last and by itself, because Alertmanager runs by the real clock.
    const sent = await prometheus?.notify(onProgress);
    for (const [name, own] of told) {
      const answer = sent?.get(name);
      if (answer !== undefined) own.set('prometheus', answer);
    }
    const said = new Map([
      ['elastalert', elastalert?.rules],
      ['prometheus', prometheus?.rules],
    ]);
    const results = chosen.map(({ name }) => {
      const reality = real.get(name)!;
      const tools = [...told.get(name)!].map(([tool, one]) => [tool, compare(one, reality, facts)] as const);
      return { name, reality, outcomes: new Map(tools) };
    });
    return toPeersReport(results, {
      seed,
      versions: [`logpipe ${packageVersion()}`, ...(elastalert?.versions ?? []), ...(prometheus?.versions ?? [])],
      canSay: (tool, rule) => said.get(tool)?.has(rule) ?? true,
    });
  } finally {
    prometheus?.close();
    await elastalert?.close();
  }
}

export interface ComparedScenario {
  readonly name: string;
  readonly reality: Pick<Reality, 'expected' | 'incidents'>;
  readonly outcomes: ReadonlyMap<string, Outcome>;
}

export function toPeersReport(
  results: readonly ComparedScenario[],
  facts: {
    readonly seed: number;
    readonly versions: readonly string[];
    readonly canSay: (tool: string, rule: string) => boolean;
  },
): PeersReport {
  const { seed, versions, canSay } = facts;
  const tools = [LOGPIPE, ...PEERS].filter((tool) => results.some(({ outcomes }) => outcomes.has(tool)));
  return {
    seed,
    versions,
    expected: results.reduce((sum, { reality }) => sum + reality.expected.length, 0),
    incidents: results.reduce((sum, { reality }) => sum + reality.incidents.length, 0),
    tools: tools.map((tool) => figuresOf(tool, results, canSay)),
    scenarios: results.map(({ name, reality, outcomes }) => ({
      name,
      expected: reality.expected,
      tools: Object.fromEntries(outcomes),
    })),
  };
}

function figuresOf(
  tool: string,
  results: readonly ComparedScenario[],
  canSay: (tool: string, rule: string) => boolean,
): Figures {
  const detections = results.flatMap(({ reality, outcomes }) =>
    (outcomes.get(tool)?.detections ?? []).map((after, i) => ({ after, rule: reality.expected[i]!.rule })),
  );
  const missed = detections.filter(({ after }) => after === 'missed');
  const seconds = detections.flatMap(({ after }) => (typeof after === 'number' ? after : [])).sort((a, b) => a - b);
  const incidents = results.flatMap(({ outcomes }) => outcomes.get(tool)?.incidents ?? []);
  const each = (of: (one: (typeof incidents)[number]) => number) =>
    incidents.length === 0 ? 0 : round(incidents.reduce((sum, one) => sum + of(one), 0) / incidents.length);
  const at = (share: number) => seconds[Math.ceil(seconds.length * share) - 1]!;
  return {
    tool,
    missed: missed.length,
    cannotBeSaid: missed.filter(({ rule }) => !canSay(tool, rule)).length,
    false: results.reduce((sum, { outcomes }) => sum + (outcomes.get(tool)?.falseMessages.length ?? 0), 0),
    detectSeconds: seconds.length === 0 ? null : { median: at(0.5), p90: at(0.9), worst: at(1) },
    callsPerIncident: each(({ calls }) => calls),
    mostCalls: Math.max(0, ...incidents.map(({ calls }) => calls)),
    endsPerIncident: each(({ ends }) => ends),
  };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

/** For people: the figures, then each scenario in which the tools differ. */
export function toPeersTable({ scenarios, seed, versions, expected, incidents, tools }: PeersReport): string {
  const lines = table([
    [
      '',
      'missed',
      'cannot be said',
      'false',
      'seconds to tell (median, 90 %, worst)',
      'calls per incident',
      'most',
      'ends',
    ],
    ...tools.map((one) => [
      TITLES[one.tool]!,
      String(one.missed),
      String(one.cannotBeSaid),
      String(one.false),
      one.detectSeconds === null
        ? '-'
        : Object.values(one.detectSeconds)
            .map((s) => s.toFixed(0))
            .join(', '),
      one.callsPerIncident.toFixed(2),
      String(one.mostCalls),
      one.endsPerIncident.toFixed(2),
    ]),
  ]);
  const names = tools.map(({ tool }) => tool);
  const rows = scenarios.flatMap(({ name, expected: own, tools: outcomes }) => [
    ...own.map(({ rule, labels }, i) => [
      name,
      [rule, ...Object.values(labels)].join(' '),
      ...names.map((tool) => shown(outcomes[tool]?.detections[i])),
    ]),
    ...names.flatMap((tool) =>
      (outcomes[tool]?.falseMessages ?? []).map(({ rule, labels, atMs }) => [
        name,
        `false: ${[rule, ...Object.values(labels)].join(' ')}`,
        ...names.map((other) => (other === tool ? new Date(atMs).toISOString().slice(11, 19) : '')),
      ]),
    ),
  ]);
  return [
    ...table([['scenario', 'to be told', ...names.map((tool) => TITLES[tool]!)], ...rows]),
    '',
    ...lines,
    '',
    `${scenarios.length} scenarios, seed ${seed}: ${expected} things to be told, ${incidents} incidents. ${versions.join(', ')}`,
  ].join('\n');
}

function shown(after: Outcome['detections'][number] | undefined): string {
  return typeof after === 'number' ? after.toFixed(0) : (after ?? '');
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
}

/** Some of them, comma-separated. @throws LogpipeError LOGPIPE_USAGE */
export function peerNames(text: string): PeerName[] {
  const list = text.split(',');
  const unknown = list.find((name) => !(PEERS as readonly string[]).includes(name));
  if (unknown === undefined) return list as PeerName[];
  throw new LogpipeError('LOGPIPE_USAGE', `bench:truth: --peers ${unknown}; permitted: ${PEERS.join(', ')}`);
}
