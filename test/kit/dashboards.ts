// The shipped Grafana dashboards as data, and which metrics a query asks for.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/core/package-root.ts';

export const SHIPPED_DASHBOARDS = ['calling-platform.json', 'logpipe.json'] as const;

export interface DashboardPanel {
  id: number;
  type: string;
  title: string;
  description: string;
  datasource: unknown;
  options: object;
  gridPos: { x: number; y: number; w: number; h: number };
  fieldConfig: { defaults: { unit: string } };
  targets: { expr: string; refId: string; datasource: unknown; instant?: boolean; range?: boolean }[];
}

export interface DashboardFile {
  uid: string;
  title: string;
  templating: { list: object[] };
  panels: DashboardPanel[];
}

export function readDashboard(name: (typeof SHIPPED_DASHBOARDS)[number]): DashboardFile {
  return JSON.parse(readFileSync(join(packageRoot(), 'config/grafana/dashboards', name), 'utf8')) as DashboardFile;
}

/** Names of metrics in PromQL: words that are neither functions, keywords nor labels. */
export function metricNames(expr: string): string[] {
  const bare = expr
    .replaceAll(/"[^"]*"/g, '')
    .replaceAll(/\{[^}]*\}/g, '')
    .replaceAll(/\[[^\]]*\]/g, '')
    .replaceAll(/\b(by|without|on|ignoring)\s*\([^)]*\)/g, '');
  const words = bare.match(/\b[a-z_:][\w:]*\b(?!\s*\()/gi) ?? [];
  return [...new Set(words.filter((word) => !/^(or|and|unless|offset|bool)$/.test(word)))];
}
