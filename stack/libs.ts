// The servers' jars: says what would be fetched and how big, then fetches it with Maven into a shared folder by version.
// A folder either is complete or does not exist; concurrent callers fetch once.
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { rename } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { LogpipeError } from '../src/core/errors.ts';
import { packageRoot } from '../src/core/package-root.ts';
import { findJdks, findMaven, INSTALL_MAVEN, type Jdk, jdkFor } from './java.ts';
import { withLock } from './lock.ts';
import type { ServerRelease } from './versions.ts';

export type Progress = (line: string) => void;

export interface DownloadPlan {
  release: ServerRelease;
  /** Where its jars are, or will be. */
  folder: string;
  /** False when they are there already. */
  needed: boolean;
  /** One line for people: what, how big, from where, to where. */
  text: string;
}

const MARKER = '.complete';

/** The git-ignored folder that all copies of the jars lie in. */
export function libRoot(): string {
  return join(packageRoot(), '.logpipe', 'lib');
}

/** What starting these servers would fetch. Touches nothing. */
export function planDownload(releases: readonly ServerRelease[], root: string = libRoot()): DownloadPlan[] {
  return releases.map((release) => {
    const folder = folderOf(release, root);
    const name = `${release.kind} ${release.version}`;
    const needed = !existsSync(join(folder, MARKER));
    const text = needed
      ? `${name}: Maven fetches ${release.artifacts.join(' and ')} with what they need, about ${release.sizeMb} MB, into ${folder}`
      : `${name}: in ${folder}`;
    return { release, folder, needed, text };
  });
}

/**
 * Makes sure that the jars of `release` are there and returns their folder (`jars/`; Elasticsearch also `home/`).
 * LOGPIPE_STACK_MISSING without Maven or a JDK, LOGPIPE_STACK_FAILED with Maven's last lines when it fails, or is ended by `signal`.
 */
