// One message on its way to one channel, as it stands in the store until the channel has taken it. Data, and the writer that
// numbers and bounds it. Guarantee: numbers never repeat, not even over restarts, and entries of a channel are in the order
// of their decisions; a channel that is away for days costs its oldest entries, which is said.
import type { Retry } from '../notify/dispatcher.ts';
import type { ChannelName, Notification, SendResult } from '../notify/notification.ts';
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

  return {
    send(channels, notification) {
      seq += 1;
      for (const channel of channels) if (channel !== 'history') add(channel, { notification });
    },
    record(transition) {
      seq += 1;
      const document = historyDocument(transition, { wallMs, seq, environment });
      transitions.push(document);
      if (history) add('history', { document });
    },
    finish() {
      if (seq === first) return { enqueued: [], dropped: [], transitions };
      draft.put('meta', 'outbox', { seq });
      const dropped = new Set<OutboxEntry>();
      for (const channel of new Set(added.map((entry) => entry.channel))) {
        const limit = channel === 'history' ? limits.history : limits.perChannel;
        const waiting = draft.values('outbox').filter((entry) => entry.channel === channel);
        for (const entry of waiting.slice(0, Math.max(0, waiting.length - limit))) {
          draft.remove('outbox', entry.id);
          dropped.add(entry);
        }
      }
      return { enqueued: added.filter((entry) => !dropped.has(entry)), dropped: [...dropped], transitions };
    },
  };
}

export function isMessage(entry: OutboxEntry): entry is MessageEntry {
  return entry.notification !== undefined;
}

export function isHistory(entry: OutboxEntry): entry is HistoryEntry {
  return entry.document !== undefined;
}
