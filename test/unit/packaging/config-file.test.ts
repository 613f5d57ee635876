// biome-ignore-all lint/suspicious/noTemplateCurlyInString: configuration files hold ${VARIABLES}
// The shipped configuration against the schema's defaults, and the loader's promises: all problems at once, no secrets.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadConfig, parseConfig } from '../../../src/config.ts';
import type { Environment } from '../../../src/core/config-loader.ts';
import { LogpipeError } from '../../../src/core/errors.ts';
import { packageRoot } from '../../../src/core/package-root.ts';

const shipped = readFileSync(join(packageRoot(), 'config', 'logpipe.yml'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'logpipe-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const parse = (text: string, env: Environment = {}) => parseConfig(text, env, 'test.yml');

/** The message of the refusal; fails when there is none. */
function refusal(text: string, env: Environment = {}): string {
  try {
    parse(text, env);
  } catch (error) {
    expect(error).toBeInstanceOf(LogpipeError);
    expect((error as LogpipeError).code).toBe('LOGPIPE_CONFIG_INVALID');
    return (error as LogpipeError).message;
  }
  throw new Error(`accepted: ${text}`);
}

function secretFile(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

describe('the shipped file', () => {
  test('refuses a mask pattern that may take exponential time, and no other', () => {
    const message = refusal("mask:\n  patterns: ['[A-Z0-9]+@corp', '(a+)+b']");
    expect(message).toMatch(
      /mask\.patterns\.1: found "\(a\+\)\+b"; may take exponential time, since .*; write what is repeated/,
    );
    expect(message).not.toContain('@corp');
  });

  test('equals the defaults of the code in an empty environment', () => {
    expect(parse(shipped)).toEqual(parse(''));
  });

  test('names every section and key that has a default', () => {
    const written = parse(shipped);
    const text = shipped.replaceAll(/^\s*#.*$/gm, '');
    for (const [section, value] of Object.entries(written)) {
      expect(text).toMatch(new RegExp(`^${section}:`, 'm'));
      const keys = typeof value === 'object' && !Array.isArray(value) ? Object.keys(value) : [];
      for (const key of keys) expect(text, `${section}.${key}`).toMatch(new RegExp(`^  ${key}:`, 'm'));
    }
  });

  test('is what loadConfig takes when no file is named', () => {
    expect(loadConfig({ env: {} })).toEqual(parse(''));
  });

  test('takes addresses, numbers, lists and credentials from the environment', () => {
    const config = parse(shipped, {
      KAFKA_BROKERS: 'kafka-1:9092, kafka-2:9092',
      ELASTICSEARCH_URL: 'https://es-1:9200,https://es-2:9200',
      ELASTICSEARCH_API_KEY_FILE: secretFile('key', 'from-a-file\n'),
      LOGPIPE_HTTP_HOST: '0.0.0.0',
      LOGPIPE_HTTP_PORT: '9999',
      LOGPIPE_FILES: 'a.log,b.log',
      LOGPIPE_SOURCE: 'files',
      KAFKA_REPLICATION_FACTOR: '3',
      LOGPIPE_LOG_LEVEL: 'debug',
    });
    expect(config.kafka.brokers).toEqual(['kafka-1:9092', 'kafka-2:9092']);
    expect(config.kafka.topics.replicationFactor).toBe(3);
    expect(config.elasticsearch.nodes).toEqual(['https://es-1:9200', 'https://es-2:9200']);
    expect(config.elasticsearch.apiKey).toBe('from-a-file');
    expect(config.http).toEqual({ enabled: true, host: '0.0.0.0', port: 9999, allowedHosts: [], page: true });
    expect(config.files.paths).toEqual(['a.log', 'b.log']);
    expect(config.source).toBe('files');
    expect(config.log.level).toBe('debug');
  });

  test('its commented-out parts work when the comment signs are taken away', () => {
    const withSasl = shipped.replaceAll(/^ {2}# (sasl:| {2}(?:mechanism|username|passwordFile):.*)$/gm, '  $1');
    expect(withSasl).not.toBe(shipped);
    const file = secretFile('sasl', 'kafka-secret');
    const { kafka } = parse(withSasl, { KAFKA_USERNAME: 'logpipe', KAFKA_PASSWORD_FILE: file });
    expect(kafka.sasl).toEqual({ mechanism: 'scram-sha-512', username: 'logpipe', password: 'kafka-secret' });
  });
});

describe('the loader', () => {
  test('reports every problem at once, with path, value and what is permitted', () => {
    const message = refusal(`
source: rabbit
shutdownTimeoutMs: -1
kafka: { brokers: ["localhost"], brokerz: x }
bulk: { maxDocuments: many }
http: { port: 70000 }
colour: red
`);
    expect(message).toMatch(/line 2, source: found "rabbit"; permitted: "kafka", "files", "stdin", "otlp"/);
    expect(message).toMatch(/shutdownTimeoutMs: found -1; must be >= 0/);
    expect(message).toMatch(/kafka\.brokers\.0: found "localhost"; permitted: host and port, like/);
    expect(message).toMatch(/line 4, kafka\.brokerz: unknown key; did you mean brokers\? permitted here: .*brokers/);
    expect(message).toMatch(/bulk\.maxDocuments: found "many"; must be a whole number/);
    expect(message).toMatch(/http\.port: found 70000; must be <= 65535/);
    expect(message).toMatch(/colour: unknown key; permitted here: roles, source/);
    expect(message).toMatch(/^test\.yml: \d+ problem/);
  });

  test('an undefined variable is a problem beside the others; an empty one counts as undefined', () => {
    const message = refusal('kafka: { clientId: "${NOWHERE}", group: "${EMPTY}" }\nhttp: { port: -5 }', { EMPTY: '' });
    expect(message).toMatch(/kafka\.clientId: \$\{NOWHERE\} is not set/);
    expect(message).toMatch(/kafka\.group: \$\{EMPTY\} is not set/);
    expect(message).toMatch(/http\.port: found -5/);
  });

  test('variables are replaced after parsing: their text cannot add keys, and is not replaced again', () => {
    const env = { ID: 'x\nhttp: { port: 1 }', NESTED: '${ID}' };
    expect(parse('kafka: { clientId: "${ID}" }', env).kafka.clientId).toBe(env.ID);
    expect(parse('kafka: { clientId: "${ID}" }', env).http.port).toBe(8780);
    expect(parse('kafka: { clientId: "${NESTED}" }', env).kafka.clientId).toBe('${ID}');
  });

  test('a secret comes from its file, without the line end; not from both places', () => {
    const file = secretFile('api-key', 'abc==\n');
    const { elasticsearch } = parse(`elasticsearch: { apiKeyFile: ${file} }`);
    expect(elasticsearch.apiKey).toBe('abc==');
    expect(elasticsearch).not.toHaveProperty('apiKeyFile');
    expect(refusal(`elasticsearch: { apiKey: x, apiKeyFile: ${file} }`)).toMatch(/both apiKey and apiKeyFile are set/);
    expect(refusal('elasticsearch: { apiKeyFile: not/there }')).toMatch(
      /elasticsearch\.apiKeyFile: not\/there cannot be read/,
    );
    expect(refusal('http: { hostFile: x }')).toMatch(/http\.hostFile: unknown key/);
  });

  test('user and password come in pairs, wherever the password comes from', () => {
    expect(refusal('elasticsearch: { username: u }')).toMatch(/elasticsearch\.password: missing/);
    expect(refusal('elasticsearch: { password: p }')).toMatch(/elasticsearch\.username: missing/);
    const file = secretFile('password', 'p');
    expect(parse(`elasticsearch: { username: u, passwordFile: ${file} }`).elasticsearch.password).toBe('p');
  });

  test('never repeats a secret', () => {
    const message = refusal(
      'elasticsearch: { apiKey: [hunter2], password: { deep: hunter2 } }\nkafka: { sasl: { password: [hunter2] } }',
    );
    expect(message).toMatch(/elasticsearch\.apiKey: found \[masked\]/);
    expect(message).toMatch(/kafka\.sasl\.password: found \[masked\]/);
    expect(message).not.toContain('hunter2');
  });

  test('refuses what is not a mapping, broken YAML and duplicate keys', () => {
    expect(refusal('- a\n- b')).toMatch(/mapping of sections/);
    expect(refusal('kafka: [')).toMatch(/test\.yml/);
    expect(refusal('source: kafka\nsource: stdin')).toMatch(/unique/i);
  });

  test('the result is frozen in depth', () => {
    const config = parse('kafka: { brokers: ["a:1"] }');
    expect(() => Object.assign(config.http, { port: 1 })).toThrow(TypeError);
    expect(() => (config.kafka.brokers as string[]).push('b:2')).toThrow(TypeError);
  });
});
