// One definition of measures.yml -> the same with every default filled in, durations in ms. Pure; the checks come before.
import { durationMs } from '../core/duration.ts';
import type { Measure, MeasureReference, PrometheusName, Unit, Where } from './measure-config.ts';
import type { Kind } from './measure-schema.ts';

const MAX_SERIES = 200;
const STALE_AFTER = '60s';

/** A definition as it is written, after the schema's checks. */
export interface WrittenMeasure {
  readonly kind: Kind;
  readonly unit?: Unit;
  readonly where?: Where;
  readonly by?: readonly string[];
  readonly maxSeries?: number;
  readonly examples?: number;
  readonly field?: string;
  readonly staleAfter?: string;
  readonly internal?: boolean;
  readonly numerator?: WrittenReference;
  readonly denominator?: WrittenReference;
  readonly of?: WrittenReference;
  readonly p?: number;
  readonly per?: string;
  readonly prometheus?: Partial<PrometheusName> & { readonly name: string; readonly help: string };
}

export type WrittenReference = string | { readonly of: string; readonly where?: Where };

const UNIT_OF_KIND: Partial<Record<Kind, Unit>> = { ratio: 'ratio', rate: 'per-second', absence: 's' };

/** What the kind does not need is left out. A percentile, mean or sum has the unit of what it is made from. */
export function complete(name: string, all: Readonly<Record<string, WrittenMeasure>>): Measure {
  const written = all[name]!;
  const { kind } = written;
  const source = written.of === undefined ? undefined : all[reference(written.of).of];
  const unit = written.unit ?? UNIT_OF_KIND[kind] ?? source?.unit ?? 'count';
  const base = { name, unit, ...exposed(written) };
  const collected = {
    where: written.where ?? {},
    by: written.by ?? [],
    maxSeries: written.maxSeries ?? MAX_SERIES,
    examples: written.examples ?? 0,
  };
  const of = () => reference(written.of!);
  switch (kind) {
    case 'counter':
      return Object.freeze({ ...base, ...collected, kind });
    case 'distribution':
      return Object.freeze({ ...base, ...collected, kind, field: written.field! });
    case 'gauge':
      return Object.freeze({
        ...base,
        ...collected,
        kind,
        field: written.field ?? '',
        internal: written.internal ?? false,
        staleAfterMs: durationMs(written.staleAfter ?? STALE_AFTER),
      });
    case 'ratio':
      return Object.freeze({
        ...base,
        kind,
        numerator: reference(written.numerator!),
        denominator: reference(written.denominator!),
      });
    case 'percentile':
      return Object.freeze({ ...base, kind, of: of(), p: written.p! });
    case 'rate':
      return Object.freeze({ ...base, kind, of: of(), perMs: durationMs(written.per!) });
    case 'increase':
      return Object.freeze({ ...base, kind, of: of(), perMs: durationMs(written.per!) });
    case 'mean':
      return Object.freeze({ ...base, kind, of: of() });
    case 'sum':
      return Object.freeze({ ...base, kind, of: of() });
    case 'absence':
      return Object.freeze({ ...base, kind, of: of() });
  }
}

/** The short form written out. */
export function reference(written: WrittenReference): MeasureReference {
  return Object.freeze(
    typeof written === 'string' ? { of: written, where: {} } : { of: written.of, where: written.where ?? {} },
  );
}

function exposed({ kind, prometheus }: WrittenMeasure): { prometheus?: PrometheusName } {
  if (prometheus === undefined) return {};
  const { name, help, type, labels = {}, scale = 1, buckets = [] } = prometheus;
  const usual = kind === 'counter' ? 'counter' : kind === 'distribution' ? 'histogram' : 'gauge';
  return { prometheus: Object.freeze({ name, help, type: type ?? usual, labels, scale, buckets }) };
}
