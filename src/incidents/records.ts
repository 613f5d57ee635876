// What the machine writes down: its records, drafts of them, the outbox, and the documents of the history. In: what the store held. Out:
// drafts that may be thrown away, and a draft's changes for the store. Guarantee: nothing a decision depends on is kept anywhere else.
// The numbers of outbox entries never repeat, not even after a restart, and a channel's entries are in the order of their decisions. A
// channel that is away for days loses its oldest entries, which is recorded: a trigger goes together with its resolve, and the resolve of
// a trigger that arrived goes last. A history document gets its id when the decision is taken, so sending it twice leaves one document.
import { createHash } from 'node:crypto';
import type { Routes } from '../oncall/routes.ts';
import type { Priority, Severity, Why } from '../rules/rule-types.ts';
import {
  type AlertRecord,
  type AlertRule,
  compareText,
  type Dismissed,
  type IncidentRecord,
  type Resolution,
  type SilenceRecord,
  silenceText,
  type Via,
  wasReached,
} from './incident.ts';
import type { ChannelName, Notification, NotifyAction, NotifyReason, Retry, SendResult } from './notification.ts';

/**
 * `kind/id`, for example `incident/01J…`. Kinds of the alert machine: alert, incident, outbox, silence, dismissed, command, rules, schedule,
 * meta; of others: template, quiet, watched, rollup.
 */
export type StateKey = string;

export interface StateChange {
  readonly key: StateKey;
  /** null removes the record. */
  readonly value: object | null;
}

interface Kinds {
  alert: AlertRecord;
  incident: IncidentRecord;
  outbox: OutboxEntry;
  silence: SilenceRecord;
  dismissed: Dismissed;
  command: CommandAnswer;
  /** `rules/present`: the rules that decided last. */
  rules: RulesRecord;
  /** `schedule/daily-<team>`: what was due last, and was done. */
  schedule: ScheduleRecord;
  /** `meta/outbox`: the last number given to an outbox entry. */
  meta: { readonly seq: number };
}

interface RulesRecord {
  readonly hash: string;
  /** Different rules, and since when (wall clock) somebody decides by them; firing alerts are kept for a while. */
  readonly next?: { readonly hash: string; readonly sinceMs: number };
}

/** When it was due, wall clock, ms. */
export interface ScheduleRecord {
  readonly atMs: number;
}

/** `command/<id>`: what became of a command, for whoever gave it; a repeated command does nothing. */
export interface CommandAnswer {
  readonly id: string;
  readonly atMs: number;
  /** Why it was not obeyed. */
  readonly refused?: string;
  /** It changed nothing, because what it asks for was so already. */
  readonly noChange?: true;
}

type Kind = keyof Kinds;

const KINDS = [
  'alert',
  'incident',
  'outbox',
  'silence',
  'dismissed',
  'command',
  'rules',
  'schedule',
  'meta',
] as const satisfies readonly Kind[];

type Tables = { readonly [K in Kind]: Map<string, Kinds[K]> };
type Overlay = { readonly [K in Kind]: Map<string, Kinds[K] | null> };

function newTables(): Tables {
  return {
    alert: new Map(),
    incident: new Map(),
    outbox: new Map(),
    silence: new Map(),
    dismissed: new Map(),
    command: new Map(),
    rules: new Map(),
    schedule: new Map(),
    meta: new Map(),
  };
}

// ---- records, and drafts of them ----

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

/** Records of other kinds in `initial` belong to other parts and are ignored. */
export function createRecords(initial: ReadonlyMap<StateKey, object>): Records {
  const tables: Tables = newTables();
  /** Ids in order, cached until a record comes or goes: most steps change nothing. */
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
      // A record that was never written needs no tombstone.
      if (tables[kind].has(id)) overlay[kind].set(id, null);
      else overlay[kind].delete(id);
    },
    changes() {
      return KINDS.flatMap((kind) => [...overlay[kind]].map(([id, value]) => ({ key: `${kind}/${id}`, value })));
    },
  };
}

/** What every part of one step of the machine works on. */
export interface Step {
  readonly draft: Draft;
  readonly outbox: OutboxWriter;
  readonly evalMs: number;
  readonly wallMs: number;
  /** That of StepInput (machine.ts). */
  readonly skippedMs: (fromMs: number, toMs: number) => number;
  readonly rules: ReadonlyMap<string, AlertRule>;
  readonly routes: Routes;
}

