// OpenTelemetry's log records as lines of logpipe's own shape. In: the body of an ExportLogsServiceRequest, as protobuf or as JSON; by
// https://github.com/open-telemetry/opentelemetry-proto: collector/logs/v1, logs/v1, common/v1, resource/v1. Out: one line of JSON for each
// record, in their order, and which were not taken; or where the body cannot be understood. And the answers of the protocol. Guarantee:
// linear in the body; what it makes is bounded, whatever the body says: depth, values of a record, length of a line, lines, all of them
// together. Names that anybody may choose become no fields of the index: what the catalogue does not know goes to `extra`.
import protobuf from 'protobufjs/minimal.js';
import { FIELDS, type FieldGroup } from '../core/catalogue.ts';
import { errorText } from '../core/errors.ts';
import { TOO_DEEP } from '../core/safe-json.ts';

export type OtlpEncoding = 'protobuf' | 'json';

/** Why records are not taken. A closed list: it becomes a metric label. */
export const OTLP_REJECTIONS = ['too_large', 'too_many', 'refused'] as const;
export type OtlpRejection = (typeof OTLP_REJECTIONS)[number];

const REJECTION_WORDS: Readonly<Record<OtlpRejection, string>> = {
  too_large: 'longer than a record may be, or than all records of a request together',
  too_many: 'more than a request may hold',
  refused: 'Kafka refuses them for good; compare max.message.bytes of the topic with ship.maxLineBytes',
};

export type OtlpRejections = Partial<Record<OtlpRejection, number>>;

export interface OtlpLimits {
  /** Bytes of a record's line. */
  readonly maxLineBytes: number;
  /** Bytes of all lines of a request: the attributes of a resource are repeated in each of them. */
  readonly maxBytes: number;
  readonly maxRecords: number;
}

export interface OtlpLines {
  readonly lines: readonly Buffer[];
  /** Their place among the records of the request. */
  readonly places: readonly number[];
  readonly rejected: OtlpRejections;
  /** Each of them has a time. A request without times may be sent twice by a program that means two. */
  readonly allTimed: boolean;
}

/** The body cannot be understood; the message says where, to whoever sent it. */
export class OtlpError extends Error {}

/** @throws OtlpError */
export function readOtlp(body: Buffer, encoding: OtlpEncoding, limits: OtlpLimits): OtlpLines {
  const out = createOutput(limits);
  if (encoding === 'json') readJson(body, out.add);
  else {
    try {
      readRequest(body, out.add);
    } catch (error) {
      throw new OtlpError(`the body is not an ExportLogsServiceRequest in protobuf: ${errorText(error)}`);
    }
  }
  return out.result();
}

// ---- what both encodings give ----

type Value = string | number | boolean | null | readonly Value[] | { readonly [key: string]: Value };
type Values = Record<string, Value>;

interface Group {
  readonly resource: Attributes;
  readonly scope: Scope;
}

interface Attributes {
  readonly values: Values;
  /** There were more, or deeper ones. */
  readonly isCut: boolean;
}

interface Scope {
  readonly name: string;
  readonly version: string;
  readonly attributes: Attributes;
}

interface LogRecord {
  /** Of the event, else of whoever saw it; nanoseconds; 0 when neither is known. */
  readonly timeNs: bigint;
  readonly severityNumber: number;
  readonly severityText: string;
  readonly body: Value | undefined;
  readonly attributes: Attributes;
  /** Hexadecimal, or empty. */
  readonly traceId: string;
  readonly spanId: string;
  readonly eventName: string;
  readonly droppedAttributes: number;
}

/** Called for each record in turn; `record` is read only while there is room. */
type Add = (group: Group, record: () => LogRecord) => void;

/** Values within values. */
const MAX_DEPTH = 16;
/** Of a record, a resource or a scope. */
const MAX_VALUES = 2_000;

interface Budget {
  values: number;
  isCut: boolean;
}

const newBudget = (): Budget => ({ values: MAX_VALUES, isCut: false });

/** Whether there is room for one more. */
function spend(budget: Budget): boolean {
  budget.values -= 1;
  if (budget.values < 0) budget.isCut = true;
  return budget.values >= 0;
}

const NO_ATTRIBUTES: Attributes = { values: Object.create(null), isCut: false };
const NO_SCOPE: Scope = { name: '', version: '', attributes: NO_ATTRIBUTES };

