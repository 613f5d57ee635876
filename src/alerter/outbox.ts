// One term, from decision to delivery. In: observations, and the results of channels. Out: commits, and what was committed,
// handed to the senders. Guarantee: nothing is sent that is not durable, and no decision rests on what is not; a result is
// recorded before the next message of its incident goes; results survive the term, so that the next term does not send again what
// was sent.
import type { Clock } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import type { AlertMachine, Plan, StepInput } from '../incidents/machine.ts';
import type { Decision } from '../incidents/notices.ts';
import type { SendResult } from '../incidents/notification.ts';
import { type HistoryEntry, isHistory, isMessage, type MessageEntry, type OutboxResult } from '../incidents/records.ts';
import { type AlertStore, LostTermError } from './store.ts';

/** What the outbox needs of the dispatcher. */
interface MessageSender {
  add(entries: readonly MessageEntry[]): void;
  forget(ids: Iterable<string>): void;
}

/** What it needs of the history's sender. */
interface DocumentSender {
  add(entries: readonly HistoryEntry[]): void;
  forget(ids: Iterable<string>): void;
}

interface OutboxOptions {
  /**
   * A term that was confirmed this recently need not be confirmed again before a message is sent. Default 3 s: less than the session
   * timeout, so that nobody else can lead yet.
   */
  readonly confirmWithinMs?: number;
  /** Results are committed within this time. Default 100 ms. */
  readonly settleWithinMs?: number;
}

interface OutboxDeps {
  readonly machine: AlertMachine;
  readonly store: AlertStore;
  /** Results, by entry, that no commit has taken yet; the same map for every term of this process. */
  readonly results: Map<string, OutboxResult>;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** The term is over: release it, and open the store again if this instance still leads. Called once. */
  readonly onLost: (error: LostTermError) => void;
}

export interface Outbox {
  /** Hands over what already waits. Call it once, before the first step. */
  start(messages: MessageSender, history: DocumentSender | undefined): void;
  /**
   * Decides, commits, accepts, hands over. One at a time; calls wait for their turn.
   * @throws as AlertStore.commit; nothing was decided then
   */
  step(input: Omit<StepInput, 'results'>): Promise<Plan>;
  /** For the dispatcher: false when the term is lost; rejects when that is unknown. */
  mayISend(): Promise<boolean>;
  /** For the dispatcher: resolves when the result is durable, or when the term is over and the next one will settle it. */
  onResult(id: string, result: SendResult, retry: OutboxResult['retry']): Promise<void>;
  /** For the history's sender. */
  onResults(results: readonly OutboxResult[]): Promise<void>;
  /** Takes no further step; resolves when the last one is done. */
  stop(): Promise<void>;
}

