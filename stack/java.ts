// Finds the installed Java development kits and Maven. Nothing is installed, nothing is fetched.
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { LogpipeError } from '../src/core/errors.ts';
import { ELASTICSEARCH, type EsChoice, type ServerRelease } from './versions.ts';

const run = promisify(execFile);

export interface Jdk {
  home: string;
  /** Feature release: 17, 21, 25. */
  major: number;
  /** As `java -version` prints it, for example 17.0.15. */
  version: string;
}

export interface JdkPlaces {
  env: Readonly<Record<string, string | undefined>>;
  /** Folders whose entries are JDK homes. */
  folders: readonly string[];
}

/** Shown wherever something is missing; Debian's names, because those are the ones most readers can type. */
export const INSTALL_JDK = 'apt-get install default-jdk-headless (or any JDK 17+, https://adoptium.net)';
export const INSTALL_JDK_21 =
  'any JDK 21+, https://adoptium.net (or apt-get install openjdk-21-jdk-headless where there is one)';
export const INSTALL_MAVEN = 'apt-get install maven (https://maven.apache.org)';

/** Every JDK (a runtime without compiler does not count) of JAVA_HOME, PATH and the usual folders, newest first. */
export async function findJdks(places: JdkPlaces = usualPlaces()): Promise<Jdk[]> {
  const homes = new Set<string>();
  const add = (home: string) => {
    if (existsSync(join(home, 'bin', 'java')) && existsSync(join(home, 'bin', 'javac'))) homes.add(realpathSync(home));
  };
  if (places.env.JAVA_HOME) add(places.env.JAVA_HOME);
  for (const folder of (places.env.PATH ?? '').split(delimiter)) {
    const java = join(folder, 'java');
    if (folder !== '' && existsSync(java)) add(dirname(dirname(realpathSync(java))));
  }
  for (const folder of places.folders) {
    if (!existsSync(folder)) continue;
    for (const name of readdirSync(folder)) {
      add(join(folder, name));
      add(join(folder, name, 'Contents', 'Home'));
    }
  }
  const found = await Promise.all([...homes].map(describeJdk));
  return found.filter((jdk) => jdk !== undefined).sort((a, b) => b.major - a.major || (a.home < b.home ? -1 : 1));
}

/** Reads `version "17.0.15"` (or the old `"1.8.0_402"`) out of what `java -version` prints. */
export function parseJavaVersion(text: string): { major: number; version: string } | undefined {
  const version = /version "([^"]+)"/.exec(text)?.[1];
  const parts = /^(?:1\.)?(\d+)/.exec(version ?? '');
  return version && parts ? { major: Number(parts[1]), version } : undefined;
}

/** Path of the `mvn` program on PATH (or in MAVEN_HOME), undefined when there is none. */
export function findMaven(env: Readonly<Record<string, string | undefined>> = process.env): string | undefined {
  const folders = (env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  if (env.MAVEN_HOME) folders.unshift(join(env.MAVEN_HOME, 'bin'));
  return folders.map((folder) => join(folder, 'mvn')).find((path) => existsSync(path));
}

/** The newest JDK that runs `release`; LOGPIPE_STACK_MISSING, saying how to install one, when there is none. */
export function jdkFor(release: ServerRelease, jdks: readonly Jdk[]): Jdk {
  const jdk = jdks.find((candidate) => candidate.major >= release.java);
  if (jdk) return jdk;
  const have = jdks.map((candidate) => candidate.version).join(', ') || 'none';
  throw new LogpipeError(
    'LOGPIPE_STACK_MISSING',
    `${release.kind} ${release.version} needs a JDK ${release.java} or newer; found: ${have}. To install: ${release.java > 17 ? INSTALL_JDK_21 : INSTALL_JDK}.`,
  );
}

/** The Elasticsearch release for a choice: `auto` is 9 when a JDK 21+ is there, else 8. */
export function elasticsearchFor(choice: EsChoice, jdks: readonly Jdk[]): ServerRelease {
  if (choice !== 'auto') return ELASTICSEARCH[choice];
  return jdks.some((jdk) => jdk.major >= ELASTICSEARCH['9'].java) ? ELASTICSEARCH['9'] : ELASTICSEARCH['8'];
}

function usualPlaces(): JdkPlaces {
  return {
    env: process.env,
    folders: [
      '/usr/lib/jvm',
      '/usr/local/lib/jvm',
      '/opt/java',
      '/Library/Java/JavaVirtualMachines',
      join(homedir(), '.sdkman', 'candidates', 'java'),
      join(homedir(), '.jdks'),
    ],
  };
}

async function describeJdk(home: string): Promise<Jdk | undefined> {
  try {
    const { stdout, stderr } = await run(join(home, 'bin', 'java'), ['-version'], { timeout: 10_000 });
    const parsed = parseJavaVersion(stderr + stdout);
    return parsed && { home, ...parsed };
  } catch {
    // A broken installation is no installation.
    return undefined;
  }
}
