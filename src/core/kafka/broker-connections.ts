// Connections to Kafka's brokers, and questions put to them. In: how to reach them. Out: answers, and words for what went wrong.
// Guarantee: every wait is bounded and goes by the monotonic clock; a broker that does not answer holds up no question that
// another one can answer; no message repeats anything from the configuration, so none repeats a secret.
//
// Uses kafkajs's connections, logins and message formats, but not its cluster, producer or consumer: those treat a topic with one
// leaderless partition as a topic without metadata, ask for metadata wherever they are still connected, even if that broker is
// frozen, and wait for all partitions together. The transport sends through these connections, and topics are read through them
// without a group.
import net from 'node:net';
import tls from 'node:tls';
import type { SASLOptions } from 'kafkajs';
import type { Protocol } from 'kafkajs/src/broker/index.js';
import Broker from 'kafkajs/src/broker/index.js';
import loggers from 'kafkajs/src/loggers/index.js';
import ConnectionPool from 'kafkajs/src/network/connectionPool.js';
import errors from 'kafkajs/src/protocol/error.js';
import apiKeys from 'kafkajs/src/protocol/requests/apiKeys.js';
import table from 'kafkajs/src/protocol/requests/index.js';
import { createThrottle, systemClock, within } from '../clock.ts';
import { causeChain, errorText, systemReason } from '../errors.ts';
import { repairKafkaJsTime } from './kafkajs-timer.ts';

export interface Partition {
  readonly partitionId: number;
  /** The broker that takes its records; negative when there is none. */
  readonly leader: number;
}

export interface BrokerAddresses {
  /** Asked first, `host:port`. */
  readonly brokers: readonly string[];
  readonly clientId: string;
  readonly ssl: boolean | tls.ConnectionOptions;
  readonly sasl: SASLOptions | undefined;
  /** In ms; TLS, versions and login come on top. Default 3,000. */
  readonly connectionTimeoutMs?: number;
  /** How long a broker may owe an answer, in ms. Default 10,000. */
  readonly answerTimeoutMs?: number;
}

type Question = 'Fetch' | 'InitProducerId' | 'ListOffsets' | 'Metadata' | 'Produce';

export interface BrokerConnections {
  /**
   * The topic's partitions, by number, as one broker sees them now; brokers that do not answer are passed over.
   * @throws kafkajs's error when no broker answers or the topic cannot be had
   */
  partitions(topic: string): Promise<readonly Partition[]>;
  /** The first answer of any broker. */
  askAny<T>(what: Question, options: object): Promise<T>;
  /**
   * One broker's answer, whatever error codes it holds. A rejection says nothing about what the broker has done.
   * @param adapt what is sent and how the answer is read; default: as kafkajs does it, error codes left alone
   */
  ask<T>(nodeId: number, what: Question, options: object, adapt?: (protocol: Protocol) => object): Promise<T>;
  /** Resolves when the broker can be asked at once. */
  connect(nodeId: number): Promise<void>;
  /** Ends the connection to a broker: all its open questions reject. */
  giveUp(nodeId: number, reason: string): void;
  /** While busy, sockets keep the process alive. */
  busy(busy: boolean): void;
  /** Ends the connections, idle ones politely; the next question connects again. */
  disconnect(): void;
  /** Ends all connections. */
  destroy(): void;
}

const CONNECTION_TIMEOUT_MS = 3_000;
/** TLS, versions and login included. */
const READY_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 10_000;
/** Another broker is asked as well when one has not answered within this. */
const HEDGE_MS = 1_500;
const KEEP_ALIVE_MS = 60_000;
const WARN_LEVEL = 2;

interface Node {
  readonly host: string;
  readonly port: number;
  readonly sockets: Set<net.Socket>;
  broker: Broker | undefined;
  ready: Promise<Broker> | undefined;
  /** Questions that wait for an answer. */
  open: number;
}

interface Metadata {
  readonly brokers: readonly { nodeId: number; host: string; port: number }[];
  readonly topicMetadata: readonly {
    topicErrorCode: number;
    partitionMetadata: readonly { partitionErrorCode: number; partitionId: number; leader: number }[];
  }[];
}

