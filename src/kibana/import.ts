// One import of saved objects into Kibana. In: the text of an .ndjson file; the address as people give it, perhaps copied from a
// browser, and a space. Out: Kibana's reply, object by object. Guarantee: the server is asked for nothing else; no error contains
// a key or password, be it ours or in the address, and each says what to do.
import { readFileSync } from 'node:fs';
import axios, { AxiosError, type AxiosResponse } from 'axios';
import { LogpipeError, reasonInWords } from '../core/errors.ts';
import { createMasker, MASK } from '../core/secrets/mask.ts';
import { speaksTls } from '../indexing/elasticsearch.ts';
import { errorCode, proxyErrorOf, wayTo } from '../notify/http-send.ts';

// ---- the `kibana` section: where Kibana is and how to log in ----

export const kibanaSection = {
  type: 'object',
  description: 'Kibana, for `logpipe kibana import`; nothing else uses it.',
  additionalProperties: false,
  default: {},
  properties: {
    url: {
      type: 'string',
      // It must hold no user or password, because messages repeat it.
      pattern: '^https?://',
      permitted: 'an address that begins with http:// or https://',
      default: 'http://localhost:5601',
      description: 'Address of Kibana, with its base path and space, if any (`…/s/ops`). `--url` takes precedence.',
    },
    space: {
      type: 'string',
      pattern: '^[a-z0-9_-]+$',
      permitted: 'small letters, digits, hyphens and underscores: the id of a space, not its name',
      description:
        'Space to import into. Default: the one in the address, else the default space. `--space` takes precedence.',
    },
    apiKey: {
      type: 'string',
      minLength: 1,
      secret: true,
      description: 'API key (base64 form). Also `apiKeyFile`. `--api-key` takes precedence.',
    },
    username: { type: 'string', minLength: 1, description: 'User for basic authentication.' },
    password: { type: 'string', minLength: 1, secret: true, description: 'Its password. Also `passwordFile`.' },
    caFile: {
      type: 'string',
      minLength: 1,
      description: 'PEM file of the certificate authority that signed Kibana’s certificate.',
    },
    requestTimeoutMs: {
      type: 'integer',
      minimum: 100,
      maximum: 600_000,
      default: 60_000,
      description: 'An import without an answer for this long has failed.',
    },
  },
  dependentRequired: { username: ['password'], password: ['username'] },
} as const;

export interface KibanaConfig {
  readonly url: string;
  readonly space?: string;
  readonly apiKey?: string;
  readonly username?: string;
  readonly password?: string;
  readonly caFile?: string;
  readonly requestTimeoutMs: number;
}

// ---- the import ----

/** An object that Kibana did not accept. */
export interface ImportFailure {
  readonly type: string;
  readonly id: string;
  readonly title?: string;
  readonly error: {
    /** conflict, ambiguous_conflict, unsupported_type, missing_references, unknown */
    readonly type: string;
    readonly message?: string;
    readonly statusCode?: number;
    readonly references?: readonly { readonly type: string; readonly id: string }[];
    readonly destinationId?: string;
    readonly destinations?: readonly { readonly id: string; readonly title?: string }[];
  };
}

export interface ImportReply {
  readonly success: boolean;
  readonly successCount: number;
  /** `destinationId`: the id it got because another space has its own. */
  readonly successResults: readonly { readonly type: string; readonly id: string; readonly destinationId?: string }[];
  readonly errors: readonly ImportFailure[];
}

const IMPORT_PATH = '/api/saved_objects/_import?overwrite=true';

/**
 * Sends the objects; existing ones are overwritten, so that repeating it changes nothing.
 * @throws LogpipeError LOGPIPE_KIBANA_UNREACHABLE, LOGPIPE_KIBANA_REFUSED; LOGPIPE_CONFIG_UNREADABLE for `caFile`
 */
