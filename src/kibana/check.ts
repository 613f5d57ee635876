// Checks that Kibana can show the saved objects. In: the text of an .ndjson file, one JSON text per line, and the index
// templates. Out: every problem, each with its object and place; an empty list means that all of this holds: permitted keys and
// versions, unique ids, references that resolve and are used, JSON that can be read, charts whose parts fit, a grid without
// overlaps, and fields that exist with a suitable type. A successful import proves none of it: Kibana 8.12 refuses unknown keys
// of dashboards and searches, but accepts anything at all as the state of a chart.
import { Ajv, type ErrorObject } from 'ajv';
import type { IndexTemplate } from '../indexing/elasticsearch.ts';

/**
 * Accepted by every Kibana from 8.9 on. Without a version it runs every old migration, which fail; a version above the server's
 * own is refused with 422.
 */
export const CORE_MIGRATION_VERSION = '8.8.0';
export const TYPE_MIGRATION_VERSIONS = {
  'index-pattern': '8.0.0',
  lens: '8.9.0',
  search: '8.0.0',
  dashboard: '8.9.0',
} as const;
export type SavedObjectType = keyof typeof TYPE_MIGRATION_VERSIONS;

export interface Reference {
  readonly type: SavedObjectType;
  readonly id: string;
  /** What the referring attributes call it. */
  readonly name: string;
}

export interface SavedObject {
  readonly type: SavedObjectType;
  readonly id: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly references: readonly Reference[];
  readonly managed: false;
  readonly coreMigrationVersion: string;
  readonly typeMigrationVersion: string;
}

type Needed = Pick<Reference, 'name' | 'type'>;

interface Context {
  readonly byKey: ReadonlyMap<string, SavedObject>;
  readonly fields: ReadonlyMap<string, Fields>;
}

/** @param text one JSON text per line */
export function checkSavedObjects(text: string, templates: readonly IndexTemplate[]): string[] {
  const problems: string[] = [];
  const objects: SavedObject[] = [];
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  if (lines.length === 0) return ['there is no object'];
  lines.forEach((line, i) => {
    let object: unknown;
    try {
      object = JSON.parse(line);
    } catch {
      problems.push(`line ${i + 1}: is not JSON`);
      return;
    }
    const wrong = shapeProblems(object);
    if (wrong.length === 0) objects.push(object as SavedObject);
    else problems.push(...wrong.map((problem) => `line ${i + 1}, ${nameOf(object)}: ${problem}`));
  });
  const byKey = new Map<string, SavedObject>();
  for (const object of objects) {
    const key = keyOf(object);
    if (byKey.has(key)) problems.push(`${key}: is there twice; Kibana refuses the whole import`);
    byKey.set(key, object);
  }
  // If an object is missing, everything that refers to it would be called broken.
  if (problems.length > 0) return problems;
  const context: Context = { byKey, fields: fieldsByPattern(templates) };
  return objects.flatMap((object) =>
    [...new Set(objectProblems(object, context))].map((problem) => `${keyOf(object)}: ${problem}`),
  );
}

function objectProblems(object: SavedObject, context: Context): string[] {
  const { values, problems } = innerJson(object.type, object.attributes);
  problems.push(...versionProblems(object));
  if (problems.length > 0) return problems;
  const { needed, wrong } = contentProblems(object, values, context);
  return [...referenceProblems(object, needed, context), ...wrong];
}

function versionProblems({ type, coreMigrationVersion, typeMigrationVersion }: SavedObject): string[] {
  return [
    ['coreMigrationVersion', coreMigrationVersion, CORE_MIGRATION_VERSION],
    ['typeMigrationVersion', typeMigrationVersion, TYPE_MIGRATION_VERSIONS[type]],
  ].flatMap(([key, found, highest]) =>
    newer(found!, highest!) ? [`${key} ${found} is above ${highest}: Kibana 8.9 refuses it`] : [],
  );
}

function newer(version: string, than: string): boolean {
  const [one, other] = [version, than].map((text) => text.split('.').map(Number)) as [number[], number[]];
  const differing = one.findIndex((part, i) => part !== other[i]);
  return differing >= 0 && one[differing]! > other[differing]!;
}

