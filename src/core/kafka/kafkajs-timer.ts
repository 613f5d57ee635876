// Time and time-outs in kafkajs, repaired in place. In: nothing. Out: all of the process's kafkajs clients, present and future.
// Guarantee: no client notices that the wall clock was set or that the process was stopped; a broker that stopped answering is
// left as if it had hung up. Where kafkajs is not in files of its own, as in a bundle, all stays as it is.
//
// - Its request queue re-arms a timer of 1 ms for as long as a connection lives, also when nothing waits (tulios/kafkajs#1704): 3 %
//   of a CPU core per idle client, and on current Node a TimeoutNegativeWarning on the application's standard error. Here the timer is
//   set whenever a request waits, exactly as before.
// - It takes durations from the wall clock. Set back by an hour, a member sends no heartbeat for an hour and is thrown out of its
//   group, no request times out and no metadata grows old; set forward, everything under way times out at once. Here the moments
//   it keeps are kept by the monotonic clock: each reads as the wall clock would have it had it never been set.
// - After a stop (SIGSTOP) its look for late answers comes before the answers that wait in the socket are read. Here the time
//   that was slept does not count.
// - A frozen broker still takes connections. kafkajs gives up one request at a time, keeps the connection and what it knows of the
//   partitions' leaders, and asks the same broker again and again; any client may choose it for what all others wait for. Here a
//   time-out is the end of the connection and of the metadata, questions that any broker answers are given up early, and they go to
//   one that owes no answer.
// - A log-in that a broker does not answer, or whose connection breaks, is "wrong password" to kafkajs: nobody tries again. Before
//   Kafka 1.0 its steps are no requests and are waited for without end. Here it is a connection that broke, in the time of a request.
// - A group's coordinator that does not answer a heartbeat holds up all reading, and is asked again and again. Here reading goes on
//   meanwhile, and a heartbeat that timed out is the coordinator's "no longer me": it is looked for anew, and the member stays the
//   one it was, so that nobody waits for the end of its session.
import { createRequire } from 'node:module';
import { endsWithin } from '../clock.ts';

interface SocketRequest {
  sentAt: number | null;
  readonly requestTimeout: number;
  readonly entry: { readonly apiKey: number };
  timeoutRequest(): void;
  rejected(error: Error): void;
}

interface Connection {
  readonly host: string;
  readonly port: number;
  readonly requestQueue: RequestQueue;
  readonly socket?: { destroy(): void };
  /** Of an answer that has come in part. */
  chunks: Buffer[];
  bytesBuffered: number;
  bytesNeeded: number;
  /** While a step of a log-in waits that is no request. */
  readonly authHandlers?: { onError(): void } | null;
  /** What ended it while a log-in was under way. */
  [BROKEN]?: Error | undefined;
  connect(): Promise<unknown>;
  sendAuthRequest(step: object): Promise<unknown>;
  disconnect(): Promise<unknown>;
  rejectRequests(error: Error): void;
}

interface RequestQueue {
  readonly pending: readonly unknown[];
  readonly inflight: ReadonlyMap<number, SocketRequest>;
  readonly requestTimeout: number;
  readonly enforceRequestTimeout: boolean;
  requestTimeoutIntervalId?: NodeJS.Timeout;
  [CONNECTION]?: Connection;
  isConnected(): boolean;
  destroy(): void;
  fulfillRequest(answer: object): void;
  scheduleCheckPendingRequests(): void;
  scheduleRequestTimeoutCheck(): void;
}

interface Broker {
  isConnected(): boolean;
  readonly connectionPool: { readonly pool: readonly Connection[] };
}

interface Authenticator {
  readonly connection: Connection;
  authenticate(): Promise<void>;
}

interface Runner {
  readonly heartbeatInterval: number;
  readonly consumerGroup: { readonly lastRequest: number };
  /** A heartbeat that is under way for longer than others, or what became of it. */
  [BEATING]?: { error?: unknown } | undefined;
  heartbeat(): Promise<void>;
}

