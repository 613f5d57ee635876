// From PM2's bus to people. In: the bus of one PM2, the channels of the configuration. Out: messages. Guarantee: it only reads;
// PM2 may come and go; what is under way at the end is sent, as far as the channels accept it. There is one message per
// application and kind in a cooldown, and nothing is swallowed: when the cooldown ends, a message says how much was held back.
// The end of a state reaches the channels that were told of its beginning, even by an earlier watcher: open states are remembered
// in a file.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { errorText, LogpipeError, refuseNewer } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createMetrics } from '../core/metrics.ts';
import { makePrivateFolder, writePrivateSync } from '../core/private-files.ts';
import type { Masker } from '../core/secrets/mask.ts';
import type { Channel, ChannelName, Notification, NotifyAction, NotifyReason } from '../incidents/notification.ts';
import { createDispatcher } from '../notify/dispatcher.ts';
import { channelsFor } from '../notify/notify-config.ts';
import { type Routes, routesByPriority } from '../oncall/routes.ts';
import type { Severity } from '../rules/rule-types.ts';
import {
  BUS_EVENTS,
  createLifecycle,
  DAEMON,
  followBus,
  type Happening,
  PM2_KINDS,
  type Pm2Kind,
  readProcessList,
} from './lifecycle.ts';

// ---- the `pm2` section: which events are reported, and how urgently ----

const PM2_PRIORITIES = ['P1', 'P2', 'P3', 'none'] as const;
type Pm2Priority = (typeof PM2_PRIORITIES)[number];

const MEANING: Readonly<Record<Pm2Kind, readonly [priority: Pm2Priority, what: string]>> = {
  start: ['P2', 'An application was started.'],
  restart: ['P2', 'Processes were restarted, by command or by PM2 itself.'],
  reload: ['P2', 'Processes were replaced one by one.'],
  stop: ['P2', 'Processes were stopped or deleted.'],
  error: ['P2', 'A process ended by itself, or reported an exception.'],
  overlimit: ['P1', 'PM2 has given up restarting an application: it is down.'],
  daemonLost: ['P1', 'PM2 itself is gone.'],
};

export const pm2Section = {
  type: 'object',
  description: 'Messages about what happens under PM2, by `logpipe pm2 watch`.',
  additionalProperties: false,
  default: {},
  properties: {
    home: {
      type: 'string',
      minLength: 1,
      description: 'Folder of the PM2 to watch. Default: `.pm2` in the home folder.',
    },
    cooldownMs: {
      type: 'integer',
      minimum: 0,
      maximum: 86_400_000,
      default: 600_000,
      description:
        'Least time between two messages of one kind about one application (P1: half of this); what is held back is counted.',
    },
    quietMs: {
      type: 'integer',
      minimum: 10,
      maximum: 10_000,
      default: 2_000,
      description:
        'A message about a failure is sent when the application’s events have paused for this long (at most 10 s after the first), one about anything else after five times as long (at most 60 s), so that a reload of many workers is one message.',
    },
    priorities: {
      type: 'object',
      description: 'Priority of each kind of event, which decides where it is sent; `none` for nowhere.',
      additionalProperties: false,
      default: {},
      properties: Object.fromEntries(
        PM2_KINDS.map((kind) => {
          const [priority, description] = MEANING[kind];
          return [kind, { enum: PM2_PRIORITIES, default: priority, description }];
        }),
      ),
    },
  },
} as const;

export interface Pm2Config {
  readonly home?: string;
  readonly cooldownMs: number;
  readonly quietMs: number;
  readonly priorities: Readonly<Record<Pm2Kind, Pm2Priority>>;
}

/** PM2's folder. */
function pm2Home(config: Pick<Pm2Config, 'home'>): string {
  return config.home ?? join(homedir(), '.pm2');
}

/** Does PM2 seem to have run there at some time? @throws LogpipeError LOGPIPE_CONFIG_INVALID for a folder that cannot be used */
function hasRunIn(home: string): boolean {
  let names: string[];
  try {
    names = readdirSync(home);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const what =
      code === 'ENOENT' ? 'does not exist' : code === 'ENOTDIR' ? 'is not a folder' : `cannot be read (${code})`;
    throw new LogpipeError(
      'LOGPIPE_CONFIG_INVALID',
      `pm2.home: ${home} ${what}; name PM2's folder with --home, pm2.home or PM2_HOME, as the user whose PM2 it is`,
    );
  }
  return ['pub.sock', 'pm2.pid', 'pm2.log', 'dump.pm2'].some((name) => names.includes(name));
}

