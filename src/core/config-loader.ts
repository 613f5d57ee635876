// A configuration file: which one is meant, and YAML + environment -> validated, frozen configuration. All problems are reported
// at once, each with its path, the value found and what is permitted. Guarantee: no secret is repeated in a message, wherever in
// the file it stands; the parser's own messages, which quote the file, are not used. And whether a file that is in use has changed.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Ajv, type ErrorObject } from 'ajv';
import formats from 'ajv-formats';
import { type Document, isMap, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { LogpipeError, listOfProblems, reasonInWords, systemReason } from './errors.ts';
import { packageRoot } from './package-root.ts';
import { visible } from './safe-json.ts';
import { createMasker, MASK, type Masker } from './secrets/mask.ts';

/** The subset of JSON Schema the sections use; `secret` marks values that also come from `<key>File`, a list one a line. */
export interface Schema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly secret?: boolean;
  readonly description?: string;
  readonly default?: unknown;
  readonly [keyword: string]: unknown;
}

type Json = Record<string, unknown>;
export type Environment = Readonly<Record<string, string | undefined>>;

/** One thing that is wrong, for people and for programs. Nothing in it is secret. */
export interface ConfigProblem {
  /** `kafka.brokers.0`; the file's name when all of it is meant. */
  readonly path: string;
  /** Of the file, from 1; undefined where nothing stands, as for a key that is missing. */
  readonly line?: number | undefined;
  /** What was found, as a message may show it, with the variable it came from. */
  readonly value?: string | undefined;
  readonly message: string;
  readonly fix?: string | undefined;
}

/** A file that was refused, with all that is wrong. */
export class ConfigError extends LogpipeError {
  readonly file: string;
  readonly problems: readonly ConfigProblem[];

  constructor(file: string, problems: readonly ConfigProblem[]) {
    const list = listOfProblems([...new Set(problems.map(problemText))]);
    super('LOGPIPE_CONFIG_INVALID', `${file}: ${problems.length} problem(s)\n${list}`);
    this.file = file;
    this.problems = problems;
  }
}

/** On one line: where, what was found, what is wrong with it, what to do. */
export function problemText({ path, line, value, message, fix }: ConfigProblem): string {
  const at = line === undefined ? '' : `line ${line}, `;
  const found = value === undefined ? '' : `found ${value}; `;
  return `${at}${path}: ${found}${message}${fix === undefined ? '' : `; ${fix}`}`;
}

/** What a file says, as far as it can be told. */
export interface Inspection<T> {
  /** Frozen; undefined when there are problems. */
  readonly value: T | undefined;
  /** With defaults and variables filled in, whatever is wrong with it. */
  readonly partial: unknown;
  readonly problems: readonly ConfigProblem[];
  /** Variables the file speaks of. */
  readonly variables: ReadonlySet<string>;
}

/** For a validator that is used once: neither are our own schemas looked at, which tests do, nor is its code made faster. */
const FOR_ONE_USE = { meta: false, validateSchema: false, code: { optimize: false } } as const;

/** Finds what a schema cannot say, in a value that may break it; what it throws is taken for nothing found. */
export type CrossCheck = (value: unknown) => readonly ConfigProblem[];

/**
 * @param text YAML; `${VAR}` and `${VAR:-default}` are replaced inside string values, after parsing
 * @throws ConfigError LOGPIPE_CONFIG_INVALID with one line per problem
 */
export function loadYaml<T>(text: string, schema: Schema, env: Environment, place: string, check?: CrossCheck): T {
  const { value, problems } = inspectYaml<T>(text, schema, env, place, check);
  if (value === undefined) throw new ConfigError(place, problems);
  return value;
}

