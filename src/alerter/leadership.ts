// Who leads, and so decides. In: membership in the alerter's group, on one partition of a topic. Out: whether this instance is the
// member that leads. Guarantee: none about the others, because a member that was stopped still believes that it leads; the store's
// fence decides who writes. `assured` keeps a member that slept from fencing off its successor. Below, the same membership as it is
// kept in a thread of its own (leader-thread.ts): createLeadership is what runs in there, createThreadedLeadership what asks it from here.
import { Worker } from 'node:worker_threads';
import type { Assigner, GroupMember, Kafka, PartitionAssigner } from 'kafkajs';
import kafkajs from 'kafkajs';
import { type Clock, certainAgeMs, type Deferred, deferred, endsWithin, type Moment, momentOf } from '../core/clock.ts';
import { type ErrorCode, errorText, LogpipeError } from '../core/errors.ts';
import type { Log, LogLevel } from '../core/log.ts';
import type { KafkaConfig } from '../source/kafka/client.ts';
import {
  createSupervisor,
  HEALTHY_MS,
  type KafkaSession,
  openKafkaSession,
  type RestartMetrics,
} from '../source/kafka/session.ts';
import { LostTermError } from './store.ts';

const PARTITION = 0;

export interface LeadershipOptions {
  readonly brokers: readonly string[];
  readonly group: string;
  /** Whoever has its first partition leads; nothing is read from it. */
  readonly topic: string;
  readonly requestTimeoutMs: number;
  /** How long the group waits for a leader that fell silent. Default 10 s. */
  readonly sessionTimeoutMs?: number;
  /** How soon a member that stands by notices that it has to take over. Default 1 s. */
  readonly heartbeatMs?: number;
  /** After this many crashes in a row, `ended` rejects. Default 8. */
  readonly giveUpAfter?: number;
}

export interface LeadershipHooks {
  /** This member leads now; `epoch` counts its terms. */
  onTerm(epoch: number): void;
  /** It no longer does: another member leads, or the membership ended. */
  onLost(epoch: number, why: string): void;
  /** This member does not lead: somebody else does. */
  onStandby?(): void;
  /** The group has answered. */
  onMember?(): void;
  /** The membership ended, or never began: Kafka is away or refuses it. It is tried again. */
  onAway?(why: string): void;
}