// ---- the watch ----

interface Pm2WatchDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly masker: Masker;
  readonly channels: ReadonlyMap<ChannelName, Channel>;
  /** Default: by priority, to the common channels. */
  readonly routes?: Routes;
}

export interface Pm2Watch {
  /** Sends what is gathered and held back; false when not everything went out within `timeoutMs`. */
  stop(timeoutMs: number): Promise<boolean>;
}

/** A message under way; `of`: its channel and incident. */
interface UnderWay {
  readonly of: string;
  readonly incidentId: string;
  readonly channel: ChannelName;
  readonly action: NotifyAction;
}

/** During `pm2 update` PM2 is away for some seconds. */
const LOST_AFTER_MS = 15_000;
const POLL_MS = 50;
/** When PM2 deletes an application it had given up, only its list shows that. */
const COMPARE_MS = 15_000;
const LIST_TIMEOUT_MS = 10_000;
const MAX_TOLD = 1_000;

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID for a PM2 folder that cannot be used, LOGPIPE_FORMAT_NEWER */
export function startPm2Watch(
  config: Pm2Config,
  options: Pick<MessagesOptions, 'environment' | 'host'> & { readonly stateFolder?: string },
  deps: Pm2WatchDeps,
): Pm2Watch {
  const { clock, log, channels } = deps;
  const routes =
    deps.routes ?? routesByPriority((priority) => channelsFor(priority).filter((name) => channels.has(name)));
  const home = pm2Home(config);
  // A typo must not page anybody: the folder must exist, and PM2 is not missed where it has never run.
  let seen = hasRunIn(home);
  const open = createOpenStates(home, log, options.stateFolder, (name) => channels.has(name as ChannelName));
  let sent = 0;
  /** Messages under way, by entry. */
  const underWay = new Map<string, UnderWay>();
  /** Channel and incident, where the channel took the beginning or may have. */
  const told = new Set<string>();
  const dispatcher = createDispatcher(
    {},
    {
      ...deps,
      metrics: createMetrics(),
      random: Math.random,
      mayISend: async () => true,
      onResult(id, result, retry) {
        const message = underWay.get(id);
        if (message === undefined || retry !== undefined) return;
        underWay.delete(id);
        if (message.action === 'resolve') {
          told.delete(message.of);
          open.ended(message.incidentId, message.channel);
        } else if (result.ok || result.doubtful || result.left !== undefined) remember(message);
        else if (!told.has(message.of)) {
          // A channel that refused the beginning has no use for the end.
          const ends = [...underWay].filter(([, { of, action }]) => of === message.of && action === 'resolve');
          for (const [end] of ends) underWay.delete(end);
          dispatcher.forget(ends.map(([end]) => end));
        }
      },
    },
  );
  function remember({ of, incidentId, channel }: UnderWay): void {
    told.add(of);
    open.took(incidentId, channel);
    // Most beginnings have no end: a restart is over when it is reported.
    const [oldest] = told;
    if (told.size > MAX_TOLD && oldest !== undefined) told.delete(oldest);
  }

  const messages = createMessages(
    { ...config, ...options },
    {
      clock,
      log,
      whereTo: (notification) => whereTo(notification, routes, clock.now()),
      onBegin: open.began,
      send(notification, names) {
        const { incidentId, action } = notification;
        const waiting = new Set([...underWay.values()].map(({ of }) => of));
        // An end goes where the beginning went, whatever the priority is now.
        for (const channel of action === 'resolve' ? channels.keys() : names) {
          const of = `${channel}/${incidentId}`;
          if (action === 'resolve' && !told.has(of) && !waiting.has(of)) continue;
          const id = `${++sent}-${channel}`;
          underWay.set(id, { of, incidentId, channel, action });
          dispatcher.add([{ id, channel, notification, attempts: 0, nextMs: 0 }]);
        }
      },
    },
  );
  messages.resume(open.found);
  for (const { incidentId, channels: names } of open.found) for (const name of names) told.add(`${name}/${incidentId}`);
  const down = open.found.filter(({ kind }) => kind === 'overlimit').map(({ app }) => app);
  const lifecycle = createLifecycle(
    { ...config, down },
    {
      clock,
      mask: deps.masker.text,
      // Names and numbers come from the bus too.
      onHappening(happening) {
        messages.tell(deps.masker.value(happening) as Happening);
        if (happening.kind === 'overlimit' && !happening.ended) watchDown();
      },
    },
  );

  const socket = join(home, 'pub.sock');
  let stopped = false;
  let cancelCompare = () => {};
  /** Connected, but PM2's list has not been read since. */
  let unread = false;
  /** Called at each connection, and while something is down: what happened in the meantime was not on the bus. */
  async function compare(): Promise<void> {
    cancelCompare();
    if (stopped || (!unread && lifecycle.down().length === 0)) return;
    try {
      const list = await readProcessList(join(home, 'rpc.sock'), LIST_TIMEOUT_MS);
      if (lifecycle.compare(list)) unread = false;
    } catch (error) {
      log.debug('PM2 did not give its list', { reason: errorText(error) });
    }
    watchDown();
  }
  function watchDown(): void {
    cancelCompare();
    cancelCompare = clock.after(COMPARE_MS, () => void compare());
  }
  const daemon = (message: string, more: Pick<Happening, 'ended'> = {}) =>
    messages.tell({
      ...{ app: DAEMON, kind: 'daemonLost', atMs: clock.now(), processes: [], message, facts: {} },
      ...more,
    });
  let cancelLost = () => {};
  const endBus = followBus(
    { socket, events: BUS_EVENTS },
    {
      clock,
      onEvent: lifecycle.take,
      onState({ connected, reason }) {
        cancelLost();
        if (connected) {
          log.info('watching PM2', { socket });
          seen = true;
          unread = true;
          void compare();
          daemon('PM2 answers again', { ended: true });
          return;
        }
        unread = false;
        log.warn('PM2 cannot be watched; trying again', { socket, reason });
        // Where it has never run, it may yet come.
        if (!seen) return;
        cancelLost = clock.after(LOST_AFTER_MS, () =>
          daemon(
            `PM2 on ${options.host} has not answered for ${LOST_AFTER_MS / 1000} s: nothing restarts its applications`,
          ),
        );
      },
    },
  );

  return {
    async stop(timeoutMs) {
      stopped = true;
      endBus();
      cancelLost();
      cancelCompare();
      lifecycle.flush();
      messages.close();
      const deadline = clock.monotonicMs() + timeoutMs;
      while (dispatcher.pending() > 0 && clock.monotonicMs() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
      const told = dispatcher.pending() === 0;
      await dispatcher.close();
      for (const channel of channels.values()) await channel.close();
      return told;
    },
  };
}

// ---- whom a message reaches ----

interface WhereTo extends Pick<Notification, 'team' | 'people'> {
  readonly channels: readonly ChannelName[];
}

/** The team's channels and who is on call, at once: nothing here could hold a message until business hours, or escalate it. */
export function whereTo({ priority, alerts }: Notification, routes: Routes, atMs: number): WhereTo {
  const [alert] = alerts;
  const team = alert && routes.team(routes.teamOf({ ...alert, group: alert.ruleId }));
  const channels = routes.channels(priority, team?.id);
  const { to, onCall } = routes.of(priority);
  const primary = team === undefined || !onCall ? undefined : routes.onCall(team, atMs).primary;
  if (team === undefined || primary === undefined)
    return { channels, ...(team === undefined ? {} : { team: team.id }) };
  const kinds: readonly string[] = to;
  const own = routes.personChannels(primary).filter((name) => kinds.includes(name.split(':', 1)[0]!));
  const { id, name, slackId } = primary;
  return {
    channels: [...channels, ...own],
    team: team.id,
    people: [{ role: 'primary', id, name, ...(slackId === undefined ? {} : { slackId }) }],
  };
}

// ---- from happenings to messages ----

interface MessagesOptions extends Pick<Pm2Config, 'cooldownMs' | 'priorities'> {
  readonly environment: string;
  /** This machine's name: incidents of two hosts must not become one. */
  readonly host: string;
}

interface MessagesDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly send: (notification: Notification, channels: readonly ChannelName[]) => void;
  /** Only channels that are configured. */
  readonly whereTo: (notification: Notification) => WhereTo;
  /** A state was reported; its end will have the same incident. */
  readonly onBegin?: (state: Omit<OpenState, 'channels'>) => void;
}

