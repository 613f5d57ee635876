// Who leads, and so decides. In: membership in the alerter's group, on one partition of a topic. Out: whether this instance is the
// member that leads. Guarantee: none about the others, because a member that was stopped still believes that it leads; the store's
// fence decides who writes. `assured` keeps a member that slept from fencing off its successor.

import type { Assigner, GroupMember, Kafka, PartitionAssigner } from 'kafkajs';
import kafkajs from 'kafkajs';
import { type Clock, certainAgeMs, type Deferred, deferred, type Moment } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
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
