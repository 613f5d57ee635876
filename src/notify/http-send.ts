// One JSON POST per call, for every channel that uses HTTP, if need be through the environment's proxy; and the deadline of an attempt.
// In: a body. Out: what the answer means. Guarantee: never throws; a message counts as sent only when the configured service itself
// answered, not a proxy; no reason holds the address, a key or a header; nothing is sent to any other address than the configured one.

import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, type RequestOptions, request as requestHttps } from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import axios from 'axios';
import type { Clock } from '../core/clock.ts';
import { causeChain, LogpipeError } from '../core/errors.ts';
import { MASK, type Masker } from '../core/secrets/mask.ts';
import { cut, oneLine, type SendResult } from '../incidents/notification.ts';

/** When an answer asks for a longer wait than this, the next attempt comes after this time. */
const MAX_RETRY_AFTER_MS = 3_600_000;
const MAX_READ_BYTES = 4_096;
const MAX_QUOTED = 200;

interface HttpSendOptions {
  readonly url: string;
  /** The address's place in the configuration, for the error when it is not valid. */
  readonly place: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  /** Whether a refusal may be quoted: only for services that are known to say why they refuse. */
  readonly quote: boolean;
  /** Checks that a 2xx answer proves delivery; returns what is wrong with it. HTML never proves it. */
  readonly confirm?: (words: string) => string | undefined;
  /** More texts that must never be quoted, such as a key within the body. */
  readonly secrets?: readonly string[];
}

export interface HttpSendDeps {
  readonly clock: Clock;
  readonly masker: Masker;
}

export type HttpSend = (body: unknown, signal: AbortSignal) => Promise<SendResult>;

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID when `url` (perhaps from a secret file) is not an address. */
export function createHttpSend(options: HttpSendOptions, deps: HttpSendDeps): HttpSend {
  if (!/^https?:\/\/\S+$/.test(options.url) || !URL.canParse(options.url)) {
    throw new LogpipeError('LOGPIPE_CONFIG_INVALID', `${options.place}: is not an http:// or https:// address`);
  }
  const address = new URL(options.url);
  const client = axios.create({
    headers: { ...options.headers, 'Content-Type': 'application/json', 'User-Agent': 'logpipe' },
    // A redirect could carry the message, and a token in its address, to somewhere else.
    maxRedirects: 0,
    responseType: 'stream',
    validateStatus: () => true,
  });
  const { proxy, unusable, connections } = wayTo(address, options.timeoutMs);
  const secrets = secretsOf(options, proxy);
  const forwarded = proxy !== undefined && address.protocol === 'http:';

  async function attempt(body: unknown, signal: AbortSignal): Promise<SendResult> {
    if (unusable !== undefined) return { ok: false, retryable: true, reason: unusable };
    // Lone surrogates in log data would make the whole message invalid for strict receivers.
    const data = JSON.stringify(body, (_, value) => (typeof value === 'string' ? value.toWellFormed() : value));
    const {
      status,
      headers,
      data: stream,
    } = await client.post<Readable>(options.url, Buffer.from(data), { ...connections, signal });
    const words = await readWords(stream);
    const html = isHtml(String(headers['content-type'] ?? ''), words);
    if (status >= 200 && status < 300) {
      const doubt = html ? 'a web page' : options.confirm?.(words);
      return doubt === undefined ? { ok: true } : doubtful(`HTTP ${status} with ${doubt}`);
    }
    const waitMs = retryAfterMs(headers, deps.clock.now());
    if (forwarded && status === 407) return proxyAnswered(status, waitMs);
    // A web page instead of the service's answer comes from a proxy, or from somebody who wants a log-in first.
    if (forwarded && html && status >= 400 && status < 500) {
      return doubtful(`HTTP ${status} with a web page, perhaps of the proxy`);
    }
    const text = options.quote ? quotable(words, secrets, deps.masker) : '';
    return refusal(status, text, waitMs);
  }

  function failure(error: unknown): SendResult {
    const cause = proxyErrorOf(error);
    if (cause === undefined) return { ok: false, retryable: true, reason: `connection failed: ${errorCode(error)}` };
    if (cause.status !== undefined) return proxyAnswered(cause.status, retryAfterMs(cause.headers, deps.clock.now()));
    return { ok: false, retryable: true, reason: `connection to the proxy failed: ${errorCode(cause)}` };
  }

  return (body, signal) => withDeadline(options.timeoutMs, signal, (either) => attempt(body, either), failure);
}

