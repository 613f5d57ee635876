// `logpipe trace` on real servers: one call over midnight, its events in three partitions and two indices, in the order of their time.
import { expect, test } from 'vitest';
import { type TraceOptions, trace } from '../../src/cli/trace.ts';
import { silentLog } from '../../src/core/log.ts';
import { createReplayBench, es } from './replay-kit.ts';

const DAY = Date.UTC(2026, 0, 6);
const NOW = DAY + 3_600_000;

test('one call over midnight: from the indices and from the topic the same story, in order, with what is odd about it', async () => {
  const bench = await createReplayBench();
  const call = `CA-${bench.topic}`;
  const at = (second: number, fields: object, partition: number) => ({
    eventMs: DAY + second * 1_000,
    partition,
    fields: { level: 'info', callId: call, ...fields },
  });
  const others = Array.from({ length: 500 }, (_, i) => at(i % 90, { callId: `CA-other-${i % 7}` }, i % 3));
  const events = [
    at(-40, { event: 'call.started', call: { direction: 'outbound' }, message: 'it rings' }, 0),
    at(
      70,
      {
        event: 'call.ended',
        message: 'it is over',
        call: { direction: 'outbound', status: 'failed', durationMs: 110_000, attempt: 1 },
      },
      1,
    ),
    at(-20, { message: 'the provider is slow', requestId: 'R-7' }, 2),
    at(65, { level: 'error', message: 'no answer', requestId: 'R-7', error: { message: 'ETIMEDOUT' } }, 0),
    // The id in another field, and in a text: not about this call.
    { ...at(10, { callId: 'CA-other-1', message: `after ${call}` }, 1) },
  ];
  await bench.send([...others, ...events]);
  await bench.run({ source: 'kafka', from: '2026-01-05', to: '2026-01-07' });
  await es('POST', '/calling-platform-2026.01.*/_refresh');

  async function traced(options: TraceOptions) {
    const out: string[] = [];
    const err: string[] = [];
    const io = { out: (line: string) => void out.push(line), err: (line: string) => void err.push(line) };
    const status = await trace(call, [], bench.config, options, io, { log: silentLog, now: () => NOW });
    return { status, out, err };
  }
  const indices = await traced({ json: true });
  const story = JSON.parse(indices.out.join('\n'));
  expect(story).toMatchObject({
    ...{ id: call, fields: ['callId'], source: 'index', complete: true, errors: 1, durationMs: 110_000, notes: [] },
    ...{ from: '2026-01-05T23:59:20.000Z', to: '2026-01-06T00:01:10.000Z' },
    gaps: [{ at: '2026-01-05T23:59:40.000Z', ms: 85_000 }],
  });
  expect(story.related.requestId).toContain('R-7');
  expect(story.events.map(({ message }: { message: string }) => message)).toEqual([
    ...['it rings', 'the provider is slow', 'no answer', 'it is over'],
  ]);
  expect(indices.status).toBe(0);

  const topic = JSON.parse((await traced({ json: true, source: 'kafka', from: '-3h' })).out.join('\n'));
  const { events: fromTopic, ...rest } = topic;
  expect({ ...rest, source: 'index' }).toEqual({ ...story, events: undefined });
  expect(fromTopic).toEqual(story.events);

  const people = await traced({});
  expect(people.out.join('\n')).toMatch(/callId .*: 4 events in 110 s, 1 error\n.*it rings\n.*\n.*nothing for 85 s/);

  // Nothing is left out in silence.
  const cut = await traced({ json: true, limit: 3 });
  expect(cut.status).toBe(1);
  expect(JSON.parse(cut.out.join('\n'))).toMatchObject({
    complete: false,
    notes: expect.arrayContaining([expect.stringContaining('only 3 events')]),
  });
  const none = await traced({ source: 'index', from: '2026-01-01', to: '2026-01-02' });
  expect(none).toMatchObject({ status: 1, out: [], err: [expect.stringContaining(`there is nothing about ${call}`)] });
});
