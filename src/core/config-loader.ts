// A configuration file: which one is meant, and YAML + environment -> validated, frozen configuration. All problems are reported
// at once, each with its path, the value found and what is permitted. Guarantee: no secret is repeated in a message, wherever in
// the file it stands; the parser's own messages, which quote the file, are not used.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Ajv, type ErrorObject } from 'ajv';
import formats from 'ajv-formats';
import { type Document, parseDocument } from 'yaml';
import { LogpipeError, listOfProblems, reasonInWords } from './errors.ts';
import { packageRoot } from './package-root.ts';
import { visible } from './safe-json.ts';
import { createMasker, MASK, type Masker } from './secrets/mask.ts';

/** The subset of JSON Schema the sections use; `secret` marks values that also come from `<key>File`. */
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

/**
 * @param text YAML; `${VAR}` and `${VAR:-default}` are replaced inside string values, after parsing
 * @throws LogpipeError LOGPIPE_CONFIG_INVALID with one line per problem
 */
export function loadYaml<T>(text: string, schema: Schema, env: Environment, place: string): T {
  const problems: string[] = [];
  const masker = createMasker();
  const written = readYaml(text, place);
  const secrets = new Set<string>();
  const value = expandAll(written ?? {}, schema, { env, problems, secrets, masker, place }) as Json;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidConfig(place, [`${place}: the configuration is a mapping of sections, found ${kindOf(value)}`]);
  }
  for (const secret of secretsIn(value, schema, masker)) secrets.add(secret);
  const ajv = new Ajv({ allErrors: true, useDefaults: true, strict: false, verbose: true });
  formats.default(ajv, ['regex']);
  const validate = ajv.compile(addFileKeys(schema));
  if (!validate(value)) for (const error of validate.errors ?? []) problems.push(explain(error, { secrets, masker }));
  readSecretFiles(value, schema, '', problems);
  if (problems.length > 0) throw invalidConfig(place, [...new Set(problems)]);
  return deepFreeze(value) as T;
}

/** All that is wrong with one file. @param place names the file */
export function invalidConfig(place: string, problems: readonly string[]): LogpipeError {
  const message = `${place}: ${problems.length} problem(s)\n${listOfProblems(problems)}`;
  return new LogpipeError('LOGPIPE_CONFIG_INVALID', message);
}

/** Said of a position of the file: the parser's own texts quote what stands there. */
const YAML_PROBLEMS: Readonly<Record<string, string>> = {
  BAD_INDENT: 'is indented otherwise than what it belongs to',
  TAB_AS_INDENT: 'is indented with a tab; use spaces',
  DUPLICATE_KEY: 'is a key that its mapping has already; keys are unique',
  MISSING_CHAR: 'lacks a colon, a comma, a quote or a bracket before it',
  BAD_SCALAR_START: 'begins with a character that has a meaning in YAML; put the value into quotes',
  TAG_RESOLVE_FAILED: 'begins with ! and is taken for a tag; put the value into quotes',
  BAD_ALIAS: 'begins with * or & and is taken for an alias or an anchor; put the value into quotes',
  BAD_DQ_ESCAPE: 'has a backslash that begins no escape; double it, or use single quotes',
  MULTIPLE_DOCS: 'begins a second document; a file holds one',
  MULTILINE_IMPLICIT_KEY: 'is a key over several lines; a colon or a quote is missing',
  BLOCK_AS_IMPLICIT_KEY: 'is a mapping where a value was expected; put a value that holds ": " into quotes',
};

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID, naming positions, never what stands there */
function readYaml(text: string, place: string): unknown {
  let document: Document.Parsed;
  try {
    // Its warnings would be printed, with what they are about.
    document = parseDocument(text, { uniqueKeys: true, logLevel: 'error' });
  } catch {
    throw invalidConfig(place, [`${place}: cannot be read as YAML; it is nested too deeply`]);
  }
  const found = [...document.errors, ...document.warnings.filter(({ code }) => code === 'TAG_RESOLVE_FAILED')];
  const problems = found.map(({ code, linePos }) => {
    const at = linePos === undefined ? '' : `:${linePos[0].line}:${linePos[0].col}`;
    return `${place}${at}: ${YAML_PROBLEMS[code] ?? `is no YAML that can be understood (${code})`}`;
  });
  if (problems.length > 0) throw invalidConfig(place, problems);
  try {
    return document.toJS();
  } catch (error) {
    const why =
      error instanceof RangeError
        ? 'it is nested too deeply'
        : 'an alias (*name) has no anchor (&name) before it, or there are too many; put a value that begins with * into quotes';
    throw invalidConfig(place, [`${place}: cannot be read as YAML; ${why}`]);
  }
}

