// OpenTelemetry's logs over HTTP as a source: `POST /v1/logs` by https://opentelemetry.io/docs/specs/otlp/#otlphttp, protobuf or JSON, gzip or
// not. In: requests of SDKs and collectors. Out: a chunk for each request, one line of JSON for each of its records, which has the
// same id whenever the request is repeated. Guarantee: a request is answered with 200 only when all of its records have been acknowledged,
// but for those that its answer says were rejected; what is not safe in time is answered with a status that senders repeat. A request that
// is repeated while its first attempt is under way, or soon after, is not taken twice. Requests, their sizes packed and unpacked, and
// what all of them hold in memory are bounded; nothing that somebody sends throws here.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { gunzip, type ZlibOptions } from 'node:zlib';
import { type Clock, createThrottle, type Deferred, deferred, endsWithin } from '../core/clock.ts';
import { errorText, LogpipeError, reasonInWords } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import {
  type Chunk,
  createEventIds,
  createLineIds,
  type Deliver,
  type RawRecord,
  type Source,
} from '../core/record.ts';
import {
  OTLP_TYPES,
  type OtlpEncoding,
  OtlpError,
  type OtlpLines,
  type OtlpRejections,
  otlpResponse,
  otlpStatus,
  readOtlp,
} from './otlp-records.ts';

export interface OtlpOptions {
  /** `host:port` or `http://host:port`, an IPv6 address in brackets; port 0 takes a free one. */
  readonly address: string;
  /** Who may send: `Authorization: Bearer …`. Default: everybody who reaches the port. */
  readonly tokens?: readonly string[];
  /** Longer records are rejected. */
  readonly maxLineBytes: number;
  /** Most requests under way. Default: 1,000. */
  readonly maxRequests?: number;
  /** Bytes of all requests under way, packed, unpacked and as lines. Default: 128 MiB. */
  readonly maxHeldBytes?: number;
  /** A request is told to come again when its records are not safe after so long. Default: 5 s, for senders that wait for 10 s. */
  readonly answerWithinMs?: number;
}

export interface OtlpDeps {
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics: Pick<Metrics, 'otlpRequests' | 'otlpRecords' | 'otlpRejected'>;
}

const MIB = 1024 * 1024;
const MAX_BODY = 4 * MIB;
const MAX_UNPACKED = 16 * MIB;
const MAX_LINES_BYTES = 32 * MIB;
const MAX_RECORDS = 20_000;
const MAX_REQUESTS = 1_000;
const MAX_HELD = 128 * MIB;
const MAX_CONNECTIONS = 500;
const ANSWER_MS = 5_000;
/** Requests that are remembered after their end, for those whose answer was lost. */
const MAX_ENDED = 4_096;
/** What comes so soon after the start may have been taken by a process before this one. */
const YOUNG_MS = 600_000;
/** How long senders have after `stop` to end what they are sending. */
const STOP_MS = 2_000;
const RETRY_AFTER_S = '1';
/** A request whose headers take longer than 5 s, or all of which takes longer than 10 s, gets 408. */
const PATIENCE = { headersTimeout: 5_000, requestTimeout: 10_000, connectionsCheckingInterval: 1_000 } as const;

/** Why a request is not taken. */
class Refusal extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

/** Its sender has left, or was too slow and was told so. */
class Gone extends Error {}

const comeAgain = (status: 429 | 503, message: string) =>
  new Refusal(status, message, { 'retry-after': RETRY_AFTER_S });

/** google.rpc.Code for what a status says in HTTP. */
const RPC_CODES: Readonly<Record<number, number>> = {
  401: 16,
  403: 7,
  404: 5,
  405: 12,
  413: 8,
  429: 8,
  500: 13,
  503: 14,
};
const INVALID_ARGUMENT = 3;

/** A request whose records are on their way, or are safe; its sender may have left meanwhile. */
interface Taken {
  waiting: number;
  readonly rejected: OtlpRejections;
  isSafe: boolean;
  /** Resolves when it is safe, or when nobody will know any more. */
  readonly settled: Deferred;
}

