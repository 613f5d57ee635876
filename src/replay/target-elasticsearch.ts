// Elasticsearch as a target: in place (same ids, nothing twice), overwriting with the present parser, or into indices of
// the replay's own. The bulk writer is the pipeline's: every item is classified, and retried or refused as there.
import type { Client } from '@elastic/elasticsearch';
import type { Clock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { type BulkConfig, type BulkWriterDeps, createBulkWriter } from '../indexing/bulk-writer.ts';
import { createDocumentWriter, type DocumentOptions, documentId } from '../indexing/document.ts';
import {
  createElasticsearchClient,
  createSendBulk,
  type ElasticsearchConfig,
  explainFailure,
} from '../indexing/elasticsearch.ts';
import { createElasticsearchSink } from '../indexing/elasticsearch-sink.ts';
import { installTemplate } from '../indexing/template.ts';
import { createOldCopies } from './old-copies.ts';
import { installReplayTemplate, REPLAY_PREFIX } from './replay-template.ts';
import type { Target } from './target.ts';

type EsTarget =
  | { readonly kind: 'in-place'; readonly reparse: boolean }
  | { readonly kind: 'index'; readonly name: string };

export interface EsTargetDeps {
  readonly degrade: BulkWriterDeps['degrade'];
  readonly bury: BulkWriterDeps['deadLetter'];
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
}

/** What the documents of the target are like. @throws LogpipeError LOGPIPE_USAGE */
export function esDocuments(options: EsTarget): DocumentOptions {
  if (options.kind === 'in-place') return { action: options.reparse ? 'index' : 'create' };
  if (!/^[a-z0-9][a-z0-9_-]{0,99}$/.test(options.name)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--to-index: found ${JSON.stringify(options.name)}; permitted: lower-case letters, digits, hyphens and underscores (the index is ${REPLAY_PREFIX}<name>-YYYY.MM.dd)`,
    );
  }
  return { prefix: `${REPLAY_PREFIX}${options.name}-` };
}

export function createEsTarget(
  options: EsTarget,
  config: { readonly elasticsearch: ElasticsearchConfig; readonly bulk: BulkConfig },
  deps: EsTargetDeps,
): Target {
  const { log } = deps;
  const documents = esDocuments(options);
  const client = createElasticsearchClient(config.elasticsearch);
  const oldCopies = createOldCopies(client);
  const reparse = options.kind === 'in-place' && options.reparse;
  const refused = new Set<string>();
  let moved = 0;
  const writer = createBulkWriter(config.bulk, {
    ...deps,
    send: createSendBulk(client),
    deadLetter: async (item, reason, detail, signal) => {
      // Its old copy is all there is of it.
      if (reparse) refused.add(documentId(item.record, item.chunk));
      await deps.bury(item, reason, detail, signal);
    },
    random: Math.random,
  });
  const sink = createElasticsearchSink(client, writer);

  return {
    documents: (time) => createDocumentWriter(time, documents),
    // What is written twice under the same id is there once.
    stepwise: false,
    async prepare() {
      try {
        if (options.kind === 'index') await installReplayTemplate(client, log);
        else if (config.elasticsearch.installTemplate) await installLive(client, log);
        if (reparse) await oldCopies.refresh();
      } catch (error) {
        throw error instanceof LogpipeError ? error : await explainFailure(error, config.elasticsearch);
      }
    },
    sink: reparse
      ? {
          ...sink,
          async write(batch, signal) {
            const waiting = await sink.write(batch, signal);
            // Until a document is written anew, its old copy is all there is of it.
            await Promise.all((waiting ?? []).map(({ settled }) => settled));
            // Two steps: `+=` would read the sum before the others that are waiting have added theirs.
            const removed = await oldCopies.remove(batch, refused);
            moved += removed;
            return undefined;
          },
        }
      : sink,
    async checkpoint() {
      return {};
    },
    counts: () => (reparse ? { moved } : {}),
  };
}

async function installLive(client: Client, log: Log): Promise<void> {
  try {
    await installTemplate(client, log);
  } catch (error) {
    // As the pipeline does: a newer one is left alone and used.
    if (!(error instanceof LogpipeError) || error.code !== 'LOGPIPE_TEMPLATE_NEWER') throw error;
    log.warn(error.message);
  }
}
