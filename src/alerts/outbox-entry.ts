// One message on its way to one channel, as it stands in the store until the channel has taken it. Data, and the writer that
// numbers and bounds it. Guarantee: numbers never repeat, not even over restarts, and entries of a channel are in the order
// of their decisions; a channel that is away for days costs its oldest entries, which is said: with a beginning its end goes, and
// of what has begun the end goes last.
import type { Retry } from '../notify/dispatcher.ts';
import type { ChannelName, Notification, SendResult } from '../notify/notification.ts';
import { wasReached } from './incident.ts';
import type { Draft } from './records.ts';
import { type HistoryDocument, historyDocument, type Transition } from './transitions.ts';

/** `outbox/<id>`. */
export interface OutboxEntry {
  /** `<seq>-<channel>`; sorts by number. */
  readonly id: string;
  readonly channel: ChannelName;
  readonly createdMs: number;
  /** Failed attempts so far. */
  readonly attempts: number;
  /** Not before this time, ms; 0 for at once. */
  readonly nextMs: number;
  /** Doubtful answers so far, and recipients that an earlier attempt left over: as the dispatcher has them. */
  readonly doubts?: number;
  readonly left?: readonly string[];
  /** Of every channel but `history`. */
  readonly notification?: Notification;
  /** Of `history`. */
  readonly document?: HistoryDocument;
}

/** An entry of any channel but `history`, as the dispatcher takes it. */
export type MessageEntry = OutboxEntry & { readonly notification: Notification };
export type HistoryEntry = OutboxEntry & { readonly document: HistoryDocument };

/** What became of an attempt. With `retry` another one follows; without, the entry is done: taken, or given up. */
export interface OutboxResult {
  readonly id: string;
  readonly result: SendResult;
  readonly retry?: Retry | undefined;
}

export interface OutboxLimits {
  /** Waiting messages per channel. */
  readonly perChannel: number;
  /** Waiting documents of the history. */
  readonly history: number;
}

export const OUTBOX_LIMITS: OutboxLimits = { perChannel: 500, history: 2_000 };

export const SEQ_DIGITS = 12;

const NO_ROOM = 'given up: the channel has taken none for too long';
const NEVER_TOLD = 'not sent: the channel has not had the trigger';

export interface OutboxWriter {
  send(channels: readonly ChannelName[], notification: Notification): void;
  record(transition: Transition): void;
  /** Applies the limits. Nothing may be added afterwards. */
  finish(): {
    readonly enqueued: OutboxEntry[];
    readonly dropped: OutboxEntry[];
    readonly transitions: HistoryDocument[];
  };
}

export function writeOutbox(
  draft: Draft,
  options: {
    readonly wallMs: number;
    readonly environment: string;
    readonly limits: OutboxLimits;
    /** False: nobody takes documents, so none is kept. */
    readonly history: boolean;
  },
): OutboxWriter {
  const { wallMs, environment, limits, history } = options;
  const first = draft.get('meta', 'outbox')?.seq ?? 0;
  let seq = first;
  const added: OutboxEntry[] = [];
  const transitions: HistoryDocument[] = [];

  const add = (channel: ChannelName, content: Pick<OutboxEntry, 'notification' | 'document'>) => {
    const id = `${String(seq).padStart(SEQ_DIGITS, '0')}-${channel}`;
    const entry = { id, channel, createdMs: wallMs, attempts: 0, nextMs: 0, ...content };
    draft.put('outbox', entry.id, entry);
    added.push(entry);
  };

  const record = (transition: Transition) => {
    seq += 1;
    const document = historyDocument(transition, { wallMs, seq, environment });
    transitions.push(document);
    if (history) add('history', { document });
  };

  return {
    send(channels, notification) {
      seq += 1;
      for (const channel of channels) if (channel !== 'history') add(channel, { notification });
    },
    record,
    finish() {
      if (seq === first) return { enqueued: [], dropped: [], transitions };
      const dropped = new Set<OutboxEntry>();
      const drop = (entry: OutboxEntry, why: string) => {
        draft.remove('outbox', entry.id);
        dropped.add(entry);
        if (entry.notification !== undefined) record(undelivered(draft, entry, why));
      };
      for (const channel of new Set(added.map((entry) => entry.channel))) {
        if (channel === 'history') continue;
        for (;;) {
          const waiting = draft.values('outbox').filter((entry) => entry.channel === channel);
          if (waiting.length <= limits.perChannel) break;
          const [oldest] = waiting;
          const entry = waiting.find(({ notification }) => notification?.action !== 'resolve') ?? oldest;
          if (entry === undefined) break;
          drop(entry, NO_ROOM);
          for (const orphan of orphansOf(draft, entry)) drop(orphan, NEVER_TOLD);
        }
      }
      const documents = draft.values('outbox').filter((entry) => entry.channel === 'history');
      for (const entry of documents.slice(0, Math.max(0, documents.length - limits.history))) drop(entry, NO_ROOM);
      draft.put('meta', 'outbox', { seq });
      return { enqueued: added.filter((entry) => !dropped.has(entry)), dropped: [...dropped], transitions };
    },
  };
}

/**
 * What the channel of a trigger that has left the outbox unsent has no use for any more: up to the incident's next trigger,
 * unless an earlier one has reached it. Notes in the incident that the channel knows nothing of it.
 */
function orphansOf(draft: Draft, { id, channel, notification }: OutboxEntry): OutboxEntry[] {
  const incident = notification?.action === 'trigger' ? draft.get('incident', notification.incidentId) : undefined;
  const state = incident?.channels[channel];
  if (incident === undefined || state === undefined) return [];
  const { waiting, trigger } = waitingFor(draft, channel, incident.id);
  if (trigger === -1) {
    const next = { ...state, failed: NO_ROOM, givenUp: id };
    draft.put('incident', incident.id, { ...incident, channels: { ...incident.channels, [channel]: next } });
  }
  return wasReached(state) ? [] : trigger === -1 ? waiting : waiting.slice(0, trigger);
}

/** What a channel is to get of an incident, and the place of the first trigger in it; -1 when there is none. */
export function waitingFor(
  draft: Draft,
  channel: ChannelName,
  incidentId: string,
): { readonly waiting: OutboxEntry[]; readonly trigger: number } {
  const waiting = draft
    .values('outbox')
    .filter((other) => other.channel === channel && other.notification?.incidentId === incidentId);
  return { waiting, trigger: waiting.findIndex(({ notification }) => notification?.action === 'trigger') };
}

function undelivered(draft: Draft, { channel, notification }: OutboxEntry, failure: string): Transition {
  const { incidentId, action, reason } = notification as Notification;
  const incident = draft.get('incident', incidentId);
  return {
    name: 'notified',
    ...(incident === undefined ? {} : { incident }),
    notification: { channel, action, reason, delivered: false, failure },
  };
}

export function isMessage(entry: OutboxEntry): entry is MessageEntry {
  return entry.notification !== undefined;
}

export function isHistory(entry: OutboxEntry): entry is HistoryEntry {
  return entry.document !== undefined;
}
