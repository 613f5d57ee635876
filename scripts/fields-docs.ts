// Makes docs/fields.md from the field catalogue, the parser's shapes and the metrics' registry.
import {
  CALL_STATUSES,
  EVENTS,
  FIELDS,
  type FieldGroup,
  type FieldType,
  TAGS,
  type Tag,
} from '../src/core/catalogue.ts';
import { createMetrics } from '../src/core/metrics.ts';
import { SHAPE_KEYS, SHAPES } from '../src/parse/shapes.ts';
import { eventSchema } from '../src/tag/tag.ts';
import { code, document, table } from './markdown.ts';

const TYPES: Record<FieldType, string> = {
  date: 'a point in time',
  keyword: 'a text that is searched whole, filtered and counted; at most 1,024 characters are indexed',
  text: 'a text that is searched by its words; never aggregated',
  long: 'a whole number',
  short: 'a whole number from -32,768 to 32,767',
  float: 'a number',
  boolean: 'true or false',
  flattened: 'an object whose values are all searched as keywords',
  raw: 'kept in the document, neither searched nor aggregated',
};

const NOTES: Readonly<Record<string, string>> = {
  '@timestamp': 'Event time; decides the daily index. Set by logpipe.',
  timestamp:
    'The event time as the producer wrote it; a form that Elasticsearch does not accept is written canonically, and the original kept in `extra`.',
  level:
    'Lower-case name; numeric levels are translated by the scale of their logger. An original that differs is kept in `extra`.',
  version: 'Release of the application, so that an alert can say since which release.',
  eventId: 'Set by the transport; becomes the document id when the record header has it.',
  event: 'Which of the events below it is.',
  message: 'Never aggregated; errors are grouped by `error.template`.',
  tags: 'See tags.',
  originalBytes:
    'Length before the transport cut the record (`_truncated`); at least this, if it was not read in full.',
  'error.template': 'The error message with ids, numbers, addresses and quoted texts replaced.',
  'error.fingerprint': 'Short hash of what groups an error.',
  'call.status': CALL_STATUSES.join(', '),
  'call.attempt': 'From 1; more than 1 is a retry.',
  'http.durationMs': 'Milliseconds.',
  'call.durationMs': 'Milliseconds.',
  'queue.waitMs': 'Milliseconds from enqueuing to being taken.',
  'kafka.topic': 'Where the record came from. Set by logpipe.',
  extra:
    'Values that do not fit their field’s type (`_mapping_degraded`), and values whose place was taken or has another form in the catalogue.',
  extraRaw: 'What does not fit `extra` either, as bounded text.',
};

const TAG_MEANINGS: Record<Tag, string> = {
  error: 'Level `error` or more severe: fatal, crit, alert, emerg, numeric levels from 50. Charts and rates use it.',
  _parse_failed: 'Not valid UTF-8, or begins like JSON but is not: the text is in `message`.',
  _time_missing: 'No readable event time: the record time is used.',
  _time_out_of_range:
    'Event time too far from the record time (`parse.maxAheadMs`, `parse.maxBehindMs`): the record time is used.',
  _clock_corrected:
    'The clock of the sending host was wrong by two seconds or more, up to a day: `@timestamp` is the event time by the brokers’ clock, `timestamp` what the host said. A host whose clock is known to be right is never corrected, however long a request takes; for one whose clock is wrong, the time on the way (seconds, on a busy broker) is part of the correction. See [the transport](transport.md#what-a-record-is).',
  _mapping_degraded:
    'A value did not fit its field, or any field at all, and was moved to `extra` or (cut to 8,192 characters) to `extraRaw`; or a key was given twice: its first value is in `extra`.',
  _truncated: 'The transport cut the record; `originalBytes` says how long it was.',
  _masked: 'A secret was replaced, or personal data where a switch of `mask` is on.',
  _format_failed: 'A format of the application threw; the record is as it was before the format.',
  _event_invalid: 'The event lacks something its contract requires; the document is kept as it is.',
};

