// The Elasticsearch client and its configuration, bulk requests, the pool of nodes, and the index template. One client (the 8.19
// line) talks to 8.x and 9.x servers. Guarantee: no error that leaves this file carries a credential, and each names the node and
// what to do; a node that does not answer is left out for 5 s at a time and is tested with a ping, never with documents; when no
// node answers, all are tried in turn, so that the first one back is found at once.
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';
import {
  type BaseConnection,
  BaseConnectionPool,
  Client,
  type ClientOptions,
  errors,
  SniffingTransport,
} from '@elastic/elasticsearch';
import { FIELDS, type FieldGroup, type FieldType } from '../core/catalogue.ts';
import { systemClock } from '../core/clock.ts';
import { errorText, LogpipeError, reasonInWords } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { readExact } from '../parse/json.ts';
import { INDEX_PREFIX } from './batch.ts';
import { type BulkItem, type BulkItemError, errorWords } from './outcome.ts';

export const elasticsearchSection = {
  type: 'object',
  description: 'Where the documents go.',
  additionalProperties: false,
  default: {},
  properties: {
    nodes: {
      type: 'array',
      minItems: 1,
      items: {
        type: 'string',
        pattern: '^https?://[^\\s]+$',
        permitted: 'addresses with scheme and port, like https://es-1:9200',
      },
      default: ['http://localhost:9200'],
      description:
        'Addresses of the nodes; each request goes to the one with the fewest under way, and a node that does not answer ' +
        'is left out for 5 s at a time. A comma-separated text is accepted too.',
    },
    apiKey: { type: 'string', minLength: 1, secret: true, description: 'API key (base64 form). Also `apiKeyFile`.' },
    username: { type: 'string', minLength: 1, description: 'User for basic authentication.' },
    password: { type: 'string', minLength: 1, secret: true, description: 'Its password. Also `passwordFile`.' },
    caFile: {
      type: 'string',
      minLength: 1,
      description: 'PEM file of the certificate authority that signed the nodes’ certificates.',
    },
    caFingerprint: {
      type: 'string',
      pattern: '^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}$',
      permitted: 'the SHA-256 fingerprint: 32 pairs of hexadecimal digits with colons between them',
      description: 'SHA-256 fingerprint of that authority, as Elasticsearch prints it.',
    },
    requestTimeoutMs: {
      type: 'integer',
      minimum: 100,
      maximum: 600_000,
      default: 30_000,
      description: 'A request without an answer for this long is sent again.',
    },
    installTemplate: {
      type: 'boolean',
      default: true,
      description: 'Install the index template at start (never replacing a newer one).',
    },
  },
  dependentRequired: { username: ['password'], password: ['username'] },
} as const;

export interface ElasticsearchConfig {
  readonly nodes: readonly string[];
  readonly apiKey?: string;
  readonly username?: string;
  readonly password?: string;
  readonly caFile?: string;
  readonly caFingerprint?: string;
  readonly requestTimeoutMs: number;
  readonly installTemplate: boolean;
}

/** The log hears of a node's silence and return; the rest is for tests. */
interface ElasticsearchClientDeps extends Partial<NodePoolDeps> {
  readonly Connection?: typeof BaseConnection;
}

/**
 * A request that a node did not answer is sent to each of the others before it fails, except bulks.
 * @throws LogpipeError LOGPIPE_CONFIG_UNREADABLE when `caFile` cannot be read.
 */
