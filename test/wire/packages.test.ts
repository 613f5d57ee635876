// Both packages as other projects get them: packed, installed in an empty folder, compiled against by old and new TypeScripts, and
// loaded by `require` and by `import`. Judged from outside: nothing of this repository's src/ is used, and npm asks its registry (or
// its cache) for what the transport depends on. NestJS itself is not installed: the page's class for it is compiled
// and run as CommonJS, with Nest's compiler options and a stand-in for its two names.
import { execFile } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Diagnostic, SourceFile } from 'typescript-5.0';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../src/core/package-root.ts';

type TypeScript = typeof import('typescript-5.0');
type Options = Readonly<Record<string, unknown>>;

const root = packageRoot();
const run = promisify(execFile);
const require = createRequire(import.meta.url);
/** An application's own project. */
const app = mkdtempSync(join(tmpdir(), 'logpipe-packages-'));
const modules = join(app, 'node_modules');
let installedBytes = 0;
let installed: string[] = [];

/** In each the transport, the helper for HTTP and the one for PM2. */
const PACKAGES = {
  'logpipe-transport': ['logpipe-transport', 'logpipe-transport/http', 'logpipe-transport/pm2'],
  logpipe: ['logpipe/transport', 'logpipe/http', 'logpipe/pm2'],
} as const;

beforeAll(async () => {
  const [large, small] = await Promise.all([pack('.'), pack('dist/packages/logpipe-transport')]);
  writeFileSync(join(app, 'package.json'), '{ "private": true }');
  await npm(['install', '--prefix', app, '--prefer-offline', '--no-audit', '--no-fund', '--no-package-lock', small]);
  installed = readdirSync(modules);
  installedBytes = bytesOnDisk(modules);
  // The large one goes beside it and finds its winston and kafkajs there: those are all that its three entries load.
  mkdirSync(join(modules, 'logpipe'));
  await run('tar', ['-xzf', large, '--strip-components=1', '-C', join(modules, 'logpipe')]);
}, 240_000);
afterAll(() => rmSync(app, { recursive: true, force: true }));

async function npm(args: readonly string[]): Promise<string> {
  return (await run('npm', [...args], { cwd: root, maxBuffer: 64 * 1024 * 1024 })).stdout;
}

/** Without its scripts: what is packed was built before the tests. */
async function pack(folder: string): Promise<string> {
  const args = ['pack', `./${folder}`, '--ignore-scripts', '--json', '--pack-destination', app];
  const [{ filename }] = JSON.parse(await npm(args)) as [{ filename: string }];
  return join(app, filename);
}

/** In blocks, as `du` counts. */
function bytesOnDisk(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).reduce(
    (sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).blocks * 512,
    0,
  );
}

describe('logpipe-transport, installed from its tarball', () => {
  test('takes at most 8 MB with everything it depends on, and brings no compression along', () => {
    expect(installed).toEqual(expect.arrayContaining(['kafkajs', 'logpipe-transport', 'winston', 'winston-transport']));
    expect(installed).not.toEqual(expect.arrayContaining([expect.stringMatching(/snappy|lz4|napi|fzstd/)]));
    expect(installedBytes).toBeGreaterThan(3_000_000);
    expect(installedBytes).toBeLessThanOrEqual(8_000_000);
  });

  test('the large package depends on nothing unpublished, and has a copy of its own', () => {
    const { dependencies } = JSON.parse(readFileSync(join(modules, 'logpipe/package.json'), 'utf8'));
    expect(Object.keys(dependencies)).not.toContain('logpipe-transport');
  });
});

// ---- types ----

