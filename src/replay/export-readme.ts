// The README of an exported incident: the beginning of a post-mortem, with what is known filled in. In: documents, the alert
// history, the result of a backtest. Out: Markdown. Guarantee: nothing that a log record holds is rendered as markup. The facts
// are bounded: what exceeds the limits is counted separately, under no name that a record can have; no document makes it throw.
// The history is masked and complete, up to MAX transitions; or there is none, and the reason is given.
import type { Client } from '@elastic/elasticsearch';
import { errorText } from '../core/errors.ts';
import { toJson, visible } from '../core/safe-json.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { HISTORY_PREFIX, type HistorySource } from '../incidents/records.ts';
import { complete, NO_PARTIAL, totalOf, whole } from '../indexing/outcome.ts';
import type { Timeline } from './timeline.ts';

interface ReadmeFacts {
  readonly from: string;
  readonly to: string;
  readonly source: string;
  readonly where: readonly string[];
  readonly facts: Facts;
  readonly history: HistoryResult;
  readonly timeline: Timeline;
  readonly gaps: readonly string[];
}

const TOP = 10;
const MAX_CELL = 300;
const MAX_GAP = 1_000;

export function readme(known: ReadmeFacts): string {
  const { from, to, source, where, facts, history, timeline, gaps } = known;
  const range = `--from ${from} --to ${to}`;
  const lines = [
    `# Incident ${from} to ${to}`,
    '',
    '| | |',
    '|---|---|',
    `| Range (UTC) | ${from} to ${to} |`,
    `| Read from | ${source}${where.length === 0 ? '' : `, only ${where.map(cell).join(' and ')}`} |`,
    `| Events | ${facts.events}${levelsOf(facts)} |`,
    `| Errors | ${facts.errors} |`,
    `| First and last event | ${facts.firstEvent ?? 'none'} to ${facts.lastEvent ?? 'none'} |`,
    ...(facts.firstError === undefined ? [] : [`| First error | ${errorOf(facts.firstError)} |`]),
    ...(facts.lastError === undefined ? [] : [`| Last error | ${errorOf(facts.lastError)} |`]),
    '',
    ...gaps.map((gap) => `> ${cell(gap, MAX_GAP)}\n`),
    '## What happened',
    '',
    '_One paragraph for people who were not there._',
    '',
    '## Alerts',
    '',
    ...alertsOf(history, timeline),
    '',
    '## Releases seen',
    '',
    ...releasesOf(facts),
    '',
    '## Most frequent errors',
    '',
    ...templatesOf(facts),
    '',
    '## Cause, and what is to be done',
    '',
    '_Why did it happen? What would have prevented it, or shown it earlier?_',
    '',
    '## Files',
    '',
    '| file | what |',
    '|---|---|',
    '| `logs.ndjson.gz` | the events, one document per line; secrets are masked |',
    `| \`rates.csv\` | per 10 s, over all events${where.length === 0 ? '' : ' (not only those of `--where`)'}; an empty cell is not known |`,
    '| `alerts.json` | what the alert history holds, and what the present rules would have done |',
    '| `errors.csv` | error templates with count, first, last and an example |',
    '',
    '## Look further',
    '',
    '```sh',
    `logpipe backtest ${range}`,
    `logpipe backtest ${range} --rules candidate.yml --compare config/rules.yml`,
    `logpipe backtest --source file logs.ndjson.gz ${range}`,
    'gunzip -c logs.ndjson.gz | grep \'"level":"error"\' | head',
    '```',
    '',
    `In Kibana: \`@timestamp >= "${from}" and @timestamp < "${to}" and tags: error\``,
    '',
  ];
  return lines.join('\n');
}

function alertsOf(history: HistoryResult, { alerts, pages }: Timeline): string[] {
  const lines: string[] = [];
  if (history.found) {
    const told = history.transitions.filter(({ transition }) => transition !== 'pending');
    lines.push(`From the alert history (${told.length} transitions${history.cut ? ', cut' : ''}):`, '');
    if (told.length === 0) lines.push('No alert changed its state.');
    else lines.push('| time | what | priority | alert | message |', '|---|---|---|---|---|');
    for (const { '@timestamp': time, transition, priority, alert, notification } of told) {
      const what = notification === undefined ? transition : `${transition}: ${notification.channel}`;
      const cells = [time, what, priority, alert?.title, alert?.message].map((text) => cell(String(text ?? '')));
      lines.push(`| ${cells.join(' | ')} |`);
    }
    lines.push('', 'What the present rules would have done (backtest):', '');
  } else {
    lines.push(
      `The alert history could not be read (${cell(history.reason)}). What the present rules would have done (backtest):`,
      '',
    );
  }
  if (alerts.length === 0) lines.push('No alert.');
  else lines.push('| fired | resolved | priority | rule | message |', '|---|---|---|---|---|');
  for (const { fired, resolved = 'still firing', priority, rule, message } of alerts) {
    lines.push(`| ${fired} | ${resolved} | ${priority} | ${cell(rule)} | ${cell(message)} |`);
  }
  lines.push('', `Pages: ${pages.total}.`);
  return lines;
}

