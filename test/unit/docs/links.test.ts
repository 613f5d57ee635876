// Links between documents: every file and every heading they lead to is there.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../../../src/core/package-root.ts';

const root = packageRoot();
const documents = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).map((name) => `docs/${name}`),
].filter((name) => name.endsWith('.md'));
const read = (path: string) => readFileSync(join(root, path), 'utf8');

/** Without code: what stands in it is no link and no heading. */
const prose = (path: string) => read(path).replace(/```[\s\S]*?```/g, '');

/** As GitHub makes them: lower case, hyphens for spaces, without other punctuation. */
function anchorsOf(path: string): string[] {
  return [...prose(path).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );
}

it.each(documents)('%s leads nowhere in vain', (path) => {
  for (const [link, target, anchor] of prose(path).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)]+))?\)/g)) {
    const file = target === '' ? path : normalize(join(dirname(path), target!));
    expect(existsSync(join(root, file)), `${path}: ${link}`).toBe(true);
    if (anchor !== undefined) expect(anchorsOf(file), `${path}: ${link}`).toContain(anchor);
  }
});
