// `logpipe rules check | test`: are the rules fine, and do they fire when they should? Touches no server.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { LogpipeError, reasonInWords } from '../core/errors.ts';
import { packageRoot } from '../core/package-root.ts';
import { visible } from '../core/safe-json.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { loadMeasures, type Measures } from '../measure/measure-config.ts';
import { maskedText } from '../replay/record-document.ts';
import { runRuleTests } from '../replay/rule-tests.ts';
import { loadRules, type Rules } from '../rules/rule-config.ts';
import { type Io, jsonLine } from './io.ts';

interface RulesOptions {
  readonly rules?: string;
  readonly measures?: string;
  readonly json: boolean;
}

function load(config: Config, options: RulesOptions): { measures: Measures; rules: Rules } {
  const measures = loadMeasures({ file: options.measures ?? config.alerts.measuresFile, env: process.env });
  return { measures, rules: loadRules({ file: options.rules ?? config.alerts.rulesFile, env: process.env, measures }) };
}

/** Lists the rules. @throws LogpipeError LOGPIPE_CONFIG_INVALID with every problem */
export function rulesCheck(config: Config, options: RulesOptions, io: Io): number {
  const { measures, rules } = load(config, options);
  if (options.json) {
    io.out(jsonLine({ measures: measures.size, rules }, createMasker(config.mask)));
    return 0;
  }
  for (const { priority, id, kind, group, title } of rules) {
    io.out(`${priority}  ${id.padEnd(26)}  ${kind.padEnd(11)}  ${group.padEnd(14)}  ${title}`);
  }
  io.out(`${rules.length} rules over ${measures.size} measures: fine`);
  return 0;
}

/**
 * Runs test files; without any, the shipped rules' own. Exit status 1 when a test fails. @throws LogpipeError for a file
 * that is none
 */
export async function rulesTest(
  files: readonly string[],
  config: Config,
  options: RulesOptions,
  io: Io,
): Promise<number> {
  const { measures, rules } = load(config, options);
  const masker = createMasker(config.mask);
  const shipped = join(packageRoot(), 'config', 'rules.test.yml');
  const all = [];
  for (const file of files.length === 0 ? [shipped] : files) {
    const results = await runRuleTests(read(file), file, { measures, rules, parse: config.parse, env: process.env });
    for (const result of results) {
      all.push({ file, ...result });
      if (options.json) continue;
      io.out(`${result.problems.length === 0 ? 'ok    ' : 'FAILED'}  ${visible(result.name)}`);
      for (const problem of result.problems) io.out(`        ${visible(maskedText(problem, masker))}`);
    }
  }
  const failed = all.filter(({ problems }) => problems.length > 0).length;
  if (options.json) io.out(jsonLine({ passed: all.length - failed, failed, tests: all }, masker));
  else io.out(`${all.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_UNREADABLE',
      `${file} cannot be read (${reasonInWords(error)}); name a YAML file`,
    );
  }
}
