// What a send of kafkajs has really achieved. When a leader moves to a broker that has already answered, kafkajs forgets the moved
// partition and still resolves. Guarantee: who gets by here has every partition acknowledged.

/** @throws Error naming the partitions nobody acknowledged: to be sent again */
export function assertAcknowledged(
  answers: readonly { readonly partition: number }[],
  partitions: Iterable<number>,
  topic: string,
): void {
  const acknowledged = new Set(answers.map(({ partition }) => partition));
  const missing = [...new Set(partitions)].filter((partition) => !acknowledged.has(partition));
  if (missing.length > 0) throw new Error(`no broker acknowledged partitions ${missing.join(', ')} of ${topic}`);
}
