// `logpipe notify test`: one message to each configured channel, so that a wrong address shows before the first incident.
import type { Config } from '../config.ts';
import { systemClock } from '../core/clock.ts';
import { LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { createEventIds } from '../core/record.ts';
import { oneLine } from '../core/safe-json.ts';
import { createMasker } from '../core/secrets/mask.ts';
import type { ChannelName, Notification, SendResult } from '../incidents/notification.ts';
import { createChannels } from '../notify/channels.ts';
import { CHANNELS } from '../notify/notify-config.ts';
import { column, type Io, jsonLine, say, wantsJson } from './io.ts';

const NAME_WIDTH = 10;

export interface NotifyTestOptions {
  readonly channel?: string;
  /** Default: readable lines on a terminal, JSON elsewhere. */
  readonly json?: boolean | undefined;
}

/** Sends and resolves a test incident. Exit status 1 when a channel refused or did not confirm, 2 when none is configured. @throws LogpipeError LOGPIPE_USAGE */
export async function notifyTest(config: Config, options: NotifyTestOptions, io: Io, log: Log): Promise<number> {
  const names = CHANNELS.filter((name) => name !== 'history');
  if (options.channel !== undefined && !(names as readonly string[]).includes(options.channel)) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      `--channel: found ${JSON.stringify(options.channel)}; permitted: ${names.join(', ')}`,
    );
  }
  const masker = createMasker(config.mask);
  const json = wantsJson(io, options.json);
  // Standard output belongs to the one object.
  const out = json ? process.stderr : process.stdout;
  // Which ones are not configured stands in the answer.
  const quiet: Log = { ...log, info: log.debug };
  const channels = createChannels(config.notify, { clock: systemClock, log: quiet, masker, out });
  const id = createEventIds()();
  const results: Record<ChannelName, SendResult> = {};
  for (const [name, channel] of channels) {
    if (options.channel !== undefined && options.channel !== name) continue;
    const signal = new AbortController().signal;
    const sent = await channel.send(testNotification(id, 'trigger', config.notify.environment), signal);
    // What rings must not go on ringing.
    const arrived = sent.ok || sent.doubtful === true || sent.left !== undefined;
    const ended = arrived
      ? await channel.send(testNotification(id, 'resolve', config.notify.environment), signal)
      : sent;
    const result = sent.ok ? ended : sent;
    results[name] = result;
    if (!json) {
      const outcome = outcomeText(result, (text) => oneLine(masker.text(text), 300));
      say(
        io,
        [{ text: `${column(name, NAME_WIDTH)}  ` }, { text: outcome, style: result.ok ? 'green' : 'red' }],
        NAME_WIDTH + 2,
      );
    }
    await channel.close();
  }
  const missing = names.filter((name) => !channels.has(name) && (options.channel ?? name) === name);
  if (!json) for (const name of missing) say(io, `${column(name, NAME_WIDTH)}  not configured`);
  if (json) io.out(jsonLine(results, masker));
  const outcomes = Object.values(results);
  if (outcomes.length === 0) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      'notify: no such channel is configured; see the section notify of the configuration',
    );
  }
  return outcomes.every(({ ok }) => ok) ? 0 : 1;
}

function outcomeText(result: SendResult, shown: (text: string) => string): string {
  if (result.ok) return 'sent';
  if (result.doubtful) return `NOT CONFIRMED: ${shown(result.reason)}`;
  return `FAILED: ${shown(result.reason)}`;
}

function testNotification(id: string, action: 'trigger' | 'resolve', environment: string): Notification {
  const atMs = Date.now();
  const [title, message] = ['Test of logpipe’s notifications', 'Sent by `logpipe notify test`. Nothing is wrong.'];
  return {
    incidentId: id,
    dedupKey: `logpipe/test-${id}`,
    action,
    reason: action === 'trigger' ? 'first' : 'all-resolved',
    severity: 'warning',
    priority: 'P3',
    title,
    message,
    atMs,
    environment,
    alerts: [
      {
        ruleId: 'test',
        title,
        priority: 'P3',
        labels: {},
        state: action === 'trigger' ? 'firing' : 'resolved',
        startedMs: atMs,
        ...(action === 'resolve' ? { resolvedMs: atMs } : {}),
        message,
        runbook: 'docs/operations.md',
      },
    ],
    joined: [],
  };
}
