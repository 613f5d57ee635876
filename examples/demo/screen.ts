// What the person at the terminal sees: steps with their time, then a view that is redrawn in place, or plain lines
// when the output is no terminal. Guarantee: log text on it does nothing to the terminal.
import { wrapped } from '../../src/cli/io.ts';
import { visible } from '../../src/core/safe-json.ts';
import type { Results } from './results.ts';

export interface Screen {
  /** A step, with the seconds since the start. */
  step(line: string): void;
  /** Lines as they are, uncut whatever the width, for people to copy from. */
  note(lines: readonly string[]): void;
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
  /** Commands to copy: uncut, over as many rows as they take. */
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
const LAST_LINES = ['', '  Ctrl-C ends everything and sums up.'];

export function createScreen(out: ScreenOutput, now: () => number): Screen {
  const begin = now();
  let drawn = 0;
  let lastPlain = Number.NEGATIVE_INFINITY;
  const elapsed = () => `${((now() - begin) / 1000).toFixed(1).padStart(6)} s  `;

  return {
    step(line) {
      drawn = 0;
      const columns = out.isTTY === true ? out.columns : undefined;
      for (const part of line.split('\n')) {
        const time = elapsed();
        for (const pieces of wrapped([{ text: `${time}${part}` }], columns, time.length)) {
          out.write(`${pieces.map(({ text }) => text).join('')}\n`);
        }
      }
    },
    note(lines) {
      drawn = 0;
      for (const line of lines) out.write(`${visible(line)}\n`);
    },
    show(view) {
      if (out.isTTY !== true) {
        if (now() - lastPlain < PLAIN_EVERY_MS) return;
        lastPlain = now();
        out.write(`${elapsed()}${visible(plain(view))}\n`);
        return;
      }
      const columns = out.columns ?? 100;
      // What scrolled out of the window cannot be drawn over.
      const most = Math.max((out.rows ?? 40) - 1, LAST_LINES.length + 3);
      const cuttable = picture(view).map((line) => cut(visible(line), columns - 1));
      // All of them or none: half a list of commands helps nobody, and they stand above as well.
      const hints = ['  in another terminal', ...view.hints.map((hint) => `    ${visible(hint)}`)];
      const hintRows = hints.reduce((sum, line) => sum + rowsOf(line, columns), 0);
      const fits = view.hints.length > 0 && cuttable.length + hintRows + LAST_LINES.length <= most;
      const shown = fits ? [...cuttable, ...hints] : cuttable.slice(0, most - LAST_LINES.length);
      const lines = [...shown, ...LAST_LINES];
      const up = drawn > 0 ? `\u001b[${drawn}A` : '';
      drawn = lines.reduce((sum, line) => sum + rowsOf(line, columns), 0);
      // One write, so that nothing flickers; each line clears what stood there, the end what stood below. A full row leaves
      // the cursor on its last cell, which must not be cleared.
      const clear = (line: string) => (line.length > 0 && line.length % columns === 0 ? '' : '\u001b[K');
      out.write(`${up}\r${lines.map((line) => `${line}${clear(line)}\n`).join('')}\u001b[J`);
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

/** Rows of the terminal that a line takes. */
function rowsOf(line: string, columns: number): number {
  return Math.max(1, Math.ceil(line.length / columns));
}

function cut(line: string, width: number): string {
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`;
}
