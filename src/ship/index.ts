// What applications import as `logpipe/transport`. Loads Winston, kafkajs and `core/`, but nothing of the pipeline's stages.

export { type CreateLoggerOptions, createLogger } from './logger.ts';
export type {
  BatchOptions,
  Compression,
  KafkaTransportOptions,
  MaskingOptions,
  QueueOptions,
  SpoolOptions,
} from './options.ts';
export { type ProcessStatsOptions, startProcessStats } from './process-stats.ts';
export type { DropCounts, DropNotice, DropReason } from './queue.ts';
export {
  type CloseResult,
  KafkaTransport,
  type KafkaTransportEvents,
  type TransportStats,
} from './transport.ts';
