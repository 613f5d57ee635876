// Both sides of the thread that keeps the membership: the real one against a Kafka that is not there or says nothing, and threads
// that break off, fall silent or answer late, which are written out here.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createThreadedLeadership } from '../../../src/alerter/leadership.ts';
import { type Clock, systemClock } from '../../../src/core/clock.ts';
import type { Log } from '../../../src/core/log.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import type { KafkaConfig } from '../../../src/source/kafka/client.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

const dist = process.env.LOGPIPE_TEST_DIST ?? join(packageRoot(), 'dist');
const THREAD = pathToFileURL(join(dist, 'src/alerter/leader-thread.js'));
const SESSION_MS = 6_000;

/** A thread that does what `script` says: `say(message)`, and `onMessage`, which hears the others' messages. */
const scripted = (script: string) =>
  new URL(
    `data:text/javascript,${encodeURIComponent(
      `import { writeFileSync } from 'node:fs';
       import { parentPort } from 'node:worker_threads';
       let onMessage = () => {};
       const say = (message) => parentPort.postMessage(message);
       parentPort.on('message', (message) => {
         onMessage(message);
         if (message.type === 'close') say({ type: 'closed' });
       });
       ${script}`,
    )}`,
  );

function run(
  options: { entry?: URL; brokers?: string[]; kafka?: Partial<KafkaConfig>; heartbeatMs?: number; clock?: Clock } = {},
) {
  const { entry = THREAD, brokers = ['127.0.0.1:9'], clock = systemClock } = options;
  const events: string[] = [];
  const said: string[] = [];
  const write = (level: string) => (message: string, meta?: object) => {
    said.push(`${level} ${message} ${JSON.stringify(meta)}`);
  };
  const log: Log = { error: write('error'), warn: write('warn'), info: write('info'), debug: write('debug') };
  const kafka = {
    brokers,
    clientId: 'test',
    ssl: false,
    connectionTimeoutMs: 500,
    requestTimeoutMs: 1_000,
    ...options.kafka,
  } as KafkaConfig;
  const leadership = createThreadedLeadership(
    {
      kafka,
      brokers,
      group: 'alerter',
      topic: 'counts',
      requestTimeoutMs: 1_000,
      sessionTimeoutMs: SESSION_MS,
      heartbeatMs: options.heartbeatMs ?? 1_000,
    },
    {
      onTerm: (epoch) => events.push(`holding ${epoch}`),
      onLost: (epoch, why) => events.push(`lost ${epoch}: ${why}`),
      onStandby: () => events.push('standby'),
      onMember: () => events.push('member'),
      onAway: (why) => events.push(`away: ${why}`),
    },
    { clock, log, metrics: createMetrics(), entry },
  );
  leadership.start();
  onTestFinished(() => leadership.close());
  return {
    leadership,
    events,
    said,
    until: (check: () => void) => vi.waitFor(check, { timeout: 30_000, interval: 10 }),
  };
}

async function silentServer(): Promise<{ address: string; connections: Set<Socket> }> {
  const connections = new Set<Socket>();
  const server = createServer((socket) => {
    connections.add(socket);
    // Read, or its end would never be seen.
    socket.on('error', () => {}).resume();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of connections) socket.destroy();
    server.close();
  });
  return { address: `127.0.0.1:${(server.address() as { port: number }).port}`, connections };
}

test('a Kafka that refuses: it is away, said in this process’s log, tried again; closed at once', async () => {
  const { leadership, events, said, until } = run();
  await until(() => expect(events.filter((event) => event.startsWith('away: ')).length).toBeGreaterThan(1));
  expect(events[0]).toMatch(/ECONNREFUSED/);
  expect(said.filter((line) => /^error Kafka is unreachable.*"brokers":\["127\.0\.0\.1:9"\]/.test(line))).toHaveLength(
    1,
  );
  expect(leadership.epoch()).toBeUndefined();
  await expect(leadership.assured()).rejects.toMatchObject({ name: 'LostTermError' });
  await leadership.close();
  await leadership.ended;
});

test('a Kafka that takes connections and says nothing does not keep it from closing', async () => {
  const { address, connections } = await silentServer();
  const { leadership, until } = run({ brokers: [address], kafka: { requestTimeoutMs: 300_000 } });
  await until(() => expect(connections.size).toBeGreaterThan(0));
  const since = performance.now();
  await leadership.close();
  expect(performance.now() - since).toBeLessThan(13_000);
  await leadership.ended;
  // Nothing of it is left: the thread had the only connections.
  await until(() => expect([...connections].every((socket) => socket.destroyed)).toBe(true));
});

