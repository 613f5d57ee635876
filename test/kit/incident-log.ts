// The log of a small incident, the same every time: calls and HTTP requests of a quiet platform, and ten minutes in which calls
// fail. Out: events with their times, in order.
import { createEventIds } from '../../src/core/record.ts';

export interface LoggedEvent {
  readonly timeMs: number;
  readonly eventId: string;
  readonly partition: number;
  readonly line: string;
}

export interface IncidentLogOptions {
  readonly startMs: number;
  readonly minutes: number;
  /** Share of calls that fail, by the minute since the start. */
  readonly failing: (minute: number) => number;
  /** Calls per minute. Default 120. */
  readonly callsPerMinute?: number;
  readonly service?: string;
  /** A secret that appears in one error message a minute. */
  readonly secret?: string;
}

export function incidentLog(options: IncidentLogOptions): LoggedEvent[] {
  const { startMs, minutes, failing, callsPerMinute = 120, service = 'calling-platform', secret } = options;
  const events: LoggedEvent[] = [];
  let nowMs = startMs;
  // The random part of ids differs from call to call; nothing that is compared rests on it.
  const nextId = createEventIds(() => nowMs);
  const add = (timeMs: number, fields: Record<string, unknown>) => {
    nowMs = timeMs;
    const eventId = nextId();
    const base = { timestamp: new Date(timeMs).toISOString(), level: 'info', message: 'ok', service, eventId };
    const line = JSON.stringify({ ...base, version: '1.4.2', host: 'app-1', pid: 7, ...fields });
    events.push({ timeMs, eventId, partition: events.length % 4, line });
  };
  const step = 60_000 / callsPerMinute;
  for (let n = 0; n < minutes * callsPerMinute; n++) {
    const timeMs = startMs + Math.floor(n * step);
    const minute = Math.floor((timeMs - startMs) / 60_000);
    const failed = (n % 10) / 10 < failing(minute);
    add(timeMs, {
      event: 'call.ended',
      callId: `CA${n}`,
      tenantId: `t-${n % 3}`,
      ...(failed ? { level: 'error', message: `Call to +4930${1_000_000 + n} failed: provider timeout` } : {}),
      call: {
        direction: 'outbound',
        status: failed ? 'failed' : 'completed',
        durationMs: failed ? 900 : 90_000,
        attempt: 1,
      },
    });
    if (secret !== undefined && n % callsPerMinute === 7) {
      add(timeMs + 1, { level: 'error', message: `login refused, password=${secret}`, auth: { password: secret } });
    }
    if (n % 2 === 0) {
      add(timeMs + 2, {
        event: 'http.request',
        http: { method: 'GET', route: '/api/v1/calls', status: n % 100 === 0 ? 500 : 200, durationMs: 20 + (n % 50) },
      });
    }
  }
  return events;
}
