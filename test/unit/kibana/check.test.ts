// The checker, proved by mutations: each makes one thing wrong in the shipped objects that Kibana's import would take, and
// must be refused with words that name the place. Without a mutation nothing is refused.
import { describe, expect, test } from 'vitest';
import type { IndexTemplate } from '../../../src/indexing/elasticsearch.ts';
import { checkSavedObjects } from '../../../src/kibana/check.ts';
import { type Loose, OBJECTS, parsed, TEMPLATES, within, written } from './kit.ts';

type Mutation = readonly [what: string, mutate: (at: (id: string) => Loose, all: Loose[]) => void, message: string];

const layersOf = (lens: Loose): Loose => lens.attributes.state.datasourceStates.formBased.layers;
const drawnOf = (lens: Loose): Loose[] => lens.attributes.state.visualization.layers;
const rate = (at: (id: string) => Loose): Loose => at('error-rate');
const panels = (at: (id: string) => Loose, change: (value: Loose[]) => void) =>
  within(at('overview').attributes, 'panelsJSON', change);
const controls = (at: (id: string) => Loose, change: (value: Loose) => void) =>
  within(at('overview').attributes.controlGroupInput, 'panelsJSON', change);
const renameReference = (object: Loose, from: string, to: string) => {
  object.references.find(({ name }: Loose) => name === from).name = to;
};

