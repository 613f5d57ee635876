// Tests of rules, as users write them: log lines with times in, expected alerts and messages out. In: YAML. Out: per test what
// does not hold, in words. Guarantee: an alert or message that no test expects is a failure too, so a rule that begins to
// page more often is noticed.
import { type Environment, loadYaml } from '../core/config-loader.ts';
import type { Measures } from '../measure/measure-config.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { Rules } from '../rules/rule-config.ts';
import { type DriveRecord, drive } from './drive.ts';
import { compare } from './rule-tests-compare.ts';
import { type Offset, offsetMs, RULE_TESTS_SCHEMA, type Times, type WrittenTest } from './rule-tests-schema.ts';

export interface RuleTestResult {
  readonly name: string;
  /** Empty when it holds. */
  readonly problems: readonly string[];
  /** Rules that fired, and those the test declares silent. */
  readonly fired: readonly string[];
  readonly silent: readonly string[];
}

export interface RuleTestOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  readonly parse: ParseConfig;
  readonly env: Environment;
}

const LANES = 4;
const SHIPPING_MS = 50;

/**
 * @param place stands in messages
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
  const driven = await drive(recordsOf(test, fromMs), {
    ...options,
    lanes: LANES,
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
    problems: compare(test.expect, driven, { fromMs, tickMs, rules: options.rules }),
    fired: [...new Set(driven.alerts.map(({ ruleId }) => ruleId))],
    silent: test.expect.silent,
  };
}

function recordsOf(test: WrittenTest, fromMs: number): DriveRecord[] {
  const records: DriveRecord[] = [];
  for (const entry of test.log) {
    for (const [n, at] of instants(entry, test.for).entries()) {
      const eventMs = fromMs + at;
      const arrivalMs = eventMs + SHIPPING_MS + (entry.late === undefined ? 0 : offsetMs(entry.late));
      records.push({ arrivalMs, lane: records.length % LANES, value: Buffer.from(lineOf(entry, eventMs, n)) });
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

/** During a stall a partition is read no further than to its beginning. */
function readableTo({ stalls }: WrittenTest, fromMs: number): (lane: number, nowMs: number) => number {
  const spans = stalls.map(({ from, to, partition }) => ({
    partition,
    from: fromMs + offsetMs(from),
    to: fromMs + offsetMs(to),
  }));
  return (lane, nowMs) => {
    const stall = spans.find(({ partition, from, to }) => (partition ?? lane) === lane && nowMs >= from && nowMs < to);
    return stall?.from ?? nowMs;
  };
}
