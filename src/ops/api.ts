// The API of a process, put together of its parts. In: the configuration, and what this process knows. Out: one handler for the HTTP server,
// which loads it by the first request to it.
import { createAlertDesk, type OwnAlerts, type Place } from '../alerter/alert-desk.ts';
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { createMasker, type MaskOptions } from '../core/secrets/mask.ts';
import type { Indexer } from '../indexing/indexer.ts';
import { loadRouting, type Routing } from '../oncall/routing.ts';
import type { AccessConfig } from './access.ts';
import { alertRoutes } from './alerts-api.ts';
import type { AlertingView } from './explain.ts';
import { createApi } from './guard.ts';
import type { ApiHandler, Status } from './http.ts';
import { createLive } from './live.ts';
import { createLiveTail } from './live-tail.ts';
import { sessionRoutes } from './page.ts';
import type { Tick } from './page-data.ts';

/** The API of a process, with what it asks. */
export interface Api extends ApiHandler {
  close(): Promise<void>;
}

/** What the process that evaluates alerts knows of them. */
interface Evaluating {
  own(): OwnAlerts | undefined;
  view(): AlertingView | undefined;
  routing(): Routing | undefined;
}

const ROUTING_MS = 10_000;

/** The file, read again every 10 s at most: where alerts are not decided, nobody watches it. */
function readRouting(file: string | undefined, clock: Clock): () => Routing | undefined {
  let read: { readonly atMs: number; readonly routing: Routing | undefined } | undefined;
  return () => {
    const atMs = clock.monotonicMs();
    if (read === undefined || atMs - read.atMs > ROUTING_MS) {
      read = { atMs, routing: loadRouting({ file, env: process.env, nowMs: clock.now() }) };
    }
    return read.routing;
  };
}

/** @param alerting undefined where alerts are not evaluated */
export function openApi(
  config: Place & {
    readonly alerts: { readonly routingFile?: string };
    readonly http: AccessConfig;
    readonly notify: {
      readonly environment: string;
      readonly pagerduty: { readonly webhookSecrets?: readonly string[] };
    };
    readonly mask: MaskOptions;
  },
  deps: {
    readonly log: Log;
    readonly clock: Clock;
    readonly metrics: Metrics;
    readonly alerting: Evaluating | undefined;
    readonly status: () => Status;
    /** Of the indexer; undefined where nothing is indexed. */
    readonly showTo: Indexer['showTo'] | undefined;
  },
): Api {
  const { log, clock, metrics, alerting, status, showTo } = deps;
  const elsewhere = readRouting(config.alerts.routingFile, clock);
  const routing = () => alerting?.routing() ?? elsewhere();
  const { notify } = config;
  const desk = createAlertDesk(config, { log, clock, own: () => alerting?.own() });
  const masker = createMasker(config.mask);
  const { linkSecrets = [] } = config.http;
  const webhookSecrets = notify.pagerduty.webhookSecrets ?? [];
  const tick = (): Tick => {
    const { timestamp: at, version, roles, uptimeSeconds, ready, dependencies } = status();
    const known = { at, version, roles, uptimeSeconds, ready, figures: [], alerts: null };
    return { ...known, flow: { stages: [], dependencies } };
  };
  const tail = showTo && createLiveTail(showTo, { clock });
  const live = createLive({ log, clock, metrics, tick, tail });
  const handler = createApi(config.http, { log, clock }, [
    alertRoutes(
      { linkSecrets, webhookSecrets, environment: notify.environment },
      { log, clock, desk, masker, alerting: () => alerting?.view(), routing },
    ),
    sessionRoutes({ linkSecrets, environment: notify.environment }, { clock }),
    live.routes,
  ]);
  return {
    ...handler,
    async close() {
      live.close();
      await desk.close();
    },
  };
}