export async function importSavedObjects(
  ndjson: string,
  target: KibanaTarget,
  config: KibanaConfig,
): Promise<ImportReply> {
  const form = new FormData();
  form.append('file', new Blob([ndjson], { type: 'application/ndjson' }), 'logpipe.ndjson');
  const way = wayTo(new URL(target.base), config.requestTimeoutMs, authority(config));
  if (way.unusable !== undefined) {
    throw new LogpipeError('LOGPIPE_KIBANA_UNREACHABLE', `Kibana at ${target.base} was not asked: ${way.unusable}`);
  }
  let response: AxiosResponse<string>;
  try {
    response = await axios.post<string>(`${target.base}${IMPORT_PATH}`, form, {
      headers: { 'kbn-xsrf': 'true', Accept: 'application/json', 'User-Agent': 'logpipe', ...authorization(config) },
      timeout: config.requestTimeoutMs,
      // The key must not go to wherever a redirect leads.
      maxRedirects: 0,
      responseType: 'text',
      transformResponse: (text: string) => text,
      validateStatus: () => true,
      ...way.connections,
    });
  } catch (error) {
    throw await unreachable(error, target, config);
  }
  const reply = response.status === 200 ? readReply(response.data) : undefined;
  if (reply === undefined) throw refusal(response, target, config, Buffer.byteLength(ndjson));
  return reply;
}

function authorization({ apiKey, username, password }: KibanaConfig): Record<string, string> {
  if (apiKey !== undefined) return { Authorization: `ApiKey ${apiKey}` };
  if (username === undefined) return {};
  return { Authorization: `Basic ${Buffer.from(`${username}:${password ?? ''}`).toString('base64')}` };
}

function authority({ caFile }: KibanaConfig): { ca?: Buffer } {
  if (caFile === undefined) return {};
  try {
    return { ca: readFileSync(caFile) };
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_UNREADABLE',
      `kibana.caFile: ${caFile} cannot be read (${reasonInWords(error)}); name a readable PEM file`,
    );
  }
}

/** Undefined when it is not a reply to an import: something other than Kibana may answer 200 to anything. */
function readReply(text: string): ImportReply | undefined {
  let reply: Partial<ImportReply> | null;
  try {
    reply = JSON.parse(text) as Partial<ImportReply> | null;
  } catch {
    return undefined;
  }
  const { success, successCount, successResults = [], errors = [] } = reply ?? {};
  if (typeof success !== 'boolean' || typeof successCount !== 'number' || !Array.isArray(errors)) return undefined;
  return { success, successCount, successResults, errors };
}

/** A new error, because axios's own carries the request with its headers. */
async function unreachable(error: unknown, { base }: KibanaTarget, config: KibanaConfig): Promise<LogpipeError> {
  if (error instanceof LogpipeError) return error;
  const ofProxy = proxyErrorOf(error);
  if (ofProxy !== undefined) {
    const said = ofProxy.status === undefined ? `${ofProxy.message} (${errorCode(ofProxy)})` : ofProxy.message;
    return new LogpipeError(
      'LOGPIPE_KIBANA_UNREACHABLE',
      `Kibana at ${base} was not reached: ${said}; check HTTPS_PROXY with its user and password, or except the host in NO_PROXY`,
    );
  }
  const code = errorCode(error);
  const failed = (hint: string) =>
    new LogpipeError('LOGPIPE_KIBANA_UNREACHABLE', `Kibana at ${base} did not answer (${code}); ${hint}`);
  if (error instanceof AxiosError && error.code === AxiosError.ECONNABORTED) {
    return failed(`not within ${config.requestTimeoutMs} ms (kibana.requestTimeoutMs)`);
  }
  if (base.startsWith('http://') && (await speaksTls(new URL(base)))) {
    return failed('that address speaks TLS; write https:// instead of http://');
  }
  if (/^(?:EPROTO|ERR_SSL_)/.test(code)) return failed('that address speaks no TLS; write http:// instead of https://');
  if (/CERT|SELF_SIGNED|UNABLE_TO_/.test(code)) {
    return failed('set kibana.caFile (KIBANA_CA_FILE) to the authority that signed its certificate');
  }
  return failed('check that it runs and that the address is right (--url, kibana.url, KIBANA_URL)');
}

// ---- an answer that is not a reply to an import ----

const MAX_QUOTED = 300;

function refusal(
  response: AxiosResponse<string>,
  target: KibanaTarget,
  config: KibanaConfig,
  bytes: number,
): LogpipeError {
  const { status } = response;
  const words = quotable(response.data, config);
  const said = words === '' ? '' : `: ${words}`;
  return new LogpipeError(
    'LOGPIPE_KIBANA_REFUSED',
    `Kibana at ${target.base} answered ${status}${said}; ${hintOf(response, target, config, bytes)}`,
  );
}

