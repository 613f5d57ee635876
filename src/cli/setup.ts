// `logpipe setup`: topics and index template, once per cluster. Idempotent; says what it did and what differs.
import { ALERTS_TEMPLATE_NAME, installAlertsTemplate } from '../alerter/history.ts';
import type { Config } from '../config.ts';
import type { Log } from '../core/log.ts';
import { createElasticsearchClient, explainFailure } from '../indexing/elasticsearch.ts';
import { installTemplate, TEMPLATE_NAME, TEMPLATE_VERSION } from '../indexing/index-template.ts';
import { createKafka } from '../source/kafka/client.ts';
import { ensureTopics } from '../source/kafka/topics.ts';
import type { Io } from './io.ts';

/** @throws LogpipeError when a server cannot be reached or refuses. */
export async function setup(config: Config, options: { json: boolean }, io: Io, log: Log): Promise<number> {
  const topics =
    config.source === 'kafka' ? await ensureTopics(createKafka(config.kafka, log), config.kafka, log) : undefined;
  let template: string | undefined;
  let alertsTemplate: string | undefined;
  if (config.sinks.elasticsearch) {
    const client = createElasticsearchClient(config.elasticsearch);
    try {
      template = await installTemplate(client, log);
      alertsTemplate = await installAlertsTemplate(client, log);
    } catch (error) {
      throw error instanceof Error && error.name === 'LogpipeError'
        ? error
        : await explainFailure(error, config.elasticsearch);
    } finally {
      await client.close();
    }
  }
  if (options.json) {
    io.out(JSON.stringify({ topics, template, alertsTemplate }));
    return 0;
  }
  if (topics !== undefined) {
    for (const name of topics.created) io.out(`topic ${name}: created`);
    if (topics.created.length === 0) io.out('topics: all there');
    for (const difference of topics.differences) io.out(`differs: ${difference}`);
  }
  if (template !== undefined) io.out(`index template ${TEMPLATE_NAME} version ${TEMPLATE_VERSION}: ${template}`);
  if (alertsTemplate !== undefined) io.out(`index template ${ALERTS_TEMPLATE_NAME}: ${alertsTemplate}`);
  return 0;
}
