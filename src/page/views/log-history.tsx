// History: a search over what is indexed, with the charts of the Kibana set above it. In: range, query line and filters, as the address has
// them. Out: events, page by page, and charts whose parts lead to their events. Guarantee: a relative range is fixed when it is asked for, so
// that pages fit together; what limits an answer is said.
import { useEffect, useId, useMemo, useRef, useState } from 'preact/hooks';
import type { Bucket, Charts, LogLine, SearchAnswer } from '../../ops/page-data.ts';
import { type Params, rangeOf } from '../address.ts';
import { address, get, useAnswer } from '../app.ts';
import { Chart } from '../chart.tsx';
import { count, fullTime, percent, plural } from '../format.ts';
import { Choice, Empty, Link, Loading, Problem, sentence } from '../parts.tsx';
import { eventName, here, LogLines } from './log-lines.tsx';
import { both } from './query-text.ts';
import { pipelineNow, RangeFields, timesOf } from './range-fields.tsx';

export const HISTORY_RANGE = '1h';
const PAGE = 50;
/** More lines are found by a narrower range, not by scrolling. */
const MOST = 1_000;

export function LogHistory({ filter }: { filter: Params }) {
  const [round, setRound] = useState(0);
  const query = address.text('q');
  const order = address.text('order') === 'asc' ? 'asc' : 'desc';
  const written = address.params.value;
  const rangeKey = ['range', 'from', 'to'].map((name) => written.get(name) ?? '').join(' ');
  const key = JSON.stringify([rangeKey, query, filter, round]);
  const asked = useFixed(key, () => {
    const { fromMs, toMs } = rangeOf(written, HISTORY_RANGE, pipelineNow());
    return { ...timesOf(fromMs, toMs), q: query, ...filter };
  });
  // What was asked stays with its answer, which is shown while the next one is awaited.
  const found = useAnswer(`${key} ${order}`, async (signal): Promise<Answered> => {
    const params = { ...asked, order, size: String(PAGE) };
    return { asked: params, first: await get<SearchAnswer>('search', params, signal) };
  });
  const charts = useAnswer(key, (signal) => get<Charts>('charts', asked, signal));
  const isQueryWrong = found.error !== undefined && query !== '' && isAboutQuery(found.error);

  return (
    <>
      <div class="filters">
        <QueryLine query={query} error={isQueryWrong ? found.error : undefined} onSame={() => setRound((n) => n + 1)} />
        <RangeFields fallback={HISTORY_RANGE} />
        <div class="field">
          <span class="label" aria-hidden="true">
            Order
          </span>
          <Choice
            label="Order"
            options={[
              ['desc', 'Newest first'],
              ['asc', 'Oldest first'],
            ]}
            value={order}
            onChoose={(value) => address.set({ order: value === 'asc' ? 'asc' : null })}
          />
        </div>
      </div>
      {!isQueryWrong && <FourCharts charts={charts.value} error={charts.error} again={charts.again} query={query} />}
      {!isQueryWrong && <Problem text={found.error} again={found.again} />}
      {found.value === undefined && found.isLoading && <Loading what="events" />}
      {found.value !== undefined && !isQueryWrong && (
        <Found key={JSON.stringify(found.value.asked)} {...found.value} isLoading={found.isLoading} />
      )}
    </>
  );
}

/** The value made when `key` was first this. */
function useFixed<T>(key: string, make: () => T): T {
  const fixed = useRef<{ readonly key: string; readonly value: T }>(undefined);
  if (fixed.current?.key !== key) fixed.current = { key, value: make() };
  return fixed.current.value;
}

// ---- the query line ----

function isAboutQuery(error: string): boolean {
  return /^(?:q\b|query)/i.test(error);
}

