// Results from the NDJSON files of the embedded mode: read on from where the last look ended.
import { closeSync, existsSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { type Results, type ResultsReader, TOP_TEMPLATES } from './results.ts';

const CHUNK_BYTES = 1 << 20;

export function createFileResults(dir: string): ResultsReader {
  const files = new Map<string, { position: number; rest: Buffer; lines: number }>();
  const templates = new Map<string, number>();
  let errors = 0;

  const count = (line: string) => {
    // Most lines are no errors: only those that may be are parsed.
    if (!line.includes('"error"')) return;
    const doc = JSON.parse(line) as { tags?: string[]; error?: { template?: string } };
    if (!doc.tags?.includes('error')) return;
    errors++;
    const template = doc.error?.template ?? '(none)';
    templates.set(template, (templates.get(template) ?? 0) + 1);
  };
  const readOn = (name: string) => {
    const file = files.get(name) ?? { position: 0, rest: Buffer.alloc(0), lines: 0 };
    files.set(name, file);
    const handle = openSync(join(dir, name), 'r');
    try {
      const chunk = Buffer.alloc(CHUNK_BYTES);
      for (;;) {
        const length = readSync(handle, chunk, 0, chunk.length, file.position);
        if (length === 0) return;
        file.position += length;
        const bytes = Buffer.concat([file.rest, chunk.subarray(0, length)]);
        const end = bytes.lastIndexOf(0x0a) + 1;
        file.rest = bytes.subarray(end);
        for (const line of bytes.toString('utf8', 0, end).split('\n')) {
          if (line === '') continue;
          file.lines++;
          count(line);
        }
      }
    } finally {
      closeSync(handle);
    }
  };

  return {
    async read(): Promise<Results> {
      const names = existsSync(dir) ? readdirSync(dir).filter((name) => name.endsWith('.ndjson')) : [];
      for (const name of names.sort()) readOn(name);
      const counts = [...files].map(([name, { lines }]) => [name.replace(/\.ndjson$/, ''), lines] as const);
      return {
        indices: Object.fromEntries(counts),
        total: counts.reduce((sum, [, lines]) => sum + lines, 0),
        errors,
        templates: [...templates]
          .map(([template, times]) => ({ template, count: times }))
          .sort((a, b) => b.count - a.count)
          .slice(0, TOP_TEMPLATES),
      };
    },
    hints: () => [`grep -h '"tags":\\["error"' ${join(dir, '*.ndjson')} | tail -3`],
  };
}
