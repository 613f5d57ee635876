// The shipped files for Amazon's CloudWatch agent, against the schema its makers publish and the operators' guide, word by
// word. The schema is the agent's own (aws/amazon-cloudwatch-agent, translator/config/schema.json, MIT). No AWS is asked.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ajvDraft04 from 'ajv-draft-04';
import { expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { packageRoot } from '../../../src/core/package-root.ts';
import { MEASURES } from '../rules/kit.ts';

// Draft 4 of JSON Schema, which Ajv itself no longer reads; a CommonJS module without named exports.

const read = (path: string) => readFileSync(join(packageRoot(), path), 'utf8');
const agent = JSON.parse(read('config/cloudwatch/amazon-cloudwatch-agent.json'));
const intake = JSON.parse(read('config/cloudwatch/prometheus-intake.json'));
const validate = new ajvDraft04.default({ strict: false, allErrors: true }).compile(
  JSON.parse(read('test/fixtures/cloudwatch-agent.schema.json')),
);
const problems = (document: unknown) => (validate(document) ? [] : validate.errors);

test('the agent’s file says exactly what the operators’ guide asks for', () => {
  const { metrics, logs } = agent;
  expect(metrics).toEqual({
    namespace: 'CallingPlatform',
    metrics_collected: {
      cpu: { measurement: [{ name: 'cpu_usage_idle', rename: 'CPU_IDLE', unit: 'Percent' }], totalcpu: false },
      disk: { measurement: [{ name: 'used_percent', rename: 'DISK_USED', unit: 'Percent' }] },
      mem: { measurement: [{ name: 'mem_used_percent', rename: 'MEM_USED', unit: 'Percent' }] },
    },
  });
  expect(logs.logs_collected.files.collect_list).toEqual([
    {
      file_path: '/var/log/calling-platform/app.log',
      log_group_name: '/calling-platform/app',
      log_stream_name: '{instance_id}',
    },
  ]);
});

test('both files fit Amazon’s schema, alone and appended to each other as the agent does it', () => {
  expect(problems(agent)).toEqual([]);
  expect(problems(intake)).toEqual([]);
  expect(problems({ ...agent, logs: { ...agent.logs, ...intake.logs } })).toEqual([]);
});

test('the schema does refuse what is wrong', () => {
  const wrong = [
    (copy: typeof agent) => Object.assign(copy.metrics.metrics_collected.cpu, { totalcpu: 'no' }),
    (copy: typeof agent) => Object.assign(copy.logs.logs_collected.files.collect_list[0], { log_group: 'x' }),
    (copy: typeof agent) => Object.assign(copy.logs, { logs: {} }),
    (copy: typeof agent) => Object.assign(copy.metrics.metrics_collected.mem, { measurement: 'mem_used_percent' }),
  ];
  for (const spoil of wrong) {
    const copy = structuredClone(agent);
    spoil(copy);
    expect(problems(copy), JSON.stringify(copy)).not.toEqual([]);
  }
});

test('the intake selects metrics that logpipe serves, by labels they have', () => {
  const served = new Map(
    [...MEASURES.values()].flatMap(({ prometheus }) => (prometheus ? [[prometheus.name, prometheus.labels]] : [])),
  );
  const { prometheus_config_path: path, emf_processor: emf } = intake.logs.metrics_collected.prometheus;
  const scrape = parseYaml(read(join('config/cloudwatch', path.split('/').at(-1))));
  const [job] = scrape.scrape_configs;
  expect(job).toMatchObject({ metrics_path: '/metrics/platform', honor_labels: true });
  expect(Object.keys(emf.metric_unit).filter((name) => !served.has(name))).toEqual([]);
  for (const { source_labels, label_matcher, dimensions, metric_selectors } of emf.metric_declaration) {
    expect(source_labels).toEqual(['job']);
    expect(job.job_name).toMatch(new RegExp(label_matcher));
    for (const selector of metric_selectors) {
      const names = [...served.keys()].filter((name) => new RegExp(selector).test(name));
      expect(names, selector).toHaveLength(1);
      const labels = [...Object.keys(served.get(names[0]!) ?? {}), ...Object.keys(job.static_configs[0].labels)];
      expect(labels).toEqual(expect.arrayContaining(dimensions.flat()));
    }
  }
});
