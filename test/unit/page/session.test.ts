// Who the reader is: a one-time token leaves the address before anything else, and what a server says of a token is told in words.
import { describe, expect, test } from 'vitest';
import { apiPath, createApi } from '../../../src/page/api.ts';
import { createSession, type SessionBrowser } from '../../../src/page/session.ts';

type Answer = readonly [status: number, body: object] | 'gone';

function browserWith(hash: string, answers: readonly Answer[], kept?: string) {
  const steps: string[] = [];
  const asked: { method: string; token: string | null; body: unknown }[] = [];
  const storage = new Map(kept === undefined ? [] : [['logpipe-token', kept]]);
  const browser: SessionBrowser = {
    location: { hash, pathname: '/prefix/', search: '?view=alerts&incident=01K' },
    history: {
      replaceState: (_, __, url) => void steps.push(`address ${url}`),
    },
    storage: () => ({
      getItem: (key) => storage.get(key) ?? null,
      setItem: (key, value) => void storage.set(key, value),
      removeItem: (key) => void storage.delete(key),
    }),
    async fetch(path, init) {
      steps.push(`${init.method} ${path}`);
      const token = new Headers(init.headers).get('authorization');
      asked.push({
        method: init.method!,
        token,
        body: init.body === undefined ? undefined : JSON.parse(String(init.body)),
      });
      const answer = answers[asked.length - 1] ?? 'gone';
      if (answer === 'gone') throw new TypeError('Failed to fetch');
      return Response.json(answer[1], { status: answer[0] });
    },
  };
  return { session: createSession(browser), steps, asked, storage };
}

const READER = { name: null, mayAct: false, expires: null, environment: 'production' };
const HOLDER = { ...READER, name: 'page', mayAct: true };
const refusal = (detail: string) => ({ type: 'about:blank', title: 'Unauthorized', status: 401, detail });

describe('a one-time token', () => {
  test('leaves the address first, and is given for a token of this tab', async () => {
    const { session, steps, asked, storage } = browserWith('#once=abc.DEF-_', [[200, { ...HOLDER, token: 'long' }]]);
    await session.start();
    expect(steps).toEqual(['address /prefix/?view=alerts&incident=01K', 'POST ./api/v1/session']);
    expect(asked).toEqual([{ method: 'POST', token: null, body: { once: 'abc.DEF-_' } }]);
    expect([...storage.values()]).toEqual(['long']);
    expect(session.token.value).toBe('long');
    expect(session.session.value?.mayAct).toBe(true);
  });

  test('that is refused is said to be, and the reader reads without it where that is permitted', async () => {
    const answers: Answer[] = [
      [403, refusal('the token was used before')],
      [200, READER],
    ];
    const { session, steps } = browserWith('#once=used', answers);
    await session.start();
    expect(steps[0]).toMatch(/^address/);
    expect(session.trouble.value).toBe('the token was used before');
    expect(session.isWanted.value).toBe(false);
    expect(session.session.value).toEqual(READER);
  });

  test('that got no answer is tried again', async () => {
    const { session, steps, asked } = browserWith('#once=abc', ['gone', [200, { ...HOLDER, token: 'long' }]]);
    await session.start();
    expect([session.session.value, session.isWanted.value]).toEqual([null, false]);
    await session.start();
    expect(asked.map(({ body }) => body)).toEqual([{ once: 'abc' }, { once: 'abc' }]);
    expect(steps.filter((step) => step.startsWith('GET'))).toEqual([]);
    expect(session.token.value).toBe('long');
  });

  test('is in the fragment alone: nothing is posted for an address without one', async () => {
    for (const hash of ['', '#', '#once=', '#main', '#notonce=1']) {
      const { session, steps } = browserWith(hash, [[200, READER]]);
      await session.start();
      expect(steps, hash).toEqual(['GET ./api/v1/session']);
    }
  });
});