/** As `loadYaml`, for who wants to go on with what is wrong. Never throws. */
export function inspectYaml<T>(
  text: string,
  schema: Schema,
  env: Environment,
  place: string,
  check: CrossCheck = () => [],
): Inspection<T> {
  const variables = new Set<string>();
  const refused = (problems: readonly ConfigProblem[], partial: unknown = {}): Inspection<T> => {
    return { value: undefined, partial, problems, variables };
  };
  try {
    const { document, lineOf } = readYaml(text, place);
    const problems: ConfigProblem[] = [];
    const secrets = new Set<string>();
    const masker = createMasker();
    const reading: Reading = { env, problems, secrets, masker, place, lineOf, variables, sources: new Map() };
    const value = expandAll(document ?? {}, schema, reading) as Json;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      const message = `the configuration is a mapping of sections, found ${kindOf(value)}`;
      return refused([{ path: place, message, fix: 'write keys with a colon, like `source: kafka`' }]);
    }
    for (const secret of secretsIn(value, schema, masker)) secrets.add(secret);
    const ajv = new Ajv({ ...FOR_ONE_USE, allErrors: true, useDefaults: true, strict: false, verbose: true });
    formats.default(ajv, ['regex']);
    const validate = ajv.compile(addFileKeys(schema));
    if (!validate(value)) {
      for (const error of telling(validate.errors ?? [])) problems.push(explain(error, schema, reading));
    }
    readSecretFiles(value, schema, '', reading);
    problems.push(...crossChecked(check, value, lineOf));
    if (problems.length > 0) return refused(inOrder(problems), value);
    return { value: deepFreeze(value) as T, partial: value, problems, variables };
  } catch (error) {
    if (error instanceof ConfigError) return refused(error.problems);
    throw error;
  }
}

function crossChecked(check: CrossCheck, value: unknown, lineOf: LineOf): readonly ConfigProblem[] {
  try {
    return check(value).map((problem) => ({ ...problem, line: lineOf(problem.path.split('.')) }));
  } catch {
    // It relies on what the schema promises, and the schema has told already.
    return [];
  }
}

/** Each once, as the file has them; what stands nowhere comes last. */
function inOrder(problems: readonly ConfigProblem[]): ConfigProblem[] {
  const once = [...new Map(problems.map((problem) => [problemText(problem), problem])).values()];
  return once.sort((a, b) => (a.line ?? Number.MAX_SAFE_INTEGER) - (b.line ?? Number.MAX_SAFE_INTEGER));
}

/**
 * All that is wrong with one file.
 * @param place names the file
 * @param problems `path: what is wrong`
 * @param text of the file, to say on which lines
 */
export function invalidConfig(place: string, problems: readonly string[], text?: string): ConfigError {
  const lineOf = text === undefined ? () => undefined : readYaml(text, place).lineOf;
  const found = problems.map((problem) => {
    const [path = '', ...rest] = problem.split(': ');
    return { path, line: lineOf(path.split('.')), message: rest.join(': ') };
  });
  return new ConfigError(place, found);
}

/** What to say about a position in the file: the parser's own messages quote what is there. */
const YAML_PROBLEMS: Readonly<Record<string, string>> = {
  BAD_INDENT: 'is not indented like the block it belongs to',
  TAB_AS_INDENT: 'is indented with a tab; use spaces',
  DUPLICATE_KEY: 'repeats a key of the same mapping; keys are unique',
  MISSING_CHAR: 'lacks a colon, a comma, a quote or a bracket before it',
  BAD_SCALAR_START: 'begins with a character that has a meaning in YAML; put the value in quotes',
  TAG_RESOLVE_FAILED: 'begins with !, which marks a tag in YAML; put the value in quotes',
  BAD_ALIAS: 'begins with * or &, which marks an alias or an anchor in YAML; put the value in quotes',
  BAD_DQ_ESCAPE: 'has a backslash that begins no escape; double it, or use single quotes',
  MULTIPLE_DOCS: 'begins a second document; a file holds one',
  MULTILINE_IMPLICIT_KEY: 'is a key that spans several lines; a colon or a quote is missing',
  BLOCK_AS_IMPLICIT_KEY: 'is a mapping where a value was expected; put a value that contains ": " in quotes',
};

/** The line on which a value stands, or what holds it; keys may hold dots. */
type LineOf = (path: readonly string[]) => number | undefined;

