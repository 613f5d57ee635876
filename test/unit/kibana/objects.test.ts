// The shipped saved objects: what is among them, and what Kibana needs that its import does not ask for.
import { expect, test } from 'vitest';
import { checkSavedObjects } from '../../../src/kibana/check.ts';
import { type Loose, OBJECTS, parsed, shipped, TEMPLATES } from './kit.ts';

const objects = parsed();
const byId = (id: string): Loose => objects.find((object) => object.id === id);

test.each(['kibana/calling-platform.ndjson', 'kibana/logpipe-replay.ndjson'])('%s passes the checker', (path) => {
  expect(checkSavedObjects(shipped(path), TEMPLATES)).toEqual([]);
});

test('both files make one import', () => {
  expect(checkSavedObjects(`${OBJECTS}${shipped('kibana/logpipe-replay.ndjson')}`, TEMPLATES)).toEqual([]);
});

test('the seven objects, and the history of alerts', () => {
  expect(objects.map(({ type, id }) => `${type} ${id}`)).toEqual([
    'index-pattern calling-platform',
    'index-pattern logpipe-alerts',
    'lens calling-platform-error-rate',
    'lens calling-platform-top-errors',
    'lens calling-platform-call-status',
    'lens calling-platform-response-time',
    'lens calling-platform-alert-timeline',
    'search calling-platform-errors',
    'dashboard calling-platform-overview',
  ]);
  expect(byId('calling-platform').attributes).toMatchObject({
    title: 'calling-platform-*',
    timeFieldName: '@timestamp',
  });
  expect(byId('logpipe-alerts').attributes).toMatchObject({ title: 'logpipe-alerts-*', timeFieldName: '@timestamp' });
});

test('the versions that 8.9 and everything later take', () => {
  const versions = { 'index-pattern': '8.0.0', lens: '8.9.0', search: '8.0.0', dashboard: '8.9.0' } as Loose;
  for (const { type, managed, coreMigrationVersion, typeMigrationVersion } of objects) {
    expect({ managed, coreMigrationVersion, typeMigrationVersion }).toEqual({
      managed: false,
      coreMigrationVersion: '8.8.0',
      typeMigrationVersion: versions[type],
    });
  }
});

test('the error rate is saved with its expansion', () => {
  const { columns, columnOrder } =
    byId('calling-platform-error-rate').attributes.state.datasourceStates.formBased.layers.rate;
  const formula = 'count(kql=\'tags: "error"\') / count()';
  expect(columnOrder).toEqual(['time', 'rate', 'rateX0', 'rateX1', 'rateX2']);
  expect(columns.rate).toMatchObject({ operationType: 'formula', params: { formula }, references: ['rateX2'] });
  expect(columns.rateX0).toMatchObject({
    operationType: 'count',
    filter: { query: 'tags: "error"', language: 'kuery' },
  });
  expect(columns.rateX1.filter).toBeUndefined();
  expect(columns.rateX2).toMatchObject({ operationType: 'math', references: ['rateX0', 'rateX1'] });
  expect(columns.rateX2.params.tinymathAst).toEqual({
    type: 'function',
    name: 'divide',
    args: ['rateX0', 'rateX1'],
    location: { min: 0, max: formula.length },
    text: formula,
  });
});

test('the other charts are of the kinds that were asked for', () => {
  const errors = byId('calling-platform-top-errors').attributes;
  expect(errors.state.visualization.shape).toBe('pie');
  expect(errors.state.query.query).toBe('tags: "error"');
  expect(errors.state.datasourceStates.formBased.layers.errors.columns.template).toMatchObject({
    operationType: 'terms',
    sourceField: 'error.template',
    params: { size: 10, otherBucket: true },
  });

  const status = byId('calling-platform-call-status').attributes.state;
  expect(status.visualization.layers[0].seriesType).toBe('bar');
  expect(status.datasourceStates.formBased.layers.calls.columns.status).toMatchObject({
    sourceField: 'call.status',
    params: { orderBy: { type: 'column', columnId: 'count' }, orderDirection: 'desc' },
  });

  const times = byId('calling-platform-response-time').attributes.state;
  expect(times.datasourceStates.formBased.layers.requests.columns.duration).toMatchObject({
    operationType: 'range',
    params: { type: 'histogram', maxBars: 'auto' },
  });
  const [bars, lines] = times.visualization.layers;
  expect([bars.seriesType, lines.layerType]).toEqual(['bar', 'referenceLine']);
  expect(lines.yConfig.map(({ axisMode }: Loose) => axisMode)).toEqual(['bottom', 'bottom', 'bottom']);
  const percentiles = Object.values(times.datasourceStates.formBased.layers.percentiles.columns) as Loose[];
  expect(percentiles.map(({ params }) => params.percentile)).toEqual([50, 95, 99]);
});

test('the dashboard shows every chart and the errors, and filters by environment, level and time', () => {
  const { attributes, references } = byId('calling-platform-overview');
  const shown = references.filter(({ type }: Loose) => type !== 'index-pattern').map(({ id }: Loose) => id);
  expect(shown).toEqual(objects.filter(({ type }) => type === 'lens' || type === 'search').map(({ id }) => id));
  expect(attributes).toMatchObject({ timeRestore: true, timeFrom: 'now-24h', timeTo: 'now' });
  const controls = Object.values(JSON.parse(attributes.controlGroupInput.panelsJSON) as Loose) as Loose[];
  expect(controls.map(({ type, explicitInput }) => [type, explicitInput.fieldName])).toEqual([
    ['optionsListControl', 'environment'],
    ['optionsListControl', 'level'],
  ]);
});
