// Where a message goes at a moment, and who is on call then. In: the routing, and which destinations can be reached. Out: pure answers.
// Guarantee: an answer depends on the routing and the moment alone, so that every instance gives the same; what cannot be reached is in
// no answer.
import type { Priority } from '../rules/rule-types.ts';
import type { Destination, Person, PriorityRoute, Team } from './routing.ts';

/** What routing looks at in an alert. */
export interface RoutedAlert {
  readonly ruleId: string;
  readonly group: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Who is on call, with all that is known of them. */
export interface PeopleOnCall {
  readonly primary?: Person;
  readonly secondary?: Person;
}

export interface Routes {
  /** Undefined where there is no routing: then there are no teams, and nobody is on call. */
  teamOf(alert: RoutedAlert): string | undefined;
  /** All of them, in the order of the file. */
  teams(): readonly Team[];
  /** The default team, if there is no such team any more; undefined where there is no routing. */
  team(id: string | undefined): Team | undefined;
  rules(priority: Priority): PriorityRoute;
  /** Those of the team, each once: its own, where it has them, or the common ones. */
  channels(priority: Priority, team: string | undefined): readonly Destination[];
  /** `email:<id>` and `pagerduty:<id>`, as far as the person can be reached there. */
  personChannels(person: Person): readonly Destination[];
  /** Where mail to the whole team goes. */
  mailOf(team: Team): readonly Destination[];
  onCall(team: Team, atMs: number): PeopleOnCall;
  /** Whether a message of this priority to this team waits for business hours. */
  waits(priority: Priority, team: string | undefined, atMs: number): boolean;
  /** The maintenance windows that mute an alert at this moment, by their ids. */
  maintenance(atMs: number): (alert: RoutedAlert) => string | undefined;
}