/** The shapes whose records have this key. */
function shapesWith(key: string): string {
  const names = SHAPES.filter(({ keys }) => keys.includes(key)).map(({ name }) => name);
  return names.length > 0 ? names.join('; ') : 'An error under another name, which becomes `error`.';
}

export function fieldsDocs(): string {
  return document([
    `# Fields, tags, events and metrics

One vocabulary, defined in \`src/core/catalogue.ts\`. The index template is generated from it, and the parser checks values
against it before they are sent.`,
    '## Fields',
    table(
      ['field', 'type', 'note'],
      fieldPaths().map(([path, type]) => [code(path), type, NOTES[path] ?? '']),
    ),
    table(['type', 'is'], Object.entries(TYPES)),
    'Your own fields are kept: texts become `keyword`, other values what Elasticsearch makes of them.',
    '## Tags',
    'Tags that begin with `_` say what logpipe had to do. The producer’s own tags are kept too.',
    table(
      ['tag', 'meaning'],
      TAGS.map((tag) => [code(tag), TAG_MEANINGS[tag]]),
    ),
    '## Events',
    'The application names what happened in `event`. A violation is tagged `_event_invalid` and never causes a loss.',
    table(
      ['event', 'when', 'required'],
      Object.entries(EVENTS).map(([name, { when, required }]) => [code(name), when, required.map(code).join(', ')]),
    ),
    `\`call.status\` is one of ${CALL_STATUSES.map(code).join(', ')}.`,
    'The JSON schema against which a document with each `event` is checked:',
    ...eventSchemas().map(([name, schema]) => `### Schema of \`${name}\`\n\n\`\`\`json\n${schema}\n\`\`\``),
    '## Shapes that are understood',
    `Winston’s JSON needs no change. [shapes.md](shapes.md) shows what the lines of each foreign logger become. A record
with one of these keys at its top level is brought to the fields above:`,
    table(
      ['key', 'of'],
      SHAPE_KEYS.map((key) => [code(key), shapesWith(key)]),
    ),
    '## Metrics of logpipe',
    'Served at `http://127.0.0.1:8780/metrics`, with the usual figures of a Node.js process as `logpipe_process_…` and `logpipe_nodejs_…`.',
    metricsTable(),
  ]);
}

/** Every event with the schema its documents are checked against, as JSON text. */
export function eventSchemas(): [event: string, schema: string][] {
  return Object.entries(EVENTS).map(([name, { required }]) => [
    name,
    JSON.stringify(eventSchema(required), undefined, 2),
  ]);
}

/** Every leaf of the catalogue with its type. */
export function fieldPaths(group: FieldGroup = FIELDS, prefix = ''): [path: string, type: FieldType][] {
  return Object.entries(group).flatMap(([name, inner]): [string, FieldType][] =>
    typeof inner === 'string' ? [[`${prefix}${name}`, inner]] : fieldPaths(inner, `${prefix}${name}.`),
  );
}

/** logpipe's own metrics; Node's are left out because they differ between platforms. */
export function ownMetrics() {
  return createMetrics()
    .registry.getMetricsAsArray()
    .filter(({ name }) => !/^logpipe_(?:process|nodejs)_/.test(name))
    .map((metric) => {
      const { name, help, type, labelNames } = metric as unknown as MetricDetails;
      return { name, help, type: typeof type === 'string' ? type : kindOf(metric), labels: [...(labelNames ?? [])] };
    });
}

interface MetricDetails {
  readonly name: string;
  readonly help: string;
  readonly type?: string;
  readonly labelNames?: readonly string[];
}

function kindOf(metric: object): string {
  return metric.constructor.name.toLowerCase();
}

function metricsTable(): string {
  return table(
    ['metric', 'type', 'labels', 'meaning'],
    ownMetrics().map(({ name, type, labels, help }) => [code(name), type, labels.map(code).join(', '), help]),
  );
}
