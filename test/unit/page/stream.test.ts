// The page's connection to the pipeline: server-sent events cut anywhere, and what becomes of a connection that breaks, falls silent, is
// refused or is hidden.
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createEventParser, createStream, type ServerEvent, SILENT_MS } from '../../../src/page/stream.ts';

describe('server-sent events', () => {
  const read = (...pieces: string[]) => {
    const push = createEventParser();
    return pieces.flatMap((piece) => push(piece));
  };

  test('are read as the standard has it', () => {
    expect(read('\uFEFF: a comment\nevent: tick\ndata: {"a":1}\n\n')).toEqual([{ event: 'tick', data: '{"a":1}' }]);
    expect(read('data:a\ndata: b\ndata:  c\n\n')).toEqual([{ event: 'message', data: 'a\nb\n c' }]);
    expect(read('data\n\ndata\ndata\n\n')).toEqual([
      { event: 'message', data: '' },
      { event: 'message', data: '\n' },
    ]);
    // Without data there is no event, and its name is not the next one's; an event that does not end is none.
    expect(read('event: tick\n\ndata: 1\n\nid: 3\nretry: 5\nfoo: bar\n\ndata: cut')).toEqual([
      { event: 'message', data: '1' },
    ]);
  });

  test('are the same, wherever the text is cut and however lines end', () => {
    const name = fc.constantFrom('tick', 'lines', 'away');
    const line = fc.string({ unit: 'binary' }).map((text) => text.replaceAll(/[\r\n]/g, ''));
    const event = fc.record({ event: name, data: fc.array(line, { minLength: 1, maxLength: 4 }) });
    const end = fc.constantFrom('\n', '\r', '\r\n');
    fc.assert(
      fc.property(fc.array(event), end, fc.array(fc.nat()), (events, newline, cuts) => {
        const text = events
          .map(({ event, data }) => [`event: ${event}`, ...data.map((one) => `data: ${one}`), '', ''].join(newline))
          .join('');
        const places = [
          0,
          ...cuts.map((cut) => cut % (text.length + 1)).sort((one, other) => one - other),
          text.length,
        ];
        const pieces = places.slice(1).map((place, i) => text.slice(places[i], place));
        const expected = events.map(({ event, data }) => ({ event, data: data.join('\n') }));
        // A carriage return at the very end may be half of a line's end: what follows decides.
        expect(read(...pieces, ':\n')).toEqual(expected);
      }),
    );
  });

  test('that do not end are not kept', () => {
    const push = createEventParser();
    const piece = `data: ${'x'.repeat(1_000_000)}\n`;
    expect(() => {
      for (let i = 0; i < 10; i++) push(piece);
    }).toThrow('does not end');
    expect(() => createEventParser()('x'.repeat(5_000_000))).toThrow('does not end');
  });
});

