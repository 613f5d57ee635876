// An incident through its whole life, decided by a clock that the test advances, and everything else real: the alert state and the
// commands in Kafka, messages by HTTP and SMTP, the link of a message opened and used over HTTP, two leaders. P2 at 03:00, P1, nobody
// answers, the secondary, acknowledged by the link, a hand-over, resolved, the daily mail: every notification, and none beside.
import kafkajs from 'kafkajs';
import { expect, it, onTestFinished } from 'vitest';
import { createAlertDesk } from '../../src/alerter/alert-desk.ts';
import { beginTerm, type Term } from '../../src/alerter/alerter.ts';
import { followTopic } from '../../src/alerter/commands-given.ts';
import { createCountedWindows } from '../../src/alerter/counts-follower.ts';
import { createKafkaStores } from '../../src/alerter/store-kafka.ts';
import { parseConfig } from '../../src/config.ts';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { createChannels } from '../../src/notify/dispatcher.ts';
import { parseRouting } from '../../src/oncall/routing.ts';
import { createActionLinks } from '../../src/ops/access.ts';
import { alertRoutes } from '../../src/ops/alerts-api.ts';
import { createApi } from '../../src/ops/guard.ts';
import { startHttp } from '../../src/ops/http.ts';
import { createKafka } from '../../src/source/kafka/client.ts';
import { ensureTopics } from '../../src/source/kafka/topics.ts';
import { createFakeClock } from '../kit/fake-clock.ts';
import { startMailReceiver } from '../kit/mail-receiver.ts';
import { type ReceivedRequest, startReceiver } from '../kit/receiver.ts';
import { testBrokers, uniqueName } from '../kit/servers.ts';
import { MEASURES, rulesOf } from '../unit/rules/kit.ts';

const MINUTE = 60_000;
/** A Tuesday, 03:00 in Berlin. Ada is on call, then Ben. */
const NIGHT = Date.parse('2026-03-03T02:00:00Z');
const SECRET = 'the-secret-that-signs-links-0123456789';
const RULES = rulesOf(`
  busy: { title: Calls are failing, priority: P2, group: calls, kind: threshold, measure: elasticsearch.status, atLeast: 1, keepFiring: 0s }
  down: { title: No call succeeds, priority: P1, group: calls, kind: threshold, measure: elasticsearch.status, atLeast: 2, keepFiring: 0s }
`);
const ROUTING = `
hours: { timeZone: Europe/Berlin }
people:
  ada: { name: Ada Lovelace, email: ada@calls.example, slackId: U012AB3CD, pagerDutyKey: key-of-ada }
  ben: { name: Ben Hughes, email: ben@calls.example, slackId: U045EF6GH }
teams:
  ops: { rota: { starts: 2026-03-02, primary: [ada, ben], secondary: [ben, ada] } }
`;

