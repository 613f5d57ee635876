// Makes docs/events.md, which says what each event feeds, from the events' contract, the shipped measures and the shipped rules.
// No measure that reads an event, and no rule that reads a measure, can be missing from it.
import { EVENTS } from '../src/core/catalogue.ts';
import type { Where } from '../src/core/condition.ts';
import {
  type CollectedMeasure,
  isCollected,
  type Measure,
  type MeasureReference,
  type Measures,
} from '../src/measure/measure-config.ts';
import type { Rules } from '../src/rules/rule-config.ts';
import { sourcesOf } from '../src/windows/values.ts';
import { code, document, table } from './markdown.ts';

const INTRO = `# Events

The application names what happened in the field \`event\`. What each event must carry, with a JSON schema to check against, is in
[fields.md](fields.md#events). This page says what comes of each: which [measures](rules.md#measures-of-your-own) it feeds, and
which [rules](rules.md) read those.

## For application developers

- **An event is one log call**: \`logger.info('call ended', { event: 'call.ended', callId, call: { … } })\`. Level and message
  are yours. Level \`error\` or worse also counts as an error.
- **\`call.ended\` once per call**, at its final state. Failed calls are divided by the calls that *ended* in the window. (The
  operators’ guide divides by calls created; a call that is still ringing has not failed, and would make every rate too low.)
- **What is reported every 15 s** (\`queue.stats\`, \`db.pool\`, \`platform.stats\`, \`process.stats\`, \`system.stats\`) is a reading:
  the newest one counts, and after 60 s without a new one there is no data. \`startProcessStats()\` of the transport logs the last two.
- **What is missing is unknown, never 0.** Without \`db.pool\` no rule judges pools, and the statistics say \`null\`.
- **A violated contract loses nothing.** The record is indexed with the tag \`_event_invalid\`. It is counted as far as it can be:
  a \`call.ended\` without \`call.durationMs\` counts as a call and not as a duration.
- **\`version\`** lets an alert say with which release errors began; the transport puts it into every record when it is given.
  **\`tenantId\`** lets it say whose calls fail.
- **Labels have bounds.** Where a label is new every time (an id in \`http.route\`), the first \`maxSeries\` label sets per partition
  and 10 s are kept apart; the rest is counted together. The total stays right.`;

interface Row {
  /** Event, or what stands for records of any event. */
  readonly name: string;
  readonly takes: (measure: CollectedMeasure) => boolean;
}

const ROWS: readonly Row[] = [
  ...Object.keys(EVENTS).map((name) => ({
    name: code(name),
    takes: (measure: CollectedMeasure) => eventOf(measure) === name,
  })),
  {
    name: 'any record with the tag `error`',
    takes: (measure) => eventOf(measure) === undefined && measure.where.tags === 'error',
  },
  { name: 'any record', takes: (measure) => eventOf(measure) === undefined && Object.keys(measure.where).length === 0 },
];

/** Which event a measure is collected from; the shipped ones name one, or none. */
function eventOf({ where }: CollectedMeasure): unknown {
  return where.event;
}

export function eventsDocs(measures: Measures, rules: Rules): string {
  const all = [...measures.values()];
  return document([
    INTRO,
    '## What each event feeds',
    table(
      ['event', 'measures', 'rules'],
      ROWS.map(({ name, takes }) => {
        const collected = all.filter(isCollected).filter((measure) => !isInternal(measure) && takes(measure));
        const fed = fedBy(
          collected.map((measure) => measure.name),
          all,
        );
        return [name, list(fed), list(readersOf(fed, rules))];
      }),
    ),
    `Measures that no shipped rule reads are there for statistics, Prometheus and rules of your own. \`call.started\` feeds no measure: active
calls come from \`platform.stats\`.`,
    '## Measures',
    `Collected from events (counter, distribution, gauge) or computed over a window from those. Names under
\`/metrics/platform\` are in the last column.`,
    table(
      ['measure', 'kind', 'from', 'labels', 'rules', 'Prometheus'],
      all
        .filter((measure) => !isInternal(measure))
        .map((measure) => [
          code(measure.name),
          measure.kind,
          fromText(measure),
          list(labelsOf(measure)),
          list(readersOf([measure.name], rules)),
          code(measure.prometheus?.name ?? ''),
        ]),
    ),
    '## Readings that come from no event',
    `Set by logpipe itself (how far counting is) or by its health monitor, which asks every 5 minutes. With \`monitor.redisUrl\` the
monitor also reads \`queue.size\` of every Bull queue from Redis.`,
    table(
      ['measure', 'labels', 'rules'],
      all
        .filter(isInternal)
        .map((measure) => [code(measure.name), list(labelsOf(measure)), list(readersOf([measure.name], rules))]),
    ),
  ]);
}

function isInternal(measure: Measure): boolean {
  return measure.kind === 'gauge' && measure.internal;
}

function labelsOf(measure: Measure): readonly string[] {
  return isCollected(measure) ? measure.by : [];
}

/** The measures themselves, and those that are computed from them. */
function fedBy(names: readonly string[], all: readonly Measure[]): string[] {
  const derived = all.filter(
    (measure) => !isCollected(measure) && sourcesOf(measure).some((name) => names.includes(name)),
  );
  return [...names, ...derived.map(({ name }) => name)];
}

/** Rules that judge one of the measures, or look at one to decide whether to judge. */
function readersOf(names: readonly string[], rules: Rules): string[] {
  return rules
    .filter((rule) => {
      if (rule.kind === 'late') return false;
      const more = 'over' in rule ? [rule.fallback, rule.onlyWhile?.measure] : [];
      return [rule.measure, ...more].some((name) => name !== undefined && names.includes(name));
    })
    .map(({ id }) => id);
}

/** The event and conditions of a collected measure; what a derived one is made from. */
function fromText(measure: Measure): string {
  if (measure.kind === 'ratio') return `${reference(measure.numerator)} / ${reference(measure.denominator)}`;
  if (!isCollected(measure)) return reference(measure.of);
  const { event, ...where } = measure.where;
  const what = event === undefined ? 'any record' : code(String(event));
  const field = 'field' in measure && measure.field !== '' ? `, \`${measure.field}\`` : '';
  return `${what}${conditionsText(where)}${field}`;
}

function reference({ of, where }: MeasureReference): string {
  return `${code(of)}${conditionsText(where)}`;
}

function conditionsText(where: Where): string {
  const conditions = Object.entries(where).map(([path, condition]) => `${code(path)} ${conditionText(condition)}`);
  return conditions.length === 0 ? '' : ` with ${conditions.join(' and ')}`;
}

function conditionText(condition: unknown): string {
  if (Array.isArray(condition)) return `one of ${condition.map((value) => code(String(value))).join(', ')}`;
  if (typeof condition !== 'object') return `= \`${String(condition)}\``;
  return Object.entries(condition as object)
    .map(([operator, value]) => `${OPERATORS[operator] ?? operator} \`${String(value)}\``)
    .join(' and ');
}

const OPERATORS: Readonly<Record<string, string>> = { gt: '>', gte: '≥', lt: '<', lte: '≤' };

function list(names: readonly string[]): string {
  return names.map(code).join(', ');
}
