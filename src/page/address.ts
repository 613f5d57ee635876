// What the page shows, as its address: the view, and every filter and time range in it, so that a link shows somebody else the same. In: the
// browser's address and history. Out: signals that follow it, and ways to change it. Guarantee: back and forward work; a parameter that says
// nothing is left out of the address.
import { computed, type ReadonlySignal, signal } from '@preact/signals';

export const VIEWS = ['now', 'alerts', 'logs', 'pipeline', 'replay', 'on-call'] as const;
export type View = (typeof VIEWS)[number];

/** Null, undefined, '' and [] remove a parameter. */
export type Params = Readonly<Record<string, string | readonly string[] | null | undefined>>;

/** `push`: a step that "back" undoes. `replace`: typing and the like. */
type How = 'push' | 'replace';

export interface Address {
  readonly params: ReadonlySignal<URLSearchParams>;
  readonly view: ReadonlySignal<View>;
  /** Of the view that is shown; '' where there is none. */
  text(name: string): string;
  /** Those that a parameter has, in order. */
  list(name: string): string[];
  /** Changes parameters of the view that is shown, and keeps the others. */
  set(changes: Params, how?: How): void;
  /** Shows a view with these parameters alone. */
  open(view: View, params?: Params): void;
}

/** What of the browser's window is used. */
export interface AddressBrowser {
  readonly location: { readonly search: string; readonly pathname: string };
  readonly history: Pick<History, 'pushState' | 'replaceState'>;
  addEventListener(type: 'popstate', listener: () => void): void;
}

export function createAddress(browser: AddressBrowser): Address {
  const read = () => new URLSearchParams(browser.location.search);
  const params = signal(read());
  const view = computed(() => viewOf(params.value));
  browser.addEventListener('popstate', () => {
    params.value = read();
  });

  function show(next: URLSearchParams, how: How): void {
    const text = next.toString();
    if (text === params.peek().toString()) return;
    const { pathname } = browser.location;
    browser.history[how === 'push' ? 'pushState' : 'replaceState'](null, '', text === '' ? pathname : `?${text}`);
    params.value = next;
  }

  return {
    params,
    view,
    text: (name) => params.value.get(name) ?? '',
    list: (name) => params.value.getAll(name),
    set: (changes, how = 'push') => show(changed(params.peek(), changes), how),
    open: (to, its = {}) => show(paramsOf(to, its), 'push'),
  };
}

/** A link to a view, relative to the page, so that a path in front of it does no harm. */
export function hrefOf(view: View, params: Params = {}): string {
  return `?${paramsOf(view, params)}`;
}

function viewOf(params: URLSearchParams): View {
  const asked = params.get('view');
  return VIEWS.find((view) => view === asked) ?? 'now';
}

function paramsOf(view: View, params: Params): URLSearchParams {
  return changed(new URLSearchParams({ view }), { ...params, view });
}

function changed(params: URLSearchParams, changes: Params): URLSearchParams {
  const next = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) {
    const [first, ...others] = [value ?? []].flat().filter((text) => text !== '');
    if (first === undefined) next.delete(name);
    else next.set(name, first);
    for (const other of others) next.append(name, other);
  }
  return next;
}

// ---- time ranges ----

export interface Range {
  readonly fromMs: number;
  readonly toMs: number;
  /** It ends now, and moves on. */
  readonly isLive: boolean;
}

const UNIT_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** "15m", "3h", "7d" in ms; undefined for anything else. */
export function spanMs(text: string): number | undefined {
  const [, count, unit] = /^(\d{1,3})([mhd])$/.exec(text) ?? [];
  return unit === undefined || Number(count) === 0 ? undefined : Number(count) * UNIT_MS[unit]!;
}

/**
 * What `range=1h`, or `from=…&to=…` as ISO 8601, mean. Of both, the times count.
 * @param fallback like "1h", for an address that says nothing that can be understood
 */
export function rangeOf(params: URLSearchParams, fallback: string, nowMs: number): Range {
  const fromMs = Date.parse(params.get('from') ?? '');
  const toMs = Date.parse(params.get('to') ?? '');
  if (fromMs < toMs) return { fromMs, toMs, isLive: false };
  if (fromMs < nowMs) return { fromMs, toMs: nowMs, isLive: true };
  const long = spanMs(params.get('range') ?? '') ?? spanMs(fallback) ?? 3_600_000;
  return { fromMs: nowMs - long, toMs: nowMs, isLive: true };
}
