// The first view: is something wrong, what is it, and since when. In: the last tick, the history of its figures, the open incidents. Out: a
// sentence, a tile for each figure, a chart for each, which go on with the ticks. Guarantee: a figure's state is said in words too; what is
// not known is said to be, and why.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { AlertSpan, Figure, FigureHistory, FigureId, Tick } from '../../ops/page-data.ts';
import { rangeOf } from '../address.ts';
import { address, get, nowMs, tick, useAnswer } from '../app.ts';
import { Chart, type ChartSpan, type ChartThreshold } from '../chart.tsx';
import { count, milliseconds, percent, plural } from '../format.ts';
import { type Gone, goneOn, type Recent } from '../history.ts';
import { type IncidentView, STATE_WORDS, toneOfPriority, useIncidents } from '../incidents.ts';
import { Badge, begun, Choice, Empty, Link, Loading, Problem, sentence, Time, type Tone } from '../parts.tsx';

const RANGES = ['15m', '1h', '3h'] as const;
const DEFAULT_RANGE = '1h';

export function Now() {
  const now = tick.value;
  const asked = address.text('range');
  const range = RANGES.find((one) => one === asked) ?? DEFAULT_RANGE;
  return (
    <>
      <div class="view-head">
        <h1>Now</h1>
        <Choice
          label="Time range of the charts"
          options={RANGES.map((one) => [one, inWords(one)] as const)}
          value={range}
          onChoose={(next) => address.set({ range: next === DEFAULT_RANGE ? null : next })}
        />
      </div>
      {now === null ? <Loading what="the figures" /> : <Verdict now={now} />}
      {now !== null && <Tiles figures={now.figures} />}
      <Charts range={range} />
    </>
  );
}

const inWords = (range: string) => range.replace('m', ' min').replace('h', ' h');

// ---- in a sentence ----

const MOST_SHOWN = 3;

function Verdict({ now: { alerts, ready, flow } }: { now: Tick }) {
  const { value, error, again } = useIncidents('open');
  const open = [...(value?.incidents ?? [])].sort(byUrgency);
  const failing = flow.dependencies.filter((dependency) => !dependency.ready);
  const [tone, text] = verdictOf(alerts, ready);
  return (
    <section class={`verdict ${tone}`} aria-labelledby="verdict">
      <h2 id="verdict">{text}</h2>
      {open.length > 0 && (
        <ul class="open-incidents">
          {open.slice(0, MOST_SHOWN).map((incident) => (
            <li key={incident.id}>
              <OpenIncident {...incident} />
            </li>
          ))}
        </ul>
      )}
      {open.length > MOST_SHOWN && <Link to="alerts">All {plural(open.length, 'open incident')}</Link>}
      {failing.length > 0 && (
        <ul class="failing">
          {failing.map(({ name, detail }) => (
            <li key={name}>
              <strong>{name}</strong> is not ready: {sentence(detail)}
            </li>
          ))}
        </ul>
      )}
      <Problem text={error} again={again} />
    </section>
  );
}

/** What fires and nobody has taken comes first. */
function verdictOf(alerts: Tick['alerts'], ready: boolean): readonly [Tone, string] {
  if (alerts === null) {
    return ready ? ['quiet', 'Alerts are not evaluated in this process'] : ['bad', 'The pipeline is not ready'];
  }
  const { firing, acknowledged, pending } = alerts;
  if (firing > 0) {
    const others = acknowledged === 0 ? '' : `, ${count(acknowledged)} acknowledged`;
    return ['bad', `${plural(firing, 'incident')} firing${others}`];
  }
  if (acknowledged > 0) return ['warn', `${plural(acknowledged, 'incident')} open, acknowledged`];
  if (!ready) return ['bad', 'No alert fires, but the pipeline is not ready'];
  if (pending > 0) return ['warn', `No alert fires, but ${plural(pending, 'condition')} may become one`];
  return ['good', 'All is well: no alert fires'];
}

