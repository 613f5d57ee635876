// Decides which new fields may enter a day's index. In: events on their way into a batch. Out: the same events; one with more new
// fields than the index can take has them in `extra`, where they are still searchable, and is tagged `_mapping_degraded`.
// Guarantee: no record uses up the field limit of an index that all share, and whatever Elasticsearch ignores beyond it is
// noticed.
//
// Elasticsearch counts every path, leaf or object, against `total_fields.limit` (1,000 in the template) and silently ignores new
// ones beyond it. Each index's paths are learnt from its mapping when it is first written to, and again every minute while it is
// written to, because other processes write to it too, each with its own view. The reserve is for what they add between two
// looks.
import { type Client, errors } from '@elastic/elasticsearch';
import type { Clock } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { createExtra, FIELD_MAP, type FieldMap } from '../parse/conform.ts';
import { hasExactNumbers, isObject, toExactNumbers, toPlainNumbers } from '../parse/json.ts';
import { ScannedEvent } from '../parse/scan/scanned-event.ts';
import type { Scan } from '../parse/scan/scanner.ts';
import type { TaggedEvent } from '../tag/tag.ts';
import { INDEX_PREFIX } from './batch.ts';
import { NO_PARTIAL, WHOLENESS, whole } from './outcome.ts';

type Json = Record<string, unknown>;

/** A record that brings more new fields than this at once is not an ordinary one: none of them becomes a field. */
export const MAX_NEW_FIELDS = 100;
/** As in the template; the index's own setting applies as soon as it has been read. */
const DEFAULT_LIMIT = 1_000;
/** Fields left free for other processes, which learn of ours a minute later. */
const RESERVE = 50;
/** Elasticsearch refuses deeper mappings (`index.mapping.depth.limit`). */
const MAX_DEPTH = 20;
const MAX_PATH_LENGTH = 512;
/** How many days' fields are remembered: a few more than records may lag behind by default. */
const MAX_INDICES = 40;
const REFRESH_MS = 60_000;
const DAY_MS = 86_400_000;
/** Many times the fields that an index has. */
const MAX_SCANNED = 20_000;
const MAX_IGNORED_NAMES = 500;
/** More than `extra` and `extraRaw` can hold, however short they are: any further ones would be cut anyway. */
const MAX_MOVED = 2_500;

/** What an index holds, according to its server. */
export interface FieldUse {
  /** Every path in the mapping: leaves, and objects with a full stop at the end. */
  readonly paths: readonly string[];
  readonly limit: number | undefined;
  /** Documents with a value that Elasticsearch ignored, for whatever reason, and the names of those fields. */
  readonly ignoredDocuments: number;
  readonly ignoredFields: readonly string[];
}

export interface FieldBudgetDeps {
  /** Undefined when the index does not exist. May reject; it is then tried again a minute later. */
  readonly read: (index: string) => Promise<FieldUse | undefined>;
  /** The day as it is written in index names. */
  readonly day: (ms: number) => string;
  readonly clock: Clock;
  readonly metrics: Pick<Metrics, 'fieldsMoved' | 'indexFields' | 'ignoredFields' | 'ignoredDocuments'>;
  readonly log: Log;
}

export interface FieldBudget {
  /** Whether the index may take the event's fields; those that are new count as taken. */
  admits(event: TaggedEvent): boolean;
  /** For an event that is not admitted, complete: the same with its new fields in `extra`. */
  move(event: TaggedEvent): TaggedEvent;
  /** What an operator has to know about the newest index, in words; undefined while nothing is left out of it. */
  notice(): string | undefined;
  close(): void;
}

/** Fields below one object; null is a leaf. `path` ends with a full stop, except for the root. */
interface Group {
  readonly path: string;
  readonly children: Map<string, Group | null>;
}