export interface Messages {
  /** States that an earlier watcher reported: their end is reported, and their beginning not again. */
  resume(states: readonly OpenState[]): void;
  tell(happening: Happening): void;
  /** Reports what is held back, and holds nothing back from then on. */
  close(): void;
}

interface Kept {
  readonly incidentId: string;
  readonly startedMs: number;
  held: number;
  newest: Happening;
  cancel: () => void;
}

const TITLES: Readonly<Record<Pm2Kind, string>> = {
  start: 'Started',
  restart: 'Restarted',
  reload: 'Reloaded',
  stop: 'Stopped',
  error: 'Process Ended by Itself',
  overlimit: 'Down: PM2 Gave Up Restarting',
  daemonLost: 'Gone: Nothing Restarts the Applications',
};

export function createMessages(options: MessagesOptions, deps: MessagesDeps): Messages {
  const { clock, log } = deps;
  const kept = new Map<string, Kept>();
  let closed = false;

  function say(happening: Happening, entry: Kept, reason: NotifyReason, held: number): void {
    const written = options.priorities[happening.kind];
    // A watcher with another configuration has reported the beginning.
    const priority = written === 'none' && reason === 'all-resolved' ? 'P1' : written;
    if (priority === 'none') return;
    const notification = notificationOf({ ...options, priority, reason, held }, happening, entry, clock.now());
    const { title, message, metadata } = notification;
    const alert = { alert: { title, message, metadata } };
    if (reason === 'all-resolved') log.info(`${title}: ended`, { incidentId: entry.incidentId });
    else if (priority === 'P1') log.error('CRITICAL ALERT', alert);
    else if (notification.severity === 'warning') log.warn('WARNING ALERT', alert);
    else log.info('INFO ALERT', alert);
    const { channels, ...who } = deps.whereTo(notification);
    deps.send({ ...notification, ...who }, channels);
  }

  function begin(key: string, happening: Happening, reason: NotifyReason, held: number): void {
    const atMs = clock.now();
    const incidentId = `pm2-${createHash('sha1').update(`${options.host}/${key}/${atMs}`).digest('hex').slice(0, 16)}`;
    const entry: Kept = { incidentId, startedMs: happening.atMs, held: 0, newest: happening, cancel: () => {} };
    if (isState(happening.kind) && options.priorities[happening.kind] !== 'none') {
      deps.onBegin?.({ app: happening.app, kind: happening.kind, incidentId, startedMs: entry.startedMs });
    }
    say(happening, entry, reason, held);
    if (closed) return;
    const cooldownMs = options.priorities[happening.kind] === 'P1' ? options.cooldownMs / 2 : options.cooldownMs;
    entry.cancel = clock.after(cooldownMs, () => ended(key, entry));
    kept.set(key, entry);
  }

  function ended(key: string, entry: Kept): void {
    entry.cancel();
    if (entry.held > 0) {
      kept.delete(key);
      begin(key, entry.newest, 'repeat', entry.held);
    } else if (!isState(entry.newest.kind)) kept.delete(key);
  }

  return {
    resume(states) {
      for (const { app, kind, incidentId, startedMs } of states) {
        const newest = { app, kind, atMs: startedMs, processes: [], message: '', facts: {} };
        kept.set(`${app}/${kind}`, { incidentId, startedMs, held: 0, newest, cancel: () => {} });
      }
    },
    tell(happening) {
      const key = `${happening.app}/${happening.kind}`;
      const known = kept.get(key);
      if (happening.ended) {
        if (known === undefined) return;
        known.cancel();
        kept.delete(key);
        say(happening, known, 'all-resolved', 0);
      } else if (known === undefined) begin(key, happening, 'first', 0);
      else {
        known.held++;
        known.newest = happening;
      }
    },
    close() {
      closed = true;
      for (const [key, entry] of [...kept]) ended(key, entry);
      kept.clear();
    },
  };
}

