// Who leads: one of a group's members, whoever led last, and only as long as the group is known to have seen it. The real membership and
// assigner, in a group of scripted consumers on one clock; test/integration/alert-store.test.ts has the same with Kafka.
import fc from 'fast-check';
import type { ConsumerConfig, GroupMember, Kafka } from 'kafkajs';
import kafkajs from 'kafkajs';
import { describe, expect, onTestFinished, test } from 'vitest';
import { chooseLeader, createLeaderAssigner, createLeadership } from '../../../src/alerter/leadership.ts';
import { LostTermError } from '../../../src/alerter/store.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createFakeClock, settled } from '../../kit/fake-clock.ts';

const { MemberAssignment } = kafkajs.AssignerProtocol;
const TOPIC = 'counts';
const SESSION_MS = 10_000;
const unused = {} as Parameters<ReturnType<typeof createLeaderAssigner>>[0];

function member(memberId: string, ledSinceMs: number | undefined): GroupMember {
  const assigner = createLeaderAssigner(() => ledSinceMs)(unused);
  return { memberId, memberMetadata: assigner.protocol({ topics: [TOPIC] }).metadata };
}

test('of any members the one that took the lead last keeps it, and nobody else gets anything', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.tuple(fc.uuid(), fc.option(fc.integer({ min: 1, max: 2e12 }), { nil: undefined })), {
        minLength: 1,
        maxLength: 6,
        selector: ([id]) => id,
      }),
      async (list) => {
        const members = list.map(([id, since]) => member(id, since));
        const leaders = list.filter(([, since]) => since !== undefined);
        const latest = Math.max(...leaders.map(([, since]) => since ?? 0));
        const chosen = chooseLeader(members)!;
        if (leaders.length > 0) expect(list.find(([id]) => id === chosen)?.[1]).toBe(latest);
        else expect(chosen).toBe(list.map(([id]) => id).sort()[0]);
        const assigned = await createLeaderAssigner(() => undefined)(unused).assign({ members, topics: [TOPIC] });
        for (const { memberId, memberAssignment } of assigned) {
          const { assignment } = MemberAssignment.decode(memberAssignment)!;
          expect(assignment).toEqual(memberId === chosen ? { [TOPIC]: [0] } : {});
        }
      },
    ),
  );
});

const EVENTS = Object.fromEntries(
  ['REQUEST', 'HEARTBEAT', 'FETCH', 'GROUP_JOIN', 'REBALANCING', 'END_BATCH_PROCESS', 'CRASH'].map((name) => [
    name,
    name,
  ]),
);

/** A kafkajs consumer as far as a session sees it. */
class ScriptedConsumer {
  readonly events = EVENTS;
  readonly assigner: ReturnType<ReturnType<typeof createLeaderAssigner>>;
  readonly paused: number[] = [];
  readonly id: string;
  private readonly group: Group;
  private readonly listeners = new Map<string, (event: { payload: object }) => void>();

  constructor(id: string, group: Group, config: ConsumerConfig) {
    this.id = id;
    this.group = group;
    const [assigner] = config.partitionAssigners as [ReturnType<typeof createLeaderAssigner>];
    this.assigner = assigner(unused);
  }

  on(event: string, listener: (event: { payload: object }) => void): void {
    this.listeners.set(event, listener);
  }

  emit(event: string, payload: object = {}): void {
    this.listeners.get(event)?.({ payload });
  }

  async connect(): Promise<void> {
    if (this.group.away) throw new kafkajs.KafkaJSConnectionError('Connection refused', {});
  }

  async subscribe(): Promise<void> {}

  async run(): Promise<void> {
    await this.group.join(this);
  }

  pause([{ partitions }]: [{ partitions: number[] }]): void {
    this.paused.push(...partitions);
  }

  async disconnect(): Promise<void> {
    await this.group.leave(this);
  }

  /** The group answers what was asked `ageMs` ago. */
  answers(ageMs = 0, apiName = 'Heartbeat'): void {
    this.emit('REQUEST', { apiName, createdAt: Date.now() - ageMs, duration: ageMs });
    if (apiName === 'Heartbeat') this.emit('HEARTBEAT');
  }
}

/** The members of a group, and who gets what when one comes or goes: the first member decides, as with Kafka. */
class Group {
  away = false;
  /** Takes no part, as a process that is stopped: the others are told without it. */
  stopped: string | undefined;
  members: ScriptedConsumer[] = [];

  async join(consumer: ScriptedConsumer): Promise<void> {
    this.members.push(consumer);
    await this.rebalance();
  }

  async leave(consumer: ScriptedConsumer): Promise<void> {
    const before = this.members.length;
    this.members = this.members.filter((other) => other !== consumer);
    if (this.members.length < before) await this.rebalance();
  }

