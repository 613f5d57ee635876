// Alerts: incidents by state, one of them in full, what is about to fire, and the silences. In: the address, which has the state and the
// incident; GET /api/v1/alerts and /silences. Out: lists that follow the pipeline. Guarantee: asked again when something has changed, and now and
// then where nobody says so.
import { useEffect, useRef } from 'preact/hooks';
import { hrefOf } from '../address.ts';
import { address, alertsRevision, del, get, mayAct, nowMs, tick, useAnswer } from '../app.ts';
import { plural } from '../format.ts';
import {
  type AlertView,
  type IncidentList,
  type IncidentView,
  STATE_WORDS,
  toneOfPriority,
  useIncidents,
} from '../incidents.ts';
import { Badge, Empty, Link, Loading, Problem, Section, Time } from '../parts.tsx';
import { type CommandAnswer, NameField, OutcomeLine, useActing } from './acting.tsx';
import {
  type AlertsState,
  incidentParams,
  labelsText,
  onCallText,
  type SilencesAnswer,
  type SilenceView,
  STATES,
  silencedText,
  titleOf,
} from './alert-data.ts';
import { IncidentPanel } from './incident-panel.tsx';

const NAMES: Readonly<Record<AlertsState, string>> = {
  open: 'Open',
  firing: 'Firing',
  acknowledged: 'Acknowledged',
  quiet: 'Quiet',
  resolved: 'Resolved',
  all: 'All',
};

const UNTOLD_MS = 15_000;

export function Alerts() {
  const asked = address.text('state');
  const state = STATES.find((one) => one === asked) ?? 'open';
  const open = address.text('incident');
  const revision = alertsRevision.value;
  const alerts = useIncidents(state);
  const silences = useAnswer(revision, (signal) => get<SilencesAnswer>('silences', {}, signal));
  const changed = () => {
    alerts.again();
    silences.again();
  };
  // Where alerts are evaluated by another process, no tick says that something has changed.
  const isUntold = tick.value !== null && tick.value.alerts === null;
  const newest = useRef(changed);
  newest.current = changed;
  useEffect(() => {
    if (!isUntold) return;
    const timer = setInterval(() => newest.current(), UNTOLD_MS);
    return () => clearInterval(timer);
  }, [isUntold]);
  const last = useRef(open);
  if (open !== '') last.current = open;
  // Whoever closes the incident goes on where it stands in the list.
  const close = () => {
    address.set({ incident: null });
    requestAnimationFrame(() => document.getElementById(`incident-${last.current}`)?.focus());
  };
  const { value } = alerts;
  return (
    <div class="alerts">
      <div class="view-head">
        <h1>Alerts</h1>
        <NameField />
      </div>
      <nav aria-label="State of the incidents" class="tabs">
        <ul>
          {STATES.map((one) => (
            <li key={one}>
              <Link to="alerts" params={incidentParams(null, one)} current={one === state}>
                {NAMES[one]}
              </Link>
            </li>
          ))}
        </ul>
      </nav>
      <div class={open === '' ? 'with-panel' : 'with-panel is-open replaces'}>
        <div class="beside-panel">
          <Problem text={alerts.error} again={alerts.again} />
          {value === undefined && alerts.isLoading && <Loading what="alerts" />}
          {value !== undefined && <Incidents answer={value} state={state} open={open} />}
          {value !== undefined && ['open', 'firing', 'all'].includes(state) && <Pending alerts={value.pending} />}
          <Silences
            silences={silences.value?.silences}
            error={silences.error}
            again={silences.again}
            onChanged={changed}
          />
        </div>
        {open !== '' && <IncidentPanel id={open} onClose={close} onChanged={changed} />}
      </div>
    </div>
  );
}

function Incidents({
  answer: { incidents, more },
  state,
  open,
}: {
  answer: IncidentList;
  state: AlertsState;
  open: string;
}) {
  if (incidents.length === 0) {
    return state === 'open' ? (
      <Empty title="Nothing is wrong">No incident is open.</Empty>
    ) : (
      <Empty title="None">No incident is in this state. “All” has those of the last 30 days.</Empty>
    );
  }
  return (
    <>
      <ul class="incidents" aria-label="Incidents">
        {incidents.map((incident) => (
          <Incident key={incident.id} incident={incident} state={state} isOpen={incident.id === open} />
        ))}
      </ul>
      {more > 0 && <p class="dim">{plural(more, 'older one')} left out.</p>}
    </>
  );
}