function OpenIncident({ id, priority, title, message, state, opened, team, acknowledged }: IncidentView) {
  const [text, tone] = STATE_WORDS[state];
  return (
    <>
      <p class="open-title">
        <Badge tone={toneOfPriority(priority)}>{priority ?? 'P?'}</Badge>
        <Link to="alerts" params={{ incident: id }}>
          {title ?? id}
        </Link>
      </p>
      {message !== null && <p>{message}</p>}
      <p class="open-facts">
        <Badge tone={tone}>{acknowledged === null ? text : `${text} by ${acknowledged.by}`}</Badge>
        <span>
          Opened <Time at={opened} />
        </span>
        {team !== null && <span>Team {team}</span>}
      </p>
    </>
  );
}

function byUrgency(one: IncidentView, other: IncidentView): number {
  const rank = ({ state, priority }: IncidentView) => `${state === 'firing' ? 0 : 1}${priority ?? 'P9'}`;
  return rank(one).localeCompare(rank(other));
}

// ---- tiles ----

const STATES: Readonly<Record<Figure['state'], readonly [text: string, tone: Tone]>> = {
  good: ['OK', 'good'],
  warn: ['Warning', 'warn'],
  bad: ['Critical', 'bad'],
  unknown: ['Not known', 'quiet'],
};

