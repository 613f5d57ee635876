// The alert machine against a model: random observations, clocks, commands, results of channels and failing commits. Beside
// it runs a twin that is rebuilt from its records, read in another order, before every step.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { type AlertRecord, type AlertRule, alertKey, type IncidentRecord } from '../../../src/incidents/incident.ts';
import {
  type AlertCommand,
  type AlertMachine,
  createAlertMachine,
  type Plan,
  type StepInput,
} from '../../../src/incidents/machine.ts';
import type { ChannelName, Notification } from '../../../src/incidents/notification.ts';
import type { OutboxResult, StateKey } from '../../../src/incidents/records.ts';
import { routesByPriority } from '../../../src/oncall/routes.ts';
import { parseRouting } from '../../../src/oncall/routing.ts';
import { PRIORITIES, type Priority } from '../../../src/rules/rule-types.ts';
import { MINUTE, messages, routesOfRouting, rule, SECOND, START, save, seen } from './machine-kit.ts';

const RULES: readonly AlertRule[] = [
  rule('p1', { priority: 'P1', group: 'g', cooldownMs: 5 * MINUTE, keepFiringMs: MINUTE, remindMs: 30 * MINUTE }),
  rule('p2', { priority: 'P2', group: 'g', forMs: MINUTE, keepFiringMs: 2 * MINUTE }),
  rule('p3', { priority: 'P3', group: 'h', maxAlerts: 2 }),
  rule('mute', { priority: 'P2', group: 'm', inhibitedBy: ['p1'], keepFiringMs: 30 * SECOND }),
];
const byId = new Map(RULES.map((one) => [one.id, one]));
/** What is observed at each step, in this order. */
const SLOTS = [
  { ruleId: 'p1', labels: {} },
  { ruleId: 'p2', labels: {} },
  { ruleId: 'mute', labels: {} },
  ...['a', 'b', 'c'].map((tenantId) => ({ ruleId: 'p3', labels: { tenantId } })),
];
const CHANNELS: Record<Priority, ChannelName[]> = { P1: ['pagerduty', 'slack'], P2: ['slack'], P3: ['slack'], P4: [] };

type Seen = 'breached' | 'clear' | 'unknown' | 'held' | 'missing';

interface Round {
  readonly passedMs: number;
  readonly lagMs: number;
  readonly states: readonly Seen[];
  readonly command: 'none' | 'acknowledge' | 'resolve' | 'quiet' | 'silence' | 'unsilence';
  /** Picks whom the command is about, and which entries have a result. */
  readonly pick: number;
  readonly result: 'none' | 'ok' | 'failed' | 'retry';
  readonly commits: boolean;
}

const state = fc.oneof(
  { weight: 5, arbitrary: fc.constant<Seen>('breached') },
  { weight: 5, arbitrary: fc.constant<Seen>('clear') },
  { weight: 1, arbitrary: fc.constantFrom<Seen>('unknown', 'held', 'missing') },
);
const round: fc.Arbitrary<Round> = fc.record({
  passedMs: fc.constantFrom(
    250,
    SECOND,
    10 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    11 * MINUTE,
    31 * MINUTE,
  ),
  lagMs: fc.constantFrom(0, 0, 800, 5 * SECOND),
  states: fc.tuple(...SLOTS.map(() => state)),
  command: fc.oneof(
    { weight: 8, arbitrary: fc.constant('none' as const) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        'acknowledge' as const,
        'resolve' as const,
        'quiet' as const,
        'silence' as const,
        'unsilence' as const,
      ),
    },
  ),
  pick: fc.nat(30),
  result: fc.constantFrom('none', 'ok', 'ok', 'failed', 'retry'),
  commits: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
});

/** Runs of the same states, as the world has them: nothing fires when everything changes at every step. */
const rounds = fc
  .array(fc.tuple(round, fc.integer({ min: 1, max: 4 })), { minLength: 1, maxLength: 40 })
  .map((runs) => runs.flatMap(([one, times]) => Array<Round>(times).fill(one)));

