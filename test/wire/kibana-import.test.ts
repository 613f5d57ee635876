// `logpipe kibana import` as people run it, against a real server that behaves like Kibana's import: the exact request, what
// is said of each object, exit statuses; and for everything that can be wrong on the way a message that says what to do and
// holds no secret.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { LogpipeError } from '../../src/core/errors.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import { importSavedObjects, kibanaTarget } from '../../src/kibana/import.ts';
import { createAuthority } from '../kit/certificates.ts';
import { type KibanaServer, type KibanaServerOptions, startKibanaServer } from '../kit/kibana-server.ts';
import { startProcess } from '../kit/process.ts';

const SHIPPED = ['kibana/calling-platform.ndjson', 'kibana/logpipe-replay.ndjson']
  .map((path) => readFileSync(join(packageRoot(), path), 'utf8'))
  .join('');
const COUNT = SHIPPED.trimEnd().split('\n').length;
const API_KEY = 'VnVhQ2ZHY0JDZGJrU3NlY3JldA==';
const PASSWORD = 'right-horse-battery';

async function kibana(options: KibanaServerOptions = {}): Promise<KibanaServer> {
  const server = await startKibanaServer(options);
  onTestFinished(() => server.close());
  return server;
}

interface Outcome {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  const child = startProcess('src/main.js', ['kibana', 'import', ...args], { env });
  const { status } = await child.exit;
  const outcome = { status, out: child.stdout(), err: child.stderr() };
  for (const secret of [API_KEY, PASSWORD]) expect(outcome.out + outcome.err).not.toContain(secret);
  return outcome;
}

