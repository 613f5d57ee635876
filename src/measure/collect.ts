// What an event adds to the measures. In: collected measures, compiled once; then tagged events. Out: the cells of an arrival bucket, and
// its totals as JSON. Guarantee: an event touches only the measures that ask for its `event`; a missing field, or one of another type,
// adds nothing; never throws for any document; totals are a pure function of the records counted, in their order, in bounded memory.
//
// This is a hot path: an event's fields are read once into slots, which conditions and labels then share. Of a line that was only scanned
// they are read where they stand.
import type { Tag } from '../core/catalogue.ts';
import { type Condition, compileCondition, type Test, type Where } from '../core/condition.ts';
import type { RawRecord } from '../core/record.ts';
import { createFieldValue } from '../parse/scan/field-values.ts';
import { knownField } from '../parse/scan/key-tree.ts';
import { ScannedEvent } from '../parse/scan/scanned-event.ts';
import type { Scan } from '../parse/scan/scanner.ts';
import { TAGGED_BY, type TaggedEvent } from '../tag/tag.ts';
import type { CollectedMeasure } from './measure-config.ts';
import {
  type Bins,
  BUCKET_MS,
  binOf,
  LABEL_SEPARATOR,
  MAX_AGE_MS,
  MAX_AHEAD_MS,
  OLDER_MS,
  OTHER,
  RESERVED,
  TOTALS_FORMAT,
} from './totals.ts';

/** Counts one event into the bucket it arrived in. `arrivalMs` is the record time, not before the bucket's start. */
type Collect = (
  event: TaggedEvent,
  record: Pick<RawRecord, 'eventId'>,
  arrivalMs: number,
  bucket: ArrivalBucket,
) => void;

/** The event that is being counted: one object for all of them, one after the other. */
interface Counted {
  event: TaggedEvent;
  record: Pick<RawRecord, 'eventId'>;
  /** When it happened, ms. */
  at: number;
  readonly slots: unknown[];
}

interface Getter {
  of(event: TaggedEvent): unknown;
  /** The same of a line that was scanned last; undefined when only its document knows. */
  readonly at: ((scan: Scan, event: TaggedEvent) => unknown) | undefined;
}
type CountStep = (counted: Counted, bucket: ArrivalBucket, events: EventCells) => void;

/** All that events of one name add to. */
interface EventPlan {
  readonly getters: readonly Getter[];
  readonly steps: readonly CountStep[];
}

/** @param measures in the order in which the buckets number them */
export function compileCollect(measures: readonly CollectedMeasure[]): Collect {
  const getters = new Map<string, Getter>();
  const getterOf = (path: string) => {
    const known = getters.get(path);
    if (known !== undefined) return known;
    const getter = compileGetter(path);
    getters.set(path, getter);
    return getter;
  };
  const plans = new Map(namedEvents(measures).map((name) => [name, compilePlan(measures, name, getterOf)] as const));
  const otherwise = compilePlan(measures, undefined, getterOf);
  const eventName = getterOf('event');
  const counted = { slots: [] } as unknown as Counted;

  return (event, record, arrivalMs, bucket) => {
    const scan = event instanceof ScannedEvent ? event.scan : undefined;
    const name = scan === undefined ? eventName.of(event) : eventName.at!(scan, event);
    const { getters, steps } = plans.get(name as string) ?? otherwise;
    if (steps.length === 0) return;
    const { slots } = counted;
    for (let i = 0; i < getters.length; i++) {
      const getter = getters[i]!;
      slots[i] = scan === undefined || getter.at === undefined ? getter.of(event) : getter.at(scan, event);
    }
    // A host whose clock is ahead must not count in buckets that have not begun.
    const at = event.timeMs > arrivalMs + MAX_AHEAD_MS ? arrivalMs : event.timeMs;
    const events = bucket.at(arrivalMs - at <= MAX_AGE_MS ? at - (at % BUCKET_MS) : OLDER_MS);
    counted.event = event;
    counted.record = record;
    counted.at = at;
    for (let i = 0; i < steps.length; i++) steps[i]!(counted, bucket, events);
  };
}

/**
 * The fields that are read to tag and to count an event, by number; undefined when all may be: a measure asks for one that is not the
 * catalogue's, or whether something was masked.
 */
export function fieldsRead(measures: readonly CollectedMeasure[]): ReadonlySet<number> | undefined {
  const read = new Set(TAGGED_BY);
  for (const measure of measures) {
    const { tags, ...where } = measure.where;
    if (tags !== undefined && !(namesIn(tags)?.every((tag) => tag !== MASKED) ?? false)) return undefined;
    const values = measure.kind === 'counter' ? [] : [measure.field];
    for (const path of [...Object.keys(where), ...measure.by, ...values]) {
      if (OF_ERRORS.has(path)) continue;
      const field = knownField(path);
      if (field === undefined) return undefined;
      read.add(field);
    }
  }
  return read;
}

const MASKED: Tag = '_masked';

