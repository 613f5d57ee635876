// Who may ask the API, and how it refuses. In: requests of strangers, and the parts that answer them. Out: one handler. Guarantee: nothing
// changes without a token that may act, or what a part checks instead; whoever is refused learns why, and nothing else; bodies are bounded,
// and read only after all that can be refused without them was.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { getRequestListener, type HttpBindings } from '@hono/node-server';
import type { ValidateFunction } from 'ajv';
import { type Context, Hono } from 'hono';
import type { Clock } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import {
  type AccessConfig,
  bearerToken,
  createFailures,
  createPassReader,
  createTokens,
  type Holder,
  isFromHere,
  PAGE_NAME,
  type Scope,
  valuesOf,
} from './access.ts';
import { type ApiHandler, isApiPath } from './http.ts';
import {
  CHALLENGE,
  checked,
  closeGently,
  JSON_TYPE,
  NOT_KEPT,
  parsed,
  problem,
  Refusal,
  readBody,
  refusalOf,
  send,
} from './requests.ts';

export type ApiApp = Hono<{ Bindings: HttpBindings }>;
export type Ask = Context<{ Bindings: HttpBindings }>;

/** A part of the API: adds its routes. */
export type ApiPart = (app: ApiApp, guard: Guard) => void;

/** What an address fails with. */
type Attempt = 'token' | 'webhook' | 'link';

export interface Guard {
  /**
   * Whose token the request carries; undefined for a program on this machine that only reads.
   * @throws Refusal 401, 403, 429
   */
  permit(request: IncomingMessage, scope: Scope): Holder | undefined;
  /** Remembers that an address was wrong. */
  fail(request: IncomingMessage, what: Attempt): void;
  /** Why the address has to wait, if it was wrong too often. */
  mustWait(request: IncomingMessage): Refusal | undefined;
  /** @throws Refusal 400, 413, 415 */
  body(c: Ask, type: RegExp, typeInWords: string): Promise<Buffer>;
  /** The body as JSON, checked. @throws Refusal 400, 413, 415 */
  json<T>(c: Ask, validate: ValidateFunction<T>): Promise<T>;
}

/**
 * Answers what is its own. Whatever else comes here, by the public name, goes on to `next` with a token that may read.
 */
