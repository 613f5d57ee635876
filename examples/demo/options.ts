// The demo's command line. In: arguments; out: checked options, or a LOGPIPE_USAGE error that says what is permitted.
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { LogpipeError } from '../../src/core/errors.ts';
import type { EsChoice } from '../../stack/index.ts';
import { INCIDENT_KINDS, type IncidentKind } from '../calling-platform/incident.ts';

export interface DemoOptions {
  /** Milliseconds of events; undefined: until told to stop. */
  forMs: number | undefined;
  json: boolean;
  /** Servers of somebody else; only ever from the command line. */
  outside: { kafka: string; elasticsearch: string } | undefined;
  embedded: boolean;
  docker: boolean;
  es: EsChoice;
  /** Events per second. */
  rate: number;
  incident: IncidentKind | undefined;
  /** Somebody watches, who may want to answer the incident: nobody in the demo is quicker. */
  watched: boolean;
  /** Folder of the NDJSON files of the embedded mode, kept; undefined: a temporary one. */
  keep: string | undefined;
}

interface Flags {
  for?: number;
  json: boolean;
  kafka?: string;
  elasticsearch?: string;
  embedded: boolean;
  docker: boolean;
  es: EsChoice;
  rate: number;
  incident?: IncidentKind | boolean;
  keep?: string;
}

const EXAMPLES = `
Examples:
  npm run demo                                  until Ctrl-C; an incident begins after half a minute
  npm run demo -- --no-incident                 the same, and nothing goes wrong
  npm run demo -- --for 60s                     one minute, then a summary
  npm run demo -- --for 60s --incident          the telephone provider fails, and somebody answers the alert
  npm run demo -- --for 20s --json              one JSON object; progress goes to standard error
  npm run demo -- --embedded                    no servers: log file in, NDJSON files out
  npm run demo -- --kafka kafka-1:9092 --elasticsearch http://es-1:9200

Without options it uses Docker when a daemon answers, or else Java and Maven, or
else the embedded mode. Your own servers are used only when they are named here,
never because of an environment variable. Exit status: 0 when every event that
was produced was indexed or is in the dead letters, 1 when not, 2 for a wrong
command line.`;

/** Parses and calls `action`; `--help` and mistakes are commander's own errors. */
export function demoCommand(action: (options: DemoOptions) => Promise<void>): Command {
  return new Command('npm run demo --')
    .description(
      'A small calling platform logs through Kafka into Elasticsearch, live; all of it ends with this program.',
    )
    .option('--for <time>', 'how long to produce events, for example 60s, 5m (default: until Ctrl-C)', duration)
    .option('--json', 'print one final JSON object on standard output', false)
    .option('--rate <number>', 'events per second', rate, 300)
    .addOption(
      new Option(
        '--incident [kind]',
        'stage an incident after a while; without --for there is one anyway (default kind: provider-outage)',
      ).choices(INCIDENT_KINDS),
    )
    .option('--no-incident', 'stage none')
    .addOption(new Option('--es <major>', 'release line of Elasticsearch').choices(['8', '9', 'auto']).default('auto'))
    .option('--no-docker', 'do not use Docker even when a daemon answers')
    .option('--embedded', 'use no servers at all', false)
    .option('--keep <folder>', 'with --embedded: write the NDJSON files here and leave them')
    .option('--kafka <host:port>', 'your own Kafka; needs --elasticsearch')
    .option('--elasticsearch <url>', 'your own Elasticsearch; needs --kafka')
    .addHelpText('after', EXAMPLES)
    .showHelpAfterError('(see --help)')
    .exitOverride()
    .action((flags: Flags) => action(demoOptions(flags)));
}

function demoOptions(flags: Flags): DemoOptions {
  const { kafka, elasticsearch } = flags;
  if ((kafka === undefined) !== (elasticsearch === undefined)) {
    const [have, lack] = kafka === undefined ? ['elasticsearch', 'kafka'] : ['kafka', 'elasticsearch'];
    throw usage(`--${have} needs --${lack} as well: either both servers are your own, or neither`);
  }
  if (kafka !== undefined && flags.embedded)
    throw usage('--embedded uses no servers; leave out --kafka and --elasticsearch');
  if (kafka !== undefined && !/^[^\s:/,]+:\d{1,5}$/.test(kafka)) {
    throw usage(`--kafka: found "${kafka}"; expected HOST:PORT, for example 127.0.0.1:9092`);
  }
  if (elasticsearch !== undefined && !/^https?:\/\/[^\s]+$/.test(elasticsearch)) {
    throw usage('--elasticsearch: expected an address such as http://127.0.0.1:9200');
  }
  return {
    forMs: flags.for,
    json: flags.json,
    outside: kafka !== undefined && elasticsearch !== undefined ? { kafka, elasticsearch } : undefined,
    embedded: flags.embedded,
    docker: flags.docker,
    es: flags.es,
    rate: flags.rate,
    incident: incidentOf(flags),
    watched: flags.for === undefined,
    keep: flags.keep === undefined ? undefined : resolve(flags.keep),
  };
}

function incidentOf({ incident, for: forMs }: Flags): IncidentKind | undefined {
  const isAsked = incident ?? forMs === undefined;
  if (isAsked === false) return undefined;
  return isAsked === true ? INCIDENT_KINDS[0] : isAsked;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `60s`, `5m`, `1h`, `500ms`, or a bare number of seconds, in milliseconds. */
export function duration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  const ms = match ? Number(match[1]) * UNITS[match[2] ?? 's']! : 0;
  if (ms <= 0) throw usage(`--for: found "${text}"; expected a time such as 60s, 5m or 1h`);
  return ms;
}

function rate(text: string): number {
  const value = Number(text);
  if (!(value >= 1 && value <= 20_000)) throw usage(`--rate: found "${text}"; permitted: 1 to 20000 events per second`);
  return value;
}

function usage(message: string): LogpipeError {
  return new LogpipeError('LOGPIPE_USAGE', message);
}
