// The shipped rules, written a second time and naively, from the operators' guide: thresholds are typed by hand, and a rule's `for` is
// part of its condition. In: what happened. Out: when the rule is right to fire. Those about calls are in call-labels.ts.
import { type Truth, truth, windowed } from './label.ts';
import type { Occurrence } from './occurrence.ts';
import {
  anyNewest,
  between,
  type Cut,
  field,
  lasting,
  ofEvent,
  readings,
  type Span,
  shareOf,
  whileTrue,
  windowOf,
} from './truth.ts';

const MINUTE = 60_000;
const httpStatus = (event: Occurrence) => Number(field(event.doc, 'http.status'));

function httpErrors(rule: string, above: number) {
  return (events: readonly Occurrence[], span: Span): Truth => {
    const part = (event: Occurrence) => httpStatus(event) >= 500;
    const share = { windowMs: 5 * MINUTE, minEvents: 50, part, holds: (value: number) => value > above };
    return windowed(rule, (cut) => shareOf(ofEvent(events, 'http.request'), span, share, cut));
  };
}

export const highHttpErrorRate = httpErrors('high-http-error-rate', 0.1);
export const elevatedHttpErrorRate = httpErrors('elevated-http-error-rate', 0.05);

export function slowResponses(events: readonly Occurrence[], span: Span): Truth {
  const within = windowOf(ofEvent(events, 'http.request'));
  const when = whileTrue(span, (ms) => {
    const took = within(ms, 5 * MINUTE).map(({ doc }) => Number(field(doc, 'http.durationMs')));
    return took.length >= 50 && took.sort((a, b) => a - b)[Math.ceil(took.length * 0.95) - 1]! > 500;
  });
  return truth('slow-responses', lasting(when, MINUTE));
}

/** 5 % of at least ten jobs taken in five minutes had waited for more than two minutes. */
export function queueWait(name: string) {
  return (events: readonly Occurrence[], span: Span): Truth => {
    const within = windowOf(ofEvent(events, 'queue.job').filter(({ doc }) => field(doc, 'queue.name') === name));
    const when = whileTrue(span, (ms) => {
      const waited = within(ms, 5 * MINUTE).map(({ doc }) => Number(field(doc, 'queue.waitMs')));
      return waited.length >= 10 && waited.sort((a, b) => a - b)[Math.ceil(waited.length * 0.95) - 1]! > 2 * MINUTE;
    });
    return truth('queue-wait', lasting(when, MINUTE), { 'queue.name': name });
  };
}

/** More than 60 in the last minute, and five times and six deviations more than in the minutes of the hour before. */
export function accessDeniedSpike(events: readonly Occurrence[], span: Span): Truth {
  const within = windowOf(events.filter((event) => [401, 403].includes(httpStatus(event))));
  const when = whileTrue(span, (ms) => {
    const past: number[] = [];
    for (let back = 1; back < 60 && ms - (back + 1) * MINUTE >= span.fromMs; back++) {
      past.push(within(ms - back * MINUTE, MINUTE).length);
    }
    if (past.length < 30) return false;
    const usual = median(past);
    const spread = 1.4826 * median(past.map((count) => Math.abs(count - usual)));
    return within(ms, MINUTE).length > Math.max(60, 5 * usual, usual + 6 * spread);
  });
  return truth('access-denied-spike', when);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)]! + sorted[Math.ceil((sorted.length - 1) / 2)]!) / 2;
}

/** Rules on the newest reading of each host, queue or process. */
function gaugeTruth(
  rule: string,
  path: string,
  above: number,
  forMs: number,
  scope?: { label: string; value: string },
) {
  return (events: readonly Occurrence[], span: Span): Truth => {
    const own = events.filter(({ doc }) => scope === undefined || field(doc, scope.label) === scope.value);
    const series = readings(own, (event) => numberAt(event, path), seriesOf(scope));
    const when = lasting(
      anyNewest(series.values(), span, (value) => value > above),
      forMs,
    );
    return truth(rule, when, scope === undefined ? {} : { [scope.label]: scope.value });
  };
}

