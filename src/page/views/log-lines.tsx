// Log lines, one below the other, each a link to its event. In: lines, the newest or the oldest first. Out: a list. Guarantee: what stands in a
// line is text; a line that stays keeps its place in the document, so that neither the focus nor a selection is lost.
import type { Ref } from 'preact';
import type { LogLine } from '../../ops/page-data.ts';
import { hrefOf, type Params } from '../address.ts';
import { address, nowMs } from '../app.ts';
import { clockTime, fullTime } from '../format.ts';

/** As it stands in the address. */
export function eventName({ index, id }: Pick<LogLine, 'index' | 'id'>): string {
  return `${index}/${id}`;
}

/** What the address says now, with changes: for a link that can be copied. */
export function here(changes: Params): Params {
  const params = address.params.value;
  const all = [...new Set(params.keys())].map((name) => [name, params.getAll(name)] as const);
  return { ...Object.fromEntries(all), ...changes };
}

/** @param box where they scroll; its label is said when the focus comes in */
export function LogLines({
  lines,
  label,
  box,
}: {
  lines: readonly LogLine[];
  label: string;
  box?: Ref<HTMLDivElement> | undefined;
}) {
  const open = address.text('event');
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
    // biome-ignore lint/a11y/useSemanticElements: a section would be one of the page's parts
    <div class="lines" ref={box ?? null} role="region" aria-label={label} tabIndex={0}>
      <ol>
        {lines.map((line) => {
          const name = eventName(line);
          return <Line key={name} line={line} name={name} isOpen={name === open} />;
        })}
      </ol>
    </div>
  );
}

function Line({ line, name, isOpen }: { line: LogLine; name: string; isOpen: boolean }) {
  const { at, level, service, message, isError } = line;
  const atMs = Date.parse(at);
  const follow = (event: MouseEvent) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    address.set({ event: name });
  };
  return (
    <li class={isError ? 'line is-error' : 'line'}>
      <a href={hrefOf('logs', here({ event: name }))} onClick={follow} aria-current={isOpen ? 'true' : undefined}>
        {/* Not its signal: a line does not change with every second. */}
        <time dateTime={at} title={fullTime(atMs)}>
          {clockTime(atMs, nowMs.peek(), true)}
        </time>
        <span class={`level level-${levelTone(level)}`}>{level ?? '–'}</span>
        <span class="line-service">{service ?? ''}</span>
        <span class="line-message">{message}</span>
      </a>
    </li>
  );
}

/** Levels are strangers' text as well, and class names are ours. */
function levelTone(level: string | null): 'bad' | 'warn' | 'info' | 'quiet' {
  if (level === null) return 'quiet';
  if (['error', 'fatal', 'crit', 'critical', 'alert', 'emerg'].includes(level)) return 'bad';
  if (level === 'warn' || level === 'warning') return 'warn';
  return level === 'info' || level === 'notice' ? 'info' : 'quiet';
}