function doubtful(reason: string): SendResult {
  return { ok: false, retryable: true, reason, doubtful: true };
}

/** The proxy's answer says nothing about the message, and may be different in a moment. */
function proxyAnswered(status: number, retryAfter: number | undefined): SendResult {
  const reason = `the proxy answered ${status}`;
  return { ok: false, retryable: true, reason, ...(retryAfter === undefined ? {} : { retryAfterMs: retryAfter }) };
}

/** One word of plain text, or nothing, is not a page, even with the content type that frameworks set by default. */
function isHtml(type: string, words: string): boolean {
  const text = words.replace(/^\ufeff/, '').trim();
  if (text.startsWith('<') && /<(?:!doctype\s+html|html|head|body)\b/i.test(text)) return true;
  if (!/^\s*(?:text\/html|application\/xhtml)/i.test(type)) return false;
  return text !== '' && !/^[\w.!]{1,20}$|^[{[]/.test(text);
}

function refusal(status: number, text: string, retryAfter: number | undefined): SendResult {
  const note = status >= 300 && status < 400 ? ' (redirects are not followed)' : '';
  const reason = `HTTP ${status}${note}${text === '' ? '' : `: ${text}`}`;
  // Temporary redirects lead to a log-in page. Permanent ones (301, 308) mean that the address is wrong.
  if (status === 302 || status === 303 || status === 307) return doubtful(reason);
  // 408 is the server's time-out.
  if (status !== 429 && status !== 408 && status < 500) return { ok: false, retryable: false, reason };
  return { ok: false, retryable: true, reason, ...(retryAfter === undefined ? {} : { retryAfterMs: retryAfter }) };
}

/**
 * Retry-After in both forms of RFC 9110, 10.2.3; any other form is ignored. A date is compared with the server's own clock where
 * it sends one.
 */
function retryAfterMs(headers: Readonly<Record<string, unknown>>, nowMs: number): number | undefined {
  const value = String(headers['retry-after'] ?? '').trim();
  let ms: number;
  if (/^\d+(?:\.\d+)?$/.test(value)) ms = Number(value) * 1_000;
  else if (!/^[A-Z][a-z]{2,8},? /.test(value)) return undefined;
  else {
    const serverMs = Date.parse(String(headers.date ?? ''));
    ms = Date.parse(value) - (Number.isNaN(serverMs) ? nowMs : serverMs);
  }
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, Math.round(ms)), MAX_RETRY_AFTER_MS);
}

/** The beginning of the answer. A body that breaks off or never ends does not change what the status says. */
async function readWords(stream: Readable): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const part of stream) {
      parts.push(part as Buffer);
      bytes += (part as Buffer).length;
      if (bytes >= MAX_READ_BYTES) break;
    }
  } catch {
    // What was read is enough.
  } finally {
    stream.destroy();
  }
  return Buffer.concat(parts).subarray(0, MAX_READ_BYTES).toString();
}

function quotable(words: string, secrets: readonly string[], masker: Masker): string {
  let text = oneLine(words);
  // A proxy's page says nothing that its status does not.
  if (text.startsWith('<')) return '';
  for (const secret of secrets) text = text.replaceAll(secret, MASK);
  return cut(masker.text(text), MAX_QUOTED);
}

/** Everything in the request that must not come back in a quoted answer, longest first. */
function secretsOf({ url, headers = {}, secrets = [] }: HttpSendOptions, proxy: HttpProxy | undefined): string[] {
  const { username, password, pathname, search, host } = new URL(url);
  const ofProxy = proxy?.auth === undefined ? [] : [proxy.auth.username, proxy.auth.password, basicAuth(proxy.auth)];
  const parts = [...ofProxy, url, host, username, password, ...pathname.split('/'), ...search.slice(1).split(/[&=]/)];
  const decoded = parts.map((part) => (part.includes('%') ? safeDecode(part) : part));
  return [...new Set([...parts, ...decoded, ...secrets, ...Object.values(headers)])]
    .filter((text) => text.length >= 6)
    .sort((one, other) => other.length - one.length);
}

function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// ---- the proxy of the environment ----
// HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, lower case first. For an https:// address the connection is a tunnel, encrypted up to
// the address: the proxy sees neither message nor token. A proxy's own answer is never mistaken for the address's, and its user and
// password are in no error.