/** @throws ConfigError naming positions, never what is there */
function readYaml(text: string, place: string): { readonly document: unknown; readonly lineOf: LineOf } {
  const lines = new LineCounter();
  let document: Document.Parsed;
  try {
    // Otherwise it prints its warnings, which quote the file.
    document = parseDocument(text, { uniqueKeys: true, logLevel: 'error', lineCounter: lines });
  } catch {
    throw new ConfigError(place, [{ path: place, message: 'cannot be read as YAML; it is nested too deeply' }]);
  }
  const found = [...document.errors, ...document.warnings.filter(({ code }) => code === 'TAG_RESOLVE_FAILED')];
  const problems = found.map(({ code, linePos }) => {
    const at = linePos === undefined ? '' : `:${linePos[0].line}:${linePos[0].col}`;
    const message = YAML_PROBLEMS[code] ?? `is not valid YAML (${code})`;
    return { path: `${place}${at}`, message };
  });
  if (problems.length > 0) throw new ConfigError(place, problems);
  try {
    return { document: document.toJS(), lineOf: (path) => lineIn(document.contents, path, lines) };
  } catch (error) {
    const why =
      error instanceof RangeError
        ? 'it is nested too deeply'
        : 'an alias (*name) has no anchor (&name) before it, or there are too many; put a value that begins with * in quotes';
    throw new ConfigError(place, [{ path: place, message: `cannot be read as YAML; ${why}` }]);
  }
}

function lineIn(root: unknown, path: readonly string[], lines: LineCounter): number | undefined {
  let node = root;
  let offset: number | undefined;
  for (let at = 0; at < path.length; ) {
    const [next, length] = isSeq(node) ? [node.items[Number(path[at])], 1] : memberOf(node, path.slice(at));
    if (next === undefined) break;
    offset = startOf(isPair(next) ? next.key : next) ?? offset;
    node = isPair(next) ? next.value : next;
    at += length;
  }
  return offset === undefined ? undefined : lines.linePos(offset).line;
}

/** The member whose name is the first of these keys, or the first few with dots between them. */
function memberOf(node: unknown, keys: readonly string[]): readonly [unknown, number] {
  if (!isMap(node)) return [undefined, 0];
  for (let length = 1; length <= keys.length; length++) {
    const name = keys.slice(0, length).join('.');
    const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === name);
    if (pair !== undefined) return [pair, length];
  }
  return [undefined, 0];
}

function startOf(node: unknown): number | undefined {
  return (node as { readonly range?: readonly number[] | null } | null)?.range?.[0];
}

interface Reading {
  readonly env: Environment;
  readonly problems: ConfigProblem[];
  readonly lineOf: LineOf;
  readonly variables: Set<string>;
  /** By path: the variables that a text was made from. */
  readonly sources: Map<string, string>;
  /** Values that must not be shown; reading adds to them. */
  readonly secrets: Set<string>;
  readonly masker: Masker;
  readonly place: string;
}

function expandAll(value: unknown, schema: Schema, reading: Reading): unknown {
  try {
    return expand(value, schema, [], reading);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ConfigError(reading.place, [{ path: reading.place, message: 'is nested too deeply' }]);
  }
}