function folderOfTest(): string {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-kibana-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

describe('a successful import', () => {
  test('is one request, to the byte, and can be repeated', async () => {
    const server = await kibana({ authorizations: [`ApiKey ${API_KEY}`] });
    const args = ['--url', server.url, '--api-key', API_KEY];
    const first = await run(args);
    expect(first).toEqual({
      status: 0,
      out: `${COUNT} of ${COUNT} objects are in ${server.url}, space default\ndashboard: ${server.url}/app/dashboards#/view/calling-platform-overview\n`,
      err: '',
    });
    const stored = new Map(server.objects());
    expect([...stored.values()].map((object) => `${JSON.stringify(object)}\n`).join('')).toBe(SHIPPED);

    const [request] = server.requests;
    const { method, path, headers, body } = request!;
    expect({ method, path }).toEqual({ method: 'POST', path: '/api/saved_objects/_import?overwrite=true' });
    const boundary = /^multipart\/form-data; boundary=(\S+)$/.exec(headers['content-type'] ?? '')?.[1];
    expect(boundary).toBeDefined();
    expect(headers).toMatchObject({
      'kbn-xsrf': 'true',
      authorization: `ApiKey ${API_KEY}`,
      'content-length': String(body.length),
      'user-agent': 'logpipe',
    });
    expect(body.toString().trimEnd()).toBe(
      [
        `--${boundary}`,
        'Content-Disposition: form-data; name="file"; filename="logpipe.ndjson"',
        'Content-Type: application/ndjson',
        '',
        SHIPPED,
        `--${boundary}--`,
      ].join('\r\n'),
    );

    expect(await run(args)).toEqual(first);
    expect(server.requests).toHaveLength(2);
    expect(server.objects()).toEqual(stored);
  });

  test('goes into a space, by option, by variable or by address, with the base path of the address', async () => {
    const server = await kibana({ spaces: ['ops'], basePath: '/kibana' });
    const base = `${server.url}/kibana`;
    const outcomes = [
      await run(['--url', base, '--space', 'ops', '--json']),
      await run(['--json'], { KIBANA_URL: `${base}/`, KIBANA_SPACE: 'ops' }),
      await run(['--url', `${base}/s/ops/app/home#/`, '--json']),
    ];
    for (const { status, out } of outcomes) {
      expect(status).toBe(0);
      expect(JSON.parse(out)).toMatchObject({
        success: true,
        url: `${base}/s/ops`,
        space: 'ops',
        sent: COUNT,
        errors: [],
      });
    }
    expect(server.requests.map(({ path }) => path)).toEqual(
      Array.from({ length: 3 }, () => '/kibana/s/ops/api/saved_objects/_import?overwrite=true'),
    );
    expect([server.objects('ops').size, server.objects().size]).toEqual([COUNT, 0]);
  });

  test.each([
    ['API key', { KIBANA_API_KEY: API_KEY }, `ApiKey ${API_KEY}`],
    ['user and password', { KIBANA_USERNAME: 'elastic', KIBANA_PASSWORD: PASSWORD }, basic('elastic', PASSWORD)],
  ])('logs in with %s from the environment', async (_, env, authorization) => {
    const server = await kibana({ authorizations: [authorization] });
    expect((await run(['--url', server.url], env)).status).toBe(0);
  });

  test.each([
    ['KIBANA_API_KEY_FILE', API_KEY, {}, `ApiKey ${API_KEY}`],
    ['KIBANA_PASSWORD_FILE', PASSWORD, { KIBANA_USERNAME: 'elastic' }, basic('elastic', PASSWORD)],
  ])('and from %s', async (variable, secret, env, authorization) => {
    const server = await kibana({ authorizations: [authorization] });
    const file = join(folderOfTest(), 'secret');
    writeFileSync(file, `${secret}\n`);
    expect((await run(['--url', server.url], { ...env, [variable]: file })).status).toBe(0);
  });

  test('over TLS, with the authority it is given', async () => {
    const authority = createAuthority();
    const { keyPem, pem } = authority.issue(['127.0.0.1']);
    const server = await kibana({ tls: { key: keyPem, cert: pem } });
    const caFile = join(folderOfTest(), 'ca.pem');
    writeFileSync(caFile, authority.pem);
    expect((await run(['--url', server.url], { KIBANA_CA_FILE: caFile })).status).toBe(0);

    const without = await run(['--url', server.url]);
    expect(without).toMatchObject({
      status: 1,
      err: expect.stringMatching(/kibana\.caFile.*LOGPIPE_KIBANA_UNREACHABLE/),
    });
    const plain = await run(['--url', server.url.replace('https', 'http')]);
    expect(plain).toMatchObject({
      status: 1,
      err: expect.stringContaining('speaks TLS; write https:// instead of http://'),
    });
    expect(server.requests).toHaveLength(1);
  });
});

describe('an import that is not complete', () => {
  test('says of each object why, and what became of the others', async () => {
    const copies = [{ id: 'one' }, { id: 'two' }];
    const server = await kibana({
      failing: {
        'lens:calling-platform-error-rate': { type: 'conflict', destinationId: 'other-id' },
        'lens:calling-platform-top-errors': { type: 'ambiguous_conflict', destinations: copies },
        'search:calling-platform-errors': {
          type: 'missing_references',
          references: [{ type: 'index-pattern', id: 'calling-platform' }],
        },
        'dashboard:calling-platform-overview': {
          type: 'unknown',
          message: 'Document "x"\u001b[2J too new',
          statusCode: 422,
        },
        'lens:calling-platform-call-status': { type: 'unsupported_type' },
      },
    });
    const { status, out, err } = await run(['--url', server.url]);
    expect(status).toBe(1);
    expect(out).toBe(`${COUNT - 5} of ${COUNT} objects are in ${server.url}, space default\n`);
    expect(err.trimEnd().split('\n')).toEqual([
      expect.stringMatching(
        /^not taken: lens calling-platform-error-rate: conflict: .* as other-id and was not overwritten/,
      ),
      expect.stringMatching(/^not taken: lens calling-platform-top-errors: ambiguous conflict: .*\(one, two\)/),
      'not taken: lens calling-platform-call-status: this Kibana does not know the type',
      'not taken: search calling-platform-errors: refers to what is not there: index-pattern calling-platform',
      'not taken: dashboard calling-platform-overview: Document "x"\\u001b[2J too new (422)',
    ]);

    const json = await run(['--url', server.url, '--json']);
    expect([json.status, json.err]).toEqual([1, '']);
    const reply = JSON.parse(json.out) as { success: boolean; successCount: number; errors: { id: string }[] };
    expect([reply.success, reply.successCount, reply.errors.length]).toEqual([false, COUNT - 5, 5]);
  });

  test.each([
    ['a wrong key', ['--api-key', API_KEY], {}, 'check the API key'],
    ['a wrong password', [], { KIBANA_USERNAME: 'elastic', KIBANA_PASSWORD: PASSWORD }, 'check user and password'],
    ['nobody', [], {}, 'no credentials were given: set KIBANA_API_KEY'],
  ])('is refused to %s with 401', async (_, args, env, hint) => {
    const server = await kibana({ authorizations: ['ApiKey another'] });
    const { status, out, err } = await run(['--url', server.url, ...args], env);
    expect([status, out]).toEqual([1, '']);
    expect(err).toContain(`Kibana at ${server.url} answered 401: [security_exception]`);
    expect(err).toContain(hint);
    expect(err).toMatch(/\[LOGPIPE_KIBANA_REFUSED\]\n$/);
  });

  test('is refused for its size with 413', async () => {
    const server = await kibana({ maxBytes: 1_000 });
    const { status, err } = await run(['--url', server.url]);
    expect(status).toBe(1);
    expect(err).toContain('413: Payload content length greater than maximum allowed: 1000');
    expect(err).toContain(`${Buffer.byteLength(SHIPPED)} bytes: raise savedObjects.maxImportPayloadBytes`);
  });

  test('finds no such space', async () => {
    const server = await kibana();
    const { status, err } = await run(['--url', server.url, '--space', 'ops']);
    expect([status, err]).toEqual([1, expect.stringContaining('that there is a space ops')]);
  });

  test.each<[string, RequestListener, string]>([
    [
      '409: two at a time',
      answering(409, '{"statusCode":409,"message":"version conflict"}'),
      'answered 409: version conflict; somebody changed the same objects',
    ],
    [
      '403: too few privileges',
      answering(403, '{"statusCode":403,"message":"Unable to bulk_create dashboard"}'),
      'Saved Objects Management: All',
    ],
    ['422: an older Kibana', answering(422, '{"message":"Document has a newer version"}'), 'they need 8.9 or later'],
    [
      '503: not ready',
      answering(503, 'Kibana server is not ready yet.'),
      'answered 503: Kibana server is not ready yet.; it is starting',
    ],
    ['502: a proxy’s page', answering(502, '<html>Bad Gateway</html>'), 'answered 502; it is starting'],
    ['a redirect', answering(302, '', { location: '/login?token=abc' }), 'leads on to /login, which is not followed'],
    ['Elasticsearch', answering(400, '{"error":"no handler found for uri [/api/x]"}'), 'this looks like Elasticsearch'],
    ['anything that says yes', answering(200, '{"ok":true}'), 'check that this is the address of Kibana'],
    ['no answer', (_, response) => void response.socket?.destroy(), 'did not answer (ECONNRESET)'],
    ['an answer that never comes', () => undefined, 'not within 300 ms'],
  ])('%s', async (_, listener, words) => {
    const server = createHttpServer((request, response) => {
      request.resume().once('end', () => listener(request, response));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => {
      server.close();
      server.closeAllConnections();
    });
    const target = kibanaTarget(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, undefined);
    const config = { url: target.base, apiKey: API_KEY, requestTimeoutMs: words.includes('300 ms') ? 300 : 20_000 };
    const error: unknown = await importSavedObjects(SHIPPED, target, config).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(LogpipeError);
    // What a careless caller prints of it: cause, stack and all.
    const everything = inspect(error, { depth: 10 });
    expect(everything).toContain(words);
    expect(everything).not.toContain(API_KEY);
    expect(everything).not.toContain('token=abc');
  });

  test('finds nobody, or nobody who speaks TLS', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const nobody = await run(['--url', `http://127.0.0.1:${port}`]);
    expect(nobody).toMatchObject({ status: 1, err: expect.stringMatching(/ECONNREFUSED.*check that it runs/) });

    const { url } = await kibana();
    const plain = await run(['--url', url.replace('http', 'https')]);
    expect(plain).toMatchObject({ status: 1, err: expect.stringContaining('write http:// instead of https://') });
  });
});

describe('before anything is sent', () => {
  test('a dry run lists the objects', async () => {
    const server = await kibana();
    const { status, out, err } = await run(['--url', server.url, '--space', 'ops', '--dry-run']);
    expect(status).toBe(0);
    expect(out.trimEnd().split('\n')).toHaveLength(COUNT);
    expect(out).toMatch(/^dashboard +calling-platform-overview +Calling platform overview$/m);
    expect(err).toContain(`nothing was sent. They would go to ${server.url}/s/ops, space ops`);
    const json = await run(['--url', server.url, '--dry-run', '--json']);
    const { objects } = JSON.parse(json.out) as { objects: { type: string; id: string }[] };
    expect(objects.map(({ type, id }) => ({ type, id }))).toEqual(
      SHIPPED.trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as { type: string; id: string })
        .map(({ type, id }) => ({ type, id })),
    );
    expect(server.requests).toEqual([]);
  });

  test('objects that Kibana could not show are refused, each with its place', async () => {
    const server = await kibana();
    const file = join(folderOfTest(), 'broken.ndjson');
    const broken = SHIPPED.replace('"sourceField":"error.template"', '"sourceField":"error.message"').replace(
      '\\"x\\":32',
      '\\"x\\":31',
    );
    expect(broken.length).toBeLessThan(SHIPPED.length);
    writeFileSync(file, broken);
    const { status, err } = await run(['--url', server.url, file]);
    expect(status).toBe(1);
    expect(err).toContain('2 problem(s), nothing was sent');
    expect(err).toContain(
      '- lens calling-platform-top-errors: layer "errors": column "template": field "error.message" (text) is not aggregatable',
    );
    expect(err).toContain('- dashboard calling-platform-overview: panel "p1": overlaps panel "p2"');
    expect(server.requests).toEqual([]);
  });

  test.each([
    ['no address', ['--url', 'kibana:5601'], 'is not an http:// or https:// address'],
    [
      'a password in the address',
      ['--url', `http://elastic:${PASSWORD}@kibana:5601`],
      'set KIBANA_USERNAME and KIBANA_PASSWORD',
    ],
    ['a space by its name', ['--space', 'Ops Team'], 'the id of a space has lower-case letters'],
    ['two spaces', ['--url', 'http://kibana:5601/s/ops', '--space', 'dev'], 'the address is that of space ops'],
    ['a file that is not there', ['nothing.ndjson'], 'nothing.ndjson cannot be read'],
    ['an option that is none', ['--overwrite'], "unknown option '--overwrite'"],
  ])('%s is a mistake of the command line', async (_, args, words) => {
    const { status, err } = await run(args);
    expect([status, err]).toEqual([2, expect.stringContaining(words)]);
  });

  test('help has examples and says where the log-in comes from', async () => {
    const { status, out } = await run(['--help']);
    expect(status).toBe(0);
    for (const words of ['--url', '--api-key', '--space', '--dry-run', '--json', 'Examples:', 'KIBANA_API_KEY_FILE=']) {
      expect(out).toContain(words);
    }
  });
});

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

function answering(status: number, body: string, headers: Record<string, string> = {}): RequestListener {
  return (_, response) => void response.writeHead(status, headers).end(body);
}
