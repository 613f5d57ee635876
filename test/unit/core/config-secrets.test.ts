// biome-ignore-all lint/suspicious/noTemplateCurlyInString: configuration files hold ${VARIABLES}
// A secret of the configuration shows nowhere: not in a refusal, not in `check-config`, not in logpipe's own log.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, test, vi } from 'vitest';
import { checkConfig, clearTextWarnings } from '../../../src/cli/check-config.ts';
import { CONFIG_SCHEMA, parseConfig } from '../../../src/config.ts';
import { secretsIn, withKnownSecrets, withoutSecrets } from '../../../src/core/config-loader.ts';
import { createLog } from '../../../src/core/log.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';

/** Looks like no secret that a pattern knows: only its place says what it is. */
const SECRET = ['opal', 'heron', '17'].join('-');

function refusal(text: string, env: Record<string, string> = {}): string {
  try {
    parseConfig(text, env, 'test.yml');
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error(`accepted: ${text}`);
}

describe('a refusal never repeats', () => {
  const sasl = 'kafka: { sasl: { mechanism: plain, username: u, password: &s';
  test.each<[what: string, yaml: string, says: RegExp, env?: Record<string, string>]>([
    ['the value of a key with a spelling mistake', `elasticsearch: { pasword: ${SECRET} }`, /pasword: unknown key/],
    ['a text in the place of a section', `notify: ${SECRET}`, /notify: found a text/],
    ['a text within a list in the place of a section', `notify: [${SECRET}]`, /notify: found a list of 1/],
    ['a section in the place of a text', `http: { host: { password: ${SECRET} } }`, /http\.host: found a mapping/],
    ['an alias of a secret', `${sasl} ${SECRET} } }\nhttp: { port: *s }`, /http\.port: found \[masked\]/],
    ['an alias of a number', `${sasl} "314159" } }\nhttp: { port: 80, host: [*s] }`, /http\.host: found a list/],
    [
      'an alias within a text',
      `${sasl} ${SECRET} } }\nlog: { level: x${SECRET}y }`,
      /log\.level: found "x\[masked\]y"/,
    ],
    ['an alias without an anchor', `elasticsearch: { password: *${SECRET} }`, /alias/],
    ['a tag', `elasticsearch: { username: u, password: !${SECRET} }`, /test\.yml:1:\d+: begins with !/],
    ['a line that is no YAML', `elasticsearch:\n  password: "${SECRET}\n  x: y: ${SECRET}: z`, /test\.yml:\d+:\d+:/],
    ['a reserved sign', `elasticsearch:\n  password: @${SECRET}`, /test\.yml:2:\d+: begins with a character/],
    ['a key twice', `${SECRET}: 1\n${SECRET}: 2`, /test\.yml:2:1: repeats a key/],
    ['user and password of an address', `elasticsearch: { nodes: ["ftp://elastic:${SECRET}@es:9200"] }`, /masked\]@es/],
    ['those of an address without scheme', `elasticsearch: { nodes: ["elastic:p/@${SECRET}@es:9200"] }`, /masked\]@es/],
    [
      'what a variable holds, put elsewhere',
      'http: { port: "${SMTP_PASS}" }',
      /http\.port: found/,
      { SMTP_PASS: SECRET },
    ],
    ['a secret in the place of its file', `elasticsearch: { username: u, passwordFile: ${SECRET} }`, /cannot be read/],
    ['a header', `notify: { webhook: { headers: { "X ${SECRET}": a } } }`, /headers/],
    ['a value that is no header', `notify: { webhook: { headers: { X-Key: "${SECRET}\u00e9" } } }`, /X-Key/],
    ['a long key', `elasticsearch: { ? "${SECRET.repeat(9)}" : 1 }`, /a key of \d+ characters/],
  ])('%s', (_, yaml, says, env) => {
    const message = refusal(yaml, env);
    expect(message).toMatch(says);
    expect(message).not.toContain(SECRET);
    expect(message).not.toContain('314159');
  });

  it('and neither nesting nor aliases of aliases do more than be refused', () => {
    expect(refusal(`notify: ${'['.repeat(20_000)}`)).toMatch(/test\.yml/);
    expect(refusal(`notify: ${'['.repeat(5_000)}${']'.repeat(5_000)}`)).toMatch(/test\.yml/);
    const levels = Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`).join(',')}]`);
    expect(refusal(`a0: &a0 x\n${levels.join('\n')}`)).toMatch(/too many/);
    expect(refusal('__proto__: { roles: [x] }')).toMatch(/__proto__: unknown key/);
  });

  it('still says what it found where that helps', () => {
    expect(refusal('http: { port: 99999 }')).toContain('http.port: found 99999');
    expect(refusal('log: { level: loud }')).toContain('log.level: found "loud"; permitted: "error"');
  });
});

/** Secrets in every place that has one, and copies of them in places that have none. */
const FULL = `
elasticsearch: { nodes: ["https://u:${SECRET}a/b@es:9200"], username: &copy ${SECRET}, password: *copy }
kafka: { ssl: {}, clientId: "c-${SECRET}", sasl: { mechanism: plain, username: u, password: ${SECRET} } }
notify:
  slack: { webhookUrl: "https://slack.example/${SECRET}" }
  webhook: { url: "https://hook.example/${SECRET}", headers: { X-Custom: ${SECRET} } }
  kibanaUrl: "https://u:${SECRET}@kibana.example/"
monitor: { redisUrl: "redis://:${SECRET}@localhost" }
`;

