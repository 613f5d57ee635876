// The dashboards as Grafana gets them: the panels that the operators' guide asks for, every one with a place of its own, an id,
// a unit and queries. Whether the queries find anything is asked at a real Prometheus: test/integration/prometheus.test.ts.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as units from '@grafana/grafana-foundation-sdk/units';
import { describe, expect, it } from 'vitest';
import { dashboardOf } from '../../../scripts/grafana/dashboard.ts';
import { stat } from '../../../scripts/grafana/panels.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { metricNames, readDashboard, SHIPPED_DASHBOARDS } from '../../kit/dashboards.ts';
import { MEASURES } from '../rules/kit.ts';

const dashboards = SHIPPED_DASHBOARDS.map((name) => [name, readDashboard(name)] as const);

it('the folder holds these dashboards and nothing else, each with a uid of its own', () => {
  expect(readdirSync(join(packageRoot(), 'config/grafana/dashboards')).sort()).toEqual([...SHIPPED_DASHBOARDS]);
  expect(new Set(dashboards.map(([, { uid }]) => uid)).size).toBe(dashboards.length);
  for (const [, { uid }] of dashboards) expect(uid).toMatch(/^[a-z-]{1,40}$/);
});

it('the platform dashboard has the rows and panels of the operators’ guide', () => {
  const rows: Record<string, string[]> = {};
  let row: string[] = [];
  for (const { type, title } of readDashboard('calling-platform.json').panels) {
    if (type === 'row') {
      row = [];
      rows[title] = row;
    } else row.push(`${title}: ${type}`);
  }
  expect(rows).toEqual({
    'System health': ['CPU: gauge', 'Memory: gauge', 'Disk: gauge', 'Network I/O: timeseries'],
    Application: [
      'Active calls: stat',
      'Requests per second: timeseries',
      'Response time, 95th percentile: timeseries',
      'Error rate: timeseries',
    ],
    Business: ['Call success: piechart', 'Queue size: stat', 'Average call duration: stat', 'Voicemail: stat'],
    'Database and queue': [
      'MongoDB connections: timeseries',
      'MongoDB operations: timeseries',
      'Redis memory: timeseries',
      'Bull queues: table',
    ],
  });
  const queue = readDashboard('calling-platform.json').panels.find(({ title }) => title === 'Queue size');
  expect(queue!.options).toMatchObject({ graphMode: 'area' });
});

describe.each(dashboards)('%s', (_, dashboard) => {
  const panels = dashboard.panels.filter(({ type }) => type !== 'row');

  it('has ids that are unique and names the data source chosen at its top', () => {
    const ids = dashboard.panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.every((id) => Number.isInteger(id) && id > 0)).toBe(true);
    expect(dashboard.templating.list).toEqual([
      expect.objectContaining({ type: 'datasource', name: 'datasource', query: 'prometheus' }),
    ]);
    for (const { title, datasource, targets } of panels) {
      for (const source of [datasource, ...targets.map((target) => target.datasource)]) {
        expect(source, title).toEqual({ type: 'prometheus', uid: '$datasource' });
      }
    }
  });

  it('puts every panel into the grid of 24 columns, none over another, without a hole', () => {
    const taken = new Map<string, string>();
    for (const { title, gridPos } of dashboard.panels) {
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(x, title).toBeLessThan(24);
          expect(taken.get(`${x},${y}`), `${title} at ${x},${y}`).toBeUndefined();
          taken.set(`${x},${y}`, title);
        }
      }
    }
    const height = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
    expect(taken.size).toBe(24 * height);
  });

  it('gives every panel a unit that Grafana knows, a description and queries told apart', () => {
    const known = new Set<unknown>(Object.values(units));
    for (const { title, description, fieldConfig, targets } of panels) {
      expect(known.has(fieldConfig.defaults.unit), `${title}: ${fieldConfig.defaults.unit}`).toBe(true);
      expect(description, title).toMatch(/\.$/);
      expect(targets.length, title).toBeGreaterThan(0);
      const refIds = targets.map(({ refId }) => refId);
      expect(new Set(refIds).size, title).toBe(refIds.length);
      for (const { expr, instant, range } of targets) {
        expect(expr).not.toBe('');
        expect([instant, range].filter(Boolean), `${title}: ${expr}`).toHaveLength(1);
      }
    }
  });

  it('asks for metrics that logpipe exports, or an exporter', async () => {
    const own = (await createMetrics().registry.getMetricsAsJSON()).flatMap(({ name, type }) =>
      String(type) === 'histogram' ? histogramNames(name) : [name],
    );
    const ofPlatform = [...MEASURES.values()].flatMap(({ prometheus }) =>
      prometheus === undefined
        ? []
        : prometheus.type === 'histogram'
          ? histogramNames(prometheus.name)
          : [prometheus.name],
    );
    const exported = new Set([...own, ...ofPlatform, 'up']);
    for (const { title, targets } of panels) {
      for (const name of targets.flatMap(({ expr }) => metricNames(expr))) {
        const foreign = /^(node_(cpu|memory|filesystem|network)|mongodb|redis)_/.test(name);
        expect(foreign || exported.has(name), `${title}: ${name}`).toBe(true);
      }
    }
  });
});

it('a line of panels that does not fill the grid is refused', () => {
  const panel = stat({ title: 'A', description: 'A.', w: 10, unit: 'short', queries: [{ expr: 'up', legend: '' }] });
  expect(() =>
    dashboardOf({ uid: 'a', title: 'A', description: 'A.', rows: [{ title: 'R', height: 4, panels: [panel] }] }),
  ).toThrow('row R: its last line is 10 of 24 columns wide');
});

it('the pictures in the docs have every panel', () => {
  for (const [name, { panels }] of dashboards) {
    const picture = readFileSync(join(packageRoot(), 'docs', `grafana-${name.replace('.json', '.svg')}`), 'utf8');
    expect(picture.match(/<rect /g)).toHaveLength(panels.length + 1);
  }
});

function histogramNames(name: string): string[] {
  return ['_bucket', '_sum', '_count'].map((suffix) => name + suffix);
}