/** A state lasts until its end is reported; the other kinds are over when they are reported. */
function isState(kind: Pm2Kind): boolean {
  return kind === 'overlimit' || kind === 'daemonLost';
}

function severityOf(kind: Pm2Kind, priority: 'P1' | 'P2' | 'P3'): Severity {
  if (priority === 'P1') return 'critical';
  return kind === 'error' || isState(kind) ? 'warning' : 'info';
}

function notificationOf(
  options: MessagesOptions & { priority: 'P1' | 'P2' | 'P3'; reason: NotifyReason; held: number },
  { app, kind, message: text, facts, ended }: Happening,
  { incidentId, startedMs }: Kept,
  atMs: number,
): Notification {
  const { priority, reason, held, host, environment } = options;
  const title = `${app}: ${TITLES[kind]}`;
  const again = held === 0 ? '' : ` (${held} more since the last message)`;
  const message = `${text}${again}`;
  const metadata = { application: app, event: kind, host, ...facts };
  const state = ended ? ('resolved' as const) : ('firing' as const);
  const alert = {
    ...{
      ruleId: `pm2-${kind}`,
      title,
      priority,
      labels: { application: app, host },
      state,
      startedMs,
      message,
      metadata,
    },
    ...(ended ? { resolvedMs: atMs } : {}),
    runbook: 'docs/pm2.md',
  };
  return {
    incidentId,
    dedupKey: dedupKey(host, app, kind),
    action: ended ? 'resolve' : 'trigger',
    // Here, a repetition is news, not a reminder.
    reason: reason === 'repeat' ? 'new-alerts' : reason,
    severity: severityOf(kind, priority),
    ...{ priority, title, message, metadata, atMs, environment, alerts: [alert], joined: [] },
  };
}