function contentProblems(
  { type, attributes, references }: SavedObject,
  values: Readonly<Record<string, unknown>>,
  { byKey, fields }: Context,
): { needed: Needed[]; wrong: string[] } {
  const fieldsOf = (name: string): Fields | undefined => {
    const found = references.find((reference) => reference.name === name);
    const view = found === undefined ? undefined : byKey.get(keyOf(found));
    return fields.get(String(view?.attributes.title));
  };
  switch (type) {
    case 'index-pattern': {
      const known = fields.get(attributes.title as string);
      if (known === undefined) {
        return {
          needed: [],
          wrong: [
            `there is no index template for ${String(attributes.title)}, only for ${[...fields.keys()].join(', ')}`,
          ],
        };
      }
      const time = fieldProblem(known, attributes.timeFieldName as string, 'date');
      const formatted = Object.keys(values.fieldFormatMap as object).filter((name) => !known.has(name));
      const wrong = formatted.map((name) => `fieldFormatMap: field "${name}" is not in the index template`);
      return { needed: [], wrong: time === undefined ? wrong : [`timeFieldName: ${time}`, ...wrong] };
    }
    case 'lens': {
      const { visualizationType, state } = attributes as { visualizationType: string; state: LensState };
      const layers = Object.keys(state.datasourceStates.formBased.layers);
      return {
        needed: layers.map((id) => ({ name: layerReference(id), type: 'index-pattern' })),
        wrong: lensProblems(visualizationType, state, fieldsOf),
      };
    }
    case 'search': {
      const source = values['kibanaSavedObjectMeta.searchSourceJSON'] as {
        query: { query: string };
        indexRefName: string;
      };
      const known = fieldsOf(source.indexRefName);
      const wrong = known === undefined ? [] : searchProblems(attributes, source.query.query, known);
      return { needed: [{ name: source.indexRefName, type: 'index-pattern' }], wrong };
    }
    case 'dashboard': {
      const panels = values.panelsJSON as Panel[];
      const controls = values['controlGroupInput.panelsJSON'] as Record<string, ControlPanel>;
      return {
        needed: [
          ...panels.map((panel) => ({ name: panelReference(panel), type: panel.type as Reference['type'] })),
          ...Object.keys(controls).map((id) => ({ name: controlReference(id), type: 'index-pattern' as const })),
        ],
        wrong: [...gridProblems(panels), ...controlProblems(controls, fieldsOf)],
      };
    }
  }
}

function searchProblems(attributes: SavedObject['attributes'], query: string, known: Fields): string[] {
  const { columns, sort } = attributes as { columns: string[]; sort: [string, string][] };
  return [
    ...columns.filter((name) => !known.has(name)).map((name) => `column "${name}" is not in the index template`),
    ...sort.filter(([name]) => known.get(name)?.aggregatable !== true).map(([name]) => `cannot be sorted by "${name}"`),
    ...kqlProblems(known, query),
  ];
}

function referenceProblems({ references }: SavedObject, needed: readonly Needed[], { byKey }: Context): string[] {
  const problems: string[] = [];
  for (const { name, type } of needed) {
    const found = references.find((reference) => reference.name === name);
    if (found === undefined) problems.push(`reference "${name}" is missing`);
    else if (found.type !== type) problems.push(`reference "${name}" is a ${found.type}; expected: ${type}`);
  }
  const names = references.map(({ name }) => name);
  references.forEach((reference, i) => {
    if (names.indexOf(reference.name) !== i) problems.push(`reference "${reference.name}" is there twice`);
    if (!needed.some(({ name }) => name === reference.name)) problems.push(`reference "${reference.name}" is not used`);
    if (!byKey.has(keyOf(reference)))
      problems.push(`reference "${reference.name}" leads to ${keyOf(reference)}, which does not exist`);
  });
  return problems;
}

function keyOf({ type, id }: Pick<SavedObject, 'type' | 'id'>): string {
  return `${type} ${id}`;
}

function nameOf(object: unknown): string {
  const { type, id } = (object ?? {}) as { type?: unknown; id?: unknown };
  return `${String(type)} ${String(id)}`;
}

// ---- what each kind of saved object may hold: every key is named ----

type Schema = Readonly<Record<string, unknown>>;

const text = { type: 'string' };
const name = { type: 'string', minLength: 1 };
const flag = { type: 'boolean' };
const number = { type: 'number' };
const any = {};
const list = (items: Schema): Schema => ({ type: 'array', items });
const map = (additionalProperties: Schema): Schema => ({ type: 'object', additionalProperties });
/** These keys are permitted, no others; all except `optional` are required. */
function strict(properties: Readonly<Record<string, Schema>>, optional: readonly string[] = []): Schema {
  const required = Object.keys(properties).filter((key) => !optional.includes(key));
  return { type: 'object', additionalProperties: false, required, properties };
}

