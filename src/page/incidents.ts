// The incidents as the page reads them: of GET /api/v1/alerts, what the views show. Guarantee: a list is asked for again when something in it
// has changed.
import { type Answer, alertsRevision, get, useAnswer } from './app.ts';
import type { Tone } from './parts.tsx';

export interface AlertView {
  readonly key: string;
  readonly rule: string;
  readonly title: string;
  readonly priority: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly phase: string;
  readonly since: string;
  readonly muted: unknown;
  readonly message: string;
  readonly value: number | null;
  readonly threshold: number | null;
  readonly runbook: string | null;
}

export interface IncidentView {
  readonly id: string;
  readonly state: 'firing' | 'acknowledged' | 'quiet' | 'resolved';
  readonly priority: string | null;
  readonly title: string | null;
  readonly message: string | null;
  readonly group: string;
  readonly team: string | null;
  readonly opened: string;
  readonly resolved: string | null;
  readonly reopened: number;
  readonly acknowledged: { readonly by: string; readonly via: string | null; readonly at: string } | null;
  readonly quietUntil: string | null;
  readonly onCall: unknown;
  readonly escalation: number | null;
  readonly answerBy: string | null;
  readonly alerts: readonly AlertView[];
}

export interface IncidentList {
  readonly timestamp: string;
  /** The newest first. */
  readonly incidents: readonly IncidentView[];
  /** So many are left out. */
  readonly more: number;
  readonly pending: readonly AlertView[];
}

/** @param state as GET /api/v1/alerts takes it */
export function useIncidents(state: 'open' | 'all' | IncidentView['state']): Answer<IncidentList> {
  return useAnswer(`${state} ${alertsRevision.value}`, (signal) => get<IncidentList>('alerts', { state }, signal));
}

export function toneOfPriority(priority: string | null): Tone {
  return priority === 'P1' ? 'bad' : priority === 'P2' || priority === 'P3' ? 'warn' : 'info';
}

export const STATE_WORDS: Readonly<Record<IncidentView['state'], readonly [text: string, tone: Tone]>> = {
  firing: ['Nobody has it', 'bad'],
  acknowledged: ['Acknowledged', 'info'],
  quiet: ['Quiet', 'quiet'],
  resolved: ['Resolved', 'good'],
};
