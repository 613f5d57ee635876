// The totals of one lane and one arrival bucket, split by event bucket, while they are counted. In: what collect.ts finds
// in an event. Out: BucketTotals. Guarantee: a pure function of the records counted in, in their order; what it weighs as
// JSON stays near MAX_BYTES, whatever the records hold.
import type { CollectedMeasure } from './measure-config.ts';
import { SeriesTable } from './series.ts';
import { type Bins, binOf } from './sketch.ts';
import { OLDER_MS, TOTALS_FORMAT } from './totals.ts';

/** A record of the counts topic takes a little more (topics.ts). */
export const MAX_BUCKET_BYTES = 8 * 1024 * 1024;
const EVENT_BYTES = 40;
const BIN_BYTES = 12;
const EXAMPLE_BYTES = 32;
const MAX_EXAMPLE = 64;
/** A series' numbers as JSON, at most nearly always. */
const CELL_BYTES = { counter: 24, distribution: 110, gauge: 50 } as const;

interface CounterCell {
  n: number;
  ex: string[] | undefined;
}

interface DistributionCell {
  n: number;
  sum: number;
  min: number;
  max: number;
  readonly bins: Bins;
}

interface GaugeCell {
  v: number;
  at: number;
}

type Cell = CounterCell | DistributionCell | GaugeCell;

/** What happened in one event bucket: measure -> series -> cell, by their numbers. */
export interface EventCells {
  readonly eventMs: number;
  readonly cells: ((Cell | undefined)[] | undefined)[];
}

export class ArrivalBucket {
  readonly lane: string;
  /** Start of the bucket, ms. */
  readonly arrivalMs: number;
  upToOffset = -1;
  /** Records counted in. */
  records = 0;
  /** What `toTotals` weighs as JSON, about. */
  bytes = 100;
  private readonly measures: readonly CollectedMeasure[];
  private readonly maxBytes: number;
  /** By measure; made when first needed, for most buckets touch few measures. */
  private readonly tables: (SeriesTable | undefined)[];
  private readonly events = new Map<number, EventCells>();
  private latest: EventCells | undefined;

  constructor(lane: string, arrivalMs: number, measures: readonly CollectedMeasure[], maxBytes = MAX_BUCKET_BYTES) {
    this.lane = lane;
    this.arrivalMs = arrivalMs;
    this.measures = measures;
    this.maxBytes = maxBytes;
    this.tables = new Array(measures.length).fill(undefined);
  }

  /** Consecutive events mostly share their event bucket. */
  at(eventMs: number): EventCells {
    const { latest } = this;
    if (latest !== undefined && latest.eventMs === eventMs) return latest;
    let found = this.events.get(eventMs);
    if (found === undefined) {
      if (this.full() && eventMs !== OLDER_MS) return this.at(OLDER_MS);
      found = { eventMs, cells: new Array(this.measures.length).fill(undefined) };
      this.events.set(eventMs, found);
      this.bytes += EVENT_BYTES;
    }
    this.latest = found;
    return found;
  }

  count(measure: number, slots: readonly unknown[], by: readonly number[], events: EventCells): CounterCell {
    const series = this.table(measure).find(slots, by);
    const cell = events.cells[measure]?.[series] as CounterCell | undefined;
    if (cell !== undefined) {
      cell.n += 1;
      return cell;
    }
    const fresh = this.place(measure, series, events, () => ({ n: 0, ex: undefined })) as CounterCell;
    fresh.n += 1;
    return fresh;
  }

  /** Keeps `id` as one of at most `limit` examples. */
  example(cell: CounterCell, id: string, limit: number): void {
    if (id.length > MAX_EXAMPLE || this.full()) return;
    cell.ex ??= [];
    if (cell.ex.length >= limit) return;
    cell.ex.push(id);
    this.bytes += EXAMPLE_BYTES;
  }

  observe(measure: number, slots: readonly unknown[], by: readonly number[], events: EventCells, value: number): void {
    const series = this.table(measure).find(slots, by);
    let cell = events.cells[measure]?.[series] as DistributionCell | undefined;
    cell ??= this.place(measure, series, events, emptyDistribution) as DistributionCell;
    const bin = binOf(value);
    let count = cell.bins.get(bin);
    if (count === undefined) {
      // A fresh cell takes its first value, else it would stay behind empty.
      if (cell.n > 0 && this.full()) {
        cell = this.overflow(measure, emptyDistribution) as DistributionCell;
        count = cell.bins.get(bin);
      }
      this.bytes += BIN_BYTES;
    }
    cell.bins.set(bin, (count ?? 0) + 1);
    cell.n += 1;
    cell.sum += value;
    if (value < cell.min) cell.min = value;
    if (value > cell.max) cell.max = value;
  }