  async rebalance(): Promise<void> {
    const present = this.members.filter(({ id }) => id !== this.stopped);
    const [first] = present;
    if (first === undefined) return;
    const members = present.map(({ id, assigner }) => ({
      memberId: id,
      memberMetadata: assigner.protocol({ topics: [TOPIC] }).metadata,
    }));
    const assigned = await first.assigner.assign({ members, topics: [TOPIC] });
    for (const { memberId, memberAssignment } of assigned) {
      const consumer = present.find(({ id }) => id === memberId)!;
      consumer.emit('REBALANCING');
      consumer.answers(0, 'SyncGroup');
      consumer.emit('GROUP_JOIN', { memberAssignment: MemberAssignment.decode(memberAssignment)!.assignment });
    }
  }
}

function running(options: { giveUpAfter?: number } = {}) {
  const clock = createFakeClock();
  const group = new Group();
  const join = (id: string) => {
    const events: string[] = [];
    const consumers: ScriptedConsumer[] = [];
    let restarts = 0;
    const leadership = createLeadership(
      {
        ...{ brokers: ['127.0.0.1:1'], group: 'alerter', topic: TOPIC, requestTimeoutMs: 5_000 },
        ...{ sessionTimeoutMs: SESSION_MS, heartbeatMs: 1_000, ...options },
      },
      {
        onTerm: (epoch) => events.push(`term ${epoch}`),
        onLost: (epoch, why) => events.push(`lost ${epoch}: ${why}`),
        onStandby: () => events.push('standby'),
        onAway: (why) => events.push(`away: ${why}`),
      },
      {
        kafka: {
          consumer(config: ConsumerConfig) {
            const consumer = new ScriptedConsumer(id, group, config);
            consumers.push(consumer);
            return consumer;
          },
        } as unknown as Kafka,
        clock,
        log: silentLog,
        metrics: { sourceRestarts: { inc: () => (restarts += 1) } },
      },
    );
    const ended: string[] = [];
    leadership.ended.then(
      () => ended.push('ended'),
      (error) => ended.push(error.code),
    );
    leadership.start();
    onTestFinished(() => leadership.close());
    return { leadership, events, consumer: () => consumers.at(-1)!, restarts: () => restarts, ended };
  };
  return { clock, group, join };
}

/** Whether the promise has resolved by now. */
async function isDone(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  promise.then(
    () => (done = true),
    () => {},
  );
  await settled();
  return done;
}

describe('one of a group', () => {
  test('leads, reads nothing, and has one term however often the group gathers', async () => {
    const { group, join } = running();
    const one = join('a');
    await settled();
    expect(one.events).toEqual(['term 1']);
    expect(one.leadership.epoch()).toBe(1);
    expect(one.consumer().paused).toEqual([0]);
    await group.rebalance();
    expect(one.events).toEqual(['term 1']);
  });

  test('keeps the lead when others join whose names come first, and hands it over when it goes', async () => {
    const { clock, join } = running();
    const one = join('m');
    await clock.advance(1_000);
    const others = [join('a'), join('z')];
    await settled();
    expect(one.events).toEqual(['term 1']);
    for (const { events, leadership } of others) {
      expect(events.at(-1)).toBe('standby');
      expect(leadership.epoch()).toBeUndefined();
      await expect(leadership.assured()).rejects.toThrow(LostTermError);
    }
    await one.leadership.close();
    await settled();
    expect(one.events).toEqual(['term 1', 'lost 1: closed']);
    expect(one.ended).toEqual(['ended']);
    expect(others.map(({ events }) => events.at(-1))).toEqual(['term 1', 'standby']);
  });

  test('one that was stopped believes that it leads, and yields to the one that took the lead from it', async () => {
    const { clock, group, join } = running();
    const sleeper = join('z');
    await clock.advance(1_000);
    group.stopped = 'z';
    const other = join('b');
    const third = join('c');
    await settled();
    // Two believe it now: who writes is decided by the store's fence.
    expect([sleeper.leadership.epoch(), other.leadership.epoch()]).toEqual([1, 1]);
    group.stopped = undefined;
    await group.rebalance();
    expect(sleeper.events).toEqual(['term 1', 'lost 1: another member leads', 'standby']);
    expect(other.events).toEqual(['term 1']);
    // From now on it is one like any other: the next leader is the first by name.
    await group.rebalance();
    await other.leadership.close();
    await settled();
    expect([sleeper.leadership.epoch(), third.leadership.epoch()]).toEqual([undefined, 1]);
    await third.leadership.close();
    await settled();
    expect(sleeper.events.at(-1)).toBe('term 2');
  });
});

