// The flow as a picture. In: the last tick. Out: each stage's rate, what waits there, its last error, and the arrows between them; and what the
// pipeline depends on. Guarantee: a screen reader reads the stages in the order that data takes, and where each takes its data from.
import type { Flow, Stage, StageId } from '../../ops/page-data.ts';
import { tick } from '../app.ts';
import { count } from '../format.ts';
import { Badge, Empty, Loading, Section, sentence, Table, Time, type Tone } from '../parts.tsx';

const STATES: Readonly<Record<Stage['state'], readonly [text: string, tone: Tone]>> = {
  good: ['Running', 'good'],
  waiting: ['Waiting', 'warn'],
  failing: ['Failing', 'bad'],
  elsewhere: ['Runs elsewhere', 'quiet'],
};

/** Which stage gives a stage its data, and under what name. */
const COMES_FROM: Readonly<Partial<Record<StageId, readonly [from: StageId, what: string]>>> = {
  parse: ['source', 'records'],
  index: ['parse', 'documents'],
  deadLetters: ['index', 'refused'],
  count: ['parse', 'events'],
  rules: ['count', 'counts'],
  messages: ['rules', 'alerts'],
};

export function Pipeline() {
  const now = tick.value;
  return (
    <>
      <div class="view-head">
        <h1>Pipeline</h1>
        {now !== null && (
          <Badge tone={now.ready ? 'good' : 'bad'}>{now.ready ? 'Ready' : 'Not ready: see the dependencies'}</Badge>
        )}
      </div>
      {now === null ? <Loading what="the flow" /> : <Picture {...now.flow} />}
      {now !== null && <Dependencies {...now.flow} />}
    </>
  );
}

function Picture({ stages }: Flow) {
  const labels = new Map(stages.map(({ id, label }) => [id, label]));
  return (
    <Section title="From a line of a log to a message">
      <ol class="flow">
        {stages.map((stage, i) => {
          const [from, what] = COMES_FROM[stage.id] ?? [];
          const isNext = stages[i - 1]?.id === from;
          const giver = from === undefined ? undefined : labels.get(from);
          return (
            <li key={stage.id} data-stage={stage.id} data-state={stage.state} class={STATES[stage.state][1]}>
              {giver !== undefined && (
                <p class="flow-arrow">
                  {what}
                  <span class={isNext ? 'unseen' : undefined}> from {giver}</span>
                </p>
              )}
              <StageBox {...stage} />
            </li>
          );
        })}
      </ol>
    </Section>
  );
}

function StageBox({ label, perSecond, backlog, state, trouble, lastError }: Stage) {
  const [words, tone] = STATES[state];
  return (
    <div class="stage">
      <div class="stage-head">
        <h3>{label}</h3>
        <Badge tone={tone}>{words}</Badge>
      </div>
      <p class="stage-rate">
        {perSecond === null ? (
          <span class="dim">{state === 'elsewhere' ? 'Not known here' : 'Rate not known'}</span>
        ) : (
          <>
            <strong>{count(perSecond)}</strong> per second
          </>
        )}
      </p>
      {backlog !== null && <p>Waiting: {backlog}</p>}
      {trouble !== null && <p class="stage-trouble">{sentence(trouble)}</p>}
      {lastError !== null && (
        <p class="stage-error">
          <span class="dim">
            Last error, <Time at={lastError.at} />:
          </span>{' '}
          <span class="mono">{lastError.text}</span>
        </p>
      )}
    </div>
  );
}

function Dependencies({ dependencies }: Flow) {
  return (
    <Section title="What it depends on">
      {dependencies.length === 0 ? (
        <Empty title="Nothing: this process needs no other server" />
      ) : (
        <Table
          caption="What the pipeline depends on, and whether it is ready"
          rows={dependencies}
          keyOf={({ name }) => name}
          columns={[
            { title: 'Name', isHeading: true, cell: ({ name }) => name },
            {
              title: 'State',
              cell: ({ ready }) => <Badge tone={ready ? 'good' : 'bad'}>{ready ? 'Ready' : 'Not ready'}</Badge>,
            },
            { title: 'Detail', cell: ({ detail }) => detail },
          ]}
        />
      )}
    </Section>
  );
}
