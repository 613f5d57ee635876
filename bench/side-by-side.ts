// Contenders in turn over one topic. In: contenders and rounds. Out: a line each, its rounds in the order in which they were run, so that
// the same round of two contenders makes a pair.
import { errorText } from '../src/core/errors.ts';
import { median } from './alerting/statistics.ts';
import type { Contender } from './contenders.ts';
import { deleteIndices, type MeasureDeps, measureRound, measureStart, type Round } from './measure.ts';
import { type Line, toLine } from './report.ts';

export interface SideBySideDeps extends MeasureDeps {
  /** CPU of a start by the contender's name, microseconds; what is missing is measured. */
  readonly starts: Map<string, number>;
  readonly say: (line: string) => void;
}

/** A few hundredths of a second are a visible share of what a short round costs. */
const STARTS = 3;

/** Interleaves the contenders, so that disturbances of the machine affect all of them. */
export async function sideBySide(
  contenders: readonly Contender[],
  rounds: number,
  deps: SideBySideDeps,
): Promise<Line[]> {
  const { topic, starts, say } = deps;
  for (const [i, contender] of contenders.entries()) {
    if (starts.has(contender.name)) continue;
    const costs: number[] = [];
    for (let j = 0; j < STARTS; j++) costs.push(await measureStart(contender, `${topic}-start-${i}-${j}`, deps));
    starts.set(contender.name, median(costs));
    say(`${contender.name}: a start costs ${Math.round(median(costs) / 1_000)} ms of CPU`);
  }
  // Elasticsearch compiles and grows in its first seconds, which no contender should pay for.
  await surviving(contenders[0]!, `${topic}-warm-up`, deps);
  const results = new Map<string, Round[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 1; round <= rounds; round++) {
    // Each round begins with a different contender, so that none always follows the same one.
    const order = contenders.map((_, i) => contenders[(i + round) % contenders.length]!);
    for (const contender of order) {
      const id = `${topic}-round-${round}-${contenders.indexOf(contender)}`;
      const result = await surviving(contender, id, deps);
      results.get(contender.name)!.push(result);
      const { eventsPerSecond, wholeCpuMicros } = result;
      say(
        `round ${round}: ${contender.name} ${Math.round(eventsPerSecond)} events/s, ${wholeCpuMicros.toFixed(1)} µs with start`,
      );
    }
  }
  await deleteIndices(deps.bench.node);
  return contenders.map(({ name }) => toLine(name, results.get(name)!, starts.get(name)!, deps.events));
}

/** A contender without retries may not survive a single 429: its round is repeated, and said so. */
async function surviving(contender: Contender, id: string, deps: SideBySideDeps): Promise<Round> {
  for (let attempt = 1; ; attempt++) {
    await deleteIndices(deps.bench.node);
    try {
      return await measureRound(contender, `${id}-${attempt}`, deps);
    } catch (error) {
      if (attempt === 3) throw error;
      deps.say(`${errorText(error)}\nonce more`);
    }
  }
}
