// The page: its files, and who opened it. In: the folder that the build made, and tokens that `logpipe page` signed. Out: the files, with a
// policy under which nothing of a stranger's can run; and a session for a token that opens one. Guarantee: files are read once, before
// anybody asks, so that nothing of a request gets to the file system; a token opens one session; what is refused says why, and no secret.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { extname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Clock } from '../core/clock.ts';
import { packageRoot } from '../core/package-root.ts';
import { createPassReader, type Holder, PAGE_NAME, signPass } from './access.ts';
import { type ApiPart, reply } from './guard.ts';
import type { PageFiles } from './http.ts';
import type { Session } from './page-data.ts';
import { CHALLENGE, closeGently, onceBody, Refusal, send } from './requests.ts';

// ---- files ----

const POLICY = [
  "default-src 'none'",
  ...['script-src', 'style-src', 'img-src', 'connect-src', 'manifest-src'].map((what) => `${what} 'self'`),
  ...['base-uri', 'form-action', 'frame-ancestors'].map((what) => `${what} 'none'`),
].join('; ');

const SAFE = {
  'content-security-policy': POLICY,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'x-frame-options': 'DENY',
} as const;

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.webmanifest': 'application/manifest+json',
  // Readable as they are.
  '.md': 'text/plain; charset=utf-8',
};

/** As esbuild writes it: a name with a hash never has another content. */
const HASHED = /-[A-Z0-9]{8}\.[a-z]+$/;

interface Body {
  readonly bytes: Buffer;
  readonly tag: string;
}

interface PageFile {
  readonly headers: Readonly<Record<string, string>>;
  readonly plain: Body;
  /** Undefined where it would be no shorter. */
  readonly gzip: Body | undefined;
}

/**
 * @param folder with index.html and assets/; default: the package's own
 * @param runbooks the folder of those that rules name; default: the package's own
 */
export function createPage(
  folder = join(packageRoot(), 'dist', 'page'),
  runbooks = join(packageRoot(), 'docs', 'runbooks'),
): PageFiles {
  const files = readFiles(folder, runbooks);
  return {
    handle(request, response) {
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        closeGently(request, response);
        send(response, new Refusal(405, 'permitted here: GET, HEAD', { allow: 'GET, HEAD' }));
        return;
      }
      const path = (request.url ?? '').split('?', 1)[0]!;
      const file = files.get(path);
      if (file !== undefined) answer(file, request, response);
      else if (files.size > 0) send(response, new Refusal(404, 'the page has no such file'));
      else send(response, new Refusal(503, 'the page has not been built: npm run build makes it'));
    },
  };
}

/** By the path under which each is asked for. */
function readFiles(folder: string, runbooks: string): ReadonlyMap<string, PageFile> {
  const files = new Map<string, PageFile>();
  const index = join(folder, 'index.html');
  if (!existsSync(index)) return files;
  const page = fileOf(index);
  files.set('/', page).set('/index.html', page);
  const assets = join(folder, 'assets');
  const filesIn = (where: string) =>
    existsSync(where) ? readdirSync(where, { withFileTypes: true }).filter((entry) => entry.isFile()) : [];
  for (const { name } of filesIn(assets)) files.set(`/assets/${name}`, fileOf(join(assets, name)));
  for (const { name } of filesIn(runbooks)) files.set(`/docs/runbooks/${name}`, fileOf(join(runbooks, name)));
  // Browsers ask for it, whatever the page says of its icon.
  const icon = files.get('/assets/icon.svg');
  if (icon !== undefined) files.set('/favicon.ico', icon);
  return files;
}

function fileOf(path: string): PageFile {
  const bytes = readFileSync(path);
  const packed = gzipSync(bytes, { level: 9 });
  return {
    headers: {
      ...SAFE,
      'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
      'cache-control': HASHED.test(path) ? 'public, max-age=31536000, immutable' : 'no-cache',
      vary: 'accept-encoding',
    },
    plain: bodyOf(bytes),
    gzip: packed.length < bytes.length ? bodyOf(packed) : undefined,
  };
}

/** A strong tag is of the bytes as they are sent. */
function bodyOf(bytes: Buffer): Body {
  return { bytes, tag: `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 27)}"` };
}

