// Where commands write: results to `out`, everything said about them to `err`. In: lines, and pieces of lines in colour. Out: what a
// terminal of any width shows readably, or plain lines in a file or a pipe. Guarantee: whatever a value holds, printing it does not
// fail, shows no secret the masker knows, and does nothing to the terminal.
import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import type { Config } from '../config.ts';
import { durationMs, durationSchema } from '../core/clock.ts';
import { causeChain, errorText, LogpipeError, reasonInWords, systemReason } from '../core/errors.ts';
import { createLog, type Log, type LogLevel } from '../core/log.ts';
import { bounded, toJson, toPrettyJson, visible, visibleJson, visibleLines } from '../core/safe-json.ts';
import { MASK, type Masker } from '../core/secrets/mask.ts';
import { explainFailure } from '../indexing/elasticsearch.ts';
import { maskedText } from '../replay/record-document.ts';
import { zoneOffsets } from '../replay/sources.ts';
import { failedReading } from '../source/kafka/client.ts';

export interface Io {
  out(line: string): void;
  err(line: string): void;
  /** Standard output is a terminal: a person reads. Absent for files, pipes and whoever collects lines. */
  readonly isTTY?: boolean;
  /** Width of the terminal in cells; undefined where there is none. */
  readonly columns?: number | undefined;
  /** As `out`, in colour; absent where no colour is wanted. */
  paint?(pieces: readonly Piece[]): void;
}

/** A part of a line. Its text may be anybody's: it is made harmless when it is written. */
export interface Piece {
  readonly text: string;
  readonly style?: Style | undefined;
}

export type Style = 'bold' | 'dim' | 'red' | 'yellow' | 'green' | 'cyan';

const SGR: Readonly<Record<Style, string>> = { bold: '1', dim: '2', red: '31', yellow: '33', green: '32', cyan: '36' };

interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/**
 * Standard output and error; a reader that goes away (`| head`) ends the process quietly. What a terminal would act upon is escaped
 * here once more, in the form that JSON takes too, so that no command can forget it.
 */
export function processIo(): Io {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  return streamIo(process.stdout, process.stderr, process.env);
}

/** `env`: NO_COLOR, FORCE_COLOR and TERM decide about colour. */
export function streamIo(stdout: Output, stderr: Output, env: Readonly<Record<string, string | undefined>>): Io {
  const isTTY = stdout.isTTY === true;
  const io: Io = {
    out: (line) => void stdout.write(`${visibleLines(line)}\n`),
    err: (line) => void stderr.write(`${visibleLines(line)}\n`),
    isTTY,
    get columns() {
      return isTTY ? stdout.columns || 80 : undefined;
    },
  };
  if (!wantsColour(env, isTTY)) return io;
  io.paint = (pieces) => {
    const painted = pieces.map(({ text, style }) => {
      const plain = visibleLines(text);
      return style === undefined ? plain : `\u001b[${SGR[style]}m${plain}\u001b[0m`;
    });
    stdout.write(`${painted.join('')}\n`);
  };
  return io;
}

/** As no-color.org and force-color.org have it; where both are set, the wish for colour wins, as it does in Node. */
function wantsColour(env: Readonly<Record<string, string | undefined>>, isTTY: boolean): boolean {
  const { FORCE_COLOR: force = '', NO_COLOR: none = '', TERM } = env;
  if (force !== '') return force !== '0' && force !== 'false';
  return none === '' && isTTY && TERM !== 'dumb';
}

/** For commands that talk to people on a terminal and to programs through a pipe; `--json` and `--no-json` overrule that. */
export function wantsJson(io: Io, json: boolean | undefined): boolean {
  return json ?? io.isTTY !== true;
}

/** `service`: as it is configured. `json`: JSON in any case. `command`: short lines where a person reads them. */
export type LogKind = 'command' | 'service' | 'json';

/**
 * The log of a command. What kafkajs reports of each attempt is left for the level `debug` in all but a service, because a command
 * itself says in the end what failed.
 */
export function commandLog(
  kind: LogKind,
  options: { readonly level: LogLevel; readonly format: 'json' | 'pretty' },
  masker: Pick<Masker, 'text' | 'value'>,
  isTTY = process.stderr.isTTY === true,
): Log {
  if (kind === 'service') return createLog(options, masker);
  const format = kind === 'json' ? 'json' : isTTY ? 'pretty' : options.format;
  const log = createLog({ level: options.level, format }, masker);
  return {
    ...log,
    warn: (message, meta) =>
      String(meta?.from ?? '').startsWith('kafkajs') ? log.debug(message, meta) : log.warn(message, meta),
  };
}

// ---- values ----

