// When logpipe itself fails: "Log pipeline blind", the one alert that cannot go through Kafka, and the heartbeat. In: signs of life of
// Kafka, what this process cannot write, evaluations, a check every second. Out: a P1 straight to the channels after `blindAfterMs`, and
// its resolve when alerts are evaluated again; calls of the operator's heartbeat address as long as there are evaluations.
// Guarantee: one dedup key per environment and pipeline, whoever notifies and however often, so that a service with dedup keys shows one
// incident; time that this process slept through does not count as silence; an instance remembers over a restart whom it told. The end is
// told wherever the beginning may have arrived, by the instance that decides: one that stood by hands over to it whom it told. What people
// have silenced, as it was last read, tells nobody: neither while Kafka is away, nor after a restart meanwhile.
//
// Who notifies whom: every blind instance notifies PagerDuty, which has dedup keys. Other channels would show every message, so they are
// told by the instance that decided last; one that stood by tells them two minutes later, in case the leader is dead. There may be two then.
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Clock, isWorthSaying } from '../core/clock.ts';
import { errorText, LogpipeError, refuseNewer } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { makePrivateFolder, writePrivateSync } from '../core/private-files.ts';
import type { SilenceRecord } from '../incidents/incident.ts';
import { BLIND_ENDED, BLIND_TITLE, blindNotice, type ChannelName } from '../incidents/notification.ts';
import { type MessageEntry, SEQ_DIGITS } from '../incidents/records.ts';
import type { HttpSend } from '../notify/http-send.ts';
import { type Destination, isDestination } from '../oncall/routing.ts';
import { silenceOf } from './commands-given.ts';

export interface BlindWatch {
  /** Kafka did something for us: confirmed the membership, took a commit, delivered totals. */
  alive(): void;
  /** This instance decides (true), or another one does (false). While neither is known, the last answer counts. */
  leads(leading: boolean): void;
  /** An evaluation of this instance is durable, and the counts of every partition in it were recent. */
  evaluated(): void;
  /** What finally became of a message, by its entry's id. `reached`: the channel took it, or may have. */
  onResult(id: string, reached: boolean): void;
  /** Call it every second or so. */
  look(): void;
  /** True from the moment the alert is due until its resolve. */
  blind(): boolean;
  /** How long Kafka has been silent while this process was awake, ms. */
  silentMs(): number;
}

interface BlindWatchOptions {
  readonly blindAfterMs: number;
  readonly brokers: readonly string[];
  readonly environment: string;
  /** Tells pipelines on the same brokers apart: the alerts topic. */
  readonly pipeline: string;
  /** File that keeps who was told. */
  readonly noteFile: string;
  /** How much longer an instance that stood by waits, ms. Default 120 s. */
  readonly standbyWaitMs?: number;
}

interface BlindWatchDeps {
  readonly clock: Clock;
  /** How long this process has been awake, ms: see core/clock.ts. */
  readonly awakeMs: () => number;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Where a P1 goes now; only channels that are configured. */
  readonly channels: () => readonly ChannelName[];
  /** Why nobody is to be told now: a silence, or maintenance. Undefined when people are. */
  readonly silenced?: () => string | undefined;
  /** Sends without the outbox, with the usual retries. */
  readonly send: (entries: readonly MessageEntry[]) => void;
  /** Entries given to `send` that need not be sent any more. */
  readonly forget: (ids: readonly string[]) => void;
  /** Tells the instance that decides whom this one told, so that it sends them the end. Rejects unless that is known to be written. */
  readonly handOver?: (told: BlindTold) => Promise<void>;
  /** Why counts cannot be written, or alerts cannot be decided, although Kafka answers; undefined when they can. */
  readonly trouble: () => string | undefined;
}

/** Whom an instance that does not decide has told. */
export interface BlindTold {
  readonly incidentId: string;
  readonly environment: string;
  /** Wall clock, ms. */
  readonly sinceMs: number;
  readonly channels: readonly ChannelName[];
}

/** Of a channel that shows one incident per dedup key. */
function isKeyed(name: ChannelName): boolean {
  return name === 'pagerduty' || name.startsWith('pagerduty:');
}

/** The alert, as silences, maintenance and routes look at it. The group is that of the rules about logpipe itself. */
export const BLIND_ALERT = { ruleId: 'log-pipeline-blind', group: 'logpipe', priority: 'P1', labels: {} } as const;

