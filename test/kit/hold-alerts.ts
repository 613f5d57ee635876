// A process that takes over the alert state whenever it leads, and commits: `hold-alerts.js <json>` with { config, counts,
// alerts, transactionalId, key, sessionTimeoutMs }. Prints one line per event. For tests that stop or kill it.

import { createThreadedLeadership } from '../../src/alerter/leadership.ts';
import { type AlertStore, LostTermError } from '../../src/alerter/store.ts';
import { createKafkaStores } from '../../src/alerter/store-kafka.ts';
import { systemClock as clock, sleep } from '../../src/core/clock.ts';
import { errorText } from '../../src/core/errors.ts';
import { silentLog as log } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { createKafka, type KafkaConfig } from '../../src/source/kafka/client.ts';

export interface HoldAlertsOptions {
  readonly config: KafkaConfig;
  readonly counts: string;
  readonly alerts: string;
  readonly transactionalId: string;
  readonly key: string;
  readonly sessionTimeoutMs: number;
}

const options = JSON.parse(process.argv[2] ?? '{}') as HoldAlertsOptions;
const { config, key } = options;
const say = (line: string) => process.stdout.write(`${line}\n`);

const leadership = createThreadedLeadership(
  {
    kafka: config,
    brokers: config.brokers,
    group: config.alerterGroup,
    topic: options.counts,
    requestTimeoutMs: config.requestTimeoutMs,
    sessionTimeoutMs: options.sessionTimeoutMs,
    heartbeatMs: 300,
  },
  {
    onTerm(epoch) {
      say(`holding ${epoch}`);
      void keep(epoch);
    },
    onLost: (epoch, why) => say(`lost ${epoch} ${why}`),
    onStandby: () => say('standby'),
  },
  { clock, log, metrics: createMetrics() },
);
const stores = createKafkaStores(
  { config, topic: options.alerts, transactionalId: options.transactionalId },
  { kafka: createKafka(config, log), clock, log, mayTakeOver: () => leadership.assured() },
);

async function keep(epoch: number): Promise<void> {
  while (leadership.epoch() === epoch) {
    let store: AlertStore;
    try {
      store = await stores.open();
    } catch (error) {
      say(`not opened: ${errorText(error)}`);
      await sleep(100);
      continue;
    }
    say(`opened with ${store.initial.size}`);
    try {
      for (let n = 1; ; n++) {
        await store.commit([{ key: `${key}/${n % 10}`, value: { n } }]);
        say(`committed ${n}`);
        await sleep(50);
      }
    } catch (error) {
      say(`refused: ${error instanceof LostTermError ? error.why : errorText(error)}`);
    }
  }
}

leadership.start();
