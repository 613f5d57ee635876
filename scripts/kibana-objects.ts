// The saved objects that are shipped: data views, Lens charts, the dashboard with its controls. In: the index patterns of the templates.
// Out: objects, file by file, each after those it refers to. Guarantee: every panel and control has its reference, named as Kibana
// looks for it; the checker (src/kibana/check.ts) holds the rest, because Kibana validates nothing of a chart's state on import.

import { HISTORY_PREFIX } from '../src/incidents/records.ts';
import { INDEX_PREFIX, REPLAY_PREFIX } from '../src/indexing/batch.ts';
import {
  CORE_MIGRATION_VERSION,
  type Reference,
  type SavedObject,
  type SavedObjectType,
  TYPE_MIGRATION_VERSIONS,
} from '../src/kibana/check.ts';

const DASHBOARD_ID = 'calling-platform-overview';

/** Path below the package's root -> its objects. */
export function shippedObjects(): Readonly<Record<string, readonly SavedObject[]>> {
  return { 'kibana/calling-platform.ndjson': callingPlatform(), 'kibana/logpipe-replay.ndjson': [replayDataView()] };
}

function callingPlatform(): SavedObject[] {
  const placed: Placed[] = [
    { object: errorRate(), x: 0, y: 0, w: 32, h: 12 },
    { object: topErrors(), x: 32, y: 0, w: 16, h: 12 },
    { object: callStatus(), x: 0, y: 12, w: 16, h: 12 },
    { object: responseTime(), x: 16, y: 12, w: 32, h: 12 },
    { object: alertTimeline(), x: 0, y: 24, w: 48, h: 9 },
    { object: errorSearch(), x: 0, y: 33, w: 48, h: 16 },
  ];
  return [
    logsDataView(),
    alertsDataView(),
    ...placed.map(({ object }) => object),
    dashboard(
      DASHBOARD_ID,
      {
        title: 'Calling platform overview',
        description: 'Errors, calls, response times and alerts. Choose time range, environment and level above.',
      },
      placed,
      [
        { id: 'environment', field: 'environment', title: 'Environment' },
        { id: 'level', field: 'level', title: 'Level' },
      ],
    ),
  ];
}

// ---- data views: the indices that the other objects look at ----

const LOGS_VIEW = 'calling-platform';
const ALERTS_VIEW = 'logpipe-alerts';
const REPLAY_VIEW = 'logpipe-replay';

const logsDataView = () => dataView(LOGS_VIEW, `${INDEX_PREFIX}*`, 'Calling platform', DURATIONS);
const alertsDataView = () => dataView(ALERTS_VIEW, `${HISTORY_PREFIX}*`, 'Alert history');
const replayDataView = () => dataView(REPLAY_VIEW, `${REPLAY_PREFIX}*`, 'Replayed logs', DURATIONS);

/** Fields in milliseconds that are shown as durations. */
const DURATIONS = ['call.durationMs', 'http.durationMs', 'queue.waitMs'];
const DURATION_FORMAT = {
  id: 'duration',
  params: {
    inputFormat: 'milliseconds',
    outputFormat: 'humanizePrecise',
    outputPrecision: 0,
    includeSpaceWithSuffix: true,
    useShortSuffix: true,
  },
};

function dataView(id: string, pattern: string, name: string, durations: readonly string[] = []): SavedObject {
  return savedObject('index-pattern', id, {
    title: pattern,
    name,
    timeFieldName: '@timestamp',
    // It may be imported before the first document exists.
    allowNoIndex: true,
    fields: '[]',
    fieldAttrs: '{}',
    runtimeFieldMap: '{}',
    sourceFilters: '[]',
    typeMeta: '{}',
    fieldFormatMap: JSON.stringify(Object.fromEntries(durations.map((field) => [field, DURATION_FORMAT]))),
  });
}

// ---- the dashboard with its controls, and the list of errors on it ----