describe('a connection', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  function opened(answers: readonly (number | 'never' | 'gone')[] = []) {
    const asked: {
      path: string;
      token: string | null;
      signal: AbortSignal;
      send: (text: string) => void;
      end: () => void;
    }[] = [];
    const events: ServerEvent[] = [];
    const refused = vi.fn();
    let visibility: DocumentVisibilityState = 'visible';
    let listener = () => {};
    let token: string | null = 'first';
    const stream = createStream({
      async fetch(path, init) {
        const answer = answers[asked.length] ?? 200;
        const signal = init.signal!;
        let controller!: ReadableStreamDefaultController<Uint8Array>;
        const body = new ReadableStream<Uint8Array>({
          start(own) {
            controller = own;
          },
        });
        signal.addEventListener('abort', () => controller.error(new Error('aborted')));
        asked.push({
          path,
          token: new Headers(init.headers).get('authorization'),
          signal,
          send: (text) => controller.enqueue(new TextEncoder().encode(text)),
          end: () => controller.close(),
        });
        if (answer === 'gone') throw new TypeError('Failed to fetch');
        if (answer === 'never')
          return new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));
        return new Response(body, { status: answer });
      },
      token: () => token,
      refused,
      onEvent: (event) => events.push(event),
      now: () => Date.now(),
      random: () => 1,
      page: {
        get visibilityState() {
          return visibility;
        },
        addEventListener: (_: string, own: unknown) => {
          listener = own as () => void;
        },
      },
    });
    const show = (next: DocumentVisibilityState) => {
      visibility = next;
      listener();
    };
    const settle = () => vi.advanceTimersByTimeAsync(0);
    const become = (next: string) => {
      token = next;
    };
    return { stream, asked, events, refused, show, settle, become, state: () => stream.connection.value.state };
  }

  const TICK = 'event: tick\ndata: {}\n\n';

  test('is live with the first event, and carries the token', async () => {
    const { stream, asked, events, settle, state } = opened();
    stream.open('./live');
    expect(state()).toBe('connecting');
    await settle();
    asked[0]!.send(TICK);
    await settle();
    expect(state()).toBe('live');
    expect(events).toEqual([{ event: 'tick', data: '{}' }]);
    expect(asked.map(({ path, token }) => [path, token])).toEqual([['./live', 'Bearer first']]);
  });

  test('that is silent is said to be, and at last made anew', async () => {
    const { stream, asked, settle, state } = opened();
    stream.open('./live');
    await settle();
    asked[0]!.send(TICK);
    await settle();
    await vi.advanceTimersByTimeAsync(SILENT_MS - 1);
    expect(state()).toBe('live');
    await vi.advanceTimersByTimeAsync(1);
    expect(state()).toBe('silent');
    asked[0]!.send(TICK);
    await settle();
    expect(state()).toBe('live');
    await vi.advanceTimersByTimeAsync(30_000);
    expect(asked[0]!.signal.aborted).toBe(true);
    expect(asked.length).toBeGreaterThan(1);
  });

  test('that breaks is tried again, less often each time, and at once when somebody asks', async () => {
    const { stream, asked, settle, state } = opened([...Array<'gone'>(9).fill('gone'), 200]);
    const waits: number[] = [];
    stream.open('./live');
    for (let i = 0; i < 8; i++) {
      await settle();
      const now = stream.connection.value;
      if (now.state !== 'waiting') throw new Error(now.state);
      waits.push(now.retryAtMs - Date.now());
      await vi.advanceTimersByTimeAsync(waits[i]!);
    }
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    await settle();
    stream.retry();
    await settle();
    asked.at(-1)!.send(TICK);
    await settle();
    expect(state()).toBe('live');
    asked.at(-1)!.end();
    await settle();
    expect(stream.connection.value).toMatchObject({ state: 'waiting', retryAtMs: Date.now() + 1_000 });
  });

  test('that never answers does not hold up the page', async () => {
    const { stream, asked, settle, state } = opened(['never']);
    stream.open('./live');
    await vi.advanceTimersByTimeAsync(20_000);
    await settle();
    expect(state()).toBe('waiting');
    await vi.advanceTimersByTimeAsync(1_000);
    expect(asked).toHaveLength(2);
  });

  test('that is refused waits for a token, and other refusals for a while', async () => {
    const { stream, asked, refused, settle, become, state } = opened([401, 429]);
    stream.open('./live');
    await settle();
    expect(state()).toBe('refused');
    expect(refused).toHaveBeenCalledOnce();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(asked).toHaveLength(1);
    become('second');
    stream.open('./live');
    await settle();
    expect(asked[1]!.token).toBe('Bearer second');
    expect(stream.connection.value).toMatchObject({ state: 'waiting', why: 'it answered 429' });
    expect(refused).toHaveBeenCalledOnce();
  });

  test('to another address ends the one before, of which nothing is heard any more', async () => {
    const { stream, asked, events, settle, state } = opened();
    stream.open('./live');
    await settle();
    stream.open('./live?tail=1');
    await settle();
    expect(asked[0]!.signal.aborted).toBe(true);
    asked[1]!.send(TICK);
    await settle();
    expect(events).toHaveLength(1);
    expect(state()).toBe('live');
  });

  test('of a page that is hidden for a minute ends, and goes on when it is seen', async () => {
    const { stream, asked, show, settle, state } = opened();
    stream.open('./live');
    await settle();
    const keep = setInterval(() => asked[0]!.signal.aborted || asked[0]!.send(TICK), 1_000);
    show('hidden');
    await vi.advanceTimersByTimeAsync(59_000);
    show('visible');
    show('hidden');
    await vi.advanceTimersByTimeAsync(59_000);
    expect(state()).toBe('live');
    await vi.advanceTimersByTimeAsync(1_000);
    clearInterval(keep);
    expect(state()).toBe('paused');
    expect(asked[0]!.signal.aborted).toBe(true);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(asked).toHaveLength(1);
    show('visible');
    await settle();
    asked[1]!.send(TICK);
    await settle();
    expect(state()).toBe('live');
  });
});