export function createElasticsearchClient(config: ElasticsearchConfig, deps: ElasticsearchClientDeps = {}): Client {
  const options: ClientOptions = {
    // A node listed twice would count as two that fail together.
    nodes: [...new Set(config.nodes)],
    ConnectionPool: nodePool(deps),
    Transport: TransportWithRetries,
    maxRetries: new Set(config.nodes).size - 1,
    requestTimeout: config.requestTimeoutMs,
    // `replace`, the default, clones every failed request key by key, and a Buffer has one key per byte: some 300 MB for
    // one refused bulk. `remove` drops headers and connection instead, and with them every credential.
    redaction: { type: 'remove' },
    enableMetaHeader: false,
  };
  if (deps.Connection !== undefined) options.Connection = deps.Connection;
  if (config.apiKey !== undefined) options.auth = { apiKey: config.apiKey };
  else if (config.username !== undefined) options.auth = { username: config.username, password: config.password ?? '' };
  if (config.caFingerprint !== undefined) {
    options.caFingerprint = config.caFingerprint;
    // The pinned fingerprint replaces the system's authorities, which do not know a cluster's own.
    options.tls = { rejectUnauthorized: false };
  }
  if (config.caFile !== undefined) {
    try {
      options.tls = { ca: readFileSync(config.caFile) };
    } catch (error) {
      throw new LogpipeError(
        'LOGPIPE_CONFIG_UNREADABLE',
        `elasticsearch.caFile: ${config.caFile} cannot be read (${reasonInWords(error)}); name a readable PEM file`,
      );
    }
  }
  const client = new Client(options);
  rememberCleanAnswer(client);
  return client;
}

/**
 * From now on, numbers in the client's answers that JavaScript would change (9007199254740993, 1e400, -0) are ExactNumbers, for
 * callers that write documents back.
 */
export function keepNumberTexts(client: Client): void {
  client.serializer.deserialize = <T>(text: string) => readExact(text) as T;
}

/** A hanging node must not fail a request either, but the client has no option for that. */
class TransportWithRetries extends SniffingTransport {
  constructor(options: ConstructorParameters<typeof SniffingTransport>[0]) {
    super({ ...options, retryOnTimeout: true });
  }
}

/**
 * Clean bulks of as many documents have the same answer, byte by byte: it is read once, and one reply shared by all. Whoever gets it only
 * reads it.
 */
function rememberCleanAnswer({ serializer }: Client): void {
  const read = serializer.deserialize.bind(serializer);
  let last = '';
  let said: unknown;
  serializer.deserialize = <T>(text: string): T => {
    if (text === last) return said as T;
    const body = read(text) as T;
    if (text.startsWith(CLEAN)) {
      last = text;
      said = body;
    }
    return body;
  };
}

/** An answer to a bulk request: item by item, or a status for the whole. */
export interface BulkReply {
  readonly status: number;
  readonly items: readonly BulkItem[];
  /** What the server that refused the whole request said. */
  readonly detail: string;
  /** Elasticsearch's own error when it refused the whole request. */
  readonly error?: BulkItemError;
  /** True when something other than Elasticsearch answered: a gateway's page, a redirect. */
  readonly foreign?: boolean;
}

export type SendBulk = (body: Buffer, signal: AbortSignal) => Promise<BulkReply>;

/** Only what the outcome needs: the reply of a clean bulk shrinks to some 25 bytes per item. */
const FILTER = 'errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by';
/** How the answer begins when no item failed. */
const CLEAN = '{"errors":false,"items":';
/**
 * How long Elasticsearch waits for a missing shard. Its default of a minute exceeds our own patience: the whole request would
 * fail because of one index, instead of that index's items.
 */
const SHARD_TIMEOUT = '10s';
/** Statuses whose answer is wanted with its headers: the client's error would come without them. */
const CLIENT_ERRORS = Array.from({ length: 100 }, (_, n) => 400 + n);
const PRODUCT = 'Elasticsearch';

/**
 * Sends pre-built NDJSON over the official client's transport.
 * @throws the transport's errors for connections and timeouts; an HTTP answer of any status is returned.
 */
