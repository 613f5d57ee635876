// One incident: why it is there, how its measure went, examples from the log, what was done, and what can be done. In: its id. Out: words,
// charts, links, and commands to the pipeline. Guarantee: what stands in an alert is text; a runbook is a link only where it leads to a page.
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { AlertChart, IncidentDetail, SearchAnswer } from '../../ops/page-data.ts';
import type { Params } from '../address.ts';
import { address, alertsRevision, get, mayAct, nowMs, post, useAnswer } from '../app.ts';
import { Chart } from '../chart.tsx';
import { clockTime, count, duration, plural } from '../format.ts';
import { type AlertView, type IncidentView, STATE_WORDS, toneOfPriority } from '../incidents.ts';
import { Badge, Link, Loading, Problem, Section, sentence, Time } from '../parts.tsx';
import { byWhom, type CommandAnswer, NeedsToken, OutcomeLine, useActing } from './acting.tsx';
import { labelsText, onCallText, titleOf } from './alert-data.ts';
import { LogLines } from './log-lines.tsx';
import { measureText } from './measure-text.ts';
import { runbookAddress } from './query-text.ts';
import { timesOf } from './range-fields.tsx';
import { SilenceDialog } from './silence-dialog.tsx';

const BEFORE_MS = 15 * 60_000;
const LONGEST_MS = 6 * 3_600_000;
const EXAMPLES = 5;

export function IncidentPanel({ id, onClose, onChanged }: { id: string; onClose: () => void; onChanged: () => void }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const { value, error, isLoading, again } = useAnswer(`${id} ${alertsRevision.value}`, (signal) =>
    get<IncidentDetail>(`incidents/${encodeURIComponent(id)}`, {}, signal),
  );
  const incident = value?.incident as unknown as IncidentView | undefined;
  const isThis = incident?.id === id;
  useEffect(() => heading.current?.focus(), [id]);
  const changed = () => {
    again();
    onChanged();
  };
  return (
    <aside class="panel" aria-label="Incident">
      <div class="panel-head">
        <h2 tabIndex={-1} ref={heading}>
          {isThis ? titleOf(incident) : 'Incident'}
        </h2>
        <button type="button" onClick={onClose}>
          Close
        </button>
      </div>
      <Problem text={error} again={again} />
      {!isThis && isLoading && <Loading what="the incident" />}
      {isThis && value !== undefined && (
        <>
          <Facts incident={incident} />
          <Actions incident={incident} detail={value} onChanged={changed} />
          <Why incident={incident} charts={value.charts} />
          <Charts charts={value.charts} query={value.query} />
          <Examples incident={incident} query={value.query} />
          <Section title="History">
            <ol class="history">
              {value.history.map(({ at, text }, i) => (
                <li key={i}>
                  <Time at={at} both />
                  <span>{text}</span>
                </li>
              ))}
            </ol>
            {value.note !== null && <p class="dim">{sentence(value.note)}</p>}
          </Section>
        </>
      )}
    </aside>
  );
}

