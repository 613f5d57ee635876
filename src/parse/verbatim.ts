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
  function isVerbatim(text: string, doc: Json, seen: Seen): boolean {
    if (!isPlain(doc, seen) || (!options.duplicatesRefused && mayRepeatKey(text, doc))) return false;
    if (!masker.suspicious(text)) return true;
    return options.duplicatesRefused ? masker.value(doc) === doc : !masker.holdsSecret(text);
  }

  function isPlain(doc: Json, seen: Seen): boolean {
    let unknown = 0;
    let keys = 0;
    for (const key in doc) {
      keys += 1;
      const value = doc[key];
      const type = FIELD_MAP.get(key);
      if (type === undefined) {
        unknown += 1;
        if (unknown > MAX_UNKNOWN_KEYS || !isPlainKey(key) || SLOW_KEYS.has(key)) return false;
        if (!isShallow(value, 0)) return false;
        continue;
      }
      if ((seen.eventId && key === 'eventId') || (seen.canonicalTime && key === 'timestamp')) continue;
      if (SLOW_KEYS.has(key) || !matches(type, value)) return false;
    }
    return keys > 0;
  }

  function matches(type: FieldType | FieldMap, value: unknown): boolean {
    if (typeof type === 'string') {
      // The common case by far, without the call.
      if (typeof value === 'string' && (type === 'keyword' || type === 'text')) return true;
      return fits(type, value, time) && isShallow(value, 0);
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value === null;
    for (const key in value) {
      const inner = type.get(key);
      if (inner !== undefined) {
        if (!matches(inner, (value as Json)[key])) return false;
      } else if (key.includes('.') || !isShallow((value as Json)[key], 0)) return false;
    }
    return true;
  }

  return isVerbatim;
}

/** Does the value end before the depth that the slow path cuts at? */
function isShallow(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return true;
  if (depth >= MAX_DEPTH) return false;
  for (const key in value) if (!isShallow((value as Json)[key], depth + 1)) return false;
  return true;
}

/** A key the fast path may leave alone: no dots to resolve, not blank, nothing that could be a prototype. */
function isPlainKey(key: string): boolean {
  return key !== '' && !key.includes('.') && key.charCodeAt(0) !== 95 && key.length <= 256 && key.trim() !== '';
}
