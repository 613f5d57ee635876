// The generated documents: as committed, and listing exactly what the code's closed lists hold.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { describe, expect, test } from 'vitest';
import { configurationPaths, variablesByPath } from '../../../scripts/configuration-docs.ts';
import { EXIT_STATUSES } from '../../../scripts/errors-docs.ts';
import { fieldPaths, ownMetrics } from '../../../scripts/fields-docs.ts';
import { outputs } from '../../../scripts/outputs.ts';
import { CONFIG_SCHEMA } from '../../../src/config.ts';
import { EVENTS, type EventName, TAGS } from '../../../src/core/catalogue.ts';
import { ERROR_CODES } from '../../../src/core/errors.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { DEAD_LETTER_REASONS, DROP_REASONS } from '../../../src/core/record.ts';
import { FAILURE_REASONS } from '../../../src/indexing/outcome.ts';
import { SHAPE_KEYS } from '../../../src/parse/shapes.ts';
import { eventSchema } from '../../../src/tag/tag.ts';
import { MEASURES, RULES } from '../rules/kit.ts';

const read = (path: string) => readFileSync(join(packageRoot(), path), 'utf8');

/** The names in the first column of the table(s) under a heading, in their order. */
function firstColumn(path: string, heading: string): string[] {
  const section = read(path)
    .split(/^(?=## )/m)
    .find((part) => part.startsWith(`## ${heading}\n`));
  if (section === undefined) throw new Error(`${path} has no heading ${heading}`);
  return [...section.matchAll(/^\| `([^`]+)`/gm)].map(([, name]) => name!);
}

describe('generated files', () => {
  test.each(Object.entries(outputs()))('%s is what the generator writes', (path, content) => {
    expect(existsSync(join(packageRoot(), path)), 'run npm run generate').toBe(true);
    expect(read(path)).toBe(content);
  });

  test('the same bytes every time, with Unix line ends and one at the end', () => {
    expect(outputs()).toEqual(outputs());
    for (const content of Object.values(outputs())) {
      expect(content).toMatch(/[^\n]\n$/);
      expect(content).not.toMatch(/\r|[ \t]\n/);
    }
  });
});

const readingNames = [...MEASURES.values()]
  .filter((measure) => 'internal' in measure && measure.internal)
  .map(({ name }) => name);

describe('the documents list exactly', () => {
  test.each([
    ['docs/errors.md', 'Error codes', Object.keys(ERROR_CODES)],
    ['docs/errors.md', 'Dead letters', DEAD_LETTER_REASONS],
    ['docs/errors.md', 'Drops', DROP_REASONS],
    ['docs/errors.md', 'When Elasticsearch does not take documents', FAILURE_REASONS],
    ['docs/fields.md', 'Fields', fieldPaths().map(([path]) => path)],
    ['docs/fields.md', 'Tags', TAGS],
    ['docs/fields.md', 'Events', Object.keys(EVENTS)],
    ['docs/fields.md', 'Shapes that are understood', SHAPE_KEYS],
    ['docs/fields.md', 'Metrics of logpipe', ownMetrics().map(({ name }) => name)],
    ['docs/events.md', 'What each event feeds', Object.keys(EVENTS)],
    ['docs/events.md', 'Measures', [...MEASURES.keys()].filter((name) => !readingNames.includes(name))],
    ['docs/events.md', 'Readings that come from no event', readingNames],
  ])('%s, %s', (path, heading, names) => {
    expect(names.length).toBeGreaterThan(0);
    expect(firstColumn(path, heading)).toEqual([...names]);
  });

  test('docs/events.md, every rule that reads a measure', () => {
    const text = read('docs/events.md');
    for (const { id, kind } of RULES) expect(text.includes(`\`${id}\``), id).toBe(kind !== 'late');
  });

  test('docs/fields.md, the schema of every event, none of which takes a document that carries nothing', () => {
    const published = [...read('docs/fields.md').matchAll(/^### Schema of `([^`]+)`\n\n```json\n([\s\S]*?)\n```$/gm)];
    expect(published.map(([, name]) => name)).toEqual(Object.keys(EVENTS));
    for (const [, name, text] of published) {
      const schema = JSON.parse(text!) as { required: string[] };
      expect(schema).toEqual(eventSchema(EVENTS[name as EventName].required));
      expect(new Ajv({ strict: true }).compile(schema)({}), name).toBe(false);
    }
  });

  test('docs/errors.md, the exit statuses', () => {
    const listed = [...read('docs/errors.md').matchAll(/^\| (\d) \|/gm)].map(([, status]) => Number(status));
    expect(listed).toEqual(Object.keys(EXIT_STATUSES).map(Number));
    // Statuses that the command line sets by itself; 0 needs no setting.
    const sources = ['src/main.ts', 'src/cli/stack.ts'].map(read).join('\n');
    for (const status of [1, 2, 3]) expect(sources).toMatch(new RegExp(`[?:]\\s*${status}\\b|return ${status}\\b`));
  });

  test('docs/configuration.md, every key of the schema, with its variable', () => {
    const text = read('docs/configuration.md');
    const listed = [...text.matchAll(/^\| `([\w.]+)`/gm)].map(([, path]) => path!);
    const sections = [...text.matchAll(/^## `(\w+)`$/gm)].map(([, name]) => name!);
    expect([...listed, ...sections].sort()).toEqual(configurationPaths(CONFIG_SCHEMA).sort());
    expect(listed).toEqual(expect.arrayContaining(['kafka.ssl.caFile', 'kafka.sasl.password', 'sinks.console.format']));
    for (const variable of variablesByPath(read('config/logpipe.yml')).values())
      expect(text).toContain(`\`${variable}\``);
  });

  test('docs/configuration.md, every secret as one that also comes from a file', () => {
    const secrets = [...read('docs/configuration.md').matchAll(/^\| `([\w.]+)` 🔒 .*$/gm)];
    expect(secrets.map(([, path]) => path)).toEqual([
      'kafka.sasl.password',
      'otlp.tokens',
      'elasticsearch.apiKey',
      'elasticsearch.password',
      'alerts.heartbeatUrl',
      'monitor.redisUrl',
      'notify.slack.webhookUrl',
      'notify.pagerduty.integrationKey',
      'notify.pagerduty.webhookSecrets',
      'notify.email.password',
      'notify.webhook.url',
      'kibana.apiKey',
      'kibana.password',
      'http.linkSecrets',
    ]);
    for (const [line, path] of secrets) expect(line).toContain(`\`${path!.split('.').at(-1)}File\``);
  });

  test('every key of the schema says what it means', () => {
    const rows = read('docs/configuration.md')
      .split('\n')
      .filter((line) => /^\| `/.test(line));
    for (const row of rows) expect(row).not.toMatch(/\| {2}\|$/);
  });
});
