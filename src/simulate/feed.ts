// Records one by one, in order of their arrival, through the stages. In: records and where they arrived. Out: what fired, and what
// would have been sent. Guarantee: judged every `tickMs` of the records' own time, never of the wall clock, and after exactly the
// records that had arrived by then; at most one chunk of records is held, however long the range.
import type { Masker } from '../core/mask.ts';
import type { RawRecord } from '../core/record.ts';
import type { LanePosition } from '../measure/counter.ts';
import type { Measures } from '../measure/measure-config.ts';
import { BUCKET_MS } from '../measure/totals.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { Rule } from '../rules/rule-types.ts';
import { createStages, type RuleSetStages, type Stages } from './stages.ts';

/** What was recorded of a record; `lane` is its partition where that is known. */
export interface StoredRecord {
  readonly arrivalMs: number;
  readonly lane: number;
  readonly value: Buffer | null;
  readonly eventId?: string | undefined;
  readonly mark?: RawRecord['mark'] | undefined;
  /** Of a record of the log topic. */
  readonly offset?: number;
  /** As in a raw record. */
  readonly clockErrorMs?: number | undefined;
  /** Of a record that was read as a document: as it is stored. */
  readonly document?: Readonly<Record<string, unknown>>;
}

export interface FeedOptions {
  readonly measures: Measures;
  readonly ruleSets: readonly (readonly Rule[])[];
  readonly parse: ParseConfig;
  readonly masker?: Masker;
  /** Learning and judging begin here. */
  readonly fromMs: number;
  /** Everything that is new until then is learned without a word, whatever a first-seen rule says. */
  readonly learnedMs: number;
  /** A whole part or a multiple of 10 s. */
  readonly tickMs: number;
  /** Called after each evaluation. */
  readonly onTick?: (nowMs: number, stages: Stages) => void;
}

export interface Feed {
  readonly ruleSets: readonly RuleSetStages[];
  /** The latest arrival of a record taken, or the beginning. */
  readonly nowMs: () => number;
  /** A record that is older than the one before it counts as arrived with that one. */
  see(record: StoredRecord): Promise<void> | undefined;
  /** Judges up to `toMs`, and takes nothing more. */
  finish(toMs: number): Promise<void>;
}

const MAX_CHUNK = 2_000;

export function createFeed(options: FeedOptions): Feed {
  const { measures, parse, fromMs, learnedMs, tickMs } = options;
  const ruleSets = options.ruleSets.map((rules) => rules.map((rule) => learningUntil(rule, learnedMs - fromMs)));
  let read = 0;
  // Records come in one order over all partitions: one reader that is never behind.
  const positions = (): LanePosition[] => [{ partition: 0, lanes: 1, position: read, end: read, caughtUp: true }];
  const stages = createStages(
    { measures, ruleSets, parse, fromMs, initial: new Map(), ...(options.masker && { masker: options.masker }) },
    positions,
  );
  const { clock, counter } = stages;
  const lanes = new Map<number, { offset: number; records: RawRecord[]; bytes: number }>();
  let held = 0;
  let bucket = 0;
  let newestMs = fromMs;
  let nextTick = tickAfter(fromMs, tickMs);

  async function flush(): Promise<void> {
    if (held === 0) return;
    held = 0;
    for (const [partition, lane] of lanes) {
      const { records, bytes } = lane;
      if (records.length === 0) continue;
      lane.records = [];
      lane.bytes = 0;
      await counter.accept({ origin: { kind: 'kafka', topic: 'records', partition }, records, bytes, done() {} });
    }
  }

  async function tick(): Promise<void> {
    await flush();
    clock.set(nextTick);
    await counter.publish();
    stages.judge(nextTick);
    options.onTick?.(nextTick, stages);
    nextTick += tickMs;
  }

  async function advance(toMs: number): Promise<void> {
    while (nextTick < toMs) await tick();
    if (held >= MAX_CHUNK || Math.floor(toMs / BUCKET_MS) !== bucket) await flush();
    bucket = Math.floor(toMs / BUCKET_MS);
  }

  function take(record: StoredRecord, arrivalMs: number): void {
    const { value, eventId, mark, clockErrorMs } = record;
    let lane = lanes.get(record.lane);
    if (lane === undefined) {
      lane = { offset: 0, records: [], bytes: 0 };
      lanes.set(record.lane, lane);
    }
    lane.records.push({
      value,
      offset: lane.offset,
      timeMs: arrivalMs,
      eventId,
      ...(mark === undefined ? {} : { mark }),
      ...(clockErrorMs === undefined ? {} : { clockErrorMs }),
    });
    lane.offset += 1;
    lane.bytes += value?.length ?? 0;
    held += 1;
    read += 1;
  }

  return {
    ruleSets: stages.ruleSets,
    nowMs: () => newestMs,
    see(record) {
      const arrivalMs = Math.max(newestMs, record.arrivalMs);
      newestMs = arrivalMs;
      // Without a promise where there is nothing to wait for: this is done for every record.
      if (arrivalMs <= nextTick && held < MAX_CHUNK && Math.floor(arrivalMs / BUCKET_MS) === bucket) {
        take(record, arrivalMs);
        return undefined;
      }
      return advance(arrivalMs).then(() => take(record, arrivalMs));
    },
    async finish(toMs) {
      while (nextTick <= toMs) await tick();
      await flush();
      await counter.drain(0);
    },
  };
}

/** Just before a bucket begins, when windows are as full as they get: at full seconds the newest bucket would be empty. */
function tickAfter(fromMs: number, tickMs: number): number {
  return Math.floor(fromMs / tickMs) * tickMs + tickMs - 1;
}

function learningUntil(rule: Rule, learningMs: number): Rule {
  return rule.kind === 'first-seen' ? { ...rule, learningMs } : rule;
}
