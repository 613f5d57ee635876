// What this machine lacks for the local servers, all of it at once, and what starting them would fetch.
import { elasticsearchFor, findJdks, findMaven, INSTALL_JDK, INSTALL_JDK_21, INSTALL_MAVEN, type Jdk } from './java.ts';
import { type DownloadPlan, planDownload } from './libs.ts';
import { ELASTICSEARCH, type EsChoice, KAFKA, type ServerRelease } from './versions.ts';

export interface StackRequirements {
  jdks: Jdk[];
  /** Kafka, then Elasticsearch: one line of it, or with `both` every line that the installed Java runs. */
  releases: ServerRelease[];
  downloads: DownloadPlan[];
  /** One line each, with how to install it; empty when everything is there. */
  missing: string[];
}

/** Looks without fetching or starting anything. */
export async function stackRequirements(es: EsChoice | 'both' = 'auto'): Promise<StackRequirements> {
  const jdks = await findJdks();
  const newest = jdks[0]?.major ?? 0;
  const lines =
    es !== 'both'
      ? [elasticsearchFor(es, jdks)]
      : [ELASTICSEARCH['9'], ELASTICSEARCH['8']].filter((release) => release.java <= Math.max(newest, 17));
  const releases = [KAFKA, ...lines];
  const downloads = planDownload(releases);
  const missing: string[] = [];
  const needed = Math.max(...releases.map((release) => release.java));
  if (newest < needed) {
    const have = jdks.map((jdk) => jdk.version).join(', ') || 'none';
    missing.push(`JDK ${needed} or newer (found: ${have}): ${needed > 17 ? INSTALL_JDK_21 : INSTALL_JDK}`);
  }
  if (downloads.some((plan) => plan.needed) && !findMaven()) missing.push(`Maven: ${INSTALL_MAVEN}`);
  return { jdks, releases, downloads, missing };
}
