// The records the state machine owns, and changes to them that may be thrown away. In: what the store held. Out: drafts, and
// the changes of a draft for the store. Guarantee: nothing that a decision depends on is kept outside of these records.

import { createHash } from 'node:crypto';
import type { Priority, Severity, Why } from '../rules/observation.ts';
import {
  type AlertRecord,
  type AlertRule,
  compareText,
  type Dismissed,
  type IncidentRecord,
  type Resolution,
  type SilenceRecord,
  wasReached,
} from './incident.ts';
import type { ChannelName, Notification, NotifyAction, NotifyReason, Retry, SendResult } from './notification.ts';

interface Kinds {
  alert: AlertRecord;
  incident: IncidentRecord;
  outbox: OutboxEntry;
  silence: SilenceRecord;
  dismissed: Dismissed;
  command: CommandAnswer;
  /** `rules/present`: the rules that decided last. */
  rules: RulesRecord;
  /** `meta/outbox`: the last number given to an outbox entry. */
  meta: { readonly seq: number };
}
interface RulesRecord {
  readonly hash: string;
  /** Others, by which somebody began to decide then (wall clock); what is firing is kept for a while. */
  readonly next?: { readonly hash: string; readonly sinceMs: number };
}

type Kind = keyof Kinds;

/** `command/<id>`: what became of a command, for whoever gave it; the same one again does nothing. */
export interface CommandAnswer {
  readonly id: string;
  readonly atMs: number;
  /** Why it was not obeyed. */
  readonly refused?: string;
}

const KINDS = [
  'alert',
  'incident',
  'outbox',
  'silence',
  'dismissed',
  'command',
  'rules',
  'meta',
] as const satisfies readonly Kind[];

type Tables = { readonly [K in Kind]: Map<string, Kinds[K]> };
type Overlay = { readonly [K in Kind]: Map<string, Kinds[K] | null> };

export interface Draft {
  get<K extends Kind>(kind: K, id: string): Kinds[K] | undefined;
  /** In the order of their ids, so that no decision depends on the order in which records were read or written. */
  values<K extends Kind>(kind: K): Kinds[K][];
  put<K extends Kind>(kind: K, id: string, value: Kinds[K]): void;
  remove(kind: Kind, id: string): void;
  changes(): StateChange[];
}

interface Records {
  draft(): Draft;
  /** Makes a draft's changes the state. */
  apply(draft: Draft): void;
}

/** Records of other kinds in `initial` belong to others and are left alone. */
export function createRecords(initial: ReadonlyMap<StateKey, object>): Records {
  const tables: Tables = newTables();
  /** Ids in order, as long as no record came or went: most steps change nothing. */
  const sorted = new Map<Kind, readonly string[]>();
  for (const [key, value] of initial) {
    const slash = key.indexOf('/');
    const kind = KINDS.find((known) => known === key.slice(0, slash));
    if (kind !== undefined) (tables[kind] as Map<string, object>).set(key.slice(slash + 1), value);
  }

  function idsOf(kind: Kind): readonly string[] {
    const known = sorted.get(kind) ?? [...tables[kind].keys()].sort(compareText);
    sorted.set(kind, known);
    return known;
  }

  return {
    draft: () => createDraft(tables, idsOf),
    apply(draft) {
      for (const { key, value } of draft.changes()) {
        const slash = key.indexOf('/');
        const kind = key.slice(0, slash) as Kind;
        const id = key.slice(slash + 1);
        const table = tables[kind] as Map<string, object>;
        if (table.has(id) !== (value !== null)) sorted.delete(kind);
        if (value === null) table.delete(id);
        else table.set(id, value);
      }
    },
  };
}

function createDraft(tables: Tables, idsOf: (kind: Kind) => readonly string[]): Draft {
  const overlay = newTables() as Overlay;

  function get<K extends Kind>(kind: K, id: string): Kinds[K] | undefined {
    const changed = overlay[kind].get(id);
    return changed === undefined ? tables[kind].get(id) : (changed ?? undefined);
  }

  return {
    get,
    values(kind) {
      const added = [...overlay[kind].keys()].filter((id) => !tables[kind].has(id));
      const ids = added.length === 0 ? idsOf(kind) : [...idsOf(kind), ...added].sort(compareText);
      return ids.flatMap((id) => get(kind, id) ?? []);
    },
    put(kind, id, value) {
      overlay[kind].set(id, value);
    },
    remove(kind, id) {
      // What was never written needs no tombstone.
      if (tables[kind].has(id)) overlay[kind].set(id, null);
      else overlay[kind].delete(id);
    },
    changes() {
      return KINDS.flatMap((kind) => [...overlay[kind]].map(([id, value]) => ({ key: `${kind}/${id}`, value })));
    },
  };
}

function newTables(): Tables {
  return {
    alert: new Map(),
    incident: new Map(),
    outbox: new Map(),
    silence: new Map(),
    dismissed: new Map(),
    command: new Map(),
    rules: new Map(),
    meta: new Map(),
  };
}

// One step of the alert machine, as its parts see it.

