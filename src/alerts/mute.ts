// What keeps a firing alert from being told: silences, which people set, and inhibition, which rules declare. Pure.
// Guarantee: inhibition never mutes in a circle, so behind every inhibited alert stands one that is not.
import type { RuleInfo } from '../rules/observation.ts';
import type { AlertRecord, Muted } from './alert-state.ts';

/** `silence/<id>`: what matches is not told until it ends. Every part that is given must match; one must be given. */
export interface SilenceRecord {
  readonly id: string;
  readonly ruleId?: string;
  readonly group?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Wall clock, ms. */
  readonly untilMs: number;
  readonly by: string;
  readonly reason: string;
}

export type MutedBy = (alert: AlertRecord, firing: readonly AlertRecord[]) => Muted | undefined;

/** How each alert stands, given all that fire and the silences in force. */
export function createMuting(rules: readonly RuleInfo[]): (silences: readonly SilenceRecord[]) => MutedBy {
  const inhibitors = withoutCircles(rules);
  return (silences) => (alert, firing) => {
    if (silences.some((silence) => matches(silence, alert))) return 'silenced';
    const by = inhibitors.get(alert.ruleId);
    if (by === undefined) return undefined;
    return firing.some((other) => by.has(other.ruleId) && agree(other.labels, alert.labels)) ? 'inhibited' : undefined;
  };
}

/** True when the silence says at least one thing about alerts. */
export function isSpecific(silence: Pick<SilenceRecord, 'ruleId' | 'group' | 'labels'>): boolean {
  return silence.ruleId !== undefined || silence.group !== undefined || Object.keys(silence.labels ?? {}).length > 0;
}

function matches(silence: SilenceRecord, alert: AlertRecord): boolean {
  return (
    (silence.ruleId === undefined || silence.ruleId === alert.ruleId) &&
    (silence.group === undefined || silence.group === alert.group) &&
    Object.entries(silence.labels ?? {}).every(([name, value]) => alert.labels[name] === value)
  );
}

/** The same value of every label that both have. */
function agree(one: AlertRecord['labels'], other: AlertRecord['labels']): boolean {
  return Object.keys(one).every((name) => other[name] === undefined || other[name] === one[name]);
}

/** Rule -> the rules that mute it. A declaration that would close a circle, in the order of the rules, is left out. */
function withoutCircles(rules: readonly RuleInfo[]): Map<string, ReadonlySet<string>> {
  const result = new Map<string, Set<string>>();
  const leadsTo = (from: string, to: string): boolean =>
    from === to || [...(result.get(from) ?? [])].some((next) => leadsTo(next, to));
  for (const { id, inhibitedBy } of rules) {
    const by = new Set<string>();
    result.set(id, by);
    for (const other of inhibitedBy) if (!leadsTo(other, id)) by.add(other);
  }
  for (const [id, by] of result) if (by.size === 0) result.delete(id);
  return result;
}
