// config/kubernetes as `kubectl kustomize` makes it: against Kubernetes' published schemas, and against what the code serves, reads and is
// called by. No cluster is asked.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Deployment } from 'kubernetes-models/apps/v1/Deployment';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget';
import { ConfigMap } from 'kubernetes-models/v1/ConfigMap';
import { Namespace } from 'kubernetes-models/v1/Namespace';
import { Service } from 'kubernetes-models/v1/Service';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { parseConfig } from '../../src/config.ts';
import { systemClock } from '../../src/core/clock.ts';
import { createMetrics } from '../../src/core/metrics.ts';
import { packageRoot, packageVersion } from '../../src/core/package-root.ts';
import { createStatusView, startHttp } from '../../src/ops/http.ts';
import { estateProgram } from '../kit/programs.ts';

const KINDS = { Deployment, NetworkPolicy, PodDisruptionBudget, ConfigMap, Namespace, Service } as const;
type Kind = keyof typeof KINDS;
interface Manifest {
  readonly apiVersion: string;
  readonly kind: Kind;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  // biome-ignore lint/suspicious/noExplicitAny: each kind has a shape of its own
  readonly [key: string]: any;
}

const folder = join(packageRoot(), 'config/kubernetes');
const built = execFileSync(estateProgram('kubectl'), ['kustomize', folder], { encoding: 'utf8' });
const manifests = parseAllDocuments(built).map((document) => document.toJS() as Manifest);
const one = (kind: Kind): Manifest => {
  const found = manifests.filter((manifest) => manifest.kind === kind);
  expect(found, kind).toHaveLength(1);
  return found[0]!;
};
const pod = one('Deployment').spec.template;
const container = pod.spec.containers[0];
const defaults = parseConfig('', {}, 'defaults');
const config = parseConfig(readFileSync(join(folder, 'logpipe.yml'), 'utf8'), {}, 'config/kubernetes/logpipe.yml');

function problemsOf(manifest: Manifest): string | undefined {
  const Model = KINDS[manifest.kind] as unknown as new (data: object) => { validate(): void };
  try {
    new Model(manifest).validate();
    return undefined;
  } catch (error) {
    return String(error);
  }
}

describe('by the published schemas', () => {
  test.each(manifests.map((manifest) => [manifest.kind, manifest] as const))('%s', (kind, manifest) => {
    expect(Object.keys(KINDS)).toContain(kind);
    expect(manifest.apiVersion).toBe(KINDS[kind].apiVersion);
    expect(problemsOf(manifest)).toBeUndefined();
    if (kind !== 'Namespace') expect(manifest.metadata.namespace).toBe('logpipe');
  });

  test('which refuse mistakes', () => {
    const mistakes: readonly [Kind, (broken: Manifest) => unknown][] = [
      ['Deployment', ({ spec }) => Object.assign(spec, { replicas: 'two' })],
      ['Deployment', ({ spec }) => delete spec.selector],
      ['Service', ({ spec }) => Object.assign(spec.ports[0], { port: 'http' })],
      ['NetworkPolicy', ({ spec }) => Object.assign(spec, { policyTypes: 'Ingress' })],
    ];
    for (const [kind, mistake] of mistakes) {
      const broken = structuredClone(one(kind));
      mistake(broken);
      expect(problemsOf(broken), `${kind}: ${mistake}`).toBeDefined();
    }
  });
});

/** What the compiler says of manifests as values of the published types, which know every key: the schemas permit any other. */
function compiled(all: readonly Manifest[]): string {
  const copy = mkdtempSync(join(tmpdir(), 'logpipe-kubernetes-'));
  onTestFinished(() => rmSync(copy, { recursive: true, force: true }));
  symlinkSync(join(packageRoot(), 'node_modules'), join(copy, 'node_modules'));
  const lines = all.map((manifest, i) => {
    const group = manifest.apiVersion === 'v1' ? 'v1' : manifest.apiVersion;
    const type = `import('kubernetes-models/${group}/${manifest.kind}').I${manifest.kind}`;
    return `export const m${i}: ${type} = ${JSON.stringify(manifest)};`;
  });
  writeFileSync(join(copy, 'manifests.mts'), lines.join('\n'));
  const tsc = join(packageRoot(), 'node_modules/typescript/bin/tsc');
  const args = [tsc, '--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--types', '', 'manifests.mts'];
  return spawnSync(process.execPath, args, { cwd: copy, encoding: 'utf8' }).stdout;
}

