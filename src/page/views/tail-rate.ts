// How much of the log the tail shows. In: the numbers of each event of the stream, which come once or several times a second, or not at all
// while nothing is logged. Out: numbers per second over the last few seconds, and words. Guarantee: pure but for the clock it is given; what
// was not looked at is said, and never counted as not matching.
import type { TailLines } from '../../ops/page-data.ts';

const WINDOW_MS = 5_000;
const LEAST_MS = 1_000;

/** Each per second. */
export interface TailRate {
  readonly shown: number;
  readonly passed: number;
  readonly looked: number;
  readonly matched: number;
}

interface RateMeter {
  add(event: TailLines): void;
  rate(): TailRate;
}

export function createRateMeter(nowMs: () => number): RateMeter {
  const startMs = nowMs();
  let events: { readonly atMs: number; readonly event: TailLines }[] = [];
  const keepNew = () => {
    events = events.filter(({ atMs }) => nowMs() - atMs <= WINDOW_MS);
  };
  return {
    add(event) {
      keepNew();
      events.push({ atMs: nowMs(), event });
    },
    rate() {
      keepNew();
      const seconds = Math.min(WINDOW_MS, Math.max(LEAST_MS, nowMs() - startMs)) / 1_000;
      const perSecond = (of: (event: TailLines) => number) =>
        Math.round(events.reduce((sum, { event }) => sum + of(event), 0) / seconds);
      return {
        shown: perSecond(({ lines }) => lines.length),
        passed: perSecond(({ passed }) => passed),
        looked: perSecond(({ looked }) => looked),
        matched: perSecond(({ matched }) => matched),
      };
    },
  };
}

/** "Showing 50 of 1,204 lines a second; 400 looked at, 60 match." */
export function tailWords({ shown, passed, looked, matched }: TailRate, hasFilter: boolean): string {
  const text = (value: number) => value.toLocaleString('en-US');
  const more = [
    ...(looked < passed ? [`${text(looked)} looked at`] : []),
    ...(hasFilter ? [`${text(matched)} ${matched === 1 ? 'matches' : 'match'}`] : []),
  ];
  const all = `Showing ${text(shown)} of ${text(passed)} ${passed === 1 ? 'line' : 'lines'} a second`;
  return `${all}${more.length === 0 ? '' : `; ${more.join(', ')}`}.`;
}
