// `http.request` for Express 5. In: the middleware's place before all routes. Out: one event per request, with the route's
// template: `/api/v1/calls/:id`.
// Express keeps no template of where a router is mounted, only the address it matched. So the middleware sees which parameters
// the routers find, and puts their names back into that address.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createWatchRequest, type HttpRequestsOptions, NO_ROUTE } from './http-request.ts';

/** Fits `app.use()`. */
export type ExpressRequests = (request: IncomingMessage, response: ServerResponse, next: () => void) => void;

interface Routed {
  baseUrl?: unknown;
}

/** Parts of a mount's address that no programmer writes: numbers, uuids, long hexadecimal. */
const VALUE = /^(?:\d+|[0-9a-f]{8}-[0-9a-f-]{27}|(?=.*\d)[0-9a-f]{12,})$/i;
const MAX_ROUTE = 300;

/**
 * Middleware to be used first: `app.use(expressRequests({ logger }))`. It logs routes as they were written; of a handler that
 * is mounted with `app.use('/files', …)`, `/files/*`; of what nothing answers, `none`.
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

/** Sees `req.route` and `req.params` as the routers set them, since they are taken back when an error passes through. */
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
  // Parameters of the mount are known by then, those of the route itself are not needed.
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
