// One import of saved objects into Kibana. In: the text of an .ndjson file. Out: Kibana's reply, object by object.
// Guarantee: nothing else is asked of the server; no error holds a key or password, and each says what to do.
import { readFileSync } from 'node:fs';
import axios, { AxiosError, type AxiosResponse } from 'axios';
import { errorText, LogpipeError } from '../core/errors.ts';
import { speaksTls } from '../core/tls-probe.ts';
import { errorCode } from '../notify/attempt.ts';
import { proxyErrorOf, wayTo } from '../notify/proxy.ts';
import type { KibanaConfig } from './kibana-config.ts';
import { refusal } from './refusal.ts';
import type { KibanaTarget } from './target.ts';

/** An object that Kibana did not take. */
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

export const IMPORT_PATH = '/api/saved_objects/_import?overwrite=true';

/**
 * Sends the objects; those that are there already are overwritten, so that repeating it changes nothing.
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
      `kibana.caFile: ${caFile} cannot be read (${errorText(error)}); name a readable PEM file`,
    );
  }
}

/** Undefined when it is none: something else than Kibana may answer 200 to anything. */
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

/** The error is made anew: axios's own carries the request with its headers. */
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
  return failed('is it running, and is the address right? (--url, kibana.url, KIBANA_URL)');
}
