// Tests of rules, as users write them: log lines with times, and the alerts and messages that must follow. In: YAML. Out: what does
// not hold in each test, one sentence each, with its place and both times. Guarantee: an alert or message that a test does not expect
// is a failure too, so a rule that begins to page more often is noticed.

import { isDeepStrictEqual } from 'node:util';
import { durationMs } from '../core/clock.ts';
import { type Environment, loadYaml, type Schema } from '../core/config-loader.ts';
import { type ChannelName, NOTIFY_REASONS, type NotifyReason } from '../incidents/notification.ts';
import type { Measures } from '../measure/measure-config.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { Rules } from '../rules/rule-config.ts';
import type { TransformsConfig } from '../transform/transform.ts';
import {
  type Simulated,
  type SimulatedAlert,
  type SimulatedMessage,
  type SimulatedReading,
  type SimulatedRecord,
  simulate,
} from './simulate.ts';

interface RuleTestResult {
  readonly name: string;
  /** Empty when it holds. */
  readonly problems: readonly string[];
  /** Rules that fired, and those the test declares silent. */
  readonly fired: readonly string[];
  readonly silent: readonly string[];
}

interface RuleTestOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  readonly parse: ParseConfig;
  readonly transforms: TransformsConfig;
  readonly env: Environment;
}

const PARTITIONS = 4;
const SHIPPING_MS = 50;

/**
 * @param place the file's name, for messages
 * @throws LogpipeError LOGPIPE_CONFIG_INVALID, every problem of the file on a line of its own
 */
export function parseRuleTests(text: string, place: string, env: Environment): readonly WrittenTest[] {
  return loadYaml<{ tests: WrittenTest[] }>(text, RULE_TESTS_SCHEMA, env, place).tests;
}

/** All tests of a file, in its order. @throws as parseRuleTests */
export async function runRuleTests(text: string, place: string, options: RuleTestOptions): Promise<RuleTestResult[]> {
  const results: RuleTestResult[] = [];
  for (const test of parseRuleTests(text, place, options.env)) results.push(await runRuleTest(test, options));
  return results;
}

export async function runRuleTest(test: WrittenTest, options: Omit<RuleTestOptions, 'env'>): Promise<RuleTestResult> {
  const fromMs = Date.parse(test.start);
  const tickMs = offsetMs(test.tick);
  const simulated = await simulate(recordsOf(test, fromMs), {
    ...options,
    partitions: PARTITIONS,
    fromMs,
    toMs: fromMs + offsetMs(test.for),
    tickMs,
    readableTo: readableTo(test, fromMs),
    readings: test.readings.flatMap(({ measure, labels, value, ...times }) =>
      instants(times, test.for).map((at) => ({ atMs: fromMs + at, measure, labels, value })),
    ),
  });
  return {
    name: test.name,
    problems: compare(test.expect, simulated, { fromMs, tickMs, rules: options.rules }),
    fired: [...new Set(simulated.alerts.map(({ ruleId }) => ruleId))],
    silent: test.expect.silent,
  };
}

function recordsOf(test: WrittenTest, fromMs: number): SimulatedRecord[] {
  const records: SimulatedRecord[] = [];
  for (const entry of test.log) {
    for (const [n, at] of instants(entry, test.for).entries()) {
      const eventMs = fromMs + at;
      const arrivalMs = eventMs + SHIPPING_MS + (entry.late === undefined ? 0 : offsetMs(entry.late));
      const partition = records.length % PARTITIONS;
      records.push({ arrivalMs, partition, value: Buffer.from(lineOf(entry, eventMs, n)) });
    }
  }
  return records.sort((one, other) => one.arrivalMs - other.arrivalMs);
}