describe('a token that somebody enters', () => {
  test('is kept once the server takes it', async () => {
    const answers: Answer[] = [
      [401, refusal('it needs a token')],
      [401, refusal('the token is not one of http.tokens')],
      'gone',
      [200, HOLDER],
    ];
    const { session, asked, storage } = browserWith('', answers);
    await session.start();
    expect([session.isWanted.value, session.trouble.value]).toEqual([true, null]);
    await session.enter('wrong');
    expect(session.trouble.value).toBe('the token is not one of http.tokens');
    await session.enter('right');
    expect(session.trouble.value).toBe('the pipeline does not answer');
    expect([...storage]).toEqual([]);
    await session.enter('right');
    expect(asked.at(-1)?.token).toBe('Bearer right');
    expect([...storage.values()]).toEqual(['right']);
    expect([session.isWanted.value, session.trouble.value]).toEqual([false, null]);
  });

  test('stays for the tab until it is forgotten', async () => {
    const answers: Answer[] = [
      [200, HOLDER],
      [401, refusal('it needs a token')],
    ];
    const { session, asked, storage } = browserWith('', answers, 'kept');
    await session.start();
    expect(asked[0]?.token).toBe('Bearer kept');
    session.forget();
    expect([...storage]).toEqual([]);
    await expect.poll(() => session.isWanted.value).toBe(true);
    expect(asked[1]?.token).toBeNull();
  });

  test('of an earlier time that the server no longer takes is asked for anew, and why is said', async () => {
    const { session } = browserWith('', [[401, refusal('the token has expired')]], 'old');
    await session.start();
    expect([session.isWanted.value, session.trouble.value]).toEqual([true, 'the token has expired']);
  });
});

test('a browser that keeps nothing shows the page all the same', async () => {
  const session = createSession({
    location: { hash: '#once=abc', pathname: '/', search: '' },
    history: { replaceState: () => {} },
    storage: () => {
      throw new DOMException('The operation is insecure.', 'SecurityError');
    },
    fetch: async () => Response.json({ ...HOLDER, token: 'long' }),
  });
  await session.start();
  expect([session.token.value, session.session.value?.mayAct]).toEqual(['long', true]);
});

describe('the API', () => {
  const api = (answer: () => Promise<Response> | Response) => {
    let refusals = 0;
    const asked: [string, RequestInit][] = [];
    const own = createApi({
      async fetch(path, init) {
        asked.push([path, init]);
        return answer();
      },
      token: () => 'secret',
      refused: () => {
        refusals += 1;
      },
    });
    return { ...own, asked, refusals: () => refusals };
  };

  test('is asked by a relative path, with the token in a header and never in the address', async () => {
    const { get, post, asked } = api(() => Response.json({ ok: true }));
    await get('search', { q: 'a&b=c', level: ['error', 'warn'], from: '', to: null });
    await post('incidents/01K/acknowledge', {});
    expect(asked[0]![0]).toBe('./api/v1/search?q=a%26b%3Dc&level=error&level=warn');
    for (const [path, init] of asked) {
      expect(path).not.toContain('secret');
      expect(new Headers(init.headers).get('authorization')).toBe('Bearer secret');
    }
    expect(new Headers(asked[1]![1].headers).get('content-type')).toBe('application/json');
    expect(apiPath('oncall')).toBe('./api/v1/oncall');
  });

  test.each([
    [401, JSON.stringify(refusal('it needs a token')), 'it needs a token', 1],
    [503, '{"success":false,"message":"the alerts are not evaluated here"}', 'the alerts are not evaluated here', 0],
    [502, '<html>Bad gateway</html>', 'the pipeline answered 502', 0],
    [500, 'null', 'the pipeline answered 500', 0],
    [500, '{"detail":{"toString":1}}', 'the pipeline answered 500', 0],
  ])('says in words what a %i was', async (status, body, words, wanted) => {
    const { get, refusals } = api(() => new Response(body, { status }));
    await expect(get('alerts')).rejects.toMatchObject({ name: 'ApiError', status, message: words });
    expect(refusals()).toBe(wanted);
  });

  test('says when there was no answer, or none that can be read', async () => {
    const gone = api(() => Promise.reject(new TypeError('Failed to fetch')));
    await expect(gone.get('alerts')).rejects.toMatchObject({ status: 0, message: 'the pipeline does not answer' });
    const page = api(() => new Response('<html>', { status: 200 }));
    await expect(page.get('alerts')).rejects.toMatchObject({ status: 0, message: 'the answer is not JSON' });
  });

  test('ends a request that is no longer wanted', async () => {
    const never = createApi({
      fetch: (_, init) =>
        new Promise((_, reject) => {
          const end = () => reject(new DOMException('aborted', 'AbortError'));
          if (init.signal!.aborted) end();
          else init.signal!.addEventListener('abort', end);
        }),
      token: () => null,
      refused: () => {},
    });
    const own = new AbortController();
    const answer = never.get('alerts', {}, own.signal);
    own.abort();
    await expect(answer).rejects.toMatchObject({ name: 'AbortError' });
    await expect(never.get('alerts', {}, own.signal)).rejects.toMatchObject({ name: 'AbortError' });
  });
});
