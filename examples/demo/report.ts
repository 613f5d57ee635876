// The end of a demo: one object for programs, a few lines for people.
import { count } from '../../src/cli/top.ts';
import type { ReceivedAlert } from './receivers.ts';
import type { Results } from './results.ts';
import { errorRate } from './screen.ts';

export interface DemoReport {
  /** Events the application logged. */
  produced: number;
  /** Documents that were new to Elasticsearch, or written to the NDJSON files. */
  indexed: number;
  /** Records that were delivered again and recognised. */
  duplicates: number;
  deadLettered: number;
  /** Events lost for good, in the application or in the pipeline. */
  dropped: number;
  /** Documents per index. */
  indices: Record<string, number>;
  /** Documents tagged `error` as a share of all, 0 to 1; null without documents. */
  errorRate: number | null;
  /** What Slack and PagerDuty would have got, in order. */
  alerts: ReceivedAlert[];
}

export interface FinalCounts {
  produced: number;
  indexed: number;
  duplicates: number;
  deadLettered: number;
  dropped: number;
}

export function finalReport(counts: FinalCounts, results: Results, alerts: readonly ReceivedAlert[] = []): DemoReport {
  const { produced, indexed, duplicates, deadLettered, dropped } = counts;
  const rate = results.total === 0 ? null : Math.round((results.errors / results.total) * 10_000) / 10_000;
  return {
    produced,
    indexed,
    duplicates,
    deadLettered,
    dropped,
    indices: results.indices,
    errorRate: rate,
    alerts: [...alerts],
  };
}

/** True when each event is accounted for and none was given up. */
export function complete({ produced, indexed, deadLettered, dropped }: FinalCounts): boolean {
  return produced === indexed + deadLettered && dropped === 0;
}

export function summary(report: DemoReport, results: Results): string[] {
  const verdict = complete(report)
    ? 'Every event that was produced is accounted for.'
    : 'NOT every event that was produced is accounted for.';
  return [
    verdict,
    `  produced ${count(report.produced)}, indexed ${count(report.indexed)}, dead letters ${count(report.deadLettered)}, ` +
      `duplicates ${count(report.duplicates)}, dropped ${count(report.dropped)}`,
    `  error rate ${errorRate(results)}`,
    ...Object.entries(report.indices).map(([index, documents]) => `  ${index}: ${count(documents)} documents`),
    ...report.alerts.map(({ at, channel, action, what }) => `  ${at.slice(11, 19)} ${channel}: ${action} ${what}`),
    ...results.templates.map(({ template, count: times }) => `  ${count(times).padStart(7)} x ${template}`),
  ];
}