/** `{n}` counts the repetitions of the entry. A `line` is taken as it is; `{time}` in it is the event's time. */
function lineOf(entry: WrittenTest['log'][number], eventMs: number, n: number): string {
  const time = new Date(eventMs).toISOString();
  const fields = { timestamp: time, level: 'info', message: 'test', service: 'test', ...entry.event, ...entry.with };
  const text = entry.line ?? JSON.stringify(fields);
  return text.replaceAll('{n}', String(n)).replaceAll('{time}', time);
}

function instants({ at, from = 0, to, every }: Times, whole: Offset): number[] {
  if (at !== undefined || every === undefined) return [offsetMs(at ?? from)];
  const end = offsetMs(to ?? whole);
  const step = Math.max(1, offsetMs(every));
  const list: number[] = [];
  for (let ms = offsetMs(from); ms < end; ms += step) list.push(ms);
  return list;
}

/** During a stall a partition is only read up to where the stall began. */
function readableTo({ stalls }: WrittenTest, fromMs: number): (partition: number, nowMs: number) => number {
  const spans = stalls.map(({ from, to, partition }) => ({
    partition,
    from: fromMs + offsetMs(from),
    to: fromMs + offsetMs(to),
  }));
  return (partition, nowMs) => {
    const stall = spans.find((span) => {
      return (span.partition ?? partition) === partition && nowMs >= span.from && nowMs < span.to;
    });
    return stall?.from ?? nowMs;
  };
}

// ---- the file: its schema, and the same as types ----

/** After the schema's checks. */
type Offset = string | 0;

interface Times {
  readonly at?: Offset;
  readonly from?: Offset;
  readonly to?: Offset;
  readonly every?: Offset;
}

