// The saved objects that are shipped, file by file. In: nothing. Out: objects in an order in which each stands behind what
// it refers to.
import { alertTimeline, callStatus, errorRate, responseTime, topErrors } from './charts.ts';
import { dashboard, errorSearch, type Placed } from './dashboard.ts';
import { alertsDataView, logsDataView, replayDataView } from './data-views.ts';
import type { SavedObject } from './saved-object.ts';

export const DASHBOARD_ID = 'calling-platform-overview';

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
