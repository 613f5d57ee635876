// Every generated file with its content. In: the code and the shipped configuration, measures and rules. Out: bytes that are the same everywhere.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { alertsTemplate } from '../src/alerter/history.ts';
import { CONFIG_SCHEMA } from '../src/config.ts';
import { packageRoot } from '../src/core/package-root.ts';
import { indexTemplate } from '../src/indexing/elasticsearch.ts';
import { checkSavedObjects } from '../src/kibana/check.ts';
import { parseMeasures } from '../src/measure/measure-config.ts';
import { replayTemplate } from '../src/replay/targets.ts';
import { parseRules } from '../src/rules/rule-config.ts';
import { configurationDocs } from './configuration-docs.ts';
import { errorsDocs } from './errors-docs.ts';
import { eventsDocs } from './events-docs.ts';
import { fieldsDocs } from './fields-docs.ts';
import { dashboardPicture } from './grafana/picture.ts';
import { pipelineDashboard } from './grafana/pipeline-dashboard.ts';
import { platformDashboard } from './grafana/platform-dashboard.ts';
import { shippedObjects, toNdjson } from './kibana-objects.ts';
import { kibanaPicture } from './kibana-picture.ts';
import { runbooksDocs } from './runbooks-docs.ts';
import { secretsDocs } from './secrets-docs.ts';
import { shapesDocs } from './shapes-docs.ts';

/** Path below the package's root -> content. */
export function outputs(): Readonly<Record<string, string>> {
  const shipped = (name: string) => readFileSync(join(packageRoot(), 'config', name), 'utf8');
  const measures = parseMeasures(shipped('measures.yml'), {}, 'measures.yml');
  const rules = parseRules(shipped('rules.yml'), {}, 'rules.yml', measures);
  return {
    'config/elasticsearch/calling-platform.template.json': json(indexTemplate()),
    'config/elasticsearch/logpipe-alerts.template.json': json(alertsTemplate()),
    'config/elasticsearch/logpipe-replay.template.json': json(replayTemplate()),
    'config/grafana/dashboards/calling-platform.json': json(platformDashboard()),
    'config/grafana/dashboards/logpipe.json': json(pipelineDashboard()),
    'docs/grafana-calling-platform.svg': dashboardPicture(platformDashboard()),
    'docs/grafana-logpipe.svg': dashboardPicture(pipelineDashboard()),
    'docs/configuration.md': configurationDocs(CONFIG_SCHEMA, shipped('logpipe.yml')),
    'docs/errors.md': errorsDocs(),
    'docs/events.md': eventsDocs(measures, rules),
    'docs/fields.md': fieldsDocs(),
    'docs/shapes.md': shapesDocs(),
    'docs/runbooks/README.md': runbooksDocs(measures, rules),
    'docs/secrets.md': secretsDocs(),
    ...kibanaObjects(),
    'docs/kibana-dashboard.svg': kibanaPicture(shippedObjects()['kibana/calling-platform.ndjson']!),
  };
}

/** @throws Error with every problem: nothing that Kibana cannot show is ever written */
function kibanaObjects(): Record<string, string> {
  const templates = [indexTemplate(), alertsTemplate(), replayTemplate()];
  return Object.fromEntries(
    Object.entries(shippedObjects()).map(([path, objects]) => {
      const text = toNdjson(objects);
      const problems = checkSavedObjects(text, templates);
      if (problems.length > 0) throw new Error(`${path}:\n${problems.join('\n')}`);
      return [path, text];
    }),
  );
}

/** JSON as the project's formatter writes it: a list of one text is on one line. */
function json(value: object): string {
  return `${JSON.stringify(value, undefined, 2).replace(/\[\n\s+("[^"]*")\n\s+\]/g, '[$1]')}\n`;
}
