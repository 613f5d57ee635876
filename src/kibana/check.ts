// Whether saved objects are what Kibana can show. In: the text of an .ndjson file and the index templates. Out: every
// problem, each with its object and place; an empty list means that all of this holds: permitted keys and versions, unique
// ids, references that resolve and are used, JSON that can be read, charts whose parts fit, a grid without overlaps, and
// fields that exist with a type that can be used so. A successful import proves none of it.
import type { IndexTemplate } from '../indexing/template.ts';
import {
  type ControlPanel,
  controlProblems,
  controlReference,
  gridProblems,
  type Panel,
  panelReference,
} from './check-dashboard.ts';
import { type Fields, fieldProblem, fieldsByPattern, kqlProblems } from './check-fields.ts';
import { type LensState, layerReference, lensProblems } from './check-lens.ts';
import { innerJson, shapeProblems } from './check-shape.ts';
import { CORE_MIGRATION_VERSION, type Reference, type SavedObject, TYPE_MIGRATION_VERSIONS } from './saved-object.ts';

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
      problems.push(`line ${i + 1}: is no JSON`);
      return;
    }
    const wrong = shapeProblems(object);
    if (wrong.length === 0) objects.push(object as SavedObject);
    else problems.push(...wrong.map((problem) => `line ${i + 1}, ${nameOf(object)}: ${problem}`));
  });
  const byKey = new Map<string, SavedObject>();
  for (const object of objects) {
    const key = keyOf(object);
    if (byKey.has(key)) problems.push(`${key}: stands there twice; Kibana refuses the whole import`);
    byKey.set(key, object);
  }
  // With an object missing, all that refers to it would be called broken.
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
          wrong: [`no index template is for ${String(attributes.title)}; there are: ${[...fields.keys()].join(', ')}`],
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
    else if (found.type !== type) problems.push(`reference "${name}" is a ${found.type}; needed is a ${type}`);
  }
  const names = references.map(({ name }) => name);
  references.forEach((reference, i) => {
    if (names.indexOf(reference.name) !== i) problems.push(`reference "${reference.name}" stands there twice`);
    if (!needed.some(({ name }) => name === reference.name))
      problems.push(`reference "${reference.name}" is used by nothing`);
    if (!byKey.has(keyOf(reference)))
      problems.push(`reference "${reference.name}" leads to ${keyOf(reference)}, which is not there`);
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
