// Makes docs/configuration.md from the configuration's schema and the shipped file. Every key of the schema gets its line.
import { parse as parseYaml } from 'yaml';
import type { Schema } from '../src/core/config-loader.ts';
import { code, document, table } from './markdown.ts';

const INTRO = `# Configuration

logpipe reads one YAML file: the one named by \`--config\` or \`LOGPIPE_CONFIG\`, else \`config/logpipe.yml\` in the working
folder, else the one it ships with. A file needs only what differs from the defaults below.

\`\`\`yaml
kafka:
  brokers: kafka-1:9092, kafka-2:9092
elasticsearch:
  nodes: https://es-1:9200
  apiKeyFile: /run/secrets/logpipe-api-key
\`\`\`

Check a file before using it: \`logpipe check-config --config my.yml\`. It says which files it read, checks the measures, the
rules and the certificates that the configuration names as well, shows which channels each priority reaches now, and warns of
variables that look as if logpipe read them. \`--connect\` tries every server that is named, each within 8 seconds, without
sending a message (exit status 1 when one is not as it should be). \`--json\` gives all of it as one object: \`ok\`, \`file\`,
\`files\`, \`problems\` (each with \`file\`, \`path\`, \`line\`, \`value\`, \`message\`, \`fix\`), \`warnings\`, \`routing\`,
\`connections\`, and \`configuration\`: what takes effect, secrets masked.

**All problems are reported at once**, each with its line, its path, the value found, the variable it came from, and what is
permitted or was probably meant. Unknown keys are refused. Exit status 2.

**Variables.** \`\${NAME}\` and \`\${NAME:-default}\` are replaced inside values, after the YAML is parsed: a variable can
never add keys. An empty variable counts as not set. \`\${NAME}\` without a default is an error when it is not set; a
value that is empty after replacing is left out, so that its default applies. The column "variable" names what the
*shipped* file reads; your own file may read others.

**Lists** may also be written as a comma-separated text: \`KAFKA_BROKERS=kafka-1:9092,kafka-2:9092\`.

**Secrets** (marked 🔒) may come from a file: \`passwordFile\` in place of \`password\`, and so on. White space around the
file's content is ignored. A secret is never repeated in a message, a log line or the output of a command.

Durations are milliseconds (\`…Ms\`), sizes bytes (\`…Bytes\`).`;

const HEADER = ['key', 'type', 'default', 'permitted', 'variable', 'meaning'];

interface Line {
  readonly path: string;
  readonly schema: Schema;
  readonly required: boolean;
}

/** @param shipped the text of config/logpipe.yml */
export function configurationDocs(root: Schema, shipped: string): string {
  const variables = variablesByPath(shipped);
  const top: Line[] = [];
  const sections: string[] = [];
  for (const [name, schema] of Object.entries(root.properties ?? {})) {
    if (schema.properties === undefined) top.push({ path: name, schema, required: false });
    else {
      const rows = lines(name, schema, root).map((line) => row(line, variables));
      sections.push(`## \`${name}\``, String(schema.description ?? ''), table(HEADER, rows));
    }
  }
  const topRows = top.map((line) => row(line, variables));
  return document([INTRO, '## Top level', table(HEADER, topRows), ...sections]);
}

/** Every path of the configuration, groups included. */
export function configurationPaths(root: Schema): string[] {
  return Object.entries(root.properties ?? {}).flatMap(([name, schema]) =>
    schema.properties === undefined ? [name] : [name, ...lines(name, schema, root).map(({ path }) => path)],
  );
}

function lines(prefix: string, schema: Schema, root: Schema): Line[] {
  const required = (schema.required ?? []) as readonly string[];
  return Object.entries(schema.properties ?? {}).flatMap(([key, inner]) => {
    const path = `${prefix}.${key}`;
    const resolved = resolveReference(inner, root);
    const own: Line = { path, schema: resolved, required: required.includes(key) };
    return [own, ...lines(path, objectForm(resolved), root)];
  });
}

/** The alternative with keys, where a value may also be something simple (`ssl: false`). */
function objectForm(schema: Schema): Schema {
  const alternatives = (schema.anyOf ?? []) as readonly Schema[];
  return alternatives.find(({ properties }) => properties !== undefined) ?? schema;
}

function resolveReference(schema: Schema, root: Schema): Schema {
  const name = /^#\/\$defs\/(.+)$/.exec(String(schema.$ref ?? ''))?.[1];
  if (name === undefined) return schema;
  const definitions = root.$defs as Readonly<Record<string, Schema>>;
  return { ...definitions[name], ...schema };
}

function row({ path, schema, required }: Line, variables: ReadonlyMap<string, string>): string[] {
  const variable = [variables.get(path), variables.get(`${path}File`)].flatMap((name) => (name ? [code(name)] : []));
  return [
    `${code(path)}${schema.secret === true ? ' 🔒' : ''}`,
    typeName(schema),
    defaultText(schema, required),
    permitted(schema),
    variable.join(', '),
    String(schema.description ?? ''),
  ];
}

function typeName(schema: Schema): string {
  if (Array.isArray(schema.anyOf)) return schema.anyOf.map((form: Schema) => typeName(form)).join(' or ');
  if ('const' in schema) return code(JSON.stringify(schema.const));
  if (Array.isArray(schema.enum)) return 'one of';
  if (schema.type === 'array')
    return `list of ${Array.isArray(schema.items?.enum) ? 'names' : `${schema.items?.type}s`}`;
  return schema.type === 'object' ? 'group' : (schema.type ?? '');
}

function defaultText(schema: Schema, required: boolean): string {
  if (required) return '(required)';
  if (schema.default === undefined || schema.type === 'object') return '';
  return code(JSON.stringify(schema.default));
}

function permitted(schema: Schema): string {
  const values = (schema.enum ?? schema.items?.enum) as readonly unknown[] | undefined;
  if (values !== undefined) return values.map((value) => code(String(value))).join(', ');
  const parts: string[] = [];
  const { minimum, maximum, minItems, minLength, maxLength } = schema as Record<string, number | undefined>;
  if (minimum !== undefined && maximum !== undefined) parts.push(`${number(minimum)} to ${number(maximum)}`);
  else if (minimum !== undefined) parts.push(`at least ${number(minimum)}`);
  if (minItems !== undefined) parts.push(`at least ${minItems} ${minItems === 1 ? 'item' : 'items'}`);
  if (maxLength !== undefined) parts.push(`at most ${maxLength} characters`);
  else if (minLength !== undefined && schema.secret !== true) parts.push('not empty');
  const words = (schema.permitted ?? schema.items?.permitted) as string | undefined;
  const pattern = (schema.pattern ?? schema.items?.pattern) as string | undefined;
  if (words !== undefined) parts.push(words);
  else if (pattern !== undefined) parts.push(code(pattern));
  if (schema.items?.format === 'regex') parts.push('regular expressions');
  return parts.join('; ');
}

function number(value: number): string {
  return value.toLocaleString('en-US');
}

/** Which variable the shipped file reads at which path; commented-out examples do not count. */
export function variablesByPath(shipped: string): Map<string, string> {
  const found = new Map<string, string>();
  const walk = (value: unknown, path: string) => {
    if (typeof value === 'string') {
      const name = /\$\{(\w+)/.exec(value)?.[1];
      if (name !== undefined) found.set(path, name);
    } else if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) walk(inner, path === '' ? key : `${path}.${key}`);
    }
  };
  walk(parseYaml(shipped), '');
  return found;
}
