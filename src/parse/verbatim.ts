// May a record's own bytes go into the document? In: the parsed record. Out: yes or no.
// Guarantee: yes only when every key is plain, every value fits its catalogue type, and nothing in it looks secret.
import type { FieldType } from '../core/catalogue.ts';
import type { Masker } from '../core/mask.ts';
import { MAX_UNKNOWN_KEYS } from './conform.ts';
import { FIELD_MAP, type FieldMap, fits } from './field-types.ts';
import { MAX_DEPTH, mayRepeatKey } from './json.ts';
import { SHAPE_KEYS } from './shapes.ts';
import type { TimeParser } from './time.ts';

type Json = Record<string, unknown>;

/** Keys that logpipe adds or that mark a foreign shape: with one of them the raw bytes cannot be used. */
const SLOW_KEYS = new Set<string>(['@timestamp', 'tags', 'kafka', 'extra', 'extraRaw', ...SHAPE_KEYS]);

/** What the caller has looked at already. */
interface Seen {
  /** `timestamp` is in the canonical form. */
  readonly canonicalTime: boolean;
  /** `eventId` is that of the record's header. */
  readonly eventId: boolean;
}

/** A catalogue field, or a group of them, as this check knows it. */
interface Field {
  readonly type: FieldType | undefined;
  readonly group: ReadonlyMap<string, Field> | undefined;
  /** Short values that were found without a secret: most fields say the same few again and again. */
  readonly clean: Set<string>;
  /** False once it has had more values than are worth remembering. */
  repeats: boolean;
  /** The value that joins the clean ones when the whole record is found clean. */
  next: string;
}

/** Longer values differ from record to record. */
const MAX_REMEMBERED_LENGTH = 32;
const MAX_REMEMBERED = 64;

/**
 * `text` is what `doc` was parsed from. A key given twice is in the text but not in the object: such a line is left to the
 * slow path, which keeps both values. With `duplicatesRefused` it is not looked for, since the sink takes no such text, and
 * is then sent what the slow path makes of it (Parser.reparse).
 */
export function createVerbatimCheck(
  masker: Masker,
  time: TimeParser,
  options: { duplicatesRefused: boolean },
): (text: string, doc: Json, seen: Seen) => boolean {
  /** Catalogue fields whose own name leads to secrets; there may be some by the operator's keys. */
  let ledByCatalogue = false;
  const fields = copy(FIELD_MAP);
  /** The record's texts that have to be looked at, one a line; no secret that is found by its form goes over a line's end. */
  let texts = '';
  /** Some key leads to secrets: only masking itself can tell. */
  let led = false;
  let fresh: Field[] = [];

  function copy(map: FieldMap): ReadonlyMap<string, Field> {
    const copied = new Map<string, Field>();
    for (const [name, type] of map) {
      if (masker.leads(name)) ledByCatalogue = true;
      const group = typeof type === 'string' ? undefined : copy(type);
      copied.set(name, {
        type: typeof type === 'string' ? type : undefined,
        group,
        clean: new Set(),
        repeats: true,
        next: '',
      });
    }
    return copied;
  }

  function isVerbatim(text: string, doc: Json, seen: Seen): boolean {
    texts = '';
    led = ledByCatalogue;
    if (fresh.length > 0) fresh = [];
    if (!isPlain(doc, seen)) return false;
    if (!options.duplicatesRefused) return !mayRepeatKey(text, doc) && !masker.holdsSecret(text);
    if ((led || masker.suspicious(texts)) && masker.value(doc) !== doc) return false;
    for (const field of fresh) remember(field);
    return true;
  }

  function isPlain(doc: Json, seen: Seen): boolean {
    let unknown = 0;
    let keys = 0;
    for (const key in doc) {
      keys += 1;
      const value = doc[key];
      const field = fields.get(key);
      if (field === undefined) {
        unknown += 1;
        if (unknown > MAX_UNKNOWN_KEYS || !isPlainKey(key) || SLOW_KEYS.has(key)) return false;
        if (masker.leads(key)) led = true;
        if (!gather(value, 0)) return false;
        continue;
      }
      if ((seen.eventId && key === 'eventId') || (seen.canonicalTime && key === 'timestamp')) continue;
      if (SLOW_KEYS.has(key) || !matches(field, value)) return false;
    }
    return keys > 0;
  }

  function matches(field: Field, value: unknown): boolean {
    const { type, group } = field;
    if (type !== undefined) {
      // The common case by far, without the call.
      if (typeof value === 'string' && (type === 'keyword' || type === 'text')) {
        const mayRepeat = field.repeats && value.length <= MAX_REMEMBERED_LENGTH;
        if (mayRepeat && field.clean.has(value)) return true;
        texts += `${value}\n`;
        if (!mayRepeat) return true;
        field.next = value;
        fresh.push(field);
        return true;
      }
      return fits(type, value, time) && gather(value, 0);
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value === null;
    for (const key in value) {
      const inner = group!.get(key);
      if (inner !== undefined) {
        if (!matches(inner, (value as Json)[key])) return false;
      } else {
        if (key.includes('.')) return false;
        if (masker.leads(key)) led = true;
        if (!gather((value as Json)[key], 0)) return false;
      }
    }
    return true;
  }

  function remember(field: Field): void {
    field.clean.add(field.next);
    if (field.clean.size <= MAX_REMEMBERED) return;
    field.repeats = false;
    field.clean.clear();
  }

  /** Takes note of all texts and keys in the value; false when it is deeper than the slow path would leave it. */
  function gather(value: unknown, depth: number): boolean {
    if (typeof value === 'string') texts += `${value}\n`;
    if (typeof value !== 'object' || value === null) return true;
    if (depth >= MAX_DEPTH) return false;
    const isList = Array.isArray(value);
    for (const key in value) {
      if (!isList && masker.leads(key)) led = true;
      if (!gather((value as Json)[key], depth + 1)) return false;
    }
    return true;
  }

  return isVerbatim;
}

/** A key the fast path may leave alone: no dots to resolve, not blank, nothing that could be a prototype. */
function isPlainKey(key: string): boolean {
  return key !== '' && !key.includes('.') && key.charCodeAt(0) !== 95 && key.length <= 256 && key.trim() !== '';
}
