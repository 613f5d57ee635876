// Three brokers and three nodes on this machine, as `logpipe stack up` starts them: one cluster each, that goes on
// without one member, takes it back with its data or without, and leaves nothing behind.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@elastic/elasticsearch';
import kafkajs, { type Admin } from 'kafkajs';
import { expect, onTestFinished, test } from 'vitest';
import { runStack, type StackOptions } from '../../src/cli/stack.ts';
import { portFree, processStart } from '../../stack/index.ts';
import { uniqueName, waitFor } from '../kit/servers.ts';

interface Member {
  name: string;
  state: string;
  address: string;
  pid: number;
  port: number;
}

interface Report {
  up: boolean;
  alreadyUp?: boolean;
  kafka: { state: string; brokers: string[]; members: Member[] };
  elasticsearch: { state: string; url: string; urls: string[]; members: Member[] };
  error: { code: string; message: string };
}

test('stack up starts three of each, replaces a dead one, and down leaves nothing', async () => {
  const stack = driveStack();
  const { exit, answer } = await stack.run('up', { brokers: 3, esNodes: 3 });
  expect(answer.error).toBeUndefined();
  expect(exit).toBe(0);
  const { kafka, elasticsearch } = answer;
  expect(kafka.members.map(({ name, state }) => [name, state])).toEqual([
    ['kafka', 'up'],
    ['kafka-2', 'up'],
    ['kafka-3', 'up'],
  ]);
  expect(elasticsearch.members.map(({ name }) => name)).toEqual([
    'elasticsearch',
    'elasticsearch-2',
    'elasticsearch-3',
  ]);
  expect(kafka.brokers).toEqual(kafka.members.map(({ port }) => `127.0.0.1:${port}`));
  expect(elasticsearch.url).toBe(elasticsearch.members.map(({ port }) => `http://127.0.0.1:${port}`).join());
  const members = [...kafka.members, ...elasticsearch.members];
  expect(new Set(members.map(({ pid }) => pid)).size).toBe(6);

  // One cluster each, not three times one.
  const topic = uniqueName('stack');
  await withAdmin(kafka.brokers.slice(0, 1), async (admin) => {
    expect((await admin.describeCluster()).brokers.map(({ port }) => port).sort()).toEqual(
      kafka.members.map(({ port }) => port).sort(),
    );
    await admin.createTopics({
      topics: [
        {
          topic,
          numPartitions: 3,
          replicationFactor: 3,
          configEntries: [{ name: 'min.insync.replicas', value: '2' }],
        },
      ],
    });
  });
  const health = async (url: string) => (await (await fetch(`${url}/_cluster/health`)).json()) as { status: string };
  for (const url of elasticsearch.urls) {
    expect(await health(url)).toMatchObject({ number_of_nodes: 3, status: 'green' });
  }
  await produce(kafka.brokers, topic, 'one');
  const index = uniqueName('stack');
  await withClient(elasticsearch.urls[0]!, (client) =>
    client.indices.create({ index, settings: { number_of_shards: 3, number_of_replicas: 1 } }),
  );
  // A node that is killed before there are copies takes its shards along for good.
  await waitFor(async () => (await health(elasticsearch.urls[0]!)).status === 'green', { what: 'copies of the index' });

  // What runs is never silently something else than asked for.
  const bigger = await stack.run('up', { brokers: 2, esNodes: 3 });
  expect([bigger.exit, bigger.answer.error.code]).toEqual([1, 'LOGPIPE_STACK_FAILED']);
  expect(bigger.answer.error.message).toMatch(/3 kafka .*3 elasticsearch .*not --brokers 2,.*stack down/);
  expect(await stack.run('up')).toMatchObject({ exit: 0, answer: { alreadyUp: true } });

  // One of each is killed: both clusters go on without it, `status` says so, and `up` starts just these again.
  const [broker, node] = [kafka.members[2]!, elasticsearch.members[2]!];
  process.kill(broker.pid, 'SIGKILL');
  process.kill(node.pid, 'SIGKILL');
  await waitFor(() => processStart(broker.pid) === undefined && processStart(node.pid) === undefined, { what: 'dead' });
  // Not at once: the dead may have been the ones that led.
  await waitFor(
    async () => {
      const { exit, answer } = await stack.run('status');
      expect([exit, answer.up]).toEqual([3, false]);
      return answer.kafka.state === 'incomplete' && answer.elasticsearch.state === 'incomplete';
    },
    { what: 'both clusters go on without one', timeoutMs: 120_000 },
  );
  await produce(kafka.brokers, topic, 'two');
  await withClient(elasticsearch.urls[0]!, (client) => client.index({ index, document: { message: 'call answered' } }));
  const again = await stack.run('up');
  expect(again).toMatchObject({ exit: 0, answer: { up: true } });
  const pids = [...again.answer.kafka.members, ...again.answer.elasticsearch.members].map(({ pid }) => pid);
  expect(pids.filter((pid) => !members.some((member) => member.pid === pid))).toHaveLength(2);
  await waitFor(async () => (await health(elasticsearch.urls[2]!)).status === 'green', {
    what: 'the node has its copies again',
    timeoutMs: 120_000,
  });

  // Now the second broker loses its disk, and the third, back on its old data, carries on with the first.
  const second = again.answer.kafka.members[1]!;
  process.kill(second.pid, 'SIGKILL');
  await waitFor(() => processStart(second.pid) === undefined, { what: 'dead' });
  rmSync(join(stack.folder, 'kafka-2'), { recursive: true });
  // A voter that comes back without its disk while the others still take it for their leader ends with a fault of Kafka's.
  await withAdmin([kafka.brokers[0]!, kafka.brokers[2]!], (admin) =>
    waitFor(
      async () => {
        const [metadata] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics;
        return metadata!.partitions.every(({ leader }) => leader !== 2 && leader > 0);
      },
      { what: 'the others have elected new leaders', timeoutMs: 120_000 },
    ),
  );
  const third = await stack.run('up');
  expect([third.exit, third.answer.error]).toEqual([0, undefined]);
  await withAdmin(kafka.brokers, (admin) =>
    waitFor(
      async () => {
        const [metadata] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics;
        return metadata!.partitions.every(({ isr }) => isr.length === 3);
      },
      { what: 'the wiped broker has copied everything', timeoutMs: 120_000 },
    ),
  );

  const { answer: down } = await stack.run('down');
  expect(down).toMatchObject({ up: false, stopped: members.map(({ name }) => name) });
  for (const { pid, port } of members) {
    expect(processStart(pid)).toBeUndefined();
    expect(await portFree(port)).toBe(true);
  }
  expect(readdirSync(stack.parent)).toEqual([]);
});

/** `runStack --json` on a folder of its own, ended with the test. */
function driveStack() {
  const parent = mkdtempSync(join(tmpdir(), 'logpipe-test-'));
  const folder = join(parent, 'stack');
  const run = async (action: 'up' | 'down' | 'status', options: StackOptions = {}) => {
    const lines: string[] = [];
    const io = { out: (line: string) => lines.push(line), err: () => undefined };
    const exit = await runStack(action, { ...options, folder, json: true }, io);
    expect(lines).toHaveLength(1);
    return { exit, answer: JSON.parse(lines[0]!) as Report };
  };
  onTestFinished(async () => {
    await run('down');
    rmSync(parent, { recursive: true });
  });
  return { parent, folder, run };
}

async function withAdmin<T>(brokers: string[], work: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

async function withClient<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ node: url });
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

async function produce(brokers: string[], topic: string, value: string): Promise<void> {
  const producer = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).producer();
  await producer.connect();
  try {
    await producer.send({ topic, acks: -1, messages: [0, 1, 2].map((partition) => ({ value, partition })) });
  } finally {
    await producer.disconnect();
  }
}
