// What is loaded into one process leaves the language as it is. A package with a class that extends String once made V8 keep the methods of
// all texts in a dictionary: each call of one, in compiled code too, became a look-up, and an indexer cost a tenth more. No result shows it.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { packageRoot } from '../../src/core/package-root.ts';

const DIST = join(packageRoot(), 'dist', 'src');
/** All that a process which runs or ships may load, whatever its configuration, except the client for Redis. */
const LOADED = ['cli/run.js', 'cli/ship.js', 'alerting.js', 'source/otlp.js', 'ops/api.js', 'ops/page.js'];

const SCRIPT = `
const isFast = new Function('object', 'return %HasFastProperties(object)');
const known = { String, Array, Object, Function, Map, Set, Promise, Number, Boolean, Symbol, RegExp, Date, Error, DataView, Uint8Array, Buffer,
  TypedArray: Object.getPrototypeOf(Uint8Array) };
const slow = () => Object.keys(known).filter((name) => !isFast(known[name].prototype));
const found = [['at the start', slow()]];
for (const file of process.argv.slice(1)) {
  await import(file);
  // At once: what is loaded later may undo it by chance.
  found.push([file, slow()]);
}
console.log(JSON.stringify(found));
`;

test('no prototype of the language becomes a dictionary', async () => {
  const files = LOADED.map((file) => join(DIST, file));
  const args = ['--allow-natives-syntax', '--input-type=module', '--eval', SCRIPT, ...files];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  expect(JSON.parse(stdout)).toEqual(['at the start', ...files].map((file) => [file, []]));
});
