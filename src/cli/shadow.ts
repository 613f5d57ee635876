// `--alerts shadow`: what the rules would have said about what is replayed. Printed beside the summary; nobody is told.
import type { Config } from '../config.ts';
import { createMasker } from '../core/mask.ts';
import { loadMeasures } from '../measure/measure-config.ts';
import type { ReplayDeps } from '../replay/replay.ts';
import { loadRules } from '../rules/rule-config.ts';
import { createShadowAlerts } from '../simulate/shadow.ts';
import { printTimeline } from './backtest.ts';
import type { Io } from './io.ts';

/** Runs `work` and prints on standard error what the configured rules say of the events it gives. */
export async function withShadowAlerts(
  config: Config,
  io: Io,
  work: (onEvent: NonNullable<ReplayDeps['onEvent']>) => Promise<number>,
): Promise<number> {
  const { measuresFile, rulesFile } = config.alerts;
  const measures = loadMeasures({ file: measuresFile, env: process.env });
  const rules = loadRules({ file: rulesFile, env: process.env, measures });
  const shadow = createShadowAlerts(rules, measures, createMasker(config.mask));
  const status = await work((event, record) => shadow.see(event, record, record.timeMs));
  io.err('alerts that the rules would have raised; nobody was told:');
  printTimeline(shadow.finish(), { out: io.err, err: io.err });
  return status;
}