/**
 * Listens at `options.address`. It never ends; `start` rejects with LOGPIPE_SOURCE_FAILED when it cannot listen there. `stop` takes nothing
 * new and finishes what is being sent, for at most two seconds; acknowledgements are answered until `close`, which tells all others to
 * come again.
 * @throws LogpipeError LOGPIPE_USAGE for an address that is none
 */
export function createOtlpSource(options: OtlpOptions, deps: OtlpDeps): Source {
  const { maxLineBytes, maxRequests = MAX_REQUESTS, maxHeldBytes = MAX_HELD, answerWithinMs = ANSWER_MS } = options;
  const { log, clock, metrics } = deps;
  const address = parseAddress(options.address);
  const limits = { maxLineBytes, maxBytes: MAX_LINES_BYTES, maxRecords: MAX_RECORDS };
  const isPermitted = createTokenCheck(options.tokens ?? []);
  const ended = deferred();
  const isWorthSaying = createThrottle(() => clock.monotonicMs());
  /** Of this run: the places of its records go on from request to request. */
  const identity = createEventIds(() => clock.now())();
  const startedMs = clock.monotonicMs();
  /** By their digests: all under way, and those that ended last. */
  const known = new Map<string, Taken>();
  const unsettled = new Set<Taken>();
  const receiving = new Set<Promise<unknown>>();
  const answering = new Set<Promise<void>>();
  let underWay = 0;
  let heldBytes = 0;
  let nextPlace = 0;
  let unpacking: Promise<unknown> = Promise.resolve();
  let delivering: Promise<void> = Promise.resolve();
  let deliver: Deliver = async () => {};
  let server: Server | undefined;
  let place = `otlp ${options.address}`;
  let state: 'new' | 'listening' | 'stopping' | 'stopped' = 'new';
  let failed: string | undefined;

  const fail = (error: unknown) => {
    failed = `cannot hand records on: ${errorText(error)}`;
    ended.reject(error instanceof Error ? error : new Error(errorText(error)));
  };

  // ---- what a request holds in memory until its records are safe ----

  function createHold() {
    let bytes = 0;
    underWay += 1;
    return {
      /** @throws Refusal 503 */
      add(more: number): void {
        // One alone is always let in.
        if (underWay > 1 && heldBytes + more > maxHeldBytes) {
          throw comeAgain(503, 'too much is under way here; send it again later');
        }
        bytes += more;
        heldBytes += more;
      },
      less(fewer: number): void {
        bytes -= fewer;
        heldBytes -= fewer;
      },
      release(): void {
        heldBytes -= bytes;
        underWay -= 1;
      },
    };
  }
  type Hold = ReturnType<typeof createHold>;

  // ---- one request ----

  /** @throws Refusal for what can be refused before the body is read */
  function check({ headers, method, url = '' }: IncomingMessage): Kind {
    // No web page has any business here: neither one that a browser lets send, nor one that pretends to be this host.
    if (headers.origin !== undefined)
      throw new Refusal(403, 'web pages cannot send here; let them send to a collector');
    if (isLoopback(address.host) && !isLoopback(hostIn(headers.host ?? ''))) {
      throw new Refusal(421, 'this server is not called by that name; call it localhost, 127.0.0.1 or [::1]');
    }
    if (url.split('?', 1)[0] !== '/v1/logs') {
      throw new Refusal(404, 'only /v1/logs is served here: logs, but neither traces nor metrics');
    }
    if (method !== 'POST') throw new Refusal(405, 'permitted here: POST', { allow: 'POST' });
    if (!isPermitted(headers.authorization)) {
      throw new Refusal(401, 'it needs a token: Authorization: Bearer …', {
        'www-authenticate': 'Bearer realm="logpipe"',
      });
    }
    const encoding = encodingOf(headers['content-type']);
    if (encoding === undefined) {
      throw new Refusal(415, `Content-Type: permitted: ${Object.values(OTLP_TYPES).join(', ')}`);
    }
    const packed = (headers['content-encoding'] ?? 'identity').trim().toLowerCase();
    if (packed !== 'gzip' && packed !== 'identity')
      throw new Refusal(415, 'Content-Encoding: permitted: gzip, or none');
    if (Number(headers['content-length'] ?? 0) > MAX_BODY) throw tooLong();
    if (state !== 'listening') throw comeAgain(503, 'this server is stopping; send it again later');
    if (underWay >= maxRequests) throw comeAgain(429, 'too many requests are under way here; send it again later');
    return { encoding, isPacked: packed === 'gzip' };
  }

  /** @throws Refusal, Gone */
  async function receive(request: IncomingMessage, response: ServerResponse, kind: Kind): Promise<Taken> {
    const hold = createHold();
    let isOn = false;
    try {
      let body = await readBody(request, response, hold.add);
      if (kind.isPacked) body = await unpacked(body, hold);
      if (state === 'stopped') throw comeAgain(503, 'this server is stopping; send it again later');
      // Two processes that log the same at the same time mostly have different addresses.
      const from = `${request.socket.remoteAddress} ${kind.encoding} `;
      const digest = createHash('sha256').update(from).update(body).digest('base64');
      const before = known.get(digest);
      if (before !== undefined) return before;
      const read = readOtlp(body, kind.encoding, limits);
      hold.less(body.length);
      for (const line of read.lines) hold.add(line.length);
      isOn = read.lines.length > 0;
      return take(read, digest, hold);
    } finally {
      if (!isOn) hold.release();
    }
  }

  /** One at a time, so that only one has all the memory that it may need. @throws Refusal */
  async function unpacked(body: Buffer, hold: Hold): Promise<Buffer> {
    const result = unpacking.then(() => unzip(body, { maxOutputLength: MAX_UNPACKED }));
    unpacking = result.catch(() => {});
    try {
      const whole = await result;
      hold.add(whole.length);
      hold.less(body.length);
      return whole;
    } catch (error) {
      if (error instanceof Refusal) throw error;
      if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
        throw new Refusal(413, `unpacked, the body is longer than ${MAX_UNPACKED / MIB} MiB; send less at a time`);
      }
      throw new Refusal(400, 'Content-Encoding says gzip, and the body is not, or is cut off');
    }
  }

  /** Hands the records on. */
  function take({ lines, places, rejected, allTimed }: OtlpLines, digest: string, hold: Hold): Taken {
    const taken: Taken = { waiting: lines.length, rejected: { ...rejected }, isSafe: false, settled: deferred() };
    for (const [reason, count] of Object.entries(rejected)) metrics.otlpRejected.inc({ reason }, count);
    if (lines.length === 0) {
      taken.isSafe = true;
      taken.settled.resolve();
      return taken;
    }
    // Without times, who says the same twice may mean it twice.
    const name = allTimed ? digest : `${digest} ${identity} ${nextPlace}`;
    const idOf = createLineIds(name);
    const timeMs = clock.now();
    const first = nextPlace;
    nextPlace += lines.length;
    let bytes = 0;
    const records = lines.map((value, i): RawRecord => {
      bytes += value.length;
      return { value, offset: first + i, timeMs, eventId: undefined, documentId: idOf(places[i]!, value) };
    });
    const isYoung = clock.monotonicMs() - startedMs < YOUNG_MS;
    const chunk: Chunk = {
      origin: { kind: 'file', path: place, identity, ...(isYoung ? { knownBelow: Number.MAX_SAFE_INTEGER } : {}) },
      records,
      bytes,
      refused(count) {
        taken.rejected.refused = (taken.rejected.refused ?? 0) + count;
      },
      done(count) {
        taken.waiting -= count;
        if (taken.waiting > 0) return;
        taken.isSafe = true;
        const { refused = 0 } = taken.rejected;
        if (refused > 0) metrics.otlpRejected.inc({ reason: 'refused' }, refused);
        metrics.otlpRecords.inc(lines.length - refused);
        taken.settled.resolve();
      },
    };
    if (allTimed) known.set(digest, taken);
    unsettled.add(taken);
    void taken.settled.promise.then(() => {
      unsettled.delete(taken);
      hold.release();
      if (!taken.isSafe) known.delete(digest);
      else if (allTimed) remember(digest, taken);
    });
    delivering = delivering
      // What has to wait beyond the end is told to come again.
      .then(() => (state === 'stopped' ? undefined : deliver(chunk)))
      .catch((error: unknown) => {
        fail(error);
        taken.settled.resolve();
      });
    return taken;
  }

  /** For those whose answer is lost. */
  function remember(digest: string, taken: Taken): void {
    known.delete(digest);
    known.set(digest, taken);
    if (known.size - unsettled.size <= MAX_ENDED) return;
    for (const [oldest, { isSafe }] of known) {
      if (!isSafe) continue;
      known.delete(oldest);
      return;
    }
  }

  // ---- answers ----

  /** Never rejects. */
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const encoding = encodingOf(request.headers['content-type']) ?? 'json';
    try {
      const received = receive(request, response, check(request));
      receiving.add(received);
      const taken = await received.finally(() => receiving.delete(received));
      await endsWithin(
        Promise.race([taken.settled.promise, new Promise((left) => response.once('close', left))]),
        answerWithinMs,
        clock.after,
      );
      if (response.destroyed) throw new Gone();
      if (!taken.isSafe) throw comeAgain(503, 'the records are not safe yet; send them again');
      reply(response, 200, otlpResponse(encoding, taken.rejected), { 'content-type': OTLP_TYPES[encoding] });
    } catch (error) {
      if (error instanceof Gone || response.destroyed) metrics.otlpRequests.inc({ status: 'gone' });
      else refuse(request, response, encoding, refusalOf(error));
    }
  }

  function refusalOf(error: unknown): Refusal {
    if (error instanceof Refusal) return error;
    if (error instanceof OtlpError) return new Refusal(400, error.message);
    log.error('a request of OpenTelemetry could not be answered', { source: place, error: errorText(error) });
    return new Refusal(500, 'the request could not be answered because of a fault of logpipe; its log has more');
  }

  function refuse(request: IncomingMessage, response: ServerResponse, encoding: OtlpEncoding, refusal: Refusal): void {
    const { status, message, headers } = refusal;
    const what = `records of OpenTelemetry are refused with status ${status}`;
    // What was found in the body is for its sender alone.
    if (isWorthSaying(what)) log.warn(what, { source: place, peer: request.socket.remoteAddress });
    const body = otlpStatus(encoding, RPC_CODES[status] ?? INVALID_ARGUMENT, message);
    reply(response, status, body, { 'content-type': OTLP_TYPES[encoding], ...headers });
  }

  function reply(
    response: ServerResponse,
    status: number,
    body: Buffer,
    headers: Readonly<Record<string, string>>,
  ): void {
    metrics.otlpRequests.inc({ status: String(status) });
    response.writeHead(status, {
      ...headers,
      'content-length': body.length,
      // What has not been read of the request is read and thrown away, by Node, until the request's time is up.
      ...(state === 'listening' ? {} : { connection: 'close' }),
    });
    response.end(body);
  }

  return {
    ended: ended.promise,

    async start(to) {
      deliver = to;
      const onRequest = (request: IncomingMessage, response: ServerResponse) => {
        const answered = answer(request, response);
        answering.add(answered);
        void answered.then(() => answering.delete(answered));
      };
      const listener = createServer(PATIENCE, onRequest);
      // Whoever asks before sending a body is told by the same code whether to send it.
      listener.on('checkContinue', onRequest);
      listener.maxConnections = MAX_CONNECTIONS;
      await new Promise<void>((resolve, reject) => {
        listener.once('error', (error) => {
          const reason = `${place}: cannot listen there (${reasonInWords(error)}); name another address or port`;
          reject(new LogpipeError('LOGPIPE_SOURCE_FAILED', reason, error));
        });
        listener.listen({ host: address.host, port: address.port }, resolve);
      });
      listener.removeAllListeners('error');
      listener.on('error', (error) => {
        const what = 'a connection of OpenTelemetry could not be accepted';
        if (isWorthSaying(what)) log.warn(what, { source: place, error: reasonInWords(error) });
      });
      server = listener;
      const { port } = listener.address() as AddressInfo;
      place = `otlp ${options.address.replace(/:0$/, `:${port}`)}`;
      state = 'listening';
    },

    async stop() {
      if (state !== 'listening') {
        state = 'stopped';
        return;
      }
      state = 'stopping';
      server?.close();
      await endsWithin(Promise.allSettled([...receiving]), STOP_MS, clock.after);
      state = 'stopped';
    },

    async close() {
      state = 'stopped';
      for (const taken of unsettled) taken.settled.resolve();
      server?.close();
      await endsWithin(Promise.all([...answering]), STOP_MS, clock.after);
      server?.closeAllConnections();
      server = undefined;
    },

    status() {
      const names = { new: 'not started', stopping: 'stopping', stopped: 'stopped' };
      const detail =
        state === 'listening' ? `listening at ${place.slice('otlp '.length)}, ${underWay} under way` : names[state];
      return { ready: state === 'listening' && failed === undefined, detail: failed ?? detail };
    },
  };
}