/** What an application writes. `any` in place of a type, which nobody would notice, is an error here. */
const usage = ([transport, http, pm2]: readonly string[]) => `
import * as winston from 'winston';
import { createServer } from 'node:http';
import { createLogger, KafkaTransport, type KafkaTransportOptions, startProcessStats } from '${transport}';
import { expressRequests, fastifyRequests } from '${http}';
import { startPm2Metrics } from '${pm2}';

type IsAny<T> = 0 extends 1 & T ? true : false;
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
const options: KafkaTransportOptions = { brokers: ['kafka-1:9092'], service: 'api', compression: 'gzip' };
export const kafka = new KafkaTransport(options);
export const logger = createLogger({ ...options, file: false, levels: { error: 0, info: 1 } });
export const own = winston.createLogger({ format: winston.format.json(), transports: [kafka] });
kafka.on('dropped', (notice) => own.warn(String(notice)));
logger.info('call ended', { callId: 'CA1' });
const sameLogger: Same<typeof logger, winston.Logger> = true;
const typed: IsAny<typeof logger | typeof kafka | ReturnType<typeof kafka.stats>> = false;
export const undelivered = kafka.close().then((result): number => result.undelivered);
export const stop: () => void = startProcessStats({ logger, intervalMs: 1_000 });
const serve = expressRequests({ logger });
createServer((request, response) => serve(request, response, () => response.end()));
export const plugin = fastifyRequests({ logger, ignoreRoutes: ['/metrics'] });
const reading = () => undefined;
export const watching: Promise<() => void> = startPm2Metrics(
  { activeCalls: () => 1, queueSize: reading, averageResponseMs: reading, errorPercent: reading },
  { log: logger },
);
// @ts-expect-error one address is no list
createLogger({ brokers: 'kafka-1:9092', service: 'api' });
// @ts-expect-error the levels of compression are named
new KafkaTransport({ ...options, compression: 'fast' });
export const checked = [sameLogger, typed];
`;

/** Where a file is ES module or CommonJS by its ending, both are compiled. */
const byEnding = (module: 'node16' | 'nodenext') => ({ module, moduleResolution: module, endings: ['mts', 'cts'] });
const commonJs = (esModuleInterop: boolean) => ({
  ...{ module: 'commonjs', moduleResolution: 'node', esModuleInterop },
  endings: ['ts'],
});
const OLD = [
  commonJs(true),
  commonJs(false),
  { module: 'esnext', moduleResolution: 'node', endings: ['ts'] },
  byEnding('node16'),
  byEnding('nodenext'),
];
const BUNDLER = { module: 'esnext', moduleResolution: 'bundler', endings: ['ts'] };
/** TypeScript 7 has no `moduleResolution: node` any more. */
const NEWEST = [byEnding('node16'), byEnding('nodenext'), BUNDLER];
const STRICT = { strict: true, target: 'es2022', types: ['node'] };

/** Writes what uses both packages, once for each ending. */
function usages(endings: readonly string[]): string[] {
  return Object.entries(PACKAGES).flatMap(([name, entries]) =>
    endings.map((ending) => written(`uses-${name}.${ending}`, usage(entries))),
  );
}

function written(name: string, text: string): string {
  writeFileSync(join(app, name), text);
  return join(app, name);
}

interface Compiled {
  /** Of the project's own files, all that is left with `skipLibCheck`; and of its options. */
  readonly own: readonly string[];
  /** Of the declarations that it uses: these packages', Winston's and kafkajs's. Not of Node's and TypeScript's own. */
  readonly libraries: readonly string[];
}

/**
 * Compiles projects with an old TypeScript; what it has parsed of its own and of Node's declarations serves for all of them.
 * Each has the newest @types/node that says it supports this TypeScript.
 */
