// A real server under test, whichever way it was started.
import type { ElasticsearchOptions, KafkaOptions } from '../../stack/index.ts';

export type Backend = 'docker' | 'stack';

export interface TestServer {
  version: string;
  port: number;
  /** Ends it for good and removes its data. Repeatable. */
  stop(): Promise<void>;
  /** SIGKILL; resolves when it is gone. Its data stay for `start()`. */
  kill(): Promise<void>;
  /** Again after `kill()`, on the same port and data; resolves when ready. */
  start(): Promise<void>;
  /** Freezes it: connections stay open, nothing answers. */
  pause(): Promise<void>;
  resume(): Promise<void>;
}

export interface TestKafka extends TestServer {
  brokers: string[];
}

export interface TestElasticsearch extends TestServer {
  url: string;
}

export type TestKafkaOptions = Pick<KafkaOptions, 'port' | 'properties' | 'heap'>;
export type TestElasticsearchOptions = Pick<ElasticsearchOptions, 'port' | 'version' | 'heap'>;
