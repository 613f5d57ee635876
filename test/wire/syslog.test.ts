// Syslog over real sockets: what senders write arrives once, whole and in order; a pipeline that takes nothing holds senders up and
// costs no memory; whoever sends too much, too little or something else is bounded and counted.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { type Chunk, isEventId } from '../../src/core/record.ts';
import { createSyslogSource, type SyslogDeps, type SyslogOptions } from '../../src/source/syslog.ts';
import { type Authority, createAuthority } from '../kit/certificates.ts';
import { createFakeClock } from '../kit/fake-clock.ts';

interface Held {
  readonly chunk: Chunk;
  release(): void;
}

async function listen(options: Partial<SyslogOptions> = {}, deps: Partial<SyslogDeps> & { isHeld?: boolean } = {}) {
  const metrics = createMetrics();
  const chunks: Chunk[] = [];
  const held: Held[] = [];
  const state = { isHeld: deps.isHeld ?? false };
  const source = createSyslogSource(
    { address: 'tcp://127.0.0.1:0', maxLineBytes: 10_000, ...options },
    { log: silentLog, clock: systemClock, metrics, ...deps },
  );
  onTestFinished(() => source.close());
  await source.start(async (chunk) => {
    chunks.push(chunk);
    if (state.isHeld) await new Promise<void>((release) => held.push({ chunk, release }));
  });
  const port = Number(/:(\d+),/.exec(source.status().detail)?.[1]);
  return {
    ...{ source, metrics, chunks, held, port },
    texts: () => chunks.flatMap(({ records }) => [...records].map(({ value }) => String(value))),
    releaseAll() {
      state.isHeld = false;
      for (const { release } of held.splice(0)) release();
    },
    async count(name: keyof SyslogDeps['metrics'], reason?: string) {
      const { values } = await metrics[name].get();
      return values.find(({ labels }) => (labels as { reason?: string }).reason === reason)?.value ?? 0;
    },
  };
}

async function dial(port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host, noDelay: true });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Ended by the other side, in whichever way. */
function closed(socket: Socket): Promise<void> {
  socket.resume();
  return new Promise((resolve) => socket.on('close', () => resolve()));
}

const until = (assertion: () => unknown) => vi.waitFor(assertion, { timeout: 20_000, interval: 5 });
const counted = (message: string) => `${Buffer.byteLength(message)} ${message}`;

