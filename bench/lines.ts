// Sample lines for the measurements: what the example application logs, about 372 bytes each, and lines of other kinds, which cost more
// or take another way through the parser.
import { createEventIds, type RawRecord } from '../src/core/record.ts';

/** Text of one line; `i` makes it differ. Kinds of other loggers have no event id in it. */
export type LineOf = (i: number, timeMs: number, eventId: string) => string;

const STATUSES = ['completed', 'completed', 'completed', 'voicemail', 'busy', 'no-answer'];

/** One call.ended line; `i` makes it differ. Two in a hundred are errors. */
export function sampleLine(i: number, timeMs: number, eventId: string): string {
  const failed = i % 50 === 0;
  return JSON.stringify({
    timestamp: new Date(timeMs).toISOString(),
    level: failed ? 'error' : 'info',
    message: failed ? `Call to +4930${1000000 + (i % 9000)} failed: provider timeout` : 'call ended',
    service: 'calling-platform',
    environment: 'production',
    version: '1.4.2',
    host: 'app-1',
    pid: 4242,
    eventId,
    event: 'call.ended',
    callId: `CA${(i * 2654435761).toString(16)}`,
    tenantId: `t-${i % 17}`,
    call: {
      direction: 'outbound',
      status: failed ? 'failed' : STATUSES[i % STATUSES.length],
      provider: 'twilio',
      durationMs: 1000 + ((i * 37) % 200_000),
      attempt: 1,
    },
  });
}

const STACK = `TypeError: Cannot read properties of undefined (reading 'status')\n${Array.from({ length: 8 }, (_, i) => `    at step${i} (/srv/calls/dist/worker-${i}.js:${100 + i}:17)`).join('\n')}`;

function winston(i: number, time: string, eventId: string): Record<string, unknown> {
  return JSON.parse(sampleLine(i % 50 === 0 ? i + 1 : i, Date.parse(time), eventId)) as Record<string, unknown>;
}

const OBJECTS = {
  'Winston lines': (i, time, id) => ({
    ...winston(i, time, id),
    requestId: `req-${i * 7}`,
    traceId: `4bf92f3577b34da6${i}`,
  }),
  'fields of their own': (i, time, id) => ({
    ...winston(i, time, id),
    job: { step: i % 9, parts: [i, 'x'] },
    durationMs: i * 1.5,
  }),
  'twenty kinds of lines': (i, time, id) => ({
    ...winston(i, time, id),
    [`field${i % 20}`]: i,
    message: `step ${i % 20} done`,
  }),
  'other letters': (i, time, id) => ({ ...winston(i, time, id), message: `Anruf für Bérénice № ${i} beendet` }),
  'every second an error': (i, time, id) =>
    i % 2 === 0
      ? winston(i, time, id)
      : {
          ...winston(i, time, id),
          level: 'error',
          message: `Call to +4930${1_000_000 + (i % 9_000)} failed: provider timeout`,
          error: { name: 'TypeError', message: 'no status', stack: STACK },
        },
  'something to mask': (i, time, id) => ({
    ...winston(i, time, id),
    message: `login with password=hunter${i}x2 failed`,
  }),
  'ECS lines': (i, time) => ({
    '@timestamp': time,
    'log.level': 'info',
    message: `call ${i} ended`,
    ecs: { version: '8.10.0' },
    service: { name: 'calls', version: '1.4.2' },
    http: { request: { method: 'POST' }, response: { status_code: 200 } },
  }),
  'Pino lines': (i, time) => ({
    level: 30,
    time: Date.parse(time),
    pid: 12,
    hostname: 'web1',
    msg: `call ${i} ended`,
    callId: `CA${i}`,
  }),
} as const satisfies Readonly<Record<string, (i: number, time: string, eventId: string) => object>>;

export type Kind = keyof typeof OBJECTS;

export const KINDS = Object.fromEntries(
  Object.entries(OBJECTS).map(([kind, object]) => [
    kind,
    (i, timeMs, eventId) => JSON.stringify(object(i, new Date(timeMs).toISOString(), eventId)),
  ]),
) as Readonly<Record<Kind, LineOf>>;

/** What a platform logs in a busy second: of how many events a bucket of ten seconds is made decides what counting costs. */
export const EVENTS_PER_SECOND = 5_000;

/**
 * `count` raw records as a source would deliver them, from the line `from` on, with event ids in the header where the line has one of its
 * own, as only the transport sends it. Each is dated when it happened.
 * @param startMs when line 0 was logged
 */
export function sampleRecords(count: number, startMs: number, line: LineOf = sampleLine, from = 0): RawRecord[] {
  const ids = createEventIds();
  return Array.from({ length: count }, (_, i) => {
    const timeMs = startMs + Math.floor(((from + i) * 1_000) / EVENTS_PER_SECOND);
    const id = ids();
    const text = line(from + i, timeMs, id);
    return { value: Buffer.from(text), offset: i, timeMs, eventId: text.includes(id) ? id : undefined };
  });
}
