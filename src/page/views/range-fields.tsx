// From when to when: fields for a range of time. In: `range=1h`, or `from` and `to`, of the address. Out: changes of these. Guarantee: times
// are shown and typed by the reader's own clock, and stand in the address as ISO 8601; a range that ends before it begins is said, and not
// taken.
import { useId, useState } from 'preact/hooks';
import { type Range, rangeOf } from '../address.ts';
import { address, tick } from '../app.ts';

const RANGES = [
  ['15m', 'Last 15 minutes'],
  ['1h', 'Last hour'],
  ['6h', 'Last 6 hours'],
  ['1d', 'Last day'],
  ['7d', 'Last 7 days'],
] as const;
const CUSTOM = 'custom';

/** By the clock of the pipeline, where it has been heard: the reader's may be wrong. */
export function pipelineNow(): number {
  const at = tick.peek()?.at;
  return at === undefined ? Date.now() : Date.parse(at);
}

/** @param fallback what an address means that says nothing, like "1h" */
export function RangeFields({ fallback }: { fallback: string }) {
  const id = useId();
  const params = address.params.value;
  const range = rangeOf(params, fallback, pipelineNow());
  const given = params.get('range') ?? (params.has('from') ? CUSTOM : fallback);
  const chosen = params.has('from') ? CUSTOM : RANGES.some(([value]) => value === given) ? given : CUSTOM;
  const [draft, setDraft] = useState<{ readonly of: string; readonly from: string; readonly to: string }>();
  const of = `${params.get('from')} ${params.get('to')}`;
  const shown = draft?.of === of ? draft : { of, from: localText(range.fromMs), to: localText(range.toMs) };
  const trouble = draft?.of === of ? troubleOf(draft) : null;

  const choose = (value: string) => {
    if (value === CUSTOM) setTimes(range);
    else address.set({ range: value, from: null, to: null });
  };
  const change = (changed: { from?: string; to?: string }) => {
    const next = { ...shown, ...changed };
    setDraft(next);
    if (troubleOf(next) !== null) return;
    setTimes({ fromMs: Date.parse(next.from), toMs: Date.parse(next.to) });
  };

  return (
    <>
      <div class="field">
        <label for={`${id}range`}>Time</label>
        <select id={`${id}range`} value={chosen} onChange={(event) => choose(event.currentTarget.value)}>
          {RANGES.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
          <option value={CUSTOM}>From … to …</option>
        </select>
      </div>
      {chosen === CUSTOM && (
        <>
          {(['from', 'to'] as const).map((name) => (
            <div class="field" key={name}>
              <label for={id + name}>{name === 'from' ? 'From' : 'To'}</label>
              <input
                id={id + name}
                type="datetime-local"
                step="1"
                value={shown[name]}
                onChange={(event) => change({ [name]: event.currentTarget.value })}
                aria-invalid={trouble !== null}
                aria-describedby={trouble === null ? undefined : `${id}trouble`}
              />
            </div>
          ))}
          {trouble !== null && (
            <p id={`${id}trouble`} class="field-problem" role="alert">
              {trouble}
            </p>
          )}
        </>
      )}
    </>
  );
}

export function setTimes({ fromMs, toMs }: Pick<Range, 'fromMs' | 'toMs'>): void {
  address.set({ range: null, ...timesOf(fromMs, toMs) });
}

/** Parameters of an address. */
export function timesOf(fromMs: number, toMs: number): { readonly from: string; readonly to: string } {
  return { from: new Date(fromMs).toISOString(), to: new Date(toMs).toISOString() };
}

function troubleOf({ from, to }: { readonly from: string; readonly to: string }): string | null {
  if (Number.isNaN(Date.parse(from)) || Number.isNaN(Date.parse(to))) return 'Give both times, each with day and time.';
  return Date.parse(from) < Date.parse(to) ? null : 'The range ends before it begins: “From” has to be before “To”.';
}

/** As an input of type datetime-local takes it. */
function localText(atMs: number): string {
  return new Date(atMs - new Date(atMs).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
