// What happened to alerts, as documents. In: a transition with the alert or incident it belongs to. Out: a document for the
// monthly history index. Guarantee: its id is made when the decision is taken and kept with it, so that sending it twice
// leaves one document.
import { createHash } from 'node:crypto';
import type { ChannelName, NotifyAction, NotifyReason } from '../notify/notification.ts';
import type { Priority, Severity, Why } from '../rules/observation.ts';
import type { AlertRecord, Resolution } from './alert-state.ts';
import type { IncidentRecord } from './incident.ts';

export const TRANSITIONS = [
  'pending',
  'firing',
  'acknowledged',
  'silenced',
  'inhibited',
  'resolved',
  'reopened',
  'notified',
] as const;
export type TransitionName = (typeof TRANSITIONS)[number];

export const HISTORY_PREFIX = 'logpipe-alerts-';

/** One document of the history, as it waits in the outbox. */
export interface HistoryDocument {
  readonly index: string;
  readonly id: string;
  readonly source: HistorySource;
}

export interface HistorySource {
  readonly '@timestamp': string;
  readonly transition: TransitionName;
  readonly environment: string;
  readonly alert?: {
    readonly key: string;
    readonly rule: string;
    readonly title: string;
    readonly labels: Readonly<Record<string, string>>;
    /** Evaluation time of the first breach. */
    readonly started: string;
    readonly message: string;
    readonly metadata?: Readonly<Record<string, unknown>>;
    readonly why?: Why;
    readonly resolution?: Resolution;
  };
  readonly group?: string;
  readonly priority?: Priority;
  readonly severity?: Severity;
  readonly incident?: { readonly id: string; readonly dedupKey: string; readonly opened: string };
  readonly notification?: {
    readonly channel: ChannelName;
    readonly action: NotifyAction;
    readonly reason: NotifyReason;
    readonly delivered: boolean;
    readonly failure?: string;
  };
  /** Who acknowledged. */
  readonly by?: string;
}

export interface Transition {
  readonly name: TransitionName;
  readonly alert?: AlertRecord;
  readonly incident?: IncidentRecord;
  readonly resolution?: Resolution;
  readonly notification?: HistorySource['notification'];
  readonly by?: string;
}

export function severityOf(priority: Priority): Severity {
  switch (priority) {
    case 'P1':
      return 'critical';
    case 'P2':
    case 'P3':
      return 'warning';
    case 'P4':
      return 'info';
  }
}

/** @param seq number of the outbox entry that carries it: two transitions of one millisecond stay two documents */
export function historyDocument(
  transition: Transition,
  context: { readonly wallMs: number; readonly seq: number; readonly environment: string },
): HistoryDocument {
  const { name, alert, incident, resolution, notification, by } = transition;
  const time = new Date(context.wallMs).toISOString();
  const priority = alert?.priority ?? incident?.told?.priority;
  const group = alert?.group ?? incident?.group;
  const source: HistorySource = {
    '@timestamp': time,
    transition: name,
    environment: context.environment,
    ...(alert === undefined ? {} : { alert: describe(alert, resolution) }),
    ...(group === undefined ? {} : { group }),
    ...(priority === undefined ? {} : { priority, severity: severityOf(priority) }),
    ...(incident === undefined
      ? {}
      : {
          incident: {
            id: incident.id,
            dedupKey: incident.dedupKey,
            opened: new Date(incident.openedMs).toISOString(),
          },
        }),
    ...(notification === undefined ? {} : { notification }),
    ...(by === undefined ? {} : { by }),
  };
  const subject = [alert?.key, incident?.id, name, notification?.channel, context.wallMs, context.seq];
  return {
    index: `${HISTORY_PREFIX}${time.slice(0, 4)}.${time.slice(5, 7)}`,
    id: createHash('sha256').update(JSON.stringify(subject)).digest('base64url').slice(0, 27),
    source,
  };
}

function describe(alert: AlertRecord, resolution: Resolution | undefined): NonNullable<HistorySource['alert']> {
  const { key, ruleId, title, labels, startedMs, message, metadata, why } = alert;
  return {
    key,
    rule: ruleId,
    title,
    labels,
    started: new Date(startedMs).toISOString(),
    message,
    ...(metadata === undefined ? {} : { metadata }),
    ...(why === undefined ? {} : { why }),
    ...(resolution === undefined ? {} : { resolution }),
  };
}
