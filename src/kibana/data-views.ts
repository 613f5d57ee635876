// The data views: which indices Kibana's objects look at. In: the index patterns of the templates. Out: one saved object each.
import { HISTORY_PREFIX } from '../alerts/transitions.ts';
import { INDEX_PREFIX } from '../indexing/document.ts';
import { REPLAY_PREFIX } from '../replay/replay-template.ts';
import { type SavedObject, savedObject } from './saved-object.ts';

export const LOGS_VIEW = 'calling-platform';
export const ALERTS_VIEW = 'logpipe-alerts';
export const REPLAY_VIEW = 'logpipe-replay';

export const logsDataView = () => dataView(LOGS_VIEW, `${INDEX_PREFIX}*`, 'Calling platform', DURATIONS);
export const alertsDataView = () => dataView(ALERTS_VIEW, `${HISTORY_PREFIX}*`, 'Alert history');
export const replayDataView = () => dataView(REPLAY_VIEW, `${REPLAY_PREFIX}*`, 'Replayed logs', DURATIONS);

/** Milliseconds that people read as durations. */
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
    // It may be imported before the first document has come.
    allowNoIndex: true,
    fields: '[]',
    fieldAttrs: '{}',
    runtimeFieldMap: '{}',
    sourceFilters: '[]',
    typeMeta: '{}',
    fieldFormatMap: JSON.stringify(Object.fromEntries(durations.map((field) => [field, DURATION_FORMAT]))),
  });
}