interface Kind {
  readonly encoding: OtlpEncoding;
  readonly isPacked: boolean;
}

const unzip = promisify<Buffer, ZlibOptions, Buffer>(gunzip);

const tooLong = () => new Refusal(413, `the body is longer than ${MAX_BODY / MIB} MiB; send less at a time, or packed`);

function encodingOf(type: string | undefined): OtlpEncoding | undefined {
  const name = (type ?? '').split(';', 1)[0]!.trim().toLowerCase();
  if (name === 'application/x-protobuf' || name === 'application/protobuf') return 'protobuf';
  return name === 'application/json' ? 'json' : undefined;
}

/** @param onPiece is told of each piece's length, and may throw @throws Refusal 413, Gone */
function readBody(
  request: IncomingMessage,
  response: ServerResponse,
  onPiece: (bytes: number) => void,
): Promise<Buffer> {
  if (request.headers.expect !== undefined) response.writeContinue();
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let bytes = 0;
    request.on('data', (piece: Buffer) => {
      try {
        bytes += piece.length;
        if (bytes > MAX_BODY) throw tooLong();
        onPiece(piece.length);
        pieces.push(piece);
      } catch (error) {
        request.removeAllListeners('data');
        pieces.length = 0;
        reject(error);
      }
    });
    request.once('end', () => resolve(Buffer.concat(pieces)));
    const cut = () => reject(new Gone());
    request.once('error', cut);
    request.once('close', cut);
  });
}