interface BrokerPool {
  readonly brokers: Readonly<Record<string, Broker>>;
  readonly seedBroker?: Broker;
  metadataExpireAt: number | null;
  /** When metadata last came, monotonic. */
  [REFRESHED]?: number;
  hasConnectedBrokers(): boolean;
  connect(): Promise<void>;
  /** The next address of the list. */
  createSeedBroker(): Promise<void>;
  findBroker(options: { nodeId: string }): Promise<Broker>;
  findConnectedBroker(): Promise<Broker>;
  refreshMetadata(topics: unknown): Promise<unknown>;
  refreshMetadataIfNecessary(topics: unknown): Promise<unknown>;
  withBroker<T>(ask: (options: { nodeId: string; broker: Broker }) => Promise<T>): Promise<T | null>;
}

type ErrorClass = new (what: unknown, details?: object) => Error;

const REPAIRED = Symbol.for('logpipe.kafkajs-time');
const CONNECTION = Symbol('connection');
const REFRESHED = Symbol('refreshed');
const BEATING = Symbol('beating');
const BROKEN = Symbol('broken');

/** When a request last timed out, monotonic, by the broker's address; gone with its next answer. What one client has waited for, no
 * other one of this process has to. */
const timedOut = new Map<string, number>();

const CHECK_MS = 100;
/** A look for late answers that is itself later than this was slept through. */
const LATE_MS = 1_000;
/** Any broker answers these from memory: who takes longer answers nothing. */
const QUICK_MS = 4_000;
const QUICK = new Set([3 /* Metadata */, 10 /* FindCoordinator */, 17 /* SaslHandshake */, 18 /* ApiVersions */]);
/** A broker that has owed an answer for this long is asked last. */
const OWING_MS = 2_000;
const HEARTBEAT = 12;
/** Reading waits for a heartbeat's answer no longer than this. */
const BEAT_MS = 500;
/** Held back on purpose until all members have come. */
const HELD = new Set([11 /* JoinGroup */, 14 /* SyncGroup */]);

/** Modules of kafkajs, and their moments by the wall clock. */
const MOMENTS = {
  'network/requestQueue': ['throttledUntil'],
  'network/requestQueue/socketRequest': ['sentAt'],
  'consumer/consumerGroup': ['lastRequest'],
  'cluster/brokerPool': ['metadataExpireAt'],
} as const;

/** For all of the process's kafkajs clients; repeatable. */
export function repairKafkaJsTime(): void {
  const queue = prototypeOf<RequestQueue & { [REPAIRED]?: true }>('network/requestQueue');
  if (queue === undefined || queue[REPAIRED]) return;
  queue[REPAIRED] = true;
  armOnlyWhenRequestsWait(queue);
  for (const [module, names] of Object.entries(MOMENTS)) {
    const prototype = prototypeOf<object>(module);
    if (prototype !== undefined) for (const name of names) keepMonotonic(prototype, name);
  }
  const connection = prototypeOf<Connection>('network/connection');
  const pool = prototypeOf<BrokerPool>('cluster/brokerPool');
  const errors = load('errors') as Record<string, ErrorClass> | undefined;
  const runner = prototypeOf<Runner>('consumer/runner');
  const { KafkaJSConnectionError, KafkaJSProtocolError } = errors ?? {};
  if (connection === undefined || pool === undefined || runner === undefined) return;
  if (KafkaJSConnectionError === undefined || KafkaJSProtocolError === undefined) return;
  timeOutConnections(queue, connection, { KafkaJSConnectionError, KafkaJSProtocolError });
  const authenticator = prototypeOf<Authenticator>('broker/saslAuthenticator');
  if (authenticator !== undefined) timeOutLogins(connection, authenticator, KafkaJSConnectionError);
  leaveSilentBrokers(pool);
  readWhileBeating(runner);
}

function armOnlyWhenRequestsWait(prototype: RequestQueue): void {
  const original = prototype.scheduleCheckPendingRequests;
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
    if (this.pending.length > 0) original.call(this);
  };
}

/** kafkajs's constructors assign these properties, so that an accessor of the prototype gets every moment. */
function keepMonotonic(prototype: object, name: string): void {
  const kept = Symbol(name);
  type Holder = { [kept]?: { readonly monotonicMs: number } | { readonly raw: unknown } };
  Object.defineProperty(prototype, name, {
    configurable: true,
    get(this: Holder) {
      const moment = this[kept];
      if (moment === undefined) return undefined;
      return 'raw' in moment ? moment.raw : Math.round(moment.monotonicMs + wallLessMonotonic());
    },
    set(this: Holder, value: unknown) {
      // null and -1 stand for "never".
      const isMoment = typeof value === 'number' && value > 0;
      this[kept] = isMoment ? { monotonicMs: value - wallLessMonotonic() } : { raw: value };
    },
  });
}