export function createBrokerConnections(
  addresses: BrokerAddresses,
  deps: {
    /** Something kafkajs says about a connection. */
    warn(message: string): void;
    /** Called right before the first connection. */
    onFirst?: () => void;
  },
): BrokerConnections {
  const { connectionTimeoutMs = CONNECTION_TIMEOUT_MS, answerTimeoutMs = ANSWER_TIMEOUT_MS } = addresses;
  repairKafkaJsTime();
  let destroyed = false;
  let onFirst = deps.onFirst;
  const warn = (message: string) => {
    if (!destroyed) deps.warn(message);
  };
  const logger = loggers.createLogger({ level: WARN_LEVEL, logCreator: () => passOn(warn) });
  /** By address, so that a broker is one node however it was heard of. */
  const nodes = new Map<string, Node>();
  const seeds = addresses.brokers.map((broker) => {
    const at = broker.lastIndexOf(':');
    return nodeAt(broker.slice(0, at).replace(/^\[(.*)\]$/, '$1'), Number(broker.slice(at + 1)));
  });
  let byId = new Map<number, Node>();
  let isBusy = false;

  function nodeAt(host: string, port: number): Node {
    const address = `${host}:${port}`;
    let node = nodes.get(address);
    if (node === undefined) {
      node = { host, port, sockets: new Set(), broker: undefined, ready: undefined, open: 0 };
      nodes.set(address, node);
    }
    return node;
  }

  function newBroker(node: Node): Broker {
    onFirst?.();
    onFirst = undefined;
    const connectionPool = new ConnectionPool({
      host: node.host,
      port: node.port,
      clientId: addresses.clientId,
      connectionTimeout: connectionTimeoutMs,
      requestTimeout: answerTimeoutMs,
      // kafkajs measures by the wall clock, which may be set.
      enforceRequestTimeout: false,
      logger,
      ...(addresses.ssl === false ? {} : { ssl: addresses.ssl }),
      // A copy: kafkajs writes into it, and the application's own may be frozen or shared.
      ...(addresses.sasl === undefined ? {} : { sasl: { ...addresses.sasl } }),
      socketFactory: (options: SocketOptions) => openSocket(node, options),
    });
    return new Broker({ connectionPool, logger, allowAutoTopicCreation: false });
  }

  function openSocket(node: Node, { host, port, ssl, onConnect }: SocketOptions): net.Socket {
    const name = net.isIP(host) === 0 ? { servername: host } : {};
    const socket = ssl
      ? tls.connect({ host, port, ...name, ...(ssl === true ? {} : ssl) }, onConnect)
      : net.connect({ host, port }, onConnect);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.setNoDelay(true);
    node.sockets.add(socket);
    socket.once('close', () => node.sockets.delete(socket));
    if (!isBusy) socket.unref();
    return socket;
  }

  /** The node's connection, made when there is none, or when its login is about to expire. */
  function ready(node: Node): Promise<Broker> {
    if (node.broker?.isConnected() && node.ready !== undefined) return node.ready;
    if (node.ready !== undefined && node.broker === undefined) return node.ready;
    node.broker?.disconnect().catch(() => {});
    node.broker = undefined;
    const fresh = newBroker(node);
    const made = answerWithin(fresh.connect(), READY_TIMEOUT_MS, `connecting to ${node.host}:${node.port}`).then(
      () => {
        if (node.ready === made) node.broker = fresh;
        return fresh;
      },
      (error) => {
        if (node.ready === made) end(node, errorText(error));
        throw error;
      },
    );
    node.ready = made;
    return made;
  }

  function end(node: Node, reason: string): void {
    node.broker = undefined;
    node.ready = undefined;
    // With an error: only then does kafkajs reject what waits.
    for (const socket of node.sockets) socket.destroy(new Error(reason));
  }

  async function askNode<T>(
    node: Node,
    what: Question,
    options: object,
    adapt: (protocol: Protocol) => object = asItIs,
  ): Promise<T> {
    const broker = await ready(node);
    const protocol = broker.lookupRequest(apiKeys[what], table.requests[what])(options);
    node.open += 1;
    try {
      return (await broker.connectionPool.send({ logResponseError: false, ...adapt(protocol) })) as T;
    } finally {
      node.open -= 1;
    }
  }

  /** The first answer; each broker is asked when the one before it has failed, or has not answered for a while. */
  function firstAnswer<T>(question: (node: Node) => Promise<T>): Promise<T> {
    const order = shuffled([...new Set([...byId.values(), ...seeds])]);
    // Those that already owe an answer may never give one.
    const rank = (node: Node) => (node.broker?.isConnected() ? 0 : 1) + (node.open > 0 ? 2 : 0);
    order.sort((a, b) => rank(a) - rank(b));
    return new Promise((resolve, reject) => {
      let asked = 0;
      let failed = 0;
      let told: unknown;
      let timer: NodeJS.Timeout | undefined;
      const next = () => {
        clearTimeout(timer);
        const node = order[asked];
        if (node === undefined) return;
        asked += 1;
        answerWithin(question(node), answerTimeoutMs, `${node.host}:${node.port}`).then(
          (answer) => {
            clearTimeout(timer);
            asked = order.length;
            resolve(answer);
          },
          (error) => {
            failed += 1;
            // A broker's own error tells more than that another one cannot be reached.
            if (told === undefined || !isUnreachable(error)) told = error;
            if (failed === order.length) reject(told);
            else if (failed >= asked) next();
          },
        );
        timer = setTimeout(next, HEDGE_MS);
        timer.unref();
      };
      next();
    });
  }

  return {
    async partitions(topic) {
      // kafkajs refuses the whole answer when one partition has no leader.
      const options = { topics: [topic], allowAutoTopicCreation: false };
      const answer = await firstAnswer((node) => askNode<Metadata>(node, 'Metadata', options));
      const known = new Map(answer.brokers.map(({ nodeId, host, port }) => [nodeId, nodeAt(host, port)]));
      // A broker that moved or is gone: nobody should wait for its old address.
      const present = new Set([...known.values(), ...seeds]);
      for (const node of byId.values())
        if (![...known.values()].includes(node)) letGo(node, 'the broker has left the cluster');
      for (const [address, node] of nodes) if (!present.has(node)) nodes.delete(address);
      byId = known;
      const found = answer.topicMetadata[0];
      if (found !== undefined && found.topicErrorCode !== 0) throw errors.createErrorFromCode(found.topicErrorCode);
      const partitions = (found?.partitionMetadata ?? []).map(({ partitionId, leader }) => ({
        partitionId,
        leader: known.has(leader) ? leader : -1,
      }));
      if (partitions.length === 0) throw new Error(`Kafka knows no partitions of ${topic}`);
      return partitions.sort((a, b) => a.partitionId - b.partitionId);
    },
    askAny: (what, options) => firstAnswer((node) => askNode(node, what, options, (protocol) => protocol)),
    ask: async (nodeId, what, options, adapt) => askNode(nodeOf(nodeId), what, options, adapt),
    async connect(nodeId) {
      await ready(nodeOf(nodeId));
    },
    giveUp(nodeId, reason) {
      const node = byId.get(nodeId);
      if (node !== undefined) end(node, reason);
    },
    busy(busy) {
      if (isBusy === busy) return;
      isBusy = busy;
      for (const { sockets } of nodes.values()) for (const socket of sockets) busy ? socket.ref() : socket.unref();
    },
    disconnect() {
      for (const node of nodes.values()) letGo(node, 'disconnected');
    },
    destroy() {
      destroyed = true;
      for (const node of nodes.values()) end(node, 'closed');
    },
  };

  function nodeOf(nodeId: number): Node {
    const node = byId.get(nodeId);
    if (node === undefined) throw new Error(`broker ${nodeId} is not in the cluster`);
    return node;
  }

  /** Politely when nobody waits for an answer; otherwise what waits rejects, to be asked again elsewhere. */
  function letGo(node: Node, why: string): void {
    if (node.open > 0 || (node.ready !== undefined && node.broker === undefined)) {
      end(node, why);
      return;
    }
    node.broker?.disconnect().catch(() => {});
    node.broker = undefined;
    node.ready = undefined;
  }
}

