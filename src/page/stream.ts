// What the pipeline sends while the page is open. In: server-sent events, read with fetch because EventSource cannot send a token. Out: each
// event's name and data, and how the connection stands. Guarantee: a broken connection is tried again, less often the longer it lasts; one
// that is silent is said to be; a hidden page asks for nothing after a minute, and goes on when it is seen again.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
import { type ReadonlySignal, signal } from '@preact/signals';

// ---- the format ----

export interface ServerEvent {
  readonly event: string;
  readonly data: string;
}

/** An event longer than this is not one of ours. */
const MAX_EVENT = 4 * 1024 * 1024;

/**
 * Takes text as it arrives, cut anywhere.
 * @returns push: gives the events that are complete. @throws Error when an event does not end
 */
export function createEventParser(): (text: string) => ServerEvent[] {
  let rest = '';
  let isFirst = true;
  let event = '';
  let data: string[] = [];
  let size = 0;

  function line(text: string, found: ServerEvent[]): void {
    if (text === '') {
      if (data.length > 0) found.push({ event: event === '' ? 'message' : event, data: data.join('\n') });
      event = '';
      data = [];
      size = 0;
      return;
    }
    const colon = text.indexOf(':');
    const name = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? '' : text.slice(colon + (text[colon + 1] === ' ' ? 2 : 1));
    if (name === 'event') event = value;
    else if (name === 'data') {
      data.push(value);
      size += value.length;
    }
  }

  return (text) => {
    if (text === '') return [];
    const found: ServerEvent[] = [];
    const all = rest + (isFirst ? text.replace(/^\uFEFF/, '') : text);
    isFirst = false;
    let start = 0;
    for (let i = 0; i < all.length; i++) {
      const character = all[i];
      if (character !== '\n' && character !== '\r') continue;
      // What follows a carriage return decides whether it is half of a line's end.
      if (character === '\r' && i + 1 === all.length) break;
      line(all.slice(start, i), found);
      if (character === '\r' && all[i + 1] === '\n') i++;
      start = i + 1;
    }
    rest = all.slice(start);
    if (rest.length + size > MAX_EVENT) throw new Error('an event of the stream does not end');
    return found;
  };
}

// ---- the connection ----

/** `refused`: the server wants a token. `paused`: nobody looks. */
export type Connection =
  | { readonly state: 'connecting' | 'live' | 'silent' | 'paused' | 'refused' }
  | { readonly state: 'waiting'; readonly retryAtMs: number; readonly why: string };

export interface Stream {
  readonly connection: ReadonlySignal<Connection>;
  /** Connects, or connects again: with another address, or another token. */
  open(path: string): void;
  /** Tries now instead of later. */
  retry(): void;
}

export interface StreamDeps {
  fetch(path: string, init: RequestInit): Promise<Response>;
  token(): string | null;
  refused(): void;
  onEvent(event: ServerEvent): void;
  /** The wall clock, for what is shown. */
  now(): number;
  random(): number;
  readonly page: Pick<Document, 'visibilityState' | 'addEventListener'>;
}

/** So long without an event: the pipeline sends one a second. */
export const SILENT_MS = 5_000;
/** So long without an event: the connection is as good as gone. */
const DEAD_MS = 20_000;
const HIDDEN_MS = 60_000;
const FIRST_WAIT_MS = 1_000;
const MAX_WAIT_MS = 30_000;

export function createStream(deps: StreamDeps): Stream {
  const connection = signal<Connection>({ state: 'connecting' });
  let path: string | undefined;
  let current: AbortController | undefined;
  let failures = 0;
  let retryTimer: ReturnType<typeof setTimeout> | undefined;
  let silentTimer: ReturnType<typeof setTimeout> | undefined;
  let hiddenTimer: ReturnType<typeof setTimeout> | undefined;

  function stop(): void {
    clearTimeout(retryTimer);
    clearTimeout(silentTimer);
    current?.abort();
    current = undefined;
  }

  function heard(own: AbortController): void {
    failures = 0;
    clearTimeout(silentTimer);
    if (connection.peek().state !== 'live') connection.value = { state: 'live' };
    silentTimer = setTimeout(() => {
      connection.value = { state: 'silent' };
      silentTimer = setTimeout(() => own.abort(), DEAD_MS - SILENT_MS);
    }, SILENT_MS);
  }

  function wait(why: string): void {
    const longest = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** failures);
    failures += 1;
    // Pages that were cut off together do not come back together.
    const waitMs = longest * (0.5 + deps.random() / 2);
    connection.value = { state: 'waiting', retryAtMs: deps.now() + waitMs, why };
    retryTimer = setTimeout(connect, waitMs);
  }

  function connect(): void {
    stop();
    if (path === undefined) return;
    const own = new AbortController();
    current = own;
    // Until something is heard again, what was said of the connection holds.
    if (['live', 'refused'].includes(connection.peek().state)) connection.value = { state: 'connecting' };
    silentTimer = setTimeout(() => own.abort(), DEAD_MS);
    read(path, own).then(
      (refusal) => {
        if (current !== own) return;
        stop();
        if (refusal === 401) {
          connection.value = { state: 'refused' };
          deps.refused();
        } else wait(refusal === undefined ? 'the pipeline has ended the connection' : `it answered ${refusal}`);
      },
      () => {
        if (current !== own) return;
        stop();
        wait('the pipeline does not answer');
      },
    );
  }

  /** @returns the status when it was not 200 */
  async function read(from: string, own: AbortController): Promise<number | undefined> {
    const token = deps.token();
    const headers = {
      accept: 'text/event-stream',
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    };
    const response = await deps.fetch(from, { headers, signal: own.signal, cache: 'no-store' });
    if (response.status !== 200 || response.body === null) {
      void response.body?.cancel();
      return response.status;
    }
    const push = createEventParser();
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (current !== own || done) return undefined;
      heard(own);
      for (const event of push(decoder.decode(value, { stream: true }))) deps.onEvent(event);
    }
  }

  deps.page.addEventListener('visibilitychange', () => {
    clearTimeout(hiddenTimer);
    if (deps.page.visibilityState === 'hidden') {
      hiddenTimer = setTimeout(() => {
        stop();
        connection.value = { state: 'paused' };
      }, HIDDEN_MS);
    } else if (connection.peek().state === 'paused' || connection.peek().state === 'waiting') {
      failures = 0;
      connect();
    }
  });

  return {
    connection,
    open(next) {
      path = next;
      failures = 0;
      connect();
    },
    retry() {
      failures = 0;
      connect();
    },
  };
}