export async function fetchLibs(
  release: ServerRelease,
  onProgress?: Progress,
  signal?: AbortSignal,
  root: string = libRoot(),
): Promise<string> {
  const folder = folderOf(release, root);
  if (existsSync(join(folder, MARKER))) return folder;
  const maven = findMaven();
  if (!maven) {
    throw new LogpipeError(
      'LOGPIPE_STACK_MISSING',
      `Fetching ${release.kind} ${release.version} needs Maven: ${INSTALL_MAVEN}.`,
    );
  }
  const jdk = jdkFor(release, await findJdks());
  return withLock(`${folder}.lock`, async () => {
    if (existsSync(join(folder, MARKER))) return folder;
    onProgress?.(`${release.kind} ${release.version}: fetching about ${release.sizeMb} MB with Maven into ${folder}`);
    removeLeftovers(folder);
    const fresh = mkdtempSync(`${folder}.new-`);
    try {
      await runMaven(maven, jdk, release, join(fresh, 'jars'), onProgress, signal);
      if (release.kind === 'elasticsearch') arrangeElasticsearch(fresh, release);
      writeFileSync(join(fresh, MARKER), `${new Date().toISOString()}\n`);
      // Without a marker it is half a folder of an interrupted run.
      rmSync(folder, { recursive: true, force: true });
      renameSync(fresh, folder);
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
    onProgress?.(`${release.kind} ${release.version}: fetched`);
    return folder;
  });
}

/** Compiles the small Java programs of stack/java for these jars and this JDK, once; returns the jar with them. */
export async function launcherJar(libs: string, jdk: Jdk, main: string): Promise<string> {
  const sources = ['Guard.java', `${main}.java`].map(resource);
  const hash = createHash('sha256');
  for (const source of sources) hash.update(readFileSync(source));
  const jar = join(libs, `${main}-${jdk.major}-${hash.digest('hex').slice(0, 12)}.jar`);
  if (existsSync(jar)) return jar;
  // Several servers often start at once.
  await withLock(`${jar}.lock`, async () => {
    if (!existsSync(jar)) await compile(sources, { jar, libs, jdk, main });
  });
  return jar;
}

async function compile(
  sources: readonly string[],
  { jar, libs, jdk, main }: { jar: string; libs: string; jdk: Jdk; main: string },
): Promise<void> {
  const run = promisify(execFile);
  const fresh = mkdtempSync(`${jar}.new-`);
  const [classes, archive] = [join(fresh, 'classes'), join(fresh, 'launcher.jar')];
  try {
    await run(join(jdk.home, 'bin', 'javac'), ['-d', classes, '-cp', join(libs, 'jars', '*'), ...sources]);
    await run(join(jdk.home, 'bin', 'jar'), ['--create', '--file', archive, '-C', classes, '.']);
    await rename(archive, jar);
  } catch (error) {
    const text = (error as { stderr?: string }).stderr ?? '';
    throw new LogpipeError(
      'LOGPIPE_STACK_FAILED',
      `${main}.java does not compile with Java ${jdk.version}: ${text}`,
      error,
    );
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/** A file of stack/java, which is not compiled into dist/. */
export function resource(name: string): string {
  return join(packageRoot(), 'stack', 'java', name);
}

/** Half-filled folders of runs that were killed; only the lock's holder may call this. */
function removeLeftovers(folder: string): void {
  const parent = dirname(folder);
  for (const name of readdirSync(parent)) {
    if (name.startsWith(`${basename(folder)}.new-`)) rmSync(join(parent, name), { recursive: true, force: true });
  }
}

function folderOf(release: ServerRelease, root: string): string {
  return join(root, `${release.kind}-${release.version}`);
}

function runMaven(
  maven: string,
  jdk: Jdk,
  release: ServerRelease,
  output: string,
  onProgress?: Progress,
  signal?: AbortSignal,
): Promise<void> {
  const goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${output}`];
  const pom = resource(`${release.kind}.pom.xml`);
  const child = spawn(maven, ['-B', '--strict-checksums', '-f', pom, `-Dstack.version=${release.version}`, ...goal], {
    env: { ...process.env, JAVA_HOME: jdk.home },
    ...(signal === undefined ? {} : { signal }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let tail = '';
  let files = 0;
  let told = Date.now();
  const read = (chunk: Buffer) => {
    const text = chunk.toString();
    tail = (tail + text).slice(-4000);
    files += text.match(/Downloaded from/g)?.length ?? 0;
    if (files === 0 || Date.now() - told < 2000) return;
    told = Date.now();
    onProgress?.(`${release.kind} ${release.version}: ${files} files fetched`);
  };
  child.stdout.on('data', read);
  child.stderr.on('data', read);
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new LogpipeError('LOGPIPE_STACK_FAILED', `${maven} did not run`, error)));
    child.once('close', (status) => {
      if (status === 0) return resolve();
      const lines =
        tail
          .split('\n')
          .filter((line) => line.includes('ERROR'))
          .slice(0, 5)
          .join('\n') || tail;
      const what = `Maven could not fetch ${release.kind} ${release.version} (exit status ${status}).`;
      reject(new LogpipeError('LOGPIPE_STACK_FAILED', `${what} Its last lines:\n${lines}`));
    });
  });
}

/** The home folder Elasticsearch expects, with its HTTP transport as a module of its own. */
function arrangeElasticsearch(folder: string, release: ServerRelease): void {
  const module = join(folder, 'home', 'modules', 'transport-netty4');
  for (const path of [module, join(folder, 'home', 'config'), join(folder, 'home', 'plugins')]) {
    mkdirSync(path, { recursive: true });
  }
  for (const jar of readdirSync(join(folder, 'jars'))) {
    if (/^(netty-|transport-netty4)/.test(jar)) renameSync(join(folder, 'jars', jar), join(module, jar));
  }
  // No modulename: with it, module resolution fails for a server that itself runs on the class path.
  const descriptor = {
    name: 'transport-netty4',
    description: 'Netty 4 based transport',
    version: release.version,
    'elasticsearch.version': release.version,
    'java.version': String(release.java),
    classname: 'org.elasticsearch.transport.netty4.Netty4Plugin',
    'has.native.controller': 'false',
  };
  const lines = Object.entries(descriptor).map(([key, value]) => `${key}=${value}\n`);
  writeFileSync(join(module, 'plugin-descriptor.properties'), lines.join(''));
  writeFileSync(join(folder, 'home', 'config', 'log4j2.properties'), readFileSync(resource('log4j2.properties')));
}