describe('messages', () => {
  const SENT = ['<34>1 - h a - - - zwölf', '<13>Nov 28 14:22:41 h a: line', '<13>a\nb', '<14>ünd', '<15>last'];
  const BYTES = Buffer.from(`${counted(SENT[0]!)}${SENT[1]}\r\n${counted(SENT[2]!)}${SENT[3]}\0\n${counted(SENT[4]!)}`);

  test('of both framings arrive whole, cut at every byte, with their place in their connection', async () => {
    const { port, texts, chunks, count, source } = await listen();
    for (let at = 1; at < BYTES.length; at++) {
      const before = texts().length;
      const socket = await dial(port);
      socket.write(BYTES.subarray(0, at));
      // Two packets, so two pieces: the second goes once the first has been read.
      await until(() => expect(socket.bytesWritten).toBe(at));
      await new Promise((resolve) => setImmediate(resolve));
      socket.end(BYTES.subarray(at));
      await until(() => expect(texts().slice(before)).toEqual(SENT));
    }
    expect(await count('syslogMessages')).toBe(SENT.length * (BYTES.length - 1));
    const identities = new Set(chunks.map(({ origin }) => (origin.kind === 'file' ? origin.identity : '')));
    expect(identities.size).toBe(BYTES.length - 1);
    expect([...identities].every(isEventId)).toBe(true);
    const [first] = chunks;
    expect(first).toMatchObject({ origin: { kind: 'file', path: `syslog tcp://127.0.0.1:${port}` } });
    expect(first!.bytes).toBe([...first!.records].reduce((sum, { value }) => sum + value!.length, 0));
    const offsets = new Set(chunks.flatMap(({ records }) => [...records].map(({ offset }) => offset)));
    expect([...offsets].sort((a, b) => a - b)).toEqual([0, 27, 58, 67, 77]);
    expect(Math.abs(first!.records.at(0)!.timeMs - Date.now())).toBeLessThan(60_000);
    await until(() => expect(source.status().detail).toBe(`listening at tcp://127.0.0.1:${port}, 0 connections`));
    expect(await count('syslogConnections')).toBe(0);
  });

  test('that came before a reset are delivered, even while the pipeline takes nothing; half of one is counted', async () => {
    const { port, texts, held, releaseAll, count } = await listen({}, { isHeld: true });
    const socket = await dial(port);
    socket.write('<13>first\n');
    await until(() => expect(held).toHaveLength(1));
    // Read from the network, but not looked at: the socket is paused.
    socket.write(`${counted('<13>second')}<13>third\n<13>half of a li`);
    await until(() => expect(socket.bytesWritten).toBe(10 + 39));
    await new Promise((resolve) => setImmediate(resolve));
    socket.resetAndDestroy();
    await until(async () => expect(await count('syslogClosed', 'unfinished')).toBe(1));
    releaseAll();
    await until(() => expect(texts()).toEqual(['<13>first', '<13>second', '<13>third']));
  });

  test('that are too long are cut and counted, and so is a count that cannot be; the others go on', async () => {
    const { port, texts, count } = await listen({ maxLineBytes: 1_000 });
    const long = `<13>${'ü'.repeat(5_000)}`;
    const fine = await dial(port);
    fine.write(`${counted(long)}${counted('<13>next')}${long}\n`);
    await until(async () => expect(await count('syslogClosed', 'unframed')).toBe(1));
    const absurd = await dial(port);
    absurd.write('<13>before\n9999999999 <13>after\n');
    await closed(absurd);
    expect(await count('syslogClosed', 'bad_count')).toBe(1);
    expect(texts()).toEqual([`<13>${'ü'.repeat(498)}`, '<13>next', `<13>${'ü'.repeat(498)}`, '<13>before']);
    expect(await count('syslogCut')).toBe(2);
  });

  test('that arrived before the stop are delivered; later ones find nobody listening', async () => {
    const { source, port, texts, held } = await listen({}, { isHeld: true });
    const [one, two] = [await dial(port), await dial(port)];
    one.write('<13>a\n');
    await until(() => expect(held).toHaveLength(1));
    two.write('<13>b\n<13>c\n');
    one.write('<13>d\n');
    await until(() => expect([one.bytesWritten, two.bytesWritten]).toEqual([12, 12]));
    const goodbye = Promise.all([once(one, 'end'), once(two, 'end')]);
    one.resume();
    two.resume();
    const stopping = source.stop();
    await goodbye;
    await stopping;
    expect(texts().sort()).toEqual(['<13>a', '<13>b', '<13>c', '<13>d']);
    expect(source.status()).toEqual({ ready: false, detail: 'stopped' });
    const late = connect(port, '127.0.0.1');
    const [error] = await once(late, 'error');
    expect(error).toMatchObject({ code: 'ECONNREFUSED' });
  });
});