/** An option's number. @throws InvalidArgumentError naming what was written: `Number` alone makes NaN of it, or 0 of nothing */
export function toNumber(text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (Number.isNaN(value)) throw new InvalidArgumentError('A number is needed.');
  return value;
}

/** An option's duration, ms. @param place the option's name @throws LogpipeError LOGPIPE_USAGE */
export function toDuration(place: string, text: string): number {
  if (new RegExp(durationSchema.pattern).test(text)) return durationMs(text);
  throw new LogpipeError('LOGPIPE_USAGE', `${place}: ${JSON.stringify(text)} is not a duration; write 30s, 10m or 2h`);
}

/** The value as a command may show it: masked, and cut where it is nested deeper than anybody reads. */
export function shown(value: unknown, masker: Masker): unknown {
  try {
    return masker.value(bounded(value));
  } catch {
    return MASK;
  }
}

/** On one line, for programs. */
export function jsonLine(value: unknown, masker: Masker): string {
  return visibleJson(toJson(shown(value, masker)));
}

/** Indented, for people. */
export function jsonBlock(value: unknown, masker: Masker): string {
  return visibleJson(toPrettyJson(shown(value, masker)));
}

// ---- tests that users write ----

/** @throws LogpipeError LOGPIPE_CONFIG_UNREADABLE */
export function readYamlFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_CONFIG_UNREADABLE',
      `${file} cannot be read (${reasonInWords(error)}); name a YAML file`,
    );
  }
}

/** Tells what became of tests, and what does not hold in those that failed. Exit status 1 when one did. */
export function tellTests(
  tests: readonly { readonly file: string; readonly name: string; readonly problems: readonly string[] }[],
  { json }: { readonly json: boolean },
  io: Io,
  masker: Masker,
): number {
  const failed = tests.filter(({ problems }) => problems.length > 0).length;
  const passed = tests.length - failed;
  if (json) io.out(jsonLine({ passed, failed, tests }, masker));
  else {
    for (const { name, problems } of tests) {
      io.out(`${problems.length === 0 ? 'ok    ' : 'FAILED'}  ${visible(name)}`);
      for (const problem of problems) io.out(`        ${visible(maskedText(problem, masker))}`);
    }
    io.out(`${passed} passed, ${failed} failed`);
  }
  return failed === 0 ? 0 : 1;
}

// ---- lines for people: widths, wrapping, colour ----

/** Two cells wide: CJK, Hangul, full-width forms, emoji. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\u4dbf\u4e00-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;
const NO_WIDTH = /\p{Mn}|\p{Me}/u;
const ASCII = /^[ -~]*$/;

/** Cells that a text takes on a terminal. */
export function widthOf(text: string): number {
  if (ASCII.test(text)) return text.length;
  let width = 0;
  for (const character of text) width += NO_WIDTH.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
  return width;
}

/** Somebody's text on one line of at most `width` cells; a cut is shown. */
export function cell(text: string, width: number): string {
  // What lies far behind the cut need not be escaped and measured.
  const begin = Number.isFinite(width) ? text.slice(0, 4 * width + 4) : text;
  const line = visible(begin);
  if (begin.length === text.length && widthOf(line) <= width) return line;
  let kept = '';
  let used = 0;
  for (const character of line) {
    used += widthOf(character);
    if (used > width - 1) break;
    kept += character;
  }
  return `${kept}…`;
}

/** `cell`, filled with blanks to exactly `width` cells. */
export function column(text: string, width: number): string {
  const line = cell(text, width);
  return line + ' '.repeat(Math.max(0, width - widthOf(line)));
}

/** Narrower than this, breaking lines helps nobody. */
const MIN_WIDTH = 20;

/**
 * A line of pieces as several lines of at most `width` cells, broken between words where that is possible; all but the first are
 * indented by `indent` cells, so that nobody's text can look like a line of its own.
 */
export function wrapped(pieces: readonly Piece[], width: number | undefined, indent: number): Piece[][] {
  if (width === undefined || width - indent < MIN_WIDTH) {
    return [pieces.map(({ text, style }) => ({ text: visible(text), style }))];
  }
  const lines: Piece[][] = [[]];
  let used = 0;
  const put = (text: string, style: Style | undefined) => {
    const line = lines.at(-1)!;
    const last = line.at(-1);
    if (last !== undefined && last.style === style) line[line.length - 1] = { text: last.text + text, style };
    else line.push({ text, style });
    used += widthOf(text);
  };
  const breakLine = () => {
    lines.push([{ text: ' '.repeat(indent) }]);
    used = indent;
  };
  for (const { text, style } of pieces) {
    for (const [word] of visible(text).matchAll(/ *[^ ]+| +/g)) {
      const taken = widthOf(word);
      if (used + taken <= width) {
        put(word, style);
        continue;
      }
      const bare = word.replace(/^ +/, '');
      if (bare === '') continue;
      if (used > indent) breakLine();
      if (indent + widthOf(bare) <= width) {
        put(bare, style);
        continue;
      }
      // One word that no line has room for.
      let part = '';
      let partWidth = 0;
      for (const character of bare) {
        const more = widthOf(character);
        if (used + partWidth + more > width) {
          put(part, style);
          breakLine();
          part = '';
          partWidth = 0;
        }
        part += character;
        partWidth += more;
      }
      put(part, style);
    }
  }
  return lines;
}

