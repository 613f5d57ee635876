// Lines of text that are no JSON: Kubernetes (CRI), syslog, logfmt, and the usual beginnings of text logs.
// In: one line; out: a record in anyone's vocabulary (shapes.ts brings it to ours), or nothing when the line says nothing.
// Guarantee: linear; only the beginning of a line is looked at, and no word of it is lost.
import { LEVEL_SCALES } from './level.ts';

type Json = Record<string, unknown>;

export interface Line {
  readonly record: Json;
  /** The line wraps what somebody else wrote: a JSON document in its message is the record. */
  readonly wraps: boolean;
}

interface LineFormat {
  readonly name: string;
  /** Shown in docs/shapes.md with what becomes of it. */
  readonly example: string;
  /** `recordMs` tells the year where a line does not. */
  readonly read: (text: string, recordMs: number) => Line | undefined;
}

/** What is needed of a line to tell its format. */
const MAX_HEAD = 600;

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const CRI = /^(\d{4}-\d\d-\d\dT[\d:.]{8,20}(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([FP])(?::\w{1,20}){0,3} /;
const SYSLOG_5424 = /^<(\d{1,3})>1 (\S{1,64}) (\S{1,255}) (\S{1,128}) (\S{1,128}) (\S{1,128}) /;
const SYSLOG_3164 =
  /^(?:<(\d{1,3})>)?(?:([A-Z][a-z]{2}) ([ \d]\d) (\d\d:\d\d:\d\d)|(\d{4}-\d\d-\d\dT[\d:.]{8,20}(?:Z|[+-]\d\d:\d\d))) ([\w.:-]{1,255}) ([^\s:[]{1,128})(?:\[(\d{1,10})\])?: /;
const PRIORITY = /^<(\d{1,3})>/;
const KLOG = /^([IWEF])(\d\d)(\d\d) (\d\d:\d\d:\d\d\.\d{1,9}) {1,10}\d{1,10} [^\s:\]]{1,255}:\d{1,7}\] /;
const ACCESS = /^\S{1,255} \S{1,64} \S{1,128} \[(\d\d)\/([A-Z][a-z]{2})\/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d{4})\] "/;
const TIME_FIRST =
  /^\[?(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(?: ?(Z|UTC|GMT|[+-]\d\d:?\d\d)(?![\w:]))?/;
const PYTHON = /^(DEBUG|INFO|WARNING|ERROR|CRITICAL):[\w.-]{1,128}:/;
const NPM = /^(error|warn|info|http|verbose|debug|silly): /;
const LEVEL_FIRST = /^\[?(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)(?:\]|:|\s)/;
const LEVEL_WORDS = new Set(
  'trace debug verbose info notice warn warning error severe fatal crit critical alert emerg emergency panic log dbg inf wrn err ftl'.split(
    ' ',
  ),
);
const COLOUR = /\u001b\[[0-9;]{0,20}m/g;

/** In the order they are tried. */
export const LINE_FORMATS: readonly LineFormat[] = [
  {
    name: 'Kubernetes (CRI): containerd, CRI-O',
    example: '2026-11-28T14:22:41.607123456Z stdout F {"level":"error","message":"call failed","callId":"CA1"}',
    read(text) {
      const match = CRI.exec(text);
      if (match === null) return undefined;
      const [head, timestamp, stream, logtag] = match;
      return wrapping({ timestamp, stream, logtag, message: text.slice(head.length) });
    },
  },
  {
    name: 'syslog, RFC 5424',
    example:
      '<11>1 2026-11-28T14:22:41.607Z web1 su 411 ID47 [origin ip="10.0.0.1"] \'su root\' failed for lonvick on /dev/pts/8',
    read: syslog5424,
  },
  {
    name: 'syslog, RFC 3164 and files of rsyslog',
    example: '<11>Nov 28 14:22:41 web1 sshd[411]: error: kex_exchange_identification: banner line too long',
    read: syslog3164,
  },
  {
    name: 'a syslog priority before any text (systemd)',
    example: '<3>disk quota exceeded',
    read(text) {
      const match = PRIORITY.exec(text);
      const priority = Number(match?.[1] ?? 192);
      if (match === null || priority > 191) return undefined;
      return wrapping({ ...priorityFields(priority), message: text.slice(match[0].length) });
    },
  },
  {
    name: 'klog and glog',
    example: 'E1128 14:22:41.607123   1 reflector.go:125] Failed to list pods',
    read(text, recordMs) {
      const match = KLOG.exec(text);
      if (match === null) return undefined;
      const [, letter, month, day, clock] = match;
      const level = { I: 'info', W: 'warning', E: 'error', F: 'fatal' }[letter!];
      return whole(text, { level, timestamp: withYear(`${month}-${day}T${clock}Z`, recordMs) });
    },
  },
  {
    name: 'logfmt',
    example: 'time=2026-11-28T14:22:41.607Z level=error msg="call failed" callId=CA1',
    read: logfmt,
  },
  {
    name: 'a time first: Logback, Log4j, Spring Boot, Python, Laravel, nginx errors, PostgreSQL',
    example: '2026-11-28 14:22:41,607 - calls.worker - ERROR - provider timeout',
    read(text) {
      const match = TIME_FIRST.exec(text);
      if (match === null) return undefined;
      const [head, year, month, day, clock, fraction = '0', zone = ''] = match;
      const timestamp = `${year}-${month}-${day}T${clock}.${fraction.padEnd(3, '0')}${isoZone(zone)}`;
      return whole(text, { timestamp, level: levelAfter(text.slice(head.length, head.length + 160)) });
    },
  },
  {
    name: 'access log (common and combined): nginx, Apache',
    example: '10.0.0.1 - - [28/Nov/2026:14:22:41 +0000] "GET /calls HTTP/1.1" 502 157 "-" "curl/8"',
    read(text) {
      const match = ACCESS.exec(text);
      if (match === null) return undefined;
      const [, day, name, year, clock, zone] = match;
      const month = monthOf(name!);
      return month === undefined
        ? undefined
        : whole(text, { timestamp: `${year}-${month}-${day}T${clock}${isoZone(zone!)}` });
    },
  },
  {
    name: 'a level first: Winston’s `simple()`, Python’s default, Django',
    example: 'error: provider timeout {"callId":"CA1"}',
    read(text) {
      // Colours are looked through, and kept in the message.
      const head = text.slice(0, MAX_HEAD).replace(COLOUR, '');
      const level = (NPM.exec(head) ?? PYTHON.exec(head) ?? LEVEL_FIRST.exec(head))?.[1];
      return level === undefined ? undefined : whole(text, { level });
    },
  },
];

/** The record a line of text stands for; undefined for plain prose. */
export function readLine(text: string, recordMs: number): Line | undefined {
  for (const format of LINE_FORMATS) {
    const line = format.read(text, recordMs);
    if (line !== undefined) return line;
  }
  return undefined;
}

function wrapping(record: Json): Line {
  return { record, wraps: true };
}

/** The message stays the whole line; the line only tells what else is known. */
function whole(text: string, found: Json): Line {
  const record: Json = { message: text };
  for (const [key, value] of Object.entries(found)) if (value !== undefined) record[key] = value;
  return { record, wraps: false };
}

function priorityFields(priority: number): Json {
  const severity = priority % 8;
  return {
    level: LEVEL_SCALES.syslog.steps[severity]![1],
    syslog: { priority, severity, facility: (priority - severity) / 8 },
  };
}

function syslog5424(text: string): Line | undefined {
  const match = SYSLOG_5424.exec(text);
  if (match === null || Number(match[1]) > 191) return undefined;
  const [head, priority, timestamp, host, appName, procId, msgId] = match;
  const end = endOfStructuredData(text, head.length);
  const given = { appName, procId, msgId, structuredData: text.slice(head.length, end) };
  const { level, syslog } = priorityFields(Number(priority)) as { level: string; syslog: Json };
  for (const [key, value] of Object.entries(given)) if (value !== '-') syslog[key] = value;
  return wrapping({
    ...(timestamp === '-' ? {} : { timestamp }),
    ...(host === '-' ? {} : { host }),
    level,
    syslog,
    message: withoutCookie(text.slice(end)),
  });
}

/** Elements in brackets, whose quoted values escape `"` and `]`. */
function endOfStructuredData(text: string, start: number): number {
  let at = start;
  let quoted = false;
  let open = false;
  for (; at < text.length; at++) {
    const char = text[at];
    if (quoted) {
      if (char === '\\') at += 1;
      else if (char === '"') quoted = false;
    } else if (char === '"' && open) quoted = true;
    else if (char === '[') open = true;
    else if (char === ']') open = false;
    else if (char === ' ' && !open) return at;
  }
  return at;
}

function syslog3164(text: string, recordMs: number): Line | undefined {
  const match = SYSLOG_3164.exec(text);
  if (match === null) return undefined;
  const [head, priority, monthName, day, clock, iso, host, appName, procId] = match;
  // "2026-11-28T14:22:41Z ERROR calls: …" looks alike.
  if (Number(priority ?? 0) > 191 || LEVEL_WORDS.has(host!.toLowerCase())) return undefined;
  let timestamp = iso;
  if (timestamp === undefined) {
    const month = monthOf(monthName!);
    if (month === undefined) return undefined;
    timestamp = withYear(`${month}-${day!.replace(' ', '0')}T${clock}Z`, recordMs);
  }
  const { level, syslog } = (priority === undefined ? { syslog: {} } : priorityFields(Number(priority))) as {
    level?: string;
    syslog: Json;
  };
  syslog.appName = appName;
  if (procId !== undefined) syslog.procId = procId;
  const message = withoutCookie(text.slice(head.length));
  return wrapping({ timestamp, host, ...(level === undefined ? {} : { level }), syslog, message });
}

/** JSON in syslog may be announced by a word: https://cee.mitre.org */
function withoutCookie(message: string): string {
  const text = message.charCodeAt(0) === 32 ? message.slice(1) : message;
  return text.startsWith('@cee:') ? text.slice(5).trimStart() : text.replace(/^\uFEFF/, '');
}

/** `+0100` and `UTC` as Elasticsearch takes them. */
function isoZone(zone: string): string {
  return /^[+-]\d{4}$/.test(zone) ? `${zone.slice(0, 3)}:${zone.slice(3)}` : zone.replace(/^(?:UTC|GMT)$/, 'Z');
}

function monthOf(name: string): string | undefined {
  const index = MONTHS.indexOf(name);
  return index < 0 ? undefined : String(index + 1).padStart(2, '0');
}

/** `11-28T14:22:41Z` in the year that is nearest to the record's time. */
function withYear(text: string, recordMs: number): string | undefined {
  const year = new Date(recordMs).getUTCFullYear();
  const distance = (candidate: number) => Math.abs(Date.parse(`${candidate}-${text}`) - recordMs);
  const best = [year, year - 1, year + 1].reduce((a, b) => (distance(b) < distance(a) ? b : a));
  return Number.isFinite(distance(best)) ? `${best}-${text}` : undefined;
}

/** Words that may stand between a time and the level: `[main]`, `1`, `---`, `name -`. */
function levelAfter(head: string): string | undefined {
  let at = 0;
  for (let words = 0; words < 6; words++) {
    while (' \t-|]:'.includes(head[at] ?? 'x')) at += 1;
    const bracketed = head[at] === '[' || head[at] === '(' || head[at] === '<';
    if (bracketed) at += 1;
    const start = at;
    while (at < head.length && !' \t]|:)>'.includes(head[at]!)) at += 1;
    const word = head.slice(start, at).replace(COLOUR, '');
    const name = word.slice(word.lastIndexOf('.') + 1);
    if (LEVEL_WORDS.has(name.toLowerCase()) && (bracketed || name === name.toUpperCase())) return name.toLowerCase();
    const named = head.startsWith(' - ', at);
    if (!(bracketed || named || /^\d{1,10}$/.test(word))) return undefined;
    if (bracketed) at = Math.max(at, head.indexOf(']', at));
  }
  return undefined;
}

const MAX_PAIRS = 1_000;

/** `key=value key="a value" …`: at least two pairs, of which one is a level, a message or a time, and nothing else. */
function logfmt(text: string): Line | undefined {
  if (!/^[\w.@-]{1,64}=/.test(text)) return undefined;
  const record: Json = Object.create(null);
  let pairs = 0;
  let at = 0;
  while (at < text.length) {
    while (text.charCodeAt(at) <= 32) at += 1;
    if (at >= text.length) break;
    const start = at;
    while (at < text.length && text.charCodeAt(at) > 32 && text[at] !== '=' && text[at] !== '"') at += 1;
    const key = text.slice(start, at);
    if (key === '' || text[at] !== '=' || Object.hasOwn(record, key) || pairs >= MAX_PAIRS) return undefined;
    const end = endOfValue(text, at + 1);
    const raw = text.slice(at + 1, end);
    const value = raw.startsWith('"') ? unquoted(raw) : raw;
    if (value === undefined) return undefined;
    record[key] = value;
    pairs += 1;
    at = end;
  }
  const has = (key: string) => Object.hasOwn(record, key);
  if (pairs < 2 || !['level', 'lvl', 'severity', 'msg', 'message', 'time', 'ts', 'timestamp'].some(has))
    return undefined;
  if (!has('msg') && !has('message')) record.message = text;
  return { record, wraps: false };
}

function endOfValue(text: string, start: number): number {
  let at = start;
  if (text[at] !== '"') {
    while (at < text.length && text.charCodeAt(at) > 32) at += 1;
    return at;
  }
  for (at += 1; at < text.length && text[at] !== '"'; at++) if (text[at] === '\\') at += 1;
  return Math.min(at + 1, text.length);
}

function unquoted(raw: string): string | undefined {
  try {
    return JSON.parse(raw) as string;
  } catch {
    // Go escapes a little more than JSON does.
    return raw.length > 1 && raw.endsWith('"') ? raw.slice(1, -1) : undefined;
  }
}
