// The local HTTP server with a page and parts of the API, for tests that judge it by its bytes: files of their own, a clock that the test
// sets, and a request of which every line is the test's.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import { type Log, silentLog } from '../../src/core/log.ts';
import { createMetrics, type Metrics } from '../../src/core/metrics.ts';
import type { AccessConfig } from '../../src/ops/access.ts';
import { type ApiPart, createApi } from '../../src/ops/guard.ts';
import { createStatusView, startHttp } from '../../src/ops/http.ts';
import { createPage } from '../../src/ops/page.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
  /** Of an answer in JSON. */
  readonly json: Record<string, unknown>;
}

export interface PageServer {
  readonly port: number;
  readonly metrics: Metrics;
  /** Lines of the log, with what stands beside them. */
  readonly logged: readonly string[];
  ask(method: string, path: string, headers?: Readonly<Record<string, string>>, body?: string): Promise<Answer>;
  close(): Promise<void>;
}

/** A folder as the build leaves it. */
export function pageFolder(files: Readonly<Record<string, string | Buffer>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-page-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'page', 'assets'), { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, 'page', name), content);
  return join(folder, 'page');
}

export async function servePage(options: {
  readonly access?: AccessConfig;
  readonly allowedHosts?: readonly string[];
  /** Undefined: the page is switched off. */
  readonly folder: string | undefined;
  readonly clock?: Clock;
  readonly metrics?: Metrics;
  readonly parts?: (deps: { readonly log: Log; readonly clock: Clock; readonly metrics: Metrics }) => ApiPart[];
}): Promise<PageServer> {
  const { access = {}, allowedHosts = [], folder, clock = systemClock, metrics = createMetrics() } = options;
  const logged: string[] = [];
  const say = (text: string, meta?: object) => void logged.push(`${text} ${JSON.stringify(meta ?? {})}`);
  const log: Log = { ...silentLog, info: say, warn: say, error: say };
  const api = createApi(access, { clock, log }, options.parts?.({ log, clock, metrics }) ?? []);
  const page = folder === undefined ? undefined : createPage(folder);
  const server = await startHttp(
    { enabled: true, host: '127.0.0.1', port: 0, allowedHosts, ...access },
    {
      metrics,
      clock,
      readiness: () => [],
      platform: { metrics: () => '', stats: () => undefined },
      status: createStatusView(
        { version: '1', roles: ['indexer'], source: 'kafka', group: 'g' },
        { clock, readiness: () => [], alerting: () => undefined },
      ),
      api: async () => api,
      page: page === undefined ? undefined : async () => page,
    },
  );
  onTestFinished(() => server.close());
  const port = Number(new URL(server.url).port);
  return {
    ...{ port, metrics, logged, close: server.close },
    ask: (method, path, headers = {}, body) =>
      new Promise((resolve, reject) => {
        // No agent: each request has a connection of its own, and sends the path as it is given.
        const asked = request({ host: '127.0.0.1', port, method, path, headers, agent: false }, (response) => {
          const pieces: Buffer[] = [];
          response.on('data', (piece: Buffer) => pieces.push(piece));
          response.on('end', () => {
            const bytes = Buffer.concat(pieces);
            const text = bytes.toString();
            const json = () => JSON.parse(text) as Record<string, unknown>;
            resolve({
              ...{ status: response.statusCode!, headers: response.headers, body: bytes, text },
              get json() {
                return json();
              },
            });
          });
        });
        asked.on('error', reject);
        asked.end(body);
      }),
  };
}
