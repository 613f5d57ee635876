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

interface LogLinesProps {
  readonly lines: readonly LogLine[];
  /** Said when the focus comes in. */
  readonly label: string;
  /** Where they scroll. */
  readonly box?: Ref<HTMLDivElement> | undefined;
  /** Of the view Logs, for an event; where it is not the view that is shown. */
  readonly paramsOf?: (event: string) => Params;
}

export function LogLines({ lines, label, box, paramsOf }: LogLinesProps) {
  const open = address.text('event');
  return (
    // biome-ignore lint/a11y/useSemanticElements: a section would be one of the page's parts
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
    <div class="lines" ref={box ?? null} role="region" aria-label={label} tabIndex={0}>
      <ol>
        {lines.map((line) => {
          const name = eventName(line);
          return <Line key={name} line={line} name={name} isOpen={name === open} paramsOf={paramsOf} />;
        })}
      </ol>
    </div>
  );
}

interface LineProps {
  line: LogLine;
  name: string;
  isOpen: boolean;
  paramsOf: LogLinesProps['paramsOf'];
}

function Line({ line, name, isOpen, paramsOf }: LineProps) {
  const { at, level, service, message, isError } = line;
  const atMs = Date.parse(at);
  const params = paramsOf?.(name);
  const follow = (event: MouseEvent) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    if (params === undefined) address.set({ event: name });
    else address.open('logs', params);
  };
  return (
    <li class={isError ? 'line is-error' : 'line'}>
      <a
        href={hrefOf('logs', params ?? here({ event: name }))}
        onClick={follow}
        aria-current={isOpen ? 'true' : undefined}
      >
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
