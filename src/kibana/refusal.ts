// What an HTTP answer of Kibana means that is no reply to an import. In: status and body. Out: an error that says what to do.
// Guarantee: the server's words are quoted without any key or password of ours.
import type { AxiosResponse } from 'axios';
import { LogpipeError } from '../core/errors.ts';
import { createMasker, MASK } from '../core/mask.ts';
import type { KibanaConfig } from './kibana-config.ts';
import type { KibanaTarget } from './target.ts';

const MAX_QUOTED = 300;

export function refusal(
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
      return 'that is no reply to an import: is it the address of Kibana?';
    case 401:
      return given === undefined
        ? 'no credentials were given: set KIBANA_API_KEY, or KIBANA_USERNAME and KIBANA_PASSWORD'
        : `check ${given}`;
    case 403:
      return `the credentials need the privilege "Saved Objects Management: All" in the space ${space}`;
    case 404:
      return `is it the address of Kibana, with its base path, and is there a space ${space}?`;
    case 409:
      return 'somebody changed the same objects at the same time; import again';
    case 413:
      return `the objects are ${bytes} bytes: raise savedObjects.maxImportPayloadBytes of Kibana, or the limit of a proxy before it (nginx: client_max_body_size)`;
    case 415:
      return 'a proxy on the way has changed the request';
    case 422:
      return 'this Kibana is older than the objects; 8.9 and later take them';
    case 502:
    case 503:
    case 504:
      return 'it is starting, or a proxy does not reach it; try again in a moment';
    default:
      return status >= 500 ? 'see the log of Kibana' : 'the words above are Kibana’s';
  }
}

/** Without a query: some log-in pages are given a token there. */
function place(location: unknown): string {
  return typeof location === 'string' ? location.replace(/[?#].*$/, '').slice(0, 200) : 'nowhere';
}

function quotable(data: string, { apiKey, password }: KibanaConfig): string {
  let text = data;
  try {
    const { message } = JSON.parse(data) as { message?: unknown };
    if (typeof message === 'string') text = message;
  } catch {
    // A page of some proxy says nothing that its status does not.
    if (data.trimStart().startsWith('<')) return '';
  }
  for (const secret of [apiKey, password]) if (secret) text = text.replaceAll(secret, MASK);
  const plain = createMasker()
    .text(text)
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e]+/g, ' ')
    .trim();
  return plain.length > MAX_QUOTED ? `${plain.slice(0, MAX_QUOTED)}…` : plain;
}