function createCompiler(version: '4.9' | '5.0'): (files: readonly string[], options: Options) => Compiled {
  const ts: TypeScript = require(`typescript-${version}`);
  const typeRoots = join(app, `types-${version}`);
  mkdirSync(typeRoots);
  symlinkSync(join(root, 'node_modules', `types-node-${version}`), join(typeRoots, 'node'));
  const isPlatform = (file: string) => /\/node_modules\/(?:typescript|types-node)-/.test(file);
  const parsed = new Map<string, SourceFile | undefined>();

  return (files, options) => {
    const all = { ...STRICT, typeRoots: [typeRoots], skipLibCheck: false, ...options };
    const { options: compilerOptions, errors } = ts.convertCompilerOptionsFromJson(all, app);
    const host = ts.createCompilerHost(compilerOptions);
    const { getSourceFile } = host;
    host.getSourceFile = (name, how, ...rest) => {
      if (!isPlatform(name)) return getSourceFile(name, how, ...rest);
      const key = `${typeof how === 'object' ? how.impliedNodeFormat : ''} ${name}`;
      if (!parsed.has(key)) parsed.set(key, getSourceFile(name, how, ...rest));
      return parsed.get(key);
    };
    const program = ts.createProgram(files, compilerOptions, host);
    const texts = (diagnostics: readonly Diagnostic[]) =>
      diagnostics.map(
        ({ file, messageText }) => `${file?.fileName ?? ''}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`,
      );
    const found = { own: texts([...errors, ...program.getOptionsDiagnostics()]), libraries: [] as string[] };
    for (const file of program.getSourceFiles().filter(({ fileName }) => !isPlatform(fileName))) {
      const list = files.includes(file.fileName) ? found.own : found.libraries;
      list.push(...texts([...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]));
    }
    // File by file: for all at once it would check everything first, TypeScript's own declarations too.
    for (const file of files) program.emit(program.getSourceFile(file));
    return found;
  };
}

const compilers = { '4.9': createCompiler('4.9'), '5.0': createCompiler('5.0') };

describe.each(['4.9', '5.0'] as const)('TypeScript %s', (version) => {
  test.each(version === '4.9' ? OLD : [...OLD, BUNDLER])('%j', ({ endings, ...options }) => {
    const compiled = compilers[version](usages(endings), { ...options, noEmit: true });
    expect(compiled).toEqual({ own: [], libraries: [] });
  });
});

describe('the newest TypeScript', () => {
  // With `skipLibCheck` it would report less, never more.
  test.each(NEWEST)('%j', async ({ endings, ...options }) => {
    const typeRoots = [join(root, 'node_modules/@types')];
    const compilerOptions = { ...STRICT, ...options, typeRoots, skipLibCheck: false, noEmit: true };
    const config = written('tsconfig.json', JSON.stringify({ compilerOptions, files: usages(endings) }));
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const { stdout } = await run(process.execPath, [tsc, '-p', config]).catch((error: { stdout: string }) => error);
    expect(stdout).toBe('');
  });
});

// ---- at run time ----

/** As much of `@nestjs/common` as the page uses, as its types have it. */
const NEST_TYPES = `
export declare function Injectable(): ClassDecorator;
export interface LoggerService {
  log(message: any, ...optionalParams: any[]): any;
  error(message: any, ...optionalParams: any[]): any;
  warn(message: any, ...optionalParams: any[]): any;
  debug?(message: any, ...optionalParams: any[]): any;
}
export interface OnApplicationShutdown {
  onApplicationShutdown(signal?: string): any;
}
`;

/** What Nest's container does: it takes the constructor's arguments from what the compiler says of their types. */
const NEST_LIKE = `
let needed: any[] = [];
(Reflect as any).metadata = (key: string, value: any) => () => {
  if (key === 'design:paramtypes') needed = value;
};
import { Injectable } from '@nestjs/common';
import { KafkaTransport } from 'logpipe-transport';
import { LogpipeLogger } from './logpipe-logger';

@Injectable()
class Calls {
  constructor(readonly logger: LogpipeLogger, readonly kafka: KafkaTransport) {}
}

const [Logger, Transport] = needed;
const calls = new Calls(new Logger(), new Transport({ brokers: ['127.0.0.1:1'], service: 'calls-api' }));
calls.logger.log('started', 'Main');
calls.logger.error('failed', 'Error: failed at x.js:1', 'Main');
calls.logger.error(new TypeError('wrong'));
Promise.all([calls.logger.onApplicationShutdown(), calls.kafka.close()]).then(([, closed]) => console.log(JSON.stringify(closed)));
`;

