// `logpipe rules check | test | explain`: are the rules fine, do they fire when they should, and why does one fire now, or not? And
// `logpipe backtest`, with `logpipe replay --alerts shadow`: what they would have done over what was recorded. In: the command line. Out:
// lists and timelines, for people or as JSON. Guarantee: reads only: nobody's offsets move, nobody is told anything; no server is touched
// but the running logpipe that explains, and the stored records that a backtest reads.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { nearest } from '../core/config-loader.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { packageRoot } from '../core/package-root.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { loadMeasures, type Measures } from '../measure/measure-config.ts';
import { type MeaningLine, meaningOf, type RuleExplanation, type SetStatus } from '../ops/explain.ts';
import type { Difference, Timeline, TimelineAlert } from '../replay/backtest.ts';
import { type BacktestResult, backtest, createShadowAlerts } from '../replay/backtest.ts';
import { maskedText } from '../replay/record-document.ts';
import type { ReplayDeps } from '../replay/replay.ts';
import { runRuleTests } from '../replay/rule-tests.ts';
import { parseTimeRange, type TimeRange } from '../replay/sources.ts';
import { ARRIVAL_SOURCES, type ArrivalSource, openByArrival, type StoredRecord } from '../replay/stored.ts';
import { loadRules, type Rules, reachOf } from '../rules/rule-config.ts';
import { type Io, jsonBlock, jsonLine, readYamlFile, say, shown, tellTests, toDuration, wantsJson } from './io.ts';
import { addressesOf, askForRule, reasonOf } from './top.ts';

interface RulesOptions {
  readonly rules?: string;
  readonly measures?: string;
  readonly json: boolean;
}

function load(config: Config, options: RulesOptions): { measures: Measures; rules: Rules } {
  const measures = loadMeasures({ file: options.measures ?? config.alerts.measuresFile, env: process.env });
  return { measures, rules: loadRules({ file: options.rules ?? config.alerts.rulesFile, env: process.env, measures }) };
}

/** Lists the rules. @throws LogpipeError LOGPIPE_CONFIG_INVALID with every problem */
export function rulesCheck(config: Config, options: RulesOptions, io: Io): number {
  const { measures, rules } = load(config, options);
  if (options.json) {
    io.out(jsonLine({ measures: measures.size, rules }, createMasker(config.mask)));
    return 0;
  }
  for (const { priority, id, kind, group, title } of rules) {
    io.out(`${priority}  ${id.padEnd(26)}  ${kind.padEnd(11)}  ${group.padEnd(14)}  ${title}`);
  }
  io.out(`${rules.length} rules over ${measures.size} measures: fine`);
  return 0;
}

/**
 * Runs test files; without any, those beside the rules (`rules.test.yml` of `rules.yml`), else the shipped rules' own. Exit status 1 when a test fails. @throws LogpipeError for a file
 * that is none
 */
export async function rulesTest(
  files: readonly string[],
  config: Config,
  options: RulesOptions,
  io: Io,
): Promise<number> {
  const { measures, rules } = load(config, options);
  const all = [];
  for (const file of files.length === 0 ? [testsOf(options.rules ?? config.alerts.rulesFile)] : files) {
    const { parse, transforms } = config;
    const results = await runRuleTests(readYamlFile(file), file, {
      measures,
      rules,
      parse,
      transforms,
      env: process.env,
    });
    all.push(...results.map((result) => ({ file, ...result })));
  }
  return tellTests(all, options, io, createMasker(config.mask));
}

function testsOf(rulesFile: string | undefined): string {
  const beside = rulesFile?.replace(/\.ya?ml$/, '.test.yml');
  return beside !== undefined && existsSync(beside) ? beside : join(packageRoot(), 'config', 'rules.test.yml');
}

// ---- logpipe rules explain ----

interface ExplainOptions extends RulesOptions {
  readonly url: readonly string[];
  readonly offline: boolean;
}

/**
 * Says what the rule means; and from a running logpipe, of each label set, why it fires or not. Exit status 1 when an address that was
 * named does not answer.
 * @throws LogpipeError LOGPIPE_USAGE for an id that is none, LOGPIPE_CONFIG_INVALID
 */