test('no key is misspelt', () => {
  expect(compiled(manifests)).toBe('');
  const broken = structuredClone(one('Deployment'));
  Object.assign(broken.spec.template.spec.containers[0], { livenessProb: {} });
  expect(compiled([broken])).toContain('livenessProb');
});

describe('against the code', () => {
  test('its configuration is valid, and its port is that of every manifest', () => {
    const { port } = config.http;
    expect(port).toBe(defaults.http.port);
    expect(container.ports).toEqual([{ name: 'http', containerPort: port }]);
    expect(one('Service').spec.ports).toEqual([{ name: 'http', port, targetPort: 'http' }]);
    expect(one('NetworkPolicy').spec.ingress[0].ports).toEqual([{ protocol: 'TCP', port }]);
    expect(pod.metadata.annotations).toMatchObject({ 'prometheus.io/port': String(port) });
    const egress = one('NetworkPolicy').spec.egress.flatMap(({ ports }: { ports: { port: number }[] }) =>
      ports.map((each) => each.port),
    );
    const servers = [
      ...config.kafka.brokers.map((broker) => Number(broker.split(':')[1])),
      ...config.elasticsearch.nodes.map((node) => Number(new URL(node).port)),
    ];
    expect(egress).toEqual(expect.arrayContaining([53, 443, defaults.notify.email.port, ...servers]));
  });

  test('every path that is asked is served, whoever asks by whatever name', async () => {
    const readiness = () => [];
    const server = await startHttp(
      { ...config.http, host: '127.0.0.1', port: 0 },
      {
        ...{
          metrics: createMetrics(),
          clock: systemClock,
          readiness,
          platform: { metrics: () => '', stats: () => undefined },
        },
        status: createStatusView(
          { version: '1', roles: [], source: 'kafka', group: null },
          { clock: systemClock, readiness, alerting: () => undefined },
        ),
      },
    );
    onTestFinished(() => server.close());
    const probes = ['startupProbe', 'livenessProbe', 'readinessProbe'].map((name) => container[name].httpGet.path);
    for (const path of [...probes, pod.metadata.annotations['prometheus.io/path']]) {
      expect((await fetch(`${server.url}${path}`)).status, path).toBe(200);
    }
    expect(probes).toEqual(['/live', '/live', '/ready']);
  });

  test('it ends in time, has the image of this version, and may do nothing else', () => {
    expect(pod.spec.terminationGracePeriodSeconds * 1_000).toBeGreaterThanOrEqual(config.shutdownTimeoutMs + 10_000);
    expect(one('PodDisruptionBudget').spec.minAvailable).toBeLessThan(one('Deployment').spec.replicas);
    const dockerfile = readFileSync(join(packageRoot(), 'Dockerfile'), 'utf8');
    const workFolder = dockerfile.match(/^WORKDIR (\S+)$/m)?.[1];
    for (const each of [container, pod.spec.initContainers[0]]) {
      expect(each.image).toBe(`logpipe:${packageVersion()}`);
      expect(each.securityContext).toMatchObject({
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
      });
      expect(each.resources.limits).toEqual({ cpu: expect.anything(), memory: expect.anything() });
      // It writes nowhere else: relative paths begin in the image's folder.
      const written = each.volumeMounts.filter(({ readOnly }: { readOnly?: boolean }) => readOnly !== true);
      expect(written.map(({ mountPath }: { mountPath: string }) => mountPath)).toEqual([
        `${workFolder}/.logpipe`,
        '/tmp',
      ]);
    }
    const folders = [config.files.dataDir, config.alerts.journalDir];
    for (const name of folders) expect(name).toMatch(/^\.logpipe\//);
    expect(pod.spec).toMatchObject({ automountServiceAccountToken: false, securityContext: { runAsNonRoot: true } });
  });
});
