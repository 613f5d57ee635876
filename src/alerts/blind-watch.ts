// "Log pipeline blind": the one alert that cannot go through Kafka. In: signs of life of Kafka, what this process cannot write, a
// regular look. Out: a P1 straight to the channels after `blindAfterMs`, and its resolve when alerts are evaluated again.
// Guarantee: one dedup key per environment and pipeline, whoever tells and however often, so that a service that knows such keys
// shows one incident; time that this process slept through is nobody's silence; who told remembers it over a restart.
//
// Who tells whom: every blind instance tells PagerDuty, which knows the key. The others would show each message, so they are told by
// the instance that decided last, and by one that stood by only two minutes later: the decider may be dead. Then there can be two.
import { createHash } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Metrics } from '../core/metrics.ts';
import { makePrivateFolder, writePrivateSync } from '../core/private-files.ts';
import { CHANNELS, type ChannelName, type Notification } from '../notify/notification.ts';
import { type MessageEntry, SEQ_DIGITS } from './outbox-entry.ts';

export interface BlindWatch {
  /** Kafka did something for us: confirmed the membership, took a commit, delivered totals. */
  alive(): void;
  /** This instance decides (true), or another one does (false). While neither is known, what was last known counts. */
  leads(leading: boolean): void;
  /** An evaluation of this instance is durable, and the counts of every partition in it were recent. */
  evaluated(): void;
  /** What became of a message, by its entry's id. */
  onResult(id: string, ok: boolean): void;
  /** To be called every second or so. */
  look(): void;
  /** True from the moment that an alert is due to its resolve. */
  blind(): boolean;
  /** How long Kafka has been silent while this process was awake, ms. */
  silentMs(): number;
}

export interface BlindWatchOptions {
  readonly blindAfterMs: number;
  readonly brokers: readonly string[];
  readonly environment: string;
  /** Tells pipelines on the same brokers apart: the alerts topic. */
  readonly pipeline: string;
  /** Where it is kept who was told: `noteFile(folder, …)`. */
  readonly noteFile: string;
  /** How much longer an instance waits that stood by, ms. Default 120 s. */
  readonly standbyWaitMs?: number;
}

export interface BlindWatchDeps {
  readonly clock: Clock;
  /** How long this process has been awake, ms: see core/clock.ts. */
  readonly awakeMs: () => number;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Channels of a P1, configured ones only. */
  readonly channels: readonly ChannelName[];
  /** Sends without the outbox, with the usual retries. */
  readonly send: (entries: readonly MessageEntry[]) => void;
  /** Why counts cannot be written or alerts not be decided here, although Kafka answers; undefined when they can. */
  readonly trouble: () => string | undefined;
}

/** Of them it is known that they show one incident for one key. */
const KEYED: ReadonlySet<ChannelName> = new Set(['pagerduty']);

export const BLIND_TITLE = 'Log pipeline blind';

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