export interface Leadership {
  start(): void;
  /** Resolves after `close`; rejects with LOGPIPE_KAFKA_FAILED when the membership cannot be kept. */
  readonly ended: Promise<void>;
  epoch(): number | undefined;
  /**
   * Resolves when the group is known to have seen this member so recently that nobody else can lead; waits for the group's answer
   * if need be.
   * @throws LostTermError when it does not lead, or loses the term meanwhile
   */
  assured(): Promise<void>;
  close(): Promise<void>;
}

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID when heartbeats would be too far apart for the session timeout */
export function createLeadership(
  options: LeadershipOptions,
  hooks: LeadershipHooks,
  deps: { readonly kafka: Kafka; readonly clock: Clock; readonly log: Log; readonly metrics: RestartMetrics },
): Leadership {
  const { topic, group, brokers, sessionTimeoutMs = 10_000, heartbeatMs = 1_000, giveUpAfter = 8 } = options;
  const { kafka, clock, log, metrics } = deps;
  if (heartbeatMs * 2 > sessionTimeoutMs) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_INVALID',
      `the alerter's heartbeats (${heartbeatMs} ms) are more than half of its session timeout (${sessionTimeoutMs} ms) apart`,
    );
  }
  let session: KafkaSession | undefined;
  let epochs = 0;
  let epoch: number | undefined;
  let ledSinceMs: number | undefined;
  /** When the last answered question was asked. */
  let member: Moment | undefined;
  const waiters = new Set<{ readonly fromMs: number; readonly done: Deferred }>();
  const ended = deferred();

  function lose(why: string): void {
    if (epoch === undefined) return;
    const lost = epoch;
    epoch = undefined;
    ledSinceMs = undefined;
    for (const { done } of waiters) done.reject(new LostTermError());
    waiters.clear();
    log.info('no longer the alerter', { group, epoch: lost, why });
    hooks.onLost(lost, why);
  }

  function onMember(asked: Moment): void {
    member = asked;
    hooks.onMember?.();
    for (const waiter of waiters) {
      // An answer to a question from before the wait may be too old.
      if (asked.monotonicMs < waiter.fromMs || certainAgeMs(clock, asked) >= sessionTimeoutMs) continue;
      waiters.delete(waiter);
      waiter.done.resolve();
    }
  }

  function onJoin(mine: KafkaSession, partitions: readonly number[]): void {
    // Nothing is read: only the membership is wanted.
    mine.pause(partitions);
    supervisor.reading();
    if (!partitions.includes(PARTITION)) {
      lose('another member leads');
      hooks.onStandby?.();
      return;
    }
    // When it is kept over a rebalance, the term goes on; if somebody else led in between, the fence shows it.
    if (epoch !== undefined) return;
    epoch = ++epochs;
    ledSinceMs = clock.now();
    log.info('this instance is the alerter', { group, epoch });
    hooks.onTerm(epoch);
  }

  const supervisor = createSupervisor(
    { topic, brokers, giveUpAfter },
    {
      open() {
        const mine: KafkaSession = openKafkaSession(
          {
            topic,
            group,
            sessionTimeoutMs,
            heartbeatMs,
            maxWaitMs: Math.min(250, heartbeatMs),
            fetchMaxBytes: 65_536,
            fetchMaxBytesPerPartition: 65_536,
            stallMs: HEALTHY_MS + options.requestTimeoutMs,
            assigner: createLeaderAssigner(() => ledSinceMs),
          },
          {
            onJoin: (partitions) => onJoin(mine, partitions),
            onRebalancing() {},
            // Fetched before the pause, and ignored.
            onBatch: async () => {},
            onEmptyBatch() {},
            onFetch() {},
            onMember,
          },
          { kafka, clock },
        );
        session = mine;
        return mine;
      },
      onEnd(error, why) {
        session = undefined;
        lose(why);
        if (error !== undefined) hooks.onAway?.(why);
      },
      onRestarted() {},
    },
    { log, metrics, clock },
  );

  return {
    start() {
      supervisor.run().then(ended.resolve, ended.reject);
    },
    ended: ended.promise,
    epoch: () => epoch,
    async assured() {
      if (epoch === undefined) throw new LostTermError();
      if (member !== undefined && certainAgeMs(clock, member) < sessionTimeoutMs / 2) return;
      const done = deferred();
      waiters.add({ fromMs: clock.monotonicMs(), done });
      await done.promise;
    },
    async close() {
      supervisor.stop();
      const last = session;
      lose('closed');
      await last?.close();
    },
  };
}

// ---- which member gets the partition that makes it the leader ----
// A member that joins does not take the lead from the present leader; of two that believe they lead, the one that began later is
// right, because it took the lead from the other.

const NAME = 'LogpipeHolderAssigner';
const VERSION = 1;

/** @param ledSinceMs when this member became the leader; undefined while it is not */
export function createLeaderAssigner(ledSinceMs: () => number | undefined): PartitionAssigner {
  const { MemberMetadata, MemberAssignment } = kafkajs.AssignerProtocol;

  return (): Assigner => ({
    name: NAME,
    version: VERSION,
    async assign({ members, topics }) {
      const chosen = chooseLeader(members);
      return members.map(({ memberId }) => ({
        memberId,
        memberAssignment: MemberAssignment.encode({
          version: VERSION,
          assignment: memberId === chosen ? Object.fromEntries(topics.map((topic) => [topic, [PARTITION]])) : {},
          userData: Buffer.alloc(0),
        }),
      }));
    },
    protocol({ topics }) {
      const userData = Buffer.from(String(ledSinceMs() ?? ''));
      return { name: NAME, metadata: MemberMetadata.encode({ version: VERSION, topics, userData }) };
    },
  });
}

