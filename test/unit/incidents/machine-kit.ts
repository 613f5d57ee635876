// For the tests of the alert machine: rules, observations, and a machine with a store that is a map.

import { createMasker } from '../../../src/core/secrets/mask.ts';
import { type AlertRule, alertKey } from '../../../src/incidents/incident.ts';
import { type AlertMachine, createAlertMachine, type Plan, type StepInput } from '../../../src/incidents/machine.ts';
import type { ChannelName, Notification } from '../../../src/incidents/notification.ts';
import type { OutboxLimits, StateKey } from '../../../src/incidents/records.ts';
import { createRoutes, ownDestinations, type Routes, routesByPriority } from '../../../src/oncall/routes.ts';
import { parseRouting, type Routing } from '../../../src/oncall/routing.ts';
import type { Observation, Priority } from '../../../src/rules/rule-types.ts';

export const SECOND = 1_000;
export const MINUTE = 60_000;
export const START = Date.UTC(2026, 2, 2, 10);

export function rule(id: string, overrides: Partial<AlertRule> = {}): AlertRule {
  return {
    id,
    title: `Title of ${id}`,
    priority: 'P2',
    group: id,
    forMs: 0,
    keepFiringMs: 0,
    cooldownMs: 10 * MINUTE,
    remindMs: 0,
    inhibitedBy: [],
    runbook: `docs/runbooks/${id}.md`,
    ...overrides,
  };
}

export function seen(
  ruleId: string,
  state: Observation['state'],
  labels: Record<string, string> = {},
  more: Partial<Observation> = {},
): Observation {
  const message = state === 'breached' ? { message: `${alertKey(ruleId, labels)} is over` } : {};
  return { ruleId, labels, state, ...message, ...more };
}

const CHANNELS: Record<Priority, ChannelName[]> = {
  P1: ['pagerduty', 'slack', 'email'],
  P2: ['slack', 'email'],
  P3: ['slack'],
  P4: [],
};

export interface Rig {
  readonly machine: AlertMachine;
  readonly store: Map<StateKey, object>;
  /** Wall clock; evaluation is at the same time unless said otherwise. */
  now: number;
  /** Steps, commits and accepts. */
  go(input?: Partial<StepInput>): Plan;
  /** Messages of a plan, as `channel action reason`. */
  sent(plan: Plan): string[];
  /** A machine that knows only what was stored. */
  restart(rules?: readonly AlertRule[]): void;
}

export function rig(
  rules: readonly AlertRule[],
  options: {
    nextId?: () => string;
    limits?: OutboxLimits;
    store?: Map<StateKey, object>;
    /** Default: by priority alone. */
    routes?: Routes;
    environment?: string;
  } = {},
): Rig {
  const store = options.store ?? new Map<StateKey, object>();
  let ids = 0;
  const nextId = options.nextId ?? (() => `incident${++ids}`);
  const build = (with_: readonly AlertRule[]) =>
    createAlertMachine(with_, new Map(store), {
      nextId,
      environment: options.environment ?? 'test',
      routes: options.routes ?? routesByPriority((priority) => CHANNELS[priority]),
      masker: createMasker(),
      ...(options.limits === undefined ? {} : { limits: options.limits }),
    });
  let machine = build(rules);
  const self: Rig = {
    get machine() {
      return machine;
    },
    store,
    now: START,
    go(input = {}) {
      const plan = machine.step({ evalMs: self.now, wallMs: self.now, ...input });
      save(store, plan);
      machine.accept(plan);
      return plan;
    },
    sent: (plan) => messages(plan).map(({ channel, notification: n }) => `${channel} ${n.action} ${n.reason}`),
    restart(again = rules) {
      machine = build(again);
    },
  };
  return self;
}

/** What a store does with a plan: JSON out and in, all or nothing. */
export function save(store: Map<StateKey, object>, plan: Pick<Plan, 'changes'>): void {
  for (const { key, value } of plan.changes) {
    if (value === null) store.delete(key);
    else store.set(key, JSON.parse(JSON.stringify(value)));
  }
}

export function messages(plan: Plan): { id: string; channel: ChannelName; notification: Notification }[] {
  return plan.enqueued.flatMap(({ id, channel, notification }) =>
    notification === undefined ? [] : [{ id, channel, notification }],
  );
}

/** Where every channel is configured that the routing names, and the common ones. */
export function routesFrom(
  yaml: string,
  options: { nowMs?: number; environment?: string; without?: RegExp } = {},
): Routes {
  const { nowMs = START, environment = 'test', without = /^$/ } = options;
  return routesOfRouting(parseRouting(yaml, {}, 'routing.yml', nowMs), environment, without);
}

/** The same of a routing that was read before. */
export function routesOfRouting(routing: Routing, environment = 'test', without = /^$/): Routes {
  const all = new Set(
    ['pagerduty', 'slack', 'email', ...ownDestinations(routing)].filter((name) => !without.test(name)),
  );
  return createRoutes(routing, { has: (name) => all.has(name), environment });
}

/** `alert, incident or silence: transition`, in order. */
export function transitions(plan: Plan): string[] {
  return plan.transitions.map(
    ({ source }) => `${source.alert?.key ?? source.incident?.id ?? source.silence?.id}: ${source.transition}`,
  );
}