function releasesOf({ releases, untold }: Facts): string[] {
  if (releases.length === 0) return ['No event names its version.'];
  return [
    '| version | first seen in the range | events | errors |',
    '|---|---|---|---|',
    ...releases.map(({ version, first, events, errors }) => `| ${cell(version)} | ${first} | ${events} | ${errors} |`),
    ...(untold.ofReleases === 0 ? [] : ['', `${eventsText(untold.ofReleases)} of further releases.`]),
  ];
}

function templatesOf({ templates, untold }: Facts): string[] {
  if (templates.length === 0) return ['None.'];
  return [
    '| count | error | first | last | example |',
    '|---|---|---|---|---|',
    ...templates
      .slice(0, TOP)
      .map(
        ({ count, template, first, last, example }) =>
          `| ${count} | ${cell(template)} | ${first} | ${last} | ${cell(example)} |`,
      ),
    ...(untold.errors === 0
      ? []
      : ['', `${untold.errors} more errors are not listed: there were too many different texts.`]),
  ];
}

function levelsOf({ levels, untold }: Facts): string {
  const list = Object.entries(levels).map(([level, count]) => `${cell(level)} ${count}`);
  const rest = [
    ...(untold.ofLevels === 0 ? [] : [`${untold.ofLevels} of further levels`]),
    ...(untold.withoutLevel === 0 ? [] : [`${untold.withoutLevel} without a level`]),
  ];
  // A semicolon, so that no level's name can be mistaken for one of these.
  const told = [list.join(', '), rest.join(', ')].filter((part) => part !== '').join('; ');
  return told === '' ? '' : ` (${told})`;
}

function eventsText(count: number): string {
  return count === 1 ? '1 event' : `${count} events`;
}

function errorOf({ time, message, eventId }: NonNullable<Facts['firstError']>): string {
  return `${time} ${cell(message)}${eventId === undefined ? '' : ` (${cell(eventId)})`}`;
}