/** Two teams; P3 waits for an hour of the day that begins half an hour after the start. */
const ROUTING = parseRouting(
  `
hours: { timeZone: Etc/UTC, from: '10:30', until: '11:30' }
daily: { at: '10:45' }
reopenAfter: 20m
people:
  ada: { name: Ada, email: ada@example.org, pagerDutyKey: key-of-ada }
  ben: { name: Ben, email: ben@example.org }
teams:
  ops: { rota: { primary: [ada, ben], secondary: [ben, ada] }, escalation: { after: 5m, repeat: 10m } }
  web: { emailTo: [web@example.org] }
defaultTeam: ops
routes: [{ match: { labels: { tenantId: b } }, team: web }]
`,
  {},
  'routing.yml',
  START,
);
const WORLDS = {
  'by priority alone': () => routesByPriority((priority) => CHANNELS[priority]),
  'on call': () => routesOfRouting(ROUTING),
} as const;
type World = keyof typeof WORLDS;

function machine(world: World, store: ReadonlyMap<StateKey, object>, ids: { next: number }): AlertMachine {
  return createAlertMachine(RULES, store, {
    nextId: () => `incident${String(++ids.next).padStart(4, '0')}`,
    environment: 'test',
    routes: WORLDS[world](),
    masker: createMasker(),
  });
}

/** Everything a receiver could complain about, and everything an operator could miss. */
class Watch {
  readonly store = new Map<StateKey, object>();
  private readonly open = new Map<string, Set<ChannelName>>();
  private readonly firsts = new Set<string>();
  private readonly ids = new Set<string>();
  private readonly dedupKeys = new Map<string, string>();
  private readonly lastTrigger = new Map<string, { atMs: number; priority: Priority }>();
  private readonly lastResolved = new Map<string, number>();
  /** Per slot: since when it has been breached, or clear, at every committed step. */
  private readonly since = SLOTS.map(() => ({ state: 'clear' as Seen, ms: Number.NEGATIVE_INFINITY }));

  /** By message: which incident and channel, and how often it had ended there before. */
  private readonly sent = new Map<string, { readonly key: string; readonly part: string; readonly action: string }>();
  private readonly ends = new Map<string, number>();
  /** When each incident was last escalated, and the incidents that are over, or that somebody has acknowledged since they were told. */
  private readonly escalated = new Map<string, number>();
  private readonly ended = new Set<string>();
  /** When each team last had its daily mail. */
  private readonly dailies = new Map<string, number>();
  /** Of each beginning at a channel: triggers without a result, and whether one was taken. */
  private readonly parts = new Map<string, { waiting: number; taken: boolean }>();

  committed(plan: Plan, input: StepInput, states: readonly Seen[] | undefined): void {
    const before = new Map(this.store);
    save(this.store, plan);
    for (const { id, result, retry } of input.results ?? []) if (retry === undefined) this.result(id, result.ok);
    for (const { id, channel, notification } of messages(plan)) {
      expect(this.ids.has(id)).toBe(false);
      this.ids.add(id);
      this.message(channel, notification);
      const key = `${notification.incidentId} ${channel}`;
      const part = `${key} ${this.ends.get(key) ?? 0}`;
      this.sent.set(id, { key, part, action: notification.action });
      if (notification.action === 'resolve') this.ends.set(key, (this.ends.get(key) ?? 0) + 1);
      if (notification.action !== 'trigger') continue;
      const state = this.parts.get(part) ?? { waiting: 0, taken: false };
      this.parts.set(part, { ...state, waiting: state.waiting + 1 });
    }
    for (const { notification } of plan.decisions) this.decision(notification);
    this.incidents(before, input.wallMs);
    // An acknowledgement is told first, what joined at the next step.
    const busy = new Set(
      plan.decisions.flatMap(({ notification: n }) => (n.reason === 'acknowledged' ? [n.incidentId] : [])),
    );
    if (states !== undefined) this.alerts(states, input, busy);
  }

