// Turns PM2's single events into what happened. In: events of the bus, several for each process. Out: one happening per
// application and kind, once PM2 has been quiet about it for a moment. Guarantee: what PM2 was asked to do is never called a
// crash, nor a crash a stop; what an application says is masked; nothing throws, whatever comes on the bus.

import { connect, type Socket } from 'node:net';
import { backoffMs, type Clock, within } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import { visible } from '../core/safe-json.ts';
import { MASK } from '../core/secrets/mask.ts';

/** Events of the bus that are read. */
export const BUS_EVENTS = ['process:event', 'process:exception'] as const;

export const PM2_KINDS = ['start', 'restart', 'reload', 'stop', 'error', 'overlimit', 'daemonLost'] as const;
/**
 * `error`: a process ended by itself, or reported an exception. `overlimit`: PM2 has given up restarting. `daemonLost`: PM2
 * itself is gone.
 */
export type Pm2Kind = (typeof PM2_KINDS)[number];

/** What happened to an application: the contract between watching and notifying. */
export interface Happening {
  /** Name of the application; `PM2` for PM2 itself. */
  readonly app: string;
  readonly kind: Pm2Kind;
  readonly atMs: number;
  /** Numbers of the processes it happened to; empty when it is PM2 itself. */
  readonly processes: readonly string[];
  /** One sentence for people. */
  readonly message: string;
  /** Set when the state that `overlimit` or `daemonLost` began has ended. */
  readonly ended?: true;
  /** What is known about it, for the message's metadata. */
  readonly facts: Readonly<Record<string, string | number>>;
}

/** The name that stands for PM2 itself. */
export const DAEMON = 'PM2';

interface LifecycleOptions {
  /** A failing application's events are reported when none has come for this long, ms. */
  readonly quietMs: number;
  /** Applications that are known to have been down before. */
  readonly down?: readonly string[];
}

export interface Lifecycle {
  take(name: string, data: unknown): void;
  /** Applications that PM2 has given up, as long as that has not ended. */
  down(): readonly string[];
  /**
   * Takes from PM2's list what the bus did not say: what is no longer down, or not in the list at all, has ended; what PM2 gave
   * up before anybody listened is down.
   * @returns false when it names an application whose events are being gathered at this moment: call it again later
   */
  compare(list: ProcessList): boolean;
  /** Reports at once what is being gathered. */
  flush(): void;
}

type Asked = 'start' | 'restart' | 'reload' | 'stop';

interface Gathered {
  readonly sinceMs: number;
  /** The same moment, monotonic. */
  readonly beganMs: number;
  cancel: () => void;
  readonly asked: Map<Asked, Set<string>>;
  readonly crashed: Set<string>;
  readonly ended: Set<string>;
  readonly online: Set<string>;
  crashes: number;
  overlimit: boolean;
  exitCode?: number;
  restarts?: number;
  exception?: string;
}

const ASKED: readonly Asked[] = ['start', 'restart', 'reload', 'stop'];
/** They are reported after this long in any case. */
const LONGEST_MS = 10_000;
/** What somebody asked for is not urgent, and workers that end one by one take their time: a reload of many is one message. */
const CALM_FACTOR = 5;
const LONGEST_CALM_MS = 60_000;
const MAX_APPS = 1_000;
/** PM2's state of a process that it no longer starts. One that was stopped by hand is `stopped`. */
const GIVEN_UP = 'errored';
const MAX_EXCEPTION = 500;