/** Replaces variables, and turns the texts they leave into the number, boolean or list the schema asks for. */
function expand(value: unknown, schema: Schema | undefined, path: readonly string[], reading: Reading): unknown {
  const { env, problems, secrets, masker } = reading;
  if (typeof value === 'string') {
    if (!value.includes('${')) return split(value, schema);
    const text = value.replace(
      /\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g,
      (_, name: string, fallback?: string) => {
        const found = env[name] === '' ? undefined : env[name];
        reading.variables.add(name);
        if (found !== undefined) reading.sources.set(path.join('/'), name);
        if (found === undefined && fallback === undefined) {
          problems.push({
            path: shownPath(path, reading),
            line: reading.lineOf(path),
            message: `\${${name}} is not set in the environment`,
            fix: `set it or write \${${name}:-default}`,
          });
        }
        // A secret, under whatever key it was put by mistake.
        if (found !== undefined && namesSecret(name, masker)) secrets.add(found);
        return found ?? fallback ?? '';
      },
    );
    // An optional setting whose variable is empty is not set at all.
    if (text === '') return undefined;
    if (
      (schema?.type === 'integer' || schema?.type === 'number') &&
      text.trim() !== '' &&
      !Number.isNaN(Number(text))
    ) {
      return Number(text);
    }
    if (schema?.type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
    return split(text, schema);
  }
  if (Array.isArray(value)) return value.map((item, i) => expand(item, schema?.items, [...path, String(i)], reading));
  if (typeof value !== 'object' || value === null) return value;
  const result: Json = {};
  for (const [key, inner] of Object.entries(value)) {
    const expanded = expand(inner, schema?.properties?.[key], [...path, key], reading);
    // Plain assignment to `__proto__` would replace the prototype instead of being refused as an unknown key.
    if (expanded !== undefined && expanded !== null) {
      Object.defineProperty(result, key, { value: expanded, enumerable: true, configurable: true, writable: true });
    }
  }
  return result;
}

function split(text: string, schema: Schema | undefined): unknown {
  if (schema?.type !== 'array') return text;
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** Every secret may also be given as `<key>File`. */
function addFileKeys(schema: Schema): Schema {
  if (schema.items !== undefined) return { ...schema, items: addFileKeys(schema.items) };
  if (schema.properties === undefined) {
    const members = membersOf(schema);
    return members === undefined ? schema : { ...schema, additionalProperties: addFileKeys(members) };
  }
  const properties: Record<string, Schema> = {};
  for (const [key, inner] of Object.entries(schema.properties)) {
    properties[key] = addFileKeys(inner);
    if (inner.secret === true) properties[`${key}File`] = { type: 'string', minLength: 1 };
  }
  // The pairing of user and password is checked after the files are read.
  const { dependentRequired: _, ...rest } = schema;
  return { ...rest, properties };
}

/** Of a mapping whose keys are names that people choose: the schema of what they stand for. */
function membersOf({ properties, additionalProperties }: Schema): Schema | undefined {
  const members = additionalProperties as Schema | undefined;
  return properties === undefined && members?.properties !== undefined ? members : undefined;
}

function readSecretFiles(value: Json, schema: Schema, path: string, reading: Reading): void {
  const members = membersOf(schema);
  if (members !== undefined) {
    for (const [name, inner] of Object.entries(value)) {
      if (typeof inner !== 'object' || inner === null) continue;
      readSecretFiles(inner as Json, members, path === '' ? name : `${path}.${name}`, reading);
    }
    return;
  }
  const add = (where: string, message: string, fix?: string) =>
    reading.problems.push({ path: where, line: reading.lineOf(where.split('.')), message, fix });
  for (const [key, inner] of Object.entries(schema.properties ?? {})) {
    const where = path === '' ? key : `${path}.${key}`;
    if (inner.secret === true) {
      const file = value[`${key}File`];
      if (typeof file !== 'string') continue;
      if (value[key] !== undefined) add(where, `both ${key} and ${key}File are set`, 'keep one');
      try {
        const text = readFileSync(file, 'utf8').trim();
        value[key] = inner.type === 'array' ? linesOf(text) : text;
        delete value[`${key}File`];
      } catch (error) {
        const known = systemReason(error);
        const why = known === undefined ? 'unknown' : `${known.words}, ${known.code}`;
        add(`${where}File`, `${fileName(file)} cannot be read (${why})`, 'name a readable file');
      }
    } else if (Array.isArray(value[key]) && inner.items?.properties !== undefined) {
      for (const [i, item] of value[key].entries()) {
        if (typeof item === 'object' && item !== null)
          readSecretFiles(item as Json, inner.items, `${where}.${i}`, reading);
      }
    } else if (typeof value[key] === 'object' && value[key] !== null) {
      readSecretFiles(value[key] as Json, inner, where, reading);
    }
  }
  const dependent = (schema.dependentRequired ?? {}) as Record<string, readonly string[]>;
  for (const [key, needs] of Object.entries(dependent)) {
    if (value[key] === undefined) continue;
    for (const need of needs) {
      if (value[need] === undefined) add(`${path}.${need}`, `missing, because ${path}.${key} is set`);
    }
  }
}

function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

interface Hidden {
  readonly secrets: ReadonlySet<string>;
  readonly masker: Masker;
}

function shownPath(path: readonly string[], { secrets, masker }: Hidden): string {
  return path.map((key) => nameOf(key, secrets, masker)).join('.');
}

const SCALAR = ['type', 'const', 'enum', 'pattern'];

/** Of alternatives that were all refused: what is wrong deep in one of them, else that none was met. Never both, nor each. */
function telling(errors: readonly ErrorObject[]): ErrorObject[] {
  const quiet = new Set<ErrorObject>();
  for (const error of errors) {
    // The key itself has an error of its own.
    if (error.keyword === 'propertyNames') quiet.add(error);
    if (error.keyword !== 'anyOf') continue;
    const within = errors.filter(({ schemaPath }) => schemaPath.startsWith(`${error.schemaPath}/`));
    const onTop = within.filter(
      ({ instancePath, keyword }) => instancePath === error.instancePath && SCALAR.includes(keyword),
    );
    for (const one of onTop) quiet.add(one);
    if (onTop.length < within.length) quiet.add(error);
  }
  return errors.filter((error) => !quiet.has(error));
}

const TYPES: Readonly<Record<string, string>> = {
  array: 'a list',
  boolean: 'true or false',
  integer: 'a whole number',
  number: 'a number',
  object: 'a mapping of keys',
  string: 'a text',
};

/** What a schema asks for, in words. */
function wordsFor(schema: Schema): string {
  if (typeof schema.permitted === 'string') return schema.permitted;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (Array.isArray(schema.enum)) return schema.enum.map((one) => JSON.stringify(one)).join(', ');
  return TYPES[schema.type ?? ''] ?? 'something else';
}

/** @param root to look for a key that stands in the wrong section */
function explain(error: ErrorObject, root: Schema, hidden: Reading): ConfigProblem {
  const keys = error.instancePath
    .split('/')
    .slice(1)
    .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
  const schema = (error.parentSchema ?? {}) as Schema;
  const secret = schema.secret === true || isNamedSecret(keys, root, hidden.masker);
  const key = error.propertyName;
  const value =
    key !== undefined
      ? keyFound(key, hidden)
      : `${secret ? MASK : describe(error.data, hidden)}${sourceOf(keys, hidden)}`;
  const params = error.params as Record<string, unknown>;
  const path = shownPath(keys, hidden) || '(top level)';
  const line = hidden.lineOf(key === undefined ? keys : [...keys, key]);
  switch (error.keyword) {
    case 'additionalProperties': {
      const unknown = String(params.additionalProperty);
      const permitted = Object.keys(schema.properties ?? {});
      const shown = nameOf(unknown, hidden.secrets, hidden.masker);
      return {
        path: keys.length === 0 ? shown : `${path}.${shown}`,
        line: hidden.lineOf([...keys, unknown]),
        message: 'unknown key',
        fix: `${meant(unknown, permitted, root)}permitted here: ${permitted.join(', ')}`,
      };
    }
    case 'required':
      return { path: `${path}.${String(params.missingProperty)}`, line, message: 'missing' };
    case 'enum': {
      const permitted = (params.allowedValues as unknown[]).map(String);
      const close = typeof error.data === 'string' && !secret ? nearest(error.data, permitted) : undefined;
      const list = (params.allowedValues as unknown[]).map((one) => JSON.stringify(one)).join(', ');
      return {
        path,
        line,
        value,
        message: `permitted: ${list}`,
        fix: close && `did you mean ${JSON.stringify(close)}?`,
      };
    }
    case 'pattern': {
      const words = schema.permitted as string | undefined;
      return {
        path,
        line,
        value,
        message: words === undefined ? `must match ${String(params.pattern)}` : `permitted: ${words}`,
      };
    }
    case 'format':
      return {
        path,
        line,
        value,
        message: 'must be a regular expression',
        fix: 'put a backslash before signs that are meant as they are',
      };
    case 'anyOf': {
      const words = (schema.anyOf as readonly Schema[]).map(wordsFor);
      const apart = words.filter((one, i) => !words.some((other, j) => i !== j && other.startsWith(one)));
      return { path, line, value, message: `permitted: ${apart.join(', or ')}` };
    }
    case 'const':
      return { path, line, value, message: `permitted: ${JSON.stringify(params.allowedValue)}` };
    case 'minLength':
      return {
        path,
        line,
        value,
        message: params.limit === 1 ? 'must not be empty' : `needs ${params.limit} characters at least`,
      };
    case 'minItems':
      return { path, line, value, message: `needs ${params.limit} at least` };
    case 'uniqueItems':
      return { path, line, value, message: 'must not have the same twice' };
    case 'type':
      // A text in the place of a section may be anything, a secret too.
      return {
        path,
        line,
        value: typeof error.data === 'string' && /object|array/.test(String(params.type)) ? 'a text' : value,
        message: `must be ${TYPES[String(params.type)] ?? String(params.type)}`,
      };
  }
  return { path, line, value, message: error.message ?? 'not permitted' };
}

/** ` from KAFKA_BROKERS`, when the text at this path, or the list it was part of, came from a variable. */
function sourceOf(path: readonly string[], { sources }: Reading): string {
  for (let length = path.length; length > 0; length--) {
    const name = sources.get(path.slice(0, length).join('/'));
    if (name !== undefined) return ` from ${name}`;
  }
  return '';
}

/** `did you mean …? `, when something close is permitted here, or the very key in one other section. */
function meant(key: string, permitted: readonly string[], root: Schema): string {
  const close = nearest(key, permitted);
  if (close !== undefined) return `did you mean ${close}? `;
  const elsewhere: string[] = [];
  const walk = (schema: Schema, path: string) => {
    for (const [name, inner] of Object.entries(schema.properties ?? {})) {
      const at = path === '' ? name : `${path}.${name}`;
      if (name === key) elsewhere.push(at);
      walk(inner, at);
    }
  };
  walk(root, '');
  return elsewhere.length === 1 ? `did you mean ${elsewhere[0]}? ` : '';
}

const MAX_COMPARED = 40;

/** The name that differs from `text` by a slip of the fingers: one letter in three at most. Undefined when there is none. */
export function nearest(text: string, names: readonly string[]): string | undefined {
  if (text.length < 2 || text.length > MAX_COMPARED) return undefined;
  const given = text.toLowerCase();
  let best: string | undefined;
  let least = Math.max(1, Math.floor(given.length / 3)) + 1;
  for (const name of names) {
    const steps = name.length > MAX_COMPARED ? least : editsBetween(given, name.toLowerCase());
    if (steps >= least) continue;
    best = name;
    least = steps;
  }
  return best;
}

/** Letters to add, leave out, change or swap with the next. Damerau-Levenshtein, optimal string alignment. */
function editsBetween(one: string, other: string): number {
  let before: number[] = [];
  let row = Array.from({ length: other.length + 1 }, (_, i) => i);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const same = one[i - 1] === other[j - 1] ? 0 : 1;
      let least = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + same);
      if (i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1]) {
        least = Math.min(least, before[j - 2]! + 1);
      }
      next.push(least);
    }
    [before, row] = [row, next];
  }
  return row[other.length]!;
}

