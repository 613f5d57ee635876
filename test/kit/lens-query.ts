// Turns a layer of a Lens chart into the search that Kibana would make of it, and runs it on a real Elasticsearch. In: the saved object as
// it is imported. Out: the rows of the chart's table, column id -> value. Only what the shipped charts use is translated; anything
// else throws, so that no part of a chart is left out silently.
import type { Client } from '@elastic/elasticsearch';

type Json = Readonly<Record<string, unknown>>;

export interface LensColumn {
  readonly operationType: string;
  readonly isBucketed: boolean;
  readonly sourceField?: string;
  readonly params?: Json;
  readonly references?: readonly string[];
  readonly filter?: { readonly query: string };
}

export interface LensLayer {
  readonly columns: Readonly<Record<string, LensColumn>>;
  readonly columnOrder: readonly string[];
}

export interface LensContext {
  readonly client: Client;
  /** Title of the layer's data view. */
  readonly index: string;
  readonly timeField: string;
  /** What the time picker says; end exclusive. */
  readonly fromMs: number;
  readonly toMs: number;
  /** What Kibana derives from `auto`: width of time buckets and of number buckets. */
  readonly timeBucketMs: number;
  readonly numberBucket: number;
  /** Queries that all must hold: the chart's, and those of the dashboard's controls. */
  readonly filters: readonly Json[];
}

export type Row = Readonly<Record<string, string | number | null>>;

/** The bucket of everything that is not among the top values. */
export const OTHER = '__other__';

interface Bucket {
  readonly key: string | number;
  readonly doc_count: number;
  readonly [aggregation: string]: unknown;
}

export async function runLensLayer(layer: LensLayer, context: LensContext): Promise<Row[]> {
  const buckets = layer.columnOrder.filter((id) => layer.columns[id]!.isBucketed);
  const found = await search(layer, buckets, context, []);
  const rows = rowsOf(layer, buckets, found);
  const [first] = buckets;
  const outer = first === undefined ? undefined : layer.columns[first]!;
  for (const id of buckets.slice(1)) {
    if (layer.columns[id]!.params?.otherBucket === true) throw new Error('other values of an inner bucket');
  }
  if (first === undefined || outer?.params?.otherBucket !== true) return rows;
  // Kibana's second request: what has the field and is not among the top values.
  const field = outer.sourceField!;
  const top = [...new Set(rows.map((row) => row[first]))];
  const others = { bool: { filter: [{ exists: { field } }], must_not: [{ terms: { [field]: top } }] } };
  const rest = await search(layer, buckets.slice(1), context, [others]);
  if (rest.doc_count === 0) return rows;
  return [...rows, ...rowsOf(layer, buckets.slice(1), rest).map((row) => ({ [first]: OTHER, ...row }))];
}

/** KQL of the shape `field: "value"`, joined by `and`: all that the shipped charts need. */
export function kqlQuery(kql: string): Json {
  if (kql.trim() === '') return { match_all: {} };
  const terms = kql.split(/\s+and\s+/).map((part) => {
    const [, field, value] = /^\s*([\w@.]+)\s*:\s*"([^"\\]*)"\s*$/.exec(part) ?? [];
    if (field === undefined || value === undefined) throw new Error(`KQL that is not translated: ${part}`);
    return { match_phrase: { [field]: value } };
  });
  return { bool: { filter: terms } };
}

async function search(
  layer: LensLayer,
  buckets: readonly string[],
  { client, index, timeField, fromMs, toMs, filters, ...widths }: LensContext,
  more: readonly Json[],
): Promise<Bucket> {
  const time = { range: { [timeField]: { gte: fromMs, lt: toMs, format: 'epoch_millis' } } };
  const body = {
    size: 0,
    track_total_hits: true,
    query: { bool: { filter: [time, ...filters, ...more] } },
    aggs: aggregations(layer, buckets, { fromMs, toMs, ...widths }),
  };
  const reply = await client.transport.request<{ hits: { total: { value: number } }; aggregations?: Json }>({
    method: 'POST',
    path: `/${index}/_search`,
    body,
  });
  return { key: '', doc_count: reply.hits.total.value, ...reply.aggregations };
}