export function createLifecycle(
  options: LifecycleOptions,
  deps: {
    readonly clock: Clock;
    /** Applied to what an application says before that is cut: a cut may remove what a secret is recognised by. */
    readonly mask: (text: string) => string;
    onHappening(happening: Happening): void;
  },
): Lifecycle {
  const { clock, onHappening } = deps;
  const apps = new Map<string, Gathered>();
  /** Processes that PM2 is ending: it sends `exit` once before and once after. */
  const ending = new Set<string>();
  /** Applications PM2 has given up. */
  const down = new Set<string>(options.down);

  function gatheringOf(app: string): Gathered {
    const known = apps.get(app);
    if (known !== undefined) return known;
    const begun: Gathered = {
      ...{ sinceMs: clock.now(), beganMs: clock.monotonicMs(), cancel: () => {}, crashes: 0, overlimit: false },
      ...{ asked: new Map(), crashed: new Set(), ended: new Set(), online: new Set() },
    };
    apps.set(app, begun);
    return begun;
  }

  function wait(app: string, gathered: Gathered): void {
    const failing = gathered.crashes > 0 || gathered.overlimit || gathered.exception !== undefined;
    const quietMs = options.quietMs * (failing ? 1 : CALM_FACTOR);
    const leftMs = gathered.beganMs + (failing ? LONGEST_MS : LONGEST_CALM_MS) - clock.monotonicMs();
    gathered.cancel();
    gathered.cancel = clock.after(Math.max(0, Math.min(quietMs, leftMs)), () => tell(app));
  }

  function tell(app: string): void {
    const gathered = apps.get(app);
    if (gathered === undefined) return;
    gathered.cancel();
    apps.delete(app);
    const recovered = down.has(app) && gathered.online.size > 0 && !gathered.overlimit;
    if (recovered) down.delete(app);
    if (gathered.overlimit) down.add(app);
    for (const happening of happeningsOf(app, gathered, recovered)) onHappening(happening);
  }

  function gather(gathered: Gathered, name: string, event: unknown, subject: unknown, exception: unknown): void {
    const { name: app, pm_id: number, status, exit_code: exitCode, restart_time: restarts } = object(subject);
    if (name === 'process:exception') {
      gathered.exception = exceptionText(exception, deps.mask);
      return;
    }
    const key = `${app}/${number}`;
    // While a process is replaced the old one is called `_old_3`.
    const id = String(number).replace('_old_', '');
    if (typeof restarts === 'number') gathered.restarts = Math.max(gathered.restarts ?? 0, restarts);
    switch (event) {
      case 'start':
      case 'restart':
      case 'reload':
      case 'stop':
        gathered.asked.set(event, (gathered.asked.get(event) ?? new Set()).add(id));
        return;
      case 'online':
        ending.delete(key);
        gathered.online.add(id);
        return;
      case 'restart overlimit':
        gathered.overlimit = true;
        return;
      case 'exit':
        if (status === 'stopping') {
          ending.add(key);
          gathered.ended.add(id);
        } else if (!ending.delete(key) && !cameToItsEnd(subject)) {
          gathered.crashed.add(id);
          gathered.crashes++;
          if (typeof exitCode === 'number') gathered.exitCode = exitCode;
        }
    }
  }

  return {
    take(name, data) {
      const { event, process: subject, data: exception } = object(data);
      const { name: app } = object(subject);
      if (typeof app !== 'string' || (!apps.has(app) && apps.size >= MAX_APPS)) return;
      const gathered = gatheringOf(app);
      gather(gathered, name, event, subject, exception);
      wait(app, gathered);
    },
    down: () => [...down],
    compare(list) {
      for (const app of [...down]) {
        const end = endOf(app, list.get(app) ?? []);
        // What is being gathered at this moment is newer than the list.
        if (end === undefined || apps.has(app)) continue;
        down.delete(app);
        onHappening({
          ...{ app, kind: 'overlimit', atMs: clock.now(), processes: [], message: end, ended: true },
          facts: {},
        });
      }
      let settled = true;
      for (const [app, states] of list) {
        if (!states.includes(GIVEN_UP) || down.has(app)) continue;
        if (apps.has(app) || apps.size >= MAX_APPS) {
          settled = false;
          continue;
        }
        const gathered = gatheringOf(app);
        gathered.overlimit = true;
        wait(app, gathered);
      }
      return settled;
    },
    flush() {
      for (const app of [...apps.keys()]) tell(app);
    },
  };
}

/** Undefined while it goes on: one process that PM2 has given up is enough, and one that is being started proves nothing yet. */
function endOf(app: string, states: readonly string[]): string | undefined {
  if (states.length === 0) return `${app} is not in PM2’s list any more: it was deleted`;
  if (states.includes(GIVEN_UP)) return undefined;
  if (states.includes('online')) return `${app} runs again`;
  return states.every((state) => state === 'stopped') ? `${app} was stopped` : undefined;
}

