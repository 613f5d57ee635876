// What applications import as `logpipe/http`: `http.request` events from Express and Fastify. Loads Node and two core
// files, neither Winston nor a web framework.

export { type ExpressRequests, expressRequests } from './http-express.ts';
export { type FastifyRequests, fastifyRequests } from './http-fastify.ts';
export type { HttpRequestsOptions, RequestLogger } from './http-request.ts';