export async function rulesExplain(id: string, config: Config, options: ExplainOptions, io: Io): Promise<number> {
  const masker = createMasker(config.mask);
  const { answer, problems } = await live(id, config, options);
  if (answer !== undefined) {
    if (options.json) io.out(jsonLine({ live: true, ...answer }, masker));
    else for (const line of explanation(answer)) io.out(line);
    return 0;
  }
  const { measures, rules } = load(config, options);
  const rule = rules.find((one) => one.id === id);
  if (rule === undefined) throw unknownRule(id, rules);
  const { title, priority, kind } = rule;
  const meaning = meaningOf(rule, measures);
  if (options.json) io.out(jsonLine({ live: false, problems, id, title, priority, kind, meaning }, masker));
  else for (const line of headed({ id, title, priority, kind }, meaning)) io.out(line);
  for (const problem of problems) io.err(`value now: not known. ${visible(problem)}`);
  return problems.length > 0 && options.url.length > 0 ? 1 : 0;
}

/** What the first instance that knows the rule says of it, else why none does. */
async function live(
  id: string,
  config: Config,
  { url, offline }: ExplainOptions,
): Promise<{ readonly answer?: RuleExplanation; readonly problems: string[] }> {
  const problems: string[] = [];
  if (offline) return { problems };
  if (url.length === 0 && (!config.http.enabled || config.http.port === 0)) {
    return { problems: ['The configuration names no HTTP address; name one with --url, or use --offline'] };
  }
  for (const address of addressesOf(url, () => config)) {
    try {
      const answer = await askForRule(address, id);
      if (!('refused' in answer)) return { answer, problems: [] };
      problems.push(
        answer.refused === 404
          ? `${address} has no such rule, or is of a version that cannot explain`
          : `${address} does not evaluate alerts; name the one that does with --url`,
      );
    } catch (error) {
      problems.push(`${address}: ${reasonOf(error)}; start logpipe run, name its address with --url, or use --offline`);
    }
  }
  return { problems };
}

function unknownRule(id: string, rules: Rules): LogpipeError {
  const ids = rules.map((rule) => rule.id);
  const near = nearest(id, ids) ?? ids.find((one) => id.length >= 4 && one.includes(id));
  const help = near === undefined ? 'logpipe rules check lists them' : `did you mean "${near}"?`;
  return new LogpipeError('LOGPIPE_USAGE', `rules explain: there is no rule "${visible(id.slice(0, 80))}"; ${help}`);
}

type Heading = Pick<RuleExplanation, 'id' | 'title' | 'priority' | 'kind'>;

function headed({ id, title, priority, kind }: Heading, meaning: readonly MeaningLine[]): string[] {
  return [
    `${priority}  ${visible(id)}  ${kind}  ${visible(title)}`,
    ...meaning.map(([name, text]) => `  ${visible(name).padEnd(11)}  ${visible(text)}`),
  ];
}

function explanation(rule: RuleExplanation): string[] {
  const { meaning, sets, more, note } = rule;
  return [
    ...headed(rule, meaning),
    '',
    'Now:',
    ...sets.flatMap(setLines),
    ...(more > 0 ? [`  and ${more} label sets more`] : []),
    ...(note === null ? [] : [`  ${visible(note)}`]),
  ];
}

function setLines({ labels, state, because, alert }: SetStatus): string[] {
  const of = Object.entries(labels).map(([name, value]) => `${visible(name)} ${visible(value)}`);
  return [
    `  ${state.padEnd(9)}  ${visible(of.length === 0 ? because : `${of.join(', ')}: ${because}`)}`,
    ...(alert === null ? [] : [`  ${' '.repeat(9)}  ${visible(alert.text)}`]),
  ];
}

// ---- logpipe backtest ----

interface BacktestCommand {
  readonly from?: string;
  readonly to?: string;
  readonly timeZone?: string;
  readonly source: string;
  /** The rule set that is judged; the configured one by default. */
  readonly rules?: string;
  /** A second rule set to compare it with. */
  readonly compare?: string;
  readonly measures?: string;
  readonly warmUp?: string;
  readonly tick: string;
  readonly progress?: ProgressForm;
  /** Default: readable lines on a terminal, JSON elsewhere. */
  readonly json?: boolean | undefined;
}

const BUCKET_MS = 10_000;

