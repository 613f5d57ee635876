// Runs labelled scenarios through the real stages. In: scenarios and a seed. Out: a result per scenario. No server, no clock.
import { join } from 'node:path';
import { packageRoot } from '../../src/core/package-root.ts';
import { loadMeasures, type Measures } from '../../src/measure/measure-config.ts';
import { type Simulated, simulate } from '../../src/replay/simulate.ts';
import { loadRules, type Rules } from '../../src/rules/rule-config.ts';
import { ERROR_TEMPLATE_VERSION, errorTemplate } from '../../src/tag/tag.ts';
import { type Judgement, judge, type RuleFacts } from './judge.ts';
import { createRandom } from './random.ts';
import type { Scenario, Staged } from './scenario.ts';
import { PARTITIONS } from './shipping.ts';

export interface Shipment {
  readonly measures: Measures;
  readonly rules: Rules;
}

export interface ScenarioResult extends Judgement {
  readonly name: string;
  readonly about: string;
  readonly events: number;
  readonly minutes: number;
  /** CPU of generating, simulating and judging. */
  readonly cpuSeconds: number;
}

export const PARSE = { maxRecordBytes: 5_000_000, maxAheadMs: 600_000, maxBehindMs: 2_592_000_000 };
const NEAR_MS = 90_000;
const WATCHED_MS = 7 * 86_400_000;

/** The shipped configuration, not that of the current folder. */
export function shipped(): Shipment {
  const file = (name: string) => join(packageRoot(), 'config', name);
  const measures = loadMeasures({ env: {}, file: file('measures.yml') });
  return { measures, rules: loadRules({ env: {}, file: file('rules.yml'), measures }) };
}

export async function runScenario(
  scenario: Scenario,
  seed: number,
  { measures, rules }: Shipment,
): Promise<ScenarioResult> {
  const began = process.cpuUsage();
  const staged = scenario.stage(createRandom(seed, scenario.name));
  const simulated = await simulateStaged(staged, { measures, rules });
  const facts = new Map<string, RuleFacts>(rules.map(({ id, ...facts }) => [id, facts]));
  return {
    name: scenario.name,
    about: scenario.about,
    events: staged.records.length,
    minutes: Math.round((staged.toMs - staged.fromMs) / 60_000),
    cpuSeconds: cpuSince(began),
    ...judge(staged, simulated, facts),
  };
}

export function simulateStaged(staged: Staged, { measures, rules }: Shipment): Promise<Simulated> {
  const { fromMs, toMs, records, readableTo, readings } = staged;
  return simulate(records, {
    measures,
    rules,
    parse: PARSE,
    transforms: [],
    partitions: PARTITIONS,
    fromMs,
    toMs,
    initial: learned(staged),
    tickMs: pace(staged),
    ...(readableTo && { readableTo }),
    ...(readings && { readings }),
  });
}

/** Every second when something begins; else every seven seconds, which meets every phase of a 10 s bucket at a seventh of the cost. */
function pace({ must, may = [] }: Staged): (nowMs: number) => number {
  const truths = [...must, ...may].flatMap((truth) => (typeof truth === 'string' ? [] : truth.permitted));
  return (nowMs) => (truths.some(({ fromMs }) => Math.abs(nowMs - fromMs) <= NEAR_MS) ? 1_000 : 7_000);
}

/** Records of an alert store that has watched this platform before. */
function learned({ fromMs, occurrences, unknown, watchedMs = WATCHED_MS }: Staged): Map<string, object> {
  const sinceMs = fromMs - watchedMs;
  const templates = ERROR_TEMPLATE_VERSION;
  const records = new Map<string, object>([['known/since', { sinceMs, templates }]]);
  for (const { doc } of occurrences) {
    const message = String(doc.message);
    if (doc.level !== 'error' || unknown?.test(message)) continue;
    const key = `error.templates/${errorTemplate(message)}`;
    records.set(`template/${key}`, { key, firstMs: sinceMs, quiet: true, templates });
  }
  return records;
}

function cpuSince(began: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(began);
  return Math.round((user + system) / 10_000) / 100;
}
