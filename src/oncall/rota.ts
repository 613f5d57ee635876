// Who is on call: a weekly order of people, overrides, or the events of a calendar file; and local times, with daylight saving. In: a rota and
// a time. Out: people. Guarantee: pure; every moment has exactly one answer, and a moment without one is reported before it comes.

export interface Rota {
  /** IANA name. */
  readonly timeZone: string;
  /** When a week begins: 1 = Monday … 7 = Sunday, and minutes after local midnight. */
  readonly handOff: { readonly day: number; readonly minute: number };
  /** Person ids, a week each; the first has the week that begins at or after `startsMs`. */
  readonly primary: readonly string[];
  /** The same for the secondary. */
  readonly secondary: readonly string[];
  readonly startsMs: number;
  readonly overrides: readonly Shift[];
  /** Events of an iCalendar file instead of the weekly order; their summary is the person's id, name or mail address. */
  readonly calendar?: readonly Shift[];
}

export interface Shift {
  readonly fromMs: number;
  readonly untilMs: number;
  readonly primary?: string;
  readonly secondary?: string;
}

/** Who is on call at a moment, and until when that holds. */
export interface OnCall {
  /** Undefined in a gap. */
  readonly primary: string | undefined;
  readonly secondary: string | undefined;
  readonly untilMs: number;
  readonly from: 'rota' | 'override' | 'calendar';
}
