// Five tiers of tests. unit and wire need nothing but Node; integration and integrity need a real Kafka and a real Elasticsearch,
// started only when such a file is part of the run, a pair for each worker. Three such files run side by side, of both tiers:
// they wait more than they work. The files of cluster run one after the other and share a cluster or start their own.
import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { WORKERS } from './test/kit/global-setup.ts';

/**
 * By default one core is left free, which is half of a small machine. Tests of wire wait about as long as they work, hence one more
 * than cores. Limits are for a machine that is busy with other things.
 */
const NODE_ALONE = { maxWorkers: availableParallelism() + 1, testTimeout: 240_000, sequence: { groupOrder: 0 } };

const REAL_SERVERS = {
  globalSetup: ['test/kit/global-setup.ts'],
  maxWorkers: WORKERS,
  // Real servers on a busy machine: a second try tells a late answer from a fault, and the report counts it.
  retry: 1,
};

/**
 * These take longest, on real servers a minute or more, most of it waiting. A fresh clone knows no times and would begin with large files; so
 * the slow ones begin, and no worker is left alone with one at the end. Of cluster those that share one come last, because it stays.
 */
const SLOW = [
  ...['kibana-import', 'packages', 'transport-life', 'transport-spool'].map((name) => `wire/${name}`),
  ...['stack', 'nodes', 'frozen-broker', 'kafka'].map((name) => `cluster/${name}`),
  ...['kills', 'alerts', 'clocks', 'counter', 'memory', 'replay'].map((name) => `integrity/${name}`),
  ...['elasticsearch', 'demo', 'foreign-producers', 'backtest', 'replay'].map((name) => `integration/${name}`),
  ...['alert-store', 'alerting-embedded', 'prometheus', 'stack', 'transport-outage'].map(
    (name) => `integration/${name}`,
  ),
  ...['alerting', 'incident-walkthrough', 'pm2', 'transport-tls', 'alerting-cli'].map((name) => `integration/${name}`),
  ...['ship', 'starved'].map((name) => `integrity/${name}`),
];

class SlowFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification) => {
      const place = SLOW.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return place < 0 ? SLOW.length : place;
    };
    return sorted.sort((one, other) => rank(one) - rank(other));
  }
}

/** Twenty kills instead of five, and every variant: only by `--project integrity-full`, so that a plain run does not take all night. */
const full = process.argv.some((argument) => argument.endsWith('integrity-full'));

/** Outages of more than a minute, and every broker frozen in turn: only by `--project cluster-full`. */
const fullCluster = process.argv.some((argument) => argument.endsWith('cluster-full'));

/** Six JVMs on a busy machine take minutes to start. One worker for all files, so that they can share a cluster. */
const SEVERAL_SERVERS = {
  isolate: false,
  fileParallelism: false,
  maxWorkers: 1,
  retry: 1,
  testTimeout: 1_200_000,
  hookTimeout: 600_000,
};

export default defineConfig({
  test: {
    // CI counts the tests from a report beside the readable output.
    reporters: process.env.LOGPIPE_TEST_REPORT
      ? ['default', ['json', { outputFile: process.env.LOGPIPE_TEST_REPORT }]]
      : ['default'],
    sequence: { sequencer: SlowFirst },
    projects: [
      // Its files share the modules of src, which hold nothing global; what replaces a module of Node's is in wire.
      tier('unit', { ...NODE_ALONE, isolate: false, restoreMocks: true }),
      tier('wire', NODE_ALONE),
      tier('integration', { ...REAL_SERVERS, testTimeout: 240_000, hookTimeout: 120_000, sequence: { groupOrder: 1 } }),
      tier('integrity', {
        ...REAL_SERVERS,
        testTimeout: 600_000,
        hookTimeout: 120_000,
        sequence: { groupOrder: 1 },
      }),
      tier('cluster', {
        ...SEVERAL_SERVERS,
        exclude: ['test/cluster/frozen-broker.test.ts'],
        sequence: { groupOrder: 3 },
      }),
      ...(fullCluster
        ? [
            tier('cluster-full', {
              ...SEVERAL_SERVERS,
              include: ['test/cluster/**/*.test.ts'],
              env: { LOGPIPE_CLUSTER: 'full' },
              sequence: { groupOrder: 5 },
            }),
          ]
        : []),
      ...(full
        ? [
            tier('integrity-full', {
              ...REAL_SERVERS,
              include: ['test/integrity/**/*.test.ts'],
              env: { LOGPIPE_INTEGRITY: 'full' },
              testTimeout: 1_800_000,
              hookTimeout: 60_000,
              sequence: { groupOrder: 4 },
            }),
          ]
        : []),
    ],
  },
});

function tier(name: string, options: object) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      setupFiles: ['test/kit/fixed-seed.ts'],
      // By default a poll gives up after a second, in which a busy machine may not have begun.
      expect: { poll: { timeout: 30_000 } },
      ...options,
    },
  };
}
