// What the page (src/page) is told, as JSON: the contract between it and the server; see docs/page.md. Types only. Guarantee: what is not
// known is null, never 0; times are ISO 8601; everything that came from a log is masked, and still a stranger's text.

/** As the rules have it. Nothing is imported here, because the page's type check has a browser around it instead of Node. */
export type Priority = 'P1' | 'P2' | 'P3' | 'P4';

// ---- GET /api/v1/live: server-sent events ----

/** `event: tick`, once a second, the same text for every page. */
export interface Tick {
  /** The wall clock's. */
  readonly at: string;
  readonly version: string;
  readonly roles: readonly string[];
  readonly uptimeSeconds: number;
  readonly ready: boolean;
  /** In the order of FIGURES. */
  readonly figures: readonly Figure[];
  readonly flow: Flow;
  /** Null where alerts are not evaluated. */
  readonly alerts: AlertsNow | null;
}

/** What the first view shows, each with its target. */
export const FIGURES = ['events', 'errors', 'p95', 'calls', 'queues', 'lag', 'deadLetters'] as const;
export type FigureId = (typeof FIGURES)[number];

export interface Figure {
  readonly id: FigureId;
  readonly label: string;
  /** In the unit of its measure: a ratio from 0 to 1, ms, or a number; events per second, dead letters per minute. */
  readonly value: number | null;
  /** For people: "2.1 %". Of an unknown value "–". */
  readonly text: string;
  /** "below 1 %"; null where there is none. */
  readonly target: string | null;
  /** "alert above 5 %"; null where no rule reads it. */
  readonly threshold: string | null;
  readonly state: 'good' | 'warn' | 'bad' | 'unknown';
  /** Why there is no value: the role that knows it runs elsewhere, or nothing was counted yet. Beside a value: why it is not judged. */
  readonly note: string | null;
}

/** The flow as a picture: boxes, in the order in which data takes them. */
export interface Flow {
  readonly stages: readonly Stage[];
  /** Dependencies, as /ready lists them. */
  readonly dependencies: readonly { readonly name: string; readonly ready: boolean; readonly detail: string }[];
}

export type StageId = 'source' | 'parse' | 'index' | 'deadLetters' | 'count' | 'rules' | 'messages';

export interface Stage {
  readonly id: StageId;
  readonly label: string;
  /** Records per second; of the rules evaluations, of the last stage messages. Null: not known here. */
  readonly perSecond: number | null;
  /** What waits here, for people: "1,204 records", "3 MB"; null: nothing, or not known here. */
  readonly backlog: string | null;
  readonly state: 'good' | 'waiting' | 'failing' | 'elsewhere';
  /** In one sentence; null where all is well. */
  readonly trouble: string | null;
  /** The last warning or error that this stage logged, and when; null: none since the start. */
  readonly lastError: { readonly at: string; readonly text: string } | null;
}

export interface AlertsNow {
  /** Open incidents that nobody has acknowledged or made quiet. */
  readonly firing: number;
  /** Alerts whose condition has not held for long enough yet. */
  readonly pending: number;
  /** Open incidents that somebody has acknowledged. */
  readonly acknowledged: number;
  /** Changes with everything that a list of alerts shows: then it is worth asking again. */
  readonly revision: string;
}

/** `event: lines`: of what was indexed since the last one, at most 50 lines a second. Only with `tail=1`. */
export interface TailLines {
  readonly lines: readonly LogLine[];
  /** Documents that passed since the last such event, and how many of them were looked at: the rest is not judged. */
  readonly passed: number;
  readonly looked: number;
  /** Of those looked at, how many match the filter; more than `lines` when there were too many to show. */
  readonly matched: number;
}

/** A document, short. */
export interface LogLine {
  readonly index: string;
  readonly id: string;
  readonly at: string;
  readonly level: string | null;
  readonly service: string | null;
  readonly environment: string | null;
  readonly event: string | null;
  readonly callId: string | null;
  /** At most 500 characters, on one line. */
  readonly message: string;
  readonly isError: boolean;
}

/** `event: away`: what this process cannot show, and who can. */
export interface Away {
  readonly tail: string | null;
}

/** What the tail and the search share. */
export interface LogFilter {
  /** Levels, any of them; none: all. */
  readonly level: readonly string[];
  readonly environment: string | null;
  readonly service: string | null;
  /** Tail: a text that the document holds. */
  readonly text: string | null;
}

// ---- GET /api/v1/figures?from&to: the first view's charts ----

export interface FigureHistory {
  readonly from: string;
  readonly to: string;
  /** Seconds between two points. */
  readonly step: number;
  /** Null where nothing is known; one point for each step from `from` on. */
  readonly series: Readonly<Partial<Record<FigureId, readonly (number | null)[]>>>;
  /** Lines to draw across a chart. */
  readonly thresholds: readonly ThresholdLine[];
  /** Stretches to mark in it. */
  readonly alerts: readonly AlertSpan[];
  /** Why there is less than was asked for. */
  readonly note: string | null;
}

export interface ThresholdLine {
  readonly figure: FigureId;
  readonly rule: string;
  readonly priority: Priority;
  readonly value: number;
  /** "5 %" */
  readonly text: string;
}

