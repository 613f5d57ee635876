// Syslog over TCP, plain or TLS, as a source. In: connections of rsyslog, syslog-ng, `logger`, network devices; both framings of
// RFC 6587, octet counting and lines, told apart frame by frame. Out: one record per message, its own bytes without the framing.
// Guarantee: however the bytes are cut into pieces, the messages are the same, and each byte is examined and copied at most a fixed
// number of times; the messages of a connection keep their order; connections, frames and what is held in memory are bounded, and
// while the pipeline takes nothing, nothing is read. Syslog has no acknowledgement: what was lost on the way here nobody knows, and
// what is refused, cut or given up here is counted.
import { readFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { createSecureContext, createServer as createTlsServer, type TLSSocket, type TlsOptions } from 'node:tls';
import { type Clock, createThrottle, deferred, sleep } from '../core/clock.ts';
import { errorText, LogpipeError, reasonInWords } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { type ChunkOrigin, createEventIds, type Deliver, type RawRecord, type Source } from '../core/record.ts';
import { endOfCharacter, isBlank } from './lines.ts';

export interface SyslogOptions {
  /** `tcp://host:port` or `tls://host:port`, an IPv6 address in brackets; port 0 takes a free one. */
  readonly address: string;
  /** For `tls://`. */
  readonly tls?: SyslogTls;
  /** Longer messages are cut, at the end of a character. */
  readonly maxLineBytes: number;
  /** Further connections are closed at once. Default: 500. */
  readonly maxConnections?: number;
  /** A connection that brings nothing for so long is closed. Default: a day; dead peers are found by TCP's own keepalive. */
  readonly idleTimeoutMs?: number;
  /**
   * Memory for the beginnings of messages whose end has not come yet, of all connections together; beyond it, the connection that
   * holds the most is closed. Default: 64 MiB.
   */
  readonly maxHeldBytes?: number;
}

export interface SyslogTls {
  /** PEM file of the server's certificate, with those between it and its authority. */
  readonly certFile: string;
  /** PEM file of its private key. */
  readonly keyFile: string;
  /** PEM file of the authorities whose client certificates are taken. Default: none is asked for. */
  readonly caFile?: string;
  /** With `caFile`; `optional` lets in who has none, but nobody with a wrong one. Default: `required`. */
  readonly clientCertificates?: 'required' | 'optional';
}

export interface SyslogDeps {
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics: Pick<
    Metrics,
    'syslogMessages' | 'syslogCut' | 'syslogConnections' | 'syslogRefused' | 'syslogClosed'
  >;
}

/** Why a connection was ended here, or ended in the middle of a message. A closed list: it becomes a metric label. */
export const SYSLOG_CLOSE_REASONS = ['bad_count', 'unframed', 'unfinished', 'tls', 'idle', 'memory'] as const;
export type SyslogCloseReason = (typeof SYSLOG_CLOSE_REASONS)[number];

const REASON_WORDS: Readonly<Record<SyslogCloseReason, string>> = {
  bad_count: 'a message was announced with a length that cannot be',
  unframed: 'after messages with octet counts came one without count or end',
  unfinished: 'it ended in the middle of a message',
  tls: 'TLS was expected and did not come, came unexpectedly, or the certificate is not accepted',
  idle: 'it brought nothing for too long',
  memory: 'too much is held in memory for messages without an end, and it held the most',
};

// ---- bytes in, messages out ----

const NUL = 0x00;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const ZERO = 0x30;
const NINE = 0x39;
const LESS = 0x3c;
const BRACE = 0x7b;
const EMPTY = Buffer.alloc(0);
const FIRST_CAPACITY = 4_096;
/** Up to 100 MB; a longer number is no count. */
const MAX_COUNT_DIGITS = 8;
/** A text may begin with a long number, but hardly with one longer than this. */
const MAX_DIGITS = 20;
const MAX_HEAD = MAX_DIGITS + 2;

export interface FrameSplitter {
  /** The messages that end in this piece. Those of nothing but white space are left out. */
  push(piece: Buffer, timeMs: number): RawRecord[];
  /** The connection has ended as its sender meant it to: a line under way is complete. */
  end(timeMs: number): RawRecord[];
  /** Memory held for the message under way, in bytes. */
  readonly heldBytes: number;
  /** Part of a message has come, and not its end. */
  readonly isUnfinished: boolean;
  /** Why nothing that follows can be understood. */
  readonly broken: 'bad_count' | 'unframed' | undefined;
}

/** What a frame's first bytes say: a count and the length of its head; or why there is none. */
type Head = { readonly count: number; readonly headBytes: number } | 'line' | 'unknown' | 'bad_count';

/**
 * Splits what one connection brings. `123 <34>1 …` is a message of 123 bytes; anything else is a line, ended by a line feed or a
 * NUL. A number at the beginning of a line is no count unless a priority or a JSON document follows it, or the message before it
 * was counted.
 * @param options `onCut` is called for each message longer than `maxLineBytes`
 */
export function createFrameSplitter(options: { readonly maxLineBytes: number; onCut(): void }): FrameSplitter {
  const { maxLineBytes, onCut } = options;
  /** What is known of the message under way: nothing, that it is a line, or how long it is. */
  let kind: 'head' | 'line' | 'counted' = 'head';
  /** Bytes of the stream before the piece that is looked at. */
  let before = 0;
  let frameStart = 0;
  let count = 0;
  /** The first bytes of a message while they do not say yet what it is; at most `MAX_HEAD`. */
  let head = EMPTY;
  /** Length of the message under way so far, including what was not kept. */
  let length = 0;
  /** What is kept of it from earlier pieces, in a buffer that doubles. */
  let held = EMPTY;
  let heldBytes = 0;
  /** The message before, blank lines apart, was counted; any was. */
  let wasCounted = false;
  let everCounted = false;
  let broken: FrameSplitter['broken'];

  const hold = (part: Buffer) => {
    length += part.length;
    const taken = Math.min(part.length, maxLineBytes - heldBytes);
    if (taken <= 0) return;
    if (heldBytes + taken > held.length) {
      const grown = Buffer.allocUnsafeSlow(
        Math.min(maxLineBytes, Math.max(FIRST_CAPACITY, 2 * held.length, heldBytes + taken)),
      );
      held.copy(grown, 0, 0, heldBytes);
      held = grown;
    }
    part.copy(held, heldBytes, 0, taken);
    heldBytes += taken;
  };

  /** The message under way ends with `last`; the next one begins at `nextStart`. */
  const finish = (last: Buffer, nextStart: number, timeMs: number, into: RawRecord[]) => {
    let value = last;
    if (length > 0) {
      hold(last);
      value = held.subarray(0, heldBytes);
    } else length = last.length;
    if (length > maxLineBytes) {
      onCut();
      value = value.subarray(0, endOfCharacter(value, maxLineBytes));
      // A sender that miscounts would otherwise never be understood again.
      if (kind === 'line' && everCounted) broken = 'unframed';
    } else value = withoutEnd(value);
    if (!isBlank(value)) {
      into.push({ value, offset: frameStart, timeMs, eventId: undefined });
      wasCounted = kind === 'counted';
    }
    everCounted ||= kind === 'counted';
    held = EMPTY;
    heldBytes = 0;
    length = 0;
    frameStart = nextStart;
    kind = 'head';
  };

  /** Decides what the message is that begins here. Returns how many bytes of the piece are spent. */
  const begin = (piece: Buffer, at: number): number => {
    const known = head.length;
    const start = known === 0 ? piece : Buffer.concat([head, piece.subarray(at, at + MAX_HEAD)]);
    const read = readHead(start, known === 0 ? at : 0, wasCounted);
    if (read === 'unknown') {
      head = Buffer.concat([head, piece.subarray(at)]);
      return piece.length - at;
    }
    if (read === 'bad_count') broken = read;
    else if (read === 'line') beginLine();
    else {
      kind = 'counted';
      count = read.count;
    }
    head = EMPTY;
    return typeof read === 'string' ? 0 : read.headBytes - known;
  };

  const beginLine = () => {
    kind = 'line';
    if (head.length > 0) hold(head);
    head = EMPTY;
  };

  return {
    push(piece, timeMs) {
      const records: RawRecord[] = [];
      // Looked for once and kept until it is passed: one that does not come is not looked for again and again.
      let newline = -1;
      let nul = -1;
      const find = (byte: number, known: number, from: number) => {
        if (known >= from) return known;
        const found = piece.indexOf(byte, from);
        return found < 0 ? piece.length : found;
      };
      let at = 0;
      while (at < piece.length && broken === undefined) {
        if (kind === 'head') at += begin(piece, at);
        else if (kind === 'line') {
          newline = find(NEWLINE, newline, at);
          nul = find(NUL, nul, at);
          const end = Math.min(newline, nul);
          const part = piece.subarray(at, end);
          at = end + 1;
          if (end < piece.length) finish(part, before + at, timeMs, records);
          // A copy, because the start of a message that may stay unfinished for hours would keep the whole piece alive.
          else if (everCounted && length + part.length > maxLineBytes) finish(part, 0, timeMs, records);
          else hold(part);
        } else {
          const end = at + count - length;
          const part = piece.subarray(at, end);
          at += part.length;
          if (end <= piece.length) finish(part, before + at, timeMs, records);
          else hold(part);
        }
      }
      before += piece.length;
      return records;
    },
    end(timeMs) {
      const records: RawRecord[] = [];
      // A number alone is a line too.
      if (kind === 'head') beginLine();
      if (kind === 'line' && length > 0 && broken === undefined) finish(Buffer.alloc(0), before, timeMs, records);
      return records;
    },
    get heldBytes() {
      return held.length;
    },
    get isUnfinished() {
      return broken === undefined && (kind === 'counted' || length + head.length > 0);
    },
    get broken() {
      return broken;
    },
  };
}

/** @param afterCounted the message before was counted, so a number is taken for a count whatever follows it */
function readHead(bytes: Buffer, from: number, afterCounted: boolean): Head {
  if (bytes[from] === ZERO) return 'line';
  let end = from;
  while (end < bytes.length && bytes[end]! >= ZERO && bytes[end]! <= NINE) {
    if (++end - from > MAX_DIGITS) return 'bad_count';
  }
  const digits = end - from;
  if (digits === 0) return 'line';
  if (end === bytes.length) return 'unknown';
  if (bytes[end] !== SPACE) return 'line';
  if (end + 1 === bytes.length) return 'unknown';
  const next = bytes[end + 1];
  if (!afterCounted && next !== LESS && next !== BRACE) return 'line';
  if (digits > MAX_COUNT_DIGITS) return 'bad_count';
  return { count: Number(bytes.toString('latin1', from, end)), headBytes: digits + 1 };
}

/** Without the line end that some senders count as part of the message. */
function withoutEnd(value: Buffer): Buffer {
  let end = value.length;
  if (value[end - 1] === NEWLINE || value[end - 1] === NUL) end -= 1;
  if (value[end - 1] === RETURN) end -= 1;
  return end === value.length ? value : value.subarray(0, end);
}

// ---- connections in, chunks out ----

const MAX_CONNECTIONS = 500;
const IDLE_MS = 86_400_000;
const MAX_HELD_BYTES = 64 * 1024 * 1024;
const HANDSHAKE_MS = 10_000;
const KEEPALIVE_MS = 60_000;
/** First byte of a TLS connection; no text begins with it. */
const TLS_HANDSHAKE = 0x16;
/** How long senders have after `stop` to end what they are sending, and what silence means that they have. */
const STOP_MS = 2_000;
const QUIET_MS = 200;

/** One connection, until everything that it brought is delivered. */
interface Connection {
  readonly socket: Socket;
  readonly peer: string;
  readonly origin: Extract<ChunkOrigin, { kind: 'file' }>;
  readonly splitter: FrameSplitter;
  /** To be delivered; it is read on when they have been. */
  waiting: RawRecord[];
  /** Is it among those that wait for their turn, or being delivered? */
  isQueued: boolean;
  isClosed: boolean;
  /** When it last brought something, or was last read on; monotonic. */
  lastMs: number;
  heldBytes: number;
}

/**
 * Listens at `options.address`. It never ends; `start` rejects with LOGPIPE_SOURCE_FAILED when it cannot listen there or a file for
 * TLS cannot be used. Nothing is committed, because no sender asks. `stop` says goodbye to the senders and takes what they have
 * sent until then, for at most two seconds.
 * @throws LogpipeError LOGPIPE_USAGE for an address that is none, or that does not go with `tls`
 */
export function createSyslogSource(options: SyslogOptions, deps: SyslogDeps): Source {
  const { maxLineBytes, maxConnections = MAX_CONNECTIONS, idleTimeoutMs = IDLE_MS } = options;
  const maxHeldBytes = Math.max(options.maxHeldBytes ?? MAX_HELD_BYTES, maxLineBytes);
  const { log, clock, metrics } = deps;
  const address = parseAddress(options);
  const ended = deferred();
  const newId = createEventIds(() => clock.now());
  const isWorthSaying = createThrottle(() => clock.monotonicMs());
  const connections = new Set<Connection>();
  /** Those with something to deliver, in the order in which it arrived. */
  const queue: Connection[] = [];
  let server: Server | undefined;
  let place = `syslog ${options.address}`;
  let deliver: Deliver = async () => {};
  let state: 'new' | 'listening' | 'stopping' | 'stopped' = 'new';
  let failed: string | undefined;
  let isDelivering = false;
  let heldBytes = 0;
  let pieces = 0;
  let cancelLook = () => {};

  const isStopped = () => state === 'stopped';

  const openCount = () => {
    let open = 0;
    for (const { isClosed } of connections) if (!isClosed) open += 1;
    return open;
  };

  const tell = (what: string, meta: Record<string, unknown>) => {
    if (isWorthSaying(what)) log.warn(what, { source: place, ...meta });
  };

  const refuse = (peer: string | undefined) => {
    metrics.syslogRefused.inc();
    tell('a syslog connection was refused, because as many are open as are allowed', { peer, maxConnections });
  };

  const countClosed = (reason: SyslogCloseReason, peer: string | undefined, detail?: string) => {
    metrics.syslogClosed.inc({ reason });
    tell(`a syslog connection was closed: ${REASON_WORDS[reason]}`, { peer, ...(detail !== undefined && { detail }) });
  };

  const close = (connection: Connection, reason: SyslogCloseReason) => {
    if (connection.isClosed) return;
    countClosed(reason, connection.peer);
    forget(connection);
    connection.socket.destroy();
  };

  /** It is not read any more; what waits is still delivered. */
  const forget = (connection: Connection) => {
    connection.isClosed = true;
    heldBytes -= connection.heldBytes;
    connection.heldBytes = 0;
    if (!connection.isQueued) connections.delete(connection);
    metrics.syslogConnections.set(openCount());
  };

  const take = (connection: Connection, records: RawRecord[]) => {
    if (records.length === 0) return;
    metrics.syslogMessages.inc(records.length);
    connection.socket.pause();
    if (connection.waiting.length === 0) connection.waiting = records;
    else for (const record of records) connection.waiting.push(record);
    if (connection.isQueued) return;
    connection.isQueued = true;
    queue.push(connection);
    void deliverQueue();
  };

  const chunkOf = (connection: Connection) => {
    const records = connection.waiting;
    connection.waiting = [];
    let bytes = 0;
    for (const { value } of records) bytes += value!.length;
    return { origin: connection.origin, records, bytes, done() {} };
  };

  /** One chunk at a time, whoever it is from: while it is not taken, no socket is read beyond the piece that it has brought. */
  const deliverQueue = async () => {
    if (isDelivering) return;
    isDelivering = true;
    try {
      while (!isStopped()) {
        const connection = queue.shift();
        if (connection === undefined) break;
        await deliver(chunkOf(connection));
        if (connection.waiting.length > 0) queue.push(connection);
        else {
          connection.isQueued = false;
          connection.lastMs = clock.monotonicMs();
          if (connection.isClosed) connections.delete(connection);
          else if (!isStopped()) connection.socket.resume();
        }
      }
    } catch (error) {
      fail(error);
    } finally {
      isDelivering = false;
    }
  };

  const fail = (error: unknown) => {
    failed = errorText(error);
    state = 'stopped';
    for (const { socket } of connections) socket.pause();
    ended.reject(error instanceof Error ? error : new Error(failed));
  };

  /** Whoever holds the most of what has no end yet makes room. */
  const makeRoom = () => {
    while (heldBytes > maxHeldBytes) {
      let most: Connection | undefined;
      for (const connection of connections) {
        if (connection.heldBytes > (most?.heldBytes ?? 0)) most = connection;
      }
      if (most === undefined) return;
      close(most, 'memory');
    }
  };

  const read = (connection: Connection, piece: Buffer) => {
    const { splitter } = connection;
    const records = splitter.push(piece, clock.now());
    take(connection, records);
    if (splitter.broken !== undefined) return close(connection, splitter.broken);
    if (connection.isClosed) return;
    heldBytes += splitter.heldBytes - connection.heldBytes;
    connection.heldBytes = splitter.heldBytes;
    makeRoom();
  };

  /** What a socket that is paused or gone still has. */
  const readRest = (connection: Connection) => {
    const { socket } = connection;
    socket.removeAllListeners('data');
    const rest = socket.read() as Buffer | null;
    if (rest !== null) read(connection, rest);
  };

  const connect = (socket: Socket) => {
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    // One that has gone and left something to deliver counts too, or the memory for that would have no bound.
    if (connections.size >= maxConnections || state !== 'listening') {
      if (state === 'listening') refuse(peer);
      socket.on('error', () => {});
      socket.destroy();
      return;
    }
    const splitter = createFrameSplitter({
      maxLineBytes,
      onCut() {
        metrics.syslogCut.inc();
        tell('a syslog message was cut', { peer, keptBytes: maxLineBytes });
      },
    });
    const connection: Connection = {
      ...{ socket, peer, splitter, waiting: [], isQueued: false, isClosed: false },
      origin: { kind: 'file', path: place, identity: newId() },
      lastMs: clock.monotonicMs(),
      heldBytes: 0,
    };
    connections.add(connection);
    metrics.syslogConnections.set(openCount());
    log.debug('a syslog connection was opened', { source: place, peer, identity: connection.origin.identity });
    let isFirst = true;
    socket.on('data', (piece: Buffer) => {
      pieces += 1;
      connection.lastMs = clock.monotonicMs();
      if (isFirst && piece[0] === TLS_HANDSHAKE && !address.isTls) return close(connection, 'tls');
      isFirst = false;
      read(connection, piece);
    });
    socket.on('end', () => take(connection, splitter.end(clock.now())));
    socket.on('error', (error) =>
      log.debug('a syslog connection broke', { source: place, peer, error: error.message }),
    );
    socket.on('close', () => {
      if (connection.isClosed) return;
      // A sender that resets the connection ends it at once, although some of what it sent may not have been looked at.
      if (!isStopped()) readRest(connection);
      if (connection.isClosed) return;
      if (splitter.isUnfinished) countClosed('unfinished', peer);
      forget(connection);
    });
  };

  const lookForIdle = () => {
    cancelLook = clock.after(Math.ceil(idleTimeoutMs / 10), lookForIdle);
    const sinceMs = clock.monotonicMs() - idleTimeoutMs;
    for (const connection of connections) {
      // One that waits for its turn is not read: its silence is not its own.
      if (!connection.isQueued && connection.lastMs <= sinceMs) close(connection, 'idle');
    }
  };

  const createListener = (): Server => {
    if (options.tls === undefined) return createServer(connect);
    const asksForCertificates = options.tls.caFile !== undefined;
    const isRequired = options.tls.clientCertificates !== 'optional';
    const tlsServer = createTlsServer({ ...tlsOptions(place, options.tls), handshakeTimeout: HANDSHAKE_MS });
    tlsServer.on('secureConnection', (socket: TLSSocket) => {
      if (asksForCertificates && !socket.authorized && (isRequired || hasCertificate(socket))) {
        countClosed('tls', socket.remoteAddress, String(socket.authorizationError));
        socket.on('error', () => {});
        socket.destroy();
      } else connect(socket);
    });
    tlsServer.on('tlsClientError', (error, socket) => {
      // Who has left without a word, a port scanner or a health check, has done nothing wrong.
      if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') return;
      countClosed('tls', socket.remoteAddress, errorText(error));
    });
    return tlsServer;
  };

  /** Until every sender has ended its connection, or none brings anything any more. */
  const untilQuiet = async () => {
    const untilMs = clock.monotonicMs() + STOP_MS;
    for (;;) {
      const seen = pieces;
      if (connections.size === 0) return;
      await sleep(QUIET_MS, undefined, clock.after);
      const isQuiet = pieces === seen && queue.length === 0 && !isDelivering;
      if (isQuiet || clock.monotonicMs() >= untilMs) return;
    }
  };

  return {
    ended: ended.promise,

    async start(to) {
      deliver = to;
      const listener = createListener();
      listener.maxConnections = maxConnections;
      listener.on('drop', (drop) => refuse(drop?.remoteAddress));
      listener.on('connection', (socket: Socket) => socket.setKeepAlive(true, KEEPALIVE_MS));
      await new Promise<void>((resolve, reject) => {
        listener.once('error', (error) => reject(listenFailure(place, address, error)));
        listener.listen({ host: address.host, port: address.port }, resolve);
      });
      listener.removeAllListeners('error');
      listener.on('error', (error) =>
        tell('a syslog connection could not be accepted', { error: reasonInWords(error) }),
      );
      server = listener;
      const bound = listener.address();
      if (typeof bound === 'object' && bound !== null) {
        place = `syslog ${options.address.replace(/:0$/, `:${bound.port}`)}`;
      }
      state = 'listening';
      cancelLook = clock.after(Math.ceil(idleTimeoutMs / 10), lookForIdle);
    },

    async stop() {
      cancelLook();
      if (state === 'new') state = 'stopped';
      if (state !== 'listening') return;
      state = 'stopping';
      server?.close();
      // Senders that look before they write, as rsyslog does, keep the rest for the next connection.
      for (const { socket } of connections) socket.end();
      await untilQuiet();
      if (state !== 'stopping') return;
      // What has arrived and waits for its turn is handed over whatever the limit: nobody would send it again.
      for (const connection of connections) if (!connection.isClosed) readRest(connection);
      state = 'stopped';
      for (const connection of connections) {
        connection.socket.pause();
        if (connection.waiting.length > 0) deliver(chunkOf(connection)).catch(fail);
      }
    },

    async close() {
      cancelLook();
      state = 'stopped';
      server?.close();
      server = undefined;
      for (const connection of [...connections]) {
        forget(connection);
        connection.socket.destroy();
      }
      connections.clear();
    },

    status() {
      const open = openCount();
      const detail =
        failed ??
        (state === 'new'
          ? 'not started'
          : state === 'listening'
            ? `listening at ${place.slice('syslog '.length)}, ${open} ${open === 1 ? 'connection' : 'connections'}`
            : 'stopped');
      return { ready: state === 'listening', detail };
    },
  };
}

function hasCertificate(socket: TLSSocket): boolean {
  return Object.keys(socket.getPeerCertificate() ?? {}).length > 0;
}

// ---- where to listen ----

interface Address {
  readonly isTls: boolean;
  readonly host: string;
  readonly port: number;
}

const ADDRESS = /^(tcp|tls):\/\/(?:\[([0-9a-fA-F:.]{2,45})\]|([^\s:/@[\]]{1,253})):(\d{1,5})$/;

function parseAddress({ address, tls }: SyslogOptions): Address {
  const match = ADDRESS.exec(address);
  const port = Number(match?.[4]);
  if (match === null || port > 65_535) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `syslog: ${JSON.stringify(address)} is not an address to listen at; write tcp://0.0.0.0:6514, tls://[::]:6514 or the like`,
    );
  }
  const isTls = match[1] === 'tls';
  if (isTls !== (tls !== undefined)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      isTls
        ? `syslog ${address}: TLS needs a certificate and its key; name their PEM files`
        : `syslog ${address}: files for TLS are given, but the address is not one of TLS; write tls:// or leave them out`,
    );
  }
  if (tls?.clientCertificates !== undefined && tls.caFile === undefined) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `syslog ${address}: client certificates need the authority that signed them; name its PEM file`,
    );
  }
  return { isTls, host: match[2] ?? match[3]!, port };
}