const query = strict({ query: text, language: { const: 'kuery' } });
// Filter pills would need references of their own, which nothing here checks.
const none = { type: 'array', maxItems: 0 };
const nothing = { type: 'object', maxProperties: 0 };
const refresh = strict({ pause: flag, value: number });

const column: Schema = {
  ...strict(
    {
      ...{ label: name, dataType: { enum: ['date', 'number', 'string', 'boolean'] }, operationType: name },
      ...{ isBucketed: flag, scale: { enum: ['ordinal', 'interval', 'ratio'] }, customLabel: flag },
      ...{ sourceField: name, params: { type: 'object' }, references: list(name), filter: query },
    },
    ['scale', 'customLabel', 'sourceField', 'params', 'references', 'filter'],
  ),
};
const layer = strict({ columns: map(column), columnOrder: list(name), incompleteColumns: nothing });

const LENS_STATE = strict({
  visualization: {
    type: 'object',
    required: ['layers'],
    properties: { layers: { ...list({ type: 'object' }), minItems: 1 } },
  },
  query,
  filters: none,
  datasourceStates: strict({ formBased: strict({ layers: map(layer) }) }),
  internalReferences: none,
  adHocDataViews: nothing,
});

/** Texts that contain JSON, as paths below `attributes`, with the shape of that JSON. */
const INNER_JSON: Readonly<Record<SavedObjectType, Readonly<Record<string, Schema>>>> = {
  'index-pattern': {
    ...{ fields: list(any), fieldAttrs: map(any), runtimeFieldMap: map(any), sourceFilters: list(any) },
    ...{ typeMeta: map(any), fieldFormatMap: map(strict({ id: name, params: { type: 'object' } })) },
  },
  lens: {},
  search: { 'kibanaSavedObjectMeta.searchSourceJSON': strict({ query, filter: none, indexRefName: name }) },
  dashboard: {
    'kibanaSavedObjectMeta.searchSourceJSON': strict({ query, filter: none }),
    optionsJSON: map(flag),
    'controlGroupInput.ignoreParentSettingsJSON': map(flag),
    'controlGroupInput.panelsJSON': map(
      strict({
        type: { const: 'optionsListControl' },
        ...{ order: { type: 'integer', minimum: 0 }, width: { enum: ['small', 'medium', 'large'] }, grow: flag },
        explicitInput: strict({
          id: name,
          fieldName: name,
          title: name,
          selectedOptions: list(text),
          enhancements: nothing,
        }),
      }),
    ),
    panelsJSON: list(
      strict({
        ...{ type: { enum: ['lens', 'search'] }, panelIndex: name, panelRefName: name },
        gridData: strict({
          ...{ x: { type: 'integer', minimum: 0 }, y: { type: 'integer', minimum: 0 } },
          ...{ w: { type: 'integer', minimum: 1 }, h: { type: 'integer', minimum: 1 }, i: name },
        }),
        embeddableConfig: strict({ enhancements: nothing }),
      }),
    ),
  },
};

const ATTRIBUTES: Record<SavedObjectType, Schema> = {
  'index-pattern': strict({
    ...{ title: name, name, timeFieldName: name, allowNoIndex: flag, fields: text, fieldAttrs: text },
    ...{ runtimeFieldMap: text, sourceFilters: text, typeMeta: text, fieldFormatMap: text },
  }),
  lens: strict({ title: name, description: text, visualizationType: { enum: ['lnsXY', 'lnsPie'] }, state: LENS_STATE }),
  search: strict({
    ...{ title: name, description: text, columns: list(name), grid: nothing, hideChart: flag, timeRestore: flag },
    sort: list({ type: 'array', minItems: 2, maxItems: 2, items: [name, { enum: ['asc', 'desc'] }] }),
    isTextBasedQuery: { const: false },
    kibanaSavedObjectMeta: strict({ searchSourceJSON: text }),
  }),
  dashboard: strict({
    ...{ title: name, description: text, version: { const: 1 }, timeRestore: flag, timeFrom: name, timeTo: name },
    ...{ refreshInterval: refresh, optionsJSON: text, panelsJSON: text },
    kibanaSavedObjectMeta: strict({ searchSourceJSON: text }),
    controlGroupInput: strict({
      ...{ controlStyle: { enum: ['oneLine', 'twoLine'] }, chainingSystem: { enum: ['HIERARCHICAL', 'NONE'] } },
      ...{ ignoreParentSettingsJSON: text, panelsJSON: text },
    }),
  }),
};

