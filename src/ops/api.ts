// The API of a process, put together of its parts. In: the configuration, and what this process knows. Out: one handler for the HTTP server,
// which loads it by the first request to it.
import { createAlertDesk, type OwnAlerts, type Place } from '../alerter/alert-desk.ts';
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import { packageVersion } from '../core/package-root.ts';
import { createMasker, type MaskOptions } from '../core/secrets/mask.ts';
import type { ElasticsearchConfig } from '../indexing/elasticsearch.ts';
import type { Indexer } from '../indexing/indexer.ts';
import type { SinksConfig } from '../indexing/sinks.ts';
import { loadRouting, type Routing } from '../oncall/routing.ts';
import type { AccessConfig } from './access.ts';
import { alertRoutes } from './alerts-api.ts';
import type { AlertingView } from './explain.ts';
import { createFigures, type FiguresDeps, figureRoutes } from './figures.ts';
import { createApi } from './guard.ts';
import type { ApiHandler } from './http.ts';
import { incidentRoutes } from './incident-detail.ts';
import { createJobs, type JobsOptions } from './jobs.ts';
import { createLive } from './live.ts';
import { createLiveTail } from './live-tail.ts';
import { createSearch } from './logs/search.ts';
import { sessionRoutes } from './page.ts';

/** The API of a process, with what it asks. */
export interface Api extends ApiHandler {
  close(): Promise<void>;
}

/** What the process that evaluates alerts knows of them. */
interface Evaluating extends Pick<FiguresDeps, 'term'> {
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
  config: Place &
    JobsOptions & {
      readonly roles: readonly string[];
      readonly alerts: JobsOptions['alerts'] & { readonly routingFile?: string };
      readonly http: AccessConfig;
      readonly notify: {
        readonly environment: string;
        readonly pagerduty: { readonly webhookSecrets?: readonly string[] };
      };
      readonly mask: MaskOptions;
      readonly sinks: SinksConfig;
      readonly elasticsearch: ElasticsearchConfig;
    },
  deps: {
    readonly log: Log;
    readonly clock: Clock;
    readonly alerting: Evaluating | undefined;
    /** See jobs.ts. */
    readonly configArgs: readonly string[] | undefined;
    /** What this process knows of its own flow. */
    readonly flow: Pick<FiguresDeps, 'startedMs' | 'metrics' | 'readiness' | 'lastError'>;
    /** Of the indexer; undefined where nothing is indexed. */
    readonly showTo: Indexer['showTo'] | undefined;
  },
): Api {
  const { log, clock, alerting, configArgs, showTo } = deps;
  const elsewhere = readRouting(config.alerts.routingFile, clock);
  const routing = () => alerting?.routing() ?? elsewhere();
  const { notify } = config;
  const desk = createAlertDesk(config, { log, clock, own: () => alerting?.own() });
  const masker = createMasker(config.mask);
  const { linkSecrets = [] } = config.http;
  const webhookSecrets = notify.pagerduty.webhookSecrets ?? [];
  const jobs = createJobs(config, { log, clock, masker, configArgs });
  const { roles, source } = config;
  const term = () => alerting?.term();
  const figures = createFigures({
    ...{ ...deps.flow, roles, source, term, clock, masker },
    ...{ version: packageVersion(), environment: notify.environment },
  });
  const search = createSearch({ sinks: config.sinks, elasticsearch: config.elasticsearch }, { log, clock, masker });
  const tail = showTo && createLiveTail(showTo, { clock });
  const live = createLive({ log, clock, metrics: deps.flow.metrics, tick: figures.tick, tail });
  const handler = createApi(config.http, { log, clock }, [
    alertRoutes(
      { linkSecrets, webhookSecrets, environment: notify.environment },
      { log, clock, desk, masker, alerting: () => alerting?.view(), routing },
    ),
    sessionRoutes({ linkSecrets, environment: notify.environment }, { clock }),
    live.routes,
    jobs.routes,
    incidentRoutes({ clock, masker, desk, look: () => term()?.look() }),
    figureRoutes(figures),
    search.routes,
  ]);
  return {
    ...handler,
    async close() {
      live.close();
      figures.close();
      await Promise.all([desk.close(), jobs.close(), search.close()]);
    },
  };
}
