// Quicker starts: a server is started once, only to write down the classes it loads; later ones map that file into memory
// instead of reading and checking thousands of classes, which halves their start. In: which server. Out: the file, beside
// its jars. Guarantee: a file of another JDK or of other jars is never used: the JVM itself compares.
import { existsSync, renameSync } from 'node:fs';
import { startElasticsearch } from './elasticsearch.ts';
import { elasticsearchFor, findJdks, jdkFor } from './java.ts';
import { classArchive } from './jvm.ts';
import { startKafka } from './kafka.ts';
import { fetchLibs, launcherJar } from './libs.ts';
import { withLock } from './lock.ts';
import { type EsChoice, KAFKA } from './versions.ts';

/**
 * Takes 10 to 20 s the first time for a server and a JDK, nothing later; concurrent callers record once. Worth it for
 * whoever starts many. Errors: LOGPIPE_STACK_MISSING, LOGPIPE_STACK_FAILED.
 */
export async function recordClasses(server: 'kafka' | EsChoice): Promise<void> {
  const jdks = await findJdks();
  const release = server === 'kafka' ? KAFKA : elasticsearchFor(server, jdks);
  const jdk = jdkFor(release, jdks);
  const launcher = await launcherJar(await fetchLibs(release), jdk, server === 'kafka' ? 'KafkaNode' : 'EsNode');
  const archive = classArchive(launcher, jdk);
  if (existsSync(archive)) return;
  await withLock(`${archive}.lock`, async () => {
    if (existsSync(archive)) return;
    const recordClassesTo = `${archive}.new`;
    const options = { shortLived: true, recordClassesTo };
    const started = await (server === 'kafka'
      ? startKafka(options)
      : startElasticsearch({ ...options, version: server }));
    // A server that is waited for keeps no process alive.
    const alive = setInterval(() => {}, 1_000);
    started.signal('SIGTERM');
    await started.ended;
    clearInterval(alive);
    await started.stop();
    // Without it the next starts are as slow as ever, and try again.
    if (existsSync(recordClassesTo)) renameSync(recordClassesTo, archive);
  });
}