describe('a pipeline that takes nothing', () => {
  const MESSAGE = `<13>${'x'.repeat(995)}\n`;

  test('holds up its senders, is handed one chunk at a time, and loses nothing', async () => {
    const { port, held, chunks, texts, releaseAll, count } = await listen({}, { isHeld: true });
    const total = 40_000;
    const senders = await Promise.all(Array.from({ length: 4 }, () => dial(port)));
    const block = MESSAGE.repeat(total / 4 / 10);
    const finished = senders.map(async (socket, sender) => {
      for (let i = 0; i < 10; i++) {
        const isTaken = socket.write(block.replaceAll('<13>x', `<13>${sender}`));
        if (!isTaken) await once(socket, 'drain');
      }
      socket.end();
    });
    await until(() => expect(senders.every(({ writableNeedDrain }) => writableNeedDrain)).toBe(true));
    const handedOver = () => chunks.reduce((sum, { records }) => sum + records.length, 0);
    while (chunks.length < 20) {
      const seen = chunks.length;
      await until(() => expect(held).toHaveLength(1));
      // Beside what is being delivered, a piece of 64 kB from each of the four.
      expect((await count('syslogMessages')) - handedOver()).toBeLessThan(4 * 70);
      for (const { release } of held.splice(0)) release();
      await until(() => expect(chunks.length).toBeGreaterThan(seen));
      expect(chunks).toHaveLength(seen + 1);
    }
    releaseAll();
    await Promise.all(finished);
    await until(() => expect(handedOver()).toBe(total));
    for (const sender of ['0', '1', '2', '3']) {
      expect(texts().filter((text) => text[4] === sender)).toHaveLength(total / 4);
    }
    const ends = new Map<string, number>();
    for (const { origin, records } of chunks) {
      const { identity } = origin as Extract<Chunk['origin'], { kind: 'file' }>;
      for (const { offset } of records) {
        expect(offset).toBe(ends.get(identity) ?? 0);
        ends.set(identity, offset + MESSAGE.length);
      }
    }
  });

  test('keeps what came from those that have gone, and lets in no more than there may be of both', async () => {
    const { port, held, texts, releaseAll, count } = await listen({ maxConnections: 3 }, { isHeld: true });
    const first = await dial(port);
    first.write('<13>a\n');
    await until(() => expect(held).toHaveLength(1));
    for (const text of ['<13>b\n', '<13>c\n']) {
      const socket = await dial(port);
      socket.write(text);
      await until(async () => expect(await count('syslogMessages')).toBe(text === '<13>b\n' ? 2 : 3));
      socket.resetAndDestroy();
    }
    await until(async () => expect(await count('syslogConnections')).toBe(1));
    const refused = await dial(port);
    await closed(refused);
    expect(await count('syslogRefused')).toBe(1);
    releaseAll();
    await until(() => expect(texts()).toEqual(['<13>a', '<13>b', '<13>c']));
    const taken = await dial(port);
    taken.write('<13>d\n');
    await until(() => expect(texts()).toContain('<13>d'));
  });

  test('that fails ends the source with its error', async () => {
    const source = createSyslogSource(
      { address: 'tcp://127.0.0.1:0', maxLineBytes: 1_000 },
      { log: silentLog, clock: systemClock, metrics: createMetrics() },
    );
    onTestFinished(() => source.close());
    await source.start(() => Promise.reject(new Error('no way')));
    const socket = await dial(Number(/:(\d+),/.exec(source.status().detail)?.[1]));
    socket.write('<13>a\n');
    await expect(source.ended).rejects.toThrow('no way');
    expect(source.status()).toEqual({ ready: false, detail: 'no way' });
  });
});