const MUTATIONS: Readonly<Record<string, readonly Mutation[]>> = {
  'keys, versions and ids': [
    [
      'a key that 8.12 refuses',
      (at) => (at('overview').attributes.sections = []),
      'dashboard calling-platform-overview: attributes: unknown key "sections"',
    ],
    ['another one', (at) => (at('overview').attributes.pinned_panels = {}), 'unknown key "pinned_panels"'],
    [
      'one of a search',
      (at) => (at('errors').attributes.tabs = []),
      'search calling-platform-errors: attributes: unknown key "tabs"',
    ],
    ['one beside the attributes', (at) => (at('errors').updated_at = '2026-01-01'), 'unknown key "updated_at"'],
    [
      'one in the state of a chart',
      (at) => (rate(at).attributes.state.annotations = []),
      'attributes.state: unknown key "annotations"',
    ],
    [
      'one in a panel',
      (at) => panels(at, ([panel]) => (panel.title = 'x')),
      'attributes.panelsJSON.0: unknown key "title"',
    ],
    ['a title gone', (at) => delete rate(at).attributes.title, 'attributes: "title" is missing'],
    [
      'another type',
      (at) => (rate(at).type = 'visualization'),
      'found "visualization"; permitted: index-pattern, lens, search, dashboard',
    ],
    [
      'a chart too new',
      (at) => (rate(at).typeMigrationVersion = '8.10.0'),
      'typeMigrationVersion 8.10.0 is above 8.9.0',
    ],
    [
      'a data view too new',
      (_, [view]) => (view.typeMigrationVersion = '8.0.1'),
      'typeMigrationVersion 8.0.1 is above 8.0.0',
    ],
    [
      'an object too new',
      (at) => (rate(at).coreMigrationVersion = '10.1.0'),
      'coreMigrationVersion 10.1.0 is above 8.8.0',
    ],
    ['no version', (at) => delete rate(at).typeMigrationVersion, '"typeMigrationVersion" is missing'],
    ['the same object twice', (at, all) => all.push(rate(at)), 'lens calling-platform-error-rate: is there twice'],
    ['filter pills', (at) => rate(at).attributes.state.filters.push({}), 'attributes.state.filters'],
  ],
  references: [
    [
      'an object gone',
      (at, all) => all.splice(all.indexOf(rate(at)), 1),
      'leads to lens calling-platform-error-rate, which does not exist',
    ],
    ['a data view gone', (_, all) => all.shift(), 'leads to index-pattern calling-platform, which does not exist'],
    [
      'one more than is used',
      (at) => rate(at).references.push({ type: 'lens', id: 'calling-platform-top-errors', name: 'x' }),
      'reference "x" is not used',
    ],
    ['one twice', (at) => rate(at).references.push(rate(at).references[0]), 'is there twice'],
    [
      'of a layer, renamed',
      (at) => renameReference(rate(at), 'indexpattern-datasource-layer-rate', 'indexpattern-datasource-layer-other'),
      'reference "indexpattern-datasource-layer-rate" is missing',
    ],
    [
      'of a layer, to no data view',
      (at) => Object.assign(rate(at).references[0], { type: 'lens', id: 'calling-platform-top-errors' }),
      'is a lens; expected: index-pattern',
    ],
    [
      'of a panel, renamed',
      (at) => renameReference(at('overview'), 'p1:panel_p1', 'panel_p1'),
      'reference "p1:panel_p1" is missing',
    ],
    [
      'of a panel, to another type',
      (at) => panels(at, ([panel]) => (panel.type = 'search')),
      'reference "p1:panel_p1" is a lens; expected: search',
    ],
    [
      'of a control, renamed',
      (at) =>
        renameReference(
          at('overview'),
          'controlGroup_level:optionsListDataView',
          'controlGroup_level:rangeSliderDataView',
        ),
      'reference "controlGroup_level:optionsListDataView" is missing',
    ],
    [
      'of the search, renamed',
      (at) => (at('errors').references[0].name = 'index'),
      'reference "kibanaSavedObjectMeta.searchSourceJSON.index" is missing',
    ],
  ],
  'JSON within JSON': [
    [
      'panels',
      (at) => (at('overview').attributes.panelsJSON += ']'),
      'dashboard calling-platform-overview: attributes.panelsJSON: is not JSON',
    ],
    ['options', (at) => (at('overview').attributes.optionsJSON = '{'), 'attributes.optionsJSON: is not JSON'],
    [
      'controls',
      (at) => (at('overview').attributes.controlGroupInput.panelsJSON = 'x'),
      'attributes.controlGroupInput.panelsJSON: is not JSON',
    ],
    [
      'search source',
      (at) => (at('errors').attributes.kibanaSavedObjectMeta.searchSourceJSON = ''),
      'searchSourceJSON: is not JSON',
    ],
    [
      'field formats',
      (_, [view]) => (view.attributes.fieldFormatMap = '{"a"}'),
      'attributes.fieldFormatMap: is not JSON',
    ],
  ],
  'charts against themselves': [
    [
      'a layer drawn that is not there',
      (at) => (drawnOf(rate(at))[0].layerId = 'other'),
      'layer "other" is drawn, but has no columns',
    ],
    [
      'and the one that is',
      (at) => (drawnOf(rate(at))[0].layerId = 'other'),
      'layer "rate" has columns, but is not drawn',
    ],
    ['a layer drawn twice', (at) => drawnOf(rate(at)).push(drawnOf(rate(at))[0]), 'layer "rate" is drawn twice'],
    [
      'a value that is not a column',
      (at) => (drawnOf(rate(at))[0].accessors = ['ratio']),
      'accessor "ratio" is not a column',
    ],
    ['no value', (at) => (drawnOf(rate(at))[0].accessors = []), 'accessors is empty'],
    ['no x axis', (at) => delete drawnOf(rate(at))[0].xAccessor, 'xAccessor is missing'],
    [
      'x axis and value exchanged',
      (at) => Object.assign(drawnOf(at('call-status'))[0], { xAccessor: 'count', accessors: ['status'] }),
      'accessor "count" is a metric where a bucket is needed',
    ],
    ['a pie without slices', (at) => (drawnOf(at('top-errors'))[0].primaryGroups = []), 'primaryGroups is empty'],
    [
      'a pie whose metric is not a column',
      (at) => (drawnOf(at('top-errors'))[0].metrics = ['sum']),
      'accessor "sum" is not a column',
    ],
    [
      'a breakdown that is not a column',
      (at) => (drawnOf(at('alert-timeline'))[0].splitAccessor = 'rule'),
      'accessor "rule" is not a column',
    ],
    [
      'a column nobody shows',
      (at) => (layersOf(at('call-status')).calls.columns.more = layersOf(at('call-status')).calls.columns.count),
      'column "more" is not shown',
    ],
    [
      'a column out of the order',
      (at) => layersOf(rate(at)).rate.columnOrder.pop(),
      'column "rateX2" stands 0 times in columnOrder',
    ],
    [
      'an order with a stranger',
      (at) => layersOf(rate(at)).rate.columnOrder.push('x'),
      'columnOrder names "x", which is not a column',
    ],
    [
      'a bucket after a metric',
      (at) => layersOf(rate(at)).rate.columnOrder.reverse(),
      'columnOrder has a bucket after a metric',
    ],
    [
      'ordered by what is not there',
      (at) => (layersOf(at('call-status')).calls.columns.status.params.orderBy.columnId = 'calls'),
      'orderBy names "calls", which is not a column',
    ],
    [
      'ordered by itself',
      (at) => (layersOf(at('call-status')).calls.columns.status.params.orderBy.columnId = 'status'),
      'orderBy names "status", which is a bucket',
    ],
    [
      'another operation',
      (at) => (layersOf(at('call-status')).calls.columns.count.operationType = 'counts'),
      'operation "counts" is not one of',
    ],
    [
      'reference lines of the wrong axis',
      (at) => (drawnOf(at('response-time'))[1].yConfig[1].axisMode = 'left'),
      'reference line "p95" has axisMode left',
    ],
    [
      'a style for no line',
      (at) => (drawnOf(at('response-time'))[1].yConfig[0].forAccessor = 'p90'),
      'yConfig is for "p90", which is not an accessor',
    ],
  ],
  'the formula against its expansion': [
    ['not expanded', (at) => (layersOf(rate(at)).rate.columns.rate.references = []), 'the formula is not expanded'],
    [
      'expanded into what is not there',
      (at) => (layersOf(rate(at)).rate.columns.rate.references = ['rateX9']),
      'refers to "rateX9", which is not a column',
    ],
    [
      'another query in its part',
      (at) => (layersOf(rate(at)).rate.columns.rateX0.filter.query = 'level: "error"'),
      'the formula counts tags: "error", its part counts level: "error"',
    ],
    [
      'a filter in the whole',
      (at) => (layersOf(rate(at)).rate.columns.rateX1.filter = { query: 'level: "info"', language: 'kuery' }),
      'its part has a filter',
    ],
    [
      'the other way round',
      (at) => layersOf(rate(at)).rate.columns.rateX2.params.tinymathAst.args.reverse(),
      'tinymathAst divides rateX1, rateX0',
    ],
    [
      'another operation',
      (at) => (layersOf(rate(at)).rate.columns.rateX2.params.tinymathAst.name = 'multiply'),
      'tinymathAst is not a division of two',
    ],
    [
      'another formula',
      (at) => (layersOf(rate(at)).rate.columns.rate.params.formula = 'count()'),
      'is not of the form',
    ],
    [
      'a place that is not the formula’s',
      (at) => (layersOf(rate(at)).rate.columns.rateX2.params.tinymathAst.location.max = 37),
      'text and location of tinymathAst are not the formula’s',
    ],
  ],
  'the grid': [
    [
      'two panels on one place',
      (at) => panels(at, ([, panel]) => (panel.gridData.x = 31)),
      'panel "p1": overlaps panel "p2"',
    ],
    [
      'wider than the grid',
      (at) => panels(at, ([, panel]) => (panel.gridData.w = 17)),
      'panel "p2": columns 32 to 49 of a grid of 48',
    ],
    [
      'no height',
      (at) => panels(at, ([panel]) => (panel.gridData.h = 0)),
      'attributes.panelsJSON.0.gridData.h: found 0',
    ],
    [
      'half a column',
      (at) => panels(at, ([panel]) => (panel.gridData.x = 0.5)),
      'attributes.panelsJSON.0.gridData.x: found 0.5',
    ],
    [
      'an index that is not the panel’s',
      (at) => panels(at, ([panel]) => (panel.gridData.i = 'p9')),
      'panel "p1": gridData.i is "p9"',
    ],
    ['a panel twice', (at) => panels(at, (all) => all.push(all[0])), 'panel "p1": is there twice'],
  ],
  controls: [
    [
      'an id that is not the control’s',
      (at) => controls(at, ({ level }) => (level.explicitInput.id = 'c2')),
      'control "level": explicitInput.id is "c2"',
    ],
    [
      'a field that is not there',
      (at) => controls(at, ({ level }) => (level.explicitInput.fieldName = 'severity')),
      'control "level": field "severity" is not in the index template',
    ],
    [
      'a field of text',
      (at) => controls(at, ({ level }) => (level.explicitInput.fieldName = 'message')),
      'control "level": field "message" (text) is not aggregatable',
    ],
    [
      'a field of numbers',
      (at) => controls(at, ({ level }) => (level.explicitInput.fieldName = 'pid')),
      'field "pid" is a long; expected: term',
    ],
    ['two in one place', (at) => controls(at, ({ level }) => (level.order = 0)), 'controls are numbered 0, 0'],
    [
      'one with its reference gone',
      (at) => controls(at, (all) => delete all.level),
      'reference "controlGroup_level:optionsListDataView" is not used',
    ],
  ],
  'fields against the index template': [
    [
      'raw text',
      (at) => (layersOf(at('top-errors')).errors.columns.template.sourceField = 'error.message'),
      'field "error.message" (text) is not aggregatable',
    ],
    [
      'a field Elasticsearch would have guessed',
      (at) => (layersOf(at('top-errors')).errors.columns.template.sourceField = 'error.message.keyword'),
      'field "error.message.keyword" is not in the index template',
    ],
    [
      'a field that is not indexed',
      (at) => (layersOf(at('top-errors')).errors.columns.template.sourceField = 'extraRaw'),
      'field "extraRaw" (keyword) is not aggregatable',
    ],
    [
      'the name of a group',
      (at) => (layersOf(at('call-status')).calls.columns.status.sourceField = 'call'),
      'field "call" is not in the index template',
    ],
    [
      'a histogram of words',
      (at) => (layersOf(at('response-time')).requests.columns.duration.sourceField = 'http.route'),
      'field "http.route" is a keyword; expected: number',
    ],
    [
      'a percentile of a date',
      (at) => (layersOf(at('response-time')).percentiles.columns.p99.sourceField = '@timestamp'),
      'field "@timestamp" is a date; expected: number',
    ],
    [
      'time of a number',
      (at) => (layersOf(rate(at)).rate.columns.time.sourceField = 'pid'),
      'field "pid" is a long; expected: date',
    ],
    [
      'a field of the logs in the alerts',
      (at) => (layersOf(at('alert-timeline')).alerts.columns.title.sourceField = 'call.status'),
      'field "call.status" is not in the index template',
    ],
    [
      'a query of a chart',
      (at) => (at('top-errors').attributes.state.query.query = 'severity: "error"'),
      'field "severity" is not in the index template',
    ],
    [
      'a query whose quote stays open',
      (at) => (at('top-errors').attributes.state.query.query = 'tags: "error'),
      'a quotation mark is not closed',
    ],
    ['a query without a field', (at) => (at('top-errors').attributes.state.query.query = 'error'), 'names no field'],
    [
      'a query of a search',
      (at) =>
        within(
          at('errors').attributes.kibanaSavedObjectMeta,
          'searchSourceJSON',
          (source) => (source.query.query = 'tag: "error"'),
        ),
      'field "tag" is not in the index template',
    ],
    [
      'a column of a search',
      (at) => at('errors').attributes.columns.push('stack'),
      'column "stack" is not in the index template',
    ],
    [
      'the order of a search',
      (at) => (at('errors').attributes.sort = [['message', 'asc']]),
      'cannot be sorted by "message"',
    ],
    [
      'a time field that is none',
      (_, [view]) => (view.attributes.timeFieldName = 'level'),
      'timeFieldName: field "level" is a keyword; expected: date',
    ],
    [
      'a format for no field',
      (_, [view]) => within(view.attributes, 'fieldFormatMap', (map) => (map.responseTime = map['http.durationMs'])),
      'fieldFormatMap: field "responseTime" is not in the index template',
    ],
    [
      'indices that nobody writes',
      (_, [view]) => (view.attributes.title = 'logs-*'),
      'there is no index template for logs-*',
    ],
  ],
};