export function createSendBulk(client: Client): SendBulk {
  return async (body, signal) => {
    try {
      const answer = await client.transport.request<BulkBody | string>(
        // The path names no index: every action line names its own.
        {
          method: 'POST',
          path: '/_bulk',
          bulkBody: body as unknown as string,
          querystring: { filter_path: FILTER, timeout: SHARD_TIMEOUT },
        },
        // The bulk writer does the retries: only it knows which items are still open.
        { meta: true, signal, ignore: CLIENT_ERRORS, maxRetries: 0 },
      );
      const status = answer.statusCode ?? 0;
      const reply = typeof answer.body === 'object' && answer.body !== null ? answer.body : undefined;
      const foreign = reply === undefined || answer.headers?.['x-elastic-product'] !== PRODUCT;
      if (status === 200 && !foreign) {
        const items = Array.isArray(reply.items) ? reply.items.map(itemOf) : [];
        return { status, items, detail: '' };
      }
      const error = typeof reply?.error === 'object' ? (reply.error ?? undefined) : undefined;
      const detail = error === undefined ? wordsOf(answer.body) : errorWords(error).slice(0, MAX_DETAIL);
      return { status, items: [], detail, foreign, ...(error === undefined ? {} : { error }) };
    } catch (error) {
      if (error instanceof errors.ResponseError) {
        return { status: error.statusCode ?? 0, items: [], detail: error.message.slice(0, MAX_DETAIL) };
      }
      // A proxy's HTML page: the client does not tell its status, and no answer to a bulk looks like that.
      if (error instanceof errors.DeserializationError) {
        return { status: 502, items: [], detail: 'the answer is not JSON', foreign: true };
      }
      if (error instanceof errors.ProductNotSupportedError) {
        return { status: 0, items: [], detail: 'what answers there is not Elasticsearch', foreign: true };
      }
      throw error;
    }
  };
}

function itemOf(item: Record<string, BulkItem> | null): BulkItem {
  return item?.create ?? Object.values(item ?? {})[0] ?? { status: 0 };
}

interface BulkBody {
  readonly items?: Record<string, BulkItem>[];
  readonly error?: BulkItemError | string;
}

const MAX_DETAIL = 500;

function wordsOf(body: unknown): string {
  const text = typeof body === 'string' ? body.slice(0, MAX_DETAIL * 4) : (JSON.stringify(body) ?? '');
  return text.replace(/\s+/g, ' ').slice(0, MAX_DETAIL);
}

/** True for the client's time-out, to distinguish it from a refused connection. */
export function isTimeout(error: unknown): boolean {
  return error instanceof errors.TimeoutError;
}

/**
 * Puts a connection failure into words that an operator can act on: names the nodes, and checks whether a TLS server is behind an
 * `http://` address, which otherwise shows as a bare "socket hang up".
 */
export async function explainFailure(error: unknown, config: ElasticsearchConfig): Promise<LogpipeError> {
  const nodes = config.nodes.map(withoutCredentials).join(', ');
  if (error instanceof errors.ResponseError) {
    const hint =
      error.statusCode === 401
        ? 'check elasticsearch.apiKey or username and password'
        : error.statusCode === 403
          ? 'the credentials lack a privilege: see docs/operations.md'
          : 'see the server log';
    return new LogpipeError(
      'LOGPIPE_ES_REFUSED',
      `Elasticsearch at ${nodes} answered ${error.statusCode}: ${error.message.slice(0, 300)}; ${hint}`,
    );
  }
  for (const node of config.nodes) {
    if (node.startsWith('http://') && (await speaksTls(new URL(node)))) {
      return new LogpipeError(
        'LOGPIPE_ES_UNREACHABLE',
        `elasticsearch.nodes: ${withoutCredentials(node)} speaks TLS; write https:// instead of http://`,
      );
    }
  }
  const text = errorText(error);
  const hint = /certificate|self[- ]signed|fingerprint/i.test(text)
    ? 'set elasticsearch.caFile or elasticsearch.caFingerprint to the authority that signed the node'
    : 'check that it runs and that elasticsearch.nodes is right';
  return new LogpipeError('LOGPIPE_ES_UNREACHABLE', `Elasticsearch at ${nodes} did not answer (${text}); ${hint}`);
}

function withoutCredentials(node: string): string {
  return node.replace(/\/\/[^/@]*@/, '//');
}

// ---- which node takes the next request ----

// The official client's own pools cannot do this: the weighted one ignores time-outs, and after all nodes were lost for a minute
// it offers none at all for some twenty minutes; the one with resurrection sends documents as a test.

type Connection = BaseConnectionPool['connections'][number];
type PoolOptions = ConstructorParameters<typeof BaseConnectionPool>[0];
type GetOptions = Parameters<BaseConnectionPool['getConnection']>[0];
// TypeScript sees only the last overload; what matters here is the same for both.
type Request = Parameters<BaseConnection['request']>;
type Answer = Awaited<ReturnType<BaseConnection['request']>>;