it('from 03:00 to the daily mail', { timeout: 240_000 }, async () => {
  const clock = createFakeClock(NIGHT - 5_000);
  /** What waits for Kafka waits in real time; what is dated has the test's date. */
  const dated = { ...systemClock, now: clock.now };
  const slack = await startReceiver();
  const pagerduty = await startReceiver(() => ({ status: 202, body: '{"status":"success"}' }));
  const mail = await startMailReceiver();
  const name = uniqueName('on-call');
  const topics = ['logs', 'dlq', 'counts', 'alerts', 'commands'].map((kind) => `${kind}: ${name}-${kind}`);
  const config = parseConfig(
    `kafka: { brokers: [${testBrokers().map((broker) => `'${broker}'`)}], group: ${name}, alerterGroup: ${name}-alerter, topics: { ${topics.join(', ')} } }
notify:
  environment: production
  slack: { webhookUrl: '${slack.url}/hook', ratePerSecond: 100 }
  pagerduty: { url: '${pagerduty.url}/v2/enqueue', integrationKey: key-of-all, ratePerSecond: 100 }
  email: { host: 127.0.0.1, port: ${mail.port}, from: logpipe@calls.example, to: [all@calls.example], ratePerSecond: 100 }
http: { port: 0, linkSecrets: ['${SECRET}'] }
`,
    {},
    'test.yml',
  );
  const { kafka } = config;
  await ensureTopics(createKafka(kafka, silentLog), kafka, silentLog);
  const routing = parseRouting(ROUTING, {}, 'routing.yml', clock.now());
  const masker = createMasker();
  const metrics = createMetrics();

  // Another instance, which decides nothing, serves the links.
  const desk = createAlertDesk(config, { clock: systemClock, log: silentLog, own: () => undefined });
  const api = createApi({ publicUrl: 'http://127.0.0.1' }, { log: silentLog, clock: dated }, [
    alertRoutes(
      { linkSecrets: [SECRET], environment: 'production', webhookSecrets: [] },
      { log: silentLog, clock: dated, desk, masker, alerting: () => undefined, routing: () => routing },
    ),
  ]);
  const server = await startHttp(config.http, {
    ...{ metrics, clock: dated, readiness: () => [], api: async () => api },
    platform: { metrics: () => undefined, stats: () => undefined },
    status: { status: () => ({}) as never, rule: () => 'elsewhere' },
  });
  const actionLinks = createActionLinks({ publicUrl: server.url, secrets: [SECRET] })!;
  const channels = createChannels(config.notify, routing, {
    ...{ clock, log: silentLog, masker, actionLinks },
    out: process.stdout,
  });

  async function lead(): Promise<{ term: Term; end(): Promise<void> }> {
    const stores = createKafkaStores(
      { config: kafka, topic: kafka.topics.alerts, transactionalId: name },
      { kafka: createKafka(kafka, silentLog), clock: systemClock, log: silentLog, mayTakeOver: async () => {} },
    );
    const { dated: _, ...store } = await stores.open();
    const term = beginTerm(
      { rules: RULES, routing, environment: 'production', tickMs: 1_000 },
      {
        ...{ store, channels, clock, metrics, masker, log: silentLog, results: new Map(), history: undefined },
        windows: createCountedWindows({ measures: MEASURES, rules: RULES, coveredFromMs: 0 }),
        onLost: () => {},
        onTick: () => {},
      },
    );
    term.start();
    const commands = followTopic(kafka, kafka.topics.commands!, {
      ...{ clock: systemClock, log: silentLog },
      onCommand: term.command,
    });
    return {
      term,
      async end() {
        await commands.close();
        const stopped = term.stop(0);
        await clock.advance(1_000);
        await stopped;
        await stores.close();
      },
    };
  }
  let leader = await lead();
  onTestFinished(async () => {
    await leader.end();
    await server.close();
    await desk.close();
    for (const channel of channels.values()) await channel.close();
    for (const one of [slack, pagerduty, mail]) await one.close();
  });

  /** Goes on until the clock is there; after each second of it the servers have time to answer. */
  async function until(ms: number, status: number, stepMs = 1_000): Promise<void> {
    while (clock.now() < ms) {
      leader.term.gauge('elasticsearch.status', {}, status, clock.now());
      await clock.advance(Math.min(stepMs, ms - clock.now()));
      await new Promise((resolve) => setTimeout(resolve, 4));
    }
  }
  /** The same second again, until so many messages have come. */
  async function come(counts: readonly [slack: number, pagerduty: number, mails: number], status: number) {
    const came = () => [slack.requests.length, pagerduty.requests.length, mail.mails.length];
    for (let tries = 0; tries < 400 && came().some((count, i) => count < counts[i]!); tries++) {
      leader.term.gauge('elasticsearch.status', {}, status, clock.now());
      await clock.advance(25);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    expect(came()).toEqual(counts);
  }
  const text = (request: ReceivedRequest) => String(request.body.text);

  await until(NIGHT, 0);
  await until(NIGHT + 4_000, 1);
  await come([1, 0, 2], 1);
  expect(text(slack.requests[0]!)).toMatch(/^⚠️ WARNING: Calls are failing\n.*<@U012AB3CD>.*1 h/);

  await until(NIGHT + 6 * MINUTE, 1, 5_000);
  await until(NIGHT + 6 * MINUTE + 4_000, 2);
  await come([2, 2, 4], 2);
  expect(text(slack.requests[1]!)).toMatch(/^🚨 CRITICAL: No call succeeds .*\n.*<@U012AB3CD>/);
  expect(pagerduty.requests.map(({ body }) => [body.routing_key, body.event_action]).sort()).toEqual([
    ['key-of-ada', 'trigger'],
    ['key-of-all', 'trigger'],
  ]);

  // Nobody answers. In between, another instance takes over.
  await until(NIGHT + 10 * MINUTE, 2, 5_000);
  await leader.end();
  leader = await lead();
  await until(NIGHT + 15 * MINUTE + 10_000, 2, 5_000);
  await come([3, 2, 5], 2);
  expect(text(slack.requests[2]!)).toMatch(/<@U045EF6GH>/);
  expect(mail.mails[4]!.to).toEqual(['ben@calls.example']);

  // A preview opens the link, which changes nothing; then Ben uses it.
  const link = /(http:\/\/127\.0\.0\.1:\d+\/a\/[\w.-]+)\|Acknowledge/.exec(
    JSON.stringify(slack.requests[2]!.body),
  )![1]!;
  expect((await fetch(link)).status).toBe(200);
  await until(NIGHT + 20 * MINUTE, 2, 5_000);
  await come([3, 2, 5], 2);
  const answer = fetch(link, { method: 'POST', headers: { origin: server.url } });
  await come([4, 4, 8], 2);
  expect((await answer).status).toBe(200);
  expect(await (await answer).text()).toMatch(/cknowledged/);
  expect(text(slack.requests[3]!)).toMatch(/^👀 ACKNOWLEDGED: No call succeeds/);

  // It goes on for two hours, of which nobody hears.
  await until(NIGHT + 120 * MINUTE, 2, 10_000);
  await come([4, 4, 8], 2);
  await until(NIGHT + 120 * MINUTE + 10_000, 0);
  await come([5, 6, 11], 0);
  expect(text(slack.requests[4]!)).toMatch(/^✅ RESOLVED: No call succeeds/);
  const keys = new Set(pagerduty.requests.map(({ body }) => body.dedup_key));
  expect(pagerduty.requests.map(({ body }) => body.event_action).sort()).toEqual([
    ...['acknowledge', 'acknowledge', 'resolve', 'resolve', 'trigger', 'trigger'],
  ]);
  expect(keys.size).toBe(1);

  // 09:00 in Berlin.
  await until(NIGHT + 360 * MINUTE + 10_000, 0, 30_000);
  await come([5, 6, 14], 0);
  const daily = mail.mails.slice(11);
  expect(daily.map(({ to }) => to.join()).sort()).toEqual([
    'ada@calls.example',
    'all@calls.example',
    'ben@calls.example',
  ]);
  expect(daily[0]!.parsed.text).toMatch(/No call succeeds.*acknowledged by link from slack/s);
  expect(daily[0]!.parsed.text).toMatch(/now: Ada Lovelace, then Ben Hughes/);
  await until(NIGHT + 420 * MINUTE, 0, 30_000);
  await come([5, 6, 14], 0);

  // What is in Kafka, read from outside: one incident, over, and nothing that waits.
  const admin = new kafkajs.Kafka({ brokers: testBrokers(), logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  const [end] = await admin.fetchTopicOffsets(kafka.topics.alerts);
  await admin.disconnect();
  expect(Number(end!.offset)).toBeGreaterThan(0);
  const { incidents } = await desk.state();
  expect(incidents.map(({ state, acknowledged }) => [state, acknowledged?.by])).toEqual([
    ['resolved', 'link from slack'],
  ]);
});
