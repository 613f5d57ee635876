// Lens charts from parts: columns, layers, what is drawn of them. In: columns by id. Out: a saved object of type lens.
// Kibana validates nothing of a chart's state on import, so what is written here is held by check-lens.ts.
import { type SavedObject, savedObject } from './saved-object.ts';

/** One column of a layer: a bucket, a metric, or a part of a formula. */
export type Column = Readonly<Record<string, unknown>> & {
  readonly label: string;
  readonly dataType: 'date' | 'number' | 'string';
  readonly operationType: string;
  readonly isBucketed: boolean;
};
export type Columns = Readonly<Record<string, Column>>;

export interface Layer {
  /** Id of the data view. */
  readonly dataView: string;
  /** Buckets first: Elasticsearch nests them in this order. */
  readonly columns: Columns;
}

export interface Chart {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly visualizationType: 'lnsXY' | 'lnsPie';
  readonly visualization: Readonly<Record<string, unknown>>;
  readonly layers: Readonly<Record<string, Layer>>;
  /** KQL over the whole chart; empty: everything. */
  readonly query: string;
}

const RECORDS = '___records___';

/** Time in buckets whose width follows the time range; empty ones are shown. */
export function timeBuckets(): Column {
  return {
    label: '@timestamp',
    dataType: 'date',
    operationType: 'date_histogram',
    sourceField: '@timestamp',
    isBucketed: true,
    scale: 'interval',
    params: { interval: 'auto', includeEmptyRows: true, dropPartials: false },
  };
}

/** The most frequent values, by the metric column `orderBy`. */
export function topValues(field: string, label: string, options: { size: number; orderBy: string; other: boolean }) {
  return {
    label,
    customLabel: true,
    dataType: 'string',
    operationType: 'terms',
    sourceField: field,
    isBucketed: true,
    scale: 'ordinal',
    params: {
      size: options.size,
      orderBy: { type: 'column', columnId: options.orderBy },
      orderDirection: 'desc',
      otherBucket: options.other,
      missingBucket: false,
      parentFormat: { id: 'terms' },
      include: [],
      exclude: [],
      includeIsRegex: false,
      excludeIsRegex: false,
    },
  } as const satisfies Column;
}

/** A histogram of numbers; Kibana chooses the width of its bars from the data. */
export function numberBuckets(field: string, label: string): Column {
  return {
    label,
    customLabel: true,
    dataType: 'number',
    operationType: 'range',
    sourceField: field,
    isBucketed: true,
    scale: 'interval',
    params: {
      type: 'histogram',
      ranges: [{ from: 0, to: 1000, label: '' }],
      maxBars: 'auto',
      includeEmptyRows: true,
    },
  };
}

export function count(label: string): Column {
  return {
    label,
    customLabel: true,
    dataType: 'number',
    operationType: 'count',
    isBucketed: false,
    scale: 'ratio',
    sourceField: RECORDS,
    params: { emptyAsNull: false },
  };
}

export function percentile(field: string, percent: number): Column {
  return {
    label: `p${percent}`,
    customLabel: true,
    dataType: 'number',
    operationType: 'percentile',
    sourceField: field,
    isBucketed: false,
    scale: 'ratio',
    params: { percentile: percent },
  };
}

/**
 * The share of the records that `kql` takes, as the formula people see and its expansion into three more columns: without
 * them a chart stays blank, and nothing complains.
 */
export function share(id: string, label: string, kql: string): Columns {
  const formula = `count(kql='${kql}') / count()`;
  const [taken, all, quotient] = [`${id}X0`, `${id}X1`, `${id}X2`];
  const part = count(`Part of ${label}`);
  const number = { dataType: 'number', isBucketed: false, scale: 'ratio', customLabel: true } as const;
  return {
    [id]: {
      ...number,
      label,
      operationType: 'formula',
      params: { formula, isFormulaBroken: false, format: { id: 'percent', params: { decimals: 1 } } },
      references: [quotient],
    },
    [taken]: { ...part, filter: { query: kql, language: 'kuery' } },
    [all]: part,
    [quotient]: {
      ...number,
      label: `Part of ${label}`,
      operationType: 'math',
      params: {
        tinymathAst: {
          type: 'function',
          name: 'divide',
          args: [taken, all],
          location: { min: 0, max: formula.length },
          text: formula,
        },
      },
      references: [taken, all],
    },
  };
}

/** State of an XY chart without its layers. */
export function xyState(seriesType: 'line' | 'bar' | 'bar_stacked', layers: readonly object[]) {
  const all = { x: true, yLeft: true, yRight: true };
  return {
    legend: { isVisible: true, position: 'right' },
    valueLabels: 'hide',
    fittingFunction: 'None',
    preferredSeriesType: seriesType,
    axisTitlesVisibilitySettings: all,
    tickLabelsVisibilitySettings: all,
    gridlinesVisibilitySettings: all,
    yLeftExtent: { mode: 'full' },
    layers,
  };
}

export function lensObject(chart: Chart): SavedObject {
  const layers = Object.entries(chart.layers);
  return savedObject(
    'lens',
    chart.id,
    {
      title: chart.title,
      description: chart.description,
      visualizationType: chart.visualizationType,
      state: {
        visualization: chart.visualization,
        query: { query: chart.query, language: 'kuery' },
        filters: [],
        datasourceStates: {
          formBased: {
            layers: Object.fromEntries(
              layers.map(([id, { columns }]) => [
                id,
                { columns, columnOrder: Object.keys(columns), incompleteColumns: {} },
              ]),
            ),
          },
        },
        internalReferences: [],
        adHocDataViews: {},
      },
    },
    layers.map(([id, { dataView }]) => ({
      type: 'index-pattern',
      id: dataView,
      name: `indexpattern-datasource-layer-${id}`,
    })),
  );
}
