// Every labelled scenario, in the order of the table.
import type { Scenario } from '../scenario.ts';
import { CALLS } from './calls.ts';
import { CLOCKS } from './clocks.ts';
import { CLUSTERS } from './clusters.ts';
import { ERRORS } from './errors.ts';
import { HARMLESS } from './harmless.ts';
import { HTTP } from './http.ts';
import { LOG_PATH } from './log-path.ts';
import { QUIET } from './quiet.ts';
import { RESOURCES } from './resources.ts';

export const SCENARIOS: readonly Scenario[] = [
  ...QUIET,
  ...CALLS,
  ...HTTP,
  ...ERRORS,
  ...RESOURCES,
  ...LOG_PATH,
  ...CLOCKS,
  ...CLUSTERS,
  ...HARMLESS,
];
