// Alerts of a stretch of time as bars, a row for each rule, and the same as a table. In: alerts and a range. Out: a picture for eyes, a table
// for all. Guarantee: whatever the picture shows stands in the table.
import { useId } from 'preact/hooks';
import { clockTime, duration, fullTime } from '../format.ts';
import { toneOfPriority } from '../incidents.ts';
import { Badge, Table } from '../parts.tsx';
import { labelsText } from './alert-data.ts';
import type { TimelineAlert } from './job-data.ts';
import { type Span, timelineRows, timeMarks } from './timeline-layout.ts';

interface AlertSpan extends Span {
  readonly alert: TimelineAlert;
}

const LANE_PX = 14;
const MOST_ROWS = 20;
const MOST_IN_TABLE = 100;

export function Timeline({
  alerts,
  from,
  to,
  title,
}: {
  alerts: readonly TimelineAlert[];
  from: string;
  to: string;
  title: string;
}) {
  const id = useId();
  const range = { fromMs: Date.parse(from), toMs: Date.parse(to) };
  const spans = alerts.map((alert): AlertSpan => {
    const { rule, fired, resolved } = alert;
    return { row: rule, fromMs: Date.parse(fired), toMs: resolved === undefined ? null : Date.parse(resolved), alert };
  });
  const rows = timelineRows(spans, range);
  const offsetMs = -new Date(range.fromMs).getTimezoneOffset() * 60_000;
  const marks = timeMarks(range, 4, offsetMs);
  if (alerts.length === 0) return null;
  return (
    <figure class="timeline" aria-labelledby={id}>
      <figcaption id={id}>{title}</figcaption>
      <div class="timeline-picture" aria-hidden="true">
        {rows.slice(0, MOST_ROWS).map(({ name, lanes, bars }) => (
          <div class="timeline-row" key={name}>
            <span class="timeline-name">{name}</span>
            <svg width="100%" height={lanes * LANE_PX} aria-hidden="true">
              {bars.map(({ span: { alert }, left, width, lane }) => (
                <rect
                  key={`${alert.fired} ${lane}`}
                  class={`bar-${alert.muted ? 'muted' : toneOfPriority(alert.priority)}`}
                  x={`${left * 100}%`}
                  width={`${width * 100}%`}
                  y={lane * LANE_PX + 2}
                  height={LANE_PX - 4}
                  rx="2"
                >
                  <title>{spanText(alert)}</title>
                </rect>
              ))}
            </svg>
          </div>
        ))}
        <div class="timeline-row">
          <span />
          <svg width="100%" height="18" aria-hidden="true">
            {marks.map(({ atMs, place }) => (
              <text
                key={atMs}
                x={`${place * 100}%`}
                y="13"
                text-anchor={place < 0.08 ? 'start' : place > 0.92 ? 'end' : 'middle'}
              >
                {clockTime(atMs, range.toMs)}
              </text>
            ))}
          </svg>
        </div>
      </div>
      {rows.length > MOST_ROWS && <p class="dim">And {rows.length - MOST_ROWS} more rules.</p>}
      <details>
        <summary>
          As a table<span class="unseen">: {title}</span>
        </summary>
        <Table
          caption={title}
          rows={alerts.slice(0, MOST_IN_TABLE)}
          keyOf={({ rule, fired, labels }) => `${rule} ${fired} ${labelsText(labels)}`}
          columns={[
            { title: 'Alert', isHeading: true, cell: (alert) => <Named alert={alert} /> },
            { title: 'Fired', cell: ({ fired }) => fullTime(Date.parse(fired)).slice(0, 19) },
            { title: 'Lasted', cell: lasted },
          ]}
        />
        {alerts.length > MOST_IN_TABLE && <p class="dim">These are the first {MOST_IN_TABLE}.</p>}
      </details>
    </figure>
  );
}

function Named({ alert: { priority, title, labels, muted } }: { alert: TimelineAlert }) {
  return (
    <>
      <Badge tone={toneOfPriority(priority)}>{priority}</Badge> <bdi>{title}</bdi>{' '}
      <bdi class="dim">{labelsText(labels)}</bdi>
      {muted && <span class="dim"> (muted by another alert)</span>}
    </>
  );
}

function lasted({ fired, resolved }: TimelineAlert): string {
  return resolved === undefined ? 'it still fires at the end' : duration(Date.parse(resolved) - Date.parse(fired));
}

function spanText(alert: TimelineAlert): string {
  return `${alert.title} ${labelsText(alert.labels)}: ${fullTime(Date.parse(alert.fired)).slice(0, 19)}, ${lasted(alert)}`;
}
