// From what happened to the records of the log topic. In: occurrences. Out: records with the broker's time, partition and event id,
// in order of arrival. Wrong clocks, slow shipping and repeated sends are added here; each record keeps what truly happened.
import type { SimulatedRecord } from '../../src/replay/simulate.ts';
import type { Occurrence } from './occurrence.ts';
import type { Random } from './random.ts';

/** A record of the log, with the occurrence it is about; several may be about the same one. */
export interface Shipped extends SimulatedRecord {
  readonly eventId: string;
  readonly of: Occurrence;
}

export interface ShippingOptions {
  readonly random: Random;
  /** How far a host's clock is ahead, ms. */
  readonly clockAheadMs?: (host: string) => number;
  /** How much longer than usual it takes to the broker, ms. */
  readonly delayMs?: (occurrence: Occurrence) => number;
}

export const PARTITIONS = 4;
const MAX_WAIT_MS = 60_000;

export function ship(occurrences: readonly Occurrence[], options: ShippingOptions): Shipped[] {
  const { clockAheadMs = () => 0, delayMs = () => 0 } = options;
  const random = options.random.fork('shipping');
  return byArrival(
    occurrences.map((of) => {
      const { trueMs, host, doc } = of;
      const timestamp = new Date(trueMs + clockAheadMs(host)).toISOString();
      // Batches of 50 ms, the network, now and then a retry.
      const wayMs = random.between(10, 120) + (random.chance(0.01) ? 800 : 0);
      const waitMs = delayMs(of);
      return {
        arrivalMs: Math.ceil(trueMs + wayMs + waitMs),
        // Like the transport, which does not give the time of sending for what it kept for long.
        ...(waitMs > MAX_WAIT_MS ? {} : { sentMs: Math.floor(trueMs + waitMs + clockAheadMs(host)) }),
        partition: partitionOf(of, random),
        value: Buffer.from(JSON.stringify({ timestamp, ...doc })),
        eventId: random.eventId(trueMs),
        of,
      };
    }),
  );
}

export function byArrival(records: Shipped[]): Shipped[] {
  return records.sort((one, other) => one.arrivalMs - other.arrivalMs);
}

/** Records of one call share a partition; the others go in batches, each to one. */
function partitionOf({ trueMs, host, doc }: Occurrence, random: Random): number {
  if (typeof doc.callId === 'string') return Math.floor(random.next() * PARTITIONS);
  return (Math.floor(trueMs / 500) + host.charCodeAt(host.length - 1)) % PARTITIONS;
}