type Widths = Pick<LensContext, 'fromMs' | 'toMs' | 'timeBucketMs' | 'numberBucket'>;

function aggregations(layer: LensLayer, buckets: readonly string[], widths: Widths): Json {
  const [id, ...inner] = buckets;
  if (id === undefined) return metrics(layer);
  const column = layer.columns[id]!;
  return { [id]: { ...bucketAggregation(layer, column, widths), aggs: aggregations(layer, inner, widths) } };
}

function bucketAggregation(
  { columns }: LensLayer,
  { operationType, sourceField, params = {} }: LensColumn,
  widths: Widths,
): Json {
  const minimum = params.includeEmptyRows === true ? 0 : 1;
  switch (operationType) {
    case 'date_histogram': {
      if (params.interval !== 'auto') throw new Error(`interval ${String(params.interval)}`);
      const bounds = { min: widths.fromMs, max: widths.toMs - 1 };
      return {
        date_histogram: {
          ...{ field: sourceField, fixed_interval: `${widths.timeBucketMs}ms`, min_doc_count: minimum },
          ...(minimum === 0 ? { extended_bounds: bounds } : {}),
        },
      };
    }
    case 'range':
      if (params.type !== 'histogram' || params.maxBars !== 'auto') throw new Error('a range that is no histogram');
      return { histogram: { field: sourceField, interval: widths.numberBucket, min_doc_count: minimum } };
    case 'terms': {
      const { columnId } = params.orderBy as { columnId: string };
      const by = columns[columnId]!;
      if (by.operationType !== 'count' || by.filter !== undefined)
        throw new Error('ordered by something else than the count');
      if (params.missingBucket === true) throw new Error('a bucket of what has no value');
      return { terms: { field: sourceField, size: params.size, order: { _count: params.orderDirection } } };
    }
    default:
      throw new Error(`bucket ${operationType}`);
  }
}

function metrics({ columns }: LensLayer): Json {
  const all: Record<string, Json> = {};
  for (const [id, { operationType, sourceField, params, filter, isBucketed }] of Object.entries(columns)) {
    if (isBucketed || operationType === 'formula' || operationType === 'math') continue;
    if (operationType === 'count') {
      if (filter !== undefined) all[id] = { filter: kqlQuery(filter.query) };
      continue;
    }
    if (operationType !== 'percentile') throw new Error(`metric ${operationType}`);
    all[id] = { percentiles: { field: sourceField, percents: [params?.percentile] } };
  }
  return all;
}

function rowsOf(layer: LensLayer, buckets: readonly string[], bucket: Bucket): Row[] {
  const [id, ...inner] = buckets;
  if (id === undefined) return [valuesOf(layer, bucket)];
  const { buckets: found } = bucket[id] as { buckets: Bucket[] };
  return found.flatMap((one) => rowsOf(layer, inner, one).map((row) => ({ [id]: one.key, ...row })));
}

function valuesOf({ columns }: LensLayer, bucket: Bucket): Row {
  const compute = (id: string): number | null => {
    const { operationType, references = [], params = {}, filter } = columns[id]!;
    switch (operationType) {
      case 'count':
        return filter === undefined ? bucket.doc_count : (bucket[id] as Bucket).doc_count;
      case 'percentile':
        return Object.values((bucket[id] as { values: Record<string, number | null> }).values)[0] ?? null;
      case 'math': {
        const { name, args } = params.tinymathAst as { name: string; args: [string, string] };
        if (name !== 'divide') throw new Error(`math ${name}`);
        const [above, below] = args.map(compute) as [number, number];
        // Dividing by 0 is an error of Kibana's tinymath, which a chart shows as a gap.
        return below === 0 ? null : above / below;
      }
      case 'formula':
        return compute(references[0]!);
      default:
        throw new Error(`metric ${operationType}`);
    }
  };
  const metricIds = Object.keys(columns).filter((id) => !columns[id]!.isBucketed);
  return Object.fromEntries(metricIds.map((id) => [id, compute(id)]));
}