/** Prints one line, wrapped where a terminal has an edge and in colour where that is wanted. */
export function say(io: Io, line: string | readonly Piece[], indent = 2): void {
  for (const pieces of wrapped(typeof line === 'string' ? [{ text: line }] : line, io.columns, indent)) {
    if (io.paint !== undefined) io.paint(pieces);
    else io.out(pieces.map(({ text }) => text).join(''));
  }
}

// ---- texts of several lines, as stack traces are ----

/** Deeper there is nothing that people look for. */
const FOLDED_DEPTH = 6;
/** Of one text: a trace is shorter, and whatever is longer fills the screen. */
const UNFOLDED_LINES = 60;

export interface Folded {
  /** `error.stack` */
  readonly path: string;
  readonly text: string;
}

/** The value without the texts in it that have several lines, and those texts. Of a message its first line stays. */
export function withoutFolded(value: unknown): { readonly value: unknown; readonly folded: readonly Folded[] } {
  const folded: Folded[] = [];
  const walk = (given: unknown, parent: string, depth: number): unknown => {
    if (typeof given !== 'object' || given === null || depth > FOLDED_DEPTH) return given;
    const found = Object.entries(given).map(([key, part]): [string, unknown] => {
      const path = `${parent}${key}`;
      if (typeof part !== 'string') return [key, walk(part, `${path}.`, depth + 1)];
      const end = part.indexOf('\n');
      if (end < 0) return [key, part];
      if (key !== 'message') {
        folded.push({ path, text: part });
        return [key, undefined];
      }
      if (part.slice(end).trim() !== '') folded.push({ path, text: part.slice(end + 1) });
      return [key, part.slice(0, end)];
    });
    if (found.every(([key, part]) => part === (given as Record<string, unknown>)[key])) return given;
    const kept = found.filter(([, part]) => part !== undefined);
    return Array.isArray(given) ? kept.map(([, part]) => part) : Object.fromEntries(kept);
  };
  return { value: walk(value, '', 0), folded };
}

/** Prints a text of several lines, each indented, so that none looks like a line of the command itself. */
export function sayUnfolded(io: Io, text: string, indent: number, maxLines = UNFOLDED_LINES): void {
  const lines = text.split(/\r?\n/, Number.isFinite(maxLines) ? maxLines + 1 : undefined);
  while (lines.length > 0 && lines.at(-1)!.trim() === '') lines.pop();
  const margin = ' '.repeat(indent);
  for (const line of lines.slice(0, maxLines)) {
    say(io, [{ text: `${margin}${line.replaceAll('\t', '  ')}`, style: 'dim' }], indent + 2);
  }
  if (lines.length > maxLines) say(io, [{ text: `${margin}… (--json shows all of it)`, style: 'dim' }]);
}

// ---- times ----

const UNKNOWN_TIME = 'at an unknown time';

/**
 * A function from ms to ISO 8601 in a zone: `2026-01-05T10:11:13Z`, or `…T11:11:13+01:00`.
 * @param timeZone IANA name, default UTC
 * @throws LogpipeError LOGPIPE_USAGE for an unknown zone
 */
