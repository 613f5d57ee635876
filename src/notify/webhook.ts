// A receiver of the operator's own. In: a notification. Out: the same as JSON, masked. Guarantee: nothing of the
// receiver's answer is repeated, since it may hold anything.
import { createHttpSend, type HttpSendDeps } from './http-send.ts';
import type { Channel } from './notification.ts';
import { maskNotification } from './text.ts';

export interface WebhookOptions {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly ratePerSecond: number;
  readonly timeoutMs: number;
}

export function createWebhook(options: WebhookOptions, deps: HttpSendDeps): Channel {
  const send = createHttpSend(
    {
      url: options.url,
      place: 'notify.webhook.url',
      timeoutMs: options.timeoutMs,
      quote: false,
      ...(options.headers === undefined ? {} : { headers: options.headers }),
    },
    deps,
  );
  return {
    name: 'webhook',
    ratePerSecond: options.ratePerSecond,
    send: async (notification, signal) => send(maskNotification(notification, deps.masker), signal),
    async close() {},
  };
}
