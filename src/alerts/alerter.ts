// The alerter on Kafka: who holds the alert state evaluates, decides and notifies; everybody else stands by. In: membership,
// the counts topic, the alerts topic. Out: one hold after the other.
// Guarantee: one hold at a time in this process, begun only after the former holder was fenced off; Kafka gone for long is
// told directly, because nothing else can be.
import type { Kafka } from 'kafkajs';
import { type Clock, sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { Rules } from '../rules/rule-config.ts';
import type { KafkaConfig } from '../source/kafka-client.ts';
import { backoffMs } from '../source/kafka-failures.ts';
import { settleable } from '../source/settleable.ts';
import type { BlindWatch } from './blind-watch.ts';
import { type CommandReader, followTopic } from './commands-given.ts';
import { type CountsReader, followCounts } from './counts-reader.ts';
import { countsFrom } from './evaluation.ts';
import type { Hold, HoldDeps } from './hold.ts';
import { createHolder } from './holder.ts';
import type { AlertStore } from './store.ts';
import { createKafkaStores } from './store-kafka.ts';

/** Heartbeats per session timeout. */
const BEATS = 6;
const LOOK_MS = 1_000;
const RELEASE_MS = 5_000;

export interface Alerter {
  start(): void;
  /** Rejects when the membership cannot be kept for a reason that does not pass. */
  readonly ended: Promise<void>;
  /** The present hold, when it has begun to evaluate. */
  hold(): Hold | undefined;
  /** Of every hold from now on. @returns as Hold.changeRules */
  changeRules(rules: Rules): string | undefined;
  status(): { readonly ready: boolean; readonly detail: string };
  /** False when something under way could not be recorded in time; the next holder settles it. */
  stop(timeoutMs: number): Promise<boolean>;
}

export interface AlerterDeps {
  /** A client per consumer and producer: kafkajs keeps state in them. */
  readonly createKafka: () => Kafka;
  readonly begin: (coveredFromMs: number, deps: Pick<HoldDeps, 'store' | 'results' | 'onLost' | 'onTick'>) => Hold;
  /** The hold evaluates: probes may run. The returned function ends them. */
  readonly onHold: (hold: Hold) => () => Promise<void>;
  readonly blind: BlindWatch;
  /** How far back the rules look, as they are now. */
  readonly reachMs: () => number;
  readonly sessionTimeoutMs: number;
  readonly onTick: () => void;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

export function createAlerter(kafka: KafkaConfig, deps: AlerterDeps): Alerter {
  const { clock, log, blind } = deps;
  const { counts, alerts } = kafka.topics;
  const results: HoldDeps['results'] = new Map();
  const stopping = new AbortController();
  let detail = 'not started';
  let current: { readonly hold: Hold; release(timeoutMs: number): Promise<boolean> } | undefined;
  let evaluating: Hold | undefined;
  let standby = false;
  let holding: Promise<void> = Promise.resolve();
  let cancelLook = () => {};

  const holder = createHolder(
    {
      brokers: kafka.brokers,
      group: kafka.alerterGroup,
      topic: counts,
      requestTimeoutMs: kafka.requestTimeoutMs,
      sessionTimeoutMs: deps.sessionTimeoutMs,
      heartbeatMs: Math.floor(deps.sessionTimeoutMs / BEATS),
    },
    {
      onHolding(epoch) {
        blind.standBy(false);
        standby = false;
        detail = 'taking over';
        holding = holding.then(() => keep(epoch));
      },
      onLost(_epoch, why) {
        detail = why;
        standby = false;
        const mine = current;
        // At once, for the take-over may be what it waits for; the next hold begins behind it.
        if (mine !== undefined) holding = Promise.all([holding, mine.release(RELEASE_MS)]).then(() => {});
      },
      onStandby() {
        detail = 'standing by: another instance decides';
        if (!standby) log.info('standing by: another instance decides about alerts', { group: kafka.alerterGroup });
        blind.standBy(true);
        standby = true;
      },
      onMember: () => blind.alive(),
    },
    { kafka: deps.createKafka(), clock, log, metrics: deps.metrics },
  );
  const stores = createKafkaStores(
    { config: kafka, topic: alerts, transactionalId: `${kafka.alerterGroup}-${alerts}` },
    { kafka: deps.createKafka(), clock, log, mayTakeOver: () => holder.assured() },
  );

  /** Opens the store until it is open or somebody else's turn; a lost store of a hold that goes on is opened again. */
  async function keep(epoch: number): Promise<void> {
    for (let failures = 0; holder.holding() === epoch && !stopping.signal.aborted; ) {
      try {
        await begin(await stores.open(), epoch);
        return;
      } catch (error) {
        failures += 1;
        if (failures === 1) log.warn('the alert state cannot be read; trying again', { error: errorText(error) });
        detail = `the alert state cannot be read: ${errorText(error)}`;
        await sleep(backoffMs(failures), stopping.signal);
      }
    }
  }

  async function begin(store: AlertStore, epoch: number): Promise<void> {
    const coveredFromMs = countsFrom(clock.now(), deps.reachMs(), store.initial);
    let reader: CountsReader | undefined;
    let endProbes = async () => {};
    let commands: CommandReader | undefined;
    let released: Promise<boolean> | undefined;
    const gone = settleable();
    const hold = deps.begin(coveredFromMs, {
      store,
      results,
      onTick: deps.onTick,
      onLost() {
        void release(RELEASE_MS).then(() => {
          if (holder.holding() === epoch) holding = holding.then(() => keep(epoch));
        });
      },
    });

    async function end(timeoutMs: number): Promise<boolean> {
      if (current?.hold === hold) current = undefined;
      if (evaluating === hold) evaluating = undefined;
      await endProbes();
      await commands?.close();
      const drained = await hold.stop(timeoutMs);
      await reader?.close();
      await store.close();
      return drained;
    }
    const release = (timeoutMs: number) => {
      gone.resolve();
      released ??= end(timeoutMs);
      return released;
    };

    current = { hold, release };
    const startedMs = clock.now();
    reader = followCounts(
      { kafka, fromMs: coveredFromMs },
      {
        clock,
        log,
        onMessage(message, recordMs) {
          blind.alive();
          hold.counts(message, recordMs);
        },
      },
    );
    await Promise.race([reader.caughtUp, gone.promise]);
    if (released !== undefined) return;
    log.info('alerts are evaluated here', { rebuiltMs: clock.now() - startedMs });
    detail = 'evaluating';
    evaluating = hold;
    endProbes = deps.onHold(hold);
    hold.start();
    const { commands: topic } = kafka.topics;
    if (topic !== undefined) commands = followTopic(kafka, topic, { clock, log, onCommand: hold.command });
  }

  function look(): void {
    blind.look();
    cancelLook = clock.after(LOOK_MS, look);
  }

  return {
    start() {
      holder.start();
      look();
    },
    ended: holder.ended,
    hold: () => evaluating,
    // One that has not begun to evaluate has its records already.
    changeRules: (rules) => current?.hold.changeRules(rules),
    status: () => ({ ready: evaluating !== undefined || standby, detail }),
    async stop(timeoutMs) {
      stopping.abort();
      cancelLook();
      const drained = await (current?.release(timeoutMs) ?? true);
      await holder.close();
      await holding.catch(() => {});
      await stores.close();
      return drained;
    },
  };
}
