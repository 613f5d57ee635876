// The page's address: what it says of the view and its filters, what changes it, and what "back" brings again.
import { effect } from '@preact/signals';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type AddressBrowser,
  createAddress,
  hrefOf,
  type Params,
  rangeOf,
  spanMs,
  VIEWS,
} from '../../../src/page/address.ts';

/** A browser with a history, which tells of steps in it. */
function browserAt(search: string) {
  const entries = [search];
  let at = 0;
  const listeners: (() => void)[] = [];
  const location = {
    pathname: '/logs/',
    get search() {
      return entries[at]!;
    },
  };
  const searchOf = (url: string | URL | null | undefined) => new URL(String(url), 'http://page/logs/').search;
  const browser: AddressBrowser = {
    location,
    history: {
      pushState(_, __, url) {
        entries.splice(at + 1, entries.length, searchOf(url));
        at += 1;
      },
      replaceState(_, __, url) {
        entries[at] = searchOf(url);
      },
    },
    addEventListener: (_, listener) => listeners.push(listener),
  };
  const step = (by: number) => {
    at += by;
    for (const listener of listeners) listener();
  };
  return { browser, location, step, entries };
}

describe('what the address says', () => {
  test('is the view, its texts and its lists', () => {
    const { browser } = browserAt('?view=logs&level=error&level=warn&service=calls');
    const address = createAddress(browser);
    expect(address.view.value).toBe('logs');
    expect(address.list('level')).toEqual(['error', 'warn']);
    expect(address.text('service')).toBe('calls');
    expect(address.text('environment')).toBe('');
  });

  test.each(['', '?view=', '?view=constructor', '?view=%00', '?view=NOW&view=logs'])(
    'is the first view for %j',
    (search) => {
      expect(createAddress(browserAt(search).browser).view.value).toBe('now');
    },
  );
});

describe('what changes it', () => {
  test('keeps the other parameters, leaves empty ones out, and is undone by "back"', () => {
    const { browser, location, step, entries } = browserAt('?view=logs&level=error');
    const address = createAddress(browser);
    const seen: string[] = [];
    effect(() => {
      seen.push(`${address.list('level')}/${address.text('q')}`);
    });
    address.set({ q: 'tags: "a&b"' });
    address.set({ level: [] });
    expect(location.search).toBe('?view=logs&q=tags%3A+%22a%26b%22');
    step(-1);
    expect(address.list('level')).toEqual(['error']);
    step(-1);
    expect(address.text('q')).toBe('');
    step(+1);
    expect(address.text('q')).toBe('tags: "a&b"');
    expect(entries).toHaveLength(3);
    expect(seen).toEqual([
      'error/',
      'error/tags: "a&b"',
      '/tags: "a&b"',
      'error/tags: "a&b"',
      'error/',
      'error/tags: "a&b"',
    ]);
  });

  test('typing makes one step of the history, and saying the same again none', () => {
    const { browser, entries } = browserAt('?view=logs');
    const address = createAddress(browser);
    for (const q of ['t', 'ta', 'tag']) address.set({ q }, 'replace');
    address.set({ q: 'tag' });
    expect(entries).toEqual(['?view=logs&q=tag']);
  });

  test('another view begins without the parameters of the last one', () => {
    const { browser, location } = browserAt('?view=logs&level=error');
    const address = createAddress(browser);
    address.open('alerts', { incident: '01K', view: 'replay' });
    expect(location.search).toBe('?view=alerts&incident=01K');
    address.open('now');
    expect(address.list('level')).toEqual([]);
  });

  test('whatever a parameter holds comes back from a link', () => {
    const text = fc.string({ unit: 'grapheme', minLength: 1 });
    fc.assert(
      fc.property(fc.constantFrom(...VIEWS), text, fc.array(text), (view, q, level) => {
        const params: Params = { q, level };
        const address = createAddress(browserAt(hrefOf(view, params)).browser);
        expect([address.view.value, address.text('q'), address.list('level')]).toEqual([view, q, level]);
      }),
    );
  });
});

describe('a time range', () => {
  const nowMs = Date.parse('2026-11-30T09:00:00Z');
  const rangeIn = (search: string) => rangeOf(new URLSearchParams(search), '1h', nowMs);

  test('is a length that ends now, or two times, which count', () => {
    expect(rangeIn('range=15m')).toEqual({ fromMs: nowMs - 900_000, toMs: nowMs, isLive: true });
    const times = 'from=2026-11-29T00:00:00Z&to=2026-11-29T01:00:00Z';
    const two = { fromMs: Date.parse('2026-11-29T00:00:00Z'), toMs: Date.parse('2026-11-29T01:00:00Z'), isLive: false };
    expect(rangeIn(times)).toEqual(two);
    expect(rangeIn(`${times}&range=15m`)).toEqual(two);
    expect(rangeIn('from=2026-11-30T08:59:00Z')).toEqual({ fromMs: nowMs - 60_000, toMs: nowMs, isLive: true });
  });

  test.each([
    '',
    'range=1y',
    'range=0m',
    'range=-1h',
    'range=1e3m',
    'from=x&to=y',
    'from=2027-01-01T00:00:00Z',
    'to=2026-01-01',
  ])('is the usual one for %j', (search) => {
    expect(rangeIn(search)).toEqual({ fromMs: nowMs - 3_600_000, toMs: nowMs, isLive: true });
  });

  test('has lengths in minutes, hours and days', () => {
    expect(['15m', '3h', '7d', '', '3', 'h', '1000m'].map(spanMs)).toEqual([
      ...[900_000, 10_800_000, 604_800_000],
      ...[undefined, undefined, undefined, undefined],
    ]);
  });
});