function Facts({ incident }: { incident: IncidentView }) {
  const { state, priority, opened, resolved, group, team, acknowledged, quietUntil, reopened, answerBy } = incident;
  const onCall = onCallText(incident.onCall);
  const [stateText, stateTone] = STATE_WORDS[state];
  return (
    <>
      <p class="badges">
        <Badge tone={toneOfPriority(priority)}>{priority ?? 'no priority'}</Badge>
        <Badge tone={stateTone}>{stateText}</Badge>
      </p>
      {incident.message !== null && <p class="incident-message">{incident.message}</p>}
      <dl class="facts">
        <Fact name="Since">
          <Time at={opened} both />
        </Fact>
        {resolved !== null && (
          <Fact name="Resolved">
            <Time at={resolved} both />, after {duration(Date.parse(resolved) - Date.parse(opened))}
          </Fact>
        )}
        {acknowledged !== null && (
          <Fact name="Taken by">
            <bdi>{acknowledged.by}</bdi>, <Time at={acknowledged.at} />
          </Fact>
        )}
        {quietUntil !== null && (
          <Fact name="Quiet until">
            <Time at={quietUntil} both />
          </Fact>
        )}
        {onCall !== null && (
          <Fact name="On call">
            <bdi>{onCall}</bdi>
          </Fact>
        )}
        {answerBy !== null && state === 'firing' && (
          <Fact name="Answer expected">
            <Time at={answerBy} />
          </Fact>
        )}
        {reopened > 0 && <Fact name="Reopened">{reopened === 1 ? 'once' : `${count(reopened)} times`}</Fact>}
        <Fact name="Group">
          <bdi>{group}</bdi>
          {team !== null && (
            <>
              , team <bdi>{team}</bdi>
            </>
          )}
        </Fact>
      </dl>
    </>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

// ---- what can be done ----

function Actions({
  incident,
  detail,
  onChanged,
}: {
  incident: IncidentView;
  detail: IncidentDetail;
  onChanged: () => void;
}) {
  const { id, state, acknowledged } = incident;
  const acting = useActing(id);
  const [isSilencing, setSilencing] = useState(false);
  const opener = useRef<HTMLButtonElement>(null);
  const [isSet, setSet] = useState(false);
  useEffect(() => setSet(false), [id]);
  const isOver = state === 'resolved';

  const give = async (what: 'acknowledge' | 'resolve', words: { done: string; already: string }) => {
    setSet(false);
    await acting.give(() => post<CommandAnswer>(`incidents/${encodeURIComponent(id)}/${what}`, byWhom()), words);
    onChanged();
  };
  const closed = (wasSet: boolean) => {
    setSilencing(false);
    setSet(wasSet);
    if (wasSet) onChanged();
    opener.current?.focus();
  };

  if (!mayAct.value) return <NeedsToken what="acknowledge, resolve or silence" />;
  return (
    <div class="acting">
      <div class="actions">
        {!isOver && (
          <>
            <button
              type="button"
              class={acknowledged === null ? 'primary' : undefined}
              disabled={acting.isBusy || acknowledged !== null}
              onClick={() =>
                give('acknowledge', {
                  done: 'Acknowledged: it is yours',
                  already: 'Somebody had acknowledged it already',
                })
              }
            >
              {acknowledged === null ? 'Acknowledge' : 'Acknowledged'}
            </button>
            <button
              type="button"
              disabled={acting.isBusy}
              onClick={() => give('resolve', { done: 'Resolved', already: 'It was resolved already' })}
            >
              Resolve
            </button>
          </>
        )}
        <button type="button" ref={opener} aria-haspopup="dialog" onClick={() => setSilencing(true)}>
          Silence …
        </button>
      </div>
      <OutcomeLine outcome={isSet ? { tone: 'good', text: 'The silence is set' } : acting.outcome} />
      {isSilencing && (
        <SilenceDialog
          incident={incident}
          rules={[...new Set(detail.charts.map(({ rule }) => rule))]}
          onClose={closed}
        />
      )}
    </div>
  );
}

// ---- why ----

function Why({ incident: { alerts }, charts }: { incident: IncidentView; charts: readonly AlertChart[] }) {
  if (alerts.length === 0) return null;
  return (
    <Section title={alerts.length === 1 ? 'Why' : `Why: ${plural(alerts.length, 'alert')}`}>
      <ul class="why">
        {alerts.map((alert) => (
          <li key={alert.key}>
            <p class="why-title">
              <Badge tone={toneOfPriority(alert.priority)}>{alert.priority}</Badge>{' '}
              <strong>
                <bdi>{alert.title}</bdi>
              </strong>
            </p>
            <p>
              {whyText(
                alert,
                charts.find((chart) => chart.alert === alert.key),
              )}
            </p>
            {Object.keys(alert.labels).length > 0 && <p class="dim">{labelsText(alert.labels)}</p>}
            <p class="dim">
              Rule <bdi>{alert.rule}</bdi>, since <Time at={alert.since} />
              {alert.muted !== null && `; ${alert.muted === 'silenced' ? 'silenced' : 'muted by another alert'}`}
            </p>
            <Runbook text={alert.runbook ?? ''} />
          </li>
        ))}
      </ul>
    </Section>
  );
}

function whyText({ message, value, threshold }: AlertView, chart: AlertChart | undefined): string {
  if (value === null || threshold === null) return sentence(message);
  const unit = chart?.unit ?? 'count';
  // Without its measure the unit is not known, and the message has it.
  if (chart === undefined) return sentence(message);
  return `${sentence(message)} ${chart.measure} is ${measureText(value, unit)}; its threshold is ${chart.thresholdText ?? measureText(threshold, unit)}.`;
}

function Runbook({ text }: { text: string }) {
  if (text === '') return null;
  const to = runbookAddress(text);
  return (
    <p>
      Runbook:{' '}
      {to === null ? (
        <code>{text}</code>
      ) : (
        <a href={to} target="_blank" rel="noopener noreferrer">
          {text}
        </a>
      )}
    </p>
  );
}

// ---- the measure around the time ----

function Charts({ charts, query }: { charts: readonly AlertChart[]; query: string | null }) {
  return (
    <>
      {charts.map((chart) => (
        <MeasureChart key={chart.alert} chart={chart} query={query} />
      ))}
    </>
  );
}

function MeasureChart({ chart, query }: { chart: AlertChart; query: string | null }) {
  const { alert, rule, measure, unit, labels, step, points, threshold, thresholdText, firedAt, resolvedAt, note } =
    chart;
  const fromMs = Date.parse(chart.from);
  const toMs = fromMs + Math.max(1, points.length) * step * 1_000;
  const drawn = useMemo(
    () => ({
      series: [{ label: measure, points }],
      thresholds:
        threshold === null
          ? []
          : [
              {
                value: threshold,
                text: `threshold ${thresholdText ?? measureText(threshold, unit)}`,
                tone: 'bad' as const,
              },
            ],
      spans:
        firedAt === null
          ? []
          : [
              {
                key: alert,
                fromMs: Date.parse(firedAt),
                toMs: resolvedAt === null ? null : Date.parse(resolvedAt),
                text: `${rule} ${resolvedAt === null ? 'fires' : 'fired'}`,
                tone: 'bad' as const,
              },
            ],
    }),
    [alert, rule, measure, unit, points, threshold, thresholdText, firedAt, resolvedAt],
  );
  const name = Object.keys(labels).length === 0 ? measure : `${measure}, ${labelsText(labels)}`;
  const isKnown = points.some((point) => point !== null);
  return (
    <>
      {isKnown ? (
        <Chart
          title={name}
          fromMs={fromMs}
          toMs={toMs}
          stepMs={step * 1_000}
          {...drawn}
          format={(value) => measureText(value, unit)}
          height={160}
          onRange={(from, to) => address.open('logs', { mode: 'history', q: query, ...timesOf(from, to) })}
          rangeAction="Show the logs of"
        />
      ) : (
        <p class="notice">
          {name}: {sentence(note ?? 'nothing is known of this time')}
          {firedAt !== null && ` It fired ${clockTime(Date.parse(firedAt), nowMs.peek())}.`}
        </p>
      )}
      {isKnown && note !== null && <p class="dim">{sentence(note)}</p>}
    </>
  );
}

// ---- examples from the log ----

function Examples({ incident: { opened, resolved }, query }: { incident: IncidentView; query: string | null }) {
  const fromMs = Date.parse(opened) - BEFORE_MS;
  const endMs = resolved === null ? nowMs.peek() : Date.parse(resolved);
  // A minute is precise enough, and keeps the question the same while the page is open.
  const toMs = Math.min(fromMs + LONGEST_MS, Math.ceil((endMs + 60_000) / 60_000) * 60_000);
  const where: Params = { q: query, ...timesOf(fromMs, toMs) };
  const key = query === null ? null : JSON.stringify(where);
  const { value, error, isLoading, again } = useAnswer(key, (signal) =>
    get<SearchAnswer>('search', { ...where, size: String(EXAMPLES) }, signal),
  );
  if (query === null) return null;
  return (
    <Section
      title="Examples"
      aside={
        <Link to="logs" params={{ mode: 'history', ...where }}>
          {value === undefined
            ? 'All of them'
            : `All ${value.exact ? '' : 'of at least '}${plural(value.total, 'event')}`}
        </Link>
      }
    >
      <Problem text={error} again={again} />
      {value === undefined && isLoading && <Loading what="examples" />}
      {value !== undefined &&
        (value.lines.length === 0 ? (
          <p class="dim">None found around this time.</p>
        ) : (
          <LogLines
            lines={value.lines.slice(0, EXAMPLES)}
            label="Example events"
            paramsOf={(event) => ({ mode: 'history', ...where, event })}
          />
        ))}
    </Section>
  );
}
