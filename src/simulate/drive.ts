// The whole way from log records to messages, without servers and on a clock of its own. In: records with arrival times.
// Out: which alerts fired when, and what would have been sent. Rule tests and the alert benchmark use it.
// Guarantee: the same records and rules give the same result; every stage is the one that runs in earnest.

import { createEvaluations } from '../alerts/evaluation.ts';
import { type AlertMachine, createAlertMachine } from '../alerts/machine.ts';
import type { OutboxResult } from '../alerts/outbox-entry.ts';
import { silentLog } from '../core/log.ts';
import { createMasker } from '../core/mask.ts';
import { createMetrics } from '../core/metrics.ts';
import type { Chunk, RawRecord } from '../core/record.ts';
import { createCounter } from '../measure/counter.ts';
import type { Measures } from '../measure/measure-config.ts';
import { BUCKET_MS } from '../measure/totals.ts';
import { channelsFor } from '../notify/channels.ts';
import type { ChannelName, Notification } from '../notify/notification.ts';
import { createParser, type ParseConfig } from '../parse/parse.ts';
import { type Rules, toRuleInfo } from '../rules/rule-config.ts';
import { createTagger } from '../tag/tag.ts';
import { createSimulatedClock } from './clock.ts';

export interface DriveRecord {
  /** When the broker appended it, ms. */
  readonly arrivalMs: number;
  /** Partition. */
  readonly lane: number;
  readonly value: Buffer;
  readonly eventId?: string;
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
  /** Between two evaluations. Default 1 s. */
  readonly tickMs?: number;
  /** Of a lane at a moment: up to which arrival time it may be read. Default: now. */
  readonly readableTo?: (lane: number, nowMs: number) => number;
  readonly readings?: readonly DriveReading[];
}

export interface DrivenAlert {
  readonly ruleId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly firedMs: number;
  /** Absent: still firing at the end. */
  resolvedMs?: number;
  readonly message: string;
  /** Never told, because it was inhibited or silenced. */
  muted: boolean;
}

export interface DrivenMessage {
  readonly atMs: number;
  readonly channels: readonly ChannelName[];
  readonly notification: Notification;
}

export interface Driven {
  readonly alerts: readonly DrivenAlert[];
  readonly messages: readonly DrivenMessage[];
}

const CHANNELS: readonly ChannelName[] = ['slack', 'pagerduty', 'email'];

/** @param records in order of arrival within each lane */
export async function drive(records: Iterable<DriveRecord>, options: DriveOptions): Promise<Driven> {
  const { measures, rules, fromMs, toMs, tickMs = 1_000, readableTo = (_, now) => now } = options;
  const clock = createSimulatedClock(fromMs);
  const masker = createMasker();
  const lanes = Array.from({ length: options.lanes }, () => ({ queue: [] as DriveRecord[], next: 0, offset: 0 }));
  for (const record of records) lanes[record.lane % lanes.length]!.queue.push(record);

  const machine = createAlertMachine(rules.map(toRuleInfo), new Map(), {
    nextId: numbered(),
    environment: 'simulation',
    channelsFor: (priority) => channelsFor(priority).filter((name) => CHANNELS.includes(name)),
    masker,
    history: false,
  });
  const evaluations = createEvaluations({ measures, rules, coveredFromMs: 0, wallMs: fromMs }, new Map(), {
    isFiring: (ruleId) => machine.alerts().some((alert) => alert.ruleId === ruleId && alert.phase === 'firing'),
  });
  const counter = createCounter(measures, {
    parser: createParser(options.parse, { masker }),
    tag: createTagger(),
    metrics: createMetrics(),
    log: silentLog,
    clock,
    sink: {
      put: async (messages) => {
        for (const message of messages) evaluations.counts(message, clock.now());
      },
      close: async () => {},
    },
    positions: () =>
      lanes.map(({ queue, next, offset }, partition) => {
        const arrived = queue[next] !== undefined && queue[next]!.arrivalMs <= clock.now();
        return {
          partition,
          lanes: lanes.length,
          position: offset,
          end: offset + (arrived ? 1 : 0),
          caughtUp: !arrived,
        };
      }),
  });

  async function read(nowMs: number): Promise<void> {
    for (const [partition, lane] of lanes.entries()) {
      const until = Math.min(nowMs, readableTo(partition, nowMs));
      while (lane.next < lane.queue.length && lane.queue[lane.next]!.arrivalMs <= until) {
        const chunk = nextChunk(lane, partition, until);
        await counter.accept(chunk);
      }
    }
  }

  const seen = createTimeline(machine);
  const readings = [...(options.readings ?? [])].sort((one, other) => one.atMs - other.atMs);
  const messages: DrivenMessage[] = [];
  let results: OutboxResult[] = [];
  for (let nowMs = fromMs; nowMs <= toMs; nowMs += tickMs) {
    clock.set(nowMs);
    await read(nowMs);
    await counter.publish();
    while (readings.length > 0 && readings[0]!.atMs <= nowMs) {
      const { measure, labels, value, atMs } = readings.shift()!;
      evaluations.store.setGauge(measure, labels, value, atMs);
    }
    const { observations, evalMs, wallMs } = evaluations.evaluate(nowMs);
    const plan = machine.step({ observations, evalMs: evalMs === 0 ? wallMs : evalMs, wallMs, results });
    machine.accept(plan);
    evaluations.accepted();
    results = plan.enqueued.map(({ id }) => ({ id, result: { ok: true } }));
    for (const { notification, channels } of plan.decisions) messages.push({ atMs: nowMs, channels, notification });
    seen.look(nowMs);
  }
  await counter.drain(0);
  return { alerts: seen.alerts, messages };
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
    if (arrivalMs > until || Math.floor(arrivalMs / BUCKET_MS) !== bucket) break;
    records.push({ value, offset: lane.offset, timeMs: arrivalMs, eventId, ...(mark === undefined ? {} : { mark }) });
    bytes += value.length;
    lane.next += 1;
    lane.offset += 1;
  }
  return { origin: { kind: 'kafka', topic: 'simulation', partition }, records, bytes, done() {} };
}

function createTimeline(machine: AlertMachine) {
  const alerts: DrivenAlert[] = [];
  const open = new Map<string, DrivenAlert>();
  return {
    alerts: alerts as readonly DrivenAlert[],
    look(nowMs: number): void {
      const firing = new Map(
        machine.alerts().flatMap((alert) => (alert.phase === 'firing' ? [[alert.key, alert]] : [])),
      );
      for (const [key, { ruleId, labels, message, muted }] of firing) {
        const known = open.get(key);
        if (known !== undefined) {
          known.muted &&= muted !== undefined;
          continue;
        }
        const alert = { ruleId, labels, firedMs: nowMs, message, muted: muted !== undefined };
        open.set(key, alert);
        alerts.push(alert);
      }
      for (const [key, alert] of open) {
        if (firing.has(key)) continue;
        alert.resolvedMs = nowMs;
        open.delete(key);
      }
    },
  };
}

function numbered(): () => string {
  let count = 0;
  return () => String(++count).padStart(8, '0');
}