/** @throws LogpipeError LOGPIPE_SOURCE_FAILED */
function tlsOptions(place: string, tls: SyslogTls): TlsOptions {
  const pem = (what: string, path: string) => {
    try {
      return readFileSync(path);
    } catch (error) {
      throw new LogpipeError(
        'LOGPIPE_SOURCE_FAILED',
        `${place}: the ${what} ${path} cannot be read (${reasonInWords(error)}); name a PEM file that this user may read`,
        error,
      );
    }
  };
  const identity = { cert: pem('certificate', tls.certFile), key: pem('private key', tls.keyFile) };
  const authority = tls.caFile === undefined ? {} : { ca: pem('authority of the clients', tls.caFile) };
  try {
    createSecureContext({ ...identity, ...authority });
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_SOURCE_FAILED',
      `${place}: ${Object.values(tls).slice(0, 2).join(' and ')} cannot be used (${errorText(error)}); name a PEM certificate and the key that belongs to it, not encrypted`,
      error,
    );
  }
  return {
    ...identity,
    ...authority,
    requestCert: tls.caFile !== undefined,
    // Looked at once the handshake is over: here a wrong one would look like a client that has left.
    rejectUnauthorized: false,
  };
}

function listenFailure(place: string, { port }: Address, error: Error): LogpipeError {
  const { code } = error as NodeJS.ErrnoException;
  const failure = (what: string) => new LogpipeError('LOGPIPE_SOURCE_FAILED', `${place}: ${what}`, error);
  const reason = reasonInWords(error);
  if (code === 'EADDRINUSE') {
    return failure(`cannot listen there (${reason}); name another port, or end the program that listens at ${port}`);
  }
  if (code === 'EACCES' && port < 1_024) {
    return failure(
      `cannot listen there (${reason}): ports below 1024 are for root; name one above, such as 6514, or grant CAP_NET_BIND_SERVICE`,
    );
  }
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
    return failure(`cannot listen there (${reason}); name an address of this machine, or 0.0.0.0 or [::] for all`);
  }
  return failure(`cannot listen there (${reason}); name another address`);
}