  private result(id: string, ok: boolean): void {
    const message = this.sent.get(id);
    const state = message === undefined ? undefined : this.parts.get(message.part);
    if (message === undefined || state === undefined) return;
    if (message.action === 'trigger') {
      state.waiting -= 1;
      state.taken ||= ok;
      const [incidentId = '', channel = ''] = message.key.split(' ');
      const current = message.part === `${message.key} ${this.ends.get(message.key) ?? 0}`;
      // It has refused all there was: it is not to be told of the end.
      if (current && state.waiting === 0 && !state.taken) this.open.get(incidentId)?.delete(channel as ChannelName);
    } else if (ok) expect(state.taken, `${message.action} of what ${message.key} never took`).toBe(true);
  }

  private message(channel: ChannelName, { incidentId, action, reason, dedupKey }: Notification): void {
    if (action === 'inform') return;
    const key = `${incidentId} ${channel}`;
    const open = this.open.get(incidentId) ?? new Set();
    this.open.set(incidentId, open);
    expect(this.dedupKeys.get(incidentId) ?? dedupKey).toBe(dedupKey);
    this.dedupKeys.set(incidentId, dedupKey);
    if (reason === 'first') {
      expect(this.firsts.has(key), `a second first: ${key}`).toBe(false);
      this.firsts.add(key);
    }
    if (action === 'trigger') open.add(channel);
    else expect(open.has(channel), `${action} without a trigger: ${key}`).toBe(true);
    if (action === 'resolve') open.delete(channel);
  }

  private decision(notification: Notification): void {
    const { incidentId, action, reason, priority, title, atMs } = notification;
    if (reason === 'daily') {
      const { team = '' } = notification;
      expect(atMs - (this.dailies.get(team) ?? 0), `daily mails to ${team}`).toBeGreaterThan(20 * 60 * MINUTE);
      this.dailies.set(team, atMs);
    }
    if (reason === 'escalated') {
      expect(this.ended.has(incidentId), `${incidentId} escalated though somebody has answered`).toBe(false);
      const last = this.escalated.get(incidentId) ?? Number.NEGATIVE_INFINITY;
      expect(atMs - last, `${incidentId} escalated again`).toBeGreaterThanOrEqual(5 * MINUTE);
      this.escalated.set(incidentId, atMs);
    } else if (action === 'trigger') this.ended.delete(incidentId);
    else this.ended.add(incidentId);
    if (action !== 'trigger' || reason === 'escalated') return;
    const last = this.lastTrigger.get(incidentId);
    const lead = RULES.find((one) => one.title === title) as AlertRule;
    const waits = reason !== 'reopened' && last !== undefined;
    if (waits && PRIORITIES.indexOf(priority) >= PRIORITIES.indexOf(last.priority)) {
      expect(atMs - last.atMs, `cooldown of ${incidentId}`).toBeGreaterThanOrEqual(lead.cooldownMs);
    }
    this.lastTrigger.set(incidentId, { atMs, priority });
  }

  private incidents(before: ReadonlyMap<StateKey, object>, wallMs: number): void {
    const openGroups = new Set<string>();
    for (const [key, value] of this.store) {
      if (!key.startsWith('incident/')) continue;
      const incident = value as IncidentRecord;
      const channels = [...(this.open.get(incident.id) ?? [])];
      if (incident.state === 'resolved') {
        expect(channels, `${incident.id} ended without a resolve`).toEqual([]);
        const together = `${incident.group} ${incident.team}`;
        this.lastResolved.set(together, Math.max(incident.resolvedMs ?? 0, this.lastResolved.get(together) ?? 0));
        continue;
      }
      const together = `${incident.group} ${incident.team}`;
      expect(openGroups.has(together)).toBe(false);
      openGroups.add(together);
      if (before.has(key)) continue;
      const quiet = wallMs - (this.lastResolved.get(together) ?? Number.NEGATIVE_INFINITY);
      const cooldowns = RULES.filter(({ group }) => group === incident.group).map(({ cooldownMs }) => cooldownMs);
      expect(quiet, `${incident.id} should have reopened the last one`).toBeGreaterThanOrEqual(Math.min(...cooldowns));
    }
  }