function createOutput({ maxLineBytes, maxBytes, maxRecords }: OtlpLimits) {
  const lines: Buffer[] = [];
  const places: number[] = [];
  const rejected: OtlpRejections = {};
  /** Bytes, of those that were too long as well: each was work. */
  let made = 0;
  let seen = 0;
  let allTimed = true;
  const reject = (reason: OtlpRejection) => {
    rejected[reason] = (rejected[reason] ?? 0) + 1;
  };
  const add: Add = (group, read) => {
    const place = seen++;
    if (place >= maxRecords) {
      reject('too_many');
      return;
    }
    if (made >= maxBytes) {
      reject('too_large');
      return;
    }
    const record = read();
    const line = Buffer.from(lineOf(group, record));
    made += line.length;
    if (line.length > maxLineBytes || made > maxBytes) {
      reject('too_large');
      return;
    }
    if (record.timeNs === 0n) allTimed = false;
    lines.push(line);
    places.push(place);
  };
  return { add, result: (): OtlpLines => ({ lines, places, rejected, allTimed }) };
}

// ---- a record as a line ----

/** Names of the semantic conventions, old and new, for fields of ours: https://opentelemetry.io/docs/specs/semconv/ */
const PLACES: ReadonlyMap<string, string> = new Map([
  ['http.request.method', 'http.method'],
  ['http.response.status_code', 'http.status'],
  ['http.status_code', 'http.status'],
  ['exception.type', 'error.name'],
  ['exception.message', 'error.message'],
  ['exception.stacktrace', 'error.stack'],
  ['error.type', 'error.name'],
  ['event.name', 'event'],
  ['service.name', 'service'],
  ['service.version', 'version'],
  ['deployment.environment', 'environment'],
  ['deployment.environment.name', 'environment'],
  ['host.name', 'host'],
  ['process.pid', 'pid'],
  ['db.system.name', 'db.system'],
  ['user.id', 'userId'],
  ['enduser.id', 'userId'],
  ...catalogued(),
]);

/** Fields of ours by their own names, but for those that the record itself or logpipe fills. */
function catalogued(): [string, string][] {
  const own = new Set([
    ...[
      '@timestamp',
      'timestamp',
      'level',
      'message',
      'tags',
      'traceId',
      'originalBytes',
      'kafka',
      'extra',
      'extraRaw',
    ],
    ...['error.template', 'error.fingerprint'],
  ]);
  const paths: string[] = [];
  for (const [name, field] of Object.entries(FIELDS as FieldGroup)) {
    if (own.has(name)) continue;
    if (typeof field === 'string') paths.push(name);
    else for (const part of Object.keys(field)) if (!own.has(`${name}.${part}`)) paths.push(`${name}.${part}`);
  }
  return paths.map((path) => [path, path]);
}

/** Of four severity numbers each. https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber */
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;

function lineOf(group: Group, record: LogRecord): string {
  const doc: Record<string, unknown> = Object.create(null);
  const extra: Record<string, unknown> = Object.create(null);
  const { timeNs, severityNumber, severityText, body, eventName, traceId, spanId, droppedAttributes } = record;
  if (timeNs !== 0n) doc.timestamp = new Date(Number(timeNs / 1_000_000n)).toISOString();
  const level = LEVELS[(severityNumber - 1) >> 2] ?? (severityText === '' ? undefined : severityText);
  if (level !== undefined) doc.level = level;
  if (severityText !== '' && severityText.toLowerCase() !== level) extra.severityText = severityText;
  if (traceId !== '') doc.traceId = traceId;
  if (spanId !== '') extra.spanId = spanId;
  if (droppedAttributes > 0) extra.droppedAttributesCount = droppedAttributes;

  const place = (name: string, value: Value, rest: Record<string, unknown>) => {
    const path = PLACES.get(name);
    if (path === undefined || (typeof value === 'object' && value !== null) || !put(doc, path, value))
      rest[name] = value;
  };
  if (eventName !== '') place('event', eventName, extra);
  for (const name in record.attributes.values) place(name, record.attributes.values[name]!, extra);
  const resource: Record<string, unknown> = Object.create(null);
  for (const name in group.resource.values) place(name, group.resource.values[name]!, resource);
  if (!isEmpty(resource)) extra.resource = resource;
  const { name, version, attributes } = group.scope;
  if (name !== '' || version !== '' || !isEmpty(attributes.values)) {
    extra.scope = {
      ...(name === '' ? {} : { name }),
      ...(version === '' ? {} : { version }),
      ...(isEmpty(attributes.values) ? {} : { attributes: attributes.values }),
    };
  }
  placeBody(doc, body, { level, event: eventName, place: (key, value) => place(key, value, extra) });
  if (!isEmpty(extra)) doc.extra = extra;
  if (record.attributes.isCut || group.resource.isCut || attributes.isCut) doc.tags = ['_truncated'];
  return JSON.stringify(doc);
}

