// `/metrics/platform`: the application's measures for Prometheus, from its log. In: the evaluator's windows. Out: the text
// exposition format, https://prometheus.io/docs/instrumenting/exposition_formats/. Written here rather than by the metrics
// library, because these values are counted elsewhere and only have to be said.
// Guarantee: a gauge that is no data is absent; counters are cumulative as long as one instance holds the alerts; what is counted
// together because it did not fit is a series of its own, whatever somebody is called.
import { isCollected, type Measure, type Measures, type PrometheusName } from '../measure/measure-config.ts';
import { countAtMost } from '../measure/sketch.ts';
import { OTHER, OTHER_NAME } from '../measure/totals.ts';
import { type TotalSeries, type TotalValue, totalsOf } from '../rules/totals-view.ts';
import { readMeasure, windowTo } from '../rules/values.ts';
import type { WindowStore } from '../rules/windows.ts';

export const PLATFORM_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

const GAUGE_WINDOW_MS = 60_000;
/** Beside the name that stands for all that did not fit: a host or queue may have that name. */
const REST = 'logpipe_rest="true"';

export function platformMetrics(store: WindowStore, measures: Measures, nowMs: number): string {
  const lines: string[] = [];
  for (const measure of measures.values()) {
    const { prometheus } = measure;
    if (prometheus === undefined) continue;
    const series = isCollected(measure)
      ? collectedLines(store, measure, prometheus, nowMs)
      : derivedLines(store, measure, prometheus, nowMs);
    if (series.length === 0) continue;
    lines.push(
      `# HELP ${prometheus.name} ${escapeHelp(prometheus.help)}`,
      `# TYPE ${prometheus.name} ${prometheus.type}`,
    );
    lines.push(...series);
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

function collectedLines(store: WindowStore, measure: Measure, prometheus: PrometheusName, nowMs: number): string[] {
  const by = isCollected(measure) ? measure.by : [];
  const groups = new Map<string, TotalValue[]>();
  for (const series of totalsOf(store, measure.name)) {
    if (measure.kind === 'gauge' && series.value.kind === 'gauge' && nowMs - series.value.at > measure.staleAfterMs) {
      continue;
    }
    const labels = labelsOf(series, by, prometheus);
    const group = groups.get(labels);
    if (group === undefined) groups.set(labels, [series.value]);
    else group.push(series.value);
  }
  return [...groups].flatMap(([labels, values]) => valueLines(labels, values, prometheus));
}

function valueLines(labels: string, values: readonly TotalValue[], prometheus: PrometheusName): string[] {
  const { name, scale } = prometheus;
  if (values[0]?.kind !== 'distribution') {
    const sum = values.reduce(
      (total, value) => total + (value.kind === 'counter' ? value.n : value.kind === 'gauge' ? value.v : 0),
      0,
    );
    return [`${name}${braced(labels)} ${sum * scale}`];
  }
  const distributions = values.flatMap((value) => (value.kind === 'distribution' ? [value] : []));
  const n = distributions.reduce((total, value) => total + value.n, 0);
  const sum = distributions.reduce((total, value) => total + value.sum, 0);
  const buckets = prometheus.buckets.map((bound) => {
    const below = distributions.reduce((total, { bins }) => total + countAtMost(bins, bound / scale), 0);
    return `${name}_bucket${braced(joined(labels, `le="${bound}"`))} ${below}`;
  });
  return [
    ...buckets,
    `${name}_bucket${braced(joined(labels, 'le="+Inf"'))} ${n}`,
    `${name}_sum${braced(labels)} ${sum * scale}`,
    `${name}_count${braced(labels)} ${n}`,
  ];
}

function derivedLines(store: WindowStore, measure: Measure, prometheus: PrometheusName, nowMs: number): string[] {
  const { name, scale } = prometheus;
  return readMeasure(store, measure.name, { ...windowTo(nowMs, GAUGE_WINDOW_MS), nowMs }).flatMap(({ value }) =>
    value === undefined ? [] : [`${name} ${value * scale}`],
  );
}

function labelsOf({ values }: TotalSeries, by: readonly string[], { labels }: PrometheusName): string {
  const shown = Object.entries(labels).map(([label, field]) => [label, values[by.indexOf(field)] ?? ''] as const);
  const parts = shown.map(([label, value]) => `${label}="${value === OTHER ? OTHER_NAME : escapeLabel(value)}"`);
  if (shown.some(([, value]) => value === OTHER)) parts.push(REST);
  return parts.join(',');
}

function joined(labels: string, more: string): string {
  return labels === '' ? more : `${labels},${more}`;
}

function braced(labels: string): string {
  return labels === '' ? '' : `{${labels}}`;
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}
