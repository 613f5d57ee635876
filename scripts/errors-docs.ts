// Makes docs/errors.md from the closed lists of codes and reasons. A code without advice does not compile.
import { ERROR_CODES, type ErrorCode } from '../src/core/errors.ts';
import { DEAD_LETTER_REASONS, type DeadLetterReason, DROP_REASONS, type DropReason } from '../src/core/record.ts';
import { FAILURE_REASONS, type FailureReason } from '../src/indexing/outcome.ts';
import { code, document, table } from './markdown.ts';

const ADVICE: Record<ErrorCode, string> = {
  LOGPIPE_CONFIG_INVALID: 'Correct the listed places; `logpipe check-config` repeats the check.',
  LOGPIPE_CONFIG_UNREADABLE: 'Check the path and that the user logpipe runs as may read the file.',
  LOGPIPE_USAGE: 'See `logpipe --help`, or the help of the command. For an address in use: change `http.port`.',
  LOGPIPE_KAFKA_UNREACHABLE:
    'Check `kafka.brokers`, the network, TLS and the user; the message names the addresses tried.',
  LOGPIPE_KAFKA_FAILED:
    'Read the broker’s words in the message: usually a missing permission or an unsupported setting.',
  LOGPIPE_ES_UNREACHABLE: 'Check `elasticsearch.nodes` (http or https?), the network and the certificate authority.',
  LOGPIPE_ES_REFUSED: 'Read the server’s words in the message: usually wrong credentials or a missing privilege.',
  LOGPIPE_ES_INCOMPLETE:
    'Shards were missing, or the search timed out: look at `GET _cluster/health`, and repeat the command when it is green or yellow. A replay with `--name` goes on where it was.',
  LOGPIPE_TEMPLATE_NEWER: 'Upgrade this logpipe. The newer template is left alone; `logpipe run` goes on with it.',
  LOGPIPE_ALERT_STATE_NEWER:
    'Upgrade this instance, or go back the way the changelog of the newer version says (docs/releasing.md). Nothing was changed.',
  LOGPIPE_FORMAT_NEWER: 'The same: upgrade this instance, or go back as that changelog says. Nothing was changed.',
  LOGPIPE_KIBANA_UNREACHABLE: 'Check `--url` or `kibana.url` (http or https?), the network and `kibana.caFile`.',
  LOGPIPE_KIBANA_REFUSED:
    'Read the words in the message: usually wrong credentials, a missing privilege, or an address that is not Kibana’s.',
  LOGPIPE_KIBANA_OBJECTS: 'Import the shipped files, or correct the listed places in yours.',
  LOGPIPE_SINK_FAILED: 'Check free space and permissions of the folder, or who closed the standard output.',
  LOGPIPE_SOURCE_FAILED: 'Check that the file exists and may be read.',
  LOGPIPE_FOLDER_UNUSABLE:
    'Do what the message says at the key or option that it names: free space, permissions, or another place.',
  LOGPIPE_FAULT: 'Repeat it with `LOGPIPE_DEBUG=1` in the environment, which shows where it happened, and report it.',
  LOGPIPE_SHUTDOWN_FORCED: 'Nothing is lost. Raise `shutdownTimeoutMs` when it happens often.',
  LOGPIPE_STACK_MISSING: 'Install what the message lists, with the commands it gives.',
  LOGPIPE_STACK_FAILED: 'Read the server’s log, which the message names; a port in use is the usual cause.',
  LOGPIPE_TRANSPORT_OPTIONS: 'Correct the option that the message names, where the transport is constructed.',
  LOGPIPE_TRANSPORT_CLOSED: 'Log before `close()`, or close the transport last.',
};

const DEAD_LETTERS: Record<DeadLetterReason, readonly [meaning: string, advice: string]> = {
  null_value: ['The record has no value (a Kafka tombstone).', 'Find the producer: a log topic takes no tombstones.'],
  empty_value: ['The record holds nothing but white space.', 'Find the producer.'],
  batch_undecodable: [
    'A whole batch of records cannot be read: damaged, or written wrongly. One letter without a value stands for all of it; the detail names partition, offsets and what is wrong.',
    'Read those offsets with Kafka’s own tools while the log keeps them; look for a broken disk, proxy or producer.',
  ],
  batch_too_large: [
    'A whole batch unpacks to more than 128 MiB. One letter without a value stands for all of it; the detail names partition and offsets.',
    'Have the producer send smaller batches (`batch.size`, `max.request.size`).',
  ],
  too_large: [
    'The record is longer than `parse.maxRecordBytes`, or its document than Elasticsearch takes.',
    'Log less, or raise the limit.',
  ],
  document_refused: [
    'Elasticsearch refused the document itself, even after conflicting values had been moved to `extra`.',
    'Read the detail: it holds Elasticsearch’s words. Correct the producer or the mapping.',
  ],
  processing_failed: ['The record could not be processed, for example for its nesting.', 'Read the detail; report it.'],
};

const DROPS: Record<DropReason, readonly [meaning: string, advice: string]> = {
  retention: [
    'Kafka deleted records before they were read: the committed position lies before the beginning of the log.',
    'They are gone from Kafka; the application’s file may have them. Raise the retention or add instances.',
  ],
  file_gone: [
    'A log file was removed, emptied or overwritten before it had been read, or it cannot be known whether it had. Counted once ' +
      'per file: how many lines it held is not known.',
    'logpipe’s log names the file and the bytes. Keep more rotated files, or let logpipe run while they are rotated.',
  ],
  file_damaged: [
    'A compressed rotated file is cut short or cannot be unpacked. Counted once per file.',
    'Lines up to the fault are indexed; logpipe’s log names the file. Look whether the disk was full when it was compressed.',
  ],
  refused: [
    '`logpipe ship`: Kafka refused the record for good.',
    'Compare the topic’s `max.message.bytes` with `ship.maxLineBytes`.',
  ],
  spool_full: [
    '`logpipe ship`: Kafka was away for so long that the spool was full; the oldest records went.',
    'Raise `ship.spool.maxBytes`.',
  ],
  spool_lost: [
    '`logpipe ship`: files of the spool were removed or damaged before Kafka had their records.',
    'Find out who removes them; look whether the disk is well.',
  ],
  configured: [
    'A step `drop` or `sample` of the configuration keeps the record from the index. It is acknowledged, and no dead letter.',
    'Nothing: it is what the [transforms](transforms.md) say. `logpipe parse --explain` shows which step it was.',
  ],
};

