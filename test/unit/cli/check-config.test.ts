// biome-ignore-all lint/suspicious/noTemplateCurlyInString: configuration files hold ${VARIABLES}
// What `check-config` tells a person whose configuration is nearly right.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { checkConfig, unreadVariables } from '../../../src/cli/check-config.ts';
import { CONFIG_SCHEMA } from '../../../src/config.ts';
import type { Schema } from '../../../src/core/config-loader.ts';
import { MEASURES_SCHEMA } from '../../../src/measure/measure-config.ts';
import { RULES_SCHEMA } from '../../../src/rules/rule-types.ts';

interface Files {
  readonly main: string;
  readonly measures?: string;
  readonly rules?: string;
}

async function check(files: Files, env: Record<string, string> = {}, json = false) {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-check-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = (name: string) => join(folder, `${name}.yml`);
  for (const [name, text] of Object.entries(files)) writeFileSync(path(name), text.replaceAll('FOLDER', folder));
  const [out, err]: [string[], string[]] = [[], []];
  const io = { out: (line: string) => void out.push(line), err: (line: string) => void err.push(line) };
  const status = await checkConfig({ config: path('main'), json, connect: false }, io, { env });
  const plain = (lines: string[]) => lines.join('\n').replaceAll(folder, 'FOLDER');
  return { status, out: plain(out), err: plain(err) };
}

const WRONG: Files = {
  main: `source: kafak
kafka:
  broker: a:1
  topics: { minInsyncReplicas: 2 }
intake:
  heartbeatMs: 10000
nodes: [x]
http:
  port: \${PORT}
log: { level: INFOO }
alerts: { measuresFile: FOLDER/measures.yml, rulesFile: FOLDER/rules.yml }
`,
  measures: 'measures:\n  calls:\n    kind: countr\n',
  rules: 'rules: []\n',
};

test('all problems of all files in one go: line, place, what was found and from where, what was probably meant', async () => {
  const { status, err } = await check(WRONG, { PORT: '99999' });
  expect(status).toBe(2);
  const lines = [
    /FOLDER\/main\.yml: 7 problem\(s\)/,
    /line 1, source: found "kafak"; permitted: "kafka", "files", "stdin", "otlp"; did you mean "kafka"\?/,
    /line 3, kafka\.broker: unknown key; did you mean brokers\?/,
    /line 4, kafka\.topics\.minInsyncReplicas: found 2; .*kafka\.topics\.replicationFactor = 1/,
    /line 6, intake\.heartbeatMs: found 10000; .*intake\.sessionTimeoutMs is 10000/,
    /line 7, nodes: unknown key; did you mean elasticsearch\.nodes\?/,
    /line 9, http\.port: found 99999 from PORT; must be <= 65535/,
    /line 10, log\.level: found "INFOO"; .*did you mean "info"\?/,
    /FOLDER\/measures\.yml: 1 problem\(s\)/,
    /line 3, measures\.calls\.kind: found "countr"; .*did you mean "counter"\?/,
    /8 problem\(s\) in all \[LOGPIPE_CONFIG_INVALID\]/,
  ];
  const found = err.split('\n').filter((line) => !line.startsWith('warning:'));
  expect(found).toHaveLength(lines.length);
  for (const [i, line] of lines.entries()) expect(found[i]).toMatch(line);
});

test('alternatives are one problem, and everything is said in words', async () => {
  const { err } = await check({
    main: 'kafka: { ssl: yes }\nroles: []\nlog: { level: 7 }\nhttp: { enabled: maybe }\n',
    rules: '',
  });
  const said = err.split('\n').filter((line) => line.startsWith('  - '));
  expect(said).toEqual([
    expect.stringMatching(/kafka\.ssl: found .*; permitted: false, or a mapping of keys$/),
    expect.stringMatching(/roles: found a list of 0; needs 1 at least$/),
    expect.stringMatching(/log\.level: found 7; permitted: "error"/),
    expect.stringMatching(/http\.enabled: found "maybe"; must be true or false$/),
  ]);
});

test('--json has the same problems, each in parts', async () => {
  const { status, out } = await check(WRONG, { PORT: '99999' }, true);
  expect(status).toBe(2);
  const result = JSON.parse(out);
  expect(result).toMatchObject({ ok: false, file: 'FOLDER/main.yml', routing: [] });
  expect(result.problems).toHaveLength(8);
  expect(result.problems[0]).toEqual({
    file: 'FOLDER/main.yml',
    path: 'source',
    line: 1,
    value: '"kafak"',
    message: 'permitted: "kafka", "files", "stdin", "otlp"',
    fix: 'did you mean "kafka"?',
  });
});

