// Local stand-ins for Slack and PagerDuty: whatever the demo's alerts send ends here, on 127.0.0.1, and nowhere else.
// In: webhooks. Out: each body as it came, for people to see, and a list of what was told.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createOnCallPeople, type SlackBody } from './on-call.ts';

export interface ReceivedAlert {
  channel: 'slack' | 'pagerduty';
  /** What a person would see: Slack's text, PagerDuty's summary or dedup key. */
  what: string;
  action: 'trigger' | 'resolve' | 'acknowledge';
  at: string;
}

export interface Receivers {
  slackUrl: string;
  pagerdutyUrl: string;
  alerts: ReceivedAlert[];
  stop(): Promise<void>;
}

interface PagerDutyBody {
  event_action?: ReceivedAlert['action'];
  dedup_key?: string;
  payload?: { summary?: string };
}

/** @param say is told each message as it arrives */
export async function startReceivers(say: (line: string) => void, watched: boolean): Promise<Receivers> {
  const alerts: ReceivedAlert[] = [];
  const people = createOnCallPeople(say, watched);
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const channel = request.url?.startsWith('/slack') === true ? 'slack' : 'pagerduty';
      const text = Buffer.concat(parts).toString();
      const alert = read(channel, text);
      if (alert !== undefined) {
        alerts.push(alert);
        say(`${channel === 'slack' ? 'Slack' : 'PagerDuty'} would get (${alert.action}):\n${indented(text)}`);
        if (channel === 'slack') people.read(JSON.parse(text) as SlackBody);
      }
      response.writeHead(channel === 'slack' ? 200 : 202).end(channel === 'slack' ? 'ok' : '{"status":"success"}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    slackUrl: `${url}/slack`,
    pagerdutyUrl: `${url}/pagerduty`,
    alerts,
    stop: () =>
      new Promise((resolve) => {
        people.stop();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function read(channel: ReceivedAlert['channel'], text: string): ReceivedAlert | undefined {
  try {
    const at = new Date().toISOString();
    if (channel === 'slack') {
      const body = JSON.parse(text) as { text?: string };
      const what = body.text ?? '';
      return { channel, what, action: actionIn(what), at };
    }
    const { event_action: action = 'trigger', payload, dedup_key: key = '' } = JSON.parse(text) as PagerDutyBody;
    return { channel, what: payload?.summary ?? key, action, at };
  } catch {
    return undefined;
  }
}

function actionIn(text: string): ReceivedAlert['action'] {
  if (text.includes('RESOLVED')) return 'resolve';
  return text.includes('ACKNOWLEDGED') ? 'acknowledge' : 'trigger';
}

function indented(json: string): string {
  return JSON.stringify(JSON.parse(json), null, 2)
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n');
}
