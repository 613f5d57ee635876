// The pages behind the links in messages. In: how an incident stands, or why a link leads nowhere. Out: HTML with its headers. Guarantee:
// no script, nothing from elsewhere, in nobody's frame or cache, and no referrer, for the address is the permission; whatever stands in an
// alert is shown as text; readable by a screen reader and on a telephone. The page that asks has one button, and changes nothing.
import { createHash } from 'node:crypto';
import { oneLine } from '../core/safe-json.ts';
import type { LinkAction } from './access.ts';

export interface Page {
  readonly html: string;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
}

const STYLE =
  'body{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}' +
  'button{font:inherit;padding:.7rem 1.4rem;border:2px solid #0b57d0;border-radius:.4rem;background:#0b57d0;color:#fff;cursor:pointer}' +
  'button:focus-visible{outline:3px solid #1a1a1a;outline-offset:2px}dt{font-weight:600}dd{margin:0 0 .6rem}';
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');
const PAGE_HEADERS = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`,
  'referrer-policy': 'no-referrer',
  'x-robots-tag': 'noindex',
};

function pageWith(status: number, heading: string, parts: readonly string[], headers = {}): Page {
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(heading)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${escaped(heading)}</h1>
${parts.join('\n')}
</main>
</body>
</html>
`;
  return { html, status, headers: { ...PAGE_HEADERS, ...headers } };
}

const HTML: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function escaped(text: string): string {
  return oneLine(text, 500).replace(/[&<>"']/g, (character) => HTML[character]!);
}

const paragraph = (text: string) => `<p>${escaped(text)}</p>`;

/** Pages about a link that leads nowhere. */
const DEAD_ENDS = {
  expired: [
    410,
    'This link has expired',
    'Links in messages work for a day. The newest message about the incident has a new one.',
  ],
  altered: [
    404,
    'This link is not valid',
    'It was not made here, or it was changed on its way. Copy all of it from the message, to its last character.',
  ],
  foreign: [
    404,
    'This incident is not known here',
    'It may be older than 30 days, or belong to another installation of logpipe.',
  ],
} as const;

export function deadEnd(what: keyof typeof DEAD_ENDS): Page {
  const [status, heading, text] = DEAD_ENDS[what];
  return pageWith(status, heading, [paragraph(text)]);
}

interface Refused {
  readonly status: number;
  readonly message: string;
  readonly headers: Readonly<Record<string, string>>;
}

export function refusedPage({ status, message, headers }: Refused): Page {
  const heading = status === 409 ? 'Nothing was changed' : 'That did not work';
  return pageWith(status, heading, [paragraph(`${message.charAt(0).toUpperCase()}${message.slice(1)}.`)], headers);
}

/** What a page says of an incident; masked. */
interface Told {
  readonly id: string;
  readonly title: string;
  readonly priority: string;
  readonly state: 'firing' | 'acknowledged' | 'quiet' | 'resolved';
  readonly opened: string;
  readonly by: string | undefined;
}

/** `over`: there is nothing to do, or the link was used. `taken`: it will be carried out. */
export type LinkState = 'ask' | 'over' | 'done' | 'taken';

const VERBS: Readonly<Record<LinkAction, readonly [now: string, past: string]>> = {
  acknowledge: ['Acknowledge', 'acknowledged'],
  resolve: ['Resolve', 'resolved'],
};

export function incidentPage(what: LinkState, action: LinkAction, told: Told): Page {
  const [verb, past] = VERBS[action];
  const { id, title, priority, state, opened, by } = told;
  const rows = [
    ['Incident', id],
    ['What', `${priority} ${title}`.trim()],
    ['Since', opened],
    ['State', state === 'acknowledged' && by !== undefined ? `acknowledged by ${by}` : state],
  ];
  const facts = `<dl>\n${rows.map(([name, text]) => `<dt>${name}</dt><dd>${escaped(text!)}</dd>`).join('\n')}\n</dl>`;
  switch (what) {
    case 'ask':
      return pageWith(200, `${verb} this incident?`, [facts, `<form method="post"><button>${verb}</button></form>`]);
    case 'over':
      return pageWith(200, 'Nothing was changed', [
        paragraph('It is so already, or this link was used before. This is how things stand:'),
        facts,
      ]);
    case 'done':
      return pageWith(200, `The incident is ${past}`, [facts]);
    case 'taken':
      return pageWith(202, 'Taken, and not carried out yet', [
        paragraph(
          'It is carried out as soon as an instance that decides alerts runs, within a day. There is no need to do it again.',
        ),
        facts,
      ]);
  }
}
