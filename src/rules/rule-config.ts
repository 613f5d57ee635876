// The rules of rules.yml. In: YAML, and the measures it refers to; the file again while logpipe runs. Out: frozen rules, each complete,
// and what other stages need to know about them. Guarantee: every measure, label and rule a rule refers to exists and is of a fitting
// kind; all problems are reported at once; a changed file that is wrong changes nothing and is logged once.
import { createHash } from 'node:crypto';
import { type Clock, durationMs } from '../core/clock.ts';
import type { Where } from '../core/condition.ts';
import {
  createChangedText,
  type Environment,
  invalidConfig,
  LOOK_MS,
  loadYaml,
  readConfigFile,
} from '../core/config-loader.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { isCollected, type Measure, type Measures } from '../measure/measure-config.ts';
import { BUCKET_MS } from '../measure/totals.ts';
import { HOUR_MS, MAX_REACH_MS, type RollupDefinition } from '../windows/series.ts';
import { FINE_MS } from '../windows/tables.ts';
import { sourcesOf } from '../windows/values.ts';
import { watchedBy } from './known-sets.ts';
import {
  boundsOf,
  complete,
  isUpper,
  KINDS,
  type Over,
  parseQuantity,
  type Quantity,
  RULES_SCHEMA,
  type Rule,
  type RuleInfo,
  type WrittenBounds,
  type WrittenRule,
} from './rule-types.ts';
import { METADATA_HELP, parseMetadataSource, unknownPlaceholders } from './words.ts';

/** In the order of the file. */
export type Rules = readonly Rule[];

/** `file`, else `config/rules.yml` of the working folder, else the shipped one. @throws as parseRules, or LOGPIPE_CONFIG_UNREADABLE */
export function loadRules(options: { file?: string | undefined; env: Environment; measures: Measures }): Rules {
  const { file, text } = readConfigFile('rules.yml', options.file);
  return parseRules(text, options.env, file, options.measures);
}

/**
 * @param place the file's name, for messages
 * @throws LogpipeError LOGPIPE_CONFIG_INVALID, every problem on a line of its own
 */
export function parseRules(text: string, env: Environment, place: string, measures: Measures): Rules {
  const { rules } = loadYaml<{ rules: Record<string, WrittenRule> }>(text, RULES_SCHEMA, env, place);
  const problems = findProblems(rules, measures);
  if (problems.length > 0) throw invalidConfig(place, problems, text);
  return Object.freeze(Object.entries(rules).map(([id, written]) => complete(id, written, measures)));
}

/** What notifications need of a rule. */
export function toRuleInfo(rule: Rule): RuleInfo & { readonly maxAlerts: number } {
  const { id, title, priority, group, forMs, keepFiringMs, cooldownMs, remindMs, inhibitedBy, runbook, maxAlerts } =
    rule;
  return { id, title, priority, group, forMs, keepFiringMs, cooldownMs, remindMs, inhibitedBy, runbook, maxAlerts };
}