/** Whether a header carries one of the tokens; takes as long for any header of the same length. */
function createTokenCheck(tokens: readonly string[]): (header: string | undefined) => boolean {
  if (tokens.length === 0) return () => true;
  // Both sides are hashed with a key nobody knows: what can be timed says nothing about the token.
  const key = randomBytes(32);
  const hashed = (text: string) => createHmac('sha256', key).update(text).digest();
  const hashes = tokens.map(hashed);
  return (header = '') => {
    const given = hashed(header.replace(/^Bearer /i, ''));
    let isOne = false;
    for (const hash of hashes) if (timingSafeEqual(hash, given)) isOne = true;
    return isOne && /^Bearer /i.test(header);
  };
}

// ---- where to listen ----

interface Address {
  readonly host: string;
  readonly port: number;
}

const ADDRESS = /^(?:http:\/\/)?(?:\[([0-9a-fA-F:.]{2,45})\]|([^\s:/@[\]]{1,253})):(\d{1,5})\/?$/;

function parseAddress(text: string): Address {
  const match = ADDRESS.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    const example = 'http://0.0.0.0:4318, 127.0.0.1:4318 or the like';
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `otlp: ${JSON.stringify(text)} is not an address to listen at; write ${example}; for TLS, put a proxy in front`,
    );
  }
  return { host: match[1] ?? match[2]!, port };
}

const isLoopback = (host: string) => /^(?:localhost|127(?:\.\d{1,3}){3}|::1)$/i.test(host);

/** Of a header, without port, brackets and final dot. */
function hostIn(header: string): string {
  return header
    .replace(/:\d{1,5}$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');
}