/** A key with a spelling mistake is shown; whole phrases may be values in the wrong place. */
function keyFound(key: string, { secrets, masker }: Hidden): string {
  return /^[\w.-]+$/.test(key) ? `"${nameOf(key, secrets, masker)}"` : `a key of ${key.length} characters`;
}

const MAX_FOUND = 80;
/** A longer key is no name that a person gave, and is not shown. */
const MAX_NAME = 64;

/** A value as a message may show it: its content only when it is a single, harmless value. */
function describe(value: unknown, hidden: Hidden): string {
  if (typeof value !== 'object' && hidden.secrets.has(String(value))) return MASK;
  if (typeof value !== 'string') return kindOf(value);
  const text = withoutCredentials(value, hidden);
  return visible(JSON.stringify(text.length > MAX_FOUND ? `${text.slice(0, MAX_FOUND - 3)}...` : text));
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'a mapping';
  if (typeof value === 'string') return 'a text';
  return value === undefined ? 'nothing' : String(value);
}

function nameOf(key: string, secrets: ReadonlySet<string>, masker: Masker): string {
  const harmless = key.length <= MAX_NAME && !secrets.has(key) && masker.text(key) === key && !key.includes('@');
  return harmless ? visible(key) : `(a key of ${key.length} characters)`;
}

