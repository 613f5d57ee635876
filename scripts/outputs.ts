// Every generated file with its content. In: the code and config/logpipe.yml. Out: bytes that are the same everywhere.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { alertsTemplate } from '../src/alerts/history-template.ts';
import { CONFIG_SCHEMA } from '../src/config.ts';
import { packageRoot } from '../src/core/package-root.ts';
import { indexTemplate } from '../src/indexing/template.ts';
import { configurationDocs } from './configuration-docs.ts';
import { errorsDocs } from './errors-docs.ts';
import { fieldsDocs } from './fields-docs.ts';

/** Path below the package's root -> content. */
export function outputs(): Readonly<Record<string, string>> {
  const shipped = readFileSync(join(packageRoot(), 'config', 'logpipe.yml'), 'utf8');
  return {
    'config/elasticsearch/calling-platform.template.json': json(indexTemplate()),
    'config/elasticsearch/logpipe-alerts.template.json': json(alertsTemplate()),
    'docs/configuration.md': configurationDocs(CONFIG_SCHEMA, shipped),
    'docs/errors.md': errorsDocs(),
    'docs/fields.md': fieldsDocs(),
  };
}

/** As the project's formatter writes JSON: a list of one text stands on one line. */
function json(value: object): string {
  return `${JSON.stringify(value, undefined, 2).replace(/\[\n\s+("[^"]*")\n\s+\]/g, '[$1]')}\n`;
}
