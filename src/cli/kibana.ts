// `logpipe kibana import`: the shipped saved objects, or files of one's own, into Kibana. Nothing is sent that the checker
// finds wrong. Says what became of every object that was not taken.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { alertsTemplate } from '../alerter/history.ts';
import type { Config } from '../config.ts';
import { LogpipeError, listOfProblems, reasonInWords } from '../core/errors.ts';
import { packageRoot } from '../core/package-root.ts';
import { oneLine } from '../core/safe-json.ts';
import { indexTemplate } from '../indexing/elasticsearch.ts';
import { checkSavedObjects, type SavedObject } from '../kibana/check.ts';
import { type ImportFailure, type ImportReply, importSavedObjects, kibanaTarget } from '../kibana/import.ts';
import { replayTemplate } from '../replay/targets.ts';
import type { Io } from './io.ts';

export interface KibanaImportOptions {
  readonly url?: string;
  readonly apiKey?: string;
  readonly space?: string;
  readonly dryRun: boolean;
  readonly json: boolean;
}

/**
 * Exit status 0, or 1 when an object was not taken.
 * @param files .ndjson; none: the shipped ones
 * @throws LogpipeError LOGPIPE_USAGE, LOGPIPE_KIBANA_OBJECTS, LOGPIPE_KIBANA_UNREACHABLE, LOGPIPE_KIBANA_REFUSED
 */
export async function kibanaImport(
  files: readonly string[],
  config: Config,
  options: KibanaImportOptions,
  io: Io,
): Promise<number> {
  const target = kibanaTarget(options.url ?? config.kibana.url, options.space ?? config.kibana.space);
  const paths = files.length > 0 ? files : shippedFiles();
  const ndjson = paths.map(readObjects).join('');
  const problems = checkSavedObjects(ndjson, [indexTemplate(), alertsTemplate(), replayTemplate()]);
  if (problems.length > 0) {
    const list = listOfProblems(problems.map((problem) => oneLine(problem, 300)));
    throw new LogpipeError('LOGPIPE_KIBANA_OBJECTS', `${problems.length} problem(s), nothing was sent\n${list}`);
  }
  const objects = ndjson
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as SavedObject);
  if (options.dryRun) {
    if (options.json) {
      const listed = objects.map(({ type, id, attributes }) => ({ type, id, title: attributes.title }));
      io.out(JSON.stringify({ dryRun: true, url: target.base, space: target.space, objects: listed }));
    } else {
      for (const { type, id, attributes } of objects) {
        io.out(`${type.padEnd(14)}  ${id.padEnd(32)}  ${oneLine(String(attributes.title), 60)}`);
      }
      io.err(
        `${objects.length} objects are fine; nothing was sent. They would go to ${target.base}, space ${target.space}`,
      );
    }
    return 0;
  }
  // A key on the command line stands for the whole log-in: no half of another is mixed in.
  const { apiKey } = options;
  const reply = await importSavedObjects(ndjson, target, {
    ...config.kibana,
    ...(apiKey === undefined ? {} : { apiKey }),
  });
  // Kibana counts what it took: what it does not speak of it has not.
  const complete = reply.success && reply.errors.length === 0 && reply.successCount >= objects.length;
  if (options.json) {
    const { successCount, successResults, errors } = reply;
    io.out(
      JSON.stringify({
        success: complete,
        url: target.base,
        space: target.space,
        sent: objects.length,
        successCount,
        successResults,
        errors,
      }),
    );
    return complete ? 0 : 1;
  }
  for (const failure of reply.errors)
    io.err(oneLine(`not taken: ${failure.type} ${failure.id}: ${reasonOf(failure)}`, 400));
  io.out(`${reply.successCount} of ${objects.length} objects are in ${target.base}, space ${target.space}`);
  for (const id of dashboards(objects, reply)) io.out(`dashboard: ${target.base}/app/dashboards#/view/${id}`);
  return complete ? 0 : 1;
}

function shippedFiles(): string[] {
  const folder = join(packageRoot(), 'kibana');
  return readdirSync(folder)
    .filter((name) => name.endsWith('.ndjson'))
    .sort()
    .map((name) => join(folder, name));
}

function readObjects(path: string): string {
  try {
    const text = readFileSync(path, 'utf8');
    return text === '' || text.endsWith('\n') ? text : `${text}\n`;
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `${path} cannot be read (${reasonInWords(error)}); name a readable .ndjson file`,
    );
  }
}

/** Under the ids they have now: in a second space an object gets another one. */
function dashboards(objects: readonly SavedObject[], { successResults }: ImportReply): string[] {
  return objects.flatMap(({ type, id }) => {
    if (type !== 'dashboard') return [];
    const taken = successResults.find((result) => result.type === type && result.id === id);
    return taken === undefined ? [] : [taken.destinationId ?? id];
  });
}

function reasonOf({ error }: ImportFailure): string {
  switch (error.type) {
    case 'conflict':
      return `conflict: the same object is there${error.destinationId === undefined ? '' : ` as ${error.destinationId}`} and was not overwritten; delete it in Kibana (Stack Management, Saved Objects) or import into another space`;
    case 'ambiguous_conflict': {
      const found = (error.destinations ?? []).map(({ id }) => id).join(', ');
      return `ambiguous conflict: several copies of it are there (${found}); delete all but one in Kibana`;
    }
    case 'missing_references': {
      const missing = (error.references ?? []).map(({ type, id }) => `${type} ${id}`).join(', ');
      return `refers to what is not there: ${missing}`;
    }
    case 'unsupported_type':
      return 'this Kibana does not know the type';
    default:
      return `${error.message ?? error.type}${error.statusCode === undefined ? '' : ` (${error.statusCode})`}`;
  }
}
