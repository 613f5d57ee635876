// What there is to say about a stretch of logs. In: documents. Out: counts, first and last, releases, frequent errors. Guarantee:
// bounded: what exceeds the limits is counted apart, under no name that a record can have; whatever a document holds, nothing throws.
import { toJson } from '../core/safe-json.ts';

export interface ErrorFact {
  readonly time: string;
  readonly message: string;
  readonly eventId?: string;
}

export interface TemplateFact {
  readonly template: string;
  count: number;
  readonly first: string;
  last: string;
  /** Event id of the first one. */
  readonly example: string;
  readonly service: string;
}

export interface ReleaseFact {
  readonly version: string;
  events: number;
  errors: number;
  readonly first: string;
}

export interface Facts {
  readonly events: number;
  readonly errors: number;
  readonly firstEvent?: string;
  readonly lastEvent?: string;
  readonly firstError?: ErrorFact;
  readonly lastError?: ErrorFact;
  /** The most frequent first. */
  readonly templates: readonly TemplateFact[];
  readonly releases: readonly ReleaseFact[];
  readonly levels: Readonly<Record<string, number>>;
  /** What is in none of the lists: they were full, or there is no level. */
  readonly untold: {
    /** Errors whose template came after MAX_TEMPLATES others. */
    readonly errors: number;
    /** Events of releases after MAX_RELEASES others. */
    readonly ofReleases: number;
    /** Events of levels after MAX_LEVELS others. */
    readonly ofLevels: number;
    readonly withoutLevel: number;
  };
}

const MAX_TEMPLATES = 5_000;
const MAX_RELEASES = 200;
const MAX_LEVELS = 20;
const MAX_MESSAGE = 500;
/** Of a release, a service, a level. */
const MAX_NAME = 200;

export function createFacts() {
  const templates = new Map<string, TemplateFact>();
  const releases = new Map<string, ReleaseFact>();
  const levels = new Map<string, number>();
  const untold = { errors: 0, ofReleases: 0, ofLevels: 0, withoutLevel: 0 };
  let events = 0;
  let errors = 0;
  let first = Number.POSITIVE_INFINITY;
  let last = Number.NEGATIVE_INFINITY;
  let firstError: { ms: number; fact: ErrorFact } | undefined;
  let lastError: { ms: number; fact: ErrorFact } | undefined;

  function release(name: unknown, time: string, isError: boolean): void {
    if (typeof name !== 'string') return;
    const version = name.slice(0, MAX_NAME);
    const known = releases.get(version);
    if (known === undefined && releases.size >= MAX_RELEASES) {
      untold.ofReleases += 1;
      return;
    }
    const fact = known ?? { version, events: 0, errors: 0, first: time };
    if (known === undefined) releases.set(version, fact);
    fact.events += 1;
    if (isError) fact.errors += 1;
  }

  function error(document: Readonly<Record<string, unknown>>, ms: number, time: string): void {
    const { message, eventId, service } = document;
    const grouping = document.error as { readonly template?: unknown } | undefined;
    const fact: ErrorFact = {
      time,
      message: textOf(message).slice(0, MAX_MESSAGE),
      ...(typeof eventId === 'string' ? { eventId: eventId.slice(0, MAX_NAME) } : {}),
    };
    if (firstError === undefined || ms < firstError.ms) firstError = { ms, fact };
    if (lastError === undefined || ms >= lastError.ms) lastError = { ms, fact };
    const template = typeof grouping?.template === 'string' ? grouping.template.slice(0, MAX_MESSAGE) : fact.message;
    const known = templates.get(template);
    if (known !== undefined) {
      known.count += 1;
      if (time > known.last) known.last = time;
      return;
    }
    if (templates.size >= MAX_TEMPLATES) {
      untold.errors += 1;
      return;
    }
    const place = { example: fact.eventId ?? '', service: textOf(service).slice(0, MAX_NAME) };
    templates.set(template, { template, count: 1, first: time, last: time, ...place });
  }

  function countLevel(level: unknown): void {
    if (typeof level !== 'string') {
      untold.withoutLevel += 1;
      return;
    }
    const name = level.slice(0, MAX_NAME);
    if (levels.has(name) || levels.size < MAX_LEVELS) levels.set(name, (levels.get(name) ?? 0) + 1);
    else untold.ofLevels += 1;
  }

  return {
    add(document: Readonly<Record<string, unknown>>, ms: number): void {
      const time = new Date(ms).toISOString();
      const { level, tags, version } = document;
      const isError = Array.isArray(tags) && tags.includes('error');
      events += 1;
      first = Math.min(first, ms);
      last = Math.max(last, ms);
      countLevel(level);
      release(version, time, isError);
      if (!isError) return;
      errors += 1;
      error(document, ms, time);
    },
    result(): Facts {
      return {
        events,
        errors,
        ...(events === 0 ? {} : { firstEvent: new Date(first).toISOString(), lastEvent: new Date(last).toISOString() }),
        ...(firstError === undefined ? {} : { firstError: firstError.fact }),
        ...(lastError === undefined ? {} : { lastError: lastError.fact }),
        templates: [...templates.values()].sort((a, b) => b.count - a.count || (a.template < b.template ? -1 : 1)),
        releases: [...releases.values()].sort((a, b) => (a.first < b.first ? -1 : 1)),
        levels: Object.fromEntries([...levels].sort(([a], [b]) => (a < b ? -1 : 1))),
        untold: { ...untold },
      };
    },
  };
}

/** An object may have a `toString` of its own that is none. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return value === undefined || value === null ? '' : toJson(value);
}