interface HttpProxy {
  readonly protocol: 'http:' | 'https:';
  readonly host: string;
  readonly port: number;
  /** As they are, not percent-encoded. */
  readonly auth?: { readonly username: string; readonly password: string };
}

/** The proxy did not let us through. */
class ProxyError extends Error {
  /** Status of the proxy's answer, if it gave one. */
  readonly status: number | undefined;
  readonly headers: IncomingMessage['headers'];
  /** Code of the failed connection to it. */
  readonly code: string | undefined;

  constructor(status: number | undefined, headers: IncomingMessage['headers'], code?: string) {
    super(status === undefined ? 'the proxy cannot be reached' : `the proxy answered ${status}`);
    this.name = 'ProxyError';
    this.status = status;
    this.headers = headers;
    this.code = code;
  }
}

/** The environment names a proxy that cannot be used. */
class ProxySettingError extends Error {}

const DEFAULT_PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443 };

/** @returns undefined without a proxy. @throws ProxySettingError, which does not quote the setting: it may hold a password */
export function proxyFor(address: URL, env: Readonly<Record<string, string | undefined>>): HttpProxy | undefined {
  const scheme = address.protocol.slice(0, -1);
  const name = [`${scheme}_proxy`, 'all_proxy'].find((each) => setting(env, each) !== '');
  if (name === undefined || isExcepted(address, setting(env, 'no_proxy'))) return undefined;
  const text = setting(env, name);
  const found = text.includes('://') ? text : `http://${text}`;
  if (!URL.canParse(found) || !/^https?:\/\//i.test(found)) {
    throw new ProxySettingError(`${name.toUpperCase()} is not an http:// or https:// address of a proxy`);
  }
  const { protocol, hostname, port, username, password } = new URL(found);
  return {
    protocol: protocol as HttpProxy['protocol'],
    host: bare(hostname),
    port: port === '' ? (DEFAULT_PORTS[protocol] as number) : Number(port),
    ...(username === '' && password === ''
      ? {}
      : { auth: { username: decoded(username), password: decoded(password) } }),
  };
}

function setting(env: Readonly<Record<string, string | undefined>>, name: string): string {
  return (env[name] || env[name.toUpperCase()] || '').trim();
}

/** `host`, `.domain`, `*.domain`, each with or without `:port`; a plain `domain` covers its hosts too; `*` covers all. */
function isExcepted(address: URL, list: string): boolean {
  const host = bare(address.hostname).toLowerCase().replace(/\.$/, '');
  const port = address.port === '' ? DEFAULT_PORTS[address.protocol] : Number(address.port);
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => {
      if (entry === '*') return true;
      // An IPv6 address without brackets has colons of its own.
      const colon = entry.lastIndexOf(':');
      const hasPort = colon > 0 && (entry.indexOf(':') === colon || entry[colon - 1] === ']');
      if (hasPort && Number(entry.slice(colon + 1)) !== port) return false;
      const domain = bare(hasPort ? entry.slice(0, colon) : entry)
        .replace(/^\*?\.|^\*/, '')
        .replace(/\.$/, '');
      return domain !== '' && (host === domain || (isIP(host) === 0 && host.endsWith(`.${domain}`)));
    });
}

/** Removes the brackets of an IPv6 address. */
function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

/** A text that is not percent-encoded stays as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function basicAuth({ username, password }: NonNullable<HttpProxy['auth']>): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

/** How an address is reached. */
interface Way {
  readonly proxy?: HttpProxy;
  /** Why nothing can be sent. */
  readonly unusable?: string;
  /** For axios. */
  readonly connections: {
    readonly httpAgent: HttpAgent;
    readonly httpsAgent: HttpsAgent;
    readonly proxy: HttpProxy | false;
  };
}

/**
 * Every connection is new: a kept one that the other side has just closed looks like a failed send. The environment's proxies
 * apply, except to this host, which they cannot reach. axios's own proxy support would mistake a proxy's refusal for the address's.
 * @param timeoutMs how long the proxy may take to answer
 */