/** Shown when it looks like a path: somebody may have put the secret itself there. */
function fileName(file: string): string {
  const isPath = file.includes('/') && (existsSync(dirname(file)) || !/[\d+=\s]/.test(file));
  return isPath ? visible(file) : 'the file';
}

/** Does an environment variable's name announce a secret? `SMTP_PASS` does too. */
function namesSecret(name: string, masker: Masker): boolean {
  return masker.isSecretKey(name) || /pass|secret|token|key|credential|auth|webhook/i.test(name);
}

/** Shorter secrets are hidden only where they stand alone: they would be found within ordinary words. */
const MIN_CONTAINED = 4;
const MIN_CONTAINED_IN_TEXT = 8;

/** Every text that stands where the schema has a secret, or under a name that announces one. */
export function secretsIn(value: unknown, schema: Schema | undefined, masker: Masker = createMasker()): string[] {
  const found = new Set<string>();
  const walk = (inner: unknown, innerSchema: Schema | undefined, secret: boolean): void => {
    if (secret && (typeof inner === 'string' || typeof inner === 'number')) found.add(String(inner));
    if (typeof inner !== 'object' || inner === null) return;
    const others = innerSchema?.additionalProperties as Schema | undefined;
    for (const [key, next] of Object.entries(inner)) {
      const nextSchema = Array.isArray(inner) ? innerSchema?.items : (innerSchema?.properties?.[key] ?? others);
      // The items of a list have no key of their own, and a switch is not a secret.
      const isNamed = !Array.isArray(inner) && typeof next !== 'boolean' && masker.isSecretKey(key);
      const named = isNamed && !isTable(nextSchema);
      walk(next, nextSchema, secret || nextSchema?.secret === true || named);
    }
  };
  walk(value, schema, false);
  return [...found].filter((secret) => secret !== '');
}