/** A node that failed gets nothing for this long, and then a ping. */
const OUT_MS = 5_000;
/** A ping without an answer for this long has failed: a node that pauses for longer would hold up documents. */
const PING_TIMEOUT_MS = 2_000;

/** What a gateway answers whose Elasticsearch is gone, and a node that is in no cluster. */
const NOBODY_THERE: ReadonlySet<number> = new Set([502, 503, 504]);

interface NodePoolDeps {
  /** Milliseconds of the monotonic clock. */
  readonly monotonicMs: () => number;
  readonly after: (ms: number, fn: () => void) => () => void;
  readonly log?: Log | undefined;
}

interface Node {
  readonly connection: Connection;
  /** The connection's own, unwatched request. */
  readonly send: (...request: Request) => Promise<Answer>;
  /** Requests without an answer yet, by when they began, oldest first. */
  readonly open: Set<number>;
  picked: number;
  /** When it was last left out or taken back: requests that began before say nothing about it now. */
  changed: number;
  /** While it is left out: when the next ping is due. */
  pingAt: number | undefined;
  ping: AbortController | undefined;
}

const SYSTEM: NodePoolDeps = { monotonicMs: () => performance.now(), after: systemClock.after };

/** The pool as the client wants it: a class, which it instantiates. */
function nodePool(deps: Partial<NodePoolDeps> = {}): typeof BaseConnectionPool {
  const all = { ...SYSTEM, ...deps };
  return class extends NodePool {
    constructor(options: PoolOptions) {
      super(options, all);
    }
  };
}

class NodePool extends BaseConnectionPool {
  private readonly deps: NodePoolDeps;
  private readonly nodes = new Map<Connection, Node>();
  /** Counts requests, picks and changes, so that any two of them can be put in order. */
  private order = 0;

  constructor(options: PoolOptions, deps: NodePoolDeps = SYSTEM) {
    super(options);
    this.deps = deps;
  }

  /** Every request is watched where it is sent, because the client does not tell its pool of time-outs. */
  override createConnection(options: Parameters<BaseConnectionPool['createConnection']>[0]): Connection {
    const connection = super.createConnection(options);
    const node: Node = {
      connection,
      send: connection.request.bind(connection) as Node['send'],
      open: new Set(),
      picked: 0,
      changed: 0,
      pingAt: undefined,
      ping: undefined,
    };
    this.nodes.set(connection, node);
    connection.request = ((...request: Request) => this.watch(node, request)) as Connection['request'];
    return connection;
  }

  /** Null only when the pool is empty or the filter leaves nothing. */
  override getConnection(options: GetOptions): Connection | null {
    const { filter } = options;
    const nodes: Node[] = [];
    for (const connection of this.connections) {
      const node = this.nodes.get(connection);
      if (node !== undefined && (filter == null || filter(connection))) nodes.push(node);
    }
    const now = this.deps.monotonicMs();
    for (const node of nodes) if (node.pingAt !== undefined && now >= node.pingAt) void this.pingNode(node);
    const answering = nodes.filter((node) => node.pingAt === undefined);
    const node = answering.length > 0 ? answering.reduce(better) : nodes.length > 0 ? nodes.reduce(earlier) : undefined;
    if (node === undefined) return null;
    node.picked = ++this.order;
    return node.connection;
  }

  // The watched request has already seen what the client concludes from answers.
  override markAlive(_connection: Connection): this {
    return this;
  }

  override markDead(_connection: Connection): this {
    return this;
  }

  override async empty(): Promise<void> {
    for (const { ping } of this.nodes.values()) ping?.abort();
    this.nodes.clear();
    await super.empty();
  }

  private async watch(node: Node, request: Request): Promise<Answer> {
    const began = ++this.order;
    node.open.add(began);
    try {
      const answer = await node.send(...request);
      if (NOBODY_THERE.has(answer.statusCode)) this.failed(node, began, `HTTP ${answer.statusCode}`);
      else if (node.pingAt !== undefined && began > node.changed) this.takeBack(node);
      return answer;
    } catch (error) {
      // If the sender gave the request up, or it could not be sent at all, the node has not failed.
      if (error instanceof errors.TimeoutError || error instanceof errors.ConnectionError) {
        this.failed(node, began, errorText(error));
      }
      throw error;
    } finally {
      node.open.delete(began);
    }
  }

