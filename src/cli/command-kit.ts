// What every group of commands is given to register itself with.
import type { Command } from 'commander';
import type { Config } from '../config.ts';
import type { Log } from '../core/log.ts';
import type { Io } from './io.ts';

export interface CommandKit {
  readonly io: Io;
  /** Adds `--config`. */
  readonly withConfig: (command: Command) => Command;
  readonly load: (options: { config?: string }) => { config: Config; log: Log };
  /** The exit status of the command's work. */
  readonly finish: (work: Promise<number>) => Promise<void>;
}

export function collect(value: string, all: string[]): string[] {
  return [...all, value];
}