test('what is wrong with the options or the files is told with its code', async () => {
  // Several times: the thread ends of it soon after, and what it said last must come first.
  for (let n = 0; n < 4; n++) {
    await expect(run({ heartbeatMs: 5_000 }).leadership.ended).rejects.toMatchObject({
      name: 'LogpipeError',
      code: 'LOGPIPE_CONFIG_INVALID',
      message: expect.stringMatching(/^the alerter's heartbeats .* more than half of its session timeout/),
    });
    const missing = run({ kafka: { ssl: { caFile: join(packageRoot(), 'no-such.pem') } } });
    await expect(missing.leadership.ended).rejects.toMatchObject({
      code: 'LOGPIPE_CONFIG_UNREADABLE',
      message: expect.stringMatching(/^kafka\.ssl\.caFile: .*no-such\.pem cannot be read/),
      cause: expect.objectContaining({ message: expect.stringContaining('ENOENT') }),
    });
  }
});

test.each([
  ['throws', "setTimeout(() => { throw new Error('broken') })", /broken$/, 'broken'],
  ['exits', 'setTimeout(() => process.exit(3))', /exit status 3$/, undefined],
])('a thread that %s ends the term, who waits to be assured, and the membership', async (_what, end, why, cause) => {
  const { leadership, events, until } = run({
    entry: scripted(
      `say({ type: 'term', epoch: 1 }); onMessage = ({ type }) => { if (type === 'assured') { ${end} } };`,
    ),
  });
  await until(() => expect(events).toEqual(['holding 1']));
  await expect(leadership.assured()).rejects.toMatchObject({ name: 'LostTermError' });
  await expect(leadership.ended).rejects.toMatchObject({
    code: 'LOGPIPE_KAFKA_FAILED',
    message: expect.stringMatching(why),
    ...(cause === undefined ? {} : { cause: expect.objectContaining({ message: cause }) }),
  });
  expect(events.slice(1)).toEqual([
    expect.stringMatching(/^lost 1: the thread that keeps the alerter's membership ended/),
  ]);
  expect(leadership.epoch()).toBeUndefined();
  await leadership.close();
});

test('a thread that cannot be started ends the membership', async () => {
  const { leadership } = run({ entry: new URL('./no-such-thread.js', import.meta.url) });
  await expect(leadership.ended).rejects.toMatchObject({ code: 'LOGPIPE_KAFKA_FAILED', cause: expect.any(Error) });
});

test('a loss that was said before an answer, or behind it while this thread was busy, counts before it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-thread-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const done = join(folder, 'done');
  for (const said of [
    "say({ type: 'lost', epoch: 1, why: 'taken' }); answer(true);",
    "answer(true); say({ type: 'lost', epoch: 1, why: 'taken' });",
    "say({ type: 'lost', epoch: 1, why: 'taken' }); say({ type: 'term', epoch: 2 }); answer(true);",
    'answer(false);',
  ]) {
    const { leadership, events, until } = run({
      entry: scripted(`say({ type: 'term', epoch: 1 });
        onMessage = ({ type, question }) => {
          const answer = (assured) => say({ type: 'answer', question, assured });
          if (type !== 'assured') return;
          ${said}
          writeFileSync(${JSON.stringify(done)}, '');
        };`),
    });
    await until(() => expect(events).toEqual(['holding 1']));
    const asked = leadership.assured();
    // Busy until all of it waits here.
    while (!existsSync(done));
    rmSync(done);
    await expect(asked, said).rejects.toMatchObject({ name: 'LostTermError' });
  }
});

test('an answer that was long on its way, or over a step of the clock, is asked for again', async () => {
  const clock = createFakeClock();
  const { leadership, events, said, until } = run({
    clock,
    // The first two wait until they are called for.
    entry: scripted(`say({ type: 'term', epoch: 1 });
      const held = [];
      onMessage = ({ type, question }) => {
        if (type === 'assured') {
          say({ type: 'log', level: 'info', message: 'asked ' + question });
          held.push({ type: 'answer', question, assured: true });
          if (question > 2) say(held.pop());
        }
        if (type === 'alive' && held.length > 0) say(held.pop());
      };`),
  });
  await until(() => expect(events).toEqual(['holding 1']));
  let assured = false;
  const asking = leadership.assured().then(() => {
    assured = true;
  });
  await until(() => expect(said.at(-1)).toContain('asked 1'));
  // With the beat that lets the answer go.
  await clock.advance(SESSION_MS);
  await until(() => expect(said.at(-1)).toContain('asked 2'));
  clock.setWall(clock.now() + 3_600_000);
  expect(assured).toBe(false);
  await clock.advance(5_000);
  await until(() => expect(said.at(-1)).toContain('asked 3'));
  await asking;
});

test('closed: the term ends at once, what the thread says is no news, and one that hangs is ended all the same', async () => {
  const clock = createFakeClock();
  const { leadership, events, until } = run({
    clock,
    entry: scripted(`say({ type: 'term', epoch: 1 });
      onMessage = ({ type }) => {
        if (type !== 'close') return;
        say({ type: 'lost', epoch: 1, why: 'closed' });
        say({ type: 'term', epoch: 2 });
        for (;;);
      };`),
  });
  await until(() => expect(events).toEqual(['holding 1']));
  const waiting = leadership.assured();
  const closing = leadership.close();
  await expect(waiting).rejects.toMatchObject({ name: 'LostTermError' });
  expect(events).toEqual(['holding 1', 'lost 1: closed']);
  let closed = false;
  void closing.then(() => {
    closed = true;
  });
  await clock.advance(11_900);
  expect(closed).toBe(false);
  await clock.advance(200);
  await closing;
  await leadership.ended;
  expect(events).toHaveLength(2);
  await leadership.close();
});
