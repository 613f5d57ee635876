// The README of an exported incident: the beginning of a post-mortem, with what is known filled in. In: facts, alerts. Out: Markdown.
// Guarantee: nothing that a log record holds is rendered as markup.
import { visible } from '../core/terminal-text.ts';
import type { Timeline } from '../simulate/timeline.ts';
import type { Facts } from './facts.ts';
import type { HistoryResult } from './history.ts';

export interface ReadmeFacts {
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
      : ['', `Of ${untold.errors} more errors the text is not told apart: there were too many different ones.`]),
  ];
}

function levelsOf({ levels, untold }: Facts): string {
  const list = Object.entries(levels).map(([level, count]) => `${cell(level)} ${count}`);
  const rest = [
    ...(untold.ofLevels === 0 ? [] : [`${untold.ofLevels} of further levels`]),
    ...(untold.withoutLevel === 0 ? [] : [`${untold.withoutLevel} without a level`]),
  ];
  // A semicolon: whatever a level is called, it is not one of these.
  const told = [list.join(', '), rest.join(', ')].filter((part) => part !== '').join('; ');
  return told === '' ? '' : ` (${told})`;
}

function eventsText(count: number): string {
  return count === 1 ? '1 event' : `${count} events`;
}

function errorOf({ time, message, eventId }: NonNullable<Facts['firstError']>): string {
  return `${time} ${cell(message)}${eventId === undefined ? '' : ` (${cell(eventId)})`}`;
}

/** Text of log records, within a table or a quotation: on one line, every character stands for itself. */
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
      // Addresses become links by themselves, and some signs are markup at the beginning.
      .replaceAll('://', '\\://')
      .replace(/www\./gi, (name) => `${name.slice(0, 3)}\\.`)
      .replaceAll('@', '&#64;')
      .replace(/^[-+=:]/, (character) => `\\${character}`)
  );
}