/** All hosts report the same queue; everything else is reported per process. */
function seriesOf(scope: { label: string } | undefined): (event: Occurrence) => string {
  return ({ host, doc }) => (scope?.label === 'queue.name' ? '' : `${host}/${doc.pid}`);
}

function numberAt({ doc }: Occurrence, path: string): number | undefined {
  const value = field(doc, path);
  return typeof value === 'number' ? value : undefined;
}

export const queueBacklog = (name: string) =>
  gaugeTruth('queue-backlog', 'queue.waiting', 500, 30_000, { label: 'queue.name', value: name });
/** All readings of two minutes, of which the first half must have one. */
export function highCpu(host: string) {
  return (events: readonly Occurrence[], span: Span): Truth => {
    const within = between(ofEvent(events, 'system.stats').filter((event) => event.host === host));
    const holds = (cut: Cut) =>
      whileTrue(span, (ms) => {
        const window = within(cut(ms, 2 * MINUTE), ms);
        const first = window[0]?.trueMs ?? ms;
        return first <= ms - MINUTE && window.every((event) => (numberAt(event, 'system.cpuPercent') ?? 0) > 85);
      });
    return windowed('high-cpu', holds, { host });
  };
}
export const criticalDisk = (host: string) =>
  gaugeTruth('critical-disk-usage', 'system.diskPercent', 90, 30_000, { label: 'host', value: host });
export const highDisk = (host: string) =>
  gaugeTruth('high-disk-usage', 'system.diskPercent', 85, 30_000, { label: 'host', value: host });

function ratioOfReadings(
  rule: string,
  paths: readonly [string, string],
  above: number,
  forMs: number,
  labels: Truth['labels'] = {},
) {
  return (events: readonly Occurrence[], span: Span): Truth => {
    const share = (event: Occurrence) => {
      const [part, whole] = paths.map((path) => numberAt(event, path));
      return part === undefined || whole === undefined ? undefined : part / whole;
    };
    const series = readings(events, share, seriesOf(undefined));
    return truth(
      rule,
      lasting(
        anyNewest(series.values(), span, (value) => value > above),
        forMs,
      ),
      labels,
    );
  };
}

const HEAP = ['process.heapUsedBytes', 'process.heapLimitBytes'] as const;
export const criticalMemory = ratioOfReadings('critical-memory-usage', HEAP, 0.9, 30_000);
export const highMemory = ratioOfReadings('high-memory-usage', HEAP, 0.85, MINUTE);
export const poolExhausted = ratioOfReadings('db-pool-exhausted', ['db.poolInUse', 'db.poolSize'], 0.9, MINUTE, {
  'db.system': 'mongodb',
});

/** Fewer than 25 jobs taken in five minutes though at least five waited all the time. */
export function queueSlow(name: string) {
  return (events: readonly Occurrence[], span: Span): Truth => {
    const of = (event: string) => ofEvent(events, event).filter(({ doc }) => field(doc, 'queue.name') === name);
    const [taken, said] = [windowOf(of('queue.job')), windowOf(of('queue.stats'))];
    const when = whileTrue(span, (ms) => {
      if (ms - span.fromMs < 5 * MINUTE) return false;
      const waiting = said(ms, 5 * MINUTE).map(({ doc }) => Number(field(doc, 'queue.waiting')));
      return waiting.length > 0 && Math.min(...waiting) >= 5 && taken(ms, 5 * MINUTE).length < 25;
    });
    return truth('queue-slow', when, { 'queue.name': name });
  };
}

/** No event for two minutes. */
export function silent(events: readonly Occurrence[], span: Span): Truth {
  const within = windowOf(events);
  const when = whileTrue(span, (ms) => ms - span.fromMs >= 2 * MINUTE && within(ms, 2 * MINUTE).length === 0);
  return truth('application-silent', when);
}

/** A message that was never there before, three times. */
export function newError(events: readonly Occurrence[], message: RegExp, template: string): Truth {
  const [, , third] = events.filter(({ doc }) => message.test(String(doc.message)));
  const when = third === undefined ? [] : [{ fromMs: third.trueMs, toMs: third.trueMs + 10 * MINUTE }];
  return truth('new-error', when, { 'error.template': template });
}
