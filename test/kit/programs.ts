// Which programs of other projects are installed, and how to get what is missing. Loads nothing else, for the preflight.
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Programs of the monitoring around logpipe that the tests start, each with the Debian package that has it. */
const MONITORING = {
  prometheus: 'prometheus',
  promtool: 'prometheus',
  'prometheus-alertmanager': 'prometheus-alertmanager',
  'prometheus-node-exporter': 'prometheus-node-exporter',
  'prometheus-redis-exporter': 'prometheus-redis-exporter',
} as const;

/** Programs that write to Kafka as other projects do. */
const PRODUCERS = { kcat: 'kcat', rsyslogd: 'rsyslog' } as const;

/** rsyslog's module for Kafka is a package of its own. */
const OMKAFKA = { file: 'omkafka.so', package: 'rsyslog-kafka' };

/** The page is looked at in a real browser; other systems than Debian name it otherwise. */
const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'] as const;

/** What reads the files for those who run it: each program, with the Debian package that has it. */
const ESTATE = { kubectl: 'kubernetes-client', 'systemd-analyze': 'systemd' } as const;

export type MonitoringProgram = keyof typeof MONITORING;
export type ProducerProgram = keyof typeof PRODUCERS;

/** Path of a program; undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  // Daemons are where only root's PATH leads.
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

/** @throws Error that says how to install it */
export function monitoringProgram(name: MonitoringProgram): string {
  return installed(name, MONITORING[name]);
}

/** @throws Error that says how to install it */
export function producerProgram(name: ProducerProgram): string {
  if (name === 'rsyslogd' && !hasOmkafka())
    throw new Error(`${OMKAFKA.file} is missing: ${installLine([OMKAFKA.package])}`);
  return installed(name, PRODUCERS[name]);
}

/** @throws Error that says how to install it */
export function estateProgram(name: keyof typeof ESTATE): string {
  return installed(name, ESTATE[name]);
}

/** @throws Error that says how to install it */
export function browserProgram(): string {
  const path = BROWSERS.map(findProgram).find((found) => found !== undefined);
  if (path === undefined) throw new Error(`chromium is not installed: ${installLine(['chromium'])}`);
  return path;
}

/** One line for everything that is missing; none when nothing is. */
export function missingPrograms(): string[] {
  const missing: [string, string][] = Object.entries({ ...MONITORING, ...PRODUCERS, ...ESTATE }).filter(
    ([name]) => findProgram(name) === undefined,
  );
  if (!hasOmkafka()) missing.push([OMKAFKA.file, OMKAFKA.package]);
  if (BROWSERS.every((name) => findProgram(name) === undefined)) missing.push(['chromium', 'chromium']);
  if (missing.length === 0) return [];
  const packages = [...new Set(missing.map(([, name]) => name))];
  return [`${missing.map(([name]) => name).join(', ')}: ${installLine(packages)}`];
}

function installed(name: string, debianPackage: string): string {
  const path = findProgram(name);
  if (path === undefined) throw new Error(`${name} is not installed: ${installLine([debianPackage])}`);
  return path;
}

/** Below the library folder of the machine's kind, or straight in it. */
function hasOmkafka(): boolean {
  const folders = ['/usr/lib', '/usr/lib64', '/usr/local/lib'].filter((folder) => existsSync(folder));
  return folders
    .flatMap((folder) => [folder, ...readdirSync(folder).map((name) => join(folder, name))])
    .some((folder) => existsSync(join(folder, 'rsyslog', OMKAFKA.file)));
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
