// What became of messages, and what has been kept long enough. In: results of the channels, and the wall clock. Out: entries
// leave the outbox, incidents know whom the message reached, old records go. Pure over the draft.

import type { Notification, SendResult } from '../notify/notification.ts';
import { type ChannelState, type IncidentRecord, KEEP_INCIDENTS_MS, wasReached } from './incident.ts';
import type { Step } from './observe.ts';
import type { OutboxEntry, OutboxResult } from './outbox-entry.ts';
import type { Draft } from './records.ts';

const NEVER_TOLD = 'not sent: the channel has refused the trigger';
/** Resolved incidents beyond this go before their time, oldest first. */
const MAX_RESOLVED = 2_000;

export function settle({ draft, outbox, wallMs }: Step, results: readonly OutboxResult[]): void {
  for (const { id, result, retry } of results) {
    const entry = draft.get('outbox', id);
    if (entry === undefined) continue;
    if (!result.ok && retry !== undefined) {
      draft.put('outbox', id, { ...entry, ...retry });
      continue;
    }
    draft.remove('outbox', id);
    const { channel, notification } = entry;
    if (notification === undefined) continue;
    const incident = draft.get('incident', notification.incidentId);
    const waiting = draft
      .values('outbox')
      .filter((other) => other.channel === channel && other.notification?.incidentId === notification.incidentId);
    const trigger = waiting.findIndex((other) => other.notification?.action === 'trigger');
    const next = incident === undefined ? undefined : reached(incident, entry, result, trigger !== -1, wallMs);
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

/** It may have: an answer that proves nothing counts. */
function reachedSomebody(result: SendResult): boolean {
  return result.ok || result.doubtful === true || result.left !== undefined;
}

/** @param triggers another trigger of the incident waits for the channel */
function reached(
  incident: IncidentRecord,
  { channel, notification }: OutboxEntry,
  result: SendResult,
  triggers: boolean,
  wallMs: number,
): IncidentRecord {
  const present = incident.channels[channel];
  if (present === undefined) return incident;
  const { failed: _, ...state } = present;
  let next: ChannelState = present;
  if (result.ok) {
    // The end of what has begun again since says nothing of the new beginning.
    if (notification?.action !== 'resolve' || !triggers) next = { ...state, deliveredMs: wallMs };
  } else if (reachedSomebody(result)) next = { ...state, failed: result.reason, perhapsMs: wallMs };
  // Otherwise the next one decides.
  else if (!triggers) next = { ...state, failed: result.reason };
  return { ...incident, channels: { ...incident.channels, [channel]: next } };
}

/** Removes ended silences, incidents that were kept for 30 days, and documents that nobody takes any more. */
export function prune(draft: Draft, wallMs: number, history: boolean): void {
  if (!history) {
    for (const { id, channel } of draft.values('outbox')) if (channel === 'history') draft.remove('outbox', id);
  }
  for (const { id, untilMs } of draft.values('silence')) if (untilMs <= wallMs) draft.remove('silence', id);
  const resolved = draft.values('incident').filter(({ state }) => state === 'resolved');
  for (const { id, resolvedMs = 0 } of resolved) {
    if (wallMs - resolvedMs >= KEEP_INCIDENTS_MS) draft.remove('incident', id);
  }
  if (resolved.length <= MAX_RESOLVED) return;
  resolved.sort((one, other) => (one.resolvedMs ?? 0) - (other.resolvedMs ?? 0));
  for (const { id } of resolved.slice(0, resolved.length - MAX_RESOLVED)) draft.remove('incident', id);
}
