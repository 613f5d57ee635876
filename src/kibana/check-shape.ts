// What each kind of saved object may hold. Kibana 8.12 refuses unknown keys of dashboards and searches, and takes anything
// at all as the state of a chart: here every key is named. Out: problems as texts, each with its place.
import { Ajv, type ErrorObject } from 'ajv';
import { type SavedObjectType, TYPE_MIGRATION_VERSIONS } from './saved-object.ts';

type Schema = Readonly<Record<string, unknown>>;

const text = { type: 'string' };
const name = { type: 'string', minLength: 1 };
const flag = { type: 'boolean' };
const number = { type: 'number' };
const any = {};
const list = (items: Schema): Schema => ({ type: 'array', items });
const map = (additionalProperties: Schema): Schema => ({ type: 'object', additionalProperties });
/** Every key is permitted, all but those of `optional` are required. */
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

/** Texts that hold JSON, as paths below `attributes`, with the shape of what they hold. */
export const INNER_JSON: Readonly<Record<SavedObjectType, Readonly<Record<string, Schema>>>> = {
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

/** Problems of the object as Kibana reads it from its line. */
export function shapeProblems(object: unknown): string[] {
  if (!frame(object)) return (frame.errors ?? []).map((error) => explain('', error));
  const { type, attributes: found } = object as { type: SavedObjectType; attributes: unknown };
  const check = attributes[type]!;
  return check(found) ? [] : (check.errors ?? []).map((error) => explain('attributes', error));
}

/** The JSON within the JSON, by path; what cannot be read is a problem and missing in `values`. */
export function innerJson(
  type: SavedObjectType,
  found: unknown,
): { values: Record<string, unknown>; problems: string[] } {
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const path of Object.keys(INNER_JSON[type])) {
    const place = `attributes.${path}`;
    const written = path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], found);
    let value: unknown;
    try {
      value = JSON.parse(written as string);
    } catch {
      problems.push(`${place}: is no JSON`);
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