export function createOutbox(options: OutboxOptions, deps: OutboxDeps): Outbox {
  const { confirmWithinMs = 3_000, settleWithinMs = 100 } = options;
  const { machine, store, results, clock, log, metrics } = deps;
  let messages: MessageSender | undefined;
  let history: DocumentSender | undefined;
  let lost: LostTermError | undefined;
  let stopped = false;
  let evalMs: number | undefined;
  /** As the last evaluation knew it: what is decided between two of them goes by the same clock. */
  let skippedMs: StepInput['skippedMs'];
  let suppressed = false;
  let tail: Promise<unknown> = Promise.resolve();
  let cancelSettling: (() => void) | undefined;
  /** Those who wait for a result to be durable. */
  const waiters = new Map<string, (() => void)[]>();

  function lose(error: LostTermError): void {
    if (lost !== undefined) return;
    lost = error;
    release([...waiters.keys()]);
    deps.onLost(error);
  }

  function release(ids: Iterable<string>): void {
    for (const id of ids) {
      for (const resolve of waiters.get(id) ?? []) resolve();
      waiters.delete(id);
    }
  }

  async function take(input: Omit<StepInput, 'results'>): Promise<Plan> {
    if (lost !== undefined) throw lost;
    if (stopped) throw new Error('the outbox is stopped');
    evalMs = input.evalMs;
    skippedMs = input.skippedMs ?? skippedMs;
    const settled = [...results.values()];
    const plan = machine.step({ ...input, results: settled });
    try {
      await store.commit(plan.changes);
    } catch (error) {
      if (error instanceof LostTermError) lose(error);
      throw error;
    }
    machine.accept(plan);
    // A newer result for the same entry may have come meanwhile.
    for (const result of settled) if (results.get(result.id) === result) results.delete(result.id);
    release(settled.map(({ id }) => id));
    handOver(plan);
    return plan;
  }

  function handOver(plan: Plan): void {
    for (const decision of plan.decisions) say(decision, log);
    for (const { notification } of plan.decisions) metrics.alertMessages.inc({ reason: notification.reason });
    for (const { channel } of plan.dropped) metrics.outboxDropped.inc({ channel });
    if (plan.dropped.length > 0) {
      const channels = [...new Set(plan.dropped.map(({ channel }) => channel))];
      log.error('Messages were given up: their channel has taken none for too long', {
        count: plan.dropped.length,
        channels,
      });
    }
    if (plan.suppressed > 0 && !suppressed) {
      log.warn('More label sets are over a threshold than a rule may have alerts', { suppressed: plan.suppressed });
    }
    suppressed = plan.suppressed > 0;
    // Entries that were given up or need not be sent any more; those that were sent are forgotten already.
    const dropped = plan.changes.flatMap(({ key, value }) =>
      value === null && key.startsWith('outbox/') ? [key.slice('outbox/'.length)] : [],
    );
    messages?.forget(dropped);
    history?.forget(dropped);
    messages?.add(plan.enqueued.filter(isMessage));
    history?.add(plan.enqueued.filter(isHistory));
  }

  function step(input: Omit<StepInput, 'results'>): Promise<Plan> {
    const mine = tail.then(() => take(input));
    tail = mine.catch(() => {});
    return mine;
  }

  /** Results do not wait for the next evaluation, which may be a while off. */
  function settleSoon(): void {
    if (stopped || lost !== undefined || cancelSettling !== undefined) return;
    cancelSettling = clock.after(settleWithinMs, async () => {
      cancelSettling = undefined;
      if (results.size === 0) return;
      const wallMs = clock.now();
      try {
        await step({ evalMs: evalMs ?? wallMs, wallMs, ...(skippedMs === undefined ? {} : { skippedMs }) });
      } catch (error) {
        if (error instanceof LostTermError || stopped) return;
        log.warn('What became of messages could not be written; trying again', { error: errorText(error) });
        settleSoon();
      }
    });
  }

  function durable(id: string): Promise<void> {
    if (lost !== undefined || stopped) return Promise.resolve();
    return new Promise((resolve) => {
      waiters.set(id, [...(waiters.get(id) ?? []), resolve]);
    });
  }

  return {
    start(toChannels, toHistory) {
      messages = toChannels;
      history = toHistory;
      const waiting = machine.waiting().filter(({ id }) => {
        const known = results.get(id);
        // Those with a final result were sent by this process in an earlier term, which could not record it.
        return known === undefined || known.retry !== undefined;
      });
      messages.add(waiting.filter(isMessage));
      history?.add(waiting.filter(isHistory));
      if (results.size > 0) settleSoon();
    },
    step,
    async mayISend() {
      if (lost !== undefined || stopped) return false;
      try {
        await store.confirm(confirmWithinMs);
        return true;
      } catch (error) {
        if (!(error instanceof LostTermError)) throw error;
        lose(error);
        return false;
      }
    },
    async onResult(id, result, retry) {
      results.set(id, { id, result, retry });
      settleSoon();
      if (retry === undefined) await durable(id);
    },
    async onResults(all) {
      for (const result of all) results.set(result.id, result);
      settleSoon();
      await Promise.all(all.map(({ id }) => durable(id)));
    },
    async stop() {
      stopped = true;
      cancelSettling?.();
      await tail;
      release([...waiters.keys()]);
    },
  };
}

/** As the operators' guide asks: every alert is logged, whatever becomes of its messages. */
function say({ notification, channels }: Decision, log: Log): void {
  const { action, severity, title, message, metadata, incidentId, reason } = notification;
  // Nested, because a logger would append a second `message` to its own.
  const said = { alert: { title, message, metadata }, incidentId, reason, channels };
  if (action === 'resolve') log.info('ALERT RESOLVED', said);
  else if (action === 'acknowledge') log.info('ALERT ACKNOWLEDGED', said);
  else if (severity === 'critical') log.error('CRITICAL ALERT', said);
  else if (severity === 'warning') log.warn('WARNING ALERT', said);
  else log.info('INFO ALERT', said);
}
