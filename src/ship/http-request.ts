// One `http.request` event per request, whatever framework serves it. In: Node's request and response, and how to learn
// the route. Out: one record through the application's logger when the response is done or its connection gone.
// Guarantee: never throws into the application; no query string and no part of an address that a visitor chose is logged.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createMasker, type MaskOptions } from '../core/mask.ts';

/** Anything with Winston's `info(message, metadata)`. */
export interface RequestLogger {
  info(message: string, meta: Record<string, unknown>): unknown;
}

export interface HttpRequestsOptions {
  readonly logger: RequestLogger;
  /** Routes, as logged, of which nothing is logged: `['/metrics']`. */
  readonly ignoreRoutes?: readonly string[];
  /** Header whose value becomes `requestId`; `false` for none. Default `x-request-id`. */
  readonly requestIdHeader?: string | false;
  /** Secrets to mask beside the built-in ones. */
  readonly mask?: MaskOptions;
}

/** Of a request that no route answers, whatever was asked for: one series in every chart. */
export const NO_ROUTE = 'none';
/** nginx's status for a client that left before it was answered; HTTP has none. */
export const CLIENT_CLOSED = 499;

const REQUEST_ID = /^[\w.:@/+=-]{1,128}$/;

/** Call it when a request comes in; `route` is asked when its response is over. */
export type WatchRequest = (request: IncomingMessage, response: ServerResponse, route: () => string) => void;

export function createWatchRequest(options: HttpRequestsOptions): WatchRequest {
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
    // Also when the connection is lost: `finish` alone would miss what nobody waited for.
    response.once('close', () => {
      try {
        log(request, response, route(), performance.now() - begin);
      } catch {
        // A logger that fails is no reason for the application to fail.
      }
    });
  };
}
