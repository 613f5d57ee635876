// Results -> the table and the one object of `--json`.
import type { Detection, FalseAlert, Pages } from './judge.ts';
import type { ScenarioResult } from './run.ts';

export interface TruthReport {
  readonly scenarios: readonly {
    readonly name: string;
    readonly about: string;
    readonly events: number;
    readonly minutes: number;
    readonly expected: readonly Detection[];
    readonly missed: number;
    readonly false: readonly FalseAlert[];
    readonly worstDetectSeconds: number | null;
    readonly pages: readonly Pages[];
    readonly pagesPerIncident: number | null;
    readonly cpuSeconds: number;
  }[];
  readonly seed: number;
  readonly events: number;
  readonly expected: number;
  readonly missed: number;
  readonly false: number;
  readonly worstDetectSeconds: number | null;
  readonly incidents: number;
  readonly pagesPerIncident: number | null;
}

export function toReport(results: readonly ScenarioResult[], seed: number): TruthReport {
  const scenarios = results.map((result) => {
    const { name, about, events, minutes, detections, missed, falseAlerts, pages, cpuSeconds } = result;
    return {
      name,
      about,
      events,
      minutes,
      expected: detections,
      missed: missed.length,
      false: falseAlerts,
      worstDetectSeconds: worst(detections),
      pages,
      pagesPerIncident: perIncident(pages),
      cpuSeconds,
    };
  });
  const pages = results.flatMap((result) => result.pages);
  return {
    scenarios,
    seed,
    events: sum(scenarios, ({ events }) => events),
    expected: sum(scenarios, ({ expected }) => expected.length),
    missed: sum(scenarios, ({ missed }) => missed),
    false: sum(scenarios, (scenario) => scenario.false.length),
    worstDetectSeconds: worst(results.flatMap(({ detections }) => detections)),
    incidents: sum(pages, ({ incidents }) => incidents),
    pagesPerIncident: perIncident(pages),
  };
}

/** For people. Anything wrong is listed below its scenario. */
export function toTable(report: TruthReport): string {
  const rows = [['scenario', 'expected', 'missed', 'false', 'detected after s', 'pages per incident', 'and']];
  const notes: string[][] = [[]];
  for (const { name, expected, missed, false: falseAlerts, pages } of report.scenarios) {
    const seconds = expected.map((one) => (one.seconds === undefined ? '-' : one.seconds.toFixed(0)));
    const own = pages.filter(({ incidents, extra }) => incidents > 0 || extra > 0);
    rows.push([
      name,
      String(expected.length),
      String(missed),
      String(falseAlerts.length),
      seconds.join(', '),
      own
        .map(({ group, incidents, first }) => `${group} ${incidents === 1 ? first : `${first} of ${incidents}`}`)
        .join(', '),
      own.flatMap(also).join(', '),
    ]);
    notes.push([
      ...expected
        .filter((one) => one.seconds === undefined)
        .map((one) => `missed: ${named(one)}, true since ${clockTime(one.crossed)}`),
      ...falseAlerts.map((one) => `false: ${named(one)} at ${clockTime(one.at)}: ${one.message}`),
      ...own.filter(({ extra }) => extra > 0).map(({ group, extra }) => `${extra} page(s) too many in ${group}`),
    ]);
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.flatMap((row, i) => [
    row
      .map((cell, column) => (/^\d+$/.test(cell) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd(),
    ...notes[i]!.map((note) => `    ${note}`),
  ]);
  return [...lines, '', summary(report)].join('\n');
}

function summary({
  scenarios,
  events,
  expected,
  missed,
  false: wrong,
  worstDetectSeconds,
  incidents,
  pagesPerIncident,
  seed,
}: TruthReport): string {
  return [
    `${scenarios.length} scenarios, ${events.toLocaleString('en')} events, seed ${seed}: ${expected} alerts expected, ${missed} missed, ${wrong} false,`,
    `told at most ${worstDetectSeconds?.toFixed(0) ?? '-'} s after the threshold was truly crossed, ${pagesPerIncident ?? '-'} pages for each of ${incidents} incidents`,
  ].join(' ');
}

function also({ escalations, reopenings, updates }: Pages): string[] {
  const count = (n: number, what: string) => (n === 0 ? [] : [`${n} ${what}${n === 1 ? '' : 's'}`]);
  return [...count(escalations, 'escalation'), ...count(reopenings, 'reopening'), ...count(updates, 'update')];
}

/** An incident that becomes more urgent, or comes back, is one page where its labels say so. */
function perIncident(pages: readonly Pages[]): number | null {
  const incidents = sum(pages, (one) => one.incidents);
  const sent = sum(pages, (one) => Math.min(one.first, one.incidents) + one.extra);
  return incidents === 0 ? null : Math.round((sent / incidents) * 100) / 100;
}

function worst(detections: readonly Detection[]): number | null {
  const seconds = detections.flatMap((one) => one.seconds ?? []);
  return seconds.length === 0 ? null : Math.max(...seconds);
}

function named({ rule, labels }: { rule: string; labels: Readonly<Record<string, string>> }): string {
  const values = Object.values(labels);
  return values.length === 0 ? rule : `${rule} (${values.join(', ')})`;
}

function clockTime(iso: string): string {
  return iso.slice(11, 19);
}

function sum<T>(list: readonly T[], of: (item: T) => number): number {
  return list.reduce((total, item) => total + of(item), 0);
}