function Incident({ incident, state, isOpen }: { incident: IncidentView; state: AlertsState; isOpen: boolean }) {
  const { id, priority, state: own, opened, resolved, alerts, acknowledged } = incident;
  const [stateText, stateTone] = STATE_WORDS[own];
  const onCall = onCallText(incident.onCall);
  const follow = (event: MouseEvent) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    address.open('alerts', incidentParams(id, state));
  };
  const labels = [...new Set(alerts.map((alert) => labelsText(alert.labels)).filter((text) => text !== ''))];
  return (
    <li class={`incident ${own}`}>
      <a
        id={`incident-${id}`}
        href={hrefOf('alerts', incidentParams(id, state))}
        onClick={follow}
        aria-current={isOpen ? 'true' : undefined}
      >
        <span class="badges">
          <Badge tone={toneOfPriority(priority)}>{priority ?? '–'}</Badge>
          <Badge tone={stateTone}>{stateText}</Badge>
        </span>
        <span class="incident-title">{titleOf(incident)}</span>
        <span class="dim">
          {resolved === null ? (
            <>
              since <Time at={opened} />
            </>
          ) : (
            <>
              resolved <Time at={resolved} />
            </>
          )}
          {alerts.length > 1 && `, ${plural(alerts.length, 'alert')}`}
          {acknowledged !== null && (
            <>
              , <bdi>{acknowledged.by}</bdi> has it
            </>
          )}
          {acknowledged === null && own === 'firing' && onCall !== null && (
            <>
              , on call: <bdi>{onCall}</bdi>
            </>
          )}
        </span>
        {labels.length > 0 && <bdi class="dim incident-labels">{labels.slice(0, 3).join(' · ')}</bdi>}
      </a>
    </li>
  );
}

function Pending({ alerts }: { alerts: readonly AlertView[] }) {
  if (alerts.length === 0) return null;
  return (
    <Section title="About to fire">
      <ul class="plain-list">
        {alerts.map((alert) => (
          <li key={alert.key}>
            <Badge tone={toneOfPriority(alert.priority)}>{alert.priority}</Badge> <bdi>{alert.title}</bdi>{' '}
            <span class="dim">
              <bdi>{labelsText(alert.labels)}</bdi> true since <Time at={alert.since} />
            </span>
          </li>
        ))}
      </ul>
    </Section>
  );
}

// ---- silences ----

interface SilencesProps {
  silences: readonly SilenceView[] | undefined;
  error: string | undefined;
  again: () => void;
  onChanged: () => void;
}

function Silences({ silences, error, again, onChanged }: SilencesProps) {
  const acting = useActing('silences');
  const end = async (id: string) => {
    await acting.give(() => del<CommandAnswer>(`silences/${encodeURIComponent(id)}`), {
      done: 'The silence has ended',
      already: 'It had ended already',
    });
    onChanged();
  };
  return (
    <Section title="Silences">
      <Problem text={error} again={again} />
      {silences === undefined && error === undefined && <Loading what="silences" />}
      {silences?.length === 0 && <p class="dim">None is set. An incident has a button to set one.</p>}
      {silences !== undefined && silences.length > 0 && (
        <ul class="plain-list">
          {silences.map((silence) => (
            <li key={silence.id} class="silence">
              <div>
                <p>
                  <strong>{silencedText(silence)}</strong>
                </p>
                <p class="dim">
                  {silence.from !== null && Date.parse(silence.from) > nowMs.value && (
                    <>
                      begins <Time at={silence.from} />,{' '}
                    </>
                  )}
                  ends <Time at={silence.until} />; <bdi>{silence.by}</bdi>: <bdi>{silence.reason}</bdi>
                </p>
              </div>
              {mayAct.value && (
                <button type="button" disabled={acting.isBusy} onClick={() => end(silence.id)}>
                  End<span class="unseen"> the silence of {silencedText(silence)}</span>
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      <OutcomeLine outcome={acting.outcome} />
    </Section>
  );
}