/** Event names that some measure asks for. */
function namedEvents(measures: readonly CollectedMeasure[]): string[] {
  return [...new Set(measures.flatMap(({ where }) => namesIn(where.event) ?? []))];
}

/** The names that a condition on `event` or `tags` lists; undefined when it is no list. */
function namesIn(condition: Condition | undefined): readonly string[] | undefined {
  if (typeof condition === 'string') return [condition];
  if (!Array.isArray(condition)) return undefined;
  return condition.map(String);
}

function compilePlan(
  measures: readonly CollectedMeasure[],
  eventName: string | undefined,
  getterOf: (path: string) => Getter,
): EventPlan {
  const paths: string[] = [];
  const slotOf = (path: string) => {
    const known = paths.indexOf(path);
    return known >= 0 ? known : paths.push(path) - 1;
  };
  const steps: CountStep[] = [];
  measures.forEach((measure, number) => {
    const names = namesIn(measure.where.event);
    if (names !== undefined && (eventName === undefined || !names.includes(eventName))) return;
    const conditions = Object.entries(measure.where)
      .filter(([path]) => names === undefined || path !== 'event')
      .map(([path, condition]) => ({ slot: slotOf(path), test: compileCondition(condition) }));
    const by = measure.by.map(slotOf);
    const step = compileStep(measure, number, by, slotOf);
    steps.push(conditions.length === 0 ? step : guarded(step, conditions));
  });
  return { getters: paths.map(getterOf), steps };
}

function guarded(step: CountStep, conditions: readonly { slot: number; test: Test }[]): CountStep {
  return (counted, bucket, events) => {
    for (let i = 0; i < conditions.length; i++) {
      const { slot, test } = conditions[i]!;
      if (!test(counted.slots[slot])) return;
    }
    step(counted, bucket, events);
  };
}

function compileStep(
  measure: CollectedMeasure,
  number: number,
  by: readonly number[],
  slotOf: (path: string) => number,
): CountStep {
  const { examples } = measure;
  if (measure.kind === 'counter') {
    if (examples === 0) return ({ slots }, bucket, events) => void bucket.count(number, slots, by, events);
    return ({ slots, event, record }, bucket, events) => {
      const cell = bucket.count(number, slots, by, events);
      if (cell.n > examples) return;
      const id = record.eventId ?? event.doc.eventId;
      if (typeof id === 'string') bucket.example(cell, id, examples);
    };
  }
  const field = slotOf(measure.field);
  if (measure.kind === 'distribution') {
    return ({ slots }, bucket, events) => {
      const value = slots[field];
      if (typeof value === 'number' && Number.isFinite(value)) bucket.observe(number, slots, by, events, value);
    };
  }
  return ({ slots, at }, bucket, events) => {
    const value = slots[field];
    if (typeof value === 'number' && Number.isFinite(value)) bucket.set(number, slots, by, events, value, at);
  };
}

/** What stands beside the document of an error. */
const OF_ERRORS: ReadonlySet<string> = new Set(['error.template', 'error.fingerprint']);

/** Tags, template and fingerprint are logpipe's own and stand beside the document. */
function compileGetter(path: string): Getter {
  if (path === 'tags') return beside((event) => event.tags);
  if (path === 'error.template') return beside((event) => event.grouping?.template);
  if (path === 'error.fingerprint') return beside((event) => event.grouping?.fingerprint);
  const field = knownField(path);
  const at = field === undefined ? undefined : createFieldValue(field);
  const [head, leaf] = path.split('.') as [string, string | undefined];
  if (leaf === undefined) return { of: (event) => event.doc[head], at };
  return {
    of(event) {
      const group = event.doc[head];
      return typeof group === 'object' && group !== null ? (group as Record<string, unknown>)[leaf] : undefined;
    },
    at,
  };
}

function beside(of: (event: TaggedEvent) => unknown): Getter {
  return { of, at: (_scan, event) => of(event) };
}

// ---- conditions on labels ----

/** Do labels, in the order of `by`, fulfil `where`? */
export function compileLabelTest(where: Where, by: readonly string[]): (labels: readonly string[]) => boolean {
  const tests = Object.entries(where).map(([label, condition]) => ({
    at: by.indexOf(label),
    test: compileCondition(condition),
  }));
  return (labels) => tests.every(({ at, test }) => test(labels[at]));
}

// ---- the totals of one partition and one arrival bucket, split by event bucket, while they are counted ----
// Their size as JSON stays near MAX_BUCKET_BYTES, whatever the records hold.

/** A record of the counts topic may be a little larger (source/kafka/topics.ts). */
const MAX_BUCKET_BYTES = 8 * 1024 * 1024;
const EVENT_BYTES = 40;
const BIN_BYTES = 12;
const EXAMPLE_BYTES = 32;
const MAX_EXAMPLE = 64;
/** What a series' numbers nearly always need as JSON, at most. */
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
interface EventCells {
  readonly eventMs: number;
  readonly cells: ((Cell | undefined)[] | undefined)[];
}

