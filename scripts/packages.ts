// The last step of the build: what projects other than this one need to import logpipe. In: what the compiler wrote to dist/src/, and
// package.json. Out:
//   dist/src/**/*.d.ts                  the compiler keeps `.ts` in their imports, which TypeScript before 5.7 cannot read: now `.js`
//   dist/types/                         the declarations of the public entries once more, as those of CommonJS modules
//   dist/packages/logpipe-transport/    a package of its own with these entries and what they load, nothing of the pipeline
// Guarantee: the JavaScript exists once in each package; `require()` of it works on every Node that package.json permits. The build
// fails when an entry loads what the small package does not depend on.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { packageRoot } from '../src/core/package-root.ts';

type Target = Readonly<Record<'types' | 'default', string>>;
type Entry = Readonly<Record<'import' | 'require', Target>>;

interface Manifest {
  readonly version: string;
  readonly license: string;
  readonly engines: { readonly node: string };
  readonly exports: { readonly './transport': Entry } & Readonly<Record<string, Entry | string>>;
  readonly typesVersions: Readonly<Record<'*', Readonly<Record<string, readonly string[]>>>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
}

const NAME = 'logpipe-transport';
const DEPENDENCIES = ['kafkajs', 'winston', 'winston-transport'];
/** Loaded when they are asked for, by whoever asks for them. */
const PEERS = ['@pm2/io', 'lz4-napi', 'snappy'];
/** For reading; the transport only writes. */
const NEVER_LOADED = ['fzstd'];

const RELATIVE_TS = /((?:\bfrom |\bimport ?\(|^import )["']\.{1,2}\/[^"']+)\.ts(["'])/gm;

const readme = (node: string) => `# logpipe-transport

The part of logpipe that runs in the application: a Winston logger to the console, a file and Kafka. It never waits, never throws, and
masks secrets. The pipeline that reads the topic is the package \`logpipe\`; this one is its transport alone, with the same code.

\`\`\`ts
import { createLogger } from 'logpipe-transport';                // as logpipe/transport
import { expressRequests } from 'logpipe-transport/http';        // as logpipe/http
import { startPm2Metrics } from 'logpipe-transport/pm2';         // as logpipe/pm2

const logger = createLogger({ brokers: ['kafka-1:9092'], service: 'calling-platform', version: '1.4.2' });
\`\`\`

\`require('logpipe-transport')\` works as well. The compressions \`snappy\` and \`lz4\` need one more package each: \`npm install snappy\`
or \`npm install lz4-napi\`. With TypeScript install \`@types/node\` too: the types are Node's, Winston's and kafkajs's.

Node ${node}. MIT.
`;

const root = packageRoot();
const src = join(root, 'dist', 'src');
const types = join(root, 'dist', 'types');
const small = join(root, 'dist', 'packages', NAME);
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;

for (const file of filesBelow(join(root, 'dist'), /\.d\.ts$/)) {
  const text = readFileSync(file, 'utf8');
  const readable = text.replaceAll(RELATIVE_TS, '$1.js$2');
  if (readable !== text) writeFileSync(file, readable);
}

/** The public modules below dist/src/, without ending: `ship/index`. */
const entries = Object.values(manifest.exports).flatMap((target) =>
  typeof target === 'string' ? [] : [target.import.default.replace(/^\.\/dist\/src\/|\.js$/g, '')],
);
const declarations = closure(entries, '.d.ts');
const modules = closure(entries, '.js');

rmSync(types, { recursive: true, force: true });
writeCommonJsTypes(types);
rmSync(small, { recursive: true, force: true });
writeSmallPackage();

function filesBelow(folder: string, name: RegExp): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && name.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name));
}

