// Who is told of what, when and where: `config/routing.yml`. In: YAML. Out: Routing, frozen, and pure answers to "where does this go now".
// Guarantee: what it names exists; every team can be reached; a shipped file gives the priorities of the operators' guide.
import type { Where } from '../core/condition.ts';
import type { Priority } from '../rules/rule-types.ts';
import type { Rota } from './rota.ts';

/** `slack`, `pagerduty`, `email`, `webhook`, `console`; of a team or person with its id behind a colon: `slack:payments`, `email:ada`. */
export type Destination = string;

/** The kinds of destination that a priority or a team can name. */
export type DestinationKind = 'pagerduty' | 'slack' | 'email' | 'webhook' | 'console';

export interface Person {
  readonly id: string;
  readonly name: string;
  readonly email: string;
  /** Member id, like `U012AB3CD`: messages mention it. */
  readonly slackId?: string;
  /** Integration key of a PagerDuty service of their own; secret. */
  readonly pagerDutyKey?: string;
}

export interface PriorityRoute {
  readonly to: readonly DestinationKind[];
  /** P4: not sent, but told in the daily mail. */
  readonly daily: boolean;
  /** Outside business hours it is held, and dropped if it is over before they begin. */
  readonly businessHoursOnly: boolean;
  /** Names the primary, and goes on to the secondary when nobody acknowledges. */
  readonly onCall: boolean;
  readonly answerWithinMs: number;
}

/** The weekly hours in which P3 is sent. */
export interface BusinessHours {
  /** IANA name, like `Europe/Berlin`. */
  readonly timeZone: string;
  /** 1 = Monday … 7 = Sunday. */
  readonly days: readonly number[];
  /** Minutes after local midnight. */
  readonly fromMinute: number;
  readonly untilMinute: number;
}

/** Which alerts: every part that is given must match. */
export interface AlertMatch {
  readonly rule?: string;
  readonly group?: string;
  readonly labels?: Where;
  readonly environment?: string;
}

export interface Team {
  readonly id: string;
  readonly name: string;
  /** Destinations of its own; what it does not have goes to the common ones of `notify`. */
  readonly slackWebhookUrl?: string;
  readonly pagerDutyKey?: string;
  readonly emailTo?: readonly string[];
  readonly hours: BusinessHours;
  readonly rota?: Rota;
  /** Who escalates: this program, or PagerDuty, which then gets no second trigger. */
  readonly escalation: { readonly by: 'logpipe' | 'pagerduty'; readonly afterMs: number; readonly repeatMs: number };
  /**
   * Local time of the daily mail, in the zone of its hours, as minutes after midnight. It goes to the team's mail (its own or the common
   * one), and to those who are on call, come or go that day.
   */
  readonly daily: { readonly atMinute: number };
}

/** A recurring silence: alerts that match are muted for `durationMs` from each time that `cron` names. */
export interface MaintenanceWindow {
  readonly id: string;
  readonly cron: string;
  readonly timeZone: string;
  readonly durationMs: number;
  readonly match: AlertMatch;
  readonly reason: string;
}

export interface Routing {
  readonly priorities: Readonly<Record<Priority, PriorityRoute>>;
  readonly people: ReadonlyMap<string, Person>;
  readonly teams: readonly Team[];
  /** The first that matches names the team; without one it is the default team. */
  readonly routes: readonly { readonly match: AlertMatch; readonly team: string }[];
  readonly defaultTeam: string;
  readonly maintenance: readonly MaintenanceWindow[];
  /** Resolved by hand while still true: quiet for this long. */
  readonly reopenAfterMs: number;
}