export function createBlindWatch(options: BlindWatchOptions, deps: BlindWatchDeps): BlindWatch {
  const { blindAfterMs, standbyWaitMs = 120_000 } = options;
  const { clock, awakeMs, log, metrics } = deps;
  const incidentId = blindIncidentId(options.environment, options.pipeline);
  const before = readNote(options.noteFile);
  /** Channels that have a message, or are about to. */
  const telling = new Set<ChannelName>(before?.told);
  /** Of these it is known that they took it. */
  const told = new Set<ChannelName>(before?.told);
  const entries = new Map<string, ChannelName>();
  let led = before?.led ?? false;
  let standing = false;
  let lastAwakeMs = awakeMs();
  let lastWallMs = clock.now();
  let troubleSinceMs: number | undefined;
  /** When it began, wall clock; what was told before a restart stands until it is resolved. */
  let sinceMs = before?.sinceMs;
  let blindSinceMs: number | undefined;
  let wellSinceMs: number | undefined;
  let seq = 0;
  if (before !== undefined) metrics.blind.set(1);

  function tell(action: 'trigger' | 'resolve', channels: readonly ChannelName[], message: string): void {
    const atMs = clock.now();
    const metadata = metadataNow();
    const alert = {
      ruleId: 'log-pipeline-blind',
      title: BLIND_TITLE,
      priority: 'P1' as const,
      labels: {},
      state: action === 'trigger' ? ('firing' as const) : ('resolved' as const),
      startedMs: sinceMs ?? atMs,
      ...(action === 'resolve' ? { resolvedMs: atMs } : {}),
      message,
      metadata,
      runbook: 'docs/runbooks/log-pipeline-blind.md',
    };
    const notification: Notification = {
      incidentId,
      dedupKey: `logpipe/${incidentId}`,
      action,
      reason: action === 'trigger' ? 'first' : 'all-resolved',
      severity: 'critical',
      priority: 'P1',
      title: BLIND_TITLE,
      message,
      metadata,
      atMs,
      environment: options.environment,
      alerts: [alert],
      joined: [],
    };
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
    if (action === 'trigger') for (const { id, channel } of added) entries.set(id, channel);
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
    if (blindSinceMs === undefined) {
      blindSinceMs = awake;
      sinceMs ??= clock.now();
      metrics.blind.set(1);
      log.error('CRITICAL ALERT', { alert: { title: BLIND_TITLE, message: why, metadata: metadataNow() } });
    }
    const mayTellAll = led || awake - blindSinceMs >= standbyWaitMs;
    const due = deps.channels.filter((name) => !telling.has(name) && (KEYED.has(name) || mayTellAll));
    for (const name of due) telling.add(name);
    if (due.length > 0) {
      tell('trigger', due, `${why}: what is logged is not seen, and no other alert can fire.`);
    }
  }

  function resolve(message: string): void {
    if (telling.size > 0) tell('resolve', [...telling], message);
    log.info(`ALERT RESOLVED: ${BLIND_TITLE}`, { message, blindForMs: clock.now() - (sinceMs ?? clock.now()) });
    metrics.blind.set(0);
    telling.clear();
    told.clear();
    entries.clear();
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
      if ((sinceMs !== undefined || telling.size > 0) && whyBlind() === undefined) {
        resolve('Kafka answers again; alerts are evaluated.');
      }
    },
    onResult(id, ok) {
      const channel = entries.get(id);
      if (!ok || channel === undefined || told.has(channel)) return;
      told.add(channel);
      writeNote(options.noteFile, { sinceMs: sinceMs ?? clock.now(), told: [...told], led }, log);
    },
    look() {
      const why = whyBlind();
      if (why !== undefined) {
        wellSinceMs = undefined;
        return trigger(why);
      }
      wellSinceMs ??= awakeMs();
      if (sinceMs === undefined && telling.size === 0) return;
      // The one that decides resolves. It does not know of an instance that was cut off alone: that one takes back what it told
      // when it has stood by for as long as it takes to be blind.
      if (standing && awakeMs() - wellSinceMs >= blindAfterMs) {
        resolve('This instance reaches Kafka again; another one evaluates the alerts.');
      }
    },
    blind: () => sinceMs !== undefined,
    silentMs: () => awakeMs() - lastAwakeMs,
  };
}

function seconds(ms: number): number {
  return Math.round(ms / 1_000);
}

/** Undefined when nobody was told, or it cannot be read: then it is told once more. */
function readNote(file: string): Note | undefined {
  try {
    const { sinceMs, told, led } = JSON.parse(readFileSync(file, 'utf8')) as Partial<Note>;
    if (typeof sinceMs !== 'number' || !Array.isArray(told)) return undefined;
    return { sinceMs, told: CHANNELS.filter((name) => told.includes(name)), led: led === true };
  } catch {
    return undefined;
  }
}

/** Instances of one folder share it: what another one told stays in it. */
function writeNote(file: string, note: Note, log: Log): void {
  try {
    const other = readNote(file);
    makePrivateFolder(dirname(file), { own: false });
    const told = [...new Set([...(other?.told ?? []), ...note.told])];
    writePrivateSync(file, `${JSON.stringify({ ...note, told, led: note.led || other?.led === true })}\n`);
  } catch (error) {
    log.warn('It cannot be kept who was told: after a restart it may be told twice', { error: errorText(error) });
  }
}

function removeNote(file: string, log: Log): void {
  try {
    rmSync(file, { force: true });
  } catch (error) {
    log.warn('The note of who was told cannot be removed', { file, error: errorText(error) });
  }
}
