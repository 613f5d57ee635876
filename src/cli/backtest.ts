// `logpipe backtest`: what rules would have done over what was recorded; and `logpipe replay --alerts shadow`: over what is
// replayed. In: the command line. Out: a timeline, for people or as JSON. Guarantee: reads only: nobody's offsets move,
// nobody is told anything.
import type { Config } from '../config.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker } from '../core/secrets/mask.ts';
import { loadMeasures } from '../measure/measure-config.ts';
import type { Difference, Timeline, TimelineAlert } from '../replay/backtest.ts';
import { type BacktestResult, backtest, createShadowAlerts } from '../replay/backtest.ts';
import { maskedText } from '../replay/record-document.ts';
import type { ReplayDeps } from '../replay/replay.ts';
import { parseTimeRange } from '../replay/sources.ts';
import { ARRIVAL_SOURCES, type ArrivalSource, openByArrival, type StoredRecord } from '../replay/stored.ts';
import { loadRules, type Rules, reachOf } from '../rules/rule-config.ts';
import { type Io, jsonBlock, say, shown, toDuration, wantsJson } from './io.ts';

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
    result = await backtest(withProgress(arrivals.batches, io), {
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

/** The same batches; on a terminal a line says every five seconds how far they reach, because a day of logs takes minutes. */
export async function* withProgress(
  batches: AsyncIterable<readonly StoredRecord[]>,
  io: Io,
  nowMs: () => number = () => performance.now(),
): AsyncGenerator<readonly StoredRecord[]> {
  let records = 0;
  let lastMs = nowMs();
  for await (const batch of batches) {
    yield batch;
    records += batch.length;
    const newest = batch.at(-1);
    if (io.isTTY !== true || newest === undefined || nowMs() - lastMs < TELL_MS) continue;
    lastMs = nowMs();
    io.err(`read ${records} records, up to ${clock(new Date(newest.arrivalMs).toISOString())}`);
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

// --- logpipe replay --alerts shadow ---

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
