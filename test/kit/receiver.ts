// A real HTTP server that answers notifications from a script and keeps every request.
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ReceivedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** The parsed body. */
  readonly body: Record<string, unknown>;
  readonly atMs: number;
}

/** `hang` never answers, `drop` closes the connection, `endless` sends the status and a body that never ends. */
export type Answer =
  | {
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
      /** Answers this much later. */
      readonly delayMs?: number;
    }
  | 'hang'
  | 'drop'
  | 'endless';

export interface Receiver {
  readonly url: string;
  readonly port: number;
  readonly requests: ReceivedRequest[];
  /** Resolves when `count` requests have come in; fails after `timeoutMs` (default 90,000) with those that have. */
  received(count: number, timeoutMs?: number): Promise<void>;
  close(): Promise<void>;
}

/** Answers request n with `answer(request, n)`. */
export async function startReceiver(
  answer: (request: ReceivedRequest, n: number) => Answer = () => ({ status: 200, body: 'ok' }),
): Promise<Receiver> {
  const requests: ReceivedRequest[] = [];
  const waiting: { count: number; resolve: () => void }[] = [];
  const server = createServer((incoming, response) => {
    const parts: Buffer[] = [];
    incoming.on('data', (part: Buffer) => parts.push(part));
    incoming.on('end', () => {
      const request = {
        method: incoming.method ?? '',
        path: incoming.url ?? '',
        headers: incoming.headers,
        body: JSON.parse(Buffer.concat(parts).toString()) as Record<string, unknown>,
        atMs: Date.now(),
      };
      requests.push(request);
      for (const one of waiting) if (requests.length >= one.count) one.resolve();
      const reaction = answer(request, requests.length - 1);
      if (typeof reaction === 'object' && reaction.delayMs !== undefined) {
        setTimeout(() => reply(response, reaction), reaction.delayMs);
      } else reply(response, reaction);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    requests,
    received: (count, timeoutMs = 90_000) =>
      new Promise((resolve, reject) => {
        if (requests.length >= count) return resolve();
        const timer = setTimeout(() => {
          const came = requests.map(({ path, body, atMs }) => ({ at: new Date(atMs).toISOString(), path, body }));
          reject(new Error(`Not ${count} requests within ${timeoutMs} ms, but: ${JSON.stringify(came).slice(-4_000)}`));
        }, timeoutMs);
        waiting.push({
          count,
          resolve() {
            clearTimeout(timer);
            resolve();
          },
        });
      }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function reply(response: ServerResponse, answer: Answer): void {
  if (answer === 'hang') return;
  if (answer === 'drop') {
    response.destroy();
    return;
  }
  if (answer === 'endless') {
    response.writeHead(200);
    response.write('ok');
    return;
  }
  if (answer.headers?.date === '') response.sendDate = false;
  const { date, ...headers } = answer.headers ?? {};
  response.writeHead(answer.status, date ? { ...headers, date } : headers);
  response.end(answer.body ?? '');
}