export function createApi(
  { tokens = [], publicUrl, linkSecrets = [] }: AccessConfig,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
  parts: readonly ApiPart[],
): ApiHandler {
  const holderOf = createTokens(tokens);
  const sessionOf = createPassReader('session', linkSecrets, clock);
  const failures = createFailures(clock);
  /** Of tokens alone: behind a proxy on this machine, strangers' links have the address of its own programs, and hold up none of them. */
  const wrongTokens = createFailures(clock);
  const publicOrigin = publicUrl === undefined ? undefined : new URL(publicUrl).origin;

  // ---- who asks ----

  function fail(request: IncomingMessage, what: 'token' | 'webhook' | 'link'): void {
    const address = request.socket.remoteAddress ?? '';
    if (what === 'token') wrongTokens.failed(address);
    if (failures.failed(address)) log.warn('An address has been refused too often, and has to wait', { address, what });
  }

  function mustWait({ socket }: IncomingMessage, of = failures): Refusal | undefined {
    const waitMs = of.waitMs(socket.remoteAddress ?? '');
    if (waitMs === 0) return undefined;
    const seconds = Math.ceil(waitMs / 1_000);
    return new Refusal(429, `this address has failed too often; try again in ${seconds} s`, {
      'retry-after': String(seconds),
    });
  }

  /** @throws Refusal */
  function permit(request: IncomingMessage, scope: Scope): Holder | undefined {
    const [header, second] = valuesOf(request, 'authorization');
    if (second !== undefined) throw new Refusal(400, 'there are two Authorization headers; send one');
    if (header === undefined) {
      if (scope === 'read' && isFromHere(request) && hasLocalName(request)) return undefined;
      const why =
        tokens.length === 0 && linkSecrets.length === 0
          ? 'it needs a token, and http.tokens has none'
          : `it needs a token with the scope "${scope}": Authorization: Bearer …`;
      throw new Refusal(401, why, CHALLENGE);
    }
    const token = bearerToken(header);
    // Nobody can guess what is signed: a session does not wait for the failures of others.
    const holder = (token === undefined ? undefined : sessionHolder(token)) ?? namedHolder(request, token);
    if (!holder.scopes.has(scope)) {
      throw new Refusal(403, `the token ${holder.name} does not have the scope "${scope}"`);
    }
    return holder;
  }

  /** @throws Refusal 401 */
  function sessionHolder(token: string): Holder | undefined {
    const pass = sessionOf(token);
    if (pass === 'altered') return undefined;
    if (pass === 'expired') throw new Refusal(401, 'the session has ended; logpipe page opens a new one', CHALLENGE);
    return { name: PAGE_NAME, scopes: new Set(pass.scopes), expiresMs: pass.expiresMs };
  }

  /** @throws Refusal 401, 429 */
  function namedHolder(request: IncomingMessage, token: string | undefined): Holder {
    const wait = mustWait(request, wrongTokens);
    if (wait !== undefined) throw wait;
    const holder = token === undefined ? undefined : holderOf(token);
    if (holder !== undefined) return holder;
    fail(request, 'token');
    throw new Refusal(401, 'the token is not one of http.tokens', CHALLENGE);
  }

  /** A page of somebody else's must not ask in its reader's name. @throws Refusal */
  function sameOrigin(request: IncomingMessage, formsToo = false): void {
    const origins = valuesOf(request, 'origin');
    const site = request.headers['sec-fetch-site'];
    const own = [publicOrigin, `http://${request.headers.host}`, `https://${request.headers.host}`];
    // A form on a page without a referrer sends `null`, its own server included.
    const isOwn = (origin: string) => own.includes(origin) || (formsToo && origin === 'null');
    if (origins.length > 1 || !origins.every(isOwn) || site === 'cross-site' || site === 'same-site') {
      throw new Refusal(403, 'a page of another origin asks; this API is for programs, and for its own pages');
    }
  }

  // ---- what is asked ----

  async function body(c: Ask, type: RegExp, typeInWords: string): Promise<Buffer> {
    const { incoming, outgoing } = c.env;
    const types = valuesOf(incoming, 'content-type');
    if (types.length !== 1 || !type.test(types[0]!)) {
      throw new Refusal(
        415,
        `Content-Type: found ${types.length === 0 ? 'none' : 'another'}; permitted: ${typeInWords}`,
      );
    }
    if (incoming.headers['content-encoding'] !== undefined) {
      throw new Refusal(415, 'Content-Encoding: send the body as it is, not compressed');
    }
    return readBody(incoming, outgoing as ServerResponse);
  }

  async function json<T>(c: Ask, validate: ValidateFunction<T>): Promise<T> {
    return checked(parsed(await body(c, JSON_TYPE, 'application/json')), validate);
  }

  const app: ApiApp = new Hono();
  for (const add of parts) add(app, { permit, fail, mustWait, body, json });
  app.notFound(() => problem(new Refusal(404, 'there is nothing at this path; docs/api.md lists what there is')));
  app.onError((error, c) => {
    const refusal = refusalOf(error);
    if (refusal.status === 500)
      log.error('A request to the API failed', { path: c.req.routePath, error: errorText(error) });
    return problem(refusal);
  });

  // Bodies are read here, or not at all.
  const listener = getRequestListener(app.fetch, { autoCleanupIncoming: false, overrideGlobalObjects: false });

  return {
    handle(request, response, next) {
      const target = request.url ?? '';
      const isOwn = isApiPath(target);
      if (isOwn) closeGently(request, response);
      try {
        if (valuesOf(request, 'host').length !== 1 || !target.startsWith('/')) {
          throw new Refusal(400, 'a request has one Host header, and a path');
        }
        // A link is opened from wherever its message is read.
        const isLink = target.startsWith('/a/');
        if (!isLink || request.method === 'POST') sameOrigin(request, isLink);
        if (!isOwn) permit(request, 'read');
      } catch (error) {
        send(response, refusalOf(error));
        return;
      }
      if (isOwn) void listener(request, response);
      else next();
    },
  };
}

// ---- answers ----

export function reply(
  c: Ask,
  value: object,
  status: 200 | 202 = 200,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return c.json(value, status, { ...NOT_KEPT, ...headers });
}

/** Whoever asks by a name of this machine's own means this machine. */
function hasLocalName({ headers }: IncomingMessage): boolean {
  return /^(?:localhost\.?|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i.test(headers.host ?? '');
}

/** For the history: whoever holds the token may say who they are. */
export function byWhom(holder: Holder | undefined, by: string | undefined): string {
  const token = `token ${holder?.name ?? ''}`;
  return by === undefined ? token : `${by}, by ${token}`;
}