/** Text of log records for a table or a quotation: on one line, with every character shown literally. */
function cell(text: string, max = MAX_CELL): string {
  const plain = visible(
    text
      .slice(0, max)
      .replace(/[\ud800-\udbff]$/, '')
      .replace(/\s/g, ' ')
      .trim(),
  );
  return (
    plain
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;')
      .replace(/[\\`*_[\](){}#!|~$^]/g, (character) => `\\${character}`)
      // Addresses would become links, and some characters are markup at the beginning.
      .replaceAll('://', '\\://')
      .replace(/www\./gi, (name) => `${name.slice(0, 3)}\\.`)
      .replaceAll('@', '&#64;')
      .replace(/^[-+=:]/, (character) => `\\${character}`)
  );
}

// ---- facts: counts, first and last, releases, frequent errors ----

interface ErrorFact {
  readonly time: string;
  readonly message: string;
  readonly eventId?: string;
}

interface TemplateFact {
  readonly template: string;
  count: number;
  readonly first: string;
  last: string;
  /** Event id of the first error. */
  readonly example: string;
  readonly service: string;
}

interface ReleaseFact {
  readonly version: string;
  events: number;
  errors: number;
  readonly first: string;
}

export interface Facts {
  readonly events: number;
  readonly errors: number;
  readonly firstEvent?: string;
  readonly lastEvent?: string;
  readonly firstError?: ErrorFact;
  readonly lastError?: ErrorFact;
  /** The most frequent first. */
  readonly templates: readonly TemplateFact[];
  readonly releases: readonly ReleaseFact[];
  readonly levels: Readonly<Record<string, number>>;
  /** What is in none of the lists, because they were full or there is no level. */
  readonly untold: {
    /** Errors with a template beyond the first MAX_TEMPLATES. */
    readonly errors: number;
    /** Events of releases beyond the first MAX_RELEASES. */
    readonly ofReleases: number;
    /** Events of levels beyond the first MAX_LEVELS. */
    readonly ofLevels: number;
    readonly withoutLevel: number;
  };
}

const MAX_TEMPLATES = 5_000;
const MAX_RELEASES = 200;
const MAX_LEVELS = 20;
const MAX_MESSAGE = 500;
/** Longest name of a release, a service or a level. */
const MAX_NAME = 200;

/** Collects facts from documents, one by one. */
export function createFacts() {
  const templates = new Map<string, TemplateFact>();
  const releases = new Map<string, ReleaseFact>();
  const levels = new Map<string, number>();
  const untold = { errors: 0, ofReleases: 0, ofLevels: 0, withoutLevel: 0 };
  let events = 0;
  let errors = 0;
  let first = Number.POSITIVE_INFINITY;
  let last = Number.NEGATIVE_INFINITY;
  let firstError: { ms: number; fact: ErrorFact } | undefined;
  let lastError: { ms: number; fact: ErrorFact } | undefined;

  function release(name: unknown, time: string, isError: boolean): void {
    if (typeof name !== 'string') return;
    const version = name.slice(0, MAX_NAME);
    const known = releases.get(version);
    if (known === undefined && releases.size >= MAX_RELEASES) {
      untold.ofReleases += 1;
      return;
    }
    const fact = known ?? { version, events: 0, errors: 0, first: time };
    if (known === undefined) releases.set(version, fact);
    fact.events += 1;
    if (isError) fact.errors += 1;
  }

  function error(document: Readonly<Record<string, unknown>>, ms: number, time: string): void {
    const { message, eventId, service } = document;
    const grouping = document.error as { readonly template?: unknown } | undefined;
    const fact: ErrorFact = {
      time,
      message: textOf(message).slice(0, MAX_MESSAGE),
      ...(typeof eventId === 'string' ? { eventId: eventId.slice(0, MAX_NAME) } : {}),
    };
    if (firstError === undefined || ms < firstError.ms) firstError = { ms, fact };
    if (lastError === undefined || ms >= lastError.ms) lastError = { ms, fact };
    const template = typeof grouping?.template === 'string' ? grouping.template.slice(0, MAX_MESSAGE) : fact.message;
    const known = templates.get(template);
    if (known !== undefined) {
      known.count += 1;
      if (time > known.last) known.last = time;
      return;
    }
    if (templates.size >= MAX_TEMPLATES) {
      untold.errors += 1;
      return;
    }
    const place = { example: fact.eventId ?? '', service: textOf(service).slice(0, MAX_NAME) };
    templates.set(template, { template, count: 1, first: time, last: time, ...place });
  }

  function countLevel(level: unknown): void {
    if (typeof level !== 'string') {
      untold.withoutLevel += 1;
      return;
    }
    const name = level.slice(0, MAX_NAME);
    if (levels.has(name) || levels.size < MAX_LEVELS) levels.set(name, (levels.get(name) ?? 0) + 1);
    else untold.ofLevels += 1;
  }

  return {
    add(document: Readonly<Record<string, unknown>>, ms: number): void {
      const time = new Date(ms).toISOString();
      const { level, tags, version } = document;
      const isError = Array.isArray(tags) && tags.includes('error');
      events += 1;
      first = Math.min(first, ms);
      last = Math.max(last, ms);
      countLevel(level);
      release(version, time, isError);
      if (!isError) return;
      errors += 1;
      error(document, ms, time);
    },
    result(): Facts {
      return {
        events,
        errors,
        ...(events === 0 ? {} : { firstEvent: new Date(first).toISOString(), lastEvent: new Date(last).toISOString() }),
        ...(firstError === undefined ? {} : { firstError: firstError.fact }),
        ...(lastError === undefined ? {} : { lastError: lastError.fact }),
        templates: [...templates.values()].sort((a, b) => b.count - a.count || (a.template < b.template ? -1 : 1)),
        releases: [...releases.values()].sort((a, b) => (a.first < b.first ? -1 : 1)),
        levels: Object.fromEntries([...levels].sort(([a], [b]) => (a < b ? -1 : 1))),
        untold: { ...untold },
      };
    },
  };
}

/** Not String(): an object may have a `toString` that is not a function. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return value === undefined || value === null ? '' : toJson(value);
}

// ---- the alert history ----

const MAX = 5_000;

export type HistoryResult =
  | { readonly found: true; readonly transitions: readonly HistorySource[]; readonly cut: boolean }
  | { readonly found: false; readonly reason: string };

/** The transitions in order, or why there are none: a server that does not answer does not fail the export. */
export async function readHistory(
  client: Client,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
  masker: Masker,
): Promise<HistoryResult> {
  try {
    const reply = await client.search({
      index: `${HISTORY_PREFIX}*`,
      ignore_unavailable: true,
      allow_no_indices: true,
      size: MAX,
      track_total_hits: true,
      ...NO_PARTIAL,
      query: { range: { '@timestamp': { gte: fromMs, lt: toMs, format: 'epoch_millis' } } },
      sort: [{ '@timestamp': { order: 'asc', unmapped_type: 'date' } }],
    } as Parameters<Client['search']>[0]);
    const what = `the search in ${HISTORY_PREFIX}*`;
    complete(whole(reply, what).hits.hits.length, Math.min(totalOf(reply.hits), MAX), what);
    if ((reply._shards?.total ?? 0) === 0) return { found: false, reason: `there is no index ${HISTORY_PREFIX}*` };
    const hits = reply.hits.hits as unknown as readonly { readonly _source: HistorySource }[];
    const transitions = hits.map(({ _source }) => masker.value(_source) as HistorySource);
    return { found: true, transitions, cut: hits.length === MAX };
  } catch (error) {
    return { found: false, reason: masker.text(errorText(error)).slice(0, 200) };
  }
}
