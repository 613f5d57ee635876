// One JSON POST per call, for every channel that speaks HTTP. In: a body. Out: what the answer means. Guarantee: never
// throws; what is called sent was answered as the address's own service answers; no reason holds the address, a key or a
// header; nothing is sent to any other address than the configured one.
import type { Readable } from 'node:stream';
import axios from 'axios';
import type { Clock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import { MASK, type Masker } from '../core/mask.ts';
import { errorCode, withDeadline } from './attempt.ts';
import type { SendResult } from './notification.ts';
import { basicAuth, type HttpProxy, proxyErrorOf, wayTo } from './proxy.ts';
import { cut, oneLine } from './text.ts';

/** An answer that asks for a longer wait than this is asked again after it all the same. */
const MAX_RETRY_AFTER_MS = 3_600_000;
const MAX_READ_BYTES = 4_096;
const MAX_QUOTED = 200;

export interface HttpSendOptions {
  readonly url: string;
  /** Where in the configuration the address stands, for the message when it is none. */
  readonly place: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  /** Whether the words of a refusal may be quoted: only for services that are known to answer with words about it. */
  readonly quote: boolean;
  /**
   * What else an answer with 2xx must say to be a proof; a text says what is wrong with it. HTML is none in any case.
   */
  readonly confirm?: (words: string) => string | undefined;
  /** Further texts that must never be quoted, such as a key within the body. */
  readonly secrets?: readonly string[];
}

export interface HttpSendDeps {
  readonly clock: Clock;
  readonly masker: Masker;
}

export type HttpSend = (body: unknown, signal: AbortSignal) => Promise<SendResult>;

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID when `url` (perhaps from a secret file) is no address. */
export function createHttpSend(options: HttpSendOptions, deps: HttpSendDeps): HttpSend {
  if (!/^https?:\/\/\S+$/.test(options.url) || !URL.canParse(options.url)) {
    throw new LogpipeError('LOGPIPE_CONFIG_INVALID', `${options.place}: is no http:// or https:// address`);
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
    // A page where a service answers with words: of a proxy, or of somebody who wants a log-in first.
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

/** Nothing about the message: whatever it says may be otherwise in a moment. */
function proxyAnswered(status: number, retryAfter: number | undefined): SendResult {
  const reason = `the proxy answered ${status}`;
  return { ok: false, retryable: true, reason, ...(retryAfter === undefined ? {} : { retryAfterMs: retryAfter }) };
}

/** A framework's default type on one word of plain text, or on nothing, is no page. */
function isHtml(type: string, words: string): boolean {
  const text = words.replace(/^\ufeff/, '').trim();
  if (text.startsWith('<') && /<(?:!doctype\s+html|html|head|body)\b/i.test(text)) return true;
  if (!/^\s*(?:text\/html|application\/xhtml)/i.test(type)) return false;
  return text !== '' && !/^[\w.!]{1,20}$|^[{[]/.test(text);
}

function refusal(status: number, text: string, retryAfter: number | undefined): SendResult {
  const note = status >= 300 && status < 400 ? ' (redirects are not followed)' : '';
  const reason = `HTTP ${status}${note}${text === '' ? '' : `: ${text}`}`;
  // For a moment only: the way to a log-in page. The lasting ones (301, 308) say that the address is wrong.
  if (status === 302 || status === 303 || status === 307) return doubtful(reason);
  // 408 is the server's word for a time-out.
  if (status !== 429 && status !== 408 && status < 500) return { ok: false, retryable: false, reason };
  return { ok: false, retryable: true, reason, ...(retryAfter === undefined ? {} : { retryAfterMs: retryAfter }) };
}

/**
 * Retry-After in both forms of RFC 9110, 10.2.3; whatever else it says is not heeded. A date is compared with the server's
 * own clock where it tells it.
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

/**
 * The beginning of the answer. A body that breaks off or never ends changes nothing about the status that came before
 * it.
 */
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
  // A page of some proxy says nothing that its status does not.
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
