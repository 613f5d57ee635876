// What `stack up` left running, as a file: read by later commands, which trust a process number only with its start time.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../src/core/package-root.ts';
import type { ClusterLayout, MemberName } from './cluster.ts';
import { processStart } from './pids.ts';

export interface StackEntry {
  version: string;
  pid: number;
  /** As `processStart` reads it. */
  start: string;
  port: number;
  logFile: string;
}

/** One entry per member that was started; the layout from before the first one on. */
export type StackState = Partial<Record<MemberName, StackEntry>> & { layout?: ClusterLayout };

/** The git-ignored folder of the development servers: state, data and logs. */
export function stackFolder(): string {
  return join(packageRoot(), '.logpipe', 'stack');
}

/** Empty when nothing was started or the file cannot be read. */
export function readState(folder: string): StackState {
  try {
    return JSON.parse(readFileSync(join(folder, 'state.json'), 'utf8')) as StackState;
  } catch {
    return {};
  }
}

/** Replaces the file as a whole: a reader sees the old or the new one. */
export function writeState(folder: string, state: StackState): void {
  mkdirSync(folder, { recursive: true });
  const fresh = join(folder, `state.json.${process.pid}`);
  writeFileSync(fresh, `${JSON.stringify(state, undefined, 2)}\n`);
  renameSync(fresh, join(folder, 'state.json'));
}

/** True when exactly that process still runs. */
export function entryAlive(entry: StackEntry | undefined): entry is StackEntry {
  return entry !== undefined && processStart(entry.pid) === entry.start;
}
