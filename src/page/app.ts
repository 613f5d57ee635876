// The page's one of each: address, session, API, stream, and what the last tick said. In: the browser. Out: what every view builds on.
// Guarantee: there is one connection to the pipeline, however many views want something of it.
import { computed, effect, type ReadonlySignal, signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Away, TailLines, Tick } from '../ops/page-data.ts';
import { createAddress, type Params } from './address.ts';
import { ApiError, apiPath, createApi } from './api.ts';
import { createSession } from './session.ts';
import { createStream } from './stream.ts';

const fetchHere = (path: string, init: RequestInit) => fetch(path, init);

export const session = createSession({ location, history, storage: () => sessionStorage, fetch: fetchHere });
export const address = createAddress(window);

const token = () => session.token.peek();
export const { get, post, del } = createApi({ fetch: fetchHere, token, refused: session.refused });

/** Whether a token that may act is at hand: only then are buttons that change something offered. */
export const mayAct = computed(() => session.session.value?.mayAct === true);

// ---- the stream ----

const lastTick = signal<Tick | null>(null);
/** What the pipeline said last; null before it has said anything. Once a second while it is reached. */
export const tick: ReadonlySignal<Tick | null> = lastTick;

/** The reader's clock, for what is told as "3 min ago". It stands still while nobody looks. */
export const nowMs = signal(Date.now());

/** Changes with everything that a list of alerts shows. */
export const alertsRevision = computed(() => lastTick.value?.alerts?.revision ?? '');

interface Tail {
  readonly params: Params;
  onLines(lines: TailLines): void;
  onAway(away: Away): void;
}
const wantedTail = signal<Tail | null>(null);

const stream = createStream({
  fetch: fetchHere,
  token,
  refused: session.refused,
  now: () => Date.now(),
  random: () => Math.random(),
  page: document,
  onEvent({ event, data }) {
    if (event === 'tick') {
      nowMs.value = Date.now();
      lastTick.value = JSON.parse(data) as Tick;
    } else if (event === 'lines') wantedTail.peek()?.onLines(JSON.parse(data) as TailLines);
    else if (event === 'away') wantedTail.peek()?.onAway(JSON.parse(data) as Away);
  },
});

export const { connection, retry } = stream;

/**
 * The log as it is indexed, by the page's one connection.
 * @param params those of LogFilter @returns ends it
 */
export function tail(params: Params, onLines: Tail['onLines'], onAway: Tail['onAway']): () => void {
  const own: Tail = { params, onLines, onAway };
  wantedTail.value = own;
  return () => {
    if (wantedTail.peek() === own) wantedTail.value = null;
  };
}

/** Before the first view is drawn. */
export async function start(): Promise<void> {
  await session.start();
  effect(() => {
    const wanted = wantedTail.value;
    void session.token.value;
    // The same token, entered again, is a reason to try again.
    void session.session.value;
    stream.open(apiPath('live', wanted === null ? {} : { tail: '1', ...wanted.params }));
  });
  effect(() => {
    const isHere = connection.value.state === 'live';
    if (isHere && session.session.peek() === null && !session.isWanted.peek()) void session.start();
  });
  setInterval(() => {
    if (document.visibilityState === 'visible') nowMs.value = Date.now();
  }, 1_000);
}

// ---- asking the API from a view ----

export interface Answer<T> {
  /** The newest answer; stays while the next one is awaited. */
  readonly value: T | undefined;
  /** Why there is no newer one, in words. */
  readonly error: string | undefined;
  readonly isLoading: boolean;
  again(): void;
}

/**
 * Asks, and asks again when `key` changes: `useAnswer(`alerts ${alertsRevision.value}`, (signal) => get<Alerts>('alerts', {}, signal))`.
 * What is no longer wanted is aborted. A key of null asks nothing.
 */
export function useAnswer<T>(key: string | null, ask: (signal: AbortSignal) => Promise<T>): Answer<T> {
  const [state, setState] = useState<Omit<Answer<T>, 'again'>>({ value: undefined, error: undefined, isLoading: true });
  const [round, setRound] = useState(0);
  const newest = useRef(ask);
  newest.current = ask;
  const who = session.token.value;
  // On purpose: another round or reader is a reason to ask, though neither is read here
  useEffect(() => {
    if (key === null) {
      setState({ value: undefined, error: undefined, isLoading: false });
      return;
    }
    const own = new AbortController();
    setState(({ value, error }) => ({ value, error, isLoading: true }));
    newest.current(own.signal).then(
      (value) => {
        if (!own.signal.aborted) setState({ value, error: undefined, isLoading: false });
      },
      (error: unknown) => {
        if (own.signal.aborted) return;
        const text = error instanceof ApiError ? error.message : 'the page could not make sense of the answer';
        setState(({ value }) => ({ value, error: text, isLoading: false }));
      },
    );
    return () => own.abort();
  }, [key, round, who]);
  return { ...state, again: () => setRound((before) => before + 1) };
}
