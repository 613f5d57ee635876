// Alerts, incidents and silences in words, and what the API says of silences; see docs/api.md.
import type { Params } from '../address.ts';
import type { AlertView, IncidentView } from '../incidents.ts';

export const STATES = ['open', 'firing', 'acknowledged', 'quiet', 'resolved', 'all'] as const;
export type AlertsState = (typeof STATES)[number];

export interface SilencesAnswer {
  readonly silences: readonly SilenceView[];
}

export interface SilenceView extends SilenceWhat {
  readonly id: string;
  readonly from: string | null;
  readonly until: string;
  readonly by: string;
  readonly reason: string;
}

interface SilenceWhat {
  readonly rule: string | null;
  readonly group: string | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly environment: string | null;
  readonly priority: string | null;
}

/** The answer to POST /api/v1/silences?preview=true. */
export interface PreviewAnswer {
  readonly preview: {
    readonly now: readonly AlertView[];
    readonly lastDay: readonly (Pick<AlertView, 'rule' | 'title' | 'priority' | 'labels' | 'since'> & {
      readonly incident: string;
      readonly resolved: string | null;
    })[];
  };
}

export function titleOf({ title }: Pick<IncidentView, 'title'>): string {
  return title ?? 'An incident that nobody was told of yet';
}

/** "service=dialer, environment=production" */
export function labelsText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(', ');
}

/** "ada, then grace"; null: nobody is known to be. */
export function onCallText(onCall: unknown): string | null {
  const { primary, secondary } = (onCall ?? {}) as { readonly primary?: unknown; readonly secondary?: unknown };
  const names = [primary, secondary].filter((name) => typeof name === 'string');
  return names.length === 0 ? null : names.join(', then ');
}

/** "rule queue-backlog, queue.name=retries" */
export function silencedText({ rule, group, labels, environment, priority }: SilenceWhat): string {
  return [
    ...(rule === null ? [] : [`rule ${rule}`]),
    ...(group === null ? [] : [`group ${group}`]),
    ...(Object.keys(labels).length === 0 ? [] : [labelsText(labels)]),
    ...(environment === null ? [] : [`environment ${environment}`]),
    ...(priority === null ? [] : [`priority ${priority}`]),
  ].join(', ');
}

/** A link to one incident, which keeps the list as it is. */
export function incidentParams(id: string | null, state: string): Params {
  return { state: state === 'open' ? null : state, incident: id };
}
