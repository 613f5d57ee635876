// Conditions on documents, as given with `--where`. In: their texts. Out: one question to a document.
// Guarantee: all conditions must hold; a text that is no condition is an error that shows the three forms.
import { LogpipeError } from '../core/errors.ts';
import { toJson } from '../core/safe-json.ts';
import { ExactNumber, hasExactNumbers, unsettleNumbers, writeJson } from '../parse/json.ts';

export type Matches = (document: Readonly<Record<string, unknown>>) => boolean;

/** Lists within lists are looked into so far; what lies deeper is compared as a text. */
const MAX_LIST_DEPTH = 16;

/** All of them at once; undefined when there are none, so that nothing need be prepared. @throws LogpipeError LOGPIPE_USAGE */
export function parseWhere(texts: readonly string[] | undefined): Matches | undefined {
  if (texts === undefined || texts.length === 0) return undefined;
  const conditions = texts.map(parseCondition);
  return (document) => conditions.every((matches) => matches(document));
}

/**
 * A condition on a document: `path=value`, `path!=value` (also true where there is no such field), `path~text` (contains,
 * without regard to case). The path is dotted; of a list one element has to match.
 * @throws LogpipeError LOGPIPE_USAGE
 */
export function parseCondition(text: string): Matches {
  const at = text.search(/[=~]/u);
  const operator = text[at - 1] === '!' && text[at] === '=' ? '!=' : text[at];
  const path = text.slice(0, operator === '!=' ? at - 1 : Math.max(at, 0)).trim();
  if (at < 0 || path === '' || /[!\s]/u.test(path)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--where: ${JSON.stringify(text)} is not path=value, path!=value or path~text`,
    );
  }
  const wanted = text.slice(at + 1).trim();
  const lower = wanted.toLowerCase();
  const test = (value: unknown, json: (value: unknown) => string, depth = 0): boolean => {
    if (Array.isArray(value) && depth < MAX_LIST_DEPTH) return value.some((item) => test(item, json, depth + 1));
    if (value === undefined || value === null) return false;
    return textsOf(value, json).some((found) =>
      operator === '~' ? found.toLowerCase().includes(lower) : found === wanted,
    );
  };
  return (document) => {
    const exact = hasExactNumbers(document);
    const fields = exact ? unsettleNumbers(document as Record<string, unknown>) : document;
    return test(valueAt(fields, path), exact ? writeJson : toJson) !== (operator === '!=');
  };
}

/** A number as it was logged, and as JavaScript has it where that is the same number. */
function textsOf(value: unknown, json: (value: unknown) => string): string[] {
  if (value instanceof ExactNumber) {
    return Math.abs(value.value) <= Number.MAX_SAFE_INTEGER ? [value.text, String(value.value)] : [value.text];
  }
  return [typeof value === 'object' ? json(value) : String(value)];
}

/** The value at a dotted path, whether the document nests it or has dots in its keys. */
function valueAt(value: unknown, path: string): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const fields = value as Record<string, unknown>;
  if (Object.hasOwn(fields, path)) return fields[path];
  for (let dot = path.indexOf('.'); dot > 0; dot = path.indexOf('.', dot + 1)) {
    const head = path.slice(0, dot);
    const found = Object.hasOwn(fields, head) ? valueAt(fields[head], path.slice(dot + 1)) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}