  private alerts(states: readonly Seen[], { evalMs, wallMs }: StepInput, busy: ReadonlySet<string>): void {
    const openOf = new Map<string, number>();
    for (const [key, value] of this.store) {
      if (!key.startsWith('alert/')) continue;
      const alert = value as AlertRecord;
      openOf.set(alert.ruleId, (openOf.get(alert.ruleId) ?? 0) + 1);
      if (alert.phase !== 'firing') continue;
      // Nothing that fires is forgotten: it belongs to an open incident and was told, or will be when the cooldown is over.
      const incident = this.store.get(`incident/${alert.incidentId}`) as IncidentRecord;
      expect(incident.state).toBe('open');
      const now = states[SLOTS.findIndex((slot) => alertKey(slot.ruleId, slot.labels) === alert.key)];
      if (alert.announced || alert.muted || now !== 'breached' || busy.has(incident.id)) continue;
      // Somebody has resolved it by hand, or it waits for business hours.
      if (incident.quiet !== undefined) continue;
      if ((incident.heldFromMs ?? 0) > (incident.told?.atMs ?? -1)) continue;
      const told = incident.told?.atMs ?? Number.NEGATIVE_INFINITY;
      expect(wallMs - told, `${alert.key} was not told`).toBeLessThan(10 * MINUTE);
    }
    for (const [ruleId, count] of openOf)
      expect(count).toBeLessThanOrEqual((byId.get(ruleId) as AlertRule).maxAlerts ?? 20);

    SLOTS.forEach((slot, i) => {
      const present = this.since[i] as { state: Seen; ms: number };
      if (present.state !== states[i]) this.since[i] = { state: states[i] as Seen, ms: evalMs };
      const { state: now, ms } = this.since[i] as { state: Seen; ms: number };
      const { forMs, keepFiringMs } = byId.get(slot.ruleId) as AlertRule;
      const phase = (this.store.get(`alert/${alertKey(slot.ruleId, slot.labels)}`) as AlertRecord | undefined)?.phase;
      // Only two of the three tenants have a place.
      if (now === 'breached' && evalMs - ms >= forMs && slot.ruleId !== 'p3') expect(phase).toBe('firing');
      if (now === 'clear' && evalMs - ms >= keepFiringMs) expect(phase).toBeUndefined();
    });
  }

  /** At the very end. */
  finished(): void {
    for (const [incident, channels] of this.open) expect([...channels], `${incident} was never resolved`).toEqual([]);
  }
}

function commandOf({ command, pick }: Round, current: AlertMachine, wallMs: number, round: number): AlertCommand[] {
  switch (command) {
    case 'none':
      return [];
    case 'acknowledge': {
      const open = current.incidents().filter((incident) => incident.state === 'open');
      const incident = open[pick % Math.max(1, open.length)];
      return incident === undefined ? [] : [{ kind: 'acknowledge', incidentId: incident.id, by: 'ann' }];
    }
    case 'resolve': {
      const alerts = current.alerts().map(({ key, startedMs }) => ({ key, startedMs }));
      return [{ kind: 'resolve', alerts: alerts.slice(0, 1 + (pick % 3)), by: 'ann' }];
    }
    case 'quiet': {
      const open = current.incidents().filter((incident) => incident.state === 'open');
      const incident = open[pick % Math.max(1, open.length)];
      return incident === undefined
        ? []
        : [{ kind: 'resolve', incidentId: incident.id, evenIfTrue: true, by: 'ann', via: 'link' }];
    }
    case 'silence': {
      const { ruleId, labels } = SLOTS[pick % SLOTS.length] as (typeof SLOTS)[number];
      const untilMs = wallMs + 20 * MINUTE;
      return [{ kind: 'silence', silence: { id: `s${round}`, ruleId, labels, untilMs, by: 'ann', reason: '' } }];
    }
    case 'unsilence': {
      const [silence] = current.silences();
      return silence === undefined ? [] : [{ kind: 'unsilence', id: silence.id, by: 'ann' }];
    }
  }
}