/** What a record without a severity says is a line as any other: the parser finds its level, its time and its fields. */
function placeBody(
  doc: Record<string, unknown>,
  body: Value | undefined,
  given: { readonly level: string | undefined; readonly event: string; place(name: string, value: Value): void },
): void {
  const { level, event, place } = given;
  if (body === undefined || body === null) {
    const { error } = doc as { error?: { message?: unknown } };
    doc.message = error?.message ?? event;
  } else if (typeof body !== 'object') {
    doc[level === undefined && typeof body === 'string' ? 'shippedLine' : 'message'] = String(body);
  } else if (Array.isArray(body)) doc.message = JSON.stringify(body);
  else if (level === undefined) doc.shippedLine = JSON.stringify(body);
  else {
    const map = body as Values;
    const key = ['message', 'msg'].find((name) => typeof map[name] === 'string');
    if (key !== undefined) doc.message = map[key];
    else doc.message = event === '' ? JSON.stringify(body) : event;
    for (const name in map) if (name !== key) place(name, map[name]!);
  }
}

/** False when the place is taken. */
function put(doc: Record<string, unknown>, path: string, value: Value): boolean {
  const dot = path.indexOf('.');
  let holder = doc;
  if (dot > 0) {
    const head = path.slice(0, dot);
    doc[head] ??= Object.create(null);
    holder = doc[head] as Record<string, unknown>;
  }
  const last = path.slice(dot + 1);
  if (holder[last] !== undefined) return false;
  holder[last] = value;
  return true;
}

function isEmpty(value: object): boolean {
  for (const _ in value) return false;
  return true;
}

// ---- protobuf ----

// Read field by field, and not by a decoder that was made from a description: that one would make an object of every two bytes of a
// hostile body before anybody could count them. A tag is the number of a field times 8 and its wire type; what is not known is skipped.

type Reader = protobuf.Reader;

/** Where the message ends whose length comes next. */
function endOf(reader: Reader, end: number): number {
  const stop = reader.uint32() + reader.pos;
  if (stop > end) throw new Error(`at byte ${reader.pos} is something longer than what it is part of`);
  return stop;
}

function skip(reader: Reader, tag: number): void {
  reader.skipType(tag & 7, 0, tag >>> 3);
}

/** Values and texts know only where the body ends. */
function checkEnd(reader: Reader, end: number): void {
  if (reader.pos !== end) throw new Error(`at byte ${end} is something longer than what it is part of`);
}

/** resource_logs = 1 */
function readRequest(body: Buffer, add: Add): void {
  const reader = protobuf.Reader.create(body);
  while (reader.pos < body.length) {
    const tag = reader.uint32();
    if (tag === 10) readResourceLogs(reader, endOf(reader, body.length), add);
    else skip(reader, tag);
  }
}

/** resource = 1, scope_logs = 2. The resource may come last. */
function readResourceLogs(reader: Reader, end: number, add: Add): void {
  const start = reader.pos;
  const budget = newBudget();
  const resource: Values = Object.create(null);
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === 10) readResource(reader, endOf(reader, end), resource, budget);
    else skip(reader, tag);
  }
  checkEnd(reader, end);
  const attributes = { values: resource, isCut: budget.isCut };
  reader.pos = start;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === 18) readScopeLogs(reader, endOf(reader, end), attributes, add);
    else skip(reader, tag);
  }
}

/** attributes = 1 */
function readResource(reader: Reader, end: number, into: Values, budget: Budget): void {
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === 10) readPair(reader, endOf(reader, end), into, 0, budget);
    else skip(reader, tag);
  }
  checkEnd(reader, end);
}

/** scope = 1, log_records = 2 */
function readScopeLogs(reader: Reader, end: number, resource: Attributes, add: Add): void {
  const start = reader.pos;
  let scope = NO_SCOPE;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === 10) scope = readScope(reader, endOf(reader, end));
    else skip(reader, tag);
  }
  checkEnd(reader, end);
  const group = { resource, scope };
  reader.pos = start;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag !== 18) {
      skip(reader, tag);
      continue;
    }
    const stop = endOf(reader, end);
    add(group, () => readRecord(reader, stop));
    reader.pos = stop;
  }
}

