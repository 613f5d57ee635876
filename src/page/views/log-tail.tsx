// The live tail: what was indexed in the last second, at most 50 lines of it. In: lines of the stream and a filter. Out: the newest 500, and
// how many passed unseen. Guarantee: it never takes the place away from whoever reads: while the list is scrolled, has the focus or is paused,
// new lines wait, counted, and are shown when asked for; 500 wait at most.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { LogLine, TailLines } from '../../ops/page-data.ts';
import type { Params } from '../address.ts';
import { connection, nowMs, tail } from '../app.ts';
import { count, plural } from '../format.ts';
import { Empty } from '../parts.tsx';
import { eventName, LogLines } from './log-lines.tsx';
import { createRateMeter, tailWords } from './tail-rate.ts';

const MOST = 500;
/** So close to the edge, in pixels, nobody has scrolled. */
const NEAR = 8;

interface Shown {
  /** The newest first. */
  readonly lines: readonly LogLine[];
  readonly waiting: readonly LogLine[];
  /** All that came while they waited: more than are kept. */
  readonly held: number;
}

const NOTHING: Shown = { lines: [], waiting: [], held: 0 };

export function LogTail({ filter, isNewestLast }: { filter: Params; isNewestLast: boolean }) {
  const [shown, setShown] = useState(NOTHING);
  const [hasHeard, setHeard] = useState(false);
  const [away, setAway] = useState<string | null>(null);
  const [isPaused, setPaused] = useState(false);
  const meter = useRef(createRateMeter(() => performance.now()));
  const box = useRef<HTMLDivElement>(null);
  const paused = useRef(false);
  const isReading = useRef(false);
  paused.current = isPaused;

  const key = JSON.stringify(filter);
  useEffect(() => {
    setShown(NOTHING);
    setHeard(false);
    setAway(null);
    const own = createRateMeter(() => performance.now());
    meter.current = own;
    const onLines = (event: TailLines) => {
      own.add(event);
      setHeard(true);
      isReading.current = reads(box.current, isNewestLast);
      const isHeld = paused.current || isReading.current;
      if (event.lines.length > 0)
        setShown((before) => (isHeld ? held(before, event.lines) : added(before, event.lines)));
    };
    return tail(filter, onLines, (event) => setAway(event.tail));
  }, [key, isNewestLast]);

  const showWaiting = () => {
    setPaused(false);
    setShown((before) => added(before, []));
    const edge = isNewestLast ? (box.current?.scrollHeight ?? 0) : 0;
    box.current?.scrollTo({ top: edge });
    // The focus would hold them back at once.
    if (box.current?.contains(document.activeElement)) (document.activeElement as HTMLElement).blur();
  };

  // With the newest last, whoever is at the end stays there.
  useLayoutEffect(() => {
    if (isNewestLast && !isReading.current && box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  }, [shown.lines, isNewestLast]);

  const hasFilter = Object.values(filter).flat().some(Boolean);
  const { lines, held: waits } = shown;
  const state = connection.value.state;
  return (
    <div class="tail">
      <div class="tail-head">
        <button type="button" aria-pressed={isPaused} onClick={() => (isPaused ? showWaiting() : setPaused(true))}>
          {isPaused ? 'Resume' : 'Pause'}
        </button>
        <p class="tail-rate">{away === null ? rateText() : null}</p>
        {waits > 0 && (
          <button type="button" class="primary" onClick={showWaiting}>
            Show {plural(waits, 'new line')}
          </button>
        )}
      </div>
      {away !== null && <p class="notice warn">{away}</p>}
      {lines.length === 0 ? (
        away === null && <Empty title={emptyTitle()}>Lines appear here as they are indexed.</Empty>
      ) : (
        <LogLines lines={isNewestLast ? [...lines].reverse() : lines} label="Log lines, live" box={box} />
      )}
      {lines.length === MOST && <p class="dim">The newest {count(MOST)} lines; “History” has the others.</p>}
    </div>
  );

  function rateText(): string {
    if (state !== 'live') return 'The pipeline is not heard: no new lines come.';
    // Counted anew with every second, so that it falls when nothing comes.
    void nowMs.value;
    return hasHeard ? tailWords(meter.current.rate(), hasFilter) : 'Waiting for the first lines.';
  }

  function emptyTitle(): string {
    if (!hasHeard) return 'Waiting for lines';
    return hasFilter ? 'Nothing matches the filter' : 'Nothing is being logged';
  }
}

function added(before: Shown, newest: readonly LogLine[]): Shown {
  return { lines: merged([...newest].reverse(), merged(before.waiting, before.lines)), waiting: [], held: 0 };
}

function held(before: Shown, newest: readonly LogLine[]): Shown {
  return {
    ...before,
    waiting: merged([...newest].reverse(), before.waiting),
    held: before.held + newest.length,
  };
}

/** Each event once, and no more than are kept. */
function merged(newer: readonly LogLine[], older: readonly LogLine[]): LogLine[] {
  const seen = new Set<string>();
  const all: LogLine[] = [];
  for (const line of [...newer, ...older]) {
    const name = eventName(line);
    if (seen.has(name)) continue;
    seen.add(name);
    all.push(line);
    if (all.length === MOST) break;
  }
  return all;
}

function reads(box: HTMLDivElement | null, isNewestLast: boolean): boolean {
  if (box === null) return false;
  // What scrolls has the focus itself when somebody scrolls by keyboard.
  if (box !== document.activeElement && box.contains(document.activeElement)) return true;
  const { scrollTop, scrollHeight, clientHeight } = box;
  if ((isNewestLast ? scrollHeight - clientHeight - scrollTop : scrollTop) > NEAR) return true;
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed && box.contains(selection.anchorNode);
}
