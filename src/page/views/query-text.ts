// Query lines in Kibana's syntax, made of fields and values. In: names and values of documents, which are strangers' text, and what
// somebody has typed. Out: query lines, and the rows of a document's table. Guarantee: pure; a value is found as it is, whatever stands in
// it: quotes and backslashes are escaped, and no value becomes an operator.

/** Longer texts are not indexed whole, so that nothing would be found. */
const MAX_VALUE = 1_024;
/** Its words are searched, so that a line break is as good as a space. */
const TEXT_FIELD = /^(?:message|error\.(?:message|stack))$/;

export function quoted(value: string): string {
  return `"${value.replace(/["\\]/g, '\\$&')}"`;
}

/** Other names cannot be written in a query line. */
const FIELD = /^[A-Za-z_@][\w.@-]{0,127}$/;

/** `field: "value"`; null where no query finds the value. */
export function term(field: string, value: unknown): string | null {
  if (!FIELD.test(field) || /^(?:and|or|not)$/i.test(field)) return null;
  if (typeof value === 'number' || typeof value === 'boolean') return `${field}: ${value}`;
  if (typeof value !== 'string' || value === '' || value.length > MAX_VALUE) return null;
  // An input of one line would drop them.
  if (/[\n\r]/.test(value))
    return TEXT_FIELD.test(field) ? `${field}: ${quoted(value.replace(/[\n\r]+/g, ' '))}` : null;
  return `${field}: ${quoted(value)}`;
}

/** Both must hold. */
export function both(query: string, added: string): string {
  const before = query.trim();
  if (before === '' || before === added) return added;
  if (before.endsWith(` and ${added}`) && !hasOr(before)) return before;
  // `or` binds less than `and`.
  return [before, added].map((part) => (hasOr(part) ? `(${part})` : part)).join(' and ');
}

function hasOr(query: string): boolean {
  return /\bor\b/i.test(query);
}

// ---- a document as a table ----

export interface FieldRow {
  /** Path, as queries name it. */
  readonly name: string;
  readonly text: string;
  /** A query line that finds what has this value; null where none does. */
  readonly query: string | null;
}

const FIRST = ['@timestamp', 'level', 'service', 'environment', 'event', 'message', 'callId', 'requestId', 'traceId'];
const MAX_ROWS = 400;
const MAX_DEPTH = 20;
/** Not searched. */
const KEPT_ONLY = /^extraRaw(?:$|\.)/;

/** What stands first is what one reads first. `left` says how many rows were left out. */
export function fieldRows(document: Readonly<Record<string, unknown>>): {
  readonly rows: FieldRow[];
  readonly left: number;
} {
  const all: FieldRow[] = [];
  addRows(all, '', document, 0);
  const rank = ({ name }: FieldRow) => (FIRST.indexOf(name) + FIRST.length + 1) % (FIRST.length + 1);
  all.sort((one, other) => rank(one) - rank(other) || (one.name < other.name ? -1 : 1));
  return { rows: all.slice(0, MAX_ROWS), left: Math.max(0, all.length - MAX_ROWS) };
}

function addRows(rows: FieldRow[], prefix: string, value: unknown, depth: number): void {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (isObject && depth < MAX_DEPTH) {
    const entries = Object.entries(value);
    if (entries.length > 0) {
      for (const [name, part] of entries) addRows(rows, prefix === '' ? name : `${prefix}.${name}`, part, depth + 1);
      return;
    }
  }
  const isText = typeof value === 'string';
  const plain = Array.isArray(value) && value.every((one) => typeof one === 'string');
  const text = isText ? value : plain ? value.join(', ') : json(value, isObject ? 2 : 0);
  // One of several values is enough to find the others.
  const sought = plain ? value[0] : value;
  rows.push({ name: prefix, text, query: KEPT_ONLY.test(prefix) ? null : term(prefix, sought) });
}

/** Whatever is nested deeper than a text of it can be made. */
function json(value: unknown, indent: number): string {
  try {
    return JSON.stringify(value, undefined, indent) ?? '';
  } catch {
    return '(nested too deeply to be shown)';
  }
}

// ---- addresses that stand in rules ----

/**
 * Where the link to a runbook leads: an address of the web, or a document of ours below `docs/`. Null: it is shown as text. A rule's author
 * is trusted with words, not with a script of this page.
 */
export function runbookAddress(runbook: string): string | null {
  if (/\s/.test(runbook)) return null;
  if (/^https?:\/\/[^/]/i.test(runbook)) return URL.canParse(runbook) ? runbook : null;
  if (!/^(?:\.?\/)?docs\/[\w./-]+(?:#[\w-]*)?$/.test(runbook) || runbook.includes('..')) return null;
  return `./${runbook.replace(/^\.?\//, '')}`;
}