  /** The newest value stays; of two with the same event time the later one in the log. */
  set(
    measure: number,
    slots: readonly unknown[],
    by: readonly number[],
    events: EventCells,
    v: number,
    at: number,
  ): void {
    const series = this.table(measure).find(slots, by);
    let cell = events.cells[measure]?.[series] as GaugeCell | undefined;
    cell ??= this.place(measure, series, events, () => ({ v, at })) as GaugeCell;
    if (at < cell.at) return;
    cell.v = v;
    cell.at = at;
  }

  /** BucketTotals as JSON, written by hand: this is done every half second, and objects with so many keys are slow. */
  toJson(): string {
    const { arrivalMs, upToOffset, records } = this;
    let text = `{"lane":${JSON.stringify(this.lane)},"arrivalMs":${arrivalMs},"upToOffset":${upToOffset}`;
    text += `,"records":${records},"format":${TOTALS_FORMAT},"buckets":[`;
    const events = [...this.events.values()].sort((a, b) => a.eventMs - b.eventMs);
    for (let i = 0; i < events.length; i++) text += (i === 0 ? '' : ',') + this.eventJson(events[i]!);
    return `${text}]}`;
  }

  private eventJson({ eventMs, cells }: EventCells): string {
    let text = `{"eventMs":${eventMs},"series":{`;
    let comma = '';
    for (let measure = 0; measure < cells.length; measure++) {
      const ofMeasure = cells[measure];
      if (ofMeasure === undefined) continue;
      const { keys } = this.table(measure);
      // Names of measures have no character that JSON would escape (measure-schema.ts).
      text += `${comma}"${this.measures[measure]!.name}":{`;
      comma = '';
      for (let series = 0; series < ofMeasure.length; series++) {
        const cell = ofMeasure[series];
        if (cell === undefined) continue;
        text += `${comma}${keys[series]!}:${cellJson(cell)}`;
        comma = ',';
      }
      text += '}';
      comma = ',';
    }
    return `${text}}}`;
  }

  private table(measure: number): SeriesTable {
    const known = this.tables[measure];
    if (known !== undefined) return known;
    const { by, maxSeries } = this.measures[measure]!;
    const table = new SeriesTable(by.length, maxSeries);
    this.tables[measure] = table;
    return table;
  }

  private full(): boolean {
    return this.bytes >= this.maxBytes;
  }

  /** A new cell in its place or, when the bucket weighs too much already, in the one for all that no longer fits. */
  private place(measure: number, series: number, events: EventCells, make: () => Cell): Cell {
    if (this.full()) return this.overflow(measure, make);
    return this.insert(measure, series, events, make);
  }

  /** Event bucket OLDER_MS, series OTHER: no window reaches it, but totals stay right. At most one cell per measure. */
  private overflow(measure: number, make: () => Cell): Cell {
    const events = this.at(OLDER_MS);
    const other = this.table(measure).other();
    return events.cells[measure]?.[other] ?? this.insert(measure, other, events, make);
  }

  private insert(measure: number, series: number, events: EventCells, make: () => Cell): Cell {
    const { name, kind } = this.measures[measure]!;
    let ofMeasure = events.cells[measure];
    if (ofMeasure === undefined) {
      ofMeasure = [];
      events.cells[measure] = ofMeasure;
      this.bytes += name.length + 6;
    }
    this.bytes += CELL_BYTES[kind] + Buffer.byteLength(this.table(measure).keys[series]!);
    const cell = make();
    ofMeasure[series] = cell;
    return cell;
  }
}

function emptyDistribution(): DistributionCell {
  return { n: 0, sum: 0, min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY, bins: new Map() };
}

function cellJson(cell: Cell): string {
  if ('bins' in cell) {
    let bins = '';
    for (const [bin, count] of cell.bins) bins += `${bins === '' ? '"' : ',"'}${bin}":${count}`;
    return `{"n":${cell.n},"sum":${cell.sum},"min":${cell.min},"max":${cell.max},"bins":{${bins}}}`;
  }
  if ('at' in cell) return `{"v":${cell.v},"at":${cell.at}}`;
  return cell.ex === undefined ? `{"n":${cell.n}}` : `{"n":${cell.n},"ex":${JSON.stringify(cell.ex)}}`;
}
