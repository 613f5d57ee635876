// The `pm2` section: which events under PM2 are reported, and how urgently. In: YAML. Out: Pm2Config, frozen.
import { readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { LogpipeError } from '../core/errors.ts';
import { PM2_KINDS, type Pm2Kind } from './lifecycle.ts';

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
export function pm2Home(config: Pick<Pm2Config, 'home'>): string {
  return config.home ?? join(homedir(), '.pm2');
}

/** Does PM2 seem to have run there at some time? @throws LogpipeError LOGPIPE_CONFIG_INVALID for a folder that cannot be used */
export function hasRunIn(home: string): boolean {
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