/** PagerDuty accepts 255 characters. */
function dedupKey(host: string, app: string, kind: Pm2Kind): string {
  const key = `logpipe/pm2/${host}/${app}/${kind}`;
  return key.length <= 255 ? key : `logpipe/pm2/${createHash('sha1').update(key).digest('hex')}`;
}

// ---- open states, for the next watcher ----

/** In the working folder, like a replay's state. */
const STATE_FOLDER = '.logpipe/pm2';

interface OpenState {
  readonly app: string;
  readonly kind: Pm2Kind;
  readonly incidentId: string;
  readonly startedMs: number;
  /** Channels that took the message, or may have. */
  readonly channels: readonly string[];
}

interface OpenStates {
  /** Those of the previous watcher. */
  readonly found: readonly OpenState[];
  began(state: Omit<OpenState, 'channels'>): void;
  took(incidentId: string, channel: string): void;
  /** The channel was told of the end. */
  ended(incidentId: string, channel: string): void;
}

/**
 * One JSON file, replaced as a whole, for this user alone. A folder that cannot be written is logged once; then only the memory
 * across restarts is lost.
 * @param home the home of the watched PM2: each has its own file
 * @param isChannel whether there is such a channel now: states that only others were told of are dropped
 */
function createOpenStates(
  home: string,
  log: Log,
  folder = STATE_FOLDER,
  isChannel: (name: string) => boolean = () => true,
): OpenStates {
  const path = join(folder, `${createHash('sha256').update(resolve(home)).digest('hex').slice(0, 16)}.json`);
  const found = load(path, log)
    .map((state) => ({ ...state, channels: state.channels.filter(isChannel) }))
    .filter((state) => state.channels.length > 0);
  const states = new Map(found.map((state) => [state.incidentId, state]));
  let said = false;

  function save(): void {
    try {
      makePrivateFolder(folder, { own: true });
      writePrivateSync(path, `${JSON.stringify({ v: STATE_FORMAT, open: [...states.values()] })}\n`);
    } catch (error) {
      if (!said) log.warn('Open states cannot be saved for the next watcher', { path, reason: errorText(error) });
      said = true;
    }
  }

  return {
    found,
    began(state) {
      states.set(state.incidentId, { ...state, channels: [] });
    },
    took(incidentId, channel) {
      const state = states.get(incidentId);
      if (state === undefined || state.channels.includes(channel)) return;
      states.set(incidentId, { ...state, channels: [...state.channels, channel] });
      save();
    },
    ended(incidentId, channel) {
      const state = states.get(incidentId);
      if (state === undefined) return;
      const channels = state.channels.filter((name) => name !== channel);
      if (channels.length === 0) states.delete(incidentId);
      else states.set(incidentId, { ...state, channels });
      save();
    },
  };
}

/** Keys that may be missing are no new version. */
const STATE_FORMAT = 1;

/** @throws LogpipeError LOGPIPE_FORMAT_NEWER */
function load(path: string, log: Log): OpenState[] {
  try {
    const written = JSON.parse(readFileSync(path, 'utf8')) as OpenState[] | { v: unknown; open: OpenState[] };
    // Before 0.2 the file was the bare list.
    const { v, open } = Array.isArray(written) ? { v: undefined, open: written } : written;
    refuseNewer(`${path}: what is open at the PM2 watcher`, v, STATE_FORMAT);
    return open.filter(({ app, kind, incidentId, startedMs, channels }) => {
      return [app, kind, incidentId].every((text) => typeof text === 'string') && startedMs > 0 && channels.length > 0;
    });
  } catch (error) {
    if (error instanceof LogpipeError) throw error;
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      log.warn('The open states of the previous watcher cannot be read', { path, reason: errorText(error) });
    }
    return [];
  }
}