/** Of a list of mappings, such as `http.tokens`, each key says for itself whether it is a secret. */
function isTable(schema: Schema | undefined): boolean {
  return schema?.items?.properties !== undefined;
}

/** Does one of the keys announce a secret? */
function isNamedSecret(keys: readonly string[], root: Schema, masker: Masker): boolean {
  let schema: Schema | undefined = root;
  for (const key of keys) {
    schema = schema?.properties?.[key] ?? schema?.items;
    if (masker.isSecretKey(key) && !isTable(schema)) return true;
  }
  return false;
}

/** The text without credentials in addresses, known secrets, and what the masker recognises as a secret. */
function withoutCredentials(text: string, { secrets, masker }: Hidden): string {
  if (secrets.has(text)) return MASK;
  let shown = text;
  for (const secret of secrets) if (secret.length >= MIN_CONTAINED) shown = shown.replaceAll(secret, MASK);
  return masker.text(withoutUserInfo(shown));
}

/** Masks what stands before the last @ of an address, with or without a scheme; a mail address stays. */
function withoutUserInfo(text: string): string {
  return text
    .split(/([\s,]+)/)
    .map((word) => {
      const at = word.lastIndexOf('@');
      const scheme = word.indexOf('://');
      const from = scheme >= 0 && scheme < at ? scheme + 3 : 0;
      const isAddress = at > 0 && (from > 0 || word.slice(0, at).includes(':'));
      return isAddress ? `${word.slice(0, from)}${MASK}${word.slice(at)}` : word;
    })
    .join('');
}

/**
 * A copy of a validated configuration that may be shown. Masked: what the schema calls `secret`, what stands under a name that
 * announces one, the same texts wherever else they stand (an alias copies them), and credentials in addresses.
 */
