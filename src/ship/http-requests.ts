// What applications import as `logpipe/http`: `http.request` events from Express and Fastify. In: Node's request and response,
// and how to learn the route. Out: one record per request through the application's logger, with the route's template
// (`/api/v1/calls/:id`), when the response is done or its connection gone. Guarantee: never throws into the application; no query
// string and no part of an address that a visitor chose is logged. Loads only Node's modules and the masking, neither Winston nor
// a web framework.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createMasker, type MaskOptions } from '../core/secrets/mask.ts';

// ---- Express 5: the middleware before all routes ----

// Express keeps no template of where a router is mounted, only the address it matched. So the middleware sees which parameters
// the routers find, and puts their names back into that address.

/** Fits `app.use()`. */
type ExpressRequests = (request: IncomingMessage, response: ServerResponse, next: () => void) => void;

interface Routed {
  baseUrl?: unknown;
}

/** Parts of a mount's address that no programmer writes: numbers, uuids, long hexadecimal. */
const VALUE = /^(?:\d+|[0-9a-f]{8}-[0-9a-f-]{27}|(?=.*\d)[0-9a-f]{12,})$/i;
const MAX_ROUTE = 300;

/**
 * Middleware to be used first: `app.use(expressRequests({ logger }))`. It logs routes as they were written, `/files/*` for a
 * handler mounted with `app.use('/files', …)`, and `none` for what no route answers.
 */
export function expressRequests(options: HttpRequestsOptions): ExpressRequests {
  const watch = createWatchRequest(options);
  return (request, response, next) => {
    try {
      const route = followRoute(request);
      watch(request, response, route);
    } catch {
      // An unusual request object is served without an event.
    }
    next();
  };
}

/** Sees `req.route` and `req.params` as the routers set them, since they are reset when an error passes through. */
function followRoute(request: IncomingMessage): () => string {
  const routed = request as Routed;
  const names = new Map<string, string>();
  let matched: string | undefined;
  observe(request, 'params', (params) => {
    if (typeof params !== 'object' || params === null) return;
    for (const [name, value] of Object.entries(params)) {
      for (const part of [value].flat()) if (typeof part === 'string' && part !== '') names.set(part, name);
    }
  });
  // By then the parameters of the mount are known; those of the route itself are not needed.
  observe(request, 'route', (route) => {
    const path = (route as { path?: unknown } | undefined)?.path;
    matched = path === undefined ? undefined : joined(template(routed.baseUrl, names), pathText(path));
  });
  return () => {
    if (matched !== undefined) return matched.slice(0, MAX_ROUTE);
    const base = template(routed.baseUrl, names);
    return base === '' ? NO_ROUTE : `${base}/*`.slice(0, MAX_ROUTE);
  };
}

function observe(request: object, name: string, seen: (value: unknown) => void): void {
  let current = (request as Record<string, unknown>)[name];
  Object.defineProperty(request, name, {
    configurable: true,
    enumerable: true,
    get: () => current,
    set(value: unknown) {
      current = value;
      seen(value);
    },
  });
}

function template(baseUrl: unknown, names: ReadonlyMap<string, string>): string {
  if (typeof baseUrl !== 'string' || baseUrl === '') return '';
  return baseUrl
    .split('/')
    .map((part) => {
      const value = decoded(part);
      const name = names.get(value);
      if (name !== undefined) return `:${name}`;
      return VALUE.test(value) ? ':value' : part;
    })
    .join('/');
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** A route may be given as several paths or as a regular expression. */
function pathText(path: unknown): string {
  return Array.isArray(path) ? path.map(String).join('|') : String(path);
}

function joined(base: string, path: string): string {
  if (base === '') return path;
  return path === '/' ? base : `${base}${path}`;
}

// ---- Fastify 5 ----

interface Request {
  readonly raw: IncomingMessage;
  readonly is404: boolean;
  readonly routeOptions: { readonly url?: string | undefined };
}
interface Reply {
  readonly raw: ServerResponse;
}
interface Instance {
  addHook(name: 'onRequest', hook: (request: Request, reply: Reply, done: () => void) => void): unknown;
}

/** Fits `fastify.register()`. */
type FastifyRequests = (instance: Instance, options: unknown, done: () => void) => void;

/**
 * Plugin to be registered first, for the whole application: `fastify.register(fastifyRequests({ logger }))`. It logs routes as
 * they were written, with their prefix, and `none` for what no route answers.
 */
export function fastifyRequests(options: HttpRequestsOptions): FastifyRequests {
  const watch = createWatchRequest(options);
  const plugin: FastifyRequests = (instance, _options, done) => {
    instance.addHook('onRequest', (request, reply, next) => {
      try {
        watch(request.raw, reply.raw, () => (request.is404 ? NO_ROUTE : (request.routeOptions.url ?? NO_ROUTE)));
      } catch {
        // An unusual request object is served without an event.
      }
      next();
    });
    done();
  };
  // What fastify-plugin does: the hook applies to the instance itself, not to a context of the plugin's own.
  return Object.assign(plugin, {
    [Symbol.for('skip-override')]: true,
    [Symbol.for('fastify.display-name')]: 'logpipe-http',
  });
}

// ---- one event per request, whatever framework serves it ----

/** Anything with Winston's `info(message, metadata)`. */
interface RequestLogger {
  info(message: string, meta: Record<string, unknown>): unknown;
}

export interface HttpRequestsOptions {
  readonly logger: RequestLogger;
  /** Routes, spelled as they are logged, whose requests are not logged: `['/metrics']`. */
  readonly ignoreRoutes?: readonly string[];
  /** Header whose value becomes `requestId`; `false` for none. Default `x-request-id`. */
  readonly requestIdHeader?: string | false;
  /** Secrets to mask besides the built-in ones. */
  readonly mask?: MaskOptions;
}

/** The route of a request that no route answers, whatever it asked for: one series in every chart. */
const NO_ROUTE = 'none';
/** nginx's status for a client that left before it was answered; HTTP has none. */
const CLIENT_CLOSED = 499;

const REQUEST_ID = /^[\w.:@/+=-]{1,128}$/;

/** Call it when a request comes in; `route` is called when its response is over. */
type WatchRequest = (request: IncomingMessage, response: ServerResponse, route: () => string) => void;

function createWatchRequest(options: HttpRequestsOptions): WatchRequest {
  const { logger, requestIdHeader = 'x-request-id' } = options;
  const masker = createMasker(options.mask);
  const ignored = new Set(options.ignoreRoutes);
  const idHeader = requestIdHeader === false ? undefined : requestIdHeader.toLowerCase();

  function log(request: IncomingMessage, response: ServerResponse, route: string, durationMs: number): void {
    if (ignored.has(route)) return;
    const answered = response.headersSent || response.writableFinished;
    const http = {
      method: request.method ?? 'GET',
      route: masker.text(route),
      status: answered ? response.statusCode : CLIENT_CLOSED,
      durationMs: Math.round(durationMs * 1000) / 1000,
    };
    const sent = idHeader === undefined ? undefined : request.headers[idHeader];
    const requestId = typeof sent === 'string' && REQUEST_ID.test(sent) ? { requestId: masker.text(sent) } : {};
    logger.info('Request served', { event: 'http.request', ...requestId, http });
  }

  return (request, response, route) => {
    const begin = performance.now();
    // `close` comes when the connection is lost too; `finish` would miss clients that did not wait.
    response.once('close', () => {
      try {
        log(request, response, route(), performance.now() - begin);
      } catch {
        // A failing logger is no reason for the application to fail.
      }
    });
  };
}
