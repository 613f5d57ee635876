// Which partition a record goes to. In: the topic's partitions, the record's key and event id. Out: a partition number.
// Guarantee: a record that is sent again goes to the same partition, in whatever batch, as long as the partitions are the same:
// only there can a reader see that it is a copy.

/**
 * Keys are placed as Kafka's Java client places them (murmur2), so that all producers of a call's records agree. Records
 * without key share a partition for about a second (`turnOf` their event id), which makes few, large batches.
 */
export function choosePartition(
  partitions: readonly { partitionId: number; leader: number }[],
  key: string | null,
  turn: number,
): number {
  if (key !== null) return (murmur2(key) & 0x7fffffff) % partitions.length;
  const led = partitions.filter(({ leader }) => leader >= 0);
  const usable = led.length > 0 ? led : partitions;
  return usable[turn % usable.length]!.partitionId;
}

/** Characters of an event id that stay the same for 1,024 ms; the last two of its time do not. */
const TURN_CHARACTERS = 8;

/** The same number for all event ids of about a second. */
export function turnOf(eventId: string): number {
  return murmur2(eventId.slice(0, TURN_CHARACTERS)) & 0x7fffffff;
}

/** 32-bit murmur2 with Kafka's seed over the key's UTF-8 bytes. org.apache.kafka.common.utils.Utils#murmur2 */
export function murmur2(key: string): number {
  const data = Buffer.from(key);
  const m = 0x5bd1e995;
  const length = data.length;
  let h = 0x9747b28c ^ length;
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    let k = Math.imul(data.readInt32LE(at), m);
    k = Math.imul(k ^ (k >>> 24), m);
    h = Math.imul(h, m) ^ k;
  }
  const rest = length - at;
  if (rest === 3) h ^= data[at + 2]! << 16;
  if (rest >= 2) h ^= data[at + 1]! << 8;
  if (rest >= 1) h = Math.imul(h ^ data[at]!, m);
  h = Math.imul(h ^ (h >>> 13), m);
  return h ^ (h >>> 15);
}