interface SocketOptions {
  readonly host: string;
  readonly port: number;
  readonly ssl?: true | tls.ConnectionOptions;
  readonly onConnect: () => void;
}

function isUnreachable(error: unknown): boolean {
  const { name, code } = (error ?? {}) as { name?: string; code?: string };
  return name === 'KafkaJSConnectionError' && (code === undefined || /^E(?:CONN|HOST|NET|ADDR|TIMEDOUT)/.test(code));
}

function shuffled<T>(list: T[]): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}

// ---- answers ----

/** Waiting does not keep the process alive. @throws Error when Kafka has not answered within `ms` */
export function answerWithin<T>(answer: Promise<T>, ms: number, what: string): Promise<T> {
  return within(answer, ms, `${what}: Kafka did not answer within ${ms} ms`, systemClock.after);
}

/** The answer with its error codes; kafkajs would throw the first of them. */
function asItIs({ request, response }: Protocol): object {
  return { request, response: { decode: response.decode, parse: async (answer: unknown) => answer } };
}

/**
 * What a send of kafkajs has really achieved: when a leader moves to a broker that has already answered, kafkajs forgets the
 * moved partition and still resolves.
 * @throws Error naming the partitions that nobody acknowledged, which are to be sent again
 */
export function assertAcknowledged(
  answers: readonly { readonly partition: number }[],
  partitions: Iterable<number>,
  topic: string,
): void {
  const acknowledged = new Set(answers.map(({ partition }) => partition));
  const missing = [...new Set(partitions)].filter((partition) => !acknowledged.has(partition));
  if (missing.length > 0) throw new Error(`no broker acknowledged partitions ${missing.join(', ')} of ${topic}`);
}

