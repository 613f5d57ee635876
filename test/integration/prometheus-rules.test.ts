// config/prometheus as promtool reads it: configuration, rules, and the tests of the rules.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { stringify } from 'yaml';
import { packageRoot } from '../../src/core/package-root.ts';
import { promtool } from '../kit/prometheus.ts';
import { shippedPrometheusConfig } from '../kit/prometheus-config.ts';

const FOLDER = join(packageRoot(), 'config/prometheus');

it.each(['prometheus.yml', 'prometheus.compose.yml'])(
  '%s is a configuration, with the rules it loads',
  async (file) => {
    const said = await promtool(['check', 'config', '--lint=all', '--lint-fatal', file], FOLDER);
    expect(said).toContain(`${file} is valid`);
    expect(said).toContain('rules/logpipe-alerts.yml');
  },
);

it('prometheus.yml is one too with the other way to the application enabled', async () => {
  const folder = copy();
  writeFileSync(join(folder, 'prometheus.yml'), stringify(shippedPrometheusConfig('platform')));
  expect(await promtool(['check', 'config', 'prometheus.yml'], folder)).toContain('prometheus.yml is valid');
});

it('the platform’s thresholds are rules', async () => {
  expect(await promtool(['check', 'rules', '--lint=all', '--lint-fatal', 'platform-thresholds.yml'], FOLDER)).toMatch(
    /SUCCESS: \d+ rules found/,
  );
});

const tests = readdirSync(join(FOLDER, 'tests'));

it.each(tests)('%s holds', async (file) => {
  expect(await promtool(['test', 'rules', file], join(FOLDER, 'tests'))).toContain('SUCCESS');
});

it('a rule that is changed fails its tests', async () => {
  const folder = copy();
  const rules = join(folder, 'rules/logpipe-alerts.yml');
  const text = readFileSync(rules, 'utf8');
  writeFileSync(rules, text.replace('logpipe_spool_used_ratio >= 0.8', 'logpipe_spool_used_ratio > 0.8'));
  await expect(promtool(['test', 'rules', 'logpipe-alerts.test.yml'], join(folder, 'tests'))).rejects.toThrow(
    /FAILED[\s\S]*LogpipeSpoolFilling/,
  );
});

function copy(): string {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-rules-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(FOLDER, folder, { recursive: true });
  return folder;
}