interface IndexFields {
  readonly name: string;
  readonly day: number;
  root: Group;
  /** Every path by its full name, whether it was written with dots or nested. */
  known: Set<string>;
  /** Places in scanned lines (parse/scan/scanner.ts) whose paths are known. */
  readonly scanned: Set<number>;
  limit: number;
  /** Written to since the last look. */
  active: boolean;
  moved: number;
  ignoredFields: number;
  ignoredDocuments: number;
  saidMoved: boolean;
  saidIgnored: boolean;
}

export function createFieldBudget(deps: FieldBudgetDeps): FieldBudget {
  const { clock, log, metrics } = deps;
  const indices = new Map<number, IndexFields>();
  const unread = new Set<IndexFields>();
  const fresh = new Set<string>();
  let last: IndexFields | undefined;
  let newest: IndexFields | undefined;
  let cancelTimer: (() => void) | undefined;
  let reading = false;
  let closed = false;
  let saidRefused = false;

  function fieldsOf({ timeMs }: TaggedEvent): IndexFields {
    const day = Math.floor(timeMs / DAY_MS);
    return last !== undefined && last.day === day ? last : open(day, timeMs);
  }

  function admits(event: TaggedEvent): boolean {
    const fields = fieldsOf(event);
    fields.active = true;
    const scan = event instanceof ScannedEvent ? event.scan : undefined;
    if (scan !== undefined && isKnown(fields, scan)) return true;
    // Ends as soon as the number is exceeded; the cost is bounded like the record itself.
    const few = collect(event.doc, fields.root, 1);
    const isOld = few && fresh.size === 0;
    const admitted = isOld || (few && fields.known.size + cost(fields) <= fields.limit - RESERVE);
    if (admitted && scan !== undefined) note(fields, scan);
    if (admitted) for (const path of fresh) add(fields, path);
    fresh.clear();
    return admitted;
  }

  /** Are all its fields in the index, the catalogue's anyway and its own since an earlier line had them in the same places? */
  function isKnown({ scanned }: IndexFields, { ownPlaces, ownCount }: Scan): boolean {
    for (let i = 0; i < ownCount; i++) if (!scanned.has(ownPlaces[i]!)) return false;
    return ownCount >= 0;
  }

  function note({ scanned }: IndexFields, { ownPlaces, ownCount }: Scan): void {
    if (scanned.size > MAX_SCANNED) scanned.clear();
    for (let i = 0; i < ownCount; i++) scanned.add(ownPlaces[i]!);
  }

  /** Gathers the paths of `source` that are in no mapping yet; false when there are too many of them. */
  function collect(source: Json, group: Group, depth: number): boolean {
    const { children } = group;
    for (const key in source) {
      const known = children.get(key);
      if (known === null) continue;
      const value = source[key];
      if (known !== undefined) {
        if (typeof value === 'object' && value !== null && !collectBelow(value, known, depth)) return false;
      } else if (!paths(group.path + key, value, depth)) return false;
    }
    return true;
  }

  function collectBelow(value: object, group: Group, depth: number): boolean {
    if (depth >= MAX_DEPTH) return false;
    if (!Array.isArray(value)) return collect(value as Json, group, depth + 1);
    return value.every((item) => typeof item !== 'object' || item === null || collectBelow(item, group, depth + 1));
  }

  /** The same for a value under a name that is in no mapping, or is there in another form (`a.b` for `a: { b }`). */
  function paths(path: string, value: unknown, depth: number): boolean {
    if (value === null) return true;
    if (path.length > MAX_PATH_LENGTH || depth > MAX_DEPTH) return false;
    const { known } = last!;
    if (Array.isArray(value)) return value.every((item) => paths(path, item, depth + 1));
    if (typeof value === 'object') {
      // An object is a field of its own, even an empty one.
      if (!known.has(`${path}.`)) fresh.add(`${path}.`);
      for (const key in value) if (!paths(`${path}.${key}`, (value as Json)[key], depth + 1)) return false;
    } else if (!known.has(path)) fresh.add(path);
    return fresh.size <= MAX_NEW_FIELDS;
  }

  /** The number of fresh paths, including objects that are only implied by a dotted name. */
  function cost(fields: IndexFields): number {
    const counted = new Set<string>();
    for (const path of fresh) {
      counted.add(path);
      for (let dot = path.indexOf('.'); dot >= 0; dot = path.indexOf('.', dot + 1)) {
        const object = path.slice(0, dot + 1);
        if (!fields.known.has(object)) counted.add(object);
      }
    }
    return counted.size;
  }

  function move(event: TaggedEvent): TaggedEvent {
    const fields = fieldsOf(event);
    const doc = moveExactly(event.doc, fields);
    fields.moved += 1;
    metrics.fieldsMoved.inc();
    if (!fields.saidMoved) {
      fields.saidMoved = true;
      log.warn(`${fields.name}: a record brought more new fields than the index may take; they are in its \`extra\``, {
        fields: fields.known.size,
        limit: fields.limit,
        newFieldsPerRecord: MAX_NEW_FIELDS,
      });
    }
    const tags = event.tags.includes('_mapping_degraded') ? event.tags : [...event.tags, '_mapping_degraded'];
    return { ...event, doc, tags, verbatim: false };
  }

  function open(day: number, timeMs: number): IndexFields {
    let fields = indices.get(day);
    if (fields === undefined) {
      if (indices.size >= MAX_INDICES) forgetOne();
      fields = {
        name: INDEX_PREFIX + deps.day(timeMs),
        day,
        ...catalogueFields(),
        scanned: new Set(),
        limit: DEFAULT_LIMIT,
        active: true,
        ...{ moved: 0, ignoredFields: 0, ignoredDocuments: 0 },
        ...{ saidMoved: false, saidIgnored: false },
      };
      unread.add(fields);
      void readAll();
    } else indices.delete(day);
    // To the end: the first is the one that has not been written to for longest.
    indices.set(day, fields);
    if (newest === undefined || day > newest.day) newest = fields;
    last = fields;
    cancelTimer ??= clock.after(REFRESH_MS, refresh);
    return fields;
  }

  function forgetOne(): void {
    const [oldest] = indices.values();
    if (oldest === undefined) return;
    indices.delete(oldest.day);
    unread.delete(oldest);
  }

  function refresh(): void {
    cancelTimer = closed ? undefined : clock.after(REFRESH_MS, refresh);
    for (const fields of indices.values()) {
      if (fields.active) unread.add(fields);
      fields.active = false;
    }
    void readAll();
  }

  /** Reads one index after another, in the background: the flow of events does not wait for it. */
  async function readAll(): Promise<void> {
    if (reading) return;
    reading = true;
    for (const fields of unread) {
      if (closed) break;
      unread.delete(fields);
      try {
        const use = await deps.read(fields.name);
        if (use !== undefined && !closed) learn(fields, use);
      } catch (error) {
        fields.active = true;
        const refused = error instanceof errors.ResponseError && error.statusCode === 403;
        const say = refused && !saidRefused ? log.warn : log.debug;
        saidRefused ||= refused;
        say.call(
          log,
          `${fields.name}: its fields could not be read; that needs the privileges view_index_metadata and read`,
          {
            reason: errorText(error).slice(0, 300),
          },
        );
      }
    }
    reading = false;
  }

  /** The server's view replaces ours: fields that we admitted for a document that was then refused are not there. */
  function learn(fields: IndexFields, use: FieldUse): void {
    Object.assign(fields, catalogueFields());
    fields.scanned.clear();
    for (const path of use.paths) if (path.length <= MAX_PATH_LENGTH) add(fields, path);
    fields.limit = use.limit ?? DEFAULT_LIMIT;
    fields.ignoredDocuments = use.ignoredDocuments;
    // A name that is in the mapping was ignored because of its value: too long for a keyword, or not a number.
    fields.ignoredFields = use.ignoredFields.filter((name) => !fields.known.has(name)).length;
    if (fields.ignoredFields > 0 && !fields.saidIgnored) {
      fields.saidIgnored = true;
      log.error(`${fields.name}: Elasticsearch ignores new fields, so they are not searchable`, {
        ignoredFields: fields.ignoredFields,
        fields: fields.known.size,
        limit: fields.limit,
      });
    }
    if (fields !== newest) return;
    metrics.indexFields.set(fields.known.size);
    metrics.ignoredFields.set(fields.ignoredFields);
    metrics.ignoredDocuments.set(fields.ignoredDocuments);
  }

  return {
    admits,
    move,
    notice() {
      if (newest === undefined) return undefined;
      const { name, ignoredFields, moved } = newest;
      const parts: string[] = [];
      if (ignoredFields > 0) parts.push(`${ignoredFields} field names beyond the field limit are not searchable`);
      if (moved > 0) parts.push(`${moved} records have new fields in \`extra\``);
      return parts.length === 0 ? undefined : `${name}: ${parts.join('; ')}`;
    },
    close() {
      closed = true;
      cancelTimer?.();
    },
  };
}

