// docs/shapes.md: for each kind of foreign logger what its lines become. The examples stand beside the code that reads them
// (src/parse/shapes.ts, normalise.ts); the documents are made by that code.
import { createLineParser } from '../src/cli/parse.ts';
import { parseConfig } from '../src/config.ts';
import { LEVEL_SCALES } from '../src/parse/conform.ts';
import { LINE_FORMATS } from '../src/parse/normalise.ts';
import { SHAPES, USUAL_NAMES } from '../src/parse/shapes.ts';
import { code, document, table } from './markdown.ts';

/** The examples were read a moment after they were written. */
const RECORD_MS = Date.parse('2026-11-28T14:23:00.000Z');

export function shapesDocs(): string {
  const become = createBecome();
  const section = ({ name, example }: { name: string; example: string }) =>
    `### ${name}\n\n\`\`\`\n${example}\n\`\`\`\n\n${become(example)}`;
  const names = ({ name }: { name: string }) => `- ${name}`;
  return document([
    `# Other loggers

Winston’s JSON is taken as it is. What other loggers and log shippers write is brought to [the same fields](fields.md), so
that one search, one chart and one alert covers them all. This page shows what the lines of each kind become; every
document below was made by the code. Try your own lines: \`logpipe parse app.log\`; with \`--explain\` it says of each line which shape was
recognised, what was renamed, masked and moved, and why.`,
    `## What is known

${[...LINE_FORMATS, ...SHAPES].map(names).join('\n')}

A logger that is not listed works too if it uses the usual names: for the level \`level\`, ${list(USUAL_NAMES.level)}; for
the message \`message\`, ${list(USUAL_NAMES.message)}; for the time \`timestamp\`, \`@timestamp\`, ${list(USUAL_NAMES.time)}.`,
    `## Rules

- **Nothing is deleted.** A value for which the catalogue has a place moves there. Everything else stays where it was. A value
  that finds its place taken, or has another form there (a level given as a number, a time in seconds), is kept in
  \`extra\` under its own name, without a tag.
- **A tag says what was wrong**: \`_mapping_degraded\` for a value that fits no field or was cut, and for a key given
  twice (its first value is in \`extra\`).
- **The event time** is the first that can be read: ISO 8601, or seconds, milliseconds, microseconds or nanoseconds since
  1970 (told apart by their size), as a number or as text. A time without a zone is read as UTC. If none can be read,
  the record time is used (\`_time_missing\`).
- **Values nested more than 16 deep** go to \`extraRaw\` as text of at most 8,192 characters.
- **Numbers keep their digits**, however long they are.`,
    `## JSON inside a message

A *wrapper* is a record that its shape identifies as one (Docker, CRI, fluent-bit, Filebeat, journald, syslog), or one with
neither a level nor an event id in its Kafka header. The JSON in its message becomes the record; the wrapper’s own fields
fill gaps, and go to \`extra\` where there is no gap. A wrapper’s text that is not JSON may be any line of text listed here.

In any other record, a JSON text in the message, which a user may have written, only adds missing fields. It never
sets level, time, tags, service, environment, host, tenantId, eventId, event, error, call, http, queue, db, process or
system: those go to \`extra\`.`,
    `## Levels

Names are written in lower case. Numbers mean what the logger’s own scale says; if the record does not
reveal the scale, a number stays as it is and never counts as an error.`,
    table(
      ['scale', 'numbers'],
      Object.entries(LEVEL_SCALES).map(([name, { steps }]) => [
        code(name),
        steps.map(([number, level]) => `${number} ${level}`).join(', '),
      ]),
    ),
    '## Lines of text',
    ...LINE_FORMATS.map(section),
    `### Anything else

The line is the \`message\`.`,
    '## JSON',
    ...SHAPES.map(section),
    `## Adding another logger

Add an entry to the table in \`src/parse/shapes.ts\` (or, for lines that are not JSON, in \`src/parse/normalise.ts\`) with a line of it as
\`example\`, and run \`npm run generate\`: this page shows what became of the line.`,
  ]);
}

function list(names: readonly string[]): string {
  return names.map(code).join(', ');
}

/** The document of a line as a block of JSON, without error template and fingerprint (docs/fields.md explains those). */
function createBecome(): (line: string) => string {
  const parseLine = createLineParser(parseConfig('', {}, 'docs'));
  return (line) => {
    const record = { value: Buffer.from(line), offset: 0, timeMs: RECORD_MS, eventId: undefined };
    const { document: made } = parseLine(record, { kind: 'file', path: 'app.log', identity: 'app.log' });
    const { error, ...rest } = made ?? {};
    const { template: _, fingerprint: __, ...group } = (error ?? {}) as Record<string, unknown>;
    const shown = Object.keys(group).length === 0 ? rest : { ...rest, error: group };
    return `\`\`\`json\n${JSON.stringify(shown, undefined, 2)}\n\`\`\``;
  };
}