export class ArrivalBucket {
  readonly partition: string;
  /** Start of the bucket, ms. */
  readonly arrivalMs: number;
  upToOffset = -1;
  /** Records counted so far. */
  records = 0;
  /** Roughly the length of `toJson()`. */
  bytes = 100;
  private readonly measures: readonly CollectedMeasure[];
  private readonly maxBytes: number;
  /** By measure; made when first needed, because most buckets touch few measures. */
  private readonly tables: (SeriesTable | undefined)[];
  private readonly events = new Map<number, EventCells>();
  private latest: EventCells | undefined;

  constructor(
    partition: string,
    arrivalMs: number,
    measures: readonly CollectedMeasure[],
    maxBytes = MAX_BUCKET_BYTES,
  ) {
    this.partition = partition;
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
      // A fresh cell always takes its first value: an empty one must not stay behind.
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

  /** The newest value wins; of two with the same event time, the later one in the log. */
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

  /** BucketTotals as JSON, written by hand: this happens every half second, and objects with so many keys are slow. */
  toJson(): string {
    const { arrivalMs, upToOffset, records } = this;
    let text = `{"lane":${JSON.stringify(this.partition)},"arrivalMs":${arrivalMs},"upToOffset":${upToOffset}`;
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
      // Names of measures have no character that JSON would escape (measure-config.ts).
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

  /** A new cell in its place or, when the bucket is full, the cell for all that no longer fits. */
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

// ---- the label sets of one measure within one arrival bucket, numbered ----
// The first `maxSeries` of them in the order of the log are kept; all later ones are counted together as OTHER.

/** Longer label values are cut: a label tells series apart, it need not carry the whole text. */
const MAX_LABEL = 256;

/** One level for each label; the last one holds the numbers. So a look-up need not join the labels. */
type Tree = Map<string, Tree | number>;

class SeriesTable {
  /** By number: the joined label values, as a JSON string. */
  readonly keys: string[] = [];
  private readonly width: number;
  private readonly maxSeries: number;
  private readonly tree: Tree = new Map();
  private readonly numbers = new Map<string, number>();
  private kept = 0;
  private otherNumber = -1;
  /** What was found last, which is often looked for next. */
  private readonly last: unknown[];
  private lastNumber = -1;

  constructor(width: number, maxSeries: number) {
    this.width = width;
    this.maxSeries = maxSeries;
    this.last = new Array(width).fill(undefined);
  }

  /** The number of the label set whose values are in `slots` at the places `by`. */
  find(slots: readonly unknown[], by: readonly number[]): number {
    const { last, width } = this;
    let same = this.lastNumber >= 0;
    for (let i = 0; same && i < width; i++) same = last[i] === slots[by[i]!];
    if (same) return this.lastNumber;
    this.lastNumber = this.look(slots, by);
    for (let i = 0; i < width; i++) last[i] = slots[by[i]!];
    return this.lastNumber;
  }

  private look(slots: readonly unknown[], by: readonly number[]): number {
    const { width } = this;
    if (width === 0) return this.keys.length > 0 ? 0 : this.keep('');
    let node = this.tree;
    for (let i = 0; i < width - 1; i++) {
      const next = node.get(toLabel(slots[by[i]!]));
      if (next === undefined) return this.add(slots, by);
      node = next as Tree;
    }
    const found = node.get(toLabel(slots[by[width - 1]!]));
    return found === undefined ? this.add(slots, by) : (found as number);
  }

  /** The number of the set that stands for all others. */
  other(): number {
    if (this.otherNumber < 0) this.otherNumber = this.keep(new Array(this.width).fill(OTHER).join(LABEL_SEPARATOR));
    return this.otherNumber;
  }

  private add(slots: readonly unknown[], by: readonly number[]): number {
    if (this.kept >= this.maxSeries) return this.other();
    const labels = by.map((slot) => toLabel(slots[slot]));
    // A separator inside a value would split it into two labels, and no value may be OTHER.
    const key = labels.map((text) => text.replaceAll(RESERVED, ' ')).join(LABEL_SEPARATOR);
    const number = this.numbers.get(key) ?? this.keep(key);
    let node = this.tree;
    for (const text of labels.slice(0, -1)) {
      let next = node.get(text) as Tree | undefined;
      if (next === undefined) {
        next = new Map();
        node.set(text, next);
      }
      node = next;
    }
    node.set(labels[labels.length - 1]!, number);
    // Counted by places in the tree, so that its memory is bounded too.
    this.kept += 1;
    return number;
  }

  private keep(key: string): number {
    const known = this.numbers.get(key);
    if (known !== undefined) return known;
    this.numbers.set(key, this.keys.length);
    return this.keys.push(JSON.stringify(key)) - 1;
  }
}

/** A value as a label; empty for a missing one, a list or an object. */
function toLabel(value: unknown): string {
  if (typeof value === 'string') return value.length <= MAX_LABEL ? value : cut(value);
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}

/** A copy: a slice would keep the whole text alive. */
function cut(text: string): string {
  return Buffer.from(text.slice(0, MAX_LABEL)).toString();
}