/** What every index has from the template. */
function catalogueFields(): Pick<IndexFields, 'root' | 'known'> {
  const known = new Set<string>();
  return { root: toGroup(FIELD_MAP, '', known), known };
}

function toGroup(map: FieldMap, path: string, known: Set<string>): Group {
  const children = new Map<string, Group | null>();
  for (const [name, type] of map) {
    const isLeaf = typeof type === 'string';
    known.add(isLeaf ? path + name : `${path}${name}.`);
    children.set(name, isLeaf ? null : toGroup(type, `${path}${name}.`, known));
  }
  return { path, children };
}

/** @param path of a leaf, or of an object, then with a full stop at the end */
function add(fields: Pick<IndexFields, 'root' | 'known'>, path: string): void {
  let group = fields.root;
  for (let start = 0; start < path.length; ) {
    const dot = path.indexOf('.', start);
    if (dot < 0) {
      if (!group.children.has(path.slice(start))) group.children.set(path.slice(start), null);
      fields.known.add(path);
      return;
    }
    const name = path.slice(start, dot);
    let next = group.children.get(name);
    // A leaf with leaves below it is a conflict that the server refuses, or a multi-field.
    if (next === null) {
      fields.known.add(path);
      return;
    }
    if (next === undefined) {
      next = { path: path.slice(0, dot + 1), children: new Map() };
      group.children.set(name, next);
      fields.known.add(next.path);
    }
    group = next;
    start = dot + 1;
  }
}

