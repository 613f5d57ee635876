// What a rule test expects against what happened. In: expectations as written, alerts and messages of the drive. Out: what does
// not hold, each in one sentence with its place and both times. Guarantee: everything that happened and was not expected is said.
import { isDeepStrictEqual } from 'node:util';
import type { Rules } from '../rules/rule-config.ts';
import type { Driven, DrivenAlert, DrivenMessage } from './drive.ts';
import { offsetMs, type WrittenMessage, type WrittenTest } from './rule-tests-schema.ts';

interface Scale {
  readonly fromMs: number;
  /** How exact a single time can be. */
  readonly tickMs: number;
  readonly rules: Rules;
}

export function compare(expected: WrittenTest['expect'], { alerts, messages }: Driven, scale: Scale): string[] {
  const problems = unknownRules(expected, scale);
  const rest = [...alerts];
  for (const expectation of expected.alerts) {
    const { rule, labels, fires } = expectation;
    const at = rest.findIndex((alert) => alert.ruleId === rule && sameLabels(alert.labels, labels));
    if (at < 0) problems.push(`${named(rule, labels)}: expected to fire at ${fires}, it did not fire`);
    else problems.push(...compareAlert(expectation, rest.splice(at, 1)[0]!, scale));
  }
  for (const { ruleId, labels, firedMs, message } of rest) {
    problems.push(`${named(ruleId, labels)}: not expected, it fired at ${clockOf(firedMs - scale.fromMs)}: ${message}`);
  }
  const written = expected.messages;
  if (written === undefined) return problems;
  for (let i = 0; i < Math.max(written.length, messages.length); i++) {
    const problem = compareMessage(written[i], messages[i], scale);
    if (problem !== undefined) problems.push(`message ${i + 1}: ${problem}`);
  }
  return problems;
}

/** A name that is no rule's would be silent for ever. */
function unknownRules({ silent, alerts }: WrittenTest['expect'], { rules }: Scale): string[] {
  const known = new Set(rules.map(({ id }) => id));
  const unknown = [...silent, ...alerts.map(({ rule }) => rule)].filter((id) => !known.has(id));
  return [...new Set(unknown)].map((id) => `${id}: there is no such rule`);
}

function compareAlert(
  { rule, labels, fires, resolves, muted }: WrittenTest['expect']['alerts'][number],
  alert: DrivenAlert,
  scale: Scale,
): string[] {
  const name = named(rule, labels);
  const since = (ms: number) => ms - scale.fromMs;
  const problems: string[] = [];
  if (!within(since(alert.firedMs), fires, scale)) {
    problems.push(`${name}: expected to fire at ${fires}, it fired at ${clockOf(since(alert.firedMs))}`);
  }
  if (alert.muted !== muted) problems.push(`${name}: expected to be ${muted ? 'muted' : 'heard'}, it was not`);
  if (resolves === undefined) return problems;
  if (alert.resolvedMs === undefined) problems.push(`${name}: expected to resolve at ${resolves}, it still fires`);
  else if (!within(since(alert.resolvedMs), resolves, scale)) {
    problems.push(`${name}: expected to resolve at ${resolves}, it did at ${clockOf(since(alert.resolvedMs))}`);
  }
  return problems;
}

function compareMessage(
  want: WrittenMessage | undefined,
  got: DrivenMessage | undefined,
  scale: Scale,
): string | undefined {
  if (got === undefined) return `expected "${want?.title}" at ${want?.at}, none was sent`;
  const { title, action, reason, message, metadata = {} } = got.notification;
  const at = clockOf(got.atMs - scale.fromMs);
  const told = `"${title}" (${action}, ${reason}) at ${at} to ${got.channels.join(', ') || 'nobody'}`;
  if (want === undefined) return `not expected: ${told}: ${message}`;
  const fits =
    title === want.title &&
    action === want.action &&
    within(got.atMs - scale.fromMs, want.at, scale) &&
    (want.reason ?? reason) === reason &&
    (want.message ?? message) === message &&
    (want.metadata === undefined || isDeepStrictEqual(want.metadata, metadata)) &&
    (want.to === undefined || [...want.to].sort().join() === [...got.channels].sort().join());
  if (fits) return undefined;
  const details = want.metadata === undefined ? '' : ` ${JSON.stringify(metadata)}`;
  return `expected ${JSON.stringify(want)}, sent was ${told}: ${message}${details}`;
}

/** `90s..2m`, or one time with a tolerance of a tick. */
function within(ms: number, range: string, { tickMs }: Scale): boolean {
  const [from, to] = range.split('..') as [string, string | undefined];
  const least = offsetMs(from);
  return ms >= least && ms <= (to === undefined ? least + tickMs : offsetMs(to));
}

function sameLabels(one: Readonly<Record<string, string>>, other: Readonly<Record<string, string>>): boolean {
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => one[name] === other[name]);
}

function named(rule: string, labels: Readonly<Record<string, string>>): string {
  const values = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  return values.length === 0 ? rule : `${rule}{${values.join(',')}}`;
}

/** As times are written in tests. */
function clockOf(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor((seconds % 3_600) / 60)];
  const parts = [
    [hours, 'h'],
    [minutes, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const text = parts.map(([n, unit]) => (n === 0 ? '' : `${n}${unit}`)).join('');
  return text === '' ? '0s' : text;
}
