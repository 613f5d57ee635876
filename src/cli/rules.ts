// `logpipe rules check | test | explain`: are the rules fine, do they fire when they should, and why does one fire now, or not? Touches
// no server but, to explain, a running logpipe.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { nearest } from '../core/config-loader.ts';
import { LogpipeError } from '../core/errors.ts';
import { packageRoot } from '../core/package-root.ts';
import { visible } from '../core/safe-json.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { loadMeasures, type Measures } from '../measure/measure-config.ts';
import { type MeaningLine, meaningOf, type RuleExplanation, type SetStatus } from '../ops/explain.ts';
import { runRuleTests } from '../replay/rule-tests.ts';
import { loadRules, type Rules } from '../rules/rule-config.ts';
import { type Io, jsonLine, readYamlFile, tellTests } from './io.ts';
import { addressesOf, askForRule, reasonOf } from './top.ts';

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
 * Runs test files; without any, those beside the rules (`rules.test.yml` of `rules.yml`), else the shipped rules' own. Exit status 1 when a test fails. @throws LogpipeError for a file
 * that is none
 */
export async function rulesTest(
  files: readonly string[],
  config: Config,
  options: RulesOptions,
  io: Io,
): Promise<number> {
  const { measures, rules } = load(config, options);
  const all = [];
  for (const file of files.length === 0 ? [testsOf(options.rules ?? config.alerts.rulesFile)] : files) {
    const { parse, transforms } = config;
    const results = await runRuleTests(readYamlFile(file), file, {
      measures,
      rules,
      parse,
      transforms,
      env: process.env,
    });
    all.push(...results.map((result) => ({ file, ...result })));
  }
  return tellTests(all, options, io, createMasker(config.mask));
}

function testsOf(rulesFile: string | undefined): string {
  const beside = rulesFile?.replace(/\.ya?ml$/, '.test.yml');
  return beside !== undefined && existsSync(beside) ? beside : join(packageRoot(), 'config', 'rules.test.yml');
}

// ---- logpipe rules explain ----

interface ExplainOptions extends RulesOptions {
  readonly url: readonly string[];
  readonly offline: boolean;
}

/**
 * Says what the rule means; and from a running logpipe, of each label set, why it fires or not. Exit status 1 when an address that was
 * named does not answer.
 * @throws LogpipeError LOGPIPE_USAGE for an id that is none, LOGPIPE_CONFIG_INVALID
 */
export async function rulesExplain(id: string, config: Config, options: ExplainOptions, io: Io): Promise<number> {
  const masker = createMasker(config.mask);
  const { answer, problems } = await live(id, config, options);
  if (answer !== undefined) {
    if (options.json) io.out(jsonLine({ live: true, ...answer }, masker));
    else for (const line of explanation(answer)) io.out(line);
    return 0;
  }
  const { measures, rules } = load(config, options);
  const rule = rules.find((one) => one.id === id);
  if (rule === undefined) throw unknownRule(id, rules);
  const { title, priority, kind } = rule;
  const meaning = meaningOf(rule, measures);
  if (options.json) io.out(jsonLine({ live: false, problems, id, title, priority, kind, meaning }, masker));
  else for (const line of headed({ id, title, priority, kind }, meaning)) io.out(line);
  for (const problem of problems) io.err(`value now: not known. ${visible(problem)}`);
  return problems.length > 0 && options.url.length > 0 ? 1 : 0;
}

/** What the first instance that knows the rule says of it, else why none does. */
async function live(
  id: string,
  config: Config,
  { url, offline }: ExplainOptions,
): Promise<{ readonly answer?: RuleExplanation; readonly problems: string[] }> {
  const problems: string[] = [];
  if (offline) return { problems };
  if (url.length === 0 && (!config.http.enabled || config.http.port === 0)) {
    return { problems: ['The configuration names no HTTP address; name one with --url, or use --offline'] };
  }
  for (const address of addressesOf(url, () => config)) {
    try {
      const answer = await askForRule(address, id);
      if (!('refused' in answer)) return { answer, problems: [] };
      problems.push(
        answer.refused === 404
          ? `${address} has no such rule, or is of a version that cannot explain`
          : `${address} does not evaluate alerts; name the one that does with --url`,
      );
    } catch (error) {
      problems.push(`${address}: ${reasonOf(error)}; start logpipe run, name its address with --url, or use --offline`);
    }
  }
  return { problems };
}

function unknownRule(id: string, rules: Rules): LogpipeError {
  const ids = rules.map((rule) => rule.id);
  const near = nearest(id, ids) ?? ids.find((one) => id.length >= 4 && one.includes(id));
  const help = near === undefined ? 'logpipe rules check lists them' : `did you mean "${near}"?`;
  return new LogpipeError('LOGPIPE_USAGE', `rules explain: there is no rule "${visible(id.slice(0, 80))}"; ${help}`);
}

type Heading = Pick<RuleExplanation, 'id' | 'title' | 'priority' | 'kind'>;

function headed({ id, title, priority, kind }: Heading, meaning: readonly MeaningLine[]): string[] {
  return [
    `${priority}  ${visible(id)}  ${kind}  ${visible(title)}`,
    ...meaning.map(([name, text]) => `  ${visible(name).padEnd(11)}  ${visible(text)}`),
  ];
}

function explanation(rule: RuleExplanation): string[] {
  const { meaning, sets, more, note } = rule;
  return [
    ...headed(rule, meaning),
    '',
    'Now:',
    ...sets.flatMap(setLines),
    ...(more > 0 ? [`  and ${more} label sets more`] : []),
    ...(note === null ? [] : [`  ${visible(note)}`]),
  ];
}

function setLines({ labels, state, because, alert }: SetStatus): string[] {
  const of = Object.entries(labels).map(([name, value]) => `${visible(name)} ${visible(value)}`);
  return [
    `  ${state.padEnd(9)}  ${visible(of.length === 0 ? because : `${of.join(', ')}: ${because}`)}`,
    ...(alert === null ? [] : [`  ${' '.repeat(9)}  ${visible(alert.text)}`]),
  ];
}
