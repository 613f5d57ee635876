// What others made, written safely. In: any value, however deep, or any text. Out: its JSON; the text with every character that a
// reader cannot see, or that moves a cursor, turns the direction or ends a line, written as an escape. Guarantee: never throws,
// linear, no recursion as deep as the value (`JSON.stringify` overflows the stack at some thousand levels); ordinary text comes
// back as it is.
export const TOO_DEEP = '[nested too deeply]';
const CIRCULAR = '[circular]';
const UNREADABLE = '[unreadable]';
/** Deeper than any record meant for people. An indented text grows with depth times lines. */
const MAX_SHOWN_DEPTH = 64;

/**
 * Like `JSON.stringify`, at any depth: complete, except that a placeholder stands for what refers to itself or cannot be read.
 */
export function toJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'null';
  } catch {
    return deepJson(value);
  }
}

/** Indented, for people: a placeholder stands for what lies deeper than 64 levels. */
export function toPrettyJson(value: unknown): string {
  const shown = bounded(value);
  try {
    return JSON.stringify(shown, null, 2) ?? 'null';
  } catch {
    return deepJson(shown);
  }
}

/** The same value, or a copy in which `TOO_DEEP` stands for what lies deeper than `maxDepth` levels. */
export function bounded(value: unknown, maxDepth = MAX_SHOWN_DEPTH): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (maxDepth <= 0) return TOO_DEEP;
  if (Array.isArray(value)) {
    const copy = value.map((item) => bounded(item, maxDepth - 1));
    return copy.every((item, i) => item === value[i]) ? value : copy;
  }
  let copy: Record<string, unknown> | undefined;
  for (const key of Object.keys(value)) {
    const before = (value as Record<string, unknown>)[key];
    const after = bounded(before, maxDepth - 1);
    if (after === before) continue;
    copy ??= { ...value };
    // Plain assignment to `__proto__` would replace the prototype instead of the field.
    Object.defineProperty(copy, key, { value: after, enumerable: true, configurable: true, writable: true });
  }
  return copy ?? value;
}

interface Level {
  readonly source: object;
  /** Undefined for a list. */
  readonly keys: readonly string[] | undefined;
  next: number;
  empty: boolean;
}

function deepJson(root: unknown): string {
  const parts: string[] = [];
  const levels: Level[] = [];
  const ancestors = new Set<object>();

  /** Writes a value, or opens a level for it. */
  function put(given: unknown): void {
    const value = plain(given);
    if (typeof value !== 'object' || value === null) {
      parts.push(leaf(value));
    } else if (ancestors.has(value)) {
      parts.push(JSON.stringify(CIRCULAR));
    } else {
      ancestors.add(value);
      const keys = Array.isArray(value) ? undefined : Object.keys(value);
      levels.push({ source: value, keys, next: 0, empty: true });
      parts.push(keys === undefined ? '[' : '{');
    }
  }

  put(root);
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const { source, keys } = level;
    const count = keys === undefined ? (source as readonly unknown[]).length : keys.length;
    if (level.next >= count) {
      parts.push(keys === undefined ? ']' : '}');
      ancestors.delete(source);
      levels.pop();
      continue;
    }
    const key = keys === undefined ? level.next : keys[level.next]!;
    level.next += 1;
    const value = read(source, key);
    // As JSON.stringify does it: left out of an object, null in a list.
    if (keys !== undefined && (value === undefined || typeof value === 'function' || typeof value === 'symbol'))
      continue;
    if (!level.empty) parts.push(',');
    level.empty = false;
    if (keys !== undefined) parts.push(JSON.stringify(key), ':');
    put(value);
  }
  return parts.join('');
}

function read(source: object, key: string | number): unknown {
  try {
    return (source as Record<string | number, unknown>)[key];
  } catch {
    return UNREADABLE;
  }
}

/** Asks the value how it wants to be written, as a date can say. */
function plain(value: unknown): unknown {
  try {
    const { toJSON } = (value ?? {}) as { readonly toJSON?: unknown };
    return typeof toJSON === 'function' ? (toJSON.call(value) as unknown) : value;
  } catch {
    return UNREADABLE;
  }
}

function leaf(value: unknown): string {
  return typeof value === 'bigint' ? JSON.stringify(String(value)) : (JSON.stringify(value) ?? 'null');
}

// ---- text on a terminal and in JSON ----

// C0, DEL and C1 controls (ESC begins ANSI and OSC sequences); soft hyphen and other marks without a width; direction marks,
// embeddings, overrides and isolates; line and paragraph separators; fillers that look like nothing; tags; lone surrogates.
const INVISIBLE =
  '\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ud800-\\udfff\\ufeff\\uffa0\\ufff0-\\ufffb\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}';
const IN_FIELD = new RegExp(`[\\u0000-\\u001f${INVISIBLE}]`, 'gu');
const IN_OUTPUT = new RegExp(`[\\u0000-\\u0008\\u000b-\\u001f${INVISIBLE}]`, 'gu');
const IN_JSON = new RegExp(`[${INVISIBLE}]`, 'gu');

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** One field of somebody else's text: on one line, and harmless to a terminal. */
export function visible(text: string): string {
  return text.replace(IN_FIELD, escaped);
}

/** What a command prints, possibly several lines: line ends and tabs stay, since they are its own. */
export function visibleLines(text: string): string {
  return text.replace(IN_OUTPUT, escaped);
}

/** Serialised JSON with the same meaning, whose texts hold no such character. */
export function visibleJson(json: string): string {
  return json.replace(IN_JSON, units);
}

/** `visible`, in at most `width` UTF-16 units; a cut is shown. */
export function oneLine(text: string, width = Number.POSITIVE_INFINITY): string {
  // What lies far past the cut need not be escaped.
  const plain = visible(text.length > width ? text.slice(0, width + 1) : text);
  return plain.length > width ? `${plain.slice(0, width - 1).replace(/[\ud800-\udbff]$/, '')}…` : plain;
}

function escaped(character: string): string {
  return SHORT[character] ?? units(character);
}

function units(character: string): string {
  let text = '';
  for (let i = 0; i < character.length; i++) text += `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`;
  return text;
}
