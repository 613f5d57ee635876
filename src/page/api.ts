// The pipeline's API, for the views. In: a path below /api/v1 and parameters. Out: the answer's JSON, or an Error that says in words what was
// wrong. Guarantee: no request lasts longer than 30 s; whoever asks may abort it; a 401 brings up the field for a token.
import type { Params } from './address.ts';

const LIMIT_MS = 30_000;

/** `status` 0: there was no answer. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.name = 'ApiError';
    this.status = status;
  }
}

export interface Api {
  /** `get<Charts>('charts', { from, level: ['error'] }, signal)` @throws ApiError; AbortError when `signal` ends it */
  get<T>(path: string, params?: Params, signal?: AbortSignal): Promise<T>;
  /** @throws ApiError */
  post<T>(path: string, body: object, params?: Params, signal?: AbortSignal): Promise<T>;
  /** @throws ApiError */
  del<T>(path: string): Promise<T>;
}

export interface ApiDeps {
  fetch(path: string, init: RequestInit): Promise<Response>;
  token(): string | null;
  refused(): void;
}

export function createApi({ fetch, token, refused }: ApiDeps): Api {
  async function ask<T>(path: string, params: Params, init: RequestInit, signal?: AbortSignal): Promise<T> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), LIMIT_MS);
    const end = () => limit.abort();
    signal?.addEventListener('abort', end);
    if (signal?.aborted) end();
    const bearer = token();
    const headers = { ...init.headers, ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }) };
    try {
      const response = await fetch(apiPath(path, params), {
        ...init,
        headers,
        signal: limit.signal,
        cache: 'no-store',
      });
      if (response.status === 401) refused();
      if (!response.ok) throw new ApiError(response.status, await detailOf(response));
      const text = await response.text();
      return parsed(text) as T;
    } catch (error) {
      if (error instanceof ApiError || signal?.aborted) throw error;
      const slow = `the pipeline has not answered within ${LIMIT_MS / 1_000} s`;
      throw new ApiError(0, limit.signal.aborted ? slow : 'the pipeline does not answer');
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
    }
  }

  return {
    get: (path, params = {}, signal) => ask(path, params, { method: 'GET' }, signal),
    post: (path, body, params = {}, signal) =>
      ask(
        path,
        params,
        { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) },
        signal,
      ),
    del: (path) => ask(path, {}, { method: 'DELETE' }),
  };
}

/** Relative to the page. Parts of `path` that come from elsewhere are encoded by the caller. */
export function apiPath(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const text of [value ?? []].flat()) if (text !== '') query.append(name, text);
  }
  const text = query.toString();
  return `./api/v1/${path}${text === '' ? '' : `?${text}`}`;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(0, 'the answer is not JSON');
  }
}

/** What a problem (RFC 9457) says, or else its status. */
async function detailOf(response: Response): Promise<string> {
  const said = (await response.json().catch(() => undefined)) as { detail?: unknown; message?: unknown } | undefined;
  const text = said?.detail ?? said?.message;
  return typeof text === 'string' && text !== '' ? text : `the pipeline answered ${response.status}`;
}