/** Wait before the next attempt to hand over. */
const HAND_OVER_AGAIN_MS = 5_000;

/** The same from every instance and every restart. */
export function blindIncidentId(environment: string, pipeline: string): string {
  const hash = createHash('sha1')
    .update(JSON.stringify([environment, pipeline]))
    .digest('hex');
  return `blind-${hash.slice(0, 16)}`;
}

interface Note {
  /** Wall clock, ms. */
  readonly sinceMs: number;
  readonly told: readonly ChannelName[];
  readonly led: boolean;
}

/** @throws LogpipeError LOGPIPE_FORMAT_NEWER for a note that a newer logpipe left */
export function createBlindWatch(options: BlindWatchOptions, deps: BlindWatchDeps): BlindWatch {
  const { blindAfterMs, standbyWaitMs = 120_000 } = options;
  const { clock, awakeMs, log, metrics } = deps;
  const incidentId = blindIncidentId(options.environment, options.pipeline);
  const before = readNote(options.noteFile);
  /** Channels that have a message, or are about to get one. */
  const notified = new Set<ChannelName>(before?.told);
  /** Those that took it, or may have. */
  const told = new Set<ChannelName>(before?.told);
  /** Those that never will. */
  const refused = new Set<ChannelName>();
  /** Messages on their way. */
  const entries = new Map<string, { readonly channel: ChannelName; readonly action: 'trigger' | 'resolve' }>();
  let led = before?.led ?? false;
  let standing = false;
  let lastAwakeMs = awakeMs();
  let lastWallMs = clock.now();
  let troubleSinceMs: number | undefined;
  /** When it began, wall clock; what was told before a restart goes on until it is resolved. */
  let sinceMs = before?.sinceMs;
  let blindSinceMs: number | undefined;
  let handing = false;
  let handAgainMs = 0;
  /** Failures in a row to hand over. */
  let failures = 0;
  let seq = 0;
  if (before !== undefined) metrics.blind.set(1);

  function notify(action: 'trigger' | 'resolve', channels: readonly ChannelName[], message: string): void {
    const atMs = clock.now();
    const notification = blindNotice(action, {
      ...{ incidentId, environment: options.environment, sinceMs: sinceMs ?? atMs, atMs, message },
      metadata: metadataNow(),
    });
    seq += 1;
    const number = String(seq).padStart(SEQ_DIGITS, '0');
    const added = channels.map((channel) => ({
      id: `${number}-${channel}`,
      channel,
      createdMs: atMs,
      attempts: 0,
      nextMs: 0,
      notification,
    }));
    for (const { id, channel } of added) entries.set(id, { channel, action });
    deps.send(added);
  }

  const metadataNow = () => ({ brokers: [...options.brokers], lastSignOfLife: new Date(lastWallMs).toISOString() });

  function whyBlind(): string | undefined {
    const awake = awakeMs();
    const trouble = deps.trouble();
    troubleSinceMs = trouble === undefined ? undefined : (troubleSinceMs ?? awake);
    const silentMs = awake - lastAwakeMs;
    if (silentMs >= blindAfterMs) return `Kafka has not answered for ${seconds(silentMs)} s`;
    const troubledMs = troubleSinceMs === undefined ? 0 : awake - troubleSinceMs;
    return troubledMs >= blindAfterMs ? `For ${seconds(troubledMs)} s: ${trouble}` : undefined;
  }

  function trigger(why: string): void {
    const awake = awakeMs();
    const silenced = deps.silenced?.();
    if (blindSinceMs === undefined) {
      blindSinceMs = awake;
      sinceMs ??= clock.now();
      metrics.blind.set(1);
      const alert = { title: BLIND_TITLE, message: why, metadata: metadataNow() };
      log.error('CRITICAL ALERT', { alert, ...(silenced === undefined ? {} : { silenced }) });
    }
    if (silenced !== undefined) {
      // Afterwards, an instance that stood by waits for the others as if it began then.
      blindSinceMs = awake;
      return;
    }
    const mayNotifyAll = led || awake - blindSinceMs >= standbyWaitMs;
    const due = deps.channels().filter((name) => !notified.has(name) && (isKeyed(name) || mayNotifyAll));
    for (const name of due) notified.add(name);
    if (due.length === 0) return;
    const again = led || due.every((name) => isKeyed(name)) ? '' : ' Another instance may have told you already.';
    notify('trigger', due, `${why}: what is logged is not seen, and no other alert can fire.${again}`);
  }

  function resolve(): void {
    // A channel that refused the trigger has no use for the resolve.
    const channels = [...notified].filter((name) => !refused.has(name));
    if (channels.length > 0) notify('resolve', channels, BLIND_ENDED);
    over(BLIND_ENDED);
  }

  /** Other instances may still be blind, so this one does not say that it is over. */
  function handOver(hand: NonNullable<BlindWatchDeps['handOver']>): void {
    deps.forget(idsOf('trigger'));
    const words = 'This instance reaches Kafka again; the one that evaluates the alerts says when it is over.';
    if (told.size === 0) {
      over(words);
      return;
    }
    handing = true;
    const about = {
      incidentId,
      environment: options.environment,
      sinceMs: sinceMs ?? clock.now(),
      channels: [...told],
    };
    hand(about)
      .then(
        () => over(words),
        (error) => {
          handAgainMs = awakeMs() + HAND_OVER_AGAIN_MS;
          failures += 1;
          if (isWorthSaying(failures)) {
            log.warn('Who was told cannot be handed over yet', { error: errorText(error), failures });
          }
        },
      )
      .finally(() => {
        handing = false;
      });
  }

  function idsOf(action: 'trigger' | 'resolve', of?: ChannelName): string[] {
    return [...entries].flatMap(([id, entry]) =>
      entry.action === action && (of === undefined || entry.channel === of) ? [id] : [],
    );
  }

  function over(message: string): void {
    log.info(`ALERT RESOLVED: ${BLIND_TITLE}`, { message, blindForMs: clock.now() - (sinceMs ?? clock.now()) });
    metrics.blind.set(0);
    notified.clear();
    told.clear();
    refused.clear();
    failures = 0;
    sinceMs = undefined;
    blindSinceMs = undefined;
    removeNote(options.noteFile, log);
  }

  return {
    alive() {
      lastAwakeMs = awakeMs();
      lastWallMs = clock.now();
    },
    leads(leading) {
      led = leading;
      standing = !leading;
    },
    evaluated() {
      if (!handing && sinceMs !== undefined && whyBlind() === undefined) resolve();
    },
    onResult(id, reached) {
      const entry = entries.get(id);
      entries.delete(id);
      if (entry?.action !== 'trigger') return;
      const { channel } = entry;
      const ends = idsOf('resolve', channel);
      if (!reached) {
        if (told.has(channel)) return;
        refused.add(channel);
        for (const end of ends) entries.delete(end);
        deps.forget(ends);
        return;
      }
      if (ends.length > 0) return;
      notified.add(channel);
      told.add(channel);
      // It was given up at the hand-over, but arrived after all: it has to be handed over as well.
      if (sinceMs === undefined) metrics.blind.set(1);
      sinceMs ??= clock.now();
      writeNote(options.noteFile, { sinceMs, told: [...told], led }, log);
    },
    look() {
      const why = whyBlind();
      if (why !== undefined) return trigger(why);
      if (sinceMs === undefined || handing || awakeMs() < handAgainMs) return;
      // Only the instance that decides resolves, and it does not know of one that was cut off alone.
      if (standing && deps.handOver !== undefined) handOver(deps.handOver);
    },
    blind: () => sinceMs !== undefined,
    silentMs: () => awakeMs() - lastAwakeMs,
  };
}

