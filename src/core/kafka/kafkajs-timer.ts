// Time and time-outs in kafkajs, repaired in place. In: nothing. Out: repaired prototypes, for all of the process's kafkajs
// clients, present and future. Guarantee: no client notices that the wall clock was set or that the process was stopped; a broker
// that stopped answering is dropped as if it had hung up. Where kafkajs has no files of its own, as in a bundle, nothing is
// changed.
//
// - Its request queue re-arms a timer of 1 ms for as long as a connection lives, even when nothing waits (tulios/kafkajs#1704):
//   3% of a CPU core per idle client, and on current Node a TimeoutNegativeWarning on the application's standard error. Here the
//   timer is set only while a request waits.
// - It takes durations from the wall clock. When the clock is set back by an hour, a member sends no heartbeat for an hour and is
//   thrown out of its group, no request times out and no metadata expires; when it is set forward, everything under way times out
//   at once. Here the moments it stores are stored by the monotonic clock: each reads as if the wall clock had never been set.
// - After a stop (SIGSTOP) it looks for late answers before it reads those that wait in the socket. Here the time slept does not
//   count.
// - A frozen broker still accepts connections. kafkajs gives up one request at a time, keeps the connection and what it knows of
//   the partitions' leaders, and asks the same broker again and again; a client may even choose it for a question that everything
//   waits for. Here a time-out ends the connection and invalidates the metadata; questions that any broker can answer are given
//   up early, and go to a broker that owes no answer.
// - To kafkajs, a login that a broker does not answer, or whose connection breaks, is a wrong password: nobody tries again.
//   Before Kafka 1.0 the steps of a login are not requests, and it waits for them without end. Here that is a broken connection,
//   and the wait is a request's.
// - A coordinator that does not answer a heartbeat holds up all reading, and is asked again and again. Here reading goes on
//   meanwhile, and a heartbeat that times out counts as "not coordinator": the coordinator is looked up anew, and the member
//   keeps its identity, so that nobody waits for its session to end.
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
  /** Parts of an answer that has not arrived in full. */
  chunks: Buffer[];
  bytesBuffered: number;
  bytesNeeded: number;
  /** Set while a step of a login waits that is not a request. */
  readonly authHandlers?: { onError(): void } | null;
  /** What ended it while a login was under way. */
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
  /** A heartbeat under way, or the error it ended with. */
  [BEATING]?: { error?: unknown } | undefined;
  heartbeat(): Promise<void>;
}

interface BrokerPool {
  readonly brokers: Readonly<Record<string, Broker>>;
  readonly seedBroker?: Broker;
  metadataExpireAt: number | null;
  /** When metadata last arrived, monotonic. */
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

/**
 * When a request last timed out, monotonic, by the broker's address; removed by its next answer. What one client of this process
 * has waited for, no other has to.
 */
const timedOut = new Map<string, number>();

const CHECK_MS = 100;
/** When the look for late answers is itself later than this, the process was asleep. */
const LATE_MS = 1_000;
/** Any broker answers these from memory: one that takes longer answers nothing. */
const QUICK_MS = 4_000;
const QUICK = new Set([3 /* Metadata */, 10 /* FindCoordinator */, 17 /* SaslHandshake */, 18 /* ApiVersions */]);
/** A broker that has owed an answer for this long is asked last. */
const OWING_MS = 2_000;
const HEARTBEAT = 12;
/** Reading waits for a heartbeat's answer no longer than this. */
const BEAT_MS = 500;
/** The broker holds these back on purpose until all members have joined. */
const HELD = new Set([11 /* JoinGroup */, 14 /* SyncGroup */]);

/** Modules of kafkajs, and the properties in which they store moments of the wall clock. */
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

// ---- timers and moments ----

function armOnlyWhenRequestsWait(prototype: RequestQueue): void {
  const original = prototype.scheduleCheckPendingRequests;
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
    if (this.pending.length > 0) original.call(this);
  };
}

/** kafkajs's constructors assign these properties, so an accessor on the prototype sees every moment. */
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

// ---- requests and logins that nobody answers ----

/** Looks for late answers as kafkajs does, without the time slept; a late one ends the connection. */
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
    // Not kafkajs's own time-out error: on that one, nobody looks for another leader or coordinator.
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
    // Nothing that still arrives belongs to anybody, least of all to the next connection.
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

/** A refusal stays a refusal: the broker answers with one or, before Kafka 1.0, hangs up. */
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

// ---- silent brokers ----

function leaveSilentBrokers(pool: BrokerPool): void {
  const { connect, findConnectedBroker, refreshMetadata, refreshMetadataIfNecessary, withBroker } = pool;

  // A frozen broker accepts the connection, and would then be asked what everything waits for.
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

// ---- reading while a heartbeat waits ----

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

// ---- what is known of brokers, and kafkajs's modules ----

/** Brokers that owe nothing: first the connected ones, then the others, each in random order. */
function answering({ brokers }: BrokerPool): string[] {
  const rank = (id: string) => (brokers[id]!.isConnected() ? 0 : 1) + Math.random() / 2;
  const ranks = new Map(Object.keys(brokers).map((id) => [id, rank(id)]));
  return [...ranks.keys()].filter((id) => !isSilent(brokers[id]!)).sort((a, b) => ranks.get(a)! - ranks.get(b)!);
}

/** Does it owe an answer that others would have given long ago, or did it still owe one when it was given up? */
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