function Tiles({ figures }: { figures: readonly Figure[] }) {
  return (
    <section aria-labelledby="figures">
      <h2 id="figures" class="unseen">
        Figures
      </h2>
      <ul class="tiles">
        {figures.map((figure) => (
          <li key={figure.id}>
            <Tile {...figure} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Tile({ id, label, text, target, threshold, state, note }: Figure) {
  const [words, tone] = STATES[state];
  // "3/min, 12 since the start": what comes first is what counts.
  const [main, ...more] = text.split(', ');
  return (
    <div class={`tile ${tone}`} data-figure={id} data-state={state}>
      <h3>{label}</h3>
      <p class="tile-main">
        <span class="tile-value">
          {main}
          {more.length > 0 && <span class="tile-more"> {more.join(', ')}</span>}
        </span>
        <Badge tone={tone}>{words}</Badge>
      </p>
      {target !== null && <p class="tile-target">Target: {target}</p>}
      {threshold !== null && <p class="tile-target">{begun(threshold)}</p>}
      {note !== null && <p class="tile-note">{sentence(note)}</p>}
    </div>
  );
}

// ---- charts ----

interface Drawn {
  readonly id: FigureId;
  readonly title: string;
  readonly format: (value: number | null) => string;
}

const ERRORS: Drawn = { id: 'errors', title: 'Error rate', format: percent };
const OTHERS: readonly Drawn[] = [
  { id: 'events', title: 'Events per second', format: count },
  { id: 'p95', title: 'Response time, p95', format: milliseconds },
  { id: 'calls', title: 'Call success', format: percent },
  { id: 'queues', title: 'Queue size', format: count },
  { id: 'lag', title: 'Lag', format: count },
  { id: 'deadLetters', title: 'Dead letters per minute', format: count },
];

/** So often the history is asked for; between, it goes on with the ticks. */
const REFRESH_MS = 15_000;
/** Of more there is no need: by then the history has come anew. */
const MAX_TICKS = 60;

function Charts({ range }: { range: string }) {
  const round = Math.floor(nowMs.value / REFRESH_MS);
  const { value, error, isLoading, again } = useAnswer(`${range} ${round}`, (signal) => {
    const { fromMs, toMs } = rangeOf(new URLSearchParams({ range }), DEFAULT_RANGE, Date.now());
    return get<FigureHistory>('figures', { from: iso(fromMs), to: iso(toMs) }, signal);
  });
  const recent = useRecentTicks();
  const history = useMemo(() => (value === undefined ? undefined : goneOn(value, recent)), [value, recent]);
  if (value === undefined || history === undefined) {
    return isLoading ? <Loading what="the charts" /> : <Problem text={error} again={again} />;
  }
  // Of a long time the server may not know a figure; what the ticks add would be a dot at its end.
  const shown = OTHERS.filter(({ id }) => value.series[id]?.some((point) => point !== null));
  return (
    <section class="charts" aria-labelledby="charts">
      <h2 id="charts" class="unseen">
        The last {inWords(range)}
      </h2>
      <Problem text={error} again={again} />
      {history.note !== null && <p class="notice">{sentence(history.note)}</p>}
      <FigureChart {...ERRORS} history={history} height={230} />
      <div class="small-charts">
        {shown.map((drawn) => (
          <FigureChart key={drawn.id} {...drawn} history={history} height={130} />
        ))}
      </div>
    </section>
  );
}

function FigureChart({ id, title, format, history, height }: Drawn & { history: Gone; height: number }) {
  const { series, fromMs, toMs, step } = history;
  const points = series[id] ?? [];
  const all = useMemo(() => [{ label: title, points }], [title, points]);
  const { thresholds, alerts } = history;
  const lines = useMemo(() => linesOf(id, thresholds), [id, thresholds]);
  const spans = useMemo(() => spansOf(id, alerts, fromMs, toMs), [id, alerts, fromMs, toMs]);
  if (points.every((point) => point === null)) {
    return (
      <div class="chart">
        <h3>{title}</h3>
        <Empty title="Nothing is known of this time">{sentence(tickNote(id) ?? 'Nothing was counted yet')}</Empty>
      </div>
    );
  }
  const errors = id === 'errors';
  return (
    <Chart
      title={title}
      fromMs={fromMs}
      toMs={toMs}
      stepMs={step * 1_000}
      series={all}
      format={format}
      thresholds={lines}
      spans={spans}
      height={height}
      fromZero={id !== 'calls'}
      {...(errors ? { onRange: showErrors, rangeAction: 'Show the errors of' } : {})}
      aside={errors ? <span class="dim hint">Drag over the chart to see its logs</span> : undefined}
    />
  );
}

const tickNote = (id: FigureId) => tick.peek()?.figures.find((figure) => figure.id === id)?.note;

function showErrors(fromMs: number, toMs: number): void {
  address.open('logs', { mode: 'history', from: iso(fromMs), to: iso(toMs), q: 'tags: "error"' });
}

const iso = (ms: number) => new Date(ms).toISOString();

function linesOf(id: FigureId, thresholds: FigureHistory['thresholds']): ChartThreshold[] {
  return thresholds
    .filter(({ figure }) => figure === id)
    .map(({ value, text, priority, rule }) => ({
      value,
      text: `${priority} at ${text} (${rule})`,
      tone: priority === 'P1' ? 'bad' : 'warn',
    }));
}

function spansOf(id: FigureId, alerts: readonly AlertSpan[], startMs: number, endMs: number): ChartSpan[] {
  return alerts
    .filter(({ figure, from, to }) => {
      return figure === id && Date.parse(from) < endMs && (to === null || Date.parse(to) > startMs);
    })
    .map(({ rule, title, priority, incident, from, to }) => ({
      key: `${rule} ${incident} ${from}`,
      fromMs: Date.parse(from),
      toMs: to === null ? null : Date.parse(to),
      text: `${priority} ${title}`,
      tone: priority === 'P1' ? 'bad' : 'warn',
      ...(incident === null ? {} : { link: { to: 'alerts', params: { incident } } }),
    }));
}

// ---- on with the ticks ----

function useRecentTicks(): Recent {
  const kept = useRef<Recent>([]);
  const [recent, setRecent] = useState<Recent>([]);
  const now = tick.value;
  useEffect(() => {
    if (now === null) return;
    kept.current = [...kept.current.slice(1 - MAX_TICKS), { atMs: Date.parse(now.at), figures: now.figures }];
    setRecent(kept.current);
  }, [now]);
  return recent;
}
