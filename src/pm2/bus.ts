// What PM2 says; it is only read. In: the sockets of a PM2 home: `pub.sock`, its event bus, and `rpc.sock`, which answers
// questions. Out: chosen events with their data; applications with the states of their processes. Guarantee: nothing is changed,
// and only the question for the list is ever sent; the bus reconnects by itself when PM2 returns; a broken or over-long message
// ends the connection, never the process; the list, or an error, comes in time.
//
// The wire format is axon over AMP: one byte with version (high half) and number of arguments (low half), then each argument as a
// 32-bit big-endian length and its bytes; `s:` begins a text, `j:` a JSON value. A publisher sends [event, data] to whoever is
// connected. A question is a JSON value and an id, the answer a JSON value, `{ args: [list] }` or `{ error }`, and the same id.
// Written here because the existing client (pm2-axon 4.0.1, last released in 2024) relies on Node's deprecated `new Buffer` and
// would bring four packages in place of these few lines.
import { connect, type Socket } from 'node:net';
import { backoffMs, type Clock, within } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';

/** An application's log lines travel on the bus too; a longer message is not an event we want. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
const BACKOFF = { firstMs: 500, maxMs: 15_000 };

interface BusOptions {
  /** Path of `pub.sock`. */
  readonly socket: string;
  /** Names of the events to be read; others are skipped unread. */
  readonly events: readonly string[];
}

interface BusDeps {
  readonly clock: Clock;
  onEvent(name: string, data: unknown): void;
  /** Called at each connection, at each loss of one, and at the first failure to get one. */
  onState(state: { readonly connected: boolean; readonly reason?: string }): void;
}

/** Connects at once and keeps connected; the returned function ends it. */
export function followBus(options: BusOptions, deps: BusDeps): () => void {
  let ended = false;
  let socket: Socket | undefined;
  let cancelRetry = () => {};
  let failures = 0;
  let told = false;

  function begin(): void {
    let reason = 'PM2 closed the connection';
    const read = createBusReader(options.events, deps.onEvent);
    const current = connect(options.socket);
    socket = current;
    current.once('connect', () => {
      failures = 0;
      told = false;
      deps.onState({ connected: true });
    });
    current.on('data', (bytes) => {
      try {
        read(bytes);
      } catch (error) {
        reason = errorText(error);
        current.destroy();
      }
    });
    current.on('error', (error: NodeJS.ErrnoException) => {
      reason = error.code ?? errorText(error);
    });
    current.once('close', () => {
      if (ended) return;
      if (!told) deps.onState({ connected: false, reason });
      told = true;
      failures += 1;
      cancelRetry = deps.clock.after(backoffMs(failures, BACKOFF), begin);
    });
  }

  begin();
  return () => {
    ended = true;
    cancelRetry();
    socket?.destroy();
  };
}

// ---- the wire ----

/** Takes the bytes of one connection, in whatever pieces. @throws Error for what is not a message of the bus */
export function createBusReader(
  events: readonly string[],
  onEvent: (name: string, data: unknown) => void,
): (bytes: Buffer) => void {
  const wanted = new Set(events);
  return createFrameReader(([name, data]) => {
    if (name === undefined || data === undefined) return;
    const event = argumentValue(name);
    if (typeof event === 'string' && wanted.has(event)) onEvent(event, argumentValue(data));
  });
}

/** The same for any socket of PM2: its messages with their arguments, not yet decoded. */
function createFrameReader(onFrame: (args: readonly Buffer[]) => void): (bytes: Buffer) => void {
  const parts: Buffer[] = [];
  let held = 0;
  /** How many bytes it takes before looking again makes sense. */
  let needed = 1;

  return (bytes) => {
    parts.push(bytes);
    held += bytes.length;
    if (held < needed) return;
    let buffer = parts.length === 1 ? bytes : Buffer.concat(parts);
    for (;;) {
      const message = messageIn(buffer);
      if (typeof message === 'number') {
        needed = message;
        break;
      }
      buffer = buffer.subarray(message.length);
      onFrame(message.args);
    }
    parts.splice(0, parts.length, buffer);
    held = buffer.length;
  };
}

/** The first message, or the least number of bytes it takes to tell. */
function messageIn(buffer: Buffer): { readonly args: readonly Buffer[]; readonly length: number } | number {
  const meta = buffer[0];
  if (meta === undefined) return 1;
  if (meta >> 4 !== 1) throw new Error(`not PM2's bus: protocol version ${meta >> 4}`);
  const args: Buffer[] = [];
  let at = 1;
  for (let n = meta & 0xf; n > 0; n--) {
    if (buffer.length < at + 4) return at + 4;
    const length = buffer.readUInt32BE(at);
    const end = at + 4 + length;
    if (end > MAX_MESSAGE_BYTES) throw new Error(`a message on PM2's bus is longer than ${MAX_MESSAGE_BYTES} bytes`);
    if (buffer.length < end) return end;
    args.push(buffer.subarray(at + 4, end));
    at = end;
  }
  return { args, length: at };
}

/** @throws SyntaxError for invalid JSON */
function argumentValue(argument: Buffer): unknown {
  const kind = argument.toString('latin1', 0, 2);
  if (kind === 's:') return argument.toString('utf8', 2);
  if (kind === 'j:') return JSON.parse(argument.toString('utf8', 2));
  return argument;
}

// ---- PM2's own list of what it runs ----

/** The states of each application's processes, in PM2's words: `online`, `stopped`, `errored`, `launching` and so on. */
export type ProcessList = ReadonlyMap<string, readonly string[]>;

const ID = 'logpipe:0';

/** @throws Error when PM2 does not answer within `timeoutMs`, or with something other than its list */
export function readProcessList(socketPath: string, timeoutMs: number): Promise<ProcessList> {
  const socket = connect(socketPath);
  const answered = new Promise<ProcessList>((resolve, reject) => {
    const read = createFrameReader((args) => {
      const [answer, id] = args.map(argumentValue);
      if (id === ID) resolve(listOf(answer));
    });
    socket.once('connect', () => {
      socket.write(frame(`j:${JSON.stringify({ type: 'call', method: 'getMonitorData', args: [{}] })}`, `s:${ID}`));
    });
    socket.on('data', (bytes) => {
      try {
        read(bytes);
      } catch (error) {
        reject(error);
      }
    });
    socket.on('error', reject);
    socket.once('close', () => reject(new Error('PM2 closed the connection')));
  });
  const late = `PM2 has not given its list within ${timeoutMs} ms`;
  return within(answered, timeoutMs, late).finally(() => socket.destroy());
}

function frame(...args: readonly string[]): Buffer {
  const parts = [Buffer.from([0x10 | args.length])];
  for (const arg of args) {
    const bytes = Buffer.from(arg);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}

/** @throws Error */
function listOf(answer: unknown): ProcessList {
  const { args, error } = (answer ?? {}) as { args?: unknown; error?: unknown };
  const [list] = Array.isArray(args) ? args : [];
  if (!Array.isArray(list)) throw new Error(error === undefined ? 'PM2 gave no list' : 'PM2 refused to give its list');
  const states = new Map<string, string[]>();
  for (const one of list as readonly { name?: unknown; pm2_env?: { status?: unknown } }[]) {
    const name = one?.name;
    if (typeof name !== 'string') continue;
    states.set(name, [...(states.get(name) ?? []), String(one.pm2_env?.status)]);
  }
  return states;
}