describe('connections', () => {
  test('beyond the limit are refused and counted, and let in again when one has ended', async () => {
    const { port, texts, count, source } = await listen({ maxConnections: 2 });
    const [one] = [await dial(port), await dial(port)];
    await until(() => expect(source.status().detail).toContain('2 connections'));
    const third = await dial(port);
    await closed(third);
    expect(await count('syslogRefused')).toBe(1);
    one!.end();
    await until(() => expect(source.status().detail).toContain('1 connection'));
    const fourth = await dial(port);
    fourth.write('<13>hello\n');
    await until(() => expect(texts()).toEqual(['<13>hello']));
  });

  test('that stand still in the middle of a message cost bounded memory: whoever holds the most is closed', async () => {
    const limits = { maxLineBytes: 100_000, maxHeldBytes: 300_000 };
    const { port, texts, count } = await listen(limits);
    const patient = await dial(port);
    patient.write('<13>pat');
    const hogs: Socket[] = [];
    for (let i = 0; i < 6; i++) {
      const hog = await dial(port);
      hog.resume();
      hog.write(`99999 <13>${'x'.repeat(80_000)}`);
      hogs.push(hog);
    }
    await until(async () => expect(await count('syslogClosed', 'memory')).toBe(3));
    patient.write('ient\n');
    await until(() => expect(texts()).toEqual(['<13>patient']));
    expect(hogs.filter(({ closed }) => closed)).toHaveLength(3);
  });

  test('that bring nothing for hours are closed, but not while it is the pipeline that takes nothing', async () => {
    const clock = createFakeClock();
    const { port, held, releaseAll, source, count } = await listen(
      { idleTimeoutMs: 3_600_000 },
      { clock, isHeld: true },
    );
    const [silent, waiting] = [await dial(port), await dial(port)];
    waiting.write('<13>a\n');
    await until(() => expect(held).toHaveLength(1));
    await until(() => expect(source.status().detail).toContain('2 connections'));
    const ended = closed(silent);
    await clock.advance(4_000_000);
    await ended;
    expect(await count('syslogClosed', 'idle')).toBe(1);
    expect(source.status().detail).toContain('1 connection');
    releaseAll();
    await clock.advance(3_000_000);
    expect(await count('syslogClosed', 'idle')).toBe(1);
    await clock.advance(1_000_000);
    expect(await count('syslogClosed', 'idle')).toBe(2);
    await source.close();
    expect(clock.timers()).toBe(0);
  });

  test('of IPv6 are taken at an address in brackets', async () => {
    const { port, texts, chunks } = await listen({ address: 'tcp://[::1]:0' });
    const socket = await dial(port, '::1');
    socket.write('<13>six\n');
    await until(() => expect(texts()).toEqual(['<13>six']));
    expect(chunks[0]!.origin).toMatchObject({ path: `syslog tcp://[::1]:${port}` });
  });
});

