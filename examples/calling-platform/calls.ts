// The simulated calls. In: wishes to call somebody; out: `call.started`, and for each such call exactly one `call.ended`.
// A call that reached nobody is offered once more as a callback, as a new call with the next attempt number.
import type { Clock } from '../../src/core/clock.ts';
import type { Incident } from './incident.ts';
import type { AppLog } from './log.ts';
import { type CallFacts, decideOutcome, type FinalStatus, type Outcome, PROVIDERS } from './outcomes.ts';
import type { Random } from './random.ts';

export interface CallOrder {
  direction: 'inbound' | 'outbound';
  tenantId: string;
  campaignId: string;
  userId: string;
  traceId: string;
  requestId: string;
  attempt: number;
}

export interface Call extends CallFacts {
  readonly order: CallOrder;
  status: 'queued' | 'in-progress' | FinalStatus;
  /** Set at the end. */
  durationMs?: number;
}

export interface Calls {
  /** Gives the order a call id; nothing has happened yet. */
  create(order: CallOrder): Call;
  /** Begins the call, unless the platform was closed. Throws the provider's error when it refuses at once; `call.ended` is logged by then. */
  begin(call: Call): void;
  get(id: string): Call | undefined;
  active(): number;
  /** Plays all running calls to their end at once: a simulation need not cut them off. */
  close(): void;
}

export interface CallsOptions {
  /** How many times faster than life calls are played; 60 makes a call of three minutes last three seconds. */
  speed: number;
  /** How many calls can still be asked for after they have ended. */
  keep: number;
  /** A call that ended without reaching anybody; may be tried again. */
  onMissed(call: Call): void;
}

/** Share of calls after which the customer's own system is slow to listen. */
const SLOW_WEBHOOK_SHARE = 0.02;
const MISSED: readonly FinalStatus[] = ['busy', 'no-answer', 'failed'];

export function createCalls(
  options: CallsOptions,
  deps: { clock: Clock; random: Random; log: AppLog; incident: Incident },
): Calls {
  const { clock, random, log, incident } = deps;
  const known = new Map<string, Call>();
  const running = new Map<string, { call: Call; outcome: Outcome; cancel(): void }>();
  let closed = false;

  const end = (call: Call, outcome: Outcome) => {
    running.delete(call.id);
    call.status = outcome.status;
    call.durationMs = outcome.durationMs;
    if (outcome.error) log.error(`Call failed: ${outcome.error.message}`, { ...who(call), error: outcome.error });
    log.info(`Call ended: ${outcome.status}`, {
      event: 'call.ended',
      ...who(call),
      call: {
        ...what(call),
        status: outcome.status,
        durationMs: outcome.durationMs,
        voicemail: outcome.status === 'voicemail',
      },
    });
    if (random.chance(SLOW_WEBHOOK_SHARE)) {
      const ms = Math.round(random.between(800, 4000));
      log.warn(`Webhook https://hooks.${call.order.tenantId}.example/calls took ${ms} ms`, who(call));
    }
    if (!closed && call.direction === 'outbound' && MISSED.includes(outcome.status)) options.onMissed(call);
  };
  /** The oldest go first; those still running stay. */
  const forget = () => {
    for (const id of known.keys()) {
      if (known.size <= options.keep) return;
      if (!running.has(id)) known.delete(id);
    }
  };

  return {
    create(order) {
      const call: Call = {
        id: `CA${random.hex(32)}`,
        direction: order.direction,
        provider: random.weighted(PROVIDERS),
        phone: phoneNumber(random),
        attempt: order.attempt,
        order,
        status: 'queued',
      };
      known.set(call.id, call);
      forget();
      return call;
    },
    begin(call) {
      // A job that was still at the database when the platform closed: its call never started.
      if (closed) return;
      const outcome = decideOutcome(call, incident.is('provider-outage'), random);
      call.status = 'in-progress';
      if (call.direction === 'outbound') log.info(`Dialling ${call.phone} through ${call.provider}`, who(call));
      log.info('Call started', { event: 'call.started', ...who(call), call: what(call) });
      if (outcome.error?.code === 'PROVIDER_UNAVAILABLE') {
        end(call, outcome);
        throw outcome.error;
      }
      const cancel = clock.after(outcome.durationMs / options.speed, () => end(call, outcome));
      running.set(call.id, { call, outcome, cancel });
    },
    get: (id) => known.get(id),
    active: () => running.size,
    close() {
      closed = true;
      for (const { call, outcome, cancel } of [...running.values()]) {
        cancel();
        end(call, outcome);
      }
    },
  };
}

/** The identifiers that every line about a call carries. */
function who(call: Call): object {
  const { tenantId, campaignId, userId, traceId, requestId } = call.order;
  return { callId: call.id, tenantId, campaignId, userId, traceId, requestId };
}

function what(call: Call): object {
  return { direction: call.direction, provider: call.provider, attempt: call.attempt };
}

/** From the numbers reserved for fiction: nobody answers there. */
function phoneNumber(random: Random): string {
  const digits = (from: number, to: number) => String(Math.floor(random.between(from, to)));
  return `+1 ${digits(201, 990)} 555 01${digits(10, 100)}`;
}
