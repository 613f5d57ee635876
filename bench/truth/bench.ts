// All scenarios, or some, one after the other. In: a seed. Out: what the table and `--json` show. For main.ts and `npm run bench`.
import { type TruthReport, toReport } from './report.ts';
import { runScenario, type ScenarioResult, shipped } from './run.ts';
import { SCENARIOS } from './scenarios/all.ts';

export interface TruthOptions {
  readonly seed: number;
  /** Names of scenarios. Default: all. */
  readonly only?: readonly string[] | undefined;
  readonly onProgress?: (line: string) => void;
}

/** The seed of the published numbers. */
export const SEED = 1;

export async function benchTruth({ seed, only, onProgress = () => {} }: TruthOptions): Promise<TruthReport> {
  const configuration = shipped();
  const results: ScenarioResult[] = [];
  for (const scenario of SCENARIOS) {
    if (only !== undefined && !only.includes(scenario.name)) continue;
    onProgress(`${scenario.name}: ${scenario.about}`);
    results.push(await runScenario(scenario, seed, configuration));
  }
  return toReport(results, seed);
}
