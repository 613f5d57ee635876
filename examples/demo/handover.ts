// What a person can do next, as lines to copy. In: where things are. Out: commands with the real addresses; while the demo runs they work
// at once in another terminal, at its end they tell how to have the same with servers that stay.
import type { IncidentKind } from '../calling-platform/incident.ts';
import type { ResultsReader } from './results.ts';
import { type Servers, withoutPassword } from './servers.ts';

export interface Running {
  readonly results: Pick<ResultsReader, 'hints'>;
  /** Of the pipeline. */
  readonly url: string;
  /** Of the application. */
  readonly applicationUrl: string;
  readonly configFile: string;
  /** That the demo stages itself. */
  readonly incident: IncidentKind | undefined;
}

/** Name and command, one pair a line. */
export type Handover = readonly (readonly [name: string, command: string])[];

/** For the time while everything runs. */
export function whileItRuns({ results, url, applicationUrl, configFile, incident }: Running): Handover {
  const body = `'{"kind":"provider-outage","seconds":60}'`;
  const cause: Handover =
    incident === undefined
      ? [['incident', `curl -s ${applicationUrl}/admin/incident -H 'content-type: application/json' -d ${body}`]]
      : [];
  return [
    ['page', `npx logpipe page --config ${configFile}`],
    ...results.hints().map((hint) => ['search', hint] as const),
    ['metrics', `curl -s ${url}/metrics`],
    ['figures', `curl -s '${url}/api/v1/stats?window=5m'`],
    ['log', `npx logpipe tail --config ${configFile}`],
    ['alerts', `npx logpipe alerts list --config ${configFile}`],
    ...cause,
  ];
}

/** For the time after the end: what is left of the demo, and how to have it for longer. */
export function whatComesNext(
  { mode, addresses }: Pick<Servers, 'mode' | 'addresses'>,
  results: Pick<ResultsReader, 'hints'>,
  kept: string | undefined,
): Handover {
  if (mode === 'outside' && addresses) {
    const { kafka, elasticsearch } = addresses;
    return [
      ...results.hints().map((hint) => ['search', hint] as const),
      ['servers', `export KAFKA_BROKERS=${kafka} ELASTICSEARCH_URL=${withoutPassword(elasticsearch)}`],
      ['setup', 'npx logpipe setup'],
      ...YOURS.filter(([name]) => name !== 'search'),
    ];
  }
  const files: Handover = kept === undefined ? [] : [['documents', `ls ${kept}`]];
  const again =
    mode === 'embedded'
      ? 'npm run demo -- --embedded --for 90s --incident --keep demo-logs'
      : 'npm run demo -- --for 90s --incident';
  return [
    ...files,
    ['incident', again],
    ['servers', 'eval "$(npm run -s stack -- up)"    # they stay until: npm run stack -- down'],
    ['setup', 'npx logpipe setup'],
    ...YOURS,
  ];
}

/** What runs on logpipe's own defaults. */
const YOURS: Handover = [
  ['pipeline', 'npx logpipe run    # reads KAFKA_BROKERS and ELASTICSEARCH_URL'],
  ['search', `curl -s "$ELASTICSEARCH_URL/calling-platform-*/_search?q=tags:error&sort=@timestamp:desc&size=3&pretty"`],
  ['metrics', 'curl -s http://127.0.0.1:8780/metrics'],
  ['alerts', 'npx logpipe alerts list'],
  ['your app', 'docs/getting-started.md, "Log into it"'],
];

/** Uncut: whoever copies a line gets all of it. */
export function handoverLines(title: string, handover: Handover): string[] {
  const width = Math.max(...handover.map(([name]) => name.length));
  return ['', title, ...handover.map(([name, command]) => `  ${name.padEnd(width)}  ${command}`), ''];
}
