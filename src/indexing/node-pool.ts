// Which Elasticsearch node takes the next request. In: the addresses, and how each request to them ended. Out: a node,
// always. Guarantee: a node that does not answer is left out for 5 s at a time and comes back by a ping, never by
// somebody's documents; when no node answers, all are tried in turn, so that the first one back is found at once.
//
// The official client's own pools cannot do this: the weighted one takes no notice of a time-out, and after all nodes
// were lost for a minute it gives out none at all for some twenty; the one with resurrection sends documents to test.
import { type BaseConnection, BaseConnectionPool, errors } from '@elastic/elasticsearch';
import { systemClock } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';

type Connection = BaseConnectionPool['connections'][number];
type PoolOptions = ConstructorParameters<typeof BaseConnectionPool>[0];
type GetOptions = Parameters<BaseConnectionPool['getConnection']>[0];
// Of the overloads only the last one can be had; what matters here is the same for both.
type Request = Parameters<BaseConnection['request']>;
type Answer = Awaited<ReturnType<BaseConnection['request']>>;

/** A node that failed gets nothing for this long, and then a ping. */
export const OUT_MS = 5_000;
/** A ping without an answer for this long has failed. A node that pauses longer than this would hold up documents. */
export const PING_TIMEOUT_MS = 2_000;

/** Said by a gateway whose Elasticsearch is gone, and by a node that is in no cluster. */
const NOBODY_THERE: ReadonlySet<number> = new Set([502, 503, 504]);

export interface NodePoolDeps {
  /** Milliseconds of a clock that nobody sets. */
  readonly monotonicMs: () => number;
  readonly after: (ms: number, fn: () => void) => () => void;
  readonly log?: Log | undefined;
}

interface Node {
  readonly connection: Connection;
  /** The connection's own request, which nobody watches. */
  readonly send: (...request: Request) => Promise<Answer>;
  /** Requests without an answer yet, by when they began; the oldest one first. */
  readonly open: Set<number>;
  picked: number;
  /** When it was last put out or taken back: what began before says nothing about it now. */
  changed: number;
  /** While it is out: when the next ping is due. */
  pingAt: number | undefined;
  ping: AbortController | undefined;
}

const SYSTEM: NodePoolDeps = { monotonicMs: () => performance.now(), after: systemClock.after };

/** The pool as the client takes it: a class, which the client instantiates. */
export function nodePool(deps: Partial<NodePoolDeps> = {}): typeof BaseConnectionPool {
  const all = { ...SYSTEM, ...deps };
  return class extends NodePool {
    constructor(options: PoolOptions) {
      super(options, all);
    }
  };
}

export class NodePool extends BaseConnectionPool {
  private readonly deps: NodePoolDeps;
  private readonly nodes = new Map<Connection, Node>();
  /** Counts requests, picks and changes, so that any two of them can be told apart. */
  private order = 0;

  constructor(options: PoolOptions, deps: NodePoolDeps = SYSTEM) {
    super(options);
    this.deps = deps;
  }

  /** Every request is watched where it is sent: the client tells its pool of no time-out. */
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

  // What the client concludes from answers, the watched request has seen itself.
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
      // A request that its sender gave up, or that could not be sent at all, is not the node's failure.
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

  /** Asks for nothing and takes any answer, also that this is not allowed; `HEAD /` needs no index and no privilege. */
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
    // One of the requests made while all nodes were out may have been quicker.
    if (node.pingAt === undefined) return;
    if (answered) this.takeBack(node);
    else node.pingAt = this.deps.monotonicMs() + OUT_MS;
  }
}

/**
 * The one with fewer open requests: a node that hangs keeps what it has and gets no more. Among equals the one whose
 * oldest open request is younger, for the same reason; among idle ones the one that waits longest.
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
