// The shipped prometheus.yml as data, with one of the two sources of the application's metrics enabled as its comments say.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { packageRoot } from '../../src/core/package-root.ts';

/** From the application's own /metrics, or from logpipe's /metrics/platform. */
export type PlatformWay = 'metrics' | 'platform';

export interface PrometheusConfig {
  global: { scrape_interval: string; evaluation_interval: string };
  rule_files?: string[];
  scrape_configs: {
    job_name: string;
    static_configs: { targets: string[]; labels?: Record<string, string> }[];
    [setting: string]: unknown;
  }[];
}

export function shippedPrometheusConfig(way: PlatformWay): PrometheusConfig {
  const text = readFileSync(join(packageRoot(), 'config/prometheus/prometheus.yml'), 'utf8');
  return parseYaml(way === 'metrics' ? text : turnedOver(text)) as PrometheusConfig;
}

/** What an operator does by hand: comments a) out, and b) in. */
function turnedOver(text: string): string {
  const own = /^( +)(- targets: \["localhost:3000"\]\n +labels: .*)$/m;
  const logged = /^( +)# (- targets: \["localhost:8780"\])\n +# ( +labels: .*)$/m;
  if (!own.test(text) || !logged.test(text))
    throw new Error('prometheus.yml no longer has the two ways to the application');
  return text
    .replace(own, (block) => block.replaceAll(/^ +/gm, (indent) => `${indent}# `))
    .replace(logged, '$1$2\n$1$3');
}
