// Alerting end to end: a log topic with calls, logpipe as a process, and real receivers for every channel.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { onTestFinished } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { sleep } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createEventIds } from '../../src/core/record.ts';
import { createKafka } from '../../src/source/kafka/client.ts';
import { ensureTopics } from '../../src/source/kafka/topics.ts';
import type { LogpipeProcess, SpawnOptions } from './process.ts';
import { type Answer, type ReceivedRequest, type Receiver, startReceiver } from './receiver.ts';
import { spawnLogpipe, testBrokers, testEsUrl, uniqueName, waitFor } from './servers.ts';

/** Like the shipped rule, with windows that a test can wait for. */
export const QUICK_RULES = `rules:
  high-error-rate:
    title: High Error Rate Detected
    priority: P1
    group: calls
    kind: ratio
    measure: call.failure_ratio
    window: 20s
    above: 20 %
    minEvents: 20
    keepFiring: 1s
    cooldown: 5s
    message: 'Error rate is {value} (threshold {threshold}): {numerator} of {denominator} calls failed in {window}'
    metadata: { totalCalls: denominator, failedCalls: numerator, errorRate: value as percent }
`;

/** One rule about failing calls for each name, so that as many incidents begin and end at once. */
export function groupRules(groups: readonly string[]): string {
  const rules = groups.map(
    (group) => `  failing-${group}:
    title: Failing ${group}
    priority: P1
    group: ${group}
    kind: ratio
    measure: call.failure_ratio
    window: 10s
    above: 20 %
    minEvents: 10
    keepFiring: 1s
    cooldown: 1s
    message: '{value}'`,
  );
  return `rules:\n${rules.join('\n')}\n`;
}

export interface AlertingOptions {
  readonly rules?: string;
  /** Text of routing.yml. */
  readonly routing?: string;
  /** Port of a mail server on this host. */
  readonly mailPort?: number;
  readonly esUrl?: string;
  readonly brokers?: string[];
  /** More YAML at the end of the configuration. */
  readonly extra?: string;
  /** More of the section `http`, in braces, after a comma. */
  readonly http?: string;
  readonly slack?: (request: ReceivedRequest, n: number) => Answer;
  readonly pagerduty?: (request: ReceivedRequest, n: number) => Answer;
}

export interface AlertingKit {
  readonly slack: Receiver;
  readonly pagerduty: Receiver;
  readonly heartbeats: Receiver;
  readonly service: string;
  readonly configFile: string;
  readonly topics: { readonly logs: string; readonly counts: string; readonly alerts: string };
  /** `--roles`; all of them by default. */
  start(roles?: string, options?: SpawnOptions): LogpipeProcess;
  /** Calls per second until the returned function is called; `failing` of ten fail. */
  calls(perSecond: number, failing: () => number): () => Promise<void>;
  produce(events: readonly Record<string, unknown>[]): Promise<void>;
  /** Records produced so far. */
  produced(): number;
  /**
   * Resolves when 300 more have been produced. Wait for it between a page and the end of the failures: if a few calls decided, the
   * share could fall below the threshold for a moment and rise again when ten seconds of good calls leave the window, which would
   * make two alerts where the test expects one.
   */
  goOn(): Promise<void>;
}

/** Tests run on Sundays, too. */
const AT_ANY_TIME = 'hours: { timeZone: Etc/UTC }\npriorities: { P3: { businessHoursOnly: false } }\n';