// ---- the outbox: one message on its way to one channel, until the channel has taken it ----

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
  /** Doubtful answers so far, and recipients that an earlier attempt left over: see `Retry`. */
  readonly doubts?: number;
  readonly left?: readonly string[];
  /** For every channel but `history`. */
  readonly notification?: Notification;
  /** For `history`. */
  readonly document?: HistoryDocument;
}

/** An entry of any channel but `history`, as the dispatcher takes it. */
export type MessageEntry = OutboxEntry & { readonly notification: Notification };
export type HistoryEntry = OutboxEntry & { readonly document: HistoryDocument };

export function isMessage(entry: OutboxEntry): entry is MessageEntry {
  return entry.notification !== undefined;
}

export function isHistory(entry: OutboxEntry): entry is HistoryEntry {
  return entry.document !== undefined;
}

/** What became of an attempt. With `retry`, another one follows; without, the entry is done: taken, or given up. */
export interface OutboxResult {
  readonly id: string;
  readonly result: SendResult;
  readonly retry?: Retry | undefined;
}

export interface OutboxLimits {
  /** How many messages may wait per channel. */
  readonly perChannel: number;
  /** How many documents of the history may wait. */
  readonly history: number;
}

export const OUTBOX_LIMITS: OutboxLimits = { perChannel: 500, history: 2_000 };
export const SEQ_DIGITS = 12;
const NO_ROOM = 'given up: the channel has taken none for too long';
const NEVER_TRIGGERED = 'not sent: the channel has not had the trigger';

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
    /** False: nobody takes documents, so none are kept. */
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
          for (const orphan of orphansOf(draft, entry)) drop(orphan, NEVER_TRIGGERED);
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
 * A trigger has left the outbox unsent: the messages for which its channel now has no use, up to the incident's next trigger; none
 * if an earlier trigger has reached the channel. Notes in the incident that the channel does not know of it.
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

/** The messages of an incident that wait for a channel, and the place of the first trigger among them; -1 when there is none. */
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

// ---- the history: what happened to alerts, as documents of a monthly index ----

const TRANSITIONS = [
  'pending',
  'firing',
  'acknowledged',
  'silenced',
  'inhibited',
  'resolved',
  'reopened',
  'notified',
  'held',
  'dropped',
  'escalated',
  'unanswered',
  'quiet',
  'silence set',
  'silence removed',
] as const;

type TransitionName = (typeof TRANSITIONS)[number];

interface Transition {
  readonly name: TransitionName;
  readonly alert?: AlertRecord;
  readonly incident?: IncidentRecord;
  readonly resolution?: Resolution;
  readonly notification?: HistorySource['notification'];
  readonly silence?: SilenceRecord;
  readonly by?: string;
  readonly via?: Via;
}

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
  /** A silence that was set or removed. */
  readonly silence?: {
    readonly id: string;
    /** What it matches: `rule=… group=… tenantId=…`. */
    readonly matches: string;
    readonly from?: string;
    readonly until: string;
    readonly reason: string;
  };
  readonly team?: string;
  /** Who acknowledged, resolved or silenced it, and by which way. */
  readonly by?: string;
  readonly via?: Via;
}

/** @param seq number of the outbox entry that carries it, so that two transitions of one millisecond are two documents */
export function historyDocument(
  transition: Transition,
  context: { readonly wallMs: number; readonly seq: number; readonly environment: string },
): HistoryDocument {
  const { name, alert, incident, resolution, notification, silence, by, via } = transition;
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
    ...(incident?.team === undefined ? {} : { team: incident.team }),
    ...(notification === undefined ? {} : { notification }),
    ...(silence === undefined ? {} : { silence: describeSilence(silence) }),
    ...(by === undefined ? {} : { by }),
    ...(via === undefined ? {} : { via }),
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

function describeSilence(silence: SilenceRecord): NonNullable<HistorySource['silence']> {
  const { id, fromMs, untilMs, reason } = silence;
  return {
    id,
    matches: silenceText(silence),
    ...(fromMs === undefined ? {} : { from: new Date(fromMs).toISOString() }),
    until: new Date(untilMs).toISOString(),
    reason,
  };
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
