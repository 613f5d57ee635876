// PM2's bus -> people. In: the bus of one PM2, the channels of the configuration. Out: messages. Guarantee: reads only; PM2 may
// come and go; what is under way at the end is sent, as far as the channels take it.
import { join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Masker } from '../core/mask.ts';
import { createMetrics } from '../core/metrics.ts';
import { channelsFor } from '../notify/channels.ts';
import { createDispatcher } from '../notify/dispatcher.ts';
import type { Channel, ChannelName, NotifyAction } from '../notify/notification.ts';
import { followBus } from './bus.ts';
import { DAEMON, type Happening } from './happening.ts';
import { BUS_EVENTS, createLifecycle } from './lifecycle.ts';
import { createOpenStates } from './open-states.ts';
import { hasRunIn, type Pm2Config, pm2Home } from './pm2-config.ts';
import { readProcessList } from './process-list.ts';
import { createTelling, type TellingOptions } from './telling.ts';

export interface Pm2WatchDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly masker: Masker;
  readonly channels: ReadonlyMap<ChannelName, Channel>;
}

export interface Pm2Watch {
  /** Sends what is gathered and held back; false when not everything went out within `timeoutMs`. */
  stop(timeoutMs: number): Promise<boolean>;
}

/** A message on its way; `of`: channel and incident. */
interface UnderWay {
  readonly of: string;
  readonly incidentId: string;
  readonly channel: ChannelName;
  readonly action: NotifyAction;
}

/** `pm2 update` takes PM2 away for some seconds. */
const LOST_AFTER_MS = 15_000;
const POLL_MS = 50;
/** What PM2 deletes after it has given it up is in its list alone. */
const COMPARE_MS = 15_000;
const LIST_TIMEOUT_MS = 10_000;
const MAX_TOLD = 1_000;

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID for a folder of PM2 that cannot be used */
export function startPm2Watch(
  config: Pm2Config,
  options: Pick<TellingOptions, 'environment' | 'host'> & { readonly stateFolder?: string },
  deps: Pm2WatchDeps,
): Pm2Watch {
  const { clock, log, channels } = deps;
  const home = pm2Home(config);
  // A typo must not page anybody: the folder is there, and where PM2 has never been it is not missed.
  let seen = hasRunIn(home);
  const open = createOpenStates(home, log, options.stateFolder, (name) => channels.has(name as ChannelName));
  let sent = 0;
  /** Messages on their way, by entry. */
  const underWay = new Map<string, UnderWay>();
  /** Incident and channel, where the channel took the beginning, or may have. */
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
          // Whoever refused the beginning has no use for the end.
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
    // Most beginnings have no end: a restart is over when it is told.
    const [oldest] = told;
    if (told.size > MAX_TOLD && oldest !== undefined) told.delete(oldest);
  }

  const telling = createTelling(
    { ...config, ...options },
    {
      clock,
      log,
      channelsFor: (priority) => channelsFor(priority).filter((name) => channels.has(name)),
      onBegin: open.began,
      send(notification, names) {
        const { incidentId, action } = notification;
        const waiting = new Set([...underWay.values()].map(({ of }) => of));
        // An end goes where the beginning went, whatever the priority is by now.
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
  telling.resume(open.found);
  for (const { incidentId, channels: names } of open.found) for (const name of names) told.add(`${name}/${incidentId}`);
  const down = open.found.filter(({ kind }) => kind === 'overlimit').map(({ app }) => app);
  const lifecycle = createLifecycle(
    { ...config, down },
    {
      clock,
      mask: deps.masker.text,
      // Names and numbers come from the bus as well.
      onHappening(happening) {
        telling.tell(deps.masker.value(happening) as Happening);
        if (happening.kind === 'overlimit' && !happening.ended) watchDown();
      },
    },
  );

  const socket = join(home, 'pub.sock');
  let stopped = false;
  let cancelCompare = () => {};
  /** Connected, and PM2's list has not been read since. */
  let unread = false;
  /** While something is down, and at each connection: what happened meanwhile is on no bus. */
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
    telling.tell({
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
        // Where it has never been it may yet come.
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
      telling.close();
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
