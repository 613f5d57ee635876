// What the person at the terminal sees: steps with their time, then a view that is redrawn in place, or plain lines
// when the output is no terminal. Guarantee: log text on it does nothing to the terminal.
import { visible } from '../../src/core/safe-json.ts';
import type { Results } from './results.ts';

export interface Screen {
  /** A step, with the seconds since the start. */
  step(line: string): void;
  /** The state of things; drawn in place, or one line every five seconds. */
  show(view: View): void;
  /** Ends the redrawing: what follows comes below. */
  leave(): void;
}

export interface View {
  title: string;
  /** "42 s, 18 s left" */
  time: string;
  /** Events per second over the last interval. */
  rates: { produced: number; indexed: number };
  totals: { produced: number; indexed: number; deadLettered: number; duplicates: number; dropped: number };
  /** Undefined without Kafka. */
  lag: number | undefined;
  /** Alerts that fire. */
  firing: number;
  results: Results | undefined;
  /** Newest documents as lines; empty with Elasticsearch. */
  latest: readonly string[];
  hints: readonly string[];
  incident: string | undefined;
}

export interface ScreenOutput {
  write(text: string): unknown;
  isTTY?: boolean | undefined;
  columns?: number | undefined;
  rows?: number | undefined;
}

const PLAIN_EVERY_MS = 5000;

export function createScreen(out: ScreenOutput, now: () => number): Screen {
  const begin = now();
  let drawn = 0;
  let lastPlain = Number.NEGATIVE_INFINITY;
  const elapsed = () => `${((now() - begin) / 1000).toFixed(1).padStart(6)} s  `;

  return {
    step(line) {
      drawn = 0;
      for (const part of line.split('\n')) out.write(`${elapsed()}${visible(part)}\n`);
    },
    show(view) {
      if (out.isTTY !== true) {
        if (now() - lastPlain < PLAIN_EVERY_MS) return;
        lastPlain = now();
        out.write(`${elapsed()}${visible(plain(view))}\n`);
        return;
      }
      const width = (out.columns ?? 100) - 1;
      // What scrolled out of the window cannot be drawn over.
      const lines = picture(view).slice(0, Math.max((out.rows ?? 40) - 1, 5));
      const up = drawn > 0 ? `\u001b[${drawn}A` : '';
      drawn = lines.length;
      // One write, so that nothing flickers; each line clears what stood there, the end what stood below.
      out.write(`${up}\r${lines.map((line) => `${cut(visible(line), width)}\u001b[K\n`).join('')}\u001b[J`);
    },
    leave() {
      drawn = 0;
    },
  };
}

function plain({ rates, totals, lag, results, incident, firing }: View): string {
  const parts = [
    `produced ${count(totals.produced)} (${count(rates.produced)}/s)`,
    `indexed ${count(totals.indexed)} (${count(rates.indexed)}/s)`,
    ...(lag === undefined ? [] : [`lag ${count(lag)}`]),
    `errors ${errorRate(results)}`,
    ...(totals.dropped + totals.deadLettered > 0
      ? [`dead letters ${count(totals.deadLettered)}`, `dropped ${count(totals.dropped)}`]
      : []),
    ...(incident === undefined ? [] : [`incident ${incident}`]),
    ...(firing === 0 ? [] : [`alerts firing ${firing}`]),
  ];
  return parts.join(', ');
}

function picture(view: View): string[] {
  const { rates, totals, results } = view;
  const lines = [
    '',
    `logpipe demo   ${view.title}   ${view.time}`,
    '',
    `  events/s      produced ${wide(rates.produced)}   indexed ${wide(rates.indexed)}${
      view.lag === undefined ? '' : `   lag ${count(view.lag)}`
    }`,
    `  in all        produced ${wide(totals.produced)}   indexed ${wide(totals.indexed)}`,
    `                dead letters ${count(totals.deadLettered)}, duplicates ${count(totals.duplicates)}, dropped ${count(totals.dropped)}`,
    `  error rate    ${errorRate(results)}${view.incident === undefined ? '' : `   incident: ${view.incident}`}`,
    `  alerts        ${view.firing === 0 ? 'none is firing' : `${view.firing} firing`}`,
    '',
    '  documents',
    ...table(Object.entries(results?.indices ?? {}), 'none yet'),
    '  top errors',
    ...table(
      (results?.templates ?? []).map(({ template, count: times }) => [template, times]),
      'none yet',
    ),
  ];
  if (view.latest.length > 0) lines.push('  newest', ...view.latest.map((line) => `    ${line}`));
  lines.push('  look next', ...view.hints.map((hint) => `    ${hint}`), '', '  Ctrl-C ends everything and sums up.');
  return lines;
}

function table(rows: readonly (readonly [string, number])[], otherwise: string): string[] {
  if (rows.length === 0) return [`    ${otherwise}`];
  return rows.map(([name, value]) => `    ${wide(value)}  ${name}`);
}

/** "2.1 %", or a dash when there is nothing to divide by. */
export function errorRate(results: Results | undefined): string {
  if (!results || results.total === 0) return '-';
  return `${((100 * results.errors) / results.total).toFixed(1)} %`;
}

export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function wide(value: number): string {
  return count(value).padStart(9);
}

function cut(line: string, width: number): string {
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`;
}