// ---- words for people ----

/**
 * kafkajs's warnings and errors as texts. While a broker is away it repeats them several times a second; the same one is
 * passed on once a minute.
 */
export function passOn(
  warn: (message: string) => void,
  now?: () => number,
): (entry: { namespace: string; log: { message: unknown; error?: unknown } }) => void {
  const maySay = createThrottle(now);
  return ({ namespace, log }) => {
    // When a broker refuses a login, kafkajs gives an error instead of a text.
    const message = errorText(log.message);
    const text = `[${namespace}] ${message}${typeof log.error === 'string' ? `: ${log.error}` : ''}`;
    if (maySay(text)) warn(text);
  };
}

/** Node's codes for a certificate that was checked and not trusted. */
const UNTRUSTED = /CERT|VERIFY_LEAF|SELF_SIGNED|ALTNAME/;
/** How OpenSSL words things: an address, a number, then the text between the last colons. */
const OPENSSL = /(?:[0-9A-F]+:)?error:[0-9A-F]+:SSL routines:[^:]*:([^:]+):[^\n]*\n?/;

/**
 * Why a connection failed, and what to check.
 * @param section Where `ssl` and `sasl` are written, for example `kafka.`
 * @returns the error's own text when nothing is known about it
 */
export function explainConnection(error: unknown, section = ''): string {
  const text = errorText(error).replace(OPENSSL, 'TLS: $1');
  const hint = hintOf(error, text, section) ?? systemReason(error)?.words;
  return hint === undefined ? text : `${text}; ${hint}`;
}

function hintOf(error: unknown, text: string, section: string): string | undefined {
  for (const at of causeChain(error)) {
    const { name, type, code } = at as Error & { type?: string; code?: unknown };
    if (type === 'UNKNOWN_TOPIC_OR_PARTITION')
      return 'the topic is not there: create it with `logpipe setup`, or check its name';
    if (name === 'KafkaJSSASLAuthenticationError') return `check ${section}sasl`;
    if (type === 'ILLEGAL_SASL_STATE') return `this port takes no login: check the port and ${section}sasl`;
    if (name === 'KafkaJSConnectionClosedError') {
      return `the broker hung up without an answer: it stopped, or expects TLS (${section}ssl) or a login (${section}sasl)`;
    }
    if (name !== 'KafkaJSConnectionError') continue;
    if (/alert (?:certificate|bad certificate|unknown ca|handshake)/.test(text)) {
      return `the broker wants a client certificate it can trust: check ${section}ssl`;
    }
    if (UNTRUSTED.test(String(code)) || /certificate (?:has expired|is not)|verify the first/.test(text)) {
      return `the broker’s certificate is not trusted: check ${section}ssl`;
    }
    if (/before secure TLS connection|wrong version number|packet length too long/.test(text)) {
      return `there is no TLS at this port: check the port and ${section}ssl`;
    }
  }
  return undefined;
}
