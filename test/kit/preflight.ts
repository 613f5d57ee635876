// Runs before the tests: everything that is missing at once, each with how to install it, then the servers' jars
// fetched where they can take their time. Exit status 1 when the tests cannot run; short when all is fine.

import { errorText } from '../../src/core/errors.ts';
import { packageVersion } from '../../src/core/package-root.ts';
import {
  type DownloadPlan,
  dockerAvailable,
  fetchLibs,
  INSTALL_JDK_21,
  KAFKA,
  planDownload,
  stackRequirements,
} from '../../stack/index.ts';
import { missingPrograms } from './programs.ts';
import { findRedisServer, INSTALL_REDIS } from './redis-server.ts';

const LEAST_NODE = [20, 19] as const;

process.exitCode = await preflight();

async function preflight(): Promise<number> {
  // Neither Java nor Docker can replace these, because they look at processes of this machine.
  const missing = [...nodeProblem(), ...missingPrograms()];
  const docker = await dockerAvailable();
  if (docker) {
    // The Java client, which the tests of foreign producers run, comes with Kafka's jars.
    missing.push(...(await stackRequirements('8')).missing);
    if (missing.length > 0) return refuse(missing);
    console.log(`preflight: logpipe ${packageVersion()}, servers as Docker containers (fetched when first used)`);
    return fetchAll(planDownload([KAFKA]));
  }
  const found = await stackRequirements('both');
  const redis = findRedisServer() === undefined ? [`redis-server: ${INSTALL_REDIS}`] : [];
  const lacking = [...missing, ...found.missing, ...redis];
  if (lacking.length > 0) return refuse(lacking, missing.length === 0);
  const names = found.releases.map((release) => `${release.kind} ${release.version}`).join(', ');
  const java = found.jdks[0]?.version;
  console.log(`preflight: no Docker daemon, so local servers on Java ${java}: ${names}`);
  if (!found.releases.some((release) => release.version.startsWith('9.'))) {
    console.log(`preflight: Elasticsearch 9 is not tested here, only 8: that takes ${INSTALL_JDK_21}`);
  }
  return fetchAll(found.downloads);
}

async function fetchAll(plans: readonly DownloadPlan[]): Promise<number> {
  const wanted = plans.filter((plan) => plan.needed);
  if (wanted.length === 0) return 0;
  const megabytes = wanted.reduce((sum, plan) => sum + plan.release.sizeMb, 0);
  console.log(`preflight: to download once, about ${megabytes} MB in all:`);
  for (const plan of wanted) console.log(`  ${plan.text}`);
  try {
    // One after the other, because Maven's cache cannot be used by two at a time.
    for (const plan of wanted) await fetchLibs(plan.release, (line) => console.log(`  ${line}`));
  } catch (error) {
    console.error(`preflight: ${errorText(error)}`);
    return 1;
  }
  return 0;
}

function nodeProblem(): string[] {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const fine = major > LEAST_NODE[0] || (major === LEAST_NODE[0] && minor >= LEAST_NODE[1]);
  return fine ? [] : [`Node ${LEAST_NODE.join('.')} or newer (this is ${process.versions.node}): https://nodejs.org`];
}

function refuse(missing: readonly string[], dockerWouldDo = false): number {
  console.error('preflight: the tests on real servers need, and this machine lacks:');
  for (const line of missing) console.error(`  - ${line}`);
  if (dockerWouldDo)
    console.error('A running Docker daemon replaces redis-server, and any JDK 17 with Maven will do then.');
  console.error('Without them: npm run test:unit');
  return 1;
}
