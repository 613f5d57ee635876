// Reading alerts and commanding them from any process: over Kafka, scripted in this process, with a leader that the test plays; and
// without Kafka in a whole process, from a line of the log to the link in its message.
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import kafkajs from 'kafkajs';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createAlertDesk, DeskClosedError } from '../../src/alerter/alert-desk.ts';
import { decodeCommand } from '../../src/alerter/commands-given.ts';
import { parseConfig } from '../../src/config.ts';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { startPipeline } from '../../src/pipeline.ts';
import { createKafka, type KafkaConfig } from '../../src/source/kafka/client.ts';
import { call, QUICK_RULES } from '../kit/alerting.ts';
import { startReceiver } from '../kit/receiver.ts';
import { startScriptedKafka } from '../kit/scripted-kafka.ts';

const until = (check: () => void | Promise<void>) => vi.waitFor(check, { timeout: 20_000, interval: 10 });

/** One topic is both, the state's and the commands'. */
async function overKafka() {
  const kafka = await startScriptedKafka({ brokers: 1, partitions: 1 });
  const config = {
    ...{ brokers: kafka.brokers, clientId: 'test', ssl: false, connectionTimeoutMs: 300, requestTimeoutMs: 1_000 },
    topics: { alerts: kafka.topic, commands: kafka.topic },
  } as unknown as KafkaConfig;
  const leader = createKafka(config, silentLog).producer({
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
  });
  await leader.connect();
  onTestFinished(() => leader.disconnect());
  const put = (key: string, value: object | null) =>
    leader.send({ topic: kafka.topic, messages: [{ key, value: value === null ? null : JSON.stringify(value) }] });
  const desk = createAlertDesk(
    { source: 'kafka', kafka: config, alerts: { journalDir: '' } },
    { clock: systemClock, log: silentLog, own: () => undefined },
  );
  onTestFinished(() => desk.close());
  return { kafka, put, desk };
}

const soon = () => performance.now() + 2_000;
const command = (commandId: string) =>
  ({ kind: 'acknowledge', incidentId: 'i1', by: 'ada', via: 'api', commandId }) as const;

test('over Kafka: what is read is of this moment, and a command’s answer is seen when the leader writes it', async () => {
  const { kafka, put, desk } = await overKafka();
  await put('incident/i1', { id: 'i1', openedMs: 1 });
  await put('incident/i0', { id: 'i0', openedMs: 0 });
  await put('alert/odd', { nothing: 'of an alert' });
  const ids = async () => (await desk.state()).incidents.map(({ id }) => id);
  expect(await ids()).toEqual(['i0', 'i1']);
  expect((await desk.state()).alerts).toEqual([]);
  await put('incident/i0', null);
  await until(async () => expect(await ids()).toEqual(['i1']));

  const given = desk.give(command('c1'), soon());
  await until(() => expect(kafka.records.some(({ key }) => key === 'c1')).toBe(true));
  const written = kafka.records.find(({ key }) => key === 'c1');
  expect(decodeCommand(Buffer.from(written!.value))).toEqual(command('c1'));
  await put('command/c1', { id: 'c1', atMs: 7 });
  expect(await given).toEqual({ id: 'c1', atMs: 7 });
  expect(await desk.answer('c1')).toEqual({ id: 'c1', atMs: 7 });
  expect(await desk.answer('c2')).toBeUndefined();

  const unanswered = performance.now();
  expect(await desk.give(command('c2'), unanswered + 500)).toBeUndefined();
  expect(performance.now() - unanswered).toBeLessThan(1_500);
});

test('while Kafka is away nothing is known and nothing is given, not even later; then all goes on', {
  timeout: 60_000,
}, async () => {
  const { kafka, put, desk } = await overKafka();
  await put('incident/i1', { id: 'i1', openedMs: 1 });
  expect((await desk.state()).incidents).toHaveLength(1);
  await kafka.stop(0);
  // What was read a moment ago may still be given for a second.
  await until(async () => expect(desk.state()).rejects.toThrow(DeskClosedError));
  const beganMs = performance.now();
  await expect(desk.give(command('while-away'), soon())).rejects.toThrow(/the command was not given/);
  expect(performance.now() - beganMs).toBeLessThan(2_000);
  await kafka.start(0);
  await until(async () => expect((await desk.state()).incidents).toHaveLength(1));
  const given = desk.give(command('after'), performance.now() + 10_000);
  await until(() => expect(kafka.records.some(({ key }) => key === 'after')).toBe(true));
  await put('command/after', { id: 'after', atMs: 7, refused: 'no' });
  expect(await given).toMatchObject({ refused: 'no' });
  expect(kafka.records.some(({ key }) => key === 'while-away')).toBe(false);
});