const TYPES = Object.keys(TYPE_MIGRATION_VERSIONS);
const FRAME = strict({
  type: { enum: TYPES },
  id: name,
  attributes: { type: 'object' },
  references: list(strict({ type: { enum: TYPES }, id: name, name })),
  managed: { const: false },
  coreMigrationVersion: { type: 'string', pattern: '^\\d+\\.\\d+\\.\\d+$' },
  typeMigrationVersion: { type: 'string', pattern: '^\\d+\\.\\d+\\.\\d+$' },
});

const ajv = new Ajv({ allErrors: true, strict: false, verbose: true });
const frame = ajv.compile(FRAME);
const attributes = compileAll(ATTRIBUTES);
const inner = Object.fromEntries(Object.entries(INNER_JSON).map(([type, paths]) => [type, compileAll(paths)]));

function compileAll(schemas: Readonly<Record<string, Schema>>) {
  return Object.fromEntries(Object.entries(schemas).map(([key, schema]) => [key, ajv.compile(schema)]));
}

/** Problems in the object as Kibana reads it from its line. */
function shapeProblems(object: unknown): string[] {
  if (!frame(object)) return (frame.errors ?? []).map((error) => explain('', error));
  const { type, attributes: found } = object as { type: SavedObjectType; attributes: unknown };
  const check = attributes[type]!;
  return check(found) ? [] : (check.errors ?? []).map((error) => explain('attributes', error));
}

/** The JSON within the JSON, by path; what cannot be read is reported, and missing from `values`. */
function innerJson(type: SavedObjectType, found: unknown): { values: Record<string, unknown>; problems: string[] } {
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const path of Object.keys(INNER_JSON[type])) {
    const place = `attributes.${path}`;
    const written = path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], found);
    let value: unknown;
    try {
      value = JSON.parse(written as string);
    } catch {
      problems.push(`${place}: is not JSON`);
      continue;
    }
    const check = inner[type]![path]!;
    if (check(value)) values[path] = value;
    else for (const error of check.errors ?? []) problems.push(explain(place, error));
  }
  return { values, problems };
}

function explain(place: string, { instancePath, keyword, params, message, data }: ErrorObject): string {
  const path = [place, ...instancePath.slice(1).split('/')].filter((part) => part !== '').join('.');
  const at = path === '' ? '' : `${path}: `;
  const given = params as Record<string, unknown>;
  const found = JSON.stringify(data)?.slice(0, 60);
  switch (keyword) {
    case 'additionalProperties':
      return `${at}unknown key "${String(given.additionalProperty)}"`;
    case 'required':
      return `${at}"${String(given.missingProperty)}" is missing`;
    case 'enum':
      return `${at}found ${found}; permitted: ${(given.allowedValues as unknown[]).join(', ')}`;
    case 'const':
      return `${at}found ${found}; permitted: ${String(given.allowedValue)}`;
    default:
      return `${at}found ${found}; ${message ?? 'not permitted'}`;
  }
}

// ---- charts, checked in themselves and against the fields of their data views ----

interface LensColumn {
  readonly label: string;
  readonly operationType: string;
  readonly isBucketed: boolean;
  readonly sourceField?: string;
  readonly references?: readonly string[];
  readonly filter?: { readonly query: string };
  readonly params?: Readonly<Record<string, unknown>>;
}

interface LensLayer {
  readonly columns: Readonly<Record<string, LensColumn>>;
  readonly columnOrder: readonly string[];
}

interface LensState {
  readonly visualization: { readonly layers: readonly VisualLayer[] };
  readonly query: { readonly query: string };
  readonly datasourceStates: { readonly formBased: { readonly layers: Readonly<Record<string, LensLayer>> } };
}

interface VisualLayer {
  readonly layerId?: string;
  readonly layerType?: string;
  readonly xAccessor?: string;
  readonly splitAccessor?: string;
  readonly accessors?: readonly string[];
  readonly yConfig?: readonly { readonly forAccessor: string; readonly axisMode?: string }[];
  readonly primaryGroups?: readonly string[];
  readonly metrics?: readonly string[];
}

