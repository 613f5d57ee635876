// What became of messages, and what has been kept long enough. In: results of the channels, and the wall clock. Out: entries
// leave the outbox, incidents know whom the message reached, old records go. Pure over the draft.

import type { Notification, SendResult } from '../notify/notification.ts';
import { pruneAnswers } from './commands.ts';
import { type ChannelState, type IncidentRecord, KEEP_INCIDENTS_MS, wasReached } from './incident.ts';
import type { Step } from './observe.ts';
import { type OutboxEntry, type OutboxResult, waitingFor } from './outbox-entry.ts';
import type { Draft } from './records.ts';

const NEVER_TOLD = 'not sent: the channel has refused the trigger';
/** Resolved incidents beyond this go before their time, oldest first. */
const MAX_RESOLVED = 2_000;
/** Dismissed absences beyond this go before their time, oldest first. */
const MAX_DISMISSED = 1_000;

export function settle({ draft, outbox, wallMs }: Step, results: readonly OutboxResult[]): void {
  for (const { id, result, retry } of results) {
    const entry = draft.get('outbox', id);
    if (entry === undefined) {
      if (reachedSomebody(result)) arrivedAfterAll(draft, id, wallMs);
      continue;
    }
    if (!result.ok && retry !== undefined) {
      draft.put('outbox', id, { ...entry, ...retry });
      continue;
    }
    draft.remove('outbox', id);
    const { channel, notification } = entry;
    if (notification === undefined) continue;
    const incident = draft.get('incident', notification.incidentId);
    const { waiting, trigger } = waitingFor(draft, channel, notification.incidentId);
    const next = incident === undefined ? undefined : reached(incident, entry, result, waiting, wallMs);
    if (next !== undefined) draft.put('incident', next.id, next);
    const record = ({ action, reason }: Notification, failure?: string) =>
      outbox.record({
        name: 'notified',
        ...(next === undefined ? {} : { incident: next }),
        notification: {
          ...{ channel, action, reason, delivered: failure === undefined },
          ...(failure === undefined ? {} : { failure }),
        },
      });
    record(notification, result.ok ? undefined : result.reason);
    const before = incident?.channels[channel];
    if (notification.action !== 'trigger' || reachedSomebody(result) || wasReached(before)) continue;
    // Whoever refused the beginning has no use for the end.
    for (const other of trigger === -1 ? waiting : waiting.slice(0, trigger)) {
      draft.remove('outbox', other.id);
      if (other.notification !== undefined) record(other.notification, NEVER_TOLD);
    }
  }
}

/** A trigger that was given up for want of room while it was under way: the channel knows of the incident, and is owed its end. */
function arrivedAfterAll(draft: Draft, id: string, wallMs: number): void {
  for (const incident of draft.values('incident')) {
    for (const [name, state] of Object.entries(incident.channels)) {
      if (state.givenUp !== id) continue;
      const { givenUp: _, failed: __, resolvedMs: ___, ...rest } = state;
      const next = { ...rest, deliveredMs: wallMs };
      draft.put('incident', incident.id, { ...incident, channels: { ...incident.channels, [name]: next } });
      return;
    }
  }
}

/** It may have: an answer that proves nothing counts. */
function reachedSomebody(result: SendResult): boolean {
  return result.ok || result.doubtful === true || result.left !== undefined;
}

/** @param waiting what the channel is to get of the incident after this message */
function reached(
  incident: IncidentRecord,
  { channel, notification }: OutboxEntry,
  result: SendResult,
  waiting: readonly OutboxEntry[],
  wallMs: number,
): IncidentRecord {
  const present = incident.channels[channel];
  if (present === undefined) return incident;
  const actions = [notification?.action, ...waiting.map((other) => other.notification?.action)];
  const trigger = actions.lastIndexOf('trigger');
  // The incident has begun again since: what came before says nothing of that.
  if (actions.slice(0, Math.max(0, trigger)).includes('resolve')) return incident;
  const { failed: _, ...state } = present;
  let next: ChannelState = present;
  if (result.ok) next = { ...state, deliveredMs: wallMs };
  else if (reachedSomebody(result)) next = { ...state, failed: result.reason, perhapsMs: wallMs };
  // Otherwise the next trigger decides.
  else if (trigger <= 0) next = { ...state, failed: result.reason };
  return { ...incident, channels: { ...incident.channels, [channel]: next } };
}

/** Removes ended silences, old answers, incidents that were kept for 30 days, and documents that nobody takes any more. */
export function prune(draft: Draft, wallMs: number, history: boolean): void {
  if (!history) {
    for (const { id, channel } of draft.values('outbox')) if (channel === 'history') draft.remove('outbox', id);
  }
  pruneAnswers(draft, wallMs);
  const dismissed = draft.values('dismissed');
  dismissed.sort((one, other) => one.atMs - other.atMs);
  for (const { key } of dismissed.slice(0, Math.max(0, dismissed.length - MAX_DISMISSED)))
    draft.remove('dismissed', key);
  for (const { id, untilMs } of draft.values('silence')) if (untilMs <= wallMs) draft.remove('silence', id);
  const resolved = draft.values('incident').filter(({ state }) => state === 'resolved');
  for (const { id, resolvedMs = 0 } of resolved) {
    if (wallMs - resolvedMs >= KEEP_INCIDENTS_MS) draft.remove('incident', id);
  }
  if (resolved.length <= MAX_RESOLVED) return;
  resolved.sort((one, other) => (one.resolvedMs ?? 0) - (other.resolvedMs ?? 0));
  for (const { id } of resolved.slice(0, resolved.length - MAX_RESOLVED)) draft.remove('incident', id);
}
