// A replay that is killed again and again and goes on under its name: each event once in the files and in the topic, each
// document once in place, and the ledger of the live pipeline untouched.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { silentLog } from '../../src/core/log.ts';
import { readTopic } from '../../src/source/kafka/topic-reader.ts';
import { kafkaConfig } from '../integration/intake-kit.ts';
import { createLedger, type Ledger } from '../kit/ledger.ts';
import { createTopic, spawnLogpipe, uniqueName, waitFor } from '../kit/servers.ts';

const FULL = process.env.LOGPIPE_INTEGRITY === 'full';
const KILLS = FULL ? 20 : 5;
/** Between two kills each of the four partitions gets at least one piece of 500 settled. */
const EVENTS = KILLS * 4_000;
const THROTTLE = 1_800;
const POISON = Math.floor(EVENTS / 97);

/** Kills the replay once its saved positions have moved, `KILLS` times; then lets it end. Returns the summary. */
async function killedReplay(ledger: Ledger, args: readonly string[]): Promise<Record<string, unknown>> {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-replay-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const config = join(folder, 'logpipe.yml');
  writeFileSync(
    config,
    `kafka:
  brokers: ['${ledger.brokers.join("','")}']
  group: ${ledger.group}
  topics: { logs: ${ledger.topic}, dlq: ${ledger.topic}.dlq }
elasticsearch: { nodes: ['${ledger.esUrl}'] }
bulk: { maxDocuments: 200, maxInFlightBytes: 300000 }
`,
  );
  const start = (throttle: number) =>
    spawnLogpipe(
      ['replay', '-c', config, '--from', '-1h', '--name', 'killed', '--json', '--throttle', String(throttle), ...args],
      { cwd: folder },
    );
  const state = () => JSON.parse(readFileSync(join(folder, '.logpipe/replay/killed.json'), 'utf8'));
  let read = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const process = start(THROTTLE);
    // Not at a checkpoint, but some time after one: what was written since is not in the file.
    await waitFor(() => state().tally.read > read, { what: 'the replay goes on', timeoutMs: 60_000 });
    await new Promise((resolve) => setTimeout(resolve, 50 + ((kill * 370) % 900)));
    process.kill('SIGKILL');
    expect((await process.exit).signal).toBe('SIGKILL');
    ({ read } = state().tally);
  }
  expect(state().complete).toBe(false);
  const last = start(1_000_000);
  expect(await last.exit).toEqual({ status: 0, signal: null });
  return JSON.parse(last.stdout());
}

async function filled(): Promise<Ledger> {
  const ledger = await createLedger();
  for (let sent = 0; sent < EVENTS; sent += 2_000) await ledger.produce(2_000);
  return ledger;
}

const numbers = Array.from({ length: EVENTS }, (_, n) => n).filter((n) => n % 97 !== 96);

it(`in place: ${KILLS} SIGKILLs, and the ledger is exact`, async () => {
  const ledger = await filled();
  const summary = await killedReplay(ledger, ['--dead-letters']);
  expect(summary).toMatchObject({ complete: true, matched: EVENTS, read: EVENTS });
  expect(await ledger.verify()).toEqual([]);
  // The live pipeline comes after it: everything is there, and stays as it is.
  const before = await ledger.documents();
  expect(before).toBe(EVENTS - POISON);
  expect(await ledger.lag()).toBe(EVENTS);
  const live = ledger.start();
  await ledger.settled();
  live.kill('SIGTERM');
  await live.exit;
  expect(await ledger.documents()).toBe(before);
  expect(await ledger.verify()).toEqual([]);
});

// In short only the target whose documents can be judged in place.
if (FULL) {
  it(`into files: ${KILLS} SIGKILLs, and each event is there once`, async () => {
    const ledger = await filled();
    const dir = mkdtempSync(join(tmpdir(), 'logpipe-replayed-'));
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
    expect(await killedReplay(ledger, ['--to-dir', dir])).toMatchObject({ complete: true, matched: EVENTS });
    const lines = readdirSync(dir).flatMap((file) => readFileSync(join(dir, file), 'utf8').trimEnd().split('\n'));
    const found = lines.map((line) => Number(JSON.parse(line).requestId)).sort((a, b) => a - b);
    expect(found).toEqual(numbers);
  });

  it(`into a topic: ${KILLS} SIGKILLs, and each event is there once`, async () => {
    const ledger = await filled();
    const topic = uniqueName('replayed');
    await createTopic(ledger.brokers, topic, { partitions: 3 });
    expect(await killedReplay(ledger, ['--to-topic', topic])).toMatchObject({ complete: true, matched: EVENTS });
    const found: number[] = [];
    await readTopic(
      kafkaConfig({ topic }),
      {
        topic,
        purpose: 'test',
        from: 'beginning',
        follow: false,
        onRecord({ value, headers }) {
          expect(String(headers?.replayed)).toBe('killed');
          found.push(Number(JSON.parse(String(value)).requestId));
          return true;
        },
      },
      silentLog,
    );
    expect(found.sort((a, b) => a - b)).toEqual(numbers);
  });
}
