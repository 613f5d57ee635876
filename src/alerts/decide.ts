// Whether an incident has something to say now, and why. In: counted facts about one incident and the wall clock. Out: one
// reason of the closed list. Pure: the same facts give the same reason, wherever and whenever they are looked at.
import type { NotifyReason } from '../notify/notification.ts';
import { PRIORITIES, type Priority } from '../rules/observation.ts';

export interface NotifyFacts {
  /** Firing alerts of the incident, muted ones included. */
  readonly firing: number;
  /** Those of them that are neither silenced nor inhibited. */
  readonly audible: number;
  /** Audible alerts whose condition is true at present and that no message has named yet. */
  readonly joined: number;
  /** Audible alerts whose condition is true at present. */
  readonly breached: number;
  /** Alerts that a message has named and that ended since the last one. */
  readonly resolved: number;
  /** Highest priority of the audible alerts; undefined when there are none. */
  readonly priority: Priority | undefined;
  /** Priority of the last trigger. */
  readonly toldPriority: Priority | undefined;
  /** When the last trigger was decided, ms, not ahead of the wall clock by more than a minute (`redated`); undefined before it. */
  readonly lastTriggerMs: number | undefined;
  /** Some channel got a trigger that no resolve has followed. */
  readonly open: boolean;
  /** `new`: a person has taken the incident and the channels have not been told. */
  readonly acknowledged: 'no' | 'new' | 'told';
  readonly cooldownMs: number;
  /** 0 = no reminders. */
  readonly remindMs: number;
}

export function decideNotify(facts: NotifyFacts, wallMs: number): NotifyReason {
  // The end is told even when everything is muted: whoever got the trigger would wait for ever otherwise.
  if (facts.firing === 0) return facts.open ? 'all-resolved' : 'none';
  if (facts.acknowledged === 'new' && facts.open) return 'acknowledged';
  if (facts.audible === 0 || facts.priority === undefined) return 'none';
  if (facts.lastTriggerMs === undefined) return facts.joined > 0 ? 'first' : 'none';
  const since = wallMs - facts.lastTriggerMs;
  if (facts.joined > 0 && (since >= facts.cooldownMs || outranks(facts.priority, facts.toldPriority))) {
    return 'new-alerts';
  }
  // What was true before a restart, or of a host that is gone, is no reason to remind anybody.
  if (facts.breached === 0) return 'none';
  if (facts.acknowledged === 'no' && facts.remindMs > 0 && since >= Math.max(facts.remindMs, facts.cooldownMs)) {
    return facts.resolved > 0 ? 'some-resolved' : 'repeat';
  }
  return 'none';
}

/** True when `one` is more urgent than `other`; anything is more urgent than nothing. */
export function outranks(one: Priority, other: Priority | undefined): boolean {
  return other === undefined || PRIORITIES.indexOf(one) < PRIORITIES.indexOf(other);
}
