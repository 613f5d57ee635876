// What happens inside the Kafka source, for tests and for anybody who wants to watch it.
import { EventEmitter } from 'node:events';

export interface KafkaSourceEvents {
  /** A new assignment began; its partitions are read from where the group had committed. */
  joined: [{ epoch: number; partitions: readonly number[] }];
  /** The broker took a commit: `offset` is the next one to read. */
  committed: [{ partition: number; offset: number }];
  /** The consumer stopped for good. */
  crash: [{ error: Error }];
  /** A new consumer was built after a crash and has joined. */
  restarted: [];
}

export type KafkaSourceEmitter = EventEmitter<KafkaSourceEvents>;

export function createKafkaEvents(): KafkaSourceEmitter {
  return new EventEmitter<KafkaSourceEvents>();
}
