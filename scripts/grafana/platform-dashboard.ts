// The platform on one page: the four rows of the operators' guide. Colours change at its targets and alert thresholds.
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import {
  BytesIEC,
  BytesPerSecondSI,
  OpsPerSecond,
  PercentUnit,
  RequestsPerSecond,
  Seconds,
  Short,
} from '@grafana/grafana-foundation-sdk/units';
import { dashboardOf } from './dashboard.ts';
import { gauge, lines, pie, stat, table } from './panels.ts';

/** Excludes file systems that are not on a disk. */
const DISK = 'fstype!~"tmpfs|ramfs|squashfs|overlay"';
const NETWORK = 'device!="lo"';

const QUEUE_STATES = ['waiting', 'active', 'delayed', 'completed', 'failed'] as const;

export function platformDashboard(): Dashboard {
  return dashboardOf({
    uid: 'calling-platform',
    title: 'Calling platform',
    description: 'System health, application, business, database and queues.',
    rows: [
      {
        title: 'System health',
        height: 8,
        panels: [
          gauge({
            title: 'CPU',
            description: 'Busy share of each host, average of 5 minutes. Target below 70 %, alert above 85 %.',
            w: 4,
            unit: PercentUnit,
            max: 1,
            warnAt: [0.7, 0.85],
            queries: [
              {
                expr: '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m]))',
                legend: '{{instance}}',
              },
            ],
          }),
          gauge({
            title: 'Memory',
            description: 'Used share of each host’s memory. Target below 80 %, alert above 90 %.',
            w: 4,
            unit: PercentUnit,
            max: 1,
            warnAt: [0.8, 0.9],
            queries: [
              { expr: '1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes', legend: '{{instance}}' },
            ],
          }),
          gauge({
            title: 'Disk',
            description: 'Used share of each host’s fullest disk. Target below 80 %, alert above 90 %.',
            w: 4,
            unit: PercentUnit,
            max: 1,
            warnAt: [0.8, 0.9],
            queries: [
              {
                expr: `max by (instance) (1 - node_filesystem_avail_bytes{${DISK}} / node_filesystem_size_bytes{${DISK}})`,
                legend: '{{instance}}',
              },
            ],
          }),
          lines({
            title: 'Network I/O',
            description: 'Bytes per second of each host, without loopback.',
            w: 12,
            unit: BytesPerSecondSI,
            queries: [
              {
                expr: `sum by (instance) (rate(node_network_receive_bytes_total{${NETWORK}}[5m]))`,
                legend: '{{instance}} receives',
              },
              {
                expr: `sum by (instance) (rate(node_network_transmit_bytes_total{${NETWORK}}[5m]))`,
                legend: '{{instance}} sends',
              },
            ],
          }),
        ],
      },
      {
        title: 'Application',
        height: 8,
        panels: [
          stat({
            title: 'Active calls',
            description: 'Calls going on, of all processes together.',
            w: 4,
            unit: Short,
            queries: [{ expr: 'sum(node_active_calls)', legend: 'calls' }],
          }),
          lines({
            title: 'Requests per second',
            description: 'By route.',
            w: 7,
            unit: RequestsPerSecond,
            queries: [
              { expr: 'sum by (method, route) (rate(http_requests_total[5m]))', legend: '{{method}} {{route}}' },
            ],
          }),
          lines({
            title: 'Response time, 95th percentile',
            description: 'Of all requests together, and by route. Target below 200 ms, alert above 500 ms.',
            w: 7,
            unit: Seconds,
            queries: [
              {
                expr: 'histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))',
                legend: 'all',
              },
              {
                expr: 'histogram_quantile(0.95, sum by (route, le) (rate(http_request_duration_seconds_bucket[5m])))',
                legend: '{{route}}',
              },
            ],
          }),
          lines({
            title: 'Error rate',
            description: 'Share of requests answered with status 500 and above. Target below 1 %, alert above 5 %.',
            w: 6,
            unit: PercentUnit,
            queries: [
              {
                expr: '(sum(rate(http_requests_total{status=~"5.."}[5m])) or vector(0)) / sum(rate(http_requests_total[5m]))',
                legend: 'errors',
              },
            ],
          }),
        ],
      },
      {
        title: 'Business',
        height: 7,
        panels: [
          pie({
            title: 'Call success',
            description:
              'Calls ended in the last hour, by final status. Completed and voicemail are successes: target above 70 %.',
            w: 8,
            unit: Short,
            queries: [{ expr: 'sum by (status) (increase(calls_ended_total[1h]))', legend: '{{status}}' }],
          }),
          stat({
            title: 'Queue size',
            description: 'Jobs waiting in each queue. Target below 100, alert above 500.',
            w: 6,
            unit: Short,
            warnAt: [100, 500],
            queries: [{ expr: 'max by (queue) (bull_queue_waiting_total)', legend: '{{queue}}' }],
          }),
          stat({
            title: 'Average call duration',
            description: 'Of the calls completed in the last hour. Target 2 to 5 minutes.',
            w: 5,
            unit: Seconds,
            queries: [
              {
                expr: 'sum(increase(call_duration_seconds_sum{status="completed"}[1h])) / sum(increase(call_duration_seconds_count{status="completed"}[1h]))',
                legend: 'average',
              },
            ],
          }),
          stat({
            title: 'Voicemail',
            description:
              'Share of the outbound calls answered in the last hour that a machine answered. Target 20 to 30 %.',
            w: 5,
            unit: PercentUnit,
            queries: [
              {
                expr: 'sum(increase(calls_voicemail_total{direction="outbound"}[1h])) / sum(increase(calls_ended_total{direction="outbound",status=~"completed|voicemail"}[1h]))',
                legend: 'voicemail',
              },
            ],
          }),
        ],
      },
      {
        title: 'Database and queue',
        height: 8,
        panels: [
          lines({
            title: 'MongoDB connections',
            description:
              'Open connections of each server (mongodb-exporter, names of its present and its compatible mode).',
            w: 6,
            unit: Short,
            queries: [
              {
                expr: 'mongodb_ss_connections{conn_type="current"} or mongodb_connections{state="current"}',
                legend: '{{instance}}',
              },
            ],
          }),
          lines({
            title: 'MongoDB operations',
            description: 'Per second, by kind.',
            w: 6,
            unit: OpsPerSecond,
            queries: [
              {
                expr: 'sum by (legacy_op_type) (rate(mongodb_ss_opcounters[5m])) or sum by (type) (rate(mongodb_op_counters_total[5m]))',
                legend: '{{legacy_op_type}}{{type}}',
              },
            ],
          }),
          lines({
            title: 'Redis memory',
            description: 'Memory that each Redis uses.',
            w: 6,
            unit: BytesIEC,
            queries: [{ expr: 'redis_memory_used_bytes', legend: '{{instance}}' }],
          }),
          table({
            title: 'Bull queues',
            description: 'Jobs in each state, by queue.',
            w: 6,
            unit: Short,
            by: 'queue',
            queries: QUEUE_STATES.map((state) => ({
              expr: `max by (queue) (bull_queue_${state}_total)`,
              legend: state,
            })),
          }),
        ],
      },
    ],
  });
}