/** name = 1, version = 2, attributes = 3 */
function readScope(reader: Reader, end: number): Scope {
  const budget = newBudget();
  const values: Values = Object.create(null);
  let name = '';
  let version = '';
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === 10) name = reader.string();
    else if (tag === 18) version = reader.string();
    else if (tag === 26) readPair(reader, endOf(reader, end), values, 0, budget);
    else skip(reader, tag);
  }
  checkEnd(reader, end);
  return { name, version, attributes: { values, isCut: budget.isCut } };
}

/**
 * time_unix_nano = 1, severity_number = 2, severity_text = 3, body = 5, attributes = 6, dropped_attributes_count = 7, trace_id = 9,
 * span_id = 10, observed_time_unix_nano = 11, event_name = 12
 */
function readRecord(reader: Reader, end: number): LogRecord {
  const budget = newBudget();
  const values: Values = Object.create(null);
  let timeNs = 0n;
  let observedNs = 0n;
  let severityNumber = 0;
  let severityText = '';
  let body: Value | undefined;
  let traceId = '';
  let spanId = '';
  let eventName = '';
  let droppedAttributes = 0;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === 9) timeNs = readNumber64(reader);
    else if (tag === 16) severityNumber = reader.int32();
    else if (tag === 26) severityText = reader.string();
    else if (tag === 42) body = readValue(reader, endOf(reader, end), 0, budget);
    else if (tag === 50) readPair(reader, endOf(reader, end), values, 0, budget);
    else if (tag === 56) droppedAttributes = reader.uint32();
    else if (tag === 74) traceId = idOf(hexOf(reader.bytes()), 32);
    else if (tag === 82) spanId = idOf(hexOf(reader.bytes()), 16);
    else if (tag === 89) observedNs = readNumber64(reader);
    else if (tag === 98) eventName = reader.string();
    else skip(reader, tag);
  }
  checkEnd(reader, end);
  return {
    timeNs: timeNs === 0n ? observedNs : timeNs,
    attributes: { values, isCut: budget.isCut },
    ...{ severityNumber, severityText, body, traceId, spanId, eventName, droppedAttributes },
  };
}

/** key = 1, value = 2 */
function readPair(reader: Reader, end: number, into: Values, depth: number, budget: Budget): void {
  let key = '';
  let value: Value = null;
  if (!spend(budget)) {
    reader.pos = end;
    return;
  }
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === 10) key = reader.string();
    else if (tag === 18) value = readValue(reader, endOf(reader, end), depth, budget);
    else skip(reader, tag);
  }
  checkEnd(reader, end);
  into[key] = value;
}

/**
 * string_value = 1, bool_value = 2, int_value = 3, double_value = 4, array_value = 5 (values = 1), kvlist_value = 6 (values = 1),
 * bytes_value = 7
 */
function readValue(reader: Reader, end: number, depth: number, budget: Budget): Value {
  let value: Value = null;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === 10) value = reader.string();
    else if (tag === 16) value = reader.bool();
    else if (tag === 24) value = exactly(String(reader.int64()));
    else if (tag === 33) value = finite(reader.double());
    else if (tag === 42) value = readMany(reader, endOf(reader, end), depth + 1, budget, false);
    else if (tag === 50) value = readMany(reader, endOf(reader, end), depth + 1, budget, true);
    else if (tag === 58) value = Buffer.from(reader.bytes()).toString('base64');
    else skip(reader, tag);
  }
  checkEnd(reader, end);
  return value;
}

function readMany(reader: Reader, end: number, depth: number, budget: Budget, isMap: boolean): Value {
  if (depth > MAX_DEPTH) {
    budget.isCut = true;
    reader.pos = end;
    return TOO_DEEP;
  }
  const list: Value[] = [];
  const map: Values = Object.create(null);
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag !== 10) {
      skip(reader, tag);
      continue;
    }
    const stop = endOf(reader, end);
    if (isMap) readPair(reader, stop, map, depth, budget);
    else if (spend(budget)) list.push(readValue(reader, stop, depth, budget));
    else reader.pos = stop;
  }
  checkEnd(reader, end);
  return isMap ? map : list;
}

function readNumber64(reader: Reader): bigint {
  // As two halves: the library's own 64-bit numbers are objects.
  const low = reader.fixed32();
  return (BigInt(reader.fixed32()) << 32n) | BigInt(low);
}