function wallLessMonotonic(): number {
  return Date.now() - performance.now();
}

/** Looks for late answers as kafkajs does, but for the time that was slept; one that is late ends the connection. */
function timeOutConnections(
  queue: RequestQueue,
  connection: Connection,
  errors: { readonly KafkaJSConnectionError: ErrorClass; readonly KafkaJSProtocolError: ErrorClass },
): void {
  const connect = connection.connect;
  connection.connect = function (this: Connection) {
    this.requestQueue[CONNECTION] = this;
    return connect.call(this);
  };

  function endSilent(late: SocketRequest, queueOf: RequestQueue): void {
    const silent = queueOf[CONNECTION];
    const broker = silent === undefined ? undefined : addressOf(silent);
    if (broker !== undefined) timedOut.set(broker, performance.now());
    // Not kafkajs's own error of a time-out: that one makes nobody look for another leader or coordinator.
    for (const request of queueOf.inflight.values()) {
      const reject = request.rejected;
      request.rejected = ({ message }) =>
        reject.call(
          request,
          request.entry.apiKey === HEARTBEAT
            ? new errors.KafkaJSProtocolError({ message, type: 'NOT_COORDINATOR_FOR_GROUP', code: 16, retriable: true })
            : new errors.KafkaJSConnectionError(message, { broker, code: 'ETIMEDOUT' }),
        );
    }
    late.timeoutRequest();
    if (silent === undefined) return;
    silent.rejectRequests(new Error('The broker has stopped answering'));
    silent.disconnect().catch(() => {});
    // What it may still say belongs to nobody, least of all to the next connection.
    silent.socket?.destroy();
    silent.chunks = [];
    silent.bytesBuffered = 0;
    silent.bytesNeeded = 4;
  }

  const fulfill = queue.fulfillRequest;
  queue.fulfillRequest = function (this: RequestQueue, answer) {
    if (timedOut.size > 0 && this[CONNECTION] !== undefined) timedOut.delete(addressOf(this[CONNECTION]));
    fulfill.call(this, answer);
  };

  queue.scheduleRequestTimeoutCheck = function (this: RequestQueue) {
    if (!this.enforceRequestTimeout) return;
    this.destroy();
    const everyMs = Math.min(this.requestTimeout, CHECK_MS);
    let lookedMs = performance.now();
    this.requestTimeoutIntervalId = setInterval(() => {
      const lateMs = performance.now() - lookedMs - everyMs;
      lookedMs = performance.now();
      let silent: SocketRequest | undefined;
      for (const request of this.inflight.values()) {
        if (request.sentAt === null) continue;
        if (lateMs > LATE_MS) request.sentAt += lateMs;
        const { requestTimeout, entry } = request;
        const limitMs = QUICK.has(entry.apiKey) ? Math.min(requestTimeout, QUICK_MS) : requestTimeout;
        if (Date.now() - request.sentAt > limitMs) silent ??= request;
      }
      if (silent !== undefined) endSilent(silent, this);
      if (!this.isConnected()) this.destroy();
    }, everyMs);
  };
}

/** A refusal stays one: a broker answers with it, or before Kafka 1.0 hangs up. */
function timeOutLogins(connection: Connection, authenticator: Authenticator, ConnectionError: ErrorClass): void {
  const { rejectRequests, sendAuthRequest } = connection;
  connection.rejectRequests = function (error) {
    this[BROKEN] = error;
    rejectRequests.call(this, error);
    this.authHandlers?.onError();
  };

  connection.sendAuthRequest = async function (step) {
    const timer = setTimeout(() => {
      this.rejectRequests(new Error('The log-in timed out'));
      this.disconnect().catch(() => {});
      this.socket?.destroy();
    }, this.requestQueue.requestTimeout);
    try {
      return await sendAuthRequest.call(this, step);
    } finally {
      clearTimeout(timer);
    }
  };

  const { authenticate } = authenticator;
  authenticator.authenticate = async function () {
    const { connection: mine } = this;
    const { host, port } = mine;
    Object.assign(mine, { [BROKEN]: undefined });
    try {
      await authenticate.call(this);
    } catch (error) {
      const broken = mine[BROKEN];
      if (broken === undefined) throw error;
      throw new ConnectionError(`Log-in: ${broken.message}`, { broker: `${host}:${port}`, code: 'ETIMEDOUT' });
    }
  };
}