/** Operation -> what its field must be; `none`: it takes no field. */
const OPERATIONS: Readonly<Record<string, FieldKind | 'none' | 'records'>> = {
  date_histogram: 'date',
  terms: 'term',
  range: 'number',
  percentile: 'number',
  count: 'records',
  formula: 'none',
  math: 'none',
};
const BUCKETS = ['date_histogram', 'terms', 'range'];

function layerReference(layerId: string): string {
  return `indexpattern-datasource-layer-${layerId}`;
}

/** @param fieldsOf the fields behind a reference's name; undefined when that problem is reported elsewhere */
function lensProblems(
  type: string,
  state: LensState,
  fieldsOf: (referenceName: string) => Fields | undefined,
): string[] {
  const layers = state.datasourceStates.formBased.layers;
  const drawn = state.visualization.layers;
  const problems: string[] = [];
  for (const { layerId } of drawn) {
    if (layerId === undefined || layers[layerId] === undefined)
      problems.push(`layer "${layerId}" is drawn, but has no columns`);
  }
  const ids = drawn.map(({ layerId }) => layerId);
  for (const id of new Set(ids)) {
    if (ids.filter((other) => other === id).length > 1) problems.push(`layer "${id}" is drawn twice`);
  }
  for (const [id, layer] of Object.entries(layers)) {
    const visual = drawn.find(({ layerId }) => layerId === id);
    if (visual === undefined) problems.push(`layer "${id}" has columns, but is not drawn`);
    else problems.push(...drawnProblems(type, visual, layer).map((problem) => `layer "${id}": ${problem}`));
    const fields = fieldsOf(layerReference(id));
    problems.push(...columnProblems(layer, fields).map((problem) => `layer "${id}": ${problem}`));
    if (fields !== undefined) problems.push(...kqlProblems(fields, state.query.query));
  }
  return problems;
}

function drawnProblems(type: string, visual: VisualLayer, { columns }: LensLayer): string[] {
  const problems: string[] = [];
  const { xAccessor, splitAccessor, accessors = [], yConfig = [], primaryGroups = [], metrics = [] } = visual;
  const buckets = [xAccessor, splitAccessor, ...primaryGroups].filter((id) => id !== undefined);
  const values = [...accessors, ...metrics];
  const line = visual.layerType === 'referenceLine';
  if (!line && visual.layerType !== 'data')
    problems.push(`layerType "${visual.layerType}" is neither data nor referenceLine`);
  if (type === 'lnsXY' && !line && xAccessor === undefined) problems.push('xAccessor is missing');
  if (type === 'lnsPie' && primaryGroups.length === 0) problems.push('primaryGroups is empty');
  if (values.length === 0) problems.push(type === 'lnsPie' ? 'metrics is empty' : 'accessors is empty');
  for (const id of buckets) {
    if (columns[id] === undefined) problems.push(`accessor "${id}" is not a column`);
    else if (!columns[id].isBucketed) problems.push(`accessor "${id}" is a metric where a bucket is needed`);
  }
  for (const id of values) {
    if (columns[id] === undefined) problems.push(`accessor "${id}" is not a column`);
    else if (columns[id].isBucketed) problems.push(`accessor "${id}" is a bucket where a metric is needed`);
  }
  for (const { forAccessor } of yConfig) {
    if (!accessors.includes(forAccessor)) problems.push(`yConfig is for "${forAccessor}", which is not an accessor`);
  }
  if (line) {
    for (const id of accessors) {
      const mode = yConfig.find(({ forAccessor }) => forAccessor === id)?.axisMode;
      if (mode !== 'bottom')
        problems.push(`reference line "${id}" has axisMode ${mode}; percentiles of the x axis need bottom`);
    }
  }
  const used = new Set([...buckets, ...values, ...Object.values(columns).flatMap(({ references = [] }) => references)]);
  for (const id of Object.keys(columns)) if (!used.has(id)) problems.push(`column "${id}" is not shown`);
  return problems;
}