/** A number, or its digits where a number would lose some. */
function exactly(digits: string): Value {
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : digits;
}

/** JSON has no others. */
function finite(number: number): Value {
  return Number.isFinite(number) ? number : String(number);
}

const hexOf = (bytes: Uint8Array) => (bytes.length > 16 ? '' : Buffer.from(bytes).toString('hex'));

/** Without what the data model calls invalid: another length, and nothing but zeros. */
function idOf(hex: string, length: number): string {
  return hex.length === length && /^[0-9a-f]+$/.test(hex) && !/^0+$/.test(hex) ? hex : '';
}

// ---- JSON ----

// As https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids in hexadecimal, enums as numbers, 64 bits as text or number;
// names that are not known are ignored. `null` is the same as nothing, as everywhere in protobuf's JSON.

type Json = Record<string, unknown>;

/** Each object and list costs more memory than it has bytes. */
const MAX_CONTAINERS = 1_000_000;
const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** @throws OtlpError */
function readJson(body: Buffer, add: Add): void {
  let containers = 0;
  for (let i = 0; i < body.length; i++) if (body[i] === 0x7b || body[i] === 0x5b) containers += 1;
  if (containers > MAX_CONTAINERS)
    throw new OtlpError(`more than ${MAX_CONTAINERS} objects and lists; send less at a time`);
  let request: unknown;
  try {
    request = JSON.parse(UTF8.decode(body));
  } catch {
    throw new OtlpError('the body is no JSON in UTF-8');
  }
  for (const [ofResource, at] of eachOf(objectAt(request, ''), 'resourceLogs', '')) {
    const resource = attributesOf(objectAt(ofResource.resource ?? {}, `${at}.resource`), `${at}.resource`);
    for (const [ofScope, atScope] of eachOf(ofResource, 'scopeLogs', at)) {
      const given = objectAt(ofScope.scope ?? {}, `${atScope}.scope`);
      const scope = {
        name: textAt(given, 'name', `${atScope}.scope`),
        version: textAt(given, 'version', `${atScope}.scope`),
        attributes: attributesOf(given, `${atScope}.scope`),
      };
      const group = { resource, scope };
      for (const [record, atRecord] of eachOf(ofScope, 'logRecords', atScope)) {
        add(group, () => recordOf(record, atRecord));
      }
    }
  }
}

function recordOf(record: Json, at: string): LogRecord {
  const budget = newBudget();
  const { body } = record;
  const timeNs = nanosAt(record, 'timeUnixNano', at);
  return {
    timeNs: timeNs === 0n ? nanosAt(record, 'observedTimeUnixNano', at) : timeNs,
    severityNumber: countAt(record, 'severityNumber', at),
    severityText: textAt(record, 'severityText', at),
    body: body === undefined || body === null ? undefined : plainValue(body, `${at}.body`, 0, budget),
    attributes: attributesOf(record, at, budget),
    traceId: idOf(textAt(record, 'traceId', at).toLowerCase(), 32),
    spanId: idOf(textAt(record, 'spanId', at).toLowerCase(), 16),
    eventName: textAt(record, 'eventName', at),
    droppedAttributes: countAt(record, 'droppedAttributesCount', at),
  };
}

function attributesOf(holder: Json, at: string, budget = newBudget()): Attributes {
  if (holder.attributes === undefined || holder.attributes === null) return NO_ATTRIBUTES;
  const values = pairsOf(holder, 'attributes', at, 0, budget);
  return { values, isCut: budget.isCut };
}

function pairsOf(holder: Json, key: string, at: string, depth: number, budget: Budget): Values {
  const values: Values = Object.create(null);
  for (const [pair, atPair] of eachOf(holder, key, at)) {
    if (!spend(budget)) break;
    const { value } = pair;
    const isNothing = value === undefined || value === null;
    values[textAt(pair, 'key', atPair)] = isNothing ? null : plainValue(value, `${atPair}.value`, depth, budget);
  }
  return values;
}

