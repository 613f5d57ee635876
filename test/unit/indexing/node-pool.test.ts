// Which node gets the next request, by the requests that three scripted nodes see, on a clock that is moved by hand.
import { BaseConnection, errors } from '@elastic/elasticsearch';
import { describe, expect, test } from 'vitest';
import type { Log } from '../../../src/core/log.ts';
import { createElasticsearchClient, createSendBulk } from '../../../src/indexing/elasticsearch.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';

type Behaviour = 'answers' | 'refuses' | 'hangs' | number;

interface Held {
  readonly node: string;
  answer(): void;
  fail(error: Error): void;
}

const BODY = Buffer.from('{"create":{}}\n{}\n');

/** Three nodes `a`, `b` and `c`, the client in front of them, and what they have seen: `a` a bulk, `a?` a ping. */
function create(nodes = ['a', 'b', 'c']) {
  const clock = createFakeClock();
  const does = new Map<string, Behaviour>();
  const held: Held[] = [];
  let seen: string[] = [];

  class Scripted extends BaseConnection {
    override request(...[params, options]: Parameters<BaseConnection['request']>): Promise<never> {
      const node = this.url.hostname;
      seen.push(node + (params.method === 'HEAD' ? '?' : params.path === '/_bulk' ? '' : params.path));
      const behaviour = does.get(node) ?? 'answers';
      if (behaviour === 'refuses') return Promise.reject(new errors.ConnectionError(`connect ECONNREFUSED ${node}`));
      const reply = {
        statusCode: params.method === 'HEAD' ? 405 : 200,
        headers: { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' },
        body: '{}',
      };
      if (typeof behaviour === 'number') return Promise.resolve({ ...reply, statusCode: behaviour }) as Promise<never>;
      if (behaviour === 'answers') return Promise.resolve(reply) as Promise<never>;
      return new Promise((resolve, reject) => {
        held.push({ node, answer: () => resolve(reply as never), fail: reject });
        options.signal?.addEventListener('abort', () => reject(new errors.RequestAbortedError('aborted')));
        if (options.timeout !== undefined) {
          clock.after(options.timeout, () => reject(new errors.TimeoutError('Request timed out')));
        }
      });
    }

    override async close(): Promise<void> {}
  }

  const lines: unknown[][] = [];
  const say = (message: string, meta?: Record<string, unknown>) => void lines.push([message, meta?.node]);
  const log: Log = { error: say, warn: say, info: say, debug() {} };
  const client = createElasticsearchClient(
    { nodes: nodes.map((node) => `http://user:hidden@${node}:9200`), requestTimeoutMs: 30_000, installTemplate: true },
    { Connection: Scripted as typeof BaseConnection, monotonicMs: clock.now, after: clock.after, log },
  );
  const send = createSendBulk(client);
  const bulk = () =>
    send(BODY, new AbortController().signal).then(
      ({ status }) => String(status),
      (error: Error) => error.name,
    );
  return {
    clock,
    client,
    held,
    lines,
    does: (node: string, behaviour: Behaviour) => void does.set(node, behaviour),
    bulk,
    /** So many bulks one after the other; what the nodes saw meanwhile. */
    async bulks(count: number): Promise<string> {
      seen = [];
      for (let i = 0; i < count; i++) {
        await bulk();
        await settled();
      }
      return seen.join(' ');
    },
    /** Begins so many bulks at once; what the nodes see of them. */
    async begin(count: number): Promise<string> {
      seen = [];
      for (let i = 0; i < count; i++) {
        void bulk();
        await settled();
      }
      return seen.join(' ');
    },
    command: (path: string) =>
      client.transport.request({ method: 'GET', path }).then(
        () => 'done',
        (error: Error) => error.name,
      ),
    seen: () => seen.splice(0).join(' '),
  };
}

describe('while all nodes answer', () => {
  test('idle ones are used in turn', async () => {
    expect(await create().bulks(7)).toBe('a b c a b c a');
  });

  test('the one with the fewest open requests takes the next', async () => {
    const pool = create();
    for (const node of ['a', 'b', 'c']) pool.does(node, 'hangs');
    expect(await pool.begin(4)).toBe('a b c c');
    pool.held.find(({ node }) => node === 'b')!.answer();
    await settled();
    expect(await pool.begin(1)).toBe('b');
  });
});

describe('a node that hangs', () => {
  test('gets one request and no second one while the others answer', async () => {
    const pool = create();
    pool.does('a', 'hangs');
    expect(await pool.begin(1)).toBe('a');
    expect(await pool.bulks(6)).toBe('b c b c b c');
    // Equally many everywhere: the one whose oldest request is older is the one that hangs.
    pool.does('b', 'hangs');
    pool.does('c', 'hangs');
    expect(await pool.begin(4)).toBe('b c c b');
  });

  test('is out at the first time-out, and comes back by a ping and no sooner', async () => {
    const pool = create();
    pool.does('a', 'hangs');
    const hung = pool.bulk();
    await pool.clock.advance(30_000);
    expect(await hung).toBe('TimeoutError');
    pool.seen();
    expect(await pool.bulks(4)).toBe('b c b c');
    await pool.clock.advance(4_999);
    expect(await pool.bulks(2)).toBe('b c');
    await pool.clock.advance(1);
    // The ping is on its way while documents go elsewhere, and nobody waits for it.
    expect(await pool.bulks(3)).toBe('a? b c b');
    await pool.clock.advance(2_000);
    // No answer: another 5 s.
    await pool.clock.advance(4_999);
    expect(await pool.bulks(2)).toBe('c b');
    pool.does('a', 'answers');
    await pool.clock.advance(1);
    expect(await pool.bulks(1)).toBe('a? c');
    expect(await pool.bulks(3)).toBe('a b c');
    expect(pool.lines).toEqual([
      ['Elasticsearch: a node does not answer; the others take its requests', 'a:9200'],
      ['Elasticsearch: a node answers again', 'a:9200'],
    ]);
    expect(JSON.stringify(pool.lines)).not.toContain('hidden');
  });

  test('does not come back by a late answer, nor goes out for what failed before it came back', async () => {
    const pool = create(['a', 'b']);
    pool.does('a', 'hangs');
    pool.does('b', 'hangs');
    await pool.begin(6);
    const hung = pool.held.filter(({ node }) => node === 'a');
    expect(hung).toHaveLength(3);
    pool.does('b', 'answers');
    for (const { node, answer } of pool.held) if (node === 'b') answer();
    pool.does('a', 'answers');
    hung[0]!.fail(new errors.TimeoutError('Request timed out'));
    hung[1]!.answer();
    hung[2]!.answer();
    await settled();
    expect(await pool.bulks(3)).toBe('b b b');

    const other = create(['a', 'b']);
    other.does('a', 'hangs');
    await other.begin(1);
    other.does('b', 'hangs');
    await other.begin(3);
    other.does('a', 'answers');
    other.does('b', 'answers');
    const [first, late] = other.held.filter(({ node }) => node === 'a');
    for (const { node, answer } of other.held) if (node === 'b') answer();
    first!.fail(new errors.TimeoutError('Request timed out'));
    await other.clock.advance(5_000);
    expect(await other.bulks(1)).toBe('a? b');
    late!.fail(new errors.TimeoutError('Request timed out'));
    await settled();
    expect(await other.bulks(3)).toBe('a b a');
  });
});

describe('what puts a node out', () => {
  test.each<[Behaviour, boolean]>([
    ['refuses', true],
    [502, true],
    [503, true],
    [504, true],
    [429, false],
    [400, false],
    [401, false],
    [404, false],
    [413, false],
    [500, false],
  ])('%s: %s', async (behaviour, out) => {
    const pool = create();
    pool.does('a', behaviour);
    await pool.bulks(1);
    expect(await pool.bulks(3)).toBe(out ? 'b c b' : 'b c a');
  });

  test('a request given up by its sender is not the node’s failure', async () => {
    const pool = create();
    pool.does('a', 'hangs');
    const given = new AbortController();
    const sending = createSendBulk(pool.client)(BODY, given.signal);
    await settled();
    given.abort();
    await expect(sending).rejects.toThrow(/abort/);
    pool.does('a', 'answers');
    expect(await pool.bulks(3)).toBe('b c a');
  });

  test('a gateway whose Elasticsearch is gone does not answer a ping either', async () => {
    const pool = create(['a', 'b']);
    pool.does('a', 502);
    await pool.bulks(2);
    await pool.clock.advance(5_000);
    expect(await pool.bulks(3)).toBe('a? b b b');
  });
});

describe('when no node answers', () => {
  test('all are tried in turn, however long it lasts, and the first one that answers is used at once', async () => {
    const pool = create();
    for (const node of ['a', 'b', 'c']) pool.does(node, 'refuses');
    expect(await pool.bulks(7)).toBe('a b c a b c a');
    for (let i = 0; i < 20; i++) {
      await pool.clock.advance(60_000);
      await pool.bulks(1);
    }
    expect(await pool.bulk()).toBe('ConnectionError');
    pool.does('b', 'answers');
    const until = await pool.bulks(3);
    expect(until.replaceAll(/\w\? ?/g, '').split(' ')).toContain('b');
    expect(await pool.bulks(3)).toBe('b b b');
    pool.does('a', 'answers');
    pool.does('c', 'answers');
    await pool.clock.advance(5_000);
    await pool.bulks(1);
    expect((await pool.bulks(3)).split(' ').sort()).toEqual(['a', 'b', 'c']);
  });

  test('an answer counts more than a ping that got none', async () => {
    const pool = create(['a', 'b']);
    pool.does('a', 'refuses');
    pool.does('b', 'refuses');
    await pool.bulks(2);
    pool.does('a', 'hangs');
    await pool.clock.advance(5_000);
    void pool.bulk();
    await settled();
    pool.does('a', 'answers');
    await pool.bulks(2);
    await pool.clock.advance(2_000);
    expect(await pool.bulks(2)).toBe('a a');
  });

  test('a single node is always tried', async () => {
    const pool = create(['a']);
    pool.does('a', 'refuses');
    expect(await pool.bulks(3)).toBe('a a a');
    pool.does('a', 'answers');
    expect(await pool.bulk()).toBe('200');
    expect(pool.lines).toEqual([]);
  });
});

describe('commands', () => {
  test('go to the next node when one does not answer; a bulk does not, because the writer does that', async () => {
    const pool = create();
    pool.does('a', 'refuses');
    pool.does('b', 503);
    expect(await pool.command('/_index_template/x')).toBe('done');
    expect(pool.seen()).toBe('a/_index_template/x b/_index_template/x c/_index_template/x');
    const others = create();
    others.does('a', 'refuses');
    expect(await others.bulk()).toBe('ConnectionError');
    expect(others.seen()).toBe('a');
  });

  test('also when it hangs', async () => {
    const pool = create(['a', 'b']);
    pool.does('a', 'hangs');
    const command = pool.command('/_search');
    await pool.clock.advance(30_000);
    expect(await command).toBe('done');
    expect(pool.seen()).toBe('a/_search b/_search');
  });

  test('fail when each node has been tried once', async () => {
    const pool = create(['a', 'b']);
    pool.does('a', 'refuses');
    pool.does('b', 'refuses');
    expect(await pool.command('/_search')).toBe('ConnectionError');
    expect(pool.seen()).toBe('a/_search b/_search');
  });

  test('an answer is an answer, and asked for once', async () => {
    const pool = create();
    pool.does('a', 400);
    expect(await pool.command('/_search')).toBe('ResponseError');
    expect(pool.seen()).toBe('a/_search');
  });
});

test('closing waits for no ping', async () => {
  const pool = create(['a', 'b']);
  pool.does('a', 'refuses');
  await pool.bulks(1);
  pool.does('a', 'hangs');
  await pool.clock.advance(5_000);
  await pool.bulks(1);
  expect(pool.held).toHaveLength(1);
  await pool.client.close();
  await settled();
  expect(pool.clock.timers()).toBe(0);
});
