// Memory stays bounded whatever the backlog: the peak resident size of the process, as the kernel saw it.
import { readFileSync } from 'node:fs';
import kafkajs from 'kafkajs';
import { expect, it } from 'vitest';
import { createLedger } from '../kit/ledger.ts';

const FULL = process.env.LOGPIPE_INTEGRITY === 'full';
const BACKLOG = FULL ? 1_000_000 : 150_000;
const LIMIT_MIB = 256;

it(`at most ${LIMIT_MIB} MiB over a backlog of ${BACKLOG} records, default settings`, async () => {
  const ledger = await createLedger();
  for (let i = 0; i < BACKLOG; i += 5_000) await ledger.produce(5_000);
  // The shipped limits instead of the quick ones the other tests use.
  const child = ledger.start({ defaults: true });
  await ledger.settled(600_000);
  const peakKib = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]);
  child.kill('SIGTERM');
  expect((await child.exit).status).toBe(0);
  expect(await ledger.documents()).toBe(BACKLOG - Math.floor(BACKLOG / 97));
  expect(peakKib / 1024).toBeLessThanOrEqual(LIMIT_MIB);
});

it(`at most ${LIMIT_MIB} MiB with two gzip batches of 100 records of 1 MB each`, async () => {
  const ledger = await createLedger();
  const producer = ledger.kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
  await producer.connect();
  for (let partition = 0; partition < 2; partition++) {
    const messages = Array.from({ length: 100 }, (_, i) => ({
      partition,
      value: JSON.stringify({
        level: 'info',
        service: ledger.topic,
        requestId: String(i),
        message: 'x '.repeat(500_000),
      }),
    }));
    await producer.send({ topic: ledger.topic, messages, compression: kafkajs.CompressionTypes.GZIP, acks: -1 });
  }
  await producer.disconnect();
  const child = ledger.start({ defaults: true });
  await ledger.settled(240_000);
  const peakKib = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]);
  child.kill('SIGTERM');
  expect((await child.exit).status).toBe(0);
  expect(await ledger.documents()).toBe(200);
  expect(peakKib / 1024).toBeLessThanOrEqual(LIMIT_MIB);
  console.info('peak MiB', Math.round(peakKib / 1024));
});
