// The last step of the build: the page that `logpipe run` serves. In: src/page/. Out:
//   dist/page/index.html                      with the names of what it loads
//   dist/page/assets/page-HASH.js, .css       everything in one file each; the hash is that of the content, so both may be kept for ever
//   dist/page/assets/icon.svg
//   dist/page/LICENSES                        of the libraries that are inside
// Guarantee: the build fails when what a reader loads grows beyond the limit. It runs in Chromium 117, Firefox 115 and Safari 16.4 (2023) and later.
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { packageRoot } from '../src/core/package-root.ts';

/** Of script and style together, as gzip. */
const MAX_BYTES = 80_000;

const root = packageRoot();
const source = join(root, 'src', 'page');
const target = join(root, 'dist', 'page');

const result = await build({
  absWorkingDir: root,
  entryPoints: [join(source, 'main.tsx'), join(source, 'style.css')],
  tsconfig: join(source, 'tsconfig.json'),
  entryNames: 'page-[hash]',
  outdir: join(target, 'assets'),
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['chrome117', 'edge117', 'firefox115', 'safari16.4'],
  legalComments: 'none',
  metafile: true,
  write: false,
});

const assets = result.outputFiles.map(({ path, contents }) => ({
  name: path.slice(path.lastIndexOf('/') + 1),
  contents,
}));
const bytes = assets.reduce((sum, { contents }) => sum + gzipSync(contents, { level: 9 }).length, 0);
if (bytes > MAX_BYTES) {
  throw new Error(`the page's script and style are ${bytes} bytes as gzip; at most ${MAX_BYTES} are permitted`);
}

rmSync(target, { recursive: true, force: true });
mkdirSync(join(target, 'assets'), { recursive: true });
for (const { name, contents } of assets) writeFileSync(join(target, 'assets', name), contents);
copyFileSync(join(source, 'icon.svg'), join(target, 'assets', 'icon.svg'));
writeFileSync(join(target, 'index.html'), withNames(readFileSync(join(source, 'index.html'), 'utf8')));
writeFileSync(join(target, 'LICENSES'), licences(Object.keys(result.metafile.inputs)));

/** @throws Error when the page does not load an asset, or loads one that is not there */
function withNames(html: string): string {
  let named = html;
  for (const kind of ['js', 'css']) {
    const name = assets.find((asset) => asset.name.endsWith(`.${kind}`))?.name;
    const before = `./assets/page.${kind}`;
    if (name === undefined || !named.includes(before)) throw new Error(`src/page/index.html does not load ${before}`);
    named = named.replace(before, `./assets/${name}`);
  }
  return named;
}

/** Name, version and licence of every package of which something is inside. */
function licences(inputs: readonly string[]): string {
  const folders = new Set(inputs.flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? []));
  const texts = [...folders].sort().map((folder) => {
    const at = join(root, folder);
    const { name, version } = JSON.parse(readFileSync(join(at, 'package.json'), 'utf8')) as Record<string, string>;
    return `${name} ${version}\n\n${readFileSync(join(at, 'LICENSE'), 'utf8').trim()}\n`;
  });
  return texts.join(`\n${'-'.repeat(72)}\n\n`);
}