function happeningsOf(app: string, gathered: Gathered, recovered: boolean): Happening[] {
  const { asked, crashed, ended, online, exception } = gathered;
  const found: Happening[] = [];
  const add = (kind: Pm2Kind, processes: ReadonlySet<string>, message: string, more: object = {}) => {
    const facts = {
      processes: [...processes].sort().join(', '),
      ...(gathered.restarts === undefined ? {} : { restarts: gathered.restarts }),
    };
    const happening = { app, kind, atMs: gathered.sinceMs, processes: [...processes].sort(), message, facts };
    found.push({ ...happening, ...more });
  };
  const troubleFacts = {
    processes: [...crashed].sort().join(', '),
    crashes: gathered.crashes,
    ...(gathered.exitCode === undefined ? {} : { exitCode: gathered.exitCode }),
    ...(gathered.restarts === undefined ? {} : { restarts: gathered.restarts }),
    ...(exception === undefined ? {} : { exception }),
  };
  const because = exception === undefined ? '' : `: ${exception}`;
  if (gathered.overlimit) {
    const message =
      gathered.crashes > 0
        ? `${app} ended ${times(gathered.crashes)} in a row and PM2 has given up starting it${because}`
        : `PM2 has given up starting ${app}${because}`;
    add('overlimit', crashed, message, { facts: gathered.crashes > 0 ? troubleFacts : {} });
  } else if (crashed.size > 0) {
    const back = [...crashed].every((id) => online.has(id)) ? ' and was started again' : '';
    add('error', crashed, `${count(crashed)} of ${app} ended by itself${exitText(gathered)}${back}${because}`, {
      facts: troubleFacts,
    });
  } else if (exception !== undefined) {
    add('error', new Set(), `${app} reported an exception${because}`, { facts: { exception } });
  }
  if (recovered) add('overlimit', online, `${app} runs again`, { ended: true });

  const explained = new Set<string>();
  for (const kind of ASKED) {
    const processes = asked.get(kind);
    if (processes === undefined) continue;
    for (const id of processes) explained.add(id);
    add(kind, processes, `${count(processes)} of ${app}: ${kind} was asked for`);
  }
  // PM2 also ends processes by itself, and does not say why.
  const others = new Set([...ended].filter((id) => !explained.has(id)));
  const replaced = new Set([...others].filter((id) => online.has(id)));
  const gone = new Set([...others].filter((id) => !online.has(id)));
  if (replaced.size > 0) {
    add('restart', replaced, `PM2 restarted ${count(replaced)} of ${app} by itself: memory limit, schedule or watch`);
  }
  if (gone.size > 0)
    add('stop', gone, `${count(gone)} of ${app} was ended by PM2: deleted, scaled down, or PM2 itself ends`);
  return found;
}

/** A program that is not meant to be restarted, and succeeded: its job is done. */
function cameToItsEnd(subject: unknown): boolean {
  const { autorestart, exit_code: exitCode } = object(subject);
  return (autorestart === false || autorestart === 'false') && exitCode === 0;
}

/** PM2 reports code 0 for a process that a signal ended. */
function exitText({ exitCode }: Gathered): string {
  if (exitCode === undefined) return '';
  return exitCode === 0 ? ' (exit code 0: a signal, or the end of the program)' : ` (exit code ${exitCode})`;
}

function exceptionText(exception: unknown, mask: (text: string) => string): string {
  const { message, name } = object(exception);
  const text = typeof message === 'string' ? message : 'without a message';
  const whole = typeof name === 'string' && name !== 'Error' ? `${name}: ${text}` : text;
  try {
    return visible(mask(whole).slice(0, MAX_EXCEPTION));
  } catch {
    return MASK;
  }
}

function count({ size }: ReadonlySet<string>): string {
  return size === 1 ? 'one process' : `${size} processes`;
}

function times(n: number): string {
  return n === 1 ? 'once' : `${n} times`;
}

function object(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

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

// ---- what PM2 says ----

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
type ProcessList = ReadonlyMap<string, readonly string[]>;

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