/** Exit status 0, or 1 when part of the range could not be read. @throws LogpipeError */
export async function runBacktest(
  files: readonly string[],
  config: Config,
  options: BacktestCommand,
  io: Io,
  deps: { readonly log: Log; readonly now?: () => number },
): Promise<number> {
  const { fromMs, toMs } = parseTimeRange(options, (deps.now ?? Date.now)());
  const source = sourceOf(options.source);
  const tickMs = tickOf(options.tick);
  const { alerts } = config;
  const measures = loadMeasures({ file: options.measures ?? alerts.measuresFile, env: process.env });
  const load = (file: string | undefined): Rules => loadRules({ file, env: process.env, measures });
  const rules = load(options.rules ?? alerts.rulesFile);
  const compare = options.compare === undefined ? undefined : load(options.compare);
  const warmUpMs =
    options.warmUp === undefined ? reachOf([...rules, ...(compare ?? [])]) : duration('--warm-up', options.warmUp);

  const range = { fromMs: fromMs - warmUpMs, toMs };
  const arrivals = await openByArrival(source, config, { files, range, purpose: 'backtest' }, deps.log);
  const masker = createMasker(config.mask);
  let result: BacktestResult;
  try {
    const batches = withProgress(arrivals.batches, io, options.progress === 'json' ? range : undefined);
    result = await backtest(batches, {
      measures,
      rules,
      ...(compare === undefined ? {} : { compare }),
      parse: config.parse,
      transforms: config.transforms,
      masker,
      fromMs,
      toMs,
      warmUpMs,
      tickMs,
    });
  } finally {
    await arrivals.close();
  }
  const gaps = arrivals.gaps();
  if (wantsJson(io, options.json)) io.out(jsonBlock({ source, ...result, gaps }, masker));
  else print(shown(result, masker) as BacktestResult, source, io);
  for (const gap of gaps) io.err(maskedText(gap, masker));
  return gaps.some((gap) => gap.includes('not reached')) ? 1 : 0;
}

const TELL_MS = 5_000;
const TELL_PROGRAMS_MS = 1_000;

/** How a command says how far it is. */
export type ProgressForm = 'text' | 'json';

/** One line for programs, beside whatever else is on standard error. `share`: from 0 to 1, null when it is not known. */
export function progressLine(progress: {
  readonly share: number | null;
  readonly read: number;
  readonly matched?: number;
  readonly text: string;
}): string {
  return JSON.stringify({ type: 'progress', ...progress });
}

/**
 * The same batches; on a terminal a line says every five seconds how far they reach, because a day of logs takes minutes.
 * @param range for programs: of the batches by arrival; they get a line every second, wherever standard output goes
 */
export async function* withProgress(
  batches: AsyncIterable<readonly StoredRecord[]>,
  io: Io,
  range?: TimeRange,
  nowMs: () => number = () => performance.now(),
): AsyncGenerator<readonly StoredRecord[]> {
  let records = 0;
  let lastMs = nowMs();
  const everyMs = range === undefined ? TELL_MS : TELL_PROGRAMS_MS;
  for await (const batch of batches) {
    yield batch;
    records += batch.length;
    const newest = batch.at(-1);
    if ((io.isTTY !== true && range === undefined) || newest === undefined || nowMs() - lastMs < everyMs) continue;
    lastMs = nowMs();
    const text = `read ${records} records, up to ${clock(new Date(newest.arrivalMs).toISOString())}`;
    if (range === undefined) io.err(text);
    else {
      const share = (newest.arrivalMs - range.fromMs) / Math.max(1, range.toMs - range.fromMs);
      io.err(progressLine({ share: Math.min(1, Math.max(0, share)), read: records, text }));
    }
  }
}

