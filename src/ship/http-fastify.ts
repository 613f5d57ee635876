// `http.request` for Fastify 5. In: the instance it is registered with. Out: one event per request, with the route's template.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createWatchRequest, type HttpRequestsOptions, NO_ROUTE } from './http-request.ts';

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
export type FastifyRequests = (instance: Instance, options: unknown, done: () => void) => void;

/**
 * Plugin to be registered first, for the whole application: `fastify.register(fastifyRequests({ logger }))`. It logs routes
 * as they were written, with their prefix; of what no route answers, `none`.
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
  // What fastify-plugin does: the hook holds for the instance itself, not for a context of the plugin's own.
  return Object.assign(plugin, {
    [Symbol.for('skip-override')]: true,
    [Symbol.for('fastify.display-name')]: 'logpipe-http',
  });
}
