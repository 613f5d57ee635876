// What people command: acknowledge an incident, end alerts, silence alerts, end a silence; and what another instance asks for: to end
// what it told while it was cut off. In: commands, however they were given.
// Out: changed records, and an answer to each that has an id. Guarantee: the same command twice changes nothing the second time;
// one that cannot be obeyed is said.
import type { ChannelName } from '../notify/notification.ts';
import { BLIND_ENDED, blindNotice } from './blind-notice.ts';
import { isSpecific, type SilenceRecord } from './mute.ts';
import { endFiring, type Step } from './observe.ts';
import type { Draft } from './records.ts';

const MAX_SILENCES = 500;

export type AlertCommand =
  | { readonly kind: 'acknowledge'; readonly incidentId: string; readonly by: string }
  | {
      readonly kind: 'resolve';
      /** Which alerts, and since when each has been one: what began later is another one. */
      readonly alerts: readonly { readonly key: string; readonly startedMs: number }[];
      readonly by: string;
    }
  | { readonly kind: 'silence'; readonly silence: SilenceRecord }
  | { readonly kind: 'unsilence'; readonly id: string }
  | {
      /** "Log pipeline blind" was told by an instance that does not decide. */
      readonly kind: 'blind-over';
      readonly incidentId: string;
      readonly environment: string;
      readonly sinceMs: number;
      readonly channels: readonly ChannelName[];
      /** The instance's host. */
      readonly by: string;
    };

/** A command with the id that its answer will have. */
export type GivenCommand = AlertCommand & { readonly commandId?: string };

export interface RefusedCommand {
  readonly command: GivenCommand;
  readonly why: string;
}

/** Longer than commands are kept where they are given. */
const KEEP_ANSWERS_MS = 2 * 86_400_000;

/** @param isTrue whether the condition of an alert is true at present */
export function applyCommand(
  step: Step,
  command: GivenCommand,
  isTrue: (key: string) => boolean,
): RefusedCommand | undefined {
  const { commandId: id } = command;
  const { draft, wallMs } = step;
  if (id !== undefined && draft.get('command', id) !== undefined) return undefined;
  const refused = obey(step, command, isTrue);
  if (id !== undefined) {
    draft.put('command', id, { id, atMs: wallMs, ...(refused === undefined ? {} : { refused: refused.why }) });
  }
  return refused;
}

export function pruneAnswers(draft: Draft, wallMs: number): void {
  for (const { id, atMs } of draft.values('command')) {
    if (Math.abs(wallMs - atMs) >= KEEP_ANSWERS_MS) draft.remove('command', id);
  }
}

function obey(step: Step, command: GivenCommand, isTrue: (key: string) => boolean): RefusedCommand | undefined {
  const { draft, outbox, wallMs, rules } = step;
  const refuse = (why: string): RefusedCommand => ({ command, why });
  switch (command.kind) {
    case 'acknowledge': {
      const incident = draft.get('incident', command.incidentId);
      if (incident === undefined) return refuse(`there is no incident ${command.incidentId}`);
      if (incident.state !== 'open') return refuse(`incident ${incident.id} is resolved`);
      if (incident.acknowledged !== undefined) return undefined;
      const next = { ...incident, acknowledged: { by: command.by, atMs: wallMs, told: false } };
      draft.put('incident', incident.id, next);
      outbox.record({ name: 'acknowledged', incident: next, by: command.by });
      return undefined;
    }
    case 'resolve': {
      const kept: string[] = [];
      for (const { key, startedMs } of command.alerts) {
        const alert = draft.get('alert', key);
        if (alert?.phase !== 'firing' || alert.startedMs !== startedMs) continue;
        const silent = rules.get(alert.ruleId)?.endsByEvent === true;
        // It would fire again at once, and page again.
        if (!silent && isTrue(key)) {
          kept.push(key);
          continue;
        }
        endFiring(step, alert, 'by hand', { by: command.by });
        const { ruleId, watches } = alert;
        const what = watches === undefined ? {} : { watches };
        if (silent) draft.put('dismissed', key, { key, ruleId, ...what, atMs: wallMs });
      }
      if (kept.length === 0) return undefined;
      return refuse(
        `the condition of ${kept.join(', ')} is true now, or logpipe is behind and cannot tell: acknowledge or silence it instead`,
      );
    }
    case 'silence': {
      const { silence } = command;
      if (!isSpecific(silence)) return refuse('a silence names a rule, a group or labels');
      if (silence.untilMs <= wallMs) return refuse('the silence has ended already');
      const present = draft.get('silence', silence.id);
      if (present === undefined && draft.values('silence').length >= MAX_SILENCES) {
        return refuse(`there are ${MAX_SILENCES} silences already`);
      }
      draft.put('silence', silence.id, silence);
      return undefined;
    }
    case 'unsilence':
      if (draft.get('silence', command.id) === undefined) return refuse(`there is no silence ${command.id}`);
      draft.remove('silence', command.id);
      return undefined;
    case 'blind-over': {
      const { incidentId, environment, sinceMs, channels } = command;
      outbox.send(
        channels,
        blindNotice('resolve', { incidentId, environment, sinceMs, atMs: wallMs, message: BLIND_ENDED }),
      );
      return undefined;
    }
  }
}