export function withoutSecrets(value: unknown, schema: Schema | undefined, masker: Masker = createMasker()): unknown {
  const secrets = new Set(secretsIn(value, schema, masker));
  const hidden = { secrets, masker };
  const walk = (inner: unknown, innerSchema: Schema | undefined, named: boolean): unknown => {
    if (innerSchema?.secret === true) return MASK;
    if (typeof inner === 'string') return named ? MASK : withoutCredentials(inner, hidden);
    if (typeof inner === 'number') return secrets.has(String(inner)) ? MASK : inner;
    if (Array.isArray(inner)) return inner.map((item) => walk(item, innerSchema?.items, named));
    if (typeof inner !== 'object' || inner === null) return inner;
    const others = innerSchema?.additionalProperties as Schema | undefined;
    return Object.fromEntries(
      Object.entries(inner).map(([key, next]) => {
        const nextSchema = innerSchema?.properties?.[key] ?? others;
        const isNamed = masker.isSecretKey(key) && !isTable(nextSchema);
        return [nameOf(key, secrets, masker), walk(next, nextSchema, named || isNamed)];
      }),
    );
  };
  return walk(value, schema, false);
}

/** A masker that also hides the configuration's own secrets: for logpipe's log and errors. */
export function withKnownSecrets(masker: Masker, secrets: readonly string[]): Masker {
  const long = secrets.filter((secret) => secret.length >= MIN_CONTAINED_IN_TEXT);
  const text = (given: string): string => {
    let hidden = given;
    for (const secret of long) hidden = hidden.replaceAll(secret, MASK);
    return masker.text(hidden);
  };
  const walk = (value: unknown): unknown => {
    if (typeof value === 'string') return text(value);
    if (Array.isArray(value)) return value.map(walk);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, walk(inner)]));
  };
  // The recursion is bounded: the masker has cut deep nesting.
  return { ...masker, text, value: (value) => (long.length === 0 ? masker.value(value) : walk(masker.value(value))) };
}

function deepFreeze(value: unknown): unknown {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}

// ---- which file ----

/** What names another file in the place of one below config/. */
const NAMED_BY: Readonly<Record<string, string>> = {
  'logpipe.yml': '--config or LOGPIPE_CONFIG',
  'measures.yml': 'alerts.measuresFile or --measures',
  'rules.yml': 'alerts.rulesFile or --rules',
};

/** `named`: as asked for; `local`: of the working folder; `shipped`: neither. */
export type FileOrigin = 'named' | 'local' | 'shipped';

/**
 * The file that was named, else the one below the working folder's `config/`, else the shipped one; and its text.
 * @param name the file's name below `config/`
 * @throws LogpipeError LOGPIPE_CONFIG_UNREADABLE
 */
export function readConfigFile(
  name: string,
  named: string | undefined,
): { readonly file: string; readonly text: string; readonly origin: FileOrigin } {
  const local = resolve('config', name);
  const origin = named !== undefined ? 'named' : existsSync(local) ? 'local' : 'shipped';
  const file = named ?? (origin === 'local' ? local : join(packageRoot(), 'config', name));
  try {
    return { file, text: readFileSync(file, 'utf8'), origin };
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_UNREADABLE',
      `${file === '' ? 'a file without a name' : file} cannot be read (${reasonInWords(error)}); name a readable YAML file with ${NAMED_BY[name] ?? 'another path'}`,
      error,
    );
  }
}

// ---- has a file that is in use changed? ----
// One that is being written, or is missing for a moment, is waited for; symbolic links are followed, so that a swapped link is a change.

/** How often to look whether a file has changed. */
export const LOOK_MS = 1_000;

/**
 * The text, when it differs from `known` and the file, unless `now`, has not changed since the last look. Call it every `LOOK_MS`.
 * @throws the errors of the file system
 */
export type ChangedText = (path: string, known: string, now: boolean) => string | undefined;

export function createChangedText(): ChangedText {
  const states = new Map<string, string>();
  return (path, known, now) => {
    const { dev, ino, size, mtimeMs, ctimeMs } = statSync(path);
    const state = [dev, ino, size, mtimeMs, ctimeMs].join();
    const [before, phase] = (states.get(path) ?? '').split(' ');
    if (!now && before !== state) {
      states.set(path, `${state} moving`);
      return undefined;
    }
    if (!now && phase !== 'moving') return undefined;
    states.set(path, state);
    const text = readFileSync(path, 'utf8');
    return text === known ? undefined : text;
  };
}