function QueryLine({ query, error, onSame }: { query: string; error: string | undefined; onSame: () => void }) {
  const id = useId();
  const [typed, setTyped] = useState(query);
  useEffect(() => setTyped(query), [query]);
  const submit = (event: Event) => {
    event.preventDefault();
    if (typed.trim() === query) onSame();
    else address.set({ q: typed.trim(), event: null });
  };
  const column = Number(/\bcolumn (\d+)/.exec(error ?? '')?.[1] ?? Number.NaN);
  const described = error === undefined ? `${id}help` : `${id}error ${id}help`;
  return (
    <form class="query" aria-label="Search events" onSubmit={submit}>
      <label for={id}>Query</label>
      <div class="query-row">
        <input
          id={id}
          type="text"
          spellcheck={false}
          autoComplete="off"
          autoCapitalize="off"
          placeholder='level: "error" and call.attempt >= 3'
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
          aria-invalid={error !== undefined}
          aria-describedby={described}
        />
        <button type="submit" class="primary">
          Search
        </button>
      </div>
      {error !== undefined && (
        <div id={`${id}error`} class="field-problem" role="alert">
          {column > 0 && (
            // The place is in the words as well.
            <pre aria-hidden="true">{`${query}\n${' '.repeat(Math.min(column, query.length + 1) - 1)}^`}</pre>
          )}
          <p>{sentence(error.replace(/^q: /, ''))}</p>
        </div>
      )}
      <p id={`${id}help`} class="dim query-help">
        As in Kibana, of which this is a part: <code>field: value</code>, <code>"exact text"</code>, <code>*</code>,{' '}
        <code>and</code>, <code>or</code>, <code>not</code>, <code>( )</code>, <code>&lt; &lt;= &gt; &gt;=</code>
      </p>
    </form>
  );
}

// ---- what was found ----

interface Answered {
  readonly asked: Params;
  readonly first: SearchAnswer;
}

interface More {
  readonly lines: readonly LogLine[];
  readonly after: string | null;
  readonly error: string | undefined;
  readonly isLoading: boolean;
}

function Found({ first, asked, isLoading }: Answered & { isLoading: boolean }) {
  const [more, setMore] = useState<More>({ lines: [], after: first.after, error: undefined, isLoading: false });
  const isGone = useRef(new AbortController());
  useEffect(() => () => isGone.current.abort(), []);
  // The same was asked again.
  const base = useRef(first);
  if (base.current !== first) {
    base.current = first;
    setMore({ lines: [], after: first.after, error: undefined, isLoading: false });
  }
  const lines = unique([...first.lines, ...more.lines]);
  const { total, exact, note, source } = first;
  const isAscending = asked.order === 'asc';

  const load = async () => {
    const { signal } = isGone.current;
    const { after } = more;
    setMore((before) => ({ ...before, isLoading: true, error: undefined }));
    try {
      const next = await get<SearchAnswer>('search', { ...asked, after }, signal);
      setMore((before) => ({
        lines: [...before.lines, ...next.lines],
        after: next.after,
        error: undefined,
        isLoading: false,
      }));
    } catch (error) {
      if (signal.aborted) return;
      setMore((before) => ({
        ...before,
        isLoading: false,
        error: error instanceof Error ? error.message : String(error),
      }));
    }
  };

  return (
    <div class={isLoading ? 'found is-old' : 'found'} aria-busy={isLoading}>
      <p class="found-total" role="status">
        <strong>
          {exact ? '' : 'At least '}
          {plural(total, 'event')}
        </strong>{' '}
        <span class="dim">
          from {fullTime(Date.parse(String(asked.from))).slice(0, 19)} to{' '}
          {fullTime(Date.parse(String(asked.to))).slice(0, 19)}
          {source === 'files' ? ', out of the files of the last day: there is no Elasticsearch here' : ''}
        </span>
      </p>
      {note !== null && <p class="notice warn">{sentence(note)}</p>}
      {lines.length === 0 ? (
        <Empty title="No events">None match in this stretch of time. A longer one, or fewer filters, find more.</Empty>
      ) : (
        <LogLines lines={lines} label="Events found" />
      )}
      <Problem text={more.error} again={load} />
      {more.after !== null && lines.length < MOST && more.error === undefined && (
        <button type="button" onClick={load} disabled={more.isLoading}>
          {more.isLoading ? 'Loading …' : isAscending ? 'Show later events' : 'Show older events'}
        </button>
      )}
      {more.after !== null && lines.length >= MOST && (
        <p class="dim">These are the first {count(MOST)}. A narrower range or query shows the others.</p>
      )}
    </div>
  );
}

