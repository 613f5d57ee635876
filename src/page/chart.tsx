// A chart of a measure over time. In: points at even steps, thresholds, and stretches to mark, such as alerts. Out: a picture that people can
// point at and drag over, the same as a summary, and as a table on demand. Guarantee: whatever the picture says or does is there without it,
// by keyboard and for a screen reader; a gap in what is known is a gap in the line.
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useMemo, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import type { Params, View } from './address.ts';
import { address, nowMs } from './app.ts';
import { clockTime, plural } from './format.ts';
import { Link, Table, type Tone } from './parts.tsx';

export interface ChartSeries {
  readonly label: string;
  /** The first is at `fromMs`, and `stepMs` lies between two; null: not known. */
  readonly points: readonly (number | null)[];
  readonly kind?: 'area' | 'line' | 'bars';
  /** By default a colour of its own. */
  readonly tone?: Tone;
}

export interface ChartThreshold {
  readonly value: number;
  /** "P1 above 5 %" */
  readonly text: string;
  readonly tone: 'warn' | 'bad' | 'quiet';
}

export interface ChartSpan {
  readonly key: string;
  readonly fromMs: number;
  /** Null: it goes on. */
  readonly toMs: number | null;
  readonly text: string;
  readonly tone: 'warn' | 'bad';
  /** Where a click on it leads. */
  readonly link?: { readonly to: View; readonly params: Params };
  readonly onOpen?: () => void;
}

export interface ChartProps {
  readonly title: string;
  readonly fromMs: number;
  readonly toMs: number;
  readonly stepMs: number;
  readonly series: readonly ChartSeries[];
  readonly format: (value: number | null) => string;
  readonly thresholds?: readonly ChartThreshold[];
  readonly spans?: readonly ChartSpan[];
  /** By default true. False: a figure like a success rate is looked at closely. */
  readonly fromZero?: boolean;
  /** Of the picture, in px. */
  readonly height?: number;
  /** Beside the title. */
  readonly aside?: ComponentChildren;
  /** Level of the title's heading. */
  readonly level?: 2 | 3;
  /** Somebody has chosen a part of the time: by dragging, or in the table. */
  readonly onRange?: (fromMs: number, toMs: number) => void;
  /** What choosing does: "Show the logs of". */
  readonly rangeAction?: string;
}

const TABLE_ROWS = 60;

export function Chart(props: ChartProps) {
  const { title, series, thresholds = [], spans = [], format, aside, level = 3 } = props;
  const id = useId();
  const [pointed, setPointed] = useState<number | null>(null);
  const readout = pointed === null ? null : readoutOf(props, pointed);
  const Heading = `h${level}` as const;
  return (
    <figure class="chart" aria-labelledby={id} data-chart={title}>
      <figcaption class="chart-head">
        <Heading id={id}>{title}</Heading>
        {aside}
      </figcaption>
      <Picture {...props} onPoint={setPointed} />
      <p class="chart-summary">{readout ?? summaryOf(props)}</p>
      {(series.length > 1 || thresholds.length > 0) && (
        <ul class="chart-key" aria-label={`Key of ${title}`}>
          {series.length > 1 &&
            series.map(({ label, tone }, i) => (
              <li key={`s${label}`} class={`key-series key-${tone ?? i + 1}`}>
                {label}
              </li>
            ))}
          {thresholds.map(({ text, tone }) => (
            <li key={`t${text}`} class={`key-threshold ${tone}`}>
              {text}
            </li>
          ))}
        </ul>
      )}
      {spans.length > 0 && (
        <ul class="chart-spans" aria-label={`Marked in ${title}`}>
          {spans.map((span) => (
            <li key={span.key} class={`span ${span.tone}`}>
              <SpanText {...span} />
            </li>
          ))}
        </ul>
      )}
      <Numbers {...props} format={format} />
    </figure>
  );
}

function SpanText({ text, fromMs, toMs, link, onOpen }: ChartSpan) {
  const from = clockTime(fromMs, nowMs.peek());
  const words = (
    <>
      {text}
      <span class="dim">
        {' '}
        {from} to {toMs === null ? 'now' : clockTime(toMs, nowMs.peek())}
      </span>
    </>
  );
  if (link !== undefined) {
    return (
      <Link to={link.to} params={link.params}>
        {words}
      </Link>
    );
  }
  if (onOpen === undefined) return <span>{words}</span>;
  return (
    <button type="button" class="quiet" onClick={onOpen}>
      {words}
    </button>
  );
}

// ---- as words, and as a table ----

function summaryOf({ series, format, fromMs, stepMs }: ChartProps): string {
  const texts = series.map(({ label, points }) => {
    const known = points.flatMap((value, i) => (value === null ? [] : [{ value, atMs: fromMs + i * stepMs }]));
    const [first] = known;
    const name = series.length > 1 ? `${label}: ` : '';
    if (first === undefined) return `${name}nothing is known of this time.`;
    const highest = known.reduce((most, one) => (one.value > most.value ? one : most), first);
    return `${name}${format(known.at(-1)!.value)} at the end, at most ${format(highest.value)} (${clockTime(highest.atMs, nowMs.peek())}).`;
  });
  return texts.join(' ');
}