interface WrittenMessage {
  readonly at: string;
  readonly title: string;
  readonly action: 'trigger' | 'resolve';
  readonly reason?: NotifyReason;
  readonly to?: readonly ChannelName[];
  readonly message?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

interface WrittenTest {
  readonly name: string;
  readonly start: string;
  readonly for: Offset;
  readonly tick: Offset;
  readonly log: readonly (Times & {
    readonly late?: Offset;
    readonly event?: object;
    readonly with?: object;
    readonly line?: string;
  })[];
  readonly readings: readonly (Times & Omit<SimulatedReading, 'atMs'>)[];
  readonly stalls: readonly { readonly from: Offset; readonly to: Offset; readonly partition?: number }[];
  readonly expect: {
    readonly silent: readonly string[];
    readonly alerts: readonly {
      readonly rule: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly fires: string;
      readonly resolves?: string;
      readonly muted: boolean;
    }[];
    readonly messages?: readonly WrittenMessage[];
  };
}

/** `90s`, or in parts: `1m30s`. */
export function offsetMs(text: Offset): number {
  const parts = String(text).match(/\d+(?:ms|[smhd])/g) ?? [];
  return parts.reduce((sum, part) => sum + durationMs(part), 0);
}

// `0` without a unit is a number in YAML.
const OFFSET = {
  anyOf: [
    {
      type: 'string',
      pattern: '^(0|(\\d{1,9}(ms|s|m|h|d))+)$',
      permitted: 'a time since the beginning, like 0, 90s or 1m30s',
    },
    { const: 0 },
  ],
} as const;
const RANGE = {
  type: 'string',
  pattern: '^(0|(\\d{1,9}(ms|s|m|h|d))+)(\\.\\.(\\d{1,9}(ms|s|m|h|d))+)?$',
  permitted: 'a time since the beginning, or two: 90s, 0..5m',
} as const;

/** The file: `tests`, each with what is logged and what is expected. Times are offsets from the test's `start`. */
const RULE_TESTS_SCHEMA = {
  type: 'object',
  additionalProperties: false,
  required: ['tests'],
  properties: {
    /** Events that several tests refer to by YAML anchors. */
    events: { type: 'object', additionalProperties: { type: 'object' } },
    tests: {
      type: 'array',
      minItems: 1,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['name', 'for', 'expect'],
        properties: {
          name: { type: 'string', minLength: 1 },
          start: {
            type: 'string',
            pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d(:\\d\\d)?Z$',
            permitted: 'a time in UTC, like 2026-01-31T08:00Z',
            default: '2026-01-05T10:00:00Z',
          },
          for: { ...OFFSET },
          /** Between two evaluations: a test of many hours need not look every second. */
          tick: { ...OFFSET, default: '1s' },
          log: {
            type: 'array',
            default: [],
            items: {
              type: 'object',
              additionalProperties: false,
              properties: {
                at: { ...OFFSET },
                from: { ...OFFSET },
                to: { ...OFFSET },
                every: { ...OFFSET },
                /** Arrives this much later than it happened. */
                late: { ...OFFSET },
                event: { type: 'object' },
                /** Fields over those of `event`, which is often an alias. */
                with: { type: 'object' },
                line: { type: 'string' },
              },
            },
          },
          readings: {
            type: 'array',
            default: [],
            items: {
              type: 'object',
              additionalProperties: false,
              required: ['measure', 'value'],
              properties: {
                at: { ...OFFSET },
                from: { ...OFFSET },
                to: { ...OFFSET },
                every: { ...OFFSET },
                measure: { type: 'string' },
                labels: { type: 'object', default: {} },
                value: { type: 'number' },
              },
            },
          },
          /** When logpipe reads nothing, from one partition or from all. */
          stalls: {
            type: 'array',
            default: [],
            items: {
              type: 'object',
              additionalProperties: false,
              required: ['from', 'to'],
              properties: {
                from: { ...OFFSET },
                to: { ...OFFSET },
                partition: { type: 'integer', minimum: 0, maximum: 3 },
              },
            },
          },
          expect: {
            type: 'object',
            additionalProperties: false,
            properties: {
              /** Rules that must stay silent although little is missing for them to fire: the subject of this test. */
              silent: { type: 'array', default: [], items: { type: 'string' } },
              alerts: {
                type: 'array',
                default: [],
                items: {
                  type: 'object',
                  additionalProperties: false,
                  required: ['rule', 'fires'],
                  properties: {
                    rule: { type: 'string' },
                    labels: { type: 'object', default: {} },
                    fires: { ...RANGE },
                    resolves: { ...RANGE },
                    muted: { type: 'boolean', default: false },
                  },
                },
              },
              messages: {
                type: 'array',
                items: {
                  type: 'object',
                  additionalProperties: false,
                  required: ['at', 'title'],
                  properties: {
                    at: { ...RANGE },
                    title: { type: 'string' },
                    action: { enum: ['trigger', 'resolve'], default: 'trigger' },
                    reason: { enum: NOTIFY_REASONS },
                    to: { type: 'array', items: { enum: ['slack', 'pagerduty', 'email'] } },
                    message: { type: 'string' },
                    metadata: { type: 'object' },
                  },
                },
              },
            },
          },
        },
      },
    },
  },
} as const satisfies Schema;

// ---- what was expected, compared with what happened ----

interface Scale {
  readonly fromMs: number;
  /** How exact a single time can be. */
  readonly tickMs: number;
  readonly rules: Rules;
}

/** What does not hold, including everything that happened and was not expected. */
function compare(expected: WrittenTest['expect'], { alerts, messages }: Simulated, scale: Scale): string[] {
  const problems = unknownRules(expected, scale);
  const rest = [...alerts];
  for (const expectation of expected.alerts) {
    const { rule, labels, fires } = expectation;
    const at = rest.findIndex((alert) => alert.ruleId === rule && sameLabels(alert.labels, labels));
    if (at < 0) problems.push(`${named(rule, labels)}: expected to fire at ${fires}, it did not fire`);
    else problems.push(...compareAlert(expectation, rest.splice(at, 1)[0]!, scale));
  }
  for (const { ruleId, labels, firedMs, message } of rest) {
    problems.push(`${named(ruleId, labels)}: not expected, it fired at ${clockOf(firedMs - scale.fromMs)}: ${message}`);
  }
  const written = expected.messages;
  if (written === undefined) return problems;
  for (let i = 0; i < Math.max(written.length, messages.length); i++) {
    const problem = compareMessage(written[i], messages[i], scale);
    if (problem !== undefined) problems.push(`message ${i + 1}: ${problem}`);
  }
  return problems;
}

