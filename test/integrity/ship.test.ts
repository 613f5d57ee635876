// `logpipe ship` under SIGKILL, on a real Kafka: files that are written, rotated and removed while it dies and comes back. In the topic
// every line is there under one id; copies come after the first, in its partition and marked, so that the counter knows them; and each
// file's lines are in order.
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { sleep } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/log.ts';
import { lastingId, type RawRecord } from '../../src/core/record.ts';
import { toRecords } from '../../src/source/kafka/record-batch.ts';
import { readTopic } from '../../src/source/kafka/topic-reader.ts';
import { createTopic, spawnLogpipe, testBrokers, uniqueName, waitFor } from '../kit/servers.ts';

const FULL = process.env.LOGPIPE_INTEGRITY === 'full';
const KILLS = FULL ? 20 : 5;
const FILES = ['web', 'worker', 'plain'] as const;
/** Lines of a file before it is rotated. */
const ROTATE_AFTER = 3_000;

async function shipped(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^logpipe_shipped_total (\d+)/m.exec(text)?.[1] ?? 0);
}

it(`${KILLS} SIGKILLs while files are written and rotated: every line once, copies marked, in order`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-ship-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const logs = join(folder, 'logs');
  mkdirSync(logs);
  const topic = uniqueName('shipped');
  const brokers = testBrokers();
  await createTopic(brokers, topic, { partitions: 4 });
  const yaml = `kafka:
  brokers: [${brokers.map((broker) => `'${broker}'`).join(', ')}]
  topics: { logs: ${topic} }
ship:
  dataDir: ${join(folder, 'data')}
  pollIntervalMs: 50
  commitIntervalMs: 2000
  http: { port: 0 }
  inputs:
    - files: ['${join(logs, '*.log')}']
      service: shipped
      environment: test
`;
  const file = join(folder, 'logpipe.yml');
  writeFileSync(file, yaml);

  let written = 0;
  const write = () => {
    for (const name of FILES) {
      let text = '';
      for (let i = 0; i < 50; i++) {
        const n = written++;
        text += name === 'plain' ? `line ${n} of plain\n` : `{"level":"info","message":"line ${n} of ${name}"}\n`;
      }
      appendFileSync(join(logs, `${name}.log`), text);
      if (written % (ROTATE_AFTER * FILES.length) < 50) {
        renameSync(join(logs, `${name}.log`), join(logs, `${name}.log.${Math.floor(written / ROTATE_AFTER)}`));
      }
    }
  };
  let writing = true;
  const finished = (async () => {
    while (writing) {
      write();
      await sleep(10);
    }
  })();
  onTestFinished(async () => {
    writing = false;
    await finished;
  });

  for (let kill = 0; kill < KILLS; kill++) {
    const process = spawnLogpipe(['ship', '--config', file]);
    const { url } = JSON.parse(await process.waitForLine(/"message":"shipping"/, 60_000)) as { url: string };
    // Counted in lines instead of milliseconds, so that there is always work in the middle of it; of what was sent last, nothing is noted.
    const wanted = 500 + ((kill * 7_919) % 4_000);
    await waitFor(async () => (await shipped(url)) >= wanted, { what: `${wanted} lines sent`, intervalMs: 20 });
    process.kill('SIGKILL');
    await process.exit;
  }
  writing = false;
  await finished;
  // Without --once it would go on: to the end of what is there, then it says so by its exit status.
  const last = spawnLogpipe(['ship', '--config', file, '--once', '--json']);
  expect(await last.exit).toEqual({ status: 0, signal: null });
  expect(JSON.parse(last.stdout())).toMatchObject({ dropped: 0, waiting: 0 });

  const { kafka } = parseConfig(yaml, {}, 'test');
  const seen = new Map<number, { id: string; partition: number; copies: number }>();
  const ids = new Set<string>();
  const faults: string[] = [];
  let copies = 0;
  await readTopic(
    kafka,
    {
      ...{ topic, purpose: 'test', from: 'beginning', follow: false },
      onRecord(message, partition) {
        check(toRecords([message])[0]!, partition);
        return true;
      },
    },
    silentLog,
  );

  function check(record: RawRecord, partition: number): void {
    const text = String(record.value);
    const n = Number(/line (\d+) of/.exec(text)?.[1]);
    const id = lastingId(record)!;
    if (!text.includes('"service":"shipped"')) faults.push(`line ${n} has no service: ${text}`);
    const first = seen.get(n);
    if (first === undefined) {
      if (ids.has(id)) faults.push(`line ${n} has another line’s id`);
      ids.add(id);
      seen.set(n, { id, partition, copies: 0 });
      return;
    }
    copies += 1;
    if (first.id !== id) faults.push(`line ${n} has two ids`);
    if (first.partition !== partition) faults.push(`line ${n} is in two partitions`);
    if (record.mark !== 'resent') faults.push(`a copy of line ${n} is not marked`);
  }
  expect(faults.slice(0, 10)).toEqual([]);
  expect(seen.size).toBe(written);
  expect([...seen.keys()].sort((a, b) => a - b).every((n, i) => n === i)).toBe(true);
  // Otherwise no kill met work under way, and nothing was shown.
  expect(copies).toBeGreaterThan(0);
});
