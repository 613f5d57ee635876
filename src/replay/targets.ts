// The target of a request, ready to be prepared.
import type { BulkWriterDeps } from '../indexing/bulk-writer.ts';
import { createDocumentWriter } from '../indexing/document.ts';
import { createConsoleSink } from '../indexing/sinks.ts';
import type { ReplayConfig, ReplayOptions } from './request.ts';
import type { Target } from './target.ts';
import { createDirTarget } from './target-dir.ts';
import { createEsTarget, type EsTargetDeps, esDocuments } from './target-elasticsearch.ts';
import { checkTopic, createTopicTarget } from './target-topic.ts';

export interface TargetDeps extends EsTargetDeps {
  readonly bury: BulkWriterDeps['deadLetter'];
  readonly stdout: NodeJS.WritableStream;
}

export function createTarget(options: ReplayOptions, config: ReplayConfig, deps: TargetDeps): Target {
  const { target } = options;
  switch (target.kind) {
    case 'in-place':
    case 'index':
      return createEsTarget(target, config, deps);
    case 'topic':
      return createTopicTarget(target.topic, options.name ?? 'unnamed', config.kafka, deps);
    case 'dir':
      return createDirTarget(target.dir, deps);
    case 'console':
      return {
        documents: (time) => createDocumentWriter(time),
        stepwise: true,
        async prepare() {},
        sink: createConsoleSink(target.format, { out: deps.stdout as NodeJS.WriteStream, metrics: deps.metrics }),
        async checkpoint() {
          return {};
        },
        counts: () => ({}),
      };
  }
}

/** Counts what would be written, and writes nothing. */
export function createDryTarget(options: ReplayOptions, config: ReplayConfig): Target {
  const { target } = options;
  if (target.kind === 'topic') checkTopic(target.topic, config.kafka.topics);
  const documents = target.kind === 'in-place' || target.kind === 'index' ? esDocuments(target) : {};
  const indices: Record<string, { documents: number; bytes: number }> = {};
  return {
    documents: (time) => createDocumentWriter(time, documents),
    stepwise: false,
    async prepare() {},
    sink: {
      name: 'dry run',
      async write(batch) {
        for (let i = 0; i < batch.count; i++) {
          const { index } = batch.action(i);
          indices[index] ??= { documents: 0, bytes: 0 };
          indices[index].documents += 1;
          indices[index].bytes += batch.document(i).length;
        }
      },
      async close() {},
    },
    async checkpoint() {
      return {};
    },
    counts: () => ({}),
    indices: () => indices,
  };
}