function plainValue(given: unknown, at: string, depth: number, budget: Budget): Value {
  const value = objectAt(given, at);
  for (const kind in value) {
    const inner = value[kind];
    if (inner === null) continue;
    switch (kind) {
      case 'stringValue':
      case 'bytesValue':
        return textAt(value, kind, at);
      case 'boolValue':
        if (typeof inner !== 'boolean') throw wrong(`${at}.${kind}`, 'true or false', inner);
        return inner;
      case 'intValue':
        if (!(Number.isSafeInteger(inner) || (typeof inner === 'string' && /^-?\d{1,19}$/.test(inner)))) {
          throw wrong(`${at}.${kind}`, 'a whole number, as a text when it is long', inner);
        }
        return exactly(String(inner));
      case 'doubleValue': {
        const number = typeof inner === 'string' ? Number(inner) : inner;
        if (typeof number === 'number' && (!Number.isNaN(number) || inner === 'NaN')) return finite(number);
        throw wrong(`${at}.${kind}`, 'a number', inner);
      }
      case 'arrayValue':
      case 'kvlistValue': {
        if (depth >= MAX_DEPTH) {
          budget.isCut = true;
          return TOO_DEEP;
        }
        const many = objectAt(inner, `${at}.${kind}`);
        if (kind === 'kvlistValue') return pairsOf(many, 'values', `${at}.${kind}`, depth + 1, budget);
        const list: Value[] = [];
        for (const [item, atItem] of eachOf(many, 'values', `${at}.${kind}`)) {
          if (!spend(budget)) break;
          list.push(plainValue(item, atItem, depth + 1, budget));
        }
        return list;
      }
      default:
    }
  }
  return null;
}

function* eachOf(holder: Json, key: string, at: string): Generator<[item: Json, at: string]> {
  const list = holder[key];
  if (list === undefined || list === null) return;
  const place = at === '' ? key : `${at}.${key}`;
  if (!Array.isArray(list)) throw wrong(place, 'a list', list);
  for (let i = 0; i < list.length; i++) yield [objectAt(list[i], `${place}[${i}]`), `${place}[${i}]`];
}

function objectAt(value: unknown, at: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw wrong(at === '' ? 'the body' : at, 'an object', value);
}

function textAt(holder: Json, key: string, at: string): string {
  const value = holder[key] ?? '';
  if (typeof value !== 'string') throw wrong(`${at}.${key}`, 'a text', value);
  return value;
}

function countAt(holder: Json, key: string, at: string): number {
  const value = Number(holder[key] ?? 0);
  if (!Number.isInteger(value) || Math.abs(value) > 0xffff_ffff)
    throw wrong(`${at}.${key}`, 'a whole number', holder[key]);
  return value;
}

function nanosAt(holder: Json, key: string, at: string): bigint {
  const value = holder[key] ?? 0;
  if (typeof value === 'string' && /^\d{1,20}$/.test(value)) return BigInt(value);
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 64) return BigInt(value);
  throw wrong(`${at}.${key}`, 'nanoseconds since 1970, as a text', value);
}

function wrong(at: string, permitted: string, found: unknown): OtlpError {
  const kind = found === null ? 'null' : Array.isArray(found) ? 'a list' : typeof found;
  const shown = typeof found === 'string' || typeof found === 'number' ? JSON.stringify(found).slice(0, 40) : kind;
  return new OtlpError(`${at}: found ${shown}; permitted: ${permitted}`);
}

// ---- answers ----

export const OTLP_TYPES: Readonly<Record<OtlpEncoding, string>> = {
  protobuf: 'application/x-protobuf',
  json: 'application/json',
};

/** An ExportLogsServiceResponse: partial_success = 1 (rejected_log_records = 1, error_message = 2), only if some were rejected. */
export function otlpResponse(encoding: OtlpEncoding, rejected: OtlpRejections): Buffer {
  const reasons = OTLP_REJECTIONS.filter((reason) => (rejected[reason] ?? 0) > 0);
  const count = reasons.reduce((sum, reason) => sum + rejected[reason]!, 0);
  const message = reasons.map((reason) => `${rejected[reason]} ${reason}: ${REJECTION_WORDS[reason]}`).join('; ');
  if (encoding === 'json') {
    const partial = { rejectedLogRecords: String(count), errorMessage: message };
    return Buffer.from(JSON.stringify(count === 0 ? {} : { partialSuccess: partial }));
  }
  const writer = protobuf.Writer.create();
  if (count > 0) writer.uint32(10).fork().uint32(8).int64(count).uint32(18).string(message).ldelim();
  return Buffer.from(writer.finish());
}

/** A google.rpc.Status: code = 1, message = 2. */
export function otlpStatus(encoding: OtlpEncoding, code: number, message: string): Buffer {
  if (encoding === 'json') return Buffer.from(JSON.stringify({ code, message }));
  return Buffer.from(protobuf.Writer.create().uint32(8).int32(code).uint32(18).string(message).finish());
}
