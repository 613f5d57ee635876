// Texts for channels: cut with a marker, cleaned of control characters, escaped. Guarantee: a cut never splits a
// character or an escaped one, and whoever reads a cut text sees that it was cut.
import type { Masker } from '../core/mask.ts';
import type { Severity } from '../rules/observation.ts';
import type { Notification, NotifiedAlert } from './notification.ts';

export const CUT = '… (cut)';
/** Alerts a headline names beside its own, and the characters of each. */
const MAX_NAMES = 3;
const MAX_NAME = 120;

/** The text in at most `max` UTF-16 units, the marker included. */
export function cut(text: string, max: number): string {
  if (text.length <= max) return text;
  return text.slice(0, max - CUT.length).replace(/[\ud800-\udbff]$/, '') + CUT;
}

/** Escaped, in at most `max` units of the escaped form: an entity is kept whole. */
export function cutEscaped(text: string, max: number, escaped: (text: string) => string): string {
  const whole = escaped(text);
  if (whole.length <= max) return whole;
  let result = '';
  for (const character of text) {
    const next = escaped(character);
    if (result.length + next.length > max - CUT.length) break;
    result += next;
  }
  return result + CUT;
}

/**
 * Without control characters, which move a reader's cursor or make a service refuse the message, and without marks that
 * turn the direction of what follows; line ends and tabs stay.
 */
export function clean(text: string): string {
  return text
    .toWellFormed()
    .replaceAll('\r\n', '\n')
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, ' ');
}

/** On one line, so that it can stand in a header or a heading. */
export function oneLine(text: string): string {
  return clean(text).replace(/\s+/g, ' ').trim();
}

/** The three characters Slack gives a meaning; with them a log line could mention a channel or hide an address. */
export function escapeSlack(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

export function escapeHtml(text: string): string {
  return escapeSlack(text).replaceAll('"', '&quot;').replaceAll("'", '&#39;');
}

/** Masked throughout, except what identifies it: two incidents must not become one because a pattern hits their ids. */
export function maskNotification(notification: Notification, masker: Masker): Notification {
  const masked = masker.value(notification) as Notification;
  return { ...masked, incidentId: notification.incidentId, dedupKey: notification.dedupKey };
}

/** "High CPU (host=web-1)": labels tell alerts of one title apart. */
export function alertName({ title, labels }: Pick<NotifiedAlert, 'title' | 'labels'>): string {
  const text = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  return text.length === 0 ? title : `${title} (${text.join(', ')})`;
}

/**
 * The title alone for an incident of one alert, as the operators' guide has it; with more of them "High CPU (+2: Queue Is
 * Long, High CPU (host=web-2))". Counted are those that fire; at the end, all of them.
 */
export function headline({ title, action, alerts, unnamed = 0 }: Notification): string {
  const others = alerts.slice(1).filter(({ state }) => action === 'resolve' || state === 'firing');
  const count = others.length + unnamed;
  if (count === 0) return title;
  const names = others.slice(0, MAX_NAMES).map((alert) => cut(oneLine(alertName(alert)), MAX_NAME));
  return `${title} (+${count}: ${names.join(', ')}${count > names.length ? ', …' : ''})`;
}

/** CRITICAL, WARNING, INFO; or what became of the incident. */
export function severityWord({ action, severity }: Pick<Notification, 'action' | 'severity'>): string {
  if (action === 'resolve') return 'RESOLVED';
  if (action === 'acknowledge') return 'ACKNOWLEDGED';
  return (severity satisfies Severity).toUpperCase();
}

export function isoTime(ms: number): string {
  const time = new Date(ms);
  return Number.isNaN(time.getTime()) ? 'at an unknown time' : time.toISOString();
}

/** "45 s", "5 min", "1 h 10 min", "2 d 3 h": two units are enough for people. */
export function durationText(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  const units = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ] as const;
  const first = units.findIndex(([count]) => count > 0);
  if (first === -1) return '0 s';
  const shown = units.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(' ');
}
