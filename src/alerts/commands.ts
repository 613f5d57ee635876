// What people command: acknowledge an incident, silence alerts, end a silence. In: commands, however they were given. Out:
// changed records. Guarantee: the same command twice changes nothing the second time; one that cannot be obeyed is said.
import { isSpecific, type SilenceRecord } from './mute.ts';
import type { Step } from './observe.ts';

const MAX_SILENCES = 500;

export type AlertCommand =
  | { readonly kind: 'acknowledge'; readonly incidentId: string; readonly by: string }
  | { readonly kind: 'silence'; readonly silence: SilenceRecord }
  | { readonly kind: 'unsilence'; readonly id: string };

export interface RefusedCommand {
  readonly command: AlertCommand;
  readonly why: string;
}

export function applyCommand({ draft, outbox, wallMs }: Step, command: AlertCommand): RefusedCommand | undefined {
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
  }
}