export function createTimeText(timeZone = 'UTC'): (ms: number, precision?: 's' | 'ms') => string {
  const offsetAt = zoneOffsets(timeZone);
  return (ms, precision = 's') => {
    if (Number.isNaN(new Date(ms).getTime())) return UNKNOWN_TIME;
    const offset = offsetAt(ms);
    const local = new Date(ms + offset);
    if (Number.isNaN(local.getTime())) return UNKNOWN_TIME;
    const text = local.toISOString().slice(0, precision === 's' ? -5 : -1);
    if (timeZone === 'UTC') return `${text}Z`;
    const minutes = Math.round(Math.abs(offset) / 60_000);
    const two = (value: number) => String(value).padStart(2, '0');
    return `${text}${offset < 0 ? '-' : '+'}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
  };
}

// ---- the end of the process, with its parent's or after its own work ----

/** Calls `end` when standard input closes, which it does however the process ends that holds its other end. */
export function onParentsEnd(end: () => void): void {
  process.stdin.resume();
  process.stdin.once('end', end);
  process.stdin.once('error', end);
  // The pipe alone must not keep the process alive once its work is done.
  (process.stdin as { unref?: () => void }).unref?.();
}

const LAST_MS = 10_000;

/** For a command that works for its parent alone: ends as by SIGTERM, and without mercy where that does not help. */
export function endWithParent(): void {
  onParentsEnd(() => {
    setTimeout(() => process.exit(1), LAST_MS).unref();
    process.kill(process.pid, 'SIGTERM');
  });
}

// The end of the process after the end of the work. In: a command that is done. Out: an end of the process, also when a library
// has left something open. Guarantee: a process that can end by itself does so at once, with the same status.

/** Enough to write what is on its way to a slow terminal; whoever stops a process waits longer before it kills. */
const GRACE_MS = 2_000;

/**
 * kafkajs loses sight of a connection that breaks while it is being closed, and the socket's timers keep the process alive for
 * ever. Call it when nothing is left to be done.
 */
export function endDespiteLeftovers(graceMs = GRACE_MS): void {
  setTimeout(() => process.exit(), graceMs).unref();
}

// ---- how a command ends that failed: no stack trace, unless LOGPIPE_DEBUG asks for it ----

/** What is known of the command when it fails. */
interface FailureContext {
  /** Undefined before it was read. */
  readonly config: Pick<Config, 'kafka' | 'elasticsearch'> | undefined;
  readonly masker: Masker;
  /** LOGPIPE_DEBUG is set: the stack follows. */
  readonly debug: boolean;
}

const WRONG_USE = ['LOGPIPE_CONFIG_INVALID', 'LOGPIPE_CONFIG_UNREADABLE', 'LOGPIPE_USAGE'];

/** Lines for standard error and the exit status: 2 for a wrong command line or configuration, else 1. */
export async function describeFailure(
  thrown: unknown,
  context: FailureContext,
): Promise<{ readonly text: string; readonly status: 1 | 2 }> {
  const error = thrown instanceof LogpipeError ? thrown : await known(thrown, context);
  // The loader's own messages hold no secret, and name keys that announce one.
  const message = error.code === 'LOGPIPE_CONFIG_INVALID' ? error.message : maskedText(error.message, context.masker);
  const stack = context.debug && thrown instanceof Error ? `\n${maskedText(stackOf(thrown), context.masker)}` : '';
  return {
    text: visibleLines(`logpipe: ${message} [${error.code}]${stack}`),
    status: WRONG_USE.includes(error.code) ? 2 : 1,
  };
}

/** An error that nobody has put into words on its way. */
async function known(thrown: unknown, { config }: FailureContext): Promise<LogpipeError> {
  const chain = [...causeChain(thrown)];
  if (config !== undefined && chain.some(({ name }) => name.startsWith('KafkaJS'))) {
    return failedReading(thrown, config.kafka, config.kafka.topics.logs);
  }
  // The official client's errors have their answer, or the lack of one, in `meta`.
  if (config !== undefined && chain.some((error) => 'meta' in error)) {
    return explainFailure(thrown, config.elasticsearch);
  }
  const system = chain.find((error) => systemReason(error) !== undefined) as NodeJS.ErrnoException | undefined;
  if (system !== undefined) {
    const { path, address, port } = system as NodeJS.ErrnoException & { address?: string; port?: number };
    const place = path ?? (address === undefined ? undefined : `${address}:${port ?? '?'}`);
    return new LogpipeError(
      'LOGPIPE_FOLDER_UNUSABLE',
      `${place ?? 'the system refused something'}: ${reasonInWords(system)} (${system.syscall ?? 'unknown call'})`,
      thrown,
    );
  }
  return new LogpipeError(
    'LOGPIPE_FAULT',
    `${errorText(thrown)}${placeOf(thrown)}; this is probably a fault of logpipe: set LOGPIPE_DEBUG=1 to see where, and report it`,
    thrown,
  );
}

const MAX_PLACE = 200;

/** Where in logpipe it happened, in one word. */
function placeOf(thrown: unknown): string {
  const stack = thrown instanceof Error ? (thrown.stack ?? '') : '';
  const [file = '', line = ''] = (stack.split('/src/', 2)[1] ?? '').slice(0, MAX_PLACE).split(':', 2);
  return /^[\w./-]+$/.test(file) && /^\d+$/.test(line) ? `, at src/${file}:${line}` : '';
}

function stackOf(error: Error): string {
  return [...causeChain(error)].map(({ stack, message }) => stack ?? message).join('\ncaused by ');
}
