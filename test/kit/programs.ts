// Which programs of other projects are installed, and how to get what is missing. Loads nothing else, for the preflight.
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Programs of the monitoring around logpipe that the tests start, each with the Debian package that has it. */
const MONITORING = {
  prometheus: 'prometheus',
  promtool: 'prometheus',
  'prometheus-node-exporter': 'prometheus-node-exporter',
  'prometheus-redis-exporter': 'prometheus-redis-exporter',
} as const;

export type MonitoringProgram = keyof typeof MONITORING;

/** Path of a program; undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter);
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

/** @throws Error that says how to install it */
export function monitoringProgram(name: MonitoringProgram): string {
  const path = findProgram(name);
  if (path === undefined) throw new Error(`${name} is not installed: ${installLine([MONITORING[name]])}`);
  return path;
}

/** One line for everything that is missing; none when nothing is. */
export function missingMonitoring(): string[] {
  const missing = Object.entries(MONITORING).filter(([name]) => findProgram(name) === undefined);
  if (missing.length === 0) return [];
  const packages = [...new Set(missing.map(([, name]) => name))];
  return [`${missing.map(([name]) => name).join(', ')}: ${installLine(packages)}`];
}

function installLine(packages: readonly string[]): string {
  return `apt-get install --no-install-recommends ${packages.join(' ')} (or your system’s packages of them)`;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