/** Where a panel stands, in cells of Kibana's grid of 48 columns; a row is 20 pixels high. */
interface Placed {
  readonly object: SavedObject;
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

interface Control {
  readonly id: string;
  readonly field: string;
  readonly title: string;
}

/** All errors with message and template, newest first. */
function errorSearch(): SavedObject {
  const indexRefName = 'kibanaSavedObjectMeta.searchSourceJSON.index';
  return savedObject(
    'search',
    'calling-platform-errors',
    {
      title: 'Errors',
      description: 'Everything tagged error, newest first.',
      columns: ['level', 'service', 'message', 'error.code', 'error.template', 'callId'],
      sort: [['@timestamp', 'desc']],
      grid: {},
      hideChart: false,
      isTextBasedQuery: false,
      timeRestore: false,
      kibanaSavedObjectMeta: {
        searchSourceJSON: JSON.stringify({ query: { query: ERRORS, language: 'kuery' }, filter: [], indexRefName }),
      },
    },
    [{ type: 'index-pattern', id: LOGS_VIEW, name: indexRefName }],
  );
}

function dashboard(
  id: string,
  texts: { readonly title: string; readonly description: string },
  panels: readonly Placed[],
  controls: readonly Control[],
): SavedObject {
  const named = panels.map((panel, i) => ({ ...panel, index: `p${i + 1}` }));
  const references: Reference[] = [
    ...named.map(({ object, index }) => reference(object.type, object.id, `${index}:panel_${index}`)),
    ...controls.map((control) =>
      reference('index-pattern', LOGS_VIEW, `controlGroup_${control.id}:optionsListDataView`),
    ),
  ];
  return savedObject(
    'dashboard',
    id,
    {
      ...texts,
      version: 1,
      timeRestore: true,
      timeFrom: 'now-24h',
      timeTo: 'now',
      refreshInterval: { pause: true, value: 60_000 },
      optionsJSON: JSON.stringify({
        useMargins: true,
        syncColors: false,
        syncCursor: true,
        syncTooltips: false,
        hidePanelTitles: false,
      }),
      kibanaSavedObjectMeta: {
        searchSourceJSON: JSON.stringify({ query: { query: '', language: 'kuery' }, filter: [] }),
      },
      controlGroupInput: {
        controlStyle: 'oneLine',
        chainingSystem: 'HIERARCHICAL',
        ignoreParentSettingsJSON: JSON.stringify({
          ignoreFilters: false,
          ignoreQuery: false,
          ignoreTimerange: false,
          ignoreValidations: false,
        }),
        panelsJSON: JSON.stringify(Object.fromEntries(controls.map(optionsList))),
      },
      panelsJSON: JSON.stringify(
        named.map(({ object, index, x, y, w, h }) => ({
          type: object.type,
          panelIndex: index,
          gridData: { x, y, w, h, i: index },
          panelRefName: `panel_${index}`,
          embeddableConfig: { enhancements: {} },
        })),
      ),
    },
    references,
  );
}

function reference(type: SavedObjectType, id: string, name: string): Reference {
  return { type, id, name };
}

function optionsList({ id, field, title }: Control, order: number): [string, object] {
  return [
    id,
    {
      type: 'optionsListControl',
      order,
      width: 'medium',
      grow: true,
      explicitInput: { id, fieldName: field, title, selectedOptions: [], enhancements: {} },
    },
  ];
}

// ---- Lens charts from parts: columns, layers, and how they are drawn ----

/** One column of a layer: a bucket, a metric, or a part of a formula. */
type Column = Readonly<Record<string, unknown>> & {
  readonly label: string;
  readonly dataType: 'date' | 'number' | 'string';
  readonly operationType: string;
  readonly isBucketed: boolean;
};
type Columns = Readonly<Record<string, Column>>;

interface Layer {
  /** Id of the data view. */
  readonly dataView: string;
  /** Buckets first: Elasticsearch nests them in this order. */
  readonly columns: Columns;
}

interface Chart {
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
function timeBuckets(): Column {
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
function topValues(field: string, label: string, options: { size: number; orderBy: string; other: boolean }) {
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
function numberBuckets(field: string, label: string): Column {
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

function count(label: string): Column {
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

function percentile(field: string, percent: number): Column {
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
 * The share of the records that match `kql`: the formula people see, and its expansion into three more columns, without which a
 * chart silently stays blank.
 */
function share(id: string, label: string, kql: string): Columns {
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
function xyState(seriesType: 'line' | 'bar' | 'bar_stacked', layers: readonly object[]) {
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

function lensObject(chart: Chart): SavedObject {
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

// ---- the charts: what the operators' guide asks for, and the history of alerts ----

/** Set from level error or anything more severe, whatever the logger calls it. */
const ERRORS = 'tags: "error"';

function errorRate(): SavedObject {
  return lensObject({
    id: 'calling-platform-error-rate',
    title: 'Error rate over time',
    description: 'Share of the events that are tagged error.',
    visualizationType: 'lnsXY',
    visualization: xyState('line', [
      { layerId: 'rate', layerType: 'data', seriesType: 'line', xAccessor: 'time', accessors: ['rate'] },
    ]),
    layers: {
      rate: { dataView: LOGS_VIEW, columns: { time: timeBuckets(), ...share('rate', 'Error rate', ERRORS) } },
    },
    query: '',
  });
}

function topErrors(): SavedObject {
  return lensObject({
    id: 'calling-platform-top-errors',
    title: 'Top error messages',
    description: 'Messages of errors, with what varies in them (numbers, ids, quoted text) taken out.',
    visualizationType: 'lnsPie',
    visualization: {
      shape: 'pie',
      layers: [
        {
          layerId: 'errors',
          layerType: 'data',
          primaryGroups: ['template'],
          metrics: ['count'],
          numberDisplay: 'percent',
          categoryDisplay: 'default',
          legendDisplay: 'show',
          nestedLegend: false,
        },
      ],
    },
    layers: {
      errors: {
        dataView: LOGS_VIEW,
        columns: {
          template: topValues('error.template', 'Error message', { size: 10, orderBy: 'count', other: true }),
          count: count('Errors'),
        },
      },
    },
    query: ERRORS,
  });
}

function callStatus(): SavedObject {
  return lensObject({
    id: 'calling-platform-call-status',
    title: 'Call status distribution',
    description: 'Calls by their final status.',
    visualizationType: 'lnsXY',
    visualization: xyState('bar', [
      { layerId: 'calls', layerType: 'data', seriesType: 'bar', xAccessor: 'status', accessors: ['count'] },
    ]),
    layers: {
      calls: {
        dataView: LOGS_VIEW,
        columns: {
          status: topValues('call.status', 'Status', { size: 10, orderBy: 'count', other: false }),
          count: count('Calls'),
        },
      },
    },
    query: '',
  });
}

function responseTime(): SavedObject {
  const field = 'http.durationMs';
  const lines = [
    { percent: 50, color: '#54B399' },
    { percent: 95, color: '#D6BF57' },
    { percent: 99, color: '#E7664C' },
  ];
  return lensObject({
    id: 'calling-platform-response-time',
    title: 'Response time histogram',
    description: 'Requests by how long they took, with the 50th, 95th and 99th percentile.',
    visualizationType: 'lnsXY',
    visualization: xyState('bar', [
      { layerId: 'requests', layerType: 'data', seriesType: 'bar', xAccessor: 'duration', accessors: ['count'] },
      {
        layerId: 'percentiles',
        layerType: 'referenceLine',
        accessors: lines.map(({ percent }) => `p${percent}`),
        yConfig: lines.map(({ percent, color }) => ({
          forAccessor: `p${percent}`,
          // On the axis of the durations, so that the lines are vertical.
          axisMode: 'bottom',
          color,
          lineWidth: 2,
          lineStyle: 'solid',
          fill: 'none',
          textVisibility: true,
        })),
      },
    ]),
    layers: {
      requests: {
        dataView: LOGS_VIEW,
        columns: { duration: numberBuckets(field, 'Response time'), count: count('Requests') },
      },
      percentiles: {
        dataView: LOGS_VIEW,
        columns: Object.fromEntries(lines.map(({ percent }) => [`p${percent}`, percentile(field, percent)])),
      },
    },
    query: '',
  });
}

function alertTimeline(): SavedObject {
  return lensObject({
    id: 'calling-platform-alert-timeline',
    title: 'Alerts over time',
    description: 'Alerts when they began to fire, by title.',
    visualizationType: 'lnsXY',
    visualization: xyState('bar_stacked', [
      {
        layerId: 'alerts',
        layerType: 'data',
        seriesType: 'bar_stacked',
        xAccessor: 'time',
        splitAccessor: 'title',
        accessors: ['count'],
      },
    ]),
    layers: {
      alerts: {
        dataView: ALERTS_VIEW,
        columns: {
          title: topValues('alert.title', 'Alert', { size: 10, orderBy: 'count', other: true }),
          time: timeBuckets(),
          count: count('Alerts'),
        },
      },
    },
    // Not `reopened`: an alert that fires again within its cooldown has a `firing` too.
    query: 'transition: "firing"',
  });
}

function savedObject(
  type: SavedObjectType,
  id: string,
  attributes: Readonly<Record<string, unknown>>,
  references: readonly Reference[] = [],
): SavedObject {
  return {
    type,
    id,
    attributes,
    references,
    managed: false,
    coreMigrationVersion: CORE_MIGRATION_VERSION,
    typeMigrationVersion: TYPE_MIGRATION_VERSIONS[type],
  };
}

/** The content of an .ndjson file. */
export function toNdjson(objects: readonly SavedObject[]): string {
  return objects.map((object) => `${JSON.stringify(object)}\n`).join('');
}
