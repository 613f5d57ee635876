// Topic and group names of one demo. On a Kafka of its own they are the usual ones; on somebody else's they are unique,
// and removed at the end.
import { randomBytes } from 'node:crypto';
import kafkajs from 'kafkajs';
import { errorText } from '../../src/core/errors.ts';

export interface DemoNames {
  logs: string;
  dlq: string;
  group: string;
}

export function demoNames(outside: boolean): DemoNames {
  if (!outside) {
    const logs = 'calling-platform-logs';
    return { logs, dlq: `${logs}.dlq`, group: 'calling-platform-indexer' };
  }
  const name = `logpipe-demo-${randomBytes(4).toString('hex')}`;
  return { logs: `${name}-logs`, dlq: `${name}-logs.dlq`, group: `${name}-indexer` };
}

/** Removes what the demo created on a Kafka of somebody else; says what it could not. */
export async function removeNames(broker: string, names: DemoNames, say: (line: string) => void): Promise<void> {
  const kafka = new kafkajs.Kafka({ clientId: 'logpipe-demo', brokers: [broker], logLevel: kafkajs.logLevel.NOTHING });
  const admin = kafka.admin();
  try {
    await admin.connect();
    await admin.deleteTopics({ topics: [names.logs, names.dlq] });
    await admin.deleteGroups([names.group]);
    say(`Removed topics ${names.logs} and ${names.dlq}; the documents stay in Elasticsearch`);
  } catch (error) {
    say(`Topics ${names.logs} and ${names.dlq} could not be removed (${errorText(error)}): remove them by hand`);
  } finally {
    await admin.disconnect().catch(() => undefined);
  }
}
