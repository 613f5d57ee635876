// How calls end on a good day and during an outage of the provider. The shares are those an outbound dialler sees:
// some 72 % of calls reach somebody or a mailbox, a quarter of the outbound ones a mailbox.
import { carrierRejected, mediaLost, type PlatformError, providerTimeout, providerUnavailable } from './faults.ts';
import type { Random } from './random.ts';

export type Direction = 'inbound' | 'outbound';
export type FinalStatus = 'completed' | 'voicemail' | 'busy' | 'no-answer' | 'canceled' | 'failed';

export interface CallFacts {
  readonly id: string;
  readonly direction: Direction;
  readonly provider: string;
  readonly phone: string;
  /** 1 for the first try, then one more per callback. */
  readonly attempt: number;
}

export interface Outcome {
  status: FinalStatus;
  /** Length of the call as its caller experienced it, milliseconds. */
  durationMs: number;
  /** Why it failed; set exactly when `status` is failed. */
  error?: PlatformError;
}

export const PROVIDERS: Readonly<Record<string, number>> = { twilio: 6, vonage: 3, telnyx: 1 };

type Shares = Readonly<Record<FinalStatus, number>>;

const INBOUND: Shares = { completed: 0.83, voicemail: 0, busy: 0.04, 'no-answer': 0.06, canceled: 0.04, failed: 0.03 };
const FIRST: Shares = {
  completed: 0.54,
  voicemail: 0.18,
  busy: 0.08,
  'no-answer': 0.12,
  canceled: 0.03,
  failed: 0.05,
};
const RETRY: Shares = {
  completed: 0.39,
  voicemail: 0.13,
  busy: 0.15,
  'no-answer': 0.23,
  canceled: 0.03,
  failed: 0.07,
};

/** Share of calls that fail while the provider is out. */
const OUTAGE_SHARE = 0.85;
const PROVIDER_TIMEOUT_MS = 5000;

/** Decides how a call will end. `outage`: the provider is out. */
export function decideOutcome(call: CallFacts, outage: boolean, random: Random): Outcome {
  if (outage && random.chance(OUTAGE_SHARE)) {
    const error = random.chance(0.9)
      ? providerUnavailable(call.provider, call.id)
      : providerTimeout(call.provider, call.id, PROVIDER_TIMEOUT_MS);
    return { status: 'failed', durationMs: Math.round(random.between(150, 900)), error };
  }
  const shares = call.direction === 'inbound' ? INBOUND : call.attempt === 1 ? FIRST : RETRY;
  const status = random.weighted(shares);
  const durationMs = Math.round(duration(status, random));
  return status === 'failed' ? { status, durationMs, error: ordinaryFailure(call, random) } : { status, durationMs };
}

/** Milliseconds. Talks average some three minutes, with a long tail. */
function duration(status: FinalStatus, random: Random): number {
  switch (status) {
    case 'completed':
      return Math.min(random.around(160_000, 0.6), 1_800_000);
    case 'voicemail':
      return random.between(20_000, 45_000);
    case 'no-answer':
      return random.between(25_000, 35_000);
    case 'busy':
      return random.between(1500, 4000);
    case 'canceled':
      return random.between(2000, 20_000);
    case 'failed':
      return random.between(300, PROVIDER_TIMEOUT_MS);
  }
}

function ordinaryFailure(call: CallFacts, random: Random): PlatformError {
  const kind = random.weighted({ timeout: 4, carrier: 3, media: 2, unavailable: 1 });
  switch (kind) {
    case 'timeout':
      return providerTimeout(call.provider, call.id, PROVIDER_TIMEOUT_MS);
    case 'carrier':
      return carrierRejected(call.phone);
    case 'media':
      return mediaLost(call.id);
    case 'unavailable':
      return providerUnavailable(call.provider, call.id);
  }
}
