// The page's search, listening: its routes behind the guard, with what they search in given by the test.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../../src/core/clock.ts';
import { systemClock } from '../../src/core/clock.ts';
import { type Log, silentLog } from '../../src/core/log.ts';
import { createMasker } from '../../src/core/secrets/mask.ts';
import { createApi } from '../../src/ops/guard.ts';
import { createSearch } from '../../src/ops/logs/search.ts';
import type { Charts, EventDetail, SearchAnswer } from '../../src/ops/page-data.ts';

type Parameters = Readonly<Record<string, string | readonly string[]>>;

export interface Answered<T> {
  readonly status: number;
  readonly json: T & { readonly detail?: string };
  readonly text: string;
}

export interface SearchServer {
  readonly url: string;
  get(path: string, headers?: Record<string, string>): Promise<Answered<Record<string, unknown>>>;
  search(parameters: Parameters): Promise<Answered<SearchAnswer>>;
  charts(parameters: Parameters): Promise<Answered<Charts>>;
  event(index: string, id: string): Promise<Answered<EventDetail>>;
  close(): Promise<void>;
}

export async function serveSearch(
  options: Partial<globalThis.Parameters<typeof createSearch>[0]>,
  { clock = systemClock, log = silentLog }: { readonly clock?: Clock; readonly log?: Log } = {},
): Promise<SearchServer> {
  const { routes, close } = createSearch(
    {
      sinks: options.sinks ?? { elasticsearch: true, ndjson: { enabled: false, dir: 'none' } },
      elasticsearch: options.elasticsearch ?? {
        nodes: ['http://127.0.0.1:1'],
        requestTimeoutMs: 30_000,
        installTemplate: false,
      },
    },
    { clock, log, masker: createMasker() },
  );
  const api = createApi({}, { log, clock }, [routes]);
  const server: Server = createServer((request, response) => {
    api.handle(request, response, () => response.writeHead(404).end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  async function get<T>(path: string, headers: Record<string, string> = {}): Promise<Answered<T>> {
    const response = await fetch(`${url}${path}`, { headers });
    const text = await response.text();
    return { status: response.status, text, json: JSON.parse(text) as Answered<T>['json'] };
  }
  return {
    url,
    get,
    search: (parameters) => get(`/api/v1/search?${queryOf(parameters)}`),
    charts: (parameters) => get(`/api/v1/charts?${queryOf(parameters)}`),
    event: (index, id) => get(`/api/v1/events/${encodeURIComponent(index)}/${encodeURIComponent(id)}`),
    async close() {
      await close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function queryOf(parameters: Parameters): string {
  const query = new URLSearchParams();
  for (const [name, values] of Object.entries(parameters)) {
    for (const value of [values].flat()) query.append(name, value as string);
  }
  return query.toString();
}
