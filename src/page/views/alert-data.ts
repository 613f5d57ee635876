// What GET /api/v1/alerts and /silences answer, as far as the page shows it; see docs/api.md. Types, and the words for them.
import type { Priority } from '../../ops/page-data.ts';
import type { Params } from '../address.ts';
import type { Tone } from '../parts.tsx';

export const STATES = ['open', 'firing', 'acknowledged', 'quiet', 'resolved', 'all'] as const;
export type AlertsState = (typeof STATES)[number];

export interface AlertsAnswer {
  readonly incidents: readonly IncidentView[];
  /** So many more are left out. */
  readonly more: number;
  readonly pending: readonly AlertView[];
}

export interface IncidentView {
  readonly id: string;
  readonly state: 'firing' | 'acknowledged' | 'quiet' | 'resolved';
  readonly priority: Priority | null;
  readonly title: string | null;
  readonly message: string | null;
  readonly group: string;
  readonly team: string | null;
  readonly opened: string;
  readonly resolved: string | null;
  readonly reopened: number;
  readonly acknowledged: { readonly by: string; readonly via: string | null; readonly at: string } | null;
  readonly quietUntil: string | null;
  readonly onCall: string | null;
  readonly escalation: number | null;
  readonly answerBy: string | null;
  /** Those that fire. */
  readonly alerts: readonly AlertView[];
}

export interface AlertView {
  readonly key: string;
  readonly rule: string;
  readonly title: string;
  readonly priority: Priority;
  readonly labels: Readonly<Record<string, string>>;
  readonly phase: 'pending' | 'firing';
  readonly since: string;
  readonly muted: 'silenced' | 'inhibited' | null;
  readonly message: string;
  readonly value: number | null;
  readonly threshold: number | null;
  readonly runbook: string;
}

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

export function priorityTone(priority: string | null): Tone {
  if (priority === 'P1' || priority === 'P2') return 'bad';
  return priority === 'P3' ? 'warn' : 'quiet';
}

export const STATE_TONES: Readonly<Record<IncidentView['state'], Tone>> = {
  firing: 'bad',
  acknowledged: 'warn',
  quiet: 'quiet',
  resolved: 'good',
};

export function titleOf({ title }: Pick<IncidentView, 'title'>): string {
  return title ?? 'An incident that nobody was told of yet';
}

/** "service=dialer, environment=production" */
export function labelsText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(', ');
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
