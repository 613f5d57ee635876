// Fields that saved objects name, held against the index templates. In: templates. Out: what Kibana's data view would know
// of each field, and whether an operation can use it. A field that is not there shows in Kibana as an empty chart.
import type { IndexTemplate } from '../indexing/template.ts';

export interface Field {
  /** Elasticsearch's type. */
  readonly type: string;
  readonly searchable: boolean;
  readonly aggregatable: boolean;
}

export type Fields = ReadonlyMap<string, Field>;

/** What an operation needs of its field. */
export type FieldKind = 'date' | 'number' | 'term';

const KINDS: Record<FieldKind, readonly string[]> = {
  date: ['date', 'date_nanos'],
  number: ['long', 'integer', 'short', 'byte', 'double', 'float', 'half_float', 'scaled_float', 'unsigned_long'],
  // Numbers can be grouped by too, but not chosen from a list of words, and none here is meant to be.
  term: ['keyword', 'boolean', 'ip', 'constant_keyword'],
};

interface Mapping {
  readonly type?: string;
  readonly index?: boolean;
  readonly doc_values?: boolean;
  readonly properties?: Readonly<Record<string, Mapping>>;
}

/** Index pattern -> its fields, by their full names. */
export function fieldsByPattern(templates: readonly IndexTemplate[]): ReadonlyMap<string, Fields> {
  return new Map(
    templates.flatMap(({ index_patterns, template }) => {
      const fields = new Map<string, Field>();
      collect(template.mappings as Mapping, '', fields);
      return index_patterns.map((pattern) => [pattern, fields] as const);
    }),
  );
}

function collect({ properties = {} }: Mapping, prefix: string, fields: Map<string, Field>): void {
  for (const [name, mapping] of Object.entries(properties)) {
    const path = `${prefix}${name}`;
    if (mapping.properties !== undefined) collect(mapping, `${path}.`, fields);
    if (mapping.type === undefined) continue;
    const { type, index = true, doc_values: docValues = type !== 'text' } = mapping;
    fields.set(path, { type, searchable: index, aggregatable: docValues && type !== 'text' && type !== 'flattened' });
  }
}

/** Why `name` cannot be used as `kind`; undefined when it can. */
export function fieldProblem(fields: Fields, name: string, kind: FieldKind): string | undefined {
  const field = fields.get(name);
  if (field === undefined) return `field "${name}" is not in the index template`;
  if (!field.aggregatable) return `field "${name}" (${field.type}) is not aggregatable`;
  if (!KINDS[kind].includes(field.type)) return `field "${name}" is a ${field.type}; needed is a ${kind}`;
  return undefined;
}

/** Problems of a KQL text: quotes, fields, and words without a field, which would search everything. */
export function kqlProblems(fields: Fields, kql: string): string[] {
  const bare = kql.replace(/"(?:[^"\\]|\\.)*"/g, '""');
  if (bare.replaceAll('""', '').includes('"')) return [`query ${kql}: a quotation mark is not closed`];
  const named = [...bare.matchAll(/([\w@][\w@.-]*)\s*(?::|[<>]=?)/g)].map(([, name]) => name!);
  if (named.length === 0 && kql.trim() !== '') return [`query ${kql}: names no field`];
  return named.flatMap((name) => {
    const field = fields.get(name);
    if (field === undefined) return [`query ${kql}: field "${name}" is not in the index template`];
    return field.searchable ? [] : [`query ${kql}: field "${name}" is not indexed`];
  });
}
