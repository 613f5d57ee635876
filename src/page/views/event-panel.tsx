// One event, with all that is in it. In: its index and id. Out: its fields as a table, each with a way to the events that have the same, an
// address that leads here, and everything of its call, its request and its trace. Guarantee: what an event holds is shown as text.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { EventDetail } from '../../ops/page-data.ts';
import { hrefOf, type Params } from '../address.ts';
import { address, get, useAnswer } from '../app.ts';
import { Link, Loading, Problem, Time } from '../parts.tsx';
import { here } from './log-lines.tsx';
import { both, type FieldRow, fieldRows, term } from './query-text.ts';
import { timesOf } from './range-fields.tsx';

const DAY_MS = 86_400_000;
const AROUND_MS = 30 * 60_000;
const SAME = [
  ['callId', 'Everything of this call'],
  ['requestId', 'Everything of this request'],
  ['traceId', 'Everything of this trace'],
] as const;

/** @param name index and id, as they stand in the address */
export function EventPanel({ name, onClose }: { name: string; onClose: () => void }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const [index = '', ...rest] = name.split('/');
  const id = rest.join('/');
  const { value, error, isLoading, again } = useAnswer(name, (signal) =>
    get<EventDetail>(`events/${encodeURIComponent(index)}/${encodeURIComponent(id)}`, {}, signal),
  );
  // The answer before belongs to another event.
  const detail = value?.index === index && value.id === id ? value : undefined;
  useEffect(() => heading.current?.focus(), [name]);
  const close = (event: KeyboardEvent) => {
    if (event.key !== 'Escape') return;
    event.stopPropagation();
    onClose();
  };
  return (
    <aside class="panel" aria-label="Event" onKeyDown={close}>
      <div class="panel-head">
        <h2 tabIndex={-1} ref={heading}>
          Event
        </h2>
        <CopyLink params={{ mode: 'history', event: name }} />
        <button type="button" onClick={onClose}>
          Close
        </button>
      </div>
      <Problem text={error} again={again} />
      {detail === undefined && isLoading && <Loading what="the event" />}
      {detail !== undefined && <Fields detail={detail} />}
    </aside>
  );
}

function Fields({ detail: { document, index, id } }: { detail: EventDetail }) {
  const { rows, left } = fieldRows(document);
  const at = typeof document['@timestamp'] === 'string' ? document['@timestamp'] : undefined;
  const atMs = Date.parse(at ?? '');
  return (
    <>
      <p>{at === undefined ? 'Without a time' : <Time at={at} both />}</p>
      <ul class="links">
        {SAME.map(([field, text]) => {
          const query = term(field, document[field]);
          if (query === null) return null;
          const around = Number.isNaN(atMs) ? { range: '1d' } : timesOf(atMs - DAY_MS, atMs + DAY_MS);
          return (
            <li key={field}>
              <Link to="logs" params={{ mode: 'history', q: query, order: 'asc', ...around }}>
                {text}
              </Link>
            </li>
          );
        })}
      </ul>
      <table class="event-fields">
        <caption class="unseen">Fields of the event</caption>
        <thead class="unseen">
          <tr>
            <th scope="col">Field</th>
            <th scope="col">Value</th>
            <th scope="col">Others like it</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.name}>
              <th scope="row">{row.name}</th>
              <td class="value">{row.text}</td>
              <td class="filter">{row.query !== null && <FilterBy row={row} query={row.query} atMs={atMs} />}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {left > 0 && <p class="dim">{left} more fields are not shown.</p>}
      <p class="dim">
        <code>
          {index}/{id}
        </code>
      </p>
    </>
  );
}

/** In the range that is shown, or around the event where there is none. */
function FilterBy({ row, query, atMs }: { row: FieldRow; query: string; atMs: number }) {
  const isHistory = address.text('mode') === 'history';
  const written = address.params.value;
  const hasRange = isHistory && (written.has('range') || written.has('from'));
  const range: Params = hasRange || Number.isNaN(atMs) ? {} : timesOf(atMs - AROUND_MS, atMs + AROUND_MS);
  const before = isHistory ? address.text('q') : '';
  return (
    <Link to="logs" params={here({ mode: 'history', text: null, event: null, ...range, q: both(before, query) })}>
      Filter<span class="unseen"> by this {row.name}</span>
    </Link>
  );
}

/** Copies an address of this view. */
export function CopyLink({ params }: { params: Params }) {
  const [copied, setCopied] = useState<'yes' | 'by hand'>();
  const whole = new URL(hrefOf('logs', params), location.origin + location.pathname).href;
  useEffect(() => setCopied(undefined), [whole]);
  const copy = async () => {
    // Only a page from this machine or over TLS may write to the clipboard.
    const done = await navigator.clipboard?.writeText(whole).then(
      () => true,
      () => false,
    );
    setCopied(done === true ? 'yes' : 'by hand');
  };
  return (
    <span class="copy">
      <button type="button" onClick={copy}>
        Copy link
      </button>
      <span role="status">{copied === 'yes' ? 'Copied' : ''}</span>
      {copied === 'by hand' && (
        <input
          class="copy-text"
          aria-label="The link, to copy by hand"
          readOnly
          value={whole}
          onFocus={(event) => event.currentTarget.select()}
        />
      )}
    </span>
  );
}
