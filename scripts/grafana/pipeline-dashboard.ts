// The pipeline itself: what logpipe reports under /metrics, in the order data flows. A counter with labels appears with its first
// event; where no event is good news, the panel shows 0 instead of no data.
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import {
  BytesIEC,
  BytesPerSecondSI,
  EventsPerSecond,
  PercentUnit,
  RecordsPerSecond,
  Seconds,
  Short,
} from '@grafana/grafana-foundation-sdk/units';
import { dashboardOf, type Row } from './dashboard.ts';
import { lines, stat } from './panels.ts';

export function pipelineDashboard(): Dashboard {
  return dashboardOf({
    uid: 'logpipe',
    title: 'Log pipeline',
    description: 'logpipe from intake to notifications, as its own metrics have it.',
    rows: [now(), intake(), indexing(), losses(), alerting(), processes()],
  });
}

function now(): Row {
  return {
    title: 'Now',
    height: 5,
    panels: [
      stat({
        title: 'Instances up',
        description: 'Of the targets of the job logpipe.',
        w: 4,
        unit: Short,
        queries: [{ expr: 'sum(up{job="logpipe"})', legend: 'up' }],
      }),
      stat({
        title: 'Blind',
        description: '1 while Kafka is gone: logs are not read, no alert about the platform can fire.',
        w: 4,
        unit: Short,
        warnAt: [0.5, 1],
        queries: [{ expr: 'max(logpipe_blind)', legend: 'blind' }],
      }),
      stat({
        title: 'Indexing lag',
        description: 'Records between the committed offsets of each group and the end of the log. Alert above 100,000.',
        w: 4,
        unit: Short,
        warnAt: [10_000, 100_000],
        queries: [{ expr: 'sum by (group) (logpipe_lag_records)', legend: '{{group}}' }],
      }),
      stat({
        title: 'Evaluation lag',
        description: 'How far the evaluation of alerts is behind the clock. Alert above 2 minutes.',
        w: 4,
        unit: Seconds,
        warnAt: [30, 120],
        queries: [{ expr: 'max(logpipe_evaluation_lag_seconds)', legend: 'behind' }],
      }),
      stat({
        title: 'Alerts firing',
        description: 'As the instance sees them that evaluates.',
        w: 4,
        unit: Short,
        queries: [{ expr: 'max(logpipe_alerts_firing)', legend: 'firing' }],
      }),
      stat({
        title: 'Spool used',
        description: 'Share of the disk spool in use, at the last look of the health monitor; 0 where none is watched.',
        w: 4,
        unit: PercentUnit,
        warnAt: [0.5, 0.8],
        queries: [{ expr: 'max(logpipe_spool_used_ratio) or vector(0)', legend: 'used' }],
      }),
    ],
  };
}

function intake(): Row {
  return {
    title: 'Intake',
    height: 7,
    panels: [
      lines({
        title: 'Records read',
        description: 'Per second and instance, re-deliveries included.',
        w: 6,
        unit: RecordsPerSecond,
        queries: [{ expr: 'sum by (instance) (rate(logpipe_consumed_total[5m]))', legend: '{{instance}}' }],
      }),
      lines({
        title: 'Bytes read',
        description: 'Per second and instance.',
        w: 6,
        unit: BytesPerSecondSI,
        queries: [{ expr: 'sum by (instance) (rate(logpipe_consumed_bytes_total[5m]))', legend: '{{instance}}' }],
      }),
      lines({
        title: 'Lag by partition',
        description: 'Records that wait to be read, by group and partition.',
        w: 6,
        unit: Short,
        queries: [{ expr: 'sum by (group, partition) (logpipe_lag_records)', legend: '{{group}} {{partition}}' }],
      }),
      lines({
        title: 'Held back',
        description: '1 while the intake waits for the named reason.',
        w: 6,
        unit: Short,
        queries: [{ expr: 'max by (reason) (logpipe_paused) or vector(0)', legend: '{{reason}}' }],
      }),
    ],
  };
}

function indexing(): Row {
  return {
    title: 'Indexing',
    height: 7,
    panels: [
      lines({
        title: 'Documents accepted',
        description: 'New ones per second, by sink; and those that were there already.',
        w: 6,
        unit: EventsPerSecond,
        queries: [
          { expr: 'sum by (sink) (rate(logpipe_indexed_total[5m]))', legend: '{{sink}}' },
          { expr: 'sum(rate(logpipe_duplicates_total[5m]))', legend: 'duplicates' },
        ],
      }),
      lines({
        title: 'Bulk requests, time to answer',
        description: 'Half, and 95 of 100, were answered within.',
        w: 6,
        unit: Seconds,
        queries: [
          { expr: 'histogram_quantile(0.5, sum by (le) (rate(logpipe_bulk_seconds_bucket[5m])))', legend: '50th' },
          { expr: 'histogram_quantile(0.95, sum by (le) (rate(logpipe_bulk_seconds_bucket[5m])))', legend: '95th' },
        ],
      }),
      lines({
        title: 'Documents per bulk request',
        description: 'Average.',
        w: 6,
        unit: Short,
        queries: [
          {
            expr: 'sum(rate(logpipe_bulk_documents_sum[5m])) / sum(rate(logpipe_bulk_documents_count[5m]))',
            legend: 'documents',
          },
        ],
      }),
      lines({
        title: 'Sent again, degraded',
        description: 'Bulk items retried, by reason; documents whose conflicting values were moved to `extra`.',
        w: 6,
        unit: EventsPerSecond,
        queries: [
          { expr: 'sum by (reason) (rate(logpipe_retried_total[5m])) or vector(0)', legend: 'retried {{reason}}' },
          { expr: 'sum(rate(logpipe_degraded_total[5m]))', legend: 'degraded' },
        ],
      }),
    ],
  };
}

