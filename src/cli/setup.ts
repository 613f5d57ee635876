// `logpipe setup`: topics and index templates, once per cluster. Idempotent; says what it did and what differs.
import { ALERTS_TEMPLATE_NAME, installAlertsTemplate } from '../alerter/history.ts';
import type { Config } from '../config.ts';
import type { Log } from '../core/log.ts';
import { createElasticsearchClient, explainFailure } from '../indexing/elasticsearch.ts';
import { installTemplate, TEMPLATE_NAME, TEMPLATE_VERSION } from '../indexing/index-template.ts';
import { createKafka } from '../source/kafka/client.ts';
import { ensureTopics } from '../source/kafka/topics.ts';
import { type Io, say, wantsJson } from './io.ts';

/** @throws LogpipeError when a server cannot be reached or refuses. */
export async function setup(
  config: Config,
  options: { readonly json?: boolean | undefined },
  io: Io,
  log: Log,
): Promise<number> {
  // What it created, and what differs, is the command's own answer.
  const quiet: Log = { ...log, info: log.debug, warn: log.debug };
  const topics =
    config.source === 'kafka' ? await ensureTopics(createKafka(config.kafka, log), config.kafka, quiet) : undefined;
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
  if (wantsJson(io, options.json)) {
    io.out(JSON.stringify({ topics, template, alertsTemplate }));
    return 0;
  }
  if (topics !== undefined) {
    for (const name of topics.created) say(io, `topic ${name}: created`);
    if (topics.created.length === 0) say(io, 'topics: nothing to create, all of them exist');
    for (const difference of topics.differences) say(io, `left as it is: ${difference}`);
  }
  if (template !== undefined) say(io, `index template ${TEMPLATE_NAME} version ${TEMPLATE_VERSION}: ${template}`);
  if (alertsTemplate !== undefined) say(io, `index template ${ALERTS_TEMPLATE_NAME}: ${alertsTemplate}`);
  if (topics === undefined && template === undefined)
    say(io, 'nothing to set up: neither Kafka nor Elasticsearch is used');
  return 0;
}
