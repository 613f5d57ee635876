// The charts that are shipped: what the operators' guide asks for, and the history of alerts.
import { ALERTS_VIEW, LOGS_VIEW } from './data-views.ts';
import { count, lensObject, numberBuckets, percentile, share, timeBuckets, topValues, xyState } from './lens.ts';
import type { SavedObject } from './saved-object.ts';

/** Set from level error or anything more severe, whatever the logger calls it. */
export const ERRORS = 'tags: "error"';

export function errorRate(): SavedObject {
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

export function topErrors(): SavedObject {
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

export function callStatus(): SavedObject {
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

export function responseTime(): SavedObject {
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
          // The axis of the durations: the lines stand upright.
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

export function alertTimeline(): SavedObject {
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
    // An alert that fires again within its cooldown has a `reopened` beside its `firing`.
    query: 'transition: "firing"',
  });
}
