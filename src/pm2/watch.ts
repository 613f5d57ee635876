// PM2's bus -> people. In: the bus of one PM2, the channels of the configuration. Out: messages. Guarantee: reads only; PM2 may
// come and go; what is under way at the end is sent, as far as the channels take it.
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { Masker } from '../core/mask.ts';
import { createMetrics } from '../core/metrics.ts';
import { channelsFor } from '../notify/channels.ts';
import { createDispatcher } from '../notify/dispatcher.ts';
import type { Channel, ChannelName, NotifyAction } from '../notify/notification.ts';
import { followBus } from './bus.ts';
import { DAEMON, type Happening } from './happening.ts';
import { BUS_EVENTS, createLifecycle } from './lifecycle.ts';
import { busSocket, type Pm2Config } from './pm2-config.ts';
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

/** `pm2 update` takes PM2 away for some seconds. */
const LOST_AFTER_MS = 15_000;
const POLL_MS = 50;
const MAX_TOLD = 1_000;

export function startPm2Watch(
  config: Pm2Config,
  options: Pick<TellingOptions, 'environment' | 'host'>,
  deps: Pm2WatchDeps,
): Pm2Watch {
  const { clock, log, channels } = deps;
  let sent = 0;
  /** Messages on their way, by entry. */
  const underWay = new Map<string, { readonly of: string; readonly action: NotifyAction }>();
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
        if (message.action === 'resolve') told.delete(message.of);
        else if (result.ok || result.doubtful || result.left !== undefined) remember(message.of);
        else if (!told.has(message.of)) {
          // Whoever refused the beginning has no use for the end.
          const ends = [...underWay].filter(([, { of, action }]) => of === message.of && action === 'resolve');
          for (const [end] of ends) underWay.delete(end);
          dispatcher.forget(ends.map(([end]) => end));
        }
      },
    },
  );
  function remember(of: string): void {
    told.add(of);
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
      send(notification, names) {
        const { incidentId, action } = notification;
        const waiting = new Set([...underWay.values()].map(({ of }) => of));
        for (const channel of names) {
          const of = `${channel}/${incidentId}`;
          if (action === 'resolve' && !told.has(of) && !waiting.has(of)) continue;
          const id = `${++sent}-${channel}`;
          underWay.set(id, { of, action });
          dispatcher.add([{ id, channel, notification, attempts: 0, nextMs: 0 }]);
        }
      },
    },
  );
  const lifecycle = createLifecycle(config, {
    clock,
    mask: deps.masker.text,
    // Names and numbers come from the bus as well.
    onHappening: (happening) => telling.tell(deps.masker.value(happening) as Happening),
  });

  const socket = busSocket(config);
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
          daemon('PM2 answers again', { ended: true });
          return;
        }
        log.warn('PM2 cannot be watched; trying again', { socket, reason });
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
      endBus();
      cancelLost();
      lifecycle.flush();
      telling.close();
      const deadline = Date.now() + timeoutMs;
      while (dispatcher.pending() > 0 && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
      const told = dispatcher.pending() === 0;
      await dispatcher.close();
      for (const channel of channels.values()) await channel.close();
      return told;
    },
  };
}