function columnProblems({ columns, columnOrder }: LensLayer, fields: Fields | undefined): string[] {
  const problems: string[] = [];
  for (const id of columnOrder)
    if (columns[id] === undefined) problems.push(`columnOrder names "${id}", which is not a column`);
  for (const id of Object.keys(columns)) {
    const times = columnOrder.filter((other) => other === id).length;
    if (times !== 1) problems.push(`column "${id}" stands ${times} times in columnOrder`);
  }
  const firstMetric = columnOrder.findIndex((id) => columns[id]?.isBucketed === false);
  if (firstMetric >= 0 && columnOrder.slice(firstMetric).some((id) => columns[id]?.isBucketed)) {
    problems.push('columnOrder has a bucket after a metric');
  }
  for (const [id, column] of Object.entries(columns)) {
    const place = (problem: string) => `column "${id}": ${problem}`;
    const needed = OPERATIONS[column.operationType];
    if (needed === undefined) {
      problems.push(place(`operation "${column.operationType}" is not one of ${Object.keys(OPERATIONS).join(', ')}`));
      continue;
    }
    if (column.isBucketed !== BUCKETS.includes(column.operationType)) {
      problems.push(place(`${column.operationType} with isBucketed ${column.isBucketed}`));
    }
    problems.push(...sourceProblems(column, needed, fields).map(place));
    if (column.filter !== undefined && fields !== undefined)
      problems.push(...kqlProblems(fields, column.filter.query).map(place));
    if (column.operationType === 'terms') problems.push(...orderProblems(column, columns).map(place));
    for (const other of column.references ?? []) {
      if (columns[other] === undefined) problems.push(place(`refers to "${other}", which is not a column`));
    }
    if (column.operationType === 'formula') problems.push(...formulaProblems(column, columns).map(place));
  }
  return problems;
}

function sourceProblems(
  column: LensColumn,
  needed: FieldKind | 'none' | 'records',
  fields: Fields | undefined,
): string[] {
  const { operationType, sourceField } = column;
  if (needed === 'none') return sourceField === undefined ? [] : [`${operationType} takes no field`];
  if (needed === 'records') {
    return sourceField === '___records___' ? [] : [`${operationType} counts "___records___", found "${sourceField}"`];
  }
  if (sourceField === undefined) return [`${operationType} without a field`];
  const problem = fields === undefined ? undefined : fieldProblem(fields, sourceField, needed);
  return problem === undefined ? [] : [problem];
}

function orderProblems({ params = {} }: LensColumn, columns: LensLayer['columns']): string[] {
  const { type, columnId } = (params.orderBy ?? {}) as { type?: string; columnId?: string };
  if (type !== 'column') return [`orderBy "${type}" is not by a column`];
  const by = columns[columnId ?? ''];
  if (by === undefined) return [`orderBy names "${columnId}", which is not a column`];
  return by.isBucketed ? [`orderBy names "${columnId}", which is a bucket`] : [];
}

interface Ast {
  readonly type?: string;
  readonly name?: string;
  readonly args?: readonly string[];
  readonly location?: { readonly min: number; readonly max: number };
  readonly text?: string;
}

/** A formula without its expansion draws nothing and reports no error. Only one form is supported here: a share. */
function formulaProblems({ params = {}, references = [] }: LensColumn, columns: LensLayer['columns']): string[] {
  const { formula } = params as { formula?: string };
  const share = /^count\(kql='([^']+)'\) \/ count\(\)$/.exec(formula ?? '');
  if (share === null) return [`formula ${formula} is not of the form count(kql='…') / count()`];
  const math = columns[references[0] ?? ''];
  if (references.length !== 1 || math?.operationType !== 'math') return ['the formula is not expanded: no math column'];
  const ast = (math.params?.tinymathAst ?? {}) as Ast;
  const args = ast.args ?? [];
  const parts = math.references ?? [];
  if (ast.type !== 'function' || ast.name !== 'divide' || args.length !== 2)
    return ['tinymathAst is not a division of two'];
  if (args.some((id, i) => parts[i] !== id))
    return [`tinymathAst divides ${args.join(', ')}, but the references are ${parts.join(', ')}`];
  const problems: string[] = [];
  if (ast.text !== formula || ast.location?.min !== 0 || ast.location.max !== formula!.length) {
    problems.push('text and location of tinymathAst are not the formula’s');
  }
  const [taken, all] = args.map((id) => columns[id]);
  if (taken?.operationType !== 'count' || all?.operationType !== 'count')
    problems.push('the formula’s parts are not counts');
  if (taken?.filter?.query !== share[1])
    problems.push(`the formula counts ${share[1]}, its part counts ${taken?.filter?.query}`);
  if (all?.filter !== undefined) problems.push('the formula divides by all records, its part has a filter');
  return problems;
}

