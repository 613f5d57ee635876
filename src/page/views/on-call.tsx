// Who is on call, and what they take over. In: GET /api/v1/oncall and the incidents. Out: each team's people now and next, and a summary for
// the hand-off that can be copied. Guarantee: a gap is said to be one; times are the reader's own.
import { useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { address, get, nowMs, useAnswer } from '../app.ts';
import { clockTime, duration, plural } from '../format.ts';
import { type IncidentList, type IncidentView, STATE_WORDS, toneOfPriority, useIncidents } from '../incidents.ts';
import { Badge, Choice, Empty, Link, Loading, Problem, Section, Table, Time } from '../parts.tsx';

interface Person {
  readonly id: string;
  readonly name: string;
}

interface Shift {
  readonly from: string;
  readonly until: string | null;
  readonly primary: Person | null;
  readonly secondary: Person | null;
  readonly by: 'rota' | 'override' | 'calendar';
}

interface TeamOnCall {
  readonly team: string;
  readonly name: string;
  readonly timeZone: string;
  readonly now: Shift | null;
  readonly next: readonly Shift[];
}

interface OnCallAnswer {
  readonly teams: readonly TeamOnCall[];
}

/** Where no routing.yml is in force, nothing is wrong. */
function noTeams(error: unknown): OnCallAnswer {
  if (error instanceof ApiError && error.status === 404) return { teams: [] };
  throw error;
}

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const ALL = 'all teams';

export function OnCall() {
  // Shifts change by the clock, so it is asked again every minute.
  const round = Math.floor(nowMs.value / MINUTE_MS);
  const { value, error, isLoading, again } = useAnswer(`oncall ${round}`, (signal) =>
    get<OnCallAnswer>('oncall', { next: '4' }, signal).catch(noTeams),
  );
  const incidents = useIncidents('all');
  const teams = value?.teams ?? [];
  const asked = address.text('team');
  const chosen = teams.find(({ team }) => team === asked)?.team ?? ALL;
  const mine = teams.filter(({ team }) => chosen === ALL || team === chosen);
  return (
    <>
      <div class="view-head">
        <h1>On call</h1>
        {teams.length > 1 && (
          <Choice
            label="Team"
            options={[[ALL, 'All teams'] as const, ...teams.map(({ team, name }) => [team, name] as const)]}
            value={chosen}
            onChoose={(team) => address.set({ team: team === ALL ? null : team })}
          />
        )}
      </div>
      <Problem text={error} again={again} />
      {value === undefined && isLoading && <Loading what="the rota" />}
      {value !== undefined && teams.length === 0 && (
        <Empty title="There are no teams yet">A routing.yml says who is on call; docs/on-call.md shows how.</Empty>
      )}
      <div class="teams">
        {mine.map((team) => (
          <TeamCard key={team.team} {...team} />
        ))}
      </div>
      <Problem text={incidents.error} again={incidents.again} />
      {incidents.value === undefined ? (
        incidents.isLoading && <Loading what="the incidents" />
      ) : (
        <HandOff list={incidents.value} team={chosen === ALL ? null : chosen} teams={mine} />
      )}
    </>
  );
}

// ---- people ----

function TeamCard({ name, timeZone, now, next }: TeamOnCall) {
  return (
    <Section title={name} aside={now !== null && <span class="dim">Rota in {timeZone}</span>}>
      {now === null ? (
        <Empty title="This team has no rota">Its messages go to the channels that its routes name.</Empty>
      ) : (
        <dl class="on-now">
          <div>
            <dt>On call now</dt>
            <dd class="on-name">{now.primary?.name ?? <Badge tone="bad">Nobody</Badge>}</dd>
          </div>
          <div>
            <dt>Second</dt>
            <dd>{now.secondary?.name ?? <span class="dim">Nobody</span>}</dd>
          </div>
          <div>
            <dt>Until</dt>
            <dd>
              {now.until === null ? 'Further notice' : <Until at={now.until} />}
              {now.by === 'override' && <> (override)</>}
            </dd>
          </div>
        </dl>
      )}
      {next.length > 0 && (
        <Table
          caption={`Next shifts of ${name}, in your own time`}
          showCaption
          rows={next}
          keyOf={({ from }) => from}
          columns={[
            { title: 'From', isHeading: true, cell: ({ from }) => <Until at={from} isShort /> },
            { title: 'On call', cell: ({ primary }) => primary?.name ?? <Badge tone="bad">Nobody</Badge> },
            { title: 'Second', cell: ({ secondary }) => secondary?.name ?? <span class="dim">Nobody</span> },
            {
              title: 'For',
              cell: ({ from, until }) =>
                until === null ? 'Further notice' : duration(Date.parse(until) - Date.parse(from)),
            },
          ]}
        />
      )}
    </Section>
  );
}

/** "Mon 30 Nov, 09:00", and how far away that is. */
function Until({ at, isShort = false }: { at: string; isShort?: boolean }) {
  const atMs = Date.parse(at);
  return (
    <>
      <time dateTime={at}>{clockTime(atMs, nowMs.value)}</time>
      {!isShort && (
        <span class="dim">
          {' '}
          (<Time at={at} />)
        </span>
      )}
    </>
  );
}

// ---- hand-off ----

function HandOff({ list, team, teams }: { list: IncidentList; team: string | null; teams: readonly TeamOnCall[] }) {
  const own = list.incidents.filter((incident) => team === null || incident.team === team);
  const open = own.filter(({ state }) => state !== 'resolved');
  const ended = own.filter(
    ({ state, resolved }) => state === 'resolved' && Date.parse(resolved ?? '') > nowMs.value - DAY_MS,
  );
  return (
    <Section title="Hand-off" aside={<Copy text={() => asText(open, ended, teams)} />}>
      <p>{summaryOf(open, ended)}</p>
      <h3>Open</h3>
      {open.length === 0 ? <p class="dim">Nothing is open.</p> : <Incidents list={open} caption="Open incidents" />}
      <h3>Ended in the last day</h3>
      {ended.length === 0 ? (
        <p class="dim">Nothing ended in the last day.</p>
      ) : (
        <Incidents list={ended} caption="Incidents that ended in the last day" />
      )}
      {list.more > 0 && <p class="dim">{plural(list.more, 'older incident')} not looked at.</p>}
    </Section>
  );
}

function Incidents({ list, caption }: { list: readonly IncidentView[]; caption: string }) {
  return (
    <Table
      caption={caption}
      rows={list}
      keyOf={({ id }) => id}
      columns={[
        {
          title: 'Incident',
          isHeading: true,
          cell: ({ id, priority, title }) => (
            <span class="open-title">
              <Badge tone={toneOfPriority(priority)}>{priority ?? 'P?'}</Badge>
              <Link to="alerts" params={{ incident: id }}>
                {title ?? id}
              </Link>
            </span>
          ),
        },
        {
          title: 'State',
          cell: ({ state, acknowledged }) => {
            const [text, tone] = STATE_WORDS[state];
            return (
              <>
                <Badge tone={tone}>{text}</Badge>
                {acknowledged !== null && ` ${state === 'resolved' ? 'taken ' : ''}by ${acknowledged.by}`}
              </>
            );
          },
        },
        { title: 'Began', cell: ({ opened }) => <Until at={opened} isShort /> },
        { title: 'Lasted', cell: (incident) => lengthOf(incident) },
      ]}
    />
  );
}

function Copy({ text }: { text: () => string }) {
  const [said, say] = useState<string>();
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      say('Copied');
    } catch {
      say('The browser does not permit copying');
    }
  };
  return (
    <span class="actions">
      <span role="status">{said}</span>
      <button type="button" onClick={copy}>
        Copy as text
      </button>
    </span>
  );
}

