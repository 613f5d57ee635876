// The sinks beside Elasticsearch: console (pretty or NDJSON) and NDJSON files, one per day.
// Guarantee: `write` resolves when the lines are with the operating system; each document is one line.
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Metrics } from '../core/metrics.ts';
import type { Batch } from './batch.ts';

export const sinksSection = {
  type: 'object',
  description: 'Where documents are written; several at once are fine.',
  additionalProperties: false,
  default: {},
  properties: {
    elasticsearch: { type: 'boolean', default: true, description: 'Index into Elasticsearch.' },
    console: {
      type: 'object',
      description: 'Print every document to standard output.',
      additionalProperties: false,
      default: {},
      properties: {
        enabled: { type: 'boolean', default: false, description: 'Print documents.' },
        format: {
          enum: ['pretty', 'ndjson'],
          default: 'pretty',
          description: '`pretty` for people, `ndjson` for programs: one JSON document per line.',
        },
      },
    },
    ndjson: {
      type: 'object',
      description: 'Write documents to NDJSON files, one per index day.',
      additionalProperties: false,
      default: {},
      properties: {
        enabled: { type: 'boolean', default: false, description: 'Write files.' },
        dir: { type: 'string', minLength: 1, default: 'logs/indexed', description: 'Folder of the files.' },
      },
    },
  },
} as const;

export interface SinksConfig {
  readonly elasticsearch: boolean;
  readonly console: { readonly enabled: boolean; readonly format: 'pretty' | 'ndjson' };
  readonly ndjson: { readonly enabled: boolean; readonly dir: string };
}

/** Takes whole batches. Resolves when each item of the batch is settled in this sink; rejects only on abort. */
export interface Sink {
  readonly name: string;
  write(batch: Batch, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export function createConsoleSink(format: 'pretty' | 'ndjson', deps: { out: Writable; metrics: Metrics }): Sink {
  return {
    name: 'console',
    async write(batch) {
      const lines: string[] = [];
      for (let i = 0; i < batch.count; i++) {
        const line = batch.document(i).toString();
        lines.push(format === 'ndjson' ? line : prettyLine(JSON.parse(line)));
      }
      await written(deps.out, `${lines.join('\n')}\n`);
      deps.metrics.indexed.inc({ sink: 'console' }, batch.count);
    },
    async close() {},
  };
}

/** One document for people: time, level, service, message, then the rest as key=value. */
export function prettyLine(doc: Record<string, unknown>): string {
  const { '@timestamp': time, timestamp: _, level, service, message, tags, kafka: __, ...rest } = doc;
  const parts = [String(time), String(level ?? '-').padEnd(5), String(service ?? '-'), String(message ?? '')];
  if (Array.isArray(tags) && tags.length > 0) parts.push(`[${tags.join(' ')}]`);
  for (const [key, value] of Object.entries(rest)) {
    parts.push(`${key}=${typeof value === 'string' && !/\s/.test(value) ? value : JSON.stringify(value)}`);
  }
  // A control character in log data must not move the reader's cursor.
  return parts.join(' ').replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ');
}

export function createNdjsonSink(dir: string, deps: { metrics: Metrics }): Sink {
  const files = new Map<string, WriteStream>();

  function file(index: string): WriteStream {
    let stream = files.get(index);
    if (stream === undefined) {
      // Two days are open around midnight; older ones see only stragglers.
      if (files.size >= 4) {
        const [oldest] = [...files.keys()].sort();
        files.get(oldest!)!.end();
        files.delete(oldest!);
      }
      mkdirSync(dir, { recursive: true });
      stream = createWriteStream(join(dir, `${index}.ndjson`), { flags: 'a' });
      // Each write reports its own failure; without a listener the stream would end the process.
      stream.on('error', () => files.delete(index));
      files.set(index, stream);
    }
    return stream;
  }

  return {
    name: 'ndjson',
    async write(batch) {
      const byIndex = new Map<string, Buffer[]>();
      for (let i = 0; i < batch.count; i++) {
        const { index } = batch.action(i);
        const lines = byIndex.get(index) ?? [];
        lines.push(batch.document(i), Buffer.from('\n'));
        byIndex.set(index, lines);
      }
      for (const [index, lines] of byIndex) await written(file(index), Buffer.concat(lines));
      deps.metrics.indexed.inc({ sink: 'ndjson' }, batch.count);
    },
    async close() {
      await Promise.all([...files.values()].map((stream) => new Promise((resolve) => stream.end(resolve))));
    },
  };
}

function written(out: Writable, data: string | Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    out.write(data, (error) => {
      if (error == null) resolve();
      else
        reject(new LogpipeError('LOGPIPE_SINK_FAILED', `sink: ${errorText(error)}; free the disk or the pipe`, error));
    });
  });
}
