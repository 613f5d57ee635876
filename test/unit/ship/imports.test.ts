// Importing what applications import must not load the server: walks every import from its entry.
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const SOURCE = fileURLToPath(new URL('../../../src/', import.meta.url));
const IMPORT = /(?:^|\n)\s*(?:import|export)\s(type\s)?[^;'"]*?from\s*'([^']+)'|(?:^|\n)import\s*'([^']+)'/g;
const LAZY_IMPORT = /\bimport\('([^']+)'\)/g;
const PACKAGES = ['winston', 'winston-transport', 'kafkajs'];
/** Masking and what it consists of. */
const MASKING = [
  'secrets/anchors',
  'secrets/mask',
  'secrets/personal',
  'secrets/secret-forms',
  'secrets/secret-keys',
  'secrets/secret-text',
];
const LAZY_PACKAGES = ['snappy', 'lz4-napi', 'fzstd'];

function loadedBy(entry: string) {
  const files = new Set<string>();
  const bare = new Set<string>();
  const lazy = new Set<string>();
  const walk = (file: string) => {
    if (files.has(file)) return;
    files.add(file);
    const text = readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
    for (const [, , from, plain] of text.matchAll(IMPORT)) {
      const name = (from ?? plain)!;
      if (name.startsWith('.')) walk(join(dirname(file), name));
      else bare.add(name);
    }
    for (const [, name] of text.matchAll(LAZY_IMPORT)) lazy.add(name!);
  };
  walk(join(SOURCE, entry));
  const outside = [...files].map((file) => relative(SOURCE, file)).filter((file) => !file.startsWith('ship/'));
  return { outside: outside.sort(), bare: [...bare], lazy: [...lazy] };
}

test('the transport loads Winston, kafkajs, Node and a few core files, nothing of the server', () => {
  const { outside, bare, lazy } = loadedBy('ship/index.ts');
  const core = [
    'clock',
    'errors',
    'kafka/broker-connections',
    'kafka/codecs',
    'kafka/kafkajs-timer',
    'private-files',
    'record',
    'regex-ambiguity',
    'safe-json',
    ...MASKING,
  ];
  expect(outside).toEqual(core.map((name) => `core/${name}.ts`).sort());
  const ofKafkajs = /^kafkajs\/src\//;
  expect(bare.filter((name) => !/^node:/.test(name) && !ofKafkajs.test(name) && !PACKAGES.includes(name))).toEqual([]);
  expect(bare).toEqual(expect.arrayContaining(PACKAGES));
  expect(lazy.filter((name) => !LAZY_PACKAGES.includes(name))).toEqual([]);
});

test('logpipe/http loads the masking alone: no Winston, no web framework, nothing of the server', () => {
  const { outside, bare, lazy } = loadedBy('ship/http-requests.ts');
  expect(outside).toEqual(MASKING.map((name) => `core/${name}.ts`).sort());
  expect(bare.filter((name) => name !== 'node:http' && name !== 'node:net')).toEqual([]);
  expect(lazy).toEqual([]);
});