export function sourceOf(text: string): ArrivalSource {
  const found = ARRIVAL_SOURCES.find((name) => name === text);
  if (found !== undefined) return found;
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--source: there is no ${JSON.stringify(text)}; write ${ARRIVAL_SOURCES.join(', ')}`,
  );
}

function tickOf(text: string): number {
  const ms = duration('--tick', text);
  if (ms > 0 && ms <= 60_000 && (BUCKET_MS % ms === 0 || ms % BUCKET_MS === 0)) return ms;
  throw new LogpipeError(
    'LOGPIPE_USAGE',
    `--tick: ${text} neither divides 10s nor is a multiple of it, up to 60s; write 1s, 5s or 10s`,
  );
}

function duration(place: string, text: string): number {
  return text === '0' || text === '0s' ? 0 : toDuration(place, text);
}

function print(result: BacktestResult, source: ArrivalSource, io: Io): void {
  const { from, to, records, warmUpRecords, warmUpSeconds, tickSeconds, timeline, compared, difference } = result;
  say(
    io,
    `${from} to ${to}, read from ${source}: ${records} records, and ${warmUpRecords} of the ${warmUpSeconds / 60} min before it`,
  );
  say(io, `evaluated every ${tickSeconds} s; nobody was notified`);
  printTimeline(timeline, io);
  if (compared === undefined || difference === undefined) return;
  io.out('');
  say(io, '--- compared rules ---');
  printTimeline(compared, io);
  io.out('');
  printDifference(difference, io);
}

function printTimeline({ alerts, messages, pages }: Timeline, io: Io): void {
  io.out('');
  if (alerts.length > 0) say(io, 'FIRED                 RESOLVED              PRI RULE');
  for (const alert of alerts) say(io, alertLine(alert), 4);
  if (alerts.length === 0) say(io, 'no alert would have fired');
  io.out('');
  if (messages.length > 0) say(io, 'SENT                  PRI MESSAGE');
  for (const { at, priority, action, reason, title, channels } of messages) {
    const to = channels.length === 0 ? 'nobody' : channels.join(', ');
    say(io, `${clock(at)}  ${priority}  ${`${action} (${reason})`.padEnd(24)}  ${oneLine(title, 60)}  to ${to}`, 4);
  }
  const days = Object.entries(pages.perDay).map(([day, count]) => `${day}: ${count}`);
  const list = (counts: object) =>
    Object.entries(counts)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ') || 'none';
  say(io, `pages: ${pages.total} (${list(pages.perPriority)}; ${list(pages.perChannel)})`);
  if (days.length > 0) say(io, `pages per day: ${days.join(', ')}`);
}

function alertLine({ fired, resolved, before, muted, priority, rule, labels, message }: TimelineAlert): string {
  const values = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  const name = values.length === 0 ? rule : `${rule}{${values.join(',')}}`;
  const end = resolved === undefined ? 'still firing        ' : clock(resolved);
  const notes = `${before ? ' (fired before the range)' : ''}${muted ? ' (muted)' : ''}`;
  return `${clock(fired)}  ${end}  ${priority}  ${oneLine(name, 60)}${notes}: ${oneLine(message, 140)}`;
}

function printDifference({ alerts, incidents, pages }: Difference, io: Io): void {
  say(io, '--- difference ---');
  for (const alert of alerts.only) say(io, `only with these rules   ${alertLine(alert)}`);
  for (const alert of alerts.onlyCompared) say(io, `only with the compared  ${alertLine(alert)}`);
  for (const { rule, earlierSeconds, fired, comparedFired } of alerts.moved) {
    say(io, `${rule} fires ${shift(earlierSeconds)}: ${clock(fired)} instead of ${clock(comparedFired)}`);
  }
  for (const moved of incidents.moved) {
    const { group, title, comparedTitle, first, comparedFirst, earlierSeconds, earlierByPriority } = moved;
    const [here, there] = [
      `"${visible(title)}" (${moved.priority})`,
      `"${visible(comparedTitle)}" (${moved.comparedPriority})`,
    ];
    say(io, `incident in group ${group}: first page ${shift(earlierSeconds)}`);
    say(io, `  ${clock(first)} ${here} instead of ${clock(comparedFirst)} ${there}`);
    for (const [priority, by] of Object.entries(earlierByPriority)) say(io, `  first ${priority} page ${shift(by)}`);
  }
  for (const { group, first, title } of incidents.only)
    say(io, `incident only with these rules: ${group}, ${clock(first)} "${visible(title)}"`);
  for (const { group, first, title } of incidents.onlyCompared) {
    say(io, `incident only with the compared rules: ${group}, ${clock(first)} "${visible(title)}"`);
  }
  say(io, `unchanged: ${alerts.same} alerts, ${incidents.same} incidents`);
  say(io, `pages: ${moreOrFewer(pages.total)} the compared rules`);
}

function moreOrFewer(pages: number): string {
  return pages === 0 ? 'as many as with' : `${Math.abs(pages)} ${pages > 0 ? 'more' : 'fewer'} than with`;
}

function shift(earlierSeconds: number): string {
  if (earlierSeconds === 0) return 'at the same time';
  return `${Math.abs(earlierSeconds)} s ${earlierSeconds > 0 ? 'earlier' : 'later'}`;
}

function clock(iso: string): string {
  return `${iso.slice(0, 19)}Z`;
}

// ---- logpipe replay --alerts shadow ----

/** Runs `work` and prints on standard error what the configured rules say of the events it gives. */
export async function withShadowAlerts(
  config: Config,
  io: Io,
  work: (onEvent: NonNullable<ReplayDeps['onEvent']>) => Promise<number>,
): Promise<number> {
  const { measuresFile, rulesFile } = config.alerts;
  const measures = loadMeasures({ file: measuresFile, env: process.env });
  const rules = loadRules({ file: rulesFile, env: process.env, measures });
  const shadow = createShadowAlerts(rules, measures, createMasker(config.mask));
  const status = await work((event, record) => shadow.see(event, record, record.timeMs));
  io.err('alerts that the rules would have raised; nobody was notified:');
  printTimeline(shadow.finish(), { out: io.err, err: io.err });
  return status;
}