/** The member that became the leader last; without one, the first by name. */
export function chooseLeader(members: readonly GroupMember[]): string | undefined {
  const sorted = members
    .map(({ memberId, memberMetadata }) => ({ memberId, sinceMs: ledSince(memberMetadata) }))
    .sort((one, other) => other.sinceMs - one.sinceMs || (one.memberId < other.memberId ? -1 : 1));
  return sorted[0]?.memberId;
}

function ledSince(metadata: Buffer): number {
  const text = kafkajs.AssignerProtocol.MemberMetadata.decode(metadata)?.userData?.toString() ?? '';
  return text === '' ? 0 : Number(text) || 0;
}

// ---- the same, kept in a thread of its own: heartbeats go on while this thread catches up on a busy machine ----
// `assured` is answered by the thread, and an answer that took long, because of a busy spell, a stop or a step of the clock, does not
// count: the question is asked again. Whatever the thread reported before its answer is known before the answer. A thread that dies ends
// the term and rejects `ended`; one that hangs does not keep `close` from ending.
//
// Between two messages this thread may believe that it leads when it no longer does, as any member may: the store's fence decides
// who writes. A main thread that hangs for good must not lead for good: without its signs of life the thread leaves the group.

export interface LeaderThreadData {
  readonly kafka: KafkaConfig;
  readonly leadership: LeadershipOptions;
  readonly hungAfterMs: number;
}

export type ToLeaderThread =
  | { readonly type: 'alive' }
  | { readonly type: 'assured'; readonly question: number }
  | { readonly type: 'close' };

export type FromLeaderThread =
  | { readonly type: 'term'; readonly epoch: number }
  | { readonly type: 'lost'; readonly epoch: number; readonly why: string }
  | { readonly type: 'standby' }
  | { readonly type: 'member' }
  | { readonly type: 'away'; readonly why: string }
  | { readonly type: 'answer'; readonly question: number; readonly assured: boolean }
  | { readonly type: 'restarted' }
  | {
      readonly type: 'log';
      readonly level: LogLevel;
      readonly message: string;
      readonly meta?: Record<string, unknown>;
    }
  /** In parts, because an error loses its own properties between threads, and its cause may not be sendable at all. */
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string; readonly cause?: Error }
  | { readonly type: 'closed' };

/** Longer than the membership needs to end (source/kafka/session.ts). */
const CLOSE_MS = 12_000;
const TERMINATE_MS = 2_000;
/** How many signs of life are sent in the time after which this thread counts as hung. */
const BEATS = 12;
/** kafkajs needs some 10 MB of heap; the first fetch brings at most 16 MiB, unpacked outside of the heap. */
const LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 };

interface ThreadedLeadershipOptions extends LeadershipOptions {
  readonly kafka: KafkaConfig;
  /** The group is left when this thread has not run for this long, and joined again when it does. Default 60 s. */
  readonly hungAfterMs?: number;
}

/**
 * `start` starts the thread; until `close` has ended, it keeps the process alive. As createLeadership, but problems with the options
 * (LOGPIPE_CONFIG_INVALID) or a TLS file (LOGPIPE_CONFIG_UNREADABLE) are found in the thread and reject `ended`.
 */
