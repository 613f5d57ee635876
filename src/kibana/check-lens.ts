// A chart held against itself and the fields of its data views. In: the state of a Lens object whose shape is known to be
// right. Out: problems as texts, and the references it needs.
import { type FieldKind, type Fields, fieldProblem, kqlProblems } from './check-fields.ts';

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

export interface LensState {
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

export function layerReference(layerId: string): string {
  return `indexpattern-datasource-layer-${layerId}`;
}

/** @param fieldsOf the fields behind a reference's name; undefined when that problem is told elsewhere */
export function lensProblems(
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
    if (columns[id] === undefined) problems.push(`accessor "${id}" is no column`);
    else if (!columns[id].isBucketed) problems.push(`accessor "${id}" is a metric where a bucket is needed`);
  }
  for (const id of values) {
    if (columns[id] === undefined) problems.push(`accessor "${id}" is no column`);
    else if (columns[id].isBucketed) problems.push(`accessor "${id}" is a bucket where a metric is needed`);
  }
  for (const { forAccessor } of yConfig) {
    if (!accessors.includes(forAccessor)) problems.push(`yConfig is for "${forAccessor}", which is no accessor`);
  }
  if (line) {
    for (const id of accessors) {
      const mode = yConfig.find(({ forAccessor }) => forAccessor === id)?.axisMode;
      if (mode !== 'bottom')
        problems.push(`reference line "${id}" has axisMode ${mode}; percentiles of the x axis need bottom`);
    }
  }
  const used = new Set([...buckets, ...values, ...Object.values(columns).flatMap(({ references = [] }) => references)]);
  for (const id of Object.keys(columns)) if (!used.has(id)) problems.push(`column "${id}" is shown by nothing`);
  return problems;
}

function columnProblems({ columns, columnOrder }: LensLayer, fields: Fields | undefined): string[] {
  const problems: string[] = [];
  for (const id of columnOrder)
    if (columns[id] === undefined) problems.push(`columnOrder names "${id}", which is no column`);
  for (const id of Object.keys(columns)) {
    const times = columnOrder.filter((other) => other === id).length;
    if (times !== 1) problems.push(`column "${id}" stands ${times} times in columnOrder`);
  }
  const firstMetric = columnOrder.findIndex((id) => columns[id]?.isBucketed === false);
  if (firstMetric >= 0 && columnOrder.slice(firstMetric).some((id) => columns[id]?.isBucketed)) {
    problems.push('columnOrder has a bucket behind a metric');
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
      if (columns[other] === undefined) problems.push(place(`refers to "${other}", which is no column`));
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
  if (by === undefined) return [`orderBy names "${columnId}", which is no column`];
  return by.isBucketed ? [`orderBy names "${columnId}", which is a bucket`] : [];
}

interface Ast {
  readonly type?: string;
  readonly name?: string;
  readonly args?: readonly string[];
  readonly location?: { readonly min: number; readonly max: number };
  readonly text?: string;
}

/** A formula without its expansion draws nothing, and says nothing about it. The one form that is written here: a share. */
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
    return ['tinymathAst is no division of two'];
  if (args.some((id, i) => parts[i] !== id))
    return [`tinymathAst divides ${args.join(', ')}, referred to are ${parts.join(', ')}`];
  const problems: string[] = [];
  if (ast.text !== formula || ast.location?.min !== 0 || ast.location.max !== formula!.length) {
    problems.push('text and location of tinymathAst are not the formula’s');
  }
  const [taken, all] = args.map((id) => columns[id]);
  if (taken?.operationType !== 'count' || all?.operationType !== 'count')
    problems.push('the formula’s parts are no counts');
  if (taken?.filter?.query !== share[1])
    problems.push(`the formula counts ${share[1]}, its part counts ${taken?.filter?.query}`);
  if (all?.filter !== undefined) problems.push('the formula divides by all records, its part has a filter');
  return problems;
}
