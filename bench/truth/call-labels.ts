// The shipped rules about calls, written a second time: see labels.ts.
import { type Truth, truth, windowed } from './label.ts';
import type { Occurrence } from './occurrence.ts';
import {
  atTenSeconds,
  between,
  type Cut,
  exactly,
  field,
  type Interval,
  ofEvent,
  type Span,
  shareOf,
  whileTrue,
  windowOf,
} from './truth.ts';

const MINUTE = 60_000;
const status = (event: Occurrence) => String(field(event.doc, 'call.status'));
const failed = (event: Occurrence) => status(event) === 'failed';
const reached = (event: Occurrence) => ['completed', 'voicemail'].includes(status(event));

function callShare(
  rule: string,
  {
    minutes,
    least = 20,
    holds,
    part = failed,
  }: { minutes: number; least?: number; holds: (share: number) => boolean; part?: typeof failed },
) {
  return (events: readonly Occurrence[], span: Span): Truth => {
    const share = { windowMs: minutes * MINUTE, minEvents: least, part, holds };
    return windowed(rule, (cut) => shareOf(ofEvent(events, 'call.ended'), span, share, cut));
  };
}

export const highErrorRate = callShare('high-error-rate', { minutes: 5, holds: (share) => share > 0.2 });
export const elevatedErrorRate = callShare('elevated-error-rate', {
  minutes: 5,
  least: 60,
  holds: (share) => share > 0.1,
});
export const lowCallSuccess = callShare('low-call-success', {
  minutes: 15,
  holds: (share) => share < 0.5,
  part: reached,
});

export function lowRetrySuccess(events: readonly Occurrence[], span: Span): Truth {
  const retried = events.filter(({ doc }) => Number(field(doc, 'call.attempt')) > 1);
  const rule = callShare('low-retry-success', { minutes: 30, holds: (share) => share < 0.2, part: reached });
  return rule(retried, span);
}

interface LastCalls {
  readonly last: number;
  readonly least: number;
  readonly holds: (share: number) => boolean;
  /** With this many in five minutes, another rule judges instead. */
  readonly unless: number;
}

/** While the share of the newest calls within an hour is as `holds` says. */
function lastCalls(events: readonly Occurrence[], span: Span, { last, least, holds, unless }: LastCalls): Interval[] {
  const within = windowOf(ofEvent(events, 'call.ended'));
  return whileTrue(span, (ms) => {
    if (within(ms, 5 * MINUTE).length >= unless) return false;
    const calls = within(ms, 60 * MINUTE).slice(-last);
    return calls.length >= least && holds(calls.filter(failed).length / calls.length);
  });
}

export const allCallsFailing = (events: readonly Occurrence[], span: Span): Truth =>
  truth(
    'all-calls-failing',
    lastCalls(events, span, { last: 10, least: 10, holds: (share) => share === 1, unless: 20 }),
  );

export const mostCallsFailing = (events: readonly Occurrence[], span: Span): Truth =>
  truth(
    'most-calls-failing',
    lastCalls(events, span, { last: 10, least: 5, holds: (share) => share >= 0.8, unless: 20 }),
  );

/** The calls of ten seconds count together, so it may be the last 60, or one or two more. */
export function manyCallsFailing(events: readonly Occurrence[], span: Span): Truth {
  const ofLast = (last: number) =>
    lastCalls(events, span, { last, least: 60, holds: (share) => share > 0.1, unless: 60 });
  const { permitted } = truth('', [60, 61, 62, 63].flatMap(ofLast));
  return { ...truth('many-calls-failing', ofLast(60)), permitted };
}

/** For each tenant: 30 % of at least ten calls in ten minutes, three times as much as for all the others together. */
function tenantsAhead(calls: readonly Occurrence[], span: Span, cut: Cut): (tenantId: string) => Interval[] {
  const within = between(calls);
  const ahead = new Map<number, Set<string>>();
  for (let ms = span.fromMs; ms <= span.toMs; ms += 1_000) {
    const tenants = new Map<string, { n: number; failed: number }>();
    const all = { n: 0, failed: 0 };
    for (const call of within(cut(ms, 10 * MINUTE), ms)) {
      const tenantId = String(call.doc.tenantId);
      const own = tenants.get(tenantId) ?? { n: 0, failed: 0 };
      tenants.set(tenantId, own);
      for (const counts of [own, all]) {
        counts.n += 1;
        if (failed(call)) counts.failed += 1;
      }
    }
    const standsOut = ([, own]: [string, typeof all]) => {
      const others = { n: all.n - own.n, failed: all.failed - own.failed };
      if (own.n < 10 || others.n < 10) return false;
      return own.failed / own.n > 0.3 && own.failed / own.n >= (3 * others.failed) / others.n;
    };
    const names = [...tenants].filter(standsOut).map(([name]) => name);
    if (names.length > 0) ahead.set(ms, new Set(names));
  }
  return (tenantId) => whileTrue(span, (ms) => ahead.get(ms)?.has(tenantId) === true);
}

/** While everybody's calls begin to fail, a small tenant may be ahead by chance: such an alert is true, if of little use. */
export function anyTenant(events: readonly Occurrence[], span: Span): Truth[] {
  const calls = ofEvent(events, 'call.ended');
  const [exact, late] = [exactly, atTenSeconds].map((cut) => tenantsAhead(calls, span, cut)) as [
    (tenantId: string) => Interval[],
    (tenantId: string) => Interval[],
  ];
  const tenants = new Set(calls.map(({ doc }) => String(doc.tenantId)));
  return [...tenants].map((tenantId) =>
    windowed('tenant-error-rate', (cut) => (cut === exactly ? exact : late)(tenantId), { tenantId }),
  );
}

export function tenantErrorRate(events: readonly Occurrence[], span: Span, tenantId: string): Truth {
  return anyTenant(events, span).find(({ labels }) => labels.tenantId === tenantId)!;
}