/** Values that move take their numbers' texts with them. */
function moveExactly(doc: Json, fields: Pick<IndexFields, 'root' | 'known'>): Json {
  if (!hasExactNumbers(doc)) return moveToExtra(doc, fields);
  const moved = moveToExtra(toExactNumbers(doc), fields);
  toPlainNumbers(moved);
  return moved;
}

/** A copy with the paths that are in no mapping moved to `extra`, each under its full name. */
export function moveToExtra(doc: Json, fields: Pick<IndexFields, 'root' | 'known'>): Json {
  const { known } = fields;
  /** The objects of a list share names, so all their values belong together. */
  const moved = new Map<string, unknown[]>();

  function put(path: string, value: unknown): void {
    const values = moved.get(path);
    if (values !== undefined) values.push(value);
    else if (moved.size < MAX_MOVED) moved.set(path, [value]);
  }

  function keep(source: Json, group: Group, depth: number): Json {
    const kept: Json = Object.create(null);
    for (const key of Object.keys(source)) {
      const value = source[key];
      const below = group.children.get(key);
      const path = group.path + key;
      if (below === undefined) {
        // Without a value it becomes no field; in another form (`a.b`) it is one already.
        if (value === null || (known.has(path) && !isObject(value))) kept[key] = value;
        else take(path, value, depth);
      } else kept[key] = below === null ? value : keepBelow(value, below, depth);
    }
    return kept;
  }

  function keepBelow(value: unknown, group: Group, depth: number): unknown {
    if (depth >= MAX_DEPTH) {
      if (typeof value !== 'object' || value === null) return value;
      put(group.path.slice(0, -1), value);
      return null;
    }
    if (Array.isArray(value)) return value.map((item) => keepBelow(item, group, depth + 1));
    return isObject(value) ? keep(value, group, depth + 1) : value;
  }

  /** Leaf by leaf, so that as many as possible are searchable. */
  function take(path: string, value: unknown, depth: number): void {
    if (!isObject(value) || depth >= MAX_DEPTH) put(path, value);
    else for (const key of Object.keys(value)) take(`${path}.${key}`, value[key], depth + 1);
  }

  const kept = keep(doc, fields.root, 1);
  const { extra: own, extraRaw: ownRaw } = kept;
  delete kept.extra;
  delete kept.extraRaw;
  const extra = createExtra();
  for (const [name, value] of isObject(own) ? Object.entries(own) : []) {
    const values = moved.get(name);
    if (values === undefined) extra.keep(name, value);
    else values.push(value);
  }
  for (const [path, values] of moved) extra.add(path, values.length === 1 ? values[0] : values.flat());
  const merged = extra.mergeInto(kept);
  // What did not fit earlier has precedence over what does not fit now.
  if (ownRaw !== undefined) merged.extraRaw = ownRaw;
  return merged;
}