/** What deciding needs in addition. */
interface DecidingRule extends RuleInfo {
  readonly maxAlerts: number;
  /** Absence: only an event ends it. */
  readonly endsByEvent?: true;
  readonly forgetAfterMs?: number;
  /** Absence: what it listens to. */
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

/** The same for the same rules, whatever file they are in and however they are written. */
export function hashOf(rules: Rules): string {
  return createHash('sha256').update(JSON.stringify(rules)).digest('base64url').slice(0, 16);
}

/** No window reaches further back. */
export const MAX_LOOK_BACK_MS = 6 * 3_600_000;
const SLACK_MS = 60_000;

/** How far into the past the rules look, at most MAX_LOOK_BACK_MS; trends, which look back days, read hourly sums instead. */
export function reachOf(rules: Rules): number {
  let longest = 0;
  for (const rule of rules) {
    if (rule.kind === 'late' || rule.kind === 'trend') continue;
    const baseline = rule.kind === 'spike' ? rule.baselineMs : 0;
    const absence = rule.kind === 'absence' ? rule.bound.value * 1_000 : 0;
    // With too few events a percentile looks three windows back.
    const windows = rule.kind === 'percentile' ? 3 * rule.windowMs : rule.windowMs;
    const gate = 'onlyWhile' in rule ? (rule.onlyWhile?.windowMs ?? 0) : 0;
    longest = Math.max(longest, windows + baseline + rule.forMs, absence, gate);
  }
  return Math.min(MAX_LOOK_BACK_MS, Math.ceil((longest + SLACK_MS) / 60_000) * 60_000);
}

/** The longest window over which any rule reads a percentile: how far back histograms must reach. */
export function longestPercentileMs(rules: Rules, measures: Measures): number {
  const windows = rules.flatMap((rule) =>
    rule.kind !== 'late' && measures.get(rule.measure)?.kind === 'percentile' ? [rule.windowMs] : [],
  );
  return Math.max(300_000, ...windows);
}

/** The hourly sums that trends need, and `more`, for statistics over a day. */
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

// ---- the checks that the schema of rules.yml cannot express ----

type Written = Readonly<Record<string, WrittenRule>>;
type Say = (key: string, problem: string) => void;

function findProblems(rules: Written, measures: Measures): string[] {
  const problems: string[] = [];
  for (const [id, rule] of Object.entries(rules)) {
    const say: Say = (key, problem) => problems.push(`rules.${id}${key === '' ? '' : `.${key}`}: ${problem}`);
    checkKeys(rule, say);
    checkInhibition(id, rule, rules, say);
    const measure = checkMeasure(rule, measures, say);
    checkTexts(rule, measures, say);
    checkDurations(rule, say);
    if (measure === undefined) continue;
    checkQuantities(rule, measure, measures, say);
    checkLabels(rule, measure, measures, say);
    checkCompanions(rule, rules, measures, say);
    checkOver('over', rule.over, measure, measures, say);
    const gate = rule.onlyWhile === undefined ? undefined : measures.get(rule.onlyWhile.measure);
    if (gate !== undefined) checkOver('onlyWhile.over', rule.onlyWhile?.over, gate, measures, say);
  }
  const late = Object.entries(rules).filter(([, { kind }]) => kind === 'late');
  for (const [id] of late.slice(1))
    problems.push(`rules.${id}: one rule of kind late is enough, ${late[0]![0]} is one`);
  return problems;
}

function checkKeys(rule: WrittenRule, say: Say): void {
  const { permitted, required, bound } = KINDS[rule.kind];
  for (const key of required)
    if (!(key in rule)) say(key, `missing; a rule of kind ${rule.kind} needs ${required.join(', ')}`);
  for (const key of Object.keys(rule)) {
    if (!permitted.includes(key)) say(key, `not for a rule of kind ${rule.kind}; permitted: ${permitted.join(', ')}`);
  }
  if (bound) checkOneBound('', rule, say);
  if (rule.onlyWhile !== undefined) checkOneBound('onlyWhile', rule.onlyWhile, say);
}

function checkOneBound(key: string, written: WrittenBounds, say: Say): void {
  const found = boundsOf(written).map(([op]) => op);
  if (found.length !== 1) {
    say(key, `exactly one of above, below, atLeast, atMost is needed, found ${found.join(' and ') || 'none'}`);
  }
}

function checkInhibition(id: string, rule: WrittenRule, rules: Written, say: Say): void {
  for (const other of rule.inhibitedBy ?? []) {
    if (!Object.hasOwn(rules, other)) say('inhibitedBy', `there is no rule ${other}`);
    else if (other === id) say('inhibitedBy', 'a rule cannot mute itself');
    else if (mutes(other, id, rules))
      say('inhibitedBy', `${other} and this rule mute each other: nobody would be told`);
  }
}

/** True when `rule` is muted by `by`, directly or through others. */
function mutes(rule: string, by: string, rules: Written, seen = new Set<string>()): boolean {
  if (seen.has(rule) || !Object.hasOwn(rules, rule)) return false;
  seen.add(rule);
  return (rules[rule]!.inhibitedBy ?? []).some((other) => other === by || mutes(other, by, rules, seen));
}

function checkMeasure(rule: WrittenRule, measures: Measures, say: Say): Measure | undefined {
  if (rule.measure === undefined) return undefined;
  const measure = measures.get(rule.measure);
  const kinds = KINDS[rule.kind].judges;
  if (measure === undefined) say('measure', `there is no measure ${rule.measure}`);
  else if (kinds !== undefined && !kinds.includes(measure.kind)) {
    say('measure', `${measure.name} is a ${measure.kind}; a rule of kind ${rule.kind} judges: ${kinds.join(', ')}`);
  } else if ((rule.kind === 'low-volume' || rule.kind === 'trend') && readsGauges(measure, measures)) {
    say('measure', `${measure.name} is made from gauges; a rule of kind ${rule.kind} counts events`);
  } else if (measure.kind === 'ratio' && !sameLabels(measure, measures) && readsGauges(measure, measures)) {
    say('measure', `${measure.name} divides gauges of different labels`);
  } else return measure;
  return undefined;
}

function readsGauges(measure: Measure, measures: Measures): boolean {
  return sourcesOf(measure).some((name) => measures.get(name)?.kind === 'gauge');
}

function sameLabels(measure: Measure, measures: Measures): boolean {
  const all = sourcesOf(measure).map((name) => labelsOf(name, measures).join());
  return all.every((labels) => labels === all[0]);
}

function labelsOf(name: string, measures: Measures): readonly string[] {
  const measure = measures.get(name);
  return measure !== undefined && isCollected(measure) ? measure.by : [];
}

function checkTexts(rule: WrittenRule, measures: Measures, say: Say): void {
  for (const name of unknownPlaceholders(rule.message ?? '', rule.labels ?? [])) {
    say('message', `{${name}} is neither a placeholder nor a label of the rule`);
  }
  for (const [name, text] of Object.entries(rule.metadata ?? {})) {
    const source = parseMetadataSource(text);
    if (source === undefined) say(`metadata.${name}`, `found "${text}"; permitted: ${METADATA_HELP}`);
    else if (source.kind === 'measure' && !measures.has(source.name)) {
      say(`metadata.${name}`, `there is no measure ${source.name}`);
    } else if (source.kind === 'label' && !rule.labels?.includes(source.name)) {
      say(`metadata.${name}`, `${source.name} is not a label of the rule`);
    }
  }
}

function checkDurations(rule: WrittenRule, say: Say): void {
  const { kind, window, baseline, offset, onlyWhile } = rule;
  const windowMs = durationMs(window ?? (kind === 'trend' ? '24h' : '5m'));
  if (kind === 'trend') {
    const offsetMs = durationMs(offset ?? '7d');
    if (windowMs % HOUR_MS !== 0 || offsetMs % HOUR_MS !== 0) say('window', 'a trend compares whole hours');
    if (windowMs > offsetMs) say('offset', 'the two times a trend compares must not overlap');
    if (windowMs + offsetMs > MAX_REACH_MS) say('offset', 'hours are kept for eight days');
    return;
  }
  const reachMs = windowMs + (kind === 'spike' ? durationMs(baseline ?? '1h') : 0);
  for (const [key, ms] of [
    ['window', windowMs],
    ['onlyWhile.window', durationMs(onlyWhile?.window ?? '5m')],
  ] as const) {
    if (ms % BUCKET_MS !== 0) say(key, 'must be a multiple of 10 s');
    if (ms > 3_600_000) say(key, 'must be at most 1h');
  }
  if (reachMs > FINE_MS) say('baseline', 'window and baseline together reach at most 65 minutes back');
  if (kind === 'spike' && durationMs(baseline ?? '1h') < 5 * windowMs) {
    say('baseline', 'must be at least five times the window: fewer samples are not enough');
  }
}

function checkQuantities(rule: WrittenRule, measure: Measure, measures: Measures, say: Say): void {
  const check = (key: string, written: Quantity, unit: Measure['unit']) => {
    const parsed = parseQuantity(written, unit);
    if (!parsed.ok) say(key, parsed.problem);
    // A ratio is never above 100 % or below 0 %: such a rule could not fire.
    else if (unit === 'ratio' && ((key === 'above' && parsed.value >= 1) || (key === 'below' && parsed.value <= 0))) {
      say(key, `found ${written}: that never happens`);
    }
  };
  for (const [op, value] of boundsOf(rule)) check(op, value, measure.unit);
  if (rule.forgetAfter !== undefined) checkForgetAfter(rule, measure, say);
  if (rule.floor !== undefined) check('floor', rule.floor, measure.unit);
  const gate = rule.onlyWhile === undefined ? undefined : measures.get(rule.onlyWhile.measure);
  if (gate !== undefined)
    for (const [op, value] of boundsOf(rule.onlyWhile!)) check(`onlyWhile.${op}`, value, gate.unit);
}

function checkForgetAfter(rule: WrittenRule, { unit }: Measure, say: Say): void {
  if ((rule.labels ?? []).length === 0)
    say('forgetAfter', 'needs labels: a silence of everything is only ended by an event');
  for (const [op, written] of boundsOf(rule)) {
    const bound = parseQuantity(written, unit);
    if (bound.ok && bound.value * 1_000 >= durationMs(rule.forgetAfter!)) {
      say('forgetAfter', `must be longer than ${op}: such a rule could not fire`);
    }
  }
}

function checkLabels(rule: WrittenRule, measure: Measure, measures: Measures, say: Say): void {
  const check = (key: string, names: readonly string[], of: Measure) => {
    for (const source of sourcesOf(of)) {
      const known = labelsOf(source, measures);
      for (const name of names) {
        if (!known.includes(name)) say(key, `${source} has no label ${name}; it has: ${known.join(', ') || 'none'}`);
      }
    }
  };
  const inWhere = (where: Where | undefined) => Object.keys(where ?? {});
  check('labels', rule.labels ?? [], measure);
  check('where', inWhere(rule.where), measure);
  const gate = rule.onlyWhile === undefined ? undefined : measures.get(rule.onlyWhile.measure);
  if (gate !== undefined) check('onlyWhile.where', inWhere(rule.onlyWhile?.where), gate);
  if (rule.kind === 'first-seen' && rule.labels?.length === 0) say('labels', 'at least one is needed');
}

/** Only a gauge, or a ratio of gauges, has single readings to choose from. */
function checkOver(key: string, over: Over | undefined, measure: Measure, measures: Measures, say: Say): void {
  if (over === undefined || over === 'newest') return;
  if (measure.kind === 'gauge' || (measure.kind === 'ratio' && readsGauges(measure, measures))) return;
  say(key, `${measure.name} is a ${measure.kind}; lowest, highest and mean are for gauges and for ratios of gauges`);
}

function checkCompanions(rule: WrittenRule, rules: Written, measures: Measures, say: Say): void {
  const { insteadOf, fallback, onlyWhile, measure, labels = [], againstOthers } = rule;
  if (fallback !== undefined) {
    const other = measures.get(fallback);
    if (other === undefined) say('fallback', `there is no measure ${fallback}`);
    else if (other.unit !== measures.get(measure!)!.unit) say('fallback', `${fallback} is in another unit`);
  }
  if (onlyWhile !== undefined && !measures.has(onlyWhile.measure)) {
    say('onlyWhile.measure', `there is no measure ${onlyWhile.measure}`);
  }
  if (insteadOf !== undefined) {
    const other = Object.hasOwn(rules, insteadOf) ? rules[insteadOf] : undefined;
    if (other?.kind !== 'ratio') say('insteadOf', `${insteadOf} is not a rule of kind ratio`);
    else if (other.measure !== measure) say('insteadOf', `${insteadOf} judges another measure`);
    if ((rule.minEvents ?? 0) > (rule.last ?? 0)) say('minEvents', 'must be at most `last`');
  }
  if (againstOthers !== undefined && labels.length === 0) say('againstOthers', 'needs labels: others of what?');
}

// ---- the rules file while logpipe runs ----
// It is checked every second, and on demand.

interface RulesFileOptions {
  readonly rules: WatchedFile;
  /** Measures are read only at start-up; a change of the file is logged. */
  readonly measures: WatchedFile;
}

/** A file, and its text that is in force. */
interface WatchedFile {
  readonly file: string;
  readonly text: string;
}

interface RulesFileDeps {
  readonly measures: Measures;
  readonly env: Environment;
  readonly clock: Clock;
  readonly log: Log;
  /** Takes valid rules. @returns why they need a restart; the previous rules stay in force then */
  readonly onRules: (rules: Rules) => string | undefined;
}

export interface RulesFile {
  /** Checks the files at once and logs the result, even when nothing has changed. */
  look(): void;
  close(): void;
}

export function watchRulesFile(options: RulesFileOptions, deps: RulesFileDeps): RulesFile {
  const { clock, log, measures, env } = deps;
  const { file } = options.rules;
  /** The last text that was read, valid or not. */
  let seen = options.rules.text;
  let refused = false;
  let measuresText = options.measures.text;
  const changed = createChangedText();
  let away = false;
  let cancel = () => {};

  function take(text: string): void {
    seen = text;
    refused = true;
    let rules: Rules;
    try {
      rules = parseRules(text, env, file, measures);
    } catch (error) {
      log.error('The changed rules file is refused as a whole; the previous rules stay in force', {
        error: errorText(error),
      });
      return;
    }
    const problem = deps.onRules(rules);
    if (problem !== undefined) {
      log.error('The changed rules take effect after a restart; until then the previous rules stay in force', {
        why: problem,
      });
      return;
    }
    refused = false;
    log.info('The rules were read again', { file, rules: rules.length });
  }

  function lookAt(now: boolean): void {
    try {
      const text = changed(file, seen, now);
      if (text !== undefined) take(text);
      else if (now)
        log.info(refused ? 'The rules file is still the one that was refused' : 'The rules have not changed', { file });
      away = false;
    } catch (error) {
      if (!away || now)
        log.warn('The rules file cannot be read; the present rules stay in force', { file, error: errorText(error) });
      away = true;
    }
    try {
      const text = changed(options.measures.file, measuresText, now);
      if (text === undefined) return;
      measuresText = text;
      log.warn('The measures file has changed: measures take effect after a restart of every counter and alerter', {
        file: options.measures.file,
      });
    } catch {
      // The file is not needed while logpipe runs.
    }
  }

  function schedule(): void {
    cancel = clock.after(LOOK_MS, () => {
      lookAt(false);
      schedule();
    });
  }
  schedule();

  return {
    look: () => lookAt(true),
    close: () => cancel(),
  };
}
