// config/prometheus as text: the jobs that the operators' guide asks for at their ports, exactly one way to the application's
// metrics, rules with runbooks. promtool reads the same files in test/integration/prometheus-rules.test.ts.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { parseConfig } from '../../../src/config.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { shippedPrometheusConfig } from '../../kit/prometheus-config.ts';

const read = (path: string) => readFileSync(join(packageRoot(), 'config/prometheus', path), 'utf8');

describe('prometheus.yml', () => {
  it('asks five jobs every 15 seconds', () => {
    const { global, scrape_configs } = shippedPrometheusConfig('metrics');
    expect(global.scrape_interval).toBe('15s');
    const targets = scrape_configs.map(({ job_name, static_configs }) => [job_name, static_configs[0]!.targets]);
    expect(Object.fromEntries(targets)).toEqual({
      'calling-platform': ['localhost:3000'],
      'node-exporter': ['localhost:9100'],
      'mongodb-exporter': ['localhost:9216'],
      'redis-exporter': ['localhost:9121'],
      logpipe: [`localhost:${parseConfig('', {}, 'defaults').http.port}`],
    });
  });

  it('has exactly one of the two ways to the application enabled, as shipped and when turned over', () => {
    for (const [way, target, labels] of [
      ['metrics', 'localhost:3000', { environment: 'production' }],
      ['platform', 'localhost:8780', { environment: 'production', __metrics_path__: '/metrics/platform' }],
    ] as const) {
      const { scrape_configs } = shippedPrometheusConfig(way);
      const jobs = scrape_configs.filter(({ job_name }) => job_name === 'calling-platform');
      expect(jobs).toHaveLength(1);
      expect(jobs[0]!.static_configs).toEqual([{ targets: [target], labels }]);
    }
  });

  it('loads the rules about the pipeline and not the platform’s thresholds', () => {
    expect(shippedPrometheusConfig('metrics').rule_files).toEqual(['rules/*.yml']);
    expect(parseYaml(read('prometheus.compose.yml'))).toMatchObject({ rule_files: ['rules/*.yml'] });
  });
});

describe.each(['rules/logpipe-alerts.yml', 'platform-thresholds.yml'])('%s', (file) => {
  const { groups } = parseYaml(read(file)) as {
    groups: { rules: { alert: string; labels: { severity: string }; annotations: { runbook: string } }[] }[];
  };
  const alerts = groups.flatMap(({ rules }) => rules);
  const { tests } = parseYaml(read(`tests/${file.replace(/^.*\//, '').replace('.yml', '.test.yml')}`)) as {
    tests: { alert_rule_test?: { alertname: string; exp_alerts: object[] }[] }[];
  };
  const cases = tests.flatMap(({ alert_rule_test = [] }) => alert_rule_test);

  it('has alerts with names of their own', () => {
    expect(alerts.length).toBeGreaterThanOrEqual(8);
    expect(new Set(alerts.map(({ alert }) => alert)).size).toBe(alerts.length);
  });

  it.each(alerts.map((alert) => [alert.alert, alert] as const))(
    '%s has a severity, a runbook, and a test of firing and of silence',
    (name, alert) => {
      expect(['warning', 'critical']).toContain(alert.labels.severity);
      expect(existsSync(join(packageRoot(), alert.annotations.runbook)), alert.annotations.runbook).toBe(true);
      const own = cases.filter(({ alertname }) => alertname === name);
      expect(own.some(({ exp_alerts }) => exp_alerts.length > 0)).toBe(true);
      expect(own.some(({ exp_alerts }) => exp_alerts.length === 0)).toBe(true);
    },
  );
});
