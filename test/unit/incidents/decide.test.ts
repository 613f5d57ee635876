// The decision table of messages: every reason, and what keeps it back.
import { describe, expect, test } from 'vitest';
import { decideNotify, type NotifyFacts } from '../../../src/incidents/incident.ts';

const MINUTE = 60_000;
const NOW = 1_000 * MINUTE;
const ago = (minutes: number) => NOW - minutes * MINUTE;

/** One P2 alert, told a minute ago, nothing new. */
const told: NotifyFacts = {
  firing: 1,
  audible: 1,
  joined: 0,
  breached: 1,
  resolved: 0,
  priority: 'P2',
  toldPriority: 'P2',
  lastTriggerMs: ago(1),
  open: true,
  acknowledged: 'no',
  cooldownMs: 10 * MINUTE,
  remindMs: 0,
};
const untold: NotifyFacts = { ...told, joined: 1, toldPriority: undefined, lastTriggerMs: undefined, open: false };
const gone = { firing: 0, audible: 0, breached: 0, priority: undefined } as const;
const muted = { audible: 0, joined: 0, breached: 0, priority: undefined } as const;
const reminding = { remindMs: 30 * MINUTE, lastTriggerMs: ago(30) } as const;

describe('decideNotify', () => {
  test.each<[string, NotifyFacts, string]>([
    ['an alert nobody knows of', untold, 'first'],
    ['nothing new', told, 'none'],
    ['every alert muted, nothing told', { ...untold, ...muted }, 'none'],
    ['unmuted later', { ...untold, firing: 3, audible: 1 }, 'first'],
    ['unmuted, but its condition is not true at present', { ...untold, joined: 0 }, 'none'],

    ['one joined inside the cooldown', { ...told, joined: 1 }, 'none'],
    ['one joined, a moment before its end', { ...told, joined: 1, lastTriggerMs: ago(10) + 1 }, 'none'],
    ['one joined, cooldown over', { ...told, joined: 1, lastTriggerMs: ago(10) }, 'new-alerts'],
    ['a more urgent one joined inside the cooldown', { ...told, joined: 1, priority: 'P1' }, 'new-alerts'],
    ['a less urgent one joined inside the cooldown', { ...told, joined: 1, toldPriority: 'P1' }, 'none'],
    ['more urgent, but nobody new', { ...told, priority: 'P1' }, 'none'],
    ['joined, and the channels have had their resolve', { ...told, joined: 1, open: false }, 'none'],
    ['the same after the cooldown', { ...told, joined: 1, open: false, lastTriggerMs: ago(10) }, 'new-alerts'],

    ['some resolved, nothing else', { ...told, resolved: 2, lastTriggerMs: ago(500) }, 'none'],
    ['some resolved when a reminder is due', { ...told, ...reminding, resolved: 1 }, 'some-resolved'],
    ['some resolved when others joined', { ...told, resolved: 1, joined: 1, lastTriggerMs: ago(10) }, 'new-alerts'],

    ['all resolved', { ...told, ...gone, resolved: 1 }, 'all-resolved'],
    ['all resolved inside the cooldown', { ...told, ...gone, lastTriggerMs: NOW }, 'all-resolved'],
    ['all resolved, acknowledged', { ...told, ...gone, acknowledged: 'new' }, 'all-resolved'],
    ['all resolved, resolve already told', { ...told, ...gone, open: false }, 'none'],
    ['all resolved, never told', { ...untold, ...gone }, 'none'],
    ['the last audible one muted', { ...told, ...muted }, 'none'],

    ['nobody has acknowledged for too long', { ...told, escalate: true }, 'escalated'],
    [
      'the same, with a reminder due and others joined',
      { ...told, ...reminding, joined: 1, escalate: true },
      'escalated',
    ],
    ['the same, and all of it muted', { ...told, ...muted, escalate: true }, 'none'],
    ['the same, just acknowledged', { ...told, escalate: true, acknowledged: 'new' }, 'acknowledged'],
    ['the same, all resolved', { ...told, ...gone, escalate: true }, 'all-resolved'],
    ['the same, never told', { ...untold, escalate: true }, 'first'],

    ['resolved by hand while true', { ...told, quiet: 'on' }, 'all-resolved'],
    ['the same, and everything muted', { ...told, ...muted, quiet: 'on' }, 'all-resolved'],
    ['the same, told', { ...told, quiet: 'on', open: false }, 'none'],
    ['the same, others joined', { ...told, quiet: 'on', open: false, joined: 1, lastTriggerMs: ago(500) }, 'none'],
    ['the same, its time over', { ...told, quiet: 'over', open: false }, 'reopened'],
    ['the same, not true at present', { ...told, quiet: 'over', open: false, breached: 0 }, 'none'],
    ['the same, muted', { ...told, ...muted, quiet: 'over', open: false }, 'none'],
    ['the same, all over meanwhile', { ...told, ...gone, quiet: 'over', open: false }, 'none'],
    ['a channel that took the trigger after all', { ...told, quiet: 'over' }, 'all-resolved'],

    ['a reminder is due', { ...told, ...reminding }, 'repeat'],
    ['due, but its condition is not true at present', { ...told, ...reminding, breached: 0 }, 'none'],
    ['the same with some resolved', { ...told, ...reminding, breached: 0, resolved: 1 }, 'none'],
    ['a moment before', { ...told, ...reminding, lastTriggerMs: ago(30) + 1 }, 'none'],
    ['due, but somebody has acknowledged', { ...told, ...reminding, acknowledged: 'told' }, 'none'],
    ['due, but muted', { ...told, ...reminding, ...muted }, 'none'],
    ['reminders shorter than the cooldown wait for it', { ...told, remindMs: MINUTE, lastTriggerMs: ago(9) }, 'none'],
    ['no reminders', { ...told, lastTriggerMs: ago(500) }, 'none'],

    ['just acknowledged', { ...told, acknowledged: 'new' }, 'acknowledged'],
    [
      'just acknowledged, others joined',
      { ...told, acknowledged: 'new', joined: 1, lastTriggerMs: ago(10) },
      'acknowledged',
    ],
    ['acknowledged before anybody was told', { ...untold, acknowledged: 'new' }, 'first'],
    ['acknowledged, others joined', { ...told, acknowledged: 'told', joined: 1, lastTriggerMs: ago(10) }, 'new-alerts'],

    [
      'the clock was set back an hour, which is no reminder',
      { ...told, ...reminding, lastTriggerMs: ago(-60) },
      'none',
    ],
    ['the clock was set back a second', { ...told, joined: 1, lastTriggerMs: NOW + 1_000 }, 'none'],
  ])('%s', (_, facts, reason) => {
    expect(decideNotify(facts, NOW)).toBe(reason);
  });
});
