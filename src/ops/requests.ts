// What comes over HTTP, and why it is refused. In: the bytes of a stranger's request. Out: what it asks for, checked; or a refusal, as RFC
// 9457's problem. Guarantee: no more than 64 KiB are read, and nothing after a refusal; what is wrong is named by its place, with what is
// permitted; no text with characters that cannot be seen gets any further.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { DeskClosedError } from '../alerter/alert-desk.ts';
import { durationMs, durationSchema, systemClock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { isSpecific, type SilenceRecord } from '../incidents/incident.ts';
import { PRIORITIES, type Priority } from '../rules/rule-types.ts';

const MAX_BODY = 64 * 1024;
const MAX_SILENCE_MS = 366 * 86_400_000;

// ---- refusals ----

export const CHALLENGE = { 'www-authenticate': 'Bearer realm="logpipe"' };
export const NOT_KEPT = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' };
export const JSON_TYPE = /^application\/json(?:\s*;\s*charset="?utf-8"?)?\s*$/i;
export const FORM_TYPE = /^application\/x-www-form-urlencoded(?:\s*;\s*charset="?utf-8"?)?\s*$/i;

/** Why a request is not obeyed; its text is for whoever asked. */
export class Refusal extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, detail: string, headers: Readonly<Record<string, string>> = {}) {
    super(detail);
    this.status = status;
    this.headers = headers;
  }
}

export function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof LogpipeError && error.code === 'LOGPIPE_CONFIG_INVALID') {
    return new Refusal(503, 'routing.yml is not valid; `logpipe check-config` says where');
  }
  if (error instanceof DeskClosedError) return new Refusal(503, error.message, { 'retry-after': '5' });
  return new Refusal(500, 'the request could not be answered because of a fault of logpipe; its log has more');
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  409: 'Conflict',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
};

/** RFC 9457. */
function problemBody({ status, message }: Refusal): string {
  return `${JSON.stringify({ type: 'about:blank', title: TITLES[status] ?? 'Error', status, detail: message })}\n`;
}

function problemHeaders({ headers }: Refusal): Record<string, string> {
  // What the body would have been is not waited for.
  return { ...NOT_KEPT, 'content-type': 'application/problem+json', connection: 'close', ...headers };
}

export function problem(refusal: Refusal): Response {
  return new Response(problemBody(refusal), { status: refusal.status, headers: problemHeaders(refusal) });
}

/** Where there is no router yet. */
export function send(response: ServerResponse, refusal: Refusal): void {
  response.writeHead(refusal.status, problemHeaders(refusal));
  response.end(problemBody(refusal));
}

// ---- bodies ----

/** @throws Refusal 413 as soon as it is too long, 400 when it is cut off */
export function readBody(request: IncomingMessage, response: ServerResponse): Promise<Buffer> {
  const tooLong = () => new Refusal(413, `the body is longer than ${MAX_BODY / 1024} KiB`);
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY) return Promise.reject(tooLong());
  if (request.headers.expect !== undefined) response.writeContinue();
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let bytes = 0;
    request.on('data', (piece: Buffer) => {
      bytes += piece.length;
      if (bytes <= MAX_BODY) {
        pieces.push(piece);
        return;
      }
      request.pause();
      request.removeAllListeners('data');
      reject(tooLong());
    });
    request.once('end', () => resolve(Buffer.concat(pieces)));
    const cut = () => reject(new Refusal(400, 'the body ended too soon'));
    request.once('error', cut);
    request.once('close', cut);
  });
}

const LINGER_MS = 1_000;

/**
 * What was not read is not wanted, and is not read after the answer either. Closing at once would reset the connection, and the answer
 * could be lost on its way: the other side gets the end of it first.
 */
export function closeGently(request: IncomingMessage, response: ServerResponse): void {
  const { socket } = request;
  socket.destroySoon = () => {
    if (request.complete) {
      Socket.prototype.destroySoon.call(socket);
      return;
    }
    socket.end();
    systemClock.after(LINGER_MS, () => socket.destroy());
  };
  response.once('finish', () => {
    if (!request.complete) request.pause();
  });
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

export function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(UTF8.decode(body));
  } catch {
    throw new Refusal(400, 'the body is no JSON in UTF-8');
  }
}

const line = (maxLength: number) => ({ type: 'string', minLength: 1, maxLength }) as const;
const BY = line(200);
const ajv = new Ajv({ allErrors: true, strict: true, verbose: true });
ajv.addKeyword('permitted');

