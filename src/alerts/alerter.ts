// The alerter on Kafka: who holds the alert state evaluates, decides and notifies; everybody else stands by. In: membership,
// the counts topic, the alerts topic. Out: one hold after the other.
// Guarantee: one hold at a time in this process, begun only after the former holder was fenced off; who stands by follows the
// counts as who decides does, so that a take-over need not read them again; Kafka gone for long is told directly, because nothing
// else can be.
import { type Clock, SET_BACK_MS, sleep } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { HourRecord } from '../rules/hourly.ts';
import type { Rules } from '../rules/rule-config.ts';
import { backoffMs, isWorthSaying } from '../source/kafka-failures.ts';
import { settleable } from '../source/settleable.ts';
import type { BlindWatch } from './blind-watch.ts';
import { createBrokersClock } from './brokers-clock.ts';
import type { CommandReader } from './commands-given.ts';
import type { CountedWindows } from './counted-windows.ts';
import type { CountsReader, followCounts } from './counts-reader.ts';
import { countsFrom, hoursOf } from './evaluation.ts';
import type { Hold, HoldDeps } from './hold.ts';
import type { Holder, HolderHooks } from './holder.ts';
import type { AlertStore, StateKey } from './store.ts';
import type { KafkaStores } from './store-kafka.ts';

const LOOK_MS = 1_000;
/** Two heartbeats missed, and some patience for a busy process. */
const SILENT_MS = 10_000;
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
  /** Why alerts cannot be decided although it is this instance's turn; undefined when they can, or it is not. */
  trouble(): string | undefined;
  /** False when something under way could not be recorded in time; the next holder settles it. */
  stop(timeoutMs: number): Promise<boolean>;
}

export interface AlerterDeps {
  readonly createHolder: (hooks: HolderHooks) => Holder;
  readonly createStores: (mayTakeOver: () => Promise<void>) => KafkaStores;
  readonly follow: (fromMs: number, own: Pick<Parameters<typeof followCounts>[1], 'now' | 'onMessage'>) => CountsReader;
  /** Undefined where there is no way to give commands. */
  readonly followCommands: (onCommand: Hold['command']) => CommandReader | undefined;
  readonly createWindows: (coveredFromMs: number, hours: readonly HourRecord[]) => CountedWindows;
  readonly begin: (deps: Pick<HoldDeps, 'windows' | 'store' | 'results' | 'onLost' | 'onTick'>) => Hold;
  /** The hold evaluates: probes may run. The returned function ends them. */
  readonly onHold: (hold: Hold) => () => Promise<void>;
  readonly blind: Pick<BlindWatch, 'alive' | 'leads' | 'look' | 'silentMs'>;
  /** How far back the rules look, as they are now. */
  readonly reachMs: () => number;
  readonly onTick: HoldDeps['onTick'];
  readonly clock: Clock;
  readonly log: Log;
}

/** What was counted, followed whoever decides. */
interface Warm {
  readonly windows: CountedWindows;
  readonly reader: CountsReader;
  /** The time it was when it began, less the monotonic clock. */
  readonly assumedMs: number;
}

