// YAML + environment -> validated, frozen configuration. All problems are reported at once, each with its path, the
// value found and what is permitted. Secrets are never repeated in a message.
import { readFileSync } from 'node:fs';
import { Ajv, type ErrorObject } from 'ajv';
import formats from 'ajv-formats';
import { parseDocument } from 'yaml';
import { errorText, LogpipeError } from './errors.ts';
import { MASK } from './mask.ts';

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
  const document = parseDocument(text, { uniqueKeys: true });
  for (const error of document.errors) problems.push(`${place}: ${error.message.split('\n')[0]}`);
  if (problems.length > 0) throw invalid(place, problems);

  const value = expand(document.toJS() ?? {}, schema, '', env, problems) as Json;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(place, [`${place}: the configuration is a mapping of sections, found ${describe(value)}`]);
  }
  const ajv = new Ajv({ allErrors: true, useDefaults: true, strict: false, verbose: true });
  formats.default(ajv, ['regex']);
  const validate = ajv.compile(addFileKeys(schema));
  if (!validate(value)) for (const error of validate.errors ?? []) problems.push(explain(error));
  readSecretFiles(value, schema, '', problems);
  if (problems.length > 0) throw invalid(place, [...new Set(problems)]);
  return deepFreeze(value) as T;
}

function invalid(place: string, problems: string[]): LogpipeError {
  const list = problems.map((problem) => `  - ${problem}`).join('\n');
  return new LogpipeError('LOGPIPE_CONFIG_INVALID', `${place}: ${problems.length} problem(s)\n${list}`);
}

/** Replaces variables, and turns the texts they leave into the number, boolean or list the schema asks for. */
function expand(
  value: unknown,
  schema: Schema | undefined,
  path: string,
  env: Environment,
  problems: string[],
): unknown {
  if (typeof value === 'string') {
    if (!value.includes('${')) return split(value, schema);
    const text = value.replace(
      /\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g,
      (_, name: string, fallback?: string) => {
        const found = env[name] === '' ? undefined : env[name];
        if (found === undefined && fallback === undefined) {
          problems.push(`${path}: \${${name}} is not set in the environment; set it or write \${${name}:-default}`);
        }
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
  if (Array.isArray(value)) return value.map((item, i) => expand(item, schema?.items, `${path}[${i}]`, env, problems));
  if (typeof value !== 'object' || value === null) return value;
  const result: Json = {};
  for (const [key, inner] of Object.entries(value)) {
    const where = path === '' ? key : `${path}.${key}`;
    const expanded = expand(inner, schema?.properties?.[key], where, env, problems);
    if (expanded !== undefined && expanded !== null) result[key] = expanded;
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
        problems.push(`${where}File: ${file} cannot be read (${errorText(error)}); name a readable file`);
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

function explain(error: ErrorObject): string {
  const path = error.instancePath.slice(1).replaceAll('/', '.') || '(top level)';
  const secret = (error.parentSchema as Schema | undefined)?.secret === true;
  const found = secret ? MASK : describe(error.data);
  const params = error.params as Record<string, unknown>;
  switch (error.keyword) {
    case 'additionalProperties': {
      const permitted = Object.keys((error.parentSchema as Schema).properties ?? {}).join(', ');
      const key = String(params.additionalProperty);
      return `${path === '(top level)' ? key : `${path}.${key}`}: unknown key; permitted here: ${permitted}`;
    }
    case 'required':
      return `${path}.${String(params.missingProperty)}: missing`;
    case 'enum':
      return `${path}: found ${found}; permitted: ${(params.allowedValues as unknown[]).map(describe).join(', ')}`;
    case 'pattern':
      return `${path}: found ${found}; must match ${String(params.pattern)}`;
    default:
      return `${path}: found ${found}; ${error.message ?? 'not permitted'}`;
  }
}

function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** A copy of a validated configuration that may be shown: every value the schema calls `secret` is masked. */
export function withoutSecrets(value: unknown, schema: Schema | undefined): unknown {
  if (schema?.secret === true) return MASK;
  if (Array.isArray(value)) return value.map((item) => withoutSecrets(item, schema?.items));
  if (typeof value !== 'object' || value === null) return value;
  const others = schema?.additionalProperties as Schema | undefined;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, withoutSecrets(inner, schema?.properties?.[key] ?? others)]),
  );
}

function deepFreeze(value: unknown): unknown {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}
