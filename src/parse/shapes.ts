// Foreign shapes to the catalogue's: ECS, winston-elasticsearch, pino, JSON inside `message`, plain errors.
// In: a parsed object of any producer; out: a new object in the catalogue's vocabulary. Nothing is lost: what has no
// place in the catalogue stays where it was.

import { isObject } from './conform.ts';
import { FIELD_MAP } from './field-types.ts';
import { normaliseLevel } from './level.ts';

type Json = Record<string, unknown>;

/** Top-level keys that mark a shape of their own; their presence sends a record here. */
export const SHAPE_KEYS = ['ecs', 'log', 'severity', 'fields', 'err', 'stack', 'time', 'msg', 'exception'] as const;

/** Fields of the Elastic Common Schema that have a counterpart: https://www.elastic.co/guide/en/ecs/current */
const ECS_PATHS: readonly [from: string, to: string][] = [
  ['log.level', 'level'],
  ['service.name', 'service'],
  ['service.version', 'version'],
  ['service.environment', 'environment'],
  ['host.hostname', 'host'],
  ['host.name', 'host'],
  ['process.pid', 'pid'],
  ['trace.id', 'traceId'],
  ['user.id', 'userId'],
  ['error.type', 'error.name'],
  ['error.stack_trace', 'error.stack'],
  ['http.request.method', 'http.method'],
  ['http.response.status_code', 'http.status'],
];

/** The record in the catalogue's shape. `text` is parsed where `message` holds a JSON document. */
export function normalise(input: Json): Json {
  const doc = expandDots(mergeMessage(input));
  fromWinstonElasticsearch(doc);
  if (isObject(doc.ecs) || isObject(doc.log)) for (const [from, to] of ECS_PATHS) movePath(doc, from, to);
  if (doc.msg !== undefined && doc.message === undefined) rename(doc, 'msg', 'message');
  const level = normaliseLevel(doc.level);
  if (level !== undefined) doc.level = level;
  normaliseError(doc);
  return doc;
}

/** A JSON document inside `message` is merged into the record: inner fields win, except the record's identity. */
function mergeMessage(input: Json): Json {
  const { message } = input;
  if (typeof message !== 'string' || !looksLikeObject(message)) return { ...input };
  const inner = parseObject(message);
  if (inner === undefined) return { ...input };
  const { eventId: _, kafka: __, ...fields } = inner;
  return { ...input, ...fields };
}

/** Cheap look before parsing: does the text start with a brace? */
export function looksLikeObject(text: string): boolean {
  return text.charCodeAt(0) === 123 || text.trimStart().charCodeAt(0) === 123;
}

function parseObject(text: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** `"call.status": x` and `"log.level": x` become nested, so that every later stage sees one shape. */
function expandDots(source: Json): Json {
  const doc: Json = Object.create(null);
  for (const key of Object.keys(source)) if (!key.includes('.')) doc[key] = source[key];
  for (const key of Object.keys(source)) {
    const dot = key.indexOf('.');
    if (dot < 0) continue;
    const [head, rest] = [key.slice(0, dot), key.slice(dot + 1)];
    const known = FIELD_MAP.get(head) instanceof Map || head === 'log' || head === 'ecs';
    // `ecs`-shaped names such as service.name start with a field that is a keyword here; only ECS means a group by it.
    const ecs = source.ecs !== undefined || source['ecs.version'] !== undefined;
    if (!(known || ecs) || rest === '' || !setPath(doc, [head, ...rest.split('.')], source[key]))
      doc[key] = source[key];
  }
  return doc;
}

function setPath(doc: Json, path: string[], value: unknown): boolean {
  let place = doc;
  for (const part of path.slice(0, -1)) {
    if (part === '') return false;
    const next = Object.hasOwn(place, part) ? place[part] : undefined;
    if (next !== undefined && !isObject(next)) return false;
    // Copied, because the inner objects still belong to the input.
    const copy: Json = Object.assign(Object.create(null), next);
    place[part] = copy;
    place = copy;
  }
  const last = path.at(-1)!;
  if (last === '' || Object.hasOwn(place, last)) return false;
  place[last] = value;
  return true;
}

/** Moves a value when it is there and its destination is not; empties no group that still holds something. */
function movePath(doc: Json, from: string, to: string): void {
  const path = from.split('.');
  const groups: Json[] = [doc];
  for (const part of path.slice(0, -1)) {
    const next = Object.hasOwn(groups.at(-1)!, part) ? groups.at(-1)![part] : undefined;
    if (!isObject(next)) return;
    groups.push(next);
  }
  const holder = groups.at(-1)!;
  const leaf = path.at(-1)!;
  if (!Object.hasOwn(holder, leaf)) return;
  const value = holder[leaf];
  const rest: Json = { ...holder };
  delete rest[leaf];
  // Taken out first: the destination may be the group itself (service.name -> service).
  if (groups.length > 1) {
    if (Object.keys(rest).length === 0) delete doc[path[0]!];
    else replaceGroup(doc, path.slice(0, -1), rest);
  }
  const target = to.split('.');
  if (!setPath(doc, target, value)) {
    const [head] = target;
    // service.name next to service.id: the keyword wins the name, the rest of the group keeps its own.
    if (target.length === 1 && isObject(doc[head!])) {
      doc[`${head}Details`] = doc[head!];
      doc[head!] = value;
    }
  }
}

function replaceGroup(doc: Json, path: string[], value: Json): void {
  let place = doc;
  for (const part of path.slice(0, -1)) {
    place[part] = { ...(place[part] as Json) };
    place = place[part] as Json;
  }
  place[path.at(-1)!] = value;
}

/** winston-elasticsearch writes `{ @timestamp, message, severity, fields: { …metadata } }`. */
function fromWinstonElasticsearch(doc: Json): void {
  if (doc.level === undefined && doc.severity !== undefined) rename(doc, 'severity', 'level');
  if (!isObject(doc.fields)) return;
  const { fields } = doc;
  delete doc.fields;
  for (const key of Object.keys(fields)) if (!Object.hasOwn(doc, key)) doc[key] = fields[key];
}

/** `err`, `exception`, a bare `stack`, or an error given as text: all become the `error` group. */
function normaliseError(doc: Json): void {
  for (const alias of ['err', 'exception']) {
    if (doc.error === undefined && isObject(doc[alias])) rename(doc, alias, 'error');
  }
  if (typeof doc.error === 'string') doc.error = { message: doc.error };
  if (typeof doc.stack === 'string' && (doc.error === undefined || isObject(doc.error))) {
    const error: Json = { ...(doc.error as Json | undefined) };
    if (error.stack === undefined) {
      error.stack = doc.stack;
      doc.error = error;
      delete doc.stack;
    }
  }
  if (!isObject(doc.error)) return;
  const { type, stack_trace: trace, ...error } = doc.error;
  if (type !== undefined) error[error.name === undefined ? 'name' : 'type'] = type;
  if (trace !== undefined) error[error.stack === undefined ? 'stack' : 'stack_trace'] = trace;
  doc.error = error;
}

function rename(doc: Json, from: string, to: string): void {
  doc[to] = doc[from];
  delete doc[from];
}