  private failed(node: Node, began: number, reason: string): void {
    if (began < node.changed) return;
    const wasOut = node.pingAt !== undefined;
    node.pingAt = this.deps.monotonicMs() + OUT_MS;
    node.changed = ++this.order;
    if (!wasOut && this.size > 1) {
      this.deps.log?.warn('Elasticsearch: a node does not answer; the others take its requests', {
        node: node.connection.url.host,
        reason,
      });
    }
  }

  private takeBack(node: Node): void {
    node.pingAt = undefined;
    node.changed = ++this.order;
    if (this.size > 1) this.deps.log?.info('Elasticsearch: a node answers again', { node: node.connection.url.host });
  }

  /** Asks for nothing and accepts any answer, even a refusal; `HEAD /` needs no index and no privilege. */
  private async pingNode(node: Node): Promise<void> {
    if (node.ping !== undefined) return;
    const ping = new AbortController();
    node.ping = ping;
    const cancel = this.deps.after(PING_TIMEOUT_MS, () => ping.abort());
    let answered = false;
    try {
      const options = { requestId: 'ping', name: 'logpipe-ping', context: null, signal: ping.signal };
      const { statusCode } = await node.send({ method: 'HEAD', path: '/' }, options as Request[1]);
      answered = !NOBODY_THERE.has(statusCode);
    } catch {
      // As good as no answer.
    }
    cancel();
    node.ping = undefined;
    // A request made while all nodes were out may have been quicker.
    if (node.pingAt === undefined) return;
    if (answered) this.takeBack(node);
    else node.pingAt = this.deps.monotonicMs() + OUT_MS;
  }
}

/**
 * The one with fewer open requests: a node that hangs keeps what it has and gets no more. Among equals, the one whose oldest open
 * request is younger, for the same reason; among idle ones, the one that has waited longest.
 */
function better(one: Node, other: Node): Node {
  if (one.open.size !== other.open.size) return one.open.size < other.open.size ? one : other;
  if (one.open.size > 0) return oldest(one) > oldest(other) ? one : other;
  return earlier(one, other);
}

function earlier(one: Node, other: Node): Node {
  return one.picked <= other.picked ? one : other;
}

function oldest({ open }: Node): number {
  for (const began of open) return began;
  return 0;
}

// ---- words for people ----

/**
 * Whether a server speaks TLS: behind an `http://` address, that shows only as a bare "socket hang up". Shakes hands and sends
 * nothing. Also false when nobody answers within a second.
 */
export function speaksTls(url: URL): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: Number(url.port || 80),
      rejectUnauthorized: false,
      timeout: 1_000,
    });
    const answer = (tls: boolean) => {
      socket.destroy();
      resolve(tls);
    };
    socket.once('secureConnect', () => answer(true));
    socket.once('error', () => answer(false));
    socket.once('timeout', () => answer(false));
  });
}

// ---- the index template of the live log indices, made from the field catalogue ----
// Installing it can be repeated and never replaces a newer template.

export const TEMPLATE_NAME = 'calling-platform';
/** Raise it with every change to the template: a server keeps the highest version it has seen. */
export const TEMPLATE_VERSION = 1;
const TEMPLATE_PRIORITY = 200;
const IGNORE_ABOVE = 1024;

const MAPPINGS: Record<FieldType, object> = {
  date: { type: 'date' },
  keyword: { type: 'keyword', ignore_above: IGNORE_ABOVE },
  text: { type: 'text' },
  long: { type: 'long' },
  short: { type: 'short' },
  float: { type: 'float' },
  boolean: { type: 'boolean' },
  flattened: { type: 'flattened', ignore_above: IGNORE_ABOVE },
  raw: { type: 'keyword', index: false, doc_values: false },
};

