// One attempt to send, with its end. In: the attempt, a stop signal, a limit of time. Out: a result. Guarantee: never
// throws, whatever the attempt does; what it says of an error names no host.
import type { SendResult } from './notification.ts';

/**
 * @param attempt sends; its signal aborts at the limit or when `signal` does
 * @param explain what an error of the attempt's own means
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