test.each([true, false])('the logger for NestJS compiles and runs as CommonJS, esModuleInterop %s', async (interop) => {
  const nest = join(modules, '@nestjs/common');
  mkdirSync(nest, { recursive: true });
  writeFileSync(join(nest, 'index.d.ts'), NEST_TYPES);
  writeFileSync(join(nest, 'index.js'), 'exports.Injectable = () => () => {};');
  const page = readFileSync(join(root, 'docs/other-projects.md'), 'utf8');
  const [, shown = ''] = /```ts\n(\/\/ logpipe-logger\.ts\n[\s\S]*?)```/.exec(page) ?? [];
  const service = "service: 'calls-api',";
  expect(shown).toContain(service);
  // There is no Kafka here to wait for.
  written('logpipe-logger.ts', shown.replace(service, `${service} closeTimeoutMs: 50, file: 'nest-${interop}.log',`));
  const outDir = join(app, `nest-${interop}`);
  const { endings: _, ...options } = commonJs(interop);
  const decorators = { experimentalDecorators: true, emitDecoratorMetadata: true };
  const files = [written('nest-like.ts', NEST_LIKE), join(app, 'logpipe-logger.ts')];
  expect(compilers['4.9'](files, { ...options, ...decorators, outDir })).toEqual({ own: [], libraries: [] });
  expect(readFileSync(join(outDir, 'logpipe-logger.js'), 'utf8')).toContain('require("logpipe-transport")');

  const env = { ...process.env, KAFKA_BROKERS: '127.0.0.1:1' };
  const { stdout, stderr } = await run(process.execPath, [join(outDir, 'nest-like.js')], { cwd: app, env });
  expect(stderr).not.toMatch(/Experimental/);
  expect(JSON.parse(stdout.trim().split('\n').at(-1)!)).toEqual({ delivered: 0, dropped: 0, undelivered: 0 });
  const lines = readFileSync(join(app, `nest-${interop}.log`), 'utf8')
    .trim()
    .split('\n');
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { level: 'info', message: 'started', context: 'Main' },
    { level: 'error', message: 'failed', context: 'Main', error: { stack: 'Error: failed at x.js:1' } },
    { level: 'error', message: 'TypeError: wrong', error: { name: 'TypeError', message: 'wrong' } },
  ]);
});

const NAMES = [
  ['KafkaTransport', 'createLogger', 'startProcessStats'],
  ['expressRequests', 'fastifyRequests'],
  ['startPm2Metrics'],
];

test.each([
  ['require', 'cjs', (name: string) => `require('${name}')`],
  ['import', 'mjs', (name: string) => `await import('${name}')`],
])('%s loads every entry of both packages', async (_, ending, load) => {
  const entries = Object.values(PACKAGES).flat();
  const lines = entries.map((name) => `console.log(JSON.stringify(Object.keys(${load(name)}).sort()));`);
  const { stdout, stderr } = await run(process.execPath, [written(`loads.${ending}`, lines.join('\n'))]);
  expect(stderr).toBe('');
  expect(
    stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toEqual([...NAMES, ...NAMES]);
});

test.each([
  ['snappy', 'snappy'],
  ['lz4', 'lz4-napi'],
])(
  'compression %s without its package is refused at once, with the command that installs it',
  async (compression, name) => {
    const options = JSON.stringify({ brokers: ['127.0.0.1:1'], service: 'api', compression });
    const script = written(
      'compresses.cjs',
      `const t = require('logpipe-transport'); new t.KafkaTransport(${options});`,
    );
    const error: unknown = await run(process.execPath, [script]).catch((reason: unknown) => reason);
    expect((error as { stderr: string }).stderr).toContain(
      `KafkaTransport: compression is "${compression}", and the package ${name} is not installed; permitted: none, gzip, ` +
        `and ${compression} after \`npm install ${name}\`.`,
    );
  },
);
