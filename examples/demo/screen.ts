// What the person at the terminal sees: steps with their time, then a view that is redrawn in place, or plain lines
// when the output is no terminal. `logpipe top` draws the same picture of any logpipe. Guarantee: log text on it does nothing to the
// terminal.
import { wrapped } from '../../src/cli/io.ts';
import { count, createDrawing, overview, share, type Terminal, wide } from '../../src/cli/top.ts';
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
  /** The page's address to copy. */
  page?: string;
  /** Commands to copy: uncut, over as many rows as they take. */
  hints: readonly string[];
  incident: string | undefined;
}

const PLAIN_EVERY_MS = 5000;
const LAST_LINES = ['', '  Ctrl-C ends everything and sums up.'];

export function createScreen(out: Terminal, now: () => number): Screen {
  const begin = now();
  const drawing = createDrawing(out);
  let lastPlain = Number.NEGATIVE_INFINITY;
  const elapsed = () => `${((now() - begin) / 1000).toFixed(1).padStart(6)} s  `;

  return {
    step(line) {
      drawing.leave();
      const columns = out.isTTY === true ? out.columns : undefined;
      for (const part of line.split('\n')) {
        const time = elapsed();
        for (const pieces of wrapped([{ text: `${time}${part}` }], columns, time.length)) {
          out.write(`${pieces.map(({ text }) => text).join('')}\n`);
        }
      }
    },
    note(lines) {
      drawing.leave();
      for (const line of lines) out.write(`${visible(line)}\n`);
    },
    show(view) {
      if (out.isTTY === true) {
        const hints = view.hints.map((hint) => `    ${hint}`);
        const whole = [
          ...(view.page === undefined ? [] : ['  in a browser', `    ${view.page}`]),
          ...(hints.length > 0 ? ['  in another terminal', ...hints] : []),
        ];
        return drawing.draw(picture(view), { whole, last: LAST_LINES });
      }
      if (now() - lastPlain < PLAIN_EVERY_MS) return;
      lastPlain = now();
      out.write(`${elapsed()}${visible(plain(view))}\n`);
    },
    leave: drawing.leave,
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
  const { rates, totals, results, lag, firing, incident } = view;
  const lines = [
    '',
    `logpipe demo   ${view.title}   ${view.time}`,
    '',
    ...overview({
      incoming: 'produced',
      rates: { incoming: rates.produced, indexed: rates.indexed },
      totals: { ...totals, incoming: totals.produced },
      lag,
      errorRate: `${errorRate(results)}${incident === undefined ? '' : `   incident: ${incident}`}`,
      alerts: firing === 0 ? 'none is firing' : `${firing} firing`,
    }),
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
  return share(results?.errors ?? 0, results?.total ?? 0);
}