const FAILURES: Record<FailureReason, readonly [logpipe: string, operator: string]> = {
  unreachable: ['Alarms and sends again, with growing waits.', 'Bring a node back; check `elasticsearch.nodes`.'],
  timeout: ['Alarms and sends again; what had arrived is recognised as a duplicate.', 'Look at the cluster’s load.'],
  overloaded: [
    'Sends again, with growing waits (429).',
    'Nothing at first; if it lasts, add nodes or send smaller bulks.',
  ],
  server_error: ['Sends again (5xx).', 'Look at the cluster’s log.'],
  unauthorized: ['Alarms and keeps trying (401).', 'Correct the credentials.'],
  forbidden: ['Alarms and keeps trying (403).', 'Grant `create_doc` and `auto_configure` on `calling-platform-*`.'],
  read_only: ['Alarms and keeps trying.', 'Free disk space; Elasticsearch then lifts its block.'],
  index_closed: ['Alarms and keeps trying.', 'Open the index again.'],
  index_missing: ['Alarms and keeps trying (404).', 'Permit automatic creation of `calling-platform-*`.'],
  shard_limit: ['Alarms and keeps trying.', 'Delete old indices or raise `cluster.max_shards_per_node`.'],
  count_mismatch: [
    'Alarms, takes nothing as written and sends the whole bulk again.',
    'Look at proxies between logpipe and the cluster.',
  ],
  unknown_refusal: [
    'Alarms and keeps trying: what is not known to be the document’s fault is not dropped.',
    'Read the words in the log; report them.',
  ],
  not_elasticsearch: [
    'Alarms and keeps trying: a gateway’s page, a redirect or another server says nothing about a document.',
    'Correct `elasticsearch.nodes`, or the gateway in between.',
  ],
  document: [
    'Moves conflicting values to `extra` and sends once more; refused again, it goes to the dead letters.',
    '`logpipe dlq list --reason document_refused`.',
  ],
  request_too_large: [
    'Halves the bulk until it fits. A document refused alone goes to the dead letters once something smaller got through; until then it waits, with an alarm.',
    'Lower `bulk.maxBytes`, or raise the server’s limit.',
  ],
  refused_in_a_row: [
    'Alarms, sets the index’s documents aside and tries one every 30 s: 50 in a row were refused for one reason.',
    'Repair the index’s template or mapping; the first document that is taken ends it.',
  ],
  too_many_rejections: [
    'Alarms and keeps the refused documents (`bulk.maxRejectionsPerMinute`): so many refusals have one cause.',
    'Look at what the dead letters have in common.',
  ],
};

/** Exit statuses of the command line. */
export const EXIT_STATUSES: Readonly<Record<number, string>> = {
  0: 'Done. For `run`: every record taken was accounted for.',
  1: 'Failed; the message says why.',
  2: 'Wrong command line or configuration.',
  3: '`logpipe stack status`: not everything is up.',
};

export function errorsDocs(): string {
  return document([
    '# Errors and reasons',
    `Every error logpipe reports ends with a code of this list, and its message names the place, the value and what to do.
Codes and reasons are closed lists: they are safe as metric labels and in alert rules. No message has a stack trace; with
\`LOGPIPE_DEBUG=1\` in the environment it follows.`,
    '## Exit status',
    table(['status', 'meaning'], Object.entries(EXIT_STATUSES)),
    '## Error codes',
    table(
      ['code', 'meaning', 'what to do'],
      keys(ERROR_CODES).map((name) => [code(name), ERROR_CODES[name], ADVICE[name]]),
    ),
    '## Dead letters',
    '`logpipe_dead_lettered_total{reason}`; `logpipe dlq list` shows them, and `logpipe dlq redrive` brings them back once their fault is\nrepaired ([operations](operations.md#bring-them-back)).',
    table(
      ['reason', 'meaning', 'what to do'],
      DEAD_LETTER_REASONS.map((reason) => [code(reason), ...DEAD_LETTERS[reason]]),
    ),
    '## Drops',
    '`logpipe_dropped_total{reason}`. Anything but 0 deserves an alarm, except `configured`.',
    table(
      ['reason', 'meaning', 'what to do'],
      DROP_REASONS.map((reason) => [code(reason), ...DROPS[reason]]),
    ),
    '## When Elasticsearch does not take documents',
    `\`logpipe_retried_total{reason}\` and \`logpipe_paused{reason}\`; \`/ready\` names the reason. Only faults of the document
lead to the dead letters; everything else is sent again for as long as it takes. The offset stays where it is, and the
intake stops at \`bulk.maxInFlightBytes\`. \`logpipe_paused\` also knows \`in_flight\` (that limit) and \`dead_letters\` (the dead
letters cannot be written).`,
    table(
      ['reason', 'what logpipe does', 'what an operator does'],
      FAILURE_REASONS.map((reason) => [code(reason), ...FAILURES[reason]]),
    ),
  ]);
}

function keys<T extends object>(value: T): (keyof T & string)[] {
  return Object.keys(value) as (keyof T & string)[];
}