/** All that `from` imports, below dist/src/ and without ending; in it, the packages by how they are loaded. */
function closure(from: readonly string[], ending: '.js' | '.d.ts') {
  const files = new Set<string>();
  const loaded = new Set<string>();
  const lazy = new Set<string>();
  const visit = (file: string) => {
    if (files.has(file)) return;
    files.add(file);
    const text = readFileSync(join(src, file + ending), 'utf8');
    for (const [, how = '', specifier = ''] of text.matchAll(
      /(\bfrom |\bimport ?\(|\brequire\(|^import )["']([^"'\n]+)["']/gm,
    )) {
      if (specifier.startsWith('.')) visit(posix.join(posix.dirname(file), specifier.slice(0, -'.js'.length)));
      else if (!specifier.startsWith('node:')) {
        const name = /^(?:@[^/]+\/)?[^/]+/.exec(specifier)?.[0];
        (/^import ?\(/.test(how) ? lazy : loaded).add(name!);
      }
    }
  };
  for (const entry of from) visit(entry);
  return { files, loaded, lazy };
}

/**
 * The same declarations in a folder that says `commonjs`: TypeScript takes what it finds there for modules that `require` may load.
 * A default import of a module that exports by `=` depends on the reader's `esModuleInterop` there; this form does not.
 */
function writeCommonJsTypes(folder: string): void {
  for (const file of declarations.files) {
    const text = readFileSync(join(src, `${file}.d.ts`), 'utf8');
    write(
      join(folder, `${file}.d.ts`),
      text.replaceAll(/^import (\w+) from (["'][^."'][^"']*["']);$/gm, 'import $1 = require($2);'),
    );
  }
  write(join(folder, 'package.json'), json({ type: 'commonjs' }));
}

/** @throws Error when a module of it loads a package that it does not name */
function writeSmallPackage(): void {
  const unknown = [
    ...[...modules.loaded, ...declarations.loaded].filter((name) => !DEPENDENCIES.includes(name)),
    ...[...modules.lazy].filter((name) => ![...PEERS, ...NEVER_LOADED].includes(name)),
  ];
  if (unknown.length > 0)
    throw new Error(`${NAME} would load ${unknown.join(', ')}, which scripts/packages.ts does not name`);
  for (const file of modules.files) {
    const code = readFileSync(join(src, `${file}.js`), 'utf8');
    write(join(small, 'lib', `${file}.js`), code.replace(/^\/\/# sourceMappingURL=.*\n?/m, ''));
  }
  for (const file of declarations.files) cpSync(join(src, `${file}.d.ts`), join(small, 'lib', `${file}.d.ts`));
  writeCommonJsTypes(join(small, 'types'));
  cpSync(join(root, 'LICENSE'), join(small, 'LICENSE'));
  write(join(small, 'README.md'), readme(manifest.engines.node));
  write(join(small, 'package.json'), json(smallManifest()));
}

function smallManifest(): object {
  const { './transport': main, ...others } = moved(manifest.exports);
  const { transport: _, ...older } = moved(manifest.typesVersions['*']);
  const ranges = { ...manifest.optionalDependencies, ...manifest.dependencies };
  const pick = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, ranges[name]]));
  return {
    name: NAME,
    version: manifest.version,
    description:
      'Winston to Kafka: never waits, never throws, masks secrets. The part of logpipe that runs in the application.',
    license: manifest.license,
    type: 'module',
    engines: manifest.engines,
    main: main.require.default,
    types: main.require.types,
    exports: { '.': main, ...others },
    typesVersions: { '*': older },
    files: ['lib', 'types'],
    dependencies: pick(DEPENDENCIES),
    peerDependencies: pick(PEERS),
    peerDependenciesMeta: Object.fromEntries(PEERS.map((name) => [name, { optional: true }])),
  };
}

/** Paths in the large package, as they are in the small one. */
function moved<T>(paths: T): T {
  return JSON.parse(JSON.stringify(paths).replaceAll('./dist/src/', './lib/').replaceAll('./dist/types/', './types/'));
}

function json(value: object): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

function write(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}
