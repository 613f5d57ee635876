// Setting a silence. In: the alerts of an incident. Out: a silence, after what it would mute was shown. Guarantee: it is set only as it was
// shown; leaving changes nothing.
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { post, useAnswer } from '../app.ts';
import { plural } from '../format.ts';
import { type IncidentView, toneOfPriority } from '../incidents.ts';
import { Badge, Problem, Time } from '../parts.tsx';
import { byWhom, type CommandAnswer, OutcomeLine, useActing } from './acting.tsx';
import { labelsText, type PreviewAnswer } from './alert-data.ts';

const DURATIONS = [
  ['30m', '30 minutes'],
  ['1h', '1 hour'],
  ['2h', '2 hours'],
  ['8h', '8 hours'],
  ['1d', '1 day'],
  ['7d', '7 days'],
] as const;

interface What {
  readonly text: string;
  readonly body: {
    readonly rule?: string;
    readonly group?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
}

const MOST_ALERTS = 8;
const SHOWN = 10;

export function SilenceDialog({
  incident,
  rules,
  onClose,
}: {
  incident: IncidentView;
  /** Of an incident whose alerts have ended. */
  rules: readonly string[];
  /** True: one was set. */
  onClose: (isSet: boolean) => void;
}) {
  const id = useId();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const choices = choicesOf(incident, rules);
  const [chosen, choose] = useState(0);
  const [lasts, setLasts] = useState('2h');
  const [reason, setReason] = useState('');
  const acting = useActing(incident.id);
  const isSet = useRef(false);

  const asked = { ...choices[chosen]?.body, for: lasts };
  // The reason does not change what is muted, and may not be written yet.
  const preview = useAnswer(JSON.stringify(asked), (signal) =>
    post<PreviewAnswer>('silences', { ...asked, reason: 'preview' }, { preview: 'true' }, signal),
  );
  const isShown = preview.value !== undefined && !preview.isLoading && preview.error === undefined;

  const submit = async (event: Event) => {
    event.preventDefault();
    if (!isShown) return;
    const body = { ...asked, reason: reason.trim(), ...byWhom() };
    const done = await acting.give(() => post<CommandAnswer>('silences', body), {
      done: 'The silence is set',
      already: 'It was set already',
    });
    if (!done) return;
    isSet.current = true;
    dialog.current?.close();
  };

  return (
    <dialog ref={dialog} class="dialog" aria-labelledby={`${id}title`} onClose={() => onClose(isSet.current)}>
      <form onSubmit={submit}>
        <h2 id={`${id}title`}>Set a silence</h2>
        <p class="dim">
          Nobody is told of what matches until it ends. The alerts themselves go on, and are shown here.
        </p>
        <fieldset class="choices">
          <legend>What</legend>
          {choices.map(({ text }, i) => (
            <label key={text} for={`${id}what${i}`}>
              <input
                id={`${id}what${i}`}
                type="radio"
                name={`${id}what`}
                checked={i === chosen}
                onChange={() => choose(i)}
              />
              <span>{text}</span>
            </label>
          ))}
        </fieldset>
        <div class="field">
          <label for={`${id}for`}>For how long</label>
          <select id={`${id}for`} value={lasts} onChange={(event) => setLasts(event.currentTarget.value)}>
            {DURATIONS.map(([value, text]) => (
              <option key={value} value={value}>
                {text}
              </option>
            ))}
          </select>
        </div>
        <div class="field">
          <label for={`${id}reason`}>Reason</label>
          <input
            id={`${id}reason`}
            type="text"
            required
            maxLength={1_000}
            autoComplete="off"
            value={reason}
            onInput={(event) => setReason(event.currentTarget.value)}
          />
        </div>
        <section class="preview" aria-label="What it would mute" aria-live="polite" aria-busy={preview.isLoading}>
          <Problem text={preview.error} again={preview.again} />
          {preview.error === undefined && <Preview answer={preview.value} isLoading={preview.isLoading} />}
        </section>
        <OutcomeLine outcome={acting.outcome} />
        <div class="actions">
          <button type="submit" class="primary" disabled={!isShown || acting.isBusy}>
            {acting.isBusy ? 'Setting …' : 'Set the silence'}
          </button>
          <button type="button" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
        </div>
      </form>
    </dialog>
  );
}

/** The narrowest first. */
function choicesOf({ alerts, group }: IncidentView, rules: readonly string[]): What[] {
  const firing = alerts.slice(0, MOST_ALERTS);
  const labeled = firing.filter(({ labels }) => Object.keys(labels).length > 0);
  const all = [...new Set([...firing.map(({ rule }) => rule), ...rules])];
  return [
    ...labeled.map(({ rule, labels }) => ({ text: `${rule}, only ${labelsText(labels)}`, body: { rule, labels } })),
    ...all.map((rule) => ({ text: `${rule}, all of the rule`, body: { rule } })),
    { text: `Everything of the group ${group}`, body: { group } },
  ];
}

function Preview({ answer, isLoading }: { answer: PreviewAnswer | undefined; isLoading: boolean }) {
  if (answer === undefined || isLoading) return <p class="dim">Looking what it would mute …</p>;
  const { now, lastDay } = answer.preview;
  return (
    <>
      <p>
        It would mute <strong>{plural(now.length, 'alert')} now</strong>
        {lastDay.length === 0
          ? ', and would have muted none in the last day.'
          : `, and would have muted ${plural(lastDay.length, 'alert')} in the last day.`}
      </p>
      {now.length + lastDay.length > 0 && (
        <ul class="muted-list">
          {[...now, ...lastDay].slice(0, SHOWN).map((alert, i) => (
            <li key={i}>
              <Badge tone={toneOfPriority(alert.priority)}>{alert.priority}</Badge> <bdi>{alert.title}</bdi>{' '}
              <span class="dim">
                <bdi>{labelsText(alert.labels)}</bdi> <Time at={alert.since} />
              </span>
            </li>
          ))}
        </ul>
      )}
      {now.length + lastDay.length > SHOWN && <p class="dim">And {now.length + lastDay.length - SHOWN} more.</p>}
    </>
  );
}