function lengthOf({ opened, resolved }: IncidentView): string {
  const endMs = resolved === null ? nowMs.value : Date.parse(resolved);
  return `${duration(endMs - Date.parse(opened))}${resolved === null ? ' so far' : ''}`;
}

function summaryOf(open: readonly IncidentView[], ended: readonly IncidentView[]): string {
  const free = open.filter(({ state }) => state === 'firing').length;
  const taken = open.length === 0 ? '' : free === 0 ? ', all of them in somebody’s hands' : `, ${free} that nobody has`;
  return `${plural(open.length, 'incident')} open${taken}; ${ended.length} ended in the last day.`;
}

function asText(open: readonly IncidentView[], ended: readonly IncidentView[], teams: readonly TeamOnCall[]): string {
  const line = (incident: IncidentView) => {
    const { priority, title, id, state, acknowledged, opened } = incident;
    const who = acknowledged === null ? '' : `, taken by ${acknowledged.by}`;
    return `- ${priority ?? ''} ${title ?? id} (${STATE_WORDS[state][0]}${who}), began ${opened}, ${lengthOf(incident)}`;
  };
  const person = ({ name, now }: TeamOnCall) => `- ${name}: ${now?.primary?.name ?? 'nobody'}`;
  return [
    `Hand-off of ${new Date(nowMs.peek()).toISOString()}`,
    summaryOf(open, ended),
    ...(teams.length === 0 ? [] : ['', 'On call:', ...teams.map(person)]),
    ...(open.length === 0 ? [] : ['', 'Open:', ...open.map(line)]),
    ...(ended.length === 0 ? [] : ['', 'Ended:', ...ended.map(line)]),
    '',
  ].join('\n');
}