export function wayTo(address: URL, timeoutMs: number, tls: ConnectionOptions = {}): Way {
  const httpAgent = new HttpAgent({ keepAlive: false });
  const direct = { httpAgent, httpsAgent: new HttpsAgent({ keepAlive: false, ...tls }), proxy: false } as const;
  let proxy: HttpProxy | undefined;
  try {
    proxy = isLoopback(address.hostname) ? undefined : proxyFor(address, process.env);
  } catch (error) {
    if (!(error instanceof ProxySettingError)) throw error;
    return { unusable: error.message, connections: direct };
  }
  if (proxy === undefined) return { connections: direct };
  // For plain http the proxy takes the address's place, and sees everything anyway.
  if (address.protocol === 'http:') return { proxy, connections: { ...direct, proxy } };
  return { proxy, connections: { ...direct, httpsAgent: new TunnelAgent(proxy, timeoutMs, tls) } };
}

/** The proxy's own error within an error of axios. */
export function proxyErrorOf(error: unknown): ProxyError | undefined {
  return [...causeChain(error)].find((one) => one instanceof ProxyError);
}

/** For https:// addresses: every connection is a tunnel of its own. */
class TunnelAgent extends HttpsAgent {
  readonly #proxy: HttpProxy;
  readonly #timeoutMs: number;

  constructor(proxy: HttpProxy, timeoutMs: number, tls: ConnectionOptions) {
    super({ keepAlive: false, ...tls });
    this.#proxy = proxy;
    this.#timeoutMs = timeoutMs;
  }

  /** node:http takes the socket from the callback. */
  override createConnection(
    options: RequestOptions,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    openTunnel(this.#proxy, `${options.host}`, Number(options.port), this.#timeoutMs).then(
      (socket) => callback?.(null, connectTls({ ...(options as ConnectionOptions), socket, path: undefined })),
      // An error comes without a socket.
      (error: Error) => callback?.(error, undefined as never),
    );
    return undefined;
  }
}

/** RFC 9110, 9.3.6. @throws ProxyError */
function openTunnel(proxy: HttpProxy, host: string, port: number, timeoutMs: number): Promise<Socket> {
  const target = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  return new Promise((resolve, reject) => {
    const options = {
      host: proxy.host,
      port: proxy.port,
      method: 'CONNECT',
      path: target,
      headers: {
        Host: target,
        ...(proxy.auth === undefined ? {} : { 'Proxy-Authorization': basicAuth(proxy.auth) }),
      },
      agent: false as const,
      timeout: timeoutMs,
    };
    const asked = proxy.protocol === 'https:' ? requestHttps(options) : requestHttp(options);
    asked.once('connect', (answer, socket, head) => {
      const { statusCode = 0 } = answer;
      if (statusCode < 200 || statusCode > 299) {
        socket.destroy();
        reject(new ProxyError(statusCode, answer.headers));
        return;
      }
      socket.setTimeout(0);
      if (head.length > 0) socket.unshift(head);
      resolve(socket as Socket);
    });
    asked.once('timeout', () => asked.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })));
    asked.once('error', (error: NodeJS.ErrnoException) => reject(new ProxyError(undefined, {}, error.code)));
    asked.end();
  });
}

// ---- one attempt with a deadline ----

/**
 * Never throws, whatever the attempt does.
 * @param attempt sends; its signal aborts at the limit or when `signal` does
 * @param explain turns an error of the attempt into a result; must not name a host
 */
export async function withDeadline(
  timeoutMs: number,
  signal: AbortSignal,
  attempt: (signal: AbortSignal) => Promise<SendResult>,
  explain: (error: unknown) => SendResult,
): Promise<SendResult> {
  const stopped: SendResult = { ok: false, retryable: true, reason: 'stopped before an answer' };
  if (signal.aborted) return stopped;
  // Not AbortSignal.any: Node 20 may collect a timeout signal that only a combined one refers to.
  const end = new AbortController();
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    end.abort();
  }, timeoutMs);
  const stop = () => end.abort();
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await attempt(end.signal);
  } catch (error) {
    if (signal.aborted) return stopped;
    if (late) return { ok: false, retryable: true, reason: `no answer within ${timeoutMs} ms` };
    return explain(error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

/** ECONNREFUSED, CERT_HAS_EXPIRED and the like; an error's message would name the host. */
export function errorCode(error: unknown): string {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' && /^[A-Z][A-Z0-9_]{2,60}$/.test(code) ? code : 'no further detail';
}

export function isLoopback(host: string): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)$/i.test(host);
}