describe('is assured', () => {
  test('by an answer to what was asked within half a session, and else by the next one that was asked since', async () => {
    const { clock, join } = running();
    const { leadership, consumer } = join('a');
    await settled();
    expect(await isDone(leadership.assured())).toBe(true);
    await clock.advance(SESSION_MS / 2 - 1);
    expect(await isDone(leadership.assured())).toBe(true);
    await clock.advance(1);
    const asked = leadership.assured();
    expect(await isDone(asked)).toBe(false);
    // Asked before the doubt: it may have lain in the socket while somebody else took over.
    await clock.advance(1_000);
    consumer().answers(1_500);
    expect(await isDone(asked)).toBe(false);
    consumer().answers(500);
    expect(await isDone(asked)).toBe(true);
  });

  test.each([-3_600_000, 3_600_000])('by no answer from before the wall clock went by %d ms', async (byMs) => {
    const { clock, join } = running();
    const { leadership, consumer } = join('a');
    await settled();
    clock.setWall(clock.now() + byMs);
    const asked = leadership.assured();
    expect(await isDone(asked)).toBe(false);
    await clock.advance(500);
    consumer().answers(100);
    expect(await isDone(asked)).toBe(true);
  });

  test('by no answer that lay there while it was stopped for longer than its session', async () => {
    const { clock, join } = running();
    const { leadership, consumer } = join('a');
    await clock.advance(SESSION_MS / 2);
    const asked = leadership.assured();
    await clock.sleep(SESSION_MS + 1_000);
    consumer().answers(SESSION_MS);
    expect(await isDone(asked)).toBe(false);
    await clock.advance(100);
    consumer().answers(50);
    expect(await isDone(asked)).toBe(true);
  });

  test('not when the term is lost meanwhile, to another member or by a crash', async () => {
    const { clock, group, join } = running();
    const one = join('a');
    await clock.advance(SESSION_MS);
    const asked = one.leadership.assured();
    group.stopped = 'a';
    await clock.advance(1_000);
    const two = join('b');
    await settled();
    group.stopped = undefined;
    await group.rebalance();
    await expect(asked).rejects.toThrow(LostTermError);
    await clock.advance(SESSION_MS);
    const other = two.leadership.assured();
    two.consumer().emit('CRASH', { error: new Error('the coordinator has gone mad') });
    await expect(other).rejects.toThrow(LostTermError);
  });
});

describe('a membership that ends', () => {
  test('by a crash is a lost term, said at once, and is joined again as a new one', async () => {
    const { clock, group, join } = running();
    const one = join('a');
    await settled();
    group.members = [];
    one.consumer().emit('CRASH', { error: new Error('the coordinator has gone mad') });
    await settled();
    expect(one.leadership.epoch()).toBeUndefined();
    expect(one.events).toEqual([
      'term 1',
      'lost 1: the coordinator has gone mad',
      'away: the coordinator has gone mad',
    ]);
    await clock.advance(60_000);
    expect(one.events.at(-1)).toBe('term 2');
    expect(one.restarts()).toBe(1);
  });

  test('because nothing was heard of the group any more is one too', async () => {
    const { clock, join } = running();
    const one = join('a');
    await clock.advance(60_000);
    expect(one.events).toEqual(['term 1']);
    one.consumer().answers();
    await clock.advance(60_000);
    expect(one.events).toEqual(['term 1']);
    await clock.advance(15_000);
    expect(one.events.slice(0, 2)).toEqual(['term 1', 'lost 1: the consumer has been silent for 65000 ms']);
  });

  test('while Kafka is away is tried again for as long as it takes', async () => {
    const { clock, group, join } = running({ giveUpAfter: 3 });
    group.away = true;
    const one = join('a');
    await clock.advance(600_000);
    expect(one.ended).toEqual([]);
    expect(one.events[0]).toMatch(/^away: /);
    group.away = false;
    await clock.advance(60_000);
    expect(one.events.at(-1)).toBe('term 1');
  });

  test('again and again for another reason is given up', async () => {
    const { clock, group, join } = running({ giveUpAfter: 3 });
    const one = join('a');
    for (let crash = 1; crash <= 3; crash++) {
      await settled();
      expect(one.events.at(-1)).toBe(`term ${crash}`);
      group.members = [];
      one.consumer().emit('CRASH', { error: new Error('refused') });
      await clock.advance(30_000);
    }
    expect(one.ended).toEqual(['LOGPIPE_KAFKA_FAILED']);
    expect(one.leadership.epoch()).toBeUndefined();
  });

  test('because it was closed while Kafka was away never comes back', async () => {
    const { clock, group, join } = running();
    group.away = true;
    const one = join('a');
    await settled();
    await one.leadership.close();
    group.away = false;
    await clock.advance(600_000);
    expect(one.ended).toEqual(['ended']);
    expect(one.events.filter((event) => event.startsWith('term'))).toEqual([]);
  });
});

test('heartbeats that are too far apart for the session are refused', () => {
  const deps = {
    kafka: {} as Kafka,
    clock: createFakeClock(),
    log: silentLog,
    metrics: { sourceRestarts: { inc() {} } },
  };
  const options = { brokers: [], group: 'alerter', topic: TOPIC, requestTimeoutMs: 5_000, sessionTimeoutMs: 10_000 };
  const hooks = { onTerm() {}, onLost() {} };
  expect(() => createLeadership({ ...options, heartbeatMs: 5_001 }, hooks, deps)).toThrow(/more than half/);
});