/** What the command says of a file with this text. */
async function checked(text: string, json: boolean) {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-secrets-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'test.yml');
  writeFileSync(file, text);
  const [out, err]: [string[], string[]] = [[], []];
  const io = { out: (line: string) => void out.push(line), err: (line: string) => void err.push(line) };
  await checkConfig({ config: file, json, connect: false }, io, { env: {} });
  return { out, err };
}

test('check-config --json shows no secret, nor where an alias has copied it to', async () => {
  const config = parseConfig(FULL, {}, 'test.yml');
  const { out, err } = await checked(FULL, true);
  expect([...out, ...err].join()).not.toContain(SECRET);
  const { configuration: shown } = JSON.parse(out.join());
  expect(shown.elasticsearch.nodes).toEqual(['https://[masked]@es:9200']);
  expect(shown.elasticsearch.username).toBe('[masked]');
  expect(shown.http).toEqual(config.http);
});

test('what is fine is shown as it is', () => {
  const config = parseConfig('', {}, 'test.yml');
  expect(withoutSecrets(config, CONFIG_SCHEMA)).toEqual(config);
});

test('logpipe’s own log masks messages and what comes with them, and a terminal acts upon nothing in it', () => {
  const written: string[] = [];
  const spy = vi.spyOn(process.stderr, 'write').mockImplementation((text) => written.push(String(text)) > 0);
  const console_ = (console as unknown as { _stderr: { write: unknown } })._stderr;
  const spyToo = vi
    .spyOn(console_ as typeof process.stderr, 'write')
    .mockImplementation((text) => written.push(String(text)) > 0);
  try {
    const masker = withKnownSecrets(createMasker(), secretsIn(parseConfig(FULL, {}, 'test.yml'), CONFIG_SCHEMA));
    for (const format of ['json', 'pretty'] as const) {
      const log = createLog({ level: 'info', format }, masker);
      log.error(`refused ${SECRET}\u001b[2J\u202e\u2028`, {
        error: new Error(`${SECRET}\u009b`),
        deep: { password: 'x1' },
      });
      log.debug('not written');
    }
  } finally {
    spy.mockRestore();
    spyToo.mockRestore();
  }
  const text = written.join('');
  expect(text).toContain('refused [masked]\\u001b[2J\\u202e\\u2028');
  expect(text).not.toContain(SECRET);
  expect(text).not.toContain('x1');
  expect(text.replaceAll('\n', '')).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u202e]/);
  expect(JSON.parse(written[0]!)).toMatchObject({ level: 'error', deep: { password: '[masked]' } });
  expect(text).not.toContain('not written');
});

describe('credentials in clear text', () => {
  const warned = (text: string) =>
    clearTextWarnings(parseConfig(text, {}, 'test.yml')).map((line) => line.split(':')[0]);
  const login = 'username: u, password: p';
  test.each<[yaml: string, places: string[]]>([
    [`elasticsearch: { nodes: ["http://es:9200"], ${login} }`, ['elasticsearch.nodes']],
    ['elasticsearch: { nodes: ["https://a:9200", "http://es.example:9200"], apiKey: k }', ['elasticsearch.nodes']],
    ['elasticsearch: { nodes: ["http://u:p@es.example:9200"] }', ['elasticsearch.nodes']],
    [`elasticsearch: { nodes: ["http://localhost:9200", "http://[::1]:9200", "http://127.0.0.9:1"], ${login} }`, []],
    [`elasticsearch: { nodes: ["https://es:9200"], ${login} }`, []],
    ['elasticsearch: { nodes: ["http://es:9200"] }', []],
    [`kafka: { brokers: ["k:9092"], sasl: { mechanism: plain, ${login} } }`, ['kafka.sasl']],
    [`kafka: { brokers: ["k:9092"], sasl: { mechanism: scram-sha-512, ${login} } }`, ['kafka.sasl']],
    [`kafka: { brokers: ["k:9092"], ssl: {}, sasl: { mechanism: plain, ${login} } }`, []],
    [`kafka: { brokers: ["localhost:9092"], sasl: { mechanism: plain, ${login} } }`, []],
    ['notify: { webhook: { url: "http://hook.example/x" } }', ['notify.webhook.url']],
    [
      'notify: { webhook: { url: "http://localhost:9/x" }, slack: { webhookUrl: "http://s.example/x" } }',
      ['notify.slack.webhookUrl'],
    ],
    ['notify: { pagerduty: { url: "http://pd.example/x", integrationKey: k } }', ['notify.pagerduty.url']],
    ['alerts: { heartbeatUrl: "http://beat.example/x" }', ['alerts.heartbeatUrl']],
    ['monitor: { redisUrl: "redis://:p@redis.example" }', ['monitor.redisUrl']],
    [`kibana: { url: "http://kibana.example", ${login} }`, ['kibana.url']],
    ['', []],
  ])('%s', (yaml, places) => {
    expect(warned(yaml)).toEqual(places);
  });

  it('are said by check-config on standard error', async () => {
    const { err } = await checked(`elasticsearch: { nodes: ["http://u:${SECRET}@es.example"] }`, false);
    expect(err[0]).toMatch(/^warning: elasticsearch\.nodes: .*clear text/);
    expect(err.join()).not.toContain(SECRET);
  });
});