describe('TLS', () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-syslog-'));
  const file = (name: string) => join(folder, name);
  let authority: Authority;
  let stranger: Authority;

  beforeAll(() => {
    authority = createAuthority();
    stranger = createAuthority('somebody else');
    const own = authority.issue(['localhost', '127.0.0.1']);
    writeFileSync(file('server.pem'), own.pem);
    writeFileSync(file('server.key'), own.keyPem);
    writeFileSync(file('other.key'), stranger.keyPem);
    writeFileSync(file('ca.pem'), authority.pem);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const tls = () => ({ certFile: file('server.pem'), keyFile: file('server.key') });
  const listenTls = (more: Partial<NonNullable<SyslogOptions['tls']>> = {}) =>
    listen({ address: 'tls://127.0.0.1:0', tls: { ...tls(), ...more } });

  function dialTls(port: number, more: ConnectionOptions = {}) {
    const socket = connectTls({ port, host: '127.0.0.1', ca: authority.pem, ...more });
    onTestFinished(() => void socket.destroy());
    socket.on('error', () => {});
    return socket;
  }
  const identity = (from: Authority) => {
    const { pem, keyPem } = from.issue(['sender']);
    return { cert: pem, key: keyPem };
  };

  test('carries messages of both framings, and those that come before a sender hangs up', async () => {
    const { port, texts, chunks, source } = await listenTls();
    const socket = dialTls(port);
    socket.write(`${counted('<13>first')}<13>sec`);
    await until(() => expect(texts()).toEqual(['<13>first']));
    socket.end('ond\n<13>third');
    await until(() => expect(texts()).toEqual(['<13>first', '<13>second', '<13>third']));
    expect(chunks[0]!.origin).toMatchObject({ path: `syslog tls://127.0.0.1:${port}` });
    await source.stop();
  });

  test('is held up by a pipeline that takes nothing, and ends in order, too', async () => {
    const { port, texts, held, source } = await listen({ address: 'tls://127.0.0.1:0', tls: tls() }, { isHeld: true });
    const socket = dialTls(port);
    socket.write('<13>a\n');
    await until(() => expect(held).toHaveLength(1));
    const sent = Array.from({ length: 200 }, (_, i) => `<13>${i}${'x'.repeat(50)}`);
    const written = new Promise((resolve) => socket.write(sent.map(counted).join(''), resolve));
    await written;
    const goodbye = once(socket, 'end');
    socket.resume();
    const stopping = source.stop();
    await goodbye;
    for (const { release } of held.splice(0)) release();
    await until(() => expect(held).toHaveLength(1));
    await stopping;
    expect(texts()).toEqual(['<13>a', ...sent]);
  });

  test('asks senders for certificates, of all or of those that have one', async () => {
    const required = await listenTls({ caFile: file('ca.pem') });
    const optional = await listenTls({ caFile: file('ca.pem'), clientCertificates: 'optional' });
    for (const [what, more, isTaken] of [
      ['known', identity(authority), [true, true]],
      ['wrong', identity(stranger), [false, false]],
      ['none', {}, [false, true]],
    ] as const) {
      for (const [i, { port, texts, count }] of [required, optional].entries()) {
        const before = await count('syslogClosed', 'tls');
        const socket = dialTls(port, more);
        socket.write(`<13>${what}\n`);
        if (isTaken[i]) await until(() => expect(texts()).toContain(`<13>${what}`));
        else {
          await closed(socket);
          await until(async () => expect(await count('syslogClosed', 'tls')).toBe(before + 1));
        }
      }
    }
    expect(required.texts()).toEqual(['<13>known']);
    expect(optional.texts()).toEqual(['<13>known', '<13>none']);
  });

  test('on one side alone is counted, and no message', async () => {
    const [plain, secure] = [await listen(), await listenTls()];
    const toPlain = dialTls(plain.port);
    await closed(toPlain);
    const toSecure = await dial(secure.port);
    toSecure.write('<13>plain\n');
    await closed(toSecure);
    for (const { count, texts } of [plain, secure]) {
      await until(async () => expect(await count('syslogClosed', 'tls')).toBe(1));
      expect(texts()).toEqual([]);
    }
  });

  test.each([
    ['no certificate', { certFile: 'gone.pem' }, /the certificate .*gone\.pem cannot be read \(there is no such file/],
    ['no key', { keyFile: 'gone.key' }, /the private key .*gone\.key cannot be read/],
    ['no authority', { caFile: 'gone.ca' }, /the authority of the clients .*gone\.ca cannot be read/],
    ['somebody else’s key', { keyFile: 'other.key' }, /cannot be used \(.*the key that belongs to it/],
    ['a certificate that is none', { certFile: 'server.key' }, /server\.key and .*server\.key cannot be used/],
  ])('with %s does not start, and says which file', async (_, files, message) => {
    const paths = Object.fromEntries(Object.entries(files).map(([key, name]) => [key, file(name)]));
    await expect(listenTls(paths)).rejects.toMatchObject({
      code: 'LOGPIPE_SOURCE_FAILED',
      message: expect.stringMatching(message),
    });
  });
});

test('a port that is taken, and an address that is somebody else’s, are said with what to do', async () => {
  const { port } = await listen();
  await expect(listen({ address: `tcp://127.0.0.1:${port}` })).rejects.toMatchObject({
    code: 'LOGPIPE_SOURCE_FAILED',
    message: `syslog tcp://127.0.0.1:${port}: cannot listen there (another program listens at this port already, EADDRINUSE); name another port, or end the program that listens at ${port}`,
  });
  const listenAsNobody = vi.spyOn(Server.prototype, 'listen').mockImplementation(function (this: Server) {
    process.nextTick(() => this.emit('error', Object.assign(new Error('listen EACCES'), { code: 'EACCES' })));
    return this;
  });
  await expect(listen({ address: 'tcp://127.0.0.1:514' })).rejects.toMatchObject({
    code: 'LOGPIPE_SOURCE_FAILED',
    message: expect.stringMatching(
      /^syslog tcp:\/\/127\.0\.0\.1:514: .*EACCES.*: ports below 1024 are for root; name one above/,
    ),
  });
  listenAsNobody.mockRestore();
  await expect(listen({ address: 'tcp://192.0.2.1:0' })).rejects.toMatchObject({
    code: 'LOGPIPE_SOURCE_FAILED',
    message: expect.stringMatching(/name an address of this machine, or 0\.0\.0\.0/),
  });
});