/** A misspelt name would stay silent forever. */
function unknownRules({ silent, alerts }: WrittenTest['expect'], { rules }: Scale): string[] {
  const known = new Set(rules.map(({ id }) => id));
  const unknown = [...silent, ...alerts.map(({ rule }) => rule)].filter((id) => !known.has(id));
  return [...new Set(unknown)].map((id) => `${id}: there is no such rule`);
}

function compareAlert(
  { rule, labels, fires, resolves, muted }: WrittenTest['expect']['alerts'][number],
  alert: SimulatedAlert,
  scale: Scale,
): string[] {
  const name = named(rule, labels);
  const since = (ms: number) => ms - scale.fromMs;
  const problems: string[] = [];
  if (!within(since(alert.firedMs), fires, scale)) {
    problems.push(`${name}: expected to fire at ${fires}, it fired at ${clockOf(since(alert.firedMs))}`);
  }
  if (alert.muted !== muted) problems.push(`${name}: expected to be ${muted ? 'muted' : 'heard'}, it was not`);
  if (resolves === undefined) return problems;
  if (alert.resolvedMs === undefined) problems.push(`${name}: expected to resolve at ${resolves}, it still fires`);
  else if (!within(since(alert.resolvedMs), resolves, scale)) {
    problems.push(`${name}: expected to resolve at ${resolves}, it did at ${clockOf(since(alert.resolvedMs))}`);
  }
  return problems;
}

function compareMessage(
  want: WrittenMessage | undefined,
  got: SimulatedMessage | undefined,
  scale: Scale,
): string | undefined {
  if (got === undefined) return `expected "${want?.title}" at ${want?.at}, none was sent`;
  const { title, action, reason, message, metadata = {} } = got.notification;
  const at = clockOf(got.atMs - scale.fromMs);
  const told = `"${title}" (${action}, ${reason}) at ${at} to ${got.channels.join(', ') || 'nobody'}`;
  if (want === undefined) return `not expected: ${told}: ${message}`;
  const fits =
    title === want.title &&
    action === want.action &&
    within(got.atMs - scale.fromMs, want.at, scale) &&
    (want.reason ?? reason) === reason &&
    (want.message ?? message) === message &&
    (want.metadata === undefined || isDeepStrictEqual(want.metadata, metadata)) &&
    (want.to === undefined || [...want.to].sort().join() === [...got.channels].sort().join());
  if (fits) return undefined;
  const details = want.metadata === undefined ? '' : ` ${JSON.stringify(metadata)}`;
  return `expected ${JSON.stringify(want)}, found ${told}: ${message}${details}`;
}

/** `90s..2m`, or one time with a tolerance of a tick. */
function within(ms: number, range: string, { tickMs }: Scale): boolean {
  const [from, to] = range.split('..') as [string, string | undefined];
  const least = offsetMs(from);
  return ms >= least && ms <= (to === undefined ? least + tickMs : offsetMs(to));
}

function sameLabels(one: Readonly<Record<string, string>>, other: Readonly<Record<string, string>>): boolean {
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => one[name] === other[name]);
}

function named(rule: string, labels: Readonly<Record<string, string>>): string {
  const values = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  return values.length === 0 ? rule : `${rule}{${values.join(',')}}`;
}

/** As times are written in tests. */
function clockOf(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor((seconds % 3_600) / 60)];
  const parts = [
    [hours, 'h'],
    [minutes, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const text = parts.map(([n, unit]) => (n === 0 ? '' : `${n}${unit}`)).join('');
  return text === '' ? '0s' : text;
}
