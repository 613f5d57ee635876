// Thirty days of the truth table's platform, an hour or less of each, through the real stages: who is paged on which day, that a silence pages
// nobody, that a harmless day does not either, and that nothing is forgotten.
import { expect, test } from 'vitest';
import { createRandom } from '../../../bench/truth/random.ts';
import { shipped } from '../../../bench/truth/run.ts';
import { createStage, during } from '../../../bench/truth/scenario.ts';
import { PARTITIONS } from '../../../bench/truth/shipping.ts';
import type { GivenCommand } from '../../../src/incidents/machine.ts';
import { parseRouting } from '../../../src/oncall/routing.ts';
import { simulate } from '../../../src/replay/simulate.ts';

const MINUTE = 60_000;
const DAY = 86_400_000;
/** A Monday. */
const FROM = Date.parse('2026-03-09T00:00:00Z');
const MINUTES = 38;
const ROUTING = parseRouting(
  `
hours: { timeZone: Etc/UTC }
people:
  ada: { name: Ada, email: ada@example.org }
  ben: { name: Ben, email: ben@example.org }
  cleo: { name: Cleo, email: cleo@example.org }
teams:
  ops: { rota: { starts: 2026-03-09, handOff: { at: '00:00' }, primary: [ada, ben, cleo], secondary: [ben, cleo, ada] } }
`,
  {},
  'routing.yml',
  FROM,
);

type Kind = 'harmless' | 'answered' | 'unanswered' | 'silenced';
const KINDS: readonly Kind[] = ['unanswered', 'harmless', 'answered', 'harmless', 'silenced', 'harmless', 'answered'];

test('pages per day and person: one incident each, to the secondary where nobody answers, none in a silence or on a harmless day', async () => {
  const { measures, rules } = shipped();
  const days: string[] = [];
  const expected: string[] = [];
  for (let day = 0; day < 30; day++) {
    const kind = KINDS[day % KINDS.length]!;
    const start = new Date(FROM + day * DAY + ((day * 5) % 23) * 60 * MINUTE).toISOString();
    const fails = kind !== 'harmless';
    const { fromMs, toMs, records } = createStage({
      random: createRandom(7, `day ${day}`),
      start,
      minutes: MINUTES,
      behaviour: {
        callsPerSecond: () => 0.4,
        requestsPerSecond: () => 0.2,
        linesPerSecond: () => 0,
        deniedPerSecond: () => 0,
        callFails: (ms) => (fails ? during(start, 6, 27, 0.6, 0)(ms) : 0),
      },
    });
    const silence: GivenCommand = {
      kind: 'silence',
      silence: { id: 's', group: 'calls', untilMs: toMs, by: 'ben', reason: 'planned' },
    };
    const known = new Map<string, object>([['known/since', { sinceMs: fromMs - 30 * DAY }]]);
    const { messages } = await simulate(records, {
      ...{ measures, rules, fromMs, toMs, transforms: [], partitions: PARTITIONS, tickMs: 10_000, initial: known },
      parse: { maxRecordBytes: 5_000_000, maxAheadMs: 600_000, maxBehindMs: 2_592_000_000 },
      routing: ROUTING,
      commandsAt(nowMs, incidents) {
        if (kind === 'silenced' && nowMs === fromMs) return [silence];
        const [open] = incidents.filter((one) => one.state === 'open' && one.group === 'calls');
        const answers = kind === 'answered' && open?.told !== undefined && nowMs - open.told.atMs >= 5 * MINUTE;
        return answers ? [{ kind: 'acknowledge', incidentId: open.id, by: 'ada' }] : [];
      },
    });
    const isCalls = (ruleId: string) => rules.find(({ id }) => id === ruleId)?.group === 'calls';
    const [first, second] = [0, 1].map((n) => ['ada', 'ben', 'cleo'][(Math.floor(day / 7) + n) % 3]!);
    const told = messages.flatMap(({ notification: { reason, alerts }, channels }) => {
      if (!alerts.some(({ ruleId }) => isCalls(ruleId))) return [];
      const people = channels.flatMap((name) => (name.startsWith('email:') ? [name.slice('email:'.length)] : []));
      // It becomes worse, and other alerts join: to whom it was told first.
      if (reason === 'new-alerts') expect(people[0]).toBe(first);
      return reason === 'new-alerts' ? [] : [`${reason} ${people.sort().join('+')}`];
    });
    const others = messages.filter(
      ({ notification }) => notification.priority === 'P1' || notification.priority === 'P2',
    );
    days.push(`${day}: ${told.join(', ')}`);
    if (kind === 'harmless')
      expect(
        others.map(({ notification }) => notification.title),
        `day ${day}`,
      ).toEqual([]);
    const both = [first, second].sort().join('+');
    const course: Record<Kind, string> = {
      harmless: '',
      silenced: '',
      answered: `first ${first}, acknowledged ${first}, all-resolved ${first}`,
      unanswered: `first ${first}, escalated ${second}, all-resolved ${both}`,
    };
    expected.push(`${day}: ${course[kind]}`);
  }
  expect(days).toEqual(expected);
}, 300_000);
