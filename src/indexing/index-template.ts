// The index template of the live log indices, generated from the field catalogue, and its installation.
// Guarantee: installing is idempotent and never replaces a newer template.
import { type Client, errors } from '@elastic/elasticsearch';
import { FIELDS, type FieldGroup, type FieldType } from '../core/catalogue.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { INDEX_PREFIX } from './batch.ts';

export const TEMPLATE_NAME = 'calling-platform';
/** Raise it with every change to the template: a server keeps the highest version it has seen. */
export const TEMPLATE_VERSION = 1;
const TEMPLATE_PRIORITY = 200;
const IGNORE_ABOVE = 1024;

const MAPPINGS: Record<FieldType, object> = {
  date: { type: 'date' },
  keyword: { type: 'keyword', ignore_above: IGNORE_ABOVE },
  text: { type: 'text' },
  long: { type: 'long' },
  short: { type: 'short' },
  float: { type: 'float' },
  boolean: { type: 'boolean' },
  flattened: { type: 'flattened', ignore_above: IGNORE_ABOVE },
  raw: { type: 'keyword', index: false, doc_values: false },
};

export interface IndexTemplate {
  index_patterns: string[];
  priority: number;
  version: number;
  _meta: Record<string, string>;
  template: { settings: { index: IndexSettings }; mappings: object };
}
interface IndexSettings {
  number_of_shards: number;
  auto_expand_replicas: string;
  refresh_interval: string;
  mapping: { total_fields: { limit: number; ignore_dynamic_beyond_limit?: boolean } };
}

/** The template as shipped in config/elasticsearch/. */
export function indexTemplate(): IndexTemplate {
  return {
    index_patterns: [`${INDEX_PREFIX}*`],
    priority: TEMPLATE_PRIORITY,
    version: TEMPLATE_VERSION,
    _meta: { managed_by: 'logpipe', description: 'Live log indices, one per UTC day' },
    template: {
      settings: {
        index: {
          number_of_shards: 1,
          auto_expand_replicas: '0-1',
          refresh_interval: '5s',
          mapping: { total_fields: { limit: 1000, ignore_dynamic_beyond_limit: true } },
        },
      },
      mappings: {
        date_detection: false,
        numeric_detection: false,
        dynamic_templates: [
          { strings: { match_mapping_type: 'string', mapping: { type: 'keyword', ignore_above: IGNORE_ABOVE } } },
        ],
        properties: properties(FIELDS),
      },
    },
  };
}

function properties(group: FieldGroup): Record<string, object> {
  return Object.fromEntries(
    Object.entries(group).map(([name, type]) => [
      name,
      typeof type === 'string' ? MAPPINGS[type] : { properties: properties(type) },
    ]),
  );
}

export type TemplateResult = 'installed' | 'updated' | 'unchanged';

/** Puts the template of the live log indices in place. @throws as installIndexTemplate */
export function installTemplate(client: Client, log: Log): Promise<TemplateResult> {
  return installIndexTemplate(client, TEMPLATE_NAME, indexTemplate(), log);
}

/**
 * Puts a template in place. Settings that an older server does not know are left out, with a warning.
 * @throws LogpipeError LOGPIPE_TEMPLATE_NEWER when the server's is newer; the client's errors otherwise.
 */
export async function installIndexTemplate(
  client: Client,
  name: string,
  body: IndexTemplate,
  log: Log,
): Promise<TemplateResult> {
  const present = await installedVersion(client, name);
  if (present !== undefined && present > body.version) {
    throw new LogpipeError(
      'LOGPIPE_TEMPLATE_NEWER',
      `index template ${name}: version ${present} is installed, this logpipe has ${body.version}; nothing was changed. Upgrade logpipe`,
    );
  }
  if (present === body.version) return 'unchanged';
  try {
    await put(client, name, body);
  } catch (error) {
    if (!(error instanceof errors.ResponseError) || !/ignore_dynamic_beyond_limit/.test(error.message)) throw error;
    delete body.template.settings.index.mapping.total_fields.ignore_dynamic_beyond_limit;
    log.warn('This Elasticsearch does not know index.mapping.total_fields.ignore_dynamic_beyond_limit: left out', {
      effect: 'documents beyond 1,000 fields are degraded instead of losing single fields',
    });
    await put(client, name, body);
  }
  return present === undefined ? 'installed' : 'updated';
}

async function put(client: Client, name: string, body: IndexTemplate): Promise<void> {
  const reply = await client.transport.request<{ acknowledged?: boolean }>({
    method: 'PUT',
    path: `/_index_template/${name}`,
    body,
  });
  // The status is 200 even when a node has not heard of it in time.
  if (reply.acknowledged !== false) return;
  throw new LogpipeError(
    'LOGPIPE_ES_INCOMPLETE',
    `index template ${name}: not every node has taken it; repeat this when the cluster is green or yellow`,
  );
}

async function installedVersion(client: Client, name: string): Promise<number | undefined> {
  try {
    const reply = await client.transport.request<{ index_templates: { index_template: { version?: number } }[] }>({
      method: 'GET',
      path: `/_index_template/${name}`,
    });
    return reply.index_templates[0]?.index_template.version ?? 0;
  } catch (error) {
    if (error instanceof errors.ResponseError && error.statusCode === 404) return undefined;
    throw error;
  }
}