function answer({ headers, plain, gzip }: PageFile, request: IncomingMessage, response: ServerResponse): void {
  const packed = gzip !== undefined && takesGzip(request.headers['accept-encoding']) ? gzip : undefined;
  const { bytes, tag } = packed ?? plain;
  const all = { ...headers, etag: tag, ...(packed === undefined ? {} : { 'content-encoding': 'gzip' }) };
  if (isKnown(request.headers['if-none-match'], tag)) {
    const { 'content-type': _, ...rest } = all as Record<string, string>;
    response.writeHead(304, rest).end();
    return;
  }
  response.writeHead(200, { ...all, 'content-length': String(bytes.length) });
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

/** RFC 9110, 12.5.3; Node keeps headers below 16 KiB. */
function takesGzip(header: string | string[] | undefined): boolean {
  let any = false;
  for (const part of String(header ?? '').split(',')) {
    const [name = '', ...parameters] = part.split(';').map((text) => text.trim().toLowerCase());
    const refused = parameters.some((text) => /^q=0(?:\.0{0,3})?$/.test(text));
    if (name === 'gzip' || name === 'x-gzip') return !refused;
    if (name === '*') any = !refused;
  }
  return any;
}

function isKnown(header: string | undefined, tag: string): boolean {
  const tags = (header ?? '').split(',').map((text) => text.trim().replace(/^W\//, ''));
  return tags.includes(tag) || tags.includes('*');
}

// ---- sessions ----

/** So many tokens are remembered as used; each for a quarter of an hour. */
const MAX_USED = 1_000;

interface SessionOptions {
  readonly linkSecrets: readonly string[];
  readonly environment: string;
}

/** `POST /api/v1/session`: a session for a token of `logpipe page`. `GET`: whose session it is. */
export function sessionRoutes(
  { linkSecrets, environment }: SessionOptions,
  { clock }: { readonly clock: Clock },
): ApiPart {
  const read = createPassReader('once', linkSecrets, clock);
  /** When they end, by their ids. */
  const used = new Map<string, number>();

  /** @throws Refusal 503 */
  function use(id: string, expiresMs: number): void {
    if (used.size >= MAX_USED) {
      for (const [one, endsMs] of used) if (endsMs <= clock.now()) used.delete(one);
    }
    if (used.size >= MAX_USED) {
      throw new Refusal(503, 'too many sessions were opened in the last minutes; try again later', {
        'retry-after': '60',
      });
    }
    used.set(id, expiresMs);
  }

  return (app, { permit, fail, mustWait, json }) => {
    app.get('/api/v1/session', (c) => reply(c, sessionOf(permit(c.env.incoming, 'read'), environment)));

    app.post('/api/v1/session', async (c) => {
      const { once } = await json(c, onceBody);
      if (linkSecrets.length === 0) {
        throw new Refusal(401, 'http.linkSecrets is not set, so that nothing can be signed', CHALLENGE);
      }
      const pass = read(once);
      // Nobody can guess a valid one: whoever has it does not wait for the failures of others.
      if (pass === 'altered') {
        const wait = mustWait(c.env.incoming);
        if (wait !== undefined) throw wait;
        fail(c.env.incoming, 'token');
        throw new Refusal(401, 'the address was not made by logpipe page, or with other secrets', CHALLENGE);
      }
      if (pass === 'expired' || used.has(pass.id)) {
        const why = pass === 'expired' ? 'is too old' : 'has been used';
        throw new Refusal(401, `the address ${why}; logpipe page makes a new one`, CHALLENGE);
      }
      use(pass.id, pass.expiresMs);
      const [secret] = linkSecrets;
      const { token, expiresMs } = signPass('session', secret!, { scopes: pass.scopes, nowMs: clock.now() });
      return reply(c, {
        ...sessionOf({ name: PAGE_NAME, scopes: new Set(pass.scopes), expiresMs }, environment),
        token,
      });
    });
  };
}

function sessionOf(holder: Holder | undefined, environment: string): Session {
  const { expiresMs } = holder ?? {};
  return {
    name: holder?.name ?? null,
    mayAct: holder?.scopes.has('act') ?? false,
    expires: expiresMs === undefined ? null : new Date(expiresMs).toISOString(),
    environment,
  };
}
