// Tokens, failures by address, links and the configuration of all that: what no request need show.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { CONFIG_SCHEMA, inspectConfig } from '../../../src/config.ts';
import { problemText, withoutSecrets } from '../../../src/core/config-loader.ts';
import { createActionLinks, createFailures, createLinkReader, createTokens } from '../../../src/ops/access.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const SECRET = 'x'.repeat(32);

function folder(files: Readonly<Record<string, string>>): (name: string) => string {
  const path = mkdtempSync(join(tmpdir(), 'access-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  return (name) => join(path, name);
}
const problems = (yaml: string, env = {}) => inspectConfig(yaml, env, 'logpipe.yml').problems.map(problemText);

test('tokens and secrets come from the configuration, a variable or a file, and are shown nowhere', () => {
  const file = folder({ token: ' a-token-from-a-file \n', secrets: `${SECRET}1\n\n${SECRET}2\n` });
  const yaml = `
http:
  publicUrl: https://alerts.example.org
  linkSecretsFile: ${file('secrets')}
  tokens:
    - { name: ops, token: "\${TOKEN}", scopes: [read, act] }
    - { name: wall, tokenFile: ${file('token')} }
notify:
  pagerduty:
    webhookSecrets: \${HOOKS}
`;
  const env = { TOKEN: 'a-token-from-a-variable', HOOKS: 'a-secret-of-pagerduty, another-secret-of-pagerduty' };
  const { value, problems: found } = inspectConfig(yaml, env, 'logpipe.yml');
  expect(found).toEqual([]);
  expect(value?.http).toMatchObject({
    tokens: [
      { name: 'ops', token: 'a-token-from-a-variable', scopes: ['read', 'act'] },
      { name: 'wall', token: 'a-token-from-a-file', scopes: ['read'] },
    ],
    linkSecrets: [`${SECRET}1`, `${SECRET}2`],
  });
  expect(value?.notify.pagerduty.webhookSecrets).toEqual(['a-secret-of-pagerduty', 'another-secret-of-pagerduty']);
  const shown = JSON.stringify(withoutSecrets(value, CONFIG_SCHEMA));
  expect(shown).toContain('"name":"wall"');
  expect(shown).not.toMatch(/a-token|xxxx|secret-of/);
});

test('what is too short, given twice or missing is refused by its place, wherever it comes from', () => {
  const file = folder({ token: 'short\n', secret: 'only-31-characters-are-in-here.' });
  const found = problems(`
http:
  publicUrl: https://alerts.example.org
  linkSecretsFile: ${file('secret')}
  tokens:
    - { name: one, token: fifteen-letters }
    - { name: two, tokenFile: ${file('token')} }
    - { name: two, token: the-same-token-twice }
    - { name: three, token: the-same-token-twice }
    - { name: four, token: "with a space in it" }
    - { name: five }
    - { name: six, token: long-enough-for-a-token, scopes: [all] }
    - { name: "", token: long-enough-for-a-token-2 }
`);
  expect(found).toEqual([
    expect.stringContaining('http.linkSecrets.0: found [masked]; needs 32 characters at least'),
    expect.stringContaining('http.tokens.0.token: found [masked]; needs 16 characters at least'),
    expect.stringContaining('http.tokens.1.token: found [masked]; needs 16 characters at least'),
    expect.stringContaining('http.tokens.2.name: found "two"; is the name of http.tokens.1 too'),
    expect.stringContaining('http.tokens.3.token: found [masked]; is the token of another name too'),
    expect.stringContaining('http.tokens.4.token: found [masked]; permitted: letters, digits'),
    expect.stringContaining('http.tokens.5.token: missing'),
    expect.stringContaining('http.tokens.6.scopes.0: found "all"; permitted: "read", "act"'),
    expect.stringContaining('http.tokens.7.name: found ""; permitted: letters, digits'),
  ]);
  expect(found.join()).not.toMatch(/fifteen|only-31|same-token|with a space/);
  expect(problems('http: { publicUrl: https://alerts.example.org }')).toEqual([
    expect.stringContaining('http.linkSecrets is missing'),
  ]);
  // The history would not tell it from the sessions of the page.
  expect(problems('http: { tokens: [{ name: page, token: long-enough-for-a-token }] }')).toEqual([
    expect.stringContaining('http.tokens.0.name: found "page"; is what the history calls the sessions of the page'),
  ]);
  for (const url of ['alerts.example.org', 'ftp://x', 'https://user@x', 'https://x?y', 'https://x#y', 'https://[']) {
    expect(problems(`http: { publicUrl: "${url}", linkSecrets: ${SECRET} }`), url).toHaveLength(1);
  }
});

test('a token is found among others, and nothing that resembles it', () => {
  const holderOf = createTokens([
    { name: 'a', token: 'token-of-a-0123456789', scopes: ['read'] },
    { name: 'b', token: 'token-of-b-0123456789', scopes: ['read', 'act'] },
  ]);
  expect(holderOf('token-of-b-0123456789')).toEqual({ name: 'b', scopes: new Set(['read', 'act']) });
  for (const other of [
    '',
    'token-of-b-012345678',
    'token-of-b-0123456789 ',
    'TOKEN-OF-B-0123456789',
    'token-of-c-0123456789',
  ]) {
    expect(holderOf(other)).toBeUndefined();
  }
  expect(createTokens([])('')).toBeUndefined();
});

test('failures count for a minute, by address, by network of IPv6, and within a bounded table', async () => {
  const clock = createFakeClock();
  const failures = createFailures(clock, { most: 3, addresses: 4 });
  expect([1, 2].map(() => failures.failed('192.0.2.1'))).toEqual([false, false]);
  await clock.advance(30_000);
  expect(failures.failed('::ffff:192.0.2.1')).toBe(true);
  expect(failures.waitMs('192.0.2.1')).toBe(30_000);
  expect(failures.waitMs('192.0.2.2')).toBe(0);
  await clock.advance(30_000);
  expect(failures.waitMs('192.0.2.1')).toBe(0);
  for (const address of ['2001:db8::1', '2001:db8:0:0:1::2', '2001:db8:0:0:ffff:ffff:ffff:ffff'])
    failures.failed(address);
  expect(failures.waitMs('2001:db8::99')).toBe(60_000);
  expect(failures.waitMs('2001:db8:0:1::99')).toBe(0);
  for (const address of ['::1', 'fe80::1%eth0', '1::', '2::']) for (let i = 0; i < 3; i++) failures.failed(address);
  // Others have failed since; the first is forgotten.
  expect(failures.waitMs('2001:db8::1')).toBe(0);
  expect(failures.waitMs('fe80::2%eth1')).toBe(60_000);
});

test('there are links only with an address and a secret; they expire a day after their message, whatever the clock said then', async () => {
  expect(createActionLinks({ publicUrl: undefined, secrets: [SECRET] })).toBeUndefined();
  expect(createActionLinks({ publicUrl: 'https://x.example', secrets: [] })).toBeUndefined();
  expect(createActionLinks({ publicUrl: 'https://x.example', secrets: undefined })).toBeUndefined();
  const clock = createFakeClock();
  const links = createActionLinks({ publicUrl: 'https://x.example/', secrets: [SECRET] });
  const made = links?.('i1', 'slack', clock.now());
  // The same message sent again has the same link.
  expect(links?.('i1', 'slack', clock.now())).toEqual(made);
  const read = createLinkReader(['another'.repeat(6), SECRET], clock);
  const token = made!.acknowledge.replace('https://x.example/a/', '');
  const link = read(token);
  expect(link).toMatchObject({ action: 'acknowledge', incidentId: 'i1', channel: 'slack' });
  expect(read(made!.resolve!.replace('https://x.example/a/', ''))).toMatchObject({ action: 'resolve' });
  await clock.advance(86_400_000 - 1);
  expect(read(token)).toEqual(link);
  await clock.advance(1);
  expect(read(token)).toBe('expired');
  expect(createLinkReader([], clock)(token)).toBe('altered');
  expect(links?.('i'.repeat(2_000), 'slack', clock.now())).toBeUndefined();
});