export interface AlertSpan {
  readonly figure: FigureId | null;
  readonly rule: string;
  readonly title: string;
  readonly priority: Priority;
  readonly incident: string | null;
  readonly from: string;
  /** Null: it still fires. */
  readonly to: string | null;
}

// ---- GET /api/v1/incidents/ID ----

/** An incident, with all that is known of it; `incident` as GET /api/v1/alerts has it. */
export interface IncidentDetail {
  readonly incident: Readonly<Record<string, unknown>>;
  /** What was decided and done, oldest first. */
  readonly history: readonly { readonly at: string; readonly text: string }[];
  /** What of it is not kept. */
  readonly note: string | null;
  /** A chart for each alert, at most five. */
  readonly charts: readonly AlertChart[];
  /** A query line that finds the events behind it, for the search. */
  readonly query: string | null;
}

/** The measure of an alert around its time; in `IncidentDetail`. */
export interface AlertChart {
  /** Its key: rule and labels. */
  readonly alert: string;
  readonly rule: string;
  readonly measure: string;
  readonly unit: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly from: string;
  readonly step: number;
  readonly points: readonly (number | null)[];
  readonly threshold: number | null;
  readonly thresholdText: string | null;
  readonly firedAt: string | null;
  readonly resolvedAt: string | null;
  readonly note: string | null;
}

// ---- GET /api/v1/search?from&to&q&level&environment&service&order&size&after ----

export interface SearchAnswer {
  /** `elasticsearch`, or `files`: the NDJSON files, of the last day. */
  readonly source: 'elasticsearch' | 'files';
  readonly lines: readonly LogLine[];
  readonly total: number;
  /** False: there are at least so many. */
  readonly exact: boolean;
  /** For the next page; null: there is none. */
  readonly after: string | null;
  /** What limited the answer, for people; null: nothing did. */
  readonly note: string | null;
}

// ---- GET /api/v1/events/INDEX/ID ----

export interface EventDetail {
  readonly index: string;
  readonly id: string;
  readonly document: Readonly<Record<string, unknown>>;
}

// ---- GET /api/v1/charts, with the parameters of a search ----

/** The four charts of the Kibana objects, computed by aggregations. */
export interface Charts {
  readonly source: 'elasticsearch' | 'files';
  readonly from: string;
  /** Seconds between two points of `errorRate`. */
  readonly step: number;
  /** Share of events tagged error, null where there was none; `total` and `errors` beside it. */
  readonly errorRate: readonly {
    readonly at: string;
    readonly rate: number | null;
    readonly total: number;
    readonly errors: number;
  }[];
  /** The most frequent first; `query` finds its logs. */
  readonly topErrors: readonly Bucket[];
  readonly callStatus: readonly Bucket[];
  readonly responseTimes: readonly (Bucket & { readonly fromMs: number })[];
  readonly note: string | null;
}

export interface Bucket {
  readonly label: string;
  readonly count: number;
  readonly query: string;
}

// ---- /api/v1/jobs: replays and backtests that the page starts ----

/** POST /api/v1/jobs; times as the commands take them. Beside it there may be `by`, a name for the record. */
export type JobRequest =
  | {
      readonly kind: 'replay';
      readonly from: string;
      readonly to: string;
      /** `level=error`, as `logpipe replay --where` takes it. */
      readonly where?: readonly string[];
      readonly target: { readonly kind: 'in-place' | 'index' | 'topic'; readonly name?: string };
      /** Only the plan and the counts; nothing is written. */
      readonly dryRun: boolean;
    }
  | {
      readonly kind: 'backtest';
      readonly from: string;
      readonly to: string;
      /** Only this rule. */
      readonly rule?: string;
      /** What if its threshold were this, in the unit of its measure; what would be paged is compared with the rules in force. */
      readonly threshold?: number;
    };

export interface Job {
  readonly id: string;
  /** With absolute times, masked. */
  readonly request: JobRequest;
  readonly by: string;
  readonly started: string;
  readonly ended: string | null;
  readonly state: 'running' | 'done' | 'failed' | 'canceled';
  /** The newest line of progress, for people. */
  readonly progress: string | null;
  /** From 0 to 1; null: not known. */
  readonly share: number | null;
  /**
   * What the command prints with --json, 256 KiB at most; `cut` says what is left out of it, null: nothing. Of a backtest's messages only
   * the pages. Of a what-if `{ now, then, difference, cut }`: two backtests, with the rules in force and with the other threshold, and what
   * the second has more (positive) or less. Null: there is none, or it is no longer kept.
   */
  readonly result: unknown;
  readonly error: string | null;
}

/** GET /api/v1/jobs: the newest first, 20 at most. GET and DELETE /api/v1/jobs/ID answer with one `Job`. */
export interface JobsAnswer {
  readonly jobs: readonly Job[];
}

// ---- /api/v1/session: who the page is ----

/** GET, and the answer to POST {"once": "…"}, which also has `token`. */
export interface Session {
  /** Name of the token; null: a reader on this machine, without one. */
  readonly name: string | null;
  readonly mayAct: boolean;
  readonly token?: string;
  /** When the token ends; null: never. */
  readonly expires: string | null;
  readonly environment: string;
}
