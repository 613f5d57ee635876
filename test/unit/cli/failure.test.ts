// What is left of an error that nobody caught: words, a code, an exit status. Never a stack, never a secret.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errors as clientErrors } from '@elastic/elasticsearch';
import kafkajs from 'kafkajs';
import { expect, onTestFinished, test } from 'vitest';
import { openJournalStore } from '../../../src/alerter/store.ts';
import { describeFailure } from '../../../src/cli/io.ts';
import { parseConfig } from '../../../src/config.ts';
import { LogpipeError } from '../../../src/core/errors.ts';
import { silentLog } from '../../../src/core/log.ts';
import { lockFolder } from '../../../src/core/private-files.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';

const config = parseConfig(
  'kafka: { brokers: ["127.0.0.1:1"] }\nelasticsearch: { nodes: ["http://127.0.0.1:1"] }',
  {},
  'test',
);
const context = { config, masker: createMasker(), debug: false };

function system(code: string, more: object = {}): Error {
  return Object.assign(new Error(`${code}: as the system words it`), { code, syscall: 'open', ...more });
}

test.each<[unknown, RegExp, number]>([
  [
    new kafkajs.KafkaJSConnectionError('connect ECONNREFUSED', { broker: '127.0.0.1:1', code: 'ECONNREFUSED' }),
    /kafka\.brokers: 127\.0\.0\.1:1 cannot be reached .*nothing listens there.*LOGPIPE_KAFKA_UNREACHABLE/,
    1,
  ],
  [
    new clientErrors.ConnectionError('connect ECONNREFUSED 127.0.0.1:1', undefined as never),
    /Elasticsearch at http:\/\/127\.0\.0\.1:1 did not answer .*LOGPIPE_ES_UNREACHABLE/,
    1,
  ],
  [system('ENOSPC', { path: '/data/x' }), /\/data\/x: the disk is full, ENOSPC \(open\) \[LOGPIPE_FOLDER_UNUSABLE/, 1],
  [
    system('EADDRINUSE', { address: '127.0.0.1', port: 80 }),
    /127\.0\.0\.1:80: another program listens at this port already/,
    1,
  ],
  [new TypeError('x is not a function'), /^logpipe: x is not a function.*LOGPIPE_DEBUG=1.*\[LOGPIPE_FAULT\]$/, 1],
  ['a text', /^logpipe: a text;.*LOGPIPE_FAULT/, 1],
  [new LogpipeError('LOGPIPE_USAGE', '--limit: wrong'), /^logpipe: --limit: wrong \[LOGPIPE_USAGE\]$/, 2],
])('%s', async (error, text, status) => {
  const failure = await describeFailure(error, context);
  expect(failure.text).toMatch(text);
  expect(failure.text).not.toMatch(/\n/);
  expect(failure.status).toBe(status);
});

test('the stack only with LOGPIPE_DEBUG, and masked like everything', async () => {
  const secret = ['sk', 'live', 'A1b2C3d4E5f6G7h8I9j0K1l2'].join('_');
  const error = new TypeError(`password=${secret}`, { cause: new Error('below') });
  const { text } = await describeFailure(error, { ...context, debug: true });
  expect(text).toMatch(/\n\s+at .*failure\.test/);
  expect(text).toMatch(/caused by Error: below/);
  expect(text).not.toContain(secret);
});

test('a folder that cannot be used: the key at fault, the place, the reason and what to do', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-failure-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'file');
  writeFileSync(file, '');
  for (const place of [file, join(file, 'below')]) {
    const said = expect.objectContaining({
      code: 'LOGPIPE_FOLDER_UNUSABLE',
      message: expect.stringMatching(/^files\.dataDir: .*file.* cannot be used \(.+, E\w+\); name another place/),
    });
    expect(() => lockFolder(place, 'files.dataDir')).toThrow(said);
    await expect(openJournalStore({ folder: place }, { log: silentLog })).rejects.toThrow(/^alerts\.journalDir: /);
  }
  const unlock = lockFolder(folder, 'files.dataDir');
  await expect(openJournalStore({ folder }, { log: silentLog })).rejects.toThrow(/^alerts\.journalDir: .* is in use/);
  unlock();
});
