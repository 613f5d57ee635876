// Messages on standard output. In: a notification. Out: a few lines for people. Guarantee: nothing in a message moves
// the reader's cursor; an output that has gone away is not written to for ever.
import type { Writable } from 'node:stream';
import type { Masker } from '../core/mask.ts';
import { visible } from '../core/terminal-text.ts';
import { errorCode } from './attempt.ts';
import type { Channel, Notification, SendResult } from './notification.ts';
import { type LinkOptions, tellStory } from './story.ts';
import { headline, isoTime, maskNotification, oneLine, severityWord } from './text.ts';

export function createConsole(
  options: { readonly links: LinkOptions },
  deps: { out: Writable; masker: Masker },
): Channel {
  return {
    name: 'console',
    ratePerSecond: 1_000,
    send(notification) {
      const text = consoleText(maskNotification(notification, deps.masker), options.links);
      return new Promise<SendResult>((resolve) => {
        deps.out.write(text, (error) => {
          if (error == null) return resolve({ ok: true });
          // A closed pipe does not open again.
          resolve({ ok: false, retryable: false, reason: `output failed: ${errorCode(error)}` });
        });
      });
    },
    async close() {},
  };
}

function consoleText(notification: Notification, options: LinkOptions): string {
  const { facts, links } = tellStory(notification, options);
  const lines = [
    `${isoTime(notification.atMs)} ${severityWord(notification)}: ${headline(notification)}`,
    `  ${notification.message}`,
    ...facts.flatMap(({ label, lines: [first = '', ...more] }) => [
      `  ${label}: ${first}`,
      ...more.map((line) => `    ${line}`),
    ]),
    ...links.map(({ label, url }) => `  ${label}: ${url}`),
  ];
  return lines.map((line) => `${/^ */.exec(line)![0]}${visible(oneLine(line))}\n`).join('');
}
