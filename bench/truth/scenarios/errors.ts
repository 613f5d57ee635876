// Kinds of errors: new ones, and ones that are rare.
import { createFleet } from '../fleet.ts';
import { newError } from '../labels.ts';
import { type Occurrence, occurrence } from '../occurrence.ts';
import type { Random } from '../random.ts';
import { createStage, HOUR, MINUTE, type Scenario, SECOND } from '../scenario.ts';

const START = '2026-03-13T08:00:00Z';

/** An error at each of these seconds after the start. */
function errorsAt(random: Random, seconds: readonly number[], message: string): Occurrence[] {
  const own = random.fork('errors');
  const { processes } = createFleet();
  return seconds.map((second) => {
    const at = Math.floor(Date.parse(START) + second * SECOND + own.between(0, SECOND));
    return occurrence(at, own.pick(processes), { level: 'error', message });
  });
}

const fresh: Scenario = {
  name: 'new-error',
  about: 'a fault nobody has seen before: once every 20 s for six minutes',
  stage(random) {
    const message = "Cannot read properties of undefined (reading 'tariff')";
    const seconds = Array.from({ length: 18 }, (_, i) => 720 + i * 20);
    const stage = createStage({ random, start: START, minutes: 36, more: errorsAt(random, seconds, message) });
    const template = 'Cannot read properties of undefined (reading <quoted>)';
    return {
      ...stage,
      unknown: /tariff/,
      must: [newError(stage.occurrences, /tariff/, template)],
      incidents: [{ group: 'new-errors' }],
    };
  },
};

const rare: Scenario = {
  name: 'rare-error-of-old',
  about: 'an error that came twice, one at a time, while errors were being learned, comes three times in four minutes',
  stage(random) {
    const message = 'Invoice run stopped: ledger is locked';
    const seconds = [300, 1_200, 2_400, 2_500, 2_620];
    return {
      ...createStage({ random, start: START, minutes: 55, more: errorsAt(random, seconds, message) }),
      unknown: /ledger/,
      // Learning ends half an hour after the start.
      watchedMs: 24 * HOUR - 30 * MINUTE,
      must: [],
      incidents: [],
    };
  },
};

export const ERRORS: readonly Scenario[] = [fresh, rare];
