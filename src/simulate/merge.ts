// Several ordered streams as one. In: streams of batches, each in order of arrival. Out: batches in order of arrival over all of
// them; of equal times the stream that stands first. Guarantee: of each stream at most one batch is held; a stream that goes
// back in time is taken as if it had stood still, so that nothing is lost and nothing waits for ever.

const BATCH = 1_000;

export async function* mergeByArrival<T extends { readonly arrivalMs: number }>(
  streams: readonly AsyncIterable<readonly T[]>[],
): AsyncGenerator<readonly T[]> {
  const heads: Head<T>[] = streams.map((stream) => ({
    batches: stream[Symbol.asyncIterator](),
    batch: [],
    next: 0,
    newestMs: Number.NEGATIVE_INFINITY,
  }));
  try {
    let open = await fill(heads);
    let out: T[] = [];
    while (open.length > 0) {
      const head = earliest(open);
      out.push(head.batch[head.next]!);
      head.next += 1;
      advance(head);
      if (out.length >= BATCH) {
        yield out;
        out = [];
      }
      if (head.next < head.batch.length) continue;
      // What is there goes first: the stream may have to wait for its next batch.
      if (out.length > 0) yield out;
      out = [];
      open = await fill(open);
    }
    if (out.length > 0) yield out;
  } finally {
    await Promise.all(heads.map(({ batches }) => batches.return?.()));
  }
}

interface Head<T> {
  readonly batches: AsyncIterator<readonly T[]>;
  batch: readonly T[];
  next: number;
  /** Of the record at `next`, and never less than that of one before it. */
  newestMs: number;
}

/** Those that have a record; waits for the next batch of each that has none left. */
async function fill<T extends { readonly arrivalMs: number }>(heads: readonly Head<T>[]): Promise<Head<T>[]> {
  await Promise.all(
    heads.map(async (head) => {
      while (head.next >= head.batch.length) {
        const { value, done } = await head.batches.next();
        if (done === true) return;
        head.batch = value;
        head.next = 0;
        advance(head);
      }
    }),
  );
  return heads.filter(({ batch, next }) => next < batch.length);
}

function advance<T extends { readonly arrivalMs: number }>(head: Head<T>): void {
  const record = head.batch[head.next];
  if (record !== undefined && record.arrivalMs > head.newestMs) head.newestMs = record.arrivalMs;
}

function earliest<T>(heads: readonly Head<T>[]): Head<T> {
  let found = heads[0]!;
  for (let i = 1; i < heads.length; i++) if (heads[i]!.newestMs < found.newestMs) found = heads[i]!;
  return found;
}