function seconds(ms: number): number {
  return Math.round(ms / 1_000);
}

/** Keys that may be missing are no new version. Older notes have none. */
const NOTE_FORMAT = 1;

/**
 * Undefined when nobody was told, or when it cannot be read: then people are told once more.
 * @throws LogpipeError LOGPIPE_FORMAT_NEWER
 */
function readNote(file: string): Note | undefined {
  try {
    const { v, sinceMs, told, led } = JSON.parse(readFileSync(file, 'utf8')) as Partial<Note> & { v?: unknown };
    refuseNewer(`${file}: the note of who was told that the pipeline is blind`, v, NOTE_FORMAT);
    if (typeof sinceMs !== 'number' || !Array.isArray(told)) return undefined;
    return {
      sinceMs,
      told: told.filter((name): name is Destination => typeof name === 'string' && isDestination(name)),
      led: led === true,
    };
  } catch (error) {
    if (error instanceof LogpipeError) throw error;
    return undefined;
  }
}

/** Instances that share a folder share the note: what another one told stays in it. */
function writeNote(file: string, note: Note, log: Log): void {
  try {
    const other = readNote(file);
    makePrivateFolder(dirname(file), { own: false });
    const told = [...new Set([...(other?.told ?? []), ...note.told])];
    writePrivateSync(
      file,
      `${JSON.stringify({ v: NOTE_FORMAT, ...note, told, led: note.led || other?.led === true })}\n`,
    );
  } catch (error) {
    log.warn('Who was told cannot be saved: after a restart they may be told again', { error: errorText(error) });
  }
}