test('what was read, whom each priority reaches, and why not the others', async () => {
  const { status, out, err } = await check({
    main: 'notify: { slack: { webhookUrl: "https://hooks.example/x" }, console: { enabled: true } }',
  });
  expect([status, err]).toEqual([0, '']);
  const lines = out.split('\n');
  expect(lines[0]).toBe('configuration  FOLDER/main.yml (named by --config)');
  expect(lines[1]).toMatch(/^measures {7}.*config\/measures\.yml \(.*; \d+ measures\)$/);
  expect(lines[2]).toMatch(/^rules {10}.*config\/rules\.yml \(.*; \d+ rules\)$/);
  expect(lines[3]).toMatch(/^routing {8}.*config\/routing\.yml \(of this folder; 1 team, 0 people\)$/);
  expect(lines[4]).toMatch(
    /^P1 \(\d+ rules\) +reaches slack, console; not: pagerduty without notify\.pagerduty\.integrationKey, email without notify\.email\.host, alertmanager without notify\.alertmanager\.urls, webhook without notify\.webhook\.url$/,
  );
  expect(lines[5]).toMatch(/^P2 \(\d+ rules\) +reaches slack, console; not: email/);
  expect(lines[7]).toMatch(/^P4 .* reaches nobody: the daily mail has no recipient$/);
  expect(lines[8]).toBe('the configuration is fine');
});

test('certificates that are none are found before anybody connects with them', async () => {
  const main = 'kafka: { ssl: { caFile: /not/there.pem } }\nelasticsearch: { caFile: FOLDER/main.yml }';
  const { status, err } = await check({ main });
  expect(status).toBe(2);
  expect(err).toMatch(
    /kafka\.ssl\.caFile: found "\/not\/there\.pem"; cannot be read \(there is no such file or folder, ENOENT\)/,
  );
  expect(err).toMatch(/elasticsearch\.caFile: found "FOLDER\/main\.yml"; is no PEM file/);
});

test('a pager that nobody carries is a warning', async () => {
  const { status, err } = await check({ main: 'source: kafka' });
  expect(status).toBe(0);
  expect(err).toMatch(/^warning: notify: alerts of P1, P2, P3 reach nobody now; set notify\.\w+/);
});

test('variables that look as if they were read', () => {
  const files = [{ file: 'my.yml', text: 'kafka: { brokers: "${KAFKA_BROKERS}" }\n# ${ELASTICSEARCH_URL}' }];
  const set = (...names: string[]) => unreadVariables(Object.fromEntries(names.map((name) => [name, 'x'])), files);
  expect(
    set('KAFKA_BROKERS', 'HOME', 'PATH', 'NODE_ENV', 'NODE_OPTIONS', 'KAFKA_OPTS', 'KAFKA_HOME', 'LOGPIPE_CONFIG'),
  ).toEqual([]);
  expect(set('KAFKA_BROKER')).toEqual(['KAFKA_BROKER is set, but nothing reads it; did you mean KAFKA_BROKERS?']);
  expect(set('ELASTICSEARCH_URLS')).toEqual([
    'ELASTICSEARCH_URLS is set, but nothing reads it; did you mean ELASTICSEARCH_URL?',
  ]);
  expect(set('KAFKA_BOOTSTRAP_SERVERS')[0]).toMatch(/did you mean KAFKA_BROKERS\?/);
  expect(set('LOGPIPE_LOGLEVEL')[0]).toMatch(/did you mean LOGPIPE_LOG_LEVEL\?/);
  expect(set('LOGPIPE_XYZZY')).toEqual(['LOGPIPE_XYZZY is set, but nothing reads it']);
  expect(set('ELASTICSEARCH_URL')).toEqual([
    'ELASTICSEARCH_URL is set, but my.yml does not speak of it; write ${ELASTICSEARCH_URL} at the key it is meant for',
  ]);
});

test('a pattern is never shown to people: each has words', () => {
  const without: string[] = [];
  const walk = (schema: unknown, path: string) => {
    if (typeof schema !== 'object' || schema === null) return;
    const { pattern, permitted } = schema as Schema;
    if (typeof pattern === 'string' && permitted === undefined) without.push(path);
    for (const [key, inner] of Object.entries(schema)) walk(inner, `${path}.${key}`);
  };
  for (const [name, schema] of Object.entries({ CONFIG_SCHEMA, MEASURES_SCHEMA, RULES_SCHEMA })) walk(schema, name);
  expect(without).toEqual([]);
});
