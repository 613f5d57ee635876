// What became of messages, and what has been kept long enough. In: results of the channels, and the wall clock. Out: entries
// leave the outbox, incidents know whom the message reached, old records go. Pure over the draft.

import { pruneAnswers } from './commands.ts';
import { type ChannelState, type IncidentRecord, KEEP_INCIDENTS_MS } from './incident.ts';
import type { Step } from './observe.ts';
import type { OutboxResult } from './outbox-entry.ts';
import type { Draft } from './records.ts';

/** Resolved incidents beyond this go before their time, oldest first. */
const MAX_RESOLVED = 2_000;
/** Dismissed absences beyond this go before their time, oldest first. */
const MAX_DISMISSED = 1_000;

export function settle({ draft, outbox, wallMs }: Step, results: readonly OutboxResult[]): void {
  for (const { id, result, retry } of results) {
    const entry = draft.get('outbox', id);
    if (entry === undefined) continue;
    if (!result.ok && retry !== undefined) {
      draft.put('outbox', id, { ...entry, attempts: retry.attempts, nextMs: retry.nextMs });
      continue;
    }
    draft.remove('outbox', id);
    const { channel, notification } = entry;
    if (notification === undefined) continue;
    const incident = draft.get('incident', notification.incidentId);
    const next =
      incident === undefined ? undefined : reached(incident, channel, result.ok ? undefined : result.reason, wallMs);
    if (next !== undefined) draft.put('incident', next.id, next);
    outbox.record({
      name: 'notified',
      ...(next === undefined ? {} : { incident: next }),
      notification: {
        channel,
        action: notification.action,
        reason: notification.reason,
        delivered: result.ok,
        ...(result.ok ? {} : { failure: result.reason }),
      },
    });
  }
}

function reached(
  incident: IncidentRecord,
  channel: keyof IncidentRecord['channels'],
  failure: string | undefined,
  wallMs: number,
): IncidentRecord {
  const present: ChannelState | undefined = incident.channels[channel];
  if (present === undefined) return incident;
  const { failed: _, ...state } = present;
  const next = failure === undefined ? { ...state, deliveredMs: wallMs } : { ...state, failed: failure };
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
