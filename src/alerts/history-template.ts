// The index template of the alert history, one index per month, and its installation. Its pattern is none of the live log
// indices', and its priority is its own. Guarantee: what the history holds is what is mapped here; nothing is guessed.
import type { Client } from '@elastic/elasticsearch';
import type { Log } from '../core/log.ts';
import { type IndexTemplate, installIndexTemplate, type TemplateResult } from '../indexing/template.ts';
import { HISTORY_PREFIX } from './transitions.ts';

export const ALERTS_TEMPLATE_NAME = 'logpipe-alerts';
/** Raise with every change of the template: a server keeps the highest it has seen. */
export const ALERTS_TEMPLATE_VERSION = 1;
/** Another one than that of every other template of logpipe: equal ones must not match the same index. */
const PRIORITY = 210;

const keyword = { type: 'keyword', ignore_above: 1024 } as const;
const text = { type: 'text' } as const;
const date = { type: 'date' } as const;
const long = { type: 'long' } as const;
const double = { type: 'double' } as const;
const flattened = { type: 'flattened', ignore_above: 1024 } as const;

/** The template as shipped in config/elasticsearch/. */
export function alertsTemplate(): IndexTemplate {
  return {
    index_patterns: [`${HISTORY_PREFIX}*`],
    priority: PRIORITY,
    version: ALERTS_TEMPLATE_VERSION,
    _meta: { managed_by: 'logpipe', description: 'Transitions of alerts and incidents, one index per month (UTC)' },
    template: {
      settings: {
        index: {
          number_of_shards: 1,
          auto_expand_replicas: '0-1',
          refresh_interval: '5s',
          mapping: { total_fields: { limit: 1000 } },
        },
      },
      mappings: {
        dynamic: false,
        properties: {
          '@timestamp': date,
          transition: keyword,
          environment: keyword,
          group: keyword,
          priority: keyword,
          severity: keyword,
          by: keyword,
          alert: {
            properties: {
              key: keyword,
              rule: keyword,
              title: keyword,
              labels: flattened,
              started: date,
              message: text,
              metadata: flattened,
              resolution: keyword,
              why: {
                properties: {
                  measure: keyword,
                  windowMs: long,
                  fromMs: date,
                  toMs: date,
                  value: double,
                  valueText: keyword,
                  threshold: double,
                  thresholdText: keyword,
                  volume: long,
                  topTemplates: { properties: { template: keyword, count: long } },
                  examples: keyword,
                  release: keyword,
                },
              },
            },
          },
          incident: { properties: { id: keyword, dedupKey: keyword, opened: date } },
          notification: {
            properties: {
              channel: keyword,
              action: keyword,
              reason: keyword,
              delivered: { type: 'boolean' },
              failure: text,
            },
          },
        },
      },
    },
  };
}

/** @throws LogpipeError LOGPIPE_TEMPLATE_NEWER when the server's is newer; the client's errors otherwise */
export function installAlertsTemplate(client: Client, log: Log): Promise<TemplateResult> {
  return installIndexTemplate(client, ALERTS_TEMPLATE_NAME, alertsTemplate(), log);
}
