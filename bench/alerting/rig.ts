// What one trial needs: topics and groups of its own, the shipped configuration with other names and addresses, receivers in place of
// Slack and PagerDuty, and processes. Guarantee: whatever happens, `end` leaves no process and no topic behind.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { type Config, parseConfig } from '../../src/config.ts';
import { sleep } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import { createKafka } from '../../src/source/kafka/client.ts';
import { ensureTopics } from '../../src/source/kafka/topics.ts';
import { endProcess } from '../../stack/index.ts';
import { type LogpipeProcess, startProcess } from '../../test/kit/process.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../test/kit/receiver.ts';
import type { Command, GeneratorOptions } from './generator.ts';

export interface Servers {
  readonly brokers: readonly string[];
  readonly kafkaVersion: string;
  readonly elasticsearch: { readonly url: string; readonly version: string } | undefined;
  /** For configurations. */
  readonly folder: string;
}

export interface Generator {
  readonly pid: number;
  tell(command: Command): void;
  /** Events logged so far, and at what time. */
  count(): Promise<{ logged: number; atMs: number }>;
  /** The call that crossed the threshold, once it was made. */
  crossed(): Promise<{ atMs: number; ended: number; failed: number }>;
}

export interface Rig {
  readonly config: Config;
  /** `--roles`, comma-separated. */
  start(roles: string): LogpipeProcess;
  generate(rate: number): Promise<Generator>;
  /** Resolves with the first message to that channel that begins or adds to an incident and holds this text. */
  told(channel: 'pagerduty' | 'slack', text: string, timeoutMs: number): Promise<ReceivedRequest>;
  /** Resolves when this many members share the group and nobody is joining. */
  stable(group: 'counter' | 'alerter' | 'indexer', members: number): Promise<void>;
  end(): Promise<void>;
}

export const TITLE = 'High Error Rate Detected';
const WAIT_MS = 60_000;

export interface RigOptions {
  readonly name: string;
  /** Other settings, by section. */
  readonly settings?: Readonly<Record<string, object>>;
  /** A log topic that already exists, and is kept. */
  readonly logs?: string;
}

export async function createRig(options: RigOptions, servers: Servers): Promise<Rig> {
  const { name, logs = `${name}-logs` } = options;
  const pagerduty = await startReceiver(() => ({ status: 202, body: '{"status":"success"}' }));
  const slack = await startReceiver();
  const processes: LogpipeProcess[] = [];
  const topics = { logs, dlq: `${name}.dlq`, counts: `${name}-counts`, alerts: `${name}-alerts` };
  const sections = {
    kafka: {
      brokers: servers.brokers,
      group: `${name}-indexer`,
      counterGroup: `${name}-counter`,
      alerterGroup: `${name}-alerter`,
      topics,
    },
    ...(servers.elasticsearch === undefined
      ? { sinks: { elasticsearch: false } }
      : { elasticsearch: { nodes: [servers.elasticsearch.url] } }),
    alerts: {
      rulesFile: join(packageRoot(), 'config', 'rules.yml'),
      measuresFile: join(packageRoot(), 'config', 'measures.yml'),
    },
    notify: {
      environment: 'bench',
      slack: { webhookUrl: `${slack.url}/services/bench` },
      pagerduty: { url: `${pagerduty.url}/v2/enqueue`, integrationKey: 'bench' },
    },
    http: { port: 0 },
    ...options.settings,
  };
  const file = join(servers.folder, `${name}.yml`);
  writeFileSync(file, JSON.stringify(sections));
  const config = parseConfig(JSON.stringify(sections), {}, file);
  const { kafka } = config;
  await ensureTopics(createKafka(kafka, silentLog), kafka, silentLog);
  const admin = new kafkajs.Kafka({ brokers: [...servers.brokers], logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();

  function own(child: LogpipeProcess): LogpipeProcess {
    processes.push(child);
    return child;
  }

  return {
    config,
    start: (roles) =>
      own(startProcess('src/main.js', ['run', '--config', file, '--roles', roles, '--exit-with-parent'])),
    async generate(rate) {
      const its: GeneratorOptions = { brokers: servers.brokers, topic: topics.logs, rate };
      const child = own(startProcess('bench/alerting/generator.js', [JSON.stringify(its)]));
      await child.waitForLine(/"started"/);
      const tell = (command: Command) => void child.stdin.write(`${command}\n`);
      let counts = 0;
      return {
        pid: child.pid,
        tell,
        async count() {
          tell('count');
          counts += 1;
          await until(() => child.stdout().split('"count"').length > counts, 'the generator to answer', WAIT_MS, 5);
          const lines = child.stdout().split('\n');
          return JSON.parse(lines.filter((line) => line.includes('"count"')).at(-1)!).count;
        },
        crossed: async () => JSON.parse(await child.waitForLine(/"crossed"/, WAIT_MS)).crossed,
      };
    },
    async told(channel, text, timeoutMs) {
      const { requests } = channel === 'slack' ? slack : pagerduty;
      const find = () =>
        requests.find(({ body }) => body.event_action !== 'resolve' && JSON.stringify(body).includes(text));
      const output = () => processes.map((one) => one.stderr().slice(-1_500)).join('\n');
      await until(() => find() !== undefined, `"${text}" at ${channel}`, timeoutMs, 20, output);
      return find()!;
    },
    async stable(group, members) {
      const { group: indexer, counterGroup, alerterGroup } = kafka;
      const groupId = { indexer, counter: counterGroup, alerter: alerterGroup }[group];
      const isStable = async () => {
        const [found] = (await admin.describeGroups([groupId])).groups;
        return found?.state === 'Stable' && found.members.length === members;
      };
      await until(isStable, `group ${groupId} with ${members} members`, WAIT_MS, 100);
    },
    async end() {
      // Nothing of a trial is worth keeping.
      for (const child of processes) {
        await endProcess(child.pid, { graceMs: 0, ended: child.exit.then(() => undefined) });
      }
      for (const receiver of [slack, pagerduty] satisfies Receiver[]) await receiver.close();
      const mine = Object.values(topics).filter((topic) => topic !== options.logs);
      await admin.deleteTopics({ topics: mine }).catch(() => {});
      await admin.disconnect();
    },
  };
}

/** @throws Error when it does not come true in time */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs: number,
  everyMs: number,
  more: () => string = () => '',
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain for ${what}\n${more()}`);
    await sleep(everyMs);
  }
}

/** The process's address, from what it said at its start. */
export async function addressOf(child: LogpipeProcess): Promise<string> {
  const line = await child.waitForLine(/"message":"running"/, WAIT_MS);
  return (JSON.parse(line) as { url: string }).url;
}

/** Resolves when the rules are evaluated in this process; with the time since it leads. */
export async function evaluates(child: LogpipeProcess): Promise<{ caughtUpMs: number }> {
  const line = await child.waitForLine(/alerts are evaluated here/, WAIT_MS);
  return { caughtUpMs: (JSON.parse(line) as { caughtUpMs: number }).caughtUpMs };
}
