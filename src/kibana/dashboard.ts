// The dashboard with its controls, and the list of errors on it. In: the charts. Out: saved objects. Guarantee: every panel
// and control has its reference, named as Kibana looks for it.
import { ERRORS } from './charts.ts';
import { LOGS_VIEW } from './data-views.ts';
import { type Reference, type SavedObject, type SavedObjectType, savedObject } from './saved-object.ts';

export const GRID_COLUMNS = 48;

/** Where a panel stands, in cells of Kibana's grid of 48 columns; a row is 20 pixels high. */
export interface Placed {
  readonly object: SavedObject;
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

export interface Control {
  readonly id: string;
  readonly field: string;
  readonly title: string;
}

/** All errors with message and template, newest first. */
export function errorSearch(): SavedObject {
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

export function dashboard(
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