function resultsOf({ result, pick }: Round, current: AlertMachine, wallMs: number): OutboxResult[] {
  if (result === 'none') return [];
  return current
    .waiting()
    .slice(0, pick)
    .map(({ id }) => {
      if (result === 'ok') return { id, result: { ok: true } };
      if (result === 'failed') return { id, result: { ok: false, retryable: false, reason: 'HTTP 404' } };
      const retry = { attempts: 1, nextMs: wallMs + 1_000 };
      return { id, result: { ok: false, retryable: true, reason: 'HTTP 503' }, retry };
    });
}

const reversed = (store: ReadonlyMap<StateKey, object>) => new Map([...store].reverse());

describe('whatever happens', () => {
  test.each<World>(['by priority alone', 'on call'])(
    '%s: one first message, one resolve for each trigger, no cooldown broken, no alert forgotten, restarts unnoticed',
    (world) => {
      fc.assert(
        fc.property(rounds, (all) => {
          const watch = new Watch();
          const mine = { next: 0 };
          const twins = { next: 0 };
          const one = machine(world, new Map(), mine);
          let wallMs = START;

          const run = (input: StepInput, commits: boolean, states: readonly Seen[] | undefined) => {
            const plan = one.step(input);
            // The twin has nothing but what was committed.
            const twin = machine(world, reversed(watch.store), twins);
            expect(twin.step(input)).toEqual(plan);
            if (!commits) return;
            watch.committed(plan, input, states);
            one.accept(plan);
          };

          all.forEach((each, i) => {
            wallMs += each.passedMs;
            const observations = SLOTS.flatMap(({ ruleId, labels }, slot) => {
              const now = each.states[slot] as Seen;
              return now === 'missing' ? [] : [seen(ruleId, now, labels)];
            });
            const input: StepInput = {
              evalMs: wallMs - each.lagMs,
              wallMs,
              observations,
              commands: commandOf(each, one, wallMs, i),
              results: resultsOf(each, one, wallMs),
            };
            run(input, each.commits, each.states);
          });

          // Everything gets well, is held long enough, and is delivered.
          const quiet = SLOTS.map(({ ruleId, labels }) => seen(ruleId, 'clear', labels));
          for (let i = 0; i < 3; i++) {
            wallMs += 3 * MINUTE;
            run({ evalMs: wallMs, wallMs, observations: quiet }, true, undefined);
          }
          expect(one.alerts()).toEqual([]);
          watch.finished();
          for (let i = 0; i < 2; i++) {
            const results = one.waiting().map(({ id }) => ({ id, result: { ok: true } as const }));
            run({ evalMs: wallMs, wallMs, results }, true, undefined);
          }
          expect(one.waiting()).toEqual([]);
          wallMs += 30 * 86_400_000;
          run({ evalMs: wallMs, wallMs }, true, undefined);
          const results = one.waiting().map(({ id }) => ({ id, result: { ok: true } as const }));
          run({ evalMs: wallMs, wallMs, results }, true, undefined);
          const documents = one.waiting().map(({ id }) => ({ id, result: { ok: true } as const }));
          run({ evalMs: wallMs, wallMs, results: documents }, true, undefined);
          const schedules = ROUTING.teams.map(({ id }) => `schedule/daily-${id}`);
          expect([...watch.store.keys()].filter((key) => key !== 'meta/outbox').sort()).toEqual(
            world === 'on call' ? schedules : [],
          );
        }),
        { numRuns: world === 'on call' ? 150 : 300 },
      );
    },
  );
});
