// A real HTTP(S) server that takes saved objects as Kibana's `_import` does: multipart form, kbn-xsrf, log-in, size limit,
// unique ids, references of searches and data views, spaces, overwrite. It keeps what it took. Its answers are worded like those of
// Kibana 8.12, and it validates what Kibana validates of the objects, which is little.
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';

export interface KibanaServerOptions {
  /** Exact `Authorization` headers that are let in; without any, everybody is. */
  readonly authorizations?: readonly string[];
  /** savedObjects.maxImportPayloadBytes; default: 26,214,400. */
  readonly maxBytes?: number;
  /** Spaces in addition to `default`. */
  readonly spaces?: readonly string[];
  /** `server.basePath`, rewritten. */
  readonly basePath?: string;
  /** Errors of single objects (`type:id`) that a state of the server makes: a conflict, another version. */
  readonly failing?: Readonly<Record<string, object>>;
  /** Key and certificate (PEM): speaks TLS. */
  readonly tls?: { readonly key: string; readonly cert: string };
}

export interface ImportRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface KibanaServer {
  readonly url: string;
  readonly requests: ImportRequest[];
  /** Of a space, `type:id` -> object. */
  objects(space?: string): ReadonlyMap<string, Stored>;
  close(): Promise<void>;
}

interface Stored {
  readonly type: string;
  readonly id: string;
  readonly attributes: { readonly title: string };
  readonly references: readonly { readonly type: string; readonly id: string; readonly name: string }[];
  readonly coreMigrationVersion?: string;
}

type Answer = readonly [status: number, body: object];

const IMPORTABLE = ['index-pattern', 'lens', 'search', 'dashboard', 'visualization', 'map'];
/** Types whose references Kibana looks up. */
const REFERENCES_CHECKED = ['index-pattern', 'search'];
const ERROR_NAMES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  404: 'Not Found',
  413: 'Request Entity Too Large',
  415: 'Unsupported Media Type',
};

export async function startKibanaServer(options: KibanaServerOptions = {}): Promise<KibanaServer> {
  const requests: ImportRequest[] = [];
  const stores = new Map(['default', ...(options.spaces ?? [])].map((space) => [space, new Map<string, Stored>()]));
  const handle: RequestListener = (incoming, outgoing) => {
    void readRequest(incoming).then(async (request) => {
      requests.push(request);
      const [status, body] = await answerTo(request, options, stores);
      outgoing.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'kbn-name': 'kibana-test' });
      outgoing.end(JSON.stringify(body));
    });
  };
  const server = options.tls === undefined ? createServer(handle) : createTlsServer(options.tls, handle);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `${options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    requests,
    objects: (space = 'default') => stores.get(space) ?? new Map(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function readRequest(incoming: IncomingMessage): Promise<ImportRequest> {
  const parts: Buffer[] = [];
  for await (const part of incoming) parts.push(part as Buffer);
  return {
    method: incoming.method ?? '',
    path: incoming.url ?? '',
    headers: incoming.headers,
    body: Buffer.concat(parts),
  };
}

async function answerTo(
  { method, path, headers, body }: ImportRequest,
  { authorizations, maxBytes = 26_214_400, basePath = '', failing = {} }: KibanaServerOptions,
  stores: ReadonlyMap<string, Map<string, Stored>>,
): Promise<Answer> {
  const url = new URL(path, 'http://kibana');
  if (!url.pathname.startsWith(`${basePath}/`)) return failure(404, 'Not Found');
  const [, space = 'default', route] = /^(?:\/s\/([^/]+))?(\/api\/.*)$/.exec(url.pathname.slice(basePath.length)) ?? [];
  if (authorizations !== undefined && !authorizations.includes(headers.authorization ?? '')) {
    // Repeats the credentials on purpose: tests check that they never reach a terminal.
    const given = headers.authorization?.replace(/^\w+ /, '') ?? 'nothing';
    return failure(401, `[security_exception]: unable to authenticate with provided credentials (${given})`);
  }
  const store = stores.get(space);
  if (route !== '/api/saved_objects/_import' || method !== 'POST' || store === undefined)
    return failure(404, 'Not Found');
  if (headers['kbn-xsrf'] === undefined) return failure(400, 'Request must contain a kbn-xsrf header.');
  if (body.length > maxBytes) return failure(413, `Payload content length greater than maximum allowed: ${maxBytes}`);
  const type = headers['content-type'] ?? '';
  if (!type.startsWith('multipart/form-data')) return failure(415, 'Unsupported Media Type');
  const file = (await new Response(new Uint8Array(body), { headers: { 'content-type': type } }).formData()).get('file');
  if (file === null || typeof file === 'string') {
    return failure(400, '[request body.file]: expected value of type [Stream] but got [undefined]');
  }
  if (!file.name.endsWith('.ndjson'))
    return failure(400, `Invalid file extension ${/\.[^.]*$/.exec(file.name)?.[0] ?? ''}`);
  const objects = (await file.text())
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as Stored);
  return importInto(store, objects, url.searchParams.get('overwrite') === 'true', failing);
}

function importInto(
  store: Map<string, Stored>,
  objects: readonly Stored[],
  overwrite: boolean,
  failing: Readonly<Record<string, object>>,
): Answer {
  const keys = objects.map(keyOf);
  const twice = keys.filter((key, i) => keys.indexOf(key) !== i);
  if (twice.length > 0) return failure(400, `Non-unique import objects detected: [${twice.join()}]`);
  const errors: object[] = [];
  const successResults: object[] = [];
  for (const object of objects) {
    const { type, id, references, attributes } = object;
    const key = keyOf(object);
    const existing = store.has(key);
    const missing = references.filter((one) => !keys.includes(keyOf(one)) && !store.has(keyOf(one)));
    const checked = missing.filter((one) => REFERENCES_CHECKED.includes(one.type));
    const error =
      failing[key] ??
      (IMPORTABLE.includes(type) ? undefined : { type: 'unsupported_type' }) ??
      (checked.length > 0 ? { type: 'missing_references', references: checked } : undefined) ??
      (existing && !overwrite ? { type: 'conflict' } : undefined);
    const meta = { title: attributes.title };
    if (error !== undefined) {
      errors.push({ type, id, title: attributes.title, meta, error, ...(overwrite ? { overwrite } : {}) });
      continue;
    }
    store.set(key, object);
    successResults.push({ type, id, meta, managed: false, ...(existing ? { overwrite } : {}) });
  }
  return [
    200,
    {
      successCount: successResults.length,
      success: errors.length === 0,
      warnings: [],
      ...(successResults.length > 0 ? { successResults } : {}),
      ...(errors.length > 0 ? { errors } : {}),
    },
  ];
}

function keyOf({ type, id }: { readonly type: string; readonly id: string }): string {
  return `${type}:${id}`;
}

function failure(statusCode: number, message: string): Answer {
  return [statusCode, { statusCode, error: ERROR_NAMES[statusCode] ?? 'Error', message }];
}
