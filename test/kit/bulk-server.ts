// A real HTTP server that answers bulk requests from a script and keeps every byte it was sent.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface BulkRequest {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  /** The exact body. */
  readonly body: string;
  /** Ids of the documents. */
  readonly ids: readonly string[];
  /** Their indices, in the same order. */
  readonly indices: readonly string[];
}

/**
 * Status and body to answer with, by default as Elasticsearch does; `headers` take the place of all of its own. `hang` never
 * answers, `drop` closes the connection.
 */
export type BulkAnswer = { status: number; body: unknown; headers?: Record<string, string> } | 'hang' | 'drop';

export interface BulkServer {
  readonly url: string;
  readonly requests: BulkRequest[];
  close(): Promise<void>;
}

/** Item results in the shape of Elasticsearch's bulk reply. */
export function bulkReply(items: { status: number; error?: object }[]): BulkAnswer {
  return {
    status: 200,
    body: { errors: items.some((item) => item.status >= 300), items: items.map((item) => ({ create: item })) },
  };
}

/** Answers request n with `answer(request, n)`; by default every item is created. */
export async function startBulkServer(answer: (request: BulkRequest, n: number) => BulkAnswer): Promise<BulkServer> {
  const requests: BulkRequest[] = [];
  const server: Server = createServer((incoming, response) => {
    const parts: Buffer[] = [];
    incoming.on('data', (part: Buffer) => parts.push(part));
    incoming.on('end', () => {
      const body = Buffer.concat(parts).toString();
      const actions = actionsOf(body);
      const request = {
        path: incoming.url ?? '',
        headers: incoming.headers,
        body,
        ids: actions.map(({ _id }) => _id),
        indices: actions.map(({ _index }) => _index),
      };
      requests.push(request);
      reply(response, answer(request, requests.length - 1));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function actionsOf(body: string): { _id: string; _index: string }[] {
  const lines = body.split('\n');
  const actions: { _id: string; _index: string }[] = [];
  for (let i = 0; i + 1 < lines.length; i += 2) {
    actions.push((JSON.parse(lines[i]!) as { create: { _id: string; _index: string } }).create);
  }
  return actions;
}

function reply(response: ServerResponse, answer: BulkAnswer): void {
  if (answer === 'hang') return;
  if (answer === 'drop') {
    response.destroy();
    return;
  }
  response.writeHead(
    answer.status,
    answer.headers ?? { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' },
  );
  response.end(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body));
}
