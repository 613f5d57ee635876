// Counting and alerting in one process without Kafka: the journal holds counts and alert state. In: files or standard input.
// Out: one hold, from start to stop. Guarantee: after a crash everything goes on where the journal ends.
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { CountingDeps, CountingSource } from '../measure/counting.ts';
import { HOUR_MS, type HourRecord } from '../rules/hourly.ts';
import { followFolder } from './commands-given.ts';
import type { CountedWindows } from './counted-windows.ts';
import { createJournalCounts } from './counts-journal.ts';
import { hoursOf } from './evaluation.ts';
import type { Hold, HoldDeps } from './hold.ts';
import { openJournalStore } from './store-journal.ts';

export interface EmbeddedAlerting {
  readonly hold: Hold;
  readonly counter: CountingSource;
  stop(timeoutMs: number): Promise<boolean>;
}

export interface EmbeddedDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly createWindows: (coveredFromMs: number, hours: readonly HourRecord[]) => CountedWindows;
  readonly begin: (deps: Pick<HoldDeps, 'windows' | 'store' | 'results' | 'onLost' | 'onTick'>) => Hold;
  readonly onHold: (hold: Hold) => () => Promise<void>;
  readonly onTick: HoldDeps['onTick'];
  readonly counting: (deps: Required<Pick<CountingDeps, 'sink' | 'embedded'>>) => CountingSource;
}

/** @throws LogpipeError LOGPIPE_SOURCE_FAILED when another process has the journal's folder, or it cannot be read */
export async function startEmbeddedAlerting(
  config: { readonly journalDir: string },
  deps: EmbeddedDeps,
): Promise<EmbeddedAlerting> {
  const { clock, log } = deps;
  const store = await openJournalStore({ folder: config.journalDir }, { log });
  let hold: Hold | undefined;
  const counts = createJournalCounts(store, {
    clock,
    onMessage: (message, recordMs) => hold?.counts(message, recordMs, true),
  });
  const [oldest] = counts.before;
  const coveredFromMs = Math.ceil((oldest?.arrivalMs ?? clock.now()) / HOUR_MS) * HOUR_MS;
  const mine = deps.begin({
    windows: deps.createWindows(coveredFromMs, hoursOf(store.initial)),
    store,
    results: new Map(),
    onTick: deps.onTick,
    onLost: (error) => log.error('the alert journal can no longer be written', { error: error.message }),
  });
  hold = mine;
  for (const totals of counts.before) mine.counts({ kind: 'totals', totals }, totals.arrivalMs, false);
  const run = clock.now().toString(36);
  const counter = deps.counting({ sink: counts, embedded: { run, resume: counts.resume } });
  const endProbes = deps.onHold(mine);
  mine.start();
  const commands = followFolder(config.journalDir, { clock, log, onCommand: mine.command });

  return {
    hold: mine,
    counter,
    async stop(timeoutMs) {
      await endProbes();
      await commands.close();
      const drained = await mine.stop(timeoutMs);
      await store.close();
      return drained;
    },
  };
}
