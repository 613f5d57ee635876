// Ada, who is on call and does not answer, and Ben, who is told after her and acknowledges by the link in Slack's message. In: the messages
// that Slack would get. Out: one request, as a browser would send it; that ends the escalation. Where somebody watches, Ben leaves it to
// them for a while.
import { errorText } from '../../src/core/errors.ts';

/** As in routing.yml. */
const BEN = '<@U0DEMOBEN>';
/** So long he reads; `watched`: whoever watches has so long to be quicker. */
const READS_MS = { alone: 2_000, watched: 60_000 };

export interface SlackBody {
  readonly text?: string;
  readonly attachments?: readonly { readonly text?: string }[];
}

export interface OnCallPeople {
  /** Looks at a message that Slack would get. */
  read(message: SlackBody): void;
  stop(): void;
}

/** @param say is told what they do */
export function createOnCallPeople(say: (line: string) => void, watched: boolean): OnCallPeople {
  const timers = new Set<NodeJS.Timeout>();
  const seen = new Set<string>();
  return {
    read({ text = '', attachments = [] }) {
      if (!text.includes(BEN)) return;
      const link = attachments.flatMap((part) => acknowledgeLink(part.text ?? '') ?? [])[0];
      if (link === undefined || seen.has(link)) return;
      seen.add(link);
      const what = watched
        ? 'leaves it to you for a minute: acknowledge it on the page'
        : 'reads it, and acknowledges by the link';
      say(`Ada has not answered for 8 s, so Ben is told; he ${what}`);
      const timer = setTimeout(
        () => {
          timers.delete(timer);
          void acknowledge(link).then(say, (error) => say(`The link could not be called: ${errorText(error)}`));
        },
        READS_MS[watched ? 'watched' : 'alone'],
      );
      timers.add(timer);
    },
    stop() {
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

/** `<address|Acknowledge>`, as Slack writes links. */
function acknowledgeLink(text: string): string | undefined {
  return /<(http:\/\/127\.0\.0\.1:\d+\/a\/[\w.-]+)\|Acknowledge>/.exec(text)?.[1];
}

/** What the button on the page behind the link does. */
async function acknowledge(link: string): Promise<string> {
  const { origin } = new URL(link);
  const response = await fetch(link, { method: 'POST', headers: { origin }, signal: AbortSignal.timeout(10_000) });
  return response.ok
    ? 'Acknowledged: nobody else is called, though the incident goes on'
    : `The link answered with status ${response.status}`;
}
