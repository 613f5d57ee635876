// The shipped saved objects as a test changes them: parsed, JSON within JSON included, and written again.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../../src/core/package-root.ts';
import type { IndexTemplate } from '../../../src/indexing/elasticsearch.ts';

/** Anything in a saved object; a test names what it reaches for, and fails where it is not. */
// biome-ignore lint/suspicious/noExplicitAny: mutations write what no type permits
export type Loose = any;

export function shipped(path: string): string {
  return readFileSync(join(packageRoot(), path), 'utf8');
}

/** As shipped in config/elasticsearch/. */
export const TEMPLATES = ['calling-platform', 'logpipe-alerts', 'logpipe-replay'].map(
  (name) => JSON.parse(shipped(`config/elasticsearch/${name}.template.json`)) as IndexTemplate,
);

export const OBJECTS = shipped('kibana/calling-platform.ndjson');

export function parsed(text = OBJECTS): Loose[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Loose);
}

export function written(objects: readonly Loose[]): string {
  return objects.map((object) => `${JSON.stringify(object)}\n`).join('');
}

/** Changes the JSON that stands in the text `holder[key]`. */
export function within(holder: Loose, key: string, change: (value: Loose) => void): void {
  const value = JSON.parse(holder[key]) as Loose;
  change(value);
  holder[key] = JSON.stringify(value);
}
