// Topic and group names of one demo. On a Kafka of its own they are the usual ones; on somebody else's they are unique,
// and removed at the end.
import { randomBytes } from 'node:crypto';
import kafkajs from 'kafkajs';
import { errorText } from '../../src/core/errors.ts';

export interface DemoNames {
  logs: string;
  dlq: string;
  counts: string;
  alerts: string;
  commands: string;
  /** Consumer groups: of the indexer, the counter, the alerter. */
  groups: { indexer: string; counter: string; alerter: string };
}

export function demoNames(outside: boolean): DemoNames {
  const name = outside ? `logpipe-demo-${randomBytes(4).toString('hex')}` : 'calling-platform';
  return {
    logs: `${name}-logs`,
    dlq: `${name}-logs.dlq`,
    counts: `${name}-counts`,
    alerts: `${name}-alerts`,
    commands: `${name}-alert-commands`,
    groups: { indexer: `${name}-indexer`, counter: `${name}-counter`, alerter: `${name}-alerter` },
  };
}

/** Removes what the demo created on a Kafka of somebody else; says what it could not. */
export async function removeNames(broker: string, names: DemoNames, say: (line: string) => void): Promise<void> {
  const kafka = new kafkajs.Kafka({ clientId: 'logpipe-demo', brokers: [broker], logLevel: kafkajs.logLevel.NOTHING });
  const admin = kafka.admin();
  const topics = [names.logs, names.dlq, names.counts, names.alerts, names.commands];
  try {
    await admin.connect();
    await admin.deleteTopics({ topics });
    await admin.deleteGroups(Object.values(names.groups));
    say(`Removed topics ${topics.join(', ')}; the documents stay in Elasticsearch`);
  } catch (error) {
    say(`Topics ${topics.join(', ')} could not be removed (${errorText(error)}): remove them by hand`);
  } finally {
    await admin.disconnect().catch(() => undefined);
  }
}
