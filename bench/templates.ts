// How well error templates group lines. In: lines with the label of the statement that wrote them, of many kinds of systems
// (test/fixtures/error-templates.ndjson, all written for this; or another file of the same form). Out: for each system the
// accuracy of the grouping, for messages only and for whole lines, and the precision of pairs.
//
// Grouping accuracy: the share of lines whose group is exactly the set of lines with their label. Pairwise precision: of
// the pairs of lines with one template, those with one label.
// https://github.com/logpai/logparser names and defines both.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../src/core/package-root.ts';
import { errorTemplate } from '../src/tag/tag.ts';

export interface LabelledLine {
  readonly system: string;
  readonly label: string;
  /** What a logger writes before the message. */
  readonly head: string;
  readonly message: string;
}

export interface Grouping {
  readonly system: string;
  readonly lines: number;
  readonly accuracy: number;
  readonly precision: number;
}

export const LABELLED_LINES = join(packageRoot(), 'test/fixtures/error-templates.ndjson');

export function readLabelled(path: string): LabelledLine[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as LabelledLine);
}

function groupBy<T>(all: readonly T[], keyOf: (one: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const key = keyOf(one);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [one]);
    else group.push(one);
  }
  return groups;
}

/** Per system, in the order of the lines. */
export function judge(
  lines: readonly LabelledLine[],
  textOf: (line: LabelledLine) => string,
  template: (text: string) => string = errorTemplate,
): Grouping[] {
  const systems = groupBy(lines, ({ system }) => system);
  return [...systems].map(([system, all]) => {
    const byTemplate = groupBy(all, (line) => template(textOf(line)));
    const sizes = new Map([...groupBy(all, ({ label }) => label)].map(([label, { length }]) => [label, length]));
    let right = 0;
    let pairs = 0;
    let rightPairs = 0;
    for (const group of byTemplate.values()) {
      const labels = groupBy(group, ({ label }) => label);
      if (labels.size === 1 && sizes.get(group[0]!.label) === group.length) right += group.length;
      pairs += (group.length * (group.length - 1)) / 2;
      for (const { length } of labels.values()) rightPairs += (length * (length - 1)) / 2;
    }
    return { system, lines: all.length, accuracy: right / all.length, precision: pairs === 0 ? 1 : rightPairs / pairs };
  });
}

export const messageOf = ({ message }: LabelledLine): string => message;
export const wholeOf = ({ head, message }: LabelledLine): string => head + message;

/** The mean over the systems. */
export function mean(groupings: readonly Grouping[], key: 'accuracy' | 'precision'): number {
  return groupings.reduce((sum, grouping) => sum + grouping[key], 0) / groupings.length;
}

/** Microseconds of CPU for each template, the median of several rounds. */
function cost(texts: readonly string[]): number {
  const rounds: number[] = [];
  for (let round = 0; round < 21; round++) {
    const before = process.cpuUsage();
    for (let i = 0; i < 20; i++) for (const text of texts) errorTemplate(text);
    const { user, system } = process.cpuUsage(before);
    rounds.push((user + system) / (20 * texts.length));
  }
  return rounds.sort((a, b) => a - b)[rounds.length >> 1]!;
}

function main(): void {
  const path = process.argv[2] ?? LABELLED_LINES;
  const lines = readLabelled(path);
  const messages = judge(lines, messageOf);
  const whole = judge(lines, wholeOf);
  const row = (cells: (string | number)[]) =>
    console.log(cells.map((cell, i) => (i === 0 ? String(cell).padEnd(14) : format(cell).padStart(16))).join(''));
  const format = (cell: string | number) => (typeof cell === 'number' && cell <= 1 ? cell.toFixed(3) : String(cell));
  row(['system', 'lines', 'accuracy', 'whole lines', 'pair precision']);
  for (const [i, { system, lines: count, accuracy, precision }] of messages.entries()) {
    row([system, String(count), accuracy, whole[i]!.accuracy, precision]);
  }
  row(['mean', String(lines.length), mean(messages, 'accuracy'), mean(whole, 'accuracy'), mean(messages, 'precision')]);
  console.log(
    `${cost(lines.map(messageOf)).toFixed(2)} µs for a message, ${cost(lines.map(wholeOf)).toFixed(2)} µs for a line`,
  );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main();