function removeNote(file: string, log: Log): void {
  try {
    rmSync(file, { force: true });
  } catch (error) {
    log.warn('The note of who was told cannot be removed', { file, error: errorText(error) });
  }
}

// ---- the silences last read, in a private file beside the note ----

export interface KeptSilences {
  /** Writes them down, when they are others than before. */
  keep(silences: readonly SilenceRecord[]): void;
  /** Those that were kept last; also by a former run. */
  silences(): readonly SilenceRecord[];
}

const SILENCES_FORMAT = 1;
const MAX_KEPT_BYTES = 4 * 1024 * 1024;

/** @throws LogpipeError LOGPIPE_FORMAT_NEWER */
export function createKeptSilences(file: string, deps: { readonly log: Log }): KeptSilences {
  let kept = readSilences(file);
  let written = JSON.stringify(kept);
  let failed = false;
  return {
    silences: () => kept,
    keep(silences) {
      const text = JSON.stringify(silences);
      kept = silences;
      if (text === written && !failed) return;
      written = text;
      try {
        makePrivateFolder(dirname(file), { own: false });
        writePrivateSync(file, `${JSON.stringify({ v: SILENCES_FORMAT, silences })}\n`);
        failed = false;
      } catch (error) {
        if (!failed) deps.log.warn('The silences cannot be saved', { file, error: errorText(error) });
        failed = true;
      }
    },
  };
}

/** None when the file cannot be read: then people are told rather than not. */
function readSilences(file: string): readonly SilenceRecord[] {
  try {
    if (statSync(file).size > MAX_KEPT_BYTES) return [];
    const { v, silences } = JSON.parse(readFileSync(file, 'utf8')) as { v?: unknown; silences?: unknown };
    refuseNewer(`${file}: the silences last read`, v, SILENCES_FORMAT);
    return Array.isArray(silences) ? silences.flatMap((silence) => silenceOf(silence) ?? []) : [];
  } catch (error) {
    if (error instanceof LogpipeError) throw error;
    return [];
  }
}

// ---- the heartbeat, a dead man's switch: an address is called every minute ----
// Whoever listens there (a monitoring service, a second logpipe) raises the alarm when the calls stop. There is no call when the last
// evaluation with recent counts of every partition is older than half a minute, nor while this process is blind.

const YOUNG_MS = 30_000;

interface Heartbeat {
  /** An evaluation had recent counts of every partition. */
  ticked(): void;
  stop(): void;
}

export function createHeartbeat(
  options: { readonly everyMs: number },
  deps: {
    readonly clock: Clock;
    readonly log: Log;
    readonly call: HttpSend;
    /** True from the moment "Log pipeline blind" is due until its resolve. */
    readonly isBlind: () => boolean;
  },
): Heartbeat {
  const { clock, log } = deps;
  const ending = new AbortController();
  let tickedMs = Number.NEGATIVE_INFINITY;
  /** The last call was left out: the next complete evaluation makes one at once. */
  let missed = true;
  /** Calls in a row that nobody answered. */
  let failures = 0;
  let cancel = () => {};

  async function beat(): Promise<void> {
    missed = deps.isBlind() || clock.monotonicMs() - tickedMs > YOUNG_MS;
    if (missed) return;
    const result = await deps.call({ status: 'ok', at: new Date(clock.now()).toISOString() }, ending.signal);
    if (ending.signal.aborted) return;
    if (!result.ok && failures === 0) log.warn('The heartbeat address does not answer', { reason: result.reason });
    if (result.ok && failures > 0) log.info('The heartbeat address answers again', { failures });
    failures = result.ok ? 0 : failures + 1;
  }

  const schedule = () => {
    cancel = clock.after(options.everyMs, () => {
      void beat();
      schedule();
    });
  };
  schedule();

  return {
    ticked() {
      tickedMs = clock.monotonicMs();
      if (missed) void beat();
    },
    stop() {
      cancel();
      ending.abort();
    },
  };
}
