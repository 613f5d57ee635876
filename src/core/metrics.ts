// logpipe's own measurements, all named logpipe_*. Labels come from closed lists only.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

export type Metrics = ReturnType<typeof createMetrics>;

/** A fresh registry with every logpipe_* metric; nothing is global, so tests and several pipelines can coexist. */
export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry, prefix: 'logpipe_' });
  const counter = <L extends string = never>(name: string, help: string, labelNames: L[] = []) =>
    new Counter<L>({ name, help, labelNames, registers });
  const gauge = <L extends string = never>(name: string, help: string, labelNames: L[] = []) =>
    new Gauge<L>({ name, help, labelNames, registers });

  return {
    registry,
    consumed: counter('logpipe_consumed_total', 'Records taken from the source, re-deliveries included.'),
    consumedBytes: counter('logpipe_consumed_bytes_total', 'Bytes of the records taken from the source.'),
    indexed: counter('logpipe_indexed_total', 'Documents a sink accepted as new.', ['sink']),
    duplicates: counter('logpipe_duplicates_total', 'Documents that were already there (bulk status 409).'),
    retried: counter('logpipe_retried_total', 'Bulk items sent again, by reason.', ['reason']),
    degraded: counter('logpipe_degraded_total', 'Documents whose conflicting values were moved to `extra`.'),
    fieldsMoved: counter(
      'logpipe_fields_moved_total',
      'Documents whose new fields were moved to `extra`, because the index is near its field limit or there were too many of them.',
    ),
    indexFields: gauge('logpipe_index_fields', 'Fields in the mapping of the newest index, objects included.'),
    ignoredFields: gauge(
      'logpipe_ignored_fields',
      'Fields of the newest index beyond its field limit: Elasticsearch ignores them, so they are not searchable.',
    ),
    ignoredDocuments: gauge(
      'logpipe_ignored_documents',
      'Documents of the newest index with a value that Elasticsearch does not index (`_ignored`), long texts included.',
    ),
    tagged: counter('logpipe_tagged_total', 'Documents given a tag, by tag.', ['tag']),
    deadLettered: counter('logpipe_dead_lettered_total', 'Records that went to the dead letters, by reason.', [
      'reason',
    ]),
    diedAgain: counter(
      'logpipe_died_again_total',
      'Records that died once more after a redrive, by reason; not among logpipe_dead_lettered_total.',
      ['reason'],
    ),
    dropped: counter(
      'logpipe_dropped_total',
      'Records dropped for good, by reason. All are losses but `configured`: a transform did it.',
      ['reason'],
    ),
    shipped: counter('logpipe_shipped_total', 'Records of `logpipe ship` that Kafka has taken.'),
    fileHoleBytes: counter(
      'logpipe_file_hole_bytes_total',
      'NUL bytes skipped in log files: holes left by truncation under a writer, or by a loss of power.',
    ),
    syslogMessages: counter('logpipe_syslog_messages_total', 'Syslog messages received.'),
    syslogCut: counter('logpipe_syslog_cut_total', 'Syslog messages that were cut, because they were too long.'),
    syslogConnections: gauge('logpipe_syslog_connections', 'Open syslog connections.'),
    syslogRefused: counter(
      'logpipe_syslog_refused_total',
      'Syslog connections refused, because as many were open as are allowed.',
    ),
    syslogClosed: counter(
      'logpipe_syslog_closed_total',
      'Syslog connections that were closed here or ended in the middle of a message, by reason.',
      ['reason'],
    ),
    otlpRequests: counter(
      'logpipe_otlp_requests_total',
      'Requests of OpenTelemetry’s exporters, by the status of their answer; `gone`: the sender left, or was too slow.',
      ['status'],
    ),
    otlpRecords: counter('logpipe_otlp_records_total', 'Log records of OpenTelemetry that are safe.'),
    otlpRejected: counter(
      'logpipe_otlp_rejected_total',
      'Log records of OpenTelemetry that were not taken, as their senders were told, by reason.',
      ['reason'],
    ),
    sourceRestarts: counter('logpipe_source_restarts_total', 'Times the Kafka consumer was rebuilt after a crash.'),
    rebalances: counter('logpipe_rebalances_total', 'Consumer group joins (assignment epochs).'),
    counted: counter(
      'logpipe_counted_total',
      'Records counted into the measures, those of a repeated reading included.',
    ),
    notCounted: counter('logpipe_not_counted_total', 'Records that count in no measure, by reason.', ['reason']),
    countsWaiting: gauge('logpipe_counts_waiting', 'Closed counting intervals whose totals are not yet published.'),
    countsPublished: counter('logpipe_counts_published_total', 'Totals and positions published, by result.', [
      'result',
    ]),
    staleAcks: counter(
      'logpipe_stale_acks_total',
      'Acknowledged records of an assignment that had ended: not committed.',
    ),
    commits: counter('logpipe_commits_total', 'Offset commits, by result.', ['result']),
    lag: gauge('logpipe_lag_records', 'Records between the committed offset and the end of the log.', [
      'group',
      'partition',
    ]),
    inFlightBytes: gauge('logpipe_in_flight_bytes', 'Bytes taken from the source and not yet accounted for.'),
    paused: gauge('logpipe_paused', '1 while the intake waits for the named reason.', ['reason']),
    notifications: counter(
      'logpipe_notifications_total',
      'Attempts to send a notification, by channel; result: sent, retried, given_up, not_confirmed.',
      ['channel', 'result'],
    ),
    alertMessages: counter(
      'logpipe_alert_messages_total',
      'Messages decided on, each counted once however many channels it goes to, by reason.',
      ['reason'],
    ),
    outboxDropped: counter(
      'logpipe_outbox_dropped_total',
      'Waiting messages given up because their channel took none for too long.',
      ['channel'],
    ),
    evaluationSeconds: new Histogram({
      name: 'logpipe_evaluation_seconds',
      help: 'Time one evaluation of all rules took.',
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1],
      registers,
    }),
    evaluationLag: gauge('logpipe_evaluation_lag_seconds', 'How far evaluation is behind the wall clock.'),
    blind: gauge('logpipe_blind', '1 while Kafka is gone and the alert "Log pipeline blind" is firing.'),
    spoolUsed: gauge(
      'logpipe_spool_used_ratio',
      'Used share of a disk spool, when the health monitor last looked. Only where alerts are evaluated.',
      ['host'],
    ),
    firstSeenUsed: gauge(
      'logpipe_first_seen_used_ratio',
      'Used share of what first-seen rules can remember; at 1, new kinds are no longer reported. Only where alerts are evaluated.',
    ),
    pages: gauge('logpipe_pages', 'Open pages that are told what is new.'),
    pagesDropped: counter('logpipe_pages_dropped_total', 'Open pages dropped, because they did not take what was new.'),
    alertsFiring: gauge('logpipe_alerts_firing', 'Alerts that are firing, as the leader sees them.'),
    retentionDeleted: counter(
      'logpipe_retention_deleted_total',
      'Indices deleted because their days were over, by kind.',
      ['kind'],
    ),
    retentionSucceeded: gauge(
      'logpipe_retention_last_success_timestamp_seconds',
      'When retention last deleted everything that was expired, Unix time; 0: never by this process.',
    ),
    bulkSeconds: new Histogram({
      name: 'logpipe_bulk_seconds',
      help: 'Time from sending a bulk request to its answer.',
      labelNames: ['result'],
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
    bulkDocuments: new Histogram({
      name: 'logpipe_bulk_documents',
      help: 'Documents per bulk request.',
      buckets: [1, 10, 50, 100, 250, 500, 1000, 2000, 5000],
      registers,
    }),
  };
}
