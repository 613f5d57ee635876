// Who the reader is to the pipeline. In: the one-time token that an address carries in its fragment, or a token that somebody types. Out: a
// bearer token for api.ts and stream.ts, and what it permits. Guarantee: the fragment leaves the address before anything else happens; the
// token is kept for this tab alone, and goes nowhere but to this page's own server.
import { batch, type ReadonlySignal, signal } from '@preact/signals';
import type { Session } from '../ops/page-data.ts';

const KEY = 'logpipe-token';
const ONCE = /(?:^|[#&])once=([^&]+)/;
const PATH = './api/v1/session';

export interface Access {
  readonly token: ReadonlySignal<string | null>;
  /** Null until the server has said it. */
  readonly session: ReadonlySignal<Session | null>;
  /** The server wants a token and was sent none that it takes, or somebody wants to enter one. */
  readonly isWanted: ReadonlySignal<boolean>;
  /** Why a token was not taken, in words; null: none was refused. */
  readonly trouble: ReadonlySignal<string | null>;
  /** Takes the one-time token out of the address, and asks who the reader is. Once more after a time without an answer. */
  start(): Promise<void>;
  /** Tries a token that somebody typed, and keeps it if it works. */
  enter(token: string): Promise<void>;
  /** The server no longer takes what it was sent. */
  refused(): void;
  /** Somebody wants to do what needs a token, or not after all. */
  want(isWanted: boolean): void;
  forget(): void;
}

export interface SessionBrowser {
  readonly location: { readonly hash: string; readonly pathname: string; readonly search: string };
  readonly history: Pick<History, 'replaceState'>;
  /** Throws in a browser that keeps nothing. */
  storage(): Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;
  fetch(path: string, init: RequestInit): Promise<Response>;
}

export function createSession(browser: SessionBrowser): Access {
  const token = signal(kept());
  const session = signal<Session | null>(null);
  const isWanted = signal(false);
  const trouble = signal<string | null>(null);
  /** Not yet answered. */
  let once: string | undefined;

  function kept(): string | null {
    try {
      return browser.storage().getItem(KEY);
    } catch {
      return null;
    }
  }

  function keep(next: string | null): void {
    token.value = next;
    try {
      if (next === null) browser.storage().removeItem(KEY);
      else browser.storage().setItem(KEY, next);
    } catch {
      // It is kept until the page is loaded anew.
    }
  }

  /** @returns undefined when the server refuses */
  async function ask(init: RequestInit, bearer: string | null): Promise<Session | undefined> {
    const headers = { ...init.headers, ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }) };
    const response = await browser.fetch(PATH, { ...init, headers, cache: 'no-store' });
    if (response.ok) return (await response.json()) as Session;
    const said = (await response.json().catch(() => ({}))) as { detail?: unknown };
    trouble.value = typeof said.detail === 'string' ? said.detail : `the server answered ${response.status}`;
    return undefined;
  }

  function known(next: Session): void {
    session.value = next;
    isWanted.value = false;
    trouble.value = null;
  }

  async function exchange(): Promise<void> {
    const body = JSON.stringify({ once });
    const next = await ask({ method: 'POST', headers: { 'content-type': 'application/json' }, body }, null);
    once = undefined;
    if (next === undefined) return;
    batch(() => {
      if (next.token !== undefined) keep(next.token);
      known(next);
    });
  }

  async function whoAmI(): Promise<void> {
    const before = trouble.peek();
    const next = await ask({ method: 'GET' }, token.peek());
    if (next === undefined) {
      isWanted.value = true;
      // Of a reader who has typed nothing yet, only a refused link is worth telling.
      if (token.peek() === null) trouble.value = before;
      return;
    }
    known(next);
    trouble.value = before;
  }

  return {
    token,
    session,
    isWanted,
    trouble,
    async start() {
      const found = ONCE.exec(browser.location.hash)?.[1];
      if (found !== undefined) {
        once = found;
        browser.history.replaceState(null, '', browser.location.pathname + browser.location.search);
      }
      if (once !== undefined) {
        await exchange().catch(silent);
        // Without an answer nothing is known of the token: neither that it is good, nor that it is spent.
        if (once !== undefined || session.peek() !== null) return;
      }
      await whoAmI().catch(silent);
    },
    async enter(typed) {
      trouble.value = null;
      try {
        const next = await ask({ method: 'GET' }, typed);
        if (next === undefined) return;
        batch(() => {
          keep(typed);
          known(next);
        });
      } catch {
        trouble.value = 'the pipeline does not answer';
      }
    },
    refused() {
      isWanted.value = true;
    },
    want(next) {
      isWanted.value = next;
      trouble.value = null;
    },
    forget() {
      keep(null);
      session.value = null;
      trouble.value = null;
      void whoAmI().catch(silent);
    },
  };
}

/** That the server does not answer is said by the state of the connection. */
function silent(): void {}