// ---- fields, checked against the index templates; a missing one shows as an empty chart ----

interface Field {
  /** Elasticsearch's type. */
  readonly type: string;
  readonly searchable: boolean;
  readonly aggregatable: boolean;
}

type Fields = ReadonlyMap<string, Field>;

/** What kind of field an operation needs. */
type FieldKind = 'date' | 'number' | 'term';

const KINDS: Record<FieldKind, readonly string[]> = {
  date: ['date', 'date_nanos'],
  number: ['long', 'integer', 'short', 'byte', 'double', 'float', 'half_float', 'scaled_float', 'unsigned_long'],
  // Numbers can be grouped by too, but not chosen from a list of words; no chart here does either.
  term: ['keyword', 'boolean', 'ip', 'constant_keyword'],
};

interface Mapping {
  readonly type?: string;
  readonly index?: boolean;
  readonly doc_values?: boolean;
  readonly properties?: Readonly<Record<string, Mapping>>;
}

/** Index pattern -> its fields, by their full names. */
function fieldsByPattern(templates: readonly IndexTemplate[]): ReadonlyMap<string, Fields> {
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
function fieldProblem(fields: Fields, name: string, kind: FieldKind): string | undefined {
  const field = fields.get(name);
  if (field === undefined) return `field "${name}" is not in the index template`;
  if (!field.aggregatable) return `field "${name}" (${field.type}) is not aggregatable`;
  if (!KINDS[kind].includes(field.type)) return `field "${name}" is a ${field.type}; expected: ${kind}`;
  return undefined;
}

/** Problems in a KQL text: quotes, fields, and words without a field, which would search everything. */
function kqlProblems(fields: Fields, kql: string): string[] {
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

// ---- a dashboard's grid and controls ----

export const GRID_COLUMNS = 48;

export interface Panel {
  readonly type: string;
  readonly panelIndex: string;
  readonly panelRefName: string;
  readonly gridData: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
    readonly i: string;
  };
}

export interface ControlPanel {
  readonly order: number;
  readonly explicitInput: { readonly id: string; readonly fieldName: string };
}

function panelReference({ panelIndex, panelRefName }: Panel): string {
  return `${panelIndex}:${panelRefName}`;
}

function controlReference(id: string): string {
  return `controlGroup_${id}:optionsListDataView`;
}

function gridProblems(panels: readonly Panel[]): string[] {
  const problems: string[] = [];
  panels.forEach((panel, n) => {
    const { panelIndex, gridData } = panel;
    const place = `panel "${panelIndex}"`;
    if (gridData.i !== panelIndex) problems.push(`${place}: gridData.i is "${gridData.i}"`);
    if (gridData.x + gridData.w > GRID_COLUMNS) {
      problems.push(`${place}: columns ${gridData.x} to ${gridData.x + gridData.w} of a grid of ${GRID_COLUMNS}`);
    }
    for (const other of panels.slice(n + 1)) {
      if (other.panelIndex === panelIndex) problems.push(`${place}: is there twice`);
      else if (overlap(gridData, other.gridData)) problems.push(`${place}: overlaps panel "${other.panelIndex}"`);
    }
  });
  return problems;
}

type Cells = Panel['gridData'];

function overlap(one: Cells, other: Cells): boolean {
  return one.x < other.x + other.w && other.x < one.x + one.w && one.y < other.y + other.h && other.y < one.y + one.h;
}

/** @param fieldsOf the fields behind a reference's name; undefined when that problem is reported elsewhere */
function controlProblems(
  controls: Readonly<Record<string, ControlPanel>>,
  fieldsOf: (referenceName: string) => Fields | undefined,
): string[] {
  const problems: string[] = [];
  const orders = Object.values(controls).map(({ order }) => order);
  if (orders.sort((a, b) => a - b).some((order, i) => order !== i))
    problems.push(`controls are numbered ${orders.join(', ')}`);
  for (const [id, { explicitInput }] of Object.entries(controls)) {
    if (explicitInput.id !== id) problems.push(`control "${id}": explicitInput.id is "${explicitInput.id}"`);
    const fields = fieldsOf(controlReference(id));
    const problem = fields === undefined ? undefined : fieldProblem(fields, explicitInput.fieldName, 'term');
    if (problem !== undefined) problems.push(`control "${id}": ${problem}`);
  }
  return problems;
}