interface ByBody {
  readonly by?: string;
}

export const byBody = ajv.compile<ByBody>({ type: 'object', additionalProperties: false, properties: { by: BY } });

export const onceBody = ajv.compile<{ readonly once: string }>({
  type: 'object',
  additionalProperties: false,
  required: ['once'],
  properties: { once: line(900) },
});

interface SilenceBody extends ByBody {
  readonly rule?: string;
  readonly group?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly environment?: string;
  readonly priority?: Priority;
  readonly from?: string;
  readonly until?: string;
  readonly for?: string;
  readonly reason: string;
}

export const silenceBody = ajv.compile<SilenceBody>({
  type: 'object',
  additionalProperties: false,
  required: ['reason'],
  properties: {
    rule: line(200),
    group: line(200),
    labels: { type: 'object', maxProperties: 20, propertyNames: line(200), additionalProperties: line(500) },
    environment: line(200),
    priority: { enum: PRIORITIES },
    from: line(40),
    until: line(40),
    for: durationSchema,
    reason: line(1_000),
    by: BY,
  },
});

const MAX_ERRORS = 5;

/** @throws Refusal 400 with all that is wrong */
export function checked<T>(value: unknown, validate: ValidateFunction<T>): T {
  if (!validate(value)) {
    const errors = (validate.errors ?? []).slice(0, MAX_ERRORS);
    throw new Refusal(400, errors.map(wrong).join('; '));
  }
  for (const [name, part] of Object.entries(value as object)) {
    const texts = typeof part === 'object' && part !== null ? Object.entries(part).flat() : [part];
    if (texts.some((text) => typeof text === 'string' && visible(text) !== text)) {
      throw new Refusal(400, `${name}: has characters that cannot be seen`);
    }
  }
  return value;
}

function wrong({ instancePath, keyword, message = 'not permitted', params, parentSchema }: ErrorObject): string {
  const path = instancePath.slice(1).replaceAll('/', '.') || 'the body';
  if (keyword === 'additionalProperties') return `${shown(String(params.additionalProperty))}: unknown`;
  if (keyword === 'enum') return `${shown(path)}: permitted: ${(params.allowedValues as string[]).join(', ')}`;
  const permitted = (parentSchema as { permitted?: string } | undefined)?.permitted;
  return `${shown(path)}: ${permitted === undefined ? message : `permitted: ${permitted}`}`;
}

export function shown(text: string): string {
  return oneLine(text, 80);
}

/** @throws Refusal 400 */
export function silenceOf(
  body: SilenceBody,
  { id, by, nowMs }: { readonly id: string; readonly by: string; readonly nowMs: number },
): SilenceRecord {
  const { rule, group, labels = {}, environment, priority, reason } = body;
  const time = (name: 'from' | 'until') => {
    const text = body[name];
    const ms = text === undefined ? undefined : Date.parse(text);
    if (Number.isNaN(ms))
      throw new Refusal(400, `${name}: found "${shown(text ?? '')}"; permitted: a time, like 2026-11-30T09:00:00Z`);
    return ms;
  };
  const fromMs = time('from');
  const end = time('until');
  if ((end === undefined) === (body.for === undefined))
    throw new Refusal(400, 'until, for: give one of them, a time or a duration like 2h');
  const untilMs = end ?? (fromMs ?? nowMs) + durationMs(body.for ?? '');
  if (untilMs <= Math.max(nowMs, fromMs ?? nowMs))
    throw new Refusal(400, 'until: it would end before it begins, or has ended already');
  if (untilMs - nowMs > MAX_SILENCE_MS) throw new Refusal(400, 'until: at most a year from now');
  const silence: SilenceRecord = {
    id,
    ...(rule === undefined ? {} : { ruleId: rule }),
    ...(group === undefined ? {} : { group }),
    ...(Object.keys(labels).length === 0 ? {} : { labels }),
    ...(environment === undefined ? {} : { environment }),
    ...(priority === undefined ? {} : { priority }),
    ...(fromMs === undefined ? {} : { fromMs }),
    createdMs: nowMs,
    untilMs,
    by,
    reason,
  };
  if (!isSpecific(silence)) {
    throw new Refusal(
      400,
      'rule, group, labels, environment, priority: give one at least, so that it does not mute everything',
    );
  }
  return silence;
}
