// Backlog of Bull and BullMQ queues, from their Redis. In: an address. Out: jobs waiting per queue.
// Reads only: list and set lengths, and a bounded scan for the names of the queues. Keys as both libraries lay them out:
// https://docs.bullmq.io/guide/architecture and https://github.com/OptimalBits/bull (lib/queue.js).
import { Redis } from 'ioredis';
import type { Probe, Reading } from './reading.ts';

const MAX_QUEUES = 200;
const MAX_SCANS = 1_000;

export function createBullProbe(options: { redisUrl: string; prefix: string; timeoutMs: number }): Probe {
  const { prefix } = options;
  const redis = new Redis(options.redisUrl, {
    lazyConnect: true,
    maxRetriesPerRequest: 1,
    enableOfflineQueue: false,
    connectTimeout: options.timeoutMs,
    // One attempt per run: the next run is the retry.
    retryStrategy: () => null,
  });
  // Its message may hold the address; the run that fails says what matters.
  redis.on('error', () => {});

  async function queueNames(signal: AbortSignal): Promise<string[]> {
    const names = new Set<string>();
    // BullMQ keeps `meta` and Bull `id` per queue.
    for (const ending of ['meta', 'id']) {
      let cursor = '0';
      for (let scans = 0; scans < MAX_SCANS && names.size < MAX_QUEUES; scans++) {
        signal.throwIfAborted();
        const [next, keys] = await redis.scan(cursor, 'MATCH', `${prefix}:*:${ending}`, 'COUNT', 500);
        for (const key of keys) {
          const name = key.slice(prefix.length + 1, -ending.length - 1);
          // `bull:<queue>:<job>:…` is a job of a queue, not a queue.
          if (!name.includes(':')) names.add(name);
        }
        cursor = next;
        if (cursor === '0') break;
      }
    }
    return [...names].slice(0, MAX_QUEUES);
  }

  return {
    name: 'redis',
    async run(signal) {
      if (redis.status !== 'ready') await redis.connect();
      const readings: Reading[] = [];
      for (const name of await queueNames(signal)) {
        signal.throwIfAborted();
        const key = (part: string) => `${prefix}:${name}:${part}`;
        const replies = await redis.pipeline().llen(key('wait')).llen(key('paused')).zcard(key('prioritized')).exec();
        const waiting = (replies ?? []).reduce((sum, [error, count]) => sum + (error ? 0 : Number(count)), 0);
        readings.push({ measure: 'queue.size', labels: { 'queue.name': name }, value: waiting });
      }
      return readings;
    },
    async close() {
      redis.disconnect();
    },
  };
}
