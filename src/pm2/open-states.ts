// What was told and is not over, for the watcher that comes after this one. In: states as they begin, channels as they take the
// message, ends as they are taken. Out: one JSON file. Guarantee: replaced as a whole, for this user alone; a folder that cannot be
// written is said once and costs the memory, nothing else.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { makePrivateFolder, writePrivateSync } from '../core/private-files.ts';
import type { Pm2Kind } from './happening.ts';

/** In the working folder, as a replay's. */
export const STATE_FOLDER = '.logpipe/pm2';

export interface OpenState {
  readonly app: string;
  readonly kind: Pm2Kind;
  readonly incidentId: string;
  readonly startedMs: number;
  /** Channels that took the message, or may have. */
  readonly channels: readonly string[];
}

export interface OpenStates {
  /** Of the watcher before this one. */
  readonly found: readonly OpenState[];
  began(state: Omit<OpenState, 'channels'>): void;
  took(incidentId: string, channel: string): void;
  /** The channel has the end. */
  ended(incidentId: string, channel: string): void;
}

/**
 * @param home of the PM2 that is watched: each has a file of its own
 * @param isChannel whether there is such a channel now: what only others were told of, nobody here knows
 */
export function createOpenStates(
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
      writePrivateSync(path, `${JSON.stringify([...states.values()])}\n`);
    } catch (error) {
      if (!said)
        log.warn('What is open cannot be remembered over a restart of the watcher', { path, reason: errorText(error) });
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

function load(path: string, log: Log): OpenState[] {
  try {
    const list = JSON.parse(readFileSync(path, 'utf8')) as OpenState[];
    return list.filter(({ app, kind, incidentId, startedMs, channels }) => {
      return [app, kind, incidentId].every((text) => typeof text === 'string') && startedMs > 0 && channels.length > 0;
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      log.warn('What was open before cannot be read', { path, reason: errorText(error) });
    }
    return [];
  }
}