export function createThreadedLeadership(
  options: ThreadedLeadershipOptions,
  hooks: LeadershipHooks,
  deps: {
    readonly clock: Clock;
    readonly log: Log;
    readonly metrics: RestartMetrics;
    /** The compiled leader-thread.ts. Default: the one beside this file, compiled too. */
    readonly entry?: URL;
  },
): Leadership {
  const { kafka, hungAfterMs = 60_000, ...leadership } = options;
  const { sessionTimeoutMs = 10_000 } = leadership;
  const { clock, log, metrics, entry = new URL('./leader-thread.js', import.meta.url) } = deps;
  let thread: Worker | undefined;
  let epoch: number | undefined;
  let asked = 0;
  const questions = new Map<number, Deferred>();
  let cancelBeat = () => {};
  let closing = false;
  let gone: Promise<void> | undefined;
  const closed = deferred();
  const ended = deferred();

  const send = (message: ToLeaderThread) => thread?.postMessage(message);

  function lose(why: string): void {
    if (epoch === undefined) return;
    const lost = epoch;
    epoch = undefined;
    for (const question of questions.values()) question.reject(new LostTermError());
    questions.clear();
    hooks.onLost(lost, why);
  }

  /** The membership cannot be kept. */
  function fail(error: LogpipeError): void {
    cancelBeat();
    if (closing) return;
    lose(error.message);
    ended.reject(error);
  }

  function died(why: string, cause?: unknown): void {
    const message = `the thread that keeps the alerter's membership ended: ${why}`;
    fail(new LogpipeError('LOGPIPE_KAFKA_FAILED', message, cause));
    closed.resolve();
  }

  function answered(question: number, assured: boolean): void {
    const asking = questions.get(question);
    questions.delete(question);
    if (assured) asking?.resolve();
    else asking?.reject(new LostTermError());
  }

  function onMessage(message: FromLeaderThread): void {
    switch (message.type) {
      case 'log':
        log[message.level](message.message, message.meta);
        break;
      case 'closed':
        closed.resolve();
        break;
      default:
        if (!closing) onNews(message);
    }
  }

  function onNews(message: Exclude<FromLeaderThread, { readonly type: 'log' | 'closed' }>): void {
    switch (message.type) {
      case 'term':
        epoch = message.epoch;
        hooks.onTerm(epoch);
        break;
      case 'lost':
        lose(message.why);
        break;
      case 'standby':
        hooks.onStandby?.();
        break;
      case 'member':
        hooks.onMember?.();
        break;
      case 'away':
        hooks.onAway?.(message.why);
        break;
      case 'restarted':
        metrics.sourceRestarts.inc();
        break;
      case 'answer':
        // After every message that has arrived by now: one of them may say that the term was lost meanwhile.
        setImmediate(answered, message.question, message.assured);
        break;
      case 'failed':
        fail(new LogpipeError(message.code, message.message, message.cause));
        void thread?.terminate();
    }
  }

  function beat(): void {
    send({ type: 'alive' });
    cancelBeat = clock.after(hungAfterMs / BEATS, beat);
  }

  async function close(): Promise<void> {
    closing = true;
    cancelBeat();
    lose('closed');
    if (thread !== undefined) {
      send({ type: 'close' });
      await endsWithin(closed.promise, CLOSE_MS, clock.after);
      const terminated = thread.terminate();
      thread.unref();
      await endsWithin(terminated, TERMINATE_MS, clock.after);
    }
    ended.resolve();
  }

  return {
    start() {
      if (closing || thread !== undefined) return;
      const workerData: LeaderThreadData = { kafka, leadership, hungAfterMs };
      try {
        thread = new Worker(entry, { name: 'alerter-membership', workerData, resourceLimits: LIMITS });
      } catch (error) {
        return died(errorText(error), error);
      }
      thread.on('message', onMessage);
      // A message that cannot be read may have said that the term was lost.
      thread.on('messageerror', (error) => died(errorText(error), error));
      thread.on('error', (error) => died(errorText(error), error));
      thread.on('exit', (status) => died(`exit status ${status}`));
      beat();
    },
    ended: ended.promise,
    epoch: () => epoch,
    async assured() {
      for (;;) {
        if (epoch === undefined) throw new LostTermError();
        const since = momentOf(clock);
        asked += 1;
        const answer = deferred();
        questions.set(asked, answer);
        send({ type: 'assured', question: asked });
        await answer.promise;
        // The group had seen this member within half a session timeout of the question, or has since; with the answer's way here,
        // within one.
        if (certainAgeMs(clock, since) < sessionTimeoutMs / 2) return;
      }
    },
    close() {
      gone ??= close();
      return gone;
    },
  };
}