function losses(): Row {
  return {
    title: 'Losses and bad input',
    height: 7,
    panels: [
      lines({
        title: 'Dead letters',
        description:
          'Records in 5 minutes that could not be indexed and are kept, by reason. Alert above 1 % of the records.',
        w: 8,
        unit: Short,
        queries: [
          { expr: 'sum by (reason) (increase(logpipe_dead_lettered_total[5m])) or vector(0)', legend: '{{reason}}' },
        ],
      }),
      lines({
        title: 'Dropped',
        description:
          'Records dropped for good since logpipe started, by reason. Alert at the first, except for `configured`: a transform did it.',
        w: 8,
        unit: Short,
        queries: [{ expr: 'sum by (reason) (logpipe_dropped_total) or vector(0)', legend: '{{reason}}' }],
      }),
      lines({
        title: 'Tagged',
        description:
          'Documents per second given a tag, by tag: `error`, and those that say what was wrong with a line.',
        w: 8,
        unit: EventsPerSecond,
        queries: [{ expr: 'sum by (tag) (rate(logpipe_tagged_total[5m])) or vector(0)', legend: '{{tag}}' }],
      }),
    ],
  };
}

function alerting(): Row {
  return {
    title: 'Counting and alerts',
    height: 7,
    panels: [
      lines({
        title: 'Records counted',
        description: 'Per second; and those that count in no measure, by reason.',
        w: 6,
        unit: RecordsPerSecond,
        queries: [
          { expr: 'sum(rate(logpipe_counted_total[5m]))', legend: 'counted' },
          {
            expr: 'sum by (reason) (rate(logpipe_not_counted_total[5m])) or vector(0)',
            legend: 'not counted: {{reason}}',
          },
        ],
      }),
      lines({
        title: 'Evaluation, 95th percentile',
        description: 'Time one evaluation of all rules takes.',
        w: 6,
        unit: Seconds,
        queries: [
          {
            expr: 'histogram_quantile(0.95, sum by (le) (rate(logpipe_evaluation_seconds_bucket[5m])))',
            legend: 'evaluation',
          },
        ],
      }),
      lines({
        title: 'Notifications',
        description: 'Attempts in 5 minutes, by channel and result; `given_up` reached nobody.',
        w: 6,
        unit: Short,
        queries: [
          {
            expr: 'sum by (channel, result) (increase(logpipe_notifications_total[5m])) or vector(0)',
            legend: '{{channel}} {{result}}',
          },
        ],
      }),
      lines({
        title: 'Outbox',
        description:
          'Messages decided in 5 minutes, by reason; those given up because their channel took none for too long.',
        w: 6,
        unit: Short,
        queries: [
          { expr: 'sum by (reason) (increase(logpipe_alert_messages_total[5m])) or vector(0)', legend: '{{reason}}' },
          {
            expr: 'sum by (channel) (increase(logpipe_outbox_dropped_total[5m])) or vector(0)',
            legend: 'given up {{channel}}',
          },
        ],
      }),
    ],
  };
}

function processes(): Row {
  return {
    title: 'Processes',
    height: 7,
    panels: [
      lines({
        title: 'CPU',
        description: 'Of one core: 100 % is one core fully used.',
        w: 8,
        unit: PercentUnit,
        queries: [{ expr: 'rate(logpipe_process_cpu_seconds_total[1m])', legend: '{{instance}}' }],
      }),
      lines({
        title: 'Memory',
        description: 'Resident memory, and what was taken from the source and is not yet accounted for.',
        w: 8,
        unit: BytesIEC,
        queries: [
          { expr: 'logpipe_process_resident_memory_bytes', legend: '{{instance}}' },
          { expr: 'logpipe_in_flight_bytes', legend: '{{instance}} in flight' },
        ],
      }),
      lines({
        title: 'Event loop lag, 99th percentile',
        description: 'How late the event loop is.',
        w: 8,
        unit: Seconds,
        queries: [{ expr: 'logpipe_nodejs_eventloop_lag_p99_seconds', legend: '{{instance}}' }],
      }),
    ],
  };
}
