// A term as the API sees it: real windows, real rules and the real alert machine, driven by hand.

import type { AlertDesk } from '../../../src/alerter/alert-desk.ts';
import type { Term, TermState } from '../../../src/alerter/alerter.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { createAlertMachine, type GivenCommand } from '../../../src/incidents/machine.ts';
import { routesByPriority } from '../../../src/oncall/routes.ts';
import { type Rules, toDecidingRule } from '../../../src/rules/rule-config.ts';
import { createStage, RULES, type Stage, T0 } from '../rules/kit.ts';

export interface TermKit {
  readonly stage: Stage;
  readonly term: Pick<Term, 'look' | 'now' | 'waiting'>;
  readonly desk: AlertDesk;
  /** Evaluates and decides, as of that time. */
  at(ms: number, commands?: readonly GivenCommand[]): TermState;
  changeRules(rules: Rules): void;
}

export function termKit(first: Rules = RULES, channels: readonly string[] = ['slack']): TermKit {
  const stage = createStage(first);
  let rules = first;
  let ids = 0;
  let last: Pick<TermState, 'times' | 'observations'> | undefined;
  let nowMs = T0;
  const machine = createAlertMachine(rules.map(toDecidingRule), new Map(), {
    nextId: () => `incident${++ids}`,
    environment: 'test',
    routes: routesByPriority(() => channels),
    masker: createMasker(),
  });
  const records = () => ({
    ...{ alerts: machine.alerts(), incidents: machine.incidents(), silences: machine.silences() },
  });
  const look = (): TermState | undefined => last && { ...last, ...records(), rules, store: stage.evaluator.store };
  return {
    stage,
    term: { look, now: () => nowMs, waiting: () => machine.waiting().length },
    desk: {
      state: async () => records(),
      answer: async (id) => machine.answer(id),
      give: async () => undefined,
      close: async () => {},
    },
    at(ms, commands = []) {
      nowMs = ms;
      const { times, observations } = stage.tick(ms);
      last = { times, observations };
      machine.accept(machine.step({ evalMs: times.evalMs, wallMs: ms, observations, commands }));
      return look()!;
    },
    changeRules(next) {
      stage.evaluator.changeRules(next);
      machine.changeRules(next.map(toDecidingRule), 'next');
      rules = next;
    },
  };
}
