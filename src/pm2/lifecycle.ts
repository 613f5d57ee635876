// Turns PM2's single events into what happened. In: events of the bus, several for each process. Out: one happening per
// application and kind, once PM2 has been quiet about it for a moment. Guarantee: what PM2 was asked to do is never called a
// crash, nor a crash a stop; what an application says is masked; nothing throws, whatever comes on the bus.
import type { Clock } from '../core/clock.ts';
import { visible } from '../core/safe-json.ts';
import { MASK } from '../core/secrets/mask.ts';
import type { ProcessList } from './bus.ts';

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
