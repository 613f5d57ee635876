// Sample lines for the measurements: what the example application logs, about 372 bytes each.
import { createEventIds, type RawRecord } from '../src/core/record.ts';

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

/** `count` raw records as a source would deliver them, with event ids in the header. */
export function sampleRecords(count: number, startMs: number): RawRecord[] {
  const ids = createEventIds();
  return Array.from({ length: count }, (_, i) => {
    const timeMs = startMs + i;
    const eventId = ids();
    return { value: Buffer.from(sampleLine(i, timeMs, eventId)), offset: i, timeMs, eventId };
  });
}