export async function createAlerting(options: AlertingOptions = {}): Promise<AlertingKit> {
  const brokers = options.brokers ?? testBrokers();
  const name = uniqueName('alerting');
  const topics = { logs: name, dlq: `${name}.dlq`, counts: `${name}-counts`, alerts: `${name}-alerts` };
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-alerting-'));
  const slack = await startReceiver(options.slack);
  const pagerduty = await startReceiver(options.pagerduty ?? (() => ({ status: 202, body: '{"status":"success"}' })));
  const heartbeats = await startReceiver();
  onTestFinished(async () => {
    for (const receiver of [slack, pagerduty, heartbeats]) await receiver.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const rulesFile = join(folder, 'rules.yml');
  writeFileSync(rulesFile, options.rules ?? QUICK_RULES);
  const routingFile = join(folder, 'routing.yml');
  writeFileSync(routingFile, options.routing ?? AT_ANY_TIME);
  const mail = `email: { host: 127.0.0.1, port: ${options.mailPort}, from: logpipe@calls.example, to: [all@ops.example], ratePerSecond: 100 }`;
  const configFile = join(folder, 'logpipe.yml');
  const yaml = `kafka:
  brokers: [${brokers.map((broker) => `'${broker}'`).join(', ')}]
  group: ${name}-indexer
  counterGroup: ${name}-counter
  alerterGroup: ${name}-alerter
  topics: { logs: ${topics.logs}, dlq: ${topics.dlq}, counts: ${topics.counts}, alerts: ${topics.alerts} }
elasticsearch: { nodes: ['${options.esUrl ?? testEsUrl()}'] }
intake: { sessionTimeoutMs: 2000, heartbeatMs: 500, commitIntervalMs: 100, maxWaitMs: 50 }
alerts:
  rulesFile: ${rulesFile}
  routingFile: ${routingFile}
  sessionTimeoutMs: 2000
  heartbeatUrl: ${heartbeats.url}/alive
  heartbeatMs: 1000
  blindAfterMs: 5000
notify:
  environment: test
  slack: { webhookUrl: '${slack.url}/services/T0/B0/s3cr3t', ratePerSecond: 100 }
  pagerduty: { url: '${pagerduty.url}/v2/enqueue', integrationKey: k3yk3yk3y, ratePerSecond: 100 }
${options.mailPort === undefined ? '' : `  ${mail}\n`}http: { port: 0${options.http ?? ''} }
${options.extra ?? ''}`;
  writeFileSync(configFile, yaml);
  const { kafka: config } = parseConfig(yaml, {}, configFile);
  await ensureTopics(createKafka(config, silentLog), config, silentLog);

  const kafka = new kafkajs.Kafka({ clientId: 'logpipe-test', brokers, logLevel: kafkajs.logLevel.NOTHING });
  const producer = kafka.producer({ allowAutoTopicCreation: false });
  await producer.connect();
  onTestFinished(() => producer.disconnect());
  const nextId = createEventIds();
  let sent = 0;

  async function produce(events: readonly Record<string, unknown>[]): Promise<void> {
    const messages = events.map((event) => {
      const eventId = nextId();
      const base = {
        timestamp: new Date().toISOString(),
        level: 'info',
        message: 'call ended',
        service: name,
        eventId,
      };
      return { value: JSON.stringify({ ...base, ...event }), headers: { eventId }, partition: sent++ % 4 };
    });
    await producer.send({ topic: topics.logs, messages, acks: -1 });
  }

  return {
    slack,
    pagerduty,
    heartbeats,
    service: name,
    configFile,
    topics,
    start: (roles, options) =>
      spawnLogpipe(
        ['run', '--config', configFile, '--exit-with-parent', ...(roles === undefined ? [] : ['--roles', roles])],
        options,
      ),
    calls(perSecond, failing) {
      const stop = new AbortController();
      const going = (async () => {
        for (let n = 0; !stop.signal.aborted; n++) {
          const events = Array.from({ length: Math.ceil(perSecond / 5) }, (_, i) => call(n * 1_000 + i, failing()));
          await produce(events).catch(() => {});
          await sleep(200, stop.signal);
        }
      })();
      return () => {
        stop.abort();
        return going;
      };
    },
    produce,
    produced: () => sent,
    async goOn() {
      const before = sent;
      await waitFor(() => sent >= before + 300, { what: '300 more calls', timeoutMs: 60_000 });
    },
  };
}

/** Of ten calls in a row `failing` fail. */
export function call(n: number, failing: number): Record<string, unknown> {
  const failed = n % 10 < failing;
  return {
    event: 'call.ended',
    callId: `CA${n}`,
    ...(failed ? { level: 'error', message: `Call to +4930${1_000_000 + n} failed: provider timeout` } : {}),
    call: {
      direction: 'outbound',
      status: failed ? 'failed' : 'completed',
      durationMs: failed ? 900 : 90_000,
      attempt: 1,
    },
  };
}