describe.each(Object.entries(MUTATIONS))('%s', (_, mutations) => {
  test.each(mutations)('%s', (_, mutate, message) => {
    const all = parsed();
    const at = (id: string) => all.find((object) => object.id === `calling-platform-${id}`);
    mutate(at, all);
    const problems = checkSavedObjects(written(all), TEMPLATES);
    expect(problems.join('\n')).toContain(message);
  });
});

test('without a mutation nothing is refused, and what was parsed is what is written', () => {
  expect(written(parsed())).toBe(OBJECTS);
  expect(checkSavedObjects(OBJECTS, TEMPLATES)).toEqual([]);
});

test('a line that is not JSON is told by its number, and an empty file is none', () => {
  expect(checkSavedObjects(`${OBJECTS}{"type":\n`, TEMPLATES)).toEqual(['line 10: is not JSON']);
  expect(checkSavedObjects('', TEMPLATES)).toEqual(['there is no object']);
  expect(checkSavedObjects('null\n', TEMPLATES)).toEqual([expect.stringContaining('line 1')]);
});

test('every field that is used is missed when the template loses it', () => {
  const used = ['@timestamp', 'tags', 'level', 'environment', 'service', 'message', 'callId'];
  const paths = [...used, 'error.template', 'error.code', 'call.status', 'http.durationMs', 'queue.waitMs'];
  for (const path of paths) {
    const [logs, ...others] = structuredClone(TEMPLATES) as [IndexTemplate, ...IndexTemplate[]];
    const groups = path.split('.');
    const last = groups.pop()!;
    const holder = groups.reduce((mapping: Loose, group) => mapping.properties[group], logs.template.mappings as Loose);
    delete holder.properties[last];
    expect(checkSavedObjects(OBJECTS, [logs, ...others]).join('\n'), path).toContain(`"${path}"`);
  }
});