/** Reads an index's mapping, its field limit, and what was ignored in its documents. Needs `view_index_metadata` and `read`. */
export function createFieldReader(client: Client): FieldBudgetDeps['read'] {
  return async (index) => {
    try {
      const described = await client.transport.request<Record<string, Described>>({
        method: 'GET',
        path: `/${index}`,
        querystring: { filter_path: '*.mappings.properties,*.settings.index.mapping.total_fields.limit' },
      });
      const { mappings, settings } = described[index] ?? {};
      const limit = Number(settings?.index?.mapping?.total_fields?.limit);
      const paths: string[] = [];
      flatten(mappings?.properties ?? {}, '', paths);
      return { paths, limit: Number.isFinite(limit) ? limit : undefined, ...(await readIgnored(client, index)) };
    } catch (error) {
      if (error instanceof errors.ResponseError && error.statusCode === 404) return undefined;
      throw error;
    }
  };
}

interface Mapping {
  readonly properties?: Readonly<Record<string, Mapping>>;
  readonly fields?: Readonly<Record<string, unknown>>;
}

interface Described {
  readonly mappings?: Mapping;
  readonly settings?: { index?: { mapping?: { total_fields?: { limit?: string } } } };
}

function flatten(properties: NonNullable<Mapping['properties']>, path: string, paths: string[]): void {
  for (const [name, mapping] of Object.entries(properties)) {
    if (mapping.properties === undefined) paths.push(path + name);
    else {
      paths.push(`${path}${name}.`);
      flatten(mapping.properties, `${path}${name}.`, paths);
    }
    for (const sub of Object.keys(mapping.fields ?? {})) paths.push(`${path}${name}.${sub}`);
  }
}

async function readIgnored(
  client: Client,
  index: string,
): Promise<Pick<FieldUse, 'ignoredDocuments' | 'ignoredFields'>> {
  const reply = await client.transport.request<{
    hits: { total: { value: number } };
    aggregations?: { names?: { buckets?: { key: string }[] } };
  }>({
    method: 'POST',
    path: `/${index}/_search`,
    querystring: { filter_path: `hits.total.value,aggregations.names.buckets.key,${WHOLENESS}`, ...NO_PARTIAL },
    body: {
      size: 0,
      track_total_hits: true,
      query: { exists: { field: '_ignored' } },
      aggs: { names: { terms: { field: '_ignored', size: MAX_IGNORED_NAMES } } },
    },
  });
  const { hits, aggregations } = whole(reply, `what ${index} ignores`);
  return {
    ignoredDocuments: hits.total.value,
    ignoredFields: (aggregations?.names?.buckets ?? []).map(({ key }) => key),
  };
}
