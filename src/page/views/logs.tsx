// Logs: the live tail, and history. In: the address, which has the mode, the filters, the range, the query and the event that is open. Out:
// lines, charts, and an event in full. Guarantee: all that is shown is in the address; a filter acts when it is complete, not with each key.
import { useEffect, useId, useRef } from 'preact/hooks';
import type { Params } from '../address.ts';
import { address } from '../app.ts';
import { Choice, Link } from '../parts.tsx';
import { EventPanel } from './event-panel.tsx';
import { LogHistory } from './log-history.tsx';
import { LogTail } from './log-tail.tsx';

const LEVELS = ['error', 'warn', 'info', 'debug'] as const;

export function Logs() {
  const isHistory = address.text('mode') === 'history';
  const event = address.text('event');
  const filter = filterOf(isHistory);
  const last = useRef(event);
  if (event !== '') last.current = event;
  // Whoever closes the event goes on at its line.
  const close = () => {
    address.set({ event: null });
    requestAnimationFrame(() => lineOf(last.current)?.focus());
  };
  return (
    <div class="logs">
      <div class="view-head">
        <h1>Logs</h1>
        <nav aria-label="Live or history" class="tabs">
          <ul>
            <li>
              <Link to="logs" params={{ ...filterOf(false), order: orderNow() }} current={!isHistory}>
                Live
              </Link>
            </li>
            <li>
              <Link to="logs" params={{ mode: 'history', ...filterOf(true), order: orderNow() }} current={isHistory}>
                History
              </Link>
            </li>
          </ul>
        </nav>
      </div>
      <Filters isHistory={isHistory} />
      <div class={event === '' ? 'with-panel' : 'with-panel is-open'}>
        <div class="beside-panel">{isHistory ? <LogHistory filter={filter} /> : <Live filter={filter} />}</div>
        {event !== '' && <EventPanel name={event} onClose={close} />}
      </div>
    </div>
  );
}

function Live({ filter }: { filter: Params }) {
  const isNewestLast = address.text('order') === 'asc';
  return (
    <>
      <div class="filters">
        <TextFilter name="text" label="Text in the line" />
        <div class="field">
          <span class="label" aria-hidden="true">
            Order
          </span>
          <Choice
            label="Order"
            options={[
              ['desc', 'Newest first'],
              ['asc', 'Newest last'],
            ]}
            value={isNewestLast ? 'asc' : 'desc'}
            onChoose={(value) => address.set({ order: value === 'asc' ? 'asc' : null })}
          />
        </div>
      </div>
      <LogTail filter={filter} isNewestLast={isNewestLast} />
    </>
  );
}

/** Parameters of the API and of the address alike. */
function filterOf(isHistory: boolean): Params {
  const shared = {
    level: address.list('level'),
    environment: address.text('environment'),
    service: address.text('service'),
  };
  return isHistory ? shared : { ...shared, text: address.text('text') };
}

const orderNow = () => (address.text('order') === 'asc' ? 'asc' : null);

function lineOf(name: string): HTMLElement | null {
  const links = document.querySelectorAll<HTMLAnchorElement>('.lines a');
  const found = [...links].find((link) => new URLSearchParams(link.search).get('event') === name);
  return found ?? document.querySelector<HTMLElement>('.lines');
}

// ---- filters that both have ----

function Filters({ isHistory }: { isHistory: boolean }) {
  const id = useId();
  const chosen = address.list('level');
  const others = chosen.filter((level) => !(LEVELS as readonly string[]).includes(level));
  const toggle = (level: string) =>
    address.set({ level: chosen.includes(level) ? chosen.filter((one) => one !== level) : [...chosen, level] });
  const isFiltered =
    chosen.length > 0 || ['environment', 'service', 'text', 'q'].some((name) => address.text(name) !== '');
  return (
    <div class="filters">
      <fieldset class="field levels">
        <legend>Level</legend>
        {[...LEVELS, ...others].map((level) => (
          <label key={level} for={id + level}>
            <input id={id + level} type="checkbox" checked={chosen.includes(level)} onChange={() => toggle(level)} />
            {level}
          </label>
        ))}
      </fieldset>
      <TextFilter name="environment" label="Environment" />
      <TextFilter name="service" label="Service" />
      {isFiltered && (
        <Link to="logs" params={{ mode: isHistory ? 'history' : null, order: orderNow(), ...rangeNow() }} class="clear">
          Clear filters
        </Link>
      )}
    </div>
  );
}

function rangeNow(): Params {
  return Object.fromEntries(['range', 'from', 'to'].map((name) => [name, address.text(name)]));
}

/** Acts on Enter, and when it is left. */
function TextFilter({ name, label }: { name: 'environment' | 'service' | 'text'; label: string }) {
  const id = useId();
  const field = useRef<HTMLInputElement>(null);
  const value = address.text(name);
  // What is typed stays until the address says something else.
  useEffect(() => {
    if (field.current !== null) field.current.value = value;
  }, [value]);
  const take = () => address.set({ [name]: field.current?.value.trim() ?? '' });
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        id={id}
        ref={field}
        type="text"
        autoComplete="off"
        autoCapitalize="off"
        spellcheck={false}
        defaultValue={value}
        onChange={take}
        onKeyDown={(event) => {
          if (event.key === 'Enter') take();
        }}
      />
    </div>
  );
}
