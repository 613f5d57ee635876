// The rules: definitions of rules.yml. In: YAML and the measures it speaks of. Out: frozen rules, each complete.
// Guarantee: every measure, label and rule a rule refers to exists and is of a fitting kind; all problems at once.
import { createHash } from 'node:crypto';
import { readConfigFile } from '../core/config-file.ts';
import { type Environment, loadYaml } from '../core/config-loader.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Measures, Where } from '../measure/measure-config.ts';
import type { RollupDefinition } from './hourly.ts';
import type { RuleInfo } from './observation.ts';
import { watchedBy } from './quiet-set.ts';
import { findProblems } from './rule-checks.ts';
import { complete, type WrittenRule } from './rule-complete.ts';
import { RULES_SCHEMA } from './rule-schema.ts';
import { isUpper, type Rule } from './rule-types.ts';
import { sourcesOf } from './values.ts';

/** In the order of the file. */
export type Rules = readonly Rule[];

/** `file`, else `config/rules.yml` of the working folder, else the shipped one. @throws as parseRules, or LOGPIPE_CONFIG_UNREADABLE */
export function loadRules(options: { file?: string | undefined; env: Environment; measures: Measures }): Rules {
  const { file, text } = readConfigFile('rules.yml', options.file);
  return parseRules(text, options.env, file, options.measures);
}

/**
 * @param place stands in messages
 * @throws LogpipeError LOGPIPE_CONFIG_INVALID, every problem on a line of its own
 */
export function parseRules(text: string, env: Environment, place: string, measures: Measures): Rules {
  const { rules } = loadYaml<{ rules: Record<string, WrittenRule> }>(text, RULES_SCHEMA, env, place);
  const problems = findProblems(rules, measures);
  if (problems.length > 0) {
    const list = problems.map((problem) => `  - ${problem}`).join('\n');
    throw new LogpipeError('LOGPIPE_CONFIG_INVALID', `${place}: ${problems.length} problem(s)\n${list}`);
  }
  return Object.freeze(Object.entries(rules).map(([id, written]) => complete(id, written, measures)));
}

/** What telling people needs of a rule. */
export function toRuleInfo(rule: Rule): RuleInfo & { readonly maxAlerts: number } {
  const { id, title, priority, group, forMs, keepFiringMs, cooldownMs, remindMs, inhibitedBy, runbook, maxAlerts } =
    rule;
  return { id, title, priority, group, forMs, keepFiringMs, cooldownMs, remindMs, inhibitedBy, runbook, maxAlerts };
}

/** What deciding needs of it beyond that. */
export interface DecidingRule extends RuleInfo {
  readonly maxAlerts: number;
  /** Of an absence: silence has no end but an event. */
  readonly endsByEvent?: true;
  readonly forgetAfterMs?: number;
  /** Of an absence: what it listens to. */
  readonly watches?: string;
  readonly labelNames: readonly string[];
  readonly where?: Where;
}

export function toDecidingRule(rule: Rule): DecidingRule {
  const info = {
    ...toRuleInfo(rule),
    labelNames: rule.labels,
    ...(rule.kind === 'late' ? {} : { where: rule.where }),
  };
  if (rule.kind !== 'absence' || !isUpper(rule.bound)) return info;
  const { forgetAfterMs } = rule;
  return {
    ...info,
    endsByEvent: true,
    watches: watchedBy(rule),
    ...(forgetAfterMs === undefined ? {} : { forgetAfterMs }),
  };
}

/** The same for the same rules, whatever file they stand in and however they are written. */
export function hashOf(rules: Rules): string {
  return createHash('sha256').update(JSON.stringify(rules)).digest('base64url').slice(0, 16);
}

/** No window reaches further. */
export const MAX_LOOK_BACK_MS = 6 * 3_600_000;
const SLACK_MS = 60_000;

/** How far into the past the rules look, at most MAX_LOOK_BACK_MS; trends, which look back days, read hourly sums instead. */
export function reachOf(rules: Rules): number {
  let longest = 0;
  for (const rule of rules) {
    if (rule.kind === 'late' || rule.kind === 'trend') continue;
    const baseline = rule.kind === 'spike' ? rule.baselineMs : 0;
    const absence = rule.kind === 'absence' ? rule.bound.value * 1_000 : 0;
    // With too few events a percentile reads back three windows.
    const windows = rule.kind === 'percentile' ? 3 * rule.windowMs : rule.windowMs;
    const gate = 'onlyWhile' in rule ? (rule.onlyWhile?.windowMs ?? 0) : 0;
    longest = Math.max(longest, windows + baseline + rule.forMs, absence, gate);
  }
  return Math.min(MAX_LOOK_BACK_MS, Math.ceil((longest + SLACK_MS) / 60_000) * 60_000);
}

/** The longest window any rule reads a percentile over: how far back histograms must reach. */
export function longestPercentileMs(rules: Rules, measures: Measures): number {
  const windows = rules.flatMap((rule) =>
    rule.kind !== 'late' && measures.get(rule.measure)?.kind === 'percentile' ? [rule.windowMs] : [],
  );
  return Math.max(300_000, ...windows);
}

/** Hourly sums that the trends need; `more` for statistics over a day. */
export function rollupsOf(
  rules: Rules,
  measures: Measures,
  more: readonly RollupDefinition[] = [],
): RollupDefinition[] {
  const labels = new Map(more.map((definition) => [definition.measure, new Set(definition.labels)] as const));
  const add = (measure: string, names: readonly string[]) => {
    const known = labels.get(measure) ?? new Set();
    for (const name of names) known.add(name);
    labels.set(measure, known);
  };
  for (const rule of rules) {
    if (rule.kind !== 'trend') continue;
    const measure = measures.get(rule.measure)!;
    for (const source of sourcesOf(measure)) add(source, Object.keys(rule.where));
    const references =
      measure.kind === 'ratio' ? [measure.numerator, measure.denominator] : 'of' in measure ? [measure.of] : [];
    for (const { of, where } of references) add(of, Object.keys(where));
  }
  return [...labels].map(([measure, names]) => ({ measure, labels: [...names] }));
}
