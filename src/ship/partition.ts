// Which partition a record goes to when it is sent for the first time. In: the topic's partitions and the record's key. Out: a
// partition number. What was attempted once stays with its partition: see sender.ts.

/**
 * Keys are placed as Kafka's Java client places them (murmur2), so that all producers of a call's records agree. Records
 * without key take turns over the partitions that are `usable`: one for a while, which makes few, large batches.
 */
export function choosePartition(
  partitions: readonly { readonly partitionId: number }[],
  usable: readonly { readonly partitionId: number }[],
  key: string | null,
  turn: number,
): number {
  if (key !== null) return (murmur2(key) & 0x7fffffff) % partitions.length;
  const choice = usable.length > 0 ? usable : partitions;
  return choice[turn % choice.length]!.partitionId;
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