export interface IndexTemplate {
  index_patterns: string[];
  priority: number;
  version: number;
  _meta: Record<string, string>;
  template: { settings: { index: IndexSettings }; mappings: object };
}
interface IndexSettings {
  number_of_shards: number;
  auto_expand_replicas: string;
  refresh_interval: string;
  mapping: { total_fields: { limit: number; ignore_dynamic_beyond_limit?: boolean } };
}

/** The template as shipped in config/elasticsearch/. */
export function indexTemplate(): IndexTemplate {
  return {
    index_patterns: [`${INDEX_PREFIX}*`],
    priority: TEMPLATE_PRIORITY,
    version: TEMPLATE_VERSION,
    _meta: { managed_by: 'logpipe', description: 'Live log indices, one per UTC day' },
    template: {
      settings: {
        index: {
          number_of_shards: 1,
          auto_expand_replicas: '0-1',
          refresh_interval: '5s',
          mapping: { total_fields: { limit: 1000, ignore_dynamic_beyond_limit: true } },
        },
      },
      mappings: {
        date_detection: false,
        numeric_detection: false,
        dynamic_templates: [
          { strings: { match_mapping_type: 'string', mapping: { type: 'keyword', ignore_above: IGNORE_ABOVE } } },
        ],
        properties: properties(FIELDS),
      },
    },
  };
}

function properties(group: FieldGroup): Record<string, object> {
  return Object.fromEntries(
    Object.entries(group).map(([name, type]) => [
      name,
      typeof type === 'string' ? MAPPINGS[type] : { properties: properties(type) },
    ]),
  );
}

export type TemplateResult = 'installed' | 'updated' | 'unchanged';

/** Puts the template of the live log indices in place. @throws as installIndexTemplate */
export function installTemplate(client: Client, log: Log): Promise<TemplateResult> {
  return installIndexTemplate(client, TEMPLATE_NAME, indexTemplate(), log);
}

/**
 * Puts a template in place. Settings that an older server does not know are left out, with a warning.
 * @throws LogpipeError LOGPIPE_TEMPLATE_NEWER when the server's is newer; the client's errors otherwise.
 */
export async function installIndexTemplate(
  client: Client,
  name: string,
  body: IndexTemplate,
  log: Log,
): Promise<TemplateResult> {
  const present = await installedVersion(client, name);
  if (present !== undefined && present > body.version) {
    throw new LogpipeError(
      'LOGPIPE_TEMPLATE_NEWER',
      `index template ${name}: version ${present} is installed, this logpipe has ${body.version}; nothing was changed. Upgrade logpipe`,
    );
  }
  if (present === body.version) return 'unchanged';
  try {
    await put(client, name, body);
  } catch (error) {
    if (!(error instanceof errors.ResponseError) || !/ignore_dynamic_beyond_limit/.test(error.message)) throw error;
    delete body.template.settings.index.mapping.total_fields.ignore_dynamic_beyond_limit;
    log.warn('This Elasticsearch does not know index.mapping.total_fields.ignore_dynamic_beyond_limit: left out', {
      effect: 'documents beyond 1,000 fields are degraded instead of losing single fields',
    });
    await put(client, name, body);
  }
  return present === undefined ? 'installed' : 'updated';
}

async function put(client: Client, name: string, body: IndexTemplate): Promise<void> {
  const reply = await client.transport.request<{ acknowledged?: boolean }>({
    method: 'PUT',
    path: `/_index_template/${name}`,
    body,
  });
  // The status is 200 even when a node has not heard of it in time.
  if (reply.acknowledged !== false) return;
  throw new LogpipeError(
    'LOGPIPE_ES_INCOMPLETE',
    `index template ${name}: not every node has taken it; repeat this when the cluster is green or yellow`,
  );
}

async function installedVersion(client: Client, name: string): Promise<number | undefined> {
  try {
    const reply = await client.transport.request<{ index_templates: { index_template: { version?: number } }[] }>({
      method: 'GET',
      path: `/_index_template/${name}`,
    });
    return reply.index_templates[0]?.index_template.version ?? 0;
  } catch (error) {
    if (error instanceof errors.ResponseError && error.statusCode === 404) return undefined;
    throw error;
  }
}
