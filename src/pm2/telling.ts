// Happenings -> messages. In: what happened under PM2. Out: notifications, to the channels of their priority. Guarantee: one
// message per application and kind in a cooldown, and nothing is swallowed: what was held back is told, with its number, when
// the cooldown ends; the end of a state reaches the channels that were told of its beginning.
import { createHash } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { ChannelName, Notification, NotifyReason } from '../notify/notification.ts';
import type { Severity } from '../rules/observation.ts';
import type { Happening, Pm2Kind } from './happening.ts';
import type { OpenState } from './open-states.ts';
import type { Pm2Config } from './pm2-config.ts';

export interface TellingOptions extends Pick<Pm2Config, 'cooldownMs' | 'priorities'> {
  readonly environment: string;
  /** Of this machine; two hosts' incidents must not become one. */
  readonly host: string;
}

export interface TellingDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly send: (notification: Notification, channels: readonly ChannelName[]) => void;
  /** Channels of a priority, configured ones only. */
  readonly channelsFor: (priority: 'P1' | 'P2' | 'P3') => readonly ChannelName[];
  /** A state was told; its end has the same incident. */
  readonly onBegin?: (state: Omit<OpenState, 'channels'>) => void;
}

export interface Telling {
  /** States that were told by an earlier watcher: their end is told, and they are not told again. */
  resume(states: readonly OpenState[]): void;
  tell(happening: Happening): void;
  /** Tells what is held back, and holds nothing back any more. */
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

export function createTelling(options: TellingOptions, deps: TellingDeps): Telling {
  const { clock, log } = deps;
  const kept = new Map<string, Kept>();
  let closed = false;

  function say(happening: Happening, entry: Kept, reason: NotifyReason, held: number): void {
    const written = options.priorities[happening.kind];
    // Its beginning was told by a watcher with another configuration.
    const priority = written === 'none' && reason === 'all-resolved' ? 'P1' : written;
    if (priority === 'none') return;
    const notification = notificationOf({ ...options, priority, reason, held }, happening, entry, clock.now());
    const { title, message, metadata } = notification;
    const alert = { alert: { title, message, metadata } };
    if (reason === 'all-resolved') log.info(`${title}: ended`, { incidentId: entry.incidentId });
    else if (priority === 'P1') log.error('CRITICAL ALERT', alert);
    else if (notification.severity === 'warning') log.warn('WARNING ALERT', alert);
    else log.info('INFO ALERT', alert);
    deps.send(notification, deps.channelsFor(priority));
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

/** Lasts until it is said to have ended; the other kinds are over when they are told. */
function isState(kind: Pm2Kind): boolean {
  return kind === 'overlimit' || kind === 'daemonLost';
}

function severityOf(kind: Pm2Kind, priority: 'P1' | 'P2' | 'P3'): Severity {
  if (priority === 'P1') return 'critical';
  return kind === 'error' || isState(kind) ? 'warning' : 'info';
}

function notificationOf(
  options: TellingOptions & { priority: 'P1' | 'P2' | 'P3'; reason: NotifyReason; held: number },
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
    // A repetition here is news, not a reminder.
    reason: reason === 'repeat' ? 'new-alerts' : reason,
    severity: severityOf(kind, priority),
    ...{ priority, title, message, metadata, atMs, environment, alerts: [alert], joined: [] },
  };
}

/** PagerDuty takes 255 characters. */
function dedupKey(host: string, app: string, kind: Pm2Kind): string {
  const key = `logpipe/pm2/${host}/${app}/${kind}`;
  return key.length <= 255 ? key : `logpipe/pm2/${createHash('sha1').update(key).digest('hex')}`;
}
