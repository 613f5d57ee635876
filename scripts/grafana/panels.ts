// The kinds of panel that the dashboards use, each a query or a few with a unit. Out: builders of the Grafana Foundation SDK
// without place and id, which dashboard.ts gives. Every query asks the data source chosen at the top of the dashboard.
import type { Builder, Dataquery } from '@grafana/grafana-foundation-sdk/cog';
import {
  BigValueColorMode,
  BigValueGraphMode,
  type DataSourceRef,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  VizLegendOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import {
  type Panel as BuiltPanel,
  type DataTransformerConfig,
  type GridPos,
  type Threshold,
  ThresholdsConfigBuilder,
  ThresholdsMode,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { PanelBuilder as GaugeBuilder } from '@grafana/grafana-foundation-sdk/gauge';
import { PanelBuilder as PieBuilder, PieChartLegendOptionsBuilder } from '@grafana/grafana-foundation-sdk/piechart';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TableBuilder } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as LinesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';

/** The variable at the top of each dashboard. */
export const DATASOURCE: DataSourceRef = { type: 'prometheus', uid: '$datasource' };

/** What a panel shows: PromQL, and how a series of it is called (`{{label}}`). */
export interface Query {
  readonly expr: string;
  readonly legend: string;
}

export interface PanelOptions {
  readonly title: string;
  readonly description: string;
  /** Width in the grid of 24 columns. */
  readonly w: number;
  readonly queries: readonly Query[];
  /** Grafana's name of a unit. */
  readonly unit: string;
  /** A value is yellow or red above these, or below them if the second is smaller. */
  readonly warnAt?: readonly [yellow: number, red: number];
  /** 1 for a ratio. */
  readonly max?: number;
}

/** A panel that still lacks its place. */
export interface Panel {
  readonly w: number;
  place(id: number, gridPos: GridPos): Builder<BuiltPanel>;
}

interface CommonBuilder extends Builder<BuiltPanel> {
  id(id: number): this;
  title(title: string): this;
  description(description: string): this;
  datasource(datasource: DataSourceRef): this;
  gridPos(gridPos: GridPos): this;
  unit(unit: string): this;
  min(min: number): this;
  max(max: number): this;
  thresholds(thresholds: ThresholdsConfigBuilder): this;
  withTarget(target: Builder<Dataquery>): this;
}

/** The newest value of each series on a scale. */
export function gauge(options: PanelOptions): Panel {
  return panel(new GaugeBuilder().reduceOptions(lastValue()).min(0), options, instant);
}

/** The newest value of each series as a number, with its past as a sparkline below. */
export function stat(options: PanelOptions): Panel {
  const builder = new StatBuilder()
    .reduceOptions(lastValue())
    .graphMode(BigValueGraphMode.Area)
    .colorMode(options.warnAt === undefined ? BigValueColorMode.None : BigValueColorMode.Value);
  return panel(builder, options, range);
}

export function lines(options: PanelOptions): Panel {
  const legend = new VizLegendOptionsBuilder()
    .displayMode(LegendDisplayMode.List)
    .placement(LegendPlacement.Bottom)
    .showLegend(true);
  const builder = new LinesBuilder().legend(legend).lineWidth(1).fillOpacity(10).min(0);
  return panel(builder, options, range);
}

/** The share of each series. */
export function pie(options: PanelOptions): Panel {
  const legend = new PieChartLegendOptionsBuilder()
    .displayMode(LegendDisplayMode.List)
    .placement(LegendPlacement.Right)
    .showLegend(true);
  return panel(new PieBuilder().legend(legend).reduceOptions(lastValue()), options, instant);
}

/** One line per value of `by`, one column per query, which its legend names. */
export function table(options: PanelOptions & { readonly by: string }): Panel {
  const refIds = options.queries.map((_, i) => refId(i));
  const columns = [options.by, ...refIds.map((ref) => `Value #${ref}`)];
  const transformations: DataTransformerConfig[] = [
    { id: 'merge', options: {} },
    {
      id: 'organize',
      options: {
        excludeByName: { Time: true },
        indexByName: Object.fromEntries(columns.map((column, i) => [column, i])),
        renameByName: Object.fromEntries(options.queries.map(({ legend }, i) => [`Value #${refId(i)}`, legend])),
      },
    },
  ];
  return panel(new TableBuilder().transformations(transformations), options, (query) =>
    instant(query).format(PromQueryFormat.Table),
  );
}

function panel(
  builder: CommonBuilder,
  options: PanelOptions,
  asked: (query: DataqueryBuilder) => DataqueryBuilder,
): Panel {
  const { title, description, unit, queries, warnAt, max } = options;
  builder.title(title).description(description).datasource(DATASOURCE).unit(unit).thresholds(thresholds(warnAt));
  if (max !== undefined) builder.max(max);
  for (const [i, { expr, legend }] of queries.entries()) {
    const query = new DataqueryBuilder().expr(expr).legendFormat(legend).refId(refId(i)).datasource(DATASOURCE);
    builder.withTarget(asked(query));
  }
  return { w: options.w, place: (id, gridPos) => builder.id(id).gridPos(gridPos) };
}

function refId(i: number): string {
  return String.fromCharCode('A'.charCodeAt(0) + i);
}

function instant(query: DataqueryBuilder): DataqueryBuilder {
  return query.instant();
}

function range(query: DataqueryBuilder): DataqueryBuilder {
  return query.range();
}

function lastValue(): ReduceDataOptionsBuilder {
  return new ReduceDataOptionsBuilder().calcs(['lastNotNull']).values(false);
}

function thresholds(warnAt: PanelOptions['warnAt']): ThresholdsConfigBuilder {
  const steps: Threshold[] = [{ color: 'green', value: null }];
  if (warnAt !== undefined) {
    const [yellow, red] = warnAt;
    if (yellow < red) steps.push({ color: 'yellow', value: yellow }, { color: 'red', value: red });
    else {
      steps[0] = { color: 'red', value: null };
      steps.push({ color: 'yellow', value: red }, { color: 'green', value: yellow });
    }
  }
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps);
}
