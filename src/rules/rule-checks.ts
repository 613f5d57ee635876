// What the schema of rules.yml cannot say. In: rules as written, and the measures. Out: problems in words, each with its place.
import { durationMs } from '../core/duration.ts';
import { isCollected, type Measure, type Measures, type Where } from '../measure/measure-config.ts';
import { BUCKET_MS } from '../measure/totals.ts';
import { HOUR_MS, MAX_REACH_MS } from './hourly.ts';
import { FINE_MS } from './layers.ts';
import { METADATA_HELP, parseMetadataSource, unknownPlaceholders } from './message.ts';
import { parseQuantity, type Quantity } from './quantity.ts';
import { boundsOf, type WrittenBounds, type WrittenRule } from './rule-complete.ts';
import { KEYS_OF_KIND, type RuleKind } from './rule-schema.ts';
import type { Over } from './rule-types.ts';
import { sourcesOf } from './values.ts';

type Written = Readonly<Record<string, WrittenRule>>;
type Say = (key: string, problem: string) => void;

/** Which kinds of measure a rule can judge. */
const JUDGES: Partial<Record<RuleKind, readonly Measure['kind'][]>> = {
  threshold: ['counter', 'gauge', 'ratio', 'percentile', 'mean', 'rate', 'increase', 'sum'],
  ratio: ['ratio'],
  percentile: ['percentile'],
  absence: ['absence'],
  spike: ['counter', 'rate', 'gauge'],
  'low-volume': ['ratio'],
  'first-seen': ['counter'],
  trend: ['counter', 'ratio', 'rate', 'mean'],
};

export function findProblems(rules: Written, measures: Measures): string[] {
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
  const { permitted, required, bound } = KEYS_OF_KIND[rule.kind];
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
  const kinds = JUDGES[rule.kind];
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
      say(`metadata.${name}`, `${source.name} is no label of the rule`);
    }
  }
}

function checkDurations(rule: WrittenRule, say: Say): void {
  const { kind, window, baseline, offset, onlyWhile } = rule;
  const windowMs = durationMs(window ?? (kind === 'trend' ? '24h' : '5m'));
  if (kind === 'trend') {
    const offsetMs = durationMs(offset ?? '7d');
    if (windowMs % HOUR_MS !== 0 || offsetMs % HOUR_MS !== 0) say('window', 'trends are made of whole hours');
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
    say('baseline', 'must be at least five times the window: fewer samples say nothing');
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
    say('forgetAfter', 'needs labels: a silence of everything has no end but an event');
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

/** Of what has no readings, or those of several series added up, no single reading can be meant. */
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
    if (other?.kind !== 'ratio') say('insteadOf', `${insteadOf} is no rule of kind ratio`);
    else if (other.measure !== measure) say('insteadOf', `${insteadOf} judges another measure`);
    if ((rule.minEvents ?? 0) > (rule.last ?? 0)) say('minEvents', 'must be at most `last`');
  }
  if (againstOthers !== undefined && labels.length === 0) say('againstOthers', 'needs labels: others of what?');
}
