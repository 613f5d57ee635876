// Questions to the cluster about a topic. In: a client and the work. Out: what the work gives. Guarantee: the connection is
// closed again; a partition whose leader is just being elected costs patience, not the answer.
import type { Admin, Kafka } from 'kafkajs';
import { sleep } from '../core/clock.ts';

/** An election takes a second or two; with a dead broker, as long as the cluster takes to notice it. */
const PATIENCE_MS = 20_000;
const PAUSE_MS = 200;

/** Answers of a broker that does not lead the partition, or not yet. kafkajs gives these questions up at once. */
const ELECTING = new Set(['NOT_LEADER_FOR_PARTITION', 'LEADER_NOT_AVAILABLE', 'REPLICA_NOT_AVAILABLE']);

/** kafkajs puts what it tried again in vain into an error without a type. */
function isElecting(error: unknown): boolean {
  const { type = '', cause } = (error ?? {}) as { readonly type?: string; readonly cause?: unknown };
  return ELECTING.has(type) || (cause !== undefined && cause !== error && isElecting(cause));
}

/**
 * Does `work` with an admin client of its own, again with a new one (and so with fresh metadata) while leaders are elected.
 * @throws what `work` and the connection throw
 */
export async function withAdmin<T>(kafka: Kafka, work: (admin: Admin) => Promise<T>): Promise<T> {
  const started = performance.now();
  for (;;) {
    const admin = kafka.admin();
    try {
      await admin.connect();
      return await work(admin);
    } catch (error) {
      if (!isElecting(error) || performance.now() - started > PATIENCE_MS) throw error;
    } finally {
      await admin.disconnect().catch(() => {});
    }
    await sleep(PAUSE_MS);
  }
}