interface Reading {
  readonly env: Environment;
  readonly problems: string[];
  /** Values that may not be shown; added to. */
  readonly secrets: Set<string>;
  readonly masker: Masker;
  readonly place: string;
}

function expandAll(value: unknown, schema: Schema, reading: Reading): unknown {
  try {
    return expand(value, schema, '', reading);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw invalidConfig(reading.place, [`${reading.place}: is nested too deeply`]);
  }
}

/** Replaces variables, and turns the texts they leave into the number, boolean or list the schema asks for. */
function expand(value: unknown, schema: Schema | undefined, path: string, reading: Reading): unknown {
  const { env, problems, secrets, masker } = reading;
  if (typeof value === 'string') {
    if (!value.includes('${')) return split(value, schema);
    const text = value.replace(
      /\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g,
      (_, name: string, fallback?: string) => {
        const found = env[name] === '' ? undefined : env[name];
        if (found === undefined && fallback === undefined) {
          problems.push(`${path}: \${${name}} is not set in the environment; set it or write \${${name}:-default}`);
        }
        // Wherever it is put by mistake.
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
  if (Array.isArray(value)) return value.map((item, i) => expand(item, schema?.items, `${path}[${i}]`, reading));
  if (typeof value !== 'object' || value === null) return value;
  const result: Json = {};
  for (const [key, inner] of Object.entries(value)) {
    const name = nameOf(key, secrets, masker);
    const where = path === '' ? name : `${path}.${name}`;
    const expanded = expand(inner, schema?.properties?.[key], where, reading);
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
  if (schema.properties === undefined) return schema;
  const properties: Record<string, Schema> = {};
  for (const [key, inner] of Object.entries(schema.properties)) {
    properties[key] = addFileKeys(inner);
    if (inner.secret === true) properties[`${key}File`] = { type: 'string', minLength: 1 };
  }
  // The pairing of user and password is checked after the files were read.
  const { dependentRequired: _, ...rest } = schema;
  return { ...rest, properties };
}

function readSecretFiles(value: Json, schema: Schema, path: string, problems: string[]): void {
  for (const [key, inner] of Object.entries(schema.properties ?? {})) {
    const where = path === '' ? key : `${path}.${key}`;
    if (inner.secret === true) {
      const file = value[`${key}File`];
      if (typeof file !== 'string') continue;
      if (value[key] !== undefined) problems.push(`${where}: both ${key} and ${key}File are set; keep one`);
      try {
        value[key] = readFileSync(file, 'utf8').trim();
        delete value[`${key}File`];
      } catch (error) {
        const { code = 'unknown' } = error as NodeJS.ErrnoException;
        problems.push(`${where}File: ${fileName(file)} cannot be read (${code}); name a readable file`);
      }
    } else if (typeof value[key] === 'object' && value[key] !== null) {
      readSecretFiles(value[key] as Json, inner, where, problems);
    }
  }
  const dependent = (schema.dependentRequired ?? {}) as Record<string, readonly string[]>;
  for (const [key, needs] of Object.entries(dependent)) {
    if (value[key] === undefined) continue;
    for (const need of needs) {
      if (value[need] === undefined) problems.push(`${path}.${need}: missing, because ${path}.${key} is set`);
    }
  }
}

interface Hidden {
  readonly secrets: ReadonlySet<string>;
  readonly masker: Masker;
}

function explain(error: ErrorObject, hidden: Hidden): string {
  const keys = error.instancePath.slice(1).split('/');
  const path = keys.map((key) => nameOf(key, hidden.secrets, hidden.masker)).join('.') || '(top level)';
  const secret =
    (error.parentSchema as Schema | undefined)?.secret === true || keys.some((key) => hidden.masker.isSecretKey(key));
  const key = error.propertyName;
  const found = key !== undefined ? keyFound(key, hidden) : secret ? MASK : describe(error.data, hidden);
  const params = error.params as Record<string, unknown>;
  switch (error.keyword) {
    case 'additionalProperties': {
      const permitted = Object.keys((error.parentSchema as Schema).properties ?? {}).join(', ');
      const unknown = nameOf(String(params.additionalProperty), hidden.secrets, hidden.masker);
      return `${path === '(top level)' ? unknown : `${path}.${unknown}`}: unknown key; permitted here: ${permitted}`;
    }
    case 'propertyNames':
      return `${path}: a key that is not permitted here`;
    case 'required':
      return `${path}.${String(params.missingProperty)}: missing`;
    case 'enum':
      return `${path}: found ${found}; permitted: ${(params.allowedValues as unknown[]).map((value) => JSON.stringify(value)).join(', ')}`;
    case 'pattern':
      return `${path}: found ${found}; must match ${String(params.pattern)}`;
    case 'type':
      // A text in the place of a section may be anything.
      if (typeof error.data === 'string' && /object|array/.test(String(params.type))) {
        return `${path}: found a text; ${error.message ?? 'not permitted'}`;
      }
  }
  return `${path}: found ${found}; ${error.message ?? 'not permitted'}`;
}

/** A key with a spelling mistake is shown; whole phrases may be values in the wrong place. */
function keyFound(key: string, { secrets, masker }: Hidden): string {
  return /^[\w.-]+$/.test(key) ? `"${nameOf(key, secrets, masker)}"` : `a key of ${key.length} characters`;
}

const MAX_FOUND = 80;
/** A name a person would give, which may be repeated. */
const MAX_NAME = 64;

/** A value as a message may show it: what it holds only when it is a single harmless one. */
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

/** Of an environment variable: `SMTP_PASS` too. */
function namesSecret(name: string, masker: Masker): boolean {
  return masker.isSecretKey(name) || /pass|secret|token|key|credential|auth|webhook/i.test(name);
}

/** Shorter ones are hidden only where they stand alone: they would be found in ordinary words. */
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
      // The list of further key names is no secret, nor are numbers and switches.
      const named = !Array.isArray(inner) && typeof next !== 'boolean' && masker.isSecretKey(key);
      walk(next, nextSchema, secret || nextSchema?.secret === true || named);
    }
  };
  walk(value, schema, false);
  return [...found].filter((secret) => secret !== '');
}

/** The text without user and password of addresses, without known secrets and what the masker takes for one. */
function withoutCredentials(text: string, { secrets, masker }: Hidden): string {
  if (secrets.has(text)) return MASK;
  let shown = text;
  for (const secret of secrets) if (secret.length >= MIN_CONTAINED) shown = shown.replaceAll(secret, MASK);
  return masker.text(withoutUserInfo(shown));
}

/** What stands before the last @ of an address, also of one without a scheme; a mail address is none. */
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
 * A copy of a validated configuration that may be shown: masked is what the schema calls `secret`, what stands under a name that
 * announces one, the same texts wherever else they stand (an alias copies them), and credentials within addresses.
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
      Object.entries(inner).map(([key, next]) => [
        nameOf(key, secrets, masker),
        walk(next, innerSchema?.properties?.[key] ?? others, named || masker.isSecretKey(key)),
      ]),
    );
  };
  return walk(value, schema, false);
}

/** A masker that also knows the secrets of the configuration themselves, for what is said about logpipe: its log, its errors. */
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
  // The masker has cut what is nested deeply.
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

/**
 * The text of a file that was named, else of the working folder's, else of the shipped one.
 * @param name of the file below config/
 * @throws LogpipeError LOGPIPE_CONFIG_UNREADABLE
 */
export function readConfigFile(
  name: string,
  named: string | undefined,
): { readonly file: string; readonly text: string } {
  const local = resolve('config', name);
  const file = named ?? (existsSync(local) ? local : join(packageRoot(), 'config', name));
  try {
    return { file, text: readFileSync(file, 'utf8') };
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_UNREADABLE',
      `${file} cannot be read (${reasonInWords(error)}); name a readable YAML file`,
      error,
    );
  }
}
