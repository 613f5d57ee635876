// The proxy of the environment: which one an address goes through, and a way through it for TLS. In: HTTPS_PROXY, HTTP_PROXY,
// ALL_PROXY and NO_PROXY (lower case goes first); an https:// address. Out: a connection that is encrypted up to the address.
// Guarantee: what the proxy itself answers is never taken for an answer of the address; the proxy sees neither message nor
// token; its user and password stand in no error.
import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, type RequestOptions, request as requestHttps } from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { isLoopback } from './attempt.ts';

export interface HttpProxy {
  readonly protocol: 'http:' | 'https:';
  readonly host: string;
  readonly port: number;
  /** As they are, not percent-encoded. */
  readonly auth?: { readonly username: string; readonly password: string };
}

/** The proxy did not let us through. */
export class ProxyError extends Error {
  /** Of the proxy's answer, if it gave one. */
  readonly status: number | undefined;
  readonly headers: IncomingMessage['headers'];
  /** Of the failed connection to it. */
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
export class ProxySettingError extends Error {}

const DEFAULT_PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443 };

/** @returns undefined when nothing stands between. @throws ProxySettingError without what it found: it may hold a password */
export function proxyFor(address: URL, env: Readonly<Record<string, string | undefined>>): HttpProxy | undefined {
  const scheme = address.protocol.slice(0, -1);
  const name = [`${scheme}_proxy`, 'all_proxy'].find((each) => setting(env, each) !== '');
  if (name === undefined || isExcepted(address, setting(env, 'no_proxy'))) return undefined;
  const text = setting(env, name);
  const found = text.includes('://') ? text : `http://${text}`;
  if (!URL.canParse(found) || !/^https?:\/\//i.test(found)) {
    throw new ProxySettingError(`${name.toUpperCase()} is no http:// or https:// address of a proxy`);
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

/** `host`, `.domain`, `*.domain`, each with or without `:port`; `domain` alone stands for its hosts too; `*` for all. */
function isExcepted(address: URL, list: string): boolean {
  const host = bare(address.hostname).toLowerCase().replace(/\.$/, '');
  const port = address.port === '' ? DEFAULT_PORTS[address.protocol] : Number(address.port);
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => {
      if (entry === '*') return true;
      // An IPv6 address has colons of its own, unless it stands in brackets.
      const colon = entry.lastIndexOf(':');
      const hasPort = colon > 0 && (entry.indexOf(':') === colon || entry[colon - 1] === ']');
      if (hasPort && Number(entry.slice(colon + 1)) !== port) return false;
      const domain = bare(hasPort ? entry.slice(0, colon) : entry)
        .replace(/^\*?\.|^\*/, '')
        .replace(/\.$/, '');
      return domain !== '' && (host === domain || (isIP(host) === 0 && host.endsWith(`.${domain}`)));
    });
}

/** An IPv6 address without its brackets. */
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

export function basicAuth({ username, password }: NonNullable<HttpProxy['auth']>): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

/** How an address is reached. */
export interface Way {
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
 * Each connection is new: a kept one that the other side has just closed looks like a failed send. The environment's proxies
 * apply, but none reaches a server on this host. axios's own way through a proxy would take its refusal for the address's.
 * @param timeoutMs for the proxy's answer
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
  // For plain http it stands in the address's place, and sees all whatever we do.
  if (address.protocol === 'http:') return { proxy, connections: { ...direct, proxy } };
  return { proxy, connections: { ...direct, httpsAgent: new TunnelAgent(proxy, timeoutMs, tls) } };
}

/** What the proxy itself said or did, of an error that axios gave. */
export function proxyErrorOf(error: unknown): ProxyError | undefined {
  const cause = error instanceof ProxyError ? error : (error as { cause?: unknown } | null | undefined)?.cause;
  return cause instanceof ProxyError ? cause : undefined;
}

/** For https:// addresses: each connection is a tunnel of its own. */
class TunnelAgent extends HttpsAgent {
  readonly #proxy: HttpProxy;
  readonly #timeoutMs: number;

  constructor(proxy: HttpProxy, timeoutMs: number, tls: ConnectionOptions) {
    super({ keepAlive: false, ...tls });
    this.#proxy = proxy;
    this.#timeoutMs = timeoutMs;
  }

  /** As node:http calls it: the socket comes by the callback. */
  override createConnection(
    options: RequestOptions,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    openTunnel(this.#proxy, `${options.host}`, Number(options.port), this.#timeoutMs).then(
      (socket) => callback?.(null, connectTls({ ...(options as ConnectionOptions), socket, path: undefined })),
      // No socket comes with an error.
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