function unique(lines: readonly LogLine[]): LogLine[] {
  return [...new Map(lines.map((line) => [eventName(line), line])).values()];
}

// ---- the four charts ----

interface ChartsProps {
  charts: Charts | undefined;
  error: string | undefined;
  again: () => void;
  query: string;
}

function FourCharts({ charts, error, again, query }: ChartsProps) {
  // On a phone the events are further up without them.
  const [isOpen] = useState(() => matchMedia('(min-width: 700px)').matches);
  return (
    <details class="charts" open={isOpen}>
      <summary>Charts</summary>
      <Problem text={error} again={again} />
      {charts === undefined ? (
        error === undefined && <Loading what="charts" />
      ) : (
        <>
          {charts.note !== null && <p class="notice warn">{sentence(charts.note)}</p>}
          <div class="chart-grid">
            <ErrorRate charts={charts} />
            <Bars title="Top errors" buckets={charts.topErrors} query={query} none="No errors in this time." />
            <Bars title="Call status" buckets={charts.callStatus} query={query} none="No calls ended in this time." />
            <Bars
              title="Response times"
              buckets={charts.responseTimes}
              query={query}
              none="No requests in this time."
            />
          </div>
        </>
      )}
    </details>
  );
}

function ErrorRate({ charts: { errorRate, from, step } }: { charts: Charts }) {
  const total = errorRate.reduce((sum, one) => sum + one.total, 0);
  const errors = errorRate.reduce((sum, one) => sum + one.errors, 0);
  const worst = errorRate.reduce((most, one) => ((one.rate ?? 0) > (most?.rate ?? 0) ? one : most), errorRate[0]);
  const fromMs = Date.parse(from);
  const stepMs = step * 1_000;
  const series = useMemo(
    () => [{ label: 'Error rate', points: errorRate.map(({ rate }) => rate), tone: 'bad' as const }],
    [errorRate],
  );
  return (
    <div class="chart-wide">
      <Chart
        title="Error rate"
        fromMs={fromMs}
        toMs={fromMs + errorRate.length * stepMs}
        stepMs={stepMs}
        series={series}
        format={percent}
        height={150}
        level={2}
        onRange={(from, to) => address.set({ range: null, ...timesOf(from, to), event: null })}
        rangeAction="Show the logs of"
        aside={
          <span class="dim">
            {plural(errors, 'error')} in {plural(total, 'event')}
            {worst !== undefined && worst.errors > 0 && (
              <>
                {', '}
                <Link to="logs" params={errorsOf(Date.parse(worst.at), stepMs)}>
                  errors of the worst moment ({percent(worst.rate)})
                </Link>
              </>
            )}
          </span>
        }
      />
    </div>
  );
}

function errorsOf(atMs: number, stepMs: number): Params {
  const q = both(address.text('q'), 'tags: "error"');
  return here({ range: null, ...timesOf(atMs, atMs + stepMs), q, event: null });
}

interface BarsProps {
  title: string;
  buckets: readonly Bucket[];
  query: string;
  none: string;
}

/** A list of links whose length is drawn behind them. */
function Bars({ title, buckets, query, none }: BarsProps) {
  const id = useId();
  const longest = Math.max(1, ...buckets.map((bucket) => bucket.count));
  return (
    <section class="chart-card" aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {buckets.length === 0 ? (
        <p class="dim">{none}</p>
      ) : (
        <ul class="bars">
          {buckets.map((bucket) => (
            <li key={bucket.label}>
              <Link to="logs" params={here({ q: both(query, bucket.query), event: null })}>
                <span class="bar" style={{ width: `${(100 * bucket.count) / longest}%` }} aria-hidden="true" />
                <span class="bar-label">{bucket.label}</span>
                <span class="bar-count">{count(bucket.count)}</span>
              </Link>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
