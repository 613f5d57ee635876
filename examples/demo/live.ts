// One look per second at what runs, shown until the time is up, somebody interrupts, or a part fails.
import { sleep } from '../../src/core/clock.ts';
import { LogpipeError } from '../../src/core/errors.ts';
import type { IncidentKind } from '../calling-platform/incident.ts';
import type { Application } from './application.ts';
import { endedMessage } from './await.ts';
import type { Pipeline, PipelineCounts } from './pipeline.ts';
import type { Results, ResultsReader } from './results.ts';
import type { Screen } from './screen.ts';

export interface LiveInput {
  title: string;
  kafka: boolean;
  /** Ask for a refresh with every look: on servers of our own, where it disturbs nobody. */
  fresh: boolean;
  forMs: number | undefined;
  incident: IncidentKind | undefined;
  application: Application;
  pipeline: Pipeline;
  results: ResultsReader;
  latest: readonly string[];
  /** The page's address, to copy. */
  page: string;
  /** Commands to copy. */
  hints: readonly string[];
}

const EVERY_MS = 1000;
/** Calm first, so that the incident is seen to begin. */
const INCIDENT_AFTER_MS = 15_000;
const INCIDENT_SECONDS = 60;
/** Without an end somebody opens the page first, and looks around. */
const OPEN_END = { afterMs: 30_000, seconds: 180 };
/** Of a demo with an end: short enough to see the alert resolve. */
const INCIDENT_SHARE = 6;

export async function showLive(input: LiveInput, screen: Screen, stop: AbortSignal): Promise<void> {
  const { application, pipeline, results } = input;
  const begin = Date.now();
  const end = input.forMs === undefined ? Number.POSITIVE_INFINITY : begin + input.forMs;
  const incident = input.incident && plan(input.incident, begin, input.forMs);
  let before: { at: number; produced: number; indexed: number } | undefined;
  let seen: Results | undefined;

  while (!stop.aborted && Date.now() < end) {
    failIfEnded(application, pipeline);
    if (incident?.due(Date.now())) {
      await application.startIncident(incident.kind, incident.seconds);
      screen.step(`Incident "${incident.kind}" begins, for ${incident.seconds} s`);
    }
    const [counts, found] = await Promise.all([
      pipeline.counts(),
      // The first index appears with the first bulk; a search that fails once is asked again a second later.
      results.read({ fresh: input.fresh }).catch(() => seen),
    ]);
    seen = found;
    const { produced, dropped } = application.counts();
    const at = Date.now();
    const per = (now: number, then: number | undefined) =>
      before === undefined || then === undefined ? 0 : Math.max(0, ((now - then) * 1000) / (at - before.at));
    screen.show({
      title: input.title,
      time: timeLine(at - begin, end - at),
      rates: { produced: per(produced, before?.produced), indexed: per(counts.indexed, before?.indexed) },
      totals: totals(produced, dropped, counts),
      lag: input.kafka ? counts.lag : undefined,
      firing: counts.firing,
      results: seen,
      latest: input.latest,
      page: input.page,
      hints: input.hints,
      incident: incident?.state(at),
    });
    before = { at, produced, indexed: counts.indexed };
    await sleep(Math.min(EVERY_MS, Math.max(0, end - Date.now())), stop);
  }
}

/** Counts of both sides under the names of the final report. */
export function totals(produced: number, dropped: number, counts: PipelineCounts) {
  const { indexed, deadLettered, duplicates } = counts;
  return { produced, indexed, deadLettered, duplicates, dropped: dropped + counts.dropped };
}

function plan(kind: IncidentKind, begin: number, forMs: number | undefined) {
  const from = begin + (forMs === undefined ? OPEN_END.afterMs : Math.min(INCIDENT_AFTER_MS, forMs / 3));
  const seconds =
    forMs === undefined
      ? OPEN_END.seconds
      : Math.max(1, Math.min(INCIDENT_SECONDS, Math.round(forMs / INCIDENT_SHARE / 1000)));
  const until = from + seconds * 1000;
  let started = false;
  return {
    kind,
    seconds,
    /** True once, when its time has come. */
    due(now: number) {
      if (started || now < from) return false;
      started = true;
      return true;
    },
    state(now: number): string | undefined {
      if (!started) return undefined;
      return now < until ? `${kind}, ${Math.ceil((until - now) / 1000)} s left` : `${kind} is over`;
    },
  };
}

function failIfEnded(...parts: (Application | Pipeline)[]): void {
  for (const { child } of parts) {
    if (child.exited()) throw new LogpipeError('LOGPIPE_STACK_FAILED', endedMessage(child));
  }
}

function timeLine(passedMs: number, leftMs: number): string {
  const passed = `${Math.round(passedMs / 1000)} s`;
  return Number.isFinite(leftMs) ? `${passed}, ${Math.max(0, Math.round(leftMs / 1000))} s left` : passed;
}
