// The one switch that makes the platform misbehave. Every part asks it; nothing else knows that an incident is staged.
import type { Clock } from '../../src/core/clock.ts';

export const INCIDENT_KINDS = ['provider-outage', 'slow-database', 'queue-stuck'] as const;
export type IncidentKind = (typeof INCIDENT_KINDS)[number];

export interface IncidentState {
  readonly kind: IncidentKind;
  /** Milliseconds since the epoch. */
  readonly until: number;
}

export interface Incident {
  /** Replaces a running incident; it ends by itself after `seconds`. */
  start(kind: IncidentKind, seconds: number): IncidentState;
  stop(): void;
  is(kind: IncidentKind): boolean;
  current(): IncidentState | undefined;
  /** Called after each start and end; work that waited for the end goes on here. */
  onChange(listener: () => void): void;
}

export function isIncidentKind(value: unknown): value is IncidentKind {
  return (INCIDENT_KINDS as readonly unknown[]).includes(value);
}

export function createIncident(deps: { clock: Clock }): Incident {
  const listeners: (() => void)[] = [];
  let state: IncidentState | undefined;
  let cancelEnd = () => {};
  const change = (next: IncidentState | undefined) => {
    cancelEnd();
    state = next;
    for (const listener of listeners) listener();
  };
  return {
    start(kind, seconds) {
      const next = { kind, until: deps.clock.now() + seconds * 1000 };
      change(next);
      cancelEnd = deps.clock.after(seconds * 1000, () => change(undefined));
      return next;
    },
    stop() {
      if (state) change(undefined);
    },
    is: (kind) => state?.kind === kind,
    current: () => state,
    onChange: (listener) => {
      listeners.push(listener);
    },
  };
}
