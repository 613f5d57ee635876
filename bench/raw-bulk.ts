// The ceiling: a process that sends bulk bodies built beforehand, as fast as Elasticsearch takes them.
// In: the file of RawBulkOptions on the command line. Says "ready", begins at a line on standard input, ends with it.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Client } from '@elastic/elasticsearch';
import { sleep } from '../src/core/clock.ts';
import { createSendBulk } from '../src/indexing/elasticsearch.ts';

export interface RawBulkOptions {
  readonly node: string;
  readonly bodiesFile: string;
  /** Length of each body in the file, bytes. */
  readonly lengths: readonly number[];
  readonly concurrency: number;
}

const options = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as RawBulkOptions;
const client = new Client({ node: options.node, maxRetries: 0, enableMetaHeader: false });
const send = createSendBulk(client);
const file = readFileSync(options.bodiesFile);
const { signal } = new AbortController();
let position = 0;
let next = 0;

async function lane(): Promise<void> {
  while (next < options.lengths.length) {
    const length = options.lengths[next++]!;
    const body = file.subarray(position, position + length);
    position += length;
    let reply = await send(body, signal);
    // An overloaded server is part of the measurement, not the end of it.
    for (; reply.status === 429; reply = await send(body, signal)) await sleep(100);
    const refused = reply.items.filter((item) => item.status !== 201).length;
    if (reply.status !== 200 || refused > 0) throw new Error(`bulk answered ${reply.status}, ${refused} items refused`);
  }
}

process.stdout.write('ready\n');
await once(process.stdin, 'data');
await Promise.all(Array.from({ length: options.concurrency }, lane));
// Standard input keeps it alive until it is ended, so that its costs can be read like those of the others.
