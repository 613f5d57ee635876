// The records the state machine owns, and changes to them that may be thrown away. In: what the store held. Out: drafts, and
// the changes of a draft for the store. Guarantee: nothing that a decision depends on is kept outside of these records.
import type { AlertRecord, Dismissed } from './alert-state.ts';
import { compareText, type IncidentRecord } from './incident.ts';
import type { SilenceRecord } from './mute.ts';
import type { OutboxEntry } from './outbox-entry.ts';
import type { StateChange, StateKey } from './store.ts';

export interface Kinds {
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
export interface RulesRecord {
  readonly hash: string;
  /** Others, by which somebody began to decide then (wall clock); what fires is kept for a while. */
  readonly next?: { readonly hash: string; readonly sinceMs: number };
}

export type Kind = keyof Kinds;

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

export interface Records {
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