function readoutOf({ series, format, fromMs, stepMs }: ChartProps, i: number): string {
  const time = clockTime(fromMs + i * stepMs, nowMs.peek(), true);
  const values = series.map(({ label, points }) => {
    const text = format(points[i] ?? null);
    return series.length > 1 ? `${label} ${text}` : text;
  });
  return `${time}: ${values.join(', ')}`;
}

function Numbers(props: ChartProps) {
  const { title, series, format, fromMs, stepMs, onRange, rangeAction = 'Choose' } = props;
  const [isOpen, setOpen] = useState(false);
  const many = Math.max(0, ...series.map(({ points }) => points.length));
  const rows = isOpen ? Array.from({ length: Math.min(many, TABLE_ROWS) }, (_, i) => many - 1 - i) : [];
  const left = many > TABLE_ROWS ? `, the newest ${TABLE_ROWS} of ${plural(many, 'point')}` : '';
  return (
    <details class="chart-numbers" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        As a table<span class="unseen">: {title}</span>
      </summary>
      {isOpen && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
        <section class="scroll" tabIndex={0} aria-label={`Numbers of ${title}`}>
          <Table
            caption={`${title}${left}`}
            showCaption
            keyOf={(i) => String(i)}
            rows={rows}
            columns={[
              {
                title: 'Time',
                isHeading: true,
                cell: (i) => {
                  const atMs = fromMs + i * stepMs;
                  const time = clockTime(atMs, nowMs.peek(), true);
                  if (onRange === undefined) return time;
                  return (
                    <button
                      type="button"
                      class="quiet"
                      aria-label={`${rangeAction} ${time}`}
                      onClick={() => onRange(atMs, atMs + stepMs)}
                    >
                      {time}
                    </button>
                  );
                },
              },
              ...series.map(({ label, points }) => ({
                title: label,
                isNumber: true,
                cell: (i: number) => format(points[i] ?? null),
              })),
            ]}
          />
        </section>
      )}
    </details>
  );
}

// ---- the picture ----

interface Colours {
  readonly text: string;
  readonly grid: string;
  readonly series: readonly string[];
  readonly tone: Readonly<Record<Tone, string>>;
}

function coloursOf(element: Element): Colours {
  const style = getComputedStyle(element);
  const named = (name: string) => style.getPropertyValue(name).trim();
  return {
    text: named('--dim'),
    grid: named('--line'),
    series: [1, 2, 3, 4].map((i) => named(`--series-${i}`)),
    tone: {
      good: named('--good'),
      warn: named('--warn'),
      bad: named('--bad'),
      quiet: named('--dim'),
      info: named('--accent'),
    },
  };
}

const DARK = '(prefers-color-scheme: dark)';

/** Changes when the reader's system goes dark or light. */
function useScheme(): boolean {
  const [isDark, setDark] = useState(() => matchMedia(DARK).matches);
  useEffect(() => {
    const query = matchMedia(DARK);
    const follow = () => setDark(query.matches);
    query.addEventListener('change', follow);
    return () => query.removeEventListener('change', follow);
  }, []);
  return isDark;
}