/** What every part of one step of the machine works on. */
export interface Step {
  readonly draft: Draft;
  readonly outbox: OutboxWriter;
  readonly evalMs: number;
  readonly wallMs: number;
  /** As StepInput's. */
  readonly skippedMs: (fromMs: number, toMs: number) => number;
  readonly rules: ReadonlyMap<string, AlertRule>;
}

// One message on its way to one channel, as it stands in the store until the channel has taken it. Data, and the writer that
// numbers and bounds it. Guarantee: numbers never repeat, not even over restarts, and entries of a channel are in the order
// of their decisions; a channel that is away for days costs its oldest entries, which is said: with a beginning its end goes, and
// of what has begun the end goes last.

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

interface OutboxWriter {
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

// One record of the alert state, as it is written.

/**
 * `kind/id`, for example `incident/01J…`. Kinds of the alert machine: alert, incident, outbox, silence, dismissed, command, meta; of
 * others: template, quiet, watched, rollup.
 */
export type StateKey = string;

export interface StateChange {
  readonly key: StateKey;
  /** null removes the record. */
  readonly value: object | null;
}

// What happened to alerts, as documents. In: a transition with the alert or incident it belongs to. Out: a document for the
// monthly history index. Guarantee: its id is made when the decision is taken and kept with it, so that sending it twice
// leaves one document.

const TRANSITIONS = [
  'pending',
  'firing',
  'acknowledged',
  'silenced',
  'inhibited',
  'resolved',
  'reopened',
  'notified',
] as const;
type TransitionName = (typeof TRANSITIONS)[number];

export const HISTORY_PREFIX = 'logpipe-alerts-';

/** One document of the history, as it waits in the outbox. */
export interface HistoryDocument {
  readonly index: string;
  readonly id: string;
  readonly source: HistorySource;
}

export interface HistorySource {
  readonly '@timestamp': string;
  readonly transition: TransitionName;
  readonly environment: string;
  readonly alert?: {
    readonly key: string;
    readonly rule: string;
    readonly title: string;
    readonly labels: Readonly<Record<string, string>>;
    /** Evaluation time of the first breach. */
    readonly started: string;
    readonly message: string;
    readonly metadata?: Readonly<Record<string, unknown>>;
    readonly why?: Why;
    readonly resolution?: Resolution;
  };
  readonly group?: string;
  readonly priority?: Priority;
  readonly severity?: Severity;
  readonly incident?: { readonly id: string; readonly dedupKey: string; readonly opened: string };
  readonly notification?: {
    readonly channel: ChannelName;
    readonly action: NotifyAction;
    readonly reason: NotifyReason;
    readonly delivered: boolean;
    readonly failure?: string;
  };
  /** Who acknowledged. */
  readonly by?: string;
}

interface Transition {
  readonly name: TransitionName;
  readonly alert?: AlertRecord;
  readonly incident?: IncidentRecord;
  readonly resolution?: Resolution;
  readonly notification?: HistorySource['notification'];
  readonly by?: string;
}

export function severityOf(priority: Priority): Severity {
  switch (priority) {
    case 'P1':
      return 'critical';
    case 'P2':
    case 'P3':
      return 'warning';
    case 'P4':
      return 'info';
  }
}

/** @param seq number of the outbox entry that carries it: two transitions of one millisecond stay two documents */
export function historyDocument(
  transition: Transition,
  context: { readonly wallMs: number; readonly seq: number; readonly environment: string },
): HistoryDocument {
  const { name, alert, incident, resolution, notification, by } = transition;
  const time = new Date(context.wallMs).toISOString();
  const priority = alert?.priority ?? incident?.told?.priority;
  const group = alert?.group ?? incident?.group;
  const source: HistorySource = {
    '@timestamp': time,
    transition: name,
    environment: context.environment,
    ...(alert === undefined ? {} : { alert: describe(alert, resolution) }),
    ...(group === undefined ? {} : { group }),
    ...(priority === undefined ? {} : { priority, severity: severityOf(priority) }),
    ...(incident === undefined
      ? {}
      : {
          incident: {
            id: incident.id,
            dedupKey: incident.dedupKey,
            opened: new Date(incident.openedMs).toISOString(),
          },
        }),
    ...(notification === undefined ? {} : { notification }),
    ...(by === undefined ? {} : { by }),
  };
  const subject = [alert?.key, incident?.id, name, notification?.channel, context.wallMs, context.seq];
  return {
    index: `${HISTORY_PREFIX}${time.slice(0, 4)}.${time.slice(5, 7)}`,
    id: createHash('sha256').update(JSON.stringify(subject)).digest('base64url').slice(0, 27),
    source,
  };
}

function describe(alert: AlertRecord, resolution: Resolution | undefined): NonNullable<HistorySource['alert']> {
  const { key, ruleId, title, labels, startedMs, message, metadata, why } = alert;
  return {
    key,
    rule: ruleId,
    title,
    labels,
    started: new Date(startedMs).toISOString(),
    message,
    ...(metadata === undefined ? {} : { metadata }),
    ...(why === undefined ? {} : { why }),
    ...(resolution === undefined ? {} : { resolution }),
  };
}