function hintOf(
  { status, headers, data }: AxiosResponse<string>,
  { space }: KibanaTarget,
  config: KibanaConfig,
  bytes: number,
): string {
  const given =
    config.apiKey !== undefined ? 'the API key' : config.username !== undefined ? 'user and password' : undefined;
  if (/no handler found for uri|"cluster_name"|_security_exception/.test(data)) {
    return 'this looks like Elasticsearch; give the address of Kibana (port 5601 unless changed)';
  }
  if (status >= 300 && status < 400) {
    return `it leads on to ${place(headers.location)}, which is not followed; give the final address, with its base path`;
  }
  switch (status) {
    case 200:
      return 'that is not a reply to an import: check that this is the address of Kibana';
    case 401:
      return given === undefined
        ? 'no credentials were given: set KIBANA_API_KEY, or KIBANA_USERNAME and KIBANA_PASSWORD'
        : `check ${given}`;
    case 403:
      return `the credentials need the privilege "Saved Objects Management: All" in the space ${space}`;
    case 404:
      return `check that this is the address of Kibana, with its base path, and that there is a space ${space}`;
    case 409:
      return 'somebody changed the same objects at the same time; import again';
    case 413:
      return `the objects are ${bytes} bytes: raise savedObjects.maxImportPayloadBytes of Kibana, or the limit of a proxy before it (nginx: client_max_body_size)`;
    case 415:
      return 'a proxy on the way has changed the request';
    case 422:
      return 'this Kibana is older than the objects; they need 8.9 or later';
    case 502:
    case 503:
    case 504:
      return 'it is starting, or a proxy cannot reach it; try again in a moment';
    default:
      return status >= 500 ? 'see the log of Kibana' : 'the text above is Kibana’s';
  }
}

/** Without a query, since some login pages get a token there. */
function place(location: unknown): string {
  return typeof location === 'string' ? location.replace(/[?#].*$/, '').slice(0, 200) : 'nowhere';
}

function quotable(data: string, { apiKey, password }: KibanaConfig): string {
  let text = data;
  try {
    const { message } = JSON.parse(data) as { message?: unknown };
    if (typeof message === 'string') text = message;
  } catch {
    // A proxy's page says nothing that its status does not.
    if (data.trimStart().startsWith('<')) return '';
  }
  for (const secret of [apiKey, password]) if (secret) text = text.replaceAll(secret, MASK);
  const plain = createMasker()
    .text(text)
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e]+/g, ' ')
    .trim();
  return plain.length > MAX_QUOTED ? `${plain.slice(0, MAX_QUOTED)}…` : plain;
}

// ---- where an import goes ----

interface KibanaTarget {
  /** Address with base path and space, without a slash at its end: `http://kibana:5601/s/ops`. */
  readonly base: string;
  /** `default` for the default space. */
  readonly space: string;
}

/** @throws LogpipeError LOGPIPE_USAGE */
export function kibanaTarget(address: string, space: string | undefined): KibanaTarget {
  if (!/^https?:\/\//.test(address) || !URL.canParse(address)) {
    throw new LogpipeError('LOGPIPE_USAGE', 'kibana.url or --url: is not an http:// or https:// address');
  }
  const url = new URL(address);
  if (url.username !== '' || url.password !== '') {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `kibana.url or --url: ${url.host} has a user or password in its address; set KIBANA_USERNAME and KIBANA_PASSWORD instead`,
    );
  }
  if (space !== undefined && !/^[a-z0-9_-]+$/.test(space)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--space: found ${JSON.stringify(space)}; the id of a space has lower-case letters, digits, - and _ (it is in the space's address)`,
    );
  }
  // An address copied from a browser ends with the page: …/s/ops/app/discover#/…
  const path = url.pathname.replace(/\/app(?:\/.*)?$/, '').replace(/\/+$/, '');
  const named = /\/s\/([a-z0-9_-]+)$/.exec(path);
  const inAddress = named?.[1];
  if (space !== undefined && inAddress !== undefined && space !== inAddress) {
    throw new LogpipeError('LOGPIPE_USAGE', `--space: found ${space}, but the address is that of space ${inAddress}`);
  }
  const into = space ?? inAddress ?? 'default';
  const root = `${url.origin}${named === null ? path : path.slice(0, named.index)}`;
  return { base: into === 'default' ? root : `${root}/s/${into}`, space: into };
}