function Picture(props: ChartProps & { onPoint: (i: number | null) => void }) {
  const { series, fromMs, stepMs, height = 180 } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const newest = useRef(props);
  newest.current = props;
  const isDark = useScheme();
  const shape = series.map(({ kind, tone }) => `${kind} ${tone}`).join();

  const data = useMemo((): uPlot.AlignedData => {
    const many = Math.max(0, ...series.map(({ points }) => points.length));
    const times = Array.from({ length: many }, (_, i) => (fromMs + i * stepMs) / 1_000);
    return [times, ...series.map(({ points }) => [...points])];
  }, [series, fromMs, stepMs]);

  // On purpose: the colours of the scheme are read anew; data is set below
  useEffect(() => {
    const element = box.current!;
    const own = new uPlot(optionsOf(newest, coloursOf(element), element.clientWidth), data, element);
    plot.current = own;
    const observer = new ResizeObserver(() => {
      const width = element.clientWidth;
      if (width > 0 && width !== own.width) own.setSize({ width, height: newest.current.height ?? 180 });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      own.destroy();
      plot.current = undefined;
    };
  }, [shape, isDark, height]);

  // On purpose: what is drawn besides the data has changed then
  useEffect(() => plot.current?.setData(data), [data, props.toMs, props.thresholds, props.spans]);

  return <div class="chart-picture" ref={box} aria-hidden="true" />;
}

/** In px; less is a click. */
const MIN_DRAG = 4;

const FONT = '12px system-ui, sans-serif';

function optionsOf(
  newest: { readonly current: ChartProps & { onPoint: (i: number | null) => void } },
  colours: Colours,
  width: number,
): uPlot.Options {
  const { series, height = 180 } = newest.current;
  const isSmall = height < 150;
  const axis = { stroke: colours.text, font: FONT, ticks: { show: false } };
  return {
    width: Math.max(width, 100),
    height,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      points: { size: 7 },
      drag: { x: newest.current.onRange !== undefined, y: false, setScale: false },
    },
    scales: {
      x: { time: true, range: () => [newest.current.fromMs / 1_000, newest.current.toMs / 1_000] },
      y: { range: (_, least, most) => heightsOf(newest.current, least, most) },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 26,
        space: isSmall ? 70 : 60,
        // Of marks within a minute the seconds tell which is which.
        values: (_, splits) =>
          splits.map((at) =>
            clockTime(
              at * 1_000,
              at * 1_000,
              splits.some((one) => one % 60 !== 0),
            ),
          ),
      },
      {
        ...axis,
        grid: { stroke: colours.grid, width: 1 },
        space: isSmall ? 34 : 40,
        size: (_, values) => Math.max(28, ...(values ?? []).map((text) => text.length * 6.6 + 14)),
        values: (_, splits) => splits.map((value) => newest.current.format(value)),
      },
    ],
    series: [
      {},
      ...series.map(({ label, kind = 'area', tone }, i): uPlot.Series => {
        const stroke = tone === undefined ? colours.series[i % colours.series.length]! : colours.tone[tone];
        const bars = kind === 'bars' ? uPlot.paths.bars?.({ size: [0.8, 40], align: 1 }) : undefined;
        return {
          label,
          stroke,
          width: kind === 'bars' ? 0 : 1.75,
          ...(kind === 'line' ? {} : { fill: kind === 'bars' ? stroke : `${stroke}22` }),
          ...(bars === undefined ? {} : { paths: bars }),
          points: { show: false },
        };
      }),
    ],
    hooks: {
      ready: [(self) => openOnClick(self, newest)],
      drawClear: [(self) => drawSpans(self, newest.current, colours)],
      draw: [(self) => drawThresholds(self, newest.current, colours)],
      setCursor: [(self) => newest.current.onPoint(self.cursor.idx ?? null)],
      setSelect: [
        (self) => {
          const { left, width: long } = self.select;
          if (long < MIN_DRAG) return;
          const from = self.posToVal(left, 'x') * 1_000;
          const to = self.posToVal(left + long, 'x') * 1_000;
          self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          newest.current.onRange?.(Math.round(from), Math.round(to));
        },
      ],
    },
  };
}

/** The nearest threshold is always seen; others only where they do not press the line flat. */
function heightsOf(props: ChartProps, least: number | null, most: number | null): [number, number] {
  const lines = (props.thresholds ?? []).map(({ value }) => value);
  if (props.fromZero === false) {
    const all = [...lines, least ?? 0, most ?? 1];
    const low = Math.min(...all);
    const high = Math.max(...all);
    const spare = (high - low) * 0.1 || Math.abs(high) * 0.05 || 1;
    return [low - spare, high + spare];
  }
  const top = Math.max(most ?? 0, lines.length === 0 ? 0 : Math.min(...lines));
  const highest = Math.max(top, ...lines.filter((value) => value <= 3 * top));
  return [0, highest > 0 ? highest * 1.12 : 1];
}

/** A click on a stretch opens it; the end of dragging over one does not. */
function openOnClick(self: uPlot, newest: { readonly current: ChartProps }): void {
  let downX = 0;
  self.over.addEventListener('mousedown', (event) => {
    downX = event.clientX;
  });
  self.over.addEventListener('click', (event) => {
    if (Math.abs(event.clientX - downX) >= MIN_DRAG) return;
    const atMs = self.posToVal(event.clientX - self.over.getBoundingClientRect().left, 'x') * 1_000;
    const { spans = [] } = newest.current;
    const hit = spans.findLast(({ fromMs, toMs }) => fromMs <= atMs && atMs <= (toMs ?? Number.POSITIVE_INFINITY));
    if (hit?.link !== undefined) address.open(hit.link.to, hit.link.params);
    else hit?.onOpen?.();
  });
}

function drawSpans(self: uPlot, { spans = [], fromMs: start, toMs: end }: ChartProps, colours: Colours): void {
  const { ctx, bbox } = self;
  ctx.save();
  for (const { fromMs, toMs, tone } of spans) {
    const from = Math.max(fromMs, start);
    const to = Math.min(toMs ?? end, end);
    if (to <= from) continue;
    const left = self.valToPos(from / 1_000, 'x', true);
    const width = Math.max(2, self.valToPos(to / 1_000, 'x', true) - left);
    ctx.fillStyle = `${colours.tone[tone]}1f`;
    ctx.fillRect(left, bbox.top, width, bbox.height);
    ctx.fillStyle = colours.tone[tone];
    ctx.fillRect(left, bbox.top, width, 3 * devicePixelRatio);
  }
  ctx.restore();
}

function drawThresholds(self: uPlot, { thresholds = [] }: ChartProps, colours: Colours): void {
  const { ctx, bbox } = self;
  ctx.save();
  ctx.lineWidth = 1.25 * devicePixelRatio;
  ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
  for (const { value, tone } of thresholds) {
    const y = Math.round(self.valToPos(value, 'y', true));
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    ctx.strokeStyle = colours.tone[tone];
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  }
  ctx.restore();
}
