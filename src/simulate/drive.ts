// The whole way from log records to messages, without servers and on a clock of its own. In: records with arrival times.
// Out: which alerts fired when, and what would have been sent. Rule tests and the alert benchmark use it.
// Guarantee: the same records and rules give the same result; every stage is the one that runs in earnest.

import type { StateKey } from '../alerts/store.ts';
import type { Chunk, RawRecord } from '../core/record.ts';
import type { Measures } from '../measure/measure-config.ts';
import { BUCKET_MS } from '../measure/totals.ts';
import type { ParseConfig } from '../parse/parse.ts';
import type { Rules } from '../rules/rule-config.ts';
import { clockErrorOf } from '../source/kafka-records.ts';
import { createStages, type Driven } from './stages.ts';

export type { Driven, DrivenAlert, DrivenMessage } from './stages.ts';

export interface DriveRecord {
  /** When the broker appended it, ms. */
  readonly arrivalMs: number;
  /** Partition. */
  readonly lane: number;
  readonly value: Buffer;
  readonly eventId?: string;
  /** When the transport sent it, by its host's clock, ms. */
  readonly sentMs?: number;
  readonly mark?: RawRecord['mark'];
}

/** A reading that does not come from the log. */
export interface DriveReading {
  readonly atMs: number;
  readonly measure: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface DriveOptions {
  readonly measures: Measures;
  readonly rules: Rules;
  readonly parse: ParseConfig;
  readonly lanes: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** From a moment to the next evaluation. Default 1 s. */
  readonly tickMs?: number | ((nowMs: number) => number);
  /** Of a lane at a moment: up to which arrival time it may be read. Default: now. */
  readonly readableTo?: (lane: number, nowMs: number) => number;
  readonly readings?: readonly DriveReading[];
  /** Records of the alert store to begin with: what was learned before. Default: none, learning begins. */
  readonly initial?: ReadonlyMap<StateKey, object>;
}

/** @param records in order of arrival within each lane */
export async function drive(records: Iterable<DriveRecord>, options: DriveOptions): Promise<Driven> {
  const { measures, rules, parse, fromMs, toMs } = options;
  const { tickMs = 1_000, readableTo = (_, now) => now, initial = new Map() } = options;
  const lanes = Array.from({ length: options.lanes }, () => ({ queue: [] as DriveRecord[], next: 0, offset: 0 }));
  for (const record of records) lanes[record.lane % lanes.length]!.queue.push(record);

  const withoutLog = lanes.every(({ queue }) => queue.length === 0);
  const stages = createStages({ measures, ruleSets: [rules], parse, fromMs, initial, withoutLog }, () =>
    lanes.map(({ queue, next, offset }, partition) => {
      const arrived = queue[next] !== undefined && queue[next]!.arrivalMs <= clock.now();
      return { partition, lanes: lanes.length, position: offset, end: offset + (arrived ? 1 : 0), caughtUp: !arrived };
    }),
  );
  const { clock, counter } = stages;
  const [{ evaluations, alerts, messages }] = stages.ruleSets as [(typeof stages.ruleSets)[number]];

  async function read(nowMs: number): Promise<void> {
    for (const [partition, lane] of lanes.entries()) {
      const until = Math.min(nowMs, readableTo(partition, nowMs));
      while (lane.next < lane.queue.length && lane.queue[lane.next]!.arrivalMs <= until) {
        const chunk = nextChunk(lane, partition, until);
        await counter.accept(chunk);
      }
    }
  }

  const readings = [...(options.readings ?? [])].sort((one, other) => one.atMs - other.atMs);
  const step = typeof tickMs === 'number' ? () => tickMs : tickMs;
  for (let nowMs = fromMs; nowMs <= toMs; nowMs += step(nowMs)) {
    clock.set(nowMs);
    await read(nowMs);
    await counter.publish();
    while (readings.length > 0 && readings[0]!.atMs <= nowMs) {
      const { measure, labels, value, atMs } = readings.shift()!;
      evaluations.store.setGauge(measure, labels, value, atMs);
    }
    stages.judge(nowMs);
  }
  await counter.drain(0);
  return { alerts, messages };
}

/** At most one arrival bucket: as the Kafka source splits what it fetches. */
function nextChunk(
  lane: { readonly queue: readonly DriveRecord[]; next: number; offset: number },
  partition: number,
  until: number,
): Chunk {
  const bucket = Math.floor(lane.queue[lane.next]!.arrivalMs / BUCKET_MS);
  const records: RawRecord[] = [];
  let bytes = 0;
  for (let record = lane.queue[lane.next]; record !== undefined; record = lane.queue[lane.next]) {
    const { arrivalMs, value, eventId, mark } = record;
    const clockErrorMs = mark === undefined ? clockErrorOf(record.sentMs ?? arrivalMs, arrivalMs) : 0;
    if (arrivalMs > until || Math.floor(arrivalMs / BUCKET_MS) !== bucket) break;
    records.push({
      ...{ value, offset: lane.offset, timeMs: arrivalMs, eventId },
      ...(mark === undefined ? {} : { mark }),
      ...(clockErrorMs === 0 ? {} : { clockErrorMs }),
    });
    bytes += value.length;
    lane.next += 1;
    lane.offset += 1;
  }
  return { origin: { kind: 'kafka', topic: 'simulation', partition }, records, bytes, done() {} };
}