test('a broker that takes a command and does not answer: it is said that nobody knows', {
  timeout: 30_000,
}, async () => {
  const { kafka, desk, put } = await overKafka();
  const given = desk.give(command('first'), soon());
  await until(() => expect(kafka.records.some(({ key }) => key === 'first')).toBe(true));
  await put('command/first', { id: 'first', atMs: 7 });
  await given;
  kafka.freeze(0);
  await expect(desk.give(command('frozen'), soon())).rejects.toThrow(
    /not known whether the command was given, .* once or not at all/,
  );
  kafka.thaw(0);
});

test('without Kafka: an alert, its rates, the link in its message, and a token', { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-desk-'));
  const receiver = await startReceiver();
  const file = join(folder, 'app.log');
  writeFileSync(file, '');
  writeFileSync(join(folder, 'rules.yml'), QUICK_RULES);
  const config = parseConfig(
    `source: files
files: { paths: ['${file}'], dataDir: '${join(folder, 'positions')}', pollIntervalMs: 50 }
dlq: { file: '${join(folder, 'dead-letters.ndjson')}' }
sinks: { elasticsearch: false, ndjson: { enabled: true, dir: '${join(folder, 'out')}' } }
alerts: { rulesFile: '${join(folder, 'rules.yml')}', journalDir: '${join(folder, 'alerts')}', tickMs: 100 }
notify: { environment: test, slack: { webhookUrl: '${receiver.url}/slack', ratePerSecond: 50 } }
monitor: { enabled: false }
http:
  port: 0
  publicUrl: https://alerts.example.org
  linkSecrets: [${'s'.repeat(32)}]
  tokens: [{ name: ops, token: a-token-of-the-operators, scopes: [read, act] }]
`,
    {},
    'test.yml',
  );
  const stdout = new Writable({ write: (_chunk, _encoding, done) => done() });
  const pipeline = await startPipeline(config, { log: silentLog, stdout });
  onTestFinished(async () => {
    await pipeline.stop();
    await receiver.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const get = async (path: string) => {
    const answer = await fetch(`${pipeline.url}${path}`);
    return { status: answer.status, json: (await answer.json()) as Record<string, never> };
  };
  await until(async () => expect((await get('/api/v1/alerts')).json).toMatchObject({ incidents: [] }));
  const { json: before } = await get('/api/v1/rates');
  expect(before).toMatchObject({
    rates: expect.arrayContaining([expect.objectContaining({ rule: 'high-error-rate' })]),
  });
  const rateOf = ({ rates }: { rates?: { rule: string; sets: { value: number | null }[] }[] }) =>
    rates?.find(({ rule }) => rule === 'high-error-rate')?.sets[0]?.value;
  expect(rateOf(before)).toBeNull();

  const lines = Array.from({ length: 60 }, (_, i) =>
    JSON.stringify({ timestamp: new Date().toISOString(), level: 'info', message: 'call ended', ...call(i, 5) }),
  );
  appendFileSync(file, `${lines.join('\n')}\n`);
  await receiver.received(1);
  await until(async () => expect(rateOf((await get('/api/v1/rates')).json)).toBe(0.5));
  const text = JSON.stringify(receiver.requests[0]!.body);
  const [url] = /https:\/\/alerts\.example\.org\/a\/[\w.-]+/.exec(text) ?? [];
  const path = new URL(url!).pathname;
  const page = await fetch(`${pipeline.url}${path}`);
  expect(await page.text()).toContain('Acknowledge this incident?');
  const beganMs = performance.now();
  const pressed = await fetch(`${pipeline.url}${path}`, { method: 'POST' });
  expect(await pressed.text()).toContain('The incident is acknowledged');
  expect(performance.now() - beganMs).toBeLessThan(2_500);
  const { json } = await get('/api/v1/alerts');
  const [incident] = json.incidents as unknown as { id: string; acknowledged: object }[];
  expect(incident?.acknowledged).toMatchObject({ by: 'link from slack', via: 'link' });

  const resolve = (token: string) =>
    fetch(`${pipeline.url}/api/v1/incidents/${incident!.id}/resolve`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: '{}',
    });
  expect((await resolve('a-token-of-somebody-else')).status).toBe(401);
  const resolved = await resolve('a-token-of-the-operators');
  expect(resolved.status).toBe(200);
  // It is still true: nobody hears of it for a while.
  expect(await resolved.json()).toMatchObject({ changed: true, incident: { state: 'quiet' } });
});
