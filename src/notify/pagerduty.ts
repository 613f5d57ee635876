// PagerDuty Events API v2. In: a notification. Out: one event; trigger, acknowledge and resolve of an incident share
// its dedup key, so that a message sent twice changes nothing. Guarantee: masked, within the API's limits; sent is what the
// answer calls a success.
import { createHash } from 'node:crypto';
import { LogpipeError } from '../core/errors.ts';
import { createHttpSend, type HttpSendDeps } from './http-send.ts';
import type { Channel, Notification } from './notification.ts';
import { alertLines, list } from './story.ts';
import { clean, cut, headline, isoTime, maskNotification, oneLine } from './text.ts';

const MAX_DEDUP_KEY = 255;
const MAX_SUMMARY = 1_024;
const MAX_MESSAGE = 10_000;
// An event may have 512 kB in all, and a character up to 6 bytes (as \uXXXX).
const MAX_METADATA = 50_000;
const HASH_LENGTH = 64;

export interface PagerDutyOptions {
  readonly url: string;
  readonly integrationKey: string;
  readonly ratePerSecond: number;
  readonly timeoutMs: number;
}

/** @throws LogpipeError LOGPIPE_CONFIG_INVALID when the key (perhaps from a secret file) is empty. */
export function createPagerDuty(options: PagerDutyOptions, deps: HttpSendDeps): Channel {
  const { integrationKey } = options;
  if (integrationKey === '') {
    throw new LogpipeError('LOGPIPE_CONFIG_INVALID', 'notify.pagerduty.integrationKey: is empty; name the key');
  }
  const send = createHttpSend(
    {
      url: options.url,
      place: 'notify.pagerduty.url',
      timeoutMs: options.timeoutMs,
      quote: true,
      confirm: (words) => notAccepted(words, isPagerDutysOwn(options.url)),
      secrets: [integrationKey],
    },
    deps,
  );
  return {
    name: 'pagerduty',
    ratePerSecond: options.ratePerSecond,
    send: async (notification, signal) =>
      send(pagerDutyEvent(maskNotification(notification, deps.masker), integrationKey), signal),
    async close() {},
  };
}

/** Receivers with the same interface may answer with nothing. */
function isPagerDutysOwn(url: string): boolean {
  return URL.canParse(url) && /(?:^|\.)pagerduty\.com\.?$/.test(new URL(url).hostname);
}

/** @param strict an answer without JSON proves nothing */
function notAccepted(words: string, strict: boolean): string | undefined {
  let answer: unknown;
  try {
    answer = JSON.parse(words);
  } catch {
    return strict ? 'something else than its JSON' : undefined;
  }
  if (typeof answer !== 'object' || answer === null) return strict ? 'something else than its JSON' : undefined;
  return (answer as { status?: unknown }).status === 'success' ? undefined : 'JSON without “status: success”';
}

/** The request body. @param notification already masked */
export function pagerDutyEvent(notification: Notification, routingKey: string): object {
  const { action, message, metadata, severity, atMs, alerts, joined } = notification;
  const head = { routing_key: routingKey, event_action: action, dedup_key: dedupKey(notification.dedupKey) };
  // The API takes a payload for triggers only.
  if (action !== 'trigger') return head;
  return {
    ...head,
    payload: {
      summary: cut(oneLine(headline(notification)), MAX_SUMMARY),
      severity,
      source: 'calling-platform',
      custom_details: {
        message: cut(clean(message), MAX_MESSAGE),
        ...(metadata === undefined ? {} : { metadata: bounded(metadata) }),
        timestamp: isoTime(atMs),
        // The operators' guide knows incidents of one alert.
        ...(alerts.length < 2 ? {} : { alerts: list(alertLines(alerts)) }),
        ...(joined.length === 0 ? {} : { joined: list(joined) }),
      },
    },
  };
}

/** Always the same short key for the same long one. */
function dedupKey(key: string): string {
  if (key.length <= MAX_DEDUP_KEY) return key;
  const hash = createHash('sha256').update(key).digest('hex');
  return `${key.slice(0, MAX_DEDUP_KEY - HASH_LENGTH - 1)}-${hash}`;
}

function bounded(metadata: Readonly<Record<string, unknown>>): unknown {
  const text = JSON.stringify(metadata);
  return text.length <= MAX_METADATA ? metadata : cut(text, MAX_METADATA);
}