export function createAlerter(options: { readonly group: string }, deps: AlerterDeps): Alerter {
  const { group } = options;
  const { clock, log, blind } = deps;
  const results: HoldDeps['results'] = new Map();
  const stopping = new AbortController();
  let detail = 'not started';
  let current: { readonly hold: Hold; release(timeoutMs: number): Promise<boolean> } | undefined;
  let evaluating: Hold | undefined;
  let warm: Warm | undefined;
  let standby = false;
  let trouble: string | undefined;
  let holding: Promise<void> = Promise.resolve();
  let cancelLook = () => {};

  const holder = deps.createHolder({
    onHolding(epoch) {
      blind.leads(true);
      standby = false;
      detail = 'taking over';
      holding = holding.then(() => keep(epoch));
    },
    onLost(_epoch, why) {
      detail = why;
      standby = false;
      trouble = undefined;
      const mine = current;
      // At once, for the take-over may be what it waits for; the next hold begins behind it.
      if (mine !== undefined) holding = Promise.all([holding, mine.release(RELEASE_MS)]).then(() => {});
    },
    onStandby() {
      detail = 'standing by: another instance decides';
      if (!standby) log.info('standing by: another instance decides about alerts', { group });
      blind.leads(false);
      standby = true;
    },
    onMember: () => blind.alive(),
    onAway(why) {
      detail = `waiting for Kafka: ${why}`;
      standby = false;
    },
  });
  const stores = deps.createStores(() => holder.assured());

  /** Opens the store until it is open or somebody else's turn; a lost store of a hold that goes on is opened again. */
  async function keep(epoch: number): Promise<void> {
    for (let failures = 0; holder.holding() === epoch && !stopping.signal.aborted; ) {
      try {
        const store = await stores.open();
        // Lost meanwhile: whoever has it now has fenced this store off, and a second hold must not begin beside its own.
        if (holder.holding() !== epoch || stopping.signal.aborted) return await store.close();
        trouble = undefined;
        await begin(store, epoch);
        return;
      } catch (error) {
        failures += 1;
        const text = errorText(error);
        if (isWorthSaying(failures))
          log.warn('the alert state cannot be read; trying again', { error: text, failures });
        if (holder.holding() === epoch) trouble = `the alert state cannot be read: ${text}`;
        detail = trouble ?? detail;
        await sleep(backoffMs(failures), stopping.signal);
      }
    }
  }

  /** From now on counts are read, and go to the hold where there is one. */
  function warmUp(nowMs: number, records: ReadonlyMap<StateKey, object>): Warm {
    const coveredFromMs = countsFrom(nowMs, deps.reachMs(), records);
    const windows = deps.createWindows(coveredFromMs, hoursOf(records));
    const brokersClock = createBrokersClock(clock);
    const reader = deps.follow(coveredFromMs, {
      now: () => current?.hold.now() ?? nowMs + clock.monotonicMs() - startedMs,
      onMessage(message, recordMs, live) {
        blind.alive();
        const isSetBack = live && brokersClock.saw(recordMs);
        if (current !== undefined) return current.hold.counts(message, recordMs, live);
        if (isSetBack) windows.setBack(recordMs);
        windows.counts(message, recordMs);
      },
    });
    const startedMs = clock.monotonicMs();
    return { windows, reader, assumedMs: nowMs - startedMs };
  }

  /** Standing by, so that a take-over has little left to read. */
  async function standBy(): Promise<void> {
    const records = await stores.known;
    if (!stopping.signal.aborted) warm ??= warmUp(clock.now(), records);
  }

  async function begin(store: AlertStore, epoch: number): Promise<void> {
    const nowMs = createBrokersClock(clock, store.dated).now();
    // This host's clock was ahead of the brokers' by that much: what it should have read is missing.
    const former = warm;
    if (former === undefined || former.assumedMs - (nowMs - clock.monotonicMs()) > SET_BACK_MS) {
      warm = warmUp(nowMs, store.initial);
      await former?.reader.close();
    }
    const { windows, reader } = warm!;
    let endProbes = async () => {};
    let commands: CommandReader | undefined;
    let released: Promise<boolean> | undefined;
    const gone = settleable();
    const hold = deps.begin({
      windows,
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
      await store.close();
      return drained;
    }
    const release = (timeoutMs: number) => {
      gone.resolve();
      released ??= end(timeoutMs);
      return released;
    };

    current = { hold, release };
    const startedMs = clock.monotonicMs();
    await Promise.race([reader.caughtUp(), gone.promise]);
    if (released !== undefined) return;
    log.info('alerts are evaluated here', { caughtUpMs: Math.round(clock.monotonicMs() - startedMs) });
    detail = 'evaluating';
    evaluating = hold;
    endProbes = deps.onHold(hold);
    hold.start();
    commands = deps.followCommands(hold.command);
  }

  function look(): void {
    blind.look();
    cancelLook = clock.after(LOOK_MS, look);
  }

  return {
    start() {
      holder.start();
      void standBy();
      look();
    },
    ended: holder.ended,
    hold: () => evaluating,
    // One that has not begun to evaluate has its records already.
    changeRules: (rules) =>
      current === undefined ? warm?.windows.changeRules(rules) : current.hold.changeRules(rules),
    trouble: () => trouble ?? evaluating?.trouble(),
    status() {
      const silentMs = blind.silentMs();
      if (silentMs > SILENT_MS) {
        return { ready: false, detail: `Kafka has not answered for ${Math.round(silentMs / 1_000)} s (${detail})` };
      }
      const why = trouble ?? evaluating?.trouble();
      if (why !== undefined) return { ready: false, detail: why };
      return { ready: evaluating !== undefined || standby, detail };
    },
    async stop(timeoutMs) {
      stopping.abort();
      cancelLook();
      const drained = await (current?.release(timeoutMs) ?? true);
      await holder.close();
      await holding.catch(() => {});
      await warm?.reader.close();
      await stores.close();
      return drained;
    },
  };
}
