// The probes that this configuration asks for.
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { createElasticsearchClient, type ElasticsearchConfig } from '../indexing/elasticsearch.ts';
import { createKafka, type KafkaConfig } from '../source/kafka-client.ts';
import type { MonitorConfig } from './monitor-config.ts';
import { createBullProbe } from './probe-bull.ts';
import { createDropsProbe } from './probe-drops.ts';
import { createElasticsearchProbe } from './probe-elasticsearch.ts';
import { createKafkaProbe } from './probe-kafka.ts';
import { createSpoolProbe } from './probe-spool.ts';
import type { Probe } from './reading.ts';

export interface ProbesConfig {
  readonly source: string;
  readonly kafka: KafkaConfig;
  readonly sinks: { readonly elasticsearch: boolean };
  readonly elasticsearch: ElasticsearchConfig;
  readonly monitor: MonitorConfig;
}

export function createProbes(config: ProbesConfig, deps: { readonly log: Log; readonly metrics: Metrics }): Probe[] {
  const { monitor, kafka, elasticsearch } = config;
  const { logs, dlq } = kafka.topics;
  const probes: Probe[] = [createDropsProbe(deps.metrics)];
  if (config.source === 'kafka') {
    probes.push(createKafkaProbe({ topic: logs, dlq, group: kafka.group }, { kafka: createKafka(kafka, deps.log) }));
  }
  if (config.sinks.elasticsearch) {
    const timeout = { requestTimeoutMs: Math.min(elasticsearch.requestTimeoutMs, monitor.timeoutMs) };
    probes.push(createElasticsearchProbe(createElasticsearchClient({ ...elasticsearch, ...timeout })));
  }
  if (monitor.redisUrl !== undefined) {
    const { redisUrl, bullPrefix: prefix, timeoutMs } = monitor;
    probes.push(createBullProbe({ redisUrl, prefix, timeoutMs }));
  }
  if (monitor.spoolDir !== undefined) {
    probes.push(createSpoolProbe({ dir: monitor.spoolDir, maxBytes: monitor.spoolMaxBytes }));
  }
  return probes;
}