function leaveSilentBrokers(pool: BrokerPool): void {
  const { connect, findConnectedBroker, refreshMetadata, refreshMetadataIfNecessary, withBroker } = pool;

  // A frozen one takes the connection, and is then asked for what all wait for.
  pool.connect = async function () {
    const { seedBroker } = this;
    if (seedBroker !== undefined && isSilent(seedBroker) && !this.hasConnectedBrokers()) await this.createSeedBroker();
    return connect.call(this);
  };

  pool.refreshMetadata = async function (topics) {
    const answer = await refreshMetadata.call(this, topics);
    this[REFRESHED] = performance.now();
    return answer;
  };

  pool.refreshMetadataIfNecessary = function (topics) {
    const refreshedMs = this[REFRESHED] ?? 0;
    const isOlder = connectionsOf(Object.values(this.brokers)).some(
      (connection) => (timedOut.get(addressOf(connection)) ?? 0) > refreshedMs,
    );
    if (isOlder) this.metadataExpireAt = null;
    return refreshMetadataIfNecessary.call(this, topics);
  };

  pool.findConnectedBroker = async function () {
    for (const nodeId of answering(this)) {
      try {
        return await this.findBroker({ nodeId });
      } catch {
        // The next one; kafkajs says nothing here either.
      }
    }
    return findConnectedBroker.call(this);
  };

  pool.withBroker = async function <T>(this: BrokerPool, ask: Parameters<BrokerPool['withBroker']>[0]) {
    for (const nodeId of answering(this)) {
      try {
        return (await ask({ nodeId, broker: await this.findBroker({ nodeId }) })) as T;
      } catch {
        // The next one; kafkajs says nothing here either.
      }
    }
    return withBroker.call(this, ask) as Promise<T | null>;
  };
}

function readWhileBeating(runner: Runner): void {
  const { heartbeat } = runner;
  runner.heartbeat = async function () {
    const before = this[BEATING];
    if (before !== undefined) {
      if (!('error' in before)) return;
      this[BEATING] = undefined;
      throw before.error;
    }
    if (Date.now() < this.consumerGroup.lastRequest + this.heartbeatInterval) return heartbeat.call(this);
    const beating: { error?: unknown } = {};
    this[BEATING] = beating;
    const answered = heartbeat.call(this).then(
      () => {
        this[BEATING] = undefined;
      },
      (error: unknown) => {
        beating.error = error;
      },
    );
    await endsWithin(answered, BEAT_MS);
    if (!('error' in beating)) return;
    this[BEATING] = undefined;
    throw beating.error;
  };
}

/** Brokers that owe nothing: those that are connected, then the others, each in any order. */
function answering({ brokers }: BrokerPool): string[] {
  const rank = (id: string) => (brokers[id]!.isConnected() ? 0 : 1) + Math.random() / 2;
  const ranks = new Map(Object.keys(brokers).map((id) => [id, rank(id)]));
  return [...ranks.keys()].filter((id) => !isSilent(brokers[id]!)).sort((a, b) => ranks.get(a)! - ranks.get(b)!);
}

/** It owes an answer that others would have given long ago, or still owed one when it was given up. */
function isSilent(broker: Broker): boolean {
  return connectionsOf([broker]).some(
    (connection) =>
      timedOut.has(addressOf(connection)) ||
      [...connection.requestQueue.inflight.values()].some(
        ({ sentAt, entry }) => sentAt !== null && !HELD.has(entry.apiKey) && Date.now() - sentAt > OWING_MS,
      ),
  );
}

function connectionsOf(brokers: readonly Broker[]): Connection[] {
  return brokers.flatMap(({ connectionPool }) => connectionPool.pool);
}

function addressOf({ host, port }: Connection): string {
  return `${host}:${port}`;
}

function prototypeOf<T>(module: string): T | undefined {
  return (load(module) as { readonly prototype?: T } | undefined)?.prototype;
}

function load(module: string): unknown {
  try {
    return createRequire(import.meta.url)(`kafkajs/src/${module}`);
  } catch {
    return undefined;
  }
}
